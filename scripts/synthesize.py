"""What the accelerator costs in silicon: gate equivalents, and with a Liberty library area, timing and power."""

import argparse
import json
import sys
import time
from pathlib import Path

from hdl.verilog import TOP_MODULE, generate
from model.config import Config
from model.files import write_atomic
from scripts.cli import add_config_arguments, config_from, run_command
from scripts.synthesis.flow import TARGET_FO4, synthesize
from scripts.synthesis.library import Library, load_libraries
from scripts.synthesis.results import report_values
from scripts.synthesis.tables import tree
from scripts.verilog import BUILD

EXAMPLES = """examples:
  python -m scripts.synthesize --config lm512
  python -m scripts.synthesize --config lm512 --liberty nangate45_typ.lib.gz
  python -m scripts.synthesize --config lm512 --liberty sg13g2_stdcell_typ.lib.gz RM_IHPSG13_1P_*.lib.gz"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.synthesize",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--liberty",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="a standard-cell library, plain or .gz, and SRAM macros of the same process; default generic gates",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default build/synthesis/<design>/<library>")
    parser.add_argument("--json", action="store_true", help="report.json on stdout")
    return parser.parse_args(argv)


def progress(text: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def folder_of(config: Config, library: Library | None) -> Path:
    """Where the reports of a design in a library go."""
    design = f"{config.name}-{config.architecture.engine}-{config.fingerprint[:8]}"
    return BUILD / "synthesis" / design / (library.name if library else "generic")


def main(argv: list[str] | None = None) -> int:
    """Parse, synthesize, report."""
    args = parse(argv)
    config = config_from(args)
    library = load_libraries(args.liberty)[0] if args.liberty else None
    folder = args.output or folder_of(config, library)
    folder.mkdir(parents=True, exist_ok=True)
    result = synthesize(generate(config), TOP_MODULE, library, folder.resolve(), progress=progress)
    values = report_values(result, config, TARGET_FO4, True)
    write_atomic(folder / "report.json", json.dumps(values, indent=1) + "\n")
    if args.json:
        print(json.dumps(values, indent=1))
    else:
        print(tree(values))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, "synthesize"))
