"""Every command: it starts, and its help has an example."""

import re
from pathlib import Path

import pytest

from chessrnn.scripts.main import COMMANDS, main

FOLDER = Path(__file__).resolve().parents[2] / "scripts"
MODULES = {path.stem for path in FOLDER.glob("*.py") if "def main(argv" in path.read_text(encoding="utf-8")} - {"main"}


def test_every_module_is_a_command():
    assert {module for module, _ in COMMANDS.values()} == MODULES


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    # Not only in the line of the usage, which is always there.
    assert re.search(rf"^(  |example: ).*chessrnn {name}\b", capsys.readouterr().out, re.MULTILINE)
