"""An ONNX file's graph and constants, within bounds and without executing anything."""

from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.recurrent_network import MAX_ELEMENTS
from chessrnn.model.imported.tensor_file import check_size

# From this version of the default domain on, the recurrent operators mean what they mean today.
MIN_OPSET = 7
MAX_NODES = 100_000


def read_model(path: Path) -> onnx.ModelProto:
    """The model without its external data.

    Raises
    ------
    InvalidFileError
        Missing, damaged, too large, or of operators older than ``MIN_OPSET``.
    """
    check_size(path, "an ONNX model")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (DecodeError, ValueError, OSError) as error:
        raise InvalidFileError(f"{path} must be a whole ONNX model: {error}") from None
    if not model.graph.node:
        raise InvalidFileError(f"{path} must be a whole ONNX model, not one without operators")
    if len(model.graph.node) > MAX_NODES:
        raise InvalidFileError(f"{path} must have at most {MAX_NODES} operators, not {len(model.graph.node)}")
    version = opset(model)
    if version < MIN_OPSET:
        raise InvalidFileError(f"{path} must be of operator set {MIN_OPSET} or newer, not {version}")
    return model


def opset(model: onnx.ModelProto) -> int:
    """Version of the default domain; 0 when the model does not name it."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def constant(path: Path, tensor: TensorProto, name: str) -> np.ndarray:
    """Values of a tensor that the file holds, or that stands in a file beside it.

    Raises
    ------
    InvalidFileError
        Too large, or with less or more data than its shape wants; external data outside of the model's folder.
    """
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0 or prod(shape) > MAX_ELEMENTS:
        raise InvalidFileError(f"{name} must have at most {MAX_ELEMENTS} elements, not {list(shape)} as in {path}")
    try:
        if external_data_helper.uses_external_data(tensor):
            tensor = _external(path, tensor, shape)
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OSError, onnx.checker.ValidationError) as error:
        raise InvalidFileError(f"{name} must hold the data of its shape {list(shape)} in {path}: {error}") from None


def _external(path: Path, tensor: TensorProto, shape: tuple[int, ...]) -> TensorProto:
    """A copy with the data in it.  ``onnx`` itself refuses a location outside of the folder and a link."""
    size = prod(shape) * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    loaded = TensorProto()
    loaded.CopyFrom(tensor)
    lengths = [entry.value for entry in loaded.external_data if entry.key == "length"]
    if lengths and lengths != [str(size)]:
        raise ValueError(f"external data must have {size} bytes, not {lengths[0]}")
    if not lengths:
        # Without it the rest of the other file would be read, whatever its size.
        loaded.external_data.add(key="length", value=str(size))
    external_data_helper.load_external_data_for_tensor(loaded, str(path.resolve().parent))
    return loaded
