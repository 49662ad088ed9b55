"""Cycle-exact prediction of the accelerator, and the order in which it works.

The hardware reads its latencies, its order of work and its derived parallelism from here, and the tests hold
the emitted Verilog to the predicted cycle.

A step is a sequence of *issues*, one tile of R × C blocks each, part after part (``chessrnn.model.parts``).  With
lookahead N the order of a part is: the column groups of row groups 0..N-1 that hold early columns alone, then the rest
of their columns, then every other row group whole.  An issue waits until

- the blocks of the vectors that it reads have been written,
- for the first of a step: the output buffer has room for the whole step,
- for the last of a row group: the drain will be free when its sums arrive.

With state ports the beats of a state come between two steps, after the last of a sequence and before the first of one
that takes its state from the stream: all that the steps before make has been written when they begin, and the next step
waits for them.

Nothing else waits, so these rules give every cycle.  ``chessrnn.model.sequence_schedule`` has those of bidirectional
networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from chessrnn.model.cells import Cell
from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION, Part, Vector
from chessrnn.model.sequence_schedule import PartWork, SequenceSchedule, block_writes, split_sequences

# From the cycle in which a block of h is written to the first in which the output stream can offer it.
OUTPUT_BUFFER_LATENCY = 2
# In front of a lane of the cell update: the slice, and again while the biases are read.
SLICE_REGISTERS = 2
# Of a projection, from sums to h: the sums registered, what they are rounded to.
PROJECTION_LATENCY = 2
# After this many steps of every context a stream without stalls repeats itself.
STEADY_STEPS = 4


class Issue(NamedTuple):
    """One tile of work: which row group and column group, and what happens to its sums."""

    part: int
    row: int
    col: int
    first: bool  # the sum starts from zero
    resume: bool  # the sum starts from the oldest parked one
    park: bool  # the sum is parked
    complete: bool  # the sum is complete and goes to the drain


def output_buffer_steps(config: Config) -> int:
    """Steps that the output buffer has room for: a power of two, and one more than can be under way at once."""
    return 1 << config.architecture.contexts.bit_length()


def interleave(lengths: list[int], contexts: int) -> list[tuple[int, int]]:
    """(sequence, step) in the order in which the accelerator takes them.

    Sequences are dealt to the contexts in turn.  A context that has none left while others do gets sequences of one
    step, which are numbered -1.
    """
    queues = [
        [(number, step) for number in range(context, len(lengths), contexts) for step in range(lengths[number])]
        for context in range(contexts)
    ]
    rounds = max(len(queue) for queue in queues)
    order = [queue[turn] if turn < len(queue) else (-1, 0) for turn in range(rounds) for queue in queues]
    while order[-1][0] < 0:
        order.pop()
    return order


def ends_sequence(lengths: list[int], step: tuple[int, int]) -> bool:
    """Whether a step of :func:`interleave` is the last of its sequence."""
    number, index = step
    return number < 0 or index == lengths[number] - 1


def adder_tree_latency(terms: int, levels_per_register: int) -> int:
    """Registers of a balanced adder tree over ``terms``, its last level registered too; 0 levels: none."""
    depth = (terms - 1).bit_length()
    return -(-depth // levels_per_register) if levels_per_register else 0


def dot_product_latency(terms: int, group: int) -> int:
    """Registers of a sum of products in carry-save form: groups of ``group`` terms, then joins of them."""
    level, stages = -(-terms // group), 1
    while level > 1:
        level, stages = -(-level // joined_sums(group)), stages + 1
    return stages


def joined_sums(group: int) -> int:
    """Sums in carry-save form that are joined between two registers: of two words each, where a product has a row
    for every Booth digit, and so at least twice as many as products."""
    return 2 * group


def transform_stages(depth: int, levels_per_register: int) -> int:
    """Registers in front of an adder behind ``depth - 1`` others; 0 levels: none."""
    return max(0, -(-depth // levels_per_register) - 1) if levels_per_register else 0


def inverse_transform_latency(block_size: int, levels_per_register: int) -> int:
    """Registers inside of the inverse transform of a block."""
    # Two adders per level of the negacyclic parts, one to join each with the rest: chessrnn.model.bilinear.
    depth = max(1, 2 * (block_size.bit_length() - 1) - 1)
    return transform_stages(depth, levels_per_register)


def activation_latency(kind: str) -> int:
    """Cycles of an activation: look-up, (product,) sum with rounding and sign."""
    return {"pwl": 3, "shift": 2}[kind]


def cell_latency(cell: Cell, kind: str) -> int:
    """Cycles of a lane of the cell update, from sums and biases to h."""
    return cell.registers + cell.activations * activation_latency(kind)


@dataclass(frozen=True)
class Timeline:
    """Cycles of a run: what the simulation of the emitted Verilog must show.

    Attributes
    ----------
    first_issue, last_issue : list of int
        Per step, cycle of the first and of the last issue.
    last_beat : list of int
        Per step, cycle in which the last beat of h leaves.
    last_state : list of int
        Per sequence in the order in which they end, those of idle contexts too, cycle in which the last beat of its
        state leaves; empty without state ports.
    """

    first_issue: list[int]
    last_issue: list[int]
    last_beat: list[int]
    last_state: list[int]

    @property
    def interval(self) -> float | None:
        """Cycles per step: mean distance between the last issues of consecutive steps; ``None`` for one step."""
        last = self.last_issue
        return (last[-1] - last[0]) / (len(last) - 1) if len(last) > 1 else None


@dataclass(frozen=True)
class SequenceTimeline(Timeline):
    """Cycles of a run of a bidirectional network.

    Attributes
    ----------
    first_issue, last_issue : list of int
        Of every part of every step of every direction of every layer, in the order in which they are worked on.
    last_beat : list of int
        Per step of the output, cycle in which its last beat leaves.
    """

    @property
    def interval(self) -> float | None:
        """Cycles per step of x: all of the run, from the first beat of x to the last of h."""
        return (self.last_beat[-1] + 1) / len(self.last_beat) if self.last_beat else None


class Schedule:
    """Order, latencies and cycles of one configuration.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config

    # -- derived parallelism -------------------------------------------------------------------------------

    @cached_property
    def cell_lanes(self) -> int:
        """Hidden units per cycle: as given, or the fewest that keep up with the tile (k when none does)."""
        return self._choice[0]

    @cached_property
    def lookahead(self) -> int:
        """Row groups whose early columns go first: as given, or the fewest with the least initiation interval."""
        return self._choice[1]

    @property
    def _choice(self) -> tuple[int, int]:
        return _derive(self.config)

    # -- order ---------------------------------------------------------------------------------------------

    @cached_property
    def issues(self) -> tuple[Issue, ...]:
        """Work of one step (of both directions) in order; also the order of words in every weight bank."""
        numbers = [number for number in range(len(self.config.parts)) for _ in range(self.config.directions)]
        return tuple(issue for number in numbers for issue in self.part_issues(number))

    def ahead(self, number: int) -> int:
        """Row groups of a part whose early columns go first; 0: none does."""
        return self.lookahead if self.lookahead > 1 and self.config.parts[number].early_groups else 0

    def part_issues(self, number: int) -> tuple[Issue, ...]:
        """Work of one part (of one direction) in order."""
        part, ahead = self.config.parts[number], self.ahead(number)
        rows, cols, pure = part.row_groups, part.col_groups, part.early_groups if ahead else 0
        order = [
            *((row, col) for row in range(ahead) for col in range(pure)),
            *((row, col) for row in range(ahead) for col in range(pure, cols)),
            *((row, col) for row in range(ahead, rows) for col in range(cols)),
        ]
        return tuple(
            Issue(
                number, row, col,
                first=col == 0,
                resume=row < ahead and col == pure,
                park=row < ahead and col == pure - 1,
                complete=col == cols - 1,
            )
            for row, col in order
        )  # fmt: skip

    # -- latencies -----------------------------------------------------------------------------------------

    @property
    def matvec_latency(self) -> int:
        """Cycles from an issue to the drain holding the sums: memory, operands, products, trees, accumulator."""
        c, pipe = self.config, self.config.architecture.pipeline
        terms, cols = c.block_size if c.architecture.engine == "direct" else 1, c.architecture.tile_cols
        if c.architecture.arithmetic == "carry_save":
            products = dot_product_latency(terms * cols, pipe.compressor_terms)
        else:
            trees = adder_tree_latency(terms, pipe.adder_levels) + adder_tree_latency(cols, pipe.adder_levels)
            products = pipe.multiplier_stages + trees
        return 1 + pipe.memory_register + pipe.operand_register + products + 1

    def epilogue_latency(self, part: Part | None = None) -> int:
        """Cycles from the drain holding a bundle of a part to the first that can read the first block made of it.

        Left out, the part is a cell.
        """
        architecture, kind = self.config.architecture, self.config.activation.kind
        inverse = 0
        if architecture.engine == "fast":
            inverse = 1 + inverse_transform_latency(self.config.block_size, architecture.pipeline.inverse_levels)
        latency = cell_latency(self.config.cell, kind)
        if part is not None and part.kind == PROJECTION:
            latency = PROJECTION_LATENCY + 1
        return inverse + self.slices - 1 + SLICE_REGISTERS + latency + 1

    @property
    def slices(self) -> int:
        """Slices of ``cell_lanes`` units that a bundle is cut into."""
        return self.config.block_size // self.cell_lanes

    def bundle_cycles(self, part: Part) -> int:
        """Cycles that the drain spends on a bundle: the block rows of a hidden block that are finished together."""
        # A bundle of a projection becomes as many blocks as it has rows, which are written one after the other.
        return max(self.slices, self.config.bundle_rows) if part.kind == PROJECTION else self.slices

    def drain_cycles(self, part: Part) -> int:
        """Cycles that must lie between the completion of a row group of a part and the next."""
        return -(-self.config.architecture.tile_rows // self.config.bundle_rows) * self.bundle_cycles(part)

    @property
    def state_beats(self) -> int:
        """Beats of the state of all layers: ``chessrnn.model.state_beats``."""
        c = self.config
        cells = c.num_hidden_blocks * self.slices if c.cell.has_state else 0
        return c.network.num_layers * (c.num_output_blocks + cells)

    def blocks_since(self, number: int, vector: Vector) -> int:
        """Blocks made from the beginning of a vector's source up to the beginning of the part that reads it."""
        made, source = [part.output_blocks for part in self.config.parts], vector.source
        if not vector.is_previous:
            return sum(made[source:number])
        return (self.config.architecture.contexts - 1) * sum(made) + sum(made[source:]) + sum(made[:number])

    # -- cycles --------------------------------------------------------------------------------------------

    @property
    def ideal_interval(self) -> int:
        """⌈p/R⌉ · ⌈q/C⌉: cycles of a step that never waits."""
        return self.config.bank_words

    @cached_property
    def initiation_interval(self) -> int:
        """Cycles per step, sustained, with a source and a sink that never wait.

        Contexts may wait together and then follow each other closely: the mean over a turn of all, rounded up.  Of a
        bidirectional network both directions of all layers, without what begins and ends a layer's pass.
        """
        if self.config.network.bidirectional:
            return self._sequences.interval(2 * STEADY_STEPS)
        contexts = self.config.architecture.contexts
        # Contexts do not end together: in their last turn states would go out between the steps.
        steps = STEADY_STEPS + (self.config.architecture.state_ports and contexts > 1)
        last = self.timeline([steps] * contexts).last_issue[: STEADY_STEPS * contexts]
        return -(-(last[-1] - last[-1 - contexts]) // contexts)

    @property
    def overhead(self) -> int:
        """Cycles per step beyond ⌈p/R⌉ · ⌈q/C⌉: waiting for h, for the streams or for the drain."""
        return self.initiation_interval - self.ideal_interval

    @cached_property
    def first_step_latency(self) -> int:
        """Cycles from the first beat of x of an idle accelerator to the last beat of h, both included."""
        return self.timeline([1]).last_beat[0] + 1

    def timeline(self, sequence_lengths: list[int], loads: Sequence[bool] = ()) -> Timeline:
        """Every step's cycles for sequences back to back, dealt to the contexts; cycle 0 carries the first beat of x.

        The sources offer a beat whenever the accelerator takes one; the sinks always take.

        Parameters
        ----------
        sequence_lengths : list of int
        loads : sequence of bool, optional
            With state ports: whether a sequence takes its state from the stream; none does when left out.
        """
        config = self.config
        if config.network.bidirectional:
            cycles = self._sequences.run(sequence_lengths)
            last_beat = cycles.beats[config.num_stream_blocks - 1 :: config.num_stream_blocks]
            return SequenceTimeline(cycles.first_issue, cycles.last_issue, last_beat, [])
        return _StepRun(self, sequence_lengths, loads).run()

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
        """Issues of every step in the order of ``timeline``."""
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

    Attributes
    ----------
    x_beat : list of int
        Cycle in which each beat of x is taken.
    readable : list of int
        First cycle in which each block that a part computes can be read.
    h_beat : list of int
        Cycle in which each beat of h leaves.
    last : int
        Cycle of the latest issue.
    drain_free : int
        First cycle in which an issue may complete a row group.
    result : Timeline
        What is known so far.
    """

    def __init__(self, schedule: Schedule, lengths: list[int], loads: Sequence[bool]):
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

    def run(self) -> Timeline:
        """Follow all steps."""
        for step in range(len(self.order)):
            self._take_x(step)
            self._issue_all(step, max(self._states_moved(step), self._output_has_room(step)))
        if self.config.architecture.state_ports:
            self._save_state(self._all_written())
        return self.result

    def _take_x(self, step: int) -> None:
        """Take the beats of x of a step as soon as the half of the memory of x that they fill is free."""
        # A half is free again in the cycle after the last issue that read it, two steps before.
        free = self.result.last_issue[step - 2] + 1 if step >= 2 else 0
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
    """A schedule with its derived numbers fixed: what the search for them evaluates."""

    def __init__(self, config: Config, cell_lanes: int, lookahead: int):
        super().__init__(config)
        self.__dict__.update(cell_lanes=cell_lanes, lookahead=lookahead)


@lru_cache(maxsize=4096)
def _derive(config: Config) -> tuple[int, int]:
    """Cell lanes and lookahead, as given or the least that give the least initiation interval."""
    given = config.architecture
    if given.cell_lanes and given.lookahead:
        return given.cell_lanes, given.lookahead
    k, bundles = config.block_size, -(-given.tile_rows // config.bundle_rows)
    cols = min(part.col_groups for part in config.parts)
    lanes = [given.cell_lanes] if given.cell_lanes else [n for n in range(1, k + 1) if k % n == 0]
    enough = [n for n in lanes if bundles * (k // n) <= cols] or lanes[-1:]
    pure = min((part.early_groups for part in config.parts if part.early_groups), default=0)
    if config.network.bidirectional:
        pure = 0  # the other direction's step covers the latency
    # Beyond this the early columns of a part alone cover any latency of the datapath.
    latency = _Trial(config, enough[0], 1).matvec_latency + _Trial(config, enough[0], 1).epilogue_latency()
    most = min(config.num_row_groups, -(-latency // pure) + 1) if pure else 1
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
