"""Choose the cheapest tile for a latency, or draw the Pareto front of time and area."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from chessrnn.model.config import Config
from chessrnn.model.config_sections import ENGINES, WEIGHT_BITS
from chessrnn.model.cost.area import PAPER, tera_operations
from chessrnn.model.cost.explore import (
    DesignPoint,
    choose,
    cycle_budget,
    engines,
    fitting_sizes,
    fitting_widths,
    num_candidates,
    of_block_size,
    pareto_of_widths,
)
from chessrnn.model.errors import InvalidValueError, MissingToolError, shown
from chessrnn.model.files import make_folder, require_folder, require_regular_file, write_atomic
from chessrnn.model.jobs import run_jobs
from chessrnn.model.progress import Progress
from chessrnn.model.text_file import read_json
from chessrnn.scripts.cli import add_config_arguments, command_parser, config_from, count, note, positive
from chessrnn.scripts.worker_arguments import add_worker_arguments, workers_from
from chessrnn.sim.report_page.explore_page import write_explore_page

EXAMPLES = """examples:
  chessrnn explore --config lm512 --latency-us 1.71 --clock-mhz 600
  chessrnn explore --config lm512 --sweep
  chessrnn explore --config char128 --block-sizes 1,2,4,8,16 --workers 4
  chessrnn explore --config char128 --block-sizes 8 --weight-bits 4,8 --accuracy build/accuracy/accuracy.json"""
PAGE = "pareto.html"
# What chessrnn accuracy writes unless it is told otherwise.
ACCURACY_REPORT = Path("build/accuracy/accuracy.json")
# Other block sizes with more tiles than this, mostly small ones, are only explored on request: they take minutes.
MAX_CANDIDATES = 700
COLUMNS = {
    "engine": "engine",
    "tile": "tile",
    "cell_lanes": "lanes",
    "lookahead": "ahead",
    "cycles_per_step": "cycles",
    "multipliers": "multipliers",
    "weight_banks": "banks",
    "gate_equivalents": "kGE",
    "total_mm2_90nm": "mm2 (90 nm)",
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("explore", __doc__, EXAMPLES)
    add_config_arguments(parser, default="lm512")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--latency-us", type=positive, help="longest time per step, sustained, at the clock --clock-mhz"
    )
    budget.add_argument("--cycles", type=count, help="most cycles per step, sustained")
    parser.add_argument("--clock-mhz", type=positive, default=600.0, help="clock of the accelerator; default 600")
    parser.add_argument("--engine", choices=ENGINES, help="consider only this engine; default all")
    parser.add_argument(
        "--sweep", action="store_true", help="draw the Pareto front, as is done without --latency-us and --cycles"
    )
    parser.add_argument(
        "--block-sizes", type=numbers, metavar="LIST",
        help="block sizes k on the page of the Pareto fronts, such as 4,8,16; default that of the configuration, and "
        f"those with at most {MAX_CANDIDATES} designs to compare",
    )  # fmt: skip
    parser.add_argument(
        "--weight-bits", type=numbers, metavar="LIST",
        help=f"weight widths on that page, such as 4,8; default {WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]}",
    )  # fmt: skip
    parser.add_argument(
        "--accuracy", type=Path, metavar="FILE",
        help="report of chessrnn accuracy, whose losses the page shows; default build/accuracy/accuracy.json",
    )  # fmt: skip
    add_worker_arguments(parser, "searches of one block size and engine")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder of the figures; default build/explore-<name>"
    )
    parser.add_argument("--write-config", type=Path, metavar="FILE", help="write the chosen configuration as JSON")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def numbers(text: str) -> list[int]:
    """``argparse`` type of whole numbers from 1 that are separated by commas, each once."""
    return list(dict.fromkeys(count(part) for part in text.split(",")))


def columns_of(points: list[DesignPoint]) -> dict[str, str]:
    """Columns of the table; macros are counted in place of banks where several banks share one."""
    if all(point.config.banks_per_memory == 1 for point in points):
        return COLUMNS
    return {"macros" if key == "weight_banks" else key: title for key, title in COLUMNS.items()} | {"macros": "macros"}


def row(point: DesignPoint, columns: dict[str, str]) -> list[str]:
    """Cells of a design point in the table."""
    values = point.summary()
    values["tile"] = f"{values['tile_rows']} x {values['tile_cols']}"
    values["gate_equivalents"] = f"{values['gate_equivalents'] / 1000:.0f}"
    values["total_mm2_90nm"] = f"{values['total_mm2_90nm']:.2f}"
    return [str(values[key]) for key in columns]


def print_table(points: list[DesignPoint], marks: list[str]) -> None:
    """Print design points in aligned columns, with a mark in front of each."""
    columns = columns_of(points)
    rows = [list(columns.values()), *(row(point, columns) for point in points)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for mark, line in zip(["", *marks], rows, strict=True):
        cells = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print(f"{mark:>7}  " + "  ".join(cells))


def pick(config: Config, args: argparse.Namespace, names: list[str] | None) -> dict:
    """Carry out ``--latency-us`` or ``--cycles``: choose the cheapest design, and print why."""
    if args.cycles:
        budget, wanted = args.cycles, f"{args.cycles} cycles per step"
    else:
        budget = cycle_budget(args.latency_us, args.clock_mhz)
        wanted = f"{args.latency_us:g} us at {args.clock_mhz:g} MHz = {budget} cycles per step"
        if budget < 1:
            raise InvalidValueError(f"--latency-us must be at least one clock period, not {args.latency_us:g}")
    best, others = choose(config, budget, names)
    if args.write_config:
        write_atomic(args.write_config, best.config.to_json())
    if not args.json:
        print(f"wanted: {wanted}, sustained")
        print_table([best, *others], ["chosen", *[""] * len(others)])
        arch, time = best.config.architecture, best.cycles / args.clock_mhz
        print(
            f"chosen: the smallest estimated area of all tiles within the limit; {best.cycles} cycles = {time:.3f} us, "
            f"{tera_operations(config, best.cycles, args.clock_mhz * 1e6):.2f} TOPS on the uncompressed network"
        )
        settings = (
            f"architecture.engine={arch.engine} architecture.tile_rows={arch.tile_rows} "
            f"architecture.tile_cols={arch.tile_cols}"
        )
        settings = " ".join([*args.settings, settings])
        print(f'build:  make verilog CONFIG={args.config} SET="{settings}"')
    return {
        "wanted_cycles": budget,
        "chosen": best.summary(),
        "others": [point.summary() for point in others],
        "config": best.config.to_dict(),
    }


def draw(config: Config, fronts: dict[str, list[DesignPoint]], clock_mhz: float, folder: Path) -> None:
    """Draw the Pareto fronts of time and area, with logic and memory apart."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        note("matplotlib is not installed, so only the JSON file is written, without figures")
        return
    plt.rcParams["svg.hashsalt"] = "chessrnn"
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), sharex=True)
    for engine, points in fronts.items():
        times = [point.cycles / clock_mhz for point in points]
        left.plot(times, [p.area.gate_equivalents / 1e6 for p in points], "o-", markersize=3, label=f"engine {engine}")
        right.plot(times, [p.area.total_mm2 for p in points], "o-", markersize=3, label=f"engine {engine}: total")
    longest = max(fronts.values(), key=len)
    memory = [p.area.memory_um2 / 1e6 for p in longest]
    right.plot([p.cycles / clock_mhz for p in longest], memory, "--", color="grey", label="memories alone")
    network = config.network
    if (network.input_size, network.hidden_size) == (512, 512):
        right.plot(PAPER.step_us, PAPER.area_mm2, "*", markersize=12, color="black", label=PAPER.name)
    for axis, label in ((left, "logic, million gate equivalents"), (right, "area, mm² (90 nm equivalent)")):
        axis.set(xscale="log", yscale="log", xlabel=f"µs per step at {clock_mhz:g} MHz, sustained", ylabel=label)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    figure.suptitle(
        f"{config.name}: {network.input_size} × {network.size_text}, k = {config.block_size}, "
        f"{config.weight_bits_text}-bit weights (estimates)"
    )
    figure.tight_layout()
    for suffix in ("svg", "png"):
        figure.savefig(folder / f"pareto.{suffix}", dpi=120, metadata={"Date": None} if suffix == "svg" else None)
    plt.close(figure)


def front(config: Config, engine: str, widths: list[int], shown: bool) -> dict[int, list[DesignPoint]]:
    """Pareto fronts of one engine by weight width; this may run in a process of its own.

    ``shown`` prints the progress on stderr.
    """
    bar = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or Progress(total, label=f"k = {config.block_size}, engine {engine}", unit="design point")
        bar.show(done, "")

    return pareto_of_widths(config, engine, widths, progress) if shown else pareto_of_widths(config, engine, widths)


def variants(config: Config, args: argparse.Namespace) -> dict[int, tuple[Config, list[int]]]:
    """Configuration and weight widths of each block size on the page, those of the explored configuration first."""
    own, bits = config.block_size, config.quantization.weight_bits
    widths = args.weight_bits or fitting_widths(config)
    sizes = args.block_sizes or quick_sizes(config)
    found = {own: (config, [bits, *(width for width in widths if width != bits)])}
    return found | {size: (of_block_size(config, size), widths) for size in sizes if size != own}


def quick_sizes(config: Config) -> list[int]:
    """Block sizes that the other fields of a configuration allow, and whose search takes seconds."""
    sizes = fitting_sizes(config)
    return [size for size in sizes if num_candidates(of_block_size(config, size)) <= MAX_CANDIDATES]


def sweep(config: Config, args: argparse.Namespace, names: list[str] | None) -> dict:
    """Carry out ``--sweep``: write the Pareto front of every engine as JSON, as figures and as a page."""
    alone = args.workers == 1 and args.scheduler is None
    explored = variants(config, args)
    jobs = [
        (variant, engine, widths, alone)
        for variant, widths in explored.values()
        for engine in names or engines(variant)
        if engine in engines(variant)
    ]
    for variant, widths in explored.values():
        for bits in widths:
            variant.replace({"quantization.weight_bits": bits})  # rejects a wrong width before the long search
    bar, ended = Progress(len(jobs), unit="front"), 0

    def finished(index: int, by_width: dict[int, list[DesignPoint]]) -> None:
        nonlocal ended
        ended += 1
        if not alone:
            bar.show(ended, f"{sum(map(len, by_width.values()))} design points")

    found = run_jobs(front, jobs, workers_from(args), finished)
    own = config.quantization.weight_bits
    fronts = {engine: fronts[own] for (one, engine, *_), fronts in zip(jobs, found, strict=True) if one is config}
    folder = args.out or Path("build") / f"explore-{config.name}"
    make_folder(folder)
    report = {
        "name": config.name,
        "model_configuration": config.model_fingerprint,
        "clock_mhz": args.clock_mhz,
        "fronts": {engine: [point.summary() for point in points] for engine, points in fronts.items()},
    }
    write_atomic(folder / "pareto.json", json.dumps(report, indent=2) + "\n")
    draw(config, fronts, args.clock_mhz, folder)
    if not args.json:
        for engine, points in fronts.items():
            print(f"engine {engine}: {len(points)} design points on the front of cycles and area")
            print_table(points, [""] * len(points))
        print(f"written: {folder}/pareto.json, pareto.svg, pareto.png")
    choice = ["--config", args.config, *(word for text in args.settings for word in ("--set", text))]
    points = [point for by_width in found for points in by_width.values() for point in points]
    page, accuracy = folder / PAGE, args.accuracy or ACCURACY_REPORT
    try:
        write_explore_page(page, config, points, args.command, choice, args.clock_mhz, Path("build"), accuracy)
        print(f"page: {page}", file=sys.stderr)
    except MissingToolError as error:
        note(f"no page is written: {error}")
    return report


def main(argv: list[str] | None = None) -> int:
    """Choose a design or draw the front, and print the result."""
    args = parse(argv)
    args.command = shlex.join(["chessrnn", "explore", *(sys.argv[2:] if argv is None else argv)])
    try:
        config = config_from(args)
    except InvalidValueError:
        # Whatever is wrong with the tile does not count here, unless the user chose it.
        config = config_from(args, {"architecture.tile_cols": 1})
    names = [args.engine] if args.engine else None
    if args.engine and args.engine not in engines(config):
        raise InvalidValueError(f"--engine must be direct for block_size {config.block_size}, not {shown(args.engine)}")
    if args.accuracy is not None:
        read_json(args.accuracy)  # rejects a wrong file before the long search
    if args.write_config:
        require_regular_file(args.write_config)
    if args.out:
        require_folder(args.out)
    results = {}
    if args.cycles or args.latency_us is not None:
        results.update(pick(config, args, names))
    if args.sweep or not results:
        results.update(sweep(config, args, names))
    if args.json:
        print(json.dumps(results, indent=2))
    return 0
