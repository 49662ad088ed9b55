"""Routing with qrouter, through DEF files."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from chessrnn.model.errors import MissingToolError
from chessrnn.model.progress import elapsed
from chessrnn.sim.placement.flat_netlist import FlatNetlist
from chessrnn.sim.placement.lef import Lef
from chessrnn.sim.placement.placer import MARGIN, Placement
from chessrnn.sim.synthesis.yosys import ToolError

PROGRAM = "qrouter"
# Units of a DEF file in a µm.
UNITS = 1000
# Routes in the way that one net may rip up, and attempts at each net.
RIPPED, TRIES = 50, 10


def require_available() -> None:
    """Raise :class:`MissingToolError` unless qrouter is installed."""
    if shutil.which(PROGRAM) is None:
        raise MissingToolError("qrouter must be installed to route (Debian: apt-get install qrouter)")


def write_def(flat: FlatNetlist, placement: Placement, lef: Lef, layers: int) -> str:
    """DEF of a placed block, to be routed on the lowest ``layers`` layers."""

    def units(value: float) -> int:
        return round(value * UNITS)

    left, low = -MARGIN, -MARGIN
    right, high = placement.width + MARGIN, placement.height + MARGIN
    lines = [
        "VERSION 5.6 ;", "NAMESCASESENSITIVE ON ;", 'DIVIDERCHAR "/" ;', 'BUSBITCHARS "[]" ;',
        f"DESIGN {flat.top} ;", f"UNITS DISTANCE MICRONS {UNITS} ;",
        f"DIEAREA ( {units(left)} {units(low)} ) ( {units(right)} {units(high)} ) ;",
    ]  # fmt: skip
    for layer in lef.layers[:layers]:
        begin, end = (low, high) if layer.horizontal else (left, right)
        first = begin + (layer.offset - begin) % layer.pitch
        count = int((end - first) / layer.pitch) + 1
        axis = "Y" if layer.horizontal else "X"
        lines.append(f"TRACKS {axis} {units(first)} DO {count} STEP {units(layer.pitch)} LAYER {layer.name} ;")
    lines.append(f"COMPONENTS {len(flat.cells)} ;")
    for index, cell in enumerate(flat.cells):
        place = f"( {units(placement.x[index])} {units(placement.y[index])} )"
        lines.append(f"- {cell.name} {cell.type} + PLACED {place} {'FS' if placement.flipped(index) else 'N'} ;")
    lines += ["END COMPONENTS", f"PINS {len(flat.ports)} ;"]
    for port, (x, y, side) in zip(flat.ports, placement.ports, strict=True):
        layer = lef.layers[2 if side else 1]
        half = units(layer.width / 2)
        lines.append(
            f"- {port.name} + NET {port.net} + DIRECTION {port.direction.upper()} + LAYER {layer.name} "
            f"( {-half} {-half} ) ( {half} {half} ) + PLACED ( {units(x)} {units(y)} ) N ;"
        )
    nets = flat.routed()
    lines += ["END PINS", f"NETS {len(nets)} ;"]
    for net in nets:
        ends = [f"( {flat.cells[cell].name} {pin} )" for cell, pin in net.pins]
        ends += [f"( PIN {flat.ports[port].name} )" for port in net.ports]
        # qrouter finds a net again where its name ends the line.
        lines += [f"- {net.name}", *(f"  {end}" for end in ends), ";"]
    return "\n".join([*lines, "END NETS", "END DESIGN", ""])


@dataclass(frozen=True)
class Wire:
    """A piece of a route in µm: a straight wire on ``layer``, or the via ``via`` at its first end."""

    layer: str
    x0: float
    y0: float
    x1: float
    y1: float
    via: str = ""

    @property
    def length(self) -> float:
        """Length in µm."""
        return abs(self.x1 - self.x0) + abs(self.y1 - self.y0)


@dataclass(frozen=True)
class Routing:
    """Routes of a block: the wires and vias of every net, and the nets that the router gave up."""

    wires: dict[str, list[Wire]]
    failed: list[str]


def route(flat: FlatNetlist, placement: Placement, lef: Lef, lef_path: Path, layers: int, folder: Path) -> Routing:
    """Route a placed block on the lowest ``layers`` layers; files and log of the router stay in ``folder``.

    Raises
    ------
    ToolError
        The router failed; that it gives up some nets is no error here.
    """
    require_available()
    placed, routed, failed = (folder / name for name in ("placed.def", "routed.def", "failed.txt"))
    for path in (routed, failed):
        path.unlink(missing_ok=True)
    placed.write_text(write_def(flat, placement, lef, layers), encoding="utf-8")
    script, log = folder / "route.tcl", folder / "route.log"
    script.write_text(
        f"read_lef {lef_path}\nvdd vdd\ngnd gnd\nlayers {layers}\nvia stack all\nread_def {placed.name}\n"
        f"set effort {{limit {RIPPED} tries {TRIES}}}\nstage1 mask auto\n"
        "if {[stage2 mask auto {*}$effort] != 0} {stage2 mask none {*}$effort}\n"
        f"write_def {routed.name}\nwrite_failed {failed.name}\nquit\n",
        encoding="utf-8",
    )
    with log.open("wb") as stream, elapsed("qrouter"):
        code = subprocess.run(
            [PROGRAM, "-noc", "-nog", "-s", script.name],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, cwd=folder, check=False,
        ).returncode  # fmt: skip
    if code or not routed.exists():
        raise ToolError(f"qrouter must write routes, not end with status {code} (log: {log.resolve()})")
    wires = read_routes(routed.read_text(encoding="utf-8"))
    return Routing(wires, [net.name for net in flat.routed() if net.name not in wires] + _gave_up(failed))


def read_routes(text: str) -> dict[str, list[Wire]]:
    """Wires and vias of every net of a routed DEF file."""
    body = re.search(r"^NETS\b(.*?)^END NETS", text, re.MULTILINE | re.DOTALL)
    found: dict[str, list[Wire]] = {}
    for entry in re.split(r"^- ", body[1] if body else "", flags=re.MULTILINE)[1:]:
        name = entry.split(None, 1)[0]
        head, _, routes = entry.partition("+ ROUTED")
        wires: list[Wire] = []
        for piece in re.split(r"\bNEW\b", routes):
            tokens = piece.replace(";", " ").split("+")[0].split()
            if tokens:
                wires += _wires(tokens)
        if wires:
            found[name] = wires
    return found


def _wires(tokens: list[str]) -> list[Wire]:
    """Wires of one path of a DEF route: a layer, points of which * repeats a coordinate, and vias."""
    layer, wires = tokens[0], []
    place: tuple[float, float] | None = None
    position = 1
    while position < len(tokens):
        if tokens[position] == "(":
            across, up = tokens[position + 1 : position + 3]
            before = place or (0.0, 0.0)
            x = before[0] if across == "*" else int(across) / UNITS
            y = before[1] if up == "*" else int(up) / UNITS
            if place is not None:
                wires.append(Wire(layer, *place, x, y))
            place = (x, y)
            position = tokens.index(")", position) + 1
        else:
            assert place is not None
            wires.append(Wire(layer, *place, *place, via=tokens[position]))
            position += 1
    return wires


def _gave_up(path: Path) -> list[str]:
    """Nets in the router's list of failures."""
    # The first line counts them.
    return path.read_text(encoding="utf-8").split("\n", 1)[1].split() if path.exists() else []
