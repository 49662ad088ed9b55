"""Cycle-exact prediction of a bidirectional network: layers over whole sequences, both directions in turns.

A sequence's x is loaded as a whole.  Then every layer *passes* over it: step 0 of the forward direction, the last step
for the reverse one, step 1, the last but one, and so on; ``hdl.sequencer`` reads the blocks of each step's input, one
per cycle, as soon as the engine has room for them, and keeps the h of all steps for the layer above.  A pass begins
when the one before has been written, the output when the last one has.  Meanwhile the next sequence's x is loaded,
from the moment in which the first layer has read this one's; its first layer passes while the output is sent, the
second waits for the end of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from model.config import Config

# From the read of a block of a sequence's memory to the first issue that can meet it: the memory, the engine's own.
FEED_LATENCY = 2
# From the cycle in which a sequence's output is launched to its first beat.
LAUNCH_LATENCY = 2


class Engine(NamedTuple):
    """Of ``model.schedule.Schedule``, what a pass depends on.

    Attributes
    ----------
    issues : tuple of tuple
        Work of a step of each layer, in order: issues with their ``col``, ``row`` and ``complete``.
    write_latency : int
        Cycles from the issue that completes the gates of a hidden block to the write of its h.
    bundle_cycles, drain_cycles : int
        As there.
    """

    issues: tuple
    write_latency: int
    bundle_cycles: int
    drain_cycles: int


@dataclass(frozen=True)
class SequenceCycles:
    """Cycles of a run.

    Attributes
    ----------
    first_issue, last_issue : list of int
        Of every step of every direction of every layer, in the order in which they are worked on.
    beats : list of int
        Cycle of every beat of the output.
    """

    first_issue: list[int]
    last_issue: list[int]
    beats: list[int]


def pieces(lengths: Sequence[int], longest: int) -> list[int]:
    """Sequences as the accelerator takes them: longer ones are cut."""
    return [min(longest, length - start) for length in lengths for start in range(0, length, longest)]


class SequenceSchedule:
    """Follows passes cycle by cycle.

    Parameters
    ----------
    config : Config
        Of a bidirectional network.
    engine : Engine
    """

    def __init__(self, config: Config, engine: Engine):
        self.config, self.engine = config, engine

    def run(self, lengths: Sequence[int]) -> SequenceCycles:
        """Sequences back to back, cut where they are too long; cycle 0 carries the first beat of x.

        The source offers a beat whenever one is taken; the sink always takes.
        """
        config, result = self.config, SequenceCycles([], [], [])
        layers = config.network.num_layers
        x_beat, x_free, idle, output_idle, self._drain_free = -1, 0, 0, 0, 0
        for steps in pieces(lengths, config.sequence_steps):
            x_beat = max(x_beat + 1, x_free) + steps * config.num_input_blocks - 1
            start = max(x_beat + 1, idle)
            for layer in range(layers):
                last_read, last_write = self._pass(layer, steps, start, result)
                if layer == 0:
                    x_free = last_read + 1
                # Between passes, and before the output, the one of the sequence before must have been sent.
                start = max(last_write + 1, output_idle)
            idle = start + 1
            first = start + LAUNCH_LATENCY
            result.beats.extend(range(first, first + steps * config.num_stream_blocks))
            output_idle = result.beats[-1] + 1
        return result

    def interval(self, turns: int) -> int:
        """Cycles per step, both directions of all layers, of passes that have come to their pace after some turns."""
        total = 0
        for layer in range(self.config.network.num_layers):
            self._drain_free, cycles = 0, SequenceCycles([], [], [])
            self._pass(layer, turns, 0, cycles)
            total += cycles.last_issue[-1] - cycles.last_issue[-3]
        return total

    def _pass(self, layer: int, steps: int, start: int, result: SequenceCycles) -> tuple[int, int]:
        """One pass that starts in a cycle: the cycles of the last read of its input, and of the last write of h."""
        config, engine = self.config, self.engine
        part, cols = config.parts[layer], config.architecture.tile_cols
        own, inputs, gates = part.early.blocks, part.late.blocks, config.num_gates
        rows, row_blocks = config.architecture.tile_rows, part.row_blocks
        work = []
        for issue in engine.issues[layer]:
            reach = (issue.col + 1) * cols
            # Nothing is issued before the first block of a step's input is there.
            work.append((issue, min(reach, own), max(1, min(reach - own, inputs))))
        read: list[int] = []  # cycle of each read of the input
        written: list[int] = []  # cycle in which each block of h is written
        consumed: list[int] = []  # cycle of the last issue of each step
        now = start
        for step in range(config.directions * steps):
            free = consumed[step - 2] if step >= 2 else start
            for _ in range(inputs):
                read.append(max(read[-1] if read else start, free) + 1)
            for number, (issue, early, late) in enumerate(work):
                when = max(now + 1, read[step * inputs + late - 1] + FEED_LATENCY)
                if step >= 2:
                    when = max(when, written[(step - 2) * own + early - 1] + 1)
                if issue.complete:
                    when = max(when, self._drain_free)
                    self._drain_free = when + engine.drain_cycles
                    before = min(issue.row * rows, row_blocks) // gates
                    after = min((issue.row + 1) * rows, row_blocks) // gates
                    first = when + engine.write_latency
                    written.extend(first + bundle * engine.bundle_cycles for bundle in range(after - before))
                if number == 0:
                    result.first_issue.append(when)
                now = when
            consumed.append(now)
            result.last_issue.append(now)
        return read[-1], written[-1]
