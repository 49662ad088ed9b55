"""Boards of a user's own: a TOML file of pins, or any platform class of amaranth-boards."""

import re
from pathlib import Path
from typing import Any

from amaranth.build.plat import TemplatedPlatform

from chessrnn.hdl.device.board_platform import KNOWN_PARTS, has_resource, part_of, platform_class
from chessrnn.model.boards import BOARDS, DEFAULT_BAUD, DEFAULT_CONFIG, PARTS, Board, BoardPins, FpgaPart
from chessrnn.model.errors import InvalidValueError, require, require_type
from chessrnn.model.text_file import read_toml

# Suffix of the file that programs an FPGA, by family.
BITSTREAMS = {"ecp5": "bit", "ice40": "bin", "gowin": "fs", "machxo2": "bit"}
PLATFORMS = "amaranth_boards."
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
PIN = re.compile(r"[A-Za-z0-9_]{1,16}")
PACKAGE = re.compile(r"[A-Za-z0-9/_-]{1,40}")
# Fields of a board's file: the type of each, or a table of them.
TEXT, NUMBER = "a text", "a number"
FIELDS: dict[str, Any] = {
    "name": TEXT,
    "platform": TEXT,
    "part": TEXT,
    "package": TEXT,
    "speed": TEXT,
    "io_type": TEXT,
    "clock": {"pin": TEXT, "mhz": NUMBER},
    "uart": {"rx": TEXT, "tx": TEXT, "baud": NUMBER},
    "led": {"pin": TEXT},
    "design": {"config": TEXT, "clock_mhz": NUMBER, "set": dict},
}
MAX_MHZ = 1000


def board(name: str) -> Board:
    """Find a board by name, by a TOML file, or by a platform class given as ``module:class``.

    Parameters
    ----------
    name : str
        A key of ``BOARDS``, a path that ends in ``.toml``, or ``amaranth_boards.module:class``.

    Raises
    ------
    InvalidFileError
        The file cannot be read, or is not TOML.
    InvalidValueError, InvalidTypeError
        A field of the file breaks a rule, or no board has the name.
    """
    if name in BOARDS:
        return BOARDS[name]
    if name.endswith(".toml"):
        return read_board(name)
    rule = f"one of {', '.join(BOARDS)}, a .toml file, or {PLATFORMS}module:class"
    require(name.startswith(PLATFORMS) and ":" in name, "board", rule, name)
    return _of_platform(name.partition(":")[2].lower(), name, {})


def read_board(path: str | Path) -> Board:
    """Read a board's TOML file; nothing of it is executed.

    Platform classes are taken from amaranth-boards alone, so that a file cannot name other code.
    """
    fields = read_toml(path)
    _check(fields, FIELDS, "")
    name = fields.get("name", Path(path).stem)
    require(bool(NAME.fullmatch(name)), "name", "a letter, then at most 63 letters, digits and _", name)
    if "platform" in fields:
        given = {"part", "package", "speed", "io_type", "led"} & fields.keys()
        require(not given, "platform", f"given without {', '.join(sorted(given))}", fields["platform"])
        require(fields["platform"].startswith(PLATFORMS), "platform", f"{PLATFORMS}module:class", fields["platform"])
        return _of_platform(name, fields["platform"], fields)
    part = _required(fields, "part")
    require(part in PARTS, "part", f"{KNOWN_PARTS}, as chessrnn fpga --parts lists them", part)
    return _of_pins(name, PARTS[part], fields)


def _of_platform(name: str, platform: str, fields: dict) -> Board:
    made: TemplatedPlatform = platform_class(platform)()
    part = part_of(made, PARTS)
    if not has_resource(made, "uart"):
        raise InvalidValueError(f"the platform must have a resource uart, not be {platform}; a file can give the pins")
    if not isinstance(made.default_clk, str) or not has_resource(made, made.default_clk):
        raise InvalidValueError(f"the platform must have a clock pin, not be {platform}; a file can give the pins")
    led = "led" if has_resource(made, "led") else None
    input_hz = float(made.default_clk_frequency)
    return _board(name, part, input_hz, led, fields, platform, None)


def _of_pins(name: str, part: FpgaPart, fields: dict) -> Board:
    clock, uart = _required(fields, "clock"), _required(fields, "uart")
    led = fields.get("led")
    values = {
        "clock.pin": _required(clock, "pin", "clock."),
        "uart.rx": _required(uart, "rx", "uart."),
        "uart.tx": _required(uart, "tx", "uart."),
    } | ({} if led is None else {"led.pin": _required(led, "pin", "led.")})
    for field, pin in values.items():
        require(bool(PIN.fullmatch(pin)), field, "the name of one pin: letters and digits", pin)
        require(list(values.values()).count(pin) == 1, field, "a pin of its own", pin)
    package = _required(fields, "package")
    require(bool(PACKAGE.fullmatch(package)), "package", "the name of a package", package)
    for field in ("speed", "io_type"):
        require(
            bool(re.fullmatch(r"[A-Z0-9_]{0,20}", fields.get(field, ""))),
            field,
            "letters and digits",
            fields.get(field),
        )
    needs_speed = part.family in {"ecp5", "machxo2"}
    require("speed" in fields or not needs_speed, "speed", f"given for {part.name}", None)
    pins = BoardPins(
        package, fields.get("speed", ""), values["clock.pin"], values["uart.rx"], values["uart.tx"],
        values.get("led.pin"), fields.get("io_type", ""),
    )  # fmt: skip
    input_mhz = _required(clock, "mhz", "clock.")
    require(0 < input_mhz <= MAX_MHZ, "clock.mhz", f"above 0 and at most {MAX_MHZ}", input_mhz)
    return _board(name, part, input_mhz * 1e6, None if led is None else "led", fields, "", pins)


def _board(name: str, part: FpgaPart, input_hz: float, led: str | None, fields: dict, platform: str, pins) -> Board:
    design = fields.get("design", {})
    clock_mhz = design.get("clock_mhz", input_hz / 1e6)
    require(0 < clock_mhz <= MAX_MHZ, "design.clock_mhz", f"above 0 and at most {MAX_MHZ}", clock_mhz)
    baud = fields.get("uart", {}).get("baud", DEFAULT_BAUD)
    require(
        isinstance(baud, int) and 300 <= baud <= 12_000_000, "uart.baud", "a whole number from 300 to 12000000", baud
    )
    return Board(
        name, part, input_hz, clock_mhz * 1e6, baud, design.get("config", DEFAULT_CONFIG), design.get("set", {}), led,
        BITSTREAMS[part.family], platform, pins,
    )  # fmt: skip


def _required(fields: dict, name: str, table: str = "") -> Any:
    if name not in fields:
        raise InvalidValueError(f"{table}{name} must be given in the board's file")
    return fields[name]


def _check(values: Any, kinds: dict, table: str) -> None:
    """Check the names and types of a table of a board's file."""
    for name, value in values.items():
        field = f"{table}{name}"
        require(name in kinds, "the board's file", f"a table of {', '.join(kinds)}", field)
        kind = kinds[name]
        if kind is TEXT:
            require_type(value, str, field, TEXT)
        elif kind is NUMBER:
            require_type(value, (int, float), field, NUMBER)
        else:
            require_type(value, dict, field, "a table")
            if kind is not dict:
                _check(value, kind, f"{field}.")
