"""Compare the emitted Verilog of random small designs with the reference, in every bit, and the predicted cycles."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.cost.resources import matvec_multipliers
from chessrnn.model.files import scratch_folder, write_atomic
from chessrnn.model.jobs import run_jobs
from chessrnn.model.progress import Progress
from chessrnn.scripts.cli import EXIT_MISMATCH, command_parser, count, seed
from chessrnn.scripts.worker_arguments import add_worker_arguments, workers_from
from chessrnn.sim.build import emit
from chessrnn.sim.runner import SIMULATORS, Run, SimulationError, simulate
from chessrnn.sim.scenarios import MAX_PRODUCTS, random_config, random_scenario
from chessrnn.sim.stalls import StallPattern

EXAMPLES = """examples:
  chessrnn fuzz --count 60 --seed 1
  chessrnn fuzz --seed 1 --only 17 --sim verilator"""
FAILURES = Path("build") / "fuzz"
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


def check(series: int, index: int, simulator: str, max_products: int) -> dict:
    """Emit, simulate and judge one design; the result is plain values, as this runs in a process of its own."""
    runs = make_runs(series, index, max_products)
    scenario = runs[0].scenario
    problems, cycles = [], 0
    with scratch_folder() as folder:
        try:
            emit(scenario.weights, folder / "build", f"fuzz, seed {series}, design {index}")
            for result in simulate(folder / "build", runs, simulator_of(scenario.config, simulator)):
                problems += [f"{result.run.name}: {problem}" for problem in result.problems]
                cycles += result.cycles
        except SimulationError as error:
            log = FAILURES / f"seed{series}-{index}.log"
            write_atomic(log, error.log.read_bytes() if error.log.exists() else b"")
            problems.append(f"{error}; kept as {log}")
    return {
        "index": index,
        "config": scenario.config.to_dict(),
        "steps": len(runs) * scenario.num_steps,
        "cycles": cycles,
        "problems": problems,
    }


def main(argv: list[str] | None = None) -> int:
    """Check the designs in parallel, and print a summary."""
    args = parse(argv)
    indices = range(args.count) if args.only is None else [args.only]
    started = time.perf_counter()
    progress = Progress(len(indices))
    results, failed = [], []

    def finished(_: int, result: dict) -> None:
        results.append(result)
        progress.show(len(results), f"{len(failed)} failed")
        if result["problems"]:
            failed.append(result)
            _print_failure(result, args)

    jobs = [(args.seed, index, args.sim, args.products) for index in indices]
    run_jobs(check, jobs, workers_from(args), finished)
    seconds = time.perf_counter() - started
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
