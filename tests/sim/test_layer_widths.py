"""Stacks of layers with weights of different widths on one engine: every bit and every cycle of the emitted Verilog."""

import json

import numpy as np
import onnx
import pytest
from amaranth.sim import Simulator
from onnx import numpy_helper, parser

from chessrnn.hdl.word_slots import SlotAddress, SlotPassAddress
from chessrnn.model.config import Config
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_weights
from chessrnn.scripts.main import main
from chessrnn.sim.build import emit
from chessrnn.sim.pysim import CLOCK_PERIOD
from chessrnn.sim.runner import Run, simulate
from chessrnn.sim.scenarios import Scenario, random_sequences, random_state
from chessrnn.sim.stalls import StallPattern

# Cell, sizes, k, widths, other fields: each width alone and beside others, both engines and both arithmetics.
STACKS = {
    "halves": ("lstm", 10, 4, [8, 4], {"engine": "direct", "tile_rows": 2, "tile_cols": 2}),
    "quarters": ("gru", 7, 4, [2, 8, 4], {"engine": "fast", "tile_rows": 3, "tile_cols": 2, "parity": "word"}),
    "thirds": ("rnn", 9, 2, [2, 7, 3], {"engine": "direct", "arithmetic": "multiplier", "weight_memory": "ram"}),
    "half_levels": ("lstm", 6, 2, [4, 2], {"engine": "fast", "quantization.weight_levels": "half"}),
    "row_scales": ("lstm", 6, 2, [2, 4], {"engine": "fast", "quantization.weight_scale": "row", "tile_rows": 4}),
    "shared": ("lstm", 5, 1, [8, 2], {"engine": "direct", "memory_width": 24, "tile_rows": 4, "tile_cols": 2}),
    "sizes": ("lstm", [8, 3, 8], 4, [4, 8, 4], {"engine": "fast", "state_ports": True, "tile_rows": 4}),
    "projection": ("lstm", 8, 2, [6, 3], {"engine": "direct", "network.projection_size": 3, "tile_rows": 3}),
    "staged": ("gru_reset_first", 6, 2, [4, 8], {"engine": "fast", "contexts": 2, "tile_rows": 2}),
    "lookahead": ("lstm", 8, 1, [8, 4], {"engine": "direct", "tile_rows": 2, "tile_cols": 2, "lookahead": 4}),
    "directions": (
        "lstm",
        5,
        2,
        [8, 4],
        {"engine": "fast", "network.bidirectional": True, "tile_rows": 3, "parity": "word"},
    ),
    "projected_directions": (
        "lstm",
        6,
        2,
        [2, 4, 2],
        {"engine": "direct", "network.bidirectional": True, "network.projection_size": 3, "weight_memory": "ram"},
    ),
    "output_layer": ("rnn", 4, 2, [3, 6], {"engine": "fast", "output_layer": 5, "weight_memory": "ram"}),
}


def design(name: str) -> Config:
    cell, hidden_size, k, bits, fields = STACKS[name]
    network = {"input_size": 5, "hidden_size": hidden_size, "num_layers": len(bits), "cell": cell}
    values = {"network": network, "compression": {"block_size": k}, "quantization": {"weight_bits": bits}}
    values["architecture"] = {"tile_rows": 1, "tile_cols": 1}
    if "network.bidirectional" in fields:
        fields = fields | {"sequence_steps": 4}
    return Config.from_dict(values).replace(
        {path if "." in path else f"architecture.{path}": value for path, value in fields.items()}
    )


@pytest.mark.slow
@pytest.mark.needs("icarus")
@pytest.mark.parametrize("name", STACKS)
def test_bits_and_cycles(name, rng, tmp_path):
    config = design(name)
    weights, sequences = random_weights(config, rng), random_sequences(config, rng, (3, 1, 4))
    initial = (random_state(config, rng), None, random_state(config, rng)) if config.architecture.state_ports else ()
    scenario = Scenario(weights, sequences, initial)
    emit(weights, tmp_path / "build", "a test")
    stalls = StallPattern("random", 0.4, 5, 1), StallPattern("random", 0.5, 5, 2)
    for result in simulate(tmp_path / "build", [Run(scenario), Run(scenario, *stalls, "stalled")], "icarus"):
        assert result.problems == []


# Address and slot of every word of a step, counted by hand.  In the Elman RNNs of 5 inputs and 3 units with k = 1 on a
# tile of 1 × 4, a layer has a word for each unit and group of four of its 5 + 3 or 3 + 3 columns: six words.
PLACES = {
    # Six words of a slot each; then three stored words of two.
    (8, 4): [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 1), (6, 2), (7, 1), (7, 2), (8, 1), (8, 2)],
    # The narrow layer first: two stored words, of four words and of two.
    (2, 8): [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)],
    # Slots of one width are the same in both layers that have it.
    (3, 7, 3): [
        (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2),
        (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0),
        (9, 1), (9, 2), (10, 1), (10, 2), (11, 1), (11, 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("bits", PLACES)
def test_addresses_and_slots_of_a_step(bits):
    network = {"input_size": 5, "hidden_size": 3, "num_layers": len(bits), "cell": "rnn"}
    values = {"network": network, "compression": {"block_size": 1}, "architecture": {"tile_rows": 1, "tile_cols": 4}}
    dut, found = SlotAddress(Config.from_dict(values | {"quantization": {"weight_bits": list(bits)}})), []
    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD)

    async def process(ctx):
        for cycle in range(6 * len(PLACES[bits])):
            # A pause in every third cycle changes nothing.
            ctx.set(dut.advance, cycle % 3 != 2)
            if cycle % 3 != 2:
                found.append((ctx.get(dut.address), ctx.get(dut.slot)))
            await ctx.tick()

    sim.add_testbench(process)
    sim.run()
    assert found == 4 * PLACES[bits]


def test_addresses_and_slots_of_passes():
    """A pass repeats the words of one layer; each direction has one row of 1 + 5 or 1 + 2 columns, two at a time."""
    network = {"input_size": 5, "hidden_size": 1, "num_layers": 3, "cell": "rnn", "bidirectional": True}
    values = {"network": network, "compression": {"block_size": 1}, "architecture": {"tile_rows": 1, "tile_cols": 2}}
    config = Config.from_dict(values | {"quantization": {"weight_bits": [2, 6, 3]}})
    # Slot 0 has 6 bits, slots 1 and 2 have 3, slots 3 to 5 have 2.
    passes = [
        [(0, 3), (0, 4), (0, 5), (1, 3), (1, 4), (1, 5)],
        [(2, 0), (3, 0), (4, 0), (5, 0)],
        [(6, 1), (6, 2), (7, 1), (7, 2)],
    ]
    dut, found = SlotPassAddress(config), []
    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD)

    async def process(ctx):
        for number in range(6):
            ctx.set(dut.start, 1)
            ctx.set(dut.first, number % 3 == 0)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.layer, number % 3)
            for _ in range(2 * len(passes[number % 3])):
                found.append((ctx.get(dut.address), ctx.get(dut.slot)))
                ctx.set(dut.advance, 1)
                await ctx.tick()
                ctx.set(dut.advance, 0)
                await ctx.tick()

    sim.add_testbench(process)
    sim.run()
    assert found == [place for _ in range(2) for each in passes for place in each + each]


MODEL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[T, B, 6] x) => (float[T, 1, B, 8] y) {
  axis = Constant <value = int64[1] {1}> ()
  [one] a = LSTM <hidden_size = 8> (x, W0, R0)
  b = Squeeze(a, axis)
  [two] y = LSTM <hidden_size = 8> (b, W1, R1)
}
"""


@pytest.fixture
def model(rng, tmp_path, monkeypatch):
    """A model of two layers and inputs for it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    found = parser.parse_model(MODEL)
    for number, inputs in enumerate((6, 8)):
        for name, width in (("W", inputs), ("R", 8)):
            values = rng.normal(size=(1, 32, width)).astype("f4") / 2
            found.graph.initializer.append(numpy_helper.from_array(values, f"{name}{number}"))
    onnx.save(found, "model.onnx")
    np.save("inputs.npy", rng.normal(size=(12, 3, 6)) / 2)


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_conversion_to_a_width_for_each_layer(model, capsys):
    options = ["--k", "2", "--calibrate", "inputs.npy", "--name", "two", "--json"]
    reports = {}
    for bits in ("8", "8,4"):
        assert main(["inspect", "model.onnx", "--k", "2", "--weight-bits", bits, "--json"]) == 0
        inspected = json.loads(capsys.readouterr().out)["compressed_bytes"]
        assert main(["convert", "model.onnx", *options, "--weight-bits", bits]) == 0
        reports[bits] = json.loads(capsys.readouterr().out)
        assert reports[bits]["weight_bytes"] == inspected
    # Blocks of 2 × 2: 16 block rows of 3 + 4 and of 4 + 4, of 2 bytes, and those of the second layer of one.
    assert [reports[bits]["weight_bytes"] for bits in reports] == [2 * 16 * (7 + 8), 16 * (2 * 7 + 8)]
    image = WeightImage.load("runs/two/two.safetensors")
    assert image.config.layer_weight_bits == (8, 4)
    assert [layer.defining.max() > 7 for layer in image.weights.layers] == [True, False]
    files = ["runs/two/two.json", "--weights", "runs/two/two.safetensors", "--inputs", "inputs.npy"]
    assert main(["predict", *files, "--output", "h.npy", "--rtl", "icarus"]) == 0
    assert "equals the reference" in capsys.readouterr().out


TWO = ["--set", "network.num_layers=2"]
WIDTHS = [*TWO, "--set", "quantization.weight_bits=[8,4]"]
REFUSED = [
    (["convert", "model.onnx", "--weight-bits", "8,4,8"],
     "quantization.weight_bits must be one integer or 2, one for each layer, not [8, 4, 8]"),
    (["convert", "model.onnx", "--weight-bits", "8,9"], "--weight-bits must be from 2 to 8, not 9"),
    (["convert", "model.onnx", "--weight-bits", "8,5"],
     "quantization.weight_bits must be one of 8, 4, 2 beside a layer of 8 bits, as 5 bits would take the memory of 8, "
     "not [8, 5]"),
    (["inspect", "model.onnx", "--weight-bits", "8,4,8"],
     "--weight-bits must be one number or 2, one for each layer, not [8, 4, 8]"),
    (["inspect", "model.onnx", "--weight-bits", "8,5"],
     "--weight-bits must be of 8, 4, 2 beside a layer of 8 bits, not [8, 5]"),
    (["train", "--config", "tiny", *WIDTHS], "quantization.weight_bits must be one integer to be trained, not [8, 4]"),
    (["verilog", "--config", "tiny", "--set", "quantization.weight_bits=[8,4]"],
     "quantization.weight_bits must be one integer, as there is one layer, not [8, 4]"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "text"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_is_refused(words, text, model, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err == f"chessrnn {words[0]}: error: {text}\n"


@pytest.mark.slow
def test_exploration(tmp_path, capsys):
    options = ["--config", "tiny", *WIDTHS, "--engine", "direct"]
    assert main(["explore", *options, "--cycles", "100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    options += ["--weight-bits", "8", "--block-sizes", "4"]
    assert main(["explore", *options, "--sweep", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "pareto.html").read_text()
    assert page.count('"bits": "8-4"') == page.count('"bits": 8') > 0
