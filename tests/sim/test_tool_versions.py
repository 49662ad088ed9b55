"""Simulators that are too old are named; the file of waivers knows only rules of the oldest Verilator."""

import os
import re
import stat

import pytest

from chessrnn.model.errors import MissingToolError
from chessrnn.sim.lint import WAIVERS
from chessrnn.sim.tool_versions import OLDEST, check_version

SAID = {
    "iverilog": "Icarus Verilog version {} (stable) ()",
    "verilator": "Verilator {} 2023-01-22 rev (Debian 5.006-3)",
}
# Rules of Verilator 5.006 that are waived; it stops at the name of a rule that it does not know.
RULES = {"CASEOVERLAP", "CMPCONST", "DECLFILENAME", "UNOPTFLAT", "UNSIGNED", "UNUSEDSIGNAL", "WIDTH"}


@pytest.fixture
def says(tmp_path, monkeypatch):
    """Put a simulator into PATH that prints a version."""

    def put(program: str, text: str):
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\necho '{text}'\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.mark.parametrize(
    ("program", "version"), [("iverilog", "10.3"), ("iverilog", "0.9"), ("verilator", "4.228"), ("verilator", "5.004")]
)
def test_too_old(program, version, says):
    says(program, SAID[program].format(version))
    with pytest.raises(MissingToolError) as error:
        check_version(program)
    assert str(error.value) == f"{program} must be version {OLDEST[program]} or newer, not {version}"


@pytest.mark.parametrize(
    ("program", "version"), [("iverilog", "11.0"), ("iverilog", "12.0"), ("verilator", "5.006"), ("verilator", "5.048")]
)
def test_recent_enough(program, version, says):
    says(program, SAID[program].format(version))
    check_version(program)


def test_unknown_versions_pass(says):
    says("iverilog", "another program")
    check_version("iverilog")


def test_waivers_are_rules_of_the_oldest_verilator():
    assert set(re.findall(r"^lint_off -rule (\w+)$", WAIVERS.read_text(encoding="utf-8"), re.MULTILINE)) == RULES
