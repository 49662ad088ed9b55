"""Reader of ONNX ``LSTM``, ``GRU`` and ``RNN`` nodes, alone or in a chain, as one network.

The nodes may be in a sub-graph or in a local function.  ``com.microsoft.DynamicQuantizeLSTM`` is read with its weights
dequantized: its activations, which it quantizes anew in every step, are then exact.

ONNX orders the gates I, O, F, C (LSTM) and Z, R, H (GRU), peepholes I, O, F, and concatenates the biases of W and R.
Source: ONNX operator specification, LSTM-22, GRU-22, RNN-22 and their earlier versions since 7.
"""

import contextlib
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from chessrnn.model.errors import InvalidFileError, shown
from chessrnn.model.imported import onnx_file, onnx_loop, onnx_search
from chessrnn.model.imported.linear_layer import NONE
from chessrnn.model.imported.listing import listed
from chessrnn.model.imported.onnx_linear import choose, linear_of
from chessrnn.model.imported.onnx_probe import MOVING, Known, Unknown, Value, Zeros, describe, follow, is_shape_only
from chessrnn.model.imported.recurrent_network import (
    CELL_GATES,
    DirectionWeights,
    LinearLayer,
    RecurrentLayer,
    RecurrentNetwork,
)

# Position of each of our gates in the order of ONNX.
GATE_ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}
PEEPHOLE_ORDER = (0, 2, 1)
DEFAULT_ACTIVATIONS = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}
COMMON_ATTRIBUTES = ("direction", "hidden_size", "layout", "activations")
ATTRIBUTES = {
    "lstm": (*COMMON_ATTRIBUTES, "input_forget"),
    "gru": (*COMMON_ATTRIBUTES, "linear_before_reset"),
    "rnn": COMMON_ATTRIBUTES,
}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
QUANTIZED_INPUTS = (*INPUTS, "W_scale", "W_zero_point", "R_scale", "R_zero_point")
QUANTIZED = "DynamicQuantizeLSTM"
# Sizes that the probe uses for dimensions known only at run time: steps, batch.
PROBE_SIZES = (3, 2)
# Greatest number of labels, and of elements of all traced results.
MAX_PROBE_ELEMENTS = 1 << 26
MAX_RESULT_ELEMENTS = 1 << 27


class _Source:
    """Labels of a graph input or of a node's output, numbers from ``start`` on."""

    def __init__(self, name: str, shape: tuple[int, ...], start: int, kind: type, recurrent: bool):
        self.name, self.start, self.end, self.recurrent = name, start, start + prod(shape), recurrent
        self.labels = np.arange(start, self.end, dtype=kind).reshape(shape)

    def feeds(self, array: np.ndarray) -> bool:
        """Whether the array contains one of the labels."""
        return bool(((array >= self.start) & (array < self.end)).any())


class _Reader:
    """Reader that walks once through a graph, in the order of its nodes."""

    def __init__(
        self,
        path: Path,
        found: list[onnx_search.Found],
        version: int,
        given: dict[str, np.ndarray],
        output_layer: str | None = None,
    ):
        self.output_layer = output_layer
        self.path, self.scope, self.version, self.given = path, found[0].scope, version, given
        self.nodes, self.chosen = self.scope.nodes(), [one.index for one in found]
        graphs = self.scope.graphs
        self.initializers = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
        self.values: dict[str, Known] = {}
        self.sources: list[_Source] = []
        self.shapes = {info.name: info for graph in graphs for info in graph.value_info}
        self.layers: list[RecurrentLayer] = []
        self.lengths: list[tuple] = []
        self.notes: list[str] = []
        # Output of the node that was read last, with whether it is batch-first, and its last h.
        self.last, self.final = ("", False), ""
        self.followed: set[int] = set()
        self.elements = 0

    def error(self, field: str, rule: str, value: object) -> InvalidFileError:
        """Create an error in the common grammar."""
        return InvalidFileError(f"{field} must be {rule}, not {value} as in {self.path}")

    # -- walk ----------------------------------------------------------------------------------------------

    def network(self) -> RecurrentNetwork:
        """Read every chosen node and return the network."""
        self._read_inputs()
        needed = self._ancestors()
        for index in sorted(needed):
            node = self.nodes[index]
            inputs = [self._value(name) if name else None for name in node.input]
            if index in self.chosen and node.op_type in onnx_search.LOOPS:
                self._read_loop(node, inputs)
            elif index in self.chosen:
                self._read_node(node, inputs)
            else:
                self._follow(index, node, inputs)
        linear = self._linear()
        fixed = None
        if self.lengths[0][0] == "constant":
            fixed = np.array(self.lengths[0][1:], dtype=np.int64)
            fixed.setflags(write=False)
        elif self.lengths[0][0] == "input":
            self.notes.append(f"lengths of the sequences are the input {self.lengths[0][1]!r}")
        return RecurrentNetwork(
            tuple(self.layers), str(self.path), fixed, self._ignored(), tuple(self.notes), linear=linear
        )

    def _follow(self, index: int, node: onnx.NodeProto, inputs: list[Known | None]) -> None:
        """Trace elements through a node."""
        recurrent = any(self._is_recurrent(value) for value in inputs)
        results = self._constant_node(node) or follow(node, inputs, self.version, recurrent)
        if is_shape_only(node) and not any(isinstance(result, Unknown) for result in results):
            self.followed.add(index)
        self.elements += sum(result.array.size for result in results if isinstance(result, Value))
        if self.elements > MAX_RESULT_ELEMENTS:
            rule = f"one whose operators around recurrent nodes produce at most {MAX_RESULT_ELEMENTS} elements"
            raise self.error("the graph", rule, f"more at {describe(node)}")
        for name, result in zip(node.output, results, strict=True):
            if name:
                self._check_new(node, name)
                self.values[name] = result

    def _linear(self) -> LinearLayer | None:
        """Find the linear layer that reads h of the last node, behind operators that only change shapes."""
        name, batch_first = self.last
        value = self.values.get(name)
        if self.output_layer == NONE or not isinstance(value, Value):
            return None
        size = self.layers[-1].output_size
        y = value.array.transpose(1, 0, 2, 3) if batch_first else value.array.transpose(0, 2, 1, 3)
        rows = [y.reshape(-1, size)]
        final = self.values.get(self.final)
        if isinstance(final, Value) and self.layers[-1].num_directions == 1:
            rows.append(final.array.reshape(-1, size))
        labels, found = np.concatenate(rows), []
        for index in range(self.chosen[-1] + 1, len(self.nodes)):
            node = self.nodes[index]
            if index in self.chosen or any(name in self.values for name in node.output):
                continue
            if not all(name in self.values or name in self.initializers for name in node.input if name):
                continue
            inputs = [self._known(name) for name in node.input]
            one = linear_of(self.nodes, index, inputs, labels, self._known)
            if one is not None:
                found.append(one)
            elif not any(isinstance(value, Unknown) for value in inputs):
                # What is behind the network need not be understood.
                with contextlib.suppress(InvalidFileError):
                    self._follow(index, node, inputs)
        chosen, remark = choose(found, size, self.output_layer)
        self.notes += [remark] if remark else []
        if chosen is None:
            return None
        self.followed |= set(chosen.nodes)
        return chosen.layer

    def _known(self, name: str) -> Known | None:
        """The value of a tensor, ``None`` where it is none that was followed."""
        return self._value(name) if name and (name in self.values or name in self.initializers) else None

    def _ancestors(self) -> set[int]:
        """Find the chosen nodes and all nodes that they depend on."""
        maker = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        needed, todo = set(), list(self.chosen)
        while todo:
            index = todo.pop()
            if index not in needed:
                needed.add(index)
                node = self.nodes[index]
                inner = (
                    onnx_loop.outer_names(node) if index in self.chosen and node.op_type in onnx_search.LOOPS else []
                )
                todo += [maker[name] for name in (*node.input, *inner) if name in maker]
        return needed

    def _ignored(self) -> tuple[str, ...]:
        quiet = (*MOVING, "Constant", "Shape", "ConstantOfShape")
        used = {id(self.nodes[index]) for index in (*self.chosen, *self.followed)}
        others = [node for node in self.scope.all_nodes() if id(node) not in used and node.op_type not in quiet]
        # A recurrent node is listed by its name, as it may be a network of its own.
        counts = Counter(
            f"operator {node.op_type}" + (f" {onnx_search.label(node)}" if onnx_search.cell_of(node) else "")
            for node in others
        )
        return tuple(f"{name}{f' x {number}' if number > 1 else ''}" for name, number in counts.items())

    def _check_new(self, node: onnx.NodeProto, name: str) -> None:
        if name in self.values or name in self.initializers:
            rule = f"written by one node of {self.path}"
            raise InvalidFileError(f"{shown(name)} must be {rule}, not also by {describe(node)}")

    def _value(self, name: str) -> Known:
        if name not in self.values:
            if name in self.initializers:
                array = onnx_file.constant(self.path, self.initializers[name], name)
                self.values[name] = Value(array, False)
            else:
                raise InvalidFileError(f"{shown(name)} must be written before it is read in {self.path}")
        return self.values[name]

    def _constant_node(self, node: onnx.NodeProto) -> list[Known] | None:
        """Read the tensor of a Constant node, with the same checks as every other tensor."""
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
            return [Value(onnx_file.constant(self.path, node.attribute[0].t, node.output[0]), False)]
        return None

    def _is_recurrent(self, value: Known | None) -> bool:
        if isinstance(value, Unknown):
            return value.recurrent
        if not isinstance(value, Value) or not value.dynamic:
            return False
        return any(source.feeds(value.array) for source in self.sources if source.recurrent)

    # -- labels --------------------------------------------------------------------------------------------

    def _label(self, name: str, shape: tuple[int, ...], kind: type, recurrent: bool) -> None:
        start = self.sources[-1].end if self.sources else 1
        if start + prod(shape) > MAX_PROBE_ELEMENTS:
            rule = f"of at most {MAX_PROBE_ELEMENTS} elements with those before it"
            raise self.error(f"the shape of {shown(name)}", rule, list(shape))
        self.sources.append(_Source(name, shape, start, kind, recurrent))
        self.values[name] = Value(self.sources[-1].labels, True)

    def _read_inputs(self) -> None:
        inputs = [info for graph in self.scope.graphs for info in graph.input]
        names = [info.name for info in inputs]
        for name, array in self.given.items():
            if name not in names:
                rule = f"arrays called like inputs of {self.path} ({listed(names)})"
                raise InvalidFileError(f"--inputs must hold {rule}, not {name!r}")
            self.values[name] = Value(array, False)
        width, sizes = self._input_size(), {}
        for info in inputs:
            if info.name in self.initializers or info.name in self.given:
                continue
            kind = info.type.tensor_type
            if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
                self.values[info.name] = Unknown(f"the input {info.name!r} without a shape", False)
                continue
            shape = []
            for axis, dim in enumerate(kind.shape.dim):
                usual = width if axis == len(kind.shape.dim) - 1 >= 1 else PROBE_SIZES[min(axis, 1)]
                size = dim.dim_value or sizes.setdefault(dim.dim_param or f"{info.name}:{axis}", usual)
                if size < 0:
                    raise self.error(f"the shape of {info.name!r}", "made of sizes of at least 1", size)
                shape.append(size)
            floating = kind.elem_type in (1, 10, 11, 16)
            self._label(info.name, tuple(shape), np.float64 if floating else np.int64, False)

    def _input_size(self) -> int:
        """Find X from the weights of the first node, as far as the file states their shape."""
        first = self.nodes[self.chosen[0]]
        name = first.input[1] if len(first.input) > 1 else ""
        shape = (
            self.given[name].shape if name in self.given else tuple(getattr(self.initializers.get(name), "dims", ()))
        )
        axis = 1 if first.op_type == QUANTIZED else 2
        return shape[axis] if len(shape) == 3 else PROBE_SIZES[-1]

    # -- one node ------------------------------------------------------------------------------------------

    def _attributes(self, node: onnx.NodeProto, cell: str) -> dict:
        found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        for name, value in found.items():
            if name not in ATTRIBUTES[cell]:
                known = ", ".join(ATTRIBUTES[cell])
                raise self.error(f"an attribute of {describe(node)}", f"one of {known}", f"{name} = {shown(value)}")
        if found.get("input_forget", 0) != 0:
            raise self.error(f"input_forget of {describe(node)}", "0", found["input_forget"])
        for name in ("direction", "layout", "hidden_size", "linear_before_reset"):
            if name in found and not isinstance(found[name], bytes if name == "direction" else int):
                raise self.error(
                    f"{name} of {describe(node)}",
                    "text" if name == "direction" else "a whole number",
                    repr(found[name]),
                )
        found["direction"] = found.get("direction", b"forward").decode(errors="replace").lower()
        if found["direction"] not in ("forward", "reverse", "bidirectional"):
            rule = "forward, reverse or bidirectional"
            raise self.error(f"direction of {describe(node)}", rule, repr(found["direction"]))
        if found.get("layout", 0) not in (0, 1):
            raise self.error(f"layout of {describe(node)}", "0 or 1", found["layout"])
        return found

    def _activation(self, node: onnx.NodeProto, cell: str, attributes: dict, directions: int) -> str:
        default = DEFAULT_ACTIVATIONS[cell]
        names = tuple(name.decode(errors="replace").lower() for name in attributes.get("activations", ()))
        if names in ((), default * directions):
            return "tanh"
        if cell == "rnn" and names == ("relu",) * directions:
            return "relu"
        rule = ", ".join(default) if cell != "rnn" else "tanh or relu"
        raise self.error(f"activations of {describe(node)}", rule, list(names))

    def _constant_input(self, node: onnx.NodeProto, inputs: dict, name: str, shape: tuple) -> np.ndarray | None:
        return None if inputs.get(name) is None else self._constant(node, inputs, name, shape)

    def _constant(self, node: onnx.NodeProto, inputs: dict, name: str, shape: tuple) -> np.ndarray:
        """Return a constant input as float64, 0 in ``shape`` being any size; the input must be given."""
        value = inputs[name]
        field = f"{name} of {describe(node)}"
        if not isinstance(value, Value) or value.dynamic or (value.sized and not name.startswith("initial")):
            raise self._not_constant(field, value)
        array = value.array
        if not (np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"):
            raise self.error(field, "floating-point numbers", str(array.dtype))
        kind = inputs["W"].array.dtype
        if array.dtype != kind and node.op_type != QUANTIZED:
            raise self.error(field, f"of type {kind} as W", str(array.dtype))
        wanted = tuple(size or found for size, found in zip(shape, array.shape, strict=False))
        if array.ndim != len(shape) or array.shape != wanted:
            rule = f"of shape {[size or 'any' for size in shape]}"
            raise self.error(field, rule, list(array.shape))
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise self.error(field, "made of finite numbers", array[~np.isfinite(array)][0])
        return array

    def _not_constant(self, field: str, value: Known) -> InvalidFileError:
        """Create the error for a weight that is not constant; a graph input can be given."""
        if isinstance(value, Value) and value.dynamic:
            found = self._graph_input(value.array)
            if found is not None:
                return self.error(
                    field, "a constant", f"the input {found[0].name!r} (--inputs FILE.npz gives its values)"
                )
        return self.error(field, "a constant", value.why if isinstance(value, Unknown) else "known only at run time")

    def _dequantized(self, node: onnx.NodeProto, inputs: dict, name: str) -> Value:
        """Dequantize W or R of a DynamicQuantizeLSTM, (D, columns, 4H), to the matrices (D, 4H, columns) of an LSTM."""
        parts = {}
        for part in (name, f"{name}_scale", f"{name}_zero_point"):
            value = inputs.get(part)
            if not isinstance(value, Value) or value.dynamic:
                field = f"{part} of {describe(node)}"
                raise self.error(field, "a constant", "left out") if value is None else self._not_constant(field, value)
            parts[part] = value.array
        codes, scale, zero = parts.values()
        sizes = [(codes.shape[0],), (codes.shape[0], codes.shape[-1])] if codes.ndim == 3 else []
        if codes.dtype not in (np.int8, np.uint8) or not sizes:
            kind = f"{codes.dtype} of shape {list(codes.shape)}"
            raise self.error(f"{name} of {describe(node)}", "three-dimensional and of type int8 or uint8", kind)
        for part in (f"{name}_scale", f"{name}_zero_point"):
            if parts[part].shape not in sizes:
                rule = f"of shape {list(sizes[0])} or {list(sizes[1])}"
                raise self.error(f"{part} of {describe(node)}", rule, list(parts[part].shape))
        scale, zero = (part.astype(np.float64).reshape(len(codes), 1, -1) for part in (scale, zero))
        # The difference of two bytes times a float32 is exact in float64.
        return Value(((codes - zero) * scale).swapaxes(1, 2), False)

    def _read_node(self, node: onnx.NodeProto, values: list[Known | None]) -> None:
        cell, names = onnx_search.cell_of(node), INPUTS
        assert cell is not None  # only recurrent nodes are chosen
        if node.op_type == QUANTIZED:
            names = QUANTIZED_INPUTS
        elif cell != "lstm":
            names = INPUTS[: INPUTS.index("initial_c")]
        if len(values) > len(names):
            raise self.error(f"the number of inputs of {describe(node)}", f"at most {len(names)}", len(values))
        inputs: dict[str, Any] = dict(zip(names, values, strict=False))
        for name in ("X", "W", "R"):
            if inputs.get(name) is None:
                raise InvalidFileError(f"{name} of {describe(node)} must be given in {self.path}, not left out")
        attributes = self._attributes(node, cell)
        directions = 2 if attributes["direction"] == "bidirectional" else 1
        activation = self._activation(node, cell, attributes, directions)
        gates = len(CELL_GATES[cell])
        if node.op_type == QUANTIZED:
            inputs |= {name: self._dequantized(node, inputs, name) for name in ("W", "R")}
            self.notes.append(
                f"{describe(node)} is read with dequantized weights, and activations that are not quantized"
            )
        w = self._constant(node, inputs, "W", (directions, None, None))
        size_h = w.shape[1] // gates
        if size_h < 1 or w.shape[1] != gates * size_h or size_h != attributes.get("hidden_size", size_h):
            rule = f"{gates} times hidden_size {attributes.get('hidden_size', '')}".rstrip()
            raise self.error(f"rows of W of {describe(node)}", rule, w.shape[1])
        r = self._constant(node, inputs, "R", (directions, gates * size_h, size_h))
        b = self._constant_input(node, inputs, "B", (directions, 2 * gates * size_h))
        p = self._constant_input(node, inputs, "P", (directions, 3 * size_h))
        batch_first = attributes.get("layout", 0) == 1
        steps, batch = self._place(node, inputs["X"], batch_first, w.shape[2])
        self._read_lengths(node, inputs.get("sequence_lens"), steps)
        states, sources = [], []
        for name in ("initial_h", "initial_c"):
            array, source = self._state(node, inputs, name, batch_first, (directions, None, size_h))
            states.append(array)
            sources += [source] if source else []
        weights = tuple(
            DirectionWeights(
                _reordered(w[d], cell),
                _reordered(r[d], cell),
                *(
                    _reordered(part, cell)
                    for part in (np.split(b[d], 2) if b is not None else np.zeros((2, gates * size_h)))
                ),
                peepholes=None if p is None else p[d].reshape(3, size_h)[list(PEEPHOLE_ORDER)],
                initial_h=None if states[0] is None else states[0][d],
                initial_c=None if states[1] is None else states[1][d],
            )
            for d in range(directions)
        )
        self.layers.append(
            RecurrentLayer(
                node.name or node.output[0] or f"{node.op_type}{len(self.layers)}", cell, weights,
                attributes["direction"], cell != "gru" or attributes.get("linear_before_reset", 0) != 0, activation,
                tuple(sources),
            )
        )  # fmt: skip
        shape = (batch, steps, directions, size_h) if batch_first else (steps, directions, batch, size_h)
        state = (batch, directions, size_h) if batch_first else (directions, batch, size_h)
        # The next node recognizes the labels of Y, so they exist even where nothing reads Y.
        for name, size in zip(node.output, (shape, state, state), strict=False):
            if name:
                self._check_new(node, name)
                self._label(name, size, np.float64, True)
        self.last = node.output[0] if node.output else "", batch_first
        self.final = node.output[1] if len(node.output) > 1 else ""

    def _read_loop(self, node: onnx.NodeProto, inputs: list[Known | None]) -> None:
        """Read a Loop or Scan whose body is one cell."""
        rng = np.random.default_rng(len(self.layers))
        try:
            tensors, values, x = self._numbers_of_loop(node, inputs, rng)
            cell = onnx_loop.read_cell(node, self.version, values, x, rng)
        except onnx_loop.NotPlain as error:
            rule = "one cell of RNN, LSTM or GRU over all steps of x, or an operator of these names"
            raise InvalidFileError(f"{describe(node)} must be {rule}, in {self.path}: {error}") from None
        array, size = tensors[x].array, cell.w_h.shape[1]
        if self.layers:
            self._check_chain(node, tensors[x], array)
        else:
            self._note_input(node, array)
        initial: dict[str, np.ndarray | None] = {}
        sources = []
        for field, name in zip(("initial_h", "initial_c"), cell.states, strict=False):
            state = tensors[name]
            given = {field: state._replace(array=state.array.reshape(1, -1, size)), "W": state}
            constant, source = self._state(node, given, field, False, (1, None, size))
            initial[field] = None if constant is None else constant[0]
            sources += [source] if source else []
        weights = DirectionWeights(cell.w_x, cell.w_h, cell.bias, np.zeros(len(cell.bias)), **initial)
        label = onnx_search.label(node)
        # The reset gate of a GRU in a loop is before the product.
        self.layers.append(
            RecurrentLayer(label, cell.cell, (weights,), "forward", cell.cell != "gru", cell.activation, tuple(sources))
        )
        self.lengths.append(("none",))
        self._label_loop(cell, label, array, size)
        if cell.last:
            self._label(cell.last, tensors[cell.states[0]].array.shape, float, True)

    def _numbers_of_loop(
        self, node: onnx.NodeProto, inputs: list[Known | None], rng: np.random.Generator
    ) -> tuple[dict[str, Value], dict[str, np.ndarray], str]:
        """Collect the tensors that a Loop or Scan reads, the numbers to run it on, and the name of x.

        Labels do not matter there: x and the first h become random numbers.

        Raises
        ------
        onnx_loop.NotPlain
            A tensor is not known, or not one of them is a sequence.
        """
        known = {name: value for name, value in zip(node.input, inputs, strict=True) if value is not None}
        known |= {name: self._value(name) for name in onnx_loop.outer_names(node)}
        tensors: dict[str, Value] = {}
        values, sequences = {}, []
        for name, value in known.items():
            if not isinstance(value, Value):
                raise onnx_loop.NotPlain(f"it reads {getattr(value, 'why', 'zeros of unknown shape')}")
            floating, tensors[name] = np.issubdtype(value.array.dtype, np.floating), value
            values[name] = value.array.astype(np.float64) if floating else value.array
            if value.dynamic and not floating:
                raise onnx_loop.NotPlain(f"it reads the integers {shown(name)}")
            if value.dynamic:
                values[name] = rng.normal(size=value.array.shape)
                sequences += [name] if value.array.ndim == 3 else []
        if len(sequences) != 1:
            raise onnx_loop.NotPlain(f"it reads {len(sequences)} sequences (steps, batch, elements)")
        return tensors, values, sequences[0]

    def _label_loop(self, cell: onnx_loop.LoopCell, label: str, x: np.ndarray, size: int) -> None:
        """Label every h of a Loop or Scan, also in the shape in which the next node recognizes an operator's."""
        name = cell.sequence or f"{label}: every h"
        self._label(name, (len(x), *cell.element_shape) if cell.sequence else (*x.shape[:2], size), float, True)
        # An operator's output is (steps, directions, batch, units); no tensor of the file has this name.
        self.last = f"{name}: (T, 1, B, H)", False
        self.values[self.last[0]] = Value(self.sources[-1].labels.reshape(len(x), 1, -1, size), True)
        self.final = cell.last

    # -- inputs of a node ----------------------------------------------------------------------------------

    def _place(self, node: onnx.NodeProto, x: Known, batch_first: bool, width: int) -> tuple[int, int]:
        """Check that X continues the chain; return the numbers of steps and sequences of the labels."""
        if isinstance(x, Value) and x.array.ndim == 3 and x.array.shape[2] == width:
            array = x.array.swapaxes(0, 1) if batch_first else x.array
            if self.layers:
                self._check_chain(node, x, array)
            else:
                self._note_input(node, array)
            return array.shape[0], array.shape[1]
        if isinstance(x, Value):
            rule = f"of 3 dimensions, the last {width}"
            raise self.error(f"X of {describe(node)}", rule, f"of shape {list(x.array.shape)}")
        if self.layers:
            self._check_chain(node, x, None)
        if isinstance(x, Unknown):
            self.notes.append(f"x is the output of {x.why}")
        shape = self._declared(node.input[0])
        steps, batch = (shape[1], shape[0]) if batch_first else (shape[0], shape[1])
        return steps or PROBE_SIZES[0], batch or PROBE_SIZES[1]

    def _declared(self, name: str) -> list[int]:
        """Return the sizes of a tensor as far as the file states them, else 0."""
        info = self.shapes.get(name)
        dims = [] if info is None else [max(0, dim.dim_value) for dim in info.type.tensor_type.shape.dim]
        return dims if len(dims) == 3 else [0, 0, 0]

    def _check_chain(self, node: onnx.NodeProto, x: Known, array: np.ndarray | None) -> None:
        if isinstance(x, Unknown) and x.recurrent:
            rule = "connected to the recurrent node before it by operators that only change shapes"
            raise self.error(f"X of {describe(node)}", rule, x.why)
        name, batch_first = self.last
        if array is not None and name:
            value = self.values[name]
            assert isinstance(value, Value)  # the labels of a recurrent node's output
            y = value.array
            y = y.transpose(1, 0, 2, 3) if batch_first else y.transpose(0, 2, 1, 3)
            if np.array_equal(array, y.reshape(*y.shape[:2], -1)):
                return
        rule = f"the output of {self.layers[-1].name!r}, every element in its place: one chain (--prefix chooses nodes)"
        raise self.error(f"X of {describe(node)}", rule, "another tensor")

    def _note_input(self, node: onnx.NodeProto, array: np.ndarray) -> None:
        for source in self.sources:
            for labels, order in (
                (source.labels, "steps, batch"),
                (source.labels.swapaxes(0, 1) if source.labels.ndim == 3 else source.labels, "batch, steps"),
                (source.labels[:, None] if source.labels.ndim == 2 else source.labels, "steps"),
            ):
                if np.array_equal(labels, array):
                    self.notes.append(f"x is the input {source.name!r} ({order}, {array.shape[2]})")
                    return
        self.notes.append(f"x is the tensor {node.input[0]!r}")

    def _graph_input(self, array: np.ndarray) -> tuple[_Source, int] | None:
        """Find the graph input whose elements, from some offset on and in their order, are the array."""
        for source in self.sources:
            if not source.recurrent and array.size and source.feeds(array.flat[:1]):
                start = int(array.flat[0])
                good = np.array_equal(array.ravel(), np.arange(start, start + array.size))
                return (source, start - source.start) if good else None
        return None

    def _state(self, node, inputs: dict, name: str, batch_first: bool, shape: tuple):
        """Return a constant first state (D, 1 or B, size) unless it is zero, and the graph input that supplies it."""
        value = inputs.get(name)
        if value is None or isinstance(value, Zeros):
            return None, None
        field = f"{name} of {describe(node)}"
        if isinstance(value, Value) and value.dynamic:
            array = value.array.swapaxes(0, 1) if batch_first and value.array.ndim == 3 else value.array
            wanted = (shape[0], array.shape[1] if array.ndim == 3 else 1, shape[2])
            found = self._graph_input(value.array)
            if found is None or array.shape != wanted:
                raise self.error(field, "a constant or a graph input", "another tensor")
            rows = array.shape[1] * array.shape[2]
            number = found[1] // rows
            return None, f"{found[0].name}[{number}:{number + shape[0]}]"
        if isinstance(value, Unknown):
            raise self.error(field, "a constant or a graph input", f"the output of {value.why}")
        array = value.array
        if array.ndim == 3 and batch_first:
            array = array.swapaxes(0, 1)
        array = self._constant(node, {**inputs, name: Value(array, False)}, name, shape)
        if not array.any():
            return None, None
        # A state that is the same for every sequence is valid for any batch size.
        return (array[:, :1] if (array == array[:, :1]).all() else array), None

    def _read_lengths(self, node: onnx.NodeProto, value: Known | None, steps: int) -> None:
        field = f"sequence_lens of {describe(node)}"
        if value is None:
            found = ("none",)
        elif not isinstance(value, Value) or not np.issubdtype(value.array.dtype, np.integer) or value.array.ndim != 1:
            why = f"the output of {value.why}" if isinstance(value, Unknown) else "another tensor"
            raise self.error(field, "a vector of integers that is a constant or a graph input", why)
        elif value.sized:
            if (value.array != steps).any():
                raise self.error(field, "equal to the number of steps where it is computed", "another number")
            found = ("none",)
        elif not value.dynamic:
            found = ("constant", *(int(length) for length in value.array))
        else:
            source = self._graph_input(value.array)
            if source is None or source[1] != 0 or source[0].labels.size != value.array.size:
                raise self.error(field, "a constant or a graph input", "another tensor")
            found = ("input", source[0].name)
        if self.lengths and found != self.lengths[0]:
            raise self.error(field, "the same as of the nodes before", "another tensor")
        self.lengths.append(found)


def _reordered(rows: np.ndarray, cell: str) -> np.ndarray:
    """Reorder rows from the gate order of ONNX to ours."""
    blocks = np.split(rows, len(CELL_GATES[cell]))
    return np.concatenate([blocks[index] for index in GATE_ORDER[cell]])


def read_network(
    path: Path,
    found: list[onnx_search.Found],
    version: int,
    given: dict[str, np.ndarray] | None = None,
    output_layer: str | None = NONE,
) -> RecurrentNetwork:
    """Read recurrent nodes that are found already; ``version`` is that of the default operator set."""
    return _Reader(path, found, version, given or {}, output_layer).network()


def network_from_onnx(
    path: str | Path,
    prefix: str | None = None,
    given: dict[str, np.ndarray] | None = None,
    output_layer: str | None = None,
) -> RecurrentNetwork:
    """Read the recurrent nodes of a model as a network.

    Parameters
    ----------
    path : path
    prefix : str, optional
        Path of a node, or the beginning of the paths of the nodes to be read; every recurrent node when left out.
    given : dict, optional
        Values of graph inputs by name, such as weights that the file does not hold.
    output_layer : str, optional
        Name of the Gemm or MatMul behind the last recurrent node, or ``"none"``; left out, the only one.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged; it has no recurrent node, or several in different graphs; or nodes are not
        supported: activations, ``clip``, ``input_forget``, nodes that do not form a chain, operators between them that
        compute.
    """
    path = Path(path)
    model = onnx_search.without_functions(path, onnx_file.read_model(path))
    found = onnx_search.find(path, model, prefix, with_loops=True)
    return read_network(path, found, onnx_file.opset(model), given, output_layer)


def onnx_networks(path: str | Path, given: dict[str, np.ndarray] | None = None) -> list[str]:
    """List the prefixes that choose a network each: an empty one where all nodes are one network, else every node's."""
    path = Path(path)
    model = onnx_search.without_functions(path, onnx_file.read_model(path))
    try:
        network_from_onnx(path, None, given)
    except InvalidFileError:
        everything = onnx_search.scopes(path, model)
        found = onnx_search.recurrent_nodes(everything) or onnx_search.plain_loops(everything)
        return [one.path for one in found]
    return [""]
