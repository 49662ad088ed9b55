"""The decision whether inputs get a scale per element: by the error of h with and without it."""

from collections.abc import Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.base_config import base_config
from chessrnn.model.conversion.first_state import begins_elsewhere, first_states
from chessrnn.model.conversion.fold_choice import choose_fold, fold_layer
from chessrnn.model.conversion.formats import choose_config
from chessrnn.model.conversion.integer_rounding import integer_outputs, round_layers
from chessrnn.model.conversion.sum_errors import SumErrors, whole_sequences
from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.imported.float_evaluation import relative_error, run_layers
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.imported.summary import input_sizes
from chessrnn.model.input_fold import InputFold

Layers = Sequence[RecurrentLayer]
FOLDS = ("auto", "on", "off")
# With "auto", inputs get a scale per element where that leaves less than this share of the error of h.
FOLD_GAIN = 0.5
# Steps times sequences that this is decided on.
FOLD_STEPS = 1024


def _dense_error(
    layers: Layers, weight_bits: int | Sequence[int], x: np.ndarray, settings: dict, element_bits: int
) -> float:
    """Compute the error of the last layer's h of the dense network in integers, without a projection."""
    kept = {path: value for path, value in settings.items() if path.startswith("quantization.")}
    config = choose_config(base_config(layers, 1, weight_bits, "fold", kept, None, element_bits), layers, x, kept)
    weights, _, _ = round_layers(layers, config, input_sizes(layers))
    found = integer_outputs(weights, x, first_states(config, layers, x.shape[1]))[-1]
    return relative_error(found, run_layers(layers, x)[-1])


def input_fold(
    layers: Layers,
    weight_bits: int | Sequence[int],
    x: np.ndarray | None,
    settings: dict,
    mode: str,
    element_bits: int = 8,
) -> InputFold | None:
    """Choose the scale per input element, or ``None``; with ``auto`` both are tried, and the error of h decides."""
    require(mode in FOLDS, "--fold", f"one of {', '.join(FOLDS)}", mode)
    if mode == "on" and x is None:
        raise InvalidValueError("--calibrate must be given with --fold on, not left out")
    # Who sets these formats has scaled the inputs to them.
    chosen_by_user = {"quantization.x", "quantization.weight_frac"} & settings.keys()
    if mode == "off" or x is None or (mode == "auto" and chosen_by_user):
        return None
    config = base_config(layers, 1, weight_bits, "fold", _x_format(settings), None, element_bits)
    fold = choose_fold(config.quantization.x, x)
    if fold is None:
        return None
    if mode == "on":
        return _finer_fold(fold, layers, x, settings, config)
    batch = x.shape[1] if begins_elsewhere(layers) else min(x.shape[1], 16)
    excerpt = x[: max(1, FOLD_STEPS // batch), :batch]
    scaled = [fold_layer(layers[0], fold), *layers[1:]]
    plain, better = (
        _dense_error(layers, weight_bits, excerpt, settings, element_bits),
        _dense_error(scaled, weight_bits, fold.apply(excerpt), settings, element_bits),
    )
    return fold if better < FOLD_GAIN * plain else None


def _finer_fold(fold: InputFold, layers: Layers, x: np.ndarray, settings: dict, config: Config) -> InputFold:
    """Choose powers of two by the expected error of the sums, which counts weights too, where that lessens it."""
    batch = x.shape[1] if begins_elsewhere(layers) else 0
    excerpt = whole_sequences(fold.apply(x), layers, batch)
    choice = SumErrors([fold_layer(layers[0], fold), *layers[1:]], excerpt, config)
    better = choice.best(settings, is_folded=True)
    if better.error >= choice.best(settings).error:
        return fold
    return InputFold(tuple(sum(pair) for pair in zip(fold.exponents, better.exponents, strict=True)), fold.offsets)


def _x_format(settings: dict) -> dict:
    """Return the user's setting of the format of x alone."""
    return {path: value for path, value in settings.items() if path == "quantization.x"}
