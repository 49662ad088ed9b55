"""Two designs in one compilation: names do not collide, memory files are found in any folder."""

import re
import subprocess
from collections.abc import Sequence

import numpy as np
import pytest

import chessrnn
from chessrnn.hdl.namespace import prefix_of
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import VERILOG_FILE, emit, load_build
from chessrnn.sim.runner import environment
from chessrnn.sim.synthesis import yosys_process

GRU = {"network.cell": "gru", "name": "second", "architecture.arithmetic": "multiplier", "architecture.tile_rows": 3}
CYCLES = 4000


@pytest.fixture(scope="module")
def two_builds(tmp_path_factory):
    """Folders of two small designs of different cells; no test changes them."""
    folders, rng, tmp_path = [], np.random.default_rng(0), tmp_path_factory.mktemp("two")
    for config in (preset("tiny").replace({"architecture.arithmetic": "multiplier"}), preset("tiny").replace(GRU)):
        folders.append(tmp_path / config.name)
        emit(random_weights(config, rng), folders[-1], "test")
    return folders


def words(path) -> list[str]:
    return path.read_text().splitlines()[1:]


def bench(folders: Sequence) -> str:
    """A module that feeds both designs their vectors at once and compares every beat of h."""
    parts = []
    for number, folder in enumerate(folders):
        build = load_build(folder)
        k, q = build.config.block_size, build.config.quantization
        x, h = (len(words(folder / f"{build.prefix}_vectors_{name}.mem")) for name in "xh")
        parts.append(f"""
  reg [{k * q.x.width}:0] x{number}[0:{x - 1}];
  reg [{k * q.h.width}:0] h{number}[0:{h - 1}];
  integer i{number} = 0, o{number} = 0;
  wire finished{number} = o{number} == {h};
  wire x_ready{number}, h_valid{number}, h_last{number};
  wire [{k * q.h.width - 1}:0] h_data{number};
  {build.top} #(.MEM_DIR("{folder}")) dut{number} (
    .clk(clk), .rst(rst), .x_valid(!rst && i{number} < {x}), .x_ready(x_ready{number}),
    .x_data(x{number}[i{number}][{k * q.x.width - 1}:0]), .x_last(x{number}[i{number}][{k * q.x.width}]),
    .h_valid(h_valid{number}), .h_ready(1'b1), .h_data(h_data{number}), .h_last(h_last{number})
  );
  initial $readmemh("{folder}/{build.prefix}_vectors_x.mem", x{number});
  initial $readmemh("{folder}/{build.prefix}_vectors_h.mem", h{number});
  always @(posedge clk) if (!rst) begin
    if (i{number} < {x} && x_ready{number}) i{number} <= i{number} + 1;
    if (h_valid{number} && o{number} < {h}) begin
      if ({{h_last{number}, h_data{number}}} !== h{number}[o{number}]) $display("mismatch {number} %0d", o{number});
      o{number} <= o{number} + 1;
      if (o{number} == {h - 1}) $display("done {number}");
    end
  end""")
    return f"""
module bench(input clk);
  reg rst = 1;
  integer cycle = 0;
  always @(posedge clk) begin
    cycle <= cycle + 1;
    if (cycle == 3) rst <= 0;
    if (cycle == {CYCLES} || {" && ".join(f"finished{number}" for number in range(len(folders)))}) $finish;
  end
{"".join(parts)}
endmodule
"""


# What drives the bench in Icarus, and in Verilator.
CLOCK = "module clocked; reg clk = 0; always #5 clk = !clk; bench bench(.clk(clk)); endmodule\n"
MAIN = """
#include "Vbench.h"
#include "verilated.h"
int main() {
  Vbench bench;
  while (!Verilated::gotFinish()) {
    bench.clk = 0; bench.eval();
    bench.clk = 1; bench.eval();
  }
  bench.final();
}
"""


def run_in_icarus(text: str, folders: Sequence, scratch) -> str:
    """What a bench prints, run from a folder without memory files: they are found through MEM_DIR."""
    (scratch / "bench.v").write_text(text + CLOCK)
    sources = [scratch / "bench.v", *(folder / VERILOG_FILE for folder in dict.fromkeys(folders))]
    subprocess.run(["iverilog", "-g2005", "-s", "clocked", "-o", scratch / "bench.vvp", *sources], check=True)
    done = subprocess.run(["vvp", "-n", scratch / "bench.vvp"], cwd=scratch, capture_output=True, text=True)
    return done.stdout


def run_in_verilator(text: str, folders: Sequence, scratch) -> str:
    """The same in Verilator."""
    (scratch / "bench.v").write_text(text)
    (scratch / "main.cpp").write_text(MAIN)
    sources = ["main.cpp", "bench.v", *(str(folder / VERILOG_FILE) for folder in dict.fromkeys(folders))]
    options = ["--cc", "--exe", "--build", "-Wno-lint", "-Wno-fatal", "--top-module", "bench", "-Mdir", "obj"]
    with environment("verilator"):
        done = subprocess.run(["verilator", *options, *sources], cwd=scratch, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return subprocess.run(["obj/Vbench"], cwd=scratch, capture_output=True, text=True, timeout=300).stdout


def outcomes(printed: str) -> list[str]:
    """What the designs report, sorted."""
    return sorted(re.findall(r"^(?:done|mismatch).*", printed, re.MULTILINE))


@pytest.mark.needs("icarus")
def test_two_designs_run_in_one_icarus_simulation(two_builds, tmp_path):
    assert outcomes(run_in_icarus(bench(two_builds), two_builds, tmp_path)) == ["done 0", "done 1"]


@pytest.mark.needs("icarus")
def test_two_instances_of_one_design_run_in_one_simulation(two_builds, tmp_path):
    folders = two_builds[:1] * 2
    assert outcomes(run_in_icarus(bench(folders), folders, tmp_path)) == ["done 0", "done 1"]


@pytest.mark.slow
@pytest.mark.needs("verilator")
def test_two_designs_run_in_one_verilator_simulation(two_builds, tmp_path):
    assert outcomes(run_in_verilator(bench(two_builds), two_builds, tmp_path)) == ["done 0", "done 1"]


@pytest.mark.slow
@pytest.mark.needs("icarus", "verilator")
def test_char128_runs_beside_a_gru(two_builds, tmp_path):
    """The trained preset, with multipliers as Icarus needs minutes for compressor trees, and a GRU."""
    config = preset("char128").replace({"architecture.arithmetic": "multiplier"})
    emit(chessrnn.load_weights("char128", config), tmp_path / "char128", "test")
    folders = [tmp_path / "char128", two_builds[1]]
    text = bench(folders)
    assert outcomes(run_in_icarus(text, folders, tmp_path)) == ["done 0", "done 1"]
    assert verilator_errors(text, folders, tmp_path) == []
    assert yosys_problems(folders, tmp_path) == []


def verilator_errors(text: str, folders: Sequence, scratch) -> list[str]:
    """Errors, and warnings about modules of one name, of Verilator's linter about a bench with its designs."""
    (scratch / "bench.v").write_text(text)
    sources = ["bench.v", *(str(folder / VERILOG_FILE) for folder in folders)]
    with environment("verilator"):
        done = subprocess.run(
            ["verilator", "--lint-only", "--top-module", "bench", *sources], cwd=scratch, capture_output=True, text=True
        )
    errors = [line for line in done.stderr.splitlines() if "MODDUP" in line or line.startswith("%Error")]
    return [line for line in errors if "Exiting due to" not in line]


@pytest.mark.needs("verilator")
def test_two_designs_lint_together_in_verilator(two_builds, tmp_path):
    assert verilator_errors(bench(two_builds), two_builds, tmp_path) == []
    assert verilator_errors(bench(two_builds[:1] * 2), two_builds[:1] * 2, tmp_path) != []


def yosys_problems(folders: Sequence, folder) -> list[str]:
    """Errors and warnings of Yosys about designs that are read together and instantiated in one module."""
    instances = "".join(
        f'  {load_build(path).top} #(.MEM_DIR("{path}")) dut{number} (.clk(clk), .rst(rst));\n'
        for number, path in enumerate(folders)
    )
    (folder / "both.v").write_text(f"module both(input clk, input rst);\n{instances}endmodule\n")
    sources = [*(path / VERILOG_FILE for path in folders), folder / "both.v"]
    reads = [f"read_verilog -defer {source}" for source in sources]
    (folder / "both.ys").write_text("\n".join([*reads, "hierarchy -check -top both", "proc", "check -assert"]))
    done = subprocess.run(yosys_process.command(folder / "both.ys"), capture_output=True, text=True)
    found = re.findall(r"^.*\b(?:Warning|ERROR): .*", done.stdout + done.stderr, re.MULTILINE)
    return found or ([f"status {done.returncode}"] if done.returncode else [])


def test_two_designs_are_elaborated_together_by_yosys(two_builds, tmp_path):
    assert yosys_problems(two_builds, tmp_path) == []


def test_yosys_rejects_two_modules_of_one_name(two_builds, tmp_path):
    assert "Re-definition of module" in yosys_problems([two_builds[0], two_builds[0]], tmp_path)[0]


def test_no_module_of_two_designs_has_the_same_name(two_builds):
    names = [re.findall(r"^module (\S+?)[ (]", (f / VERILOG_FILE).read_text(), re.MULTILINE) for f in two_builds]
    assert not set(names[0]) & set(names[1])
    assert all(name.startswith("tiny_") for name in names[0])
    files = [{path.name for path in folder.glob("*.mem")} for folder in two_builds]
    assert not files[0] & files[1]


@pytest.mark.needs("icarus")
def test_missing_memory_file_ends_the_simulation(two_builds, tmp_path):
    text = bench(two_builds[:1]).replace(f'.MEM_DIR("{two_builds[0]}")', '.MEM_DIR("nowhere")')
    printed = run_in_icarus(text, two_builds[:1], tmp_path)
    assert "error: memory file nowhere/tiny_bias.mem must exist" in printed
    assert "done" not in printed


def test_prefix_of_any_name():
    assert [prefix_of(name) for name in ("char128", "my-net", "1st")] == ["char128", "my_net", "n1st"]


@pytest.mark.parametrize("prefix", ["a b", "1a", "x" * 65, "a-b", "module;"])
def test_a_prefix_that_is_no_identifier_is_rejected(prefix, tmp_path):
    weights = random_weights(preset("tiny"), np.random.default_rng(0))
    with pytest.raises(InvalidValueError, match=r"^--prefix must be a Verilog identifier of at most 64 "):
        emit(weights, tmp_path / "build", "test", prefix)
    assert not (tmp_path / "build").exists()
