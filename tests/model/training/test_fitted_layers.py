"""Circulant blocks that are fitted to inputs, beside those of the nearest weights."""

import numpy as np
import pytest
import torch
from torch import nn

from chessrnn.model import circulant
from chessrnn.model.conversion.fitted_projection import fitted
from chessrnn.model.errors import UserError
from chessrnn.model.training.fitted_layers import fitted_layers


@pytest.mark.parametrize("k", [1, 2, 4])
def test_blocks_are_circulant_and_no_others_err_less(k, rng):
    matrix = rng.normal(size=(8, 12))
    inputs = rng.normal(size=(50, 12)) @ rng.normal(size=(12, 12))
    moment = inputs.T @ inputs / len(inputs)
    found = fitted(matrix, moment, k)
    np.testing.assert_allclose(circulant.expand(circulant.project(found, k)), found, atol=1e-9)

    def error(own):
        return np.mean(((matrix - own) @ inputs.T) ** 2)

    for _ in range(20):
        change = circulant.expand(circulant.project(rng.normal(size=matrix.shape), k))
        # The least error has no slope in any direction: steps both ways only add their square.
        both = [error(found + step * change) - error(found) for step in (1e-2, -1e-2)]
        assert both[0] == pytest.approx(both[1], rel=1e-6) and min(both) > 0
    if k == 1:
        np.testing.assert_allclose(found, matrix, atol=1e-9)


def test_inputs_without_correlation_give_the_nearest_weights(rng):
    matrix = rng.normal(size=(8, 12))
    nearest = circulant.expand(circulant.project(matrix, 4))
    np.testing.assert_allclose(fitted(matrix, np.eye(12), 4), nearest, atol=1e-12)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_layers_keep_what_they_compute(kind, rng):
    torch.manual_seed(int(rng.integers(1 << 31)))
    dense = kind(8, 16, 2).requires_grad_(False)
    mixing = torch.randn(3, 8)
    x = torch.randn(40, 16, 3) @ mixing + 1
    nearest = kind(8, 16, 2).requires_grad_(False)
    nearest.load_state_dict({
        name: value if value.dim() == 1 else torch.from_numpy(circulant.expand(circulant.project(value.numpy(), 4)))
        for name, value in dense.state_dict().items()
    })  # fmt: skip
    found = fitted_layers(dense, x, 4)
    errors = [float((one(x)[0] - dense(x)[0]).pow(2).mean()) for one in (found, nearest)]
    assert errors[0] < 0.5 * errors[1]
    # The layers themselves stay as they are, and without compression nothing changes.
    torch.testing.assert_close(fitted_layers(dense, x, 1)(x)[0], dense(x)[0], atol=1e-5, rtol=1e-4)


def test_sizes_of_whole_blocks(rng):
    with pytest.raises(UserError, match="hidden_size must be a multiple of k, 4, not 6"):
        fitted_layers(nn.LSTM(8, 6), torch.zeros(2, 1, 8), 4)
