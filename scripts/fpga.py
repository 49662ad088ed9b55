"""Build the device for a board, and report its utilisation, clock and steps per second."""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from chessrnn.hdl.device.board_file import board
from chessrnn.model.boards import BOARDS, PARTS
from chessrnn.model.config import Config
from chessrnn.model.config_values import to_plain
from chessrnn.model.cost.design_report import design_report
from chessrnn.model.cost.fit import FIT_BLOCK_SIZES, FIT_WEIGHT_BITS, Measured, largest, remedies
from chessrnn.model.errors import InvalidFileError, InvalidValueError, require
from chessrnn.model.files import write_atomic
from chessrnn.model.link.frames import LinkConfig, LinkLayout
from chessrnn.model.presets import resolve
from chessrnn.model.schedule import Schedule
from chessrnn.model.text_file import read_json
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_config_arguments,
    command_parser,
    count,
    positive,
    print_table,
    report_problems,
    settings_from,
)
from chessrnn.scripts.design_page import show_page_of
from chessrnn.scripts.verilog import BUILD, possible_folders
from chessrnn.scripts.weight_arguments import add_weight_arguments, note_random, weights_from
from chessrnn.sim.build import weights_digest
from chessrnn.sim.critical_path import critical_path
from chessrnn.sim.device_simulation import emit_device
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.fpga_build import (
    REPORT_FILE,
    RESOURCE_NAMES,
    BoardBuild,
    Utilisation,
    device_domain,
    emit_netlist,
)

EXAMPLES = """examples:
  chessrnn fpga --board ulx3s_85f
  chessrnn fpga --board icebreaker --json
  chessrnn fpga --board my_board.toml --clock-mhz 50
  chessrnn fpga --board amaranth_boards.colorlight_5a75b_r7_0:Colorlight_5A75B_R70Platform
  chessrnn fpga --board ice40_hx8k_b_evn --fit
  chessrnn fpga --netlist --config tiny
  chessrnn fpga --board ecpix5_45f --set architecture.tile_cols=2 --clock-mhz 40"""


# The smallest device, as simulation of logic cells takes long.
NETLIST_DEFAULT = (
    "tiny",
    {"architecture.engine": "fast", "architecture.tile_rows": 1, "architecture.tile_cols": 1},
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("fpga", __doc__, EXAMPLES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--board",
        metavar="BOARD",
        help=f"one of {', '.join(BOARDS)}; or a TOML file of your board's pins; or amaranth_boards.module:class",
    )
    what.add_argument(
        "--parts", action="store_true", help="in place of a bitstream list the FPGAs that can be built for"
    )
    what.add_argument(
        "--netlist",
        action="store_true",
        help="in place of a bitstream write an ECP5 netlist, which chessrnn host --netlist simulates",
    )
    add_config_arguments(parser)
    parser.set_defaults(config=None)
    add_weight_arguments(parser)
    parser.add_argument("--clock-mhz", type=positive, help="clock of the device; default one that suits the board")
    parser.add_argument("--baud", type=count, help="bits per second of the serial line; default 1000000")
    parser.add_argument("--pnr-seed", type=count, default=1, help="seed of the placer; default 1")
    parser.add_argument(
        "--fit",
        action="store_true",
        help="in place of a bitstream list the largest networks that fit, for every block size and weight width",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder to write; default build/<name>-<board>")
    parser.add_argument("--json", action="store_true", help="print report.json")
    return parser.parse_args(argv)


def progress(text: str, passing: bool = False) -> None:
    """Print a line on stderr; a passing one is overwritten by the next, and shown on a terminal only."""
    if passing:
        if sys.stderr.isatty():
            print(f"\r{text:<100}", end="", file=sys.stderr, flush=True)
        return
    lead = "\r" if sys.stderr.isatty() else ""
    print(f"{lead}{text:<100}".rstrip(), file=sys.stderr, flush=True)


def config_of(args: argparse.Namespace, default: str, own: dict) -> Config:
    """Configuration of ``--config``, or the default with the board's settings; ``--set`` changes either."""
    config = resolve(args.config or default)
    # Carry-save rows would be built from logic cells and leave the part's multipliers unused.
    settings = {"architecture.arithmetic": "multiplier"}
    if args.config in (None, default):
        settings |= own
    settings |= settings_from(args)
    return config.replace(settings)


def main(argv: list[str] | None = None) -> int:
    """Build the bitstream, and print its report."""
    args = parse(argv)
    if args.parts:
        return list_parts(args.json)
    if args.netlist:
        require(not args.fit, "--fit", "given with --board", "--netlist")
        return netlist(args)
    target = board(args.board)
    config = config_of(args, target.config, target.settings)
    chosen = weights_from(args, config)
    clock_hz = target.clock_hz if args.clock_mhz is None else args.clock_mhz * 1e6
    link = LinkConfig.from_baud(clock_hz, args.baud or target.baud)
    folder = args.output or BUILD / f"{config.name}-{target.name}"
    build = BoardBuild(chosen.weights, target, link, folder, args.pnr_seed, progress)
    with locked_folder(folder):
        build.prepare()
        if args.fit:
            return fit(args, build, config)
        report = build_bitstream(build, config, chosen.source)
    note_random(chosen)
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report, folder)
    if args.output is None:
        name = args.config or target.config
        show_page_of(args, config, name, possible_folders(args, config), same_architecture=False)
    if report["clock"]["max_mhz"] < report["clock"]["mhz"]:
        clock = report["clock"]
        report_problems("fpga", [f"the clock must be at most {clock['max_mhz']} MHz, not {clock['mhz']:g}"])
        return EXIT_MISMATCH
    return 0


def list_parts(as_json: bool) -> int:
    """Carry out ``--parts``: list the FPGAs and their resources."""
    parts = [
        {"part": p.name, "family": p.family, "LUT": p.luts, "FF": p.ffs, "BRAM": p.brams, "DSP": p.dsps}
        for p in PARTS.values()
    ]
    if as_json:
        print(json.dumps(parts, indent=2))
        return 0
    print(f"{'part':<16} {'family':<8} {'LUT':>6} {'FF':>6} {'BRAM':>5} {'DSP':>4}")
    for part in parts:
        print("{part:<16} {family:<8} {LUT:>6} {FF:>6} {BRAM:>5} {DSP:>4}".format(**part))
    return 0


def build_bitstream(build: BoardBuild, config: Config, source: str) -> dict:
    """Carry out all stages of a build, and return its report, which is also written.

    Raises
    ------
    InvalidValueError
        The design is too large for the part; the message says what would fit.
    """
    folder = build.folder
    (folder / REPORT_FILE).unlink(missing_ok=True)
    synthesized = build.synthesize()
    if synthesized.excess:
        raise InvalidValueError(complaint(config, synthesized))
    placed = build.place_and_route()
    bitstream = build.pack()
    report = report_of(build, config, placed, bitstream, source)
    write_atomic(folder / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def netlist(args: argparse.Namespace) -> int:
    """Carry out ``--netlist``: write the netlist that Yosys makes of the device, for simulation."""
    config = config_of(args, *NETLIST_DEFAULT)
    chosen = weights_from(args, config)
    folder = args.output or BUILD / f"{config.name}-netlist"
    with locked_folder(folder):
        cells = emit_netlist(emit_device(chosen.weights, folder), progress)
    if args.json:
        print(json.dumps({"configuration": config.fingerprint, "cells": cells}, indent=2))
    else:
        kinds = sorted((name, number) for name, number in cells.items() if not name.startswith("$"))
        print_table([("configuration", f"{config.name} {config.fingerprint}"), *kinds, ("written to", f"{folder}/")])
    return 0


def fit(args: argparse.Namespace, build: BoardBuild, config: Config) -> int:
    """Carry out ``--fit``: estimate the largest networks from a placed design or, without one, a synthesized one."""
    part, source = build.board.part, "placement"
    used = placed_before(build.folder / REPORT_FILE, config)
    if used is None:
        used, source = build.synthesize().used, "synthesis"
    measured = Measured(config, used, part)
    found = []
    for block_size in FIT_BLOCK_SIZES:
        for weight_bits in FIT_WEIGHT_BITS:
            progress(f"k = {block_size}, {weight_bits} bit", True)
            chosen = largest(measured, block_size, weight_bits)
            if chosen is not None:
                found.append(fit_row(chosen, measured, build.link.clock_hz))
    report = {
        "board": build.board.name,
        "part": part.name,
        "measured": {"configuration": config.fingerprint, "by": source, "used": used},
        "fits": found,
    }
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    print(f"{report['board']} ({part.name}), estimated from the {source} of {config.name} {config.fingerprint}")
    print(
        f"{'k':>2} {'bits':>4} {'X':>5} {'H':>5} {'tile':>7} {'LUT':>7} {'BRAM':>5} {'DSP':>4} {'cycles':>7} "
        f"{'steps/s':>9}"
    )
    for row in found:
        need = row["estimate"]
        print(
            f"{row['block_size']:>2} {row['weight_bits']:>4} {row['input_size']:>5} {row['hidden_size']:>5} "
            f"{row['tile'][0]:>3} x{row['tile'][1]:>2} {need['luts']:>7} {need['brams']:>5} {need['dsps']:>4} "
            f"{row['tile_cycles']:>7} {row['steps_per_second']:>9.0f}"
        )
    return 0


def placed_before(path: Path, config: Config) -> dict | None:
    """Resources in the report of an earlier build of the configuration, or ``None`` if there is none."""
    try:
        report = read_json(path)
        found = report["utilisation"]
        use = {name: found[key]["used"] for name, key in RESOURCE_NAMES.items() if key in found}
        return use if report["design"]["configuration"] == config.fingerprint else None
    except (InvalidFileError, KeyError, TypeError):
        return None


def fit_row(config: Config, measured: Measured, clock_hz: float) -> dict:
    """Row of a network that fits; its steps per second assume a tile that never waits."""
    return {
        "block_size": config.block_size,
        "weight_bits": config.quantization.weight_bits,
        "input_size": config.network.input_size,
        "hidden_size": to_plain(config.network.hidden_size),
        "tile": [config.architecture.tile_rows, config.architecture.tile_cols],
        "estimate": measured.estimate(config),
        "tile_cycles": config.bank_words,
        "steps_per_second": clock_hz / config.bank_words,
    }


def report_of(build: BoardBuild, config: Config, placed: dict, bitstream: Path, source: str) -> dict:
    """Content of ``report.json``."""
    target, link, schedule, layout = build.board, build.link, Schedule(config), LinkLayout(config)
    domain = device_domain(placed, link.clock_hz)
    maximum = round(placed["fmax"][domain]["achieved"], 2)
    interval = schedule.initiation_interval
    used = Utilisation(build.family.placed(placed), target.part)
    return {
        "board": target.name,
        "part": target.part.name,
        "design": design_report(config),
        "weights": {"source": source, "sha256": weights_digest(build.weights)},
        "utilisation": used.to_dict(),
        "clock": {"mhz": link.clock_hz / 1e6, "max_mhz": maximum},
        "critical_path": critical_path(placed, domain),
        "steps_per_second": {
            "at_clock": round(link.clock_hz / interval),
            "at_max_clock": round(maximum * 1e6 / interval),
            "through_line": round(1 / link.step_seconds(layout)),
        },
        "line": {"baud": link.baud, "cycles_per_bit": link.divisor},
        "bitstream": {
            "file": bitstream.name,
            "bytes": bitstream.stat().st_size,
            "sha256": hashlib.sha256(bitstream.read_bytes()).hexdigest(),
        },
        "seconds": build.seconds,
        "pnr_seed": build.seed,
    }


def complaint(config: Config, used: Utilisation) -> str:
    """Message that says by how much a design is too large, and which changes would make it fit."""
    parts = [
        f"{used.used[name]} {RESOURCE_NAMES[name]} ({excess} more than {used.part.name} has)"
        for name, excess in used.excess.items()
    ]
    ways = [
        " ".join(f"{field}={json.dumps(value)}" for field, value in settings.items())
        for settings in remedies(Measured(config, used.used, used.part))
    ]
    hint = f"; by estimate one of these fits: {' | '.join(ways)}" if ways else "; no smaller tile, k or width fits"
    return f"the design must fit {used.part.name}, not take {' and '.join(parts)}{hint}"


def path_text(path: dict) -> str:
    """The longest path in words: its length, and what it takes in every block on the way."""
    if not path:
        return "not reported"
    blocks = ", ".join(f"{block['block']} {block['ns']:g}" for block in path["blocks"])
    return f"{path['ns']:g} ns, {path['routing_ns']:g} of them wires: {blocks}"


def _print(report: dict, folder: Path) -> None:
    rows = [
        ("board", f"{report['board']} ({report['part']})"),
        ("configuration", f"{report['design']['name']} {report['design']['configuration']}"),
    ]
    for name, use in report["utilisation"].items():
        share = "" if use["percent"] is None else f" ({use['percent']} %)"
        rows.append((name, f"{use['used']} of {use['available']}{share}"))
    speed, clock = report["steps_per_second"], report["clock"]
    rows += [
        ("clock", f"{clock['mhz']:g} MHz, at most {clock['max_mhz']:g} MHz"),
        ("longest path", path_text(report["critical_path"])),
        ("cycles per step", report["design"]["cycles"]["initiation_interval"]),
        (
            "steps per second",
            f"{speed['at_clock']} at the clock, {speed['at_max_clock']} at most, {speed['through_line']} through the "
            f"line at {report['line']['baud']:.0f} baud, one after the other",
        ),
        ("bitstream", f"{folder}/{report['bitstream']['file']}, {report['bitstream']['bytes']} bytes"),
        ("tools", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report["seconds"].items())),
    ]
    print_table(rows)
