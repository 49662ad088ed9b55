"""From float layers to the accelerator's integers, and what each step costs.

Steps: least-squares projection onto block-circulant matrices, formats by least squared error (powers of two),
rounding.  Retraining between them (``model.training.imitation``) recovers much of the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from model import circulant
from model.cells import CELLS
from model.config import FAST_BLOCK_SIZES, Config
from model.errors import InvalidValueError, require
from model.first_state import begins_elsewhere, first_states
from model.fixed_point import dequantize, quantize
from model.format_choice import PROJECTION_CANDIDATES, best_fraction_bits, closest_format, weight_candidates
from model.hardware_rows import (
    Blocks,
    blocks_of_layer,
    defining_vectors,
    directions,
    hardware_rows,
    layer_of_blocks,
    project_layer,
)
from model.imported.evaluate import relative_error, run_layer, run_layers
from model.imported.network import DirectionWeights, RecurrentLayer
from model.imported.summary import differences, direction_limits, hardware_cell, input_sizes, layer_limits
from model.qformat import QFormat
from model.reference.network import NetworkReference
from model.weights import LayerWeights, NetworkWeights, of_layers

MAX_BIAS_BITS = 32
# Matrices of a layer by their names in the report: torch.nn.LSTM calls the projection weight_hr.
MATRICES = {"w_x": "w_x", "w_h": "w_h", "w_hr": "projection"}
Layers = Sequence[RecurrentLayer]


@dataclass(frozen=True)
class Conversion:
    """Converted layers.

    Attributes
    ----------
    weights : LayerWeights or StackWeights
        Integers, with the configuration that was chosen.
    report : dict
        Errors of every step as plain JSON values; see :func:`convert`.
    inputs : float64 array (T, B, X)
        What they were measured on.
    state : list of (h, c) or None
        That they begin with, integers (B, P or H) and (B, H) of every layer; ``None`` is zero.
    """

    weights: NetworkWeights
    report: dict
    inputs: np.ndarray
    state: list[tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def config(self) -> Config:
        """Configuration of the layers."""
        return self.weights.config


def base_config(layers: Layers, block_size: int, weight_bits: int, name: str, settings: dict) -> Config:
    """Default configuration of the layers' sizes, with the user's settings.

    Raises
    ------
    InvalidValueError
        A setting that contradicts the layers, the block size or the width of the weights.
    """
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
        "architecture.output_layer": 0,
        "compression.output_block_size": 1,
    }
    if begins_elsewhere(layers):
        # The file's first state comes in through them.
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
        "quantization": {"weight_bits": weight_bits},
        "architecture": {
            "engine": "fast" if block_size in FAST_BLOCK_SIZES else "direct",
            "tile_rows": min(4, rows),
            "tile_cols": min(4, columns),
            "state_ports": begins_elsewhere(layers),
        },
    }
    return Config.from_dict(values).replace(settings)


def _with_width(fmt: QFormat, fraction_bits: int) -> QFormat:
    """A format of the same width with other fraction bits."""
    return QFormat(fmt.width - fraction_bits, fraction_bits)


def covering_format(fmt: QFormat, largest: float) -> QFormat:
    """The format of the same width with the fewest integer bits, at least those of ``fmt``, that holds a magnitude."""
    while fmt.fraction_bits > 1 and largest > fmt.max * fmt.lsb:
        fmt = _with_width(fmt, fmt.fraction_bits - 1)
    return fmt


def _largest_state(layer: RecurrentLayer, x: np.ndarray) -> float:
    """Greatest magnitude of the cell state over x (T, B, X): the gates' bound holds it where the data do not."""
    lengths = np.full(x.shape[1], 1)
    state, largest = None, 0.0
    for step in x:
        _, state = run_layer(layer, step[None], lengths, state)
        largest = max(largest, float(np.abs(state.c).max()))
    return largest


def choose_config(config: Config, layers: Layers, x: np.ndarray | None, settings: dict) -> Config:
    """``config`` with the formats that the data and the weights ask for, but for those that the user set.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        Already projected.
    x : array (T, B, X) or None
        Calibration data; without it x and cell keep their default formats.
    settings : dict
        The user's, which stay.
    """
    points = config.quantization
    if x is not None and "quantization.x" not in settings:
        config = config.replace({"quantization.x": str(closest_format(points.x, x))})
    if x is not None and "quantization.cell" not in settings and layers[0].cell == "lstm":
        inputs = run_layers(layers, x)[:-1]
        largest = max(
            _largest_state(way, values[::-1] if index else values)
            for layer, values in zip(layers, inputs, strict=True)
            for index, way in enumerate(directions(layer))
        )
        config = config.replace({"quantization.cell": str(covering_format(points.cell, largest))})
    unbounded = config.network.projection_size or config.network.cell == "rnn_relu"
    if x is not None and "quantization.h" not in settings and unbounded:
        # Nothing bounds what a projection or relu makes, but other cells' h.
        largest = max(float(np.abs(values).max()) for values in run_layers(layers, x)[1:])
        config = config.replace({"quantization.h": str(covering_format(config.quantization.h, largest))})
    if config.network.projection_size and "quantization.projection_frac" not in settings:
        matrices = [w.projection for layer in layers for w in layer.weights]
        behind = [(defining_vectors(matrix[None], config.block_size), 0) for matrix in matrices]
        fraction_bits = best_fraction_bits(behind, config.quantization.weight_bits, PROJECTION_CANDIDATES)
        config = config.replace({"quantization.projection_frac": fraction_bits})
    rows = [hardware_rows(way) for layer in layers for way in directions(layer)]
    if config.cell.peepholes and "quantization.peephole" not in settings:
        weights = np.stack([part.peephole for part in rows])
        config = config.replace({"quantization.peephole": str(closest_format(points.peephole, weights))})
    if "quantization.weight_frac" not in settings:
        points = config.quantization
        allowed = weight_candidates(config)
        # Of every gate the matrices of all layers; the x of all but the first is the h of the layer below.
        groups = [[] for _ in config.gates]
        sizes = [size for size in input_sizes(layers) for _ in range(config.directions)]
        for number, part in enumerate(rows):
            more = points.h.fraction_bits - points.x.fraction_bits if number < config.directions else 0
            for matrix, extra, pieces in ((part.w_x, more, sizes[number]), (part.w_h, 0, None)):
                for group, defining in zip(groups, defining_vectors(matrix, config.block_size, pieces), strict=True):
                    group.append((defining, extra))
        fracs = [best_fraction_bits(group, points.weight_bits, allowed) for group in groups]
        config = config.replace({"quantization.weight_frac": fracs})
    if "quantization.bias_bits" not in settings:
        scale = 2.0 ** np.array(config.accumulator_fracs)[:, None]
        largest = max(np.abs(part.bias * scale).max() for part in rows)
        needed = int(np.ceil(largest)).bit_length() + 1
        if needed > config.quantization.bias_bits:
            config = config.replace({"quantization.bias_bits": min(needed, MAX_BIAS_BITS)})
    return config


def integer_weights(
    layer: RecurrentLayer, config: Config, sizes: tuple[int, ...] | None = None
) -> tuple[LayerWeights, int]:
    """Rounded weights (HALF_UP, saturating) of a projected layer of one direction, and how many of them saturated.

    Parameters
    ----------
    sizes : tuple of int, optional
        Of the layer's input, see :func:`input_sizes`.
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

    limits = config.weight_min, config.weight_max
    defining = codes(blocks.w_x, config.input_weight_fracs, *limits), codes(blocks.w_h, points.weight_frac, *limits)
    bias = codes(blocks.bias, config.accumulator_fracs, *config.bias_format_min_max)
    peephole, behind = blocks.peephole, blocks.projection
    if peephole is not None:
        fmt = points.peephole
        peephole = per_unit(codes(peephole, [fmt.fraction_bits] * 3, fmt.min, fmt.max))
    if behind is not None:
        behind = codes(behind, [points.projection_frac], *limits)
    return LayerWeights(config, np.concatenate(defining, axis=2), per_unit(bias), peephole, behind), saturated


def restored_layer(
    layer: RecurrentLayer, weights: LayerWeights, sizes: tuple[int, ...] | None = None
) -> RecurrentLayer:
    """A float layer of one direction with exactly the values of the integers.

    Parameters
    ----------
    sizes : tuple of int, optional
        Of the layer's input, see :func:`input_sizes`.
    """
    config, points = weights.config, weights.config.quantization
    size_h, start = config.network.hidden_size, config.num_input_blocks

    def reals(codes: np.ndarray, fracs: tuple[int, ...]) -> np.ndarray:
        return codes * 2.0 ** -np.array(fracs, dtype=np.float64).reshape(-1, *[1] * (codes.ndim - 1))

    blocks = Blocks(
        reals(weights.defining[:, :, :start], config.input_weight_fracs),
        reals(weights.defining[:, :, start:], points.weight_frac),
        reals(weights.bias[:, :size_h], config.accumulator_fracs),
        None if weights.peephole is None else dequantize(weights.peephole[:, :size_h], points.peephole),
        None if weights.projection is None else weights.projection * 2.0**-points.projection_frac,
    )
    return layer_of_blocks(layer, blocks, sizes)


def _integer_outputs(weights: NetworkWeights, x: np.ndarray, state: list | None) -> list[np.ndarray]:
    """h (T, B, H) of every layer in the reference's integers, as real numbers; of both directions (T, B, 2H)."""
    points = weights.config.quantization
    outputs, _ = NetworkReference(weights).run_layers(quantize(x, points.x), state)
    return [dequantize(codes, points.h) for codes in outputs]


def _joined(weights: Sequence[DirectionWeights], name: str) -> np.ndarray:
    """The entries of the matrices of that name."""
    return np.concatenate([getattr(part, name).ravel() for part in weights])


def noise(config: Config, rng: np.random.Generator, steps: int, batch: int) -> np.ndarray:
    """Inputs (T, B, X) spread evenly over the format of x, for lack of data."""
    fmt = config.quantization.x
    codes = rng.integers(fmt.min, fmt.max + 1, size=(steps, batch, config.network.input_size))
    return dequantize(codes, fmt)


def _batch_of(layers: Layers) -> int:
    """Sequences that the file has first states for; 0: any number."""
    parts = (part for layer in layers for w in layer.weights for part in (w.initial_h, w.initial_c))
    return max((len(part) for part in parts if part is not None and len(part) > 1), default=0)


class Retraining(Protocol):
    """What :class:`model.training.imitation.Imitation` does: circulant float layers, then ones to be rounded."""

    held_out: np.ndarray

    def circulant(self, layers: Layers, projected: Layers, config: Config) -> list[RecurrentLayer]:
        """Before formats are chosen."""

    def rounded(self, layers: Layers, circulant: Layers, config: Config) -> list[RecurrentLayer]:
        """With the formats of ``config``."""


def convert(
    layers: Layers,
    block_size: int,
    weight_bits: int,
    name: str = "imported",
    settings: dict | None = None,
    calibration: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
    retraining: Retraining | None = None,
) -> Conversion:
    """Project, choose formats, round, and measure; retrain before the last two, where that is asked for.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        Forward (:func:`one_direction`) or all bidirectional, each reading the h of the one before.
    block_size, weight_bits : int
        k and b.
    name : str
        Of the configuration.
    settings : dict, optional
        Fields of the configuration that are the user's, dotted.
    calibration : array (T, B, X), optional
        Real inputs: they choose the format of x and of the cell, and errors are measured on them.  Without them
        errors are measured on noise over the format of x.
    rng : Generator, optional
        Of the noise.
    retraining : Retraining, optional
        Errors are then measured on the inputs that it holds out.

    Returns
    -------
    Conversion
        ``report`` has, relative to the root mean square of what is wanted: ``w_x``, ``w_h`` (and ``w_hr``) of all
        layers (projection, and rounding after it), and of the last layer's h over all steps ``projected``,
        ``retrained`` (in float; only with ``retraining``), ``rounded_weights`` and ``integers``, each against the float
        layers; ``report["layers"]`` has the same of every
        layer: of h what it and those before it cost together.

    Raises
    ------
    InvalidValueError
        A layer that the accelerator does not run, named; layers that do not go together; sizes or settings that do not
        fit.
    """
    settings = settings or {}
    for layer in layers:
        limits = layer_limits(layer)
        if limits:
            what = f"{layer.name} must be a layer that the accelerator runs"
            raise InvalidValueError(f"{what}, not with {', '.join(limits)}")
    unlike = differences(layers)
    require(not unlike, "layers", "alike to share one engine", ", ".join(unlike))
    limits = direction_limits(layers)
    require(not limits, "layers", "ones that the accelerator runs together", ", ".join(limits))
    sizes = input_sizes(layers)
    if calibration is not None:
        fits = calibration.ndim == 3 and calibration.shape[2] == layers[0].input_size and calibration.size > 0
        rule = f"of shape (steps, batch, {layers[0].input_size})"
        require(fits, "calibration data", rule, calibration.shape)
    projected = [project_layer(layer, block_size, size) for layer, size in zip(layers, sizes, strict=True)]
    config = base_config(layers, block_size, weight_bits, name, settings)
    stages = {"projected": projected}
    if retraining is not None:
        stages["retrained"] = retraining.circulant(layers, projected, config)
    config = choose_config(config, list(stages.values())[-1], calibration, settings)
    final = list(stages.values())[-1] if retraining is None else retraining.rounded(layers, stages["retrained"], config)
    # Per layer, of each of its directions.
    parts = [
        [integer_weights(way, config.layer(number), sizes[number]) for way in directions(layer)]
        for number, layer in enumerate(final)
    ]
    weights = of_layers(config, [part for ways in parts for part, _ in ways])
    x = calibration if retraining is None else retraining.held_out
    if x is None:
        x = noise(config, rng or np.random.default_rng(0), 64, _batch_of(layers) or 8)
    state = first_states(config, layers, x.shape[1])
    restored = []
    for layer, ways, size in zip(final, parts, sizes, strict=True):
        pairs = zip(directions(layer), ways, strict=True)
        back = [restored_layer(way, part, size).weights[0] for way, (part, _) in pairs]
        restored.append(replace(layer, weights=tuple(back)))
    fmt = config.quantization.x
    outputs = {
        **{name: run_layers(some, x)[1:] for name, some in stages.items()},
        "rounded_weights": run_layers(restored, x)[1:],
        "integers": _integer_outputs(weights, x, state),
    }
    wanted = run_layers(layers, x)[1:]

    def errors(found: Layers, expected: Layers) -> dict[str, float]:
        """Of the matrices of every layer, by name."""
        return {
            name: relative_error(
                *(_joined([w for layer in some for w in layer.weights], field) for some in (found, expected))
            )
            for name, field in MATRICES.items()
            if getattr(found[0].weights[0], field) is not None
        }

    def costs(some: slice) -> dict:
        """Of some layers' matrices, and of the last one's h."""
        return {
            "projection": errors(projected[some], layers[some]),
            "rounding": errors(restored[some], final[some]),
            "output": {name: relative_error(found[some][-1], wanted[some][-1]) for name, found in outputs.items()},
            "saturated_weights": sum(saturated for ways in parts[some] for _, saturated in ways),
        }

    measured_on = "noise over the format of x" if calibration is None else "calibration data"
    if retraining is not None:
        measured_on = "calibration data held out from retraining"
    report = {
        "layer": ", ".join(layer.name for layer in layers),
        "measured_on": measured_on,
        "steps": x.shape[0] * x.shape[1],
        **costs(slice(None)),
        "layers": [{"layer": layer.name, **costs(slice(n, n + 1))} for n, layer in enumerate(layers)],
        "saturated_inputs": int(((x < fmt.min * fmt.lsb - fmt.lsb / 2) | (x > fmt.max * fmt.lsb + fmt.lsb / 2)).sum()),
        "formats": config.formats,
        "weight_frac": list(config.quantization.weight_frac),
        "bias_bits": config.quantization.bias_bits,
        "weight_bytes": config.weight_bytes,
        "dense_float32_bytes": config.dense_float_bytes,
        "removed_percent": round(100 * (1 - config.weight_bytes / config.dense_float_bytes), 2),
    }
    return Conversion(weights, report, x, state)
