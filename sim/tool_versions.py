"""Oldest versions of the simulators that read the emitted Verilog; older ones are rejected before they fail."""

import re
import shutil
import subprocess
from functools import cache

from chessrnn.model.errors import MissingToolError

# Oldest versions that were tried, as Debian 12 has them.
OLDEST = {"iverilog": "11.0", "verilator": "5.006"}
_OPTION = {"iverilog": "-V", "verilator": "--version"}
_VERSION = re.compile(r"^(?:Icarus Verilog version|Verilator) (\d+\.\d+)", re.MULTILINE)


def check_version(program: str) -> None:
    """Check that a simulator in ``PATH`` is recent enough; one that does not say its version passes.

    Raises
    ------
    MissingToolError
        It is older than :data:`OLDEST`.
    """
    version = _version(shutil.which(program) or program, _OPTION[program])
    if version is not None and _numbers(version) < _numbers(OLDEST[program]):
        raise MissingToolError(f"{program} must be version {OLDEST[program]} or newer, not {version}")


@cache
def _version(path: str, option: str) -> str | None:
    done = subprocess.run([path, option], capture_output=True, text=True, check=False)
    found = _VERSION.search(done.stdout + done.stderr)
    return found[1] if found else None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
