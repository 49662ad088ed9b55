"""Amaranth's platforms of boards: a class of amaranth-boards, or one made from the pins that a board's file gives."""

from importlib import import_module
from types import new_class

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.build.plat import TemplatedPlatform
from amaranth.vendor import GowinPlatform, LatticePlatform, SiliconBluePlatform
from amaranth_boards.resources import LEDResources, UARTResource

from chessrnn.model.boards import Board, FpgaPart
from chessrnn.model.errors import InvalidValueError, shown

# Attribute of a pin that names its I/O standard, and the usual one at 3.3 V, for each family.
IO_STANDARDS = {
    "ecp5": ("IO_TYPE", "LVCMOS33"),
    "machxo2": ("IO_TYPE", "LVCMOS33"),
    "gowin": ("IO_TYPE", "LVCMOS33"),
    "ice40": ("IO_STANDARD", "SB_LVCMOS"),
}
CLOCK_RESOURCE = "clock"
# In words, as the list is too long for a message.
KNOWN_PARTS = "an ECP5, an iCE40, a GW1N-9C, a GW2A-18C, or a MachXO2 or MachXO3LF of 6900 LUTs and more"


def platform_of(board: Board) -> TemplatedPlatform:
    """Create the platform of a board; a platform object can be built once only."""
    return platform_class(board.platform)() if board.pins is None else _platform_of_pins(board)


def platform_class(name: str) -> type[TemplatedPlatform]:
    """Import the platform class called ``module:class``.

    Raises
    ------
    InvalidValueError
        The module or the class does not exist, or the class is no platform of Amaranth.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        found = None
    if isinstance(found, type) and issubclass(found, TemplatedPlatform):
        return found
    rule = "module:class of an Amaranth platform, as in amaranth-boards"
    raise InvalidValueError(f"platform must be {rule}, not {shown(name)}")


def part_of(platform: TemplatedPlatform, parts: dict[str, FpgaPart]) -> FpgaPart:
    """Find the part of a platform of amaranth-boards.

    Raises
    ------
    InvalidValueError
        The part's family has no open tools that install with the program, or its size is not known.
    """
    name = platform.family if isinstance(platform, GowinPlatform) else getattr(platform, "device", "")
    if name not in parts:
        raise InvalidValueError(f"the platform's part must be {KNOWN_PARTS}, not {name or 'unknown'}")
    return parts[name]


def has_resource(platform: TemplatedPlatform, name: str) -> bool:
    """Whether the platform has the resource number 0 of a name."""
    return (name, 0) in platform.resources


def _platform_of_pins(board: Board) -> TemplatedPlatform:
    pins, family = board.pins, board.part.family
    assert pins is not None
    key, usual = IO_STANDARDS[family]
    attrs = Attrs(**{key: pins.io_type or usual})
    resources = [
        Resource(CLOCK_RESOURCE, 0, Pins(pins.clock, dir="i"), Clock(board.input_hz), attrs),
        UARTResource(0, rx=pins.rx, tx=pins.tx, attrs=attrs),
    ]
    if pins.led is not None:
        resources += LEDResources(pins=pins.led, attrs=attrs)
    common = {"default_clk": CLOCK_RESOURCE, "resources": resources, "connectors": []}
    if family == "gowin":
        own = {"part": pins.package, "family": board.part.name}
        base: type[TemplatedPlatform] = GowinPlatform
    elif family == "ice40":
        own, base = {"device": board.part.name, "package": pins.package}, SiliconBluePlatform
    else:
        own = {"device": board.part.name, "package": pins.package, "speed": pins.speed}
        base = LatticePlatform
    try:
        return new_class("FilePlatform", (base,), exec_body=lambda space: space.update(common | own))()
    except ValueError as error:  # of Gowin's part numbers
        raise InvalidValueError(f"package must be the part number of a {board.part.name}: {error}") from None
