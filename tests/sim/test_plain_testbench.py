"""The emitted testbench in plain Verilog: it passes in Icarus, and fails where a vector is wrong."""

import subprocess

import pytest

from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import TESTBENCH_FILE, VERILOG_FILE, emit

DESIGNS = {
    "lstm": {},
    "gru-states-outputs": {
        "network.cell": "gru",
        "architecture.state_ports": True,
        "architecture.output_layer": 6,
        "architecture.tile_rows": 3,
    },
    "bidirectional": {"network.bidirectional": True, "quantization.x": "Q1.6", "architecture.sequence_steps": 4},
}


def run_icarus(folder, *options: str) -> str:
    """What the testbench of a build folder prints."""
    program = folder / "tb"
    subprocess.run(
        ["iverilog", "-g2005", *options, "-o", program, VERILOG_FILE, TESTBENCH_FILE], cwd=folder, check=True
    )
    return subprocess.run(["vvp", "-n", program], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("name", DESIGNS)
def test_passes_with_and_without_stalls(name, tmp_path, rng):
    config = preset("tiny").replace({"architecture.arithmetic": "multiplier", **DESIGNS[name]})
    emit(random_weights(config, rng), tmp_path / "build", "test")
    for options in ((), ("-Ptiny_testbench.STALLS=0",)):
        last = run_icarus(tmp_path / "build", *options).splitlines()[-1]
        beats = 8 * config.num_stream_blocks
        assert last.startswith(f"PASS: {beats} beats of h in ")


@pytest.mark.needs("icarus")
def test_a_wrong_vector_fails(tmp_path, rng):
    config = preset("tiny").replace({"architecture.arithmetic": "multiplier"})
    emit(random_weights(config, rng), tmp_path / "build", "test")
    vectors = tmp_path / "build" / "tiny_vectors_h.mem"
    header, first, *rest = vectors.read_text().splitlines()
    changed = f"{int(first, 16) ^ 1:0{len(first)}x}"
    vectors.write_text("\n".join([header, changed, *rest]) + "\n")
    *_, difference, last = run_icarus(tmp_path / "build").splitlines()
    assert difference == f"beat 0: {{last, h}} = {first}, not {changed}"
    assert last == "FAIL: 1 of 24 beats of h differ"
