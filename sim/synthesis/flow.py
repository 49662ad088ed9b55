"""From Verilog to figures: synthesize, time, work harder on the modules of paths that are too long, measure."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.liberty import Liberty
from chessrnn.sim.synthesis.library import Library
from chessrnn.sim.synthesis.memory_macro import MemoryModel
from chessrnn.sim.synthesis.netlist import ModuleArea, Netlist
from chessrnn.sim.synthesis.timing import Timing, analyse
from chessrnn.sim.synthesis.yosys import EFFORTS, FULL_ADDERS, Prepared, map_cells, map_generic, prepare

TARGET_FO4 = 40.0
# Share of the period that ABC may spend in one module, as it sees neither the flip-flops' part of a path nor the
# modules before and after.  The last effort is for paths that the one before left too long; that of more than the
# period keeps ABC from speeding up what is not late: its mapper counts in longer delays than its sizing.
LOGIC_SHARE = {"dense": 0.6, "small": 0.6, "loose": 1.5, "medium": 0.75, "fast": 0.6}
# Clock period that ABC works towards where OpenSTA is missing and the FO4 of the library therefore unknown.
UNKNOWN_PERIOD_PS = 1700.0
# Modules come on the longest paths one after the other, and go from effort to effort.
MOST_ROUNDS = 2 * len(EFFORTS)
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
    fo4 = opensta.measure_fo4(library.liberty, folder) if timed else None
    memory = MemoryModel(library.liberty, fo4, list(library.macros))
    period_ps = target_fo4 * fo4 * 1e12 if fo4 else UNKNOWN_PERIOD_PS
    liberty = library.liberty

    def announce(effort: str) -> None:
        clock.start("map", f"{top}: mapping {len(prepared.modules)} modules, {effort}")

    choices = Choices(prepared, liberty, plain, period_ps, folder, EFFORTS, announce)
    efforts = choices.smallest()
    best = None
    for number in range(MOST_ROUNDS):
        netlist = choices.netlist(efforts)
        netlist.repair(liberty)
        if not timed:
            best = (netlist, None, efforts)
            break
        clock.start("timing", f"{top}: timing, round {number + 1}")
        timing = analyse(netlist, liberty, plain, memory, folder, fo4, target_fo4, ports_fraction)
        if best is None or timing.lengths < best[1].lengths:
            best = (netlist, timing, efforts)
        harder = choices.harder(efforts, timing.blamed(target_fo4 * fo4, BLAME_SHARE))
        if not harder:
            break
        progress(f"{top}: longest path {timing.lengths[0] / fo4:.1f} FO4, {len(harder)} modules for speed")
        efforts = efforts | harder
    netlist, timing, efforts = best
    note = "" if timed else "OpenSTA (sta) is not installed: no timing"
    areas = netlist.areas(liberty)
    return Synthesis(library, netlist, areas, timing, note, efforts, memory, plain, clock.stop())


class Choices:
    """Every module of a design mapped in several ways, and which of them to take.

    Parameters
    ----------
    prepared : Prepared
    liberty : Liberty
    plain : Path
        The library as a plain file.
    period_ps : float
        Clock period that mapping works towards.
    folder : Path
        For the files and logs of the tools.
    efforts : sequence of str
        Of :data:`chessrnn.sim.synthesis.yosys.EFFORTS`, in their order; what a library without full adders cannot be
        mapped with is left out.
    announce : callable
        Called with every effort before its mapping begins.
    """

    def __init__(
        self,
        prepared: Prepared,
        liberty: Liberty,
        plain: Path,
        period_ps: float,
        folder: Path,
        efforts: Sequence[str] = EFFORTS,
        announce: Callable[[str], None] = lambda effort: None,
    ):
        self._prepared = prepared
        self._modules: dict[str, dict] = {}
        for effort in efforts:
            if effort != FULL_ADDERS or liberty.full_adder:
                announce(effort)
                wanted = dict.fromkeys(prepared.modules, effort)
                self._modules[effort] = map_cells(
                    prepared, liberty, plain, wanted, period_ps * LOGIC_SHARE[effort], folder
                )
        self._areas = {
            effort: {
                name: sum(
                    liberty.cells[cell["type"]].area
                    for cell in module["cells"].values()
                    if cell["type"] in liberty.cells
                )
                for name, module in modules.items()
            }
            for effort, modules in self._modules.items()
        }

    def smallest(self) -> dict[str, str]:
        """Module → the effort that makes it smallest."""
        return {name: self._smallest(name, list(self._modules)) for name in self._prepared.modules}

    def harder(self, efforts: dict[str, str], modules: Iterable[str]) -> dict[str, str]:
        """Of ``modules`` those that a later effort may make faster → the one of them that is smallest."""
        order = list(self._modules)
        later = {name: order[order.index(efforts[name]) + 1 :] for name in sorted(modules) if name in efforts}
        return {name: self._smallest(name, rest) for name, rest in later.items() if rest}

    def netlist(self, efforts: dict[str, str]) -> Netlist:
        """The design with each module as its effort made it."""
        # All have the black boxes.
        found = dict(next(iter(self._modules.values())))
        return Netlist(
            found | {name: self._modules[effort][name] for name, effort in efforts.items()}, self._prepared.top
        )

    def _smallest(self, name: str, efforts: list[str]) -> str:
        return min(efforts, key=lambda effort: self._areas[effort][name])


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
