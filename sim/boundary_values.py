"""Weights, inputs and states at the boundaries of a design, where a wrong width, comparison or rounding shows.

There are four kinds of boundary, each with a function that draws a :class:`Drawn`:

- :func:`at_extremes`: every weight, bias and input at either end of its format,
- :func:`at_bounds`: sums at the bound that the formats prove for the accumulator, positive and negative,
- :func:`at_form_bounds`: engine ``fast`` only, the sum of one form of the transform at its bound,
- :func:`at_breakpoints`: pre-activations and cell states at the breakpoints of activations or one LSB beside them, and
  sums at the edges of the rounding to these codes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from chessrnn.model.activation_tables import ActivationTable
from chessrnn.model.bilinear import forward_matrix
from chessrnn.model.config import Config
from chessrnn.model.fixed_point import requantize
from chessrnn.model.output_layer import OutputLayer, columns_shape, expand_columns
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.reference.activation import lookup
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import (
    LayerWeights,
    NetworkWeights,
    StackWeights,
    drop_absent,
    join_layers,
    layer_configs,
    random_inputs,
    random_weights,
    shape_of_scales,
    to_levels,
)

# Number of pairs of gates that are tried for each breakpoint of the cell state.
PAIRS_PER_BREAKPOINT = 4


class Drawn(NamedTuple):
    """Weights of a network and the sequences and states that bring it to a boundary.

    Attributes
    ----------
    weights : LayerWeights or StackWeights
    sequences : tuple of int arrays (T, X)
    initial : tuple of (list of State, or None)
        State that each sequence starts from; empty for a network without state ports.
    """

    weights: NetworkWeights
    sequences: tuple[np.ndarray, ...]
    initial: tuple = ()


# -- ends of the formats ---------------------------------------------------------------------------------------


def at_extremes(config: Config, rng: np.random.Generator, lengths: Sequence[int]) -> Drawn:
    """Draw every weight, bias, input and state at one of the two ends of its format, each on its own."""
    size, fmt = config.network.input_size, config.quantization.x
    sequences = tuple(rng.choice([fmt.min, fmt.max], size=(length, size)) for length in lengths)
    return Drawn(extreme_weights(config, rng), sequences, _initial(config, rng, len(lengths)))


def extreme_weights(config: Config, rng: np.random.Generator) -> NetworkWeights:
    """Draw every weight and bias at one of the two ends of its format, so that sums come near their bounds."""

    def ends(low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        return rng.choice([low, high], size=shape)

    def of_layer(layer: Config) -> LayerWeights:
        gates = range(layer.num_gates)
        blocks, shape = layer.num_hidden_blocks, (layer.num_hidden_blocks, layer.num_col_blocks, layer.block_size)
        defining = np.stack([ends(layer.weight_min, layer.weight_max, shape) for _ in gates])
        bias = ends(*layer.bias_format_min_max, (len(gates), blocks * layer.block_size))
        return _layer(layer, defining, bias, ends)

    return _network(config, of_layer, ends)


def _network(
    config: Config,
    of_layer: Callable[[Config], LayerWeights],
    ends: Callable[[int, int, tuple[int, ...]], np.ndarray],
) -> NetworkWeights:
    """Weights of all layers; ``ends`` draws those of the output layer from their least and greatest value."""
    weights = join_layers(config, [of_layer(layer) for layer in layer_configs(config)])
    outputs = config.architecture.output_layer
    if not outputs:
        return weights
    ranges = [(-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (WEIGHT_BITS, BIAS_BITS)]
    weight = expand_columns(config, ends(*ranges[0], columns_shape(config)))
    return replace(weights, output=OutputLayer(weight, ends(*ranges[1], (outputs,)), 0))


def _layer(config: Config, defining: np.ndarray, bias: np.ndarray, ends: Callable) -> LayerWeights:
    """A layer with these weights and biases; ``ends`` draws its peephole and projection weights."""
    blocks, k = config.num_hidden_blocks, config.block_size
    peephole = projection = None
    if config.cell.peepholes:
        fmt = config.quantization.peephole
        peephole = ends(fmt.min, fmt.max, (len(config.cell.peepholes), blocks * k))
    if config.network.projection_size:
        projection = ends(config.weight_min, config.weight_max, (config.num_output_blocks, blocks, k))
    scale = ends(*config.scale_min_max, shape_of_scales(config)) if config.has_row_scales else None
    return LayerWeights(config, drop_absent(config, defining), bias, peephole, projection, scale=scale)


def _initial(config: Config, rng: np.random.Generator, count: int) -> tuple:
    """States at the ends of their formats, one for each of ``count`` sequences: h of a layer is all at one end."""
    if not config.architecture.state_ports:
        return ()
    h, cell = config.quantization.h, config.quantization.cell
    sizes = list(zip(config.layer_output_sizes, config.network.hidden_sizes, strict=True))

    def of_layer(size_h: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full(size_h, rng.choice([h.min, h.max])), rng.choice([cell.min, cell.max], size=size)

    return tuple([of_layer(*of_h) for of_h in sizes] for _ in range(count))


# -- bounds of sums --------------------------------------------------------------------------------------------


def at_bounds(config: Config, rng: np.random.Generator, lengths: Sequence[int]) -> Drawn:
    """Draw weights that are equal all over a gate and inputs that are equal all over a step, with biases to match.

    In the first layer every sum of the first step is then at the greatest or the least value of W_x·x + bias, and with
    state ports of W_x·x + W_h·h + bias.  The sums behind follow from there.
    """
    q = config.quantization
    # The products of the two least values are the greatest of all, so the least value is drawn more often.
    x_value, h_value = (int(rng.choice([fmt.min, fmt.max], p=(0.7, 0.3))) for fmt in (q.x, q.h))

    def of_layer(layer: Config) -> LayerWeights:
        gates, blocks, k = layer.num_gates, layer.num_hidden_blocks, layer.block_size
        upwards = rng.random(gates) < 0.5
        defining = np.empty((gates, blocks, layer.num_col_blocks, k), dtype=np.int64)
        low, high = layer.bias_format_min_max
        of_x = [_factor(layer, x_value, up) for up in upwards]
        of_h = [_factor(layer, h_value, up) for up in upwards]
        defining[:, :, : layer.num_input_blocks] = np.array(of_x)[:, None, None, None]
        defining[:, :, layer.num_input_blocks :] = np.array(of_h)[:, None, None, None]
        bias = np.repeat(np.where(upwards, high, low)[:, None], blocks * k, axis=1)
        return _layer(layer, defining, bias, _constant(rng))

    size = config.network.input_size
    sequences = tuple(np.full((length, size), x_value) for length in lengths)
    for sequence in sequences:
        # Behind the first step the inputs change from one end to the other, as a whole.
        turned = np.flatnonzero(rng.random(len(sequence)) < 0.3)
        sequence[turned[turned > 0]] = q.x.max if x_value == q.x.min else q.x.min
    initial = _initial(config, rng, len(lengths))
    for state in initial[:1]:
        for h, _ in state:
            h[:] = h_value
    return Drawn(_network(config, of_layer, _constant(rng)), sequences, initial)


def _factor(config: Config, value: int, upwards: bool) -> int:
    """The weight whose product with ``value`` is the greatest, or else the least."""
    return config.weight_min if (value < 0) == upwards else config.weight_max


def _constant(rng: np.random.Generator) -> Callable[[int, int, tuple[int, ...]], np.ndarray]:
    """A function that draws an array of equal values, all at the least or all at the greatest."""
    return lambda low, high, shape: np.full(shape, rng.choice([low, high]))


def at_form_bounds(config: Config, rng: np.random.Generator, lengths: Sequence[int]) -> Drawn:
    """Draw blocks of weights and inputs that bring one form of the transform to an end of its range.

    The blocks have the signs of a row of the forward matrix M.  Where the sizes are multiples of the block size, the
    sum of the products of this form over the columns of x is at its bound in every step, positive in some gates and
    negative in others.
    """
    fmt, k = config.quantization.x, config.block_size
    signs = forward_matrix(k)[rng.integers(len(forward_matrix(k)))]

    def of_layer(layer: Config) -> LayerWeights:
        blocks, low, high = layer.num_hidden_blocks, layer.weight_min, layer.weight_max
        patterns = [_signed_ends(signs if rng.random() < 0.5 else -signs, low, high) for _ in layer.gates]
        shape = (layer.num_gates, blocks, layer.num_col_blocks, k)
        defining = to_levels(layer, np.broadcast_to(np.array(patterns)[:, None, None], shape))
        bias = rng.choice(layer.bias_format_min_max, size=(layer.num_gates, blocks * k))
        return _layer(layer, defining, bias, _constant(rng))

    size = config.network.input_size
    step = np.resize(_signed_ends(signs, fmt.min, fmt.max), size)
    sequences = tuple(np.tile(step, (length, 1)) for length in lengths)
    return Drawn(_network(config, of_layer, _constant(rng)), sequences, _initial(config, rng, len(lengths)))


def _signed_ends(signs: np.ndarray, low: int, high: int) -> np.ndarray:
    """The values from ``low`` to ``high`` whose sum with these signs is the least; elements without a sign are 0."""
    return np.where(signs > 0, low, np.where(signs < 0, high, 0))


# -- breakpoints -----------------------------------------------------------------------------------------------


def breakpoint_codes(table: ActivationTable) -> np.ndarray:
    """Codes at which the line of an activation changes, and those one LSB beside them, of either sign."""
    edges = np.array([*table.starts, table.limit])
    magnitudes = np.concatenate([edges - 1, edges, edges + 1])
    fmt = table.in_format
    codes = np.concatenate([magnitudes, -magnitudes])
    return np.unique(codes[(codes >= fmt.min) & (codes <= fmt.max)])


def at_breakpoints(config: Config, rng: np.random.Generator, lengths: Sequence[int]) -> Drawn:
    """Draw a network whose pre-activations are at breakpoints in one step of the first sequence, in every layer.

    The step is the first one that a layer computes, from a state of zero: the last of the sequence in a reverse
    direction.  Weights and inputs are random, and the bias of every unit is what is missing to the chosen sum, which is
    rounded to a breakpoint or is just beside that.  A bias that its format does not hold stays random.  In a third of
    the units of an LSTM it is the new cell state that is at a breakpoint.  The gate O of an LSTM with peepholes, which
    reads the new cell state, is not brought to a breakpoint.
    """
    weights = random_weights(config, rng)
    sequences = tuple(random_inputs(config, rng, length) for length in lengths)
    longest = config.sequence_steps if config.network.bidirectional else max(lengths)
    x, directions = sequences[0][:longest], config.directions
    for number in range(config.network.num_layers):
        layers = list(weights.layers)
        for direction in range(directions):
            place = number * directions + direction
            layers[place] = _steered(layers[place], x[-direction], rng)
        weights = (
            replace(weights, layers=tuple(layers))
            if isinstance(weights, StackWeights)
            else (replace(layers[0], output=weights.output))
        )
        outputs, _ = NetworkReference(weights).run_layers(sequences[0][:longest, None])
        x = _whole_blocks(config, outputs[number][:, 0])
    initial = _initial(config, rng, len(lengths))
    return Drawn(weights, sequences, (None, *initial[1:]) if initial else ())


def _whole_blocks(config: Config, h: np.ndarray) -> np.ndarray:
    """The h (T, N) of a layer as the layer above reads it: with two directions each is padded to whole blocks."""
    if not config.network.bidirectional:
        return h
    padding = config.num_output_blocks * config.block_size - config.output_size
    parts = np.split(h, 2, axis=1)
    return np.concatenate([np.pad(part, ((0, 0), (0, padding))) for part in parts], axis=1)


def _steered(weights: LayerWeights, x: np.ndarray, rng: np.random.Generator) -> LayerWeights:
    """The layer with biases that bring the sums for ``x`` and a state of zero to chosen codes."""
    config, size = weights.config, weights.config.network.units
    targets = _targets(config, size, rng)
    bias = weights.bias.copy()
    from_x = (weights.dense()[:, : len(x)] @ x).reshape(config.num_gates, -1) << config.sum_shifts[0]
    low, high = config.bias_format_min_max
    scales = np.ones((config.num_gates, size), dtype=np.int64)
    if weights.scale is not None:
        scales = weights.scale.repeat(config.block_size, axis=1)[:, :size]
    for gate, preact_shift in enumerate(config.preact_shifts):
        shift = preact_shift + config.scale_frac
        if gate == 3 and gate in config.cell.peepholes:
            continue
        scaled = (targets[gate] << shift) + rng.choice(rounding_edges(shift), size=size)
        wanted = scaled // scales[gate] - from_x[gate, :size]
        bias[gate, :size] = np.where((low <= wanted) & (wanted <= high), wanted, bias[gate, :size])
    return replace(weights, bias=bias)


def rounding_edges(shift: int) -> list[int]:
    """Distances of a sum from ``code`` · 2^shift: equal, the least and the greatest that round to it, and one beside.

    The equal one is listed twice, as it is the only one that stays at the code for every shift.
    """
    half = (1 << shift) >> 1
    return [0, 0, -half, max(half - 1, 0), -half - 1, max(half, 1)]


def _targets(config: Config, size: int, rng: np.random.Generator) -> np.ndarray:
    """Codes that the sums of every gate shall be rounded to: int64 array (G, size)."""
    tables = [config.gate_table(number) if gate.function else None for number, gate in enumerate(config.cell.gates)]
    if config.cell.sum_format == "h":
        h = config.quantization.h
        return rng.choice([-1, 0, 1, h.max - 1, h.max, h.min], size=(config.num_gates, size))
    targets = np.stack([_codes(table or config.candidate_table, size, rng) for table in tables])
    if config.network.cell == "gru":
        # nx + r·nh is at a breakpoint where nh is zero and nx is at one.
        targets[3, rng.random(size) < 0.5] = 0
    if dict(config.cell.functions).get("tanh") == "cell":
        pairs = _cell_breakpoints(config, rng)
        chosen = np.flatnonzero(rng.random(size) < 1 / 3) if len(pairs) else []
        drawn = rng.integers(max(1, len(pairs)), size=len(chosen))
        for unit, (i, g) in zip(chosen, pairs[drawn], strict=True):
            targets[0, unit], targets[2, unit] = i, g
    return targets


def _codes(table: ActivationTable, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw breakpoints of a table, and in a tenth of the elements the ends of its format."""
    fmt = table.in_format
    ends = rng.choice([fmt.min, fmt.max], size=size)
    return np.where(rng.random(size) < 0.1, ends, rng.choice(breakpoint_codes(table), size=size))


def _cell_breakpoints(config: Config, rng: np.random.Generator) -> np.ndarray:
    """Pairs of pre-activations (I, G), shape (N, 2), that bring a cell state of zero to breakpoints of its tanh."""
    gate, cell = config.quantization.gate, config.quantization.cell
    codes_i, values_i = (part[1:] for part in _distinct(config.gate_table(0)))  # without the least, which may be zero
    codes_g, values_g = _distinct(config.gate_table(2))
    found = [np.empty((0, 2), dtype=np.int64)]
    for target in breakpoint_codes(config.cell_table):
        # For every i the g whose product is nearest above the target, or the greatest.
        exact = target * 2.0 ** (2 * gate.fraction_bits - cell.fraction_bits) / values_i
        g = np.clip(np.searchsorted(values_g, exact), 0, len(values_g) - 1)
        hits = np.flatnonzero(requantize(values_i * values_g[g], 2 * gate.fraction_bits, cell) == target)
        hits = rng.permutation(hits)[:PAIRS_PER_BREAKPOINT]
        found.append(np.stack([codes_i[hits], codes_g[g[hits]]], axis=1))
    return np.concatenate(found)


def _distinct(table: ActivationTable) -> tuple[np.ndarray, np.ndarray]:
    """The distinct results of a table in ascending order, each behind the first code that gives it."""
    values, first = np.unique(lookup(table), return_index=True)
    return first + table.in_format.min, values
