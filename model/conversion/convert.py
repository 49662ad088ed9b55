"""Conversion of float layers to the accelerator's integers, with the error that each step causes.

The steps are the least-squares projection onto block-circulant matrices, the choice of formats (powers of two), and
rounding.  Formats are chosen by the squared error of the values that they hold, and with calibration data jointly by
the error of h.  Retraining between the steps (``chessrnn.model.training.retraining``) recovers much of the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.adapted_network import adapted_network
from chessrnn.model.conversion.base_config import base_config
from chessrnn.model.conversion.conversion_report import error_report, format_report
from chessrnn.model.conversion.conversion_warnings import (
    ERROR_BOUND,
    calibration_warnings,
    error_warnings,
    scale_warnings,
    zero_warnings,
)
from chessrnn.model.conversion.first_state import first_states, num_first_states
from chessrnn.model.conversion.fitted_projection import better_projection
from chessrnn.model.conversion.fold_choice import fold_layer
from chessrnn.model.conversion.fold_decision import input_fold
from chessrnn.model.conversion.formats import choose_config
from chessrnn.model.conversion.hardware_rows import (
    directions,
    project_layer,
)
from chessrnn.model.conversion.integer_rounding import integer_outputs, restored_layer, round_layers
from chessrnn.model.conversion.joint_formats import JointFormats
from chessrnn.model.conversion.output_rounding import round_output
from chessrnn.model.conversion.row_scales import Scales
from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.imported.float_evaluation import relative_error, run_layers
from chessrnn.model.imported.recurrent_network import LinearLayer, RecurrentLayer
from chessrnn.model.imported.summary import differences, direction_limits, input_sizes, layer_limits
from chessrnn.model.input_fold import InputFold
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.prediction import output_values
from chessrnn.model.weights import LayerWeights, NetworkWeights

Layers = Sequence[RecurrentLayer]
EFFORTS = ("full", "quick")
# Largest weight: more than any that was trained, and far less than formats and exact sums can follow.
MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes
    ----------
    weights : LayerWeights or StackWeights
        Integer weights, with the configuration that was chosen.
    report : dict
        Errors of every step as plain JSON values; see :mod:`chessrnn.model.conversion.conversion_report`.
    inputs : float64 array (T, B, X)
        Inputs that the errors were measured on, as the accelerator reads them: scaled where ``weights.input_fold`` is.
    state : list of (h, c) or None
        First state of every layer, integers (B, P or H) and (B, H); ``None`` is zero.
    output_layer : OutputLayer or None
        The linear layer behind the last layer in integers, whether the accelerator or the host applies it.
    """

    weights: NetworkWeights
    report: dict
    inputs: np.ndarray
    state: list[tuple[np.ndarray, np.ndarray]] | None = None
    output_layer: OutputLayer | None = None

    @property
    def config(self) -> Config:
        """Configuration of the layers."""
        return self.weights.config


def noise(config: Config, rng: np.random.Generator, steps: int, batch: int) -> np.ndarray:
    """Draw inputs (T, B, X) evenly from the format of x, for want of real data."""
    fmt = config.quantization.x
    codes = rng.integers(fmt.min, fmt.max + 1, size=(steps, batch, config.network.input_size))
    return dequantize(codes, fmt)


class Retraining(Protocol):
    """Retraining as a conversion calls it; ``training.retraining.LayerwiseRetraining`` implements it."""

    @property
    def held_out(self) -> np.ndarray:
        """Validation inputs (T, B, X), on which the report of the conversion is measured."""
        ...

    def folded(self, fold: InputFold) -> "Retraining":
        """Return the retraining on inputs that the fold scales."""
        ...

    def circulant(self, layers: Layers, projected: Layers, config: Config) -> list[RecurrentLayer]:
        """Retrain the projected float layers before formats are chosen."""
        ...

    def for_integers(self, layers: Layers, circulant: Layers, config: Config) -> tuple[list[RecurrentLayer], Scales]:
        """Retrain the circulant layers for rounding to the formats of ``config``, and to scales of their block rows."""
        ...


def _check_layers(layers: Layers, calibration: np.ndarray | None) -> None:
    """Refuse layers that the accelerator does not run or not together, and inputs of another shape than theirs."""
    for layer in layers:
        limits = layer_limits(layer)
        if limits:
            what = f"{layer.name} must be a layer that the accelerator runs"
            raise InvalidValueError(f"{what}, not with {', '.join(limits)}")
        for weights in layer.weights:
            largest = max(float(np.abs(matrix).max()) for matrix in (weights.w_x, weights.w_h))
            require(largest <= MAX_WEIGHT, f"weights of {layer.name}", f"at most {MAX_WEIGHT:g} in magnitude", largest)
    differing = differences(layers)
    if differing:
        remedy = "--layer N makes an accelerator of each, whose h feeds the next"
        raise InvalidValueError(
            f"layers must be alike to share one engine, not of different {', '.join(differing)}: {remedy}"
        )
    limits = direction_limits(layers)
    require(not limits, "layers", "ones that the accelerator runs together", ", ".join(limits))
    if calibration is not None:
        fits = calibration.ndim == 3 and calibration.shape[2] == layers[0].input_size and calibration.size > 0
        rule = f"of shape (steps, batch, {layers[0].input_size})"
        require(fits, "calibration data", rule, calibration.shape)


def _restored_layers(
    layers: Layers, parts: list[list[LayerWeights]], sizes: list[tuple[int, ...]]
) -> list[RecurrentLayer]:
    """Create the float layers of exactly the integers' values; ``parts`` are these of every layer by direction."""
    restored = []
    for layer, by_direction, size in zip(layers, parts, sizes, strict=True):
        pairs = zip(directions(layer), by_direction, strict=True)
        weights = [restored_layer(one, part, size).weights[0] for one, part in pairs]
        restored.append(replace(layer, weights=tuple(weights)))
    return restored


def _output_report(
    linear: LinearLayer, integer_layer: OutputLayer, config: Config, h: np.ndarray, integer_h: np.ndarray
) -> dict:
    """Describe the output layer: its size, where it runs, and its error; both h (T, B, P) are real numbers."""
    codes = quantize(integer_h, config.quantization.h)
    return {
        "name": linear.name,
        "outputs": len(linear.weight),
        "on_chip": bool(config.architecture.output_layer),
        "error": relative_error(output_values(config, integer_layer, codes), linear.apply(h)),
    }


def convert(
    layers: Layers,
    block_size: int,
    weight_bits: int | Sequence[int],
    name: str = "imported",
    settings: dict | None = None,
    calibration: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
    retraining: Retraining | None = None,
    fold: str = "auto",
    linear: LinearLayer | None = None,
    element_bits: int = 8,
    effort: str = "full",
) -> Conversion:
    """Project layers, choose formats, round and measure; optionally retrain after the projection and before rounding.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        Forward (:func:`one_direction`) or all bidirectional, each reading the h of the one before.
    block_size : int
        Block size k.
    weight_bits : int or sequence of int
        Width b of a weight, in all layers or in each.
    name : str
        Name of the configuration.
    settings : dict, optional
        Fields of the configuration that the user sets, by their dotted names.
    calibration : array (T, B, X), optional
        Real inputs, which determine the formats of x and of the cell state, and on which errors are measured.  Without
        them errors are measured on noise over the format of x.
    rng : Generator, optional
        Generator of the noise.
    retraining : Retraining, optional
        Retraining of the layers; errors are then measured on the inputs that it holds out.
    fold : str
        Whether every element of the input gets a power of two and an offset of its own, which the weights of the first
        layer contain in inverse (:mod:`chessrnn.model.input_fold`): ``"on"``, ``"off"``, or ``"auto"`` where that
        halves the error of h.
    linear : LinearLayer, optional
        Float layer that reads h of the last layer; ``architecture.output_layer`` in the settings puts it on chip.
    element_bits : int
        Bits of x and h, from 8 to 16.  More of them make every other point but the weights finer, too.
    effort : str
        With calibration data, ``"full"`` fits the circulant blocks to it where that lessens the error of h
        (:mod:`.fitted_projection`), chooses all formats jointly by the error of h, and rounds the weights by the
        error of their sums (unless they are retrained).  ``"quick"`` chooses every format by the range of the numbers
        in it, and rounds every weight to the nearest integer.  Without calibration data both do the latter.

    Returns
    -------
    Conversion
        Integer weights, and the report of :mod:`chessrnn.model.conversion.conversion_report`.

    Raises
    ------
    InvalidValueError
        The accelerator does not run a layer, which is named; layers cannot share one engine; sizes or settings do not
        fit.
    """
    settings = settings or {}
    require(effort in EFFORTS, "--effort", f"one of {', '.join(EFFORTS)}", effort)
    _check_layers(layers, calibration)
    sizes = input_sizes(layers)
    config = base_config(layers, block_size, weight_bits, name, settings, linear, element_bits)
    chosen_fold = input_fold(layers, weight_bits, calibration, settings, fold, element_bits)
    if chosen_fold is not None:
        assert calibration is not None
        layers, calibration = [fold_layer(layers[0], chosen_fold), *layers[1:]], chosen_fold.apply(calibration)
        if retraining is not None:
            retraining = retraining.folded(chosen_fold)
    floats = {"projected": [project_layer(one, block_size, size) for one, size in zip(layers, sizes, strict=True)]}
    is_full = effort == "full" and calibration is not None and bool(calibration.any())
    if is_full:
        assert calibration is not None
        floats["projected"] = better_projection(layers, floats["projected"], calibration, block_size, sizes)
    final, scales = floats["projected"], None
    if retraining is not None:
        final = retraining.circulant(layers, final, config)
        if block_size > 1:
            floats["retrained"] = final
    config = choose_config(config, final, calibration, settings, by_layer=True)
    if is_full:
        assert calibration is not None
        config = JointFormats(final, calibration, settings, retraining is None).choose(config)
    if retraining is not None:
        final, scales = retraining.for_integers(layers, final, config)
    weights, parts, saturated = round_layers(final, config, sizes, scales)
    if is_full and retraining is None:
        assert calibration is not None
        start = first_states(config, layers, calibration.shape[1])
        weights, parts, _ = adapted_network(final, config, sizes, run_layers(final, calibration), start)
    integer_layer = None if linear is None else round_output(linear, config)
    weights = replace(
        weights, input_fold=chosen_fold, output=integer_layer if config.architecture.output_layer else None
    )
    x, measured_on = calibration, "calibration data"
    if retraining is not None:
        x, measured_on = retraining.held_out, "calibration data held out from retraining"
    elif x is None:
        x = noise(config, rng or np.random.default_rng(0), 64, num_first_states(layers) or 8)
        measured_on = "noise over the format of x"
    state = first_states(config, layers, x.shape[1])
    restored = _restored_layers(final, parts, sizes)
    integers = integer_outputs(weights, x, state)
    report = {
        "layer": ", ".join(layer.name for layer in layers),
        "measured_on": measured_on,
        **error_report(layers, floats, final, restored, integers, saturated, x),
        **format_report(config, x),
    }
    if chosen_fold is not None:
        report["input_fold"] = chosen_fold.to_dict()
    if linear is not None and integer_layer is not None:
        report["output_layer"] = _output_report(linear, integer_layer, config, run_layers(layers, x)[-1], integers[-1])
    is_accurate = report["output"]["integers"] <= ERROR_BOUND
    # What was asked for is not proposed again, even where no scale was found to help.
    is_folded = chosen_fold is not None or fold == "on"
    report["warnings"] = [
        *zero_warnings(layers),
        *error_warnings(report, config, retraining is not None, is_folded),
        *([] if calibration is None else calibration_warnings(config, calibration)),
        # A matrix that hardly matters may lose much.
        *([] if is_full and is_accurate else scale_warnings(config, final, calibration, is_folded)),
    ]
    return Conversion(weights, report, x, state, integer_layer)
