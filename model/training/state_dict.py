"""A float LSTM that was trained elsewhere: a PyTorch state_dict, read without executing code."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from model.cells import LSTM_GATES
from model.config import Config
from model.errors import InvalidFileError, require
from model.training.tasks.base import Task

LSTM_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InvalidFileError(f"{path} must be a state_dict (.pt or .safetensors), not a missing file")
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
            content = content.get("state_dict", content)
        return {name: value.detach().float() for name, value in content.items() if isinstance(value, torch.Tensor)}
    except (SafetensorError, Exception) as error:  # torch reports a damaged file by a dozen kinds of exception.
        reason = str(error).partition("\n")[0]
        raise InvalidFileError(f"{path} must be a readable state_dict: {reason}") from None


def _checked(path: Path, name: str, value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tuple(value.shape) != shape:
        raise InvalidFileError(f"{name} must be of shape {shape}, not {tuple(value.shape)} as in {path}")
    if not torch.isfinite(value).all():
        raise InvalidFileError(f"{name} must be made of finite numbers in {path}")
    return value


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
    tensors = _read(path)
    size_x, size_h = config.network.input_size, config.network.hidden_size
    rows = len(LSTM_GATES) * size_h
    found = {}
    for name in LSTM_NAMES:
        matches = [key for key in tensors if key.split(".")[-1] == name]
        if len(matches) > 1 or (not matches and name.startswith("weight")):
            raise InvalidFileError(f"{path} must hold one tensor called {name}, not {len(matches)}")
        if matches:
            found[name] = tensors.pop(matches[0])
    more = [key for key in tensors if key.split(".")[-1].startswith(("weight_ih", "weight_hh", "weight_hr"))]
    if more:
        raise InvalidFileError(f"{path} must hold one LSTM layer of one direction without projection, not {more[0]!r}")
    w_x = _checked(path, LSTM_NAMES[0], found[LSTM_NAMES[0]], (rows, size_x))
    w_h = _checked(path, LSTM_NAMES[1], found[LSTM_NAMES[1]], (rows, size_h))
    biases = [_checked(path, name, found[name], (rows,)) for name in LSTM_NAMES[2:] if name in found]
    bias = sum(biases) if biases else torch.zeros(rows)
    initial = [("weight_x", w_x), ("weight_h", w_h), ("bias", bias)]
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
