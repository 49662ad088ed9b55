"""Cut of an ONNX graph around its recurrent nodes: what runs before them, and what runs behind.

A recurrent node in a branch of an ``If`` is reached by taking the branch: its nodes move into the graph around it.
Which branch a call takes depends on its inputs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported import onnx_file, onnx_search
from chessrnn.model.imported.onnx_graph import read_network
from chessrnn.model.imported.onnx_probe import describe
from chessrnn.model.imported.recurrent_network import RecurrentNetwork

# Places of a node's inputs: x, lengths of the sequences, first h and c.
X, LENGTHS, FIRST_H, FIRST_C = 0, 4, 5, 6


class Cut(NamedTuple):
    """A graph in two parts, without its recurrent nodes.

    Attributes
    ----------
    before : ModelProto
        Computes ``wanted`` from the inputs of the model.
    behind : ModelProto
        Computes the outputs of the model from its inputs and from ``given``.
    wanted : list of str
        Tensors that the recurrent nodes read: x, lengths and first states.
    given : list of str
        Tensors that the recurrent nodes write, as far as something reads them.
    nodes : list of NodeProto
        The recurrent nodes, the first layer first.
    """

    before: onnx.ModelProto
    behind: onnx.ModelProto
    wanted: list[str]
    given: list[str]
    nodes: list[onnx.NodeProto]


def whole_model(path: Path) -> onnx.ModelProto:
    """Read a model with its external data, and replace calls of its local functions by their nodes."""
    model = onnx_search.without_functions(path, onnx_file.read_model(path))
    for scope in onnx_search.scopes(path, model):
        for tensor in scope.graphs[-1].initializer:
            if uses_external_data(tensor):
                array = onnx_file.constant(path, tensor, tensor.name)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def next_branch(path: Path, model: onnx.ModelProto, prefix: str | None) -> int | None:
    """Find the first node of the graph that contains a recurrent node which is wanted; ``None`` where there is none.

    Raises
    ------
    InvalidFileError
        There is no such recurrent node, or it is inside a Loop or a Scan.
    """
    everything = onnx_search.scopes(path, model)
    found = [one for one in onnx_search.recurrent_nodes(everything) if one.path.startswith(prefix or "")]
    if not found:
        onnx_search.find(path, model, prefix)  # names what is there instead
    for one in found:
        if one.scope.places:
            node = model.graph.node[one.scope.places[0]]
            if node.op_type != "If":
                raise InvalidFileError(f"{one.path} must be in the graph or in a branch of If, not in {describe(node)}")
            return one.scope.places[0]
    return None


def taken(model: onnx.ModelProto, index: int, condition: bool) -> onnx.ModelProto:
    """Replace an If by the nodes of one of its branches, whose names become their paths."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    node = model.graph.node[index]
    name = "then_branch" if condition else "else_branch"
    branch = next(attribute.g for attribute in node.attribute if attribute.name == name)
    inner = [onnx.NodeProto() for _ in branch.node]
    for copy, one in zip(inner, branch.node, strict=True):
        copy.CopyFrom(one)
        copy.name = f"{onnx_search.label(node)}/{name}/{onnx_search.label(one)}"
    handed = [
        helper.make_node("Identity", [own.name], [outer], name=f"{onnx_search.label(node)}/{outer}")
        for own, outer in zip(branch.output, node.output, strict=True)
        if outer
    ]
    nodes = [*model.graph.node[:index], *inner, *handed, *model.graph.node[index + 1 :]]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(branch.initializer)
    return result


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Iterate over the names that a node reads, those that its sub-graphs read from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            for inner in graph.node:
                yield from _reads(inner)
            yield from (info.name for info in graph.output)


def part(model: onnx.ModelProto, outputs: list[onnx.ValueInfoProto], given: list[onnx.ValueInfoProto]):
    """Return the part of a model that computes some tensors, with others given as inputs."""
    graph, known = model.graph, {info.name for info in given}
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name and name not in known}
    needed: set[int] = set()
    names: set[str] = set()
    todo = [info.name for info in outputs]
    while todo:
        name = todo.pop()
        names.add(name)
        index = maker.get(name)
        if index is not None and index not in needed:
            needed.add(index)
            todo += _reads(graph.node[index])
    read = names & known
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for field in (result.graph.node, result.graph.output, result.graph.initializer, result.graph.value_info):
        del field[:]
    result.graph.node.extend(graph.node[index] for index in sorted(needed))
    result.graph.output.extend(outputs)
    result.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in names)
    inputs = [info for info in graph.input if info.name in names] + [info for info in given if info.name in read]
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    return result


def info_of(name: str, kind: int) -> onnx.ValueInfoProto:
    """Declare a tensor by its type, its shape being anything."""
    return helper.make_tensor_value_info(name, kind, None)


def chain(path: Path, model: onnx.ModelProto, prefix: str | None) -> RecurrentNetwork:
    """Read the recurrent nodes that are to be cut out, and check that they are one chain.

    Where their first states and the lengths of sequences come from does not matter: the graph computes them.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    found = onnx_search.find(path, copy, prefix)
    for one in found:
        node = one.scope.nodes()[one.index]
        for place in (LENGTHS, FIRST_H, FIRST_C):
            if len(node.input) > place:
                node.input[place] = ""
    return read_network(path, found, onnx_file.opset(copy))


def cut(path: Path, model: onnx.ModelProto, prefix: str | None) -> Cut:
    """Cut a graph around its recurrent nodes, which :func:`chain` has read.

    Raises
    ------
    InvalidFileError
        The nodes have other lengths of sequences.
    """
    found = onnx_search.find(path, model, prefix)
    nodes = [found_node.scope.nodes()[found_node.index] for found_node in found]
    lengths = {node.input[LENGTHS] if len(node.input) > LENGTHS else "" for node in nodes}
    if len(lengths) > 1:
        raise InvalidFileError(f"sequence_lens must be the same for all recurrent nodes, not {sorted(lengths)}")
    kind = _float_type(model, nodes[0])
    wanted: dict[str, int] = {}
    for number, node in enumerate(nodes):
        places = ((X, kind),) if number == 0 else ()
        for place, type_ in (*places, (LENGTHS, onnx.TensorProto.INT32), (FIRST_H, kind), (FIRST_C, kind)):
            if len(node.input) > place and node.input[place]:
                wanted[node.input[place]] = type_
    given = [info_of(name, kind) for node in nodes for name in node.output if name]
    before = part(model, [info_of(name, type_) for name, type_ in wanted.items()], [])
    behind = part(model, list(model.graph.output), given)
    used = {info.name for info in behind.graph.input}
    return Cut(before, behind, list(wanted), [info.name for info in given if info.name in used], nodes)


def _float_type(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    """Type of the numbers of a recurrent node: that of its recurrent weights, float32 where the graph computes them."""
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds |= {one.output[0]: one.attribute[0].t.data_type for one in model.graph.node if one.op_type == "Constant"
              and one.attribute and one.attribute[0].name == "value"}  # fmt: skip
    found = kinds.get(node.input[2], onnx.TensorProto.FLOAT)
    return found if found in (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE) else onnx.TensorProto.FLOAT
