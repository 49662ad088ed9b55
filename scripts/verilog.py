"""Emit the accelerator of a design point: build/<name>/ with Verilog, weight files, vectors, ports and report."""

import argparse
import json
import sys
from pathlib import Path

from chessrnn.hdl.namespace import prefix_of
from chessrnn.hdl.verilog import SHELLS
from chessrnn.model.config import Config
from chessrnn.model.cost.design_report import table
from chessrnn.model.errors import UserError, require
from chessrnn.model.presets import PRESETS
from chessrnn.scripts.cli import add_config_arguments, command_parser, config_from, note, print_table
from chessrnn.scripts.design_page import write_design_page
from chessrnn.scripts.weight_arguments import Chosen, add_weight_arguments, note_random, weights_from
from chessrnn.sim.build import (
    TESTBENCH_FILE,
    VERILOG_FILE,
    Build,
    emit,
    load_build,
    weight_file_name,
    why_not_current,
)
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.manifest import CONFIG_FILE, MANIFEST_FILE

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
    p, config = build.prefix, build.config
    kind = "weight banks" if config.banks_per_memory == 1 else "memories of weights"
    return [
        (VERILOG_FILE, f"the design, top module {build.top}; add it to your sources"),
        *(shell_files(build) if build.shell else []),
        (
            f"{p}_*.mem",
            f"$readmemh files: {config.num_weight_memories} {kind}, biases; expected vectors_x and vectors_h",
        ),
        *(
            [(weight_file_name(p), "the weights in the form in which they are loaded at run time")]
            if build.config.architecture.weight_memory == "ram"
            else []
        ),
        (f"{p}.f, .core, _vivado.tcl", "file list, FuseSoC core, and a script that packages a Vivado IP"),
        (
            f"{p}.sdc, .xdc, .vlt",
            f"timing constraints of {build.shell_top or build.top}; waivers for Verilator's linter",
        ),
        (TESTBENCH_FILE, "self-checking testbench in plain Verilog, for any simulator"),
        ("ports.json", "every port: direction, width, meaning"),
        ("report.json", "cycles, memories, multipliers, compression"),
        ("config.json", "the configuration and the digests that tie the files together"),
        (MANIFEST_FILE, "SHA-256 of every file, checked before it is used"),
        ("report.html", "a page that shows the design"),
    ]


def named_folder(args: argparse.Namespace) -> Path | None:
    """Build folder that ``--config`` names by itself or by its ``config.json``; ``None`` where it names none."""
    given = Path(args.config)
    if given.name == CONFIG_FILE:
        given = given.parent
    is_build = args.config not in PRESETS and not args.settings and (given / MANIFEST_FILE).is_file()
    return given if is_build else None


def possible_folders(args: argparse.Namespace, config: Config) -> list[Path]:
    """Folders that may hold a design: the build that ``--config`` names, and ``build/<name>``."""
    named = None if args.config is None else named_folder(args)
    return [*filter(None, [named]), BUILD / config.name]


def build_folder(args: argparse.Namespace, chosen: Chosen) -> Path:
    """Folder whose files a command uses: the build that ``--config`` names, if it is current, or ``build/<name>``."""
    folder = named_folder(args)
    if folder is not None:
        if (reason := why_not_current(folder, chosen.weights)) is None:
            return folder
        note(f"{folder}/ is not used: {reason}")
    return BUILD / chosen.weights.config.name


def shell_files(build: Build) -> list[tuple[str, object]]:
    """Rows of the bus shell and its drivers."""
    p = build.prefix
    return [
        ("", f"and the bus shell, top module {build.shell_top}"),
        (f"{p}_driver.c, .h, _registers.h", "C driver"),
        (f"{p}_driver.py", "Python driver"),
        (f"{p}_registers.md, .rdl", "the registers for people, and for SystemRDL tools"),
        (f"{p}_litex.py", "module that puts the shell into a LiteX SoC"),
    ]


def make_current(directory: Path, chosen: Chosen) -> None:
    """Emit the design into a folder unless it is there already.

    An earlier build there that is intact hands on its prefix and its shell.  The caller holds the folder's lock until
    it has used the files.
    """
    if (reason := why_not_current(directory, chosen.weights)) is not None:
        print(f"emitting {directory}/: {reason}", file=sys.stderr)
        prefix, shell = earlier_choices(directory)
        emit(chosen.weights, directory, chosen.source, prefix, shell)
    note_random(chosen)


def earlier_choices(directory: Path) -> tuple[str | None, str | None]:
    """Prefix and shell of the build in a folder; ``None`` where it has the default, or there is no intact build."""
    try:
        build = load_build(directory)
    except UserError:
        return None, None
    return (None if build.prefix == prefix_of(build.config.name) else build.prefix), build.shell


def main(argv: list[str] | None = None) -> int:
    """Emit a design, and print its report and the list of its files."""
    args = parse(argv)
    config = config_from(args)
    chosen = weights_from(args, config)
    output = args.output or BUILD / config.name
    require(args.prefix != "", "--prefix", "a name that modules and files begin with", "")
    with locked_folder(output):
        report = emit(chosen.weights, output, chosen.source, args.prefix, args.shell)
        build = load_build(output)
        write_design_page(output, BUILD)
    note_random(chosen)
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_table([*table(report), ("weights from", chosen.source), ("written to", f"{output}/")])
        print()
        print_table(files_of(build))
    return 0
