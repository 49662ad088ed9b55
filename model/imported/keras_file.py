"""Reader of Keras models, ``.keras`` and ``.h5``: their JSON configuration and their arrays; nothing is executed.

Keras keeps W_x and W_h transposed, and the gates of a GRU in the order z, r, h.  Its arrays are (batch, steps,
elements).
"""

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidFileError, InvalidValueError, require, shown
from chessrnn.model.imported.hdf5_file import Hdf5File, open_hdf5
from chessrnn.model.imported.linear_layer import NONE
from chessrnn.model.imported.listing import listed
from chessrnn.model.imported.recurrent_network import (
    MAX_LAYERS,
    DirectionWeights,
    LinearLayer,
    RecurrentLayer,
    RecurrentNetwork,
)
from chessrnn.model.imported.tensor_file import check_size, largest_expansion
from chessrnn.model.text_file import parse_json

KIND = "a Keras model (.keras or .h5)"
CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
BIDIRECTIONAL = "Bidirectional"
# Layers that do nothing when a model is used.
PASSING = {
    "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization",
    "InputLayer",
}  # fmt: skip
MAX_JSON = 1 << 24
MAX_WEIGHTS = 1 << 32
MAX_ALL_LAYERS = 2_000
MAX_NESTING = 16
# Rows of a GRU in Keras for the gates R, Z, N.
GRU_ORDER = (1, 0, 2)
WAY = "save the whole model: model.save('model.keras')"


@dataclass
class _Layer:
    """A layer of the configuration: its class, its fields, the path of its weights, and the layers that it reads."""

    name: str
    kind: str
    config: dict
    path: str
    sources: list[str] = field(default_factory=list)

    @property
    def is_recurrent(self) -> bool:
        inner = _fields(self.config.get("layer")) if self.kind == BIDIRECTIONAL else (self.kind, {})
        return inner[0] in CELLS

    @property
    def returns_sequences(self) -> bool:
        config = _fields(self.config.get("layer"))[1] if self.kind == BIDIRECTIONAL else self.config
        return config.get("return_sequences") is True


def _fields(value: object) -> tuple[str, dict]:
    """Class name and configuration of a serialized layer; empty where there is none."""
    if not isinstance(value, dict):
        return "", {}
    kind, config = value.get("class_name"), value.get("config")
    return (kind if isinstance(kind, str) else ""), (config if isinstance(config, dict) else {})


def _snake_case(kind: str) -> str:
    """Name of a class as Keras writes it into the paths of weights."""
    text = re.sub(r"\W+", "", kind)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", text)).lower()


def _inbound(value: object) -> list[str]:
    """Names of the layers in the inbound nodes of a functional model, as Keras 2 and Keras 3 write them."""
    found, todo = [], [value]
    for _ in range(MAX_JSON):
        if not todo:
            break
        item = todo.pop()
        if isinstance(item, dict):
            history = item.get("keras_history")
            if isinstance(history, list) and history and isinstance(history[0], str):
                found.append(history[0])
            else:
                todo += list(item.values())
        elif isinstance(item, list):
            if len(item) in (3, 4) and isinstance(item[0], str) and all(isinstance(part, int) for part in item[1:3]):
                found.append(item[0])
            else:
                todo += item
    return found


class _Model:
    """A Keras model: its layers by name, and its weights."""

    def __init__(self, path: Path, weights: Hdf5File, config: object, is_archive: bool):
        self.path, self.weights, self.is_archive = path, weights, is_archive
        self.layers: dict[str, _Layer] = {}
        kind, fields = _fields(config)
        if not isinstance(fields.get("layers"), list):
            raise InvalidFileError(f"{path} must be {KIND} with layers, not {shown(kind or 'something else')}: {WAY}")
        self._collect(fields, "", 0)

    def _collect(self, config: dict, path: str, depth: int) -> None:
        """Add the layers of a model and of the models in it."""
        counts: dict[str, int] = {}
        before: list[str] = []
        is_sequence = not any(isinstance(item, dict) and item.get("inbound_nodes") for item in config["layers"])
        for item in config["layers"]:
            kind, fields = _fields(item)
            name = fields.get("name", item.get("name") if isinstance(item, dict) else None)
            if not kind or not isinstance(name, str):
                raise InvalidFileError(f"{self.path} must hold layers with a class and a name, not {shown(item)}")
            snake = _snake_case(kind)
            number = counts[snake] = counts.get(snake, -1) + 1
            place = f"{path}layers/{snake}" + (f"_{number}" if number else "")
            if isinstance(fields.get("layers"), list):
                if depth >= MAX_NESTING:
                    raise InvalidFileError(f"{self.path} must hold at most {MAX_NESTING} models within each other")
                self._collect(fields, f"{place}/", depth + 1)
            sources = list(before) if is_sequence else _inbound(item.get("inbound_nodes"))
            self.layers[name] = _Layer(name, kind, fields, place, sources)
            before = [name]
            if len(self.layers) > MAX_ALL_LAYERS:
                raise InvalidFileError(f"{self.path} must hold at most {MAX_ALL_LAYERS} layers, not more")

    def source(self, layer: _Layer) -> _Layer | None:
        """The layer that computes what a layer reads, behind those that do nothing; ``None`` for several."""
        for _ in range(len(self.layers)):
            if len(layer.sources) != 1 or layer.sources[0] not in self.layers:
                return None
            layer = self.layers[layer.sources[0]]
            if layer.kind not in PASSING:
                return layer
        return None

    def chains(self) -> list[list[_Layer]]:
        """Recurrent layers, each chain one network: every layer reads the sequence of the one before, alone."""
        recurrent = [layer for layer in self.layers.values() if layer.is_recurrent]
        below = {}
        for layer in recurrent:
            source = self.source(layer)
            below[layer.name] = None
            # A layer that begins at the end of the sequence starts a network of its own.
            if source is not None and not layer.config.get("go_backwards"):
                below[layer.name] = source.name if source.is_recurrent and source.returns_sequences else None
        readers = [name for name in below.values() if name is not None]
        below = {
            name: source
            if source is not None and readers.count(source) == 1 and not self.layers[source].config.get("go_backwards")
            else None
            for name, source in below.items()
        }
        above = {source: name for name, source in below.items() if source is not None}
        found = []
        for layer in recurrent:
            if below[layer.name] is None:
                chain = [layer]
                while chain[-1].name in above and len(chain) <= MAX_LAYERS:
                    chain.append(self.layers[above[chain[-1].name]])
                found.append(chain)
        return found

    # -- arrays --------------------------------------------------------------------------------------------

    def arrays(self, layer: _Layer, inside: str = "", first: int = 0, count: int = 0) -> list[np.ndarray]:
        """Read the arrays of a layer.

        Parameters
        ----------
        inside : str
            Path below that of the layer, in a ``.keras`` file.
        first, count : int
            Place in the list of the layer's arrays, in a ``.h5`` file.
        """
        if self.is_archive:
            place = f"{layer.path}/{inside}vars"
            return [self.weights.read(f"{place}/{number}") for number in range(count)]
        group = f"model_weights/{layer.name}"
        if self.weights.item("model_weights") is None:
            group = layer.name
        names = self.weights.names(group, "weight_names")
        if names is None or len(names) < first + count:
            raise InvalidFileError(f"{shown(group)} must hold {first + count} arrays in {self.path}")
        return [self.weights.read(f"{group}/{name}") for name in names[first : first + count]]


def _activation(model: _Model, layer: _Layer, config: dict, cell: str) -> str:
    """Check the activations of a layer, and return that of an RNN.

    Raises
    ------
    InvalidFileError
        The accelerator has no such activation; the message names it.
    """

    def name_of(key: str) -> object:
        value = config.get(key)
        if isinstance(value, dict):
            value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name")
        return value

    found = name_of("activation")
    allowed = ("tanh", "relu") if cell == "rnn" else ("tanh",)
    if found not in allowed:
        rule = " or ".join(allowed)
        raise InvalidFileError(f"activation of {shown(layer.name)} must be {rule}, not {shown(found)} in {model.path}")
    gates = name_of("recurrent_activation")
    if cell != "rnn" and gates != "sigmoid":
        what = f"recurrent_activation of {shown(layer.name)} must be sigmoid"
        raise InvalidFileError(f"{what}, not {shown(gates)} in {model.path}: train with sigmoid, the default")
    return str(found)


def _direction(
    model: _Model, layer: _Layer, kind: str, config: dict, inside: str, first: int
) -> tuple[DirectionWeights, dict]:
    """Read one direction of a layer, and its properties."""
    cell, has_bias = CELLS[kind], config.get("use_bias", True) is not False
    activation, reset_after = _activation(model, layer, config, cell), config.get("reset_after") is True
    arrays = model.arrays(layer, f"{inside}cell/", first, 3 if has_bias else 2)
    where = f"the arrays of {shown(layer.name)}"
    units = config.get("units")
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    rows = arrays[1].shape[-1] if arrays[1].ndim == 2 else 0
    shapes = [value.shape for value in arrays]
    fits = rows > 0 and isinstance(units, int) and rows == gates * units and shapes[1] == (units, rows)
    fits = fits and arrays[0].ndim == 2 and shapes[0][1] == rows
    wanted = (2, rows) if cell == "gru" and reset_after else (rows,)
    if not fits or (has_bias and shapes[2] != wanted):
        raise InvalidFileError(f"{where} must fit {shown(units)} units of {kind}, not {shapes} in {model.path}")

    def ordered(values: np.ndarray) -> np.ndarray:
        if cell != "gru":
            return values
        parts = np.split(values, 3, axis=0)
        return np.concatenate([parts[number] for number in GRU_ORDER])

    zero = np.zeros(rows)
    bias = arrays[2] if has_bias else zero
    bias_x, bias_h = (bias[0], bias[1]) if bias.ndim == 2 else (bias, zero)
    weights = DirectionWeights(ordered(arrays[0].T), ordered(arrays[1].T), ordered(bias_x), ordered(bias_h))
    return weights, {"cell": cell, "activation": activation, "linear_before_reset": reset_after or cell != "gru"}


def _read_layer(model: _Model, layer: _Layer) -> tuple[RecurrentLayer, list[str]]:
    """Read a recurrent layer, and remarks about it."""
    notes, name = [], layer.name
    if layer.kind != BIDIRECTIONAL:
        weights, traits = _direction(model, layer, layer.kind, layer.config, "", 0)
        is_reverse = layer.config.get("go_backwards") is True
        if is_reverse:
            notes.append(f"{name} reads the sequence from its end; Keras gives its outputs in that order")
        config, parts, direction = layer.config, (weights,), "reverse" if is_reverse else "forward"
    else:
        mode = layer.config.get("merge_mode", "concat")
        if mode != "concat":
            raise InvalidFileError(f"merge_mode of {shown(name)} must be concat, not {shown(mode)} in {model.path}")
        kind, config = _fields(layer.config.get("layer"))
        other, back = _fields(layer.config.get("backward_layer"))
        other, back = (other, back) if other else (kind, config | {"go_backwards": True})
        if other != kind or config.get("go_backwards") is True or back.get("go_backwards") is not True:
            raise InvalidFileError(f"{shown(name)} must run two {kind} in opposite directions in {model.path}")
        count = 3 if config.get("use_bias", True) is not False else 2
        forward, traits = _direction(model, layer, kind, config, "forward_layer/", 0)
        reverse, same = _direction(model, layer, kind, back, "backward_layer/", count)
        if traits != same:
            raise InvalidFileError(f"{shown(name)} must have the same options in both directions in {model.path}")
        parts, direction = (forward, reverse), "bidirectional"
    if not layer.returns_sequences:
        notes.append(f"{name} passes on the h of its last step alone; the accelerator gives every h")
    if config.get("stateful") is True:
        notes.append(f"{name} keeps its state between batches: architecture.state_ports does so")
    return RecurrentLayer(
        name, traits["cell"], parts, direction, traits["linear_before_reset"], traits["activation"]
    ), notes


def _linear(model: _Model, last: _Layer, size: int, wanted: str | None) -> tuple[LinearLayer | None, list[str]]:
    """Read the dense layer that reads the last recurrent one alone, and remarks about it."""
    found = [layer for layer in model.layers.values() if layer.kind == "Dense" and model.source(layer) is last]
    if wanted == NONE:
        return None, []
    names = [layer.name for layer in found]
    if wanted is not None:
        require(wanted in names, "--output-layer", f"{NONE} or one of {listed(names)}" if names else NONE, wanted)
        found = [layer for layer in found if layer.name == wanted]
    if len(found) > 1:
        return None, [f"several dense layers read {last.name}; --output-layer takes one of {listed(names)}"]
    if not found:
        return None, []
    (layer,) = found
    has_bias = layer.config.get("use_bias", True) is not False
    arrays = model.arrays(layer, "", 0, 2 if has_bias else 1)
    kernel = arrays[0]
    bias = arrays[1] if has_bias else np.zeros(kernel.shape[-1])
    if kernel.ndim != 2 or kernel.shape[0] != size or bias.shape != kernel.shape[1:]:
        raise InvalidFileError(f"{shown(layer.name)} must read {size} elements, not {kernel.shape} in {model.path}")
    activation = layer.config.get("activation")
    notes = [] if activation in ("linear", None) else [f"the activation {activation} of {layer.name} is the host's"]
    return LinearLayer(layer.name, kernel.T.copy(), bias), notes


def _network(model: _Model, prefix: str | None, output_layer: str | None) -> RecurrentNetwork:
    """Read the chosen chain of a model."""
    chains = model.chains()
    if not chains:
        kinds = sorted({layer.kind for layer in model.layers.values()})
        raise InvalidFileError(f"{model.path} must hold a layer LSTM, GRU or SimpleRNN, not only {listed(kinds)}")
    chosen = [chain for chain in chains if prefix is None or any(layer.name == prefix for layer in chain)]
    if len(chosen) != 1:
        names = listed([chain[0].name for chain in chains])
        if prefix is None:
            raise InvalidFileError(f"--prefix must be given, one of {names}: {model.path} holds several networks")
        raise InvalidFileError(f"--prefix must be one of {names} as in {model.path}, not {shown(prefix)}")
    (chain,) = chosen
    layers, notes = [], ["arrays of Keras are (batch, steps, elements): --batch-first"]
    for layer in chain:
        found, more = _read_layer(model, layer)
        layers.append(found)
        notes += more
    linear, more = _linear(model, chain[-1], layers[-1].output_size, output_layer)
    used = {layer.name for layer in chain} | ({linear.name} if linear else set())
    ignored = [f"{layer.kind} {layer.name}" for layer in model.layers.values()
               if layer.name not in used and layer.kind not in PASSING]  # fmt: skip
    return RecurrentNetwork(
        tuple(layers), str(model.path), ignored=tuple(ignored), notes=(*notes, *more), linear=linear
    )


def _parsed(path: Path, text: str, what: str) -> object:
    """Parse the JSON of a model."""
    try:
        return parse_json(text, f"{path}: {what}")
    except json.JSONDecodeError as error:
        raise InvalidFileError(f"{path}: {what} must be valid JSON: {error}") from None
    except InvalidValueError as error:
        raise InvalidFileError(str(error)) from None


def _member(path: Path, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Read a member of an archive up to a limit; one that was repacked with compression may not grow beyond reason."""
    if name not in archive.namelist():
        raise InvalidFileError(f"{path} must hold {name}, not only {listed(archive.namelist()[:5])}: {WAY}")
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        limit = min(limit, largest_expansion(entry.compress_size))
    with archive.open(name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InvalidFileError(f"{path}: {name} must have at most {limit} bytes, not more")
    return content


@contextmanager
def _opened(path: Path) -> Iterator[_Model]:
    """Open a ``.keras`` archive, or an HDF5 file of ``model.save``."""
    check_size(path, KIND)
    if path.suffix.lower() != ".keras":
        with open_hdf5(path) as weights:
            text = weights.text("model_config")
            if text is None:
                raise InvalidFileError(f"{path} must be {KIND} with its configuration, not weights alone: {WAY}")
            yield _Model(path, weights, _parsed(path, text, "model_config"), False)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            text = _member(path, archive, "config.json", MAX_JSON).decode("utf-8")
            content = _member(path, archive, "model.weights.h5", MAX_WEIGHTS)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidFileError(f"{path} must be a whole archive of Keras: {shown(str(error))}") from None
    with open_hdf5(path, content) as weights:
        yield _Model(path, weights, _parsed(path, text, "config.json"), True)


def keras_networks(path: Path) -> list[str]:
    """List the first layer of every chain of recurrent layers: the names that choose a network."""
    with _opened(path) as model:
        return [chain[0].name for chain in model.chains()]


def network_from_keras(path: Path, prefix: str | None = None, output_layer: str | None = None) -> RecurrentNetwork:
    """Read the recurrent layers of a Keras model.

    Parameters
    ----------
    path : Path
        A ``.keras`` archive, or an HDF5 file of ``model.save``.
    prefix : str, optional
        Name of a layer of the network, where the model has several.
    output_layer : str, optional
        Name of the dense layer behind the last recurrent one, or ``"none"``; left out, the only one.

    Raises
    ------
    InvalidFileError
        The file is damaged, holds no such layer, or one with an option that cannot be read, which is named.
    """
    with _opened(path) as model:
        return _network(model, prefix, output_layer)
