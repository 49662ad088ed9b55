"""Compare the emitted Verilog of random small designs with the reference, in every bit, and the predicted cycles."""

import argparse
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.cost.resources import matvec_multipliers
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import scratch_folder, write_atomic
from chessrnn.model.jobs import run_jobs
from chessrnn.model.progress import Progress
from chessrnn.scripts.cli import EXIT_MISMATCH, command_parser, count, seed
from chessrnn.scripts.worker_arguments import add_worker_arguments, workers_from
from chessrnn.sim.build import emit, generator_digest
from chessrnn.sim.runner import SIMULATORS, Run, RunResult, SimulationError, simulate
from chessrnn.sim.scenarios import MAX_PRODUCTS, random_config, random_scenario
from chessrnn.sim.stalls import StallPattern
from chessrnn.sim.together import simulate_together

EXAMPLES = """examples:
  chessrnn fuzz --count 60 --seed 1
  chessrnn fuzz --count 2000 --products 16 --results build/fuzz/seed1.jsonl
  chessrnn fuzz --seed 1 --only 17 --sim verilator"""
FAILURES = Path("build") / "fuzz"
# Designs that Icarus simulates in one process: its start and that of Yosys take a second, a small design about as long.
TOGETHER = 12
# Python looks for garbage after so many new objects; a design consists of many that live until it is emitted.
GARBAGE_OBJECTS = 200_000
# Largest number of products behind unregistered compressors that Icarus simulates in seconds.
MAX_GLITCHING = 128


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("fuzz", __doc__, EXAMPLES)
    parser.add_argument("--count", type=count, default=50, help="number of designs; default 50")
    parser.add_argument("--seed", type=seed, default=1, help="seed of the series of designs; default 1")
    parser.add_argument("--only", type=seed, metavar="INDEX", help="only one design of the series")
    parser.add_argument(
        "--products",
        type=count,
        default=MAX_PRODUCTS,
        help=f"greatest number of products at a time in a design; default {MAX_PRODUCTS}, fewer simulate faster",
    )
    add_worker_arguments(parser, "designs", 2, "--jobs")
    parser.add_argument(
        "--sim", choices=SIMULATORS, default="icarus", help="the simulator; default icarus, which needs no compilation"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="add each result to FILE, and skip designs that are there: an interrupted series goes on",
    )
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def make_runs(series: int, index: int, max_products: int = MAX_PRODUCTS) -> list[Run]:
    """Make two runs of design ``index`` of a series, without stalls and with stalls."""
    rng = np.random.default_rng([series, index])
    config = random_config(rng, max_products)
    scenario = random_scenario(config, rng)

    def pattern() -> StallPattern:
        kind = ("random", "bursty")[rng.integers(2)]
        number = int(rng.integers(1 << 30))
        return StallPattern(kind, float(rng.uniform(0.05, 0.9)), int(rng.integers(2, 40)), number)

    return [Run(scenario, name="unstalled"), Run(scenario, pattern(), pattern(), "stalled")]


def simulator_of(config: Config, asked: str) -> str:
    """Simulator of a design: the requested one, but Verilator where Icarus would take minutes.

    Icarus simulates every glitch of a compressor, and without a register in front of it there are very many.
    """
    arch = config.architecture
    glitches = arch.arithmetic == "carry_save" and not arch.pipeline.operand_register
    return "verilator" if asked == "icarus" and glitches and matvec_multipliers(config) > MAX_GLITCHING else asked


def check(series: int, indices: list[int], simulator: str, max_products: int) -> list[dict]:
    """Emit, simulate and judge designs; the results are plain values, as this runs in a process of its own."""
    threshold = gc.get_threshold()
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        return _check(series, indices, simulator, max_products)
    finally:
        gc.set_threshold(*threshold)


def _check(series: int, indices: list[int], simulator: str, max_products: int) -> list[dict]:
    """Judge designs, those for Icarus in one simulation."""
    started = time.perf_counter()
    designs = {index: make_runs(series, index, max_products) for index in indices}
    icarus = {
        index: runs for index, runs in designs.items() if simulator_of(runs[0].scenario.config, simulator) == "icarus"
    }
    found = {}
    if len(icarus) > 1:
        try:
            judged = simulate_together(list(icarus.values()))
            found = {index: _result(index, results) for index, results in zip(icarus, judged, strict=True)}
        except SimulationError:
            found = {}  # One of them fails: which one is known when each is simulated alone.
    found |= {
        index: check_alone(series, index, runs, simulator) for index, runs in designs.items() if index not in found
    }
    seconds = (time.perf_counter() - started) / len(indices)
    return [found[index] | {"seconds": round(seconds, 2)} for index in indices]


def check_alone(series: int, index: int, runs: list[Run], simulator: str) -> dict:
    """Emit the whole build directory of one design, simulate and judge it."""
    scenario = runs[0].scenario
    with scratch_folder() as folder:
        try:
            emit(scenario.weights, folder / "build", f"fuzz, seed {series}, design {index}")
            return _result(index, simulate(folder / "build", runs, simulator_of(scenario.config, simulator)))
        except SimulationError as error:
            log = FAILURES / f"seed{series}-{index}.log"
            write_atomic(log, error.log.read_bytes() if error.log.exists() else b"")
            return {"index": index, "config": scenario.config.to_dict(), "steps": 0, "cycles": 0} | {
                "problems": [f"{error}; kept as {log}"]
            }


def _result(index: int, results: list[RunResult]) -> dict:
    """Plain values of the results of a design's runs."""
    scenario = results[0].run.scenario
    return {
        "index": index,
        "config": scenario.config.to_dict(),
        "steps": len(results) * scenario.num_steps,
        "cycles": sum(result.cycles for result in results),
        "problems": [f"{result.run.name}: {problem}" for result in results for problem in result.problems],
    }


def _read_results(path: Path, series: dict) -> dict[int, dict]:
    """Results of earlier runs of a series, by the numbers of its designs.

    Raises
    ------
    InvalidFileError
        The file is damaged, or belongs to another series or another version of the generator.
    """
    if not path.exists():
        return {}
    try:
        first, *rest = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        results = {result["index"]: result for result in rest}
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidFileError(f"{path} must hold results that chessrnn fuzz --results wrote") from None
    if first != series:
        raise InvalidFileError(f"{path} must be of the same series and generator ({series}): remove it or name another")
    return results


def main(argv: list[str] | None = None) -> int:
    """Check the designs in parallel, and print a summary."""
    args = parse(argv)
    indices = list(range(args.count)) if args.only is None else [args.only]
    series = {"seed": args.seed, "products": args.products, "generator": generator_digest()}
    known = _read_results(args.results, series) if args.results else {}
    results = [known[index] for index in indices if index in known]
    failed = [result for result in results if result["problems"]]
    wanted = [index for index in indices if index not in known]
    progress = Progress(len(indices))
    started = time.perf_counter()

    def finished(_: int, new: list[dict]) -> None:
        results.extend(new)
        failures = [result for result in new if result["problems"]]
        failed.extend(failures)
        if args.results:
            _add_results(args.results, series, new)
        progress.show(len(results), f"{len(failed)} failed")
        for result in failures:
            _print_failure(result, args)

    size = min(TOGETHER, max(1, len(wanted) // args.workers))
    batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    jobs = [(args.seed, batch, args.sim, args.products) for batch in batches]
    run_jobs(check, jobs, workers_from(args), finished)
    seconds = time.perf_counter() - started + sum(result["seconds"] for result in known.values())
    summary = {
        "simulator": args.sim,
        "seed": args.seed,
        "designs": len(results),
        "steps": sum(result["steps"] for result in results),
        "cycles": sum(result["cycles"] for result in results),
        "failed": sorted(result["index"] for result in failed),
        "seconds": round(seconds, 1),
    }
    if args.json:
        print(json.dumps(summary, indent=2))
    else:
        print(
            f"{summary['designs']} designs, {summary['steps']} steps, {summary['cycles']} cycles with {args.sim}, "
            f"seed {args.seed}: {len(failed)} failed, {seconds:.0f} s"
        )
    return EXIT_MISMATCH if failed else 0


def _add_results(path: Path, series: dict, results: list[dict]) -> None:
    """Add results to a file, a line for each below that of the series."""
    if not path.exists():
        write_atomic(path, json.dumps(series) + "\n")
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(result) + "\n" for result in results))


def _print_failure(result: dict, args: argparse.Namespace) -> None:
    path = FAILURES / f"seed{args.seed}-{result['index']}.json"
    write_atomic(path, json.dumps(result["config"], indent=2) + "\n")
    print(f"chessrnn fuzz: design {result['index']} failed", file=sys.stderr)
    for problem in result["problems"]:
        print(f"  {problem}", file=sys.stderr)
    print(f"  configuration: {path}\n  {json.dumps(result['config'])}", file=sys.stderr)
    print(
        f"  repeat: chessrnn fuzz --seed {args.seed} --only {result['index']} --products {args.products} "
        f"--sim {args.sim}",
        file=sys.stderr,
        flush=True,
    )
