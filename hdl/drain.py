"""The drain turns the sums of whole tile rows into slices of a few hidden units with all their gates."""

import math

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import split
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.kept_register import keep
from chessrnn.hdl.matvec import issue_tags, sums_layout
from chessrnn.hdl.memory import delay
from chessrnn.hdl.part_shapes import has_projection, select, shapes
from chessrnn.hdl.row import held_sums
from chessrnn.hdl.transform import InverseTransform
from chessrnn.model.config import Config
from chessrnn.model.memory_image import num_slices, slices_per_round
from chessrnn.model.schedule import Schedule, operand_registers
from chessrnn.model.widths.hardware import hardware_widths

# Bits that accompany a bundle: two flags of its step, one of its part, then from this position the beat.
BEAT_MARK = 3


def slice_layout(config: Config) -> data.ArrayLayout:
    """Layout of the sums of a slice: [unit][gate of the stage]."""
    unit = data.ArrayLayout(signed(config.product_sum_bits), config.bundle_rows)
    return data.ArrayLayout(unit, Schedule(config).cell_lanes)


def unit_shape(config: Config) -> range:
    """The range of slice numbers in a step, over all parts and directions; each has parameters of its own."""
    return range(max(2, num_slices(config, Schedule(config))))


def state_unit_port(config: Config, direction) -> dict:
    """The member ``state_unit``, if several contexts or two directions have states of their own.

    A cell of several stages counts its states itself.
    """
    if config.states_per_layer == 1 or config.cell.stages > 1:
        return {}
    units = config.architecture.contexts * slices_per_round(config, Schedule(config))
    return {"state_unit": direction(range(units))}


def drain_is_free(m: Module, issue, complete, number, gaps: list[int]) -> Signal:
    """Whether the drain can take a complete row group in this cycle: it is busy for some cycles after each one.

    Parameters
    ----------
    issue, complete : Value
        The controller issues; the issue completes a row group.
    number : Value or None
        Number of the part of the issue; ``None`` if there is only one part.
    gaps : list of int
        Cycles between two complete row groups, for every part (``Schedule.drain_cycles``).
    """
    free = Signal(init=1, name="drain_free")
    if max(gaps) > 1:
        cooldown = Signal(range(max(gaps)), name="cooldown")
        m.d.comb += free.eq(~complete | (cooldown == 0))
        with m.If(issue & complete):
            m.d.sync += cooldown.eq(select(number, gaps) - 1)
        with m.Elif(cooldown != 0):
            m.d.sync += cooldown.eq(cooldown - 1)
    return free


class Drain(wiring.Component):
    """Receives the sums of R tile rows at once and delivers ``cell_lanes`` hidden units per cycle.

    Block rows are interleaved (row G·u + g is gate g of hidden block u), so G neighbours make a *bundle*: all gates of
    one hidden block, or those of one stage in a cell of several stages.  R need not be a multiple of G: rows that do
    not fill a bundle are kept until the next row group completes it.  A bundle is cut into slices of ``cell_lanes``
    units; with engine ``fast`` it first passes the inverse transform, or its gates pass one after the other
    (``pipeline.shared_inverse``).

    Parameters
    ----------
    config : Config

    Members
    -------
    sums, tags : In
        Sums of the matrix–vector engine, loaded when ``tags.complete & tags.valid``; sums that the rows of the tile
        hold (``chessrnn.hdl.row.held_sums``) come a cycle later, and stay there.  The controller keeps complete row
        groups ``Schedule.drain_cycles`` apart, so there is always room.
    select : Out(1)
        A slice is being selected: the memories of parameters read word ``unit``.
    unit : Out
        Number of the selected slice within its step; in a bidirectional network within the step of both directions in
        one layer.
    state_unit : Out, with several contexts
        Number of the selected slice within one step of every context.
    slice : Out(ArrayLayout(ArrayLayout(signed(product_sum_bits), G), lanes))
        The sums of every unit's gates, one cycle after ``select``.
    slice_valid, slice_first_step, slice_last_step : Out(1)
        With ``slice``: it is valid; its step is the first, the last of its sequence.
    slice_projected : Out(1), in networks with projections
        With ``slice``: it belongs to a projection.

    Latency: from loaded ``sums`` to their first ``select`` 1 cycle (direct), or 2 cycles plus the inverse transform
    (fast), and with a shared one a cycle for every gate but the first · Throughput: one slice per cycle ·
    Numerics: the exact shift of the inverse transform
    """

    module_name = "drain"

    def __init__(self, config: Config):
        self.config = config
        self.schedule = Schedule(config)
        self.widths = hardware_widths(config).sum
        self.lanes = self.schedule.cell_lanes
        self.units = slices_per_round(config, self.schedule)
        # With two directions ``unit`` itself counts the states, as it starts from 0 again in each layer.
        self.state_unit_port = state_unit_port(config, Out) if config.architecture.contexts > 1 else {}
        super().__init__(
            {
                "sums": In(sums_layout(config)),
                "tags": In(issue_tags(config)),
                "select": Out(1),
                "unit": Out(range(max(2, self.units))),
                **self.state_unit_port,
                "slice": Out(slice_layout(config)),
                "slice_valid": Out(1),
                "slice_first_step": Out(1),
                "slice_last_step": Out(1),
                **({"slice_projected": Out(1)} if has_projection(config) else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, gates = self.config, self.config.bundle_rows
        rows = config.architecture.tile_rows
        # An unfinished bundle has at most G - gcd(R, G) rows, always a multiple of that divisor.
        step = math.gcd(rows, gates)
        places = rows + gates - step
        kinds = shapes(config)
        shape = self.tags.part_shape if len(kinds) > 1 else None
        last_rows = select(shape, [kind.last_rows for kind in kinds])
        slices = self.schedule.slices
        # With one inverse transform the slices of a bundle begin when its last gate has passed.
        wait = self.schedule.inverse_turns - 1
        whole = wait + slices

        held = held_sums(config)
        if held:
            slots = list(self.sums)
        else:
            slots = [Signal(len(self.sums[0]), name=f"slot_{i}", reset_less=True) for i in range(places)]
        level = Signal(range(places + 1))
        cycles = max(self.schedule.bundle_cycles(part) for part in config.parts)
        beat = Signal(range(max(2, cycles)))
        has_bundle, pop, load = Signal(), Signal(), Signal()
        projected = Signal(reset_less=True)
        # A bundle of a projection may occupy the drain for more cycles than it has slices.
        last_beat = Mux(projected, cycles - 1, whole - 1) if has_projection(config) else whole - 1
        m.d.comb += [
            has_bundle.eq(level >= gates),
            pop.eq(has_bundle & (beat == last_beat)),
            load.eq(self.tags.valid & self.tags.complete),
        ]
        next_beat = Mux(pop, 0, beat + 1)
        with m.If(has_bundle):
            m.d.sync += beat.eq(next_beat)

        rest = Signal.like(level)
        m.d.comb += rest.eq(Mux(pop, level - gates, level))
        m.d.sync += level.eq(rest + Mux(load, Mux(self.tags.final, last_rows, rows), 0))
        if not held:
            kept = []
            for i, slot in enumerate(slots):
                following = slots[i + gates] if i + gates < places else slot
                kept.append(Mux(pop, following, slot))
            with m.If(pop):
                m.d.sync += [slot.eq(value) for slot, value in zip(slots, kept, strict=True)]
            with m.If(load), m.Switch(rest):
                for offset in range(0, gates, step):
                    with m.Case(offset):
                        m.d.sync += [slots[i].eq(kept[i]) for i in range(offset)]
                        m.d.sync += [slots[offset + row].eq(self.sums[row]) for row in range(rows)]
        first_step, last_step = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(load):
            m.d.sync += [first_step.eq(self.tags.first_step), last_step.eq(self.tags.last_step)]
            if has_projection(config):
                m.d.sync += projected.eq(select(shape, [kind.is_projection for kind in kinds]))

        has_slice = has_bundle & (beat < whole) if cycles > whole else has_bundle
        marks, beats = Cat(first_step, last_step, projected, beat), None
        if wait:
            turn = Mux(has_bundle, next_beat, beat)
            starts = has_bundle & (beat == 0)
            has_slice &= beat >= wait
            marks = Cat(first_step, last_step, projected, (beat - wait)[: len(beat)])
            bundle, has_slice, marks, beats = self._inverse_in_turn(m, slots, turn, starts, has_slice, marks, platform)
        elif config.architecture.engine == "fast":
            bundle, has_slice, marks = self._inverse(m, slots, has_slice, marks, platform)
        else:
            bundle = [split(slots[gate], self.widths) for gate in range(gates)]
        first_step, last_step, projected = marks[:BEAT_MARK]

        m.d.comb += self.select.eq(has_slice)
        m.d.sync += [
            self.slice_valid.eq(has_slice),
            self.slice_first_step.eq(first_step),
            self.slice_last_step.eq(last_step),
        ]
        if has_projection(config):
            m.d.sync += self.slice_projected.eq(projected)
        with m.If(has_slice):
            m.d.sync += self.unit.eq(Mux(self.unit == self.units - 1, 0, self.unit + 1))
            contexts = config.architecture.contexts
            if self.state_unit_port:
                last = self.state_unit == contexts * self.units - 1
                m.d.sync += self.state_unit.eq(Mux(last, 0, self.state_unit + 1))
        for place, chosen in beats or [(marks[BEAT_MARK:], range(gates))]:
            with m.Switch(place):
                for index in range(slices):
                    with m.Case(index):
                        for lane in range(self.lanes):
                            for gate in chosen:
                                m.d.sync += self.slice[lane][gate].eq(bundle[gate][index * self.lanes + lane])
        return m

    def _inverse(self, m, slots, has_slice, marks, platform):
        """Pass the bundle through the inverse transform and register the result before its first slice is selected."""
        width, k = self.config.product_sum_bits, self.config.block_size
        levels = self.config.architecture.pipeline.inverse_levels
        # All stages of a cell have as many rows as the first, and use its transforms one after the other.
        names = self.config.gates[: self.config.bundle_rows]
        inverses = [InverseTransform(k, list(self.widths), width, levels) for _ in names]
        latency = inverses[0].latency
        has_slice = delay(m, has_slice, latency, "inverse_select", reset_less=False)
        marks = delay(m, marks, latency, "inverse_marks")
        bundle = []
        for gate, (name, inverse) in enumerate(zip(names, inverses, strict=True)):
            m.submodules[f"inverse_{name}"] = shared(inverse, platform)
            m.d.comb += inverse.forms.as_value().eq(slots[gate])
            block = Signal(k * width, name=f"block_{name}", reset_less=True)
            with m.If(has_slice & (marks[BEAT_MARK:] == 0)):
                m.d.sync += block.eq(inverse.elements.as_value())
            bundle.append(split(block, (width,) * k))
        has_slice = delay(m, has_slice, 1, "block_select", reset_less=False)
        return bundle, has_slice, delay(m, marks, 1, "block_marks")

    def _inverse_in_turn(self, m, slots, turn, starts, has_slice, marks, platform):
        """Pass the gates of the bundle through one inverse transform, one after the other, and register each result.

        Parameters
        ----------
        turn : Value
            Gate that passes in the next cycle; larger numbers are of none.
        starts : Value
            The first gate passes.

        Returns
        -------
        bundle, has_slice, marks : as those of the direct engine, when they leave the transform
        beats : list of (Value, list of int), optional
            Copies of the beat in ``marks``, each with the gates that it serves.
        """
        width, k, gates = self.config.product_sum_bits, self.config.block_size, self.config.bundle_rows
        inverse = InverseTransform(k, list(self.widths), width, self.config.architecture.pipeline.inverse_levels)
        m.submodules.inverse = shared(inverse, platform)
        # On an FPGA every form chooses its gate by a register of its own.
        copied = operand_registers(self.config)
        number = Signal(range(gates), name="turn")
        m.d.sync += number.eq(turn)
        forms = zip(*(split(slot, self.widths) for slot in slots[:gates]), strict=True)
        for index, of_gates in enumerate(forms):
            chosen = keep(m, {"turn": turn[: len(number)]}, platform, f"turn_{index}")["turn"] if copied else number
            m.d.comb += inverse.forms[f"f{index}"].eq(Array(of_gates)[chosen])
        passed = delay(m, starts, inverse.latency, "inverse_starts", reset_less=False)
        bundle = []
        for gate, name in enumerate(self.config.gates[:gates]):
            block = Signal(k * width, name=f"block_{name}", reset_less=True)
            with m.If(delay(m, passed, gate, f"passed_{name}")):
                m.d.sync += block.eq(inverse.elements.as_value())
            bundle.append(split(block, (width,) * k))
        has_slice = delay(m, has_slice, inverse.latency + 1, "block_select", reset_less=False)
        marks, beats = delay(m, marks, inverse.latency, "inverse_marks"), None
        if copied:
            beat = {"beat": marks[BEAT_MARK:]}
            beats = [(keep(m, beat, platform, f"beat_{gate}")["beat"], [gate]) for gate in range(gates)]
        return bundle, has_slice, delay(m, marks, 1, "block_marks"), beats
