"""Recurrent layers of whole models: swapped in place, moved from stage to stage, exported to files of a design."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import chessrnn.torch
from chessrnn.model.config import load_config
from chessrnn.model.errors import UserError
from chessrnn.model.fixed_point import quantize
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts import verilog

ROOT = Path(__file__).resolve().parents[3]
TUTORIAL = ROOT / "docs" / "tutorials" / "own-training.md"


@pytest.fixture(autouse=True)
def seeded(rng):
    torch.manual_seed(int(rng.integers(1 << 31)))


class Model(torch.nn.Module):
    """A user's model with recurrent layers in several places, one of them shared, and one that is no sequence."""

    def __init__(self, extra: torch.nn.Module | None = None):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.GRU(6, 10, batch_first=True))
        self.heads = torch.nn.ModuleDict({"a": torch.nn.LSTM(10, 8, 2, bidirectional=True)})
        self.again = self.heads["a"]
        self.output = torch.nn.Linear(16, 3)
        self.extra = extra

    def forward(self, x, lengths=None):
        h, _ = self.encoder(x)
        h = pack_padded_sequence(h.transpose(0, 1), [len(h[0])] * len(h)) if lengths is None else h.transpose(0, 1)
        h, _ = self.again(h)
        return self.output(h.data)


def test_every_layer_is_swapped_in_place():
    model, x = Model(), torch.randn(4, 7, 5)
    expected, encoder = model(x), model.encoder[1]
    assert chessrnn.torch.compress(model, k=1, weight_bits=8, calibration=x) is model
    assert list(chessrnn.torch.compressed(model)) == ["encoder.1", "heads.a"]
    assert model.heads["a"] is model.again and isinstance(model.again, chessrnn.torch.LSTM)
    assert not chessrnn.torch.uncompressed(model)
    assert all(module.is_calibrated and module.training for module in chessrnn.torch.compressed(model).values())
    torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)
    assert not encoder._forward_pre_hooks
    chessrnn.torch.stage(model, "quantized")
    assert {module.current_stage for module in chessrnn.torch.compressed(model).values()} == {"quantized"}
    assert float((model(x) - expected).abs().max().detach()) < 0.1


def test_what_stays_is_listed():
    class Own(torch.nn.LSTM):
        pass

    model = Model(torch.nn.ModuleList([torch.nn.LSTMCell(3, 4), Own(3, 4), torch.nn.GRU(3, 4).half()]))
    with pytest.warns(UserWarning, match="stays as it is") as caught:
        chessrnn.torch.compress(model)
    kinds = "a layer must be one of torch.nn's LSTM, GRU, RNN"
    assert sorted(str(one.message) for one in caught) == [
        f"extra.0 stays as it is: {kinds}, not LSTMCell",
        f"extra.1 stays as it is: {kinds}, not Own",
        "extra.2 stays as it is: dtype must be one of torch.float32, torch.float64, not torch.float16",
    ]
    assert list(chessrnn.torch.uncompressed(model)) == ["extra.0", "extra.1", "extra.2"]


class Around(torch.nn.Module):
    """A model that is one recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(input=x)[0]


class Pairs(torch.utils.data.Dataset):
    """Inputs and targets."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((7, 5), float(index)), torch.tensor(index)


@pytest.mark.parametrize(
    "calibration",
    [
        torch.full((4, 7, 5), 8.0),
        {"x": torch.full((4, 7, 5), 8.0)},
        (torch.full((4, 7, 5), 8.0), torch.zeros(4)),
        torch.utils.data.DataLoader(Pairs(), batch_size=4),
    ],
    ids=["tensor", "mapping", "pair", "loader"],
)
def test_calibration_data(calibration):
    model = Around(torch.nn.LSTM(5, 8))
    chessrnn.torch.compress(model, calibration=calibration)
    assert model.layer.is_calibrated and model.layer.config.quantization.x.integer_bits >= 4


def test_calibration_by_a_function():
    model = chessrnn.torch.compress(Model(), calibration=[3], forward=lambda model, batch: model(torch.ones(1, 2, 5)))
    assert model.again.is_calibrated


def test_a_single_layer_is_returned():
    dense = torch.nn.GRU(5, 8)
    module = chessrnn.torch.compress(dense, calibration=torch.randn(6, 2, 5))
    assert isinstance(module, chessrnn.torch.GRU) and module.is_calibrated


def test_stages_follow_a_schedule():
    model = chessrnn.torch.compress(Model())
    schedule = chessrnn.torch.StageSchedule(model, approximate=1, quantized=3)
    assert schedule.step() == "approximate"
    again = chessrnn.torch.StageSchedule(model, approximate=1, quantized=3)
    chessrnn.torch.stage(model, "float")
    again.load_state_dict(schedule.state_dict())
    assert model.again.current_stage == "approximate"
    assert [again.step() for _ in range(3)] == ["approximate", "quantized", "quantized"]
    assert model.again.current_stage == "quantized"


def test_widths_follow_a_schedule():
    model = chessrnn.torch.compress(Model(), weight_bits=2)
    schedule = chessrnn.torch.StageSchedule(model, {0: 8, 2: 4, 3: 2}, quantized=1)

    def width():
        return model.again.current_stage, model.again.config.quantization.weight_bits

    assert width() == ("float", 8)
    found = []
    for _ in range(4):
        schedule.step()
        found.append(width())
    assert found == [("quantized", 8), ("quantized", 4), ("quantized", 2), ("quantized", 2)]
    for widths in ({0: 9}, {-1: 4}, {0: "a"}):
        with pytest.raises(UserError, match="^weight_bits must be "):
            chessrnn.torch.StageSchedule(model, widths)


def test_exported_files_hold_the_integers_of_the_model(tmp_path, capsys):
    model, x = Model(), torch.randn(4, 7, 5)
    chessrnn.torch.compress(model, k=2, weight_bits=4, calibration=x)
    chessrnn.torch.stage(model, "quantized")
    settings = {"architecture.arithmetic": "multiplier", "architecture.tile_rows": 1, "architecture.tile_cols": 1}
    files = chessrnn.torch.export(model, tmp_path / "out", settings)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "encoder_1.json", "encoder_1.safetensors", "heads_a.json", "heads_a.safetensors",
    ]  # fmt: skip
    for name, module in chessrnn.torch.compressed(model).items():
        config = load_config(files[name].config)
        assert config.architecture.arithmetic == "multiplier" and config.name == name.replace(".", "_")
        image = WeightImage.load(files[name].weights, config)
        assert image.metrics["module"] == name
        inputs = torch.randn(6, 3, module.input_size)
        found = module.integers(inputs.transpose(0, 1) if module.batch_first else inputs)
        expected, _ = NetworkReference(image.weights).run(quantize(inputs.numpy(), config.quantization.x))
        np.testing.assert_array_equal((found.transpose(0, 1) if module.batch_first else found).numpy(), expected)
    arguments = ["--config", str(files["encoder.1"].config), "--weights", str(files["encoder.1"].weights)]
    assert verilog.main([*arguments, "--output", str(tmp_path / "build")]) == 0
    assert "encoder_1.safetensors" in capsys.readouterr().out
    assert json.loads((tmp_path / "build" / "config.json").read_text())["config"]["name"] == "encoder_1"


@pytest.mark.slow
@pytest.mark.needs("icarus")
@pytest.mark.parametrize(("kind", "options"), [("LSTM", {"num_layers": 2}), ("GRU", {"bidirectional": True})])
def test_the_emitted_design_computes_the_integers_of_the_module(kind, options, tmp_path):
    dense = getattr(torch.nn, kind)(4, 4, **options)
    settings = {"architecture.arithmetic": "multiplier", "architecture.tile_rows": 1, "architecture.tile_cols": 1}
    x = torch.randn(5, 2, 4)
    module = chessrnn.torch.compress(dense, k=2, calibration=x, settings=settings).stage("quantized")
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        module(x)[0].square().mean().backward()
        optimizer.step()
    weights = chessrnn.load_weights(chessrnn.torch.export(module, tmp_path)[""].weights)
    for result in chessrnn.simulate(weights, x.numpy(), tmp_path / "build"):
        assert result.problems == []
        np.testing.assert_array_equal(result.h.reshape(2, 5, -1).swapaxes(0, 1), module.integers(x).numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chessrnn.torch.compress(3), "model must be a torch.nn.Module, not 3"),
        (lambda: chessrnn.torch.compress(Model(), k=3), "k must be one of 1, 2, 4, 8, 16, not 3"),
        (lambda: chessrnn.torch.compress(Model(), weight_bits=1), "weight_bits must be from 2 to 8, not 1"),
        (lambda: chessrnn.torch.compress(Model(), calibration=3), "calibration must be a batch or an iterable of"),
        (lambda: chessrnn.torch.compress(Model(), calibration=iter(())), "calibration must be data that reach a"),
        (
            lambda: chessrnn.torch.compress(torch.nn.Linear(2, 3)),
            "model must have an LSTM, GRU or RNN that can be compressed: it has none",
        ),
        (
            lambda: chessrnn.torch.compress(torch.nn.Sequential(torch.nn.LSTM(2, 3)), settings={"a.b": 1}),
            "model must have an LSTM, GRU or RNN that can be compressed: 0: a.b must be a field of the configuration",
        ),
        (lambda: chessrnn.torch.stage(Model(), "float"), "model must be one with compressed layers, not 'Model'"),
        (lambda: chessrnn.torch.export(Model(), "x"), "model must be one with compressed layers, not 'Model'"),
        (
            lambda: chessrnn.torch.export(chessrnn.torch.LSTM(2, 4), "x", {"quantization.x": "Q1.7"}),
            "settings must be of fields of the architecture, not 'quantization.x'",
        ),
        (
            lambda: chessrnn.torch.StageSchedule(Model(), float=3),
            "model must be one with compressed layers, not 'Model'",
        ),
        (
            lambda: chessrnn.torch.StageSchedule(chessrnn.torch.RNN(2, 4), integer=3),
            "stage must be one of float, approximate, quantized",
        ),
        (
            lambda: chessrnn.torch.StageSchedule(chessrnn.torch.RNN(2, 4), quantized=-1),
            "quantized must be at least 0, not -1",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(UserError) as raised:
        call()
    assert str(raised.value).startswith(message)
    assert len(str(raised.value)) < 200


@pytest.mark.slow
def test_the_example_ends_with_verilog(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "train_to_verilog.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = re.search(r"train_to_verilog.py\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert done.stdout == shown[1]
    assert (tmp_path / "build" / "tones" / "lstm" / "accelerator.v").exists()


# One of two processes with half of the batch each.
PROCESS = """
import sys
import torch
import chessrnn.torch
from torch.nn.parallel import DistributedDataParallel

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(3)
x = torch.randn(6, 4, 5)
model = chessrnn.torch.compress(torch.nn.Sequential(torch.nn.GRU(5, 8)), calibration=x)[0].stage("quantized")
model(x)[0].square().mean().backward()
expected = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
model.zero_grad()
store = torch.distributed.FileStore(folder + "/store", 2)
torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
wrapped = DistributedDataParallel(model)
wrapped(x[:, 2 * rank : 2 * rank + 2])[0].square().mean().backward()
found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
torch.testing.assert_close(found, expected)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_gradients_of_two_processes_are_joined(tmp_path):
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
