"""ONNX models: the float64 evaluation is onnxruntime's and onnx.reference's, whatever a node's options."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.float_evaluation import State, run
from chessrnn.model.imported.load import load_network

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TOLERANCE = {"rtol": 1e-4, "atol": 2e-6}


def tensor(values, name):
    return numpy_helper.from_array(np.asarray(values), name)


def info(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def save(path, nodes, inputs, outputs, initializers, opset=17):
    graph = helper.make_graph(nodes, "g", inputs, outputs, [tensor(v, k) for k, v in initializers.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def ort(path, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def random_parts(rng, op, size_x, size_h, directions, given):
    """Constants of a node by their input's name, those of ``given`` among the optional ones."""
    rows = GATES[op] * size_h

    def draw(*shape):
        return (rng.normal(size=shape) * 0.5).astype(np.float32)

    parts = {"W": draw(directions, rows, size_x), "R": draw(directions, rows, size_h)}
    if "B" in given:
        parts["B"] = draw(directions, 2 * rows)
    if "P" in given and op == "LSTM":
        parts["P"] = draw(directions, 3 * size_h)
    return parts


@st.composite
def options(draw):
    op = draw(st.sampled_from(sorted(GATES)))
    attributes = {"direction": draw(st.sampled_from(["forward", "reverse", "bidirectional"]))}
    if op == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    directions = 2 if attributes["direction"] == "bidirectional" else 1
    if op == "RNN" and draw(st.booleans()):
        attributes["activations"] = ["Relu"] * directions
    if draw(st.booleans()):
        names = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[op]
        attributes.setdefault("activations", names * directions)
    given_parts = draw(st.sets(st.sampled_from(["B", "P", "h", "c", "lengths"])))
    where = draw(st.sampled_from(["constant", "shared", "input"]))
    return (
        op,
        attributes,
        given_parts,
        where,
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        draw(st.integers(0, 99)),
    )


def one_node(path, chosen, layout=0):
    """Model of one node, what feeds it, and the state that a caller of ours has to give."""
    op, attributes, wanted, where, size_x, size_h, seed = chosen
    rng = np.random.default_rng(seed)
    steps, batch = 4, 3
    directions = 2 if attributes["direction"] == "bidirectional" else 1
    constants = random_parts(rng, op, size_x, size_h, directions, wanted)
    x = rng.normal(size=(steps, batch, size_x)).astype(np.float32)
    lengths = rng.integers(1, steps + 1, size=batch).astype(np.int32) if "lengths" in wanted and not layout else None
    state = {}
    for name in ("h", "c") if op == "LSTM" else ("h",):
        if name in wanted:
            rows = 1 if where == "shared" else batch
            value = rng.normal(size=(directions, rows, size_h)).astype(np.float32)
            state[name] = np.repeat(value, batch // rows, axis=1)
    feeds, inputs = {}, []

    def batch_first(value):
        return value.swapaxes(0, 1) if layout else value

    def give(name, value, kind=TensorProto.FLOAT):
        if value is None:
            return ""
        if where == "input" or name == "X":
            feeds[name] = value
            sizes = [f"{name}{axis}" for axis in range(value.ndim - 1)] if name == "X" else list(value.shape)
            inputs.append(info(name, *sizes, *([value.shape[-1]] if name == "X" else []), kind=kind))
        else:
            constants[name] = value
        return name

    names = [
        give("X", batch_first(x)), "W", "R", "B" if "B" in wanted else "", give("lengths", lengths, TensorProto.INT32),
        *(give(f"initial_{n}", None if state.get(n) is None else batch_first(state[n])) for n in "hc"),
        "P" if "P" in constants else "",
    ]  # fmt: skip
    names = names if op == "LSTM" else names[:6]
    while names and not names[-1]:
        names.pop()
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    node = helper.make_node(op, names, outputs, hidden_size=size_h, **attributes, **({"layout": 1} if layout else {}))
    save(path, [node], inputs, [info(name, *"abcd"[: 4 if name == "Y" else 3]) for name in outputs], constants)
    given_state = None
    if where == "input" and state:
        zero = np.zeros((directions, batch, size_h))
        given_state = [State(state.get("h", zero), state.get("c", zero) if op == "LSTM" else None)]
    return feeds, x, lengths if where == "input" else None, given_state


def compare(path, x, lengths, state, results, layout=0):
    network = load_network(path)
    y, final = run(network, x, lengths, state)
    wanted = results[0].transpose(1, 0, 2, 3) if layout else results[0].transpose(0, 2, 1, 3)
    np.testing.assert_allclose(y, wanted.reshape(*y.shape), **TOLERANCE)
    for found, result in zip(final[0], results[1:], strict=False):
        np.testing.assert_allclose(found, result.swapaxes(0, 1) if layout else result, **TOLERANCE)
    return network


@given(options())
def test_every_option_of_onnx(tmp_path_factory, chosen):
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    feeds, x, lengths, state = one_node(path, chosen)
    network = compare(path, x, lengths, state, ort(path, feeds))
    op, _, wanted, where, *_ = chosen
    starts = [n for n in ("h", "c") if n in wanted and (n == "h" or op == "LSTM")]
    assert len(network.layers[0].state_inputs) == (len(starts) if where == "input" else 0)
    assert (network.lengths is not None) == ("lengths" in wanted and where != "input")
    if where == "shared" and "h" in starts:
        assert network.layers[0].weights[0].initial_h.shape[0] == 1


@given(options())
def test_batch_first_layout(tmp_path_factory, chosen):
    # onnxruntime has no layout 1; the reference evaluator has no lengths and no Relu.
    chosen[1].pop("activations", None)
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    feeds, x, _, state = one_node(path, chosen, layout=1)
    compare(path, x, None, state, ReferenceEvaluator(str(path)).run(None, feeds), layout=1)


# -- chains ----------------------------------------------------------------------------------------------------


class Stack(torch.nn.Module):
    """A network such as a user would export: a recurrent layer, perhaps between an embedding and a linear layer."""

    def __init__(self, rnn, symbols=None):
        super().__init__()
        self.embedding = torch.nn.Embedding(symbols, rnn.input_size) if symbols else None
        self.rnn = rnn
        self.fc = torch.nn.Linear(rnn.hidden_size * (1 + rnn.bidirectional), 3) if symbols else None

    def forward(self, x, *state):
        h = x if self.embedding is None else self.embedding(x)
        y, final = self.rnn(h, *state)
        return (y if self.fc is None else self.fc(y)), final


def export(module, inputs, path, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, path, **more)
    return path


EXPORTED = [
    ("lstm2", torch.nn.LSTM, {"num_layers": 2}, None),
    ("lstm3_bi", torch.nn.LSTM, {"num_layers": 3, "bidirectional": True, "batch_first": True}, None),
    ("gru2_bi", torch.nn.GRU, {"num_layers": 2, "bidirectional": True}, None),
    ("rnn2", torch.nn.RNN, {"num_layers": 2, "nonlinearity": "relu"}, None),
    ("gru_words", torch.nn.GRU, {"num_layers": 2, "batch_first": True}, 7),
]


@pytest.mark.parametrize(("name", "kind", "arguments", "symbols"), EXPORTED, ids=[row[0] for row in EXPORTED])
def test_exported_by_torch(name, kind, arguments, symbols, tmp_path):
    torch.manual_seed(2)
    rnn = kind(5, 6, **arguments)
    module = Stack(rnn, symbols)
    x = torch.randn(4, 2, 5) if symbols is None else torch.randint(0, symbols, (4, 2))
    path = export(module, (x,), tmp_path / "a.onnx", dynamo=False, input_names=["x"], dynamic_axes={"x": [0, 1]})
    check_stack(load_network(path), rnn, symbols)


def test_exported_for_an_old_operator_set(tmp_path):
    # There Squeeze, Slice and Unsqueeze have attributes in place of inputs.
    torch.manual_seed(6)
    rnn = torch.nn.GRU(5, 6, 2, bidirectional=True)
    arguments = {"dynamo": False, "opset_version": 9, "input_names": ["x"], "dynamic_axes": {"x": [0, 1]}}
    check_stack(load_network(export(Stack(rnn), (torch.randn(4, 2, 5),), tmp_path / "a.onnx", **arguments)), rnn)


def test_exported_with_learned_first_states_and_without_a_batch(tmp_path):
    torch.manual_seed(7)

    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(5, 6, 2)
            self.h, self.c = (torch.nn.Parameter(torch.randn(2, 1, 6)) for _ in "hc")

        def forward(self, x):
            return self.rnn(x, (self.h.expand(-1, x.shape[1], -1), self.c.expand(-1, x.shape[1], -1)))[0]

    module, x = Learned(), torch.randn(4, 3, 5)
    arguments = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": [0, 1]}}
    network = load_network(export(module, (x[:, :2],), tmp_path / "a.onnx", **arguments))
    with torch.no_grad():
        np.testing.assert_allclose(run(network, x.numpy())[0], module(x).numpy(), **TOLERANCE)
    path = export(Stack(module.rnn), (x[:, 0],), tmp_path / "b.onnx", dynamo=False, input_names=["x"])
    network = load_network(path)
    assert "x is the input 'x' (steps, 5)" in network.notes
    check_stack(network, module.rnn)


def check_stack(network, rnn, symbols=None):
    assert len(network.layers) == rnn.num_layers
    x = torch.randn(7, 3, 5)
    with torch.no_grad():
        wanted, final = rnn(x.transpose(0, 1)) if rnn.batch_first else rnn(x)
    y, states = run(network, x.numpy())
    np.testing.assert_allclose(y, (wanted.transpose(0, 1) if rnn.batch_first else wanted).numpy(), **TOLERANCE)
    h = final[0] if isinstance(final, tuple) else final
    np.testing.assert_allclose(np.concatenate([s.h for s in states]), h.numpy(), **TOLERANCE)
    # The linear layer behind it is read, too, and nothing else computes.
    assert not network.ignored
    assert (network.linear is not None) == (symbols is not None)


def test_exported_by_the_newer_exporter_with_data_beside(tmp_path, capfd):
    torch.manual_seed(3)
    rnn = torch.nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True)
    path = export(Stack(rnn), (torch.randn(2, 4, 5),), tmp_path / "a.onnx", dynamo=True)
    assert (tmp_path / "a.onnx.data").exists()
    check_stack(load_network(path), rnn)
    (tmp_path / "a.onnx.data").write_bytes((tmp_path / "a.onnx.data").read_bytes()[:500])
    with pytest.raises(InvalidFileError, match=r"must hold the data of its shape \["):
        load_network(path)


def test_exported_with_a_state_and_lengths(tmp_path):
    torch.manual_seed(4)
    rnn = torch.nn.LSTM(5, 6, 2)

    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = rnn

        def forward(self, x, lengths, h, c):
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths)
            y, (h, c) = self.rnn(packed, (h, c))
            return torch.nn.utils.rnn.pad_packed_sequence(y)[0], h, c

    lengths = torch.tensor([4, 2])
    state = torch.randn(2, 2, 6), torch.randn(2, 2, 6)
    x = torch.randn(4, 2, 5)
    arguments = {"dynamo": False, "input_names": ["x", "n", "h", "c"], "dynamic_axes": {"x": [0, 1]}}
    path = export(Packed(), (x, lengths, *state), tmp_path / "a.onnx", **arguments)
    network = load_network(path)
    assert [layer.state_inputs for layer in network.layers] == [("h[0:1]", "c[0:1]"), ("h[1:2]", "c[1:2]")]
    assert "lengths of the sequences are the input 'n'" in network.notes
    with torch.no_grad():
        wanted, h, _ = Packed()(x, lengths, *state)
    states = [State(state[0][n : n + 1].numpy(), state[1][n : n + 1].numpy()) for n in range(2)]
    y, final = run(network, x.numpy(), lengths.numpy(), states)
    np.testing.assert_allclose(y, wanted.numpy(), **TOLERANCE)
    np.testing.assert_allclose(np.concatenate([s.h for s in final]), h.numpy(), **TOLERANCE)


def chain(path, rng, between, *, second_inputs=(), extra=(), size=4, initializers=None):
    """Two GRU nodes with other operators between: Y of the first → ``between`` → X of the second, called ``m``."""
    first, second = (random_parts(rng, "GRU", 4, size, 1, {"B"}) for _ in range(2))
    nodes = [
        helper.make_node("GRU", ["x", "W1", "R1", "B1"], ["y1", "h1"], name="gru/1", hidden_size=size),
        *between,
        helper.make_node("GRU", ["m", "W2", "R2", "B2", *second_inputs], ["y2"], name="gru/2", hidden_size=size),
        *extra,
    ]
    constants = {f"{k}1": v for k, v in first.items()} | {f"{k}2": v for k, v in second.items()}
    return save(path, nodes, [info("x", "t", "b", 4)], [info("y2", *"abcd")], constants | (initializers or {}))


def squeeze(source, target="m"):
    return helper.make_node("Squeeze", [source, "one"], [target], name="squeeze")


ONE = {"one": np.array([1], dtype=np.int64)}


def test_a_chain_by_hand(tmp_path, rng):
    steps = [helper.make_node("Dropout", ["y1"], ["d"]), helper.make_node("Cast", ["d"], ["e"], to=1), squeeze("e")]
    path = chain(tmp_path / "a.onnx", rng, steps, initializers=ONE)
    x = rng.normal(size=(5, 3, 4)).astype(np.float32)
    y, _ = run(load_network(path), x)
    np.testing.assert_allclose(y, ort(path, {"x": x})[0][:, 0], **TOLERANCE)
    (layer,) = load_network(path, "gru/1").layers
    assert layer.name == "gru/1"


def test_lengths_that_are_the_number_of_steps(tmp_path, rng):
    # As converters of other frameworks write it: sequence_lens = batch times the first size of x.
    steps = [
        squeeze("y1"),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["t"]),
        helper.make_node("Gather", ["s", "one"], ["b"]),
        helper.make_node("Expand", ["t", "b"], ["n"]),
        helper.make_node("Cast", ["n"], ["lengths"], to=TensorProto.INT32),
    ]
    constants = ONE | {"zero": np.array([0], dtype=np.int64)}
    path = chain(tmp_path / "a.onnx", rng, steps, second_inputs=["lengths"], initializers=constants)
    network = load_network(path)
    assert network.lengths is None
    x = rng.normal(size=(5, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(run(network, x)[0], ort(path, {"x": x})[0][:, 0], **TOLERANCE)


BROKEN_CHAINS = [
    ("Relu", [squeeze("y1", "a"), helper.make_node("Relu", ["a"], ["m"], name="r")], "not Relu (node 'r')"),
    ("MatMul", [squeeze("y1", "a"), helper.make_node("MatMul", ["a", "w"], ["m"], name="r")], "not MatMul (node 'r')"),
    ("residual", [squeeze("y1", "a"), helper.make_node("Add", ["a", "x"], ["m"], name="r")], "not Add (node 'r')"),
    ("swapped", [squeeze("y1", "a"), helper.make_node("Transpose", ["a"], ["m"], perm=[1, 0, 2])], "every element in"),
    ("apart", [helper.make_node("Identity", ["x"], ["m"])], "the output of 'gru/1', every element in its place"),
    ("final state", [helper.make_node("Identity", ["h1"], ["m"])], "the output of 'gru/1', every element in its"),
    ("half", [squeeze("y1", "a"), helper.make_node("Cast", ["a"], ["b"], to=10),
              helper.make_node("Cast", ["b"], ["m"], to=1)], "not Cast"),
    ("a piece", [squeeze("y1", "a"), helper.make_node("Slice", ["a", "one", "many"], ["m"])], "every element in"),
    ("behind", [squeeze("y1", "a"), helper.make_node("Softmax", ["a"], ["b"]),
                helper.make_node("Identity", ["b"], ["m"])], "not Softmax"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "between", "message"), BROKEN_CHAINS, ids=[row[0] for row in BROKEN_CHAINS])
def test_nodes_that_are_no_chain(name, between, message, tmp_path, rng):
    constants = ONE | {"w": np.eye(4, dtype=np.float32), "many": np.array([9], dtype=np.int64)}
    path = chain(tmp_path / "a.onnx", rng, between, initializers=constants)
    with pytest.raises(InvalidFileError) as error:
        load_network(path)
    assert message in str(error.value)
    assert "gru/2" in str(error.value)
