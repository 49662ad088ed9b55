"""A flat netlist: the cells of a hierarchy, and the nets between their pins."""

import re
from dataclasses import dataclass, field
from typing import Any

from chessrnn.model.errors import UserError
from chessrnn.sim.synthesis.liberty import Liberty
from chessrnn.sim.synthesis.netlist import MEMORY_MODULES, Netlist

# Verilog of the values of a net bit that is no net.
CONSTANTS = {"0": "1'b0", "1": "1'b1", "x": "1'b0", "z": "1'b0"}


class PlacementError(UserError):
    """The block cannot be placed: it holds memories, or a cell has no layout."""


@dataclass(frozen=True)
class FlatCell:
    """A cell: its name, its type in the library, and the net, or the Verilog of a constant, at each pin."""

    name: str
    type: str
    pins: dict[str, str]


@dataclass(frozen=True)
class FlatPort:
    """A bit of a port of the block, and the net, or the Verilog of a constant, at it."""

    name: str
    direction: str
    net: str


@dataclass
class Net:
    """A net: its pins as (index of the cell, pin), and the indices of its ports."""

    name: str
    pins: list[tuple[int, str]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    @property
    def ends(self) -> int:
        """Number of pins and ports."""
        return len(self.pins) + len(self.ports)


@dataclass(frozen=True)
class FlatNetlist:
    """A block without hierarchy: its cells, ports, and nets by name; ``outputs``: the output pins of cell types."""

    top: str
    cells: list[FlatCell]
    ports: list[FlatPort]
    nets: dict[str, Net]
    outputs: dict[str, set[str]]

    def is_output(self, cell: int, pin: str) -> bool:
        """Whether a pin of a cell drives its net."""
        return pin in self.outputs[self.cells[cell].type]

    def routed(self) -> list[Net]:
        """Nets between at least two pins or ports."""
        return [net for net in self.nets.values() if net.ends > 1]

    def verilog(self) -> str:
        """Verilog of the block, with every bit of a port as a port of its own."""
        lines = [f"module {self.top}({', '.join(port.name for port in self.ports)});"]
        lines += [f"  {port.direction} {port.name};" for port in self.ports]
        lines += [f"  wire {net};" for net in self.nets]
        for cell in self.cells:
            pins = ", ".join(f".{pin}({net})" for pin, net in cell.pins.items())
            lines.append(f"  {cell.type} {cell.name} ({pins});")
        for port in self.ports:
            if port.net != port.name:
                ends = (port.name, port.net) if port.direction == "output" else (port.net, port.name)
                lines.append(f"  assign {ends[0]} = {ends[1]};")
        return "\n".join([*lines, "endmodule", ""])


def flatten(netlist: Netlist, liberty: Liberty) -> FlatNetlist:
    """Flatten a mapped netlist; names are those of the hierarchy, with ``__`` between its levels.

    Raises
    ------
    PlacementError
        The block holds a memory, which has no layout here.
    """
    flattener = _Flattener(netlist, liberty)
    flattener.visit(netlist.top, "", {})
    return flattener.result()


class _Flattener:
    """Collects the cells of a hierarchy with their nets as keys (path, bit), and unites the nets that ports join."""

    def __init__(self, netlist: Netlist, liberty: Liberty):
        self._netlist, self._liberty = netlist, liberty
        self._cells: list[tuple[str, str, dict[str, Any]]] = []
        self._leader: dict[Any, Any] = {}
        self._names: dict[Any, str] = {}

    def visit(self, name: str, path: str, outer: dict[int, Any]) -> None:
        """Collect a module at ``path``, whose ports' bits are joined to the nets in ``outer``."""
        module = self._netlist.modules[name]

        def key(bit) -> Any:
            return (path, bit) if isinstance(bit, int) else CONSTANTS[bit]

        for bit, net in outer.items():
            self._unite((path, bit), net)
        for bit, text in module.names.items():
            self._names.setdefault((path, bit), path + (f"n{bit}" if text.startswith("$") else text))
        for number, instance in enumerate(module.instances):
            if instance.type in MEMORY_MODULES:
                raise PlacementError(
                    f"unit must be a block without memories, whose layout is unknown, but {name} holds {instance.name}"
                )
            if instance.type in self._netlist.modules:
                child = self._netlist.modules[instance.type]
                joined: dict[int, Any] = {}
                for port, bits in instance.pins.items():
                    for inner, bit in zip(child.ports[port].bits, bits, strict=True):
                        if isinstance(inner, int):
                            joined[inner] = key(bit)
                        else:
                            # A submodule's output may be constant.
                            self._unite(key(bit), CONSTANTS[inner])
                self.visit(instance.type, f"{path}{instance.name}__", joined)
                continue
            text = f"g{number}" if instance.name.startswith("$") else instance.name
            pins = {pin: key(bits[0]) for pin, bits in instance.pins.items()}
            self._cells.append((path + text, instance.type, pins))

    def result(self) -> FlatNetlist:
        used: set[str] = set()
        texts: dict[Any, str] = {}
        top = self._netlist.modules[self._netlist.top]
        ports: list[FlatPort] = []
        # A net that reaches a port has its name, so that no two names mean one net.
        for port in sorted(top.ports.values(), key=lambda port: port.direction == "output"):
            for index, bit in enumerate(port.bits):
                name = _unique(port.name if len(port.bits) == 1 else f"{port.name}_{index}_", used)
                net = self._find(("", bit)) if isinstance(bit, int) else CONSTANTS[bit]
                ports.append(FlatPort(name, port.direction, texts.setdefault(net, name) if _is_net(net) else net))

        def text(key: Any) -> str:
            net = self._find(key)
            if not _is_net(net):
                return net
            if net not in texts:
                texts[net] = _unique(self._names.get(net, f"{net[0]}n{net[1]}"), used)
            return texts[net]

        cells = []
        for name, kind, pins in self._cells:
            cells.append(FlatCell(_unique(name, used), kind, {pin: text(key) for pin, key in pins.items()}))
        nets: dict[str, Net] = {}
        for index, cell in enumerate(cells):
            for pin, net in cell.pins.items():
                if net not in CONSTANTS.values():
                    nets.setdefault(net, Net(net)).pins.append((index, pin))
        for index, port in enumerate(ports):
            if port.net not in CONSTANTS.values():
                nets.setdefault(port.net, Net(port.net)).ports.append(index)
        outputs = {cell.type: set(self._liberty.cells[cell.type].outputs) for cell in cells}
        return FlatNetlist(top.name, cells, ports, nets, outputs)

    def _find(self, key: Any) -> Any:
        while key in self._leader:
            key = self._leader[key]
        return key

    def _unite(self, inner: Any, outer: Any) -> None:
        """Make one net of two; a constant, or else the outer net, names it."""
        first, second = self._find(inner), self._find(outer)
        if first == second:
            return
        if not _is_net(first):
            first, second = second, first
        self._leader[first] = second


def _is_net(key: Any) -> bool:
    return not isinstance(key, str)


def _unique(name: str, used: set[str]) -> str:
    cleaned = re.sub(r"\W", "_", name)
    if not re.match(r"[A-Za-z_]", cleaned):
        cleaned = f"n{cleaned}"
    candidate, count = cleaned, 1
    while candidate in used:
        count += 1
        candidate = f"{cleaned}_{count}"
    used.add(candidate)
    return candidate
