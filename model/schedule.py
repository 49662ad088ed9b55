"""Cycle-exact prediction of the accelerator, and the order in which it works.

The hardware reads its latencies, its order of work and its derived parallelism from here, and the tests hold
the emitted Verilog to the predicted cycle.

A step is a sequence of *issues*, one tile of R × C blocks each, layer after layer.  With lookahead N the order of a
layer is: the column groups of row groups 0..N-1 that hold early columns alone (``model.config.LayerBlocks``), then the
rest of their columns, then every other row group whole.  An issue waits until

- the blocks of x and of h that it reads have been written,
- for the first of a step: the output buffer has room for the whole step,
- for the last of a row group: the drain will be free when its sums arrive.

Nothing else waits, so these rules give every cycle.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from model.cells import Cell
from model.config import Config

# From the cycle in which a block of h is written to the first in which the output stream can offer it.
OUTPUT_BUFFER_LATENCY = 2
# In front of a lane of the cell update: the slice, and again while the biases are read.
SLICE_REGISTERS = 2
# After this many steps of every context a stream without stalls repeats itself.
STEADY_STEPS = 4


class Issue(NamedTuple):
    """One tile of work: which row group and column group, and what happens to its sums."""

    layer: int
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
    # Two adders per level of the negacyclic parts, one to join each with the rest: model.bilinear.
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
    """

    first_issue: list[int]
    last_issue: list[int]
    last_beat: list[int]


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
        """Work of one step in order; also the order of words in every weight bank."""
        return tuple(issue for layer in range(self.config.network.num_layers) for issue in self._layer_issues(layer))

    def ahead(self, layer: int) -> int:
        """Row groups whose early columns go first; 0: none does."""
        return self.lookahead if self.lookahead > 1 and self.config.layer_blocks[layer].early_groups else 0

    def _layer_issues(self, layer: int) -> tuple[Issue, ...]:
        ahead, rows = self.ahead(layer), self.config.num_row_groups
        blocks = self.config.layer_blocks[layer]
        cols, pure = blocks.col_groups, blocks.early_groups if ahead else 0
        order = [
            *((row, col) for row in range(ahead) for col in range(pure)),
            *((row, col) for row in range(ahead) for col in range(pure, cols)),
            *((row, col) for row in range(ahead, rows) for col in range(cols)),
        ]
        return tuple(
            Issue(
                layer, row, col,
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

    def epilogue_latency(self) -> int:
        """Cycles from the drain holding the gate blocks of a hidden block to the first that can read their h."""
        architecture, kind = self.config.architecture, self.config.activation.kind
        inverse = 0
        if architecture.engine == "fast":
            inverse = 1 + inverse_transform_latency(self.config.block_size, architecture.pipeline.inverse_levels)
        return inverse + self.bundle_cycles - 1 + SLICE_REGISTERS + cell_latency(self.config.cell, kind) + 1

    @property
    def bundle_cycles(self) -> int:
        """Cycles that the drain spends on the gate blocks of one hidden block."""
        return self.config.block_size // self.cell_lanes

    @property
    def drain_cycles(self) -> int:
        """Cycles that must lie between the completions of two row groups."""
        return -(-self.config.architecture.tile_rows // self.config.num_gates) * self.bundle_cycles

    # -- cycles --------------------------------------------------------------------------------------------

    @property
    def ideal_interval(self) -> int:
        """⌈p/R⌉ · ⌈q/C⌉: cycles of a step that never waits."""
        return self.config.bank_words

    @cached_property
    def initiation_interval(self) -> int:
        """Cycles per step, sustained, with a source and a sink that never wait.

        Contexts may wait together and then follow each other closely: the mean over a turn of all, rounded up.
        """
        contexts = self.config.architecture.contexts
        last = self.timeline([STEADY_STEPS] * contexts).last_issue
        return -(-(last[-1] - last[-1 - contexts]) // contexts)

    @property
    def overhead(self) -> int:
        """Cycles per step beyond ⌈p/R⌉ · ⌈q/C⌉: waiting for h, for the streams or for the drain."""
        return self.initiation_interval - self.ideal_interval

    @cached_property
    def first_step_latency(self) -> int:
        """Cycles from the first beat of x of an idle accelerator to the last beat of h, both included."""
        return self.timeline([1]).last_beat[0] + 1

    def timeline(self, sequence_lengths: list[int]) -> Timeline:
        """Every step's cycles for sequences back to back, dealt to the contexts; cycle 0 carries the first beat of x.

        The source offers a beat whenever the accelerator takes one; the sink always takes.
        """
        c = self.config
        x_blocks, h_blocks, tile_cols = c.num_input_blocks, c.num_hidden_blocks, c.architecture.tile_cols
        num_layers = c.network.num_layers
        tile_rows, row_blocks = c.architecture.tile_rows, c.num_row_blocks
        to_drain, to_memory = self.matvec_latency, self.epilogue_latency()
        gap, gates = self.drain_cycles, c.num_gates
        needs = []
        for issue in self.issues:
            reach, blocks = (issue.col + 1) * tile_cols, c.layer_blocks[issue.layer]
            needs.append((min(reach, blocks.early), min(max(reach - blocks.early, 0), blocks.late)))

        contexts, buffered = c.architecture.contexts, output_buffer_steps(c)
        steps = [index == 0 for _, index in interleave(sequence_lengths, contexts)]
        x_time: list[int] = []  # cycle of each beat of x
        beat_time: list[int] = []  # cycle of each beat of h
        written: list[int] = []  # cycle from which each block of h can be read
        consumed: list[int] = []  # cycle of the last issue of each step
        result = Timeline([], [], [])
        now, ready_to_complete = -1, 0
        for step, is_first in enumerate(steps):
            for block in range(x_blocks):
                index = step * x_blocks + block
                # A half of the x memory is free again in the cycle after the last issue that read it.
                free = consumed[step - 2] + 1 if step >= 2 else 0
                x_time.append(max(x_time[index - 1] + 1 if index else 0, free))
            for number, issue in enumerate(self.issues):
                early, late = needs[number]
                # Where the h of this layer's last step and the h of the layer below begin in ``written``.
                own = ((step - contexts) * num_layers + issue.layer) * h_blocks
                below = (step * num_layers + issue.layer - 1) * h_blocks
                when = now + 1
                if issue.layer == 0:
                    when = max(when, x_time[step * x_blocks + early - 1] + 1)
                    if late and not is_first:
                        when = max(when, written[own + late - 1])
                else:
                    if not is_first:
                        when = max(when, written[own + early - 1])
                    if late:
                        when = max(when, written[below + late - 1])
                if number == 0 and step >= buffered:
                    when = max(when, beat_time[(step - buffered + 1) * h_blocks - 1] + 1)
                if issue.complete:
                    when = max(when, ready_to_complete)
                    ready_to_complete = when + gap
                    before = min(issue.row * tile_rows, row_blocks) // gates
                    after = min((issue.row + 1) * tile_rows, row_blocks) // gates
                    for bundle in range(after - before):
                        ready = when + to_drain + bundle * self.bundle_cycles + to_memory
                        written.append(ready)
                        if issue.layer < num_layers - 1:
                            continue
                        beat = ready - 1 + OUTPUT_BUFFER_LATENCY
                        beat_time.append(max(beat, beat_time[-1] + 1) if beat_time else beat)
                if number == 0:
                    result.first_issue.append(when)
                now = when
            consumed.append(now)
            result.last_issue.append(now)
            result.last_beat.append(beat_time[-1])
        return result


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
    k, bundles = config.block_size, -(-given.tile_rows // config.num_gates)
    cols = min(blocks.col_groups for blocks in config.layer_blocks)
    lanes = [given.cell_lanes] if given.cell_lanes else [n for n in range(1, k + 1) if k % n == 0]
    enough = [n for n in lanes if bundles * (k // n) <= cols] or lanes[-1:]
    pure = min((blocks.early_groups for blocks in config.layer_blocks if blocks.early_groups), default=0)
    # Beyond this the early columns of a layer alone cover any latency of the datapath.
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
