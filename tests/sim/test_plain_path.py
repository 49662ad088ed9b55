"""Tools that read a blank as the end of a path get a link instead, and a tool that fails is one line with its log."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.scripts import convert, host, lint, simulate
from chessrnn.scripts.cli import run_command
from chessrnn.sim import device_simulation
from chessrnn.sim import plain_path as module
from chessrnn.sim.build import emit
from chessrnn.sim.plain_path import plain_folder, plain_path
from chessrnn.sim.runner import Run, SimulationError
from chessrnn.sim.runner import simulate as run_simulator
from chessrnn.sim.scenarios import Scenario, random_sequences
from chessrnn.sim.synthesis.yosys import map_generic, prepare

MULTIPLIER = ["--config", "tiny", "--set", "architecture.arithmetic=multiplier"]


def test_a_plain_path_is_itself():
    assert plain_path("/a/b-c_d.e+f@g=1") == Path("/a/b-c_d.e+f@g=1")
    assert plain_path("a") == Path.cwd() / "a"


@pytest.mark.parametrize("name", ["a b", "a;b", "a$b", "a'b", 'a"b', "a#b", "a:b", "a,b", "a%b", "a(b)", "a\tb"])
def test_another_path_is_a_link(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "file.v").write_text("text")
    link = plain_path(folder)
    assert re.fullmatch(r"[\w/.-]+", str(link))
    assert (link / "file.v").read_text() == "text"
    assert plain_path(folder) == link
    assert plain_path(folder / "file.v").suffix == ".v"
    assert re.fullmatch(r"[\w/.-]+", str(plain_folder()))


def test_a_temporary_folder_with_a_blank(tmp_path, monkeypatch):
    # The links of this process are kept as they are.
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / "a b"))
    assert not str(module._links.__wrapped__()).startswith(str(tmp_path))
    monkeypatch.setattr(module, "_PLAIN", re.compile("never"))
    with pytest.raises(InvalidFileError, match="^TMPDIR must be a folder without blanks in its path, not '.*a b'$"):
        module._links.__wrapped__()


def test_links_end_with_their_process(tmp_path):
    code = "from chessrnn.sim.plain_path import plain_path; print(plain_path('/a b'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not os.path.lexists(done.stdout.strip())


def test_yosys_works_in_a_folder_with_a_blank(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    text = "module top(input a, input b, output y);\n  assign y = a & b;\nendmodule\n"
    netlist = map_generic(prepare(text, "top", None, folder), folder)
    assert sum(netlist.cell_counts().values()) > 0


@pytest.mark.needs("icarus")
def test_icarus_works_in_a_folder_with_a_blank(tmp_path, rng):
    weights = random_weights(preset("tiny").replace({"architecture.arithmetic": "multiplier"}), rng)
    emit(weights, tmp_path / "a b" / "c d", "a test")
    scenario = Scenario(weights, random_sequences(weights.config, rng, (1,)))
    (result,) = run_simulator(tmp_path / "a b" / "c d", [Run(scenario)], "icarus")
    assert result.problems == []


@pytest.mark.slow
@pytest.mark.needs("verilator")
def test_verilator_works_in_a_folder_with_a_blank(tmp_path, rng):
    sizes = {"network.input_size": 2, "network.hidden_size": 2, "compression.block_size": 2}
    weights = random_weights(preset("tiny").replace({**sizes, "architecture.arithmetic": "multiplier"}), rng)
    emit(weights, tmp_path / "a b" / "c d", "a test")
    scenario = Scenario(weights, random_sequences(weights.config, rng, (1,)))
    for _ in range(2):  # compiled, and compiled before
        (result,) = run_simulator(tmp_path / "a b" / "c d", [Run(scenario)])
        assert result.problems == []


# -- tools that fail -------------------------------------------------------------------------------------------


@pytest.fixture
def broken_tools(tmp_path, monkeypatch):
    """Programs that print many lines and fail, before all others of the same name."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("iverilog", "g++", "verilator"):
        program = folder / name
        program.write_text("#!/bin/sh\nseq -f 'line %g' 9\necho 'error: out of luck'\nexit 3\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return folder


def one_line(main, arguments, capsys) -> str:
    """The only line of an error, with exit status 2."""
    assert run_command(lambda: main(arguments), "command") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    found = [line for line in lines if line.startswith("command: error: ")]
    assert found == lines[-1:]
    assert not any("Traceback" in line for line in lines)
    return found[0].removeprefix("command: error: ")


def log_of(message: str) -> Path:
    """The log that a message names."""
    return Path(re.search(r"\(log: (.*)\)$", message)[1])


@pytest.mark.needs("icarus")
def test_a_failed_compilation_is_one_line(broken_tools, capsys):
    message = one_line(simulate.main, [*MULTIPLIER, "--sim", "icarus", "--steps", "3"], capsys)
    assert message.startswith("icarus must compile accelerator.v, not fail with 'error: out of luck' (log: ")
    assert log_of(message).read_text().splitlines()[:2] == ["line 1", "line 2"]


@pytest.mark.needs("icarus")
def test_a_failed_simulation_is_one_line(tmp_path, monkeypatch, capsys, rng):
    weights = random_weights(preset("tiny").replace({"architecture.arithmetic": "multiplier"}), rng)
    emit(weights, tmp_path / "build", "a test")
    monkeypatch.setattr("chessrnn.sim.runner.BENCH", "chessrnn.sim.no_such_bench")
    scenario = Scenario(weights, random_sequences(weights.config, rng, (1,)))
    with pytest.raises(SimulationError, match="^icarus must simulate tiny_accelerator, not fail with ") as caught:
        run_simulator(tmp_path / "build", [Run(scenario)], "icarus")
    assert "no_such_bench" in log_of(str(caught.value)).read_text()
    assert "\n" not in str(caught.value)


@pytest.mark.needs("verilator")
def test_a_failed_check_is_one_line(broken_tools, capsys, monkeypatch):
    monkeypatch.setattr("chessrnn.sim.runner.plain_path", lambda path: broken_tools)
    # The folder of Verilator's programs is the first in PATH.
    (broken_tools / "bin").symlink_to(broken_tools)
    message = one_line(lint.main, MULTIPLIER, capsys)
    assert message.startswith("verilator must check accelerator.v, not fail with 'error: out of luck' (log: ")
    assert "line 9" in log_of(message).read_text()


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_a_device_that_does_not_compile_is_one_line(broken_tools, capsys, monkeypatch):
    simulated = device_simulation.simulated_device
    monkeypatch.setattr(
        device_simulation, "simulated_device", lambda folder, simulator, source: simulated(folder, "icarus", source)
    )
    message = one_line(host.main, ["--simulate", *MULTIPLIER, "--random-weights", "1"], capsys)
    assert message.startswith("icarus must compile chessrnn_fpga.v, not fail with 'error: out of luck' (log: ")
    assert log_of(message).exists()


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_a_conversion_whose_design_does_not_compile_is_one_line(broken_tools, capsys, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.LSTM(5, 8).state_dict(), tmp_path / "lstm.pt")
    message = one_line(convert.main, ["lstm.pt", "--k", "4", "--sim", "icarus", "--steps", "2"], capsys)
    assert message.startswith("icarus must compile accelerator.v, not fail with 'error: out of luck' (log: ")
