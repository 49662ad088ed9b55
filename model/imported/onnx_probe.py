"""Tracing of tensor elements through an ONNX graph: where every element comes from.

Exporters put operators between recurrent nodes that only move elements.  The joint effect of a chain of them is found
by running it on labels: every element of a graph input, and of the output of a recurrent node, is a unique number.
Operators that compute with elements yield :class:`Unknown`, which names them.

``onnx.reference`` does the arithmetic of the operators.
"""

import warnings
from math import prod
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

# Operators that move elements, or compute shapes out of shapes.
MOVING = (
    "Identity", "Cast", "Dropout", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Concat", "Slice",
    "Split", "Gather", "Expand",
)  # fmt: skip
SHAPING = ("Constant", "Shape", "Size", "ConstantOfShape")
# Operators that are allowed only on integers: they compute the arguments of Reshape, Expand and ConstantOfShape.
INTEGER = ("Add", "Sub", "Mul", "Div", "Equal", "Where", "Min", "Max")
# Allowed on constants: the weights of a quantized model.
CONSTANT = ("DequantizeLinear",)
DEFAULT_DOMAINS = ("", "ai.onnx")
MAX_SHAPE_ELEMENTS = 4096
# Greatest size of one result: enough for every weight matrix, too little to exhaust a machine.
MAX_OUTPUT_ELEMENTS = 1 << 26
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


class Value(NamedTuple):
    """A tensor whose elements are known: constants, or labels of the elements that are there at run time."""

    array: np.ndarray
    dynamic: bool
    sized: bool = False  # whether it depends on a size known only at run time, for which the probe uses its own


class Zeros(NamedTuple):
    """A tensor of zeros whose shape is known only at run time."""


class Unknown(NamedTuple):
    """A tensor computed by an operator that does more than move elements."""

    why: str
    recurrent: bool  # whether the output of a recurrent node went into it


Known = Value | Zeros | Unknown


def describe(node: onnx.NodeProto) -> str:
    """Describe a node by its operator and name, for messages."""
    label = node.name or next(iter(node.output), "")
    return f"{node.op_type} (node {label!r})"


def is_shape_only(node: onnx.NodeProto) -> bool:
    """Whether elements can be traced through the node's operator at all."""
    return node.domain in DEFAULT_DOMAINS and node.op_type in (*MOVING, *SHAPING, *INTEGER, *CONSTANT)


def follow(node: onnx.NodeProto, inputs: list[Known | None], version: int, recurrent: bool) -> list[Known]:
    """Trace elements through one operator: its outputs.

    Parameters
    ----------
    node : NodeProto
    inputs : list of Known or None
        Inputs of the node; ``None`` is an optional input that is left out.
    version : int
        Version of the operator set.
    recurrent : bool
        Whether one of the inputs depends on the output of a recurrent node.
    """
    count = len(node.output)
    unknown: list[Known] = [Unknown(describe(node), recurrent)] * count
    if not is_shape_only(node) or any(attribute.ref_attr_name for attribute in node.attribute):
        return unknown
    first_unknown = next((value for value in inputs if isinstance(value, Unknown)), None)
    if _gives_zeros(node, inputs):
        return [Zeros()] * count
    if first_unknown is not None:
        return [Unknown(first_unknown.why, recurrent)] * count
    if any(isinstance(value, Zeros) for value in inputs):
        return unknown
    values = [value if isinstance(value, Value) else None for value in inputs]
    moved = [value is not None and value.dynamic for value in values]
    # Labels may be moved, but they must not serve as indices, sizes or numbers to compute with.
    if any(moved[0 if node.op_type in INTEGER else 1 :]) and node.op_type != "Concat":
        return unknown
    arrays = [None if value is None else value.array for value in values]
    if node.op_type in CONSTANT:
        return unknown if any(moved) else _dequantized(node, arrays) or unknown
    dynamic = node.op_type not in ("Shape", "Size") and any(moved)
    sized = (any(moved) and not dynamic) or any(value is not None and value.sized for value in values)
    first = values[0] if values else None
    if node.op_type in ("Identity", "Dropout", "Cast") and first is not None and dynamic:
        return [first, *unknown[1:]] if _passes(node, first, values[1:]) else unknown
    if not _is_bounded(node, arrays):
        return [Unknown(f"{describe(node)}, whose result is too large", recurrent)] * count
    return _evaluate(node, arrays, version, recurrent, dynamic, sized)


def _evaluate(node, arrays, version: int, recurrent: bool, dynamic: bool, sized: bool) -> list[Known]:
    feeds = {name: array for name, array in zip(node.input, arrays, strict=True) if name}
    function = helper.make_function(
        "probe", "probe", list(feeds), list(node.output), [node], [helper.make_opsetid("", version)]
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(function).run(None, feeds, attributes={})
    except Exception as error:  # The reference raises whatever NumPy does.
        reason = " ".join(str(error).split())[:120]
        return [Unknown(f"{describe(node)}, which fails: {reason}", recurrent)] * len(node.output)
    return [Value(np.asarray(result), dynamic, sized) for result in results]


def _dequantized(node: onnx.NodeProto, arrays: list[np.ndarray | None]) -> list[Known]:
    """Compute DequantizeLinear of constants; empty for shapes or blocks that it does not know.

    ``onnx.reference`` has it only for recent operator sets.
    """
    codes, scale, zero = (*arrays, None)[:3]
    options = {attribute.name: attribute.i for attribute in node.attribute}
    axis = options.pop("axis", 1)
    if options or codes is None or scale is None or not np.issubdtype(codes.dtype, np.integer):
        return []
    if codes.size > MAX_OUTPUT_ELEMENTS or scale.ndim > 1:
        return []
    shape = [1] * codes.ndim
    if scale.ndim and scale.size > 1:
        if not -codes.ndim <= axis < codes.ndim or codes.shape[axis] != scale.size:
            return []
        shape[axis] = scale.size
    zero = np.zeros_like(scale, dtype=codes.dtype) if zero is None else zero
    if zero.shape != scale.shape:
        return []
    differences = codes.astype(np.int64) - zero.astype(np.int64).reshape(shape)
    return [Value((differences * scale.reshape(shape)).astype(scale.dtype), False)]


def _gives_zeros(node: onnx.NodeProto, inputs: list[Known | None]) -> bool:
    """Whether the result is all zeros, whatever its shape."""
    if node.op_type == "ConstantOfShape":
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        zero = value is None or (prod(value.dims) == 1 and not np.any(onnx.numpy_helper.to_array(value)))
        return zero and not isinstance(inputs[0], Value)
    if node.op_type == "Expand" and isinstance(inputs[0], Value) and not isinstance(inputs[1], Value):
        return not inputs[0].dynamic and not np.any(inputs[0].array)
    if node.op_type == "Concat":
        return all(isinstance(value, Zeros) for value in inputs)
    return node.op_type in MOVING and bool(inputs) and isinstance(inputs[0], Zeros)


def _passes(node: onnx.NodeProto, first: Value, others: list[Value | None]) -> bool:
    """Whether Identity, Dropout or Cast leaves every element of its first input unchanged."""
    if node.op_type == "Cast":
        to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)
        floating = np.issubdtype(first.array.dtype, np.floating)
        return to in FLOATS if floating else to in (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
    if node.op_type == "Dropout" and len(others) > 1 and (training := others[1]) is not None:
        return not training.dynamic and not np.any(training.array)
    return True


def _is_bounded(node: onnx.NodeProto, arrays: list[np.ndarray | None]) -> bool:
    """Whether the operator may be run: its result is not too large, and it does not compute with elements."""
    sizes = [0 if array is None else array.size for array in arrays]
    op = node.op_type
    if op in INTEGER:
        whole = all(a is None or np.issubdtype(a.dtype, np.integer) or a.dtype == bool for a in arrays)
        return whole and prod(max(size, 1) for size in sizes) <= MAX_SHAPE_ELEMENTS**2
    if op in ("ConstantOfShape", "Expand"):
        shape = arrays[-1]
        if shape is None or shape.size > 16 or not np.issubdtype(shape.dtype, np.integer):
            return False
        grown = prod(max(int(size), 1) for size in shape.ravel()) * (sizes[0] if op == "Expand" else 1)
        return 0 <= grown <= MAX_OUTPUT_ELEMENTS
    if op == "Gather":
        return sizes[0] * sizes[1] <= MAX_OUTPUT_ELEMENTS
    return sum(sizes) <= MAX_OUTPUT_ELEMENTS
