"""ONNX model whose recurrent layers compute the accelerator's integers, while onnxruntime runs everything else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chessrnn.model.errors import InvalidFileError, InvalidValueError, MissingToolError, require, shown
from chessrnn.model.hybrid.border import Border
from chessrnn.model.weights import NetworkWeights

try:
    import onnx
    import onnxruntime
except ImportError as error:
    name = error.name or "onnxruntime"
    raise MissingToolError(f"{name} must be installed to run ONNX models: pip install 'chessrnn[hybrid]'") from None

from chessrnn.model.hybrid.onnx_cut import (
    FIRST_C,
    FIRST_H,
    LENGTHS,
    X,
    chain,
    cut,
    info_of,
    next_branch,
    part,
    taken,
    whole_model,
)
from chessrnn.model.imported.recurrent_network import RecurrentNetwork

# Types of a graph's inputs that feeds are converted to.
KINDS = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16, "tensor(bool)": np.bool_,
}  # fmt: skip
# onnxruntime's level of messages for errors alone.
ERRORS = 3


class _Parts(NamedTuple):
    """Sessions of both parts of a graph, and what lies between them."""

    before: onnxruntime.InferenceSession
    behind: onnxruntime.InferenceSession
    wanted: list[str]
    given: list[str]
    nodes: list[onnx.NodeProto]
    network: RecurrentNetwork


class OnnxHybrid:
    """A whole ONNX model whose recurrent layers compute the integers of the accelerator.

    Parameters
    ----------
    path : path
        File of the model.
    weights : NetworkWeights
        Integers of its recurrent layers, as ``chessrnn convert`` or training made them.
    prefix : str, optional
        Beginning of the names of the recurrent nodes to replace; left out, all.  The others stay as they are.
    keep_state : bool
        Whether every call of :meth:`run` begins with the state that the one before left, until :meth:`reset`.
    record : bool
        Whether to keep what went through the accelerator, for a simulation.

    Attributes
    ----------
    border : Border
        Conversion between the model's numbers and integers, with the count of saturated inputs.
    inputs, outputs : list of str
        Names of the model's inputs and outputs.

    Raises
    ------
    UserError
        The file is damaged, has no such recurrent nodes, or other ones than the weights belong to.
    """

    def __init__(
        self,
        path: str | Path,
        weights: NetworkWeights,
        prefix: str | None = None,
        keep_state: bool = False,
        record: bool = False,
    ):
        self.path, self.prefix = Path(path), prefix
        self.border = Border(weights, keep_state, record)
        self._model = whole_model(self.path)
        self._original = self._session(self._model)
        self._given = {info.name: info for info in self._original.get_inputs()}
        self.inputs, self.outputs = list(self._given), [info.name for info in self._original.get_outputs()]
        # Graphs in which the branches of If are taken, by the conditions that led there.
        self._models: dict[tuple[bool, ...], onnx.ModelProto] = {(): self._model}
        self._conditions: dict[tuple[bool, ...], tuple[int | None, Any]] = {}
        self._parts: dict[tuple[bool, ...], _Parts] = {}
        if self._condition(()) is None:
            self._cut(())

    # -- graphs ----------------------------------------------------------------------------------------------------

    def _session(self, model: onnx.ModelProto) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common class but this one.
            raise InvalidFileError(f"{self.path} must be a model that onnxruntime runs: {_reason(error)}") from None

    def _condition(self, path: tuple[bool, ...]):
        """Session that computes the condition of the next If on the way to the recurrent nodes; ``None`` for none."""
        if path not in self._conditions:
            model = self._models[path]
            index = next_branch(self.path, model, self.prefix)
            session = None
            if index is not None:
                condition = info_of(model.graph.node[index].input[0], onnx.TensorProto.BOOL)
                session = self._session(part(model, [condition], []))
            self._conditions[path] = index, session
        return self._conditions[path][1]

    def _cut(self, path: tuple[bool, ...]) -> _Parts:
        """Cut the graph of some taken branches, and check that its recurrent nodes are those of the weights."""
        if path not in self._parts:
            model = self._models[path]
            network = chain(self.path, model, self.prefix)
            self._check(network)
            pieces = cut(self.path, model, self.prefix)
            self._parts[path] = _Parts(
                self._session(pieces.before), self._session(pieces.behind), pieces.wanted, pieces.given, pieces.nodes,
                network,
            )  # fmt: skip
        return self._parts[path]

    def _check(self, network: RecurrentNetwork) -> None:
        """Compare the sizes of the recurrent nodes with those of the weights."""
        own, first = self.border.config.network, network.layers[0]
        directions = {layer.direction for layer in network.layers}
        require(len(directions) == 1, "recurrent nodes", "of one direction", sorted(directions))
        hidden = tuple(layer.hidden_size for layer in network.layers)
        sizes = {"num_layers": len(network.layers), "input_size": network.input_size, "hidden_sizes": hidden,
                 "bidirectional": first.direction == "bidirectional"}  # fmt: skip
        for name, found in sizes.items():
            require(getattr(own, name) == found, f"{name} of the weights", f"{found} as in {self.path}",
                    getattr(own, name))  # fmt: skip
        require(own.cell.startswith(first.cell), "the cell of the weights", f"{first.cell} as in {self.path}", own.cell)

    def _parts_for(self, feeds: Mapping[str, np.ndarray]) -> _Parts:
        """Return the cut graph for the branches that a call takes."""
        path: tuple[bool, ...] = ()
        while (session := self._condition(path)) is not None:
            value = bool(np.asarray(self._compute(session, feeds)[0]).reshape(-1)[0])
            index, model = self._conditions[path][0], self._models[path]
            assert index is not None
            longer = (*path, value)
            if longer not in self._models:
                self._models[longer] = taken(model, index, value)
            path = longer
        return self._cut(path)

    def input_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an input as the model declares it, 1 for an axis of any size."""
        return tuple(size if isinstance(size, int) and size > 0 else 1 for size in self._given[name].shape)

    # -- runs ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the state that ``keep_state`` keeps."""
        self.border.reset()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run the model with the accelerator's integers.

        Parameters
        ----------
        inputs : mapping of str to array
            Every input of the model by its name.

        Returns
        -------
        dict of str to array
            Every output by its name.

        Raises
        ------
        UserError
            An input is missing, unknown or of another shape.
        """
        feeds = self._checked(inputs)
        parts = self._parts_for(feeds)
        values = dict(zip(parts.wanted, self._compute(parts.before, feeds), strict=True))
        written = self._recurrent(parts, values)
        found = self._compute(parts.behind, feeds | {name: written[name] for name in parts.given})
        return dict(zip(self.outputs, found, strict=True))

    def run_float(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run the model as it is."""
        return dict(zip(self.outputs, self._compute(self._original, self._checked(inputs)), strict=True))

    def _checked(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Check the names of the inputs, and convert them to the types of the model."""
        for name in feeds:
            require(name in self._given, "an input", f"one of {', '.join(self.inputs)}", name)
        result = {}
        for name, info in self._given.items():
            if name not in feeds:
                raise InvalidValueError(f"the input {shown(name)} must be given, not left out")
            kind = KINDS.get(info.type)
            require(kind is not None, f"the input {name!r}", "an array of numbers", info.type)
            result[name] = np.asarray(feeds[name], dtype=kind)
        return result

    def _compute(self, session: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        names = {info.name for info in session.get_inputs()}
        if not session.get_outputs():
            return []
        try:
            found = session.run(None, {name: value for name, value in feeds.items() if name in names})
            return [np.asarray(value) for value in found]
        except Exception as error:  # As above.
            raise InvalidValueError(f"inputs must be such as {self.path} takes: {_reason(error)}") from None

    def _recurrent(self, parts: _Parts, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute what all recurrent nodes write."""
        first = parts.nodes[0]
        value = values[first.input[X]]
        layouts = [_batch_first(node) for node in parts.nodes]
        x = value.swapaxes(0, 1) if layouts[0] else value
        require(x.ndim == 3, f"x of {first.input[X]!r}", "of three dimensions", value.shape)
        directions = self.border.config.directions
        state: list[tuple[np.ndarray | None, np.ndarray | None]] = []
        for node, batch_first in zip(parts.nodes, layouts, strict=True):
            read = [_given(node, place, values) for place in (FIRST_H, FIRST_C)]
            pair = [part.swapaxes(0, 1) if part is not None and batch_first else part for part in read]
            state += [
                (None if pair[0] is None else pair[0][way], None if pair[1] is None else pair[1][way])
                for way in range(directions)
            ]
        lengths = _given(first, LENGTHS, values)
        is_reverse = parts.network.layers[0].direction == "reverse"
        order = _reversal(x, lengths) if is_reverse else None
        found = self.border.run(x if order is None else x[order], state, lengths)
        written: dict[str, np.ndarray] = {}
        for number, (node, batch_first) in enumerate(zip(parts.nodes, layouts, strict=True)):
            h = found.h[number] if order is None else found.h[number][order]
            h = h.reshape(*h.shape[:2], directions, -1)  # (T, B, D, H)
            own = found.state[number * directions : (number + 1) * directions]
            finals = [np.stack(each) for each in zip(*own, strict=True)]  # (D, B, H)
            arrays = [
                h.transpose(1, 0, 2, 3) if batch_first else h.transpose(0, 2, 1, 3),
                *(each.swapaxes(0, 1) if batch_first else each for each in finals),
            ]
            for name, array in zip(node.output, arrays, strict=False):
                if name:
                    written[name] = np.ascontiguousarray(array, dtype=value.dtype)
        return written


def _batch_first(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "layout" and attribute.i == 1 for attribute in node.attribute)


def _given(node: onnx.NodeProto, place: int, values: dict[str, np.ndarray]) -> np.ndarray | None:
    return values[node.input[place]] if len(node.input) > place and node.input[place] else None


def _reversal(x: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Index that reverses every sequence within its own length."""
    steps, batch, _ = x.shape
    t = np.arange(steps)[:, None]
    own = np.full(batch, steps) if lengths is None else lengths
    return np.where(t < own, own - 1 - t, t), np.arange(batch)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
