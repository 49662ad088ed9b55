"""From a float layer to integers: least squares, the trainer's own rounding, errors that mean what they say."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model import circulant
from chessrnn.model.conversion.base_config import base_config
from chessrnn.model.conversion.conversion_warnings import error_warnings
from chessrnn.model.conversion.convert import convert
from chessrnn.model.conversion.formats import best_fraction_bits, closest_format, covering_format
from chessrnn.model.conversion.hardware_rows import (
    blocks_of_layer,
    hardware_rows,
    layer_of_rows,
    one_direction,
    project_layer,
)
from chessrnn.model.conversion.integer_rounding import integer_weights
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.imported.float_evaluation import run_layer
from chessrnn.model.imported.recurrent_network import CELL_GATES, DirectionWeights, RecurrentLayer
from chessrnn.model.imported.summary import layer_limits
from chessrnn.model.presets import preset
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.training.export import layer_weights
from chessrnn.model.training.layers import QuantLstm


def lstm(rng, size_x, size_h, scale=0.3, **more):
    rows = 4 * size_h
    weights = DirectionWeights(
        rng.normal(size=(rows, size_x)) * scale,
        rng.normal(size=(rows, size_h)) * scale,
        rng.normal(size=rows) * scale,
        rng.normal(size=rows) * scale,
    )
    return RecurrentLayer("l0", "lstm", (replace(weights, **more),))


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 4, 8]), st.integers(0, 99))
def test_projection_of_any_size_is_the_least_squares_solution(rows, cols, k, seed):
    dense = np.random.default_rng(seed).normal(size=(rows, cols))
    defining = circulant.project_padded(dense, k)
    # Columns of this matrix are the derivatives of the expanded, cut matrix to every stored entry.
    unit = np.eye(defining.size).reshape(-1, *defining.shape)
    jacobian = np.stack([circulant.expand(d)[:rows, :cols].ravel() for d in unit], axis=1)
    wanted, *_ = np.linalg.lstsq(jacobian, dense.ravel(), rcond=None)
    np.testing.assert_allclose(defining.ravel(), wanted, atol=1e-12)


def test_weights_that_are_all_zero_are_warned_about(rng):
    layer = lstm(rng, 4, 4)
    zero = lstm(rng, 4, 4, scale=0.0)
    what = "all weights of l0 are zero, so that h does not depend on the inputs"
    assert what in convert([zero], 1, 8).report["warnings"]
    assert what not in convert([layer], 1, 8).report["warnings"]


def test_weights_beyond_any_format_are_refused(rng):
    layer = lstm(rng, 4, 4, w_h=np.full((16, 4), -1e38))
    with pytest.raises(InvalidValueError, match=r"^weights of l0 must be at most 1e\+06 in magnitude, not 1e\+38$"):
        convert([layer], 1, 8)


def test_integers_are_those_of_the_trainers_export(rng):
    # Sizes that k divides: there both projections are the same.
    layer = lstm(rng, 16, 24)
    result = convert([layer], 8, 5)
    (w,) = layer.weights
    # float64: a projection rounded to float32 would meet other codes near a half.
    twin = QuantLstm(result.config).double()
    twin.set_dense(*(torch.tensor(part) for part in (w.w_x, w.w_h, w.bias_x + w.bias_h)))
    expected = layer_weights(twin)
    np.testing.assert_array_equal(result.weights.defining, expected.defining)
    np.testing.assert_array_equal(result.weights.bias, expected.bias)


def test_a_circulant_layer_loses_only_what_rounding_costs(rng):
    layer = project_layer(lstm(rng, 13, 10, scale=0.8), 4)
    x = rng.normal(size=(30, 3, 13)) * 2
    result = convert([layer], 4, 8, calibration=x, effort="quick")
    report = result.report
    assert report["projection"] == {"w_x": pytest.approx(0, abs=1e-12), "w_h": pytest.approx(0, abs=1e-12)}
    assert report["output"]["projected"] == pytest.approx(0, abs=1e-12)
    assert 0 < report["output"]["rounded_weights"] < report["output"]["integers"] < 0.06
    assert report["measured_on"] == "calibration data"
    assert report["formats"]["x"] == "Q4.4"
    # The reported error is that of the reference on these inputs.
    fmt = result.config.quantization.x
    codes = np.clip(np.floor(x / fmt.lsb + 0.5), fmt.min, fmt.max).astype(np.int64)
    h = LayerReference(result.weights).run(codes)[0] * result.config.quantization.h.lsb
    wanted, _ = run_layer(layer, x, np.full(3, 30))
    error = np.sqrt(np.mean((h - wanted) ** 2) / np.mean(wanted**2))
    assert report["output"]["integers"] == pytest.approx(error)


def test_more_bits_and_smaller_blocks_lose_less(rng):
    layer = lstm(rng, 16, 16)
    errors = {
        (k, bits): convert([layer], k, bits, rng=np.random.default_rng(3)).report for k in (1, 8) for bits in (3, 8)
    }
    output = {key: report["output"] for key, report in errors.items()}
    assert output[1, 8]["integers"] < output[1, 3]["integers"] < output[8, 8]["integers"]
    assert errors[1, 8]["projection"]["w_x"] == 0
    assert errors[8, 3]["rounding"]["w_h"] > errors[8, 8]["rounding"]["w_h"] > 0
    assert errors[8, 8]["projection"] == errors[8, 3]["projection"]


def test_large_biases_get_the_bits_that_they_need(rng):
    layer = lstm(rng, 8, 8, scale=0.002, bias_x=np.full(32, 3.0))
    result = convert([layer], 2, 8)
    assert result.config.quantization.weight_frac == (12,) * 4
    assert result.config.quantization.bias_bits == 22
    restored = result.weights.bias[:, :8] * 2.0 ** -np.array(result.config.accumulator_fracs)[:, None]
    np.testing.assert_allclose(restored, layer.weights[0].bias_x.reshape(4, 8), atol=0.02)
    assert convert([layer], 2, 8, settings={"quantization.bias_bits": 20}).report["saturated_weights"] > 0


def test_settings_of_the_user_stay(rng):
    settings = {"quantization.x": "Q3.5", "quantization.weight_frac": 4, "architecture.tile_rows": 2}
    config = convert([lstm(rng, 8, 8)], 4, 8, "mine", settings, rng.normal(size=(4, 1, 8)) * 50).config
    assert (str(config.quantization.x), config.quantization.weight_frac) == ("Q3.5", (4,) * 4)
    assert (config.architecture.tile_rows, config.name) == (2, "mine")


@pytest.mark.parametrize("cell", ["lstm_peephole", "gru", "rnn"])
def test_every_cell_loses_what_its_reference_says(cell, rng):
    """Rows of the accelerator hold what the float layer computes, so that only rounding is left with k = 1."""
    kind, size_h = cell.removesuffix("_peephole"), 6
    rows = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * size_h
    shapes = ((rows, 5), (rows, size_h), (rows,), (rows,))
    peepholes = rng.normal(size=(3, size_h)) if cell == "lstm_peephole" else None
    weights = DirectionWeights(*(rng.normal(size=shape) * 0.4 for shape in shapes), peepholes=peepholes)
    layer = RecurrentLayer("l0", kind, (weights,))
    assert layer_of_rows(layer, hardware_rows(layer)).cell == kind
    x = rng.normal(size=(20, 3, 5))
    result = convert([layer], 1, 8, calibration=x)
    assert result.config.network.cell == cell
    assert result.report["output"]["projected"] == pytest.approx(0, abs=1e-12)
    assert result.report["output"]["rounded_weights"] < 0.05
    assert result.report["output"]["integers"] < 0.05
    if peepholes is not None:
        restored = result.weights.peephole[:, :size_h] * result.config.quantization.peephole.lsb
        np.testing.assert_allclose(restored, peepholes, atol=0.02)
    # Whole circulant blocks that do not divide the sizes.
    assert convert([layer], 4, 8, calibration=x, effort="quick").report["output"]["integers"] < 1.5


def test_errors_are_told_layer_by_layer(rng):
    layers = [lstm(rng, 5, 6), replace(lstm(rng, 6, 6, scale=1.0), name="l1")]
    x = rng.normal(size=(30, 2, 5))
    report = convert(layers, 2, 8, calibration=x, effort="quick").report
    first, second = report["layers"]
    assert [part["layer"] for part in report["layers"]] == ["l0", "l1"]
    assert second["output"] == report["output"]
    assert report["saturated_weights"] == first["saturated_weights"] + second["saturated_weights"]
    # The first layer of a stack is converted as it would be alone in the same formats.
    report = convert(layers, 2, 8).report
    first = report["layers"][0]
    settings = {"quantization.weight_frac": report["weight_frac"][0], "quantization.bias_bits": report["bias_bits"]}
    alone = convert(layers[:1], 2, 8, settings=settings).report
    assert {name: alone[name] for name in ("projection", "rounding", "output", "saturated_weights")} == {
        name: first[name] for name in ("projection", "rounding", "output", "saturated_weights")
    }


def other_layer(rng, cell, size_x, size_h, scale=0.4, **options):
    rows = size_h * {"gru": 3, "rnn": 1}[cell]
    arrays = (rng.normal(size=shape) * scale for shape in ((rows, size_x), (rows, size_h), rows, rows))
    return RecurrentLayer("l0", cell, (DirectionWeights(*arrays),), **options)


def test_a_gru_that_resets_before_the_product(rng):
    layers = [other_layer(rng, "gru", size, 8, linear_before_reset=False) for size in (6, 8)]
    result = convert(layers, 1, 8, calibration=rng.normal(size=(60, 3, 6)), effort="quick")
    assert result.config.network.cell == "gru_reset_first"
    # Three matrices, no zeros between them.
    assert result.config.weight_bytes == 3 * 8 * (6 + 8 + 8 + 8)
    assert result.report["output"]["projected"] == 0
    assert result.report["output"]["integers"] < 0.05


def test_what_relu_makes_fits_its_format(rng):
    layer = other_layer(rng, "rnn", 6, 8, 0.3, activation="relu")
    x = rng.normal(size=(60, 3, 6))
    result = convert([layer], 1, 8, calibration=x, effort="quick")
    assert result.config.network.cell == "rnn_relu"
    largest = run_layer(layer, x, np.full(3, 60))[0].max()
    fmt = result.config.quantization.h
    assert fmt.width == 8
    assert 1 < largest <= fmt.max * fmt.lsb
    assert result.report["output"]["integers"] < 0.05
    text = "quantization.weight_frac must be such that rounding to h drops 0 to 31 fraction"
    with pytest.raises(InvalidValueError, match=text):
        convert([layer], 1, 8, settings={"quantization.weight_frac": -1}, calibration=x, effort="quick")


def test_formats():
    assert best_fraction_bits([(np.array([0.25, -0.75]), 0)], 8) == 2
    assert closest_format(QFormat.parse("Q1.7"), np.array([[[3.5, -1.0]]])) == QFormat.parse("Q3.5")
    assert covering_format(QFormat.parse("Q4.12"), 7.9) == QFormat.parse("Q4.12")
    assert covering_format(QFormat.parse("Q4.12"), 9.0) == QFormat.parse("Q5.11")


def test_a_reverse_direction_is_a_layer_over_reversed_sequences(rng):
    both = replace(lstm(rng, 5, 4), direction="bidirectional", weights=lstm(rng, 5, 4).weights * 2)
    x, lengths = rng.normal(size=(6, 2, 5)), np.full(2, 6)
    y, _ = run_layer(both, x, lengths)
    reverse = one_direction(both, 1)
    assert reverse.name == "l0 reverse"
    np.testing.assert_array_equal(run_layer(reverse, x[::-1], lengths)[0][::-1], y[:, :, 4:])


@pytest.mark.parametrize("k", [1, 4])
def test_both_directions_of_a_stack(k, rng):
    """Each half of what a layer above reads is projected by itself, in the order of the directions."""
    layers = [
        replace(
            lstm(rng, size, 6),
            direction="bidirectional",
            weights=lstm(rng, size, 6).weights + lstm(rng, size, 6).weights,
        )
        for size in (5, 12)
    ]
    x = rng.normal(size=(20, 3, 5))
    result = convert(layers, k, 8, calibration=x, effort="quick")
    assert (result.config.network.bidirectional, len(result.weights.layers)) == (True, 4)
    assert len(result.report["layers"]) == 2
    for part, way in zip(result.weights.layers[2:], layers[1].weights, strict=True):
        halves = [np.stack([circulant.project_padded(gate, k) for gate in half.reshape(4, 6, 6)])
                  for half in np.split(way.w_x, 2, axis=1)]  # fmt: skip
        exact = np.concatenate(halves, axis=2) * 2.0 ** np.array(part.config.input_weight_fracs)[:, None, None, None]
        assert np.abs(part.defining[:, :, : exact.shape[2]] - exact.clip(-128, 127)).max() <= 0.5
    # Dense weights are followed closely, and each half of h is its own direction's.
    if k == 1:
        assert result.report["projection"] == {"w_x": 0, "w_h": 0}
        assert result.report["output"]["integers"] < 0.05


def test_directions_that_do_not_go_together_are_refused(rng):
    forward = lstm(rng, 5, 4)
    both = replace(lstm(rng, 4, 4), direction="bidirectional", weights=lstm(rng, 4, 4).weights * 2)
    with pytest.raises(
        InvalidValueError, match="^layers must be alike to share one engine, not of different direction: --layer N"
    ):
        convert([forward, both], 1, 8)
    text = "^layers must be ones that the accelerator runs together, not 'direction reverse'$"
    with pytest.raises(InvalidValueError, match=text):
        convert([replace(forward, direction="reverse")], 1, 8)


def test_both_directions_of_a_reset_gate_first(rng):
    layers = []
    for size in (5, 12):
        ways = [DirectionWeights(*(rng.normal(size=shape) * 0.4 for shape in ((18, size), (18, 6), 18, 18)))
                for _ in range(2)]  # fmt: skip
        layers.append(RecurrentLayer(f"l{size}", "gru", tuple(ways), "bidirectional", linear_before_reset=False))
    result = convert(layers, 1, 8, calibration=rng.normal(size=(30, 3, 5)), effort="quick")
    assert (result.config.network.cell, result.config.network.bidirectional) == ("gru_reset_first", True)
    assert result.report["output"]["integers"] < 0.05


def test_a_projection_is_one_of_the_matrices(rng):
    """Its own format, and an h that holds what it makes."""
    layer = lstm(rng, 9, 12, projection=rng.normal(size=(5, 12)) * 2, w_h=rng.normal(size=(48, 5)) * 0.2)
    x = rng.normal(size=(40, 3, 9))
    result = convert([layer], 1, 8, calibration=x, effort="quick")
    assert result.config.network.projection_size == 5
    assert result.config.quantization.h == QFormat.parse("Q4.4")
    assert result.report["projection"]["w_hr"] == 0
    assert 0 < result.report["rounding"]["w_hr"] < 0.02
    assert result.report["output"]["integers"] < 0.05
    assert convert([layer], 4, 8, calibration=x, effort="quick").report["projection"]["w_hr"] > 0.1


def test_projections_of_both_directions(rng):
    """One format of a layer holds both, and a layer above reads both halves, of P elements each."""

    def both(size_x: int, scales: tuple[float, float]) -> RecurrentLayer:
        ways = [
            lstm(rng, size_x, 12, projection=rng.normal(size=(5, 12)) * scale, w_h=rng.normal(size=(48, 5)) * 0.2)
            for scale in scales
        ]
        return replace(ways[0], direction="bidirectional", weights=ways[0].weights + ways[1].weights)

    layers = [both(9, (0.4, 1.2)), both(10, (0.6, 0.5))]
    x = rng.normal(size=(40, 3, 9))
    result = convert(layers, 1, 8, calibration=x, effort="quick")
    network, points = result.config.network, result.config.quantization
    assert (network.bidirectional, network.projection_size, network.num_layers) == (True, 5, 2)
    for layer, frac in zip(layers, result.config.layer_projection_fracs, strict=True):
        assert max(np.abs(w.projection).max() for w in layer.weights) * 2**frac < 128 * 1.2
    assert points.h.integer_bits > 1
    assert [part.defining.shape[2] for part in result.weights.layers] == [9 + 5] * 2 + [10 + 5] * 2
    assert result.report["projection"] == {"w_x": 0, "w_h": 0, "w_hr": 0}
    # What they share costs a little.
    assert result.report["output"]["integers"] < 0.1
    assert convert(layers, 4, 8, calibration=x, effort="quick").report["projection"]["w_hr"] > 0.1


@pytest.mark.parametrize(
    ("cell", "linear_before_reset"), [("lstm", True), ("gru", True), ("gru", False), ("rnn", True)]
)
def test_first_states_are_those_of_the_file(cell, linear_before_reset, rng):
    """One for every sequence, through the state ports; the dense network follows the float one from its first step."""
    gates = len(CELL_GATES[cell])
    shapes = {"w_x": (8 * gates, 5), "w_h": (8 * gates, 8), "bias_x": (8 * gates,), "bias_h": (8 * gates,)}
    arrays = {name: rng.normal(size=shape) * 0.3 for name, shape in shapes.items()}
    arrays["initial_h"] = rng.uniform(-0.9, 0.9, size=(3, 8))
    if cell == "lstm":
        arrays["initial_c"] = rng.normal(size=(1, 8))
    layer = RecurrentLayer("l0", cell, (DirectionWeights(**arrays),), linear_before_reset=linear_before_reset)
    assert not layer_limits(layer)
    result = convert([layer], 1, 8, calibration=rng.normal(size=(4, 3, 5)), effort="quick")
    assert result.config.architecture.state_ports
    assert result.report["output"]["integers"] < 0.05
    h, c = result.state[0]
    np.testing.assert_allclose(dequantize(h, result.config.quantization.h), arrays["initial_h"], atol=2**-7)
    if cell == "lstm":
        given = arrays["initial_c"].repeat(3, axis=0)
        np.testing.assert_allclose(dequantize(c, result.config.quantization.cell), given, atol=2**-12)
    with pytest.raises(InvalidValueError, match="batch must be 3 as in initial_h, not 2"):
        convert([layer], 1, 8, calibration=rng.normal(size=(4, 2, 5)), effort="quick")


def test_first_states_of_both_directions_are_refused(rng):
    both = lstm(rng, 8, 8, initial_c=np.ones((1, 8)))
    both = replace(both, direction="bidirectional", weights=both.weights * 2)
    with pytest.raises(InvalidValueError, match="l0 must be a layer .* not with first state other than zero"):
        convert([both], 4, 8)


def raw_units(layer, rng):
    """The function of a layer of three inputs on raw units, with its inputs: one of them is 1000 plus or minus 20."""
    x = np.stack([1000 + 20 * rng.normal(size=(60, 20)), *rng.uniform(size=(2, 60, 20))], -1)
    mean, deviation = np.array([1000.0, 0.5, 0.5]), np.array([20.0, 0.29, 0.29])
    (w,) = layer.weights
    folded = replace(w, w_x=w.w_x / deviation, bias_x=w.bias_x - w.w_x @ (mean / deviation))
    return replace(layer, weights=(folded,)), x


def test_raw_units_are_scaled_per_element(rng):
    layer, x = raw_units(lstm(rng, 3, 16, 0.15), rng)
    plain = convert([layer], 1, 8, calibration=x, effort="quick", fold="off")
    assert plain.weights.input_fold is None
    assert plain.report["output"]["integers"] > 1
    (error, cause) = plain.report["warnings"]
    assert error.startswith("the error of h in the last layer is")
    text = (
        r"rounding loses \d+ % of W_[xh] of gate . in l0, \d+ saturated; .* % at a scale of its own: W_x and W_h share"
    )
    assert re.match(text, cause)
    assert cause.endswith("--fold on scales x and W_x")
    scaled = convert([layer], 1, 8, calibration=x, effort="quick")
    assert scaled.report["output"]["integers"] < 0.05
    assert scaled.report["warnings"] == []
    fold = scaled.weights.input_fold
    assert scaled.report["input_fold"] == fold.to_dict()
    assert fold.exponents[0] < -5
    assert 990 < fold.offsets[0] < 1010
    np.testing.assert_array_equal(scaled.inputs, fold.apply(x))
    # What the accelerator reads gives what the float layer computes from raw units.
    codes = quantize(fold.apply(x), scaled.config.quantization.x)
    h = LayerReference(scaled.weights).run(codes)[0] * scaled.config.quantization.h.lsb
    wanted, _ = run_layer(layer, x, np.full(20, 60))
    assert np.sqrt(np.mean((h - wanted) ** 2) / np.mean(wanted**2)) == pytest.approx(
        scaled.report["output"]["integers"]
    )


def test_inputs_that_need_no_scale_have_none(rng):
    layer, x = lstm(rng, 5, 6), rng.normal(size=(30, 2, 5))
    assert convert([layer], 1, 8, calibration=x, effort="quick").weights.input_fold is None
    with pytest.raises(InvalidValueError, match="--fold must be one of auto, on, off, not 'of'"):
        convert([layer], 1, 8, calibration=x, fold="of")
    with pytest.raises(InvalidValueError, match="--calibrate must be given with --fold on, not left out"):
        convert([layer], 1, 8, fold="on")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((10, 2, 5)), "the calibration data are zero in all 100 values: the default formats are kept"),
        (
            np.full((10, 2, 5), 1e-6),
            "the calibration data, 100 values from 1e-06 to 1e-06, reach 0 of the 127",
        ),
        (
            np.full((1, 1, 5), 0.5),
            "the calibration data are 1 step long (5 values from 0.5 to 0.5): states need",
        ),
    ],
)
def test_inputs_that_say_little_are_named(x, message, rng):
    report = convert([lstm(rng, 5, 6)], 1, 8, calibration=x, fold="off").report
    (text,) = (text for text in report["warnings"] if text.startswith("the calibration"))
    assert text.startswith(message)
    if not x.any():
        assert report["formats"]["x"] == "Q1.7"


def test_a_scale_that_matrices_share_is_named(rng):
    """An outlier of W_h decides the fraction bits of W_x of its gate, in its layer alone."""
    wild = lstm(rng, 6, 6, 0.02)
    w_h = wild.weights[0].w_h.copy()
    w_h[2, 3] = 30.0
    layers = [lstm(rng, 5, 6, 0.02), replace(wild, name="l1", weights=(replace(wild.weights[0], w_h=w_h),))]
    warnings = convert(layers, 1, 8, calibration=rng.normal(size=(30, 2, 5)), effort="quick").report["warnings"]
    (cause,) = (text for text in warnings if text.startswith("rounding loses"))
    remedy = r"W_x and W_h of a gate share one product scale \(input_shift gives W_x more or fewer bits\)"
    assert re.search(rf"of W_x of gate I in l1, 0 saturated; .*: {remedy}$", cause)


REFUSED = [
    ({}, {"settings": {"network.hidden_size": 9}}, "network.hidden_size must be 8 as in the model and the arguments"),
    ({}, {"settings": {"compression.block_size": 2}}, "compression.block_size must be 4 as in the model"),
    ({}, {"settings": {"quantization.bits": 2}}, "quantization.bits must be a field of the configuration"),
    (
        {},
        {"calibration": np.ones((4, 1, 7))},
        r"calibration data must be of shape \(steps, batch, 8\), not \(4, 1, 7\)",
    ),
    ({}, {"calibration": np.ones((0, 1, 8))}, "calibration data must be of shape"),
]


@pytest.mark.parametrize(("arrays", "arguments", "message"), REFUSED)
def test_what_does_not_fit_is_refused(arrays, arguments, message, rng):
    with pytest.raises(InvalidValueError, match=message):
        convert([lstm(rng, 8, 8, **arrays)], 4, 8, **arguments)


def test_half_levels_are_the_nearest_odd_integers(rng):
    layer = lstm(rng, 16, 24)
    fields = {"quantization.weight_levels": "half", "quantization.weight_frac": 6}
    config = base_config([layer], 8, 3, "half", fields | {"architecture.tile_rows": 1, "architecture.tile_cols": 1})
    weights, _ = integer_weights(layer, config)
    real = blocks_of_layer(layer, 8).w_h * 64
    codes = weights.defining[:, :, config.num_input_blocks :]
    assert (codes % 2 == 1).all()
    assert (codes.min(), codes.max()) == (-7, 7)
    inside = (real > -8) & (real < 8)
    assert inside.any()
    assert np.abs(codes - real)[inside].max() <= 1


@pytest.mark.parametrize(("is_folded", "count"), [(False, 1), (True, 0)])
def test_a_scale_per_element_is_proposed_once(is_folded, count):
    config = preset("tiny").replace({"architecture.engine": "direct", "compression.block_size": 1})
    report = {"output": {"integers": 0.5}, "measured_on": "calibration data"}
    (warning,) = error_warnings(report, config, False, is_folded)
    assert warning.count("--fold on") == count
    assert "--element-bits 16" in warning
