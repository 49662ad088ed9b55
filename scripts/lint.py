"""Check the emitted Verilog with independent tools: Verilator's linter and Yosys's synthesis."""

import argparse
import json

from chessrnn.scripts.cli import EXIT_MISMATCH, add_config_arguments, command_parser, config_from
from chessrnn.scripts.verilog import build_folder, make_current
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.lint import WAIVERS, verilator_warnings, yosys_warnings

EXAMPLES = """examples:
  chessrnn check
  chessrnn check --config lm512 --set architecture.tile_rows=4"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("check", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print warnings as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Emit the design where needed, check it, and print the warnings."""
    args = parse(argv)
    config = config_from(args)
    chosen = weights_from(args, config)
    waivers = f"{WAIVERS.parent.name}/{WAIVERS.name}"
    directory = build_folder(args, chosen)
    with locked_folder(directory):
        make_current(directory, chosen)
        checks = {
            f"verilator --lint-only -Wall with {waivers}": verilator_warnings(directory),
            "yosys synth, check -assert, no latches": yosys_warnings(directory),
        }
    if args.json:
        print(json.dumps({"configuration": config.fingerprint, "checks": checks}, indent=2))
    else:
        for name, warnings in checks.items():
            print(f"{name}: {'clean' if not warnings else f'{len(warnings)} warnings'}")
            for warning in warnings:
                print(f"  {warning}")
    return EXIT_MISMATCH if any(checks.values()) else 0
