"""Paths for tools that read blanks and special characters in a path as syntax: Verilator, make, ABC, OpenSTA."""

import atexit
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import temporary_folder

# Everything else has a meaning for a shell, a makefile, Tcl, or an option with several paths.
_PLAIN = re.compile(r"[\w@+=./-]+")


def plain_path(path: str | Path) -> Path:
    """Return the absolute path itself where every tool can read it, else a symbolic link to it.

    The link is in the system's temporary folder until this process ends.

    Raises
    ------
    InvalidFileError
        There is no temporary folder whose own path every tool can read.
    """
    path = Path(path).absolute()
    return path if _PLAIN.fullmatch(str(path)) else _link(path)


def plain_folder() -> Path:
    """Create a folder with a path that every tool can read; it is removed when this process ends."""
    return Path(tempfile.mkdtemp(dir=_links()))


@cache
def _link(path: Path) -> Path:
    link = _links() / f"{len(list(_links().iterdir()))}{path.suffix if _PLAIN.fullmatch(path.suffix) else ''}"
    link.symlink_to(path)
    return link


@cache
def _links() -> Path:
    """Folder of this process's links."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if _PLAIN.fullmatch(parent):
            folder = temporary_folder(Path(parent))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder
    raise InvalidFileError(f"TMPDIR must be a folder without blanks in its path, not {tempfile.gettempdir()!r}")
