"""Traces: the float points are those of the float network, and the integers those of the reference."""

import numpy as np
import pytest

from chessrnn.model.config import Config
from chessrnn.model.conversion.convert import convert
from chessrnn.model.conversion.float_points import FloatCell, Points
from chessrnn.model.conversion.quantization_trace import POINTS, float_layers, trace_network
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.fixed_point import dequantize
from chessrnn.model.imported.float_evaluation import run_layer
from chessrnn.model.imported.recurrent_network import CELL_GATES, DirectionWeights, RecurrentLayer, RecurrentNetwork
from chessrnn.model.prediction import predict_codes, state_codes, state_values
from chessrnn.model.weights import random_weights

CELLS = ("lstm", "lstm_peephole", "gru", "gru_reset_first", "rnn", "rnn_relu")


def float_layer(rng, cell, size_x=5, size_h=6, projection=0, directions=1) -> RecurrentLayer:
    kind = cell.split("_")[0]
    rows = size_h * len(CELL_GATES[kind])

    def weights() -> DirectionWeights:
        shapes = ((rows, size_x), (rows, projection or size_h), (rows,), (rows,))
        peepholes = rng.normal(size=(3, size_h)) * 0.4 if cell == "lstm_peephole" else None
        matrix = rng.normal(size=(projection, size_h)) * 0.4 if projection else None
        return DirectionWeights(*(rng.normal(size=shape) * 0.4 for shape in shapes), peepholes, matrix)

    return RecurrentLayer(
        "l0", kind, tuple(weights() for _ in range(directions)), "bidirectional" if directions == 2 else "forward",
        linear_before_reset=cell != "gru_reset_first", activation="relu" if cell == "rnn_relu" else "tanh",
    )  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_float_points_are_those_of_the_float_network(cell, rng):
    layer = float_layer(rng, cell, projection=4 if cell.startswith("lstm") else 0)
    x = rng.normal(size=(7, 3, 5))
    wanted, _ = run_layer(layer, x, np.full(3, 7))
    one = FloatCell(layer)
    h, state = one.initial_state(3)
    for step, expected in zip(x, wanted, strict=True):
        points = one.step(step, h, state)
        # Points that are given as they are change nothing.
        for found, other in zip(one.step(step, h, state, points), points, strict=True):
            np.testing.assert_array_equal(found, other)
        h, state = points.h, points.cell
        np.testing.assert_allclose(h, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_traces_of_every_cell(cell, directions, rng):
    projection = 4 if cell == "lstm" else 0
    first = float_layer(rng, cell, 5, 6, projection, directions)
    second = float_layer(rng, cell, first.output_size, 6, projection, directions)
    x = rng.normal(size=(12, 3, 5))
    result = convert([first, second], 2, 8, calibration=x)
    weights, config = result.weights, result.config
    trace = trace_network(weights, x, (2, 9))
    assert len(trace.layers) == 2 * directions
    assert trace.layers[-1].name == ("l1_reverse" if directions == 2 else "l1")
    # Integers: those of the reference.
    h = dequantize(predict_codes(weights, x).codes, config.quantization.h)[2:9]
    last = np.concatenate([layer.integers.h for layer in trace.layers[-directions:]], axis=-1)
    np.testing.assert_array_equal(last, h)
    # Floats: those of the layers with the integers' values.
    floats = float_layers(weights)
    assert [layer.weights[0].w_x.shape[1] for layer in floats] == [5] * directions + [first.output_size] * directions
    turn = -1 if directions == 2 else 1
    ways = [
        run_layer(one, x[::step], np.full(3, 12))[0][::step]
        for one, step in zip(floats[:directions], (1, turn), strict=False)
    ]
    np.testing.assert_allclose(trace.layers[0].floats.h, ways[0][2:9], rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace.layers[directions - 1].floats.h, ways[directions - 1][2:9], rtol=0, atol=1e-12)
    for layer in trace.layers:
        for name in POINTS:
            error = layer.errors()[name]
            assert 0 <= error["arising"] < 0.1
            assert error["all"] < 0.2
        # Where a point is only rounded, half an LSB arises at it; a reset h is rounded before its product.
        if cell not in ("rnn_relu", "gru_reset_first"):
            arising = np.abs(layer.integers.preact - layer.local.preact).max()
            assert 0 < arising <= config.quantization.preact.lsb / 2 * (1 + 1e-9)
    arrays = trace.arrays()
    assert len(arrays) == 1 + len(trace.layers) * (2 + 3 * len(POINTS))
    np.testing.assert_array_equal(arrays["steps"], np.arange(2, 9))


def test_the_original_network_is_another_counterpart(rng):
    layer = float_layer(rng, "gru")
    x = rng.normal(size=(10, 2, 5)) * [1000, 1, 1, 1, 1]
    result = convert([layer], 1, 8, calibration=x, fold="on")
    trace = trace_network(result.weights, x, network=RecurrentNetwork((layer,)))
    wanted, _ = run_layer(layer, x, np.full(2, 10))
    np.testing.assert_allclose(trace.layers[0].floats.h, wanted, rtol=0, atol=1e-12)
    assert trace.layers[0].errors()["h"]["all"] == pytest.approx(result.report["output"]["integers"])
    with pytest.raises(InvalidValueError, match="--model: hidden_size of l0 must be 6 as in the weights, not 7"):
        trace_network(result.weights, x, network=RecurrentNetwork((float_layer(rng, "gru", 5, 7),)))
    for steps in ((0, 11), (3, 3), (-1, 2)):
        with pytest.raises(InvalidValueError, match="--steps must be within 0:10, not"):
            trace_network(result.weights, x, steps)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_continues_from_its_state(cell, rng):
    config = Config.from_dict(
        {"name": "a", "network": {"input_size": 3, "hidden_size": 5, "cell": cell, "num_layers": 2},
         "compression": {"block_size": 1}, "architecture": {"tile_rows": 1, "tile_cols": 1}}
    )  # fmt: skip
    weights = random_weights(config, rng)
    x = rng.uniform(-1, 1, size=(9, 2, 3))
    whole = predict_codes(weights, x)
    first = predict_codes(weights, x[:4])
    values = state_values(config, first.state)
    assert values["h"].shape == values["c"].shape == (2, 2, 5)
    rest = predict_codes(weights, x[4:], state_codes(config, values["h"], values["c"], 2))
    np.testing.assert_array_equal(np.concatenate([first.codes, rest.codes]), whole.codes)
    with pytest.raises(InvalidValueError, match=r"state h must be of shape \(2, 3, 5\), not \(2, 2, 5\)"):
        state_codes(config, values["h"], values["c"], 3)
    if cell.startswith("lstm"):
        with pytest.raises(InvalidValueError, match="state c must be given for an LSTM, not None"):
            state_codes(config, values["h"], None, 2)
    assert isinstance(trace_network(weights, x[4:], None, None, first.state).layers[0].floats, Points)
