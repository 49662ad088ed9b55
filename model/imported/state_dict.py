"""Reader of ``torch.nn.LSTM``, ``GRU`` and ``RNN`` from their state_dict.

A state_dict stores neither ``batch_first`` and ``dropout``, which do not matter for the weights, nor the
``nonlinearity`` of an RNN.
"""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidFileError, require, shown
from chessrnn.model.imported.linear_layer import find_linear
from chessrnn.model.imported.listing import listed
from chessrnn.model.imported.recurrent_network import (
    CELL_GATES,
    MAX_ELEMENTS,
    MAX_LAYERS,
    DirectionWeights,
    RecurrentLayer,
    RecurrentNetwork,
)
from chessrnn.model.imported.tensor_file import TensorFile

KINDS = ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
# Names without a layer number are those of LSTMCell, GRUCell and RNNCell.
NAME = re.compile(
    rf"(?P<prefix>(?:.*\.)?)(?P<kind>{'|'.join(KINDS)})(?:_l(?P<layer>\d{{1,6}})(?P<reverse>_reverse)?)?", re.DOTALL
)
# Names of reparametrized weights, such as those of weight_norm.
DERIVED = re.compile(rf"(?:.*\.)?(?:{'|'.join(KINDS)})_l\d.*|.*parametrizations\.(?:{'|'.join(KINDS)}).*", re.DOTALL)

# (layer, reverse) → kind → name of the tensor.
Group = dict[tuple[int, bool], dict[str, str]]


def recurrent_groups(names) -> dict[str, Group]:
    """Group the names of recurrent weights by the prefix of their module.

    Returns
    -------
    dict
        Prefix (empty, or with its final dot) → (layer, reverse) → kind (``weight_ih``, …) → name.
    """
    groups: dict[str, Group] = {}
    for name in names:
        match = NAME.fullmatch(name)
        if match is not None:
            place = int(match["layer"] or 0), match["reverse"] is not None
            groups.setdefault(match["prefix"], {}).setdefault(place, {})[match["kind"]] = name
    return groups


def _choose(file: TensorFile, groups: dict[str, Group], prefix: str | None) -> str:
    """Choose the prefix of the network to be read."""
    derived = [name for name in file.shapes if DERIVED.fullmatch(name) and not NAME.fullmatch(name)]
    if derived:
        raise InvalidFileError(f"{file.path} must hold plain weights, not the reparametrized {shown(derived[0])}")
    if not groups:
        raise InvalidFileError(f"{file.path} must hold tensors called weight_ih_l0, weight_hh_l0, not none of them")
    if prefix is None:
        if len(groups) > 1:
            found = listed([name.removesuffix(".") for name in sorted(groups)])
            raise InvalidFileError(f"--prefix must be given, one of {found}: {file.path} holds several networks")
        return next(iter(groups))
    given, prefix = prefix, prefix if not prefix or prefix.endswith(".") else prefix + "."
    matching = [name for name in groups if name == prefix] or [name for name in groups if name.endswith(f".{prefix}")]
    if len(matching) != 1:
        if set(groups) == {""}:
            rule = f"left out for {file.path}, whose names have none"
            raise InvalidFileError(f"--prefix must be {rule}, not {shown(given)}")
        found = listed([name.removesuffix(".") for name in sorted(groups)])
        raise InvalidFileError(f"--prefix must be one of {found} as in {file.path}, not {shown(given)}")
    return matching[0]


def _check_places(file: TensorFile, prefix: str, group: Group) -> bool:
    """Check that layers 0, 1, … are complete, and return whether they have two directions."""
    count = 1 + max(layer for layer, _ in group)
    require(count <= MAX_LAYERS, "number of layers", f"from 1 to {MAX_LAYERS}", count)
    both = any(reverse for _, reverse in group)
    kinds = set().union(*(set(names) for names in group.values()))
    bias = kinds & {"bias_ih", "bias_hh"}
    wanted = {"weight_ih", "weight_hh", *({"bias_ih", "bias_hh"} if bias else ()), *(kinds & {"weight_hr"})}
    for layer in range(count):
        for reverse in (False, True) if both else (False,):
            missing = [kind for kind in KINDS if kind in wanted and kind not in group.get((layer, reverse), {})]
            if missing:
                name = f"{prefix}{missing[0]}_l{layer}{'_reverse' if reverse else ''}"
                raise InvalidFileError(f"{name} must be given in {file.path}, not left out")
    return both


def _read(file: TensorFile, names: dict[str, str]) -> dict:
    """Read the arrays of one direction by kind, together with its cell and its number of rows."""
    shapes = {kind: file.shapes[name] for kind, name in names.items()}
    types = {kind: file.dtypes[name] for kind, name in names.items()}
    for kind in KINDS:
        if kind in names:
            dims = 1 if kind.startswith("bias") else 2
            require_shape(file, names[kind], len(shapes[kind]) == dims, "a vector" if dims == 1 else "a matrix")
            if types[kind] != types["weight_ih"]:
                rule = f"of type {types['weight_ih']} as {names['weight_ih']}"
                raise InvalidFileError(f"{names[kind]} must be {rule}, not {shown(types[kind])}")
    rows, width = shapes["weight_hh"]
    size_h = shapes["weight_hr"][1] if "weight_hr" in shapes else width
    cells = {len(gates): cell for cell, gates in CELL_GATES.items()}
    cell = cells.get(rows // size_h) if size_h and rows % size_h == 0 else None
    rule = "a matrix with 1 (RNN), 3 (GRU) or 4 (LSTM) times hidden_size rows"
    require_shape(file, names["weight_hh"], cell is not None, rule)
    expected = {
        "weight_ih": (rows, shapes["weight_ih"][1]),
        "weight_hr": (width, size_h),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    for kind, shape in expected.items():
        if kind in names:
            require_shape(file, names[kind], shapes[kind] == shape, f"of shape {shape}")
    if "weight_hr" in names and cell != "lstm":
        raise InvalidFileError(f"{names['weight_hr']} must be left out for cell {cell}, not as in {file.path}")
    return {"cell": cell, "rows": rows, **{kind: file.read(names[kind]) for kind in KINDS if kind in names}}


def require_shape(file: TensorFile, name: str, condition: bool, rule: str) -> None:
    """Raise :class:`InvalidFileError` unless the shape of a tensor fulfils a condition."""
    if not condition:
        raise InvalidFileError(f"{name} must be {rule}, not {file.shapes[name]} as in {file.path}")


def network_from_tensors(
    file: TensorFile, prefix: str | None = None, activation: str | None = None, output_layer: str | None = None
):
    """Read the network of a state_dict.

    Parameters
    ----------
    file : TensorFile
    prefix : str, optional
        Name of the module, or the end of it, where the file holds several recurrent ones.
    activation : str, optional
        ``"tanh"`` (when left out) or ``"relu"`` for an RNN.
    output_layer : str, optional
        Name of the linear layer behind the last recurrent one, or ``"none"``; left out, the only one that fits.

    Returns
    -------
    RecurrentNetwork
        Network whose ``ignored`` names everything else in the file.

    Raises
    ------
    InvalidFileError
        The file has no recurrent weights, several networks, a missing tensor, or a wrong shape or type.
    """
    groups = recurrent_groups(file.shapes)
    prefix = _choose(file, groups, prefix)
    group = groups[prefix]
    both = _check_places(file, prefix, group)
    used = {name for names in group.values() for name in names.values()}
    total = sum(prod(file.shapes[name]) for name in used)
    require(total <= MAX_ELEMENTS, "number of weights", f"at most {MAX_ELEMENTS}", total)
    layers = []
    for layer in range(1 + max(number for number, _ in group)):
        parts = [_read(file, group[layer, reverse]) for reverse in ((False, True) if both else (False,))]
        cells = {part["cell"] for part in parts} | {found.cell for found in layers}
        if len(cells) > 1:
            raise InvalidFileError(f"{file.path} must hold layers of one cell, not {', '.join(sorted(cells))}")
        weights = tuple(
            DirectionWeights(
                part["weight_ih"],
                part["weight_hh"],
                part.get("bias_ih", np.zeros(part["rows"])),
                part.get("bias_hh", np.zeros(part["rows"])),
                projection=part.get("weight_hr"),
            )
            for part in parts
        )
        direction = "bidirectional" if both else "forward"
        layers.append(
            RecurrentLayer(f"{prefix}l{layer}", parts[0]["cell"], weights, direction, activation=activation or "tanh")
        )
    cell = layers[0].cell
    require(activation is None or cell == "rnn", "--activation", f"left out for cell {cell}", activation)
    linear, remark = find_linear(file, used, layers[-1].output_size, output_layer)
    if linear is not None:
        begin = f"{linear.name}." if linear.name else ""
        used |= {f"{begin}weight", f"{begin}bias"}
    ignored = tuple(f"{name} {list(shape)}" for name, shape in file.shapes.items() if name not in used)
    notes = ["a state_dict does not store batch_first: arrays here are (steps, batch, elements)"]
    notes += [remark] if remark else []
    if cell == "rnn" and activation is None:
        notes.append(
            "a state_dict does not store the nonlinearity of an RNN: tanh is assumed, --activation relu changes it"
        )
    return RecurrentNetwork(tuple(layers), str(file.path), ignored=ignored, notes=tuple(notes), linear=linear)


def network_from_arrays(
    arrays: Mapping[str, np.ndarray], name: str, activation: str | None = None, prefix: str | None = None
) -> RecurrentNetwork:
    """Read the network of a state_dict that is already in memory; ``name`` stands for its file in messages."""
    shapes = {key: value.shape for key, value in arrays.items()}
    dtypes = {key: str(value.dtype) for key, value in arrays.items()}
    file = TensorFile(Path(name), shapes, dtypes, arrays.__getitem__)
    return network_from_tensors(file, prefix, activation)
