"""The output layer in integers: logits = weight · h + bias after every step, and the first of the largest of them.

The weights are dense, or consist of circulant blocks of which only first columns are stored.
"""

from dataclasses import dataclass

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.errors import require
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS


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

    def largest_logit(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Integers (..., H) → number of the largest logit, the first of equals, and that logit, both (...)."""
        logits = np.asarray(h, dtype=np.int64) @ self.weight.T + self.bias
        index = logits.argmax(axis=-1)
        return index, np.take_along_axis(logits, index[..., None], axis=-1)[..., 0]


def columns_shape(config: Config) -> tuple[int, int, int]:
    """Of the first columns of W_y: (⌈V/k⌉, ⌈H/k⌉, k) with its block size k."""
    k = config.compression.output_block_size
    sizes = config.architecture.output_layer, config.output_size
    return *(circulant.num_blocks(size, k) for size in sizes), k


def expand_columns(config: Config, columns: np.ndarray) -> np.ndarray:
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
    training = f"chessrnn train --set compression.output_block_size={block_size}"
    rule = f"of {block_size} x {block_size} circulant blocks, as trained by {training}"
    require(defining is not None, name, rule, "a dense matrix")
    return defining


def random_output_layer(config: Config, rng: np.random.Generator) -> OutputLayer:
    """For tests and timing: weights and biases evenly over what lets the logits be near each other."""
    outputs, half = config.architecture.output_layer, 1 << (WEIGHT_BITS - 1)
    weight = expand_columns(config, rng.integers(-half, half, size=columns_shape(config), dtype=np.int64))
    spread = min(half * (1 << (config.quantization.h.width - 1)), (1 << (BIAS_BITS - 1)) - 1)
    return OutputLayer(weight, rng.integers(-spread, spread, size=outputs, dtype=np.int64), WEIGHT_BITS - 1)
