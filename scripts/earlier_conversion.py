"""Protection of other people's files: a conversion overwrites only what an earlier conversion wrote."""

from collections.abc import Callable
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, InvalidValueError, require
from chessrnn.model.text_file import read_json
from chessrnn.model.weight_image import is_weight_image
from chessrnn.sim.manifest import is_generated

REPORT_FILE = "report.json"
COMMAND = "chessrnn convert"


def require_own(folder: Path, name: str) -> None:
    """Check that a conversion called ``name`` may write to a folder.

    Raises
    ------
    InvalidValueError
        The folder is a build of ``chessrnn verilog``, or a file in it has a name that the conversion needs and was not
        written by one.
    """
    require(not is_generated(folder), "--output", "a folder other than a build of chessrnn verilog", str(folder))
    files: dict[str, Callable[[Path], bool]] = {
        f"{name}.safetensors": is_weight_image,
        f"{name}.json": _is_config,
        REPORT_FILE: _is_report,
    }
    for file, is_own in files.items():
        path = folder / file
        if path.exists() and not is_own(path):
            raise InvalidValueError(f"--output must be a folder without a {file} of something else, not {folder}")


def _values(path: Path) -> dict:
    try:
        values = read_json(path)
    except InvalidFileError:
        return {}
    return values if isinstance(values, dict) else {}


def _is_config(path: Path) -> bool:
    return {"network", "compression", "quantization"} <= _values(path).keys()


def _is_report(path: Path) -> bool:
    return str(_values(path).get("command", "")).startswith(COMMAND)
