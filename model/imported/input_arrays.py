"""Arrays of an .npz file: weights that an ONNX model takes as inputs, or those of a whole state_dict."""

import zipfile
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidFileError, reason, shown
from chessrnn.model.imported.recurrent_network import MAX_ELEMENTS
from chessrnn.model.imported.tensor_file import TensorFile, check_size

MAX_ARRAYS = 1024
# Largest element that a network uses, and room for the header of an array.
MAX_ARRAY_BYTES = 8 * MAX_ELEMENTS + 65536


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Load all arrays of an .npz file.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, too large once it is decompressed, or holds something other than numbers.
    """
    path = Path(path)
    check_size(path, "an .npz file of arrays")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [entry.file_size for entry in archive.infolist()]
        if len(sizes) > MAX_ARRAYS or sum(sizes) > MAX_ARRAY_BYTES:
            rule = f"at most {MAX_ARRAYS} arrays of {MAX_ARRAY_BYTES} bytes in all"
            raise InvalidFileError(f"{path} must hold {rule}, not {len(sizes)} of {sum(sizes)}")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except MemoryError as error:
        # The header of an array may claim any size, whatever the file holds.
        raise InvalidFileError(f"{path} must hold arrays that fit into memory: {error}") from None
    except InvalidFileError:
        raise
    except Exception as error:  # Every method of compression has an exception of its own, and so has encryption.
        raise InvalidFileError(f"{path} must be an .npz file of arrays: {reason(error)}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise InvalidFileError(f"{shown(name)} must be an array of numbers in {path}")
    return arrays


def open_npz(path: Path) -> TensorFile:
    """Open an .npz file whose arrays are called as in a state_dict.

    Raises
    ------
    InvalidFileError
        The file is damaged, or holds no arrays of numbers; see :func:`load_arrays`.
    """
    arrays = load_arrays(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    dtypes = {name: str(array.dtype) for name, array in arrays.items()}
    return TensorFile(path, shapes, dtypes, arrays.__getitem__)
