"""Integer weights of one layer, and their order."""

from dataclasses import dataclass

import numpy as np

from model import circulant
from model.config import GATES, Config
from model.errors import InvalidValueError, require


@dataclass(frozen=True)
class LstmWeights:
    """Integer weights of a block-circulant LSTM layer.

    Attributes
    ----------
    config : Config
        Gives sizes and formats.
    defining : int64 array (4, H/k, (X+H)/k, k)
        Defining vectors (first columns): gate I, F, G, O · hidden block · block column (x first) · entry.
    bias : int64 array (4, H)
        At accumulator scale; H padded to a multiple of k.

    Raises
    ------
    InvalidValueError
        A shape, a type or a value outside ``weight_bits``/``bias_bits``.
    """

    config: Config
    defining: np.ndarray
    bias: np.ndarray

    def __post_init__(self):
        c = self.config
        shapes = {
            "defining": (len(GATES), c.num_hidden_blocks, c.num_col_blocks, c.block_size),
            "bias": (len(GATES), c.num_hidden_blocks * c.block_size),
        }
        ranges = {"defining": (c.weight_min, c.weight_max), "bias": c.bias_format_min_max}
        for name, shape in shapes.items():
            values = np.asarray(getattr(self, name))
            require(
                np.issubdtype(values.dtype, np.integer), f"weights.{name}", "an array of integers", str(values.dtype)
            )
            require(values.shape == shape, f"weights.{name}", f"of shape {shape}", values.shape)
            low, high = ranges[name]
            outside = values[(values < low) | (values > high)]
            if outside.size:
                raise InvalidValueError(f"weights.{name} must be from {low} to {high}, not {int(outside.flat[0])}")
            values = values.astype(np.int64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    def dense(self) -> np.ndarray:
        """Expanded matrix (4·H, X+H), gate-major rows, with H and X padded to multiples of k."""
        gates, rows, cols, k = self.defining.shape
        return circulant.expand(self.defining.reshape(gates * rows, cols, k))

    def interleaved(self) -> np.ndarray:
        """Defining vectors (p, q, k) in hardware order: block row 4·u + g is gate g of hidden block u."""
        return self.defining.transpose(1, 0, 2, 3).reshape(self.config.num_row_blocks, self.config.num_col_blocks, -1)


def random_weights(config: Config, rng: np.random.Generator) -> LstmWeights:
    """Weights that keep the pre-activations in their lively range, for tests and for timing."""
    k = config.block_size
    terms = config.network.input_size + config.network.hidden_size
    shape = (len(GATES), config.num_hidden_blocks, config.num_col_blocks, k)
    # Aim at pre-activations of standard deviation 2 for inputs spread evenly over their range.
    spread = 2.0 * 2.0 ** np.array(config.accumulator_fracs) / (2.0 ** (config.element_bits - 1) * np.sqrt(terms / 3))
    defining = np.rint(rng.normal(size=shape) * spread[:, None, None, None])
    low, high = config.bias_format_min_max
    bias = np.rint(
        rng.normal(size=(len(GATES), config.num_hidden_blocks * k)) * 2.0 ** np.array(config.accumulator_fracs)[:, None]
    )
    return LstmWeights(
        config,
        np.clip(defining, config.weight_min, config.weight_max).astype(np.int64),
        np.clip(bias, low, high).astype(np.int64),
    )


def random_inputs(config: Config, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Integer inputs (*shape, X) spread evenly over the format of x."""
    fmt = config.quantization.x
    return rng.integers(fmt.min, fmt.max + 1, size=(*shape, config.network.input_size), dtype=np.int64)
