"""Cycle-exact prediction of a bidirectional network, which runs layer by layer over whole sequences.

The x of a whole sequence is loaded first.  Then every layer makes a *pass* over the sequence, in which the directions
alternate: step 0 of the forward direction, the last step for the reverse direction, step 1, the last step but one, and
so on.  If a step has several parts, the directions alternate after each part, so that the part of one direction covers
the latency that the next part of the other direction waits for.

``chessrnn.hdl.bidirectional.sequencer`` reads the blocks of the input of each step, one per cycle, as soon as the
engine has room for them; the room of a step is free after the last part that reads the input.  The sequencer keeps the
h of all steps for the layer above.  A pass begins when everything of the pass before is written, the output begins when
everything of the last pass is written.

The x of the next sequence is loaded as soon as the first layer has read this one.  The first layer passes over it while
the output of this sequence is sent; the second layer waits for the end of the output.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION, Part

# Cycles from the read of a block of a sequence to the first issue that can use it: one for the memory of the sequence,
# one for the vector memory of the engine.
FEED_LATENCY = 2
# Cycles from the one in which the output of a sequence is started to its first beat.
LAUNCH_LATENCY = 2


class PartWork(NamedTuple):
    """The issues of a part and the latencies that its cycles depend on.

    Attributes
    ----------
    issues : tuple of chessrnn.model.schedule.Issue
        Issues of the part in order.
    write_latency : int
        Cycles from the issue that completes a bundle until the first block that results from it is written.
    bundle_cycles : int
        Cycles that the drain takes for a bundle.
    drain_cycles : int
        Cycles from the completion of a row group until the next row group may be completed.
    """

    issues: tuple
    write_latency: int
    bundle_cycles: int
    drain_cycles: int


@dataclass(frozen=True)
class SequenceCycles:
    """The cycles of a run.

    Attributes
    ----------
    first_issue, last_issue : list of int
        Cycles of the first and of the last issue of every part, for every layer, step and direction in the order of
        the work.
    beats : list of int
        Cycle of every beat of the output.
    x_beats : list of int
        Cycle in which every beat of x is taken; filled only on request, as the next one is.
    issues : list of int
        Cycle of every issue.
    """

    first_issue: list[int]
    last_issue: list[int]
    beats: list[int]
    x_beats: list[int] = field(default_factory=list)
    issues: list[int] = field(default_factory=list)


def split_sequences(lengths: Sequence[int], longest: int) -> list[int]:
    """Lengths of the sequences that the accelerator processes, with every one longer than ``longest`` cut up."""
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
    """Follows the passes of a bidirectional network issue by issue.

    Parameters
    ----------
    config : Config
        Configuration of a bidirectional network.
    work : tuple of PartWork
        Issues and latencies of every part of ``config.parts``.
    """

    def __init__(self, config: Config, work: tuple[PartWork, ...]):
        self.config, self.work = config, work
        self._issues: list[int] | None = None

    def run(self, lengths: Sequence[int], traced: bool = False) -> SequenceCycles:
        """Predict the cycles of sequences that follow each other without a pause; those that are too long are cut.

        The source offers a beat whenever one is taken, and the sink takes every beat at once.  Cycle 0 is the one in
        which the first beat of x is taken.  With ``traced`` the result lists every beat of x and every issue.
        """
        config, result = self.config, SequenceCycles([], [], [])
        self._issues = result.issues if traced else None
        layers = config.network.num_layers
        x_beat, x_free, idle, output_idle, self._drain_free = -1, 0, 0, 0, 0
        for steps in split_sequences(lengths, config.sequence_steps):
            first_beat = max(x_beat + 1, x_free)
            x_beat = first_beat + steps * config.num_input_blocks - 1
            if traced:
                result.x_beats.extend(range(first_beat, x_beat + 1))
            start = max(x_beat + 1, idle)
            for layer in range(layers):
                last_read, last_write = self._pass(layer, steps, start, result)
                if layer == 0:
                    x_free = last_read + 1
                # Before the second pass, and before the output, the output of the sequence before must have been sent.
                start = max(last_write + 1, output_idle)
            idle = start + 1
            first = start + LAUNCH_LATENCY
            result.beats.extend(range(first, first + steps * config.num_stream_blocks))
            output_idle = result.beats[-1] + 1
        return result

    def interval(self, steps: int) -> int:
        """Sustained cycles per step, for both directions of all layers.

        It is the distance between the last two steps of a pass over ``steps`` steps, which must be enough for the
        cycles to repeat from step to step.
        """
        total, self._issues = 0, None
        for layer, parts in enumerate(self.config.layer_parts):
            self._drain_free, cycles = 0, SequenceCycles([], [], [])
            self._pass(layer, steps, 0, cycles)
            total += cycles.last_issue[-1] - cycles.last_issue[-1 - self.config.directions * len(parts)]
        return total

    def _pass(self, layer: int, steps: int, start: int, result: SequenceCycles) -> tuple[int, int]:
        """Follow one pass that starts in cycle ``start``.

        Returns
        -------
        (int, int)
            Cycles of the last read of the input of the layer, and of the last write of its h.
        """
        config, cols, parts = self.config, self.config.architecture.tile_cols, self.config.layer_parts[layer]
        work = self.work[layer * len(parts) : (layer + 1) * len(parts)]
        inputs, last_reader = parts[0].late.blocks, config.last_reader
        read_cycles: list[int] = []  # cycle of each read of the input
        # Cycle in which each block is written: blocks of the h of the layer, and blocks for a later part of the step.
        write_cycles: tuple[list[int], list[int]] = [], []
        last_reads: list[int] = []  # cycle of the last issue of each step that can read the input of the step
        now = start
        for index, place, direction in product(range(steps), range(len(parts)), range(config.directions)):
            step, part = config.directions * index + direction, parts[place]
            if place == 0:
                free = last_reads[step - config.directions] if index else start
                for _ in range(inputs):
                    read_cycles.append(max(read_cycles[-1] if read_cycles else start, free) + 1)
            is_own, destination = part.early.is_previous, write_cycles[place < len(parts) - 1]
            for number, issue in enumerate(work[place].issues):
                when, reach = now + 1, (issue.col + 1) * cols
                if part.late.blocks:
                    # Nothing is issued before the first block of the input of the step is there.
                    late = max(1, min(reach - part.early.blocks, inputs))
                    when = max(when, read_cycles[step * inputs + late - 1] + FEED_LATENCY)
                if index or not is_own:
                    source = write_cycles[not is_own]
                    before = step - config.directions if is_own else step
                    when = max(when, source[before * part.early.blocks + min(reach, part.early.blocks) - 1] + 1)
                if issue.complete:
                    when = max(when, self._drain_free)
                    self._drain_free = when + work[place].drain_cycles
                    destination.extend(block_writes(config, part, work[place], issue.row, when))
                if number == 0:
                    result.first_issue.append(when)
                if self._issues is not None:
                    self._issues.append(when)
                now = when
            if place == last_reader:
                last_reads.append(now)
            result.last_issue.append(now)
        return read_cycles[-1], write_cycles[0][-1]
