"""Imported layers whose circulant blocks are fitted to calibration data."""

import numpy as np
import pytest
import torch

from chessrnn.model.conversion.convert import convert
from chessrnn.model.conversion.fitted_projection import better_projection, fit_layers
from chessrnn.model.conversion.hardware_rows import project_layer
from chessrnn.model.imported.float_evaluation import relative_error, run_layers
from chessrnn.model.imported.state_dict import network_from_arrays
from chessrnn.model.imported.summary import input_sizes

K = 4


def network(kind, size_x=6, size_h=10, **options):
    torch.manual_seed(3)
    module = kind(size_x, size_h, **options)
    arrays = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    layers = network_from_arrays(arrays, kind.__name__, None).layers
    sizes = input_sizes(layers)
    return layers, [project_layer(layer, K, size) for layer, size in zip(layers, sizes, strict=True)], sizes


def inputs(rng, size=6, batch=24):
    # Elements that depend on each other, and are not centred, as real ones.
    return rng.normal(size=(40, batch, 3)) @ rng.normal(size=(3, size)) + 0.5


# Layers, and how much of the nearest blocks' error is left at most; an LSTM's projection stays the nearest one.
CASES = [
    (torch.nn.LSTM, {}, 0.8),
    (torch.nn.LSTM, {"num_layers": 2, "bidirectional": True}, 0.8),
    (torch.nn.LSTM, {"proj_size": 7}, 0.97),
    (torch.nn.GRU, {"num_layers": 2}, 0.8),
    (torch.nn.RNN, {}, 0.8),
]


@pytest.mark.parametrize(("kind", "options", "share"), CASES)
def test_fitted_blocks_keep_more_of_h(kind, options, share, rng):
    layers, projected, sizes = network(kind, **options)
    x, unseen = np.split(inputs(rng, batch=48), 2, axis=1)
    found = better_projection(layers, projected, x, K, sizes)
    errors = [relative_error(run_layers(one, unseen)[-1], run_layers(layers, unseen)[-1]) for one in (found, projected)]
    assert errors[0] < share * errors[1]
    # The matrices are circulant, with sizes that are no multiples of k: projecting them again changes nothing.
    again = [project_layer(layer, K, size) for layer, size in zip(found, sizes, strict=True)]
    for one, other in zip(found, again, strict=True):
        for own, same in zip(one.weights, other.weights, strict=True):
            np.testing.assert_allclose(own.w_x, same.w_x, atol=1e-9)
            np.testing.assert_allclose(own.w_h, same.w_h, atol=1e-9)


def test_little_data_leaves_the_nearest_blocks(rng):
    layers, projected, sizes = network(torch.nn.LSTM)
    assert better_projection(layers, projected, inputs(rng)[:1, :1], K, sizes) == projected
    assert better_projection(layers, projected, inputs(rng), 1, sizes) == projected


def test_blocks_of_one_are_the_dense_layer(rng):
    layers, _, sizes = network(torch.nn.GRU)
    (found,) = fit_layers(layers, layers, inputs(rng), 1, sizes)
    np.testing.assert_allclose(found.weights[0].w_h, layers[0].weights[0].w_h, atol=1e-8)
    np.testing.assert_allclose(found.weights[0].bias_h, layers[0].weights[0].bias_h, atol=1e-8)


def test_a_conversion_fits_and_measures(rng):
    layers, _, _ = network(torch.nn.LSTM, 8, 16)
    x = inputs(rng, 8)
    fitted, plain = (convert(layers, K, 8, calibration=x, effort=effort).report for effort in ("full", "quick"))
    assert fitted["output"]["projected"] < 0.8 * plain["output"]["projected"]
    assert fitted["output"]["integers"] < 0.8 * plain["output"]["integers"]


def test_circulant_layers_stay_as_they_are(rng):
    _, projected, sizes = network(torch.nn.LSTM, 8, 16)
    (found,) = better_projection(projected, projected, inputs(rng, 8), K, sizes)
    np.testing.assert_allclose(found.weights[0].w_x, projected[0].weights[0].w_x, atol=1e-6)
