"""Search for recurrent nodes in an ONNX model, its sub-graphs and its local functions.

A node is named by its path: the names of the nodes and attributes that contain it, as in ``If_3/then_branch/rnn``.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import inliner

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.listing import listed
from chessrnn.model.imported.onnx_file import MAX_NODES
from chessrnn.model.imported.onnx_loop import is_plain
from chessrnn.model.imported.onnx_probe import DEFAULT_DOMAINS, describe

# Operators of one recurrent layer by domain and name, and their cell.
RECURRENT = {
    **{(domain, op): op.lower() for domain in DEFAULT_DOMAINS for op in ("LSTM", "GRU", "RNN")},
    ("com.microsoft", "DynamicQuantizeLSTM"): "lstm",
}
MAX_DEPTH = 16
LOOPS = ("Loop", "Scan")
PRODUCTS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class Scope:
    """A graph with the graphs around it, whose tensors its nodes may read.

    Attributes
    ----------
    path : str
        Path of the graph; empty for the model's own graph.
    graphs : tuple of GraphProto
        Graphs from the model's own to this one.
    places : tuple of int
        For every graph but the last, the index of the node that contains the next one.
    """

    path: str
    graphs: tuple[onnx.GraphProto, ...]
    places: tuple[int, ...] = ()

    def path_of(self, node: onnx.NodeProto) -> str:
        """Name a node of this graph by its path."""
        return f"{self.path}/{label(node)}" if self.path else label(node)

    def nodes(self) -> list[onnx.NodeProto]:
        """List the nodes that can run before or in this graph, in order; its own nodes come last."""
        outer = [graph.node[:place] for graph, place in zip(self.graphs, self.places, strict=False)]
        return [node for part in (*outer, self.graphs[-1].node) for node in part]

    def all_nodes(self) -> Iterator[onnx.NodeProto]:
        """Iterate over all nodes of all these graphs, except those that contain one of the graphs."""
        for depth, graph in enumerate(self.graphs):
            inside = self.places[depth] if depth < len(self.places) else None
            yield from (node for index, node in enumerate(graph.node) if index != inside)


@dataclass(frozen=True)
class Found:
    """A recurrent node.

    Attributes
    ----------
    scope : Scope
    index : int
        Position in :meth:`Scope.nodes`.
    path : str
    """

    scope: Scope
    index: int
    path: str


def label(node: onnx.NodeProto) -> str:
    """Name a node: by its name, else by its first output, else by its operator."""
    name = node.name or next(iter(node.output), "") or node.op_type
    # protobuf gives a text as bytes that is not UTF-8.
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def cell_of(node: onnx.NodeProto) -> str | None:
    """Name the cell of a recurrent node; ``None`` for any other node."""
    return RECURRENT.get((node.domain, node.op_type))


def _subgraphs(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}_{number}", graph


def scopes(path: Path, model: onnx.ModelProto) -> list[Scope]:
    """List the model's graph and all sub-graphs.

    Raises
    ------
    InvalidFileError
        There are more than ``MAX_NODES`` nodes, or graphs are nested more than ``MAX_DEPTH`` deep.
    """
    result, todo, count = [], [Scope("", (model.graph,))], 0
    while todo:
        scope = todo.pop()
        result.append(scope)
        count += len(scope.graphs[-1].node)
        if count > MAX_NODES:
            raise InvalidFileError(f"{path} must have at most {MAX_NODES} operators with those of its sub-graphs")
        inner = [
            Scope(f"{scope.path_of(node)}/{name}", (*scope.graphs, graph), (*scope.places, index))
            for index, node in enumerate(scope.graphs[-1].node)
            for name, graph in _subgraphs(node)
        ]
        if inner and len(scope.graphs) == MAX_DEPTH:
            raise InvalidFileError(f"{path} must have sub-graphs nested at most {MAX_DEPTH} deep, not deeper")
        todo += reversed(inner)
    return result


def without_functions(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace calls of the model's local functions by their nodes.

    Raises
    ------
    InvalidFileError
        The functions call themselves, expand to more than ``MAX_NODES`` nodes, or cannot be expanded.
    """
    if not model.functions:
        return model
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes, active: tuple) -> int:
        total = 0
        for node in nodes:
            key = node.domain, node.op_type
            if key in active:
                raise InvalidFileError(f"{path} must have functions that do not call themselves, not {node.op_type!r}")
            if key in functions and key not in sizes:
                if len(active) == MAX_DEPTH:
                    raise InvalidFileError(f"{path} must have functions that call each other at most {MAX_DEPTH} deep")
                sizes[key] = size(functions[key].node, (*active, key))
            total += sizes.get(key, 1) + sum(size(graph.node, active) for _, graph in _subgraphs(node))
            if total > MAX_NODES:
                raise InvalidFileError(f"{path} must have at most {MAX_NODES} operators with those of its functions")
        return total

    try:
        size(model.graph.node, ())
        return inliner.inline_local_functions(model)
    except InvalidFileError:
        raise
    except Exception as error:  # The inliner raises whatever its C++ code does.
        reason = " ".join(str(error).split())[:100]
        raise InvalidFileError(f"{path} must have functions that can be expanded: {reason}") from None


def recurrent_nodes(everything: list[Scope]) -> list[Found]:
    """List the recurrent nodes of some graphs."""
    return [
        Found(scope, sum(scope.places) + index, scope.path_of(node))
        for scope in everything
        for index, node in enumerate(scope.graphs[-1].node)
        if cell_of(node) is not None
    ]


def plain_loops(everything: list[Scope]) -> list[Found]:
    """List the nodes Loop and Scan whose body may be one cell."""
    return [
        Found(scope, sum(scope.places) + index, scope.path_of(node))
        for scope in everything
        for index, node in enumerate(scope.graphs[-1].node)
        if is_plain(node)
    ]


def find(path: Path, model: onnx.ModelProto, prefix: str | None, with_loops: bool = False) -> list[Found]:
    """Find the recurrent nodes that are to be read, all in one graph.

    Parameters
    ----------
    path : Path
        File of the model, for messages.
    model : ModelProto
        Model without local functions.
    prefix : str, optional
        Path of a node, or else the beginning of the paths of the nodes; every recurrent node when left out.
    with_loops : bool
        Whether a Loop or Scan with the body of one cell counts where there is no recurrent node.

    Raises
    ------
    InvalidFileError
        There is no recurrent node, none begins with ``prefix``, or several graphs hold one.
    """
    everything = scopes(path, model)
    found = recurrent_nodes(everything) or (plain_loops(everything) if with_loops else [])
    if not found:
        raise InvalidFileError(f"{path} must hold an LSTM, GRU or RNN node, not {_instead(everything)}")
    # The name of a node may begin the name of another.
    chosen = [one for one in found if one.path == prefix] or [one for one in found if one.path.startswith(prefix or "")]
    names = [one.path for one in found]
    if not chosen:
        raise InvalidFileError(f"--prefix must begin the name of a node ({listed(names)}) of {path}, not {prefix!r}")
    if len({id(one.scope) for one in chosen}) > 1:
        names = [one.path for one in chosen]
        raise InvalidFileError(f"--prefix must begin the name of one of {listed(names)}: {path} has several graphs")
    return chosen


def _instead(everything: list[Scope]) -> str:
    """Name what a model without recurrent nodes holds instead, and one way on."""
    nodes = [(scope, node) for scope in everything for node in scope.graphs[-1].node]
    for scope, node in nodes:
        if node.op_type in LOOPS and node.domain in DEFAULT_DOMAINS:
            way = "export nn.LSTM or nn.GRU, or Keras layers without Masking and with reset_after=True"
            return f"the recurrence in {node.op_type} {scope.path_of(node)!r}: {way}"
    for _, node in nodes:
        if node.domain not in DEFAULT_DOMAINS and any(name in node.op_type.upper() for name in ("LSTM", "GRU", "RNN")):
            return f"{node.domain}.{describe(node)}: export the float model without fusion or quantization"
    count = Counter(node.op_type for _, node in nodes)
    product = next((op for op in PRODUCTS if count[op]), None)
    if product and count["Sigmoid"] and count["Tanh"]:
        way = "export nn.LSTM instead of nn.LSTMCell, or Keras layers with unroll=False"
        return f"a cell written as {product}, Sigmoid and Tanh: {way}"
    if product and count["Tanh"] > 1:
        way = "export nn.RNN instead of nn.RNNCell, or Keras layers with unroll=False"
        return f"{product} and Tanh, as of a cell that is written out: {way}"
    return f"only {', '.join(op for op, _ in count.most_common(4))}"
