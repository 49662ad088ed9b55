"""Checks of the emitted Verilog by independent tools: Verilator's linter and Yosys's checks."""

import importlib.util
import re
import subprocess
from importlib.resources import files
from pathlib import Path

from chessrnn.model.errors import MissingToolError
from chessrnn.model.files import scratch_folder
from chessrnn.model.progress import elapsed
from chessrnn.sim.build import VERILOG_FILE, load_build
from chessrnn.sim.runner import environment
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
    """
    build = load_build(directory)
    command = ["verilator", "--lint-only", "-Wall", "--top-module", build.top, str(WAIVERS), VERILOG_FILE]
    with environment("verilator"), elapsed("linting with verilator"):
        done = subprocess.run(command, cwd=build.path, capture_output=True, text=True, check=False)
    found = [line for line in done.stderr.splitlines() if line.startswith(("%Warning", "%Error"))]
    if done.returncode and not found:
        found = [f"verilator failed with status {done.returncode}: {done.stderr.strip()[-500:]}"]
    return found


def yosys_warnings(directory: str | Path) -> list[str]:
    """Run Yosys's ``synth``: its warnings and errors about latches, loops, and wires with no or several drivers.

    Raises
    ------
    InvalidFileError
        From :func:`chessrnn.sim.build.load_build`.
    MissingToolError
        The tool, or what it needs, is not installed.
    """
    build = load_build(directory)
    if importlib.util.find_spec("pyosys") is None:
        raise MissingToolError("package pyosys must be installed (make check does)")
    with scratch_folder() as scratch:
        script = scratch / "lint.ys"
        script.write_text(YOSYS_PASSES.format(file=VERILOG_FILE, top=build.top), encoding="utf-8")
        with elapsed("checking with yosys"):
            done = subprocess.run(
                yosys_process.command(script), cwd=build.path, capture_output=True, text=True, check=False
            )
    lines = (done.stdout + done.stderr).splitlines()
    found = [line.strip() for line in lines if re.search(r"\b(Warning|ERROR):", line)]
    if done.returncode and not found:
        found = [f"yosys failed with status {done.returncode}: {lines[-1] if lines else ''}"]
    return found
