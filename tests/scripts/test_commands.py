"""Every command: it starts, and its help has an example."""

import importlib
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "scripts"
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"scripts.{name}").main(["--help"])
    assert ended.value.code == 0
    # Not only in the line of the usage, which is always there.
    assert re.search(rf"^(  |example: ).*python -m scripts\.{name}\b", capsys.readouterr().out, re.MULTILINE)
