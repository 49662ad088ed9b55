"""Processing element: one circulant block times one block of the vector, every cycle."""

from itertools import pairwise

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.adder_tree import AdderTree
from hdl.hierarchy import shared
from hdl.multiplier import Multiplier
from hdl.packing import join, split
from hdl.requantize import resize
from hdl.transform import ForwardTransform
from model.circulant import circulant_indices
from model.config import Config
from model.datapath import datapath_widths
from model.schedule import adder_tree_latency


class ProcessingElement(wiring.Component):
    """Product of a block of weights and a block of the vector.

    Engine ``direct``: ``partial[r] = Σ_c w[(r - c) mod k] · operand[c]``, k² multipliers.
    Engine ``fast``: ``partial[i] = (M w)_i · operand[i]`` where the operand is M x already, n multipliers.

    Parameters
    ----------
    config : Config

    Members
    -------
    word : In(k · weight_bits)
        The defining vector as the bank gives it.
    operand : In
        Packed values of widths ``datapath_widths(config).operand``, ``operand_delay`` cycles after ``word``.
    partial : Out
        Packed values of widths ``datapath_widths(config).partial``, ``latency`` cycles after ``word``.

    Latency: operand_register + multiplier_stages + adder tree over k (direct) · Throughput: 1 block per cycle ·
    Numerics: exact (modulo the proven width of the sum) · Reference: ``model.circulant.expand``,
    ``model.bilinear``
    """

    reset_less = True

    def __init__(self, config: Config):
        self.config = config
        self.widths = datapath_widths(config)
        pipe = config.architecture.pipeline
        self.operand_delay = int(pipe.operand_register)
        terms = config.block_size if config.architecture.engine == "direct" else 1
        self.latency = self.operand_delay + pipe.multiplier_stages + adder_tree_latency(terms, pipe.adder_levels)
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
        return f"pe_{c.architecture.engine}_k{c.block_size}_w{c.quantization.weight_bits}_x{c.element_bits}"

    def elaborate(self, platform):
        m = Module()
        weights = self.word
        if self.config.architecture.engine == "fast":
            transform = ForwardTransform(self.config.block_size, self.config.quantization.weight_bits)
            m.submodules.transform = shared(transform, platform)
            m.d.comb += transform.elements.as_value().eq(self.word)
            weights = transform.forms.as_value()
        if self.operand_delay:
            register = Signal(len(weights), name="weight_operand")
            m.d.sync += register.eq(weights)
            weights = register
        weights = split(weights, self.widths.weight)
        operands = split(self.operand, self.widths.operand)
        compute = self._direct if self.config.architecture.engine == "direct" else self._fast
        m.d.comb += self.partial.eq(join(compute(m, weights, operands, platform)))
        return m

    def _multiply(self, m, a, b, name: str, platform):
        multiplier = Multiplier(len(a), len(b), self.config.architecture.pipeline.multiplier_stages)
        m.submodules[name] = shared(multiplier, platform)
        m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
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


class OperandStage(wiring.Component):
    """A block of the vector on its way to the processing elements of one tile column, which share it.

    Engine ``fast`` transforms it here, once for all rows.

    Parameters
    ----------
    config : Config

    Members
    -------
    elements : In(k · element_bits)
    operand : Out
        Packed values of widths ``datapath_widths(config).operand``.

    Latency: operand_register · Throughput: 1 block per cycle · Numerics: exact
    """

    reset_less = True

    def __init__(self, config: Config):
        self.config = config
        self.widths = datapath_widths(config).operand
        self.latency = int(config.architecture.pipeline.operand_register)
        super().__init__({"elements": In(config.block_size * config.element_bits), "operand": Out(sum(self.widths))})

    @property
    def module_name(self) -> str:
        c = self.config
        return f"operand_{c.architecture.engine}_k{c.block_size}_x{c.element_bits}"

    def elaborate(self, platform):
        m = Module()
        operand = self.elements
        if self.config.architecture.engine == "fast":
            transform = ForwardTransform(self.config.block_size, self.config.element_bits)
            m.submodules.transform = shared(transform, platform)
            m.d.comb += transform.elements.as_value().eq(self.elements)
            operand = transform.forms.as_value()
        domain = m.d.sync if self.latency else m.d.comb
        domain += self.operand.eq(operand)
        return m


class RowAccumulator(wiring.Component):
    """Sum over the C processing elements of a tile row and over the column groups.

    Parameters
    ----------
    config : Config
    lookahead : int
        Partial sums that can be parked, oldest out first.

    Members
    -------
    partials : In
        C times the packed ``partial`` of a processing element, column 0 lowest.
    valid, first, resume, park : In(1)
        ``latency`` cycles after ``partials``: this sum counts; starts from zero; starts from the oldest
        parked one; is to be parked.
    sums : Out
        Packed values of widths ``datapath_widths(config).sum``, up to date in the cycle of ``valid``.

    Latency: adder tree over C · Throughput: 1 per cycle · Numerics: exact modulo the proven width
    """

    reset_less = True

    def __init__(self, config: Config, lookahead: int):
        self.config, self.lookahead = config, lookahead
        self.widths = datapath_widths(config)
        self.tile_cols, self.levels = config.architecture.tile_cols, config.architecture.pipeline.adder_levels
        self.latency = adder_tree_latency(self.tile_cols, self.levels)
        super().__init__(
            {
                "partials": In(self.tile_cols * sum(self.widths.partial)),
                "valid": In(1), "first": In(1), "resume": In(1), "park": In(1),
                "sums": Out(sum(self.widths.sum)),
            }
        )  # fmt: skip

    module_name = "row_accumulator"

    def elaborate(self, platform):
        m = Module()
        values = split(self.partials, self.widths.partial * self.tile_cols)
        count = len(self.widths.sum)
        sums = []
        for index, width in enumerate(self.widths.sum):
            tree = AdderTree(self.tile_cols, self.widths.partial[index], width, self.levels)
            m.submodules[f"tree_{index}"] = shared(tree, platform)
            m.d.comb += [tree.operands[col].eq(values[col * count + index]) for col in range(self.tile_cols)]
            accumulator = Signal(signed(width), name=f"accumulator_{index}")
            start, total = (
                Signal.like(accumulator, name=f"start_{index}"),
                Signal.like(accumulator, name=f"total_{index}"),
            )
            with m.If(~self.first):
                m.d.comb += start.eq(accumulator)
            if self.lookahead > 1:
                parked = [Signal.like(accumulator, name=f"parked_{index}_{i}") for i in range(self.lookahead)]
                with m.If(self.resume):
                    m.d.comb += start.eq(parked[-1])
                # All are parked before the first resumes, so one shift serves both ends.
                with m.If(self.valid & (self.park | self.resume)):
                    m.d.sync += [parked[0].eq(total), *(b.eq(a) for a, b in pairwise(parked))]
            m.d.comb += total.eq(resize(start + tree.total, width))
            with m.If(self.valid):
                m.d.sync += accumulator.eq(total)
            sums.append(total)
        m.d.comb += self.sums.eq(join(sums))
        return m
