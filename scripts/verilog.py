"""Emit the accelerator of a design point: build/<name>/ with Verilog, weight files, vectors, ports and report."""

import argparse
import json
import sys
from pathlib import Path

from chessrnn.hdl.verilog import SHELLS
from chessrnn.model.cost.design_report import table
from chessrnn.scripts.cli import add_config_arguments, command_parser, config_from, print_table
from chessrnn.scripts.weight_arguments import Chosen, add_weight_arguments, note_random, weights_from
from chessrnn.sim.build import TESTBENCH_FILE, VERILOG_FILE, Build, emit, load_build, why_not_current
from chessrnn.sim.folder_lock import locked_folder

BUILD = Path("build")

EXAMPLES = """examples:
  chessrnn verilog
  chessrnn verilog --config char128 --set architecture.tile_rows=8 --set architecture.engine=fast
  chessrnn verilog --config lm512 --random-weights 1 --json
  chessrnn verilog --shell axi"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("verilog", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder to write; an earlier build is replaced; default build/<name>",
    )
    parser.add_argument(
        "--prefix", metavar="NAME", help="prefix of every module's and memory file's name; default the design's name"
    )
    parser.add_argument(
        "--shell", choices=tuple(SHELLS), help="add a module with AXI4 ports and registers, and its drivers"
    )
    parser.add_argument("--json", action="store_true", help="print report.json")
    return parser.parse_args(argv)


def files_of(build: Build) -> list[tuple[str, object]]:
    """Table of the written files with their purposes; files of one kind share a row."""
    p, banks = build.prefix, build.config.num_banks
    return [
        (VERILOG_FILE, f"the design, top module {build.top}; add it to your sources"),
        *(shell_files(build) if build.shell else []),
        (f"{p}_*.mem", f"$readmemh files: {banks} weight banks, biases; expected vectors_x and vectors_h"),
        (TESTBENCH_FILE, "self-checking testbench in plain Verilog, for any simulator"),
        ("ports.json", "every port: direction, width, meaning"),
        ("report.json", "cycles, memories, multipliers, compression"),
        ("config.json", "the configuration and the digests that tie the files together"),
    ]


def build_folder(chosen: Chosen) -> Path:
    """Folder of a design that the command line names without ``--output``."""
    return BUILD / chosen.weights.config.name


def shell_files(build: Build) -> list[tuple[str, object]]:
    """Rows of the bus shell and its drivers."""
    p = build.prefix
    return [
        ("", f"and the bus shell, top module {build.shell_top}"),
        (f"{p}_driver.c, .h, _registers.h", "C driver"),
        (f"{p}_driver.py", "Python driver"),
        (f"{p}_registers.md, .rdl", "the registers for people, and for SystemRDL tools"),
    ]


def current_build(chosen: Chosen) -> Path:
    """Emit the design into ``build/<name>/`` unless it is there already, and return that folder.

    The caller holds the folder's lock until it has used the files.
    """
    directory = build_folder(chosen)
    if (reason := why_not_current(directory, chosen.weights)) is not None:
        print(f"emitting {directory}/: {reason}", file=sys.stderr)
        emit(chosen.weights, directory, chosen.source)
    note_random(chosen)
    return directory


def main(argv: list[str] | None = None) -> int:
    """Emit a design, and print its report and the list of its files."""
    args = parse(argv)
    config = config_from(args)
    chosen = weights_from(args, config)
    output = args.output or BUILD / config.name
    with locked_folder(output):
        report = emit(chosen.weights, output, chosen.source, args.prefix, args.shell)
        build = load_build(output)
    note_random(chosen)
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_table([*table(report), ("weights from", chosen.source), ("written to", f"{output}/")])
        print()
        print_table(files_of(build))
    return 0
