"""RC trees of routed nets from the capacitance and resistance of the layers, for OpenSTA as SPEF."""

import math
from dataclasses import dataclass
from itertools import pairwise

from chessrnn.sim.placement.flat_netlist import FlatNetlist, Net, PlacementError
from chessrnn.sim.placement.lef import Lef, Shape
from chessrnn.sim.placement.placer import Placement, macros_of
from chessrnn.sim.placement.router import Wire

# Distance in µm from a pin's shape at which a wire still meets it: the router may connect half a wire beside it.
REACH = 0.5
# A via has no resistance in the LEF; this least one keeps the nodes of a tree apart.
LEAST_OHM = 1e-3

# A crossing of tracks on a layer: layer, column, row.  The router moves a via by less than half a pitch where that
# suits the shape of a pin; it still belongs to its crossing.
Node = tuple[str, int, int]


@dataclass(frozen=True)
class Tree:
    """RC tree of a net: farad at every node, ohm between nodes, and the node at every pin and port of the net.

    Attributes
    ----------
    length : float
        Length of the wires in µm.
    """

    length: float
    farad: dict[Node, float]
    ohm: list[tuple[Node, Node, float]]
    pins: list[Node]
    ports: list[Node]

    @property
    def capacitance(self) -> float:
        """Capacitance of the wires in farad."""
        return sum(self.farad.values())


class _Groups:
    """Sets of nodes that are connected."""

    def __init__(self) -> None:
        self._leader: dict[Node, Node] = {}

    def find(self, node: Node) -> Node:
        while node in self._leader:
            node = self._leader[node]
        return node

    def unite(self, first: Node, second: Node) -> bool:
        """Connect two nodes; whether they were apart."""
        first, second = self.find(first), self.find(second)
        if first != second:
            self._leader[first] = second
        return first != second


class _Grid:
    """The crossings of the tracks of all layers."""

    def __init__(self, lef: Lef):
        self._lef = lef
        self._layers = {layer.name: layer for layer in lef.layers}
        self._rows, self._columns = (
            min((layer for layer in lef.layers if layer.horizontal is horizontal), key=lambda layer: layer.pitch)
            for horizontal in (True, False)
        )

    def layer(self, name: str):
        return self._layers[name]

    def node(self, layer: str, x: float, y: float) -> Node:
        """The crossing nearest to a place in µm."""
        columns, rows = self._columns, self._rows
        return layer, round((x - columns.offset) / columns.pitch), round((y - rows.offset) / rows.pitch)

    def nodes(self, piece: Wire) -> list[Node]:
        """The crossings that a wire runs over, or a via joins, neighbours together."""
        if piece.via:
            return [self.node(layer, piece.x0, piece.y0) for layer in self._lef.vias[piece.via]]
        ends = sorted((self.node(piece.layer, piece.x0, piece.y0), self.node(piece.layer, piece.x1, piece.y1)))
        (_, x0, y0), (_, x1, y1) = ends
        if x0 != x1:
            return [(piece.layer, x, y0) for x in range(x0, x1 + 1)]
        return [(piece.layer, x0, y) for y in range(y0, y1 + 1)]

    def length(self, first: Node, second: Node) -> float:
        """Distance of two crossings in µm."""
        return abs(first[1] - second[1]) * self._columns.pitch + abs(first[2] - second[2]) * self._rows.pitch

    def near(self, shape: Shape) -> list[Node]:
        """The crossings within reach of a shape."""
        columns, rows = self._columns, self._rows
        across, up = (
            range(
                math.ceil((low - REACH - tracks.offset) / tracks.pitch),
                math.floor((high + REACH - tracks.offset) / tracks.pitch) + 1,
            )
            for low, high, tracks in ((shape.left, shape.right, columns), (shape.low, shape.high, rows))
        )
        return [(shape.layer, x, y) for x in across for y in up]

    def distance(self, node: Node, shape: Shape) -> float:
        """Distance of a crossing from a shape on the same layer in µm."""
        x = node[1] * self._columns.pitch + self._columns.offset
        y = node[2] * self._rows.pitch + self._rows.offset
        return max(shape.left - x, x - shape.right, 0.0) + max(shape.low - y, y - shape.high, 0.0)


def extract(flat: FlatNetlist, placement: Placement, lef: Lef, wires: dict[str, list[Wire]]) -> dict[str, Tree]:
    """RC tree of every net that has wires.

    Raises
    ------
    PlacementError
        The wires of a net leave two of its pins apart, or two nets meet at a crossing of tracks.
    """
    macros = macros_of(flat, lef)
    grid = _Grid(lef)
    owner: dict[Node, str] = {}
    trees = {}
    for name, pieces in wires.items():
        net = flat.nets[name]
        for piece in pieces:
            for node in grid.nodes(piece):
                other = owner.setdefault(node, name)
                if other != name:
                    raise PlacementError(f"nets {other} and {name} must not meet on {node[0]}: the routes are useless")
        shapes = []
        for cell, pin in net.pins:
            macro, x, y = macros[cell], placement.x[cell], placement.y[cell]
            flipped = placement.flipped(cell)
            shapes.append([_placed(shape, x, y, macro.height, flipped) for shape in macro.pins[pin]])
        for port in net.ports:
            x, y, side = placement.ports[port]
            shapes.append([Shape(lef.layers[2 if side else 1].name, x, y, x, y)])
        trees[name] = _tree(net, pieces, shapes, grid)
    return trees


def _placed(shape: Shape, x: float, y: float, height: float, flipped: bool) -> Shape:
    """A shape of a cell whose lower left corner is at (x, y), and which may be upside down."""
    low, high = (height - shape.high, height - shape.low) if flipped else (shape.low, shape.high)
    return Shape(shape.layer, x + shape.left, y + low, x + shape.right, y + high)


def _tree(net: Net, pieces: list[Wire], shapes: list[list[Shape]], grid: _Grid) -> Tree:
    """RC tree of a net whose pins have these shapes."""
    farad: dict[Node, float] = {}
    groups, ohm, length = _Groups(), [], 0.0

    def connect(first: Node, second: Node, resistance: float) -> None:
        # A loop keeps its capacitance and loses one resistance, which makes the net slower, not faster.
        if groups.unite(first, second):
            ohm.append((first, second, max(resistance, LEAST_OHM)))

    seen: set[tuple[Node, Node]] = set()
    for piece in pieces:
        nodes = grid.nodes(piece)
        for node in nodes:
            farad.setdefault(node, 0.0)
        for first, second in pairwise(nodes):
            # Wires that overlap count once.
            if (first, second) in seen:
                continue
            seen.add((first, second))
            if piece.via:
                connect(first, second, 0.0)
                continue
            layer, part = grid.layer(piece.layer), grid.length(first, second)
            length += part
            farad[first] += part * layer.capacitance / 2
            farad[second] += part * layer.capacitance / 2
            connect(first, second, part * layer.resistance)
    ends = []
    for shape in shapes:
        # The shapes of a pin are connected inside the cell.
        met = {node: grid.distance(node, part) for part in shape for node in grid.near(part) if node in farad}
        if not met:
            raise PlacementError(f"net {net.name} must reach each of its pins: the routes are useless")
        nearest = min(met, key=met.__getitem__)
        for node in met:
            connect(nearest, node, 0.0)
        ends.append(nearest)
    if len({groups.find(node) for node in ends}) != 1:
        raise PlacementError(f"net {net.name} must connect all of its pins: the routes are useless")
    return Tree(length, farad, ohm, ends[: len(net.pins)], ends[len(net.pins) :])


def spef(flat: FlatNetlist, trees: dict[str, Tree], factor: float = 1.0) -> str:
    """SPEF of the trees, with every capacitance multiplied by ``factor``."""
    lines = [
        '*SPEF "IEEE 1481-1998"', f'*DESIGN "{flat.top}"', '*DATE "none"', '*VENDOR "chessrnn"', '*PROGRAM "chessrnn"',
        '*VERSION "1"', '*DESIGN_FLOW "NETLIST_TYPE_VERILOG"', "*DIVIDER /", "*DELIMITER :", "*BUS_DELIMITER [ ]",
        "*T_UNIT 1 PS", "*C_UNIT 1 FF", "*R_UNIT 1 OHM", "*L_UNIT 1 HENRY", "",
    ]  # fmt: skip
    for name, tree in trees.items():
        net = flat.nets[name]
        number = {node: f"{name}:{index}" for index, node in enumerate(tree.farad, 1)}
        lines += [f"*D_NET {name} {tree.capacitance * factor * 1e15:.4f}", "*CONN"]
        links = []
        for (cell, pin), node in zip(net.pins, tree.pins, strict=True):
            driver = flat.is_output(cell, pin)
            lines.append(f"*I {flat.cells[cell].name}:{pin} {'O' if driver else 'I'}")
            links.append((f"{flat.cells[cell].name}:{pin}", node))
        for port, node in zip(net.ports, tree.ports, strict=True):
            lines.append(f"*P {flat.ports[port].name} {'I' if flat.ports[port].direction == 'input' else 'O'}")
            links.append((flat.ports[port].name, node))
        lines.append("*CAP")
        lines += [
            f"{index} {number[node]} {value * factor * 1e15:.5f}"
            for index, (node, value) in enumerate(tree.farad.items(), 1)
        ]
        lines.append("*RES")
        pairs = [(number[first], number[second], ohm) for first, second, ohm in tree.ohm]
        pairs += [(text, number[node], LEAST_OHM) for text, node in links]
        lines += [f"{index} {first} {second} {ohm:.4f}" for index, (first, second, ohm) in enumerate(pairs, 1)]
        lines += ["*END", ""]
    return "\n".join(lines)
