"""A row of processing elements that is described by its factors and sums, for datapaths that are no configuration.

The arithmetic is that of the rows in ``chessrnn.hdl.row``, with the registers of ``PipelineConfig``'s defaults.
"""

from dataclasses import dataclass

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.adder_tree import AdderTree
from chessrnn.hdl.arithmetic.carry_save import CarrySaveWords
from chessrnn.hdl.arithmetic.dot_product import DotProduct, join_sums
from chessrnn.hdl.arithmetic.multiplier import Multiplier
from chessrnn.hdl.arithmetic.packing import join, split
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import delay
from chessrnn.hdl.row import Accumulator
from chessrnn.model.config_sections import PipelineConfig
from chessrnn.model.schedule import adder_tree_latency, dot_product_latency, joined_sums
from chessrnn.model.widths.sums import DIGIT_BITS, num_digits

PIPELINE = PipelineConfig()


@dataclass(frozen=True)
class Sum:
    """A sum that a row accumulates: Σ weight factor · operand factor, both given by number, over all columns."""

    width: int
    products: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Plan:
    """Factors and sums of a row.

    Parameters
    ----------
    operand, weight : tuple of int
        Widths of the factors made of a block of x, of a block of weights.
    sums : tuple of Sum
        What the row accumulates.
    recoded : bool
        Whether operand factors arrive as Booth digits, for carry-save arithmetic; otherwise products are multipliers.
    """

    operand: tuple[int, ...]
    weight: tuple[int, ...]
    sums: tuple[Sum, ...]
    recoded: bool

    @property
    def operand_bits(self) -> list[int]:
        """Bits of every operand factor as it enters the row."""
        return [DIGIT_BITS * num_digits(width) if self.recoded else width for width in self.operand]


class PlannedRow(wiring.Component):
    """Multiplies the factors of C blocks, and accumulates the products.

    Parameters
    ----------
    plan : Plan
    tile_cols : int
        C, the number of columns.
    issues : int
        Cycles of a sum.
    module_name : str
        Name of the emitted module.

    Members
    -------
    blocks, operands : In
        Factors of C blocks of weights, of x, column 0 in the lowest bits.
    valid, first : In(1)
        The products count; they start a sum.  ``latency - 1`` cycles after the factors.
    sums : Out
        The sums, ``latency`` cycles after the factors.

    Latency: products and their sums over the columns · Throughput: 1 per cycle · Numerics: exact modulo 2^width
    """

    reset_less = True

    def __init__(self, plan: Plan, tile_cols: int, issues: int, module_name: str):
        self.plan, self.tile_cols, self.issues, self.module_name = plan, tile_cols, issues, module_name
        terms = tile_cols * max(len(value.products) for value in plan.sums)
        if plan.recoded:
            self.latency = dot_product_latency(terms, PIPELINE.compressor_terms)
        else:
            self.latency = PIPELINE.multiplier_stages + adder_tree_latency(terms, PIPELINE.adder_levels)
        super().__init__(
            {
                "blocks": In(tile_cols * sum(plan.weight)),
                "operands": In(tile_cols * sum(plan.operand_bits)),
                "valid": In(1),
                "first": In(1),
                "sums": Out(sum(value.width for value in plan.sums)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        weights = split(self.blocks, self.plan.weight * self.tile_cols)
        operands = split(self.operands, self.plan.operand_bits * self.tile_cols)
        make = self._compressors if self.plan.recoded else self._trees
        totals = []
        for index, value in enumerate(self.plan.sums):
            terms = [
                (weights[col * len(self.plan.weight) + w], operands[col * len(self.plan.operand) + x])
                for col in range(self.tile_cols)
                for w, x in value.products
            ]
            words, offset = make(m, index, value, terms, platform)
            shapes = [word.shape() for word in words]
            accumulator = Accumulator(value.width, shapes, [-offset * self.issues], 0, tag_register=True)
            m.submodules[f"accumulator_{index}"] = shared(accumulator, platform)
            m.d.comb += [accumulator.valid.eq(self.valid), accumulator.first.eq(self.first)]
            m.d.comb += [accumulator.words[f"w{number}"].eq(word) for number, word in enumerate(words)]
            totals.append(accumulator.total)
        m.d.comb += self.sums.eq(join(totals))
        return m

    def _trees(self, m, index: int, value: Sum, terms, platform) -> tuple[list[Value], int]:
        """The sum of the products as one word, and the constant by which it is too large."""
        products = []
        for number, (weight, operand) in enumerate(terms):
            multiplier = Multiplier(len(weight), len(operand), PIPELINE.multiplier_stages)
            m.submodules[f"multiplier_{index}_{number}"] = shared(multiplier, platform)
            m.d.comb += [multiplier.left.eq(weight), multiplier.right.eq(operand)]
            products.append(multiplier.product)
        tree = AdderTree(len(products), len(products[0]), value.width, PIPELINE.adder_levels)
        m.submodules[f"tree_{index}"] = shared(tree, platform)
        m.d.comb += [tree.operands[number].eq(product) for number, product in enumerate(products)]
        late = self.latency - PIPELINE.multiplier_stages - tree.latency
        return [delay(m, tree.total, late, f"total_{index}")], 0

    def _compressors(self, m, index: int, value: Sum, terms, platform) -> tuple[list[Value], int]:
        """The sum of the products as two words, and the constant by which it is too large."""
        weight, operand = value.products[0]
        widths = self.plan.weight[weight], self.plan.operand[operand]
        level: list[tuple[CarrySaveWords, int, int]] = []
        for start in range(0, len(terms), PIPELINE.compressor_terms):
            part = terms[start : start + PIPELINE.compressor_terms]
            dot = DotProduct(len(part), *widths)
            m.submodules[f"dot_{index}_{start}"] = shared(dot, platform)
            for term, (factor, digits) in enumerate(part):
                m.d.comb += [dot.multiplicands[term].eq(factor), dot.digits[term].as_value().eq(digits)]
            level.append((dot.words, dot.largest, dot.offset))
        depth, most = 0, joined_sums(PIPELINE.compressor_terms)
        while len(level) > 1:
            depth, joined = depth + 1, []
            for start in range(0, len(level), most):
                part = level[start : start + most]
                node, connections = join_sums([(words, largest) for words, largest, _ in part])
                m.submodules[f"join_{index}_{depth}_{start}"] = shared(node, platform)
                m.d.comb += connections
                joined.append((node.words, node.largest, sum(offset for *_, offset in part)))
            level = joined
        ((words, _, offset),) = level
        return [words.save, words.spread], offset
