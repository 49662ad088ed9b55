"""Library files of a process: its standard cells and, where they are given, its SRAM macros."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, require
from chessrnn.sim.synthesis.liberty import CLOCK_GATE, Cell, Liberty, read_text
from chessrnn.sim.synthesis.memory_macro import SramMacro, read_sram

_MEMORY_GROUP = re.compile(r"\bmemory\s*\(\s*\)\s*\{")


@dataclass(frozen=True)
class Library:
    """Standard cells together with the SRAM macros of the same process.

    Attributes
    ----------
    name : str
        Name of the cells' file without its suffixes.
    liberty : Liberty
        Standard cells.
    macros : tuple of SramMacro
        SRAM macros of the process; may be empty.
    digest : str
        SHA-256 of all files.
    """

    name: str
    liberty: Liberty
    macros: tuple[SramMacro, ...]
    digest: str

    def write_plain(self, folder: Path) -> Path:
        """Write the cells' file uncompressed, for tools that do not read compressed ones."""
        path = folder / f"{self.name}.lib"
        path.write_text(self.liberty.text, encoding="latin-1")
        return path


def _stem(path: Path) -> str:
    return re.sub(r"\.(lib|gz|liberty)\b", "", path.name) or path.name


def load_libraries(paths: list[Path]) -> list[Library]:
    """Load libraries in the order of their files; SRAM macros belong to the library in the same folder.

    Raises
    ------
    InvalidFileError
        A file cannot be read, is not a Liberty file, or holds macros without a library beside it.
    InvalidValueError
        There is no standard-cell library, or two have the same name.
    """
    cells: dict[Path, str] = {}
    macros: list[Path] = []
    for path in paths:
        text = read_text(path)
        if _MEMORY_GROUP.search(text):
            macros.append(path)
        else:
            cells[path] = text
    require(bool(cells), "liberty", "at least one standard-cell library", [str(path) for path in paths])
    names = [_stem(path) for path in cells]
    require(len(set(names)) == len(names), "liberty", "files of different names", names)
    owners: dict[Path, list[Path]] = {path: [] for path in cells}
    for macro in macros:
        beside = [path for path in cells if path.resolve().parent == macro.resolve().parent]
        if len(cells) == 1:
            beside = list(cells)
        if not beside:
            raise InvalidFileError(f"SRAM file {macro} must be in the folder of its standard-cell library")
        for path in beside:
            owners[path].append(macro)
    libraries = []
    for path, name in zip(cells, names, strict=True):
        digest = hashlib.sha256()
        for file in (path, *owners[path]):
            digest.update(file.read_bytes())
        found = tuple(read_sram(file) for file in owners[path])
        libraries.append(Library(name, Liberty(path), found, digest.hexdigest()))
    return libraries


def clock_gate_of(library: Library | None) -> Cell:
    """Return the clock gate of a library.

    Raises
    ------
    InvalidValueError
        There is no library, or it has no clock gate.
    """
    gate = library.liberty.clock_gate if library else None
    name = library.name if library else None
    require(gate is not None, "--liberty", f"a library with a clock gate ({CLOCK_GATE}) for --clock-gates", name)
    assert gate is not None
    return gate
