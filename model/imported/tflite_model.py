"""Graphs of a TensorFlow Lite model, as they are stored: operators, tensors and their numbers; nothing is executed."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tflite.BuiltinOperator import BuiltinOperator
from tflite.Model import Model
from tflite.TensorType import TensorType

from chessrnn.model.errors import InvalidFileError, shown
from chessrnn.model.imported.recurrent_network import MAX_ELEMENTS
from chessrnn.model.imported.tensor_file import check_size

KIND = "a TensorFlow Lite model"
# A flatbuffer cannot be larger: its offsets are of 32 bits.
MAX_BYTES = 1 << 31
MAX_PARTS = 100_000
MAX_GRAPHS = 1_000
# Names, shapes and inputs that are unpacked: a small file could state the same large one for many tensors.
MAX_UNPACKED = 1 << 24
NAMES = {number: name for name, number in vars(BuiltinOperator).items() if isinstance(number, int)}
TYPE_NAMES = {number: name.lower() for name, number in vars(TensorType).items() if isinstance(number, int)}
FLOATS = {TensorType.FLOAT32: "<f4", TensorType.FLOAT16: "<f2", TensorType.FLOAT64: "<f8"}
INTEGERS = {TensorType.INT8: "<i1", TensorType.UINT8: "<u1", TensorType.INT16: "<i2", TensorType.INT32: "<i4"}
LEFT_OUT = -1


class Tensor(NamedTuple):
    """A tensor of a graph; the numbers of one that is computed are in an empty buffer."""

    name: str
    shape: tuple[int, ...]
    type: int
    buffer: int
    is_variable: bool
    is_sparse: bool
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int


@dataclass(frozen=True)
class Operator:
    """An operator of a graph.

    Attributes
    ----------
    kind : str
        Name, as ``"FULLY_CONNECTED"``, or that of a custom operator.
    inputs, outputs : tuple of int
        Numbers of tensors; -1 is an input that is left out.
    options : flatbuffers table or None
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    def read(self, table) -> Any:
        """Read the options as a table of some class."""
        found = table()
        if self.options is not None:
            found.Init(self.options.Bytes, self.options.Pos)
        return found


class _Unpacking:
    """Unpacks texts and lists of a model up to a total size."""

    def __init__(self, path: Path):
        self.path, self.left = path, MAX_UNPACKED

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise InvalidFileError(f"{self.path} must have names, shapes and inputs of at most {MAX_UNPACKED} in all")

    def text(self, value: bytes | None) -> str:
        """Decode a text."""
        self._spend(len(value or b""))
        return (value or b"").decode("utf-8")

    def integers(self, values: Any) -> tuple[int, ...]:
        """Unpack a vector of integers."""
        found = _numbers(values)
        self._spend(len(found))
        return tuple(found.tolist())


def _numbers(values: Any) -> np.ndarray:
    """Return a vector of a flatbuffer, for which its library gives 0 where it is left out."""
    return values if isinstance(values, np.ndarray) else np.zeros(0, dtype=np.int64)


class Graph:
    """One graph of a model: its operators and tensors, and which operators write and read a tensor."""

    def __init__(self, path: Path, model: Model, number: int, kinds: list[str], unpacking: _Unpacking):
        self.path, self.model, self.unpacking = path, model, unpacking
        graph = model.Subgraphs(number)
        if graph is None or max(graph.TensorsLength(), graph.OperatorsLength()) > MAX_PARTS:
            raise InvalidFileError(f"{path} must have graphs of at most {MAX_PARTS} tensors and operators")
        self.inputs = set(unpacking.integers(graph.InputsAsNumpy()))
        self.tensors = [self._tensor(graph.Tensors(index)) for index in range(graph.TensorsLength())]
        self.operators = [self._operator(graph.Operators(index), kinds) for index in range(graph.OperatorsLength())]
        self.makers = {index: op for op in self.operators for index in op.outputs}
        self.readers: dict[int, list[Operator]] = {}
        for op in self.operators:
            for index in op.inputs:
                self.readers.setdefault(index, []).append(op)

    def _tensor(self, tensor: Any) -> Tensor:
        quantization = tensor.Quantization()
        scales = zeros = np.zeros(0)
        axis = 0
        if quantization is not None:
            scales, zeros = _numbers(quantization.ScaleAsNumpy()), _numbers(quantization.ZeroPointAsNumpy())
            axis = quantization.QuantizedDimension()
        name, shape = self.unpacking.text(tensor.Name()), self.unpacking.integers(tensor.ShapeAsNumpy())
        sparse = tensor.Sparsity() is not None
        kind, buffer, variable = tensor.Type(), tensor.Buffer(), tensor.IsVariable()
        return Tensor(name, shape, kind, buffer, variable, sparse, scales, zeros, axis)

    def _operator(self, op: Any, kinds: list[str]) -> Operator:
        inputs, outputs = map(self.unpacking.integers, (op.InputsAsNumpy(), op.OutputsAsNumpy()))
        wrong = [index for index in (*inputs, *outputs) if not LEFT_OUT <= index < len(self.tensors)]
        if wrong:
            raise InvalidFileError(f"{self.path} must have operators on its tensors, not on number {wrong[0]}")
        return Operator(kinds[op.OpcodeIndex()], inputs, outputs, op.BuiltinOptions())

    def label(self, op: Operator) -> str:
        """Name an operator, which has no name of its own, by its first output."""
        return self.tensors[op.outputs[0]].name if op.outputs and op.outputs[0] >= 0 else op.kind

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor as the file states it."""
        return self.tensors[index].shape

    def is_constant(self, index: int) -> bool:
        """Whether the file holds the numbers of a tensor."""
        return index not in self.makers and index not in self.inputs and bool(len(self.data(index)))

    def data(self, index: int) -> np.ndarray:
        """Return the bytes of a tensor, none of one that is computed."""
        buffer = self.tensors[index].buffer
        found = self.model.Buffers(buffer) if buffer < self.model.BuffersLength() else None
        if found is None:
            raise InvalidFileError(f"{self.path} must have tensors in its buffers, not in number {buffer}")
        if found.Offset() > 1:
            raise InvalidFileError(f"{self.path} must hold the data of its tensors in its flatbuffer, not behind it")
        return _numbers(found.DataAsNumpy())

    def constant(self, index: int, field: str, shape: tuple[int, ...]) -> np.ndarray:
        """Read the numbers of a constant as float64; integers are multiplied by their scales, which is exact.

        Parameters
        ----------
        index : int
            Number of the tensor; of the result of DEQUANTIZE, as half-precision weights have it, the operand is read.
        field : str
            What it is, for messages.
        shape : tuple of int
            Shape that it must have, 0 being any size.

        Raises
        ------
        InvalidFileError
            It is computed, of another shape or type, or its numbers are missing or not finite.
        """
        maker = self.makers.get(index)
        if maker is not None and maker.kind == "DEQUANTIZE":
            (index,) = maker.inputs
            if index == LEFT_OUT:
                raise InvalidFileError(f"{field} must be a constant, not DEQUANTIZE without an input in {self.path}")
        tensor = self.tensors[index]
        if not self.is_constant(index):
            maker = self.makers.get(index)
            value = f"the output of {maker.kind}" if maker else f"the input {shown(tensor.name)}"
            raise InvalidFileError(f"{field} must be a constant, not {value} in {self.path}")
        fits = len(tensor.shape) == len(shape)
        fits = fits and all(size in (0, found) for size, found in zip(shape, tensor.shape, strict=True))
        if not fits or min(tensor.shape, default=1) < 1 or prod(tensor.shape) > MAX_ELEMENTS:
            rule = f"of shape {[size or 'any' for size in shape]} and at most {MAX_ELEMENTS} elements"
            raise InvalidFileError(f"{field} must be {rule}, not {list(tensor.shape)} in {self.path}")
        code = FLOATS.get(tensor.type) or INTEGERS.get(tensor.type)
        if code is None or tensor.is_sparse:
            kind = f"{'sparse ' * tensor.is_sparse}{TYPE_NAMES.get(tensor.type, tensor.type)}"
            raise InvalidFileError(f"{field} must be dense floats, int8, uint8, int16 or int32, not {kind}")
        data = self.data(index)
        if len(data) != prod(tensor.shape) * np.dtype(code).itemsize:
            raise InvalidFileError(f"{field} must hold the data of its shape {list(tensor.shape)} in {self.path}")
        values = data.view(code).reshape(tensor.shape).astype(np.float64)
        if tensor.type in INTEGERS:
            values = self._dequantized(tensor, values, field)
        if not np.isfinite(values).all():
            raise InvalidFileError(f"{field} must be made of finite numbers in {self.path}")
        return values

    def _dequantized(self, tensor: Tensor, codes: np.ndarray, field: str) -> np.ndarray:
        """Compute (q - zero point) · scale; a difference of two bytes times a float32 is exact in float64."""
        scales = tensor.scales.astype(np.float64)
        zeros = tensor.zero_points.astype(np.float64) if len(tensor.zero_points) else np.zeros(len(scales))
        sizes = [1] * codes.ndim
        if len(scales) != 1:
            if not 0 <= tensor.axis < codes.ndim or len(scales) != codes.shape[tensor.axis]:
                rule = "quantized with one scale, or one for each of its rows"
                raise InvalidFileError(f"{field} must be {rule}, not {len(scales)} in {self.path}")
            sizes[tensor.axis] = len(scales)
        if len(zeros) != len(scales):
            raise InvalidFileError(f"{field} must have as many zero points as scales in {self.path}")
        return (codes - zeros.reshape(sizes)) * scales.reshape(sizes)


def read_graphs(path: Path) -> list[Graph]:
    """Read the graphs of a model.

    A damaged flatbuffer ends in exceptions of a dozen kinds, here or later, which the caller turns into one.

    Raises
    ------
    InvalidFileError
        The file is missing, too large, or no such model.
    """
    check_size(path, KIND)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InvalidFileError(f"{path} must have at most {MAX_BYTES} bytes, not {size}")
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise InvalidFileError(f"{path} must be {KIND}, which has TFL3 after its first four bytes")
    model = Model.GetRootAs(content, 0)
    counts = model.OperatorCodesLength(), model.SubgraphsLength(), model.BuffersLength()
    if counts[1] > MAX_GRAPHS or max(counts) > MAX_PARTS:
        rule = f"at most {MAX_GRAPHS} graphs, and {MAX_PARTS} kinds of operators and buffers"
        raise InvalidFileError(f"{path} must have {rule}, not {counts}")
    kinds, unpacking = [], _Unpacking(path)
    for number in range(counts[0]):
        code = model.OperatorCodes(number)
        assert code is not None  # counted just now
        # Numbers that fitted into a byte are in the field of older files.
        kind = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        name = unpacking.text(code.CustomCode()) if kind == BuiltinOperator.CUSTOM else NAMES.get(kind, "")
        kinds.append(name or f"operator {kind}")
    return [Graph(path, model, number, kinds, unpacking) for number in range(counts[1])]
