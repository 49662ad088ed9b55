"""The output layer on chip: how many logits are summed at a time, in which cycles, and how wide they are.

It reads the stream of h with multipliers of its own: ``lanes`` logits at a time, a block of h per cycle.  A step takes
it ``groups`` times as many cycles as h has blocks, which must be no more than a step takes the layers, so that it never
holds them up.  Where its weights are circulant, as many neighbouring lanes as a block has rows share the stored
weights.
"""

from dataclasses import dataclass

from chessrnn.model import circulant
from chessrnn.model.errors import require

WEIGHT_BITS, BIAS_BITS = 8, 32
# From the last block read to the accumulated logit: memory, operands, products, their sum, accumulator.
SUM_LATENCY = 5


@dataclass(frozen=True)
class OutputPlan:
    """Sizes and cycles of the output layer on chip.

    Attributes
    ----------
    outputs, lanes : int
        V; logits that are summed at a time.
    groups : int
        ⌈V / lanes⌉.
    blocks : int
        Blocks of h per step.
    logit_bits : int
        Of every logit, exact.
    sharing : int
        k_y, neighbouring lanes that read the same stored weights, each in another rotation; 1: every lane has its own.
    """

    outputs: int
    lanes: int
    groups: int
    blocks: int
    logit_bits: int
    sharing: int

    @property
    def block_rows(self) -> int:
        """Rows of blocks of a group; a block of h meets k stored weights of each."""
        return self.lanes // self.sharing

    @property
    def cycles(self) -> int:
        """That a step occupies the multipliers."""
        return self.groups * self.blocks

    @property
    def levels(self) -> int:
        """Of comparisons of the lanes, a cycle each."""
        return (self.lanes - 1).bit_length()

    @property
    def latency(self) -> int:
        """Cycles from the last beat of a step's h to its result."""
        # One to write the beat, one for the comparison with other groups, one into the buffer.
        return self.cycles + SUM_LATENCY + self.levels + 2

    @property
    def buffered(self) -> int:
        """Results that can be under way or wait for the sink, enough never to wait for each other."""
        return 2 + -(-self.latency // self.cycles)

    @property
    def index_bits(self) -> int:
        """Of the number of an output."""
        return (self.outputs - 1).bit_length()


def output_plan(
    outputs: int,
    lanes: int | None,
    blocks: int,
    bank_words: int,
    sharing: int,
    h_min: int,
    output_size: int,
) -> OutputPlan | None:
    """Plan an output layer on chip, or ``None`` where there is none.

    Parameters
    ----------
    outputs : int
        V; 0 is a network without an output layer on chip.
    lanes : int or None
        Logits that are summed at a time; ``None`` takes the fewest that keep up.
    blocks : int
        Blocks of h per step.
    bank_words : int
        Cycles of matrix work in a step, which the output layer must not exceed.
    sharing : int
        k_y, block size of the output layer's circulant weights.
    h_min : int
        Least code of h.
    output_size : int
        Elements of h per step.

    Raises
    ------
    InvalidValueError
        No or too few lanes keep up with the layers.
    """
    if not outputs:
        return None
    groups = bank_words // blocks
    rule = f"such that a step takes at least {blocks} cycles, as the output layer does"
    require(groups >= 1, "architecture.tile_rows and tile_cols", rule, bank_words)
    least, most = (circulant.num_blocks(rows, sharing) * sharing for rows in (-(-outputs // groups), outputs))
    rule = f"from {least}, or the output layer could not keep up, to {most}"
    require(lanes is None or least <= lanes <= most, "architecture.output_lanes", rule, lanes)
    rule = f"a multiple of compression.output_block_size {sharing}"
    require(lanes is None or lanes % sharing == 0, "architecture.output_lanes", rule, lanes)
    lanes = lanes or least
    largest = (1 << (BIAS_BITS - 1)) + output_size * -h_min * (1 << (WEIGHT_BITS - 1))
    return OutputPlan(outputs, lanes, -(-outputs // lanes), blocks, largest.bit_length() + 1, sharing)
