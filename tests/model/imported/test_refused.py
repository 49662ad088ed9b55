"""Damaged, malformed and hostile files: one clear line each, and nothing of them runs."""

import contextlib
import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save

from chessrnn.model.errors import UserError
from chessrnn.model.imported.load import load_network


def state(**changes):
    """A state_dict of a bidirectional LSTM with 2 layers, X = 3, H = 4, with some tensors replaced or left out."""
    torch.manual_seed(5)
    tensors = dict(torch.nn.LSTM(3, 4, 2, bidirectional=True).state_dict())
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


def with_value(name, value):
    tensors = state()
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[1] = value
    return tensors


# Changes of a whole state_dict, and what is said about them; each as .pt and as .safetensors.
TENSORS = [
    (lambda: state(weight_hh_l1=None), "weight_hh_l1 must be given in .*, not left out"),
    (lambda: state(bias_hh_l0=None), "bias_hh_l0 must be given in .*, not left out"),
    (lambda: state(bias_ih_l1_reverse=None), "bias_ih_l1_reverse must be given"),
    (lambda: state(weight_ih_l9=torch.zeros(16, 8)), "weight_hh_l2 must be given|weight_ih_l2 must be given"),
    (lambda: state(weight_ih_l900000=torch.zeros(16, 8)), "number of layers must be from 1 to 256, not 900001"),
    (lambda: state(weight_hh_l0=torch.zeros(16, 5)), "weight_hh_l0 must be a matrix with 1 .*, not \\(16, 5\\)"),
    (lambda: state(weight_hh_l0=torch.zeros(0, 0)), "weight_hh_l0 must be a matrix with 1 "),
    (lambda: state(weight_hh_l0=torch.zeros(16, 4, 1)), "weight_hh_l0 must be a matrix, not \\(16, 4, 1\\)"),
    (lambda: state(weight_ih_l0=torch.zeros(12, 3)), "weight_ih_l0 must be of shape \\(16, 3\\), not \\(12, 3\\)"),
    (lambda: state(weight_ih_l1=torch.zeros(16, 7)), "l1.*: input_size must be 7 as forward, not 8"),
    (lambda: state(weight_ih_l0=torch.zeros(16, 0), weight_ih_l0_reverse=torch.zeros(16, 0)), "input_size must be"),
    (lambda: state(bias_ih_l0=torch.zeros(15)), "bias_ih_l0 must be of shape \\(16,\\), not \\(15,\\)"),
    (lambda: state(bias_ih_l0=torch.zeros(16, 1)), "bias_ih_l0 must be a vector, not \\(16, 1\\)"),
    (lambda: state(weight_hr_l0=torch.zeros(2, 4)), "weight_hr_l0_reverse must be given"),
    (lambda: state(weight_hh_l0=torch.zeros(16, 4).half()), "weight_hh_l0 must be of type float32 as weight_ih"),
    (lambda: state(bias_ih_l0=torch.zeros(16, dtype=torch.float64)), "bias_ih_l0 must be of type float32"),
    (lambda: {k: v.to(torch.int8) for k, v in state().items()}, "weight_ih_l0 must be of type .*, not '(I8|int8)'"),
    (lambda: with_value("weight_hh_l0", float("nan")), "weight_hh_l0 must be made of finite numbers, not nan"),
    (lambda: with_value("bias_hh_l1", float("-inf")), "bias_hh_l1 must be made of finite numbers, not -inf"),
    (lambda: {"fc.weight": torch.zeros(3, 3)}, "must hold tensors called weight_ih_l0, weight_hh_l0, not none of them"),
    (lambda: state(weight_hh_l0_g=torch.zeros(16, 1)), "plain weights, not the reparametrized 'weight_hh_l0_g'"),
    (lambda: {"a.weight_ih_l0": torch.zeros(4, 1), "b.weight_ih_l0": torch.zeros(4, 1)}, "--prefix must be given"),
]  # fmt: skip


def refused(path, message, **arguments):
    with pytest.raises(UserError) as error:
        load_network(path, **arguments)
    text = str(error.value)
    assert "\n" not in text
    assert "weights_only" not in text
    assert re.search(message, text), text


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize(("make", "message"), TENSORS)
def test_tensors(make, message, kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"")
    if kind == "pt":
        torch.save(make(), path)
    else:
        path.write_bytes(save({name: value.contiguous() for name, value in make().items()}))
    refused(path, message)


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def stored(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_code_in_a_pickle_never_runs(tmp_path):
    target = tmp_path / "harmed"
    for name, content in (
        ("a.pt", stored({"weight_ih_l0": Harmful(target)})),
        ("b.pt", pickle.dumps(Harmful(target), protocol=2)),
        ("c.pth", pickle.dumps(OrderedDict(weight_ih_l0=Harmful(target)))),
        ("d.safetensors", pickle.dumps(Harmful(target))),
        ("e.onnx", pickle.dumps(Harmful(target))),
    ):
        (tmp_path / name).write_bytes(content)
        kinds = "must be a (readable state_dict:|state_dict .* or TFLite model, not a pickle of Python objects:)"
        refused(tmp_path / name, kinds)
        assert not target.exists()
    refused(tmp_path / "a.pt", "it needs the code of (posix|os).mkdir; save model.state_dict\\(\\) alone")
    torch.save(torch.nn.LSTM(2, 3), tmp_path / "module.pt")
    refused(tmp_path / "module.pt", "it needs the code of torch.nn.modules.rnn.LSTM; save model.state_dict")


def huge_tensor() -> bytes:
    """A few bytes that claim a matrix of 2^60 elements: a view with strides of zero."""
    return stored(state(weight_ih_l0=torch.zeros(1, 1).expand(1 << 30, 1 << 30)))


def bomb() -> bytes:
    """The archive of a state_dict, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(stored(state()))) as source:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
            for entry in source.infolist():
                target.writestr(entry.filename, source.read(entry))
    return buffer.getvalue()


def header(entries: dict, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


GOOD = stored(state())
SAFE = save(state())
BYTES = [
    ("a.pt", b"", "must have from 1 to \\d+ bytes, not 0"),
    ("a.pt", b"no tensors", "must be a readable state_dict"),
    ("a.pt", GOOD[: len(GOOD) // 2], "must be a readable state_dict: PytorchStreamReader failed|must be a readable"),
    ("a.pt", GOOD[:-40], "must be a readable state_dict"),
    ("a.pt", stored([1, 2]), "must be a readable state_dict, not 'list'"),
    ("a.pt", stored(torch.zeros(3)), "must be a readable state_dict, not 'Tensor'"),
    ("a.pt", stored({"state_dict": {"x": 3}}), "must hold tensors called weight_ih_l0"),
    ("a.pt", huge_tensor(), "number of weights must be at most \\d+, not \\d+"),
    ("a.pt", bomb(), "must hold stored entries, not the compressed"),
    ("a.pt", stored(state(weight_ih_l0=torch.zeros(16, 3).to_sparse())), "weight_ih_l0 must be a dense tensor"),
    ("a.pt", stored(state(weight_ih_l0=torch.zeros(16, 3, device="meta"))), "weight_ih_l0 must be a dense tensor"),
    ("a.safetensors", SAFE[: len(SAFE) // 2], "must be a whole safetensors file"),
    ("a.safetensors", SAFE[:5], "must be a whole safetensors file"),
    ("a.safetensors", struct.pack("<Q", 1 << 62) + b"{}", "must be a whole safetensors file"),
    ("a.safetensors", header({"weight_ih_l0": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}},
                             bytes(4)), "must be a whole safetensors file"),
    ("a.safetensors", header({"weight_ih_l0": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 40]}}),
     "must be a whole safetensors file"),
    ("a.onnx", b"\x08\x07garbage", "must be a whole ONNX model"),
    ("a.net", b"x", "must be a file \\.onnx, \\.pt, .*, not '\\.net'"),
    ("a.h5", b"x", "must be a whole HDF5 file: "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BYTES, ids=range(len(BYTES)))
def test_bytes(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, message)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.onnx"])
def test_missing_file_and_folder(name, tmp_path):
    refused(tmp_path / name, "must be a(n| )[\\w (),.]+, not a missing file")
    (tmp_path / name).mkdir()
    refused(tmp_path / name, "not a folder")


def test_activation_only_where_the_file_does_not_tell(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "--activation must be left out for cell lstm, not 'relu'", activation="relu")
    torch.save(torch.nn.RNN(2, 3).state_dict(), tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "activation must be one of tanh, relu, not 'sin'", activation="sin")


# -- ONNX ------------------------------------------------------------------------------------------------------


def model(op="LSTM", attributes=None, constants=None, inputs=None, nodes=(), opset=17, sizes=(3, 4), x_shape=None):
    """One node with W, R and B of sensible shapes, as a ModelProto."""
    size_x, size_h = sizes
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    values = {
        "W": np.full((1, gates * size_h, size_x), 0.5, np.float32),
        "R": np.full((1, gates * size_h, size_h), 0.25, np.float32),
        "B": np.zeros((1, 2 * gates * size_h), np.float32),
    } | (constants or {})
    node = helper.make_node(op, inputs or ["x", "W", "R", "B"], ["y", "h"], name="n", hidden_size=size_h)
    for name, value in (attributes or {}).items():
        if name == "hidden_size":
            del node.attribute[0]
        node.attribute.append(helper.make_attribute(name, value))
    shape = [3, 2, size_x] if x_shape is None else x_shape
    return helper.make_model(
        helper.make_graph(
            [*nodes, node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in values.items() if value is not None],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
    )


def edited(change, **arguments):
    """A model after ``change`` of its protobuf."""
    result = model(**arguments)
    change(result)
    return result


def dims(name, *sizes):
    def change(proto):
        for initializer in proto.graph.initializer:
            if initializer.name == name:
                del initializer.dims[:]
                initializer.dims.extend(sizes)

    return change


def external(location, **entries):
    def change(proto):
        weight = proto.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            weight.external_data.add(key=key, value=str(value))

    return change


def twice(proto):
    proto.graph.node.append(helper.make_node("Identity", ["x"], ["y"]))
    proto.graph.node.append(helper.make_node("LSTM", ["y", "W", "R"], ["z"]))


def grown(levels):
    """Concat of a tensor with itself, again and again, then as initial state."""
    nodes = [helper.make_node("Concat", [f"c{n}", f"c{n}"], [f"c{n + 1}"], axis=0) for n in range(levels)]
    return model(
        constants={"c0": np.ones((1, 2, 4), np.float32)},
        inputs=["x", "W", "R", "B", "", f"c{levels}"],
        nodes=nodes,
    )


def constant_of_shape(*sizes):
    node = helper.make_node("ConstantOfShape", ["shape"], ["c"], value=numpy_helper.from_array(np.ones(1, np.float32)))
    inputs = ["x", "W", "R", "B", "", "c"]
    return model(constants={"shape": np.array(sizes, np.int64)}, inputs=inputs, nodes=[node])


f32 = np.float32
NAN = np.full((1, 16, 4), np.nan, f32)
MODELS = [
    (lambda: model(attributes={"clip": 3.0}), "an attribute of LSTM .* must be one of .* not clip = 3.0"),
    (lambda: model(attributes={"input_forget": 1}), "input_forget of LSTM \\(node 'n'\\) must be 0, not 1"),
    (lambda: model(attributes={"activations": ["Sigmoid", "Tanh", "Relu"]}), "must be sigmoid, tanh, tanh, not"),
    (lambda: model("RNN", {"activations": ["Softsign"]}), "activations of RNN .* must be tanh or relu, not"),
    (lambda: model(attributes={"activation_alpha": [0.1]}), "not activation_alpha = "),
    (lambda: model(attributes={"surprise": 1}), "not surprise = 1"),
    (lambda: model("GRU", {"input_forget": 0}), "an attribute of GRU .* not input_forget = 0"),
    (lambda: model(attributes={"direction": "sideways"}), "direction of LSTM .* not 'sideways'"),
    (lambda: model(attributes={"direction": 3}), "direction of LSTM .* must be text, not 3"),
    (lambda: model(attributes={"direction": "bidirectional"}), "W of LSTM .* must be of shape \\[2, 'any', 'any'\\]"),
    (lambda: model(attributes={"layout": 2}), "layout of LSTM .* must be 0 or 1, not 2"),
    (lambda: model(attributes={"hidden_size": 5}), "rows of W of LSTM .* must be 4 times hidden_size 5, not 16"),
    (lambda: model(constants={"R": np.zeros((1, 16, 5), f32)}), "R of LSTM .* must be of shape \\[1, 16, 4\\], not"),
    (lambda: model(constants={"B": np.zeros((1, 16), f32)}), "B of LSTM .* must be of shape \\[1, 32\\], not"),
    (lambda: model(constants={"R": NAN}), "R of LSTM .* must be made of finite numbers, not nan"),
    (lambda: model(constants={"R": np.zeros((1, 16, 4), np.float16)}), "R of LSTM .* must be of type float32 as W"),
    (lambda: model(constants={"W": np.zeros((1, 16, 3), np.int8)}), "W of .* must be floating-point numbers, not int8"),
    (lambda: model(constants={"R": None}), "'R' must be written before it is read"),
    (lambda: model(inputs=["x", "W"]), "R of LSTM .* must be given in .*, not left out"),
    (lambda: model(inputs=["x", "x", "R"]), "W of LSTM .* must be a constant, not the input .x. "),
    (lambda: model(inputs=["x", "W", "R", "B", "", "x"]), "initial_h of LSTM .* must be a constant or a graph input"),
    (lambda: model(inputs=["x", "W", "R", "B", "x"]), "sequence_lens of LSTM .* must be a vector of integers"),
    (lambda: model(inputs=["x", "W", "R", "B", "", "h"], constants={"h": np.ones((2, 2, 4), f32)}), "initial_h of"),
    (lambda: model(sizes=(3, 4), x_shape=[3, 2, 9]), "X of LSTM .* must be of 3 dimensions, the last 3, not of shape"),
    (lambda: model(x_shape=[1 << 30, 1 << 30, 3]), "the shape of 'x' must be of at most \\d+ elements"),
    (lambda: model(x_shape=[-5, 2, 3]), "the shape of 'x' must be made of sizes of at least 1, not -5"),
    (lambda: model(opset=6), "must be of operator set 7 or newer, not 6"),
    (lambda: edited(lambda m: m.graph.ClearField("node")), "must be a whole ONNX model, not one without operators"),
    (lambda: edited(lambda m: setattr(m.graph.node[0], "op_type", "Relu")), "an LSTM, GRU or RNN node, not only Relu"),
    (lambda: edited(lambda m: setattr(m.graph.node[0], "domain", "evil")), "LSTM, GRU or RNN node, not evil.LSTM"),
    (lambda: edited(twice), "'y' must be written by one node of .*, not also by Identity"),
    (lambda: edited(dims("W", 1, 1 << 40, 1 << 40)), "W must have at most \\d+ elements"),
    (lambda: edited(dims("W", 1, -16, -3)), "W must have at most"),
    (lambda: edited(dims("W", 1, 1600, 3)), "W must hold the data of its shape \\[1, 1600, 3\\]"),
    (lambda: edited(external("../secret")), "W must hold the data of its shape"),
    (lambda: edited(external("/etc/passwd")), "W must hold the data of its shape"),
    (lambda: edited(external("missing.data")), "W must hold the data of its shape"),
    (lambda: edited(external("link.data", length=192)), "W must hold the data of its shape"),
    (lambda: edited(external("a.onnx", length=1 << 50)), "external data must have 192 bytes, not 1125899906842624"),
    (lambda: edited(external("a.onnx", offset=1 << 50)), "W must hold the data of its shape"),
    (lambda: grown(60), "initial_h of LSTM .* not the output of Concat .*, whose result is too large"),
    (lambda: constant_of_shape(1 << 31, 1 << 31), "whose result is too large"),
    (lambda: constant_of_shape(-4, 4), "initial_h of LSTM"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), MODELS, ids=range(len(MODELS)))
def test_models(make, message, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(192))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.data").symlink_to(tmp_path / "secret")
    (folder / "a.onnx").write_bytes(make().SerializeToString())
    refused(folder / "a.onnx", message)


def test_the_table_of_models_starts_from_a_good_one(tmp_path):
    (tmp_path / "a.onnx").write_bytes(model().SerializeToString())
    assert load_network(tmp_path / "a.onnx").layers[0].hidden_size == 4
    refused(tmp_path / "a.onnx", "--prefix must begin the name of a node \\('n'\\) of .*, not 'm'", prefix="m")
    refused(tmp_path / "a.onnx", "--activation must be left out for an ONNX model", activation="relu")


def test_truncated_models(tmp_path, rng):
    whole = model().SerializeToString()
    for cut in sorted(rng.integers(1, len(whole) - 1, size=30)):
        (tmp_path / "a.onnx").write_bytes(whole[:cut])
        with pytest.raises(UserError):
            load_network(tmp_path / "a.onnx")


def test_damaged_bytes_are_refused_or_read(tmp_path, rng):
    # Whatever a byte becomes, the outcome is a network or one line; never another exception.
    files = {"a.onnx": model().SerializeToString(), "a.safetensors": SAFE, "a.pt": GOOD}
    for name, whole in files.items():
        for _ in range(20):
            damaged = bytearray(whole)
            damaged[rng.integers(len(whole))] = rng.integers(256)
            (tmp_path / name).write_bytes(bytes(damaged))
            with contextlib.suppress(UserError):
                load_network(tmp_path / name)
