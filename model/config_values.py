"""Sections of a configuration from values of JSON or of the command line, and back; errors name the field."""

import dataclasses
import itertools
import json
import types
import typing
from typing import Any

from chessrnn.model.config_sections import GateFractions, HiddenSizes, LayerFractions, WeightWidths
from chessrnn.model.errors import InvalidTypeError, InvalidValueError, require, require_type, shortened, shown
from chessrnn.model.qformat import QFormat
from chessrnn.model.text_file import parse_json


def to_plain(value) -> Any:
    """Turn a section into values of JSON: dictionaries, lists, numbers and text."""
    if isinstance(value, QFormat):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls, values, path: str):
    """Create a section of a configuration from values of JSON.

    Parameters
    ----------
    cls : type
        Dataclass of the section.
    values : dict
    path : str
        Dotted name of the section for messages; empty for the whole configuration.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        A field is unknown, missing or wrong.
    """
    require_type(values, dict, path or "configuration", "a table of fields")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        name = shortened(f"{path}.{key}".lstrip("."))
        if key not in fields:
            raise InvalidValueError(f"{name} must be one of {', '.join(fields)}, not an unknown key")
    arguments = {}
    for key, spec in fields.items():
        name = f"{path}.{key}".lstrip(".")
        if key in values:
            arguments[key] = _convert(spec.type, values[key], name)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise InvalidValueError(f"{name} must be given, not left out")
    return cls(**arguments)


def _convert(kind, value, name: str):
    if dataclasses.is_dataclass(kind) and kind is not QFormat:
        return from_plain(kind, value, name)
    if kind is QFormat:
        try:
            return QFormat.parse(value)
        except (InvalidTypeError, InvalidValueError) as error:
            raise type(error)(f"{name}: {error}") from None
    if kind == GateFractions:
        return _gate_fractions(value, name)
    if kind in (LayerFractions, HiddenSizes, WeightWidths):
        for item in value if isinstance(value, (list, tuple)) else [value]:
            require_type(item, int, name, "an integer or an integer per layer")
        return tuple(value) if isinstance(value, (list, tuple)) else value
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    names = {int: "an integer", bool: "true or false", str: "a string"}
    require_type(value, kind, name, names[kind])
    return value


def _gate_fractions(value, name: str) -> GateFractions:
    """An integer, a list of integers, or a list of such lists as tuples."""
    items = value if isinstance(value, (list, tuple)) else [value]
    is_by_layer = any(isinstance(item, (list, tuple)) for item in items)
    for item in items if is_by_layer else ():
        require_type(item, (list, tuple), name, "a list for each layer, where one is given")
    for item in itertools.chain(*items) if is_by_layer else items:
        require_type(item, int, name, "an integer or an integer per gate")
    return tuple(map(tuple, items)) if is_by_layer else tuple(items)


def assign(values: dict, path: str, value) -> None:
    """Replace the value of a dotted field in a nested dictionary, which must have it."""
    *parents, last = path.split(".")
    path = shortened(path, 60)
    table = values
    for depth, key in enumerate(parents):
        if not isinstance(table.get(key), dict):
            name = ".".join(parents[: depth + 1])
            raise InvalidValueError(f"{path} must be a field of the configuration, not a field of {shown(name)}")
        table = table[key]
    if last not in table:
        raise InvalidValueError(f"{path} must be a field of the configuration, not an unknown key")
    table[last] = value


def parse_setting(text: str) -> tuple[str, object]:
    """Split ``"architecture.tile_rows=8"`` into ``("architecture.tile_rows", 8)``; a value is JSON, else a string."""
    path, separator, value = text.partition("=")
    require(bool(separator) and bool(path), "--set", "of the form section.field=value", text)
    try:
        return path.strip(), parse_json(value, shortened(path.strip()))
    except json.JSONDecodeError:
        return path.strip(), value.strip()
