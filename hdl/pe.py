"""The processing element multiplies one circulant block by one block of the vector in every cycle."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.adder_tree import AdderTree
from chessrnn.hdl.arithmetic.multiplier import Multiplier
from chessrnn.hdl.arithmetic.packing import join, split
from chessrnn.hdl.arithmetic.requantize import resize
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.operand import WeightStage, levels_suffix
from chessrnn.model.circulant import circulant_indices
from chessrnn.model.config import Config
from chessrnn.model.schedule import adder_tree_latency, operand_latency, operand_registers
from chessrnn.model.widths.hardware import hardware_widths


class ProcessingElement(wiring.Component):
    """Multiplies a block of weights by a block of the vector, with arithmetic ``multiplier``.

    Engine ``direct``: ``partial[r] = Σ_c w[(r - c) mod k] · operand[c]``, k² multipliers.
    Engine ``fast``: ``partial[i] = (M w)_i · operand[i]`` where the operand is M x already, n multipliers.

    Parameters
    ----------
    config : Config

    Members
    -------
    word : In(k · weight_bits)
        The defining vector of the block, as stored in the bank.
    operand : In
        Packed values of widths ``hardware_widths(config).operand``, ``operand_delay`` cycles after ``word``.
    partial : Out
        Packed values of widths ``hardware_widths(config).partial``, ``latency`` cycles after ``word``.

    Latency: operand_delay + multiplier_latency + adder tree over k (direct) · Throughput: 1 block per cycle ·
    Numerics: exact (modulo the proven width of the sum) · Reference: ``chessrnn.model.circulant.expand``,
    ``chessrnn.model.bilinear``
    """

    reset_less = True

    def __init__(self, config: Config):
        self.config = config
        self.widths = hardware_widths(config)
        pipe = config.architecture.pipeline
        self.operand_delay = operand_latency(config)
        terms = config.block_size if config.architecture.engine == "direct" else 1
        self.multiplier_latency = operand_registers(config) + pipe.multiplier_stages
        self.latency = self.operand_delay + self.multiplier_latency + adder_tree_latency(terms, pipe.adder_levels)
        super().__init__(
            {
                "word": In(config.weight_word_bits),
                "operand": In(sum(self.widths.operand)),
                "partial": Out(sum(self.widths.partial)),
            }
        )

    @property
    def module_name(self) -> str:
        c = self.config
        weights = f"w{c.weight_bits}{levels_suffix(c)}"
        return f"pe_{c.architecture.engine}_k{c.block_size}_{weights}_x{c.element_bits}"

    def elaborate(self, platform):
        m = Module()
        stage = WeightStage(self.config)
        m.submodules.weights = shared(stage, platform)
        m.d.comb += stage.word.eq(self.word)
        weights = split(stage.weight, self.widths.weight)
        operands = split(self.operand, self.widths.operand)
        compute = self._direct if self.config.architecture.engine == "direct" else self._fast
        m.d.comb += self.partial.eq(join(compute(m, weights, operands, platform)))
        return m

    def _multiply(self, m, a, b, name: str, platform):
        pipe = self.config.architecture.pipeline
        multiplier = Multiplier(len(a), len(b), pipe.multiplier_stages, pipe.multiplier_register)
        m.submodules[name] = shared(multiplier, platform)
        m.d.comb += [multiplier.left.eq(a), multiplier.right.eq(b)]
        return multiplier.product

    def _fast(self, m, weights, operands, platform):
        products = [
            self._multiply(m, w, x, f"multiplier_{i}", platform)
            for i, (w, x) in enumerate(zip(weights, operands, strict=True))
        ]
        return [resize(product, width) for product, width in zip(products, self.widths.partial, strict=True)]

    def _direct(self, m, weights, operands, platform):
        k, levels = self.config.block_size, self.config.architecture.pipeline.adder_levels
        partial = []
        for row, entries in enumerate(circulant_indices(k)):
            products = [
                self._multiply(m, weights[entry], operands[col], f"multiplier_{row}_{col}", platform)
                for col, entry in enumerate(entries)
            ]
            tree = AdderTree(k, len(products[0]), self.widths.partial[row], levels)
            m.submodules[f"tree_{row}"] = shared(tree, platform)
            m.d.comb += [tree.operands[col].eq(product) for col, product in enumerate(products)]
            partial.append(tree.total)
        return partial
