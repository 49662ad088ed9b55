"""Stacks of layers of different hidden sizes on one engine: every bit and every cycle of the emitted Verilog."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from chessrnn.model.config import Config
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_weights
from chessrnn.scripts.main import main
from chessrnn.sim.build import emit
from chessrnn.sim.runner import Run, simulate
from chessrnn.sim.scenarios import Scenario, random_sequences, random_state
from chessrnn.sim.stalls import StallPattern

# Cell, X, sizes, k, and fields of the architecture: growing and shrinking stacks, an autoencoder, sizes that are no
# multiples of k, a tile with more rows than a layer.
STACKS = {
    "growing": ("lstm", 3, [2, 5, 9], 2, {"engine": "fast", "tile_rows": 3, "tile_cols": 2}),
    "shrinking": ("gru", 6, [9, 6, 3], 4, {"engine": "direct", "tile_rows": 2, "tile_cols": 2}),
    "autoencoder": ("lstm", 6, [8, 3, 8], 4, {"engine": "fast", "state_ports": True, "tile_rows": 4, "tile_cols": 2}),
    "wide_tile": ("rnn", 4, [12, 2], 2, {"engine": "direct", "tile_rows": 4, "tile_cols": 3, "monitor": True}),
    "contexts": ("gru", 3, [2, 7], 2, {"engine": "fast", "contexts": 3, "state_ports": True, "tile_rows": 6}),
    "lookahead": ("lstm", 9, [4, 8], 1, {"engine": "direct", "tile_rows": 2, "tile_cols": 2, "lookahead": 4}),
    "parity": ("lstm_peephole", 3, [6, 3], 2, {"engine": "fast", "parity": "word", "tile_rows": 2, "tile_cols": 2}),
}


@pytest.mark.slow
@pytest.mark.needs("icarus")
@pytest.mark.parametrize("name", STACKS)
def test_bits_and_cycles(name, rng, tmp_path):
    cell, input_size, sizes, k, architecture = STACKS[name]
    network = {"input_size": input_size, "hidden_size": sizes, "num_layers": len(sizes), "cell": cell}
    architecture = {"tile_cols": 1} | architecture
    values = {"network": network, "compression": {"block_size": k}, "architecture": architecture}
    config = Config.from_dict(values)
    weights, sequences = random_weights(config, rng), random_sequences(config, rng, (3, 1, 4))
    initial = (random_state(config, rng), None, random_state(config, rng)) if config.architecture.state_ports else ()
    scenario = Scenario(weights, sequences, initial)
    emit(weights, tmp_path / "build", "a test")
    stalls = StallPattern("random", 0.4, 5, 1), StallPattern("random", 0.5, 5, 2)
    for result in simulate(tmp_path / "build", [Run(scenario), Run(scenario, *stalls, "stalled")], "icarus"):
        assert result.problems == []


MODEL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[T, B, 6] x) => (float[T, 1, B, 6] y) {
  axis = Constant <value = int64[1] {1}> ()
  [one] a = LSTM <hidden_size = 8> (x, W0, R0)
  b = Squeeze(a, axis)
  [two] c = LSTM <hidden_size = 3> (b, W1, R1)
  d = Squeeze(c, axis)
  [three] y = LSTM <hidden_size = 6> (d, W2, R2)
}
"""


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_an_autoencoder_becomes_one_design(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, sizes = parser.parse_model(MODEL), (6, 8, 3, 6)
    for number, (inputs, hidden) in enumerate(zip(sizes, sizes[1:], strict=False)):
        for name, width in (("W", inputs), ("R", hidden)):
            values = rng.normal(size=(1, 4 * hidden, width)).astype("f4") / 2
            model.graph.initializer.append(numpy_helper.from_array(values, f"{name}{number}"))
    onnx.save(model, "model.onnx")
    np.save("inputs.npy", rng.normal(size=(12, 3, 6)) / 2)
    assert main(["inspect", "model.onnx"]) == 0
    assert "fits the hardware  yes" in capsys.readouterr().out
    assert main(["convert", "model.onnx", "--k", "1", "--calibrate", "inputs.npy", "--name", "coder"]) == 0
    image = WeightImage.load("runs/coder/coder.safetensors")
    assert image.config.network.hidden_sizes == (8, 3, 6)
    files = ["runs/coder/coder.json", "--weights", "runs/coder/coder.safetensors", "--inputs", "inputs.npy"]
    capsys.readouterr()
    assert main(["predict", *files, "--output", "h.npy", "--rtl", "icarus", "--trace", "trace.npz"]) == 0
    assert "equals the reference" in capsys.readouterr().out
    # h is near that of the float network.
    import onnxruntime

    (wanted,) = onnxruntime.InferenceSession("model.onnx").run(None, {"x": np.load("inputs.npy").astype("f4")})
    assert np.abs(np.load("h.npy") - wanted[:, 0]).max() < 0.1
    for option in ("--state-out", "--state-in"):
        assert main(["predict", *files, "--output", "h.npy", option, "state.npz"]) == 2
        text = f"{option} must be left out for a network whose layers have different sizes, not 'state.npz'"
        assert text in capsys.readouterr().err
