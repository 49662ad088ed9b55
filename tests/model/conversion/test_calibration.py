"""Formats and rounding by the error of h on data: less is lost, settings are kept, and the result is repeatable."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from chessrnn.model.conversion.adaptive_rounding import round_columns
from chessrnn.model.conversion.convert import convert
from chessrnn.model.conversion.format_search import few_steps
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.imported.float_evaluation import relative_error, run_layers
from chessrnn.model.imported.recurrent_network import DirectionWeights, RecurrentLayer
from chessrnn.model.prediction import predict_codes

# The networks that the documented figures are of.
CASES = runpy.run_path(str(Path(__file__).parents[2] / "conversion_accuracy.py"))["GROUPS"]
NODE_TEST_ERROR = 0.01


def lstm(rng, size_x, size_h, outliers=0.0):
    w_x, w_h = (rng.normal(size=(4 * size_h, size)) * 0.3 for size in (size_x, size_h))
    w_h += outliers * (rng.random(w_h.shape) < 0.02)
    bias = rng.normal(size=4 * size_h) * 0.3
    return RecurrentLayer("l0", "lstm", (DirectionWeights(w_x, w_h, bias, np.zeros(4 * size_h)),))


def error(layers, x, **more):
    return convert(layers, 1, 8, calibration=x, **more).report["output"]["integers"]


def test_rounding_by_columns_lessens_the_error_of_the_sums(rng):
    inputs = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12)) + 0.05 * rng.normal(size=(200, 12))
    weights, lsb = rng.normal(size=(20, 12)), np.full((20, 12), 0.25)
    codes = round_columns(weights, lsb, inputs.T @ inputs / 200 + 1e-3 * np.eye(12), -128, 127)
    by_themselves = np.floor(weights / lsb + 0.5)
    errors = [float(np.square(inputs @ (found * lsb - weights).T).sum()) for found in (codes, by_themselves)]
    assert errors[0] < 0.2 * errors[1]
    # Without correlation every weight is rounded by itself.
    np.testing.assert_array_equal(round_columns(weights, lsb, np.eye(12), -128, 127), by_themselves)


def test_saturated_weights_are_made_up_for():
    # Two nearly equal inputs: what one weight cannot hold, the other takes.
    second = np.array([[1.001, 1.0], [1.0, 1.0]])
    codes = round_columns(np.array([[3.0, -1.0]]), np.full((1, 2), 0.5), second, -4, 3)
    np.testing.assert_array_equal(codes, [[3, 1]])


def test_data_lessen_the_error_of_an_lstm_with_outliers(rng):
    x = rng.normal(size=(40, 4, 5)) @ rng.normal(size=(5, 5))
    layer = lstm(rng, 5, 12, outliers=3.0)
    assert error([layer], x) < 0.9 * error([layer], x, effort="quick")


def test_the_choice_is_repeatable_and_keeps_settings(rng):
    x, layer = rng.normal(size=(12, 2, 4)), lstm(rng, 4, 5)
    settings = {"quantization.h": "Q2.6", "quantization.cell": "Q5.11", "quantization.weight_frac": [4, 4, 4, 4]}
    one, two = (convert([layer], 1, 8, settings=settings, calibration=x) for _ in range(2))
    points = one.config.quantization
    assert (str(points.h), str(points.cell), points.weight_frac) == ("Q2.6", "Q5.11", (4, 4, 4, 4))
    assert one.config.fingerprint == two.config.fingerprint
    np.testing.assert_array_equal(one.weights.defining, two.weights.defining)
    np.testing.assert_array_equal(one.weights.bias, two.weights.bias)


def test_wider_elements_lose_less(rng):
    x, layer = rng.normal(size=(12, 2, 4)), lstm(rng, 4, 5)
    result = convert([layer], 1, 8, calibration=x, element_bits=12)
    points = result.config.quantization
    widths = [points.x.width, points.h.width, points.preact.width, points.gate.width, points.cell.width]
    assert widths == [12, 12, 16, 16, 20]
    assert result.report["output"]["integers"] < 0.6 * error([layer], x)
    with pytest.raises(InvalidValueError, match="--element-bits must be from 8 to 16, not 17"):
        convert([layer], 1, 8, element_bits=17)
    with pytest.raises(InvalidValueError, match="--effort must be one of full, quick, not 'none'"):
        convert([layer], 1, 8, effort="none")


def test_the_error_that_is_reported_is_that_of_the_reference(rng):
    x, layer = rng.normal(size=(12, 3, 4)), lstm(rng, 4, 5)
    result = convert([layer], 2, 8, calibration=x)
    codes = predict_codes(result.weights, x).codes
    found = relative_error(codes * result.config.quantization.h.lsb, run_layers([layer], x)[-1])
    assert result.report["output"]["integers"] == pytest.approx(found)


def test_few_steps_are_far_apart_and_few_enough():
    x = np.arange(200)[None, :, None] + np.zeros((300, 1, 1))
    assert few_steps(x, 1000).shape == (48, 16, 1)
    assert few_steps(x, 1000)[0, [0, -1], 0].tolist() == [0, 199]
    assert few_steps(x, 1 << 28).shape == (2, 1, 1)
    assert few_steps(x, 1000, batch=200).shape[1] == 200


@pytest.mark.slow
def test_onnx_node_tests_lose_at_most_a_percent():
    found = {name: error(layers, x) for name, (layers, x) in CASES["onnx"]().items()}
    assert len(found) == 18
    # Its inputs go to 18 beside weights of a normal distribution.
    assert found.pop("gru_seq_length") < 0.015
    assert {name: value for name, value in found.items() if value > NODE_TEST_ERROR} == {}


@pytest.mark.slow
def test_raw_units_lose_little():
    for layers, x in CASES["raw"]().values():
        assert error(layers, x) < 0.03


@pytest.mark.parametrize("effort", ["quick", "full"])
def test_scales_of_rows_lose_less(effort, rng):
    x, layer = rng.normal(size=(12, 4, 5)), lstm(rng, 5, 12, outliers=3.0)
    found = [
        convert([layer], 1, 4, settings={"quantization.weight_scale": kind}, calibration=x, effort=effort)
        for kind in ("gate", "row")
    ]
    gate, row = (one.report["output"]["integers"] for one in found)
    assert row < 0.95 * gate
    scale = found[1].weights.scale
    assert scale.shape == (4, 12) and len(set(scale.ravel().tolist())) > 3
