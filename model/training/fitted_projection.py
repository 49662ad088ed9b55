"""Projection of dense recurrent layers to circulant blocks that keeps what the layers compute from real inputs.

The plain projection averages the diagonals of every block, and keeps most of the weights' energy.  Here the error of
the pre-activations is least instead, in the mean over inputs and states of the float layer: a linear problem, which is
the same for all blocks of rows of a matrix.
"""

import copy

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import require

# Added to the variance of every input as a share of it: inputs that hardly vary would get weights without limits.
RIDGE = 1e-3
# Variance of an input that is always the same.
LEAST_VARIANCE = 1e-7


def fitted(matrix: np.ndarray, moment: np.ndarray, k: int) -> np.ndarray:
    """Choose circulant blocks of k × k for which the mean of ((W - Ŵ)·z)² is least.

    Parameters
    ----------
    matrix : float array (rows, cols)
        W, of multiples of k.
    moment : float array (cols, cols)
        Mean of z·zᵀ, positive definite.

    Returns
    -------
    float array (rows, cols)
        Ŵ, expanded.
    """
    column = np.arange(matrix.shape[1])
    # Where entry c of row r of a block lies in the defining vectors: a permutation that is its own inverse.
    places = [column // k * k + (row - column) % k for row in range(k)]
    pulled = matrix @ moment
    total = np.sum([moment[place][:, place] for place in places], axis=0)
    wanted = np.sum([pulled[row::k][:, place] for row, place in enumerate(places)], axis=0)
    defining = np.linalg.solve(total, wanted.T).T
    found = np.empty_like(pulled)
    for row, place in enumerate(places):
        found[row::k] = defining[:, place]
    return found


@torch.no_grad()
def fitted_layers(dense: nn.LSTM | nn.GRU, x: torch.Tensor, k: int) -> nn.LSTM | nn.GRU:
    """Copy forward layers of ``torch.nn.LSTM`` or ``GRU`` with circulant weights that are fitted to inputs.

    Biases take over the mean of what the blocks cannot express.

    Parameters
    ----------
    dense : torch.nn.LSTM or torch.nn.GRU
        Layers in one direction, with biases, of sizes that are multiples of k.
    x : float tensor (T, B, X)
        Inputs of the first layer.
    """
    size = dense.hidden_size
    for name, value in (("input_size", dense.input_size), ("hidden_size", size)):
        require(value % k == 0, name, f"a multiple of k, {k}", value)
    result = copy.deepcopy(dense)
    for number in range(dense.num_layers):
        width = x.shape[2]
        names = [f"{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")]
        own = {name: getattr(result, f"{name}_l{number}") for name in names}
        layer = type(dense)(width, size)
        layer.load_state_dict({f"{name}_l0": value for name, value in own.items()})
        h = layer(x)[0]
        inputs = torch.cat([x, torch.cat([torch.zeros_like(h[:1]), h[:-1]])], 2).flatten(0, 1).double().numpy()
        mean = inputs.mean(0)
        inputs -= mean
        moment = inputs.T @ inputs / len(inputs)
        moment += np.diag(RIDGE * np.diag(moment) + LEAST_VARIANCE)
        matrix = torch.cat([own["weight_ih"], own["weight_hh"]], 1).double().numpy()
        found = fitted(matrix, moment, k)
        if isinstance(dense, nn.GRU):
            # The reset gate stands between both products of the candidate, which are fitted apart.
            moment[:width, width:] = moment[width:, :width] = 0
            found[2 * size :] = fitted(matrix[2 * size :], moment, k)
        missing = (matrix - found) * mean
        for side, part in (("ih", slice(width)), ("hh", slice(width, None))):
            own[f"weight_{side}"].copy_(torch.from_numpy(found[:, part]))
            own[f"bias_{side}"].add_(torch.from_numpy(missing[:, part].sum(1)))
        x = h
    return result
