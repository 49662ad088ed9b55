"""Rows of the tile: each adds up C blocks per cycle, over all column groups of a row group."""

import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.adder_tree import AdderTree
from chessrnn.hdl.arithmetic.carry_save import compress
from chessrnn.hdl.arithmetic.dot_product import DotProduct, join_sums
from chessrnn.hdl.arithmetic.packing import join, split
from chessrnn.hdl.arithmetic.requantize import resize
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.kept_register import keep
from chessrnn.hdl.memory import delay
from chessrnn.hdl.part_shapes import late_port, select, shape_bits, shapes
from chessrnn.model.circulant import circulant_indices
from chessrnn.model.config import Config
from chessrnn.model.schedule import (
    Schedule,
    adder_tree_latency,
    dot_product_latency,
    joined_sums,
    operand_registers,
)
from chessrnn.model.widths.hardware import hardware_widths


class Accumulator(wiring.Component):
    """Accumulates one value of a row: adds up the words of every cycle.

    The tags are registered here, once for every value: they choose what the sum starts from, which is on the longest
    path, and one register that served all values of all rows would be too slow.

    Parameters
    ----------
    width : int
        Bits of the sum.
    words : sequence of Shape
        Shapes of the one or two words that are added per cycle.
    offsets : sequence of int
        Initial value of the sum, for every shape of a part (``chessrnn.hdl.part_shapes``).
    parked : int
        Number of partial sums that can be parked; the oldest is resumed first.
    tag_register : bool
        Whether the tags come one cycle before the words.
    kept : bool
        Whether the registers of the tags are not to be merged with those of other values.
    held : int
        Number of complete sums that are held; 0 for none.  With it a sum is cleared when it ends, which needs no gate
        in front of the adder, as ``first`` does.  Offsets must be 0.
    shifts : sequence of (int, int), optional
        Left shifts of the words of early and of late columns, for every shape of a part; none where left out.

    Members
    -------
    valid, first, resume, park, part_shape, late : In
        Tags as in :class:`Row`; ``resume`` and ``park`` exist if sums are parked, ``part_shape`` if offsets or shifts
        differ, ``late`` if there are shifts.
    ends : In(1), in place of ``first``, if sums are held
        The sum is complete, and the next one starts from zero.
    words : In(StructLayout)
        Words to add: fields w0, w1.
    total : Out(signed(width))
        The sum, including the words of this cycle.
    held_totals : Out(ArrayLayout(signed(width), held)), if sums are held
        The latest complete sums, from the cycle after the end of the last one; the oldest is the first.

    Latency: 0 · Throughput: 1 per cycle · Numerics: exact modulo 2^width
    """

    reset_less = True

    def __init__(
        self,
        width: int,
        words: Sequence[Shape],
        offsets: Sequence[int],
        parked: int,
        tag_register: bool,
        kept: bool = False,
        held: int = 0,
        shifts: Sequence[tuple[int, int]] = (),
    ):
        self.shifts = tuple(shifts) if any(map(any, shifts)) else ()
        self.width, self.word_shapes, self.offsets, self.parked = width, tuple(words), tuple(offsets), parked
        self.tag_register, self.kept, self.held = tag_register, kept and tag_register, held
        assert not (held and any(offsets)), "a sum that is cleared starts from zero"
        self.tags = {
            name: 1 for name in ("valid", "ends" if held else "first", *(("resume", "park") if parked else ()))
        }
        if len(set(offsets)) > 1 or len(set(self.shifts)) > 1:
            self.tags["part_shape"] = (len(offsets) - 1).bit_length()
        if self.shifts:
            self.tags["late"] = 1
        super().__init__(
            {
                **{name: In(bits) for name, bits in self.tags.items()},
                "words": In(data.StructLayout({f"w{number}": shape for number, shape in enumerate(self.word_shapes)})),
                "total": Out(signed(width)),
                **({"held_totals": Out(data.ArrayLayout(signed(width), held))} if held else {}),
            }
        )

    @property
    def module_name(self) -> str:
        words = "_".join(f"{'s' if shape.signed else 'u'}{shape.width}" for shape in self.word_shapes)
        digest = zlib.crc32(repr((self.offsets, self.shifts) if self.shifts else self.offsets).encode())
        kept = ("_k" if self.kept else "") + (f"_h{self.held}" if self.held else "")
        return f"accumulator_w{self.width}_{words}_p{self.parked}_t{int(self.tag_register)}{kept}_{digest:08x}"

    def elaborate(self, platform):
        m = Module()
        width, total = self.width, self.total
        tags = {name: getattr(self, name) for name in self.tags}
        if self.kept:
            tags = keep(m, tags, platform)
        else:
            tags = {name: delay(m, tag, int(self.tag_register), name) for name, tag in tags.items()}
        words = [self.words[f"w{number}"] for number in range(len(self.word_shapes))]
        if self.shifts:
            words = [self._shifted(word, tags) for word in words]
        # Held sums are cleared through their tags after a reset; the others start from their offset anyway.
        accumulator, start = Signal(signed(width), reset_less=bool(self.held)), Signal(signed(width))
        if self.held:
            m.d.comb += start.eq(accumulator)
        else:
            m.d.comb += start.eq(select(tags.get("part_shape"), [offset % (1 << width) for offset in self.offsets]))
            with m.If(~tags["first"]):
                m.d.comb += start.eq(accumulator)
        if self.parked:
            parked = [Signal.like(accumulator, name=f"parked_{number}") for number in range(self.parked)]
            with m.If(tags["resume"]):
                m.d.comb += start.eq(parked[-1])
            # All sums are parked before the first is resumed, so one shift register serves both.
            with m.If(tags["valid"] & (tags["park"] | tags["resume"])):
                m.d.sync += [parked[0].eq(total), *(b.eq(a) for a, b in pairwise(parked))]
        # The start value takes time to choose, so it is the third operand, whose path through the adders is shortest.
        words = compress(m, *words, start, width, "join") if len(words) == 2 else (*words, start)
        m.d.comb += total.eq(resize(words[0] + words[1], width))
        with m.If(tags["valid"]):
            m.d.sync += accumulator.eq(total)
        if self.held:
            with m.If(tags["ends"]):
                m.d.sync += [accumulator.eq(0), self.held_totals[-1].eq(total)]
                m.d.sync += [self.held_totals[n].eq(self.held_totals[n + 1]) for n in range(self.held - 1)]
            if self.parked:
                with m.If(tags["valid"] & tags["park"]):
                    m.d.sync += accumulator.eq(0)
        return m

    def _shifted(self, word: Value, tags: Mapping[str, Value]) -> Value:
        """A word, shifted left by the constant of its columns, early or late, in the part that it belongs to."""
        early, late = ([word << pair[place] for pair in self.shifts] for place in (0, 1))
        number = tags.get("part_shape")
        early, late = (select(number, each) if number is not None else each[0] for each in (early, late))
        return Mux(tags["late"], late, early)


def held_sums(config: Config) -> int:
    """Number of complete sums that every value of a tile row holds until their bundle is complete.

    It is 0 where the drain holds them.  On an FPGA wires are slow, so that registers beside each value, with an enable
    of their own, are faster than those of a drain, which share one.  A row can hold its sums if every row group is
    whole and a bundle consists of whole row groups.
    """
    rows, bundle = config.architecture.tile_rows, config.bundle_rows
    whole = bundle % rows == 0 and all(shape.last_rows == rows for shape in shapes(config))
    # The end of a sum is known a cycle before the copies of the tags, which come a cycle before those of each value.
    latency = Schedule(config).matvec_latency - config.architecture.pipeline.issue_register
    early = latency - 1 > 1 + 2 * operand_registers(config)
    return bundle // rows if operand_registers(config) and whole and early else 0


class Row(wiring.Component):
    """Accumulates the products of one tile row.

    The subclasses implement one arithmetic each, in ``addends(m, index, width, platform)``: it returns the words to add
    for value ``index`` of the sums, and the constant by which their sum is too large.

    Parameters
    ----------
    config : Config
    lookahead : int
        Number of partial sums that can be parked; the oldest is resumed first.

    Members
    -------
    valid, first, resume, park : In(1)
        Tags of a sum, ``latency - tag_register`` cycles after the operands: it counts; it starts from zero; it starts
        from the oldest parked sum; it is to be parked.
    ends : In(1), in place of ``first``, if sums are held
        The sum is complete.
    part_shape : In, if parts differ in shape
        Number of the shape of the part that the sum belongs to (``chessrnn.hdl.part_shapes``).
    late : In(1), if the sums over early and late columns are shifted apart (``quantization.input_shift``)
        The operands are of late columns.
    sums : Out
        Packed values of widths ``hardware_widths(config).sum``, ``latency`` cycles after the operands.  If sums are
        held: those of the latest ``held_sums(config)`` complete sums, the oldest first, a cycle later.

    Attributes
    ----------
    tag_register : int
        1 if a register precedes the sums, so that the tags can be registered too; else 0.

    Latency: see the classes below · Throughput: 1 per cycle · Numerics: exact modulo the proven width ·
    Reference: ``chessrnn.model.reference.matvec``
    """

    reset_less = True

    def __init__(self, config: Config, lookahead: int, members: dict):
        self.config, self.lookahead = config, lookahead
        self.widths = hardware_widths(config)
        self.tile_cols = config.architecture.tile_cols
        # With registers of their own the multipliers precede the sums by a cycle, even where no adder tree follows.
        self.tag_register = min(1, self.latency + operand_registers(config))
        self.held = held_sums(config)
        tags = shape_bits(config) | late_port(config)
        members = members | {name: In(bits) for name, bits in tags.items()}
        super().__init__(
            members
            | {
                "valid": In(1), "ends" if self.held else "first": In(1), "resume": In(1), "park": In(1),
                "sums": Out(max(1, self.held) * sum(self.widths.sum)),
            }
        )  # fmt: skip

    module_name = "row"

    def elaborate(self, platform):
        m = Module()
        # Every issue of a row group adds the offset once; the start value of the sum subtracts all of them.
        kinds_of_parts = shapes(self.config)
        counts, shifts = [shape.units for shape in kinds_of_parts], [shape.shifts for shape in kinds_of_parts]
        parked = self.lookahead if self.lookahead > 1 else 0
        sums = []
        for index, width in enumerate(self.widths.sum):
            words, offset = self.addends(m, index, width, platform)
            kinds, offsets = [word.shape() for word in words], [-offset * count for count in counts]
            kept = bool(operand_registers(self.config))
            value = Accumulator(width, kinds, offsets, parked, bool(self.tag_register), kept, self.held, shifts)
            m.submodules[f"accumulator_{index}"] = shared(value, platform)
            m.d.comb += [getattr(value, name).eq(getattr(self, name)) for name in value.tags]
            m.d.comb += [value.words[f"w{number}"].eq(word) for number, word in enumerate(words)]
            sums.append(value)
        if self.held:
            m.d.comb += self.sums.eq(Cat(join([value.held_totals[n] for value in sums]) for n in range(self.held)))
        else:
            m.d.comb += self.sums.eq(join([value.total for value in sums]))
        return m


class MultiplierRow(Row):
    """The row of arithmetic ``multiplier``: an adder tree over C processing elements.

    Members
    -------
    blocks : In
        The packed ``partial`` of C processing elements, column 0 in the lowest bits.

    Latency: that of an adder tree over C operands
    """

    def __init__(self, config: Config, lookahead: int):
        partial_bits = sum(hardware_widths(config).partial)
        self.levels = config.architecture.pipeline.adder_levels
        self.latency = adder_tree_latency(config.architecture.tile_cols, self.levels)
        super().__init__(config, lookahead, {"blocks": In(config.architecture.tile_cols * partial_bits)})

    def addends(self, m, index, width, platform):
        values = split(self.blocks, self.widths.partial * self.tile_cols)[index :: len(self.widths.partial)]
        tree = AdderTree(self.tile_cols, self.widths.partial[index], width, self.levels)
        m.submodules[f"tree_{index}"] = shared(tree, platform)
        m.d.comb += [tree.operands[col].eq(value) for col, value in enumerate(values)]
        return [tree.total], 0


class CarrySaveRow(Row):
    """The row of arithmetic ``carry_save``: the partial products of all products are compressed together.

    The individual products never exist as numbers.

    Members
    -------
    blocks : In
        The packed ``weight`` of C :class:`chessrnn.hdl.operand.WeightStage`, column 0 in the lowest bits.
    operands : In
        The packed ``operand`` of C :class:`chessrnn.hdl.operand.OperandStage`, column 0 in the lowest bits.

    Latency: ``chessrnn.model.schedule.dot_product_latency``
    """

    def __init__(self, config: Config, lookahead: int):
        widths, cols = hardware_widths(config), config.architecture.tile_cols
        self.group = config.architecture.pipeline.compressor_terms
        self.joined = joined_sums(self.group)
        self.latency = dot_product_latency(cols * widths.terms, self.group)
        super().__init__(
            config,
            lookahead,
            {"blocks": In(cols * sum(widths.weight_factors)), "operands": In(cols * sum(widths.operand_factors))},
        )

    def _terms(self, index: int) -> list[tuple]:
        """The weight and the operand of every product in value ``index`` of the sums; one of them is Booth digits."""
        blocks = split(self.blocks, self.widths.weight_factors * self.tile_cols)
        operands = split(self.operands, self.widths.operand_factors * self.tile_cols)
        count = len(self.widths.weight)
        if self.config.architecture.engine == "fast":
            pairs = [(index, index)]
        else:
            pairs = [(int(entry), col) for col, entry in enumerate(circulant_indices(count)[index])]
        return [
            (blocks[col * count + weight], operands[col * count + operand])
            for col in range(self.tile_cols)
            for weight, operand in pairs
        ]

    def addends(self, m, index, width, platform):
        terms = self._terms(index)
        # The width of the factor of which partial products are made, then that of the one that is recoded into digits.
        factor_widths = self.widths.weight[index], self.widths.operand[index]
        if self.widths.recodes_weights[index]:
            terms, factor_widths = [(operand, weight) for weight, operand in terms], factor_widths[::-1]
        level = []
        for number, start in enumerate(range(0, len(terms), self.group)):
            part = terms[start : start + self.group]
            dot = DotProduct(len(part), *factor_widths)
            m.submodules[f"dot_{index}_{number}"] = shared(dot, platform)
            for term, (multiplicand, digits) in enumerate(part):
                m.d.comb += [dot.multiplicands[term].eq(multiplicand), dot.digits[term].as_value().eq(digits)]
            level.append((dot.words, dot.largest, dot.offset))
        depth = 0
        while len(level) > 1:
            depth += 1
            joined = []
            for number, start in enumerate(range(0, len(level), self.joined)):
                part = level[start : start + self.joined]
                node, connections = join_sums([(words, largest) for words, largest, _ in part])
                m.submodules[f"join_{index}_{depth}_{number}"] = shared(node, platform)
                m.d.comb += connections
                joined.append((node.words, node.largest, sum(offset for *_, offset in part)))
            level = joined
        ((words, _, offset),) = level
        return [words.save, words.spread], offset


def row(config: Config, lookahead: int) -> MultiplierRow | CarrySaveRow:
    """A row of the arithmetic that the configuration names."""
    kind = CarrySaveRow if config.architecture.arithmetic == "carry_save" else MultiplierRow
    return kind(config, lookahead)
