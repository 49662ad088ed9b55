"""Choice of formats for imported layers from weights and calibration data; formats that the user set are kept."""

from collections.abc import Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.hardware_rows import GateRows, defining_vectors, directions, hardware_rows
from chessrnn.model.conversion.row_scales import choose_scales, nearest_weights
from chessrnn.model.imported.float_evaluation import run_layer, run_layers
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.imported.summary import input_sizes
from chessrnn.model.qformat import QFormat

MAX_BIAS_BITS = 32
Layers = Sequence[RecurrentLayer]
# Fraction bits that are tried for a weight; of equally good ones the first is taken.
CANDIDATES = range(-2, 13)
# The same for an element of a vector beyond its width, from the finest.
ELEMENT_CANDIDATES = range(4, -17, -1)
PROJECTION_CANDIDATES = range(13)


def squared_error(values: np.ndarray, frac: int, bits: int, is_odd: bool = False) -> float:
    """Sum the squared errors of rounding (HALF_UP) and saturating values to integers of ``bits`` bits.

    With ``is_odd`` the integers are the 2^bits odd ones around 0: see ``quantization.weight_levels``.
    """
    half = 1 << (bits - 1)
    limits = (1 - 2 * half, 2 * half - 1) if is_odd else (-half, half - 1)
    return float(((nearest_weights(values * 2.0**frac, *limits, is_odd) * 2.0**-frac - values) ** 2).sum())


def best_fraction_bits(
    groups: list[tuple[np.ndarray, int]],
    bits: int | Sequence[int],
    candidates: Sequence[int] = CANDIDATES,
    is_odd: bool = False,
) -> int:
    """Find the fraction bits with the least squared error of rounding and saturation, the first among equals.

    Parameters
    ----------
    groups : list of (float64 array, int)
        Real values, and how many fraction bits more than the answer their integers have.
    bits : int or sequence of int
        Width of a code, in all groups or in each.
    is_odd : bool
        Whether the integers are odd: see :func:`squared_error`.
    """
    widths = [bits] * len(groups) if isinstance(bits, int) else bits

    def error(frac: int) -> float:
        each = zip(groups, widths, strict=True)
        return sum(squared_error(values, frac + more, width, is_odd) for (values, more), width in each)

    return min(candidates, key=error)


def weight_candidates(config: Config, layer: int | None = None) -> list[int]:
    """List the values allowed for ``weight_frac``: a sum must have at least the fraction bits of its rounded result.

    Parameters
    ----------
    layer : int, optional
        Layer that they are for; left out, they are allowed in all.
    """
    points = config.quantization
    # Where the products of W_x are the finer ones, the accumulator has their fraction bits.
    shifts = [shift_h for _, shift_h in config.layer_sum_shifts]
    more = min(shifts) if layer is None else shifts[layer]
    least = getattr(points, config.cell.sum_format).fraction_bits - points.h.fraction_bits - more
    # Half levels are as far apart as integers of one fraction bit less.
    candidates = range(CANDIDATES.start, CANDIDATES.stop + config.has_half_levels)
    return [frac for frac in candidates if frac >= least] or [least]


def weight_fraction_bits(
    config: Config, matrices: Sequence[tuple[np.ndarray, np.ndarray]], by_layer: bool = False
) -> list[list[int]]:
    """Choose ``weight_frac`` of every gate by the squared error of its weights: one list for all layers, or for each.

    Parameters
    ----------
    matrices : sequence of (w_x, w_h)
        Defining vectors (G, …) of every layer, or of both directions of every layer.
    by_layer : bool
        Whether every layer has a list of its own.
    """
    more = config.quantization.h.fraction_bits - config.quantization.x.fraction_bits
    # A group per gate with the weights of a layer, or of all, and the fraction bits that their integers have besides.
    groups: list[list[list[tuple[np.ndarray, int]]]]
    groups = [[[] for _ in config.gates] for _ in range(config.network.num_layers if by_layer else 1)]
    widths: list[list[int]] = [[] for _ in groups]
    for number, pair in enumerate(matrices):
        layer = number // config.directions
        # Layers above the first read the h below them as x.
        of_x = (0 if layer else more) + config.layer_input_shifts[layer]
        for matrix, extra in zip(pair, (of_x, 0), strict=True):
            widths[layer if by_layer else 0].append(config.layer_weight_bits[layer])
            for group, values in zip(groups[layer if by_layer else 0], matrix, strict=True):
                group.append((values, extra))
    found = []
    for number, (layer, bits) in enumerate(zip(groups, widths, strict=True)):
        allowed = weight_candidates(config, number if by_layer else None)
        found.append([best_fraction_bits(group, bits, allowed, config.has_half_levels) for group in layer])
    return found


def projection_fraction_bits(config: Config, matrices: Sequence[np.ndarray]) -> list[int]:
    """Choose ``projection_frac`` of every layer by the squared error of the weights.

    Parameters
    ----------
    matrices : sequence of array
        Defining vectors of the projection of every layer, or of both directions of every layer.
    """
    candidates = range(PROJECTION_CANDIDATES.stop + config.has_half_levels)
    groups = [[] for _ in range(config.network.num_layers)]
    for number, matrix in enumerate(matrices):
        groups[number // config.directions].append((matrix, 0))
    widths = zip(groups, config.layer_weight_bits, strict=True)
    return [best_fraction_bits(group, bits, candidates, config.has_half_levels) for group, bits in widths]


def with_fraction_bits(fmt: QFormat, fraction_bits: int) -> QFormat:
    """Create the format of the same width with other fraction bits."""
    return QFormat(fmt.width - fraction_bits, fraction_bits)


def closest_format(fmt: QFormat, values: np.ndarray) -> QFormat:
    """Find the format of the same width with the least squared error over some values."""
    candidates = [fmt.width + more for more in ELEMENT_CANDIDATES]
    return with_fraction_bits(fmt, best_fraction_bits([(values, 0)], fmt.width, candidates))


def covering_format(fmt: QFormat, largest: float) -> QFormat:
    """Find the format of the same width and the fewest integer bits, at least those of ``fmt``, that holds a value."""
    while fmt.fraction_bits > 1 and largest > fmt.max * fmt.lsb:
        fmt = with_fraction_bits(fmt, fmt.fraction_bits - 1)
    return fmt


def _largest_state(layer: RecurrentLayer, x: np.ndarray) -> float:
    """Find the greatest magnitude of the cell state over x (T, B, X)."""
    lengths = np.full(x.shape[1], 1)
    state, largest = None, 0.0
    for step in x:
        _, state = run_layer(layer, step[None], lengths, state)
        largest = max(largest, float(np.abs(state.c).max()))
    return largest


def choose_config(
    config: Config, layers: Layers, x: np.ndarray | None, settings: dict, by_layer: bool = False
) -> Config:
    """Choose formats for the data and the weights, except those that the user set, and return the new configuration.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        Layers, already projected.
    x : array (T, B, X) or None
        Calibration data; without it x and cell keep their default formats.
    settings : dict
        Fields that the user set; they are kept.
    by_layer : bool
        Whether the weights of every layer get fraction bits of their own.
    """
    points = config.quantization
    # Inputs that are all zero say nothing about formats.
    x = None if x is None or not x.any() else x
    if x is not None and "quantization.x" not in settings:
        config = config.replace({"quantization.x": str(closest_format(points.x, x))})
    if x is not None and "quantization.cell" not in settings and layers[0].cell == "lstm":
        inputs = run_layers(layers, x)[:-1]
        largest = max(
            _largest_state(one, values[::-1] if index else values)
            for layer, values in zip(layers, inputs, strict=True)
            for index, one in enumerate(directions(layer))
        )
        config = config.replace({"quantization.cell": str(covering_format(points.cell, largest))})
    unbounded = config.network.projection_size or config.network.cell == "rnn_relu"
    if x is not None and "quantization.h" not in settings and unbounded:
        # The output of a projection or of relu has no bound, unlike the h of other cells.
        largest = max(float(np.abs(values).max()) for values in run_layers(layers, x)[1:])
        config = config.replace({"quantization.h": str(covering_format(config.quantization.h, largest))})
    if config.network.projection_size and "quantization.projection_frac" not in settings:
        matrices = [w.projection for layer in layers for w in layer.weights if w.projection is not None]
        vectors = [defining_vectors(matrix[None], config.block_size) for matrix in matrices]
        config = config.replace({"quantization.projection_frac": projection_fraction_bits(config, vectors)})
    rows = [hardware_rows(one) for layer in layers for one in directions(layer)]
    if config.cell.peepholes and "quantization.peephole" not in settings:
        weights = np.stack([part.peephole for part in rows if part.peephole is not None])
        config = config.replace({"quantization.peephole": str(closest_format(points.peephole, weights))})
    if "quantization.weight_frac" not in settings:
        config = config.replace({"quantization.weight_frac": _weight_fracs(config, layers, rows, by_layer)})
    if "quantization.bias_bits" not in settings:
        scales = [2.0 ** np.array(fracs)[:, None] for fracs in config.layer_accumulator_fracs]
        largest = max(np.abs(part.bias * scales[number // config.directions]).max() for number, part in enumerate(rows))
        needed = int(np.ceil(largest)).bit_length() + 1
        if needed > config.quantization.bias_bits:
            config = config.replace({"quantization.bias_bits": min(needed, MAX_BIAS_BITS)})
    return config


def _weight_fracs(config: Config, layers: Layers, rows: list[GateRows], by_layer: bool) -> list[int] | list[list[int]]:
    """Choose the fraction bits of W_h of every gate, in all layers or in each, by the squared error of the weights."""
    sizes = [size for size in input_sizes(layers) for _ in range(config.directions)]
    k, by_layer = config.block_size, by_layer and len(layers) > 1
    matrices = [
        (defining_vectors(part.w_x, k, split), defining_vectors(part.w_h, k))
        for part, split in zip(rows, sizes, strict=True)
    ]
    if not config.has_row_scales:
        fracs = weight_fraction_bits(config, matrices, by_layer)
        return fracs if by_layer else fracs[0]
    allowed = weight_candidates(config)
    errors = np.zeros((len(layers) if by_layer else 1, config.num_gates, len(allowed)))
    for number, (w_x, w_h) in enumerate(matrices):
        layer = number // config.directions
        for index, frac in enumerate(allowed):
            found = choose_scales(w_x, w_h, config.layer(layer), [frac] * config.num_gates)[1]
            errors[layer if by_layer else 0, :, index] += found
    fracs = [[allowed[index] for index in layer] for layer in errors.argmin(axis=2)]
    return fracs if by_layer else fracs[0]
