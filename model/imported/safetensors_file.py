"""Reader of tensors in a safetensors file, a format without anything that could be executed."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.tensor_file import TensorFile, upper_halves

# Names of types in the header of a safetensors file.
SAFETENSORS_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def open_safetensors(path: Path) -> TensorFile:
    """Open a safetensors file.

    Raises
    ------
    InvalidFileError
        The file is truncated, damaged or of another format.
    """
    shapes, dtypes = {}, {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in sorted(file.keys()):
                part = file.get_slice(name)
                shapes[name], kind = tuple(part.get_shape()), str(part.get_dtype())
                dtypes[name] = SAFETENSORS_TYPES.get(kind, kind)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path} must be a whole safetensors file: {error}") from None

    def load(name: str) -> np.ndarray:
        if dtypes[name] == "bfloat16":
            return _bfloat16(path, name).reshape(shapes[name])
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)

    return TensorFile(path, shapes, dtypes, load)


def _bfloat16(path: Path, name: str) -> np.ndarray:
    """Read a bfloat16 tensor as float32; the header was checked when the file was opened."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start, end = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + start)
        halves = np.frombuffer(file.read(end - start), dtype="<u2")
    return upper_halves(halves)
