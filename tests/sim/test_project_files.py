"""The files for other tools: FuseSoC runs the core, and Tcl reads the scripts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chessrnn.hdl.shell.axi_shell import shell_ports
from chessrnn.hdl.verilog import ports
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import emit, load_build
from chessrnn.sim.manifest import read_manifest
from chessrnn.sim.runner import environment

CONFIG = preset("tiny").replace({"architecture.arithmetic": "multiplier"})
ENDINGS = (".core", ".f", ".sdc", ".xdc", ".vlt", "_vivado.tcl")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "build"
    emit(random_weights(CONFIG, np.random.default_rng(0)), path, "a test")
    return path


@pytest.fixture(scope="module")
def shelled(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shelled") / "build"
    emit(random_weights(CONFIG, np.random.default_rng(0)), path, "a test", "soc", "axi")
    return path


def test_they_are_in_the_manifest_and_name_the_top_module(plain, shelled):
    for folder, stem, top in ((plain, "tiny", "tiny_accelerator"), (shelled, "soc", "soc_axi")):
        assert {f"{stem}{ending}" for ending in ENDINGS} <= set(read_manifest(folder))
        for ending in (".core", ".f", ".sdc", ".xdc", "_vivado.tcl"):
            text = (folder / f"{stem}{ending}").read_text()
            assert re.search(rf"\b{top}\b", text), ending
            assert CONFIG.fingerprint in text
    assert load_build(shelled).shell_top == "soc_axi"


def test_a_design_without_a_prefix_has_them_too(tmp_path, rng):
    emit(random_weights(CONFIG, rng), tmp_path / "build", "a test", "")
    assert {f"accelerator{ending}" for ending in ENDINGS} <= set(read_manifest(tmp_path / "build"))
    core = (tmp_path / "build" / "accelerator.core").read_text()
    assert '"bias.mem": {copyto: "bias.mem"}' in core and "toplevel: testbench" in core


class Recorder:
    """A Tcl interpreter in which the commands of another tool only note their arguments."""

    def __init__(self):
        # Python's own Tcl, which Debian packs apart.
        tkinter = pytest.importorskip("tkinter", reason="without tkinter (apt-get install python3-tk)")
        self.tcl, self.calls = tkinter.Tcl(), []
        self.tcl.createcommand("note", lambda *words: self.calls.append(words) or "result")
        self.tcl.eval('rename puts ""; proc puts args {}; proc unknown args {return [note {*}$args]}')

    def run(self, path: Path, *arguments: str) -> list[tuple]:
        self.tcl.setvar("argv", arguments)
        self.tcl.eval(f"source {{{path}}}")
        return self.calls


def test_the_vivado_script_packages_the_shell_with_its_buses(shelled):
    calls = Recorder().run(shelled / "soc_vivado.tcl", "xc7z020clg400-1", "/ip")
    assert ("create_project", "-in_memory", "-part", "xc7z020clg400-1") in calls
    assert ("set_property", "top", "soc_axi", "result") in calls
    added = {Path(words[-1]).name for words in calls if words[0] == "add_files"}
    memories = {path.name for path in shelled.glob("*.mem") if "vectors" not in path.name}
    assert added == {"accelerator.v", "soc.xdc", *memories}
    buses = [words[2] for words in calls if words[0] == "ipx::associate_bus_interfaces"]
    assert buses == ["m_axis_h", "s_axil", "s_axis_x"]
    (packaged,) = [words for words in calls if words[0] == "ipx::package_project"]
    assert packaged[packaged.index("-root_dir") + 1] == "/ip"
    assert calls[-1][0] == "ipx::save_core"


@pytest.mark.parametrize("ending", [".sdc", ".xdc"])
def test_constraints_name_every_port(ending, plain, shelled):
    for path, listed, clock in (
        (plain / f"tiny{ending}", ports(CONFIG), "clk"),
        (shelled / f"soc{ending}", shell_ports(CONFIG), "aclk"),
    ):
        calls = Recorder().run(path)
        (clocks,) = [words for words in calls if words[0] == "create_clock"]
        assert clocks[1:5] == ("-name", clock, "-period", "10.0")
        named = {word.removesuffix("[*]") for words in calls if words[0] == "get_ports" for word in words[1].split()}
        assert named == ({port["name"] for port in listed} if ending == ".sdc" else {clock})


def fusesoc(folder: Path, work: Path, target: str, name: str) -> str:
    """Output of a target of the core, without the configuration of the machine's user."""
    here = {"XDG_CONFIG_HOME": str(work), "XDG_CACHE_HOME": str(work), "XDG_DATA_HOME": str(work)}
    run = "import sys; from fusesoc.main import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "--cores-root", str(folder), "run", "--work-root", str(work / "work")]
    done = subprocess.run(
        [*command, "--target", target, name], cwd=work, env={**os.environ, **here}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# FuseSoC runs make, which belongs to the programs of Verilator.
@pytest.mark.slow
@pytest.mark.needs("icarus", "verilator")
def test_fusesoc_simulates(plain, tmp_path):
    assert re.search(r"^PASS: \d+ beats of h", fusesoc(plain, tmp_path, "sim", "chessrnn:accelerator:tiny:1.0"), re.M)


@pytest.mark.slow
@pytest.mark.needs("verilator")
def test_fusesoc_lints(shelled, tmp_path):
    with environment("verilator"):
        assert "%Warning" not in fusesoc(shelled, tmp_path, "lint", "chessrnn:accelerator:soc:1.0")
