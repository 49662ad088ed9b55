"""Formats by the expected error of the sums: a network on which the error of h alone leads nowhere."""

from dataclasses import replace

import numpy as np
import pytest

from chessrnn.model.conversion.base_config import base_config
from chessrnn.model.conversion.convert import convert
from chessrnn.model.conversion.fold_choice import choose_fold
from chessrnn.model.conversion.fold_decision import input_fold
from chessrnn.model.conversion.sum_errors import SumErrors, readings, whole_sequences
from chessrnn.model.imported.float_evaluation import run_layers
from chessrnn.model.imported.recurrent_network import CELL_GATES, DirectionWeights, RecurrentLayer


def lstm_on_powers(seed):
    """An LSTM on powers of a spectrum: inputs of a heavy-tailed distribution, and large weights of them in gate G."""
    rng, size_x, size_h = np.random.default_rng(seed), 20, 80
    w_x = rng.standard_t(2, size=(4 * size_h, size_x)) * np.repeat([1.0, 1.0, 6.0, 1.0], size_h)[:, None]
    w_h, bias = rng.standard_t(3, size=(4 * size_h, size_h)) * 0.3, rng.normal(size=4 * size_h) * 0.5
    x = np.exp(2.5 * rng.normal(size=(60, 6, 1)) + rng.normal(size=(60, 6, size_x)) - 5.5)
    return [RecurrentLayer("l0", "lstm", (DirectionWeights(w_x, w_h, bias, np.zeros(4 * size_h)),))], x.clip(max=30)


def small_layer(rng, cell="lstm", directions=1, **more):
    rows = 6 * len(CELL_GATES[cell])

    def weights():
        arrays = (rng.normal(size=shape) * 0.5 for shape in ((rows, 4), (rows, 6), rows, rows))
        return DirectionWeights(*arrays)

    direction = "bidirectional" if directions == 2 else "forward"
    return RecurrentLayer("l0", cell, tuple(weights() for _ in range(directions)), direction, **more)


# Chosen by the error of h alone, the formats leave 89 % and 68 %: no value suits them.
@pytest.mark.parametrize(("bits", "bound"), [(8, 0.6), (16, 0.4)])
def test_formats_are_found_where_every_first_choice_is_hopeless(bits, bound):
    layers, x = lstm_on_powers(0)
    report = convert(layers, 1, 8, calibration=x, element_bits=bits, fold="off").report
    assert report["output"]["integers"] < bound
    assert report["saturated_weights"] < 0.1 * layers[0].num_weights


def test_powers_of_two_per_element_count_the_weights():
    layers, x = lstm_on_powers(0)
    config = base_config(layers, 1, 8, "fold", {})
    errors = SumErrors(layers, x, config)
    plain, folded = errors.best({}), errors.best({}, is_folded=True)
    assert folded.error < plain.error and len(set(folded.exponents)) > 1 and not any(plain.exponents)
    fold = input_fold(layers, 8, x, {}, "on")
    assert fold != choose_fold(config.quantization.x, x)


@pytest.mark.parametrize(
    ("cell", "directions", "more"),
    [
        ("lstm", 1, {}),
        ("lstm", 2, {}),
        ("gru", 1, {}),
        ("gru", 1, {"linear_before_reset": False}),
        ("rnn", 1, {}),
        ("rnn", 1, {"activation": "relu"}),
    ],
)
def test_every_cell_gets_possible_formats(cell, directions, more, rng):
    layers, x = [small_layer(rng, cell, directions, **more)], rng.normal(size=(9, 3, 4))
    config = base_config(layers, 1, 8, "cell", {})
    choice = SumErrors(layers, x, config).best({})
    assert 0 < choice.error < 0.2
    assert config.replace(choice.fields).quantization.x.width == 8


def test_settings_are_kept(rng):
    layers, x = [small_layer(rng)], rng.normal(size=(9, 3, 4))
    settings = {"quantization.x": "Q4.4", "quantization.weight_frac": [5, 5, 5, 5]}
    config = base_config(layers, 1, 8, "kept", settings)
    assert set(SumErrors(layers, x, config).best(settings).fields) == {"quantization.h"}


def test_the_influence_of_a_sum_is_the_slope_of_h(rng):
    layer, x = small_layer(rng, "rnn"), rng.normal(size=(9, 3, 4))
    (reading,) = readings([layer], x)
    h = run_layers([layer], x)[1].reshape(-1, 6)
    slope = (1 - h**2) ** 2 / (h**2).sum(axis=1).mean()
    np.testing.assert_allclose(reading.influence[0], slope, rtol=0.1, atol=1e-3)
    np.testing.assert_array_equal(reading.h[3:], h[:-3])


def test_the_influence_of_a_sum_counts_all_that_a_projection_spreads(rng):
    layer, x = small_layer(rng), rng.normal(size=(9, 3, 4))
    weights = layer.weights[0]
    projected = replace(weights, projection=rng.normal(size=(2, 6)), w_h=weights.w_h[:, :2])
    (plain,) = readings([layer], x[:1])
    (found,) = readings([replace(layer, weights=(projected,))], x[:1])
    # The first step begins with h of zero in both, so that only the output differs.
    wanted = plain.influence * (projected.projection**2).sum(axis=0)
    # Both are relative to the mean square of their h.
    np.testing.assert_allclose(found.influence / found.influence.max(), wanted / wanted.max(), rtol=1e-6)


def test_sequences_are_taken_as_they_are(rng):
    x, layers = np.arange(200)[None, :, None] + np.zeros((300, 1, 1)), [small_layer(rng)]
    assert whole_sequences(x, layers).shape == (300, 3, 1)
    assert whole_sequences(x, layers)[0, :, 0].tolist() == [0, 100, 199]
    assert whole_sequences(x, layers, 200).shape == (5, 200, 1)


def test_products_of_x_get_a_scale_of_their_own_where_that_lessens_the_error(rng):
    """Most inputs are small and weights of them large, so that one scale suits either W_x or W_h."""
    x = rng.random((40, 16, 12)) ** 6 * rng.choice([-1, 1], size=(40, 16, 12))
    arrays = [rng.uniform(-0.2, 0.2, size=shape) for shape in ((96, 12), (96, 24), 96, 96)]
    layer = RecurrentLayer("l0", "lstm", (DirectionWeights(60 * arrays[0], *arrays[1:]),))
    free, tied = (convert([layer], 1, 8, settings=fields, calibration=x, fold="off").report
                  for fields in ({}, {"quantization.input_shift": 0}))  # fmt: skip
    assert free["input_shift"] < 0 == tied["input_shift"]
    assert free["output"]["integers"] < 0.9 * tied["output"]["integers"]
    # A tile whose columns do not divide those of x leaves no choice.
    kept = convert([layer], 1, 8, settings={"architecture.tile_cols": 5}, calibration=x, fold="off").report
    assert kept["input_shift"] == 0


@pytest.mark.parametrize(("size", "k", "columns"), [(8, 4, 2), (10, 1, 2), (5, 1, 5), (8, 8, 1), (13, 1, 1)])
def test_a_shift_that_is_asked_for_gets_a_tile_that_admits_it(size, k, columns):
    """Divisors of the columns of x: up to 4 as usual, or the next wider one up to 8."""
    rows = [np.zeros(shape) for shape in ((64, size), (64, 16), 64, 64)]
    layer = RecurrentLayer("l0", "lstm", (DirectionWeights(*rows),))
    config = base_config([layer], k, 8, "a", {"quantization.input_shift": 2})
    assert config.architecture.tile_cols == columns
    usual = base_config([layer], k, 8, "a", {"quantization.input_shift": 0})
    assert usual == base_config([layer], k, 8, "a", {})
