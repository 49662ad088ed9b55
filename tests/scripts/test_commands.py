"""Every command: it starts, and its help has an example."""

import re
from importlib import metadata
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


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"chessrnn {metadata.version('chessrnn')}\n"


LONG = "x" * 200
SHORT = f"'{'x' * 36}...{'x' * 36}'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sim", "--sim", "questa"], "chessrnn sim: error: --sim must be one of verilator, icarus, not 'questa'"),
        (["sim", "--steps", "0"], "chessrnn sim: error: --steps must be at least 1, not 0"),
        (["sim", "--steps", LONG], f"chessrnn sim: error: --steps must be a whole number, not {SHORT}"),
        (["inspect", "a.pt", "--k", "two"], "chessrnn inspect: error: --k must be a whole number, not 'two'"),
        (["train", "--dropout", "1"], "chessrnn train: error: --dropout must be from 0 to below 1, not 1"),
        (
            ["accuracy", "--learning-rate", "nan"],
            "chessrnn accuracy: error: --learning-rate must be a finite number more than 0, not nan",
        ),
    ],
)
def test_wrong_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"{message}\n")


def test_an_unknown_command(capsys):
    assert main([LONG]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[1] == f"chessrnn: error: COMMAND must be one that chessrnn --help lists, not {SHORT}"
