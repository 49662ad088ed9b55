"""Reader of tensors in an archive of torch.export (.pt2); it executes no code of the archive and needs no torch.

Every weight is an entry of raw bytes, and a JSON file for each model of the archive names them, with their types, sizes
and strides (torch/export/pt2_archive of PyTorch 2.8 and newer).
"""

import json
import re
import zipfile
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chessrnn.model.errors import InvalidFileError, InvalidValueError, reason, shown
from chessrnn.model.imported.tensor_file import TensorFile
from chessrnn.model.imported.torchscript_file import STORAGES, read_stored
from chessrnn.model.text_file import parse_json

CONFIG = re.compile(r"(?P<folder>[^/]*/data/weights/)(?P<model>[^/]*)_weights_config\.json")
# Bytes of the descriptions of all models: compressed, each takes little of the archive.
MAX_JSON = 1 << 24
# Numbers of types in torch's schema, and the storages of the same types.
TYPES = {6: "HalfStorage", 7: "FloatStorage", 8: "DoubleStorage", 13: "BFloat16Storage"}
WAY = "save model.state_dict() of the module"


class _Weight(NamedTuple):
    entry: str
    type: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _whole(value: object) -> int:
    """Read a size, which the schema wraps in a dictionary."""
    number = value["as_int"] if isinstance(value, dict) else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"a size must be a whole number, not {shown(number)}")
    return number


def _weights(content: dict, folder: str, prefix: str) -> dict[str, _Weight]:
    """Read the description of the weights of one model."""
    found = {}
    for name, payload in content["config"].items():
        meta = payload["tensor_meta"]
        # Sub-classes of tensors are pickles.
        if payload["use_pickle"] or meta is None:
            continue
        sizes = [tuple(_whole(value) for value in meta[key]) for key in ("sizes", "strides")]
        place = f"{folder}{payload['path_name']}"
        found[f"{prefix}{name}"] = _Weight(place, _whole(meta["dtype"]), _whole(meta["storage_offset"]), *sizes)
    return found


def open_exported(path: Path) -> TensorFile:
    """Open the parameters of an archive of torch.export by the names that they have in a state_dict.

    Where the archive holds several models, names begin with those of the models.

    Raises
    ------
    InvalidFileError
        The archive is damaged, or holds no weights.
    """
    found: dict[str, _Weight] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            configs = [match for match in map(CONFIG.fullmatch, archive.namelist()) if match]
            left = MAX_JSON
            for match in configs:
                with archive.open(match[0]) as file:
                    text = file.read(left + 1)
                left -= len(text)
                if left < 0:
                    raise InvalidFileError(f"{path} must have at most {MAX_JSON} bytes of weights_config.json in all")
                content = parse_json(text.decode("utf-8"), shown(match[0]))
                found |= _weights(content, match["folder"], f"{match['model']}." if len(configs) > 1 else "")
    except InvalidFileError:
        raise
    except (json.JSONDecodeError, InvalidValueError) as error:
        raise InvalidFileError(f"{path} must hold valid JSON: {error}") from None
    except Exception as error:  # What is damaged in an archive or in its JSON shows in a dozen kinds of exception.
        raise InvalidFileError(f"{path} must be a readable archive of torch.export: {reason(error)}") from None
    if not found:
        raise InvalidFileError(f"{path} must hold weights, as an archive of torch.export.save does: {WAY}")

    def kind_of(weight: _Weight) -> tuple[str, str]:
        return STORAGES[TYPES[weight.type]] if weight.type in TYPES else (f"number {weight.type} of torch", "")

    def load(name: str) -> np.ndarray:
        weight = found[name]
        if prod(weight.shape) == 0:
            return np.zeros(weight.shape)
        kind, code = kind_of(weight)
        return read_stored(path, weight.entry, name, kind, code, weight.offset, weight.shape, weight.strides)

    shapes = {name: weight.shape for name, weight in found.items()}
    return TensorFile(path, shapes, {name: kind_of(weight)[0] for name, weight in found.items()}, load)
