"""Common interface of files of named tensors: names, shapes, types, and how to read one."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidFileError, shown
from chessrnn.model.files import require_file
from chessrnn.model.imported.recurrent_network import MAX_ELEMENTS

MAX_FILE_BYTES = 8 << 30
FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")
# Bytes that everything compressed may expand to, and how many times its size something larger may: JSON becomes 20
# times smaller, trained weights hardly at all.
MIN_EXPANSION, MAX_EXPANSION = 1 << 20, 50


@dataclass(frozen=True)
class TensorFile:
    """File of named tensors.

    Attributes
    ----------
    path : Path
    shapes : dict of str to tuple
    dtypes : dict of str to str
        ``"float32"`` and so on; types that are not floating-point are called as in the file.
    load : callable
        Function from a name to an array of any floating-point type.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    load: Callable[[str], np.ndarray]

    def read(self, name: str) -> np.ndarray:
        """Read one tensor as float64.

        Raises
        ------
        InvalidFileError
            The tensor is not of a floating-point type, too large, or has numbers that are not finite.
        """
        kind, shape = self.dtypes[name], self.shapes[name]
        if kind not in FLOAT_TYPES:
            raise InvalidFileError(
                f"{name} must be of type {', '.join(FLOAT_TYPES)}, not {shown(kind)} as in {self.path}"
            )
        if prod(shape) > MAX_ELEMENTS:
            raise InvalidFileError(f"{name} must have at most {MAX_ELEMENTS} elements, not {shape} as in {self.path}")
        value = np.asarray(self.load(name), dtype=np.float64)
        if not np.isfinite(value).all():
            wrong = value[~np.isfinite(value)][0]
            raise InvalidFileError(f"{name} must be made of finite numbers, not {wrong} as in {self.path}")
        return value


def upper_halves(halves: np.ndarray) -> np.ndarray:
    """Convert bfloat16, a type that NumPy lacks, to float32: ``halves`` are its bits, the upper ones of a float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def largest_expansion(stored: int) -> int:
    """Return how many bytes a part of a file may have after it is decompressed from ``stored`` bytes."""
    return max(MIN_EXPANSION, MAX_EXPANSION * stored)


def check_size(path: Path, kind: str) -> None:
    """Check that a path is a file of a plausible size.

    Raises
    ------
    InvalidFileError
        The file is missing, empty or larger than ``MAX_FILE_BYTES``.
    """
    require_file(path, kind)
    size = path.stat().st_size
    if not 0 < size <= MAX_FILE_BYTES:
        raise InvalidFileError(f"{path} must have from 1 to {MAX_FILE_BYTES} bytes, not {size}")
