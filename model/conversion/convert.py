"""Conversion of float layers to the accelerator's integers, with the error that each step causes.

The steps are the least-squares projection onto block-circulant matrices, the choice of formats by least squared error
(powers of two), and rounding.  Retraining between them (``chessrnn.model.training.retraining``) recovers much of the
loss.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.cells import CELLS
from chessrnn.model.config import Config
from chessrnn.model.config_sections import FAST_BLOCK_SIZES
from chessrnn.model.conversion.adaptive_rounding import adapted_weights
from chessrnn.model.conversion.conversion_report import error_report, format_report
from chessrnn.model.conversion.conversion_warnings import (
    ERROR_BOUND,
    calibration_warnings,
    error_warnings,
    scale_warnings,
)
from chessrnn.model.conversion.first_state import begins_elsewhere, first_states
from chessrnn.model.conversion.fold_choice import choose_fold, fold_layer
from chessrnn.model.conversion.format_search import few_steps, search_formats
from chessrnn.model.conversion.formats import CANDIDATES, choose_config, closest_format
from chessrnn.model.conversion.hardware_rows import (
    Blocks,
    blocks_of_layer,
    directions,
    layer_of_blocks,
    project_layer,
)
from chessrnn.model.conversion.output_rounding import round_output
from chessrnn.model.conversion.row_scales import Scales, choose_scales
from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.imported.float_evaluation import relative_error, run_layers
from chessrnn.model.imported.recurrent_network import LinearLayer, RecurrentLayer
from chessrnn.model.imported.summary import differences, direction_limits, hardware_cell, input_sizes, layer_limits
from chessrnn.model.input_fold import InputFold
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.prediction import output_values
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import LayerWeights, NetworkWeights, join_layers

Layers = Sequence[RecurrentLayer]
FOLDS = ("auto", "on", "off")
EFFORTS = ("full", "quick")
# With "auto", inputs get a scale per element where that leaves less than this share of the error of h.
FOLD_GAIN = 0.5
# Steps times sequences that this is decided on.
FOLD_STEPS = 1024
# Bits of x and h, and the segments of the activations up to a number of these bits.
ELEMENT_BITS = range(8, 17)
ELEMENT_SEGMENTS = {8: 16, 10: 32, 16: 64}
# Times that weights are rounded anew by what the integer network computes.
MAX_ROUNDS = 4
# Networks of so many weights are rounded by their sums in every configuration that is tried, larger ones in few.
SMALL_WEIGHTS, FEW_TRIALS = 20_000, 16
# Steps up to which both ways of rounding are tried in every configuration.
FEW_STEPS = 8


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


def wider_formats(element_bits: int) -> dict[str, dict]:
    """Fields of a configuration whose x and h have so many bits, and whose other points are as much finer."""
    sums, state = min(element_bits + 4, 16), min(element_bits + 8, 24)
    segments = next(number for bits, number in ELEMENT_SEGMENTS.items() if element_bits <= bits)
    return {
        "quantization": {
            **dict.fromkeys(("x", "h"), f"Q1.{element_bits - 1}"),
            **{"preact": f"Q4.{sums - 4}", "gate": f"Q2.{sums - 2}", "cell": f"Q4.{state - 4}"},
        },
        "activation": {"segments": segments},
    }


def base_config(
    layers: Layers,
    block_size: int,
    weight_bits: int,
    name: str,
    settings: dict,
    linear: LinearLayer | None = None,
    element_bits: int = 8,
) -> Config:
    """Create the default configuration for the layers' sizes, with the user's settings.

    Parameters
    ----------
    element_bits : int
        Bits of x and h, from 8 to 16; see :func:`wider_formats`.

    Raises
    ------
    InvalidValueError
        A setting that contradicts the layers, the block size or the width of the weights.
    """
    require(element_bits in ELEMENT_BITS, "--element-bits", "from 8 to 16", element_bits)
    wide = wider_formats(element_bits)
    layer = layers[0]
    sizes = layer.input_size, layer.hidden_size, layer.state_size
    input_blocks, blocks, state_blocks = (circulant.num_blocks(size, block_size) for size in sizes)
    cell = CELLS[hardware_cell(layer)]
    rows = len(cell.stage_gates[0]) * blocks
    both = layer.num_directions == 2
    below_blocks = layer.num_directions * state_blocks
    columns = state_blocks + (min(input_blocks, below_blocks) if len(layers) > 1 else input_blocks)
    if layer.projection_size:
        columns = min(columns, blocks)
    fixed = {
        "network.num_layers": len(layers),
        "network.input_size": layer.input_size,
        "network.hidden_size": layer.hidden_size,
        "network.cell": hardware_cell(layer),
        "network.projection_size": layer.projection_size or 0,
        "network.bidirectional": both,
        "compression.block_size": block_size,
        "quantization.weight_bits": weight_bits,
        "compression.output_block_size": 1,
    }
    if linear is None:
        fixed["architecture.output_layer"] = 0
    else:
        outputs, given = len(linear.weight), settings.get("architecture.output_layer", 0)
        rule = f"0 or {outputs}, the outputs of {linear.name}"
        require(given in (0, outputs), "architecture.output_layer", rule, given)
    if begins_elsewhere(layers):
        # The accelerator receives the first state of the file through its state ports.
        fixed["architecture.state_ports"] = True
    for path, value in fixed.items():
        if path in settings:
            require(settings[path] == value, path, f"{value!r} as in the model and the arguments", settings[path])
    values = {
        "name": name,
        "network": {
            "input_size": layer.input_size,
            "hidden_size": layer.hidden_size,
            "cell": hardware_cell(layer),
            "num_layers": len(layers),
            "projection_size": layer.projection_size or 0,
            "bidirectional": both,
        },
        "compression": {"block_size": block_size},
        "quantization": {"weight_bits": weight_bits, **wide["quantization"]},
        "activation": wide["activation"],
        "architecture": {
            "engine": "fast" if block_size in FAST_BLOCK_SIZES else "direct",
            "tile_rows": min(4, rows),
            "tile_cols": min(4, columns),
            "state_ports": begins_elsewhere(layers),
        },
    }
    if settings.get("quantization.weight_levels") != "half" or "architecture.tile_cols" in settings:
        return Config.from_dict(values).replace(settings)
    # Half levels have no zeros to fill the last columns of a tile with.
    values["architecture"]["tile_cols"] = 1
    config = Config.from_dict(values).replace(settings)
    counts = [part.blocks for part in config.parts]
    tile_cols = max(size for size in range(1, 5) if all(count % size == 0 for count in counts))
    return config.replace({"architecture.tile_cols": tile_cols})


def integer_weights(
    layer: RecurrentLayer, config: Config, sizes: tuple[int, ...] | None = None, scale: np.ndarray | None = None
) -> tuple[LayerWeights, int]:
    """Round the weights (HALF_UP, saturating) of a projected layer of one direction, and count those that saturate.

    Parameters
    ----------
    sizes : tuple of int, optional
        Parts of the layer's input that are padded separately, see :func:`input_sizes`.
    scale : int64 array (G, H/k), optional
        Scales of the block rows that the weights were trained for; left out, they are chosen where the configuration
        has them.
    """
    blocks, points = blocks_of_layer(layer, config.block_size, sizes), config.quantization
    padded = config.num_hidden_blocks * config.block_size
    saturated = 0

    def codes(values: np.ndarray, fracs, least: int, greatest: int) -> np.ndarray:
        nonlocal saturated
        scaled = np.floor(values * 2.0 ** np.array(fracs).reshape(-1, *[1] * (values.ndim - 1)) + 0.5)
        saturated += int(((scaled < least) | (scaled > greatest)).sum())
        return np.clip(scaled, least, greatest).astype(np.int64)

    def per_unit(values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, padded - values.shape[1])))

    def weight_codes(values: np.ndarray, fracs) -> np.ndarray:
        least, greatest = config.weight_min, config.weight_max
        if not config.has_half_levels:
            return codes(values, fracs, least, greatest)
        # The nearest odd integer 2·q + 1: q rounds half of the weight less one.
        one = 2.0 ** -np.array(fracs, dtype=np.float64).reshape(-1, *[1] * (values.ndim - 1))
        return 2 * codes(values - one, np.array(fracs) - 1, least // 2, greatest // 2) + 1

    w_x, w_h, bias = blocks.w_x, blocks.w_h, blocks.bias
    if config.has_row_scales and scale is None:
        scale, _ = choose_scales(w_x, w_h, config, config.weight_fracs)
    if scale is not None:
        of_blocks = scale * 2.0**-config.scale_frac
        w_x, w_h = (part / of_blocks[:, :, None, None] for part in (w_x, w_h))
        bias = bias / of_blocks.repeat(config.block_size, axis=1)[:, : bias.shape[1]]
    defining = weight_codes(w_x, config.input_weight_fracs), weight_codes(w_h, config.weight_fracs)
    bias = codes(bias, config.accumulator_fracs, *config.bias_format_min_max)
    peephole, projection = blocks.peephole, blocks.projection
    if peephole is not None:
        fmt = points.peephole
        peephole = per_unit(codes(peephole, [fmt.fraction_bits] * 3, fmt.min, fmt.max))
    if projection is not None:
        projection = weight_codes(projection, [config.projection_frac])
    arrays = np.concatenate(defining, axis=2), per_unit(bias), peephole, projection
    return LayerWeights(config, *arrays, scale=scale), saturated


def restored_layer(
    layer: RecurrentLayer, weights: LayerWeights, sizes: tuple[int, ...] | None = None
) -> RecurrentLayer:
    """Create the float layer of one direction that has exactly the values of the integers.

    Parameters
    ----------
    sizes : tuple of int, optional
        Parts of the layer's input that are padded separately, see :func:`input_sizes`.
    """
    config, points = weights.config, weights.config.quantization
    size_h, start = config.network.hidden_size, config.num_input_blocks
    scales = np.ones((config.num_gates, config.num_hidden_blocks))
    if weights.scale is not None:
        scales = weights.scale * 2.0**-config.scale_frac
    of_units, of_blocks = scales.repeat(config.block_size, axis=1)[:, :size_h], scales[:, :, None, None]

    def reals(codes: np.ndarray, fracs: tuple[int, ...]) -> np.ndarray:
        return codes * 2.0 ** -np.array(fracs, dtype=np.float64).reshape(-1, *[1] * (codes.ndim - 1))

    blocks = Blocks(
        reals(weights.defining[:, :, :start] * of_blocks, config.input_weight_fracs),
        reals(weights.defining[:, :, start:] * of_blocks, config.weight_fracs),
        reals(weights.bias[:, :size_h] * of_units, config.accumulator_fracs),
        None if weights.peephole is None else dequantize(weights.peephole[:, :size_h], points.peephole),
        None if weights.projection is None else weights.projection * 2.0**-config.projection_frac,
    )
    return layer_of_blocks(layer, blocks, sizes)


def _integer_outputs(weights: NetworkWeights, x: np.ndarray, state: list | None) -> list[np.ndarray]:
    """Run the integer reference: h of every layer as real numbers, (T, B, H) or (T, B, 2H) for both directions."""
    points = weights.config.quantization
    outputs, _ = NetworkReference(weights).run_layers(quantize(x, points.x), state)
    return [dequantize(codes, points.h) for codes in outputs]


def _round(
    layers: Layers, config: Config, sizes: list[tuple[int, ...]], scales: Scales | None = None
) -> tuple[NetworkWeights, list[list[LayerWeights]], list[int]]:
    """Round all layers: the network, the parts of each layer by direction, and how many values of it saturate."""
    rounded = [
        [
            integer_weights(one, config.layer(number), sizes[number], scales[number][way] if scales else None)
            for way, one in enumerate(directions(layer))
        ]
        for number, layer in enumerate(layers)
    ]
    parts = [[weights for weights, _ in layer] for layer in rounded]
    network = join_layers(config, [part for layer in parts for part in layer])
    return network, parts, [sum(number for _, number in layer) for layer in rounded]


def _dense_error(layers: Layers, weight_bits: int, x: np.ndarray, settings: dict, element_bits: int) -> float:
    """Compute the error of the last layer's h of the dense network in integers, without a projection."""
    kept = {path: value for path, value in settings.items() if path.startswith("quantization.")}
    config = choose_config(base_config(layers, 1, weight_bits, "fold", kept, None, element_bits), layers, x, kept)
    weights, _, _ = _round(layers, config, input_sizes(layers))
    found = _integer_outputs(weights, x, first_states(config, layers, x.shape[1]))[-1]
    return relative_error(found, run_layers(layers, x)[-1])


def input_fold(
    layers: Layers, weight_bits: int, x: np.ndarray | None, settings: dict, mode: str, element_bits: int = 8
) -> InputFold | None:
    """Choose the scale per input element, or ``None``; with ``auto`` both are tried, and the error of h decides."""
    require(mode in FOLDS, "--fold", f"one of {', '.join(FOLDS)}", mode)
    require(mode != "on" or x is not None, "--calibrate", "given with --fold on", None)
    # Who sets these formats has scaled the inputs to them.
    chosen_by_user = {"quantization.x", "quantization.weight_frac"} & settings.keys()
    if mode == "off" or x is None or (mode == "auto" and chosen_by_user):
        return None
    config = base_config(layers, 1, weight_bits, "fold", _x_format(settings), None, element_bits)
    fold = choose_fold(config.quantization.x, x)
    if fold is None or mode == "on":
        return fold
    batch = x.shape[1] if begins_elsewhere(layers) else min(x.shape[1], 16)
    few = x[: max(1, FOLD_STEPS // batch), :batch]
    scaled = [fold_layer(layers[0], fold), *layers[1:]]
    plain, better = (
        _dense_error(layers, weight_bits, few, settings, element_bits),
        _dense_error(scaled, weight_bits, fold.apply(few), settings, element_bits),
    )
    return fold if better < FOLD_GAIN * plain else None


def _adapted(
    layers: Layers,
    config: Config,
    sizes: list[tuple[int, ...]],
    floats: list[np.ndarray],
    state: list | None,
    rounds: int = MAX_ROUNDS,
    compared: bool = True,
) -> tuple[NetworkWeights, list[list[LayerWeights]], float]:
    """Round all layers by the error of their sums on data, where that lessens the error of h.

    Parameters
    ----------
    floats : list of array
        The data, and h of every layer (:func:`run_layers`).
    rounds : int
        Times that weights are rounded by what the integer network before computes.
    compared : bool
        Whether the weights that are each rounded by themselves are a candidate, too.

    Returns
    -------
    NetworkWeights, list of list of LayerWeights
        The network of :func:`_round`, and its parts.
    float
        Error of the last layer's h.
    """
    network, parts, _ = _round(layers, config, sizes)
    best, error, read = (network, parts, np.inf), np.inf, None
    if not rounds or compared:
        outputs = _integer_outputs(network, floats[0], state)
        error = relative_error(outputs[-1], floats[-1])
        best = network, parts, error
    for _ in range(rounds):
        if error == 0:
            break
        tried = []
        for number, (layer, some) in enumerate(zip(layers, parts, strict=True)):
            here = []
            for way, (one, part) in enumerate(zip(directions(layer), some, strict=True)):
                turn = slice(None, None, -1 if way else 1)
                columns = slice(way * layer.state_size, (way + 1) * layer.state_size)
                pairs = [
                    (values[number][turn], values[number + 1][turn][..., columns])
                    for values in (floats, read)
                    if values is not None
                ]
                here.append(adapted_weights(one, part, sizes[number], *pairs))
            tried.append(here)
        network = join_layers(config, [part for layer in tried for part in layer])
        outputs = _integer_outputs(network, floats[0], state)
        found = relative_error(outputs[-1], floats[-1])
        if found >= error:
            break
        best, error = (network, tried, found), found
        fmt = config.quantization.x
        read = [dequantize(quantize(floats[0], fmt), fmt), *outputs]
    return best


def _searched(config: Config, layers: Layers, x: np.ndarray, settings: dict, is_adaptive: bool) -> Config:
    """Choose all formats jointly by the error of the last layer's h on calibration data (T, B, X).

    Parameters
    ----------
    is_adaptive : bool
        Whether the weights will be rounded by the error of their sums.
    """
    num_weights = sum(layer.num_weights for layer in layers)
    few = few_steps(x, num_weights, _batch_of(layers))
    floats, sizes = run_layers(layers, few), input_sizes(layers)

    def score(one: Config, rounds: int = 0) -> float:
        return _adapted(layers, one, sizes, floats, first_states(one, layers, few.shape[1]), rounds, compared)[2]

    # Of longer sequences every run counts, and there the weights that are rounded by their sums are the better ones.
    compared, firsts = len(few) <= FEW_STEPS, []
    if "quantization.h" not in settings:
        # The format that suits the values of h, and weights that suit this format.
        fmt = closest_format(config.quantization.h, np.concatenate([h.ravel() for h in floats[1:]]))
        fields, others = {"quantization.h": str(fmt)}, {"quantization.weight_frac": CANDIDATES[-1]}
        start = fields | {name: value for name, value in others.items() if name not in settings}
        with contextlib.suppress(InvalidValueError):
            firsts.append(choose_config(config.replace(start), layers, x, settings | fields, True))
    small = num_weights <= SMALL_WEIGHTS
    if not small or not is_adaptive:
        config, firsts = search_formats(config, settings, score, firsts), []
    if is_adaptive:
        trials = {} if small else {"max_trials": FEW_TRIALS}
        config = search_formats(config, settings, lambda one: score(one, 1), firsts, **trials)
    return config


def _x_format(settings: dict) -> dict:
    """Return the user's setting of the format of x alone."""
    return {path: value for path, value in settings.items() if path == "quantization.x"}


def noise(config: Config, rng: np.random.Generator, steps: int, batch: int) -> np.ndarray:
    """Draw inputs (T, B, X) evenly from the format of x, for want of real data."""
    fmt = config.quantization.x
    codes = rng.integers(fmt.min, fmt.max + 1, size=(steps, batch, config.network.input_size))
    return dequantize(codes, fmt)


def _batch_of(layers: Layers) -> int:
    """Return the number of sequences that the file has first states for; 0 allows any number."""
    parts = (part for layer in layers for w in layer.weights for part in (w.initial_h, w.initial_c))
    return max((len(part) for part in parts if part is not None and len(part) > 1), default=0)


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


def convert(
    layers: Layers,
    block_size: int,
    weight_bits: int,
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
    block_size, weight_bits : int
        Block size k and width b of a weight.
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
        With calibration data, ``"full"`` chooses all formats jointly by the error of h, and rounds the weights by the
        error of their sums (unless they are retrained); ``"quick"`` chooses every format by the values that it holds,
        and rounds every weight by itself, as both do without data.

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
    for layer in layers:
        limits = layer_limits(layer)
        if limits:
            what = f"{layer.name} must be a layer that the accelerator runs"
            raise InvalidValueError(f"{what}, not with {', '.join(limits)}")
    unlike = differences(layers)
    if unlike:
        way = "--layer N makes an accelerator of each, whose h feeds the next"
        raise InvalidValueError(
            f"layers must be alike to share one engine, not of different {', '.join(unlike)}: {way}"
        )
    limits = direction_limits(layers)
    require(not limits, "layers", "ones that the accelerator runs together", ", ".join(limits))
    sizes = input_sizes(layers)
    if calibration is not None:
        fits = calibration.ndim == 3 and calibration.shape[2] == layers[0].input_size and calibration.size > 0
        rule = f"of shape (steps, batch, {layers[0].input_size})"
        require(fits, "calibration data", rule, calibration.shape)
    config = base_config(layers, block_size, weight_bits, name, settings, linear, element_bits)
    scale = input_fold(layers, weight_bits, calibration, settings, fold, element_bits)
    if scale is not None:
        assert calibration is not None
        layers, calibration = [fold_layer(layers[0], scale), *layers[1:]], scale.apply(calibration)
        if retraining is not None:
            retraining = retraining.folded(scale)
    floats = {"projected": [project_layer(one, block_size, size) for one, size in zip(layers, sizes, strict=True)]}
    final, scales = floats["projected"], None
    if retraining is not None:
        final = retraining.circulant(layers, final, config)
        if block_size > 1:
            floats["retrained"] = final
    config = choose_config(config, final, calibration, settings, by_layer=True)
    is_full = effort == "full" and calibration is not None and bool(calibration.any())
    if is_full:
        assert calibration is not None
        config = _searched(config, final, calibration, settings, retraining is None)
    if retraining is not None:
        final, scales = retraining.for_integers(layers, final, config)
    weights, parts, saturated = _round(final, config, sizes, scales)
    if is_full and retraining is None:
        assert calibration is not None
        start = first_states(config, layers, calibration.shape[1])
        weights, parts, _ = _adapted(final, config, sizes, run_layers(final, calibration), start)
    head = None if linear is None else round_output(linear, config)
    weights = replace(weights, input_fold=scale, output=head if config.architecture.output_layer else None)
    x, measured_on = calibration, "calibration data"
    if retraining is not None:
        x, measured_on = retraining.held_out, "calibration data held out from retraining"
    elif x is None:
        x = noise(config, rng or np.random.default_rng(0), 64, _batch_of(layers) or 8)
        measured_on = "noise over the format of x"
    state = first_states(config, layers, x.shape[1])
    restored = []
    for layer, some, size in zip(final, parts, sizes, strict=True):
        pairs = zip(directions(layer), some, strict=True)
        back = [restored_layer(one, part, size).weights[0] for one, part in pairs]
        restored.append(replace(layer, weights=tuple(back)))
    integers = _integer_outputs(weights, x, state)
    report = {
        "layer": ", ".join(layer.name for layer in layers),
        "measured_on": measured_on,
        **error_report(layers, floats, final, restored, integers, saturated, x),
        **format_report(config, x),
    }
    if scale is not None:
        report["input_fold"] = scale.to_dict()
    if linear is not None and head is not None:
        wanted = linear.apply(run_layers(layers, x)[-1])
        codes = quantize(integers[-1], config.quantization.h)
        report["output_layer"] = {
            "name": linear.name,
            "outputs": len(linear.weight),
            "on_chip": bool(config.architecture.output_layer),
            "error": relative_error(output_values(config, head, codes), wanted),
        }
    small = report["output"]["integers"] <= ERROR_BOUND
    report["warnings"] = [
        *error_warnings(report, config, retraining is not None),
        *([] if calibration is None else calibration_warnings(config, calibration)),
        # A matrix that hardly matters may lose much.
        *([] if is_full and small else scale_warnings(config, final, calibration, scale is not None)),
    ]
    return Conversion(weights, report, x, state, head)
