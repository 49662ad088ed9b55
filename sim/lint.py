"""Checks of the emitted Verilog by independent tools: Verilator's linter and Yosys's checks."""

import importlib.util
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

from chessrnn.model.errors import MissingToolError
from chessrnn.model.files import scratch_folder, write_atomic
from chessrnn.model.progress import elapsed
from chessrnn.sim.build import VERILOG_FILE, Build, load_build
from chessrnn.sim.plain_path import plain_path
from chessrnn.sim.runner import SimulationError, environment
from chessrnn.sim.synthesis import yosys_process

WAIVERS = Path(str(files("chessrnn.constraints") / "lint.vlt"))
# Synthesis stops before memories are mapped to flip-flops, which would take time and find nothing more.
YOSYS_PASSES = """\
read_verilog -defer {file}
hierarchy -check -top {top}
proc
check -assert
select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr
synth -top {top} -run begin:fine"""


def verilator_warnings(directory: str | Path) -> list[str]:
    """Run ``verilator --lint-only -Wall``: its warnings beyond the waivers of ``constraints/lint.vlt``.

    Raises
    ------
    InvalidFileError
        From :func:`chessrnn.sim.build.load_build`.
    MissingToolError
        The tool, or what it needs, is not installed.
    SimulationError
        The tool failed and says nothing about the design.
    """
    build, problems = load_build(directory), []
    for top in build.tops:
        command = ["verilator", "--lint-only", "-Wall", "--top-module", top, str(plain_path(WAIVERS)), VERILOG_FILE]
        with environment("verilator"), elapsed(f"linting {top} with verilator"):
            done = subprocess.run(command, cwd=build.path, capture_output=True, text=True, check=False)
        found = [line for line in done.stderr.splitlines() if line.startswith(("%Warning", "%Error"))]
        if done.returncode and (not found or any("Command Failed" in line for line in found)):
            _fail(build, "verilator", done)
        problems += found
    return problems


def yosys_warnings(directory: str | Path) -> list[str]:
    """Run Yosys's ``synth``: its warnings and errors about latches, loops, and wires with no or several drivers.

    Raises
    ------
    InvalidFileError
        From :func:`chessrnn.sim.build.load_build`.
    MissingToolError
        The tool, or what it needs, is not installed.
    SimulationError
        The tool failed and says nothing about the design.
    """
    build = load_build(directory)
    if importlib.util.find_spec("pyosys") is None:
        raise MissingToolError("package pyosys must be installed (make check does)")
    problems = []
    for top in build.tops:
        with scratch_folder() as scratch:
            script = scratch / "lint.ys"
            script.write_text(YOSYS_PASSES.format(file=VERILOG_FILE, top=top), encoding="utf-8")
            with elapsed(f"checking {top} with yosys"):
                done = subprocess.run(
                    yosys_process.command(script), cwd=build.path, capture_output=True, text=True, check=False
                )
        lines = (done.stdout + done.stderr).splitlines()
        found = [line.strip() for line in lines if re.search(r"\b(Warning|ERROR):", line)]
        if done.returncode and not found:
            _fail(build, "yosys", done)
        problems += found
    return problems


def _fail(build: Build, program: str, done: subprocess.CompletedProcess) -> NoReturn:
    """Raise the error of a tool that failed without a verdict on the design, and keep its output."""
    log = build.path / "sim" / f"lint-{program}.log"
    write_atomic(log, done.stdout + done.stderr)
    raise SimulationError(f"{program} must check {VERILOG_FILE}", log, f"status {done.returncode}")
