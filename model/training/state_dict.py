"""A float LSTM that was trained elsewhere: a PyTorch state_dict, as the trainer's parameters."""

from pathlib import Path

import torch

from model.cells import LSTM_GATES
from model.config import Config
from model.errors import InvalidFileError, require
from model.imported.state_dict import KINDS, recurrent_groups
from model.training.tasks.base import Task
from model.training.torch_file import load_tensors

LSTM_KINDS = tuple(kind for kind in KINDS if kind != "weight_hr")


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
            if place != (0, False) or kind == "weight_hr"]  # fmt: skip
    if more:
        raise InvalidFileError(f"{path} must hold one LSTM layer of one direction without projection, not {more[0]!r}")
    names = places.get((0, False), {})
    for kind in ("weight_ih", "weight_hh"):
        if kind not in names:
            raise InvalidFileError(f"{path} must hold one tensor called {kind}_l0, not 0")
    return names


def load_initial(path: Path, config: Config, task: Task, lstm_only: bool = False):
    """Parameters by name, as ``pipeline.Stage.initial`` takes them.

    The layer is found by the names of ``torch.nn.LSTM`` behind any prefix.  The embedding is the matrix that is
    called like one (``emb`` or ``encoder``); the output layer is the other matrix with a bias.

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
        Missing, damaged, without one unidirectional LSTM layer, or of other sizes.
    """
    require(config.network.cell == "lstm", "network.cell", "lstm with a state_dict", config.network.cell)
    tensors = load_tensors(path)
    size_x, size_h = config.network.input_size, config.network.hidden_size
    rows = len(LSTM_GATES) * size_h
    names = _layer_names(path, tensors)
    shapes = {"weight_ih": (rows, size_x), "weight_hh": (rows, size_h)}
    found = {
        kind: _checked(path, names[kind], tensors.pop(names[kind]), shapes.get(kind, (rows,)))
        for kind in LSTM_KINDS
        if kind in names
    }
    bias = sum((found[kind] for kind in LSTM_KINDS[2:] if kind in found), torch.zeros(rows))
    initial = [("weight_x", found["weight_ih"]), ("weight_h", found["weight_hh"]), ("bias", bias)]
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
        shape = (task.num_outputs, size_h)
        initial.append(("head_weight", _checked(path, heads[0], matrices[heads[0]], shape)))
        initial.append(("head_bias", _checked(path, bias_name, tensors[bias_name], shape[:1])))
    return tuple(initial)
