"""The output layer in integers: logits = weight · h + bias after every step, and the index of the largest logit.

The weights are dense, or consist of circulant blocks, of which the hardware stores only the first columns.
"""

from dataclasses import dataclass

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.errors import require
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS


@dataclass(frozen=True)
class OutputLayer:
    """An output layer in integers: logits = weight · h + bias.

    Attributes
    ----------
    weight : int64 array (V, H or P)
        8-bit weights with ``weight_frac`` fraction bits.
    bias : int64 array (V,)
        32-bit biases at the scale of the logits: ``weight_frac`` + fraction bits of h.
    weight_frac : int
        Number of fraction bits of ``weight``.

    Raises
    ------
    InvalidValueError
        A value exceeds its width, or the number of biases is not the number of outputs.
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
        """Compute, from codes of h (..., H), the index of the largest logit and that logit, both (...).

        Of several equal logits the first one counts.
        """
        logits = np.asarray(h, dtype=np.int64) @ self.weight.T + self.bias
        index = logits.argmax(axis=-1)
        return index, np.take_along_axis(logits, index[..., None], axis=-1)[..., 0]


def columns_shape(config: Config) -> tuple[int, int, int]:
    """Shape of the first columns of W_y: (⌈V/k⌉, ⌈H/k⌉, k), where k is the block size of the output layer."""
    k = config.compression.output_block_size
    return circulant.num_blocks(config.architecture.output_layer, k), circulant.num_blocks(config.output_size, k), k


def expand_columns(config: Config, columns: np.ndarray) -> np.ndarray:
    """Expand first columns to W_y (V, H): the inverse of :func:`first_columns`."""
    return circulant.expand(columns)[: config.architecture.output_layer, : config.output_size]


def first_columns(weight: np.ndarray, block_size: int, name: str) -> np.ndarray:
    """Extract the first columns (⌈V/k⌉, ⌈H/k⌉, k) of the circulant blocks of an integer matrix (V, H).

    Parameters
    ----------
    weight : integer array (V, H)
        Expanded matrix.
    block_size : int
        k; every matrix has blocks of 1 × 1.
    name : str
        Name of the matrix in error messages.

    Raises
    ------
    InvalidValueError
        A block is not circulant.
    """
    defining = circulant.exact_defining(weight, block_size)
    training = f"chessrnn train --set compression.output_block_size={block_size}"
    rule = f"of {block_size} x {block_size} circulant blocks, as trained by {training}"
    require(defining is not None, name, rule, "a dense matrix")
    assert defining is not None
    return defining


def random_output_layer(config: Config, rng: np.random.Generator) -> OutputLayer:
    """Draw an output layer for tests and timing.

    Biases are no larger than the largest product, so that logits are close to each other and any of them can win.
    """
    outputs, half = config.architecture.output_layer, 1 << (WEIGHT_BITS - 1)
    weight = expand_columns(config, rng.integers(-half, half, size=columns_shape(config), dtype=np.int64))
    spread = min(half * (1 << (config.quantization.h.width - 1)), (1 << (BIAS_BITS - 1)) - 1)
    return OutputLayer(weight, rng.integers(-spread, spread, size=outputs, dtype=np.int64), WEIGHT_BITS - 1)
