"""A hierarchical netlist of cells, read from Yosys's JSON: its areas, repair of its fan-out, its Verilog."""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from chessrnn.hdl.memory import RAM_MODULE, ROM_MODULE, WEIGHT_RAM_MODULE
from chessrnn.sim.synthesis.liberty import Cell, Liberty

MEMORY_MODULES = (ROM_MODULE, RAM_MODULE, WEIGHT_RAM_MODULE)
# Whether a memory has a write port beside its read port.
MEMORY_WRITE_PORTS = {ROM_MODULE: False, RAM_MODULE: True, WEIGHT_RAM_MODULE: False}
# The four transistors of a NAND2 are one gate equivalent.  A flip-flop is counted as two latches of transmission gates
# with their feedback, an inverted clock and an output buffer.
TRANSISTORS_PER_GATE_EQUIVALENT = 4
GENERIC_TRANSISTORS = {
    "$_BUF_": 4, "$_NOT_": 2, "$_NAND_": 4, "$_NOR_": 4, "$_AND_": 6, "$_OR_": 6, "$_XOR_": 10, "$_XNOR_": 10,
    "$_ANDNOT_": 6, "$_ORNOT_": 6, "$_MUX_": 10, "$_NMUX_": 8, "$_AOI3_": 6, "$_OAI3_": 6, "$_AOI4_": 8,
    "$_OAI4_": 8, "$_DFF_P_": 24, "$_DFF_N_": 24,
}  # fmt: skip
# Load of an input pin of a memory macro, counted in inputs of the weakest inverter.
MEMORY_PIN_LOAD = 4.0
# Largest load of one output, counted in inputs of the weakest inverter and per unit of drive.
LOAD_LIMIT = 12.0
REPAIR_DRIVE = 4.0
# Reserved words of Verilog that are likely names of submodules and signals.
VERILOG_WORDS = frozenset(
    "and assign begin buf case cell config design else end event for function if initial input instance integer join "
    "library module nand nor not or output parameter real reg repeat signed table task time wait wire xnor xor".split()
)


@dataclass
class Instance:
    """Instance of a cell, a memory or a module; ``pins`` maps a port to its net bits, lowest first."""

    name: str
    type: str
    pins: dict[str, list]
    parameters: dict[str, Any] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)


@dataclass
class Port:
    """A port of a module, with its net bits, lowest first."""

    name: str
    direction: str
    bits: list


@dataclass
class Module:
    """A module: its ports, its instances, and the names of its net bits."""

    name: str
    ports: dict[str, Port]
    instances: list[Instance]
    names: dict[int, str]
    next_bit: int = 0

    def new_bit(self, name: str) -> int:
        """Add a net, and return its number."""
        bit = self.next_bit
        self.next_bit += 1
        self.names[bit] = name
        return bit


@dataclass(frozen=True)
class MemoryMacro:
    """A memory behind its wrapper."""

    module: str
    width: int
    depth: int

    @property
    def two_port(self) -> bool:
        """Whether the memory has a write port beside the read port."""
        return MEMORY_WRITE_PORTS[self.module]

    @property
    def bits(self) -> int:
        """Number of bits of the memory."""
        return self.width * self.depth

    @property
    def cell_name(self) -> str:
        """Name of the macro in netlists for timing."""
        return f"{self.module}_{self.depth}x{self.width}"


@dataclass(frozen=True)
class ModuleArea:
    """Cost of one module.

    Attributes
    ----------
    own_sequential, own_combinational, total_sequential, total_combinational : float
        Area in µm² or, without a library, in gate equivalents; ``own`` excludes the modules below.
    flip_flops, cells : int
        Number of flip-flops and of cells, including those of the modules below.
    depth : int
        Number of cells on the longest path inside the module, which does not enter its submodules.
    """

    own_sequential: float
    own_combinational: float
    total_sequential: float
    total_combinational: float
    flip_flops: int
    cells: int
    depth: int

    @property
    def own(self) -> float:
        """Area of the module's own cells."""
        return self.own_sequential + self.own_combinational

    @property
    def total(self) -> float:
        """Area including the modules below."""
        return self.total_sequential + self.total_combinational


class Netlist:
    """A netlist: the module ``top`` and all modules below it.

    Parameters
    ----------
    modules : dict
        The modules of Yosys's JSON.
    top : str
        Name of the outermost module.
    """

    def __init__(self, modules: dict, top: str):
        self.top = top
        self.modules: dict[str, Module] = {}
        self._load(modules, top)

    def _load(self, modules: dict, name: str) -> None:
        if name in self.modules:
            return
        source = modules[name]
        ports = {n: Port(n, p["direction"], list(p["bits"])) for n, p in source["ports"].items()}
        names: dict[int, str] = {}
        for wire, details in sorted(source["netnames"].items(), key=lambda item: item[1].get("hide_name", 0)):
            bits = details["bits"]
            for index, bit in enumerate(bits):
                if isinstance(bit, int) and bit not in names:
                    names[bit] = wire if len(bits) == 1 else f"{wire}[{index}]"
        instances = []
        for cell, details in source["cells"].items():
            parameters = {n: _parameter(v) for n, v in details.get("parameters", {}).items()}
            pins = {n: list(bits) for n, bits in details["connections"].items()}
            instances.append(Instance(cell, details["type"], pins, parameters, details.get("port_directions", {})))
        last = max((b for d in source["netnames"].values() for b in d["bits"] if isinstance(b, int)), default=1)
        self.modules[name] = Module(name, ports, instances, names, last + 1)
        for instance in instances:
            if (
                instance.type in modules
                and instance.type not in MEMORY_MODULES
                and not _is_black_box(modules, instance)
            ):
                self._load(modules, instance.type)

    # -- structure -----------------------------------------------------------------------------------------

    @cached_property
    def bottom_up(self) -> list[str]:
        """Module names, each after those of the modules that it instantiates."""
        order: list[str] = []

        def visit(name: str) -> None:
            if name not in order:
                for child in self.children(name):
                    visit(child)
                order.append(name)

        visit(self.top)
        return order

    def children(self, name: str) -> Counter:
        """Number of instances of each module that a module instantiates."""
        return Counter(i.type for i in self.modules[name].instances if i.type in self.modules)

    @cached_property
    def counts(self) -> Counter:
        """Number of instances of every module in the whole design."""
        counts = Counter({self.top: 1})
        for name in reversed(self.bottom_up):
            for child, count in self.children(name).items():
                counts[child] += counts[name] * count
        return counts

    def memories(self) -> list[tuple[MemoryMacro, int, list[str]]]:
        """Every kind of memory, with its number in the whole design and the names of its instances."""
        found: dict[MemoryMacro, list[str]] = {}
        number: Counter = Counter()
        for name in self.bottom_up:
            for instance in self.modules[name].instances:
                if instance.type in MEMORY_MODULES:
                    macro = memory_of(instance)
                    found.setdefault(macro, []).append(_clean(instance.name))
                    number[macro] += self.counts[name]
        return [(macro, number[macro], names) for macro, names in found.items()]

    def cell_counts(self) -> Counter:
        """Number of cells of every type in the whole design."""
        counts: Counter = Counter()
        for name in self.bottom_up:
            for instance in self.modules[name].instances:
                if instance.type not in self.modules and instance.type not in MEMORY_MODULES:
                    counts[instance.type] += self.counts[name]
        return counts

    # -- area ----------------------------------------------------------------------------------------------

    def areas(self, liberty: Liberty | None) -> dict[str, ModuleArea]:
        """Area of every module, in gate equivalents of generic cells without a library.

        Raises
        ------
        LookupError
            A cell is neither in the library nor a module, so synthesis left something unmapped.
        """
        result: dict[str, ModuleArea] = {}
        for name in self.bottom_up:
            sequential = combinational = total_sequential = total_combinational = 0.0
            flip_flops = cells = 0
            for instance in self.modules[name].instances:
                if instance.type in MEMORY_MODULES:
                    continue
                if instance.type in result:
                    child = result[instance.type]
                    total_sequential += child.total_sequential
                    total_combinational += child.total_combinational
                    flip_flops += child.flip_flops
                    cells += child.cells
                    continue
                area, is_sequential = cell_cost(instance.type, liberty)
                cells += 1
                if is_sequential:
                    sequential += area
                    flip_flops += not is_clock_gate(instance.type, liberty)
                else:
                    combinational += area
            result[name] = ModuleArea(
                sequential,
                combinational,
                sequential + total_sequential,
                combinational + total_combinational,
                flip_flops,
                cells,
                self._depth(name, liberty),
            )
        return result

    def _depth(self, name: str, liberty: Liberty | None) -> int:
        """Number of cells on the longest path between registers, ports, memories and submodules."""
        driver: dict[int, tuple[int, list]] = {}
        for number, instance in enumerate(self.modules[name].instances):
            if instance.type in self.modules or instance.type in MEMORY_MODULES or cell_cost(instance.type, liberty)[1]:
                continue
            inputs, outputs = [], []
            for pin, bits in instance.pins.items():
                (outputs if instance.directions.get(pin) == "output" else inputs).extend(bits)
            for bit in outputs:
                driver[bit] = (number, [b for b in inputs if isinstance(b, int)])
        level: dict[int, int] = {}
        for start in driver:
            stack = [start]
            while stack:
                bit = stack[-1]
                inputs = driver[bit][1]
                missing = [b for b in inputs if b in driver and b not in level]
                if missing:
                    stack.extend(missing)
                    continue
                level[bit] = 1 + max((level[b] for b in inputs if b in driver), default=0)
                stack.pop()
        return max(level.values(), default=0)

    # -- repair --------------------------------------------------------------------------------------------

    def repair(self, liberty: Liberty) -> int:
        """Drive every output of a module by a net of its own, split too large loads, and count the buffers added.

        ABC sees one module at a time, and so neither nets that cross the hierarchy nor pins of memories.
        """
        unit = max(p.capacitance for p in liberty.inverter.pins.values() if p.direction == "input")
        limit = LOAD_LIMIT * unit
        repairer = min(liberty.buffers, key=lambda cell: abs(liberty.drive(cell) - REPAIR_DRIVE))
        loads: dict[str, dict[str, list[float]]] = {}
        added = 0
        for name in self.bottom_up:
            module = self.modules[name]
            added += self._separate_outputs(module, liberty)
            sinks = self._sinks(module, loads, liberty, unit)
            for bit, places in sinks.items():
                if not any(math.isnan(cap) for cap, *_ in places):
                    added += self._split_load(module, bit, places, limit, repairer, liberty)
            loads[name] = self._loads_of(sinks, module)
        return added

    def _separate_outputs(self, module: Module, liberty: Liberty) -> int:
        """Insert a buffer before every output bit that shares its net with another port bit."""
        taken = {bit for port in module.ports.values() if port.direction != "output" for bit in port.bits}
        added = 0
        for port in module.ports.values():
            if port.direction != "output":
                continue
            for index, bit in enumerate(port.bits):
                if isinstance(bit, int) and bit not in taken:
                    taken.add(bit)
                elif isinstance(bit, int):
                    port.bits[index] = self._buffer(module, liberty.buffers[0], bit, f"{port.name}_out_{index}")
                    added += 1
        return added

    def _split_load(self, module: Module, bit: int, places, limit: float, buffer: Cell, liberty: Liberty) -> int:
        added = 0
        group_limit = limit * liberty.drive(buffer)
        while len(places) > 1 and sum(cap for cap, *_ in places) > limit:
            groups, current, load = [], [], 0.0
            for place in places:
                if current and load + place[0] > group_limit:
                    groups.append(current)
                    current, load = [], 0.0
                current.append(place)
                load += place[0]
            groups.append(current)
            if len(groups) >= len(places):
                break
            upper = []
            for group in groups:
                if len(group) == 1 and len(groups) > 1:
                    upper.append(group[0])
                    continue
                output = self._buffer(
                    module, buffer, bit, f"{module.names.get(bit, 'net')}_fanout{len(module.instances)}"
                )
                added += 1
                for _, instance, pin, index in group:
                    instance.pins[pin][index] = output
                new = module.instances[-1]
                pin = buffer.inputs[0]
                upper.append((buffer.pins[pin].capacitance, new, pin, 0))
            if len(groups) == 1:
                places[:] = upper
                break
            places[:] = upper
        return added

    def _buffer(self, module: Module, cell: Cell, source: int, name: str) -> int:
        output = module.new_bit(name)
        pin_in, pin_out = cell.inputs[0], cell.outputs[0]
        module.instances.append(
            Instance(
                f"{name}_buffer",
                cell.name,
                {pin_in: [source], pin_out: [output]},
                {},
                {pin_in: "input", pin_out: "output"},
            )
        )
        return output

    def input_loads(self, liberty: Liberty) -> dict[str, dict[str, list[float]]]:
        """Load in farad at every input bit of every module; NaN marks a clock."""
        loads: dict[str, dict[str, list[float]]] = {}
        unit = max(p.capacitance for p in liberty.inverter.pins.values() if p.direction == "input")
        for name in self.bottom_up:
            loads[name] = self._loads_of(self._sinks(self.modules[name], loads, liberty, unit), self.modules[name])
        return loads

    def net_loads(self, module: Module, loads: dict[str, dict[str, list[float]]], liberty: Liberty) -> dict[int, float]:
        """Load in farad of the input pins at every net of a module, without clock pins; ``loads``: those of ports."""
        unit = max(p.capacitance for p in liberty.inverter.pins.values() if p.direction == "input")
        return {
            bit: sum(cap for cap, *_ in places if not math.isnan(cap))
            for bit, places in self._sinks(module, loads, liberty, unit).items()
        }

    @staticmethod
    def _loads_of(sinks, module: Module) -> dict[str, list[float]]:
        return {
            port.name: [sum(cap for cap, *_ in sinks.get(bit, ())) for bit in port.bits]
            for port in module.ports.values()
            if port.direction == "input"
        }

    @staticmethod
    def _sinks(module: Module, loads, liberty: Liberty, unit: float) -> dict[int, list]:
        """Loads of every net as (farad, instance, pin, index); NaN marks a clock."""
        sinks: dict[int, list[tuple[float, Instance, str, int]]] = {}
        for instance in module.instances:
            cell = liberty.cells.get(instance.type)
            clocks = clock_pins(cell) if cell is not None else ()
            for pin, bits in instance.pins.items():
                if instance.directions.get(pin) == "output":
                    continue
                for index, bit in enumerate(bits):
                    if not isinstance(bit, int):
                        continue
                    if cell is not None:
                        cap = math.nan if pin in clocks else cell.pins[pin].capacitance
                    elif instance.type in MEMORY_MODULES:
                        cap = math.nan if pin == "clk" else MEMORY_PIN_LOAD * unit
                    else:
                        cap = loads[instance.type][pin][index]
                    sinks.setdefault(bit, []).append((cap, instance, pin, index))
        return sinks

    def repeated_instances(self, keep: int, liberty: Liberty, least_cells: int = 50) -> dict[str, set[str]]:
        """Instances that a timing analysis may leave out: in each parent, all but the first and last few of a module.

        Modules of fewer than ``least_cells`` cells are never left out.
        """
        areas = self.areas(liberty)
        result: dict[str, set[str]] = {}
        for name in self.bottom_up:
            by_type: dict[str, list[str]] = {}
            for instance, text, _ in _Namer(self.modules[name], liberty).instances():
                if instance.type in self.modules and areas[instance.type].cells >= least_cells:
                    by_type.setdefault(instance.type, []).append(text)
            first = keep - keep // 2
            for texts in by_type.values():
                if len(texts) > keep:
                    result.setdefault(name, set()).update(texts[first : len(texts) - (keep - first)])
        return result

    def stubbed_types(self, stub: dict[str, set[str]], liberty: Liberty) -> set[str]:
        """Types of the instances that are left out."""
        return {
            instance.type
            for name, texts in stub.items()
            for instance, text, _ in _Namer(self.modules[name], liberty).instances()
            if text in texts
        }

    def instance_types(self, liberty: Liberty) -> dict[tuple[str, str], str]:
        """Type of every submodule and memory, by (module, instance name in the written Verilog)."""
        return {
            (name, text): instance.type
            for name in self.bottom_up
            for instance, text, _ in _Namer(self.modules[name], liberty).instances()
            if instance.type not in liberty.cells
        }

    # -- Verilog -------------------------------------------------------------------------------------------

    def register_names(self, name: str, liberty: Liberty) -> dict[str, str]:
        """Name of the net that each flip-flop of a module drives, by the flip-flop's instance name."""
        return {
            text: net
            for instance, text, net in _Namer(self.modules[name], liberty).instances()
            if net is not None and liberty.cells[instance.type].kind == "flip-flop"
        }

    def verilog(
        self, liberty: Liberty, memory: Callable[[Instance], str], stub: dict[str, set[str]] | None = None
    ) -> str:
        """Verilog of the netlist without escaped names and expressions, which every tool reads in the same way.

        Parameters
        ----------
        liberty : Liberty
            Library of the cells.
        memory : callable
            Function from an instance of a memory to the text before its instance name (module and parameters); where
            that is empty, the memory becomes a macro of ``MemoryMacro.cell_name`` with scalar pins.
        stub : dict of str to set of str, optional
            Instances to leave out of each module, replaced by a cell ``load_<type>`` with the same input loads.
        """
        stub = stub or {}
        return "\n".join(self._module_text(name, liberty, memory, stub.get(name, set())) for name in self.bottom_up)

    def _module_text(self, name: str, liberty: Liberty, memory, stubbed: set[str]) -> str:
        module = self.modules[name]
        namer = _Namer(module, liberty)
        ports = list(module.ports.values())
        lines = [f"module {name}({', '.join(port.name for port in ports)});"]
        for port in ports:
            width = f" [{len(port.bits) - 1}:0]" if len(port.bits) > 1 else ""
            lines.append(f"  {port.direction}{width} {port.name};")
        body = []
        for instance, text, _ in namer.instances():
            if instance.type in self.modules and text not in stubbed:
                pins = [f".{pin}({_vector([namer.net(b) for b in bits])})" for pin, bits in instance.pins.items()]
                head = f"{instance.type} {text}"
            elif instance.type in MEMORY_MODULES and (parameters := memory(instance)):
                pins = [f".{pin}({_vector([namer.net(b) for b in bits])})" for pin, bits in instance.pins.items()]
                head = f"{parameters} {text}"
            elif instance.type in liberty.cells:
                pins = [f".{pin}({namer.net(bits[0])})" for pin, bits in instance.pins.items()]
                head = f"{instance.type} {text}"
            else:
                if instance.type in MEMORY_MODULES:
                    kind = memory_of(instance).cell_name
                else:
                    kind = f"load_{instance.type}"
                pins = []
                for pin, bits in instance.pins.items():
                    if instance.type in self.modules and self.modules[instance.type].ports[pin].direction == "output":
                        continue
                    if len(bits) == 1:
                        pins.append(f".{pin}({namer.net(bits[0])})")
                    else:
                        pins += [f".{pin}_{i}_({namer.net(bit)})" for i, bit in enumerate(bits)]
                head = f"{kind} {text}"
            body.append(f"  {head} ({', '.join(pins)});")
        for port in ports:
            if port.direction == "output":
                for index, bit in enumerate(port.bits):
                    if not isinstance(bit, int):
                        target = f"{port.name}[{index}]" if len(port.bits) > 1 else port.name
                        body.append(f"  assign {target} = {namer.net(bit)};")
        lines += [f"  wire {wire};" for wire in namer.wires]
        return "\n".join([*lines, *body, "endmodule", ""])


class _Namer:
    """Plain, unique names of a module's nets and instances; a flip-flop is named after the net that it drives."""

    def __init__(self, module: Module, liberty: Liberty):
        self.module, self.liberty = module, liberty
        self.used = set(module.ports)
        self.nets: dict[int, str] = {}
        self.wires: list[str] = []
        for direction in ("input", "inout", "output"):
            for port in module.ports.values():
                if port.direction == direction:
                    for index, bit in enumerate(port.bits):
                        if isinstance(bit, int) and bit not in self.nets:
                            self.nets[bit] = f"{port.name}[{index}]" if len(port.bits) > 1 else port.name
        # Instances are named before any net, so that the names do not depend on the order of requests.
        self._instances = list(self._name_instances())

    def net(self, bit) -> str:
        """Name of a net bit, or the text of a constant."""
        if not isinstance(bit, int):
            return "1'b1" if bit == "1" else "1'b0"
        name = self.nets.get(bit)
        if name is None:
            raw = self.module.names.get(bit, f"n{bit}")
            name = self.nets[bit] = self._unique(f"n{bit}" if raw.startswith("$") else _clean(raw))
            self.wires.append(name)
        return name

    def instances(self) -> list[tuple[Instance, str, str | None]]:
        """Every instance with its name and, where it is a cell, the name of the net at its first output."""
        return self._instances

    def _name_instances(self):
        for number, instance in enumerate(self.module.instances):
            cell, net = self.liberty.cells.get(instance.type), None
            if cell is not None:
                output = next((pin for pin in cell.outputs if pin in instance.pins), None)
                net = self.module.names.get(instance.pins[output][0]) if output else None
            if cell is not None and cell.kind == "flip-flop" and net:
                text = self._unique(_clean(net) + "_reg")
            elif cell is not None and cell.kind == "clock gate":
                enable = self.module.names.get(instance.pins[cell.gate_pins["enable"]][0], "enable")
                text = self._unique(_clean(enable) + "_clock_gate")
            elif instance.name.startswith("$") or cell is not None:
                text = self._unique(f"g{number}")
            else:
                text = self._unique(_clean(instance.name))
            yield instance, text, net

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self.used:
            count += 1
            candidate = f"{name}_{count}"
        self.used.add(candidate)
        return candidate


def memory_of(instance: Instance) -> MemoryMacro:
    """Size of the memory that an instance of a wrapper represents."""
    return MemoryMacro(instance.type, int(instance.parameters["WIDTH"]), int(instance.parameters["DEPTH"]))


def cell_cost(kind: str, liberty: Liberty | None) -> tuple[float, bool]:
    """Area of a cell, in gate equivalents without a library, and whether it belongs to the registers."""
    if liberty is None:
        if kind not in GENERIC_TRANSISTORS:
            raise LookupError(kind)
        return GENERIC_TRANSISTORS[kind] / TRANSISTORS_PER_GATE_EQUIVALENT, kind.startswith("$_DFF_")
    if kind not in liberty.cells:
        raise LookupError(kind)
    cell = liberty.cells[kind]
    return cell.area, cell.kind in ("flip-flop", "latch", "clock gate")


def is_clock_gate(kind: str, liberty: Liberty | None) -> bool:
    """Whether a cell is a clock gate of the library."""
    return liberty is not None and kind in liberty.cells and liberty.cells[kind].kind == "clock gate"


def clock_pins(cell: Cell) -> set[str]:
    """Pins that clock a flip-flop or a clock gate."""
    if cell.kind == "clock gate":
        return {cell.gate_pins["clock"]}
    if cell.kind != "flip-flop":
        return set()
    expression = cell.sequential.get("clocked_on", "")
    return {name for name in cell.inputs if re.search(rf"\b{re.escape(name)}\b", expression)}


def _parameter(value) -> object:
    if isinstance(value, str) and value and set(value) <= {"0", "1"}:
        return int(value, 2)
    return value


def _is_black_box(modules: dict, instance: Instance) -> bool:
    return bool({"blackbox", "whitebox"} & set(modules[instance.type].get("attributes", {})))


def _clean(name: str) -> str:
    cleaned = re.sub(r"\W", "_", name.lstrip("\\"))
    if cleaned in VERILOG_WORDS:
        return f"{cleaned}_"
    return cleaned if re.match(r"[A-Za-z_]", cleaned) else f"n{cleaned}"


def _vector(bits: list[str]) -> str:
    return bits[0] if len(bits) == 1 else "{" + ", ".join(reversed(bits)) + "}"
