"""Other tools accept the emitted Verilog, and the checks see what they must not accept."""

import pytest

from model.presets import preset
from model.weights import random_weights
from sim.lint import verilator_warnings, yosys_warnings
from sim.verilog import VERILOG_FILE, emit

DESIGNS = {
    "default": ("char128", {}),
    "multipliers": ("tiny", {"architecture.arithmetic": "multiplier", "architecture.engine": "fast"}),
    "shift": ("tiny", {"activation.kind": "shift", "activation.segments": 4, "architecture.tile_cols": 5}),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_clean(name, tmp_path, rng):
    base, settings = DESIGNS[name]
    emit(random_weights(preset(base).replace(settings), rng), tmp_path / "build", "a test")
    assert verilator_warnings(tmp_path / "build") == []
    assert yosys_warnings(tmp_path / "build") == []


FAULTS = {
    "latch": ("reg bad; always @* if (rst) bad = x_valid;", True, True),
    "two drivers": ("wire bad; assign bad = x_valid; assign bad = h_ready; assign matvec_active = bad;", False, True),
    "loop": ("wire bad; assign bad = ~bad & x_valid; assign matvec_active = bad;", False, True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault, tmp_path, rng):
    code, by_verilator, by_yosys = FAULTS[fault]
    emit(random_weights(preset("tiny"), rng), tmp_path / "build", "a test")
    path = tmp_path / "build" / VERILOG_FILE
    text = path.read_text()
    start = text.index("module accelerator(")
    end = text.index("endmodule", start)
    path.write_text(text[:end] + code + "\n" + text[end:])
    assert not by_verilator or verilator_warnings(tmp_path / "build")
    assert not by_yosys or yosys_warnings(tmp_path / "build")
