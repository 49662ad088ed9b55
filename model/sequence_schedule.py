"""Cycle-exact prediction of a bidirectional network: layers over whole sequences, both directions in turns.

A sequence's x is loaded as a whole.  Then every layer *passes* over it: step 0 of the forward direction, the last step
for the reverse one, step 1, the last but one, and so on.  Where a step has several parts the directions change after
each of them: the other one's part covers what the next of this one waits for.  ``chessrnn.hdl.bidirectional.sequencer``
reads the blocks of each step's input, one per cycle, as soon as the engine has room for them: that of a direction's
step is free after the last part that reads it.  It keeps the h of all steps for the layer above.  A pass begins when
the one before has been written, the output when the last one has.  Meanwhile the next sequence's x is loaded, from the
moment in which the first layer has read this one's; its first layer passes while the output is sent, the second waits
for the end of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION, Part

# From the read of a block of a sequence's memory to the first issue that can meet it: the memory, the engine's own.
FEED_LATENCY = 2
# From the cycle in which a sequence's output is launched to its first beat.
LAUNCH_LATENCY = 2


class PartWork(NamedTuple):
    """Of ``chessrnn.model.schedule.Schedule``, what a part of a pass depends on.

    Attributes
    ----------
    issues : tuple
        In order, with their ``col``, ``row`` and ``complete``.
    write_latency : int
        Cycles from the issue that completes a bundle to the write of the first block that is made of it.
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
        Of every part of every step of every direction of every layer, in the order in which they are worked on.
    beats : list of int
        Cycle of every beat of the output.
    """

    first_issue: list[int]
    last_issue: list[int]
    beats: list[int]


def split_sequences(lengths: Sequence[int], longest: int) -> list[int]:
    """Sequences as the accelerator takes them: longer ones are cut."""
    return [min(longest, length - start) for length in lengths for start in range(0, length, longest)]


def block_writes(config: Config, part: Part, work: PartWork, row: int, when: int) -> list[int]:
    """Cycles in which the blocks of row group ``row`` are written, when the group is completed in cycle ``when``."""
    rows, bundle_rows = config.architecture.tile_rows, config.bundle_rows
    before, after = (min(end * rows, part.row_blocks) // bundle_rows for end in (row, row + 1))
    cycles = []
    for bundle in range(before, after if part.output_blocks else before):
        first = when + work.write_latency + (bundle - before) * work.bundle_cycles
        # A bundle of a projection gives as many blocks as it has rows, one per cycle.
        count = min(bundle_rows, part.output_blocks - bundle_rows * bundle) if part.kind == PROJECTION else 1
        cycles.extend(range(first, first + count))
    return cycles


class SequenceSchedule:
    """Follows passes cycle by cycle.

    Parameters
    ----------
    config : Config
        Of a bidirectional network.
    work : tuple of PartWork
        Of every part.
    """

    def __init__(self, config: Config, work: tuple[PartWork, ...]):
        self.config, self.work = config, work

    def run(self, lengths: Sequence[int]) -> SequenceCycles:
        """Sequences back to back, cut where they are too long; cycle 0 carries the first beat of x.

        The source offers a beat whenever one is taken; the sink always takes.
        """
        config, result = self.config, SequenceCycles([], [], [])
        layers = config.network.num_layers
        x_beat, x_free, idle, output_idle, self._drain_free = -1, 0, 0, 0, 0
        for steps in split_sequences(lengths, config.sequence_steps):
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
        for layer, parts in enumerate(self.config.layer_parts):
            self._drain_free, cycles = 0, SequenceCycles([], [], [])
            self._pass(layer, turns, 0, cycles)
            total += cycles.last_issue[-1] - cycles.last_issue[-1 - self.config.directions * len(parts)]
        return total

    def _pass(self, layer: int, steps: int, start: int, result: SequenceCycles) -> tuple[int, int]:
        """One pass that starts in a cycle: the cycles of the last read of its input, and of the last write of h."""
        config, cols, parts = self.config, self.config.architecture.tile_cols, self.config.layer_parts[layer]
        work = self.work[layer * len(parts) : (layer + 1) * len(parts)]
        inputs, last_reader = parts[0].late.blocks, config.last_reader
        read: list[int] = []  # cycle of each read of the input
        # Cycle in which each block is written: of the layer's h, of what a part makes for a later one of its step.
        written: tuple[list[int], list[int]] = [], []
        consumed: list[int] = []  # cycle of the last issue of each step that reads its input
        now = start
        for turn, place, direction in product(range(steps), range(len(parts)), range(config.directions)):
            step, part = config.directions * turn + direction, parts[place]
            if place == 0:
                free = consumed[step - config.directions] if turn else start
                for _ in range(inputs):
                    read.append(max(read[-1] if read else start, free) + 1)
            is_own, made = part.early.is_previous, written[place < len(parts) - 1]
            for number, issue in enumerate(work[place].issues):
                when, reach = now + 1, (issue.col + 1) * cols
                if part.late.blocks:
                    # Nothing is issued before the first block of a step's input is there.
                    late = max(1, min(reach - part.early.blocks, inputs))
                    when = max(when, read[step * inputs + late - 1] + FEED_LATENCY)
                if turn or not is_own:
                    source = written[not is_own]
                    before = step - config.directions if is_own else step
                    when = max(when, source[before * part.early.blocks + min(reach, part.early.blocks) - 1] + 1)
                if issue.complete:
                    when = max(when, self._drain_free)
                    self._drain_free = when + work[place].drain_cycles
                    made.extend(block_writes(config, part, work[place], issue.row, when))
                if number == 0:
                    result.first_issue.append(when)
                now = when
            if place == last_reader:
                consumed.append(now)
            result.last_issue.append(now)
        return read[-1], written[0][-1]
