"""Conversion of every network of a file: names, inputs, what stays with the host, and whose fault an error is."""

import json
import re

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save

from chessrnn.model.imported.load import load_network
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts import convert
from chessrnn.scripts.cli import run_command


def command(arguments, capsys):
    status = run_command(lambda: convert.main([str(part) for part in arguments]), "convert")
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def save_modules(path, **modules):
    """Save a state_dict of several modules; ``__`` in a name is a dot."""
    tensors = {
        f"{name.replace('__', '.')}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    torch.save(tensors, path)


@pytest.fixture
def clash(tmp_path):
    """Two modules whose names become the same name of a folder."""
    torch.manual_seed(3)
    save_modules(tmp_path / "clash.pt", a__b=torch.nn.LSTM(3, 4), a_b=torch.nn.GRU(5, 4))
    return tmp_path / "clash.pt"


@pytest.fixture
def lstms(tmp_path, rng):
    """An ONNX model of two LSTMs that read different inputs, and a product behind the second."""
    arrays, nodes = {}, []
    for name in ("enc", "dec"):
        arrays |= {f"{name}_w": rng.normal(size=(1, 16, 3)), f"{name}_r": rng.normal(size=(1, 16, 4))}
        inputs = [f"{name}_x", f"{name}_w", f"{name}_r"]
        nodes.append(helper.make_node("LSTM", inputs, [f"{name}_y"], name=f"/{name}/LSTM", hidden_size=4))
    nodes.append(helper.make_node("MatMul", ["dec_y", "fc"], ["y"], name="/fc/MatMul"))
    arrays["fc"] = rng.normal(size=(4, 2))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(f"{name}_x", TensorProto.FLOAT, ["t", "b", 3]) for name in ("enc", "dec")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("enc_y", "y")],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "two.onnx")
    return tmp_path / "two.onnx"


def test_names_that_become_the_same_get_folders_of_their_own(clash, tmp_path, rng, capsys):
    (tmp_path / "inputs").mkdir()
    np.save(tmp_path / "inputs" / "a_b.npy", rng.normal(size=(9, 2, 3)))
    np.save(tmp_path / "inputs" / "a_b_2.npy", rng.normal(size=(9, 2, 5)))
    arguments = [clash, "--all", "--k", 1, "--output", tmp_path / "out", "--calibrate", tmp_path / "inputs"]
    status, out, err = command(arguments, capsys)
    assert (status, err.count("calibrating on 9 steps")) == (0, 2)
    assert re.search(r"^designs +2 of 2 recurrent networks", out, re.MULTILINE)
    cells = {
        name: WeightImage.load(tmp_path / "out" / name / f"clash_{name}.safetensors").config.network.cell
        for name in ("a_b", "a_b_2")
    }
    assert cells == {"a_b": "lstm", "a_b_2": "gru"}


def test_nodes_of_onnx_find_their_inputs_and_do_not_stay_with_the_host(lstms, tmp_path, rng, capsys):
    (tmp_path / "inputs").mkdir()
    np.save(tmp_path / "inputs" / "_dec_LSTM.npy", rng.normal(size=(9, 2, 3)))
    arguments = [lstms, "--all", "--k", 1, "--output", tmp_path / "out", "--calibrate", tmp_path / "inputs"]
    status, out, err = command(arguments, capsys)
    assert (status, err.count("calibrating on 9 steps")) == (0, 1)
    missing = tmp_path / "inputs" / "_enc_LSTM.npy"
    assert f"note: /enc/LSTM is converted without inputs, as there is no {missing}\n" in err
    # The product behind the second is its output layer.
    assert not re.findall(r"^host +(.*)$", out, re.MULTILINE)
    assert load_network(lstms, "/dec").linear.name == "/fc/MatMul"
    # Of one network alone, the other node is part of the rest.
    assert load_network(lstms, "/enc").ignored == ("operator LSTM /dec/LSTM", "operator MatMul")


def test_a_setting_that_no_network_allows_is_reported_once(clash, tmp_path, capsys):
    common = [clash, "--all", "--k", 1, "--output", tmp_path / "out"]
    status, out, err = command([*common, "--set", "quantization.bias_bits=99"], capsys)
    assert (status, out) == (2, "")
    assert err.count("quantization.bias_bits must be from 8 to 32, not 99") == 1


def test_the_users_errors_are_not_the_networks(clash, tmp_path, rng, capsys, monkeypatch):
    (tmp_path / "inputs").mkdir()
    np.save(tmp_path / "inputs" / "a_b_2.npy", rng.normal(size=(9, 2, 7)))
    common = [clash, "--all", "--output", tmp_path / "out"]
    inputs = ["--calibrate", tmp_path / "inputs"]
    for more, text in (
        (["--set", "foo"], "--set must be of the form section.field=value, not 'foo'"),
        (["--set", "network.foo=1"], "network.foo must be a field of the configuration, not an unknown key"),
        (["--k", 3], "--k must be one of"),
        (["--activation", "relu"], "--activation must be left out for cell"),
        ([*inputs, "--fold", "on"], "--calibrate must be a folder with a_b.npy or a_b.csv, for --fold on, not"),
        ([*inputs, "--retrain", 5], "--calibrate must be a folder with a_b.npy or a_b.csv, for --retrain, not"),
    ):
        status, out, err = command([*common, *more], capsys)
        assert (status, out) == (2, ""), more
        assert text in err and "stays with the host" not in err and err.count("\n") == 1
        assert not (tmp_path / "out").exists()
    status, out, err = command([*common, "--k", 1, *inputs], capsys)
    assert status == 2
    assert "a_b_2.npy must be of shape (steps, batch, 5)" in err and "stays with the host" not in err


def test_what_the_accelerator_does_not_run_is_named(tmp_path, capsys):
    torch.manual_seed(5)
    save_modules(tmp_path / "a.pt", good=torch.nn.LSTM(3, 4), odd=torch.nn.LSTM(3, 4, num_layers=2))
    tensors = torch.load(tmp_path / "a.pt")
    del tensors["odd.weight_hh_l1"]
    torch.save(tensors, tmp_path / "a.pt")
    arguments = [tmp_path / "a.pt", "--all", "--k", 1, "--output", tmp_path / "out", "--json"]
    status, out, err = command(arguments, capsys)
    assert status == 0
    assert list(json.loads(out)["networks"]) == ["good"]
    assert len(json.loads(out)["refused"]) == 1
    assert re.search("^warning: odd stays with the host: ", err, re.MULTILINE)
    torch.save({key: value for key, value in tensors.items() if key.startswith("odd")}, tmp_path / "a.pt")
    status, out, err = command(arguments, capsys)
    assert status == 2
    assert "error: --all must be of a file with a network that the accelerator runs" in err
