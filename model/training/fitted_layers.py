"""Layers of ``torch.nn`` with circulant blocks that are fitted to inputs: a start for training."""

import copy

import torch
from torch import nn

from chessrnn.model.conversion.fitted_projection import fitted, second_moment
from chessrnn.model.errors import require


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
        mean, moment = second_moment(inputs)
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
