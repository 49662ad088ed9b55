"""Strict readers of text, JSON and TOML from any source, bounded in size, with errors of one line."""

import gzip
import json
import tomllib
import zlib
from pathlib import Path
from typing import Any

from chessrnn.model.errors import InvalidFileError, InvalidValueError, UserError, shown

# A configuration takes about two kilobytes.
MAX_CONFIG_BYTES = 1 << 16
# A report of one design or of a run takes up to some hundred kilobytes.
MAX_JSON_BYTES = 1 << 24
# Limit of texts for training and evaluation; the largest public character corpora have 100 MB.
MAX_TEXT_BYTES = 1 << 30
GZIP_MAGIC = b"\x1f\x8b"


def read_text(path: str | Path, max_bytes: int = MAX_TEXT_BYTES, kind: str = "a readable UTF-8 text file") -> str:
    """Read a UTF-8 text file of at most ``max_bytes`` bytes; a larger file is not read to its end.

    Parameters
    ----------
    path : str or Path
        Path of the file.
    max_bytes : int
        Greatest size of the file in bytes.
    kind : str
        Description of the expected file in the message.

    Raises
    ------
    InvalidFileError
        The file is missing, a folder, too large, or not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise InvalidFileError(f"{path} must be a file of at most {max_bytes} bytes, not a larger one")
        return content.decode("utf-8")
    except OSError as error:
        raise InvalidFileError(f"{path} must be {kind}: {error.strerror or error}") from None
    except ValueError as error:  # UnicodeDecodeError, or a zero character in the path
        raise InvalidFileError(f"{path} must be {kind}: {error}") from None


def read_bytes(path: str | Path, max_bytes: int, kind: str = "a readable file") -> bytes:
    """Read a file, plain or compressed with gzip, of at most ``max_bytes`` bytes after decompression.

    Parameters
    ----------
    path : str or Path
        Path of the file.
    max_bytes : int
        Greatest size of the content in bytes.
    kind : str
        Description of the expected file in the message.

    Raises
    ------
    InvalidFileError
        The file is missing, a folder, damaged or too large.
    """
    try:
        with open(path, "rb") as file:
            is_compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            content = (gzip.GzipFile(fileobj=file) if is_compressed else file).read(max_bytes + 1)
    except OSError as error:  # from the system or from gzip
        raise InvalidFileError(f"{path} must be {kind}: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise InvalidFileError(f"{path} must be {kind}: {error}") from None
    if len(content) > max_bytes:
        raise InvalidFileError(f"{path} must be a file of at most {max_bytes} bytes, not a larger one")
    return content


def parse_json(text: str, name: str) -> Any:
    """Parse JSON in which no object has the same key twice.

    Parameters
    ----------
    text : str
        The JSON text.
    name : str
        Name of the field or file in messages.

    Raises
    ------
    json.JSONDecodeError
        The text is not JSON.
    InvalidValueError
        A key appears twice in an object, lists or objects are nested too deeply, or an integer has too many digits.
    """

    def once(pairs: list[tuple[str, object]]) -> dict:
        values = {}
        for key, value in pairs:
            if key in values:
                raise InvalidValueError(f"{name} must have every key once in an object, not {shown(key)} twice")
            values[key] = value
        return values

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise InvalidValueError(f"{name} must not be nested so deeply") from None
    except (json.JSONDecodeError, UserError):
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise InvalidValueError(f"{name} must be made of short numbers: {_first_clause(error)}") from None


def read_json(path: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file of at most ``max_bytes`` bytes.

    Raises
    ------
    InvalidFileError
        The file cannot be read, is too large, is not JSON, or breaks a rule of :func:`parse_json`.
    """
    text = read_text(path, max_bytes)
    try:
        return parse_json(text, str(path))
    except json.JSONDecodeError as error:
        raise InvalidFileError(f"{path} must be valid JSON: {error}") from None
    except UserError as error:
        raise InvalidFileError(str(error)) from None


def read_toml(path: str | Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict:
    """Read a TOML file of at most ``max_bytes`` bytes.

    Raises
    ------
    InvalidFileError
        The file cannot be read, is too large, or is not TOML.
    """
    text = read_text(path, max_bytes)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InvalidFileError(f"{path} must not be nested so deeply") from None
    except ValueError as error:  # TOMLDecodeError, or an integer of more digits than Python converts
        raise InvalidFileError(f"{path} must be valid TOML: {_first_clause(error)}") from None


def _first_clause(error: Exception) -> str:
    """Return the message of an error without the advice to change a setting of Python."""
    return str(error).partition(";")[0]
