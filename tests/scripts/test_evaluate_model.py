"""The command that measures what a whole model loses: its table, JSON, picture, simulation and refusals."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import chessrnn
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts.main import main


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """Folder with a model of four classes, its weight image and inputs: whole.onnx, stream.onnx, image/, x.npy."""
    monkeypatch.chdir(tmp_path)
    rows, size_x, size_h = 24, 4, 6
    arrays = {"W": (1, rows, size_x), "R": (1, rows, size_h), "B": (1, 2 * rows), "matrix": (size_h, 4)}
    constants = [numpy_helper.from_array(rng.uniform(-1, 1, shape).astype(np.float32), name)
                 for name, shape in arrays.items()]  # fmt: skip
    constants.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["Y", "h1", "c1"], hidden_size=size_h),
        helper.make_node("Squeeze", ["Y", "axis"], ["h"]),
        helper.make_node("MatMul", ["h", "matrix"], ["y"]),
    ]

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def save(path, states):
        own = [helper.make_node(node.op_type, list(node.input), list(node.output)) for node in nodes]
        own[0].attribute.extend(nodes[0].attribute)
        inputs, outputs = [value("x", ["T", "B", size_x])], [value("y", None)]
        if states:
            inputs += [value(name, [1, "B", size_h]) for name in ("h0", "c0")]
            outputs += [value(name, None) for name in ("h1", "c1")]
        else:
            del own[0].input[4:]
        graph = helper.make_graph(own, "g", inputs, outputs, constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

    save("whole.onnx", False)
    save("stream.onnx", True)
    x = rng.uniform(-1, 1, (12, 2, size_x)).astype(np.float32)
    np.save("x.npy", x)
    np.save("calls.npy", x[:, None, :1])
    found = chessrnn.compress(chessrnn.load_network("whole.onnx"), block_size=1, calibration=x, name="small")
    WeightImage(found.weights).save("image/small.safetensors")
    return tmp_path


def run(*options):
    return main(["evaluate-model", *options])


def test_table_and_picture(folder, capsys):
    assert run("whole.onnx", "--weights", "image", "--inputs", "x.npy", "--plot", "loss.svg") == 0
    out = capsys.readouterr().out
    assert "integers         lstm, 4 x 6, k = 1, 8 bit, 75.0 % removed" in out
    assert "output           y (12, 2, 4), 1 call\n" in out
    assert "equal decisions  " in out and "picture          loss.svg" in out
    assert (folder / "loss.svg").read_text().startswith("<?xml")


def test_figures_are_those_of_the_reference(folder, capsys):
    assert run("whole.onnx", "--weights", "image", "--inputs", "x.npy", "--metric", "mse", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    model = chessrnn.hybrid("whole.onnx", "image")
    x = np.load("x.npy")
    floats, integers = model.run_float({"x": x})["y"], model.run({"x": x})["y"]
    assert found["mse"] == np.mean((integers.astype(float) - floats) ** 2)
    assert found["calls"] == 1 and found["shape"] == [12, 2, 4] and found["numbers"] == x.size


def test_accuracy_with_labels(folder, capsys):
    x, model = np.load("x.npy"), chessrnn.hybrid("whole.onnx", "image")
    np.save("labels.npy", model.run({"x": x})["y"].argmax(-1))
    options = ("--metric", "accuracy", "--target", "labels.npy", "--json")
    assert run("whole.onnx", "--weights", "image", "--inputs", "x.npy", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["integers"] == 100 and found["loss"] == found["float"] - 100


def test_calls_that_feed_states_back_equal_one_long_call(folder, capsys):
    feedback = ("--feedback", "h1=h0", "--feedback", "c1=c0", "--metric", "mse", "--json")
    assert run("stream.onnx", "--weights", "image", "--inputs", "calls.npy", *feedback) == 0
    found = json.loads(capsys.readouterr().out)
    np.save("one.npy", np.load("x.npy")[:, :1])
    assert run("whole.onnx", "--weights", "image", "--inputs", "one.npy", "--metric", "mse", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert found["calls"] == 12 and found["mse"] == pytest.approx(whole["mse"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_verilog_gives_what_the_model_got(folder, capsys):
    options = ("--feedback", "h1=h0", "--feedback", "c1=c0", "--rtl", "icarus", "--rtl-steps", "8", "--json")
    assert run("stream.onnx", "--weights", "image", "--inputs", "calls.npy", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rtl"] == {"simulator": "icarus", "steps": 8, "problems": []}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("none.onnx",), "none.onnx must be an ONNX model, not a missing file"),
        (("x.npy",), "model must be a file .onnx (torch.onnx.export makes one), or a torch.nn.Module in Python, not"),
        (("whole.onnx", "--metric", "accuracy"), "--target must be given for --metric accuracy, not None"),
        (("whole.onnx", "--target", "x.npy"), "--target must be left out for --metric agreement, not 'x.npy'"),
        (("whole.onnx", "--plot", "a.pdf"), "--plot must be a file .png or .svg, not 'a.pdf'"),
        (("whole.onnx", "--rtl-steps", "3"), "--rtl-steps must be left out without --rtl, not 3"),
        (("whole.onnx", "--output", "z"), "--output must be one of y, not 'z'"),
        (("whole.onnx", "--feedback", "h1"), "--feedback must be of the form OUTPUT=INPUT, not 'h1'"),
        (("whole.onnx", "--feedback", "z=x"), "--feedback must be of an output (y), not 'z'"),
        (("whole.onnx", "--input", "x=a"), "--input must be of the form NAME=NUMBER, not with 'a'"),
        (("whole.onnx", "--input", "z=1"), "--input must be of an input (x), not 'z'"),
        (("stream.onnx",), "--inputs must be an .npz file for a model with several inputs (x, h0, c0), not 'x.npy'"),
        (("whole.onnx", "--metric", "wer"), "--metric must be one of agreement, accuracy, mse, si-sdr, not 'wer'"),
        (("whole.onnx", "--set", "network.hidden_size=8"), "network.hidden_size must be 8 as configured, not 6 as in"),
    ],
)  # fmt: skip
def test_refusals(folder, capsys, options, message):
    try:
        status = run(*options[:1], "--weights", "image", "--inputs", "x.npy", *options[1:])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    assert message in captured.err and captured.err.count("\n") == 1


def test_damaged_inputs(folder, capsys):
    (folder / "bad.npy").write_bytes(b"\x93NUMPY")
    np.save("nan.npy", np.full((2, 1, 4), np.nan))
    for name, message in (("bad.npy", "bad.npy must be a .npy file of numbers"), ("nan.npy", "of finite numbers")):
        assert run("whole.onnx", "--weights", "image", "--inputs", name) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1
