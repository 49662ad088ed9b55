"""Real numbers through the bit-accurate reference: x in, h out, and what the output layer makes of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidTypeError, require, shown
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.input_fold import folded
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import NetworkWeights

# Largest magnitude of an input: no format of x holds more than a fraction of it.
MAX_MAGNITUDE = 1e6
# Integers (h, c) of every layer, (B, P or H) and (B, H).
Codes = list[tuple[np.ndarray, np.ndarray]]


class Prediction(NamedTuple):
    """What the accelerator computes from some sequences.

    Attributes
    ----------
    codes : int64 array (T, B, H)
        h of the last layer as codes of the format of h; (T, B, 2·H) of both directions.
    state : list of (h, c)
        Final state of every layer in codes; of each direction, forward first, in a bidirectional network.
    """

    codes: np.ndarray
    state: Codes


def checked_reals(values: Any, name: str) -> np.ndarray:
    """Convert values to an array in float64, which must be real, finite, and not so large that sums overflow.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        They are not; the message calls the values ``name``.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InvalidTypeError(f"{name} must be an array of real numbers, not {shown(type(values).__name__)}")
    array = array.astype(np.float64)
    require(array.size > 0, name, "of at least one number", array.shape)
    require(bool(np.isfinite(array).all()), name, "made of finite numbers", "one that is not")
    largest = float(np.abs(array).max())
    require(largest <= MAX_MAGNITUDE, name, f"made of numbers of at most {MAX_MAGNITUDE:g}", f"{largest:g}")
    return array


def input_codes(weights: NetworkWeights, x: np.ndarray) -> np.ndarray:
    """Scale x (T, B, X) where the weights ask for it, and round it to the format of x.

    Raises
    ------
    InvalidValueError
        x has another shape, or holds a number that is not finite.
    """
    config, x = weights.config, checked_reals(x, "x")
    rule = f"of shape (steps, batch, {config.network.input_size})"
    require(x.ndim == 3 and x.shape[2] == config.network.input_size, "x", rule, x.shape)
    return quantize(folded(weights.input_fold, x), config.quantization.x)


def predict_codes(weights: NetworkWeights, x: np.ndarray, state: Codes | None = None) -> Prediction:
    """Run real inputs (T, B, X) through the reference, from a state in codes or from zero."""
    return Prediction(*NetworkReference(weights).run(input_codes(weights, x), state))


def state_codes(config: Config, h: np.ndarray, c: np.ndarray | None, batch: int) -> Codes:
    """Round a first state to codes.

    Parameters
    ----------
    h : float array (L, B, P or H)
        Hidden state of every layer.
    c : float array (L, B, H) or None
        State that a cell keeps besides h; where left out, h, which a GRU without its finer state begins from.
    batch : int
        B, the number of sequences.

    Raises
    ------
    InvalidValueError
        A shape does not fit, or the network is bidirectional, whose reverse direction begins at the end.
    """
    network, points = config.network, config.quantization
    require(not network.bidirectional, "state", "left out for a bidirectional network", "a state")
    rule = "left out for a network whose layers have different sizes"
    require(isinstance(network.hidden_size, int), "state", rule, "a state")
    needs_c = network.cell.startswith("lstm")
    require(c is not None or not needs_c, "state c", "given for an LSTM", None)
    arrays = {"h": (h, config.output_size, points.h), "c": (h if c is None else c, network.units, points.cell)}
    if not config.cell.has_state:
        # Such a cell keeps h alone.
        arrays["c"] = (h, config.output_size, points.h)
    codes = {}
    for name, (values, size, fmt) in arrays.items():
        shape = (network.num_layers, batch, size)
        require(np.shape(values) == shape, f"state {name}", f"of shape {shape}", np.shape(values))
        require(bool(np.isfinite(values).all()), f"state {name}", "made of finite numbers", "one that is not")
        codes[name] = quantize(values, fmt)
    return list(zip(codes["h"], codes["c"], strict=True))


def state_values(config: Config, state: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Convert a state in codes to real numbers: h (L, B, P or H) and c (L, B, H); of both directions (2·L, …).

    Raises
    ------
    InvalidValueError
        The layers have different sizes, so that their states do not form one array.
    """
    rule = "left out for a network whose layers have different sizes"
    require(isinstance(config.network.hidden_size, int) or len(state) == 1, "final state", rule, "an array")
    points = config.quantization
    kept = points.cell if config.cell.has_state else points.h
    return {
        "h": np.stack([dequantize(h, points.h) for h, _ in state]),
        "c": np.stack([dequantize(c, kept) for _, c in state]),
    }


def output_values(config: Config, layer: OutputLayer, codes: np.ndarray) -> np.ndarray:
    """Compute what an output layer makes of codes of h (..., H): exact values (..., V) in float64."""
    logits = np.asarray(codes, dtype=np.int64) @ layer.weight.T + layer.bias
    return logits * 2.0 ** -(layer.weight_frac + config.quantization.h.fraction_bits)
