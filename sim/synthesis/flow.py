"""Synthesis flow: maps a design, times it, and maps the modules of paths that are too long with more effort."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.liberty import Liberty
from chessrnn.sim.synthesis.library import Library, clock_gate_of
from chessrnn.sim.synthesis.memory_macro import MemoryModel
from chessrnn.sim.synthesis.netlist import ModuleArea, Netlist
from chessrnn.sim.synthesis.timing import Timing, analyse
from chessrnn.sim.synthesis.yosys import EFFORTS, FULL_ADDERS, Prepared, map_cells, map_generic, prepare

TARGET_FO4 = 40.0
# Fraction of the period that is ABC's delay target for one module, as ABC sees neither the flip-flops' part of a path
# nor the neighbouring modules.  Each effort is for paths that the one before left too long.  The target of "loose"
# exceeds the period, which keeps ABC from speeding up what is not late, because its mapper assumes longer delays than
# its sizing.
LOGIC_SHARE = {"dense": 0.6, "small": 0.6, "loose": 1.5, "medium": 0.75, "fast": 0.6}
# Clock period that ABC aims at where OpenSTA is missing, so that the FO4 of the library is unknown.
UNKNOWN_PERIOD_PS = 1700.0
# Limit of rounds: modules appear on the longest paths one after the other, and each goes through the efforts.
MOST_ROUNDS = 2 * len(EFFORTS)
# Only modules with at least this fraction of a too long path are mapped with more effort.
BLAME_SHARE = 0.1


@dataclass
class Synthesis:
    """A synthesized design.

    Attributes
    ----------
    library : Library or None
        Library that it is mapped to; ``None`` for generic gates.
    netlist : Netlist
        Mapped netlist with repaired fan-out.
    areas : dict of str to ModuleArea
        Area of every module in µm², or in gate equivalents without a library.
    timing : Timing or None
        Longest paths; ``None`` without a library or without OpenSTA.
    note : str
        Reason why ``timing`` is ``None``, else empty.
    efforts : dict of str to str
        Effort that every module was mapped with.
    memory : MemoryModel or None
        Model of the memories in the library's process.
    plain : Path or None
        The library as a plain file.
    seconds : dict of str to float
        Wall-clock time of every kind of work.
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

    @property
    def liberty(self) -> Liberty:
        """Cells of the library; only of a design that is mapped to one."""
        assert self.library is not None
        return self.library.liberty


def synthesize(
    verilog: str,
    top: str,
    library: Library | None,
    folder: Path,
    target_fo4: float = TARGET_FO4,
    ports_fraction: float = 0.3,
    progress: Callable[[str], None] = lambda text: None,
    clock_gates: bool = False,
) -> Synthesis:
    """Synthesize ``top`` of a Verilog text.

    Parameters
    ----------
    library : Library or None
        Library to map to; generic gates where it is ``None``.
    folder : Path
        Folder for the files and logs of the tools; it must exist.
        target_fo4 : float
            Clock period that mapping aims at.
        ports_fraction : float
            Fraction of the period that the surrounding logic takes before inputs and after outputs.
        progress : callable
            Called with one line before every stage.
        clock_gates : bool
            Whether clock gates of the library stop the clock of flip-flops that hold their value.

    Raises
    ------
    UserError
        A tool is missing or failed, or the design cannot be built.
    """
    clock = _StopWatch(progress)
    plain = library.write_plain(folder) if library else None
    clock.start("prepare", f"{top}: converting to generic gates")
    prepared = prepare(verilog, top, plain, folder, clock_gate=clock_gate_of(library) if clock_gates else None)
    if library is None:
        clock.start("map", f"{top}: mapping {len(prepared.modules)} modules")
        netlist = map_generic(prepared, folder)
        areas = netlist.areas(None)
        return Synthesis(None, netlist, areas, None, "timing needs a library", {}, None, None, clock.stop())

    assert plain is not None
    timed = opensta.available()
    fo4 = opensta.measure_fo4(library.liberty, folder) if timed else None
    memory = MemoryModel(library.liberty, fo4, list(library.macros))
    period_ps = target_fo4 * fo4 * 1e12 if fo4 else UNKNOWN_PERIOD_PS
    liberty = library.liberty

    def announce(effort: str) -> None:
        clock.start("map", f"{top}: mapping {len(prepared.modules)} modules, {effort}")

    choices = Choices(prepared, liberty, plain, period_ps, folder, EFFORTS, announce)
    efforts = choices.smallest()
    best: tuple[Netlist, Timing | None, dict[str, str]] | None = None
    for number in range(MOST_ROUNDS):
        netlist = choices.netlist(efforts)
        netlist.repair(liberty)
        if fo4 is None:
            best = (netlist, None, efforts)
            break
        clock.start("timing", f"{top}: timing, round {number + 1}")
        timing = analyse(netlist, liberty, plain, memory, folder, fo4, target_fo4, ports_fraction)
        if best is None or best[1] is None or timing.lengths < best[1].lengths:
            best = (netlist, timing, efforts)
        harder = choices.harder(efforts, timing.blamed(target_fo4 * fo4, BLAME_SHARE))
        if not harder:
            break
        progress(f"{top}: longest path {timing.lengths[0] / fo4:.1f} FO4, {len(harder)} modules mapped for speed")
        efforts = efforts | harder
    assert best is not None
    netlist, timing, efforts = best
    note = "" if timed else "OpenSTA (sta) is not installed: no timing"
    areas = netlist.areas(liberty)
    return Synthesis(library, netlist, areas, timing, note, efforts, memory, plain, clock.stop())


class Choices:
    """Choice between several mappings of every module of a design.

    Parameters
    ----------
    prepared : Prepared
        Design in generic gates.
    liberty : Liberty
        Library to map to.
    plain : Path
        The library as a plain file.
    period_ps : float
        Clock period that mapping aims at.
    folder : Path
        Folder for the files and logs of the tools.
    efforts : sequence of str
        Efforts to map with, in the order of :data:`chessrnn.sim.synthesis.yosys.EFFORTS`; the one with full adders is
        left out where the library has none.
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
        """Effort that makes each module smallest."""
        return {name: self._smallest(name, list(self._modules)) for name in self._prepared.modules}

    def harder(self, efforts: dict[str, str], modules: Iterable[str]) -> dict[str, str]:
        """Next effort of each of ``modules`` that a later one may make faster: the smallest of the later ones."""
        order = list(self._modules)
        later = {name: order[order.index(efforts[name]) + 1 :] for name in sorted(modules) if name in efforts}
        return {name: self._smallest(name, rest) for name, rest in later.items() if rest}

    def netlist(self, efforts: dict[str, str]) -> Netlist:
        """The design in which each module is mapped with its effort."""
        # Every mapping contains the black boxes.
        found = dict(next(iter(self._modules.values())))
        return Netlist(
            found | {name: self._modules[effort][name] for name, effort in efforts.items()}, self._prepared.top
        )

    def _smallest(self, name: str, efforts: list[str]) -> str:
        return min(efforts, key=lambda effort: self._areas[effort][name])


class _StopWatch:
    """Stop watch that announces every kind of work and counts its seconds."""

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
