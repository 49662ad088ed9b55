"""State access reads and writes the memories of h and of the cells' states while no step is under way."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.part_shapes import group_shape, select
from chessrnn.model.config import Config
from chessrnn.model.memory_image import cell_state_words
from chessrnn.model.schedule import Schedule
from chessrnn.model.state_beats import state_bits, state_segments


class Activity(enum.Enum):
    """Uses of the state memories: by steps, or by a transfer."""

    STEPS = 0
    SAVE = 1
    LOAD = 2


def _words(config: Config) -> int:
    """Words that one context has in the memory of the cells' states."""
    return cell_state_words(config, Schedule(config))


def state_access(config: Config) -> wiring.Signature:
    """Signature of the access to the memories, as :class:`StateAccess` drives it."""
    return wiring.Signature(
        {
            "active": Out(1),
            "layer": Out(range(max(2, config.network.num_layers))),
            # A block of h, by its tile column (one-hot) and its column group.
            "column": Out(config.architecture.tile_cols), "group": Out(group_shape(config)),
            "read_h": Out(1), "write_h": Out(1),
            # A word of the cells' states, by its address.
            "unit": Out(range(max(2, config.architecture.contexts * _words(config)))),
            "read_cell": Out(1), "write_cell": Out(1),
            "write_data": Out(state_bits(config)),
            "last_block": Out(1),
        }
    )  # fmt: skip


class StateAccess(wiring.Component):
    """Sends the state of all layers after a sequence, and receives one before a sequence.

    Parameters
    ----------
    config : Config

    Members
    -------
    save, load : In(1)
        The controller requests a transfer and waits for it; no step is under way.
    saved, loaded : Out(1)
        The transfer is complete: high in the cycle of its last beat.
    state_in : In(stream.Signature(state_bits))
        Beats of a state in the order of ``chessrnn.model.state_beats``.
    state_out : Out(stream.Signature(…))
        ``data``: as ``state_in``; ``last``: set on the last beat of a state.
    context : In, with several contexts
        Context whose state is transferred.
    access : Out(state_access)
        Access to the memories of h and of the cells' states.
    h_data, cell_data : In
        Words that were read, valid from one cycle after the read until the next read.

    Latency: ``chessrnn.model.schedule`` · Throughput: one beat per cycle
    """

    module_name = "state_access"

    def __init__(self, config: Config):
        self.config = config
        bits = state_bits(config)
        k, points, contexts = config.block_size, config.quantization, config.architecture.contexts
        cell = {"cell_data": In(Schedule(config).cell_lanes * points.cell.width)} if config.cell.has_state else {}
        super().__init__(
            {
                "save": In(1), "load": In(1), "saved": Out(1), "loaded": Out(1),
                "state_in": In(stream.Signature(bits)),
                "state_out": Out(stream.Signature(StructLayout({"data": bits, "last": 1}))),
                **({"context": In(range(contexts))} if contexts > 1 else {}), "access": Out(state_access(config)),
                "h_data": In(k * points.h.width), **cell,
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, segments, access = self.config, state_segments(self.config), self.access
        contexts = config.architecture.contexts
        activity = Signal(Activity)
        number, beat = Signal(range(max(2, len(segments)))), Signal(range(max(2, *(s.beats for s in segments))))
        place = Signal.like(access.column, init=1 << segments[0].first)
        advance, segment_ends, ends = Signal(), Signal(), Signal()
        is_cell = Signal()
        unit = beat + select(number, [segment.first if segment.is_cell else 0 for segment in segments])
        if contexts > 1:
            # The words of a context are stored after those of the contexts before it.
            unit += select(self.context, [_words(config) * context for context in range(contexts)])
        m.d.comb += [
            segment_ends.eq(beat == select(number, [segment.beats - 1 for segment in segments])),
            ends.eq(segment_ends & (number == len(segments) - 1)),
            is_cell.eq(select(number, [segment.is_cell for segment in segments])),
            access.active.eq(activity != Activity.STEPS),
            access.layer.eq(select(number, [segment.layer for segment in segments])),
            access.column.eq(place),
            access.unit.eq(unit),
            access.last_block.eq(segment_ends),
            access.write_data.eq(self.state_in.payload),
        ]
        following = segments[1:] + segments[:1]
        with m.If(advance):
            m.d.sync += [beat.eq(beat + 1), place.eq(place.rotate_left(1))]
            with m.If(place[-1]):
                m.d.sync += access.group.eq(access.group + 1)
            with m.If(segment_ends):
                first = [0 if segment.is_cell else 1 << segment.first for segment in following]
                m.d.sync += [beat.eq(0), number.eq(Mux(ends, 0, number + 1))]
                m.d.sync += [access.group.eq(0), place.eq(select(number, first))]

        # Kind and ``last`` of the beat that is offered, registered when its word is read.
        shown_cell, shown_last = Signal(), Signal()
        more = Signal()
        data = self.h_data
        if config.cell.has_state:
            data = Mux(shown_cell, self.cell_data, self.h_data)
        m.d.comb += [self.state_out.payload.data.eq(data), self.state_out.payload.last.eq(shown_last)]
        taken = self.state_out.valid & self.state_out.ready
        with m.Switch(activity):
            with m.Case(Activity.STEPS):
                with m.If(self.save):
                    m.d.sync += [activity.eq(Activity.SAVE), more.eq(1)]
                with m.Elif(self.load):
                    m.d.sync += activity.eq(Activity.LOAD)
            with m.Case(Activity.SAVE):
                m.d.comb += [
                    advance.eq(more & (~self.state_out.valid | self.state_out.ready)),
                    access.read_h.eq(advance & ~is_cell), access.read_cell.eq(advance & is_cell),
                    self.saved.eq(taken & shown_last),
                ]  # fmt: skip
                with m.If(advance):
                    m.d.sync += [shown_cell.eq(is_cell), shown_last.eq(ends), self.state_out.valid.eq(1)]
                    with m.If(ends):
                        m.d.sync += more.eq(0)
                with m.Elif(taken):
                    m.d.sync += self.state_out.valid.eq(0)
                with m.If(self.saved):
                    m.d.sync += activity.eq(Activity.STEPS)
            with m.Case(Activity.LOAD):
                m.d.comb += [
                    self.state_in.ready.eq(1), advance.eq(self.state_in.valid),
                    access.write_h.eq(advance & ~is_cell), access.write_cell.eq(advance & is_cell),
                    self.loaded.eq(advance & ends),
                ]  # fmt: skip
                with m.If(self.loaded):
                    m.d.sync += activity.eq(Activity.STEPS)
        return m
