"""Whole ONNX models with the accelerator's integers inside: what crosses the border equals the reference, 0 LSB."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import chessrnn
from chessrnn.model.errors import UserError

MATRIX = "matrix"


def integers(path, x, settings=None, k=2, prefix=None):
    """Compress the recurrent layers of a model, whose x is twice that of the model."""
    network = chessrnn.load_network(path, prefix)
    return chessrnn.compress(network, block_size=k, calibration=2 * x, settings=settings).weights


def matrix_of(path):
    return next(numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer if one.name == MATRIX)


@pytest.mark.parametrize(
    ("op", "layers", "directions"),
    [("LSTM", 1, 1), ("LSTM", 2, 1), ("LSTM", 2, 2), ("GRU", 1, 1), ("GRU", 1, 2), ("RNN", 2, 1)],
)
def test_equals_the_reference(make_model, make_x, op, layers, directions):
    path, x = make_model(op, layers, directions), make_x()
    weights = integers(path, x)
    model = chessrnn.hybrid(path, weights)
    found = model.run({"x": x})
    h, state = chessrnn.predict(weights, 2 * x, return_state=True)
    np.testing.assert_array_equal(found["h"], h)
    np.testing.assert_array_equal(found["y"], h @ matrix_of(path))
    for number in range(layers):
        own = slice(number * directions, (number + 1) * directions)
        np.testing.assert_array_equal(found[f"Y_h{number}"], state["h"][own])
        if op == "LSTM":
            np.testing.assert_array_equal(found[f"Y_c{number}"], state["c"][own])
    assert model.border.converted == x.size


def test_float_run_is_the_model_as_it_is(make_model, make_x):
    path, x = make_model(), make_x()
    model = chessrnn.hybrid(path, integers(path, x))
    wanted = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": x})
    for name, value in zip(model.outputs, wanted, strict=True):
        np.testing.assert_array_equal(model.run_float({"x": x})[name], value)
    assert np.abs(model.run({"x": x})["h"] - wanted[model.outputs.index("h")]).max() > 0


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_states_that_the_caller_hands_on_lose_nothing(make_model, make_x, op):
    path, x = make_model(op, 2, states=True), make_x(8)
    weights = integers(path, x)
    model = chessrnn.hybrid(path, weights)
    names = ["h", "c"] if op == "LSTM" else ["h"]
    state = {f"{name}{number}": np.zeros((1, 3, 6)) for name in names for number in range(2)}
    parts = []
    for part in np.split(x, 4):
        found = model.run({"x": part, **state})
        parts.append(found["h"])
        state = {f"{name}{number}": found[f"Y_{name}{number}"] for name in names for number in range(2)}
    np.testing.assert_array_equal(np.concatenate(parts), chessrnn.predict(weights, 2 * x))


def test_another_first_state_is_rounded(make_model, make_x, rng):
    path, x = make_model(states=True), make_x(8)
    weights = integers(path, x)
    state = {"h": rng.uniform(-0.5, 0.5, (1, 3, 6)), "c": rng.uniform(-0.5, 0.5, (1, 3, 6))}
    found = chessrnn.hybrid(path, weights).run({"x": x, "h0": state["h"], "c0": state["c"]})
    float32 = {name: part.astype(np.float32) for name, part in state.items()}
    np.testing.assert_array_equal(found["h"], chessrnn.predict(weights, 2 * x, state=float32))


def test_state_is_kept_until_reset(make_model, make_x):
    path, x = make_model("GRU"), make_x(8)
    weights = integers(path, x)
    model = chessrnn.hybrid(path, weights, keep_state=True)
    parts = [model.run({"x": part})["h"] for part in np.split(x, 2)]
    np.testing.assert_array_equal(np.concatenate(parts), chessrnn.predict(weights, 2 * x))
    model.reset()
    np.testing.assert_array_equal(model.run({"x": x[:4]})["h"], parts[0])


@pytest.mark.parametrize("directions", [1, 2])
def test_lengths_of_sequences(make_model, make_x, directions):
    path, x = make_model(directions=directions, lengths=True), make_x(6)
    weights = integers(path, x)
    found = chessrnn.hybrid(path, weights).run({"x": x, "lengths": [6, 2, 4]})
    for number, length in enumerate([6, 2, 4]):
        h, state = chessrnn.predict(weights, 2 * x[:length, number : number + 1], return_state=True)
        np.testing.assert_array_equal(found["h"][:length, number], h[:, 0])
        assert not found["h"][length:, number].any()
        np.testing.assert_array_equal(found["Y_h0"][:, number], state["h"][:, 0])


def test_one_of_two_networks(make_model, make_x, tmp_path):
    path, x = make_model("LSTM", 2), make_x()
    first = integers(path, x, prefix="n_Y0")
    found = chessrnn.hybrid(path, first, prefix="n_Y0").run({"x": x})
    wanted = chessrnn.predict(first, 2 * x)
    np.testing.assert_array_equal(found["Y_h0"][0], wanted[-1])
    # The second layer is float, and reads the first one's integers.
    model = onnx.load(path)
    second = next(node for node in model.graph.node if node.name == "n_Y1")
    graph = helper.make_graph(
        [second], "g", [helper.make_tensor_value_info(second.input[0], TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("Y1", TensorProto.FLOAT, None)],
        [one for one in model.graph.initializer if one.name in second.input],
    )  # fmt: skip
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
    session = onnxruntime.InferenceSession(alone.SerializeToString())
    (y,) = session.run(None, {second.input[0]: wanted.astype(np.float32)})
    np.testing.assert_array_equal(found["h"], y[:, 0])


def in_branches(path, result):
    """Move the recurrent node of a model into both branches of an If, one of which begins with zeros."""
    model = onnx.load(path)
    index, node = next((place, one) for place, one in enumerate(model.graph.node) if one.op_type == "LSTM")
    branches = {}
    for name in ("then_branch", "else_branch"):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if name == "else_branch":
            copy.input[5] = copy.input[6] = ""
        own = [f"{name}_{output}" for output in node.output]
        copy.output[:] = own
        infos = [helper.make_tensor_value_info(one, TensorProto.FLOAT, None) for one in own]
        branches[name] = helper.make_graph([copy], name, [], infos)
    choice = helper.make_node("If", ["flag"], list(node.output), name="choice", **branches)
    nodes = [*model.graph.node[:index], choice, *model.graph.node[index + 1 :]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    onnx.save(model, result)
    return result


def test_recurrent_node_in_branches(make_model, make_x, rng, tmp_path):
    path, x = make_model(states=True), make_x()
    weights = integers(path, x)
    model = chessrnn.hybrid(in_branches(path, tmp_path / "branches.onnx"), weights)
    h, c = (rng.integers(-20, 20, (1, 3, 6)) / 64 for _ in range(2))
    feeds = {"x": x, "h0": h, "c0": c}
    zero = chessrnn.predict(weights, 2 * x)
    given = chessrnn.predict(weights, 2 * x, state={"h": h, "c": c})
    assert (zero != given).any()
    for flag, wanted in ((True, given), (False, zero), (True, given)):
        np.testing.assert_array_equal(model.run({**feeds, "flag": flag})["h"], wanted)


def test_external_data_is_read(make_model, make_x, tmp_path):
    path, x = make_model(), make_x()
    weights = integers(path, x)
    (tmp_path / "apart").mkdir()
    apart = tmp_path / "apart" / "model.onnx"
    onnx.save(onnx.load(path), apart, save_as_external_data=True, location="data.bin", size_threshold=0)
    np.testing.assert_array_equal(
        chessrnn.hybrid(apart, weights).run({"x": x})["y"], chessrnn.hybrid(path, weights).run({"x": x})["y"]
    )


def test_saturated_inputs_are_counted(make_model, make_x):
    path, x = make_model(), make_x()
    model = chessrnn.hybrid(path, integers(path, x))
    model.run({"x": x})
    before = model.border.saturated
    model.run({"x": 100 * np.ones_like(x)})
    assert model.border.saturated - before == x.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "GRU"}, "the cell of the weights must be gru as in .*, not 'lstm'"),
        ({"layers": 2}, "num_layers of the weights must be 2 as in .*, not 1"),
        ({"directions": 2}, "bidirectional of the weights must be True as in .*, not False"),
    ],
)
def test_weights_of_another_network(make_model, make_x, change, message):
    weights = integers(make_model(), make_x())
    with pytest.raises(UserError, match=message):
        chessrnn.hybrid(make_model(name="other.onnx", **change), weights)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "the input 'x' must be given, not left out"),
        ({"z": 0}, "an input must be one of x, not 'z'"),
        ({"x": np.zeros((2, 3, 5))}, "inputs must be such as .*model.onnx takes: "),
        ({"x": np.full((2, 3, 4), np.nan)}, "x must be made of finite numbers, not 'one that is not'"),
    ],
)
def test_wrong_inputs(make_model, make_x, feeds, message):
    path = make_model()
    model = chessrnn.hybrid(path, integers(path, make_x()))
    with pytest.raises(UserError, match=message):
        model.run(feeds)


def test_other_files(make_model, make_x, tmp_path):
    path = make_model()
    weights = integers(path, make_x())
    with pytest.raises(UserError, match="model must be a file .onnx .*, or a torch.nn.Module in Python, not 'a.pt'"):
        chessrnn.hybrid("a.pt", weights)
    with pytest.raises(UserError, match="--prefix must begin the name of a node"):
        chessrnn.hybrid(path, weights, prefix="none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder/ must hold one weight image"):
        chessrnn.hybrid(path, tmp_path / "folder")
