"""Power and energy of real work: the RTL is simulated, and every gate of the netlist is evaluated from its registers.

OpenSTA 2.0.17, the version in Debian, reads neither VCD nor SAIF and estimates the activity between registers.  Here
each net of a sampled module instance has its exact number of changes per cycle, without glitches inside a cycle, and
each cell takes the energy that the library gives.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from chessrnn.hdl.verilog import TOP_MODULE
from chessrnn.model.config import Config
from chessrnn.model.cost.area import operations_per_step
from chessrnn.model.files import scratch_folder
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import NetworkWeights
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.manifest import replace_file
from chessrnn.sim.runner import Run, simulate
from chessrnn.sim.scenarios import Scenario
from chessrnn.sim.synthesis.flow import Synthesis
from chessrnn.sim.synthesis.liberty import Cell, Expression, Liberty
from chessrnn.sim.synthesis.netlist import MEMORY_MODULES, Instance, MemoryMacro, Module, clock_pins, memory_of
from chessrnn.sim.synthesis.timing import MEMORY
from chessrnn.sim.synthesis.units import role_of
from chessrnn.sim.synthesis.waveforms import Waveforms, toggles

# Steps that are simulated, and fewer where they take more cycles than this in all: large designs simulate slowly, and
# one step of a thousand cycles is as good a mean.
STEPS, FEWEST_STEPS = 5, 2
MOST_CYCLES = 480
# Number of instances of a module in one parent that are evaluated, as samples of all.
SAMPLED = 2
# Parts of the report that are divided by the roles of the modules in them.
DIVIDED_PARTS = ("other", "matvec")


@dataclass
class Energy:
    """Energy in joule of a window of cycles, and leakage in watt."""

    switching: float = 0.0
    internal: float = 0.0
    clock: float = 0.0
    leakage_watt: float = 0.0

    def add(self, other: "Energy", times: float) -> None:
        """Add another energy, ``times`` times."""
        for name in ("switching", "internal", "clock", "leakage_watt"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))

    @property
    def dynamic(self) -> float:
        """Energy without leakage."""
        return self.switching + self.internal + self.clock


class CellEnergy:
    """Energy per change of a cell's output, and per cycle of a flip-flop's clock, from the library's tables.

    The middle entry of a table is used (usual slope and load), and the mean of several tables.
    """

    def __init__(self, liberty: Liberty):
        self.liberty = liberty
        # Energy has no unit of its own in Liberty; it is counted in units of capacitance times squared voltage.
        self.unit = liberty.cap_unit
        self.per_change: dict[str, float] = {}
        self.per_cycle: dict[str, float] = {}
        for name, text in _blocks(liberty.text, "cell"):
            cell = liberty.cells.get(name.strip('" '))
            if cell is None:
                continue
            clocks = clock_pins(cell)
            for pin, body in _blocks(text, "pin"):
                pin = pin.strip('" ')
                means = [_middle(group) for _, group in _blocks(body, "internal_power")]
                # A change is either a rise or a fall, so the mean of both is its energy.
                values = [sum(pair) / len(pair) for pair in means if pair]
                if values and pin in clocks:
                    self.per_cycle[cell.name] = max(0.0, 2 * sum(values) / len(values)) * self.unit
                elif values and pin in cell.outputs:
                    energy = max(0.0, sum(values) / len(values)) * self.unit
                    self.per_change[cell.name] = self.per_change.get(cell.name, 0.0) + energy / len(cell.outputs)


def _blocks(text: str, name: str):
    """Arguments and body of every group called ``name`` that is not inside another one of that name."""
    pattern = re.compile(rf"\b{name}\s*\(([^()]*)\)\s*\{{")
    position = 0
    while match := pattern.search(text, position):
        depth, at = 1, match.end()
        for brace in re.finditer(r"[{}]", text[match.end() :]):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                at = match.end() + brace.start()
                break
        yield match[1], text[match.end() : at]
        position = max(at, match.end())


def _middle(group: str) -> list[float]:
    found = []
    for values in re.findall(r"values\s*\(([^()]*)\)", group):
        rows = [[float(v) for v in row.split(",")] for row in re.findall(r'"([^"]+)"', values) if row.strip()]
        if rows:
            row = rows[len(rows) // 2]
            found.append(row[len(row) // 2])
    return found


def steps_of(config: Config) -> int:
    """Number of steps to simulate, of which energy is counted in all but the first."""
    return max(FEWEST_STEPS, min(STEPS, MOST_CYCLES // Schedule(config).initiation_interval))


def measure(result: Synthesis, weights: NetworkWeights, x: np.ndarray, source: str, clock_mhz: float) -> dict:
    """Measure the power of a design on a sequence.

    Parameters
    ----------
    result : Synthesis
        Synthesized design, mapped to a library.
    weights : NetworkWeights
        Weights with the configuration of the design.
    x : int array (T, X)
        Inputs of the sequence, of at least two steps; see :func:`steps_of`.
    source : str
        Description of x for the report.
    clock_mhz : float
        Clock that powers are given at.

    Returns
    -------
    dict
        Plain JSON values for ``report.json``.
    """
    sampled = _sampled(result)
    waves = _dump_waveforms(weights, x, [path for path, *_ in sampled])
    window = _sustained_window(waves, weights.config)
    activity = _collect(result, sampled, waves, window)
    rows = _rows(result, activity, window, clock_mhz * 1e6)
    joule = sum(energy for _, energy, _ in rows)
    seconds = window.step_cycles / (clock_mhz * 1e6)
    operations = operations_per_step(weights.config)
    return {
        "clock_mhz": clock_mhz,
        "voltage": result.liberty.voltage,
        "cycles": window.cycles,
        "steps": window.steps,
        "rows": [
            {"part": part, "mw": energy / seconds * 1e3, "pj_per_step": energy * 1e12, "how": how}
            for part, energy, how in rows
        ],
        "total_mw": joule / seconds * 1e3,
        "leakage_mw": sum(energy.leakage_watt for energy in activity.parts.values()) * 1e3,
        "nj_per_step": joule * 1e9,
        "fj_per_operation": joule / operations * 1e15,
        "tops_per_watt": operations / joule / 1e12,
        "activity": (
            f"Activity: {window.steps} sustained step{'s' * (window.steps > 1)} of {source} in the RTL, "
            f"{window.step_cycles:.0f} cycles each "
            f"(predicted {Schedule(weights.config).initiation_interval}); every gate is evaluated for them in "
            f"{len(sampled)} modules, with {activity.found_percent:.1f} % of the register and input bits found by name "
            "and the others taken as constant. Glitches, wires and the clock tree above the flip-flops' pins are not "
            "included. The energy of a cell is the middle entry of the library's tables."
        ),
    }


@dataclass(frozen=True)
class Window:
    """Cycles of sustained steps, in which energy is counted."""

    first: int
    last: int
    steps: int

    @property
    def cycles(self) -> int:
        return self.last - self.first

    @property
    def step_cycles(self) -> float:
        return self.cycles / self.steps


@dataclass
class _Activity:
    """Energy of logic by part of the report, accesses of memories by kind, and number of bits found in the dump."""

    parts: dict[str, Energy]
    accesses: dict[str, tuple[MemoryMacro, float, float]]
    found: int = 0
    total: int = 0

    @property
    def found_percent(self) -> float:
        return 100 * self.found / max(1, self.total)


def _dump_waveforms(weights: NetworkWeights, x: np.ndarray, paths: list[str]) -> Waveforms:
    """Simulate the RTL on a sequence, with the signals of the given module instances in the dump."""
    with scratch_folder() as scratch:
        folder, dump = scratch / "rtl", scratch / "power.vcd"
        emit(weights, folder, "power", prefix="")
        verilog = folder / VERILOG_FILE
        # Names are escaped, as submodules may have names that are reserved words in Verilog.
        names = ["".join(f"\\{part} ." for part in path.split("."))[:-1] for path in paths]
        scopes = "\n".join(f"    $dumpvars(1, {name});" for name in names)
        block = f'  initial begin\n    $dumpfile("{dump}");\n{scopes}\n  end\nendmodule'
        text = verilog.read_text(encoding="utf-8")
        replace_file(
            folder,
            VERILOG_FILE,
            re.sub(rf"(^module {TOP_MODULE}\(.*?)^endmodule", lambda m: m[1] + block, text, count=1, flags=re.M | re.S),
        )
        (run,) = simulate(folder, [Run(Scenario(weights, (x,)))], "icarus")
        waves = Waveforms(dump)
    assert not run.problems, run.problems
    return waves


def _sustained_window(waves: Waveforms, config: Config) -> Window:
    """From the last issue of the first step to the last issue of the last step."""
    active = waves.bit(TOP_MODULE, "matvec_active", 0)
    assert active is not None, "the dump contains the accelerator's ports"
    issues = [cycle for cycle in range(waves.cycles + 1) if active >> cycle & 1]
    return Window(issues[config.bank_words - 1], issues[-1], len(issues) // config.bank_words - 1)


def _collect(result: Synthesis, sampled: list[tuple], waves: Waveforms, window: Window) -> _Activity:
    """Count the energy and the accesses of all sampled module instances."""
    netlist, liberty = result.netlist, result.liberty
    energies = CellEnergy(liberty)
    loads = netlist.input_loads(liberty)
    activity = _Activity(defaultdict(Energy), {})
    for path, name, times, part in sampled:
        module = netlist.modules[name]
        evaluation = _Evaluation(module, path, waves, liberty)
        activity.found += evaluation.found
        activity.total += evaluation.total
        net_loads = netlist.net_loads(module, loads, liberty)
        activity.parts[part].add(energy_of_module(module, evaluation.values, window, energies, net_loads), times)
        for instance in module.instances:
            if instance.type in MEMORY_MODULES:
                _count_accesses(activity.accesses, instance, evaluation.values, window, times)
    return activity


def _rows(result: Synthesis, activity: _Activity, window: Window, clock_hz: float) -> list[tuple[str, float, str]]:
    """Rows of the report: part, energy of a step in joule, and how it is made up."""
    rows: list[tuple[str, float, str]] = []
    steps, step_seconds = window.steps, window.step_cycles / clock_hz
    for part, energy in sorted(activity.parts.items(), key=lambda item: -item[1].dynamic):
        rows.append((part, energy.dynamic / steps + energy.leakage_watt * step_seconds, _shares(energy)))
    assert result.memory is not None
    for label, (macro, reads, writes) in sorted(activity.accesses.items()):
        read, write, origin = result.memory.energy_pj(macro.width, macro.depth, result.liberty.voltage)
        per_step = (reads * read + writes * write) * 1e-12 / steps
        how = f"{reads / steps:,.0f} reads of {read:.2f} pJ, {writes / steps:,.0f} writes of {write:.2f} pJ ({origin})"
        rows.append((f"{MEMORY} {label}", per_step, how))
    return rows


def _shares(energy: Energy) -> str:
    leakage = f"leakage {energy.leakage_watt * 1e3:.2f} mW"
    if not energy.dynamic:
        return leakage
    parts = (("switching", energy.switching), ("inside cells", energy.internal), ("clock pins", energy.clock))
    return ", ".join([*(f"{name} {100 * value / energy.dynamic:.0f} %" for name, value in parts), leakage])


def _sampled(result: Synthesis) -> list[tuple[str, str, float, str]]:
    """Samples of module instances: path in the RTL, module, number of instances represented, part of the report."""
    netlist = result.netlist
    found = []

    def visit(path: str, name: str, times: float, part: str) -> None:
        found.append((path, name, times, part))
        below = defaultdict(list)
        for instance in netlist.modules[name].instances:
            if instance.type in netlist.modules:
                below[instance.type].append(instance.name.lstrip("\\"))
        for kind, names in below.items():
            chosen = names if len(names) <= SAMPLED else [names[0], names[-1]]
            # The matrix engine is divided by the roles in it; any other role includes everything below it.
            label = part if part not in DIVIDED_PARTS else role_of(kind) or part
            for child in chosen:
                visit(f"{path}.{child}", kind, times * len(names) / len(chosen), label)

    visit(netlist.top, netlist.top, 1.0, "other")
    return found


class _Evaluation:
    """Waveforms of every net of one module instance: registers and inputs from the dump, gates computed from them.

    Attributes
    ----------
    values : dict of int to int
        Waveform of each net, bit t for the end of cycle t.
    found, total : int
        Number of registers' and inputs' bits that the dump contains, and of all of them.
    """

    def __init__(self, module: Module, path: str, waves: Waveforms, liberty: Liberty):
        self._waves, self._path, self._liberty = waves, path, liberty
        self._ones = (1 << (waves.cycles + 1)) - 1
        self._aliases = _names_of_nets(module)
        self.values: dict[int, int] = {}
        self.found = self.total = 0
        self._evaluate_gates(self._read_sources(module))

    def _read_sources(self, module: Module) -> dict[int, tuple[Instance, Cell, str]]:
        """Read inputs and registers from the dump, and return the instance, cell and pin that drive each other net."""
        gates = {}
        for port in module.ports.values():
            if port.direction == "input":
                for bit in port.bits:
                    self._source(bit, self._dumped(bit))
        for instance in module.instances:
            cell = self._liberty.cells.get(instance.type)
            outputs = {pin: bits for pin, bits in instance.pins.items() if instance.directions.get(pin) == "output"}
            if cell is None:
                for bits in outputs.values():
                    for bit in bits:
                        self._source(bit, self._dumped(bit))
            elif cell.kind == "comb":
                gates |= {bits[0]: (instance, cell, pin) for pin, bits in outputs.items() if isinstance(bits[0], int)}
            elif cell.kind != "clock gate":
                self._read_register(cell, outputs)
        return gates

    def _read_register(self, cell: Cell, outputs: dict[str, list]) -> None:
        """Waveforms of a register's outputs; one that the dump contains determines the others.

        Each of them is the state or its inverse.
        """
        state, inverse = (cell.sequential.get(key, "") for key in ("state", "inverse"))
        read = {pin: Expression(cell.function(pin), {state, inverse}) for pin in outputs}
        known = None
        for pin, bits in outputs.items():
            if known is None and (wave := self._dumped(bits[0])) is not None:
                known = wave if read[pin].value({state: 1, inverse: 0}) else self._ones ^ wave
        for pin, bits in outputs.items():
            wave = None
            if known is not None:
                wave = read[pin].value({state: known, inverse: self._ones ^ known}, self._ones)
            self._source(bits[0], wave)

    def _dumped(self, bit) -> int | None:
        """Waveform of a net in the dump, if the RTL has one of its names."""
        for name, index in self._aliases[bit]:
            wave = self._waves.bit(self._path, name.lstrip("\\"), index)
            if wave is not None:
                return wave
        return None

    def _source(self, bit, wave: int | None) -> None:
        """Store the waveform of a register or an input; one that is not in the dump is taken as constant."""
        if isinstance(bit, int) and bit not in self.values:
            self.total, self.found = self.total + 1, self.found + (wave is not None)
            self.values[bit] = wave or 0

    def _evaluate_gates(self, gates: dict[int, tuple[Instance, Cell, str]]) -> None:
        """Compute the waveforms of all gates, each after those of its inputs."""
        expressions: dict[tuple[str, str], Expression] = {}
        for start in gates:
            stack = [start]
            while stack:
                bit = stack[-1]
                if bit in self.values:
                    stack.pop()
                    continue
                instance, cell, pin = gates[bit]
                inputs = {name: instance.pins[name][0] for name in cell.inputs if name in instance.pins}
                missing = [b for b in inputs.values() if isinstance(b, int) and b in gates and b not in self.values]
                if missing:
                    stack.extend(missing)
                    continue
                key = (cell.name, pin)
                if key not in expressions:
                    expressions[key] = Expression(cell.function(pin), cell.inputs)
                operands = {name: self._level(b) for name, b in inputs.items()}
                self.values[bit] = expressions[key].value(operands, self._ones)
                stack.pop()

    def _level(self, bit) -> int:
        """Waveform of an input of a gate: that of a net, or a constant."""
        if isinstance(bit, int):
            return self.values.get(bit, 0)
        return self._ones if bit == "1" else 0


def _names_of_nets(module: Module) -> dict[int, list[tuple[str, int]]]:
    """Names of every net as (signal, index of the bit): those of ports first."""
    names: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for port in module.ports.values():
        for index, bit in enumerate(port.bits):
            if isinstance(bit, int):
                names[bit].append((port.name, index))
    for bit, name in module.names.items():
        match = re.fullmatch(r"(.*)\[(\d+)\]", name)
        names[bit].append((match[1], int(match[2])) if match else (name, 0))
    return names


def energy_of_module(
    module: Module, values: dict[int, int], window: Window, energies: CellEnergy, net_loads: dict[int, float]
) -> Energy:
    """Energy of a module's own cells in the window, from the waveforms of its nets."""
    result, liberty = Energy(), energies.liberty
    voltage = liberty.voltage
    changes = {bit: toggles(wave, window.first, window.last) for bit, wave in values.items()}
    for bit, capacitance in net_loads.items():
        # Each change takes half of the energy of charging.  The load outside a port counts with the parent's net.
        result.switching += 0.5 * capacitance * voltage**2 * changes.get(bit, 0)
    mask, pulses = (1 << window.cycles) - 1, {}
    for instance in module.instances:
        cell = liberty.cells.get(instance.type)
        if cell is not None and cell.kind == "clock gate":
            enable, clock = (instance.pins[cell.gate_pins[role]][0] for role in ("enable", "output"))
            wave = values.get(enable, 0) if isinstance(enable, int) else -(enable == "1")
            pulses[clock] = ((wave >> window.first) & mask).bit_count()
    for instance in module.instances:
        cell = liberty.cells.get(instance.type)
        if cell is None:
            continue
        result.leakage_watt += cell.leakage * liberty.leakage_unit
        outputs = [instance.pins[pin][0] for pin in cell.outputs if pin in instance.pins]
        result.internal += energies.per_change.get(cell.name, 0.0) * sum(changes.get(bit, 0) for bit in outputs)
        for pin in clock_pins(cell):
            cycles = pulses.get(instance.pins[pin][0], window.cycles)
            energy = energies.per_cycle.get(cell.name, 0.0) + cell.pins[pin].capacitance * voltage**2
            result.clock += cycles * energy
        if cell.kind == "clock gate":
            # Every pulse that passes is a rise and a fall of the output.
            passed = pulses[instance.pins[cell.gate_pins["output"]][0]]
            result.clock += 2 * passed * energies.per_change.get(cell.name, 0.0)
    return result


def _count_accesses(
    accesses: dict[str, tuple[MemoryMacro, float, float]],
    instance: Instance,
    values: dict[int, int],
    window: Window,
    times: float,
) -> None:
    """Add the reads and writes of a memory in the window, ``times`` times, to those of its kind."""
    macro = memory_of(instance)
    label = f"{macro.depth} x {macro.width}" + (" (read, write)" if macro.two_port else "")
    mask = (1 << window.cycles) - 1

    def count(pin: str) -> float:
        bit = instance.pins.get(pin, ["0"])[0]
        if not isinstance(bit, int):
            return times * window.cycles * (bit == "1")
        return times * ((values.get(bit, 0) >> window.first) & mask).bit_count()

    reads = count("read_en" if macro.two_port else "en")
    writes = count("write_en") if macro.two_port else 0
    _, before_reads, before_writes = accesses.get(label, (macro, 0, 0))
    accesses[label] = (macro, before_reads + reads, before_writes + writes)
