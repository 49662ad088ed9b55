"""A plain recurrence, h' = tanh or relu of W_x·x + W_h·h + b, that an exporter wrote as ``Loop`` or ``Scan``.

Exporters write the same cell in many ways: matrices added or joined, x gathered by a counter, counters beside h.  The
body is therefore not compared with patterns.  Its operators are run on numbers: on unit vectors, of which each gives a
column of W_x or W_h, and then on random sequences, for which every h must be that of the cell that was found.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from chessrnn.model.imported.onnx_probe import DEFAULT_DOMAINS, MAX_OUTPUT_ELEMENTS, describe

LOOP, SCAN = "Loop", "Scan"
ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu"}
# What a body may compute: sums and products, and moves of elements whose results are no larger than their inputs.
ELEMENTWISE = ("Add", "Sub", "Mul", "Sum", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not",
               "Min", "Max", "Identity", "Cast", *ACTIVATIONS)  # fmt: skip
PRODUCTS = ("MatMul", "Gemm")
MOVES = ("Squeeze", "Unsqueeze", "Reshape", "Transpose", "Concat", "Slice", "Split", "Gather", "Constant", "Shape")
MAX_BODY = 64
MAX_STEPS = 1024
TOLERANCE = 1e-10


class NotPlain(Exception):
    """The body is not one plain cell; the text says why."""


class PlainCell(NamedTuple):
    """A cell that was found.

    Attributes
    ----------
    w_x, w_h, bias : arrays (H, X), (H, H), (H,)
    activation : str
        ``"tanh"`` or ``"relu"``.
    state : str
        Input of the node with the first h.
    last, sequence : str
        Outputs of the node with the last h and with every h; empty where there is none.
    element_shape : tuple of int
        Shape of one element of ``sequence``.
    """

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    activation: str
    state: str
    last: str
    sequence: str
    element_shape: tuple[int, ...]


def body_of(node: onnx.NodeProto) -> onnx.GraphProto | None:
    """Return the body of a Loop or Scan."""
    found = [attribute.g for attribute in node.attribute if attribute.name == "body"]
    return found[0] if len(found) == 1 else None


def is_plain(node: onnx.NodeProto) -> bool:
    """Whether a node may be the recurrence of one plain cell, by the operators of its body."""
    body = body_of(node) if node.op_type in (LOOP, SCAN) and node.domain in DEFAULT_DOMAINS else None
    if body is None or len(body.node) > MAX_BODY:
        return False
    if any(
        one.domain not in DEFAULT_DOMAINS or one.op_type not in (*ELEMENTWISE, *PRODUCTS, *MOVES) for one in body.node
    ):
        return False
    return sum(one.op_type in ACTIVATIONS for one in body.node) == 1 and any(
        one.op_type in PRODUCTS for one in body.node
    )


def outer_names(node: onnx.NodeProto) -> list[str]:
    """List the tensors around a node that its body reads."""
    body = body_of(node)
    assert body is not None  # is_plain
    inside = {info.name for info in body.input} | {tensor.name for tensor in body.initializer}
    inside |= {name for one in body.node for name in one.output}
    read = [name for one in body.node for name in one.input] + [info.name for info in body.output]
    return list(dict.fromkeys(name for name in read if name and name not in inside))


def _is_bounded(node: onnx.NodeProto, arrays: list[np.ndarray]) -> bool:
    """Whether the result of an operator is small enough to compute."""
    if node.op_type == "MatMul" and all(array.ndim for array in arrays):
        a, b = arrays
        columns = b.shape[-1] if b.ndim > 1 else 1
        return prod(a.shape[:-1]) * prod(b.shape[:-2]) * columns <= MAX_OUTPUT_ELEMENTS
    if node.op_type == "Gemm":
        return prod(max(array.shape, default=1) for array in arrays[:2]) <= MAX_OUTPUT_ELEMENTS
    if node.op_type in ELEMENTWISE:
        return prod(np.broadcast_shapes(*(array.shape for array in arrays))) <= MAX_OUTPUT_ELEMENTS
    if node.op_type == "Gather":
        return arrays[0].size * arrays[1].size <= MAX_OUTPUT_ELEMENTS
    return sum(array.size for array in arrays) <= MAX_OUTPUT_ELEMENTS


class _Recurrence:
    """The node, run step by step on numbers in float64."""

    def __init__(self, node: onnx.NodeProto, version: int, values: dict[str, np.ndarray], x: str):
        self.node, self.values, self.x = node, values, x
        body = body_of(node)
        assert body is not None  # is_plain
        self.body = body
        self.is_loop = node.op_type == LOOP
        options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        self.num_scans = 0 if self.is_loop else int(options.pop("num_scan_inputs", 0))
        options.pop("body")
        if any(value != [0] for value in options.values()):
            raise NotPlain(f"{next(iter(options))} of {describe(node)} is not 0")
        states = node.input[2:] if self.is_loop else node.input[: len(node.input) - self.num_scans]
        self.states: list[str] = list(states)
        # The counter and the condition of a Loop come first in its body.
        self.inputs = [info.name for info in body.input]
        self.outputs = [info.name for info in body.output]
        if not self.is_loop and (self.num_scans != 1 or node.input[-1] != x):
            raise NotPlain("it scans other tensors than x")
        extra_inputs, extra_outputs = (2, 1) if self.is_loop else (self.num_scans, 0)
        if len(self.inputs) != len(self.states) + extra_inputs or len(self.outputs) < len(self.states) + extra_outputs:
            raise NotPlain("its body has another number of inputs or outputs")
        self.first_output = extra_outputs
        self.constants = {tensor.name: self._float(onnx.numpy_helper.to_array(tensor)) for tensor in body.initializer}
        self.nodes = [(one, self._evaluator(one, version)) for one in body.node]

    @staticmethod
    def _float(array: np.ndarray) -> np.ndarray:
        return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array

    @staticmethod
    def _evaluator(one: onnx.NodeProto, version: int) -> ReferenceEvaluator:
        """Prepare an operator to be run."""
        if any(attribute.ref_attr_name or attribute.type == AttributeProto.GRAPH for attribute in one.attribute):
            raise NotPlain(f"{describe(one)} has an attribute of a function")
        names = list(dict.fromkeys(name for name in one.input if name))
        function = helper.make_function("loop", "loop", names, one.output, [one], [helper.make_opsetid("", version)])
        return ReferenceEvaluator(function)

    @staticmethod
    def _keeps_floats(one: onnx.NodeProto) -> bool:
        kinds = [attribute.i for attribute in one.attribute if attribute.name == "to"]
        return kinds[:1] in ([TensorProto.FLOAT], [TensorProto.DOUBLE], [TensorProto.FLOAT16])

    def start(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the first states; a Loop may hand x on from step to step."""
        return [x if name == self.x else self.values[name] for name in self.states]

    def step(self, number: int, states: list[np.ndarray], x: np.ndarray, until: str | None = None) -> dict[str, Any]:
        """Run the body once: all its tensors by name, as far as the one called ``until``."""
        found = {**self.values, self.x: x, **self.constants}
        if self.is_loop:
            found |= {self.inputs[0]: np.array(number), self.inputs[1]: np.array(True)}
            found |= dict(zip(self.inputs[2:], states, strict=True))
        else:
            found |= dict(zip(self.inputs, [*states, x[number]], strict=True))
        for one, evaluator in self.nodes:
            feeds = {name: found[name] for name in one.input if name}
            if not _is_bounded(one, [found[name] for name in one.input if name]):
                raise NotPlain(f"the result of {describe(one)} is too large")
            first = found[one.input[0]] if one.input and one.input[0] else None
            if one.op_type == "Cast" and first is not None and first.dtype.kind == "f" and self._keeps_floats(one):
                results = [first]
            else:
                results = [self._float(np.asarray(result)) for result in evaluator.run(None, feeds, attributes={})]
            found |= dict(zip(one.output, results, strict=False))
            if until is not None and until in one.output:
                break
        return found

    def next_states(self, found: dict[str, Any]) -> list[np.ndarray]:
        """Return the states after a step."""
        names = self.outputs[self.first_output : self.first_output + len(self.states)]
        return [found[name] for name in names]

    def goes_on(self, number: int, found: dict[str, Any]) -> bool:
        """Whether there is another step after some number of them."""
        if not self.is_loop:
            return True
        limit = self.values[self.node.input[0]] if self.node.input[0] else None
        return bool(np.all(found[self.outputs[0]])) and (limit is None or number < int(limit.ravel()[0]))


def _units(size: int, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over the unit vectors in groups (rows, size), with the number of the first of each."""
    for first in range(0, size, rows):
        group = np.zeros((rows, size))
        count = min(rows, size - first)
        group[np.arange(count), first + np.arange(count)] = 1
        yield first, group


def read_cell(
    node: onnx.NodeProto, version: int, values: dict[str, np.ndarray], x: str, rng: np.random.Generator
) -> PlainCell:
    """Find the cell of a Loop or Scan, and prove it on numbers.

    Parameters
    ----------
    node : NodeProto
        For which :func:`is_plain` holds.
    version : int
        Version of the operator set.
    values : dict
        Inputs of the node and tensors that its body reads, in float64 where they are floats; whatever the real ones
        are, the cell is the same.
    x : str
        Name among them of the sequence (T, B, X).
    rng : Generator

    Raises
    ------
    NotPlain
        The body is not one plain cell that reads x in order.
    """
    try:
        return _read_cell(_Recurrence(node, version, values, x), rng)
    except NotPlain:
        raise
    except Exception as error:  # The reference raises whatever NumPy does.
        raise NotPlain(f"it fails: {' '.join(str(error).split())[:60] or type(error).__name__}") from None


def _read_cell(loop: _Recurrence, rng: np.random.Generator) -> PlainCell:
    steps, batch, width = loop.values[loop.x].shape
    if loop.is_loop and loop.node.input[1] and not np.all(loop.values[loop.node.input[1]]):
        raise NotPlain("it never runs")
    if not 0 < steps <= MAX_STEPS:
        raise NotPlain(f"it has {steps} steps, which is not from 1 to {MAX_STEPS}")
    one = next(one for one in loop.body.node if one.op_type in ACTIVATIONS)
    sums, activated = one.input[0], one.output[0]
    zero = np.zeros((steps, batch, width))
    # h is the state that becomes the result of the activation.
    states = loop.start(zero)
    found = loop.step(0, states, zero)
    after, h = loop.next_states(found), found[activated]
    numbers = [
        number for number, (old, new) in enumerate(zip(states, after, strict=True))
        if old.dtype.kind == "f" and old.shape == new.shape and np.array_equal(new.ravel(), h.ravel())
        and loop.states[number] != loop.x
    ]  # fmt: skip
    # A counter in float could be equal by accident; the random sequences decide.
    numbers = [number for number in numbers if states[number].size == h.size and h.size % batch == 0]
    if len(numbers) != 1:
        raise NotPlain(f"{len(numbers)} of its states are the result of {one.op_type}, not one")
    (place,) = numbers
    size = h.size // batch
    shape = states[place].shape

    def sums_of(x: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Sum (B, H) in front of the activation for x (B, X) and h (B, H)."""
        everything = zero.copy()
        everything[0] = x
        given = loop.start(everything)
        given[place] = h.reshape(shape)
        return loop.step(0, given, everything, sums)[sums].reshape(batch, size)

    no_x, no_h = np.zeros((batch, width)), np.zeros((batch, size))
    bias = sums_of(no_x, no_h)[0]
    w_x, w_h = np.zeros((size, width)), np.zeros((size, size))
    for first, group in _units(width, batch):
        count = min(batch, width - first)
        w_x[:, first : first + count] = (sums_of(group, no_h) - bias)[:count].T
    for first, group in _units(size, batch):
        count = min(batch, size - first)
        w_h[:, first : first + count] = (sums_of(no_x, group) - bias)[:count].T
    act = np.tanh if one.op_type == "Tanh" else lambda value: np.maximum(value, 0.0)
    # Random sequences show whether that is all that the loop does.
    x = rng.normal(size=zero.shape)
    states = loop.start(x)
    wanted = states[place].reshape(batch, size)
    outputs = loop.outputs[loop.first_output + len(loop.states) :]
    same = [True] * len(outputs)
    for number in range(steps):
        found = loop.step(number, states, x)
        states = loop.next_states(found)
        wanted = act(x[number] @ w_x.T + wanted @ w_h.T + bias)
        if not np.allclose(states[place].reshape(batch, size), wanted, TOLERANCE, TOLERANCE):
            raise NotPlain(f"h is not {ACTIVATIONS[one.op_type]} of sums of x and the h before")
        same = [
            so_far
            and found[name].size == wanted.size
            and np.allclose(found[name].ravel(), wanted.ravel(), TOLERANCE, TOLERANCE)
            for so_far, name in zip(same, outputs, strict=True)
        ]
        if loop.goes_on(number + 1, found) != (number + 1 < steps) and loop.is_loop:
            raise NotPlain("it ends after another number of steps than x has")
    sequence = (
        outputs.index(next(name for name, good in zip(outputs, same, strict=True) if good)) if any(same) else None
    )
    names = list(loop.node.output)
    number = len(loop.states) + (sequence or 0)
    return PlainCell(
        w_x, w_h, bias, ACTIVATIONS[one.op_type], loop.states[place], names[place] if place < len(names) else "",
        names[number] if sequence is not None and number < len(names) else "",
        found[outputs[sequence]].shape if sequence is not None else (),
    )  # fmt: skip
