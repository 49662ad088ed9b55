"""Cycle-exact prediction of the accelerator, and the order in which it works.

The hardware takes its latencies, its order of work and its derived parallelism from here, and the tests compare the
emitted Verilog with the predicted cycles.

A step is a sequence of *issues*, part after part (``chessrnn.model.parts``); an issue is the work on one tile of R × C
blocks, which takes a cycle.  With lookahead N, the issues of a part come in this order: first the column groups of row
groups 0 to N-1 that consist of early columns only, then the other column groups of these row groups, then all column
groups of every other row group.  An issue waits until

- the blocks of the vectors that it reads are written,
- if it is the first of a step: the output buffer has room for the whole step,
- if it is the last of a row group: the drain will be free when the sums of the row group arrive.

With state ports the beats of a state pass between two steps: after the last step of a sequence, and before the first
step of a sequence that takes its state from the stream.  They begin when everything that the steps before compute is
written, and the next step waits for their end.

Nothing else waits, so these rules determine every cycle.  The rules of bidirectional networks are in
``chessrnn.model.sequence_schedule``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION, Part, Vector
from chessrnn.model.sequence_schedule import PartWork, SequenceSchedule, block_writes, split_sequences

# Cycles from the one in which a block of h is written to the first one in which the output stream can offer it.
OUTPUT_BUFFER_LATENCY = 2
# Registers in front of a lane of the cell update: one for the slice, one more while the biases are read.
SLICE_REGISTERS = 2
# Cycles of a projection from its sums to h: a register for the sums, one for the rounded results.
PROJECTION_LATENCY = 2
# After this many steps of every context, the cycles of a stream without stalls repeat from step to step.
STEADY_STEPS = 4


class Issue(NamedTuple):
    """The work on one tile: the row group and column group of a part, and what happens to the sums."""

    part: int
    row: int
    col: int
    first: bool  # the sum starts from zero
    resume: bool  # the sum starts from the oldest stored partial sum
    park: bool  # the sum is stored as a partial sum
    complete: bool  # the sum is complete and goes to the drain


def output_buffer_steps(config: Config) -> int:
    """Number of steps that the output buffer holds: a power of two above the number of steps under way at once."""
    return 1 << config.architecture.contexts.bit_length()


def interleave(lengths: list[int], contexts: int) -> list[tuple[int, int]]:
    """Pairs (sequence, step) in the order in which the accelerator processes the steps.

    Sequences are assigned to the contexts one after the other, and again from the first context.  A context that has no
    sequence left while others do gets sequences of one step, which have the number -1.
    """
    queues = [
        [(number, step) for number in range(context, len(lengths), contexts) for step in range(lengths[number])]
        for context in range(contexts)
    ]
    rounds = max(len(queue) for queue in queues)
    order = [queue[number] if number < len(queue) else (-1, 0) for number in range(rounds) for queue in queues]
    while order[-1][0] < 0:
        order.pop()
    return order


def ends_sequence(lengths: list[int], step: tuple[int, int]) -> bool:
    """Whether a step of :func:`interleave` is the last of its sequence."""
    number, index = step
    return number < 0 or index == lengths[number] - 1


def adder_tree_latency(terms: int, levels_per_register: int) -> int:
    """Number of registers of a balanced adder tree over ``terms`` values, the one behind its last level included.

    ``levels_per_register`` 0 is a tree without registers.
    """
    depth = (terms - 1).bit_length()
    return -(-depth // levels_per_register) if levels_per_register else 0


def dot_product_latency(terms: int, group: int) -> int:
    """Number of registers of a sum of products in carry-save form.

    The first register is behind groups of ``group`` products; each further one is behind a level that joins sums.
    """
    level, stages = -(-terms // group), 1
    while level > 1:
        level, stages = -(-level // joined_sums(group)), stages + 1
    return stages


def joined_sums(group: int) -> int:
    """Number of sums in carry-save form that are joined between two registers.

    They are more than the products of a group, as a sum has only two words, while a product has a row for every Booth
    digit.
    """
    return max(8, 2 * group)


def transform_stages(depth: int, levels_per_register: int) -> int:
    """Number of registers in front of an adder that follows ``depth - 1`` others.

    ``levels_per_register`` 0 is a transform without registers.
    """
    return max(0, -(-depth // levels_per_register) - 1) if levels_per_register else 0


def inverse_transform_latency(block_size: int, levels_per_register: int) -> int:
    """Number of registers inside the inverse transform of a block."""
    # A level of the negacyclic products has two adders in a row, and joining them with the rest has one
    # (chessrnn.model.bilinear).
    depth = max(1, 2 * (block_size.bit_length() - 1) - 1)
    return transform_stages(depth, levels_per_register)


def forward_transform_latency(block_size: int, levels_per_register: int) -> int:
    """Number of registers inside the forward transform of a block, which has an adder per halving of the block."""
    return transform_stages(block_size.bit_length() - 1, levels_per_register)


def operand_latency(config: Config) -> int:
    """Cycles from a block of the vector, or of weights, to the operands of the products."""
    pipe, latency = config.architecture.pipeline, 0
    if config.architecture.engine == "fast":
        latency = forward_transform_latency(config.block_size, pipe.forward_levels)
    return latency + pipe.operand_register


def activation_latency(kind: str, cell_register: bool = False) -> int:
    """Cycles of an activation: table look-up, product (kind ``pwl`` only), sum with rounding and sign.

    ``cell_register`` adds one between the magnitude and the table, and one between the sum and the sign.
    """
    return {"pwl": 3, "shift": 2}[kind] + 2 * cell_register


def cell_cycles(config: Config, registers: int, activations: int, roundings: int) -> int:
    """Cycles of a lane of the cell update from sums and biases to a point behind what is counted.

    A scale of the block row adds the register of a product.

    Parameters
    ----------
    registers, activations, roundings : int
        Numbers of registers, activations, and rounded sums of products before the point (``chessrnn.model.cells``).
    """
    activation = activation_latency(config.activation.kind, config.architecture.pipeline.cell_register)
    return config.has_row_scales + registers + activations * activation + roundings * rounding_registers(config)


def rounding_registers(config: Config) -> int:
    """Registers that the pipeline adds to a rounded sum of products: before the products, and before the rounding."""
    return operand_registers(config) + config.architecture.pipeline.cell_register


def operand_registers(config: Config) -> int:
    """Registers of a multiplier's own in front of its product."""
    arch = config.architecture
    return int(arch.pipeline.multiplier_register and arch.arithmetic == "multiplier")


def state_read_latency(config: Config) -> int:
    """Cycles of a lane of the cell update from sums and biases to the use of the state."""
    return cell_cycles(config, *config.cell.state_read, config.cell.roundings[0])


def state_write_latency(config: Config) -> int:
    """Cycles of a lane of the cell update from sums and biases to the next state."""
    return cell_cycles(config, *config.cell.state_written, config.cell.roundings[1])


def cell_latency(config: Config) -> int:
    """Cycles of a lane of the cell update from sums and biases to h."""
    return cell_cycles(config, config.cell.registers, config.cell.activations, config.cell.roundings[2])


@dataclass(frozen=True)
class Timeline:
    """The cycles of a run, which the simulation of the emitted Verilog must reproduce.

    Cycle 0 is the one in which the first beat of x is taken.

    Attributes
    ----------
    first_issue, last_issue : list of int
        Cycles of the first and of the last issue of every step.
    last_beat : list of int
        Cycle in which the last beat of h of every step leaves.
    last_state : list of int
        Cycle in which the last beat of the final state of every sequence leaves, in the order in which sequences end,
        the one-step sequences of idle contexts included; empty without state ports.
    """

    first_issue: list[int]
    last_issue: list[int]
    last_beat: list[int]
    last_state: list[int]

    @property
    def interval(self) -> float | None:
        """Mean number of cycles between the last issues of consecutive steps; ``None`` for a single step."""
        last = self.last_issue
        return (last[-1] - last[0]) / (len(last) - 1) if len(last) > 1 else None


class Trace(NamedTuple):
    """The predicted cycle of every event of a run, counted as in :class:`Timeline`.

    Attributes
    ----------
    x_beats, issues, h_beats : list of int
        Cycles in which the beats of x are taken, tiles are issued and the beats of h leave.
    """

    x_beats: list[int]
    issues: list[int]
    h_beats: list[int]


@dataclass(frozen=True)
class SequenceTimeline(Timeline):
    """The cycles of a run of a bidirectional network.

    Attributes
    ----------
    first_issue, last_issue : list of int
        Cycles of the first and of the last issue of every part, for every layer, step and direction in the order of
        the work.
    last_beat : list of int
        Cycle in which the last beat of every step of the output leaves.
    """

    @property
    def interval(self) -> float | None:
        """Mean number of cycles per step of x over the whole run, from the first beat of x to the last beat of h."""
        return (self.last_beat[-1] + 1) / len(self.last_beat) if self.last_beat else None


class Schedule:
    """The order of work, the latencies and the cycles of one configuration.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    """

    def __init__(self, config: Config):
        self.config = config

    # -- derived parallelism -------------------------------------------------------------------------------

    @cached_property
    def cell_lanes(self) -> int:
        """Number of hidden units updated per cycle: as given, or the fewest that keep up with the tile (at most k)."""
        return self._derived[0]

    @cached_property
    def lookahead(self) -> int:
        """Number of row groups whose early columns go first: as given, or the fewest with the least interval."""
        return self._derived[1]

    @property
    def _derived(self) -> tuple[int, int]:
        return _derive(ScheduleKey(self.config))

    # -- order ---------------------------------------------------------------------------------------------

    @cached_property
    def issues(self) -> tuple[Issue, ...]:
        """Issues of one step (of both directions) in order, which is also the order of words in every weight bank."""
        numbers = [number for number in range(len(self.config.parts)) for _ in range(self.config.directions)]
        return tuple(issue for number in numbers for issue in self.part_issues(number))

    def part_lookahead(self, number: int) -> int:
        """Number of row groups of part ``number`` whose early columns go first; 0 for a part without lookahead."""
        return self.lookahead if self.lookahead > 1 and self.config.parts[number].early_groups else 0

    def part_issues(self, number: int) -> tuple[Issue, ...]:
        """Issues of part ``number`` (of one direction) in order."""
        part, ahead = self.config.parts[number], self.part_lookahead(number)
        rows, cols, early = part.row_groups, part.col_groups, part.early_groups if ahead else 0
        order = [
            *((row, col) for row in range(ahead) for col in range(early)),
            *((row, col) for row in range(ahead) for col in range(early, cols)),
            *((row, col) for row in range(ahead, rows) for col in range(cols)),
        ]
        return tuple(
            Issue(
                number, row, col,
                first=col == 0,
                resume=row < ahead and col == early,
                park=row < ahead and col == early - 1,
                complete=col == cols - 1,
            )
            for row, col in order
        )  # fmt: skip

    # -- latencies -----------------------------------------------------------------------------------------

    @property
    def matvec_latency(self) -> int:
        """Cycles from an issue until the drain holds its sums.

        They are those of the issue, memory, operands, products, adder trees and accumulator.
        """
        c, pipe = self.config, self.config.architecture.pipeline
        terms, cols = c.block_size if c.architecture.engine == "direct" else 1, c.architecture.tile_cols
        if c.architecture.arithmetic == "carry_save":
            products = dot_product_latency(terms * cols, pipe.compressor_terms)
        else:
            trees = adder_tree_latency(terms, pipe.adder_levels) + adder_tree_latency(cols, pipe.adder_levels)
            products = operand_registers(c) + pipe.multiplier_stages + trees
        return pipe.issue_register + 1 + pipe.memory_register + operand_latency(c) + products + 1

    def epilogue_latency(self, part: Part | None = None) -> int:
        """Cycles from the one in which the drain holds a bundle to the first in which the resulting block can be read.

        Parameters
        ----------
        part : Part, optional
            The part that the bundle belongs to; left out, it is a part of a cell.
        """
        architecture = self.config.architecture
        inverse = 0
        if architecture.engine == "fast":
            inverse = inverse_transform_latency(self.config.block_size, architecture.pipeline.inverse_levels)
            inverse += self.inverse_turns
        latency = cell_latency(self.config)
        if part is not None and part.kind == PROJECTION:
            latency = PROJECTION_LATENCY + 1
        return inverse + self.slices - 1 + SLICE_REGISTERS + latency + 1

    @property
    def slices(self) -> int:
        """Number of slices of ``cell_lanes`` hidden units that a bundle is cut into."""
        return self.config.block_size // self.cell_lanes

    @property
    def inverse_turns(self) -> int:
        """Number of cycles in which the rows of a bundle pass the inverse transform: one each, if they share it."""
        architecture = self.config.architecture
        is_shared = architecture.engine == "fast" and architecture.pipeline.shared_inverse
        return self.config.bundle_rows if is_shared else 1

    def bundle_cycles(self, part: Part) -> int:
        """Cycles that the drain takes for a bundle, the block rows of a hidden block that are finished together."""
        # A bundle of a projection gives as many blocks as it has rows, which are written one after the other.
        # The first slice leaves when the last row has passed the inverse transform.
        cycles = self.inverse_turns - 1 + self.slices
        return max(cycles, self.config.bundle_rows) if part.kind == PROJECTION else cycles

    def drain_cycles(self, part: Part) -> int:
        """Cycles from the completion of a row group of a part until the next row group may be completed."""
        return -(-self.config.architecture.tile_rows // self.config.bundle_rows) * self.bundle_cycles(part)

    @property
    def state_beats(self) -> int:
        """Number of beats of the state of all layers (``chessrnn.model.state_beats``)."""
        c = self.config
        cells = sum(c.layer_hidden_blocks) * self.slices if c.cell.has_state else 0
        return sum(circulant.num_blocks(size, c.block_size) for size in c.layer_output_sizes) + cells

    def blocks_since(self, number: int, vector: Vector) -> int:
        """Number of blocks computed between the first block of ``vector`` and the beginning of part ``number``.

        Part ``number`` is one that reads the vector; the blocks of the vector are counted too.
        """
        blocks, source = [part.output_blocks for part in self.config.parts], vector.source
        if not vector.is_previous:
            return sum(blocks[source:number])
        return (self.config.architecture.contexts - 1) * sum(blocks) + sum(blocks[source:]) + sum(blocks[:number])

    # -- cycles --------------------------------------------------------------------------------------------

    @property
    def ideal_interval(self) -> int:
        """Number of cycles of a step that never waits: ⌈p/R⌉ · ⌈q/C⌉, summed over the parts."""
        return self.config.bank_words

    @cached_property
    def initiation_interval(self) -> int:
        """Sustained number of cycles per step, with a source and a sink that never wait.

        Contexts may wait together and then follow each other closely, so this is the mean over one step of each
        context, rounded up.  For a bidirectional network it counts both directions of all layers, but not the start and
        the end of the pass of a layer over a sequence.
        """
        if self.config.network.bidirectional:
            return self._sequences.interval(2 * STEADY_STEPS)
        contexts = self.config.architecture.contexts
        # The contexts do not end together: in their last round, states would be sent between the steps.
        steps = STEADY_STEPS + (self.config.architecture.state_ports and contexts > 1)
        last = self.timeline([steps] * contexts).last_issue[: STEADY_STEPS * contexts]
        return -(-(last[-1] - last[-1 - contexts]) // contexts)

    @property
    def overhead(self) -> int:
        """Number of cycles per step beyond the ideal: waiting for h, for the streams or for the drain."""
        return self.initiation_interval - self.ideal_interval

    @cached_property
    def first_step_latency(self) -> int:
        """Number of cycles from the first beat of x to the last beat of h of a single step, both cycles included."""
        return self.timeline([1]).last_beat[0] + 1

    def timeline(self, sequence_lengths: list[int], loads: Sequence[bool] = ()) -> Timeline:
        """Predict the cycles of all steps of sequences that follow each other without a pause.

        The sources offer a beat whenever the accelerator takes one, and the sinks take every beat at once.

        Parameters
        ----------
        sequence_lengths : list of int
            Number of steps of every sequence; sequences are assigned to contexts by :func:`interleave`.
        loads : sequence of bool, optional
            With state ports: whether each sequence takes its state from the stream; left out, none does.
        """
        config = self.config
        if config.network.bidirectional:
            cycles = self._sequences.run(sequence_lengths)
            last_beat = cycles.beats[config.num_stream_blocks - 1 :: config.num_stream_blocks]
            return SequenceTimeline(cycles.first_issue, cycles.last_issue, last_beat, [])
        return _StepRun(self, sequence_lengths, loads).run()

    def trace(self, sequence_lengths: list[int], loads: Sequence[bool] = (), steps: int | None = None) -> Trace:
        """Predict the cycle of every beat and of every issue; the rules are those of :meth:`timeline`.

        Parameters
        ----------
        sequence_lengths, loads
            See :meth:`timeline`.
        steps : int, optional
            Only so many steps in the order of :func:`interleave` are followed.  A bidirectional network follows whole
            sequences.
        """
        if self.config.network.bidirectional:
            cycles = self._sequences.run(sequence_lengths, traced=True)
            return Trace(cycles.x_beats, cycles.issues, cycles.beats)
        run = _StepRun(self, sequence_lengths, loads, traced=True)
        run.run(steps)
        return Trace(run.x_beat, run.issue_cycles, run.h_beat)

    @cached_property
    def part_work(self) -> tuple[PartWork, ...]:
        """Issues and latencies of every part of a step."""
        return tuple(
            PartWork(
                self.part_issues(number),
                self.matvec_latency + self.epilogue_latency(part) - 1,
                self.bundle_cycles(part),
                self.drain_cycles(part),
            )
            for number, part in enumerate(self.config.parts)
        )

    @property
    def _sequences(self) -> SequenceSchedule:
        """The prediction for a bidirectional network."""
        return SequenceSchedule(self.config, self.part_work)

    def issue_counts(self, sequence_lengths: list[int]) -> list[int]:
        """Number of issues of every step in the order of :meth:`timeline` (of every part if bidirectional)."""
        config = self.config
        if not config.network.bidirectional:
            return [config.bank_words] * len(interleave(sequence_lengths, config.architecture.contexts))
        return [
            part.words
            for steps in split_sequences(sequence_lengths, config.sequence_steps)
            for parts in config.layer_parts
            for _ in range(steps)
            for part in parts
            for _ in range(config.directions)
        ]


class _StepRun:
    """One run of a network without a reverse direction, followed issue by issue through all steps.

    Parameters
    ----------
    schedule : Schedule
        Order of the issues and latencies.
    lengths, loads
        See :meth:`Schedule.timeline`.
    traced : bool
        Whether the cycle of every issue is kept.

    Attributes
    ----------
    x_beat : list of int
        Cycle in which each beat of x is taken.
    readable : list of int
        First cycle in which each block that a part computes can be read.
    h_beat : list of int
        Cycle in which each beat of h leaves.
    issue_cycles : list of int
        Cycle of each issue, where they are kept.
    last : int
        Cycle of the latest issue.
    drain_free : int
        First cycle in which an issue may complete a row group.
    result : Timeline
        What is known so far.
    """

    def __init__(self, schedule: Schedule, lengths: list[int], loads: Sequence[bool], traced: bool = False):
        self.config, self.state_beats, self.lengths, self.loads = schedule.config, schedule.state_beats, lengths, loads
        parts, arch = self.config.parts, self.config.architecture
        self.contexts, self.x_blocks = arch.contexts, self.config.num_input_blocks
        self.order = interleave(lengths, arch.contexts)
        self.buffered_steps = output_buffer_steps(self.config)
        self.blocks_per_step = sum(part.output_blocks for part in parts)
        # What does not depend on the step: the reads of every issue, and how long after it its blocks are written.
        work = schedule.part_work
        self.issues = schedule.issues
        self.drain_cycles = [part_work.drain_cycles for part_work in work]
        self.reads = [self._reads(issue) for issue in self.issues]
        self.write_delays = [
            block_writes(self.config, parts[issue.part], work[issue.part], issue.row, 0) if issue.complete else []
            for issue in self.issues
        ]
        self.x_beat: list[int] = []
        self.readable: list[int] = []
        self.h_beat: list[int] = []
        self.issue_cycles: list[int] = []
        self.traced = traced
        self.last, self.drain_free = -1, 0
        self.result = Timeline([], [], [], [])

    def _reads(self, issue: Issue) -> list[tuple[Vector, int]]:
        """The vectors that an issue reads, each with the index of the last block read among those of a step."""
        parts = self.config.parts
        part, reach = parts[issue.part], (issue.col + 1) * self.config.architecture.tile_cols
        early = min(reach, part.early.blocks)
        late = min(reach - early, part.late.blocks)
        reads = []
        for vector, count in ((part.early, early), (part.late, late)):
            if count:
                before = sum(source.output_blocks for source in parts[: vector.source]) if vector.source else 0
                reads.append((vector, before + count - 1))
        return reads

    def run(self, steps: int | None = None) -> Timeline:
        """Follow all steps, or only so many."""
        for step in range(len(self.order) if steps is None else min(steps, len(self.order))):
            self._take_x(step)
            self._issue_all(step, max(self._states_moved(step), self._output_has_room(step)))
        if self.config.architecture.state_ports:
            self._save_state(self._all_written())
        return self.result

    def _take_x(self, step: int) -> None:
        """Take the beats of x of a step as soon as the half of the memory of x that they fill is free."""
        # A half is free again in the cycle after the last issue that read it, two steps before.
        free = 0
        if step >= 2:
            free = self.result.last_issue[step - 2] + 1 + self.config.architecture.pipeline.issue_register
        for _ in range(self.x_blocks):
            self.x_beat.append(max(self.x_beat[-1] + 1 if self.x_beat else 0, free))

    def _all_written(self) -> int:
        """First cycle in which nothing is under way: the latest issue is over and its blocks are written."""
        return max(self.last + 1, self.readable[-1]) if self.readable else 0

    def _states_moved(self, step: int) -> int:
        """First cycle after the state of the sequence before went out and that of the sequence of a step came in.

        0 where neither happens.
        """
        if not self.config.architecture.state_ports:
            return 0
        sequence, index = self.order[step]
        idle, moved = self._all_written(), 0
        if step and ends_sequence(self.lengths, self.order[step - 1]):
            moved = self._save_state(idle)
        if index == 0 and sequence >= 0 and self.loads and self.loads[sequence]:
            # The beats of the state, between a cycle before and a cycle after them.  The request comes with the first
            # beat of x.
            asked = self.x_beat[step * self.x_blocks] + 1
            moved = max(moved, idle, asked) + self.state_beats + 1
        return moved

    def _save_state(self, idle: int) -> int:
        """Let a state leave from the cycle in which nothing is under way; the first cycle after it."""
        # One cycle to begin, one more for the memories.
        self.result.last_state.append(idle + self.state_beats + 1)
        return self.result.last_state[-1] + 1

    def _output_has_room(self, step: int) -> int:
        """First cycle in which the output buffer has room for the whole h of a step."""
        if step < self.buffered_steps:
            return 0
        return self.h_beat[(step - self.buffered_steps + 1) * self.config.num_output_blocks - 1] + 1

    def _issue_all(self, step: int, earliest: int) -> None:
        """Place the issues of a step, the first of them not before a given cycle."""
        when = max(self.last, earliest - 1)
        for number, issue in enumerate(self.issues):
            when = max(when + 1, self._operands_ready(step, self.reads[number]))
            if issue.complete:
                when = max(when, self.drain_free)
                self._complete(issue, self.write_delays[number], when)
            if number == 0:
                self.result.first_issue.append(when)
            if self.traced:
                self.issue_cycles.append(when)
        self.last = when
        self.result.last_issue.append(when)
        self.result.last_beat.append(self.h_beat[-1])

    def _operands_ready(self, step: int, reads: list[tuple[Vector, int]]) -> int:
        """First cycle in which an issue can read all its vectors."""
        ready = 0
        for vector, block in reads:
            if vector.source is None:
                ready = max(ready, self.x_beat[step * self.x_blocks + block] + 1)
            elif not vector.is_previous or self.order[step][1]:
                # The step before of the same sequence is as many steps back as there are contexts; in the first step
                # of a sequence its vector is zero.
                source_step = step - self.contexts if vector.is_previous else step
                ready = max(ready, self.readable[source_step * self.blocks_per_step + block])
        return ready

    def _complete(self, issue: Issue, delays: list[int], when: int) -> None:
        """Drain a row group that is completed in a cycle: its blocks are written, those of the last part leave as h."""
        self.drain_free = when + self.drain_cycles[issue.part]
        self.readable.extend(when + delay + 1 for delay in delays)
        if issue.part == len(self.drain_cycles) - 1:
            for beat in (when + delay + OUTPUT_BUFFER_LATENCY for delay in delays):
                self.h_beat.append(max(beat, self.h_beat[-1] + 1) if self.h_beat else beat)


class _Trial(Schedule):
    """A schedule with given values of the derived numbers, evaluated while searching for the best ones."""

    def __init__(self, config: Config, cell_lanes: int, lookahead: int):
        super().__init__(config)
        self.__dict__.update(cell_lanes=cell_lanes, lookahead=lookahead)


class ScheduleKey:
    """Key by which the cycles of a configuration are remembered: configurations with equal keys have the same schedule.

    The key leaves out the formats of numbers, which change no cycle.  Scales of block rows are part of it, as they
    need a multiplication.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config
        parts = config.network, config.compression, config.activation, config.architecture
        self._key = *parts, config.has_row_scales

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduleKey) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=4096)
def _derive(key: ScheduleKey) -> tuple[int, int]:
    """Cell lanes and lookahead: as given, or the least values that reach the least initiation interval."""
    config = key.config
    given = config.architecture
    if given.cell_lanes and given.lookahead:
        return given.cell_lanes, given.lookahead
    k, bundles = config.block_size, -(-given.tile_rows // config.bundle_rows)
    cols = min(part.col_groups for part in config.parts)
    lanes = [given.cell_lanes] if given.cell_lanes else [n for n in range(1, k + 1) if k % n == 0]
    enough = [n for n in lanes if bundles * (k // n) <= cols] or lanes[-1:]
    early = min((part.early_groups for part in config.parts if part.early_groups), default=0)
    if config.network.bidirectional:
        early = 0  # the step of the other direction covers the latency
    # With more lookahead than this, the early columns of a part would cover more than the latency of the datapath.
    latency = _Trial(config, enough[0], 1).matvec_latency + _Trial(config, enough[0], 1).epilogue_latency()
    most = min(config.num_row_groups, -(-latency // early) + 1) if early else 1
    aheads = [given.lookahead] if given.lookahead else range(1, most + 1)
    best, best_interval = (enough[0], aheads[0]), None
    for ahead in aheads:
        for count in enough:
            interval = _Trial(config, count, ahead).initiation_interval
            if best_interval is None or interval < best_interval:
                best, best_interval = (count, ahead), interval
            if interval == config.bank_words:
                return count, ahead
    return best
