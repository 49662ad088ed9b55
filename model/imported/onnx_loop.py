"""A recurrence of one cell that an exporter wrote as ``Loop`` or ``Scan``: an RNN, an LSTM or a GRU.

Exporters write the same cell in many ways: matrices added or joined, gates in any order, x gathered by a counter.  The
body is therefore not compared with patterns.  Its operators are run on numbers: on unit vectors, of which each gives a
column of W_x or W_h in front of every activation, and on a random sequence.  Of the cells that these matrices can make,
with the gates in any order, the one is taken that computes every state of that sequence.

A GRU must have its reset gate before the product with h; the other kind is an operator in all exporters.
"""

from collections.abc import Iterator
from itertools import permutations
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from chessrnn.model.imported.float_evaluation import State, run_layer, sigmoid
from chessrnn.model.imported.onnx_probe import DEFAULT_DOMAINS, MAX_OUTPUT_ELEMENTS, describe
from chessrnn.model.imported.recurrent_network import DirectionWeights, RecurrentLayer

LOOP, SCAN = "Loop", "Scan"
ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu"}
SIGMOID = "Sigmoid"
# Numbers of operators Sigmoid and of others in front of which the sums of a cell are: gates may share an operator.
CELL_COUNTS = {(0, 1): "rnn", (1, 2): "lstm", (3, 2): "lstm", (1, 1): "gru", (2, 1): "gru"}
NUM_GATES = {"rnn": 0, "lstm": 3, "gru": 2}
NUM_STATES = {"rnn": 1, "lstm": 2, "gru": 1}
# What a body may compute: sums and products, and moves of elements whose results are no larger than their inputs.
ELEMENTWISE = ("Add", "Sub", "Mul", "Sum", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not",
               "Min", "Max", "Neg", "Identity", "Cast", SIGMOID, *ACTIVATIONS)  # fmt: skip
PRODUCTS = ("MatMul", "Gemm")
MOVES = ("Squeeze", "Unsqueeze", "Reshape", "Transpose", "Concat", "Slice", "Split", "Gather", "Constant", "Shape")
MAX_BODY = 64
# Bounds of a step: elements of all results, and multiplications of one product.
MAX_STEP_ELEMENTS = 1 << 26
MAX_MULTIPLICATIONS = 1 << 30
MAX_STEPS = 1024
# Bound of everything that is computed to find a cell, in multiplications: some minutes, where an LSTM of 1,024 elements
# and 2,048 units takes half of it.  Making one element of a result takes as long as some multiplications of a product.
MAX_WORK = 1 << 38
WORK_OF_AN_ELEMENT = 32
TOLERANCE = 1e-10


class NotPlain(Exception):
    """The body is not one cell; the text says why."""


class LoopCell(NamedTuple):
    """A cell that was found.

    Attributes
    ----------
    cell : str
        ``"rnn"``, ``"lstm"`` or ``"gru"``.
    w_x, w_h, bias : arrays (G·H, X), (G·H, H), (G·H,)
        Rows in the order of ``recurrent_network.CELL_GATES``.
    activation : str
        ``"tanh"`` or ``"relu"``.
    states : tuple of str
        Inputs of the node with the first h and, of an LSTM, the first c.
    last, sequence : str
        Outputs of the node with the last h and with every h; empty where there is none.
    element_shape : tuple of int
        Shape of one element of ``sequence``.
    """

    cell: str
    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    activation: str
    states: tuple[str, ...]
    last: str
    sequence: str
    element_shape: tuple[int, ...]


def body_of(node: onnx.NodeProto) -> onnx.GraphProto | None:
    """Return the body of a Loop or Scan."""
    found = [attribute.g for attribute in node.attribute if attribute.name == "body"]
    return found[0] if len(found) == 1 else None


def _counts(body: onnx.GraphProto) -> tuple[int, int]:
    kinds = [one.op_type for one in body.node]
    return kinds.count(SIGMOID), sum(kind in ACTIVATIONS for kind in kinds)


def is_plain(node: onnx.NodeProto) -> bool:
    """Whether a node may be the recurrence of one cell, by the operators of its body."""
    body = body_of(node) if node.op_type in (LOOP, SCAN) and node.domain in DEFAULT_DOMAINS else None
    if body is None or len(body.node) > MAX_BODY or _counts(body) not in CELL_COUNTS:
        return False
    known = (*ELEMENTWISE, *PRODUCTS, *MOVES)
    if any(one.domain not in DEFAULT_DOMAINS or one.op_type not in known for one in body.node):
        return False
    return any(one.op_type in PRODUCTS for one in body.node)


def outer_names(node: onnx.NodeProto) -> list[str]:
    """List the tensors around a node that its body reads."""
    body = body_of(node)
    assert body is not None  # is_plain
    inside = {info.name for info in body.input} | {tensor.name for tensor in body.initializer}
    inside |= {name for one in body.node for name in one.output}
    read = [name for one in body.node for name in one.input] + [info.name for info in body.output]
    return list(dict.fromkeys(name for name in read if name and name not in inside))


def _multiplications(node: onnx.NodeProto, arrays: list[np.ndarray]) -> int:
    """Most multiplications of numbers that the matrix product of an operator can take; 0 for other operators."""
    if node.op_type == "MatMul" and all(array.ndim for array in arrays):
        return _results_of_product(*arrays) * arrays[0].shape[-1]
    if node.op_type == "Gemm":
        # The three sizes of the product are among those of both matrices.
        return prod(sorted(size for array in arrays[:2] for size in array.shape)[1:])
    return 0


def _results_of_product(a: np.ndarray, b: np.ndarray) -> int:
    return prod(a.shape[:-1]) * prod(b.shape[:-2]) * (b.shape[-1] if b.ndim > 1 else 1)


def _is_bounded(node: onnx.NodeProto, arrays: list[np.ndarray]) -> bool:
    """Whether the result of an operator is small enough to compute."""
    if _multiplications(node, arrays) > MAX_MULTIPLICATIONS:
        return False
    if node.op_type == "MatMul" and all(array.ndim for array in arrays):
        return _results_of_product(*arrays) <= MAX_OUTPUT_ELEMENTS
    if node.op_type == "Gemm":
        return prod(sorted(size for array in arrays[:2] for size in array.shape)[-2:]) <= MAX_OUTPUT_ELEMENTS
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
        self.work = 0

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

    def step(self, number: int, states: list[np.ndarray], x: np.ndarray) -> dict[str, Any]:
        """Run the body once; return all its tensors by name."""
        found = {**self.values, self.x: x, **self.constants}
        if self.is_loop:
            found |= {self.inputs[0]: np.array(number), self.inputs[1]: np.array(True)}
            found |= dict(zip(self.inputs[2:], states, strict=True))
        else:
            found |= dict(zip(self.inputs, [*states, x[number]], strict=True))
        left = MAX_STEP_ELEMENTS
        for one, evaluator in self.nodes:
            feeds = {name: found[name] for name in one.input if name}
            arrays = [found[name] for name in one.input if name]
            if not _is_bounded(one, arrays):
                raise NotPlain(f"the result of {describe(one)} is too large")
            self.work += _multiplications(one, arrays)
            first = found[one.input[0]] if one.input and one.input[0] else None
            if one.op_type == "Cast" and first is not None and first.dtype.kind == "f" and self._keeps_floats(one):
                results = [first]
            else:
                results = [self._float(np.asarray(result)) for result in evaluator.run(None, feeds, attributes={})]
            found |= dict(zip(one.output, results, strict=False))
            elements = sum(result.size for result in results)
            left -= elements
            if left < 0:
                raise NotPlain("the results of its operators are too large together")
            self.work += WORK_OF_AN_ELEMENT * elements
            if self.work > MAX_WORK:
                raise NotPlain(f"to find its matrices takes more than {MAX_WORK:.0e} multiplications")
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


class _Rows(NamedTuple):
    """Sums in front of an operator, as a function of x and h: w_x·x + w_h·h + bias."""

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray

    def part(self, number: int, size: int) -> "_Rows":
        """Return the rows of one gate of several."""
        return _Rows(*(rows[number * size : (number + 1) * size] for rows in self))

    def negated(self) -> "_Rows":
        """Return the rows of a gate that is written as 1 minus another."""
        return _Rows(*(-rows for rows in self))


def _stacked(rows: list[_Rows]) -> _Rows:
    return _Rows(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))


def _units(size: int, rows: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Iterate over the unit vectors in groups (rows, size): number of the first, how many, and the group."""
    for first in range(0, size, rows):
        group = np.zeros((rows, size))
        count = min(rows, size - first)
        group[np.arange(count), first + np.arange(count)] = 1
        yield first, count, group


def read_cell(
    node: onnx.NodeProto, version: int, values: dict[str, np.ndarray], x: str, rng: np.random.Generator
) -> LoopCell:
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
        The body is not one cell that reads x in order.
    """
    try:
        return _Search(_Recurrence(node, version, values, x), rng).cell()
    except NotPlain:
        raise
    except Exception as error:  # The reference raises whatever NumPy does.
        raise NotPlain(f"it fails: {' '.join(str(error).split())[:60] or type(error).__name__}") from None


class _Search:
    """Search for the cell of a recurrence."""

    def __init__(self, loop: _Recurrence, rng: np.random.Generator):
        self.loop = loop
        self.steps, self.batch, self.width = loop.values[loop.x].shape
        if loop.is_loop and loop.node.input[1] and not np.all(loop.values[loop.node.input[1]]):
            raise NotPlain("it never runs")
        if not 0 < self.steps <= MAX_STEPS:
            raise NotPlain(f"it has {self.steps} steps, which is not from 1 to {MAX_STEPS}")
        self.zero, self.x = np.zeros((self.steps, self.batch, self.width)), rng.normal(size=loop.values[loop.x].shape)
        self.kind = CELL_COUNTS[_counts(loop.body)]
        self.places = self._places()
        self.shapes = [loop.start(self.zero)[place].shape for place in self.places]
        self.size = prod(self.shapes[0]) // self.batch
        self.first = [rng.normal(size=shape) for shape in self.shapes]
        self.sequences = [loop.body.output[number].name
                          for number in range(loop.first_output + len(loop.states), len(loop.body.output))]  # fmt: skip
        self.history: list[list[np.ndarray]] = []
        self.outputs: list[list[np.ndarray]] = []
        self._run()

    def _places(self) -> list[int]:
        """Find the states in float that a step changes: h, and c of an LSTM."""
        states = self.loop.start(self.x)
        after = self.loop.next_states(self.loop.step(0, states, self.x))
        places = [
            number for number, (old, new) in enumerate(zip(states, after, strict=True))
            if self.loop.states[number] != self.loop.x and old.dtype.kind == "f" and old.shape == new.shape
            and old.size and old.size % self.batch == 0 and not np.array_equal(old, new)
        ]  # fmt: skip
        wanted = NUM_STATES[self.kind]
        if len(places) != wanted or len({states[place].size for place in places}) != 1:
            raise NotPlain(f"{len(places)} of its states are like h, not {wanted} as in a cell {self.kind}")
        return places

    def _run(self) -> None:
        """Run the random sequence, and keep every state and every output."""
        states = self.loop.start(self.x)
        for place, value in zip(self.places, self.first, strict=True):
            states[place] = value
        for number in range(self.steps):
            found = self.loop.step(number, states, self.x)
            states = self.loop.next_states(found)
            self.history.append([states[place].reshape(self.batch, self.size) for place in self.places])
            self.outputs.append([found[name] for name in self.sequences])
            if self.loop.is_loop and self.loop.goes_on(number + 1, found) != (number + 1 < self.steps):
                raise NotPlain("it ends after another number of steps than x has")

    def sums(self, names: list[str], x: np.ndarray, h: np.ndarray, place: int) -> list[np.ndarray]:
        """Compute tensors (B, N) for x (B, X) and h (B, H), all other states being zero."""
        everything = self.zero.copy()
        everything[0] = x
        given = self.loop.start(everything)
        for other, shape in zip(self.places, self.shapes, strict=True):
            given[other] = h.reshape(shape) if other == place else np.zeros(shape)
        found = self.loop.step(0, given, everything)
        return [found[name].reshape(self.batch, -1) for name in names]

    def rows(self, names: list[str], place: int) -> list[_Rows]:
        """Find the matrices of some tensors from their values for unit vectors."""
        no_x, no_h = np.zeros((self.batch, self.width)), np.zeros((self.batch, self.size))
        biases = [values[0] for values in self.sums(names, no_x, no_h, place)]
        result = [_Rows(np.zeros((len(b), self.width)), np.zeros((len(b), self.size)), b) for b in biases]
        for first, count, group in _units(self.width, self.batch):
            for rows, values in zip(result, self.sums(names, group, no_h, place), strict=True):
                rows.w_x[:, first : first + count] = (values - rows.bias)[:count].T
        for first, count, group in _units(self.size, self.batch):
            for rows, values in zip(result, self.sums(names, no_x, group, place), strict=True):
                rows.w_h[:, first : first + count] = (values - rows.bias)[:count].T
        return result

    def candidates(self) -> Iterator[tuple[_Rows, str, list[int]]]:
        """Iterate over what the cell may be: its rows, the activation of an RNN, and the places of h and c."""
        gates = [one for one in self.loop.body.node if one.op_type == SIGMOID]
        inner = [one for one in self.loop.body.node if one.op_type in ACTIVATIONS]
        for order in permutations(range(len(self.places))):
            found = self.rows([one.input[0] for one in (*gates, *inner)], self.places[order[0]])
            parts = [rows.part(number, self.size) for rows in found[: len(gates)]
                     for number in range(len(rows.bias) // self.size)]  # fmt: skip
            if len(parts) != NUM_GATES[self.kind]:
                raise NotPlain(f"it has {len(parts)} gates, not {NUM_GATES[self.kind]} as in a cell {self.kind}")
            for one, rows in zip(inner, found[len(gates) :], strict=True):
                if len(rows.bias) != self.size:
                    continue
                if self.kind == "rnn":
                    yield rows, ACTIVATIONS[one.op_type], [0]
                elif one.op_type == "Tanh":
                    for chosen in permutations(parts):
                        for stacked in self._gated(rows, chosen):
                            yield stacked, "tanh", list(order)

    def _gated(self, found: _Rows, gates: tuple[_Rows, ...]) -> Iterator[_Rows]:
        """Iterate over the rows of a cell with gates in some order."""
        if self.kind == "lstm":
            yield _stacked([gates[0], gates[1], found, gates[2]])
            return
        reset, update = gates
        # W_h reads r·h: for the unit vector j, column j times r of unit j.
        opening = sigmoid(reset.w_h.diagonal() + reset.bias)
        candidate = found._replace(w_h=found.w_h / opening)
        yield _stacked([reset, update, candidate])
        yield _stacked([reset, update.negated(), candidate])

    def layer(self, rows: _Rows, activation: str) -> RecurrentLayer:
        """Make a layer of a candidate."""
        weights = DirectionWeights(rows.w_x, rows.w_h, rows.bias, np.zeros(len(rows.bias)))
        return RecurrentLayer("loop", self.kind, (weights,), linear_before_reset=False, activation=activation)

    def is_proved(self, layer: RecurrentLayer, order: list[int]) -> bool:
        """Whether a layer computes every state of the random sequence."""
        first = [self.first[number].reshape(1, self.batch, self.size) for number in order]
        state = State(first[0], first[1] if len(first) > 1 else None)
        for x, wanted in zip(self.x, self.history, strict=True):
            _, state = run_layer(layer, x[None], np.ones(self.batch, dtype=np.int64), state)
            for found, number in zip((state.h, state.c), order, strict=False):
                if found is None or not np.allclose(found[0], wanted[number], TOLERANCE, TOLERANCE):
                    return False
        return True

    def cell(self) -> LoopCell:
        """Return the cell that computes the same."""
        for rows, activation, order in self.candidates():
            if not self.is_proved(self.layer(rows, activation), order):
                continue
            place = self.places[order[0]]
            same = [
                number for number in range(len(self.sequences))
                if all(out[number].size == one[order[0]].size
                       and np.allclose(out[number].ravel(), one[order[0]].ravel(), TOLERANCE, TOLERANCE)
                       for out, one in zip(self.outputs, self.history, strict=True))
            ]  # fmt: skip
            names = [*self.loop.node.output, *[""] * len(self.loop.outputs)]
            states = tuple(self.loop.states[self.places[number]] for number in order)
            sequence = names[len(self.loop.states) + same[0]] if same else ""
            shape = self.outputs[0][same[0]].shape if same else ()
            return LoopCell(self.kind, *rows, activation, states, names[place], sequence, shape)
        raise NotPlain(f"its states are not those of a cell {self.kind} that reads x in order")
