"""From Verilog to figures: synthesize, time, work harder on the modules of paths that are too long, measure."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.synthesis import opensta
from scripts.synthesis.library import Library
from scripts.synthesis.memory_macro import MemoryModel
from scripts.synthesis.netlist import ModuleArea, Netlist
from scripts.synthesis.timing import Timing, analyse
from scripts.synthesis.yosys import EFFORTS, map_cells, map_generic, prepare

TARGET_FO4 = 40.0
# What a path spends in its flip-flops, and what is left of it where it crosses modules that ABC sees one by one.
LOGIC_SHARE = 0.6
# Delay target of ABC where OpenSTA is missing and the FO4 of the library therefore unknown.
UNKNOWN_TARGET_PS = 1000.0
# A module with less of a too long path than this is not the one to blame.
BLAME_SHARE = 0.1


@dataclass
class Synthesis:
    """A synthesized design.

    Attributes
    ----------
    netlist : Netlist
        Mapped and repaired.
    areas : dict of str to ModuleArea
        µm², or gate equivalents without a library.
    timing : Timing or None
        ``None`` without a library or without OpenSTA; ``note`` says which.
    efforts : dict of str to str
        How every module was mapped.
    """

    library: Library | None
    netlist: Netlist
    areas: dict[str, ModuleArea]
    timing: Timing | None
    note: str
    efforts: dict[str, str]
    memory: MemoryModel | None
    plain: Path | None
    seconds: dict[str, float] = field(default_factory=dict)


def synthesize(
    verilog: str,
    top: str,
    library: Library | None,
    folder: Path,
    target_fo4: float = TARGET_FO4,
    ports_fraction: float = 0.3,
    progress: Callable[[str], None] = lambda text: None,
) -> Synthesis:
    """Synthesize ``top`` of a Verilog text.

    Parameters
    ----------
    library : Library or None
        Generic gates where it is ``None``.
    folder : Path
        For the files and logs of the tools; must exist.
    target_fo4 : float
        Clock period that mapping works towards.
    ports_fraction : float
        Part of the period that the surroundings take before inputs and after outputs.
    progress : callable
        Called with a line before every stage.

    Raises
    ------
    UserError
        A tool is missing or failed, or the design cannot be built.
    """
    clock = _StopWatch(progress)
    plain = library.write_plain(folder) if library else None
    clock.start("prepare", f"{top}: to generic gates")
    prepared = prepare(verilog, top, plain, folder)
    if library is None:
        clock.start("map", f"{top}: mapping {len(prepared.modules)} modules")
        netlist = map_generic(prepared, folder)
        areas = netlist.areas(None)
        return Synthesis(None, netlist, areas, None, "timing needs a library", {}, None, None, clock.stop())

    timed = opensta.available()
    fo4 = opensta.measure_fo4(library.liberty, plain, folder) if timed else None
    memory = MemoryModel(library.liberty, fo4, list(library.macros))
    delay_ps = target_fo4 * fo4 * 1e12 * LOGIC_SHARE if fo4 else UNKNOWN_TARGET_PS
    liberty = library.liberty

    def mapped(wanted: dict[str, str], text: str) -> dict[str, dict]:
        clock.start("map", f"{top}: {text}")
        return map_cells(prepared, liberty, plain, wanted, delay_ps, folder)

    efforts = dict.fromkeys(prepared.modules, "small")
    modules = mapped(efforts, f"mapping {len(efforts)} modules")
    if liberty.full_adder:
        dense = dict.fromkeys(prepared.modules, "dense")
        found = mapped(dense, f"mapping {len(efforts)} modules with full adders")
        small_areas, dense_areas = (Netlist(source, top).areas(liberty) for source in (modules, found))
        smaller = [name for name in small_areas if dense_areas[name].own < small_areas[name].own]
        modules |= {name: found[name] for name in smaller}
        efforts |= dict.fromkeys(smaller, "dense")
    best = None
    for number in range(len(EFFORTS)):
        netlist = Netlist(modules, top)
        netlist.repair(liberty)
        if not timed:
            best = (netlist, None, efforts)
            break
        clock.start("timing", f"{top}: timing, round {number + 1}")
        timing = analyse(netlist, liberty, plain, memory, folder, fo4, target_fo4, ports_fraction)
        if best is None or timing.period < best[1].period:
            best = (netlist, timing, efforts)
        harder = {
            module: EFFORTS[EFFORTS.index(efforts[module]) + 1]
            for module in sorted(timing.blamed(target_fo4 * fo4, BLAME_SHARE))
            if module in efforts and efforts[module] != EFFORTS[-1]
        }
        if not harder or number == len(EFFORTS) - 1:
            break
        longest = f"{timing.period / fo4:.1f} FO4"
        modules = modules | mapped(harder, f"longest path {longest}, mapping {len(harder)} modules for speed")
        efforts = efforts | harder
    netlist, timing, efforts = best
    note = "" if timed else "OpenSTA (sta) is not installed: no timing"
    areas = netlist.areas(liberty)
    return Synthesis(library, netlist, areas, timing, note, efforts, memory, plain, clock.stop())


class _StopWatch:
    """Seconds of every kind of work, announced when it begins."""

    def __init__(self, progress: Callable[[str], None]):
        self._progress, self._seconds, self._kind = progress, {}, None
        self._since = 0.0

    def start(self, kind: str, text: str) -> None:
        self.stop()
        self._kind, self._since = kind, time.perf_counter()
        self._progress(text)

    def stop(self) -> dict[str, float]:
        if self._kind is not None:
            self._seconds[self._kind] = self._seconds.get(self._kind, 0.0) + time.perf_counter() - self._since
            self._kind = None
        return self._seconds
