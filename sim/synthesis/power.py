"""Power and energy of real work: the RTL runs, every gate of the netlist is evaluated for what its registers did.

OpenSTA 2.0.17, the version that Debian has, knows neither VCD nor SAIF and estimates what lies between registers.
Here each net of a sampled module instance gets its exact number of changes per cycle (glitches within a cycle are
not seen), and each cell the energy that the library states.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from chessrnn.hdl.verilog import TOP_MODULE
from chessrnn.model.cost.area import operations_per_step
from chessrnn.model.files import scratch_folder
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import LayerWeights
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.runner import Run, simulate
from chessrnn.sim.scenarios import Scenario
from chessrnn.sim.synthesis.flow import Synthesis
from chessrnn.sim.synthesis.liberty import Expression, Liberty
from chessrnn.sim.synthesis.netlist import MEMORY_MODULES, Module, clock_pins, memory_of
from chessrnn.sim.synthesis.timing import MEMORY
from chessrnn.sim.synthesis.units import role_of
from chessrnn.sim.synthesis.waveforms import Waveforms, toggles

STEPS = 5
# Instances of a module in one parent that are looked at; they stand for all.
SAMPLED = 2
GIVE_WAY = ("other", "matvec")


@dataclass
class Energy:
    """Joule in the window that is looked at."""

    switching: float = 0.0
    internal: float = 0.0
    clock: float = 0.0
    leakage_watt: float = 0.0

    def add(self, other: "Energy", times: float) -> None:
        """Add another, ``times`` times."""
        for name in ("switching", "internal", "clock", "leakage_watt"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))

    @property
    def dynamic(self) -> float:
        """All but leakage."""
        return self.switching + self.internal + self.clock


class CellEnergy:
    """Energy per change of a cell's output, and per cycle of a flip-flop's clock, from the library's tables.

    Of every table the middle entry counts (usual slope and load), of several tables their mean.
    """

    def __init__(self, liberty: Liberty):
        self.liberty = liberty
        # Energy has no unit of its own in Liberty: that of capacitance times squared voltage.
        self.unit = liberty.cap_unit
        self.per_change: dict[str, float] = {}
        self.per_cycle: dict[str, float] = {}
        for name, text in _blocks(liberty.text, "cell"):
            cell = liberty.cells.get(name.strip('" '))
            if cell is None:
                continue
            clocks = clock_pins(cell) if cell.kind == "flip-flop" else set()
            for pin, body in _blocks(text, "pin"):
                pin = pin.strip('" ')
                means = [_middle(group) for _, group in _blocks(body, "internal_power")]
                # rise and fall of each group: a change is one of them.
                values = [sum(pair) / len(pair) for pair in means if pair]
                if values and pin in clocks:
                    self.per_cycle[cell.name] = max(0.0, 2 * sum(values) / len(values)) * self.unit
                elif values and pin in cell.outputs:
                    energy = max(0.0, sum(values) / len(values)) * self.unit
                    self.per_change[cell.name] = self.per_change.get(cell.name, 0.0) + energy / len(cell.outputs)


def _blocks(text: str, name: str):
    """Arguments and body of every group called ``name``, those inside others of the name left out."""
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


def measure(result: Synthesis, weights: LayerWeights, x: np.ndarray, source: str, clock_mhz: float) -> dict:
    """Power of a sequence.

    Parameters
    ----------
    result : Synthesis
        With a library.
    x : int array (STEPS, X)
    source : str
        What x is, for the report.

    Returns
    -------
    dict
        For ``report.json``.
    """
    config, netlist, liberty = weights.config, result.netlist, result.library.liberty
    sampled = _sampled(result)
    with scratch_folder() as scratch:
        folder, dump = scratch / "rtl", scratch / "power.vcd"
        emit(weights, folder, "power", prefix="")
        verilog = folder / VERILOG_FILE
        # Escaped, as submodules may be called like Verilog's own words.
        names = ["".join(f"\\{part} ." for part in path.split("."))[:-1] for path, *_ in sampled]
        scopes = "\n".join(f"    $dumpvars(1, {name});" for name in names)
        block = f'  initial begin\n    $dumpfile("{dump}");\n{scopes}\n  end\nendmodule'
        text = verilog.read_text(encoding="utf-8")
        verilog.write_text(
            re.sub(rf"(^module {TOP_MODULE}\(.*?)^endmodule", lambda m: m[1] + block, text, count=1, flags=re.M | re.S),
            encoding="utf-8",
        )
        (run,) = simulate(folder, [Run(Scenario(weights, (x,)))], "icarus")
        waves = Waveforms(dump)
    assert not run.problems, run.problems
    active = waves.bit(TOP_MODULE, "matvec_active", 0)
    issues = [cycle for cycle in range(waves.cycles + 1) if active >> cycle & 1]
    first, last = issues[config.bank_words - 1], issues[-1]
    steps = len(issues) // config.bank_words - 1

    energies, voltage = CellEnergy(liberty), liberty.voltage
    loads = netlist.input_loads(liberty)
    parts: dict[str, Energy] = defaultdict(Energy)
    accesses: dict[str, list] = {}
    known = all_nets = 0
    for path, name, times, part in sampled:
        module = netlist.modules[name]
        values, found, total = _evaluate(module, path, waves, liberty, netlist.modules)
        known, all_nets = known + found, all_nets + total
        parts[part].add(_energy(module, values, first, last, liberty, energies, loads, voltage, netlist), times)
        for instance in module.instances:
            if instance.type in MEMORY_MODULES:
                _count_accesses(accesses, instance, values, first, last, times)

    rows: list[tuple[str, float, str]] = []
    cycles, step_cycles = last - first, (last - first) / steps
    clock_hz = clock_mhz * 1e6
    for part, energy in sorted(parts.items(), key=lambda item: -item[1].dynamic):
        per_step = energy.dynamic / steps + energy.leakage_watt * step_cycles / clock_hz
        rows.append((part, per_step, _shares(energy)))
    for label, (macro, reads, writes) in sorted(accesses.items()):
        read, write, origin = result.memory.energy_pj(macro.width, macro.depth, voltage)
        per_step = (reads * read + writes * write) * 1e-12 / steps
        how = f"{reads / steps:,.0f} reads of {read:.2f} pJ, {writes / steps:,.0f} writes of {write:.2f} pJ ({origin})"
        rows.append((f"{MEMORY} {label}", per_step, how))
    joule = sum(energy for _, energy, _ in rows)
    seconds = step_cycles / clock_hz
    operations = operations_per_step(config)
    return {
        "clock_mhz": clock_mhz,
        "voltage": voltage,
        "cycles": cycles,
        "steps": steps,
        "rows": [
            {"part": part, "mw": energy / seconds * 1e3, "pj_per_step": energy * 1e12, "how": how}
            for part, energy, how in rows
        ],
        "total_mw": joule / seconds * 1e3,
        "nj_per_step": joule * 1e9,
        "fj_per_operation": joule / operations * 1e15,
        "tops_per_watt": operations / joule / 1e12,
        "activity": (
            f"Activity: {steps} sustained steps of {source} in the RTL, {step_cycles:.0f} cycles each (predicted "
            f"{Schedule(config).initiation_interval}); every gate evaluated for them in {len(sampled)} modules, "
            f"{100 * known / max(1, all_nets):.1f} % of the register and input bits found by name, the others taken as "
            "still. Glitches, wires and the clock tree above the flip-flops' pins are not in it. Cells: the middle "
            "entry of the library's energy tables."
        ),
    }


def _shares(energy: Energy) -> str:
    leakage = f"leakage {energy.leakage_watt * 1e3:.2f} mW"
    if not energy.dynamic:
        return leakage
    parts = (("switching", energy.switching), ("inside cells", energy.internal), ("clock pins", energy.clock))
    return ", ".join([*(f"{name} {100 * value / energy.dynamic:.0f} %" for name, value in parts), leakage])


def _sampled(result: Synthesis) -> list[tuple[str, str, float, str]]:
    """Path in the RTL, module, how many instances it stands for, part of the report."""
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
            # The matrix engine gives way to the roles in it; any other role stands for all that is below it.
            label = part if part not in GIVE_WAY else role_of(kind) or part
            for child in chosen:
                visit(f"{path}.{child}", kind, times * len(names) / len(chosen), label)

    visit(netlist.top, netlist.top, 1.0, "other")
    return found


def _evaluate(
    module: Module, path: str, waves: Waveforms, liberty: Liberty, modules
) -> tuple[dict[int, int], int, int]:
    """Net → its waveform; and how many of the sources were found in the dump, out of how many."""
    ones = (1 << (waves.cycles + 1)) - 1
    aliases: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for port in module.ports.values():
        for index, bit in enumerate(port.bits):
            if isinstance(bit, int):
                aliases[bit].append((port.name, index))
    for bit, name in module.names.items():
        match = re.fullmatch(r"(.*)\[(\d+)\]", name)
        aliases[bit].append((match[1], int(match[2])) if match else (name, 0))
    values: dict[int, int] = {}
    found = total = 0

    def dumped(bit) -> int | None:
        for name, index in aliases[bit]:
            wave = waves.bit(path, name.lstrip("\\"), index)
            if wave is not None:
                return wave
        return None

    def source(bit, wave: int | None) -> None:
        nonlocal found, total
        if isinstance(bit, int) and bit not in values:
            total, found = total + 1, found + (wave is not None)
            values[bit] = wave or 0

    gates = {}
    for port in module.ports.values():
        if port.direction == "input":
            for bit in port.bits:
                source(bit, dumped(bit))
    for instance in module.instances:
        cell = liberty.cells.get(instance.type)
        outputs = {pin: bits for pin, bits in instance.pins.items() if instance.directions.get(pin) == "output"}
        if cell is None:
            for bits in outputs.values():
                for bit in bits:
                    source(bit, dumped(bit))
        elif cell.kind == "comb":
            gates |= {bits[0]: (instance, cell, pin) for pin, bits in outputs.items() if isinstance(bits[0], int)}
        else:
            # One output that the RTL has a name for tells the others: they are the state or its inverse.
            state, inverse = (cell.sequential.get(key, "") for key in ("state", "inverse"))
            read = {pin: Expression(cell.pins[pin].function, {state, inverse}) for pin in outputs}
            known = None
            for pin, bits in outputs.items():
                if known is None and (wave := dumped(bits[0])) is not None:
                    known = wave if read[pin].value({state: 1, inverse: 0}) else ones ^ wave
            for pin, bits in outputs.items():
                wave = None if known is None else read[pin].value({state: known, inverse: ones ^ known}, ones)
                source(bits[0], wave)
    expressions = {}
    for start in gates:
        stack = [start]
        while stack:
            bit = stack[-1]
            if bit in values:
                stack.pop()
                continue
            instance, cell, pin = gates[bit]
            inputs = {name: instance.pins[name][0] for name in cell.inputs if name in instance.pins}
            missing = [b for b in inputs.values() if isinstance(b, int) and b in gates and b not in values]
            if missing:
                stack.extend(missing)
                continue
            key = (cell.name, pin)
            if key not in expressions:
                expressions[key] = Expression(cell.pins[pin].function, cell.inputs)
            operands = {
                name: (values.get(b, 0) if isinstance(b, int) else ones if b == "1" else 0)
                for name, b in inputs.items()
            }
            values[bit] = expressions[key].value(operands, ones)
            stack.pop()
    return values, found, total


def _energy(module, values, first, last, liberty, energies: CellEnergy, loads, voltage, netlist) -> Energy:
    result = Energy()
    cycles = last - first
    changes = {bit: toggles(wave, first, last) for bit, wave in values.items()}
    for bit, capacitance in netlist.net_loads(module, loads, liberty).items():
        # Energy of charging, half of it per change.  What a port carries outside counts with the parent's net.
        result.switching += 0.5 * capacitance * voltage**2 * changes.get(bit, 0)
    for instance in module.instances:
        cell = liberty.cells.get(instance.type)
        if cell is None:
            continue
        result.leakage_watt += cell.leakage * liberty.leakage_unit
        outputs = [instance.pins[pin][0] for pin in cell.outputs if pin in instance.pins]
        result.internal += energies.per_change.get(cell.name, 0.0) * sum(changes.get(bit, 0) for bit in outputs)
        if cell.kind == "flip-flop":
            pins = sum(cell.pins[pin].capacitance for pin in clock_pins(cell))
            result.clock += cycles * (energies.per_cycle.get(cell.name, 0.0) + pins * voltage**2)
    return result


def _count_accesses(accesses: dict, instance, values, first: int, last: int, times: float) -> None:
    macro = memory_of(instance)
    label = f"{macro.depth} x {macro.width}" + (" (read, write)" if macro.two_port else "")
    window = (1 << (last - first)) - 1

    def count(pin: str) -> float:
        bit = instance.pins.get(pin, ["0"])[0]
        if not isinstance(bit, int):
            return times * (last - first) * (bit == "1")
        return times * ((values.get(bit, 0) >> first) & window).bit_count()

    reads = count("read_en" if macro.two_port else "en")
    writes = count("write_en") if macro.two_port else 0
    _, before_reads, before_writes = accesses.get(label, (macro, 0, 0))
    accesses[label] = (macro, before_reads + reads, before_writes + writes)
