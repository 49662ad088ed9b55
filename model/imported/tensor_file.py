"""Files of named tensors, read without executing anything: safetensors here, PyTorch's own through the trainer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from model.errors import InvalidFileError, MissingToolError
from model.imported.network import MAX_ELEMENTS

MAX_FILE_BYTES = 8 << 30
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")
# Names of types in the header of a safetensors file.
SAFETENSORS_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True)
class TensorFile:
    """Names, shapes and types of a file's tensors, and how to read one.

    Attributes
    ----------
    path : Path
    shapes : dict of str to tuple
    dtypes : dict of str to str
        ``"float32"`` and so on; every other type as the file calls it.
    load : callable
        Name → array of any floating-point type.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    load: Callable[[str], np.ndarray]

    def read(self, name: str) -> np.ndarray:
        """One tensor as float64.

        Raises
        ------
        InvalidFileError
            Not of a floating-point type, too large, or with numbers that are not finite.
        """
        kind, shape = self.dtypes[name], self.shapes[name]
        if kind not in FLOAT_TYPES:
            raise InvalidFileError(f"{name} must be of type {', '.join(FLOAT_TYPES)}, not {kind!r} as in {self.path}")
        if prod(shape) > MAX_ELEMENTS:
            raise InvalidFileError(f"{name} must have at most {MAX_ELEMENTS} elements, not {shape} as in {self.path}")
        value = np.asarray(self.load(name), dtype=np.float64)
        if not np.isfinite(value).all():
            wrong = value[~np.isfinite(value)][0]
            raise InvalidFileError(f"{name} must be made of finite numbers, not {wrong} as in {self.path}")
        return value


def check_size(path: Path, kind: str) -> None:
    """Refuse what is no file, or one that cannot be meant.

    Raises
    ------
    InvalidFileError
    """
    try:
        if not path.is_file():
            raise InvalidFileError(f"{path} must be {kind}, not a missing file")
        size = path.stat().st_size
    except OSError as error:
        raise InvalidFileError(f"{path} must be {kind}: {error.strerror or error}") from None
    if not 0 < size <= MAX_FILE_BYTES:
        raise InvalidFileError(f"{path} must be of 1 to {MAX_FILE_BYTES} bytes, not {size}")


def open_tensors(path: str | Path) -> TensorFile:
    """Open a state_dict: ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` of ``torch.save``, or ``.safetensors``.

    Raises
    ------
    InvalidFileError
        Missing, damaged, or with anything in it that only code could make.
    MissingToolError
        A file of ``torch.save`` without torch.
    """
    path = Path(path)
    check_size(path, "a state_dict (.pt or .safetensors)")
    if path.suffix.lower() == ".safetensors":
        return _open_safetensors(path)
    try:
        from model.training.torch_file import open_torch
    except ImportError:
        raise MissingToolError(
            f"torch must be installed to read {path.name}: pip install torch==2.13.0, or save it as .safetensors"
        ) from None
    return open_torch(path)


def _open_safetensors(path: Path) -> TensorFile:
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
    """NumPy has no bfloat16: the upper half of a float32.  The header was checked when the file was opened."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start, end = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + start)
        halves = np.frombuffer(file.read(end - start), dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32)
