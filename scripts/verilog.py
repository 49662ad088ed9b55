"""Emit the accelerator of a design point: build/<name>/ with Verilog, weight files, vectors, ports and report."""

import argparse
import json
import sys
from pathlib import Path

from chessrnn.model.cost.design_report import table
from chessrnn.scripts.cli import add_config_arguments, command_parser, config_from, print_table
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.build import TESTBENCH_FILE, VERILOG_FILE, Build, emit, load_build

BUILD = Path("build")

EXAMPLES = """examples:
  chessrnn verilog
  chessrnn verilog --config char128 --set architecture.tile_rows=8 --set architecture.engine=fast
  chessrnn verilog --config lm512 --random-weights 1 --json"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    parser = command_parser("verilog", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default build/<name>; an earlier build is replaced"
    )
    parser.add_argument(
        "--prefix", metavar="NAME", help="begins the name of every module and memory file; default the design's name"
    )
    parser.add_argument("--json", action="store_true", help="report.json on stdout")
    return parser.parse_args(argv)


def files_of(build: Build) -> list[tuple[str, object]]:
    """Name and purpose of every file that was written, files of one kind in one row."""
    p, banks = build.prefix, build.config.num_banks
    return [
        (VERILOG_FILE, f"the design, top module {build.top}; add it to your sources"),
        (f"{p}_*.mem", f"$readmemh files: {banks} weight banks, biases; expected vectors_x and vectors_h"),
        (TESTBENCH_FILE, "self-checking testbench in plain Verilog, for any simulator"),
        ("ports.json", "every port: direction, width, meaning"),
        ("report.json", "cycles, memories, multipliers, compression"),
        ("config.json", "the configuration and the digests that tie the files together"),
    ]


def main(argv: list[str] | None = None) -> int:
    """Parse, emit, print."""
    args = parse(argv)
    config = config_from(args)
    chosen = weights_from(args, config)
    output = args.output or BUILD / config.name
    report = emit(chosen.weights, output, chosen.source, args.prefix)
    if chosen.random:
        print(f"note: the weights are {chosen.source}", file=sys.stderr)
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_table([*table(report), ("weights from", chosen.source), ("written to", f"{output}/")])
        print()
        print_table(files_of(load_build(output)))
    return 0
