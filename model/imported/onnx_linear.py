"""The linear layer behind the last recurrent node of an ONNX graph: Gemm, or MatMul and Add, of h and constants."""

from typing import NamedTuple

import numpy as np
import onnx

from chessrnn.model.errors import require
from chessrnn.model.imported.linear_layer import NONE
from chessrnn.model.imported.listing import listed
from chessrnn.model.imported.onnx_probe import DEFAULT_DOMAINS, Known, Value
from chessrnn.model.imported.recurrent_network import LinearLayer


class Linear(NamedTuple):
    """A linear layer of the graph, and the nodes that it consists of."""

    layer: LinearLayer
    nodes: tuple[int, ...]


def _constant(value: Known | None, dims: tuple[int, ...]) -> np.ndarray | None:
    """Return finite constants with one of some numbers of dimensions as float64, else ``None``."""
    if not isinstance(value, Value) or value.dynamic or value.sized or value.array.ndim not in dims:
        return None
    if not np.issubdtype(value.array.dtype, np.floating) or not np.isfinite(value.array).all():
        return None
    return value.array.astype(np.float64)


def _reads(value: Known | None, rows: np.ndarray) -> bool:
    """Whether a tensor consists of whole h, which are the rows of an array of labels."""
    if not isinstance(value, Value) or not value.dynamic or value.array.ndim < 2 or not value.array.size:
        return False
    if value.array.shape[-1] != rows.shape[-1]:
        return False
    known = {int(row[0]): row for row in rows}
    found = value.array.reshape(-1, rows.shape[-1])
    return all(int(row[0]) in known and np.array_equal(row, known[int(row[0])]) for row in found)


def linear_of(
    nodes: list[onnx.NodeProto], index: int, inputs: list[Known | None], rows: np.ndarray, constant_of
) -> Linear | None:
    """Read the linear layer that begins with a node; ``None`` where none does.

    Parameters
    ----------
    nodes : list of NodeProto
        All nodes of the graph.
    index : int
        The node that may begin it.
    inputs : list of Known
        Its inputs.
    rows : array (N, P)
        Labels of the h of the last recurrent node.
    constant_of : callable
        Returns the value of a tensor by its name, ``None`` where it is none that is known.
    """
    node = nodes[index]
    if node.domain not in DEFAULT_DOMAINS or node.op_type not in ("Gemm", "MatMul") or len(inputs) < 2:
        return None
    weight = _constant(inputs[1], (2,))
    if weight is None or not weight.size or not _reads(inputs[0], rows):
        return None
    used, bias = [index], None
    if node.op_type == "Gemm":
        options = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if options.pop("transB", 0):
            weight = weight.T
        if options.pop("alpha", 1.0) != 1 or options.pop("transA", 0) or options.pop("beta", 1.0) != 1 or options:
            return None
        if len(inputs) > 2 and inputs[2] is not None:
            bias = _constant(inputs[2], (0, 1, 2))
            if bias is None:
                return None
    else:
        readers = [number for number, one in enumerate(nodes) if node.output[0] in one.input]
        if len(readers) == 1 and nodes[readers[0]].op_type == "Add":
            others = [name for name in nodes[readers[0]].input if name != node.output[0]]
            bias = _constant(constant_of(others[0]), (0, 1)) if len(others) == 1 else None
            used += readers if bias is not None else []
    outputs = weight.shape[1]
    if weight.shape[0] != rows.shape[-1] or (bias is not None and bias.size not in (1, outputs)):
        return None
    values = np.zeros(outputs) if bias is None else np.broadcast_to(bias.reshape(-1), outputs).copy()
    name = node.name or node.output[0]
    return Linear(LinearLayer(name, weight.T.copy(), values), tuple(used))


def choose(found: list[Linear], size: int, wanted: str | None) -> tuple[Linear | None, str | None]:
    """Choose the linear layer by its name, or the only one; and a remark where several fit, so that none was taken.

    Raises
    ------
    InvalidValueError
        There is none of that name.
    """
    if wanted == NONE:
        return None, None
    names = [one.layer.name for one in found]
    if wanted is not None:
        rule = f"{NONE} or one that reads {size} elements: {listed(names)}" if names else NONE
        require(wanted in names, "--output-layer", rule, wanted)
        return found[names.index(wanted)], None
    if len(found) > 1:
        return None, f"several linear layers read {size} elements; --output-layer takes one of {listed(names)}"
    return (found[0], None) if found else (None, None)
