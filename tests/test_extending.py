"""The three how-tos of CONTRIBUTING.md: a new cell, a new board, a new model format."""

import dataclasses
import json

import numpy as np
import pytest

from chessrnn.hdl.cell_lane import LANES
from chessrnn.hdl.device.board_file import board
from chessrnn.hdl.device.board_platform import platform_of
from chessrnn.hdl.device.board_top import BoardTop
from chessrnn.model.boards import BOARDS
from chessrnn.model.cells import CELLS
from chessrnn.model.imported import load
from chessrnn.model.imported.tensor_file import TensorFile
from chessrnn.model.presets import preset
from chessrnn.model.reference.cell_update import STAGED_UPDATES, UPDATES
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.sim.pysim import beats_of, run_accelerator


def test_every_cell_is_in_every_registry():
    staged = {name for name, cell in CELLS.items() if cell.stages > 1}
    assert set(STAGED_UPDATES) == staged
    assert set(UPDATES) == set(LANES) == set(CELLS) - staged


def test_every_cell_can_be_trained():
    pytest.importorskip("torch")
    from chessrnn.model.training.trainable_cells import STAGED_STEPS, STEPS

    assert set(STAGED_STEPS) == set(STAGED_UPDATES)
    assert set(STEPS) == set(UPDATES)


def test_add_a_cell(monkeypatch, rng):
    # The arithmetic of the new cell is that of an RNN; what is tested is that nothing else needs to know its name.
    monkeypatch.setitem(CELLS, "mine", dataclasses.replace(CELLS["rnn"], name="mine", title="Mine"))
    monkeypatch.setitem(UPDATES, "mine", UPDATES["rnn"])
    monkeypatch.setitem(LANES, "mine", LANES["rnn"])
    config = preset("tiny").replace(
        {
            "network.cell": "mine",
            "quantization.weight_frac": 7,
            "architecture.arithmetic": "multiplier",
            "architecture.tile_rows": 2,
        }
    )
    weights, q, k = random_weights(config, rng), config.quantization, config.block_size
    x = random_inputs(config, rng, 4)
    h, _ = NetworkReference(weights).run(x[:, None])
    expected = beats_of([h[:, 0]], k, q.h.width)
    run = run_accelerator(weights, beats_of([x], k, q.x.width), len(expected))
    assert run.beats == expected


def test_add_a_board(monkeypatch):
    mine = dataclasses.replace(BOARDS["ulx3s_85f"], name="mine", platform="amaranth_boards.ulx3s:ULX3S_45F_Platform")
    monkeypatch.setitem(BOARDS, "mine", mine)
    platform = platform_of(board("mine"))
    assert type(platform).__name__ == "ULX3S_45F_Platform"
    plan = platform.prepare(BoardTop(board("mine"), mine.clock_hz), "top", emit_src=False)
    files = {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}
    assert "\\chessrnn_fpga" in files["top.il"]
    assert "\\EHXPLLL" in files["top.il"]
    assert 'LOCATE COMP "uart_0__rx__io" SITE "M1"' in files["top.lpf"]


def open_json(path) -> TensorFile:
    """Tensors of a JSON object of lists."""
    arrays = {name: np.array(values, dtype=np.float32) for name, values in json.loads(path.read_text()).items()}
    shapes = {name: value.shape for name, value in arrays.items()}
    return TensorFile(path, shapes, dict.fromkeys(arrays, "float32"), arrays.__getitem__)


def test_add_a_model_format(monkeypatch, tmp_path, rng):
    monkeypatch.setitem(load.READERS, ".json", (__name__, "open_json"))
    monkeypatch.setattr(load, "import_module", lambda name: type("module", (), {"open_json": staticmethod(open_json)}))
    shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}
    values = {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}
    (tmp_path / "gru.json").write_text(json.dumps({name: value.tolist() for name, value in values.items()}))
    network = load.load_network(tmp_path / "gru.json")
    assert [(layer.cell, layer.input_size, layer.hidden_size) for layer in network.layers] == [("gru", 3, 4)]
    np.testing.assert_array_equal(network.layers[0].weights[0].w_x, values["weight_ih_l0"].astype(np.float32))
