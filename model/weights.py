"""The integer weights of recurrent layers and networks, and the order in which they are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.input_fold import InputFold
from chessrnn.model.output_layer import OutputLayer, random_output_layer


@dataclass(frozen=True)
class LayerWeights:
    """The integer weights of one block-circulant recurrent layer.

    Attributes
    ----------
    config : Config
        Configuration of the layer, which gives sizes and formats.
    defining : int64 array (G, ⌈H/k⌉, ⌈X/k⌉ + ⌈H/k⌉, k)
        Defining vectors (first columns) of the circulant blocks, by gate, hidden block and block column, those of x
        first.  With a projection, the last H is P.  With half levels these are the odd weights, not their codes.
    bias : int64 array (G, H)
        Biases at the scale of the accumulator, with H padded to a multiple of k.
    peephole : int64 array (number of peepholes, H) or None
        Peephole weights of the gates that have one, in the format ``quantization.peephole``, with H padded to a
        multiple of k; ``None`` for a cell without peepholes.
    projection : int64 array (⌈P/k⌉, ⌈H/k⌉, k) or None
        Defining vectors of the projection with ``projection_frac`` fraction bits; ``None`` without a projection.
    output : OutputLayer or None
        The output layer on chip behind the last layer; ``None`` when ``architecture.output_layer`` is 0.
    input_fold : InputFold or None
        What whoever feeds the accelerator does to x before it is rounded; ``None`` is nothing.
    scale : int64 array (G, ⌈H/k⌉) or None
        Scale of every block row of a gate with ``scale_bits`` - 1 fraction bits, from 1 to 2^scale_bits - 1; ``None``
        where ``quantization.weight_scale`` is not ``"row"``.

    Raises
    ------
    InvalidValueError
        An array has the wrong shape or type or a value outside its format, or a gate has weights other than zero for an
        input that it does not read.
    """

    config: Config
    defining: np.ndarray
    bias: np.ndarray
    peephole: np.ndarray | None = None
    projection: np.ndarray | None = None
    output: OutputLayer | None = None
    input_fold: InputFold | None = None
    scale: np.ndarray | None = None

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
        if c.has_row_scales:
            wanted["scale"] = ((c.num_gates, blocks), *c.scale_min_max)
        else:
            given = self.scale is not None
            require(not given, "weights.scale", "left out where quantization.weight_scale is gate", self.scale)
        for name, (shape, low, high) in wanted.items():
            values = np.asarray(getattr(self, name))
            require(
                np.issubdtype(values.dtype, np.integer), f"weights.{name}", "an array of integers", str(values.dtype)
            )
            require(values.shape == shape, f"weights.{name}", f"of shape {shape}", values.shape)
            outside = values[(values < low) | (values > high)]
            if outside.size:
                raise InvalidValueError(f"weights.{name} must be from {low} to {high}, not {int(outside.flat[0])}")
            if c.has_half_levels and name in ("defining", "projection"):
                even = values[values % 2 == 0]
                rule = "odd where quantization.weight_levels is half"
                require(even.size == 0, f"weights.{name}", rule, int(even.flat[0]) if even.size else None)
            values = values.astype(np.int64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        check_fold(c, self.input_fold)
        for gate, absent in enumerate(absent_columns(c)):
            extra = self.defining[gate][:, absent]
            rule = f"0 in the columns that gate {c.gates[gate]} does not read"
            require(not extra.any(), "weights.defining", rule, int(extra[extra != 0][0]) if extra.any() else 0)

    @property
    def layers(self) -> tuple["LayerWeights", ...]:
        """The layers of the network: this layer alone."""
        return (self,)

    def dense(self) -> np.ndarray:
        """Expanded matrix (G·H, X+H), gate after gate, with H and X padded to multiples of k."""
        gates, rows, cols, k = self.defining.shape
        return circulant.expand(self.defining.reshape(gates * rows, cols, k))

    def interleaved(self, gates: Sequence[int]) -> np.ndarray:
        """Defining vectors (rows, q, k) of the given gates in the order of the hardware.

        With G gates, row G·u + g belongs to gate g of hidden block u.
        """
        rows = self.defining[list(gates)].transpose(1, 0, 2, 3)
        return rows.reshape(-1, *rows.shape[2:])


def check_fold(config: Config, fold: InputFold | None) -> None:
    """Reject a fold that has another number of elements than x."""
    wanted = config.network.input_size
    found = wanted if fold is None else len(fold.exponents)
    require(found == wanted, "input_fold", f"of {wanted} elements, as x", found)


@dataclass(frozen=True)
class StackWeights:
    """The integer weights of a network of several layers or of both directions.

    Attributes
    ----------
    config : Config
        Configuration of the whole network.
    layers : tuple of LayerWeights
        Weights of ``config.layer(0)``, ``config.layer(1)``, …; with two directions, each layer has two entries, forward
        then reverse.
    output : OutputLayer or None
        The output layer on chip behind the last layer; ``None`` when ``architecture.output_layer`` is 0.
    input_fold : InputFold or None
        What whoever feeds the accelerator does to x before it is rounded; ``None`` is nothing.

    Raises
    ------
    InvalidValueError
        The number of layers is wrong, or a layer belongs to another network.
    """

    config: Config
    layers: tuple[LayerWeights, ...]
    output: OutputLayer | None = None
    input_fold: InputFold | None = None

    def __post_init__(self):
        directions = self.config.directions
        count = directions * self.config.network.num_layers
        require(len(self.layers) == count, "weights.layers", f"{count}", len(self.layers))
        check_fold(self.config, self.input_fold)
        for number, layer in enumerate(self.layers):
            wanted = self.config.layer(number // directions).model_fingerprint
            found = layer.config.model_fingerprint
            require(wanted == found, f"weights.layers[{number}]", f"of configuration {wanted}", found)


# The weights of any network; a network of one layer and one direction is that layer.
NetworkWeights = LayerWeights | StackWeights


def join_layers(config: Config, layers: Sequence[LayerWeights]) -> NetworkWeights:
    """Combine the weights of layers, in the order of :func:`layer_configs`, into the weights of a network."""
    return layers[0] if len(layer_configs(config)) == 1 else StackWeights(config, tuple(layers))


def layer_configs(config: Config) -> list[Config]:
    """Configurations of the layers in the order of ``StackWeights.layers``: one entry per layer and direction."""
    layers = [config.layer(number) for number in range(config.network.num_layers)]
    return [layer for layer in layers for _ in range(config.directions)]


def absent_columns(config: Config) -> list[slice]:
    """Block columns that a gate does not read, for every gate."""
    whole, first = config.num_col_blocks, config.num_input_blocks
    return [slice(0 if not g.reads_x else first if not g.reads_h else whole, first if not g.reads_x else whole)
            for g in config.cell.gates]  # fmt: skip


def drop_absent(config: Config, defining: np.ndarray) -> np.ndarray:
    """Copy the defining vectors, with zeros in the columns that a gate does not read."""
    defining = defining.copy()
    for gate, absent in enumerate(absent_columns(config)):
        defining[gate][:, absent] = 0
    return defining


def shape_of_scales(config: Config) -> tuple[int, int]:
    """Shape (G, ⌈H/k⌉) of the scales of block rows."""
    return config.num_gates, config.num_hidden_blocks


def unit_scales(config: Config) -> np.ndarray | None:
    """Scales of 1 for every block row, which change no result; ``None`` for a network without scales of rows."""
    return np.full(shape_of_scales(config), 1 << config.scale_frac, dtype=np.int64) if config.has_row_scales else None


def to_levels(config: Config, weights: np.ndarray) -> np.ndarray:
    """Integers in the range of a weight as weights that exist: with half levels the next odd one after an even one."""
    return weights | 1 if config.has_half_levels else weights


def random_weights(config: Config, rng: np.random.Generator) -> NetworkWeights:
    """Draw weights for tests and timing that keep the pre-activations in the range where σ and tanh vary."""
    weights = join_layers(config, [_random_layer(layer, rng) for layer in layer_configs(config)])
    return replace(weights, output=random_output_layer(config, rng)) if config.architecture.output_layer else weights


def _random_layer(config: Config, rng: np.random.Generator) -> LayerWeights:
    k, gates = config.block_size, config.num_gates
    terms = config.network.input_size + config.output_size
    shape = (gates, config.num_hidden_blocks, config.num_col_blocks, k)
    # Aim at pre-activations of standard deviation 2 for inputs spread evenly over their range.
    spread = 2.0 * 2.0 ** np.array(config.accumulator_fracs) / (2.0 ** (config.element_bits - 1) * np.sqrt(terms / 3))
    # The products of the coarser one of W_x and W_h are shifted left.
    shift = np.repeat(config.sum_shifts, [config.num_input_blocks, config.num_col_blocks - config.num_input_blocks])
    defining = np.rint(rng.normal(size=shape) * spread[:, None, None, None] * 2.0 ** -shift[:, None])
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
        # The projected h keeps the magnitude of the output of the cell.
        spread = 2.0**config.projection_frac / np.sqrt(config.network.units / 3)
        projection = np.rint(rng.normal(size=(config.num_output_blocks, config.num_hidden_blocks, k)) * spread)
        projection = to_levels(config, np.clip(projection, config.weight_min, config.weight_max).astype(np.int64))
    scale = None
    if config.has_row_scales:
        scale = rng.integers(1 << config.scale_frac >> 1, config.scale_min_max[1] + 1, size=shape_of_scales(config))
    return LayerWeights(
        config,
        drop_absent(
            config,
            to_levels(config, np.clip(defining, config.weight_min, config.weight_max).astype(np.int64)),
        ),
        np.clip(bias, low, high).astype(np.int64),
        peephole,
        projection,
        scale=scale,
    )


def random_inputs(config: Config, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw integer inputs (*shape, X), uniform over the format of x."""
    fmt = config.quantization.x
    return rng.integers(fmt.min, fmt.max + 1, size=(*shape, config.network.input_size), dtype=np.int64)
