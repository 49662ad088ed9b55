"""The inspect_model and convert commands as their users run them, from files that plain PyTorch saved."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save

from chessrnn.model.imported.float_evaluation import run
from chessrnn.model.imported.load import load_network, network_names
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.schedule import Schedule
from chessrnn.model.training.pipeline import StageTrainer
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts import convert, inspect_model, verilog
from chessrnn.scripts.cli import run_command
from chessrnn.scripts.main import main
from chessrnn.sim.build import load_build

# Icarus takes ten times as long for carry-save arithmetic.
ICARUS = ("--sim", "icarus", "--set", "architecture.arithmetic=multiplier")


class Model(torch.nn.Module):
    def __init__(self, layers=1, **arguments):
        super().__init__()
        self.embedding = torch.nn.Embedding(9, 10)
        self.rnn = torch.nn.LSTM(10, 12, layers, **arguments)
        self.fc = torch.nn.Linear(self.rnn.hidden_size, 9)


@pytest.fixture
def saved(tmp_path):
    """Save a model's state_dict; its path."""

    def save(name="a.pt", **arguments):
        torch.manual_seed(6)
        torch.save(Model(**arguments).state_dict(), tmp_path / name)
        return tmp_path / name

    return save


def command(module, arguments, capsys):
    status = run_command(lambda: module.main([str(part) for part in arguments]), module.__name__.rpartition(".")[2])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_inspect(saved, capsys):
    path = saved(layers=2, bidirectional=True)
    status, out, err = command(inspect_model, [path, "--k", 4], capsys)
    assert (status, err) == (0, "")
    for text in ("rnn.l0", "lstm, bidirectional", "embedding.weight [9, 10]", "removed"):
        assert text in out
    assert re.search(r"^fits the hardware +yes$", out, re.MULTILINE)
    assert re.search(r"^accuracy +not known from a file", out, re.MULTILINE)
    status, out, _ = command(inspect_model, [path, "--k", 4, "--weight-bits", 4, "--json"], capsys)
    result = json.loads(out)
    # Per direction 48 rows of 10 + 12 and of 24 + 12; in blocks of 4 the 10 become 12.
    assert [layer["weights"] for layer in result["layers"]] == [2 * 48 * 22, 2 * 48 * 36]
    assert [layer["compressed_bytes"] for layer in result["layers"]] == [2 * 12 * 6 * 4 // 2, 2 * 12 * 9 * 4 // 2]
    assert result["dense_float32_bytes"] == 4 * 2 * 48 * (22 + 36)
    assert result["supported"]
    assert json.loads(command(inspect_model, [saved("b.pt"), "--json"], capsys)[1])["supported"]


def test_file_to_verilog(saved, tmp_path, capsys):
    inputs = np.random.default_rng(7).normal(size=(40, 2, 10)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    path = saved("my model.pt")
    arguments = [path, "--k", 1, "--calibrate", tmp_path / "inputs.npy", "--output", tmp_path / "out", "--json"]
    status, out, err = command(convert, arguments, capsys)
    assert status == 0
    assert "calibrating on 40 steps of 2 sequences, 10 elements each, read as (steps, batch, elements); values" in err
    assert "warning" not in err
    report = json.loads(out)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["output"]["integers"] < 0.05
    image = WeightImage.load(report["weights"])
    assert image.config.name == "my_model"
    assert image.metrics["output"] == report["output"]
    # The integers compute what PyTorch computes, but for the error that is reported.
    codes = np.floor(inputs / image.config.quantization.x.lsb + 0.5).astype(np.int64)
    h = LayerReference(image.weights).run(codes)[0] * image.config.quantization.h.lsb
    wanted, _ = run(load_network(path), inputs)
    assert np.abs(h - wanted).max() < 0.05
    arguments = ["--config", report["config"], "--weights", report["weights"], "--output", tmp_path / "build"]
    assert command(verilog, arguments, capsys)[0] == 0
    assert load_build(tmp_path / "build").config == image.config


def saved_cell(cell, folder):
    """A file as its users have it: a state_dict of plain PyTorch, or an ONNX node of what PyTorch lacks."""
    torch.manual_seed(9)
    if cell in ("gru", "rnn"):
        torch.save({"gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](6, 8).state_dict(), folder / f"{cell}.pt")
        return folder / f"{cell}.pt"
    rng = np.random.default_rng(10)
    operator, inputs, rows, attributes = {
        "lstm_peephole": ("LSTM", ["x", "W", "R", "B", "", "", "", "P"], 32, {}),
        # Nothing given: the operator's default is the reset gate before the product.
        "gru_reset_first": ("GRU", ["x", "W", "R", "B"], 24, {}),
        "rnn_relu": ("RNN", ["x", "W", "R", "B"], 8, {"activations": ["Relu"]}),
    }[cell]
    shapes = {"W": (1, rows, 6), "R": (1, rows, 8), "B": (1, 2 * rows)}
    shapes |= {"P": (1, 24)} if "P" in inputs else {}
    node = helper.make_node(operator, inputs, ["y"], hidden_size=8, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "b", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array((rng.normal(size=s) * 0.4).astype(np.float32), n) for n, s in shapes.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / f"{cell}.onnx")
    return folder / f"{cell}.onnx"


@pytest.mark.parametrize("cell", ["gru", "rnn", "lstm_peephole", "gru_reset_first", "rnn_relu"])
def test_every_cell_from_file_to_integers(cell, tmp_path, capsys):
    path = saved_cell(cell, tmp_path)
    inputs = np.random.default_rng(11).normal(size=(50, 2, 6))
    np.save(tmp_path / "inputs.npy", inputs)
    arguments = [path, "--k", 1, "--calibrate", tmp_path / "inputs.npy", "--output", tmp_path / "out", "--json"]
    status, out, _ = command(convert, arguments, capsys)
    assert status == 0
    image = WeightImage.load(json.loads(out)["weights"])
    assert image.config.network.cell == cell
    fmt = image.config.quantization.x
    codes = np.clip(np.floor(inputs / fmt.lsb + 0.5), fmt.min, fmt.max).astype(np.int64)
    h = LayerReference(image.weights).run(codes)[0] * image.config.quantization.h.lsb
    wanted, _ = run(load_network(path), inputs)
    assert np.abs(h - wanted).max() < 0.1
    assert network_names(path) == [""]
    assert json.loads(command(inspect_model, [path, "--json"], capsys)[1])["supported"]


def test_arrays_with_the_batch_first_and_tables(saved, tmp_path, capsys):
    path, inputs = saved(), np.random.default_rng(7).normal(size=(12, 3, 10))
    np.save(tmp_path / "steps.npy", inputs)
    np.save(tmp_path / "batch.npy", inputs.swapaxes(0, 1))
    np.savetxt(tmp_path / "one.csv", inputs[:, 0], delimiter=",", header="a,b", comments="")
    np.save(tmp_path / "one.npy", inputs[:, 0])
    results = {}
    for name, more in (("steps.npy", []), ("batch.npy", ["--batch-first"]), ("one.csv", []), ("one.npy", [])):
        arguments = [path, "--k", 1, "--calibrate", tmp_path / name, "--output", tmp_path / "out", "--json", *more]
        status, out, err = command(convert, arguments, capsys)
        assert status == 0
        layout = "(batch, steps, elements)" if more else "(steps, batch, elements)"
        assert f"calibrating on 12 steps of {1 if 'one' in name else 3} sequence" in err
        assert f"read as {layout}; values from -" in err
        results[name] = json.loads(out)["output"]
    assert results["steps.npy"] == results["batch.npy"]
    assert results["one.csv"] == pytest.approx(results["one.npy"])


def test_the_summary_begins_with_the_error_and_warns(saved, tmp_path, capsys):
    path, inputs = saved(layers=2), np.random.default_rng(7).normal(size=(12, 3, 10))
    np.save(tmp_path / "x.npy", inputs)
    arguments = [path, "--k", 4, "--calibrate", tmp_path / "x.npy", "--output", tmp_path / "out"]
    status, out, err = command(convert, arguments, capsys)
    assert status == 0
    first, second, third, *_ = out.splitlines()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    errors = [layer["output"]["integers"] for layer in report["layers"]]
    assert re.match(rf"error of h +{100 * errors[1]:.2f} % in the last layer; measured on calibration data, 36", first)
    assert second.split() == ["rnn.l0", f"{100 * errors[0]:.2f}", "%"]
    assert third.split() == ["rnn.l1", f"{100 * errors[1]:.2f}", "%"]
    assert f"warning: the error of h in the last layer is {100 * errors[1]:.1f} %, above 10 %: --k 1 keeps" in err
    assert "--retrain N (with --calibrate)" in err


def test_all_networks_of_a_file(tmp_path, capsys):
    """One design each, and a list of what stays with the host; what no accelerator runs is named."""
    torch.manual_seed(4)
    modules = {"enc.rnn": torch.nn.LSTM(6, 8), "mid": torch.nn.Linear(8, 5), "dec": torch.nn.GRU(5, 4)}
    modules["odd"] = torch.nn.LSTM(4, 6, proj_size=3)
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    # A module that is incomplete.
    del tensors["odd.weight_hr_l0"]
    torch.save({key: value for key, value in tensors.items() if not key.startswith("odd")}, tmp_path / "a.pt")
    (tmp_path / "inputs").mkdir()
    np.save(tmp_path / "inputs" / "enc_rnn.npy", np.random.default_rng(1).normal(size=(9, 2, 6)))
    arguments = [tmp_path / "a.pt", "--all", "--k", 1, "--calibrate", tmp_path / "inputs", "--output", tmp_path / "out"]
    status, out, err = command(convert, arguments, capsys)
    assert status == 0
    assert out.count("error of h") == 2 + 2
    assert "note: dec is converted without inputs" in err
    assert re.search(r"^designs +2 of 2 recurrent networks, below .*/out/$", out, re.MULTILINE)
    assert WeightImage.load(tmp_path / "out" / "enc_rnn" / "a_enc_rnn.safetensors").config.network.input_size == 6
    assert WeightImage.load(tmp_path / "out" / "dec" / "a_dec.safetensors").config.network.cell == "gru"
    result = json.loads(command(convert, [*arguments, "--json"], capsys)[1])
    assert sorted(result["networks"]) == ["dec", "enc.rnn"]
    # The linear layer behind the first is in its image.
    assert result["networks"]["enc.rnn"]["output_layer"]["name"] == "mid"
    assert (result["host"], result["refused"]) == ([], [])
    torch.save(tensors, tmp_path / "a.pt")
    status, out, err = command(convert, [*arguments, "--json"], capsys)
    assert status == 0
    assert re.search(r"^warning: odd stays with the host: odd\.\S+ must be", err, re.MULTILINE)
    status, out, err = command(convert, [*arguments, "--prefix", "dec"], capsys)
    assert (status, out) == (2, "")
    assert "--prefix must be left out with --all, not 'dec'" in err


def test_the_default_block_size_pays(tmp_path, capsys):
    for size, k in ((1, 1), (2, 2), (5, 8), (16, 8)):
        torch.save(torch.nn.LSTM(size, size).state_dict(), tmp_path / "a.pt")
        result = json.loads(command(inspect_model, [tmp_path / "a.pt", "--json"], capsys)[1])
        assert (result["block_size"], result["paying_block_size"]) == (k, k)
        assert result["removed_percent"] >= 75
        assert result["compressed_bytes"] == result["bytes_by_block_size"][str(k)]


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("cell", ["gru", pytest.param("gru_reset_first", marks=pytest.mark.slow)])
def test_a_gru_from_its_file_through_the_verilog(cell, tmp_path, capsys, monkeypatch):
    path = saved_cell(cell, tmp_path)
    np.save(tmp_path / "inputs.npy", np.random.default_rng(12).normal(size=(9, 3, 6)))
    monkeypatch.chdir(tmp_path)
    arguments = [path, "--k", 2, "--calibrate", "inputs.npy", "--set", "architecture.tile_rows=2"]
    status, out, _ = command(convert, [*arguments, *ICARUS, "--steps", 21], capsys)
    assert status == 0
    assert out.count(f"21 steps in runs/{cell}/verilog/, 0 mismatches of h") == 2
    report = json.loads((tmp_path / "runs" / cell / "report.json").read_text())
    assert [(run["steps"], run["problems"]) for run in report["simulation"]["runs"]] == [(21, [])] * 2
    assert load_build(tmp_path / "runs" / cell / "verilog").config.network.cell == cell


@pytest.mark.needs("icarus")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: torch.nn.GRU(6, 8, num_layers=2), marks=pytest.mark.slow),
        pytest.param(lambda: torch.nn.LSTM(6, 8, num_layers=2, proj_size=5), marks=pytest.mark.slow),
        pytest.param(lambda: torch.nn.LSTM(6, 5, num_layers=2, bidirectional=True), marks=pytest.mark.slow),
        pytest.param(
            lambda: torch.nn.LSTM(6, 7, num_layers=2, bidirectional=True, proj_size=5), marks=pytest.mark.slow
        ),
    ],
    ids=["gru", "projected_lstm", "bidirectional_lstm", "projected_bidirectional_lstm"],
)
def test_a_stack_from_its_file_through_the_verilog(make, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(13)
    network = make()
    torch.save(network.state_dict(), "stack.pt")
    inputs = np.random.default_rng(14).normal(size=(40, 2, 6))
    np.save("inputs.npy", inputs)
    arguments = ["stack.pt", "--k", 2, "--calibrate", "inputs.npy", "--set", "architecture.tile_rows=3"]
    status, out, _ = command(convert, [*arguments, *ICARUS, "--steps", 20], capsys)
    assert status == 0
    assert out.count("20 steps in runs/stack/verilog/, 0 mismatches of h") == 2
    assert load_build(tmp_path / "runs" / "stack" / "verilog").config.network.num_layers == 2
    assert json.loads(command(inspect_model, ["stack.pt", "--json"], capsys)[1])["supported"]
    # Dense and finely quantized, the integers follow PyTorch through both layers.
    status, out, _ = command(convert, [*arguments[:1], "--k", 1, *arguments[3:5], "--json"], capsys)
    image = WeightImage.load(json.loads(out)["weights"])
    fmt = image.config.quantization.x
    codes = np.clip(np.floor(inputs / fmt.lsb + 0.5), fmt.min, fmt.max).astype(np.int64)
    h = NetworkReference(image.weights).run(codes)[0] * image.config.quantization.h.lsb
    wanted, _ = network(torch.from_numpy(inputs).float())
    assert np.abs(h - wanted.detach().numpy()).max() < 0.1


class Exported(torch.nn.Module):
    """What people export: an LSTM that begins with a state of its own."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(6, 8)
        self.register_buffer("h", torch.rand(1, 1, 8) - 0.5)
        self.register_buffer("c", torch.randn(1, 1, 8))

    def forward(self, x):
        return self.lstm(x, (self.h, self.c))[0]


@pytest.mark.needs("icarus")
def test_an_lstm_that_pytorch_exported_through_the_verilog(tmp_path, capsys, monkeypatch):
    """With its first state, which goes in through the state ports before every sequence."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Exported().eval(), (torch.zeros(9, 1, 6),), "lstm.onnx", dynamo=False)
    np.save("inputs.npy", np.random.default_rng(16).normal(size=(9, 1, 6)))
    arguments = ["lstm.onnx", "--k", 2, "--calibrate", "inputs.npy", "--set", "architecture.tile_rows=2"]
    status, out, _ = command(convert, [*arguments, *ICARUS, "--steps", 9], capsys)
    assert status == 0
    assert out.count("9 steps in runs/lstm/verilog/, 0 mismatches of h") == 2
    config = load_build(tmp_path / "runs" / "lstm" / "verilog").config
    assert config.architecture.state_ports
    beats = (tmp_path / "runs" / "lstm" / "lstm.state.hex").read_text().splitlines()
    assert len(beats) == 1 + Schedule(config).state_beats
    status, _, err = command(convert, [*arguments, "--set", "architecture.state_ports=false"], capsys)
    assert status == 2
    assert "architecture.state_ports must be True as in the model and the arguments, not False" in err
    status, _, err = command(convert, [*arguments, "--set", "architecture.output_layer=7"], capsys)
    assert status == 2
    assert "architecture.output_layer must be 0 as in the model and the arguments, not 7" in err
    status, _, err = command(convert, [*arguments, "--set", "compression.output_block_size=2"], capsys)
    assert status == 2
    assert "compression.output_block_size must be 1 as in the model and the arguments, not 2" in err


def test_one_of_several_layers(saved, tmp_path, capsys):
    path = saved(layers=2, bidirectional=True)
    inputs = np.random.default_rng(8).normal(size=(30, 10))
    np.save(tmp_path / "inputs.npy", inputs)
    common = [path, "--k", 1, "--calibrate", tmp_path / "inputs.npy", "--output", tmp_path, "--json"]
    status, out, _ = command(convert, [*common, "--layer", 1, "--direction", "reverse"], capsys)
    assert status == 0
    report = json.loads(out)
    assert (report["layer"], report["steps"]) == ("rnn.l1 reverse", 30)
    assert WeightImage.load(report["weights"]).config.network.input_size == 24
    assert report["output"]["integers"] < 0.05


@pytest.mark.slow
def test_a_layer_of_both_directions(saved, tmp_path, capsys):
    path = saved(layers=2, bidirectional=True)
    np.save(tmp_path / "inputs.npy", np.random.default_rng(8).normal(size=(70, 10)))
    common = [path, "--k", 1, "--calibrate", tmp_path / "inputs.npy", "--output", tmp_path, "--json", "--layer", 1]
    status, out, err = command(convert, common, capsys)
    assert status == 0
    assert "note: sequences of 70 steps are cut after 64: --set architecture.sequence_steps=70" in err
    config = WeightImage.load(json.loads(out)["weights"]).config.network
    assert (config.bidirectional, config.num_layers, config.input_size) == (True, 1, 24)
    longer = [*common, "--set", "architecture.sequence_steps=70"]
    assert "are cut" not in command(convert, longer, capsys)[2]


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_retraining_from_the_file_survives_ctrl_c(saved, tmp_path, capsys, monkeypatch):
    """To the same integers as in one go, and through the simulator."""
    path = saved(layers=2)
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(20, 10, 10)))
    common = [path, "--k", 4, "--weight-bits", 5, "--calibrate", tmp_path / "x.npy", "--retrain", 20, "--json"]
    status, out, _ = command(convert, [*common, "--output", tmp_path / "straight"], capsys)
    assert status == 0
    straight = json.loads(out)
    assert set(straight["output"]) == {"projected", "retrained", "rounded_weights", "integers"}
    update = StageTrainer._update
    for name, stop in (("0-float", 3), ("1-float", 0), ("1-quantized", 5)):

        def interrupted(self, model, name=name, stop=stop):
            if (self.stage.name, self.step) == (name, stop):
                raise KeyboardInterrupt
            return update(self, model)

        monkeypatch.setattr(StageTrainer, "_update", interrupted)
        status, out, err = command(convert, [*common, "--output", tmp_path / "broken"], capsys)
        assert (status, out) == (130, "")
        assert re.search(rf"convert: interrupted at step {stop}: .*{name}.pt is complete, and the same command", err)
        assert not (tmp_path / "broken" / "a.safetensors").exists()
    monkeypatch.setattr(StageTrainer, "_update", update)
    simulated = [*common, "--output", tmp_path / "broken", *ICARUS, "--steps", 12]
    status, out, _ = command(convert, simulated, capsys)
    assert status == 0
    resumed = json.loads(out)
    assert [run["mismatches"] for run in resumed["simulation"]["runs"]] == [0, 0]
    assert resumed["output"] == straight["output"]
    found, wanted = (WeightImage.load(Path(result["weights"])).weights for result in (resumed, straight))
    for layer, other in zip(found.layers, wanted.layers, strict=True):
        np.testing.assert_array_equal(layer.defining, other.defining)
    # Other settings are not mixed with what is there.
    status, _, err = command(convert, [*common, "--seed", 2, "--output", tmp_path / "broken"], capsys)
    assert status == 2
    assert re.search(r"--seed must be 1 as in .*arguments.json, not 2: use that, or another folder", err)


def test_wrong_input_is_one_line_and_nothing_is_written(saved, tmp_path, capsys):
    one, two = saved("one.pt"), saved("two.pt", layers=2, bidirectional=True)
    np.save(tmp_path / "narrow.npy", np.zeros((4, 9)))
    np.save(tmp_path / "few.npy", np.zeros((4, 2, 10)))
    np.save(tmp_path / "good.npy", np.zeros((10, 2, 10)))
    np.save(tmp_path / "huge.npy", np.full((4, 10), 1e200))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "nan.npy", np.full((4, 10), np.nan))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', ")
    for arguments, message in (
        ([two, "--direction", "reverse"], "--layer must be given, from 0 to 1: --direction is of one layer, not None"),
        ([two, "--layer", 2], "--layer must be from 0 to 1, not 2"),
        ([two, "--set", "architecture.contexts=2"], "architecture.contexts must be 1 when network.bidirectional"),
        ([one, "--layer", 7], "--layer must be 0, the only layer of the file, not 7"),
        ([one, "--direction", "reverse"], "--direction must be forward as in the model, not 'reverse'"),
        ([one, "--k", 3], "--k must be one of 1, 2, 4, 8, 16, not 3"),
        ([one, "--weight-bits", 9], "--weight-bits must be from 2 to 8, not 9"),
        ([one, "--prefix", "x"], "--prefix must be one of 'rnn' as in"),
        ([one, "--name", "a/b"], "name must be made of letters, digits, '_' and '-' only, not 'a/b'"),
        ([one, "--set", "quantization.x"], "--set must be of the form section.field=value, not 'quantization.x'"),
        ([one, "--calibrate", tmp_path / "none.npy"], "must be a .npy file of numbers"),
        ([one, "--calibrate", tmp_path / "damaged.npy"], "must be a .npy file of numbers"),
        ([one, "--calibrate", tmp_path / "objects.npy"], "must be a .npy file of numbers"),
        ([one, "--calibrate", tmp_path / "archive.npz"], "must be a .npy file of numbers, not of archives"),
        ([one, "--calibrate", tmp_path / "text.npy"], "must be a .npy file of numbers, not of <U1"),
        ([one, "--calibrate", tmp_path / "narrow.npy"], "must be of shape (steps, batch, 10) or (steps, 10)"),
        ([one, "--calibrate", tmp_path / "nan.npy"], "must be made of finite numbers, not nan"),
        ([one, "--retrain", 5], "--calibrate must be given with --retrain, not None"),
        ([one, "--retrain", 5, "--calibrate", tmp_path / "few.npy"], "must have at least 10 steps or sequences to"),
        ([one, "--calibrate", tmp_path / "huge.npy"], "must be made of numbers of at most 1e+06, not of 1e+200"),
        (
            [one, "--retrain", 5, "--calibrate", tmp_path / "good.npy", "--set", "architecture.tile_rows=99"],
            "architecture.tile_rows must be at most",
        ),
        ([one, "--learning-rate", 1], "--learning-rate must be left out without --retrain, not 1.0"),
        ([one, "--steps", 4], "--steps must be left out without --sim, not 4"),
        (
            [tmp_path / "none.pt"],
            "must be a state_dict (.pt or .safetensors), an ONNX, Keras or TFLite model, not a missing",
        ),
    ):
        status, out, err = command(convert, [*arguments, "--output", tmp_path / "out"], capsys)
        assert (status, out) == (2, ""), arguments
        last = err.splitlines()[-1]
        assert message in last
        assert last.startswith("convert: error: ")
        assert not (tmp_path / "out").exists()


def test_names_of_a_file_reach_the_terminal_without_control_characters(tmp_path, capsys):
    evil = "a\x1b[2J\n"
    tensors = {f"{evil}.{name}": value for name, value in torch.nn.RNN(2, 3).state_dict().items()}
    torch.save({**tensors, f"{evil}x": torch.zeros(1)}, tmp_path / "a.pt")
    status, out, _ = command(inspect_model, [tmp_path / "a.pt"], capsys)
    assert status == 0
    assert "a?[2J .l0" in out
    del tensors[f"{evil}.bias_hh_l0"]
    torch.save(tensors, tmp_path / "a.pt")
    status, _, err = command(inspect_model, [tmp_path / "a.pt"], capsys)
    assert (status, err.count("\n"), "\x1b" in out + err) == (2, 1, False)


@pytest.mark.parametrize("verb", ["convert", "train"])
def test_an_empty_name(verb, capsys):
    """It would name the folder of another design."""
    with pytest.raises(SystemExit) as ended:
        main([verb, *(["gru.pt"] if verb == "convert" else []), "--name", ""])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"chessrnn {verb}: error: --name must be a name, not ''\n"


@pytest.mark.parametrize("name", ["a.safetensors", "a.json", "report.json"])
def test_files_of_others_are_not_overwritten(saved, tmp_path, capsys, name):
    path, folder = saved(), tmp_path / "out"
    arguments = [path, "--k", 4, "--effort", "quick", "--output", folder]
    folder.mkdir()
    (folder / name).write_text('{"mine": 1}', encoding="ascii")
    status, out, err = command(convert, arguments, capsys)
    assert (status, out) == (2, "")
    assert f"error: --output must be a folder without a {name} of something else, not {folder}\n" in err
    assert [entry.name for entry in folder.iterdir()] == [name]
    # What a conversion wrote, another one may write again.
    (folder / name).unlink()
    assert [command(convert, arguments, capsys)[0] for _ in range(2)] == [0, 0]


def test_a_build_is_not_converted_into(saved, tmp_path, capsys):
    folder = tmp_path / "build"
    assert main(["verilog", "--config", "tiny", "--output", str(folder)]) == 0
    before = sorted(entry.name for entry in folder.iterdir())
    status, _, err = command(convert, [saved(), "--k", 4, "--effort", "quick", "--output", folder], capsys)
    assert status == 2 and "--output must be a folder other than a build of chessrnn verilog" in err
    assert sorted(entry.name for entry in folder.iterdir()) == before


def test_a_prefix_for_names_without_one(tmp_path, capsys):
    torch.save(torch.nn.LSTM(3, 4).state_dict(), tmp_path / "b.pt")
    status, _, err = command(inspect_model, [tmp_path / "b.pt", "--prefix", "rnn"], capsys)
    assert status == 2 and "--prefix must be left out for" in err and "whose names have none, not 'rnn'" in err


def test_text_is_no_checkpoint_and_no_array(saved, tmp_path, capsys):
    (tmp_path / "text.pt").write_text("hello, this is text\n", encoding="ascii")
    status, _, err = command(inspect_model, [tmp_path / "text.pt"], capsys)
    assert status == 2 and err.endswith("must be a readable state_dict: it is none that torch.save wrote\n")
    status, _, err = command(convert, [saved(), "--k", 4, "--calibrate", tmp_path / "text.pt"], capsys)
    assert status == 2 and err.endswith("must be a .npy file of numbers: it is none, or holds Python objects\n")


def test_a_folder_that_is_no_build(tmp_path, capsys):
    assert main(["verilog", "--config", str(tmp_path)]) == 2
    assert f"{tmp_path} must be a build folder, which holds config.json" in capsys.readouterr().err
