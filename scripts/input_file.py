"""Inputs and outputs of a network in files: .npy arrays, and .csv tables with a step per row."""

import argparse
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import require_file
from chessrnn.model.prediction import MAX_MAGNITUDE

MAX_ELEMENTS = 1 << 27
MAX_CSV_BYTES = 1 << 30
LAYOUTS = {False: "(steps, batch, elements)", True: "(batch, steps, elements)"}


def add_batch_first(parser: argparse.ArgumentParser) -> None:
    """Add ``--batch-first``."""
    parser.add_argument("--batch-first", action="store_true", help="arrays of three axes are (batch, steps, elements)")


def read_npy(path: Path, kinds: str, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """Read the array of a .npy file, whose type has one of some NumPy kinds, or map it into memory.

    Raises
    ------
    InvalidFileError
        The file is missing, damaged, or holds something else.
    """
    require_file(path, "a .npy file of numbers")
    try:
        values = np.load(path, allow_pickle=False, mmap_mode=mmap_mode)
    except (OSError, ValueError, EOFError) as error:
        # NumPy takes whatever it does not know for pickled objects, and advises to load them.
        reason = "it is none, or holds Python objects" if "pickle" in str(error) else error
        raise InvalidFileError(f"{path} must be a .npy file of numbers: {reason}") from None
    if not isinstance(values, np.ndarray):
        values.close()
        raise InvalidFileError(f"{path} must be a .npy file of numbers, not of archives")
    if values.dtype.kind not in kinds:
        raise InvalidFileError(f"{path} must be a .npy file of numbers, not of {values.dtype}")
    return values


def _read(path: Path) -> np.ndarray:
    """Read the array of a .npy file, or the rows of a .csv file after a heading of names, if it has one.

    Raises
    ------
    InvalidFileError
        The file is missing, damaged, or holds something other than numbers.
    """
    is_table = path.suffix.lower() == ".csv"
    if is_table:
        require_file(path, "a table of numbers between commas")
        try:
            if path.stat().st_size > MAX_CSV_BYTES:
                raise InvalidFileError(f"{path} must be a table of at most {MAX_CSV_BYTES} bytes, not a larger one")
            with open(path, encoding="utf-8") as file:
                first = file.readline()
                has_rows = bool(first.strip() and not _is_heading(first)) or any(line.strip() for line in file)
            if not has_rows:
                raise InvalidFileError(f"{path} must have a row of numbers for every step, not none")
            return np.loadtxt(path, delimiter=",", ndmin=2, skiprows=int(_is_heading(first)), encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidFileError(f"{path} must be a table of numbers between commas: {error}") from None
    return read_npy(path, "fiu", "r")


def _is_heading(line: str) -> bool:
    """Whether no cell of a line is a number."""

    def is_number(text: str) -> bool:
        try:
            float(text)
        except ValueError:
            return False
        return True

    return not any(is_number(cell) for cell in line.split(","))


def load_sequences(path: Path, size: int, batch_first: bool = False) -> np.ndarray:
    """Read inputs (T, B, X) in float64.

    Parameters
    ----------
    path : Path
        A .npy file of (steps, batch, X) or (steps, X), or a .csv file with X numbers per row.
    size : int
        X, the number of elements per step.
    batch_first : bool
        Whether an array of three axes is (batch, steps, X).

    Raises
    ------
    InvalidFileError
        The file is no file of finite numbers, has another input size than the network, or is too large.
    """
    values = _read(path)
    shape, layout = values.shape, f"({'batch, steps' if batch_first else 'steps, batch'}, {size})"
    if values.ndim not in (2, 3) or shape[-1] != size or not 0 < values.size <= MAX_ELEMENTS:
        rule = f"{layout} or (steps, {size}), at most {MAX_ELEMENTS} elements"
        raise InvalidFileError(f"{path} must be of shape {rule}, not {shape}")
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InvalidFileError(f"{path} must be made of finite numbers, not {values[~np.isfinite(values)][0]}")
    largest = np.abs(values).max()
    if largest > MAX_MAGNITUDE:
        raise InvalidFileError(f"{path} must be made of numbers of at most {MAX_MAGNITUDE:g}, not of {largest:g}")
    if values.ndim == 2:
        return values[:, None]
    return values.swapaxes(0, 1) if batch_first else values


def reading(values: np.ndarray, batch_first: bool) -> str:
    """Describe inputs (T, B, X): their sizes, the order of axes that was chosen, and their range."""
    steps, batch, size = values.shape
    sizes = f"{steps} steps of {batch} sequence{'s' * (batch > 1)}, {size} element{'s' * (size > 1)} each"
    return f"{sizes}, read as {LAYOUTS[batch_first]}; values from {values.min():.4g} to {values.max():.4g}"


def array_bytes(values: np.ndarray | dict[str, Any]) -> bytes:
    """Return the content of a .npy file, or of a compressed .npz file of several arrays."""
    buffer = io.BytesIO()
    if isinstance(values, dict):
        named: dict[str, Any] = values
        np.savez_compressed(buffer, **named)
    else:
        np.save(buffer, values)
    return buffer.getvalue()


def table_text(values: np.ndarray) -> str:
    """Return the content of a .csv file with a step per row; every number is exact."""
    return "".join(",".join(repr(float(value)) for value in row) + "\n" for row in values)
