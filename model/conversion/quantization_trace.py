"""Every named quantization point of some steps beside its float counterpart, and the error that arises at each."""

from dataclasses import dataclass, field

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.float_points import FloatCell, Points
from chessrnn.model.conversion.fold_choice import fold_layer
from chessrnn.model.conversion.hardware_rows import directions
from chessrnn.model.conversion.integer_rounding import restored_layer
from chessrnn.model.errors import require
from chessrnn.model.fixed_point import dequantize
from chessrnn.model.imported.float_evaluation import relative_error
from chessrnn.model.imported.recurrent_network import CELL_GATES, DirectionWeights, RecurrentLayer, RecurrentNetwork
from chessrnn.model.input_fold import folded
from chessrnn.model.prediction import Codes, input_codes, state_values
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.weights import NetworkWeights

POINTS = ("preact", "gate", "cell", "h")
MAX_TRACED = 1 << 26


@dataclass(frozen=True)
class LayerTrace:
    """The points of one layer in one direction; the first axis of every array is the step.

    Attributes
    ----------
    name : str
        ``l0``, ``l1``, …, with ``_reverse`` behind it for the reverse direction.
    gates : tuple of str
        Names of the rows of ``preact``.
    x, float_x : float64 array (T, B, X)
        What the layer reads, in the integer and in the float network.
    integers, floats, local : Points
        Values of the integer network as real numbers; those of the float network, which reads its own values; and what
        each point would be in float from the integer network's values, so that ``integers`` less ``local`` is the error
        that arises at this point.
    """

    name: str
    gates: tuple[str, ...]
    x: np.ndarray
    float_x: np.ndarray
    integers: Points
    floats: Points
    local: Points

    def errors(self) -> dict[str, dict[str, float]]:
        """Error of every point as a share of the root mean square of its float value: in all, and arising there."""
        found = {"x": {"all": relative_error(self.x, self.float_x)}}
        for name in POINTS:
            value, wanted, near = (getattr(points, name) for points in (self.integers, self.floats, self.local))
            scale = float(np.sqrt(np.mean(wanted**2))) or 1.0
            arising = float(np.sqrt(np.mean((value - near) ** 2))) / scale
            found[name] = {"all": relative_error(value, wanted), "arising": arising}
        return found


@dataclass(frozen=True)
class QuantizationTrace:
    """The traces of all layers, in the order of the network.

    Attributes
    ----------
    layers : list of LayerTrace
    formats : dict of str to str
        Format of every point.
    steps : (int, int)
        First step, and the one after the last.
    """

    layers: list[LayerTrace]
    formats: dict[str, str]
    steps: tuple[int, int] = field(default=(0, 0))

    def arrays(self) -> dict[str, np.ndarray]:
        """All values under ``<layer>.<point>``, ``<layer>.<point>.float`` and ``<layer>.<point>.local``."""
        found = {"steps": np.arange(*self.steps)}
        for layer in self.layers:
            found |= {f"{layer.name}.x": layer.x, f"{layer.name}.x.float": layer.float_x}
            for kind, points in (("", layer.integers), (".float", layer.floats), (".local", layer.local)):
                found |= {f"{layer.name}.{name}{kind}": getattr(points, name) for name in POINTS}
        return found


def float_layers(weights: NetworkWeights) -> list[RecurrentLayer]:
    """Create the float layers that have exactly the values of the integer weights, one for each direction."""
    config, found = weights.config, []
    ways = config.directions
    for number, layer in enumerate(weights.layers):
        sizes = (config.output_size,) * ways if number >= ways and ways == 2 else None
        size = sum(sizes) if sizes else layer.config.network.input_size
        found.append(restored_layer(_empty_layer(layer.config, number, size), layer, sizes))
    return found


def _empty_layer(config: Config, number: int, input_size: int) -> RecurrentLayer:
    """Create a layer of zeros with the sizes of a configuration."""
    network = config.network
    cell = {"lstm_peephole": "lstm", "gru_reset_first": "gru", "rnn_relu": "rnn"}.get(network.cell, network.cell)
    size, rows = network.units, network.units * len(CELL_GATES[cell])
    projected = network.projection_size
    weights = DirectionWeights(
        np.zeros((rows, input_size)),
        np.zeros((rows, projected or size)),
        np.zeros(rows),
        np.zeros(rows),
        np.zeros((3, size)) if config.cell.peepholes else None,
        np.zeros((projected, size)) if projected else None,
    )
    return RecurrentLayer(
        f"l{number}", cell, (weights,), linear_before_reset=network.cell != "gru_reset_first",
        activation="relu" if network.cell == "rnn_relu" else "tanh",
    )  # fmt: skip


def _integer_points(config: Config, trace, last: slice) -> Points:
    """Convert the codes of a trace to real numbers."""
    points = config.quantization
    sums = getattr(points, config.cell.sum_format)
    # A relu reports h for every point.
    gate = points.gate if config.network.cell != "rnn_relu" else points.h
    kept = points.cell if config.cell.has_state else points.h
    formats = {"preact": sums, "gate": gate, "cell": kept, "h": points.h}
    return Points(*(dequantize(getattr(trace, name)[last], formats[name]) for name in POINTS))


def _stacked(points: list[Points]) -> Points:
    return Points(*(np.stack(part) for part in zip(*points, strict=True)))


def _trace_layer(
    weights, cell: FloatCell, name: str, codes: np.ndarray, float_x: np.ndarray, start, last: slice
) -> tuple[LayerTrace, np.ndarray, np.ndarray]:
    """Trace one layer in the order of its steps: the trace, and the whole h in codes and in float."""
    config = weights.config
    found = LayerReference(weights).trace(codes, start)
    whole = _integer_points(config, found, slice(None))
    x = dequantize(codes, config.quantization.x)
    if x.shape[2] > float_x.shape[2]:
        # Both directions of the layer below, each padded to whole blocks.
        half = float_x.shape[2] // 2
        x = np.concatenate([part[..., :half] for part in np.split(x, 2, axis=-1)], axis=-1)
    batch = codes.shape[1]
    before = cell.initial_state(batch)
    if start is not None:
        values = state_values(config, [start])
        before = values["h"][0], values["c"][0]
    h, state = before
    floats, local = [], []
    for t in range(len(codes)):
        floats.append(cell.step(float_x[t], h, state))
        h, state = floats[-1].h, floats[-1].cell
        given = Points(*(part[t] for part in whole))
        local.append(cell.step(x[t], *before, given))
        before = given.h, given.cell
    floats, local = _stacked(floats), _stacked(local)
    cut = [Points(*(part[last] for part in points)) for points in (whole, floats, local)]
    return LayerTrace(name, config.gates, x[last], float_x[last], *cut), found.h, floats.h


def trace_network(
    weights: NetworkWeights,
    x: np.ndarray,
    steps: tuple[int, int] | None = None,
    network: RecurrentNetwork | None = None,
    state: Codes | None = None,
) -> QuantizationTrace:
    """Run real inputs through the integers and through a float network, and keep every named point.

    Parameters
    ----------
    x : float array (T, B, X)
    steps : (int, int), optional
        First step to keep, and the one after the last; left out, all.  A bidirectional network always runs to the end.
    network : RecurrentNetwork, optional
        The float network; left out, the one with exactly the values of the integer weights, so that projection and
        rounding of the weights do not count as errors.
    state : list of (h, c), optional
        First state in codes; zero where left out.

    Raises
    ------
    InvalidValueError
        x does not fit, there are no such steps, too many values would be kept, or the float network has other sizes.
    """
    config, codes = weights.config, input_codes(weights, x)
    first, last = (0, len(codes)) if steps is None else steps
    require(0 <= first < last <= len(codes), "--steps", f"within 0:{len(codes)}", f"{first}:{last}")
    per_step = sum(3 * (2 * layer.config.num_gates + 2) * layer.config.network.units for layer in weights.layers)
    count = per_step * codes.shape[1] * (len(codes) if config.network.bidirectional else last)
    require(count <= MAX_TRACED, "--steps", f"so few that at most {MAX_TRACED} values are kept", f"{count} values")
    real = folded(weights.input_fold, x)
    if network is None:
        floats = float_layers(weights)
    else:
        floats = [part for layer in network.layers for part in directions(layer)]
        _check_sizes(weights, floats)
        if weights.input_fold is not None:
            ways = config.directions
            floats = [*(fold_layer(one, weights.input_fold) for one in floats[:ways]), *floats[ways:]]
    cells = [FloatCell(layer) for layer in floats]
    found = []
    if not config.network.bidirectional:
        codes, real = codes[:last], real[:last]
        starts = state or [None] * len(weights.layers)
        for number, (layer, cell) in enumerate(zip(weights.layers, cells, strict=True)):
            trace, codes, real = _trace_layer(
                layer, cell, f"l{number}", codes, real, starts[number], slice(first, last)
            )
            found.append(trace)
        return QuantizationTrace(found, config.formats, (first, last))
    require(state is None, "state", "left out for a bidirectional network", "a state")
    padding = config.num_output_blocks * config.block_size - config.output_size
    keep = slice(first, last)
    for number in range(config.network.num_layers):
        outputs = []
        for way, suffix in enumerate(("", "_reverse")):
            turn = slice(None, None, -1 if way else 1)
            index = 2 * number + way
            arguments = weights.layers[index], cells[index], f"l{number}{suffix}", codes[turn], real[turn]
            trace, h, float_h = _trace_layer(*arguments, None, slice(None))
            found.append(_turned(trace, turn, keep))
            outputs.append((h[turn], float_h[turn]))
        codes = np.concatenate([np.pad(h, ((0, 0), (0, 0), (0, padding))) for h, _ in outputs], axis=-1)
        real = np.concatenate([h for _, h in outputs], axis=-1)
    return QuantizationTrace(found, config.formats, (first, last))


def _turned(trace: LayerTrace, turn: slice, keep: slice) -> LayerTrace:
    """Bring the steps of one direction into the order of the sequence, and keep some."""
    cut = [Points(*(part[turn][keep] for part in points)) for points in (trace.integers, trace.floats, trace.local)]
    return LayerTrace(trace.name, trace.gates, trace.x[turn][keep], trace.float_x[turn][keep], *cut)


def _check_sizes(weights: NetworkWeights, floats: list[RecurrentLayer]) -> None:
    """Reject a float network that is not the one of the weights."""
    require(len(floats) == len(weights.layers), "--model: layers", f"{len(weights.layers)}", len(floats))
    for number, (layer, one) in enumerate(zip(weights.layers, floats, strict=True)):
        wanted = layer.config.network
        size = weights.config.network.input_size if number < weights.config.directions else one.input_size
        for name, value, found in (
            ("input_size", size, one.input_size),
            ("hidden_size", wanted.hidden_size, one.hidden_size),
        ):
            require(value == found, f"--model: {name} of {one.name}", f"{value} as in the weights", found)
