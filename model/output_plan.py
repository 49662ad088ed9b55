"""The plan of the output layer on chip: its parallelism, its cycles and its widths.

The output layer reads the stream of h with its own multipliers and sums ``lanes`` logits at a time, one block of h per
cycle.  A step takes it ``groups`` times the number of blocks of h; this must not exceed the cycles that a step takes
the recurrent layers, so that the output layer never delays them.  If its weights are circulant, neighbouring lanes
share the stored weights, as many lanes as a block has rows.
"""

from dataclasses import dataclass

from chessrnn.model import circulant
from chessrnn.model.errors import require
from chessrnn.model.qformat import QFormat
from chessrnn.model.widths.sums import logit_interval

WEIGHT_BITS, BIAS_BITS = 8, 32
# Cycles from the last block read to the accumulated logit: memory, operands, products, their sum, accumulator.
SUM_LATENCY = 5


@dataclass(frozen=True)
class OutputPlan:
    """The sizes and cycles of the output layer on chip.

    Attributes
    ----------
    outputs : int
        V, the number of logits.
    lanes : int
        Number of logits that are summed at a time.
    groups : int
        Number of groups of logits that are summed one after the other: ⌈V / lanes⌉.
    blocks : int
        Number of blocks of h read per step.
    logit_bits : int
        Width of a logit, which is exact.
    sharing : int
        k_y, the number of neighbouring lanes that read the same stored weights, each in a different rotation; 1 if
        every lane has its own.
    """

    outputs: int
    lanes: int
    groups: int
    blocks: int
    logit_bits: int
    sharing: int

    @property
    def block_rows(self) -> int:
        """Number of block rows of a group; a block of h is multiplied by k stored weights of each."""
        return self.lanes // self.sharing

    @property
    def cycles(self) -> int:
        """Number of cycles for which a step occupies the multipliers."""
        return self.groups * self.blocks

    @property
    def levels(self) -> int:
        """Number of levels of comparators that find the largest of the lanes, one cycle each."""
        return (self.lanes - 1).bit_length()

    @property
    def latency(self) -> int:
        """Number of cycles from the last beat of the h of a step to the result of the step."""
        # The first block is read in the cycle after the beat.  The last two cycles compare with the groups before and
        # write the result into the buffer.
        return self.cycles + SUM_LATENCY + self.levels + 2

    @property
    def buffered(self) -> int:
        """Number of results that can be under way or wait for the sink, enough never to delay each other."""
        return 2 + -(-self.latency // self.cycles)

    @property
    def index_bits(self) -> int:
        """Width of the index of an output; 1 for a single output, whose index is 0."""
        return max(1, (self.outputs - 1).bit_length())


def output_plan(
    outputs: int,
    lanes: int | None,
    blocks: int,
    bank_words: int,
    sharing: int,
    h: QFormat,
    output_size: int,
) -> OutputPlan | None:
    """Plan an output layer on chip; the result is ``None`` for a network without one.

    Parameters
    ----------
    outputs : int
        V, the number of outputs; 0 for a network without an output layer on chip.
    lanes : int or None
        Number of logits that are summed at a time; ``None`` takes the fewest that keep up.
    blocks : int
        Number of blocks of h per step.
    bank_words : int
        Number of cycles of matrix work in a step, which the output layer must not exceed.
    sharing : int
        k_y, the block size of the circulant weights of the output layer.
    h : QFormat
        Format of h.
    output_size : int
        Number of elements of h per step.

    Raises
    ------
    InvalidValueError
        The given number of lanes, or any number of lanes, cannot keep up with the layers.
    """
    if not outputs:
        return None
    groups = bank_words // blocks
    rule = f"such that a step takes at least {blocks} cycles, like the output layer"
    require(groups >= 1, "architecture.tile_rows and tile_cols", rule, bank_words)
    least, most = (circulant.num_blocks(rows, sharing) * sharing for rows in (-(-outputs // groups), outputs))
    rule = f"from {least}, or the output layer could not keep up, to {most}"
    require(lanes is None or least <= lanes <= most, "architecture.output_lanes", rule, lanes)
    rule = f"a multiple of compression.output_block_size {sharing}"
    require(lanes is None or lanes % sharing == 0, "architecture.output_lanes", rule, lanes)
    lanes = lanes or least
    logit = logit_interval(WEIGHT_BITS, BIAS_BITS, output_size, h)
    return OutputPlan(outputs, lanes, -(-outputs // lanes), blocks, logit.bits, sharing)
