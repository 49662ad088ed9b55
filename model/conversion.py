"""From float layers to the accelerator's integers without retraining, and what each step costs.

Steps: least-squares projection onto block-circulant matrices, formats by least squared error (powers of two),
rounding.  Retraining (``scripts.compress``) recovers much of the loss; this is what a network loses without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from model import circulant
from model.cells import CELLS
from model.config import FAST_BLOCK_SIZES, Config
from model.errors import InvalidValueError, require
from model.first_state import begins_elsewhere, first_states
from model.fixed_point import dequantize, quantize
from model.format_choice import ELEMENT_CANDIDATES, best_fraction_bits, weight_candidates
from model.imported.evaluate import run_layer
from model.imported.network import DirectionWeights, RecurrentLayer
from model.imported.summary import differences, direction_limits, hardware_cell, input_sizes, layer_limits
from model.qformat import QFormat
from model.reference.network import NetworkReference
from model.weights import LayerWeights, NetworkWeights, of_layers

MAX_BIAS_BITS = 32
PROJECTION_CANDIDATES = range(13)
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


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Root of the mean square of the difference over that of what is wanted; 0 where both are zero."""
    difference, scale = np.sqrt(np.mean((found - wanted) ** 2)), np.sqrt(np.mean(wanted**2))
    return float(difference / scale) if scale else float(difference)


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


def input_format(fmt: QFormat, x: np.ndarray) -> QFormat:
    """The format of the same width with the least squared error over x."""
    return _with_width(fmt, best_fraction_bits([(x, 0)], fmt.width, ELEMENT_CANDIDATES))


def covering_format(fmt: QFormat, largest: float) -> QFormat:
    """The format of the same width with the fewest integer bits, at least those of ``fmt``, that holds a magnitude."""
    while fmt.fraction_bits > 1 and largest > fmt.max * fmt.lsb:
        fmt = _with_width(fmt, fmt.fraction_bits - 1)
    return fmt


def _split(matrix: np.ndarray, sizes: tuple[int, ...] | None) -> list[np.ndarray]:
    """Columns of the last axis in pieces; in one, where the sizes are left out."""
    return np.split(matrix, np.cumsum(sizes)[:-1], axis=-1) if sizes else [matrix]


def project_layer(layer: RecurrentLayer, block_size: int, sizes: tuple[int, ...] | None = None) -> RecurrentLayer:
    """The same layer with matrices of circulant blocks, gate by gate, as dense ones.

    Parameters
    ----------
    sizes : tuple of int, optional
        Of the layer's input, see :func:`model.imported.summary.input_sizes`.
    """

    def projected(matrix: np.ndarray, rows: int = layer.hidden_size) -> np.ndarray:
        gates = matrix.reshape(-1, rows, matrix.shape[1])
        return np.concatenate(
            [
                circulant.expand(circulant.project_padded(gate, block_size))[: gate.shape[0], : gate.shape[1]]
                for gate in gates
            ]
        )

    def of_direction(w: DirectionWeights) -> DirectionWeights:
        behind = None if w.projection is None else projected(w.projection, len(w.projection))
        w_x = np.concatenate([projected(piece) for piece in _split(w.w_x, sizes)], axis=1)
        return replace(w, w_x=w_x, w_h=projected(w.w_h), projection=behind)

    return replace(layer, weights=tuple(of_direction(w) for w in layer.weights))


class Rows(NamedTuple):
    """A float layer as rows of the accelerator's W, gate by gate of ``config.gates``.

    Attributes
    ----------
    w_x : (G, H, X)
    w_h : (G, H, H)
    bias : (G, H)
    peephole : (3, H) or None
    """

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    peephole: np.ndarray | None


def hardware_rows(layer: RecurrentLayer) -> Rows:
    """The rows of a layer of one direction.

    The candidate of ``gru`` takes two: NX reads x alone, NH reads h alone, since r stands between them.
    """
    (w,) = layer.weights
    w_x, w_h, bias_x, bias_h = (
        array.reshape(-1, layer.hidden_size, *array.shape[1:]) for array in (w.w_x, w.w_h, w.bias_x, w.bias_h)
    )
    if hardware_cell(layer) != "gru":
        return Rows(w_x, w_h, bias_x + bias_h, w.peepholes)
    return Rows(
        np.concatenate([w_x, np.zeros_like(w_x[:1])]),
        np.concatenate([w_h[:2], np.zeros_like(w_h[:1]), w_h[2:]]),
        np.concatenate([bias_x[:2] + bias_h[:2], bias_x[2:], bias_h[2:]]),
        None,
    )


def layer_of_rows(layer: RecurrentLayer, rows: Rows) -> RecurrentLayer:
    """Inverse of :func:`hardware_rows`: the layer with the values of the rows, biases of one gate as one."""
    if hardware_cell(layer) == "gru":
        w_x, w_h = rows.w_x[:3], rows.w_h[[0, 1, 3]]
        bias_x, bias_h = rows.bias[:3], np.concatenate([np.zeros_like(rows.bias[:2]), rows.bias[3:]])
    else:
        w_x, w_h, bias_x, bias_h = rows.w_x, rows.w_h, rows.bias, np.zeros_like(rows.bias)
    flat = (array.reshape(-1, *array.shape[2:]) for array in (w_x, w_h, bias_x, bias_h))
    names = ("w_x", "w_h", "bias_x", "bias_h")
    changed = dict(zip(names, flat, strict=True))
    return replace(layer, weights=(replace(layer.weights[0], **changed, peepholes=rows.peephole),))


def _defining(gates: np.ndarray, block_size: int, sizes: tuple[int, ...] | None = None) -> np.ndarray:
    """Defining vectors (G, H/k, columns/k, k) of the gates (G, H, columns) of a matrix, padded in pieces."""
    pieces = [[circulant.project_padded(piece, block_size) for piece in _split(gate, sizes)] for gate in gates]
    return np.stack([np.concatenate(gate, axis=1) for gate in pieces])


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
        config = config.replace({"quantization.x": str(input_format(points.x, x))})
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
        behind = [(_defining(layer.weights[0].projection[None], config.block_size), 0) for layer in layers]
        fraction_bits = best_fraction_bits(behind, config.quantization.weight_bits, PROJECTION_CANDIDATES)
        config = config.replace({"quantization.projection_frac": fraction_bits})
    rows = [hardware_rows(way) for layer in layers for way in directions(layer)]
    if config.cell.peepholes and "quantization.peephole" not in settings:
        weights = np.stack([part.peephole for part in rows])
        config = config.replace({"quantization.peephole": str(input_format(points.peephole, weights))})
    if "quantization.weight_frac" not in settings:
        points = config.quantization
        allowed = weight_candidates(config)
        # Of every gate the matrices of all layers; the x of all but the first is the h of the layer below.
        groups = [[] for _ in config.gates]
        sizes = [size for size in input_sizes(layers) for _ in range(config.directions)]
        for number, part in enumerate(rows):
            more = points.h.fraction_bits - points.x.fraction_bits if number < config.directions else 0
            for matrix, extra, pieces in ((part.w_x, more, sizes[number]), (part.w_h, 0, None)):
                for group, defining in zip(groups, _defining(matrix, config.block_size, pieces), strict=True):
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
    rows, points = hardware_rows(layer), config.quantization
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
    parts = ((rows.w_x, config.input_weight_fracs, sizes), (rows.w_h, points.weight_frac, None))
    defining = [codes(_defining(gates, config.block_size, pieces), fracs, *limits) for gates, fracs, pieces in parts]
    bias = codes(rows.bias, config.accumulator_fracs, *config.bias_format_min_max)
    peephole = None
    if rows.peephole is not None:
        fmt = points.peephole
        peephole = per_unit(codes(rows.peephole, [fmt.fraction_bits] * 3, fmt.min, fmt.max))
    behind = layer.weights[0].projection
    if behind is not None:
        (behind,) = codes(_defining(behind[None], config.block_size), [points.projection_frac], *limits)
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
    size_h, k = config.network.hidden_size, config.block_size
    dense = weights.dense().reshape(config.num_gates, config.num_hidden_blocks * k, -1)[:, :size_h].astype(np.float64)
    start = config.num_input_blocks * k
    scale_x, scale_h, scale_b = (
        2.0 ** -np.array(fracs, dtype=np.float64)[:, None, None]
        for fracs in (config.input_weight_fracs, points.weight_frac, config.accumulator_fracs)
    )
    peephole = None if weights.peephole is None else dequantize(weights.peephole[:, :size_h], points.peephole)
    sizes, used = sizes or (config.network.input_size,), []
    for size in sizes:
        used += [True] * size + [False] * (circulant.num_blocks(size, k) * k - size)
    w_x, w_h = dense[:, :, :start][:, :, used] * scale_x, dense[:, :, start : start + config.output_size] * scale_h
    restored = layer_of_rows(layer, Rows(w_x, w_h, weights.bias[:, :size_h] * scale_b[:, :, 0], peephole))
    if weights.projection is None:
        return restored
    behind = circulant.expand(weights.projection)[: config.output_size, :size_h] * 2.0**-points.projection_frac
    return replace(restored, weights=(replace(restored.weights[0], projection=behind),))


def one_direction(layer: RecurrentLayer, index: int) -> RecurrentLayer:
    """One direction of a layer as a forward layer: what the accelerator runs, on reversed sequences for ``index`` 1."""
    name = layer.name + (" reverse" if index or layer.direction == "reverse" else "")
    return replace(layer, name=name, weights=(layer.weights[index],), direction="forward")


def directions(layer: RecurrentLayer) -> list[RecurrentLayer]:
    """Each direction of a layer as a layer of its own."""
    return [one_direction(layer, index) for index in range(layer.num_directions)]


def run_layers(layers: Layers, x: np.ndarray) -> list[np.ndarray]:
    """x (T, B, X), then the h (T, B, H) of every layer, of both directions (T, B, 2H)."""
    lengths, values = np.full(x.shape[1], len(x)), [x]
    for layer in layers:
        values.append(run_layer(layer, values[-1], lengths)[0])
    return values


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


def convert(
    layers: Layers,
    block_size: int,
    weight_bits: int,
    name: str = "imported",
    settings: dict | None = None,
    calibration: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> Conversion:
    """Project, choose formats, round, and measure.

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

    Returns
    -------
    Conversion
        ``report`` has, relative to the root mean square of what is wanted: ``w_x``, ``w_h`` (and ``w_hr``) of all
        layers (projection, and rounding after it), and of the last layer's h over all steps ``projected``,
        ``rounded_weights`` and ``integers``, each against the float layers; ``report["layers"]`` has the same of every
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
    config = choose_config(config, projected, calibration, settings)
    # Per layer, of each of its directions.
    parts = [
        [integer_weights(way, config.layer(number), sizes[number]) for way in directions(layer)]
        for number, layer in enumerate(projected)
    ]
    weights = of_layers(config, [part for ways in parts for part, _ in ways])
    x = calibration
    if x is None:
        x = noise(config, rng or np.random.default_rng(0), 64, _batch_of(layers) or 8)
    state = first_states(config, layers, x.shape[1])
    restored = []
    for layer, ways, size in zip(projected, parts, sizes, strict=True):
        pairs = zip(directions(layer), ways, strict=True)
        back = [restored_layer(way, part, size).weights[0] for way, (part, _) in pairs]
        restored.append(replace(layer, weights=tuple(back)))
    fmt = config.quantization.x
    outputs = {
        "projected": run_layers(projected, x)[1:],
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
            "rounding": errors(restored[some], projected[some]),
            "output": {name: relative_error(found[some][-1], wanted[some][-1]) for name, found in outputs.items()},
            "saturated_weights": sum(saturated for ways in parts[some] for _, saturated in ways),
        }

    report = {
        "layer": ", ".join(layer.name for layer in layers),
        "measured_on": "noise over the format of x" if calibration is None else "calibration data",
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
