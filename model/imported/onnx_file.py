"""Reader of an ONNX file's graph and constants, which checks sizes and executes nothing."""

from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.recurrent_network import MAX_ELEMENTS
from chessrnn.model.imported.tensor_file import check_size

# Since this version of the default domain the meaning of the recurrent operators has not changed.
MIN_OPSET = 7
MAX_NODES = 100_000


def read_model(path: Path) -> onnx.ModelProto:
    """Read the model without its external data.

    Raises
    ------
    InvalidFileError
        The file is missing, damaged or too large, or its operator set is older than ``MIN_OPSET``.
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
    """Return the version of the default operator set; 0 when the model does not name it."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def constant(path: Path, tensor: TensorProto, name: str) -> np.ndarray:
    """Read the values of a tensor that is stored in the file or in another file beside it.

    Raises
    ------
    InvalidFileError
        The tensor is too large, its data does not match its shape, or external data is outside the model's folder.
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
    """Copy a tensor and load its external data; ``onnx`` rejects links and locations outside the model's folder."""
    size = prod(shape) * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    loaded = TensorProto()
    loaded.CopyFrom(tensor)
    lengths = [entry.value for entry in loaded.external_data if entry.key == "length"]
    if lengths and lengths != [str(size)]:
        raise ValueError(f"external data must have {size} bytes, not {lengths[0]}")
    if not lengths:
        # Without a length the rest of the other file would be read, whatever its size.
        loaded.external_data.add(key="length", value=str(size))
    external_data_helper.load_external_data_for_tensor(loaded, str(path.resolve().parent))
    return loaded
