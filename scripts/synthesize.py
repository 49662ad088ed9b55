"""Synthesize a design: its gate equivalents and, with a Liberty library, its area, timing and power."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from chessrnn.hdl.verilog import TOP_MODULE, generate
from chessrnn.model.config import Config
from chessrnn.model.cost.area import CLOCK_HZ
from chessrnn.model.errors import require
from chessrnn.model.files import require_folder
from chessrnn.model.text.corpus import load_corpus
from chessrnn.model.weights import random_inputs
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_config_arguments,
    command_parser,
    config_from,
    positive,
    print_table,
    report_problems,
)
from chessrnn.scripts.design_page import show_page_of
from chessrnn.scripts.verilog import BUILD, possible_folders
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.synthesis.flow import TARGET_FO4, Synthesis
from chessrnn.sim.synthesis.job import folder_of, run, write
from chessrnn.sim.synthesis.library import clock_gate_of, load_libraries
from chessrnn.sim.synthesis.synthesis_report import comparison_rows, gate_level_text, lengths, tree
from chessrnn.sim.synthesis.units import ROLES, modules_of
from chessrnn.sim.synthesis.yosys import module_names

EXAMPLES = """examples:
  chessrnn synth --config lm512
  chessrnn synth --config lm512 --liberty nangate45_typ.lib.gz
  chessrnn synth --config lm512 --liberty sg13g2_stdcell_typ.lib.gz RM_IHPSG13_1P_*.lib.gz"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("synth", __doc__, EXAMPLES)
    add_config_arguments(parser)
    parser.add_argument(
        "--liberty",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="a standard-cell library, plain or .gz, and SRAM macros of the same process; default generic gates",
    )
    parser.add_argument(
        "--unit",
        metavar="ROLE|MODULE",
        help=f"synthesize only one block: {', '.join(ROLES)}, or a module of the Verilog",
    )
    parser.add_argument(
        "--target-fo4",
        type=positive,
        default=TARGET_FO4,
        metavar="FO4",
        help=f"clock period that mapping aims at, in FO4 of the library; default {TARGET_FO4:g}",
    )
    parser.add_argument(
        "--clock-gates",
        action="store_true",
        help="stop the clock of registers that hold their value with the library's clock gates, not by multiplexers",
    )
    parser.add_argument(
        "--gate-level",
        action="store_true",
        help="simulate the mapped netlist with the bench of the RTL; it takes minutes, so use it for small designs",
    )
    parser.add_argument(
        "--power",
        action="store_true",
        help="measure the power of real text, or of random inputs without a character model",
    )
    parser.add_argument(
        "--clock-mhz", type=positive, default=CLOCK_HZ / 1e6, help=f"clock for --power; default {CLOCK_HZ / 1e6:.0f}"
    )
    parser.add_argument(
        "--sim", choices=("icarus", "verilator"), default="icarus", help="simulator for --gate-level; default icarus"
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="UTF-8 text for --power; default Python's own documentation"
    )
    add_weight_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="folder to write; default build/synthesis/<design>/<library>"
    )
    parser.add_argument("--json", action="store_true", help="print report.json")
    return parser.parse_args(argv)


def progress(text: str) -> None:
    """Print a line of progress on stderr with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Synthesize the design or some of its modules, and print the report."""
    args = parse(argv)
    config = config_from(args)
    # Wrong files are rejected before synthesis, which takes minutes.
    if args.weights is not None:
        weights_from(args, config)
    if args.text is not None:
        load_corpus(args.text)
    if args.output is not None:
        require_folder(args.output)
    libraries = load_libraries(args.liberty) if args.liberty else [None]
    require(len(libraries) == 1, "liberty", "one standard-cell library", [str(path) for path in args.liberty])
    library = libraries[0]
    options = (("--gate-level", args.gate_level), ("--power", args.power), ("--clock-gates", args.clock_gates))
    for name, wanted in options:
        require(not wanted or library is not None, "--liberty", f"given with {name}", None)
        is_for_units = name == "--clock-gates"
        require(not wanted or args.unit is None or is_for_units, "--unit", f"left out with {name}", args.unit)
    if args.clock_gates:
        clock_gate_of(library)
    if args.power or args.gate_level:
        weights_from(args, config)
    verilog = generate(config)
    tops = [TOP_MODULE] if args.unit is None else modules_of(args.unit, module_names(verilog))
    folder = args.output or folder_of(BUILD, config, library, args.clock_gates)
    reports, status = [], 0
    for top in tops:
        place = folder if args.unit is None else folder / top
        with locked_folder(place):
            values, result = run(
                config, verilog, top, library, args.target_fo4, place, args.unit is None, progress, args.clock_gates
            )
            if args.gate_level:
                status = check_gates(args, config, result, values, place)
            if args.power:
                add_power(args, config, result, values, place)
        reports.append(values)
        if not args.json:
            show(values, place)
    if args.json:
        print(json.dumps(reports[0] if args.unit is None else reports, indent=1))
    if args.unit is None and args.output is None:
        show_page_of(args, config, args.config, possible_folders(args, config))
    return status


def check_gates(args: argparse.Namespace, config: Config, result: Synthesis, values: dict, place: Path) -> int:
    """Simulate the netlist, add the result to the report, and return the exit status."""
    # Imported here, as synthesis itself needs no simulator.
    from chessrnn.sim.synthesis.gate_level import check

    progress("simulating RTL and netlist")
    weights = weights_from(args, config).weights
    found = check(result.netlist, result.liberty, weights, np.random.default_rng(0), args.sim)
    values["gate_level"] = {
        "simulator": args.sim,
        "steps": found.steps,
        "beats": found.beats,
        "problems": found.problems,
    }
    write(place, values)
    report_problems("synth", (f"gate level: {problem}" for problem in found.problems))
    return EXIT_MISMATCH if found.problems else 0


def add_power(args: argparse.Namespace, config: Config, result: Synthesis, values: dict, place: Path) -> None:
    """Measure the power of real text, and add it to the report."""
    from chessrnn.model.text.char_model import CharModel
    from chessrnn.sim.synthesis.power import measure, steps_of

    chosen, steps = weights_from(args, config), steps_of(config)
    if chosen.image is not None and chosen.image.text_layers is not None:
        characters = CharModel(chosen.image)
        x = characters.embed(characters.encode(load_corpus(args.text).test[:steps]))
        source = f"text, weights from {chosen.source}"
    else:
        x = random_inputs(config, np.random.default_rng(0), steps)
        source = f"random inputs, weights {chosen.source}"
    progress("simulating for power")
    values["power"] = measure(result, chosen.weights, x, source, args.clock_mhz)
    write(place, values)


def show(values: dict, place: Path) -> None:
    """Print the report."""
    print(tree(values))
    timing = values["timing"]
    logic = values["logic"]
    gates = f", {logic['clock_gates']:,} clock gates" if logic["clock_gates"] else ""
    rows = [("gates", f"{logic['gates']:,.0f} NAND2 equivalents, {logic['flip_flops']:,} flip-flops{gates}")]
    if values["logic"]["area_mm2"] is not None:
        rows.append(("cells", f"{values['logic']['area_mm2']:.4f} mm2 in {values['library']['name']}"))
    if timing:
        rows += [
            ("longest path", f"{lengths(timing)}; an FO4 is {timing['fo4_ps']:.1f} ps"),
            ("clock", f"{timing['max_clock_mhz']:.0f} MHz"),
            (
                "stages over target",
                f"{timing['stages_over_target']} of {timing['stages']} are longer than {timing['target_fo4']:g} FO4, "
                f"{timing['logic_stages_over_target']} of them logic",
            ),
        ]
    else:
        rows.append(("timing", f"none: {values['timing_note']}"))
    if values.get("power"):
        power = values["power"]
        rows += [
            ("power", f"{power['total_mw']:.1f} mW at {power['clock_mhz']:.0f} MHz and {power['voltage']:g} V"),
            ("energy", f"{power['nj_per_step']:.2f} nJ per step, {power['fj_per_operation']:.1f} fJ per operation"),
        ]
    if values.get("gate_level"):
        rows.append(("gate level", gate_level_text(values["gate_level"])))
    if values["comparison"]:
        rows += [
            (what, f"{ours}   (paper: {theirs})")
            for what, ours, theirs, _ in comparison_rows(values)
            if theirs and what
        ]
    print()
    print_table([*rows, ("written to", f"{place}/report.html, .md, .json")])
