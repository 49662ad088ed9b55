"""Longest paths of a mapped netlist, by module and by pipeline stage."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.liberty import Liberty
from chessrnn.sim.synthesis.memory_macro import MemoryModel
from chessrnn.sim.synthesis.netlist import MEMORY_MODULES, Netlist

# Number of stages whose longest path is reported cell by cell: of logic, and from memories, which are many and similar.
DETAILED_STAGES, DETAILED_MEMORY_STAGES = 60, 5
# MEMORY takes the place of a module's name for the time that a path spends in a memory.  MEMORY_PLACE begins the name
# of a memory that holds the pin of a path.
MEMORY = "memory"
MEMORY_PLACE = "memory "


@dataclass(frozen=True)
class Stage:
    """Longest path between two registers of the Verilog, with all their bits taken together.

    Attributes
    ----------
    start, end : (str, str)
        Module, and the register, memory or port in it.
    period : float
        Clock period in seconds that the path needs, from clock edge to setup; at a port it includes the time that the
        surrounding logic takes.
    pin : str
        Endpoint in the netlist.
    spent : dict of str to float
        Seconds inside each module on the path; empty where the path is not reported cell by cell.
    cells : int
        Number of cells on the path.
    """

    start: tuple[str, str]
    end: tuple[str, str]
    period: float
    pin: str
    spent: dict[str, float]
    cells: int

    @property
    def from_memory(self) -> bool:
        """Whether the path begins in a memory, whose own delay no logic changes."""
        return self.start[1].startswith(MEMORY_PLACE)


@dataclass(frozen=True)
class Timing:
    """Longest paths of a design.

    Attributes
    ----------
    fo4 : float
        Fan-out-of-four delay of the library in seconds.
    stages : list of Stage
        Longest path of every stage, longest first.
    reduced : bool
        Whether only some of many equal instances were timed, and the others only loaded their inputs.
    texts : dict of str to str
        OpenSTA's report of the path, by endpoint.
    """

    fo4: float
    stages: list[Stage]
    reduced: bool
    texts: dict[str, str]

    @property
    def period(self) -> float:
        """Shortest clock period in seconds; 0 where nothing is timed."""
        return self.stages[0].period if self.stages else 0.0

    def longest(self, from_memory: bool) -> Stage | None:
        """Longest of the paths that begin in a memory, or of those that do not."""
        return next((stage for stage in self.stages if stage.from_memory == from_memory), None)

    @property
    def lengths(self) -> tuple[float, float]:
        """Periods of the longest path of logic, which mapping can shorten, and of the longest of all."""
        logic = self.longest(from_memory=False)
        return logic.period if logic else 0.0, self.period

    def by_module(self) -> dict[str, Stage]:
        """Longest path that ends in each module or spends time in it."""
        worst: dict[str, Stage] = {}
        for stage in self.stages:
            for module in (stage.end[0], *stage.spent):
                worst.setdefault(module, stage)
        return worst

    def blamed(self, target: float, share: float) -> set[str]:
        """Modules that take at least the fraction ``share`` of a path that is longer than ``target`` seconds."""
        return {
            module
            for stage in self.stages
            if stage.period > target
            for module, spent in stage.spent.items()
            if spent >= share * stage.period
        }


def analyse(
    netlist: Netlist,
    liberty: Liberty,
    plain: Path,
    memory: MemoryModel,
    folder: Path,
    fo4: float,
    target_fo4: float,
    ports_fraction: float,
) -> Timing:
    """Time a netlist with OpenSTA.

    Parameters
    ----------
    plain : Path
        The library as a plain file.
    fo4 : float
        Fan-out-of-four delay of the library in seconds.
    target_fo4 : float
        Clock period of the analysis.
    ports_fraction : float
        Fraction of the period that the surrounding logic takes before inputs and after outputs.
    """
    period = target_fo4 * fo4
    setup = opensta.write_setup(netlist, liberty, plain, memory, folder, ports_fraction)
    types = netlist.instance_types(liberty)
    registers = {name: netlist.register_names(name, liberty) for name in netlist.bottom_up}
    ordered: list[tuple[tuple, tuple[float, str]]] = []

    def choose(endpoints: list[opensta.Endpoint]) -> list[str]:
        grouped: dict[tuple, tuple[float, str]] = {}
        for endpoint in endpoints:
            outside = ports_fraction * sum("/" not in pin for pin in (endpoint.start, endpoint.end))
            # The time outside is a fraction of the period, so the period that would be enough follows by division.
            needed = (endpoint.delay - outside * period) / (1 - outside)
            key = tuple(_place(pin, netlist, types, registers) for pin in (endpoint.start, endpoint.end))
            grouped[key] = max(grouped.get(key, (-1.0, "")), (needed, endpoint.end))
        ordered.extend(sorted(grouped.items(), key=lambda item: (-item[1][0], item[0])))
        # Reported are the longest paths of logic and from memories, and the longest path that ends in each module.
        logic = [pin for (start, _), (_, pin) in ordered if not start[1].startswith(MEMORY_PLACE)]
        memory = [pin for (start, _), (_, pin) in ordered if start[1].startswith(MEMORY_PLACE)]
        wanted = {*logic[:DETAILED_STAGES], *memory[:DETAILED_MEMORY_STAGES]}
        last: dict[str, str] = {}
        for (_, end), (_, pin) in ordered:
            last.setdefault(end[0], pin)
        return sorted(wanted | set(last.values()))

    texts = opensta.longest_paths(setup, liberty, period, folder, choose)
    stages = []
    for (start, end), (needed, pin) in ordered:
        spent, cells = _spent(texts[pin], netlist, types) if pin in texts else ({}, 0)
        stages.append(Stage(start, end, needed, pin, spent, cells))
    return Timing(fo4, stages, setup.reduced, texts)


def _module_at(instances: list[str], top: str, types: dict[tuple[str, str], str]) -> str:
    module = top
    for instance in instances:
        module = types.get((module, instance), module)
    return module


def _place(pin: str, netlist: Netlist, types, registers) -> tuple[str, str]:
    """Module of a pin, and its register (without bit numbers), memory or port."""
    parts = pin.split("/")
    if len(parts) == 1:
        return netlist.top, "port " + re.sub(r"\[\d+\]", "", pin)
    module = _module_at(parts[:-2], netlist.top, types)
    kind = types.get((module, parts[-2]))
    if kind in MEMORY_MODULES:
        # Banks of a tile differ only in their numbers.
        return module, MEMORY_PLACE + re.sub(r"\d+", "*", parts[-2])
    net = registers[module].get(parts[-2], parts[-2])
    return module, re.sub(r"\[\d+\]$", "", net)


_PATH_LINE = re.compile(r"^.*?\s(-?\d+\.\d+)\s+(-?\d+\.\d+)\s+[v^]\s+(\S+)/(\S+)\s+\((\S+)\)$")


def _spent(text: str, netlist: Netlist, types) -> tuple[dict[str, float], int]:
    """Seconds that a path spends in each module, and the number of cells on it."""
    spent: dict[str, float] = defaultdict(float)
    cells: set[str] = set()
    for line in text.splitlines():
        if "data arrival time" in line:
            break
        match = _PATH_LINE.match(line)
        if match is None:
            continue
        increment, _, path, _, _ = match.groups()
        instances = path.split("/")
        module = _module_at(instances[:-1], netlist.top, types)
        if types.get((module, instances[-1])) in MEMORY_MODULES:
            module = MEMORY
        spent[module] += float(increment) * 1e-9
        cells.add(path)
    return dict(spent), len(cells)
