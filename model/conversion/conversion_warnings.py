"""Sentences that warn about a conversion: a large error of h with the ways on, and inputs that say too little."""

from collections.abc import Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.formats import best_fraction_bits, squared_error
from chessrnn.model.conversion.hardware_rows import defining_vectors, directions, hardware_rows
from chessrnn.model.conversion.row_scales import nearest_weights
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.imported.summary import input_sizes

# Error of h, as a share of its root mean square, above which a conversion is warned about.
ERROR_BOUND = 0.1
# Rounding a matrix is warned about where it loses this share of it, and so many times what it would lose at a scale of
# its own.
ROUNDING_BOUND = 0.1
SCALE_LOSS = 3.0
# Inputs that reach fewer codes than this, or sequences of fewer steps, are too little to choose formats from.
MIN_CODES = 16
# Inputs beyond this take so many integer bits that W_x at the product scale of W_h has too few codes.
LARGE_INPUT = 16.0
MIN_STEPS = 8
# Width of x and h that is proposed where 8 bits lose too much.
WIDE_ELEMENTS = 12
# The same, where the error is beyond this.
WIDEST_ELEMENTS, LARGE_ERROR = 16, 0.2
Layers = Sequence[RecurrentLayer]


def error_warnings(report: dict, config: Config, retrained: bool, is_folded: bool) -> list[str]:
    """Warn where the error of h of the last layer is above :data:`ERROR_BOUND`, and name the ways on.

    Measured on calibration data, an error above :data:`LARGE_ERROR` of dense matrices asks for the widest x and h, and
    for a scale per element of x, unless it was given or asked for (``is_folded``).
    """
    error = report["output"]["integers"]
    if error <= ERROR_BOUND:
        return []
    ways = []
    if config.block_size > 1:
        ways.append("--k 1 keeps the matrices dense")
    if config.block_size == 1 and min(config.layer_weight_bits) < 8:
        ways.append("--weight-bits 8 rounds less")
    is_large = config.block_size == 1 and error > LARGE_ERROR and report["measured_on"].startswith("calibration")
    wide = WIDEST_ELEMENTS if is_large else WIDE_ELEMENTS
    if config.block_size == 1 and config.element_bits < wide:
        ways.append(f"--element-bits {wide} rounds x and h less")
    if is_large and not is_folded:
        ways.append("--fold on scales every element of x")
    ways.append("more updates of --retrain" if retrained else "--retrain N (with --calibrate) trains the integers")
    what = f"the error of h in the last layer is {100 * error:.1f} %, above {100 * ERROR_BOUND:.0f} %"
    return [f"{what}: {', and '.join(ways)}"]


def zero_warnings(layers: Layers) -> list[str]:
    """Warn about layers whose matrices are all zero: probably the file was saved before it was filled."""
    return [
        f"all weights of {layer.name} are zero, so that h does not depend on the inputs"
        for layer in layers
        if not any(matrix.any() for weights in layer.weights for matrix in (weights.w_x, weights.w_h))
    ]


def calibration_warnings(config: Config, x: np.ndarray) -> list[str]:
    """Warn where inputs (T, B, X) say too little about the formats: zeros, tiny values, or few steps."""
    fmt, found = config.quantization.x, []
    largest = float(np.abs(x).max())
    seen = f"{x.size:,} values from {x.min():.3g} to {x.max():.3g}"
    if not largest:
        found.append(f"the calibration data are zero in all {x.size:,} values: the default formats are kept")
    elif largest < MIN_CODES * fmt.lsb:
        codes = int(largest / fmt.lsb + 0.5)
        what = f"the calibration data, {seen}, reach {codes} of the {fmt.max} codes of x, {fmt}"
        found.append(f"{what}: scale them by a power of two (--fold on does)")
    if len(x) < MIN_STEPS:
        plural = "s" if len(x) > 1 else ""
        found.append(f"the calibration data are {len(x)} step{plural} long ({seen}): states need longer sequences")
    return found


def _loss(values: np.ndarray, frac: int, config: Config) -> float:
    """Compute the share that rounding loses of some weights of a layer with this configuration."""
    total, bits = float((values**2).sum()), config.weight_bits
    return float(np.sqrt(squared_error(values, frac, bits, config.has_half_levels) / total)) if total else 0.0


def scale_warnings(config: Config, layers: Layers, x: np.ndarray | None, is_folded: bool) -> list[str]:
    """Warn about the matrix of a gate that loses most by the scale that it has to share, and name the cause.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        Layers before rounding.
    x : array (T, B, X) or None
        Inputs of the first layer.
    is_folded : bool
        Whether the inputs have a scale of their own per element.
    """
    if config.has_row_scales:
        # Their rows are not rounded at the scale of the gate.
        return []
    worst, text, shift = 0.0, "", 0
    for number, (layer, sizes) in enumerate(zip(layers, input_sizes(layers), strict=True)):
        here = config.layer(number)
        for part in directions(layer):
            rows = hardware_rows(part)
            for name, matrix, fracs, split in (
                ("W_x", rows.w_x, here.input_weight_fracs, sizes),
                ("W_h", rows.w_h, here.weight_fracs, None),
            ):
                vectors = defining_vectors(matrix, config.block_size, split)
                for gate, values, frac in zip(config.gates, vectors, fracs, strict=True):
                    loss = _loss(values, frac, here)
                    best = best_fraction_bits([(values, 0)], here.weight_bits, range(-16, 33), here.has_half_levels)
                    own = _loss(values, best, here)
                    if loss > max(ROUNDING_BOUND, SCALE_LOSS * own, worst):
                        codes = nearest_weights(values * 2.0**frac, -np.inf, np.inf, config.has_half_levels)
                        saturated = int(((codes < here.weight_min) | (codes > here.weight_max)).sum())
                        worst, shift = loss, config.layer_input_shifts[number]
                        text = (
                            f"rounding loses {100 * loss:.0f} % of {name} of gate {gate} in {part.name}, "
                            f"{saturated} saturated; {100 * own:.1f} % at a scale of its own"
                        )
    if not text:
        return []
    largest = 0.0 if x is None else float(np.abs(x).max())
    if largest > LARGE_INPUT and not is_folded and not shift:
        cause = f"W_x and W_h share one product scale, and x reaches {largest:.4g}: --fold on scales x and W_x"
    elif shift:
        cause = "all rows of a gate share one scale (--set quantization.weight_scale=row gives each its own)"
    else:
        cause = "W_x and W_h of a gate share one product scale (input_shift gives W_x more or fewer bits)"
    return [f"{text}: {cause}"]
