"""LEF: the layout of the library's cells, and the routing layers with their capacitance and resistance."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.text_file import read_bytes

MAX_LEF_BYTES = 1 << 28
POWER = ("POWER", "GROUND")


@dataclass(frozen=True)
class Layer:
    """A routing layer, in µm; ``area`` and ``edge`` in farad per µm² and µm, ``square`` in ohm."""

    name: str
    horizontal: bool
    pitch: float
    offset: float
    width: float
    area: float
    edge: float
    square: float

    @property
    def capacitance(self) -> float:
        """Capacitance of a wire of the least width, in farad per µm: its area and both of its edges."""
        return self.width * self.area + 2 * self.edge

    @property
    def resistance(self) -> float:
        """Resistance of a wire of the least width, in ohm per µm."""
        return self.square / self.width


@dataclass(frozen=True)
class Shape:
    """A rectangle on a layer, in µm from the lower left corner of the cell."""

    layer: str
    left: float
    low: float
    right: float
    high: float


@dataclass
class Macro:
    """Layout of a cell: its size in µm, and the shapes of every pin that is neither power nor ground."""

    name: str
    width: float = 0.0
    height: float = 0.0
    pins: dict[str, list[Shape]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lef:
    """Layouts of a library.

    Attributes
    ----------
    layers : list of Layer
        Routing layers from the lowest.
    macros : dict of str to Macro
        Layout of every cell.
    vias : dict of str to (str, str)
        The two routing layers that every via joins.
    site : float
        Width in µm of a place of a row.
    row : float
        Height in µm of a row.
    """

    layers: list[Layer]
    macros: dict[str, Macro]
    vias: dict[str, tuple[str, str]]
    site: float
    row: float

    def layer(self, name: str) -> Layer:
        """The routing layer of a name."""
        return next(layer for layer in self.layers if layer.name == name)


def read_lef(path: Path) -> Lef:
    """Read a LEF file of a technology and its cells.

    Raises
    ------
    InvalidFileError
        The file cannot be read, or lacks routing layers with their capacitance, cells, or the site of the rows.
    """
    text = read_bytes(path, MAX_LEF_BYTES, "a readable LEF file").decode("latin-1")
    text = re.sub(r"#[^\n]*", "", text)
    layers = []
    for match in re.finditer(r"^LAYER\s+(\S+)(.*?)^END\s+\1\s*$", text, re.MULTILINE | re.DOTALL):
        name, body = match.groups()
        if re.search(r"TYPE\s+ROUTING", body):
            layers.append(_layer(path, name, body))
    macros = {
        match[1]: _macro(path, match[1], match[2])
        for match in re.finditer(r"^MACRO\s+(\S+)(.*?)^END\s+\1\s*$", text, re.MULTILINE | re.DOTALL)
    }
    routing = {layer.name for layer in layers}
    vias = {}
    for match in re.finditer(r"^VIA\s+(\S+)(.*?)^END\s+\1\s*$", text, re.MULTILINE | re.DOTALL):
        joined = [name for name in re.findall(r"\bLAYER\s+(\S+)", match[2]) if name in routing]
        if len(joined) == 2:
            vias[match[1]] = (joined[0], joined[1])
    site = re.search(r"^SITE\s+(\S+).*?SIZE\s+([\d.]+)\s+BY\s+([\d.]+).*?^END\s+\1\s*$", text, re.MULTILINE | re.DOTALL)
    if not layers or not macros or not vias or site is None:
        raise InvalidFileError(f"{path} must be a LEF file with routing layers, vias, macros and the site of the rows")
    found = Lef(layers, macros, vias, float(site[2]), float(site[3]))
    if min(found.site, found.row, *(layer.pitch for layer in layers)) <= 0:
        raise InvalidFileError(f"{path} must have a site and pitches of layers above 0")
    return found


def _layer(path: Path, name: str, body: str) -> Layer:
    def number(pattern: str, default: float | None = None) -> float:
        match = re.search(pattern + r"\s+([\d.eE+-]+)", body)
        if match is None and default is None:
            raise InvalidFileError(f"{path} must give {pattern.removeprefix(chr(92) + 'b')} of the layer {name}")
        return float(match[1]) if match else float(default or 0.0)

    pitch = number("PITCH")
    return Layer(
        name,
        "HORIZONTAL" in body,
        pitch,
        number("OFFSET", pitch / 2),
        number(r"\bWIDTH"),
        # LEF counts in pF.
        number("CPERSQDIST") * 1e-12,
        number("EDGECAPACITANCE", 0.0) * 1e-12,
        number("RPERSQ"),
    )


def _macro(path: Path, name: str, body: str) -> Macro:
    macro = Macro(name)
    size = re.search(r"SIZE\s+([\d.]+)\s+BY\s+([\d.]+)", body)
    if size:
        macro.width, macro.height = float(size[1]), float(size[2])
    for pin, text in re.findall(r"^\s*PIN\s+(\S+)(.*?)^\s*END\s+\1\s*$", body, re.MULTILINE | re.DOTALL):
        use = re.search(r"USE\s+(\w+)", text)
        if use and use[1] in POWER:
            continue
        layer, shapes = "", []
        for word, rest in re.findall(r"\b(LAYER|RECT)\s+([^;]*);", text):
            if word == "LAYER":
                layer = rest.split()[0]
            else:
                # A mask may be named before the corners.
                corners = re.findall(r"(?<![\w.])-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?", rest)[-4:]
                if len(corners) < 4:
                    raise InvalidFileError(f"{path} must give four numbers for every RECT of {name}")
                shapes.append(Shape(layer, *map(float, corners)))
        macro.pins[pin] = shapes
    return macro
