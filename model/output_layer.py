"""The output layer: logits = weight · h + bias after every step, and on chip the first of the largest of them.

On chip it stands behind the stream of h with multipliers of its own: ``lanes`` logits at a time, a block of h per
cycle.  A step takes it ``groups`` times as many cycles as h has blocks, which must be no more than a step takes the
layers, so that it never holds them up.  Its weights are dense, or consist of circulant blocks of which only first
columns are stored: as many neighbouring lanes as a block has rows then share the stored weights.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from model import circulant
from model.errors import require

if TYPE_CHECKING:
    from model.config import Config  # which asks for the plan to be possible

WEIGHT_BITS, BIAS_BITS = 8, 32
# From the last block read to the accumulated logit: memory, operands, products, their sum, accumulator.
SUM_LATENCY = 5


@dataclass(frozen=True)
class OutputLayer:
    """logits = weight · h + bias, in integers.

    Attributes
    ----------
    weight : int64 array (V, H or P)
        8 bit, with ``weight_frac`` fraction bits.
    bias : int64 array (V,)
        32 bit, at the scale of the logits: ``weight_frac`` + fraction bits of h.
    weight_frac : int

    Raises
    ------
    InvalidValueError
        A value beyond its bits, or as many biases as there are not outputs.
    """

    weight: np.ndarray
    bias: np.ndarray
    weight_frac: int

    def __post_init__(self):
        require(self.bias.shape == self.weight.shape[:1], "output.bias", "one per row of the weight", self.bias.shape)
        for name, bits in (("weight", WEIGHT_BITS), ("bias", BIAS_BITS)):
            values, half = getattr(self, name), 1 << (bits - 1)
            outside = values[(values < -half) | (values >= half)]
            rule = f"from {-half} to {half - 1}"
            require(outside.size == 0, f"output.{name}", rule, int(outside.flat[0]) if outside.size else None)

    def choose(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Integers (..., H) → number of the largest logit, the first of equals, and that logit, both (...)."""
        logits = np.asarray(h, dtype=np.int64) @ self.weight.T + self.bias
        index = logits.argmax(axis=-1)
        return index, np.take_along_axis(logits, index[..., None], axis=-1)[..., 0]


def columns_shape(config: "Config") -> tuple[int, int, int]:
    """Of the first columns of W_y: (⌈V/k⌉, ⌈H/k⌉, k) with its block size k."""
    k = config.compression.output_block_size
    sizes = config.architecture.output_layer, config.output_size
    return *(circulant.num_blocks(size, k) for size in sizes), k


def written_out(config: "Config", columns: np.ndarray) -> np.ndarray:
    """First columns → W_y (V, H): the inverse of :func:`first_columns`."""
    return circulant.expand(columns)[: config.architecture.output_layer, : config.output_size]


def first_columns(weight: np.ndarray, block_size: int, name: str) -> np.ndarray:
    """Integers (V, H) → defining vectors (⌈V/k⌉, ⌈H/k⌉, k) of their circulant blocks.

    Raises
    ------
    InvalidValueError
        A block is not circulant.
    """
    defining = circulant.exact_defining(weight, block_size)
    training = f"python -m scripts.compress --set compression.output_block_size={block_size}"
    rule = f"of {block_size} x {block_size} circulant blocks, as trained by {training}"
    require(defining is not None, name, rule, "a dense matrix")
    return defining


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
        Of h in a step.
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


@lru_cache(maxsize=1024)
def output_plan(config: "Config") -> OutputPlan | None:
    """The plan of a configuration that has an output layer on chip.

    Raises
    ------
    InvalidValueError
        No or too few lanes keep up with the layers.
    """
    outputs, lanes = config.architecture.output_layer, config.architecture.output_lanes
    if not outputs:
        return None
    blocks = config.num_output_blocks
    groups = config.bank_words // blocks
    rule = f"such that a step takes at least {blocks} cycles, as the output layer does"
    require(groups >= 1, "architecture.tile_rows and tile_cols", rule, config.bank_words)
    sharing = config.compression.output_block_size
    least, most = (circulant.num_blocks(rows, sharing) * sharing for rows in (-(-outputs // groups), outputs))
    rule = f"from {least}, or the output layer could not keep up, to {most}"
    require(lanes is None or least <= lanes <= most, "architecture.output_lanes", rule, lanes)
    rule = f"a multiple of compression.output_block_size {sharing}"
    require(lanes is None or lanes % sharing == 0, "architecture.output_lanes", rule, lanes)
    lanes = lanes or least
    largest = (1 << (BIAS_BITS - 1)) + config.output_size * -config.quantization.h.min * (1 << (WEIGHT_BITS - 1))
    return OutputPlan(outputs, lanes, -(-outputs // lanes), blocks, largest.bit_length() + 1, sharing)


def random_output_layer(config: "Config", rng: np.random.Generator) -> OutputLayer:
    """For tests and timing: weights and biases evenly over what lets the logits be near each other."""
    outputs, half = config.architecture.output_layer, 1 << (WEIGHT_BITS - 1)
    weight = written_out(config, rng.integers(-half, half, size=columns_shape(config), dtype=np.int64))
    spread = min(half * (1 << (config.quantization.h.width - 1)), (1 << (BIAS_BITS - 1)) - 1)
    return OutputLayer(weight, rng.integers(-spread, spread, size=outputs, dtype=np.int64), WEIGHT_BITS - 1)
