"""A float layer that was trained elsewhere: a PyTorch state_dict, as the trainer's parameters."""

from pathlib import Path

import numpy as np
import torch

from model.config import Config
from model.errors import InvalidFileError, require
from model.hardware_rows import hardware_rows
from model.imported.network import CELL_GATES, DirectionWeights, RecurrentLayer
from model.imported.state_dict import recurrent_groups
from model.training.tasks.base import Task
from model.training.torch_file import load_tensors

# What PyTorch has modules of.
PYTORCH_CELLS = ("lstm", "gru", "rnn", "rnn_relu")


def _checked(path: Path, name: str, value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tuple(value.shape) != shape:
        raise InvalidFileError(f"{name} must be of shape {shape}, not {tuple(value.shape)} as in {path}")
    if not torch.isfinite(value).all():
        raise InvalidFileError(f"{name} must be made of finite numbers in {path}")
    return value


def _layer_names(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Kind (``weight_ih``, …) → name of the tensors of the one layer."""
    groups = recurrent_groups(tensors)
    if len(groups) > 1:
        raise InvalidFileError(f"{path} must hold one tensor called weight_ih_l0, not {len(groups)}")
    places = next(iter(groups.values()), {})
    more = [name for place, names in places.items() for kind, name in names.items()
            if place != (0, False)]  # fmt: skip
    if more:
        raise InvalidFileError(f"{path} must hold one layer of one direction, not {more[0]!r}")
    names = places.get((0, False), {})
    for kind in ("weight_ih", "weight_hh"):
        if kind not in names:
            raise InvalidFileError(f"{path} must hold one tensor called {kind}_l0, not 0")
    return names


def load_initial(path: Path, config: Config, task: Task, lstm_only: bool = False):
    """Parameters by name, as ``pipeline.Stage.initial`` takes them.

    The layer is found by the names of ``torch.nn.LSTM``, ``GRU`` and ``RNN`` behind any prefix.  The embedding is the
    matrix that is called like one (``emb`` or ``encoder``); the output layer is the other matrix with a bias.

    Parameters
    ----------
    config : Config
        Sizes that the tensors must have.
    task : Task
        Numbers of symbols and outputs.
    lstm_only : bool
        Take the layer alone: the rest is trained from scratch.

    Raises
    ------
    InvalidFileError
        Missing, damaged, without one unidirectional layer, or of other sizes.
    """
    cell, tensors = config.network.cell, load_tensors(path)
    require(cell in PYTORCH_CELLS, "network.cell", f"one of {', '.join(PYTORCH_CELLS)} with a state_dict", cell)
    size_x, size_h, size_out = config.network.input_size, config.network.hidden_size, config.output_size
    kind_of_cell, _, activation = cell.partition("_")
    rows = len(CELL_GATES[kind_of_cell]) * size_h
    names = _layer_names(path, tensors)
    shapes = {"weight_ih": (rows, size_x), "weight_hh": (rows, size_out), "bias_ih": (rows,), "bias_hh": (rows,)}
    found = {
        kind: _checked(path, names[kind], tensors.pop(names[kind]), shape).double().numpy()
        if kind in names
        else np.zeros(shape)
        for kind, shape in shapes.items()
    }
    size_p, behind = config.network.projection_size, None
    if (size_p > 0) != ("weight_hr" in names):
        rule = f"{'in' if size_p else 'left out of'} {path} where network.projection_size is {size_p}"
        raise InvalidFileError(f"weight_hr_l0 must be {rule}")
    if size_p:
        behind = _checked(path, names["weight_hr"], tensors.pop(names["weight_hr"]), (size_out, size_h))
    # The candidate of a GRU takes two rows of the accelerator's W.
    weights = DirectionWeights(*found.values(), projection=None if behind is None else behind.double().numpy())
    layer = RecurrentLayer(str(path), kind_of_cell, (weights,), activation=activation or "tanh")
    parts = dict(zip(("weight_x", "weight_h", "bias"), hardware_rows(layer), strict=False))
    initial = [(name, torch.tensor(part, dtype=torch.float32).flatten(0, 1)) for name, part in parts.items()]
    if behind is not None:
        initial.append(("projection", behind.float()))
    if lstm_only:
        return tuple(initial)
    matrices = {key: value for key, value in tensors.items() if value.ndim == 2}
    embeddings = [key for key in matrices if "emb" in key.lower() or "encoder" in key.lower()]
    if task.num_symbols is not None and embeddings:
        value = matrices.pop(embeddings[0])
        initial.append(("embedding", _checked(path, embeddings[0], value, (task.num_symbols, size_x))))
    heads = [key for key in matrices if key.removesuffix("weight") + "bias" in tensors and key.endswith("weight")]
    if heads:
        bias_name = heads[0].removesuffix("weight") + "bias"
        shape = (task.num_outputs, size_out)
        initial.append(("head_weight", _checked(path, heads[0], matrices[heads[0]], shape)))
        initial.append(("head_bias", _checked(path, bias_name, tensors[bias_name], shape[:1])))
    return tuple(initial)
