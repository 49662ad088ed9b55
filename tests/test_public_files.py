"""Files that strangers read first: licence, citation, changelog, and whose the generated files are."""

import re
import tomllib
from pathlib import Path

import pytest

from chessrnn.hdl import verilog
from chessrnn.hdl.device import device
from chessrnn.model.link.frames import LinkConfig
from chessrnn.model.presets import preset

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_licence():
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file(), name


def test_citation():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert dict(re.findall(r"^(version|license): (\S+)$", text, re.MULTILINE)) == {
        "version": PROJECT["version"],
        "license": PROJECT["license"],
    }
    assert "Accelerating Recurrent Neural Networks: A Memory-Efficient Approach" in text


def test_changelog_starts_with_the_version_of_the_project():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert versions[0] == PROJECT["version"]


@pytest.mark.parametrize("kind", ["accelerator", "device"])
def test_emitted_verilog_says_whose_it_is(kind):
    config = preset("tiny")
    if kind == "device":
        text = device.generate(config, LinkConfig.from_baud(12e6, 1_000_000))
    else:
        text = verilog.generate(config)
    header = text.partition("\n\n")[0]
    assert verilog.OWNERSHIP.strip() in header
    assert all(line.startswith("//") for line in header.splitlines())
