"""Initial parameters from a network that was trained elsewhere: a PyTorch state_dict."""

from math import prod
from pathlib import Path

import numpy as np
import torch

from chessrnn.model.config import Config
from chessrnn.model.conversion.hardware_rows import hardware_rows
from chessrnn.model.errors import InvalidFileError, require, shown
from chessrnn.model.imported.load import open_tensors
from chessrnn.model.imported.recurrent_network import CELL_GATES, MAX_ELEMENTS, DirectionWeights, RecurrentLayer
from chessrnn.model.imported.state_dict import recurrent_groups
from chessrnn.model.imported.tensor_file import FLOAT_TYPES
from chessrnn.model.training.tasks.base import Task

# Cells that PyTorch has modules for.
PYTORCH_CELLS = ("lstm", "gru", "rnn", "rnn_relu")


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Load every floating-point tensor of a state_dict (.pt or .safetensors) in float32.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, or one of its tensors is too large.
    """
    file = open_tensors(path)
    for name, shape in file.shapes.items():
        if prod(shape) > MAX_ELEMENTS:
            raise InvalidFileError(f"{name} must have at most {MAX_ELEMENTS} elements, not {shape} as in {path}")
    return {name: torch.as_tensor(file.load(name)).float() for name, kind in file.dtypes.items() if kind in FLOAT_TYPES}


def _checked(path: Path, name: str, value: torch.Tensor, shape: tuple[int | None, ...]) -> torch.Tensor:
    if tuple(value.shape) != shape:
        raise InvalidFileError(f"{name} must be of shape {shape}, not {tuple(value.shape)} as in {path}")
    if not torch.isfinite(value).all():
        raise InvalidFileError(f"{name} must be made of finite numbers in {path}")
    return value


def _layer_names(path: Path, tensors: dict[str, torch.Tensor], count: int) -> list[dict[str, str]]:
    """Find the tensors of each of ``count`` layers: kind (``weight_ih``, …) → name."""
    groups = recurrent_groups(tensors)
    if len(groups) > 1:
        raise InvalidFileError(f"{path} must hold one tensor called weight_ih_l0, not {len(groups)}")
    places = next(iter(groups.values()), {})
    wanted = [(number, False) for number in range(count)]
    more = [name for place, names in places.items() if place not in wanted for name in names.values()]
    if more:
        layers = "one layer" if count == 1 else f"{count} layers"
        raise InvalidFileError(f"{path} must hold {layers} of one direction, not {shown(more[0])}")
    for place in wanted:
        for kind in ("weight_ih", "weight_hh"):
            if kind not in places.get(place, {}):
                raise InvalidFileError(f"{path} must hold one tensor called {kind}_l{place[0]}, not 0")
    return [places[place] for place in wanted]


def _load_layer(path: Path, names: dict[str, str], tensors: dict[str, torch.Tensor], config: Config):
    """Load the parameters of one layer by name and remove its tensors from ``tensors``; ``config`` is the layer's."""
    cell, _, activation = config.network.cell.partition("_")
    size_x, size_h, size_out = config.network.input_size, config.network.units, config.output_size
    rows, size_p = len(CELL_GATES[cell]) * size_h, config.network.projection_size
    if (size_p > 0) != ("weight_hr" in names):
        rule = f"{'in' if size_p else 'left out of'} {path} where network.projection_size is {size_p}"
        raise InvalidFileError(f"weight_hr_l0 must be {rule}")
    shapes = {"weight_ih": (rows, size_x), "weight_hh": (rows, size_out), "bias_ih": (rows,), "bias_hh": (rows,)}
    if size_p:
        shapes["weight_hr"] = size_out, size_h
    found = {
        kind: _checked(path, names[kind], tensors.pop(names[kind]), shape).double().numpy()
        if kind in names
        else np.zeros(shape)
        for kind, shape in shapes.items()
    }
    projection = found.pop("weight_hr", None)
    weights = DirectionWeights(*found.values(), projection=projection)
    layer = RecurrentLayer(str(path), cell, (weights,), activation=activation or "tanh")
    # As rows of the accelerator's W, where the candidate of a GRU takes two.
    parts = zip(("weight_x", "weight_h", "bias"), hardware_rows(layer), strict=False)
    initial = [(name, torch.tensor(part, dtype=torch.float32).flatten(0, 1)) for name, part in parts]
    return initial if projection is None else [*initial, ("projection", torch.tensor(projection, dtype=torch.float32))]


def load_initial(path: Path, config: Config, task: Task, lstm_only: bool = False):
    """Load initial parameters by name, as ``pipeline.Stage.initial`` takes them.

    The layers are found by the names of ``torch.nn.LSTM``, ``GRU`` and ``RNN`` after any prefix.  The embedding is the
    matrix whose name contains ``emb`` or ``encoder``; the output layer is the other matrix that has a bias.

    Parameters
    ----------
    config : Config
        Sizes that the tensors must have.
    task : Task
        Task that determines the numbers of symbols and outputs.
    lstm_only : bool
        Load only the recurrent layers: the rest is trained from scratch.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, has another number of layers, two directions, or other sizes.
    """
    cell, tensors = config.network.cell, load_tensors(path)
    require(cell in PYTORCH_CELLS, "network.cell", f"one of {', '.join(PYTORCH_CELLS)} with a state_dict", cell)
    size_x, size_out = config.network.input_size, config.output_size
    initial = []
    for number, names in enumerate(_layer_names(path, tensors, config.network.num_layers)):
        place = f".{number}" if number else ""
        parts = _load_layer(path, names, tensors, config.layer(number))
        initial += [(f"{name}{place}", value) for name, value in parts]
    if lstm_only:
        return tuple(initial)
    matrices = {key: value for key, value in tensors.items() if value.ndim == 2}
    embeddings = [key for key in matrices if "emb" in key.lower() or "encoder" in key.lower()]
    if task.num_symbols is not None and embeddings:
        value = matrices.pop(embeddings[0])
        initial.append(("embedding", _checked(path, embeddings[0], value, (task.num_symbols, size_x))))
    outputs = [key for key in matrices if key.removesuffix("weight") + "bias" in tensors and key.endswith("weight")]
    if outputs:
        bias_name = outputs[0].removesuffix("weight") + "bias"
        shape = (task.num_outputs, size_out)
        initial.append(("output_weight", _checked(path, outputs[0], matrices[outputs[0]], shape)))
        initial.append(("output_bias", _checked(path, bias_name, tensors[bias_name], shape[:1])))
    return tuple(initial)
