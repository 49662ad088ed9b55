"""Digests of the generated files of a directory, so that a damaged or edited file is noticed before it is used."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, shown
from chessrnn.model.files import require_file
from chessrnn.model.text_file import read_json

MANIFEST_FILE = "manifest.json"
# The description of what was generated.
CONFIG_FILE = "config.json"
# What simulators and the report add to a generated directory, and make again.
ADDED_NAMES = ("sim", "report.html")


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits.

    Raises
    ------
    InvalidFileError
        The file is missing or cannot be read.
    """
    require_file(path, "a generated file")
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidFileError(f"{path} must be readable: {error.strerror or error}") from None


def write_files(directory: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files by name, texts and others, into a new directory, and their manifest."""
    encoded = {name: content.encode() if isinstance(content, str) else content for name, content in contents.items()}
    for name, content in encoded.items():
        (directory / name).write_bytes(content)
    _write_manifest(directory, {name: hashlib.sha256(content).hexdigest() for name, content in encoded.items()})


def replace_file(directory: Path, name: str, text: str) -> None:
    """Write another text for one of the files on purpose, for tools that instrument what was generated."""
    files = read_manifest(directory)
    (directory / name).write_text(text, encoding="utf-8")
    _write_manifest(directory, files | {name: hashlib.sha256(text.encode()).hexdigest()})


def read_manifest(directory: Path) -> dict[str, str]:
    """Read the digest of every file by its name.

    Raises
    ------
    InvalidFileError
        The manifest is missing or damaged.
    """
    path = directory / MANIFEST_FILE
    values = read_json(path)
    files = values.get("files") if isinstance(values, dict) else None
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise InvalidFileError(f"{path} must hold the digests of the files beside it, not {shown(values)}")
    for name in files:
        if Path(name).name != name:
            raise InvalidFileError(f"{path} must name files beside it, not {shown(name)}")
    return files


def is_generated(directory: Path) -> bool:
    """Whether a directory holds what this program generated, however damaged: not only files of the same names.

    Its manifest lists digests, or its ``config.json`` names the generator.
    """
    try:
        return all(re.fullmatch("[0-9a-f]{64}", digest) for digest in read_manifest(directory).values())
    except InvalidFileError:
        pass
    try:
        values = read_json(directory / CONFIG_FILE)
    except InvalidFileError:
        return False
    return isinstance(values, dict) and {"configuration", "generator"} <= values.keys()


def foreign_names(directory: Path) -> list[str]:
    """List what a generated directory holds besides the files of its manifest and what tools of this program add."""
    try:
        own = {MANIFEST_FILE, *ADDED_NAMES, *read_manifest(directory)}
    except InvalidFileError:
        # A damaged manifest does not say what is ours, so everything stays that is not written again.
        own = {MANIFEST_FILE, *ADDED_NAMES}
    return sorted(entry.name for entry in directory.iterdir() if entry.name not in own)


def check_files(directory: Path, needed: tuple[str, ...] = ()) -> list[str]:
    """Check every generated file of a directory against its digest, and return their names.

    Parameters
    ----------
    directory : Path
    needed : tuple of str
        Names that must be among them.

    Raises
    ------
    InvalidFileError
        The manifest or a file is missing or was changed; the message names the file.
    """
    files = read_manifest(directory)
    for name in needed:
        if name not in files:
            raise InvalidFileError(f"{directory / MANIFEST_FILE} must hold the digest of {name}, not leave it out")
    for name, expected in files.items():
        found = file_digest(directory / name)
        if found != expected:
            wanted, got = shown(expected[:16]), shown(found[:16])
            raise InvalidFileError(
                f"{directory / name} must be as it was generated, with a SHA-256 that begins with {wanted}, not {got}"
            )
    return list(files)


def _write_manifest(directory: Path, files: dict[str, str]) -> None:
    (directory / MANIFEST_FILE).write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")
