"""Properties of the parts of a step (``chessrnn.model.parts``) on which the hardware depends."""

from typing import NamedTuple

from amaranth.hdl import Array, Const, Mux, Value
from amaranth.lib.wiring import Flow

from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION


class Shape(NamedTuple):
    """The properties of a part that the datapath distinguishes; it treats parts of equal shape alike.

    Attributes
    ----------
    is_projection : bool
        Whether the part is a projection; else it is a cell's.
    col_groups : int
        Column groups of the part.
    last_rows : int
        Block rows of the part's last row group.
    shifts : (int, int)
        Left shifts of the sums over its early and over its late columns.
    early_groups : int
        Column groups that are early, where the shifts differ; else 0.
    """

    is_projection: bool
    col_groups: int
    last_rows: int
    shifts: tuple[int, int]
    early_groups: int

    @property
    def units(self) -> int:
        """Sum of 2^shift over all column groups: the factor of a constant that is added in every group."""
        early, late = self.shifts
        return (self.early_groups << early) + (self.col_groups - self.early_groups << late)


def part_shapes(config: Config) -> list[Shape]:
    """The shape of every part."""
    rows, found = config.architecture.tile_rows, []
    for part in config.parts:
        last_rows, shifts = part.row_blocks - (part.row_groups - 1) * rows, config.part_shifts(part)
        early_groups = part.early_groups if any(shifts) else 0
        found.append(Shape(part.kind == PROJECTION, part.col_groups, last_rows, shifts, early_groups))
    return found


def shapes(config: Config) -> list[Shape]:
    """The distinct shapes of all parts; the index in this list is a shape's number."""
    return list(dict.fromkeys(part_shapes(config)))


def shape_bits(config: Config) -> dict[str, int]:
    """The tag ``part_shape`` with its width; none if all parts have the same shape."""
    count = len(shapes(config))
    return {"part_shape": (count - 1).bit_length()} if count > 1 else {}


def late_port(config: Config) -> dict[str, int]:
    """The tag ``late`` of an issue of late columns (``chessrnn.model.parts``); none if no sums are shifted."""
    return {"late": 1} if any(config.layer_input_shifts) else {}


def has_projection(config: Config) -> bool:
    """Whether any part is a projection."""
    return any(shape.is_projection for shape in shapes(config))


def group_shape(config: Config) -> range:
    """The range of column group numbers over all parts."""
    return range(max(2, *(part.col_groups for part in config.parts)))


def part_port(config: Config, direction: Flow, name: str = "part") -> dict:
    """The member ``name``, which carries the number of a part; none if there is only one part."""
    return {name: direction(range(len(config.parts)))} if len(config.parts) > 1 else {}


def layer_part_port(config: Config, direction: Flow) -> dict:
    """The member ``part`` of a bidirectional network, numbered within a layer; none if a layer has only one part."""
    count = len(config.layer_parts[0])
    return {"part": direction(range(count))} if count > 1 else {}


def select(number, values: list):
    """The entry of ``values`` at index ``number``, a signal; without logic if all entries are equal."""
    first, *others = values
    if any(isinstance(value, Value) for value in values):
        return Array(values)[number] if others else first
    if all(value == first for value in others):
        return first
    if all(value == others[0] for value in others):
        return Mux(number != 0, others[0], first)
    return Array(values)[number]


def select_bit(number, values: list[bool]):
    """The entry of ``values`` at index ``number``, a signal, as one bit."""
    return Array(Const(value, 1) for value in values)[number]


def select_part(layer, part, values: list[list]):
    """The entry of ``values[layer][part]``, where both indices are signals; see :func:`select`."""
    return select(part, [select(layer, list(of_layers)) for of_layers in zip(*values, strict=True)])
