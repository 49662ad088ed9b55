"""Recurrent nodes wherever an ONNX model has them: sub-graphs, functions, quantized, with weights as inputs."""

import re
import warnings
from importlib import import_module

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser
from onnxruntime.quantization import QuantType, quantize_dynamic

from chessrnn.model.errors import UserError
from chessrnn.model.imported.float_evaluation import run
from chessrnn.model.imported.load import load_network

TOLERANCE = {"rtol": 1e-4, "atol": 2e-6}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def rejected(path, message, **arguments):
    with pytest.raises(UserError) as error:
        load_network(path, **arguments)
    text = str(error.value)
    assert re.fullmatch(message, text.replace(str(path), "FILE")), text
    # One line, whatever the length of the path.
    assert "\n" not in text
    assert len(text) - len(str(path)) < 190


def saved(text, path, rng, weights=("W", "R", "W2", "R2"), functions=True):
    """Save a model given in ONNX's textual syntax, with random weights for 4 inputs and 3 units."""
    model = parser.parse_model(text)
    for name in weights:
        values = rng.normal(size=(1, 12, 4 if name[0] == "W" else 3)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


HEADER = '<ir_version: 9, opset_import: ["" : 17, "local" : 1]>\n'
SIGNATURE = "g (float[T, B, 4] x, bool c) => (float[T, 1, B, 3] y) "
LSTM = "LSTM <hidden_size = 3>"
BRANCHES = f"""{HEADER}{SIGNATURE}{{
  [start] a = Identity(x)
  [choice] y = If(c) <
    then_branch = t () => (float[T, 1, B, 3] y1) {{ [rnn] y1 = {LSTM}(a, W, R) }},
    else_branch = e () => (float[T, 1, B, 3] y2) {{
      [inner] y2 = If(c) <
        then_branch = tt () => (float[T, 1, B, 3] y3) {{ [rnn] y3 = {LSTM}(x, W2, R2) }},
        else_branch = ee () => (float[T, 1, B, 3] y4) {{ [relu] r = Relu(x) [rnn] y4 = {LSTM}(r, W2, R) }}>
    }}>
  [after] z = Sigmoid(y)
}}
"""


def test_branches_of_an_if(tmp_path, rng):
    path = saved(BRANCHES, tmp_path / "a.onnx", rng)
    found = "'choice/then_branch/rnn', 'choice/else_branch/inner/then_branch/rnn' and 1 more"
    rejected(path, f"--prefix must begin the name of one of {found}: FILE has several graphs")
    rejected(path, rf"--prefix must begin the name of a node \({found}\) of FILE, not 'rnn'", prefix="rnn")
    x = rng.normal(size=(5, 2, 4)).astype(np.float32)
    network = load_network(path, "choice/then_branch")
    wanted = session(path).run(None, {"x": x, "c": np.array(True)})[0]
    np.testing.assert_allclose(run(network, x)[0], wanted[:, 0], **TOLERANCE)
    assert "x is the input 'x' (steps, batch, 4)" in network.notes
    assert network.ignored == ("operator Sigmoid",)
    network = load_network(path, "choice/else_branch/inner/else_branch/rnn")
    assert "x is the output of Relu (node 'relu')" in network.notes
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    np.testing.assert_array_equal(network.layers[0].weights[0].w_h[:3], weights["R"][0, :3])
    np.testing.assert_array_equal(network.layers[0].weights[0].w_x[:3], weights["W2"][0, :3])


def test_the_only_recurrent_node_is_found_inside(tmp_path, rng):
    text = f"""{HEADER}{SIGNATURE}{{
      [choice] y = If(c) <
        then_branch = t () => (float[T, 1, B, 3] y1) {{ [rnn] y1 = {LSTM}(x, W, R) }},
        else_branch = e () => (float[T, 1, B, 3] y2) {{ [zero] i = Identity(x) [other] y2 = Unsqueeze(i, one) }}>
    }}"""
    model = parser.parse_model(text)
    for name, size in (("W", 4), ("R", 3)):
        values = rng.normal(size=(1, 12, size)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    onnx.save(model, tmp_path / "a.onnx")
    network = load_network(tmp_path / "a.onnx")
    assert [(layer.name, layer.hidden_size) for layer in network.layers] == [("rnn", 3)]


def test_a_chain_inside_of_a_local_function(tmp_path, rng):
    text = f"""{HEADER}{SIGNATURE}{{ [call] y = local.f(x, W, R, R2) }}
    <domain: "local", opset_import: ["" : 17]>
    f (x, w, r, r2) => (y) {{
      [one] a = {LSTM}(x, w, r)
      [move] axis = Constant <value = int64[1] {{1}}> ()
      [squeeze] b = Squeeze(a, axis)
      [two] y = {LSTM}(b, r, r2)
    }}"""
    path = saved(text, tmp_path / "a.onnx", rng, ("W", "R", "R2"))
    network = load_network(path)
    x = rng.normal(size=(6, 3, 4)).astype(np.float32)
    wanted = session(path).run(None, {"x": x, "c": np.array(True)})[0]
    np.testing.assert_allclose(run(network, x)[0], wanted[:, 0], **TOLERANCE)
    assert [layer.name[:3] for layer in network.layers] == ["one", "two"]


def function(name, *calls):
    body = " ".join(f"[n{number}] y{number} = {call}(x)" for number, call in enumerate(calls))
    return f'<domain: "local", opset_import: ["" : 17, "local" : 1]> {name} (x) => (y0) {{ {body} }}'


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([function("f", "local.f")], "FILE must have functions that do not call themselves, not 'f'"),
        ([function("f", "local.g"), function("g", "local.f")], "FILE must have functions that do not call .*"),
        (
            [function("f", *["local.f0"] * 4), *(function(f"f{n}", *[f"local.f{n + 1}"] * 4) for n in range(9)),
             function("f9", "Relu")],
            "FILE must have at most 100000 operators with those of its functions",
        ),
        (
            [function("f", "local.f0"), *(function(f"f{n}", f"local.f{n + 1}") for n in range(40)),
             function("f40", "Relu")],
            "FILE must have functions that call each other at most 16 deep",
        ),
    ],
    ids=["itself", "each other", "exponential", "deep"],
)  # fmt: skip
def test_functions_that_cannot_be_expanded(functions, message, tmp_path):
    text = f"{HEADER}{SIGNATURE}{{ [call] y = local.f(x) }}\n" + "\n".join(functions)
    onnx.save(parser.parse_model(text), tmp_path / "a.onnx")
    rejected(tmp_path / "a.onnx", message)


def test_sub_graphs_that_are_nested_too_deep(tmp_path):
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    for _ in range(17):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=graph)], "g", [], [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "a.onnx")
    rejected(tmp_path / "a.onnx", "FILE must have sub-graphs nested at most 16 deep, not deeper")


# -- other forms of a recurrence -------------------------------------------------------------------------------


def one_node(path, node, domain="", inputs=("x",)):
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["t", 1, 4]) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def test_loops_are_named_with_one_way_on(tmp_path):
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["s"], ["t"])], "b",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, []),
         helper.make_tensor_value_info("s", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []),
         helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )  # fmt: skip
    way = "export nn.LSTM or nn.GRU, or Keras layers without Masking and with reset_after=True"
    path = one_node(tmp_path / "a.onnx", helper.make_node("Loop", ["", "", "x"], ["y"], "while", body=body))
    rejected(path, f"FILE must hold an LSTM, GRU or RNN node, not the recurrence in Loop 'while': {way}")
    body.ClearField("input")
    body.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, None))
    scan = helper.make_node("Scan", ["x"], ["y"], "steps", body=body, num_scan_inputs=1)
    rejected(one_node(tmp_path / "b.onnx", scan), f"FILE .*, not the recurrence in Scan 'steps': {way}")


def test_a_recurrent_node_in_the_body_of_a_loop_is_read(tmp_path, rng):
    """An exporter may write a repeated layer this way; its x is an input of the body."""
    text = f"""{HEADER}g (float[T, B, 4] x, int64 n) => (float[T, 1, B, 3] y) {{
      true = Constant <value = bool {{1}}> ()
      [repeat] y = Loop(n, true) <
        body = b (int64 i, bool c) => (bool d, float[T, 1, B, 3] z) {{ d = Identity(c) [rnn] z = {LSTM}(x, W, R) }}>
    }}"""
    model = parser.parse_model(text)
    for name, size in (("W", 4), ("R", 3)):
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=(1, 12, size)).astype("f4"), name))
    onnx.save(model, tmp_path / "a.onnx")
    assert load_network(tmp_path / "a.onnx", "repeat/body/rnn").layers[0].input_size == 4


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            torch.nn.LSTMCell,
            "a cell written as Gemm, Sigmoid and Tanh: export nn.LSTM instead of nn.LSTMCell, or Keras.*",
        ),
        (torch.nn.GRUCell, "a cell written as Gemm, Sigmoid and Tanh: .* unroll=False"),
        (
            torch.nn.RNNCell,
            "Gemm and Tanh, as of a cell that is written out: export nn.RNN instead of nn.RNNCell, or .*",
        ),
    ],
)
def test_cells_that_an_exporter_wrote_out(kind, message, tmp_path):
    class Unrolled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(4, 3)

        def forward(self, x):
            state = torch.zeros(x.shape[1], 3)
            state = (state, state) if kind is torch.nn.LSTMCell else state
            for step in x:
                state = self.cell(step, state)
            return state

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Unrolled(), (torch.zeros(3, 2, 4),), tmp_path / "a.onnx", dynamo=False)
    rejected(tmp_path / "a.onnx", f"FILE must hold an LSTM, GRU or RNN node, not {message}")


def test_operators_of_other_domains_are_named(tmp_path):
    path = one_node(tmp_path / "a.onnx", helper.make_node("AttnLSTM", ["x"], ["y"], "n", domain="com.microsoft"))
    way = "export the float model without fusion or quantization"
    rejected(path, rf"FILE .*, not com\.microsoft\.AttnLSTM \(node 'n'\): {way}")
    path = one_node(tmp_path / "b.onnx", helper.make_node("Relu", ["x"], ["y"]))
    rejected(path, "FILE must hold an LSTM, GRU or RNN node, not only Relu")


# -- quantized models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dynamically_quantized_layers(per_channel, kind, bidirectional, tmp_path):
    torch.manual_seed(3)
    rnn = torch.nn.LSTM(5, 6, 2, bidirectional=bidirectional)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(rnn, (torch.zeros(4, 2, 5),), tmp_path / "a.onnx", dynamo=False, input_names=["x"])
    quantize_dynamic(tmp_path / "a.onnx", tmp_path / "b.onnx", per_channel=per_channel, weight_type=kind)
    nodes = [node for node in onnx.load(tmp_path / "b.onnx").graph.node if node.op_type == "DynamicQuantizeLSTM"]
    assert len(nodes) == 2
    network, exact = load_network(tmp_path / "b.onnx"), load_network(tmp_path / "a.onnx")
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "b.onnx").graph.initializer}
    for layer, original, node in zip(network.layers, exact.layers, nodes, strict=True):
        codes, scale, zero = (tensors[node.input[number]].astype(np.float64) for number in (1, 8, 9))
        for direction, (w, wanted) in enumerate(zip(layer.weights, original.weights, strict=True)):
            matrix = ((codes[direction] - zero[direction]) * scale[direction]).T
            # ONNX's gates are I, O, F, C, ours I, F, G, O.
            np.testing.assert_array_equal(w.w_x, np.concatenate([matrix[i * 6 :][:6] for i in (0, 2, 3, 1)]))
            np.testing.assert_allclose(w.w_h, wanted.w_h, atol=0.01)
            np.testing.assert_array_equal(w.bias_x, wanted.bias_x)
    assert any("DynamicQuantizeLSTM" in note and "dequantized weights" in note for note in network.notes)
    x = torch.randn(4, 2, 5).numpy()
    np.testing.assert_allclose(run(network, x)[0], session(tmp_path / "b.onnx").run(None, {"x": x})[0], atol=0.05)


def quantized_node(path, rng, change=None):
    values = {
        "W": rng.integers(-9, 9, size=(1, 4, 12)).astype(np.int8),
        "R": rng.integers(-9, 9, size=(1, 3, 12)).astype(np.int8),
        "Ws": np.full(1, 0.1, np.float32),
        "Wz": np.zeros(1, np.int8),
        "Rs": np.full(1, 0.1, np.float32),
        "Rz": np.zeros(1, np.int8),
    } | (change or {})
    names = ["x", "W", "R", "", "", "", "", "", "Ws", "Wz", "Rs", "Rz"]
    names = [name if values.get(name, 0) is not None else "" for name in names]
    node = helper.make_node("DynamicQuantizeLSTM", names, ["y"], "n", domain="com.microsoft", hidden_size=3)
    one_node(path, node, "com.microsoft")
    model = onnx.load(path)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items() if v is not None)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": np.zeros((4, 12), np.int8)}, r"W of .* three-dimensional and of type int8 or uint8, not int8 of .*"),
        ({"R": np.zeros((1, 3, 12), np.float32)}, "R of .* must be .* of type int8 or uint8, not float32 of shape .*"),
        ({"Ws": np.zeros(3, np.float32)}, r"W_scale of .* must be of shape \[1\] or \[1, 12\], not \[3\] as in FILE"),
        ({"Rz": np.zeros((), np.int8)}, r"R_zero_point of .* must be of shape \[1\] or \[1, 12\], not \[\] as in FILE"),
        ({"Rz": None}, "R_zero_point of .* must be a constant, not left out as in FILE"),
    ],
    ids=range(5),
)
def test_quantized_weights_that_do_not_fit(change, message, tmp_path, rng):
    assert load_network(quantized_node(tmp_path / "good.onnx", rng)).layers[0].input_size == 4
    rejected(quantized_node(tmp_path / "a.onnx", rng, change), message)


@pytest.mark.parametrize("per_axis", [False, True])
def test_weights_behind_dequantize_linear(per_axis, tmp_path, rng):
    codes = {"W": rng.integers(-99, 99, size=(1, 12, 4)), "R": rng.integers(-99, 99, size=(1, 12, 3))}
    text = f"""{HEADER}{SIGNATURE}{{
      w = DequantizeLinear(W, s, z)  r = DequantizeLinear(R, s, z)
      [rnn] y = {LSTM}(x, w, r)
    }}"""
    model = parser.parse_model(text)
    values = {name: array.astype(np.int8) for name, array in codes.items()}
    scale, zero = np.array(0.125, np.float32), np.array(3, np.int8)
    if per_axis:
        scale, zero = np.linspace(0.1, 0.2, 12, dtype=np.float32), np.arange(12, dtype=np.int8)
    values |= {"s": scale, "z": zero}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items())
    onnx.save(model, tmp_path / "a.onnx")
    network = load_network(tmp_path / "a.onnx")
    x = rng.normal(size=(5, 2, 4)).astype(np.float32)
    wanted = session(tmp_path / "a.onnx").run(None, {"x": x, "c": np.array(True)})[0]
    np.testing.assert_allclose(run(network, x)[0], wanted[:, 0], **TOLERANCE)
    assert not network.ignored


# -- weights as inputs -----------------------------------------------------------------------------------------


def node_tests():
    """ONNX's own tests of the operators, as they are distributed: all weights are graph inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        # Each module adds its cases to one list when it is imported.  collect_testcases would import those of all
        # operators, which takes ten seconds, and keep the cases of one.
        for operator in ("lstm", "gru", "rnn"):
            import_module(f"onnx.backend.test.case.node.{operator}")
        return {case.name: case for case in node._NodeTestCases}


CASES = {
    name: case
    for name, case in node_tests().items()
    if any(node.op_type in ("LSTM", "GRU", "RNN") for node in case.model.graph.node)
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_node_tests_of_onnx(name, tmp_path):
    case = CASES[name]
    onnx.save(case.model, tmp_path / "a.onnx")
    inputs, outputs = case.data_sets[0]
    names = [info.name for info in case.model.graph.input]
    arrays = dict(zip(names, inputs, strict=True))
    x = arrays.pop(case.model.graph.node[0].input[0])
    rejected(
        tmp_path / "a.onnx",
        r"W of .* must be a constant, not the input 'W' \(--inputs FILE.npz gives its values\) as in FILE",
    )
    np.savez(tmp_path / "a.npz", **arrays)
    network = load_network(tmp_path / "a.onnx", inputs=tmp_path / "a.npz")
    (node,) = case.model.graph.node
    batch_first = any(a.name == "layout" and a.i == 1 for a in node.attribute)
    y, state = run(network, x.swapaxes(0, 1) if batch_first else x)
    for output, wanted in zip([name for name in node.output if name], outputs, strict=True):
        if output == "Y":
            found = y.reshape(*y.shape[:2], -1, network.layers[0].state_size).transpose(0, 2, 1, 3)
            found = found.transpose(2, 0, 1, 3) if batch_first else found
        else:
            found = state[0].h if output == "Y_h" else state[0].c
            found = found.swapaxes(0, 1) if batch_first else found
        np.testing.assert_allclose(found, wanted, **TOLERANCE)


def test_arrays_that_do_not_fit(tmp_path):
    case = CASES["test_lstm_defaults"]
    path = tmp_path / "a.onnx"
    onnx.save(case.model, path)
    w, r = case.data_sets[0][0][1:]
    for arrays, message in (
        ({"W": w}, r"R of .* must be a constant, not the input 'R' .*"),
        ({"W": w, "R": r, "b": r}, r"--inputs must hold arrays called like inputs of FILE \('X', 'W', 'R'\), not 'b'"),
        ({"W": w[0], "R": r}, r"W of .* must be of shape \[1, 'any', 'any'\], not .*"),
        ({"W": np.array(["a"]), "R": r}, "'W' must be an array of numbers in .*"),
    ):
        np.savez(tmp_path / "a.npz", **arrays)
        rejected(path, message, inputs=tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    rejected(path, r".*b\.npz must be an \.npz file of arrays.*", inputs=tmp_path / "b.npz")
    rejected(path, r".*c\.npz must be an \.npz file of arrays, not a missing file", inputs=tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", W=np.array([{}], dtype=object))
    rejected(path, r".*d\.npz must be an \.npz file of arrays: .*", inputs=tmp_path / "d.npz")
    torch.save(torch.nn.RNN(2, 3).state_dict(), tmp_path / "a.pt")
    message = "--inputs must be left out for files other than ONNX models, not .*"
    rejected(tmp_path / "a.pt", message, inputs=tmp_path / "a.npz")
