"""Small ONNX models: an operator, recurrent nodes, a matrix, all with numbers that float32 multiplies exactly."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIZE_X, SIZE_H, SIZE_Y = 4, 6, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
BEFORE = 2.0


class Graph:
    """Builder of a graph: constants by their names, nodes in order."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, values, kind=np.float32):
        """Add a constant, and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def node(self, op, inputs, outputs, **attributes):
        """Add a node, named by its first output."""
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"n_{outputs[0]}", **attributes))
        return outputs[0]

    def save(self, path, inputs, outputs):
        """Write the model; inputs and outputs are names with types."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)
        return path


def dyadic(rng, shape, bits=6):
    """Random numbers below 1 with few fraction bits."""
    return rng.integers(-(2**bits) + 1, 2**bits, shape) / 2**bits


def recurrent(graph, rng, op, x, size_x, number, directions=1, states=("", ""), lengths="", **attributes):
    """Add a recurrent node that reads x (T, B, size_x), and return the names of its outputs."""
    rows = GATES[op] * SIZE_H
    names = [
        graph.constant(f"{part}{number}", dyadic(rng, (directions, *shape)) / 2)
        for part, shape in {"W": (rows, size_x), "R": (rows, SIZE_H), "B": (2 * rows,)}.items()
    ]
    extra = {"direction": "bidirectional"} if directions == 2 else {}
    extra |= {"linear_before_reset": 1} if op == "GRU" else {}
    outputs = [f"Y{number}", f"Y_h{number}", *([f"Y_c{number}"] if op == "LSTM" else [])]
    inputs = [x, *names, lengths, *states[: 2 if op == "LSTM" else 1]]
    graph.node(op, inputs, outputs, hidden_size=SIZE_H, **extra, **attributes)
    return outputs


def joined(graph, y, name, directions=1):
    """Turn Y (T, D, B, H) into h (T, B, D·H)."""
    if directions == 1:
        graph.constant(f"axis_{name}", [1], np.int64)
        return graph.node("Squeeze", [y, f"axis_{name}"], [name])
    moved = graph.node("Transpose", [y], [f"moved_{name}"], perm=[0, 2, 1, 3])
    graph.constant(f"shape_{name}", [0, 0, -1], np.int64)
    return graph.node("Reshape", [moved, f"shape_{name}"], [name])


@pytest.fixture
def make_model(tmp_path, rng):
    """Function that writes a model: x, times 2, recurrent layers, a matrix of whole numbers."""

    def make(op="LSTM", layers=1, directions=1, lengths=False, states=False, name="model.onnx", **attributes):
        graph = Graph()
        floats = (TensorProto.FLOAT, [directions, "B", SIZE_H])
        inputs = {"x": (TensorProto.FLOAT, ["T", "B", SIZE_X])}
        x = graph.node("Mul", ["x", graph.constant("two", BEFORE)], ["scaled"])
        size, outputs, width = SIZE_X, ["y", "h"], directions * SIZE_H
        if lengths:
            inputs["lengths"] = (TensorProto.INT32, ["B"])
        for number in range(layers):
            first = (f"h{number}", f"c{number}") if states else ("", "")
            inputs |= {one: floats for one in first[: 2 if op == "LSTM" else 1] if one}
            made = recurrent(
                graph, rng, op, x, size, number, directions, first, "lengths" if lengths else "", **attributes
            )
            x = joined(graph, made[0], "h" if number == layers - 1 else f"between{number}", directions)
            size = width
            outputs += made[1:]
        graph.constant("matrix", rng.integers(-3, 4, (width, SIZE_Y)))
        graph.node("MatMul", ["h", "matrix"], ["y"])
        return graph.save(tmp_path / name, inputs, outputs)

    return make


@pytest.fixture
def make_x(rng):
    """Function that draws inputs (T, B, X)."""
    return lambda steps=7, batch=3: dyadic(rng, (steps, batch, SIZE_X)).astype(np.float32)
