"""Integer weights of layers, and their order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.output_layer import OutputLayer, random_output_layer


@dataclass(frozen=True)
class LayerWeights:
    """Integer weights of a block-circulant recurrent layer.

    Attributes
    ----------
    config : Config
        Gives sizes and formats.
    defining : int64 array (G, H/k, (X+H)/k, k), with P for the last H where there is a projection
        Defining vectors (first columns): gate of the cell · hidden block · block column (x first) · entry.
    bias : int64 array (G, H)
        At accumulator scale; H padded to a multiple of k.
    peephole : int64 array (P, H) or None
        Of the gates that have one, in the format of peephole; ``None`` for a cell without.
    projection : int64 array (P/k, H/k, k) or None
        Defining vectors of the projection, with ``projection_frac`` fraction bits; ``None`` without one.
    output : OutputLayer or None
        That of ``architecture.output_layer``, behind the last layer.

    Raises
    ------
    InvalidValueError
        A shape, a type, a value outside of its format, or a weight other than zero where the gate has none.
    """

    config: Config
    defining: np.ndarray
    bias: np.ndarray
    peephole: np.ndarray | None = None
    projection: np.ndarray | None = None
    output: OutputLayer | None = None

    def __post_init__(self):
        c = self.config
        blocks, padded = c.num_hidden_blocks, c.num_hidden_blocks * c.block_size
        wanted = {
            "defining": ((c.num_gates, blocks, c.num_col_blocks, c.block_size), c.weight_min, c.weight_max),
            "bias": ((c.num_gates, padded), *c.bias_format_min_max),
        }
        if c.cell.peepholes:
            fmt = c.quantization.peephole
            wanted["peephole"] = ((len(c.cell.peepholes), padded), fmt.min, fmt.max)
        else:
            require(self.peephole is None, "weights.peephole", f"left out for cell {c.cell.name}", self.peephole)
        if c.network.projection_size:
            wanted["projection"] = ((c.num_output_blocks, blocks, c.block_size), c.weight_min, c.weight_max)
        else:
            given = self.projection is not None
            require(not given, "weights.projection", "left out where network.projection_size is 0", self.projection)
        for name, (shape, low, high) in wanted.items():
            values = np.asarray(getattr(self, name))
            require(
                np.issubdtype(values.dtype, np.integer), f"weights.{name}", "an array of integers", str(values.dtype)
            )
            require(values.shape == shape, f"weights.{name}", f"of shape {shape}", values.shape)
            outside = values[(values < low) | (values > high)]
            if outside.size:
                raise InvalidValueError(f"weights.{name} must be from {low} to {high}, not {int(outside.flat[0])}")
            values = values.astype(np.int64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        for gate, absent in enumerate(absent_columns(c)):
            extra = self.defining[gate][:, absent]
            rule = f"0 where gate {c.gates[gate]} reads nothing"
            require(not extra.any(), "weights.defining", rule, int(extra[extra != 0][0]) if extra.any() else 0)

    @property
    def layers(self) -> tuple["LayerWeights", ...]:
        """As a network of one layer."""
        return (self,)

    def dense(self) -> np.ndarray:
        """Expanded matrix (G·H, X+H), gate-major rows, with H and X padded to multiples of k."""
        gates, rows, cols, k = self.defining.shape
        return circulant.expand(self.defining.reshape(gates * rows, cols, k))

    def interleaved(self, gates: Sequence[int]) -> np.ndarray:
        """Defining vectors (rows, q, k) of some G gates in hardware order: row G·u + g is gate g of hidden block u."""
        rows = self.defining[list(gates)].transpose(1, 0, 2, 3)
        return rows.reshape(-1, *rows.shape[2:])


@dataclass(frozen=True)
class StackWeights:
    """Integer weights of several layers.

    Attributes
    ----------
    config : Config
        Of all layers together.
    layers : tuple of LayerWeights
        Of ``config.layer(0)``, ``config.layer(1)``, …; with two directions of each layer forward, then reverse.
    output : OutputLayer or None
        That of ``architecture.output_layer``, behind the last layer.

    Raises
    ------
    InvalidValueError
        Another number of layers, or layers of another network.
    """

    config: Config
    layers: tuple[LayerWeights, ...]
    output: OutputLayer | None = None

    def __post_init__(self):
        directions = self.config.directions
        count = directions * self.config.network.num_layers
        require(len(self.layers) == count, "weights.layers", f"{count}", len(self.layers))
        for number, layer in enumerate(self.layers):
            wanted = self.config.layer(number // directions).model_fingerprint
            found = layer.config.model_fingerprint
            require(wanted == found, f"weights.layers[{number}]", f"of configuration {wanted}", found)


# What commands hand around: one layer is its own network.
NetworkWeights = LayerWeights | StackWeights


def join_layers(config: Config, layers: Sequence[LayerWeights]) -> NetworkWeights:
    """Weights of a network from those of its layers (of both directions of each, where there are two)."""
    return layers[0] if len(layer_configs(config)) == 1 else StackWeights(config, tuple(layers))


def layer_configs(config: Config) -> list[Config]:
    """The configuration of every layer, twice where there are two directions: the order of ``StackWeights.layers``."""
    layers = [config.layer(number) for number in range(config.network.num_layers)]
    return [layer for layer in layers for _ in range(config.directions)]


def absent_columns(config: Config) -> list[slice]:
    """Per gate, the block columns that it does not read."""
    whole, first = config.num_col_blocks, config.num_input_blocks
    return [slice(0 if not g.reads_x else first if not g.reads_h else whole, first if not g.reads_x else whole)
            for g in config.cell.gates]  # fmt: skip


def drop_absent(config: Config, defining: np.ndarray) -> np.ndarray:
    """A copy with zeros where a gate reads nothing."""
    defining = defining.copy()
    for gate, absent in enumerate(absent_columns(config)):
        defining[gate][:, absent] = 0
    return defining


def random_weights(config: Config, rng: np.random.Generator) -> NetworkWeights:
    """Weights that keep the pre-activations in their lively range, for tests and for timing."""
    weights = join_layers(config, [_random_layer(layer, rng) for layer in layer_configs(config)])
    return replace(weights, output=random_output_layer(config, rng)) if config.architecture.output_layer else weights


def _random_layer(config: Config, rng: np.random.Generator) -> LayerWeights:
    k, gates = config.block_size, config.num_gates
    terms = config.network.input_size + config.output_size
    shape = (gates, config.num_hidden_blocks, config.num_col_blocks, k)
    # Aim at pre-activations of standard deviation 2 for inputs spread evenly over their range.
    spread = 2.0 * 2.0 ** np.array(config.accumulator_fracs) / (2.0 ** (config.element_bits - 1) * np.sqrt(terms / 3))
    defining = np.rint(rng.normal(size=shape) * spread[:, None, None, None])
    low, high = config.bias_format_min_max
    bias = np.rint(
        rng.normal(size=(gates, config.num_hidden_blocks * k)) * 2.0 ** np.array(config.accumulator_fracs)[:, None]
    )
    peephole = projection = None
    if config.cell.peepholes:
        fmt = config.quantization.peephole
        shape = (len(config.cell.peepholes), config.num_hidden_blocks * k)
        peephole = rng.integers(fmt.min, fmt.max + 1, size=shape)
    if config.network.projection_size:
        # What is made of h keeps its magnitude.
        spread = 2.0**config.quantization.projection_frac / np.sqrt(config.network.hidden_size / 3)
        projection = np.rint(rng.normal(size=(config.num_output_blocks, config.num_hidden_blocks, k)) * spread)
        projection = np.clip(projection, config.weight_min, config.weight_max).astype(np.int64)
    return LayerWeights(
        config,
        drop_absent(config, np.clip(defining, config.weight_min, config.weight_max).astype(np.int64)),
        np.clip(bias, low, high).astype(np.int64),
        peephole,
        projection,
    )


def random_inputs(config: Config, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Integer inputs (*shape, X) spread evenly over the format of x."""
    fmt = config.quantization.x
    return rng.integers(fmt.min, fmt.max + 1, size=(*shape, config.network.input_size), dtype=np.int64)
