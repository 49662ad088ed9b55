"""What the hardware must know of the parts of a step (``chessrnn.model.parts``)."""

from typing import NamedTuple

from amaranth.hdl import Array, Const, Mux, Value
from amaranth.lib.wiring import In, Out

from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION


class Shape(NamedTuple):
    """What the datapath sees of a part; parts of equal shape are the same to it.

    Attributes
    ----------
    is_projection : bool
    col_groups : int
    last_rows : int
        Block rows of its last row group.
    """

    is_projection: bool
    col_groups: int
    last_rows: int


def part_shapes(config: Config) -> list[Shape]:
    """The shape of every part."""
    rows = config.architecture.tile_rows
    return [
        Shape(part.kind == PROJECTION, part.col_groups, part.row_blocks - (part.row_groups - 1) * rows)
        for part in config.parts
    ]


def shapes(config: Config) -> list[Shape]:
    """Different shapes in the order of their numbers."""
    return list(dict.fromkeys(part_shapes(config)))


def shape_bits(config: Config) -> dict[str, int]:
    """The field ``part_shape`` of what travels beside sums, where there are several."""
    count = len(shapes(config))
    return {"part_shape": (count - 1).bit_length()} if count > 1 else {}


def has_projection(config: Config) -> bool:
    """Whether any part is one."""
    return any(shape.is_projection for shape in shapes(config))


def group_shape(config: Config) -> range:
    """Number of a column group of any part."""
    return range(max(2, *(part.col_groups for part in config.parts)))


def part_port(config: Config, direction: type[In] | type[Out], name: str = "part") -> dict:
    """The number of a part, where there are several."""
    return {name: direction(range(len(config.parts)))} if len(config.parts) > 1 else {}


def layer_part_port(config: Config, direction: type[In] | type[Out]) -> dict:
    """Of a bidirectional network the number of a part in its layer, where a layer has several."""
    count = len(config.layer_parts[0])
    return {"part": direction(range(count))} if count > 1 else {}


def select(number, values: list):
    """The one of ``values`` with a number, which is a signal; what does not depend on it is a constant."""
    first, *others = values
    if any(isinstance(value, Value) for value in values):
        return Array(values)[number] if others else first
    if all(value == first for value in others):
        return first
    if all(value == others[0] for value in others):
        return Mux(number != 0, others[0], first)
    return Array(values)[number]


def flag(number, values: list[bool]):
    """The bit of ``values`` with a number."""
    return Array(Const(value, 1) for value in values)[number]


def select_part(layer, part, values: list[list]):
    """The one of ``values`` [layer][part] with two numbers, as :func:`select`."""
    return select(part, [select(layer, list(of_layers)) for of_layers in zip(*values, strict=True)])
