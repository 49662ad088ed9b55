"""What ``architecture.monitor`` reports about an accelerator: clipped values, and beats that do not add up."""

from collections.abc import Sequence

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.framing import EARLY_LAST, TOO_LONG, X_ERROR_BITS
from chessrnn.hdl.hierarchy import shared
from chessrnn.model.config import Config
from chessrnn.model.schedule import Schedule, output_buffer_steps

# Most values of one hidden unit that a cell rounds: four gates, a candidate, the state and h.
VALUES_OF_A_UNIT = 7
# Steps and sequences that may be in an accelerator besides those in its output buffer, and sequences in that of a
# bidirectional network: generous bounds, as they only size counters.
OTHER_STEPS, SEQUENCES = 64, 4


def saturated_port(config: Config) -> dict:
    """The member ``saturated`` of a cell lane: values of its unit that were clipped; none without a monitor."""
    return {"saturated": Out(range(VALUES_OF_A_UNIT + 1))} if config.architecture.monitor else {}


def saturations_port(config: Config) -> dict:
    """The member ``saturations`` of a block: values that were clipped in a cycle; none without a monitor."""
    if not config.architecture.monitor:
        return {}
    # A projection clips one value where its cell clips several.
    return {"saturations": Out(range(Schedule(config).cell_lanes * (VALUES_OF_A_UNIT + config.bundle_rows) + 1))}


def monitor_ports(config: Config) -> dict:
    """Members of the top module: clipped values of a cycle, and the error of a :class:`BeatCheck`; or none."""
    return {**saturations_port(config), "beat_error": Out(1)} if config.architecture.monitor else {}


def number_of_ones(bits: Value) -> Value:
    """The number of bits that are 1, by a tree of adders."""
    return total(list(bits))


def total(values: Sequence[Value]) -> Value:
    """The sum of unsigned values, by a tree of adders."""
    values = list(values) or [Value.cast(0)]
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[2 * len(pairs) :]
    return values[0]


def existing_only(counts: Sequence[Value], place, units: Sequence[Sequence[int]], sizes: Sequence[int]) -> list[Value]:
    """The counts of hidden units that exist, 0 for those that only pad the last block.

    Parameters
    ----------
    counts : sequence of Value
        The count of every lane.
    place : Value
        Number of the slice.
    units : sequence of sequence of int
        Number of the unit of every slice and lane.
    sizes : sequence of int
        Units that exist in the layer of every slice.
    """
    kept = []
    for lane, count in enumerate(counts):
        places = enumerate(zip(units, sizes, strict=True))
        padding = [number for number, (slice_units, size) in places if slice_units[lane] >= size]
        is_padding = Cat(*(place == number for number in padding)).any() if padding else 0
        kept.append(Mux(is_padding, 0, count))
    return kept


class BeatCheck(wiring.Component):
    """Counts beats, steps and sequences on both sides of an accelerator by the documented rule, and compares.

    It shares no register with the accelerator, so that a flipped bit in a counter of either is seen as soon as a beat
    of h comes without its step, ``last`` is not where it belongs, or steps are left over.

    Parameters
    ----------
    config : Config

    Members
    -------
    x_taken, x_last : In(1)
        A beat of x is taken, and its ``last``.
    h_taken, h_last : In(1)
        A beat of h is taken, and its ``last``.
    x_error : In(X_ERROR_BITS)
        The accelerator's errors of framing, in the cycle after the beat.
    error : Out(1)
        Something does not add up.

    Latency: 1 cycle after the beat that shows it
    """

    module_name = "beat_check"

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "x_taken": In(1), "x_last": In(1), "h_taken": In(1), "h_last": In(1), "x_error": In(X_ERROR_BITS),
                "error": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        x_blocks, h_blocks = config.num_input_blocks, config.num_stream_blocks
        most = output_buffer_steps(config) + OTHER_STEPS
        if config.network.bidirectional:
            most = SEQUENCES * config.sequence_steps
        beat = Signal(range(max(2, x_blocks)), name="beat")
        place = Signal(range(max(2, h_blocks)), name="place")
        steps, sequences = (Signal(range(most + 1), name=name) for name in ("steps", "sequences"))
        is_last, is_end = Signal(), Signal()
        step_in, step_out, early = Signal(), Signal(), Signal()
        m.d.comb += [
            is_last.eq(beat == x_blocks - 1), is_end.eq(place == h_blocks - 1),
            step_in.eq(self.x_taken & (self.x_last | is_last)), step_out.eq(self.h_taken & is_end),
        ]  # fmt: skip
        with m.If(self.x_taken):
            m.d.sync += beat.eq(Mux(step_in, 0, beat + 1))
        with m.If(self.h_taken):
            m.d.sync += place.eq(Mux(is_end, 0, place + 1))
        sequence_out = self.h_taken & self.h_last
        m.d.sync += [
            steps.eq(steps + step_in - step_out),
            sequences.eq(sequences + (self.x_taken & self.x_last) + self.x_error[TOO_LONG] - sequence_out),
            early.eq(self.x_taken & self.x_last & ~is_last),
        ]
        m.d.sync += self.error.eq(
            (early != self.x_error[EARLY_LAST])
            | (self.h_taken & (steps == 0))
            | (sequence_out & ((sequences == 0) | ~is_end))
            # The last step under way ends a sequence, if one was to end.
            | (step_out & (steps == 1) & ~self.h_last & (sequences != 0))
        )
        return m


def add_beat_check(m: Module, platform, config: Config, core, x_taken, h_taken, domain: str = "sync") -> Signal:
    """Add a :class:`BeatCheck` to a module with an accelerator in a clock domain; returns its error."""
    check = BeatCheck(config)
    m.submodules.beat_check = DomainRenamer(domain)(shared(check, platform))
    m.d.comb += [
        check.x_taken.eq(x_taken), check.x_last.eq(core.x.payload.last),
        check.h_taken.eq(h_taken), check.h_last.eq(core.h.payload.last), check.x_error.eq(core.x_error),
    ]  # fmt: skip
    return check.error
