"""Placement in rows with Coloquinte, with the ports on the edge of the block."""

import importlib.util
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chessrnn.model.errors import MissingToolError
from chessrnn.sim.placement.flat_netlist import FlatNetlist, PlacementError
from chessrnn.sim.placement.lef import Layer, Lef, Macro

EFFORT = 5
# Distance in µm from the rows to the edge of the block, where the ports are.
MARGIN = 10.0
# Part of a row that cells with their share of the empty places may fill: the last places are hard to fill legally.
FILL = 0.9


@dataclass(frozen=True)
class Placement:
    """Places of the cells and ports of a block, in µm.

    Attributes
    ----------
    width, height : float
        Size of the rows together; ``rows`` of them lie upon each other without gaps, every second one upside down.
    x, y : list of float
        Lower left corner of every cell.
    ports : list of (float, float, bool)
        Place of every port, and whether it lies on the left or right edge.
    """

    width: float
    height: float
    rows: int
    x: list[float]
    y: list[float]
    ports: list[tuple[float, float, bool]]
    row: float

    def half_perimeter(self, flat: FlatNetlist) -> float:
        """Half the perimeters of the smallest boxes around the nets' cells and ports together, in µm."""
        total = 0.0
        for net in flat.routed():
            places = [(self.x[cell], self.y[cell]) for cell, _ in net.pins] + [
                self.ports[port][:2] for port in net.ports
            ]
            total += sum(max(axis) - min(axis) for axis in zip(*places, strict=True))
        return total

    def flipped(self, cell: int) -> bool:
        """Whether a cell lies in a row that is upside down."""
        return round(self.y[cell] / self.row) % 2 == 1


def require_available() -> None:
    """Raise :class:`MissingToolError` unless Coloquinte is installed."""
    if importlib.util.find_spec("coloquinte") is None:
        raise MissingToolError("coloquinte must be installed to place (pip install coloquinte==0.4.1)")


def macros_of(flat: FlatNetlist, lef: Lef) -> list[Macro]:
    """Layout of every cell.

    Raises
    ------
    PlacementError
        A cell of the netlist has no layout, or one without a shape of one of its pins.
    """
    missing = sorted({cell.type for cell in flat.cells} - set(lef.macros))
    if missing:
        raise PlacementError(f"lef must hold a layout of every cell, but lacks {', '.join(missing[:5])}")
    bare = sorted(
        {f"{cell.type}.{pin}" for cell in flat.cells for pin in cell.pins if not lef.macros[cell.type].pins.get(pin)}
    )
    if bare:
        raise PlacementError(f"lef must give a shape of every pin, but lacks those of {', '.join(bare[:5])}")
    return [lef.macros[cell.type] for cell in flat.cells]


def place(flat: FlatNetlist, lef: Lef, utilisation: float, log: Path) -> Placement:
    """Place a block in a square of rows, of which the cells fill ``utilisation``.

    The cells are placed once without ports; the ports are then put around the edge, in the order of the angle at which
    their cells lie, and the cells are placed again.  What Coloquinte prints goes to ``log``.

    Raises
    ------
    PlacementError
        The cells do not fit their rows.
    """
    require_available()
    macros = macros_of(flat, lef)
    area = sum(macro.width for macro in macros) * lef.row / utilisation
    rows = max(1, round(math.sqrt(area) / lef.row))
    sites = math.ceil(area / (rows * lef.row) / lef.site)
    problem = _Problem(flat, lef, macros, rows, sites, utilisation, log)
    first = problem.solve(None)
    ports = _around(flat, first, sites * lef.site, rows * lef.row, lef)
    x, y = problem.solve(ports).T
    return Placement(
        sites * lef.site, rows * lef.row, rows, x.tolist(), y.tolist(), [(*port,) for port in ports], lef.row
    )


class _Problem:
    """The block in Coloquinte's units: x in places of a row, y in about as many units of height."""

    def __init__(
        self, flat: FlatNetlist, lef: Lef, macros: list[Macro], rows: int, sites: int, utilisation: float, log: Path
    ):
        self._flat, self._lef, self._macros, self._rows, self._sites = flat, lef, macros, rows, sites
        self._log = log
        self._unit = round(lef.row / lef.site)
        # Every cell takes its share of the empty places along, which spreads them evenly.
        exact = np.cumsum([macro.width / lef.site * FILL / utilisation for macro in macros])
        widths = np.diff(np.floor(exact), prepend=0).astype(int)
        own = np.array([math.ceil(macro.width / lef.site - 1e-6) for macro in macros])
        self._widths = np.maximum(widths, own)

    def solve(self, ports: list[tuple[float, float, bool]] | None) -> np.ndarray:
        """Place the cells; array of their corners in µm."""
        import coloquinte  # pyright: ignore[reportMissingImports]  only for Linux on x86-64

        flat, lef = self._flat, self._lef
        cells = len(flat.cells)
        count = cells + (len(flat.ports) if ports else 0)
        circuit = coloquinte.Circuit(count)
        fixed = [index >= cells for index in range(count)]
        circuit.cell_width = [int(width) for width in self._widths] + [1] * (count - cells)
        circuit.cell_height = [self._unit] * cells + [1] * (count - cells)
        circuit.cell_is_fixed = fixed
        circuit.cell_is_obstruction = [not value for value in fixed]
        scale = self._unit / lef.row
        where = [(round(x / lef.site), round(y * scale)) for x, y, _ in ports or ()]
        circuit.cell_x = [0] * cells + [x for x, _ in where]
        circuit.cell_y = [0] * cells + [y for _, y in where]
        area = coloquinte.Rectangle(0, self._sites, 0, self._rows * self._unit)
        circuit.setup_rows(area, self._unit, True, True)
        for net in flat.routed():
            ends = [cell for cell, _ in net.pins]
            places = [self._pin(cell, pin) for cell, pin in net.pins]
            if ports:
                ends += [cells + port for port in net.ports]
                places += [(0, 0)] * len(net.ports)
            if len(ends) > 1:
                circuit.add_net(ends, [x for x, _ in places], [y for _, y in places])
        with _output_in(self._log):
            circuit.place_global(EFFORT)
            circuit.legalize(EFFORT)
            circuit.place_detailed(EFFORT)
        x = np.array(circuit.cell_x[:cells]) * lef.site
        y = np.array(circuit.cell_y[:cells]) // self._unit * lef.row
        return np.stack([x, y], axis=1)

    def _pin(self, cell: int, pin: str) -> tuple[int, int]:
        shapes = self._macros[cell].pins[pin]
        x = sum(shape.left + shape.right for shape in shapes) / 2 / len(shapes)
        y = sum(shape.low + shape.high for shape in shapes) / 2 / len(shapes)
        return int(x / self._lef.site), int(y * self._unit / self._lef.row)


@contextmanager
def _output_in(path: Path) -> Iterator[None]:
    """Send what libraries print to a file, past Python's own standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with path.open("ab") as stream:
            os.dup2(stream.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _around(
    flat: FlatNetlist, corners: np.ndarray, width: float, height: float, lef: Lef
) -> list[tuple[float, float, bool]]:
    """Places of the ports at even distances around the edge, in the order of the angle of their cells."""
    centre = np.array([width / 2, height / 2])
    angles = []
    for port in flat.ports:
        cells = [cell for cell, _ in flat.nets[port.net].pins] if port.net in flat.nets else []
        middle = corners[cells].mean(axis=0) - centre if cells else np.zeros(2)
        angles.append(math.atan2(middle[1], middle[0]))
    order = sorted(range(len(angles)), key=lambda index: (angles[index], index))
    vertical, horizontal = lef.layers[1], lef.layers[2]
    # Two tracks inside the edge, as the router reaches a port on a crossing of tracks.
    inside_x, inside_y = MARGIN - 2 * vertical.pitch, MARGIN - 2 * horizontal.pitch
    left, right = _on_track(-inside_x, vertical), _on_track(width + inside_x, vertical)
    low, high = _on_track(-inside_y, horizontal), _on_track(height + inside_y, horizontal)
    perimeter = 2 * (right - left + high - low)
    result: list[tuple[float, float, bool]] = [(0.0, 0.0, False)] * len(angles)
    for number, index in enumerate(order):
        # The walk begins at the left edge's middle, where the angle is −π, and runs through the lower edge.
        along = (number + 0.5) * perimeter / len(order)
        walk = (along + (high - low) / 2) % perimeter
        if walk < high - low:
            result[index] = (left, _on_track(high - walk, horizontal), True)
        elif (walk := walk - (high - low)) < right - left:
            result[index] = (_on_track(left + walk, vertical), low, False)
        elif (walk := walk - (right - left)) < high - low:
            result[index] = (right, _on_track(low + walk, horizontal), True)
        else:
            result[index] = (_on_track(right - (walk - (high - low)), vertical), high, False)
    return result


def _on_track(place: float, layer: Layer) -> float:
    return round((place - layer.offset) / layer.pitch) * layer.pitch + layer.offset
