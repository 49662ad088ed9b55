"""Place and route a block of a design, and compare its longest path with and without the wires."""

import argparse
import json
from pathlib import Path

from chessrnn.hdl.verilog import generate
from chessrnn.model.errors import MissingToolError, require
from chessrnn.model.files import make_folder, require_folder, write_atomic
from chessrnn.scripts.cli import (
    add_config_arguments,
    command_parser,
    config_from,
    count,
    print_table,
    share,
)
from chessrnn.scripts.synthesize import progress
from chessrnn.scripts.verilog import BUILD
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.placement import placer, router
from chessrnn.sim.placement.block_drawing import drawing
from chessrnn.sim.placement.lef import Lef, read_lef
from chessrnn.sim.placement.place_and_route import compared_values, place_and_route
from chessrnn.sim.plain_path import plain_path
from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.flow import TARGET_FO4, Synthesis, synthesize
from chessrnn.sim.synthesis.job import folder_of
from chessrnn.sim.synthesis.library import Library, load_libraries
from chessrnn.sim.synthesis.units import ROLES, modules_of
from chessrnn.sim.synthesis.yosys import module_names

# Where Debian's package qflow-tech-osu018 puts the library that is used by default.
OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells")
# Metal layers for signals; the ports are on the second and the third.
LAYERS, LEAST_LAYERS = 4, 3
# The share of a block's area that the area model takes to be cells, and fuller ones.
UTILISATIONS = (0.7, 0.8, 0.9)
REPORT, DRAWING = "report.json", "placement.svg"

EXAMPLES = """examples:
  chessrnn place --config tiny
  chessrnn place --config tiny --unit accumulator --utilisation 0.7 0.95 --layers 3
  chessrnn place --config tiny --liberty cells.lib --lef cells.lef --compare nangate45_typ.lib.gz"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("place", __doc__, EXAMPLES)
    add_config_arguments(parser, default="tiny")
    parser.add_argument(
        "--unit",
        default="dot_product",
        metavar="ROLE|MODULE",
        help=f"block without memories: {', '.join(ROLES)}, or a module of the Verilog; default dot_product",
    )
    parser.add_argument(
        "--liberty", type=Path, metavar="FILE", help="standard-cell library; default OSU's 0.18 um of qflow-tech-osu018"
    )
    parser.add_argument("--lef", type=Path, metavar="FILE", help="layouts and layers of that library")
    parser.add_argument(
        "--utilisation",
        nargs="+",
        type=share,
        default=list(UTILISATIONS),
        metavar="SHARE",
        help=f"shares of the block that cells fill, tried one by one; default {' '.join(map(str, UTILISATIONS))}",
    )
    parser.add_argument(
        "--layers", type=count, help=f"metal layers for signals, from the lowest; default {LAYERS}, or all of fewer"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="another library, whose default wire load is shown beside the wires",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder to write; default build/synthesis/<design>/<library>/placed",
    )
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    return parser.parse_args(argv)


def library_from(args: argparse.Namespace) -> tuple[Library, Lef, Path]:
    """The library, its layouts and their file."""
    library = load_libraries([args.liberty])[0] if args.liberty else None
    lef = read_lef(args.lef) if args.lef else None
    if library is not None or lef is not None:
        missing = "--lef" if library is not None else "--liberty"
        require(library is not None and lef is not None, missing, "given with the other file of the library", None)
        assert library is not None and lef is not None
        return library, lef, args.lef
    paths = [OSU018.with_suffix(end) for end in (".lib", ".lef")]
    if not all(path.exists() for path in paths):
        raise MissingToolError(
            "a library with layouts must be named by --liberty and --lef, or installed (Debian: apt-get install "
            "qflow-tech-osu018)"
        )
    return load_libraries(paths[:1])[0], read_lef(paths[1]), paths[1]


def synthesized(verilog: str, top: str, library: Library, folder: Path) -> tuple[Synthesis, float]:
    """The block mapped to a library, and the library's FO4 in seconds."""
    result = synthesize(verilog, top, library, folder, TARGET_FO4, 0.0, progress)
    assert result.timing is not None
    return result, result.timing.fo4


def main(argv: list[str] | None = None) -> int:
    """Place and route every module of the unit at every utilisation, and print what it came to."""
    args = parse(argv)
    config = config_from(args)
    if args.output is not None:
        require_folder(args.output)
    other = load_libraries([args.compare])[0] if args.compare else None
    library, lef, lef_path = library_from(args)
    require(0 not in args.utilisation, "--utilisation", "more than 0", args.utilisation)
    if args.layers is None:
        args.layers = min(LAYERS, len(lef.layers))
    rule = f"from {LEAST_LAYERS} to the {len(lef.layers)} of the library"
    require(LEAST_LAYERS <= args.layers <= len(lef.layers), "--layers", rule, args.layers)
    placer.require_available()
    router.require_available()
    opensta.require_available()
    verilog = generate(config)
    folder = args.output or folder_of(BUILD, config, library) / "placed"
    reports = []
    for top in modules_of(args.unit, module_names(verilog)):
        with locked_folder(folder / top):
            place = plain_path(make_folder(folder / top).resolve())
            values = block_values(args, verilog, top, library, lef, plain_path(lef_path.resolve()), other, place)
            write_atomic(place / REPORT, json.dumps(values, indent=1) + "\n")
        reports.append(values)
        if not args.json:
            show(values, folder / top)
    if args.json:
        print(json.dumps(reports, indent=1))
    return 0


def block_values(
    args: argparse.Namespace,
    verilog: str,
    top: str,
    library: Library,
    lef: Lef,
    lef_path: Path,
    other: Library | None,
    folder: Path,
) -> dict:
    """Figures of one module at every utilisation; the first that is routed entirely is drawn."""
    result, fo4 = synthesized(verilog, top, library, folder)
    (folder / DRAWING).unlink(missing_ok=True)
    blocks, drawn = [], False
    for utilisation in args.utilisation:
        place = make_folder(folder / f"{100 * utilisation:g}")
        block = place_and_route(result, fo4, lef, lef_path, utilisation, args.layers, place, progress)
        blocks.append(block.values)
        if not block.routing.failed and not drawn:
            picture = drawing(block.flat, block.placement, block.routing, lef, library.liberty)
            write_atomic(folder / DRAWING, picture)
            drawn = True
    values = {"module": top, "library": library.name, "gates": result.areas[top].total / library.liberty.nand2.area}
    values["blocks"] = blocks
    if other is not None:
        place = make_folder(folder / "compared")
        compared, compared_fo4 = synthesized(verilog, top, other, place)
        rows = next((block["wires"]["by_sinks"] for block in blocks if "wires" in block), None)
        lengths = [(row["mean_sinks"], row["mean_gates"]) for row in rows] if rows else None
        values["compared"] = compared_values(compared, compared_fo4, place, lengths)
    return values


def show(values: dict, folder: Path) -> None:
    """Print the figures of one module."""
    rows = [("module", f"{values['module']}, {values['gates']:,.0f} NAND2 equivalents in {values['library']}")]
    for block in values["blocks"]:
        share_text = f"{100 * block['utilisation']:.1f} %"
        size = f"{block['width_um']:g} x {block['height_um']:g} um, {block['rows']} rows, {block['cells']:,} cells"
        rows += [("", ""), (share_text, size)]
        if block["failed_nets"]:
            rows.append(("routing", f"{block['failed_nets']:,} of {block['nets']:,} nets could not be routed"))
            continue
        wires, timing = block["wires"], block["timing"]
        spread = ", ".join(f"{share} % to {length:g}" for share, length in wires["quantiles_um"].items())
        rows += [
            ("routing", f"{block['nets']:,} nets on {block['layers']} layers, {wires['vias']:,} vias, "
             f"{100 * wires['tracks_used']:.0f} % of the tracks"),
            ("wires", f"{wires['length_um'] / 1000:.2f} mm, {wires['mean_um']:g} um per net ({spread}, "
             f"longest {wires['longest_um']:g})"),
            ("load", f"wires {wires['wire_pf']:.3f} pF, inputs {wires['pin_pf']:.3f} pF: "
             f"{100 * wires['wire_over_pins']:.0f} %"),
            ("by sinks", ", ".join(f"{row['sinks']}: {row['inverter_inputs']:.2f}" for row in wires["by_sinks"])
             + " inverter inputs"),
        ]  # fmt: skip
        for name, label in PATHS.items():
            if name in timing:
                rows.append((label, f"{timing[name]['fo4']:.2f} FO4 of {timing['fo4_ps']:g} ps"))
    if compared := values.get("compared"):
        rows += [("", ""), (compared["library"], f"{compared['cells']:,} cells, FO4 {compared['fo4_ps']:g} ps")]
        for name, label in PATHS.items():
            if found := compared.get(name):
                rows.append((label, f"{found['fo4']:.2f} FO4"))
                if "wire_over_pins" in found:
                    loads = ", ".join(f"{sinks}: {load:.2f}" for sinks, load in found["inverter_inputs"].items())
                    rows.append(("load", f"wires {100 * found['wire_over_pins']:.0f} % of the inputs"))
                    rows.append(("by sinks", f"{loads} inverter inputs"))
    is_drawn = any(not block["failed_nets"] for block in values["blocks"])
    print_table([*rows, ("", ""), ("written to", f"{folder}/{REPORT}" + (f", {DRAWING}" if is_drawn else ""))])


PATHS = {
    "without_wires": "path, no wires",
    "assumed_wires": "path, wire load",
    "routed_wires": "path, routed",
    "averaged_wires": "path, averages",
    "crowded_wires": "path, wires x 2",
    "carried_wires": "path, carried",
}
