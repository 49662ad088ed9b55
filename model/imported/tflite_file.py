"""Reader of ``UNIDIRECTIONAL_SEQUENCE_LSTM`` in TensorFlow Lite models, alone or in a chain, as one network.

Weights are float, or integers that are multiplied by their scales.  Other recurrent operators are rejected by name.
The gates are named input, forget, cell and output, in the order that PyTorch has as well.

Source: tensorflow/lite/schema/schema.fbs; tensorflow/lite/kernels/unidirectional_sequence_lstm.cc.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tflite.FullyConnectedOptions import FullyConnectedOptions
from tflite.UnidirectionalSequenceLSTMOptions import UnidirectionalSequenceLSTMOptions

from chessrnn.model.errors import InvalidFileError, UserError, reason, require, shown
from chessrnn.model.imported.linear_layer import NONE
from chessrnn.model.imported.listing import listed
from chessrnn.model.imported.recurrent_network import (
    MAX_ELEMENTS,
    MAX_LAYERS,
    DirectionWeights,
    LinearLayer,
    RecurrentLayer,
    RecurrentNetwork,
)
from chessrnn.model.imported.tflite_model import LEFT_OUT, Graph, Operator, read_graphs

LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
# Recurrent operators that are not read, and those that a recurrence is written with.
OTHERS = ("LSTM", "RNN", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN",
          "SVDF", "WHILE")  # fmt: skip
WAY = "use the Keras model that it was made from"
GATES = ("input", "forget", "cell", "output")
TANH, NO_ACTIVATION = 4, 0
# Places of inputs of the operator.
W_X, W_H, PEEPHOLES, BIASES, PROJECTION, PROJECTION_BIAS, STATE_H, STATE_C = 1, 5, 9, 12, 16, 17, 18, 19
NORMS = range(20, 24)
NUM_INPUTS = 24
# Operators that change neither elements nor their order, and those that may also leave some out.
PASSING = ("QUANTIZE", "DEQUANTIZE")
MOVING = (*PASSING, "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "STRIDED_SLICE", "SLICE", "GATHER", "UNPACK", "TRANSPOSE")
MAX_FOLLOWED = 1_000
STEPS_AND_BATCH = [1, 0, 2]


def _swaps(graph: Graph, op: Operator) -> bool:
    """Whether an operator exchanges steps and sequences."""
    if op.kind != "TRANSPOSE" or len(op.inputs) != 2 or not graph.is_constant(op.inputs[1]):
        return False
    return graph.data(op.inputs[1]).tobytes() == np.array(STEPS_AND_BATCH, dtype="<i4").tobytes()


def _origin(graph: Graph, index: int) -> tuple[int, bool]:
    """Follow a tensor back to the first of the same elements, and whether steps and sequences are exchanged."""
    swapped = False
    for _ in range(MAX_FOLLOWED):
        op = graph.makers.get(index)
        if op is None or not op.inputs or op.inputs[0] < 0:
            break
        is_same = op.kind == "RESHAPE" and graph.shape(index) == graph.shape(op.inputs[0])
        if op.kind not in PASSING and not is_same and not _swaps(graph, op):
            break
        swapped ^= op.kind == "TRANSPOSE"
        index = op.inputs[0]
    return index, swapped


def _time_major(op: Operator) -> bool:
    return bool(op.read(UnidirectionalSequenceLSTMOptions).TimeMajor())


def _source(graph: Graph, op: Operator) -> Operator | None:
    """Return the layer whose every h, in order, is the input of a layer."""
    index, swapped = _origin(graph, op.inputs[0])
    before = graph.makers.get(index)
    if before is None or before.kind != LSTM or (_time_major(before) ^ swapped) != _time_major(op):
        return None
    return before


def _chains(graph: Graph) -> list[list[Operator]]:
    """List chains of layers, each one network: every layer reads the h of the one before, alone."""
    layers = [op for op in graph.operators if op.kind == LSTM and op.inputs and op.inputs[0] >= 0 and op.outputs]
    if len(layers) > MAX_LAYERS:
        raise InvalidFileError(f"{graph.path} must have at most {MAX_LAYERS} layers, not {len(layers)}")
    sources = [_source(graph, op) for op in layers]
    below = [
        source if source is not None and sum(other is source for other in sources) == 1 else None for source in sources
    ]
    chains = []
    for op, source in zip(layers, below, strict=True):
        if source is not None:
            continue
        chain = [op]
        # No layer is twice in a chain, unless a damaged file reads what it writes.
        while len(chain) < len(layers):
            above = [other for other, found in zip(layers, below, strict=True) if found is chain[-1]]
            if not above:
                break
            chain += above
        chains.append(chain)
    return chains


# -- one layer ---------------------------------------------------------------------------------------------------------


def _checked_inputs(graph: Graph, op: Operator, name: str) -> list[int]:
    """Check what the operator computes; its inputs with those that are left out."""
    options = op.read(UnidirectionalSequenceLSTMOptions)
    for field, found, wanted in (
        ("activation", options.FusedActivationFunction(), TANH),
        ("cell_clip", options.CellClip(), 0.0),
        ("proj_clip", options.ProjClip(), 0.0),
        ("diagonal_recurrent_tensors", options.DiagonalRecurrentTensors(), False),
    ):
        if found != wanted:
            rule = "tanh" if field == "activation" else wanted
            raise InvalidFileError(f"{field} of {name} must be {rule}, not {found} in {graph.path}")
    if len(op.inputs) > NUM_INPUTS:
        raise InvalidFileError(f"{name} must have at most {NUM_INPUTS} inputs, not {len(op.inputs)} in {graph.path}")
    inputs = [*op.inputs, *[LEFT_OUT] * (NUM_INPUTS - len(op.inputs))]
    if any(inputs[place] >= 0 for place in NORMS):
        raise InvalidFileError(f"{name} must be without layer normalization in {graph.path}")
    if min(inputs[W_X], inputs[W_H]) < 0:
        raise InvalidFileError(f"{name} must have an input gate of its own, not 1 - forget gate, in {graph.path}")
    if min(*inputs[W_X + 1 : W_X + 4], *inputs[W_H + 1 : W_H + 4], *inputs[BIASES : BIASES + 4]) < 0:
        raise InvalidFileError(f"{name} must have weights and biases of four gates in {graph.path}")
    return inputs


def _state(graph: Graph, index: int, name: str, size: int) -> tuple[np.ndarray | None, list[str]]:
    """Read a first state: its constant, or the graph input that supplies it; neither where it is zero."""
    if index < 0 or graph.tensors[index].is_variable:
        return None, []
    if index in graph.inputs:
        return None, [graph.tensors[index].name]
    found = graph.constant(index, f"the first state of {name}", (0, size))
    return (found if found.any() else None), []


def _read_layer(graph: Graph, op: Operator) -> tuple[RecurrentLayer, list[str]]:
    """Read a layer, and remarks about it."""
    label = graph.label(op)
    name = shown(label)
    inputs = _checked_inputs(graph, op, name)
    shapes = [graph.shape(inputs[place]) for place in (W_X + 1, W_H + 1)]
    if any(len(shape) != 2 for shape in shapes):
        raise InvalidFileError(f"the weights of {name} must be matrices, not {shapes} in {graph.path}")
    (hidden, width), (_, state) = shapes
    # The weights are in the file as they are, so that their sizes are no larger than the file.
    if 4 * hidden * (width + state) > MAX_ELEMENTS:
        raise InvalidFileError(f"{name} must have at most {MAX_ELEMENTS} weights in {graph.path}")

    def gates(first: int, what: str, shape: tuple[int, ...]) -> np.ndarray:
        parts = [graph.constant(inputs[first + number], f"{what} of the {gate} gate of {name}", shape)
                 for number, gate in enumerate(GATES)]  # fmt: skip
        return np.concatenate(parts)

    w_x, w_h = gates(W_X, "W_x", (hidden, width)), gates(W_H, "W_h", (hidden, state))
    bias = gates(BIASES, "the bias", (hidden,))
    peepholes = projection = None
    places = inputs[PEEPHOLES : PEEPHOLES + 3]
    if max(places) >= 0:
        if min(places) < 0:
            raise InvalidFileError(f"{name} must have peepholes of three gates or none in {graph.path}")
        peepholes = np.stack([graph.constant(index, f"a peephole of {name}", (hidden,)) for index in places])
    if inputs[PROJECTION] >= 0:
        projection = graph.constant(inputs[PROJECTION], f"the projection of {name}", (state, hidden))
        index = inputs[PROJECTION_BIAS]
        if index >= 0 and graph.constant(index, f"the projection's bias of {name}", (state,)).any():
            raise InvalidFileError(f"{name} must have a projection without a bias in {graph.path}")
    initial_h, sources = _state(graph, inputs[STATE_H], name, state)
    initial_c, more = _state(graph, inputs[STATE_C], name, hidden)
    weights = DirectionWeights(w_x, w_h, bias, np.zeros(len(bias)), peepholes, projection, initial_h, initial_c)
    notes = []
    if len(graph.tensors[inputs[W_X]].scales):
        notes.append(f"{label} is read with dequantized weights, and activations that are not quantized")
    return RecurrentLayer(label, "lstm", (weights,), state_inputs=(*sources, *more)), notes


def _note_input(graph: Graph, op: Operator) -> str:
    """Say what x is, and its layout."""
    index, swapped = _origin(graph, op.inputs[0])
    maker = graph.makers.get(index)
    if maker is not None:
        return f"x is the output of {maker.kind} {graph.tensors[index].name}"
    is_time_major = _time_major(op) ^ swapped
    layout = "steps, batch" if is_time_major else "batch, steps"
    return f"x is the input {graph.tensors[index].name!r} ({layout}, elements)" + (
        "" if is_time_major else ": --batch-first"
    )


# -- the linear layer --------------------------------------------------------------------------------------------------


def _linear_operators(graph: Graph, last: Operator, size: int) -> list[Operator]:
    """Find fully connected layers that read h of the last layer, through operators that leave every h whole."""
    found, todo, seen = [], [last.outputs[0]], set()
    while todo:
        index = todo.pop(0)
        if index in seen:
            continue
        seen.add(index)
        for op in graph.readers.get(index, []):
            if not op.outputs or op.inputs[0] != index:
                continue
            if op.kind == "FULLY_CONNECTED" and len(op.inputs) in (2, 3) and op.inputs[1] >= 0:
                shape = graph.shape(op.inputs[1])
                found += [op] if len(shape) == 2 and shape[1] == size else []
            elif op.kind in MOVING and (op.kind != "TRANSPOSE" or _swaps(graph, op)):
                todo += [out for out in op.outputs if out >= 0 and graph.shape(out)[-1:] == (size,)]
    return found


def _linear(graph: Graph, last: Operator, size: int, wanted: str | None) -> tuple[LinearLayer | None, list[str]]:
    """Read the linear layer that the user names, or the only one; and remarks about it."""
    if wanted == NONE:
        return None, []
    found = _linear_operators(graph, last, size)
    names = [graph.label(op) for op in found]
    if wanted is not None:
        require(wanted in names, "--output-layer", f"{NONE} or one of {listed(names)}" if names else NONE, wanted)
        found = [op for op, name in zip(found, names, strict=True) if name == wanted]
    if len(found) > 1:
        return None, [f"several linear layers read {size} elements; --output-layer takes one of {listed(names)}"]
    if not found:
        return None, []
    (op,) = found
    label, options = graph.label(op), op.read(FullyConnectedOptions)
    if options.WeightsFormat() != 0:
        return None, [f"the weights of {label} are shuffled, and stay with the host"]
    weight = graph.constant(op.inputs[1], f"the weight of {shown(label)}", (0, size))
    bias = np.zeros(len(weight))
    if len(op.inputs) == 3 and op.inputs[2] >= 0:
        bias = graph.constant(op.inputs[2], f"the bias of {shown(label)}", (len(weight),))
    has_activation = options.FusedActivationFunction() != NO_ACTIVATION
    return LinearLayer(label, weight, bias), [f"the activation of {label} is the host's"] if has_activation else []


# -- networks ----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[list[tuple[Graph, list[Operator]]]]:
    """Open a model: its networks, each a chain of layers in a graph.

    Raises
    ------
    InvalidFileError
        The file is damaged, also where that shows only while it is read, or holds no such layer.
    """
    try:
        graphs = read_graphs(path)
        found = [(graph, chain) for graph in graphs for chain in _chains(graph)]
        if not found:
            raise InvalidFileError(f"{path} must hold {LSTM}, not {_instead(graphs)}")
        yield found
    except UserError:
        raise
    except Exception as error:  # A damaged flatbuffer ends in a dozen kinds of exception.
        raise InvalidFileError(f"{path} must be a whole TensorFlow Lite model: {reason(error)}") from None


def _instead(graphs: list[Graph]) -> str:
    """Name what a model holds in place of a layer, and one way on."""
    everything = [(graph, op) for graph in graphs for op in graph.operators]
    for graph, op in everything:
        if op.kind in OTHERS:
            return f"{op.kind} {shown(graph.label(op))}: {WAY}"
    counts = Counter(op.kind for _, op in everything)
    if counts["LOGISTIC"] and counts["TANH"]:
        return f"a cell written as LOGISTIC and TANH: {WAY}"
    return f"only {listed([kind for kind, _ in counts.most_common(4)])}"


def tflite_networks(path: Path) -> list[str]:
    """List the first layer of every network, by the name of its output: the names that choose a network."""
    with _opened(path) as found:
        return [graph.label(chain[0]) for graph, chain in found]


def network_from_tflite(path: Path, prefix: str | None = None, output_layer: str | None = None) -> RecurrentNetwork:
    """Read the LSTM layers of a TensorFlow Lite model.

    Parameters
    ----------
    path : Path
    prefix : str, optional
        Name of the output of one of the network's layers, where the model has several networks.
    output_layer : str, optional
        Name of the output of the fully connected layer behind the last one, or ``"none"``; left out, the only one.

    Raises
    ------
    InvalidFileError
        The file is damaged, holds no such layer, or one with an option that cannot be read, which is named.
    """
    with _opened(path) as found:
        chosen = [
            (graph, chain) for graph, chain in found if prefix is None or any(graph.label(op) == prefix for op in chain)
        ]
        if len(chosen) != 1:
            names = listed([graph.label(chain[0]) for graph, chain in found])
            if prefix is None:
                raise InvalidFileError(f"--prefix must be given, one of {names}: {path} holds several networks")
            raise InvalidFileError(f"--prefix must be one of {names} as in {path}, not {shown(prefix)}")
        ((graph, chain),) = chosen
        layers, notes = [], [_note_input(graph, chain[0])]
        for op in chain:
            layer, more = _read_layer(graph, op)
            layers.append(layer)
            notes += more
        linear, more = _linear(graph, chain[-1], layers[-1].output_size, output_layer)
        used = {*(graph.label(op) for op in chain), *([linear.name] if linear else [])}
        ignored = Counter(
            f"operator {op.kind}" for op in graph.operators if graph.label(op) not in used and op.kind not in MOVING
        )
        names = tuple(f"{name}{f' x {count}' if count > 1 else ''}" for name, count in ignored.items())
        return RecurrentNetwork(tuple(layers), str(path), ignored=names, notes=(*notes, *more), linear=linear)
