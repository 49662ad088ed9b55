"""The model checker: Yosys turns a design with its properties into gates, and ABC decides the properties.

A property is an output ``bad_<name>`` of a checker module: it is 1 in a cycle in which the property is broken.  Inputs
of the checker are free in every cycle.  Registers without an initial value start with every value, as on silicon.
"""

import importlib.util
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chessrnn.model.errors import MissingToolError, UserError
from chessrnn.model.files import scratch_folder
from chessrnn.model.progress import elapsed
from chessrnn.sim.plain_path import plain_path
from chessrnn.sim.synthesis.yosys import run_passes

TOP = "checker"
BAD = "bad_"
UNBOUNDED, BOUNDED = "unbounded", "bounded"
PROVED, HOLDS, BROKEN, UNDECIDED = "proved", "holds", "broken", "undecided"


class ProofError(UserError):
    """ABC gave no verdict; the message quotes its last line."""


@dataclass(frozen=True)
class Claim:
    """A property of a design.

    Attributes
    ----------
    name : str
        Its output of the checker is ``bad_<name>``.
    statement : str
        What holds in every cycle, as a sentence.
    method : str
        ``"unbounded"``: property-directed reachability proves it for runs of every length.  ``"bounded"``: bounded
        model checking searches all runs up to a number of cycles after the first.
    """

    name: str
    statement: str
    method: str = UNBOUNDED


@dataclass(frozen=True)
class Problem:
    """A checker around a design, as text that Yosys reads.

    Attributes
    ----------
    rtlil : str
        The checker, whose module is ``checker``, and modules that it instantiates.
    verilog : str
        Further modules.
    cut : tuple of str
        Beginnings of the names of modules whose outputs become free.  What is proved then holds whatever these
        modules compute.
    equal_start : bool
        What is unknown, such as a register at start, is 0 instead of every value, so that two copies begin alike.
    files : dict of str to str
        Text of the memory files by name.  Where there are none, the contents of the ROMs are free.
    """

    rtlil: str
    verilog: str
    cut: tuple[str, ...] = ()
    equal_start: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """Claims about one design.

    Attributes
    ----------
    name : str
    subject : str
        What the claims are about.
    claims : tuple of Claim
    problem : callable
        Makes the problem.
    """

    name: str
    subject: str
    claims: tuple[Claim, ...]
    problem: Callable[[], Problem]


@dataclass(frozen=True)
class Verdict:
    """Result of one claim.

    Attributes
    ----------
    claim : Claim
    status : str
        ``"proved"`` for runs of every length, ``"holds"`` in all runs of ``cycles`` cycles, ``"broken"``, or
        ``"undecided"`` when the time was over.
    cycles : int
        Cycles that were searched; of a broken claim, those of the counterexample.
    seconds : float
        Time of ABC.
    counterexample : tuple of dict of str to int
        For every cycle the inputs of the checker by name; empty unless the claim is broken.
    """

    claim: Claim
    status: str
    cycles: int
    seconds: float
    counterexample: tuple[Mapping[str, int], ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the claim holds as far as its method goes."""
        return self.status == (PROVED if self.claim.method == UNBOUNDED else HOLDS)


def check(proof: Proof, depth: int, limit: int = 60, only: tuple[str, ...] = ()) -> list[Verdict]:
    """Decide every claim of a proof, or those that are named.

    Parameters
    ----------
    proof : Proof
    depth : int
        Cycles of bounded claims.
    limit : int
        Seconds for each claim.
    only : tuple of str
        Names of claims; empty for all.

    Raises
    ------
    MissingToolError
        pyosys is not installed.
    ToolError, ProofError
        Yosys or ABC failed.
    """
    with scratch_folder() as scratch:
        folder = plain_path(scratch)
        outputs = to_gates(proof.problem(), folder)
        assert sorted(outputs) == sorted(claim.name for claim in proof.claims), "every claim has an output"
        chosen = [claim for claim in proof.claims if not only or claim.name in only]
        return [decide(claim, outputs.index(claim.name), folder, depth, limit) for claim in chosen]


def to_gates(problem: Problem, folder: Path) -> list[str]:
    """Write ``model.aig``, the problem as gates and registers; returns the names of the claims by output."""
    verilog = problem.verilog if problem.files else re.sub(r"(?m)^ +initial \$readmemh.*$", "", problem.verilog)
    for name, text in problem.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "design.v").write_text(verilog, encoding="utf-8")
    (folder / "checker.il").write_text(problem.rtlil, encoding="utf-8")
    names = re.findall(r"^module (\w+)", verilog, re.MULTILINE) + re.findall(r"^module \\(\w+)", problem.rtlil, re.M)
    for beginning in problem.cut:
        assert any(name.startswith(beginning) for name in names), f"there is a module {beginning}"
    cut = [name for name in names if name.startswith(problem.cut)] if problem.cut else []
    passes = [
        "read_rtlil checker.il",
        "read_verilog -DSYNTHESIS design.v",
        f"hierarchy -check -top {TOP}",
        "proc",
        *(f"delete {name}/c:*" for name in cut),
        "flatten",
        # Before any optimization, which would take an undriven signal for a constant.
        "setundef -undriven -anyseq",
        "memory -nomap",
        "memory_map",
        # Words of a ROM beyond its last one.
        *(["setundef -zero", "setundef -undriven -zero"] if problem.equal_start else ["setundef -undriven -anyseq"]),
        "opt -nosdff -nodffe",
        "techmap",
        "opt -nosdff -nodffe",
        "dffunmap",
        "simplemap",
        "opt_expr",
        "opt_merge",
        "opt_clean",
        *(["zinit -all"] if problem.equal_start else []),
        "aigmap",
        # Also of names inside the design, which would make two inputs of one.
        "opt_clean -purge",
        "write_aiger -zinit -symbols -map model.map model.aig",
    ]
    run_passes(passes, folder, "model")
    text = (folder / "model.map").read_text(encoding="utf-8")
    return re.findall(rf"^output \d+ 0 {BAD}(\w+)$", text, re.MULTILINE)


def abc_program() -> Path:
    """The ABC that the package pyosys brings.

    Raises
    ------
    MissingToolError
        It is not installed.
    """
    found = importlib.util.find_spec("pyosys")
    if found is not None and found.origin is not None:
        program = Path(found.origin).parent / "yosys-abc"
        if program.exists():
            return program
    raise MissingToolError("pyosys must be installed to prove (pip install pyosys==0.70)")


def decide(claim: Claim, output: int, folder: Path, depth: int, limit: int) -> Verdict:
    """Let ABC decide one output of ``model.aig``."""
    # Pairs of equal registers are merged first, without which two copies of a design would be compared bit by bit.
    reduce = "strash; scorr; " if claim.method == UNBOUNDED else "strash; "
    engine = f"pdr -T {limit}" if claim.method == UNBOUNDED else f"bmc3 -F {depth} -T {limit}"
    script = f"read_aiger model.aig; cone -O {output}; {reduce}print_stats; {engine}; write_cex -n -a trace.txt"
    began = time.monotonic()
    log = _abc(script, claim, folder)
    if re.search(r"lat = +0 +and = +0 ", log):
        # The output has become a constant, of which pdr only says that there is nothing left to do.
        log = _abc(
            f"read_aiger model.aig; cone -O {output}; strash; bmc3 -F 1; write_cex -n -a trace.txt", claim, folder
        )
        log = log if "asserted in frame" in log else "Property proved"
    seconds, trace = time.monotonic() - began, counterexample(folder / "trace.txt", folder / "model.map")
    if re.search(r"was asserted in frame", log):
        assert trace, f"ABC writes a counterexample: {log}"
        return Verdict(claim, BROKEN, len(trace), seconds, trace)
    if "Property proved" in log:
        if claim.method == UNBOUNDED:
            return Verdict(claim, PROVED, 0, seconds)
        return Verdict(claim, HOLDS, depth, seconds)
    if found := re.search(r"No output asserted in (\d+) frames", log):
        return Verdict(claim, HOLDS if int(found[1]) >= depth else UNDECIDED, int(found[1]), seconds)
    if "UNDECIDED" in log:
        return Verdict(claim, UNDECIDED, 0, seconds)
    lines = log.strip().splitlines() or ["no output"]
    raise ProofError(f"abc must decide {claim.name}, not {lines[-1]!r}")


def _abc(script: str, claim: Claim, folder: Path) -> str:
    (folder / "trace.txt").unlink(missing_ok=True)
    with elapsed(f"abc, {claim.name}"):
        done = subprocess.run(
            [str(abc_program()), "-c", script], cwd=folder, capture_output=True, text=True, check=False
        )
    return done.stdout + done.stderr


def counterexample(path: Path, names: Path) -> tuple[dict[str, int], ...]:
    """Inputs of the checker in every cycle, from ABC's list of ``name[bit]@cycle=value``."""
    if not path.exists():
        return ()
    # The rest of the list are registers and their initial values.
    inputs = set(re.findall(r"^input \d+ \d+ (\w+)$", names.read_text(encoding="utf-8"), re.MULTILINE))
    cycles: list[dict[str, int]] = []
    for name, bit, cycle, value in re.findall(
        r"(?:^|\s)([A-Za-z_]\w*)(?:\[(\d+)\])?@(\d+)=([01])", path.read_text(encoding="utf-8")
    ):
        while len(cycles) <= int(cycle):
            cycles.append({})
        if name not in inputs:
            continue
        cycles[int(cycle)][name] = cycles[int(cycle)].get(name, 0) | int(value) << int(bit or 0)
    return tuple(cycles)
