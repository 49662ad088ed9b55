"""Other tools accept the emitted Verilog, and the checks see what they must not accept."""

import re
import shutil

import numpy as np
import pyslang
import pyslang.driver
import pytest

from chessrnn.hdl.verilog import generate
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.lint import verilator_warnings, yosys_warnings
from chessrnn.sim.manifest import replace_file

DESIGNS = {
    "default": ("char128", {}),
    "multipliers": ("tiny", {"architecture.arithmetic": "multiplier", "architecture.engine": "fast"}),
    "layers, contexts": ("tiny", {"network.num_layers": 2, "network.cell": "gru", "architecture.contexts": 3}),
    "states of stages": (
        "tiny",
        {
            "network.cell": "gru_reset_first",
            "quantization.weight_frac": 7,
            "architecture.state_ports": True,
            "architecture.tile_rows": 2,
        },
    ),
    "states of contexts": (
        "tiny",
        {"architecture.contexts": 2, "architecture.state_ports": True, "architecture.arithmetic": "multiplier"},
    ),
    "peephole": (
        "tiny",
        {"network.cell": "lstm_peephole", "architecture.output_layer": 7, "architecture.monitor": True},
    ),
    "rnn": ("tiny", {"network.cell": "rnn", "quantization.weight_frac": 7, "architecture.tile_rows": 2}),
    "shift": ("tiny", {"activation.kind": "shift", "activation.segments": 4, "architecture.tile_cols": 5}),
}


# Designs that are checked with their bus shell.
SHELL = {"multipliers": "axi", "states of contexts": "axi", "peephole": "axi"}
# Slow: designs whose modules are about those of another.
SLOW = DESIGNS.keys() - {"rnn"}


@pytest.mark.needs("verilator")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in DESIGNS]
)
def test_clean(name, tmp_path, rng):
    base, settings = DESIGNS[name]
    emit(random_weights(preset(base).replace(settings), rng), tmp_path / "build", "a test", shell=SHELL.get(name))
    assert verilator_warnings(tmp_path / "build") == []
    assert yosys_warnings(tmp_path / "build") == []


READ_BY_SLANG = [*(pytest.param(name, marks=[pytest.mark.slow]) for name in sorted(SLOW)), "multipliers"]


@pytest.mark.parametrize("name", READ_BY_SLANG)
def test_slang_reads_it_and_no_literal_is_undefined(name, tmp_path):
    base, settings = DESIGNS[name]
    verilog = generate(preset(base).replace(settings), "d", "axi")
    assert re.findall(r"'[bdh][0-9a-f]*[xz]", verilog) == []
    (tmp_path / "d.v").write_text(verilog)
    driver = pyslang.driver.Driver()
    driver.addStandardArgs()
    command = f"slang -Weverything --std 1364-2005 --top d_accelerator --top d_axi {tmp_path / 'd.v'}"
    assert driver.parseCommandLine(command) and driver.processOptions() and driver.parseAllSources()
    found = driver.createCompilation().getAllDiagnostics()
    # What Yosys writes of signed operands is correct, and no tidier form of it exists.
    harmless = {"DiagCode(ArithOpMismatch)", "DiagCode(SignConversion)"}
    assert {str(diagnostic.code) for diagnostic in found} <= harmless


# Verilog that is put into the top module, and what must be said of it.
FAULTS = {
    "latch": ("reg bad; always @* if (rst) bad = x_valid;", yosys_warnings, "bad"),
    "latch, by the linter": ("reg bad; always @* if (rst) bad = x_valid;", verilator_warnings, "LATCH"),
    "two drivers": ("wire bad; assign bad = x_valid; assign bad = h_ready;", yosys_warnings, "multiple"),
    "loop": ("wire bad, worse; assign bad = ~worse & x_valid; assign worse = bad | h_ready;", yosys_warnings, "loop"),
}


@pytest.fixture(scope="module")
def emitted(tmp_path_factory):
    config = preset("tiny").replace({"architecture.arithmetic": "multiplier"})
    weights = random_weights(config, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("emitted") / "build"
    emit(weights, path, "a test")
    return path


@pytest.mark.needs("verilator")
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault, emitted, tmp_path):
    code, check, text = FAULTS[fault]
    shutil.copytree(emitted, tmp_path / "build")
    verilog = (tmp_path / "build" / VERILOG_FILE).read_text()
    end = verilog.index("endmodule", verilog.index("module tiny_accelerator "))
    replace_file(tmp_path / "build", VERILOG_FILE, verilog[:end] + code + "\n" + verilog[end:])
    found = check(tmp_path / "build")
    assert any(text in line for line in found), found
