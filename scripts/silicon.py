"""Compare designs in several cell libraries with the published figures; earlier results are reused."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from chessrnn.hdl.verilog import TOP_MODULE, generate
from chessrnn.model.config import Config
from chessrnn.model.config_sections import layers_text
from chessrnn.model.config_values import parse_setting
from chessrnn.model.cost.area import CLOCK_HZ, NAND2_AREA_90NM, PAPER, TWO_PORT_FACTOR, UTILISATION
from chessrnn.model.files import write_atomic
from chessrnn.model.jobs import run_jobs
from chessrnn.model.presets import resolve
from chessrnn.model.progress import Progress
from chessrnn.scripts.cli import command_parser
from chessrnn.scripts.verilog import BUILD
from chessrnn.scripts.worker_arguments import add_worker_arguments, workers_from
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.synthesis.flow import TARGET_FO4
from chessrnn.sim.synthesis.job import earlier, folder_of, run, run_key, write
from chessrnn.sim.synthesis.library import Library, clock_gate_of, load_libraries
from chessrnn.sim.synthesis.synthesis_report import breakdown, table_markdown, timing_assumptions
from chessrnn.sim.synthesis.treemap import treemap

# Each engine has as many products between two registers as fit a path of 40 FO4.
DESIGNS = (
    "lm512:architecture.engine=direct,architecture.pipeline.compressor_terms=4",
    "lm512",
    "lm512_quarter:architecture.engine=direct,architecture.pipeline.compressor_terms=4",
    "lm512_quarter",
)
SHOWN_PARTS = 5
NAMED = ("design", "compression", "tile", "engine")
MARKDOWN, VALUES, DRAWING = "silicon.md", "silicon.json", "treemap.svg"

EXAMPLES = """examples:
  chessrnn silicon --liberty nangate45/nangate45_typ.lib.gz
  chessrnn silicon --liberty nangate45/nangate45_typ.lib.gz ihp/sg13g2_stdcell_typ.lib.gz ihp/RM_*.lib.gz
  chessrnn silicon --liberty cells.lib --design char128 lm512:quantization.weight_bits=4"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("silicon", __doc__, EXAMPLES)
    parser.add_argument(
        "--liberty",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="standard-cell libraries, plain or .gz; SRAM macros belong to the library in the same folder",
    )
    parser.add_argument(
        "--design",
        nargs="+",
        default=list(DESIGNS),
        metavar="NAME[:FIELD=VALUE[,...]]",
        help=f"presets or files, with changed fields; default {' '.join(DESIGNS)}",
    )
    parser.add_argument(
        "--clock-gates",
        action="store_true",
        help="stop the clock of registers that hold their value with the libraries' clock gates",
    )
    add_worker_arguments(parser, "designs")
    parser.add_argument("--json", action="store_true", help="print all reports as JSON")
    return parser.parse_args(argv)


def design(text: str) -> Config:
    """Configuration of a text such as ``name:field=value,field=value``."""
    name, _, settings = text.partition(":")
    config = resolve(name)
    return config.replace(dict(parse_setting(part) for part in settings.split(","))) if settings else config


def main(argv: list[str] | None = None) -> int:
    """Synthesize the designs without earlier results, and print the table of all."""
    args = parse(argv)
    configs = [design(text) for text in args.design]
    libraries = load_libraries(args.liberty)
    for library in libraries if args.clock_gates else ():
        clock_gate_of(library)
    known: list[dict | None] = []
    jobs, folders, places = [], [], []
    for config in configs:
        verilog = generate(config)
        for library in libraries:
            folder = folder_of(BUILD, config, library, args.clock_gates)
            values = earlier(folder, run_key(verilog, TOP_MODULE, library, TARGET_FO4, args.clock_gates))
            if values is None:
                places.append(len(known))
                jobs.append((config, verilog, library, folder, args.clock_gates))
            known.append(values)
            folders.append(folder)
    progress = Progress(len(jobs), unit="design")
    done = 0

    def finished(index: int, values: dict) -> None:
        nonlocal done
        done += 1
        known[places[index]] = values
        if args.workers > 1 or args.scheduler:
            progress.show(done, title(jobs[index][0], jobs[index][2]), always=True)

    run_jobs(synthesized, [(*job, progress, number) for number, job in enumerate(jobs)], workers_from(args), finished)
    found = [values for values in known if values is not None]  # all of them, now
    for folder, values in zip(folders, found, strict=True):
        with locked_folder(folder):
            write(folder, values)
            write_atomic(folder / DRAWING, treemap(values) + "\n")
    text = report(found)
    folder = BUILD / "synthesis"
    write_atomic(folder / MARKDOWN, text)
    write_atomic(folder / VALUES, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1) if args.json else text)
    print(f"written to {folder / MARKDOWN}", file=sys.stderr)
    return 0


def title(config: Config, library: Library) -> str:
    """What is synthesized, in the lines of progress."""
    return f"{config.name} {config.architecture.engine} {library.name}"


def synthesized(
    config: Config,
    verilog: str,
    library: Library,
    folder: Path,
    clock_gates: bool,
    progress: Progress,
    done: int,
) -> dict:
    """Synthesize one design, and return the values of its report; this may run in a process of its own."""
    show = partial(_show, progress, done, title(config, library))
    values, _ = run(config, verilog, TOP_MODULE, library, TARGET_FO4, folder, True, show, clock_gates)
    return values


def _show(progress: Progress, done: int, what: str, text: str) -> None:
    """Print a line about the design that is synthesized now."""
    progress.show(done, f"{what}: {text}", always=True)


def minutes(values: dict) -> str:
    """Minutes of synthesis and timing, by the clock and of the processor."""
    return f"{sum(values['seconds'].values()) / 60:.1f} ({values['cpu_seconds'] / 60:.1f} CPU)"


def named(values: dict) -> tuple[str, str, str, str]:
    """Cells of the columns :data:`NAMED`."""
    division, bits = values["design"]["division"], layers_text(values["design"]["numerics"]["weight_bits"])
    tile = f"{division['tile_rows']} x {division['tile_cols']}"
    return values["name"], f"k = {division['block_size']}, {bits} bit", tile, values["engine"]


def too_long(values: dict) -> list[tuple[str, ...]]:
    """Rows of the paths that are longer than the target, with the modules that their time is spent in."""
    rows = []
    for path in values["timing"]["paths"] if values["timing"] else ():
        if path["fo4"] > values["timing"]["target_fo4"]:
            spent = sorted(path["fo4_by_module"].items(), key=lambda item: -item[1])
            places = (".".join(path["from"]), ".".join(path["to"]))
            parts = ", ".join(f"{module} {value:.1f}" for module, value in spent)
            rows.append((*named(values), values["library"]["name"], f"{path['fo4']:.1f}", *places, parts))
    return rows


def report(found: list[dict]) -> str:
    """Markdown of the report: the table, its assumptions, the largest parts, and paths that are too long."""
    clock = f"{CLOCK_HZ / 1e6:.0f} MHz"
    head = (
        *NAMED, "cycles per step", "library", "gates", "flip-flops", "longest path of logic", "longest from a memory",
        "clock in library",
        "step at that clock", f"step at {clock}", f"TOPS at {clock}", "logic, 90 nm mm2", "memory, 90 nm mm2",
        "area, 90 nm mm2 (range)", "TOPS/mm2 (range)", "on chip", "minutes",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for values in found:
        side, timing = values["comparison"], values["timing"]
        low, high = side["area_mm2_range"]
        least, most = side["tops_per_mm2_range"]
        rows.append(
            (
                *named(values),
                f"{side['cycles_per_step']:,}",
                values["library"]["name"],
                f"{values['logic']['gates']:,.0f}",
                f"{values['logic']['flip_flops']:,}",
                f"{timing['logic']['fo4']:.1f} FO4 of {timing['fo4_ps']:.1f} ps" if timing else "-",
                f"{timing['memory']['fo4']:.1f} FO4" if timing and timing["memory"] else "-",
                f"{timing['max_clock_mhz']:.0f} MHz" if timing else "-",
                f"{side['at_the_library_clock']['step_us']:.3f} us" if timing else "-",
                f"{side['step_us']:.3f} us",
                f"{side['tops']:.2f}",
                f"{side['logic_mm2']:.2f}",
                f"{side['memory_mm2']:.2f}",
                f"{side['area_mm2']:.2f} ({low:.2f} to {high:.2f})",
                f"{side['tops_per_mm2']:.3f} ({least:.3f} to {most:.3f})",
                f"{side['on_chip_kilobytes']:.1f} kB",
                minutes(values),
            )
        )
    paper = [PAPER.name, *[""] * 11, f"{PAPER.step_us} us", f"{PAPER.tops}", "", "", f"{PAPER.area_mm2}"]
    rows.append((*paper, f"{PAPER.tops_per_mm2:.3f}", f"{PAPER.on_chip_kilobytes} kB", ""))
    parts = [table_markdown(rows)]
    # Equal assumptions of several libraries are listed once.
    assumptions = " / ".join(dict.fromkeys(timing_assumptions(values) for values in found if values["timing"]))
    memory = found[0]["memory"]["model_90nm"]
    parts.append(
        f"How it is counted: gates are NAND2 equivalents of the named library; 90 nm equivalents are gates x "
        f"{NAND2_AREA_90NM} um2 / {UTILISATION} and, for memories, {memory} (a second port: bits x "
        f"{TWO_PORT_FACTOR:g}); TOPS count the operations of the uncompressed network. Times are at {clock}, the clock "
        "that fits the paper's figures, unless another one is named; delays are never converted between nodes. "
        f"Longest paths: {assumptions or 'none, OpenSTA is not installed'}."
    )
    shares = [
        (
            "design",
            "compression",
            "tile",
            "engine",
            "library",
            "largest parts (90 nm mm2)",
            "longest path of logic",
        )
    ]
    for values in found:
        whole = values["comparison"]["area_mm2"]
        largest = [f"{name} {area:.2f} ({100 * area / whole:.0f} %)" for name, area in breakdown(values)[:SHOWN_PARTS]]
        path = values["timing"]["logic"] if values["timing"] else None
        text = f"{'.'.join(path['from'])} to {'.'.join(path['to'])}" if path else "-"
        shares.append((*named(values), values["library"]["name"], ", ".join(largest), text))
    parts.append(table_markdown(shares))
    slow = [row for values in found for row in too_long(values)]
    if slow:
        parts.append(f"Paths longer than {TARGET_FO4:g} FO4, the longest between each two registers:")
        head = (*NAMED, "library", "FO4", "from", "to", "FO4 spent in")
        parts.append(table_markdown([head, *slow]))
    return "\n\n".join(parts) + "\n"
