"""Reader of tensors in a TorchScript archive; it executes no code of the archive and needs no torch.

The archive stores the module as a pickle of nested objects.  Here every class of its own is replaced by an empty one,
and everything else that the pickle may call is one of the few functions below.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chessrnn.model.errors import InvalidFileError, reason, shown
from chessrnn.model.imported.recurrent_network import MAX_ELEMENTS
from chessrnn.model.imported.tensor_file import TensorFile, upper_halves

MAX_PICKLE_BYTES = 64 << 20
MAX_DEPTH = 64
# Types of torch's storages: name in a TensorFile, and how NumPy reads it.
STORAGES = {
    "FloatStorage": ("float32", "<f4"),
    "DoubleStorage": ("float64", "<f8"),
    "HalfStorage": ("float16", "<f2"),
    "BFloat16Storage": ("bfloat16", "<u2"),
}


class _Storage(NamedTuple):
    kind: str
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Module:
    """An object of the archive, whose attributes are those that the pickle stores."""

    def __new__(cls, *_):
        return super().__new__(cls)


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_quantized(*_) -> _Tensor:
    return _Tensor(_Storage("quantized", "", 0), 0, (0,), (1,))


def _first(value, *_):
    """Return the value that a function of torch.jit would only check or convert."""
    return value


class _Unpickler(pickle._Unpickler):
    """Unpickler that knows tensors, containers and empty modules.

    It is the version in Python: the one in C allocates as much memory as a damaged file asks for.
    """

    def find_class(self, module: str, name: str):
        """Return what stands for a class or a function of the archive."""
        if module.startswith("__torch__"):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_qtensor"):
            return _rebuild_quantized
        if module == "torch.jit._pickle":
            return _first
        if module == "torch" and name.endswith("Storage"):
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it needs the code of {module}.{name}; save model.state_dict() alone")

    def persistent_load(self, pid) -> _Storage:
        """Return a reference to the data of a storage."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("an unknown kind of reference")
        return _Storage(str(pid[1]), str(pid[2]), int(pid[4]))


def _tensors(module: object) -> Iterator[tuple[str, _Tensor]]:
    """Iterate over the tensors of a module and its sub-modules by name, each module once."""
    todo, seen = [("", module, 0)], set()
    while todo:
        prefix, value, depth = todo.pop()
        if id(value) in seen or depth > MAX_DEPTH:
            continue
        seen.add(id(value))
        for name, part in vars(value).items():
            if isinstance(part, _Tensor):
                yield f"{prefix}{name}", part
            elif isinstance(part, _Module):
                todo.append((f"{prefix}{name}.", part, depth + 1))


def _read(path: Path, entry: str, name: str, tensor: _Tensor) -> np.ndarray:
    """Read one tensor; bfloat16 becomes float32."""
    return read_stored(path, entry, name, *STORAGES[tensor.storage.kind], tensor.offset, tensor.shape, tensor.strides)


def read_stored(
    path: Path, entry: str, name: str, kind_name: str, code: str, offset: int, shape: tuple, strides: tuple
) -> np.ndarray:
    """Read a tensor whose raw data are an entry of an archive; bfloat16 becomes float32.

    Parameters
    ----------
    path, entry : path and str
        The archive, and the name of the entry.
    name : str
        Name of the tensor, for messages.
    kind_name, code : str
        Its type, as in ``STORAGES``.
    offset, shape, strides : int and tuples of int
        Where its elements are, counted in elements.
    """
    kind = np.dtype(code)
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(entry)
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > kind.itemsize * MAX_ELEMENTS:
                raise InvalidFileError(f"{path} must hold stored entries of a sensible size, not {shown(entry)}")
            data = np.frombuffer(archive.read(entry), dtype=kind)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, EOFError, RuntimeError) as error:  # the last: encrypted
        raise InvalidFileError(f"{name} must hold its data in {path}: {reason(error)}") from None
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=False))
    inside = len(shape) == len(strides) and min((*strides, offset), default=0) >= 0
    if not inside or last >= len(data):
        raise InvalidFileError(f"{name} must hold the data of its shape {list(shape)} in {path}")
    steps = [stride * kind.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided(data[offset:], shape, steps, writeable=False)
    return upper_halves(view.copy()) if kind_name == "bfloat16" else view.copy()


def open_torchscript(path: Path) -> TensorFile:
    """Open the parameters of a TorchScript archive by the names that they have in a state_dict.

    Raises
    ------
    InvalidFileError
        The archive is damaged, or its parameters are frozen into its code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.partition("/")[2] == "data.pkl"]
            if len(names) != 1:
                raise InvalidFileError(f"{path} must be a TorchScript archive with one data.pkl, not {len(names)}")
            size = archive.getinfo(names[0]).file_size
            if size > MAX_PICKLE_BYTES:
                raise InvalidFileError(f"data.pkl of {path} must have at most {MAX_PICKLE_BYTES} bytes, not {size}")
            with archive.open(names[0]) as file:
                content = _Unpickler(file, encoding="utf-8").load()
    except InvalidFileError:
        raise
    except Exception as error:  # A damaged pickle or archive ends in a dozen kinds of exception.
        raise InvalidFileError(f"{path} must be a readable TorchScript archive: {reason(error)}") from None
    found = dict(_tensors(content)) if isinstance(content, _Module) else {}
    if not found:
        way = "save state_dict() of the module before torch.jit.freeze"
        raise InvalidFileError(f"{path} must be a TorchScript archive with parameters, not a frozen one: {way}")
    folder = names[0].removesuffix("data.pkl")

    def load(name: str) -> np.ndarray:
        tensor = found[name]
        if prod(tensor.shape) == 0:
            return np.zeros(tensor.shape)
        return _read(path, f"{folder}data/{tensor.storage.key}", name, tensor)

    shapes = {name: tensor.shape for name, tensor in found.items()}
    dtypes = {name: STORAGES.get(tensor.storage.kind, (tensor.storage.kind,))[0] for name, tensor in found.items()}
    return TensorFile(path, shapes, dtypes, load)
