"""The linear layer behind the last recurrent one, found in a state_dict by its shape."""

import numpy as np

from chessrnn.model.errors import InvalidFileError, require, shown
from chessrnn.model.imported.listing import listed
from chessrnn.model.imported.recurrent_network import LinearLayer
from chessrnn.model.imported.tensor_file import TensorFile

WEIGHT = ".weight"
# Value of --output-layer that leaves every linear layer to the host.
NONE = "none"


def _candidates(file: TensorFile, used: set[str], size: int) -> list[str]:
    """List the modules, not of the recurrent network, whose weight reads ``size`` elements.

    A weight without a bias counts unless it is called an embedding, which has the same shape.
    """
    found = []
    for name, shape in file.shapes.items():
        if name in used or len(shape) != 2 or not shape[0] or shape[1] != size or not f".{name}".endswith(WEIGHT):
            continue
        module = name.removesuffix(WEIGHT.removeprefix(".")).removesuffix(".")
        has_bias = file.shapes.get(_bias_of(name)) == (shape[0],)
        if has_bias or "emb" not in module.lower():
            found.append(module)
    return found


def _bias_of(weight: str) -> str:
    """Return the name of the bias beside a weight."""
    return weight[: -len("weight")] + "bias"


def find_linear(
    file: TensorFile, used: set[str], size: int, name: str | None = None
) -> tuple[LinearLayer | None, str | None]:
    """Find the linear layer that reads h of the last recurrent layer.

    Parameters
    ----------
    file : TensorFile
    used : set of str
        Tensors of the recurrent network.
    size : int
        Number of elements that the last recurrent layer passes on.
    name : str, optional
        Name of the module, or ``"none"``.

    Returns
    -------
    LinearLayer or None
    str or None
        A remark where several fit, so that none was taken.

    Raises
    ------
    InvalidFileError
        There is no such module, or its numbers cannot be read.
    """
    if name == NONE:
        return None, None
    found = _candidates(file, used, size)
    if name is not None:
        rule = f"{NONE} or one that reads {size} elements: {listed(found)}" if found else NONE
        require(name in found, "--output-layer", rule, name)
        found = [name]
    if len(found) > 1:
        return None, f"several linear layers read {size} elements; --output-layer takes one of {listed(found)}"
    if not found:
        return None, None
    weight = f"{found[0]}{WEIGHT}" if found[0] else "weight"
    bias, rows = _bias_of(weight), file.shapes[weight][0]
    if bias in file.shapes and file.shapes[bias] != (rows,):
        raise InvalidFileError(f"{shown(bias)} must be of shape {(rows,)}, not {file.shapes[bias]} as in {file.path}")
    values = file.read(bias) if bias in file.shapes else np.zeros(rows)
    return LinearLayer(found[0], file.read(weight), values), None
