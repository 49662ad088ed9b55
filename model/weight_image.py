"""The weight image: one safetensors file with the integers of a compressed network and all that is needed to use them.

Tensors hold the integers in the narrowest NumPy type that fits their format; the metadata holds the configuration, its
fingerprint, where the weights come from, and a digest of everything, which is checked when the file is read.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, InvalidValueError, UserError, require, require_type, shown
from chessrnn.model.files import require_file, write_atomic
from chessrnn.model.input_fold import InputFold
from chessrnn.model.output_layer import OutputLayer, first_columns
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.text_file import parse_json
from chessrnn.model.weights import LayerWeights, NetworkWeights, join_layers, layer_configs

FORMAT = "chessrnn weight image 2"
# Format of the files without a digest, of versions before the first release.
OLD_FORMAT = "chessrnn weight image 1"
# Hexadecimal digits of a digest in a message.
SHOWN_DIGITS = 12
INTEGER_TYPES = {"I8": 8, "I16": 16, "I32": 32}
OUTPUT_TENSORS = ("head.weight", "head.bias")
EMBEDDING_TENSOR = "head.embedding"
Kind = TypeVar("Kind")
# A file may differ from the configuration in these fields: those that change no result (see
# Config.model_fingerprint), and the block size of the output layer, which its weights themselves prove.
IGNORED_FIELDS = ("name", "architecture", "quantization.accumulator_bits", "compression.output_block_size")


def _check_integers(values: np.ndarray, shape: tuple[int, ...], low: int, high: int, name: str) -> np.ndarray:
    values = np.asarray(values)
    require(np.issubdtype(values.dtype, np.integer), name, "an array of integers", str(values.dtype))
    require(values.shape == shape, name, f"of shape {shape}", values.shape)
    outside = values[(values < low) | (values > high)]
    require(outside.size == 0, name, f"from {low} to {high}", int(outside.flat[0]) if outside.size else None)
    values = values.astype(np.int64)
    values.setflags(write=False)
    return values


@dataclass(frozen=True)
class TextLayers:
    """The integer layers around the recurrent ones of a character model: output layer and embedding.

    The output layer gives logits = weight · h + bias; the embedding turns a symbol into x.  The host applies both; with
    ``architecture.output_layer`` the accelerator applies the output layer as well.  In a weight image their tensors and
    fields have the prefix ``head``.

    Attributes
    ----------
    config : Config
        Configuration of the recurrent network.
    weight : int64 array (V, H or P)
        8-bit weights of the output layer with ``weight_frac`` fraction bits.  Circulant blocks of
        ``compression.output_block_size`` are expanded.
    bias : int64 array (V,)
        32-bit biases at the scale of the logits: ``weight_frac`` + fraction bits of h.
    weight_frac : int
        Number of fraction bits of ``weight``.
    symbols : str
        The alphabet: V different characters.  The code of a symbol is its index.
    embedding : int64 array (V, X) or None
        The x of every symbol, as codes of the format of x; ``None`` for a model without embedding.

    Raises
    ------
    InvalidValueError
        A shape, type or value does not fit, or a block of ``weight`` is not circulant.
    """

    config: Config
    weight: np.ndarray
    bias: np.ndarray
    weight_frac: int
    symbols: str
    embedding: np.ndarray | None = None

    def __post_init__(self):
        count, network, x = len(self.symbols), self.config.network, self.config.quantization.x
        rule = "false for a network with an output layer"
        require(not network.bidirectional, "network.bidirectional", rule, network.bidirectional)
        require(count >= 1, "head.symbols", "at least one character", self.symbols)
        require(len(set(self.symbols)) == count, "head.symbols", "made of different characters", self.symbols)
        require(-8 <= self.weight_frac <= 20, "head.weight_frac", "from -8 to 20", self.weight_frac)
        wanted = {
            "weight": ((count, self.config.output_size), WEIGHT_BITS),
            "bias": ((count,), BIAS_BITS),
            "embedding": ((count, network.input_size), x.width),
        }
        for name, (shape, bits) in wanted.items():
            if name != "embedding" or self.embedding is not None:
                half = 1 << (bits - 1)
                values = _check_integers(getattr(self, name), shape, -half, half - 1, f"head.{name}")
                object.__setattr__(self, name, values)
        first_columns(self.weight, self.config.compression.output_block_size, "head.weight")

    @property
    def output_layer(self) -> OutputLayer:
        """The output layer alone."""
        return OutputLayer(self.weight, self.bias, self.weight_frac)

    @property
    def logit_frac(self) -> int:
        """Number of fraction bits of the logits."""
        return self.weight_frac + self.config.quantization.h.fraction_bits


@dataclass(frozen=True)
class WeightImage:
    """A trained and compressed network as integers.

    Attributes
    ----------
    weights : LayerWeights or StackWeights
        The recurrent layers, with their configuration.
    text_layers : TextLayers or None
        Embedding and output layer of a character model, or ``None`` for any other network.
    text_sha256 : str
        SHA-256 of the training text; empty when unknown.
    metrics : dict
        Figures measured at export, by name.
    command : str
        Command that reproduces the file; empty when unknown.
    head : OutputLayer or None
        Output layer of a network that is no character model.
    """

    weights: NetworkWeights
    text_layers: TextLayers | None = None
    text_sha256: str = ""
    metrics: dict = field(default_factory=dict)
    command: str = ""
    head: OutputLayer | None = None

    def __post_init__(self):
        require(self.text_layers is None or self.head is None, "head", "left out beside text_layers", "both")
        if self.head is not None:
            check_head(self.config, self.head)
        outputs, given = self.config.architecture.output_layer, self._num_outputs
        rule = f"0 or {given}, the outputs in the file" if given else "0 for a network without an output layer"
        require(outputs in (0, given), "architecture.output_layer", rule, outputs)

    @property
    def config(self) -> Config:
        """Configuration of the network."""
        return self.weights.config

    @property
    def output_layer(self) -> OutputLayer | None:
        """The output layer, whether the accelerator or the host applies it; ``None`` where the file has none."""
        return self.head if self.text_layers is None else self.text_layers.output_layer

    @property
    def _num_outputs(self) -> int:
        return 0 if self.output_layer is None else len(self.output_layer.weight)

    def save(self, path: str | Path) -> None:
        """Write the file atomically: a reader sees either the whole old file or the whole new one.

        Raises
        ------
        InvalidFileError
            The file cannot be written.
        """
        q, bits, tensors = self.config.quantization, {}, {}
        weight_bits = self.config.weight_value_bits
        widths = {"defining": weight_bits, "bias": q.bias_bits, "peephole": q.peephole.width,
                  "projection": weight_bits, "scale": q.scale_bits + 1}  # fmt: skip
        for names, layer in zip(layer_tensors(self.config), self.weights.layers, strict=True):
            for name in names:
                kind = name.rpartition(".")[2]
                bits[name], tensors[name] = widths[kind], getattr(layer, kind)
        metadata = {
            "format": FORMAT,
            "config": json.dumps(self.config.to_dict()),
            "model_fingerprint": self.config.model_fingerprint,
            "text_sha256": self.text_sha256,
            "metrics": json.dumps(self.metrics),
            "command": self.command,
        }
        if self.weights.input_fold is not None:
            metadata["input_fold"] = json.dumps(self.weights.input_fold.to_dict())
        if self.output_layer is not None:
            bits |= {"head.weight": WEIGHT_BITS, "head.bias": BIAS_BITS}
            tensors |= {"head.weight": self.output_layer.weight, "head.bias": self.output_layer.bias}
            metadata["head_weight_frac"] = json.dumps(self.output_layer.weight_frac)
        if self.text_layers is not None:
            metadata["symbols"] = json.dumps(self.text_layers.symbols)
            if self.text_layers.embedding is not None:
                bits[EMBEDDING_TENSOR] = self.config.quantization.x.width
                tensors[EMBEDDING_TENSOR] = self.text_layers.embedding
        narrow = {
            name: np.ascontiguousarray(values, dtype=natural_type(bits[name])) for name, values in tensors.items()
        }
        write_atomic(path, save(narrow, metadata=metadata | {"sha256": content_digest(narrow, metadata)}))

    @classmethod
    def load(cls, path: str | Path, config: Config | None = None) -> "WeightImage":
        """Read a file and check it.

        Parameters
        ----------
        path : str or Path
            File that :meth:`save` wrote.
        config : Config, optional
            Configuration that the file must belong to.  The image then carries this configuration, its architecture
            included; fields that change no result need not match the file.  Left out, the image carries the
            configuration stored in the file.

        Raises
        ------
        InvalidFileError
            The file is missing or damaged, holds tensors of unexpected names, types, shapes or ranges, or belongs to
            another network.
        """
        path = Path(path)
        tensors, metadata = _read(path)
        found = _config_of(path, metadata)
        _check_names(path, found, set(tensors))
        if config is not None:
            compare(path, config, found)
            found = config
        try:
            layers = []
            for layer, names in zip(layer_configs(found), layer_tensors(found), strict=True):
                arrays: dict[str, Any] = {name.rpartition(".")[2]: tensors[name] for name in names}
                layers.append(LayerWeights(layer, **arrays))
            weights = replace(join_layers(found, layers), input_fold=_input_fold(path, metadata))
            text_layers = _text_layers(path, found, tensors, metadata)
            head = _head(path, found, tensors, metadata)
            layer, outputs = head if text_layers is None else text_layers.output_layer, found.architecture.output_layer
            if outputs:
                given = len(layer.weight) if layer is not None else 0
                require(given == outputs, "architecture.output_layer", f"{given}, the outputs in the file", outputs)
                assert layer is not None
                weights = replace(weights, output=layer)
        except InvalidFileError:
            raise
        except UserError as error:
            raise InvalidFileError(f"{path}: {error}") from None
        metrics = _json(path, metadata, "metrics", dict)
        # Checked last: where a value breaks a rule of its own, that says more.
        digest = content_digest(tensors, metadata)
        if metadata.get("sha256") != digest:
            stored = metadata.get("sha256")
            found_digest = shown(stored if stored is None else stored[:SHOWN_DIGITS])
            raise InvalidFileError(
                f"{path}: sha256 must begin with {digest[:SHOWN_DIGITS]}, not {found_digest}: it was changed"
            )
        return cls(weights, text_layers, metadata.get("text_sha256", ""), metrics, metadata.get("command", ""), head)


def tensor_kinds(config: Config) -> dict[str, bool]:
    """Names of the arrays of :class:`LayerWeights`, each with whether this network has it."""
    has_projection = config.network.projection_size > 0
    return {
        "defining": True,
        "bias": True,
        "peephole": bool(config.cell.peepholes),
        "projection": has_projection,
        "scale": config.has_row_scales,
    }


def layer_tensors(config: Config) -> list[list[str]]:
    """Names of the tensors of every layer: defining vectors, biases, and peephole weights, projection, scales if any.

    In a bidirectional network the reverse direction of a layer is an entry of its own, behind the forward one.
    """
    kinds = [kind for kind, has in tensor_kinds(config).items() if has]
    prefixes = [f"{config.network.cell}.{number}." if number else f"{config.network.cell}."
                for number in range(config.network.num_layers)]  # fmt: skip
    prefixes = [prefix + way for prefix in prefixes for way in ("", "reverse.")[: config.directions]]
    return [[prefix + kind for kind in kinds] for prefix in prefixes]


def is_weight_image(path: Path) -> bool:
    """Tell whether a file is a weight image of any format, however damaged its content."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format", "") in (FORMAT, OLD_FORMAT)
    except (OSError, SafetensorError):
        return False


def content_digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 of the tensors and of the metadata (but for the digest itself), as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for key in sorted(metadata.keys() - {"sha256"}):
        digest.update(json.dumps([key, metadata[key]]).encode())
    for name in sorted(tensors):
        values = tensors[name]
        digest.update(json.dumps([name, values.dtype.str, values.shape]).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def natural_type(bits: int) -> type:
    """Narrowest signed NumPy integer type of at least ``bits`` bits."""
    return np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the integer tensors and the metadata of a file."""
    require_file(path, "a weight image")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == OLD_FORMAT:
                remedy = "write it again with chessrnn train or chessrnn convert"
                raise InvalidFileError(f"{path} must be of format {FORMAT!r}, which has a digest: {remedy}")
            if metadata.get("format") != FORMAT:
                raise InvalidFileError(f"{path} must be of format {FORMAT!r}, not {shown(metadata.get('format'))}")
            names = set(file.keys())
            for name in sorted(names):
                kind = file.get_slice(name).get_dtype()
                if kind not in INTEGER_TYPES:
                    raise InvalidFileError(
                        f"{path}: {name} must be of type {', '.join(INTEGER_TYPES)}, not {shown(kind)}"
                    )
            return {name: file.get_tensor(name) for name in names}, metadata
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path} must be a whole safetensors file: {error}") from None


def _check_names(path: Path, config: Config, names: set[str]) -> None:
    expected = [name for names in layer_tensors(config) for name in names]
    for required in (expected, OUTPUT_TENSORS if names & {*OUTPUT_TENSORS, EMBEDDING_TENSOR} else ()):
        for name in required:
            if name not in names:
                raise InvalidFileError(f"{path}: {name} must be given, not left out")
    for name in sorted(names - {*expected, *OUTPUT_TENSORS, EMBEDDING_TENSOR}):
        rule = ", ".join((*expected, *OUTPUT_TENSORS, EMBEDDING_TENSOR))
        raise InvalidFileError(f"{path}: a tensor's name must be one of {rule}, not {shown(name)}")


def _json(path: Path, metadata: dict[str, str], key: str, kind: type[Kind]) -> Kind:
    try:
        value = parse_json(metadata[key], f"{path}: metadata {key}")
    except (KeyError, json.JSONDecodeError):
        value = None
    except InvalidValueError as error:
        raise InvalidFileError(str(error)) from None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidFileError(f"{path}: metadata {key} must be JSON ({kind.__name__}), not {shown(metadata.get(key))}")
    return value


def _config_of(path: Path, metadata: dict[str, str]) -> Config:
    try:
        config = Config.from_dict(_json(path, metadata, "config", dict))
    except InvalidFileError:
        raise
    except UserError as error:
        raise InvalidFileError(f"{path}: {error}") from None
    found = metadata.get("model_fingerprint")
    if found != config.model_fingerprint:
        raise InvalidFileError(f"{path}: model_fingerprint must be {config.model_fingerprint}, not {shown(found)}")
    return config


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path not in IGNORED_FIELDS:
            flat |= _flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat


def compare(path: Path, wanted: Config, found: Config) -> None:
    """Reject a file whose network differs from the configured one, with a message that names the first such field."""
    values, kinds = _flat(found.to_dict()), tensor_kinds(wanted)
    formats = {"peephole": "quantization.peephole", "projection": "quantization.projection_frac",
               "scale": "quantization.scale_bits"}  # fmt: skip
    absent = {field for kind, field in formats.items() if not kinds[kind]}
    for name, value in _flat(wanted.to_dict()).items():
        if name in absent:
            continue  # a field without meaning for this network, ignored by Config.model_fingerprint too
        if values.get(name) != value:
            raise InvalidFileError(
                f"{name} must be {value!r} as configured, not {shown(values.get(name))} as in {path}"
            )


def check_head(config: Config, head: OutputLayer) -> None:
    """Reject an output layer that does not fit h, or whose blocks are not circulant where they have to be."""
    wanted, shape = config.stream_size, head.weight.shape
    require(len(shape) == 2 and shape[0] >= 1 and shape[1] == wanted, "head.weight", f"of shape (V, {wanted})", shape)
    require(-8 <= head.weight_frac <= 20, "head.weight_frac", "from -8 to 20", head.weight_frac)
    first_columns(head.weight, config.compression.output_block_size, "head.weight")


def _is_plain_head(tensors: dict, metadata: dict[str, str]) -> bool:
    """Whether a file has an output layer without an alphabet: that of a network that is no character model."""
    return OUTPUT_TENSORS[0] in tensors and "symbols" not in metadata and EMBEDDING_TENSOR not in tensors


def _head(path: Path, config: Config, tensors: dict, metadata: dict[str, str]) -> OutputLayer | None:
    """Read the output layer of a network that is no character model."""
    if not _is_plain_head(tensors, metadata):
        return None
    weight, bias = (tensors[name].astype(np.int64) for name in OUTPUT_TENSORS)
    require(weight.ndim == 2 and weight.size > 0, "head.weight", "a matrix", weight.shape)
    head = OutputLayer(weight, bias, _json(path, metadata, "head_weight_frac", int))
    check_head(config, head)
    return head


def _input_fold(path: Path, metadata: dict[str, str]) -> InputFold | None:
    """Read the scale of every input element, where the file has one."""
    if "input_fold" not in metadata:
        return None
    values = _json(path, metadata, "input_fold", dict)
    numbers = {"exponents": int, "offsets": (int, float)}
    lists: dict[str, Any] = {name: values.get(name) for name in numbers}
    for name, kind in numbers.items():
        require_type(lists[name], list, f"input_fold.{name}", "a list of numbers")
        for value in lists[name]:
            require_type(value, kind, f"input_fold.{name}", "a list of numbers")
    return InputFold(tuple(lists["exponents"]), tuple(float(value) for value in lists["offsets"]))


def _text_layers(path: Path, config: Config, tensors: dict, metadata: dict[str, str]) -> TextLayers | None:
    if OUTPUT_TENSORS[0] not in tensors or _is_plain_head(tensors, metadata):
        return None
    frac, symbols = _json(path, metadata, "head_weight_frac", int), _json(path, metadata, "symbols", str)
    weight, bias = (tensors[name] for name in OUTPUT_TENSORS)
    return TextLayers(config, weight, bias, frac, symbols, tensors.get(EMBEDDING_TENSOR))
