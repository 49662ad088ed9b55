"""Measure the gate equivalents of one processing element for engines, arithmetics, block sizes and weight widths."""

import argparse
import json
from pathlib import Path

from chessrnn.hdl.verilog import generate
from chessrnn.model.config import Config
from chessrnn.model.config_sections import ARITHMETICS, ENGINES, FAST_BLOCK_SIZES, WEIGHT_LEVELS
from chessrnn.model.cost.area import NAND2_AREA_90NM, SRAM_90NM, UTILISATION
from chessrnn.model.errors import require
from chessrnn.model.files import make_folder, scratch_folder, write_atomic
from chessrnn.model.presets import preset
from chessrnn.model.progress import Progress
from chessrnn.model.widths.hardware import hardware_widths
from chessrnn.scripts.cli import command_parser, count
from chessrnn.scripts.verilog import BUILD
from chessrnn.sim.synthesis.flow import Choices
from chessrnn.sim.synthesis.library import Library, load_libraries
from chessrnn.sim.synthesis.units import role_of
from chessrnn.sim.synthesis.yosys import map_generic, prepare

EXAMPLES = """examples:
  chessrnn pearea
  chessrnn pearea --liberty nangate45_typ.lib.gz --block-size 8 --weight-bits 4 8"""
BLOCK_SIZES, WEIGHT_BITS = (4, 8, 16), (2, 3, 4, 6, 8)
# Half levels lose no code at these widths; with more bits they gain nothing, so that they are not measured.
HALF_LEVEL_BITS = (2, 3)
# The columns of lm512's tile.  One row is synthesized, as all rows are equal.
TILE_COLS = 4
# Delay target that no path misses, so that ABC maps for area.
RELAXED_PS = 100_000.0
AREA_EFFORTS = ("dense", "small")
BASELINE = ("direct", "multiplier")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("pearea", __doc__, EXAMPLES)
    parser.add_argument(
        "--liberty", type=Path, metavar="FILE", help="standard cells, plain or .gz; default generic gates"
    )
    parser.add_argument(
        "--block-size", type=count, nargs="+", default=list(BLOCK_SIZES), help="block sizes; default 4 8 16"
    )
    parser.add_argument(
        "--weight-bits", type=count, nargs="+", default=list(WEIGHT_BITS), help="weight widths; default 2 3 4 6 8"
    )
    parser.add_argument(
        "--weight-levels",
        nargs="+",
        choices=WEIGHT_LEVELS,
        default=list(WEIGHT_LEVELS),
        help="levels of the weights; default integer half, of which half is measured with 2 and 3 bits only",
    )
    parser.add_argument(
        "--tile-cols", type=count, default=TILE_COLS, help=f"columns of the tile row; default {TILE_COLS}"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder to write; default build/pe-area")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    return parser.parse_args(argv)


def config_of(k: int, bits: int, engine: str, arithmetic: str, tile_cols: int, levels: str = "integer") -> Config:
    """Configuration of one row of processing elements of the 512 × 512 network, without parked sums."""
    return preset("lm512").replace(
        {
            "compression.block_size": k,
            "quantization.weight_bits": bits,
            "quantization.weight_levels": levels,
            "architecture.engine": engine,
            "architecture.arithmetic": arithmetic,
            "architecture.tile_rows": 1,
            "architecture.tile_cols": tile_cols,
            "architecture.lookahead": 1,
        }
    )


def areas(config: Config, library: Library | None) -> dict[str, float]:
    """Gate equivalents of every module in a tile row, including the modules below it."""
    with scratch_folder() as folder:
        plain = library.write_plain(folder) if library else None
        prepared = prepare(generate(config), "matvec", plain, folder)
        if library is None or plain is None:
            found, unit = map_generic(prepared, folder).areas(None), 1.0
        else:
            liberty = library.liberty
            choices = Choices(prepared, liberty, plain, RELAXED_PS, folder, AREA_EFFORTS)
            found, unit = choices.netlist(choices.smallest()).areas(liberty), liberty.nand2.area
    return {name: area.total / unit for name, area in found.items()}


def measure(config: Config, library: Library | None) -> dict:
    """Measure one design."""
    arch, k, bits = config.architecture, config.block_size, config.quantization.weight_bits
    modules = areas(config, library)
    role = "weight" if arch.arithmetic == "carry_save" else "pe"
    (element,) = (area for name, area in modules.items() if role_of(name) == role)
    row = modules["row"] / arch.tile_cols
    return {
        "block_size": k,
        "weight_bits": bits,
        "weight_levels": config.quantization.weight_levels,
        "engine": arch.engine,
        "arithmetic": arch.arithmetic,
        "gates": round(element + row),
        "gates_before_row": round(element),
        "gates_of_row_share": round(row),
        "forward_transform": round(modules.get(f"forward_transform_weight_k{k}_w{config.weight_value_bits}", 0.0)),
    }


def stored_transformed(rows: list[dict]) -> list[dict]:
    """Savings and costs per processing element of storing M·w instead of w.

    In banks of fewer than ``break_even_words`` words the adders of the transform are larger than the additional bits.
    """
    found = []
    for row in rows:
        if (row["engine"], row["arithmetic"], row["weight_levels"]) == ("fast", "carry_save", "integer"):
            widths = hardware_widths(config_of(row["block_size"], row["weight_bits"], "fast", "carry_save", 1))
            more = sum(widths.weight) - row["block_size"] * row["weight_bits"]
            saved = row["forward_transform"] * NAND2_AREA_90NM / UTILISATION
            found.append(
                {
                    "block_size": row["block_size"],
                    "weight_bits": row["weight_bits"],
                    "gates_saved": row["forward_transform"],
                    "more_bits_per_block": more,
                    "break_even_words": int(saved / (more * SRAM_90NM.per_bit)),
                }
            )
    return found


def _weights(row: dict) -> tuple[int, int, str]:
    """Block size, width and levels of the weights of a measured design."""
    return row["block_size"], row["weight_bits"], row["weight_levels"]


def markdown(rows: list[dict], stored: list[dict], unit: str, tile_cols: int) -> str:
    """Markdown of both tables."""
    kinds = [(engine, arithmetic) for arithmetic in reversed(ARITHMETICS) for engine in ENGINES]
    gates = {(*_weights(r), r["engine"], r["arithmetic"]): r["gates"] for r in rows}
    lines = [
        f"Gates of one processing element ({unit}): its operand registers and products, and its share of the sums",
        f"and accumulators of a tile row of {tile_cols}. Logic that a whole column or tile shares is excluded: the",
        "transform and recoding of x, and the inverse transform (`make synth` shows them).",
        "",
        "| k | bit | levels | " + " | ".join(f"{engine}, {arithmetic}" for engine, arithmetic in kinds)
        + " | direct / fast, multiplier | direct / fast, carry_save | conventional / best |",
        "|" + " --- |" * (len(kinds) + 6),
    ]  # fmt: skip
    for k, bits, levels in sorted({_weights(r) for r in rows}):
        values = {kind: gates[k, bits, levels, *kind] for kind in kinds}
        ratios = [values["direct", a] / values["fast", a] for a in reversed(ARITHMETICS)]
        ratios.append(values[BASELINE] / min(values.values()))
        cells = [f"{value:,}" for value in values.values()] + [f"{ratio:.2f} x" for ratio in ratios]
        lines.append(f"| {k} | {bits} | {levels} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Storing M·w instead of w would save the forward transform of the weights and lengthen every word. It saves",
        "area in banks of fewer words than the last column shows (90 nm equivalents of chessrnn.model.cost.area).",
        "",
        "| k | bit | gates saved | additional bits per block | saves area below, words |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in stored:
        lines.append("| " + " | ".join(f"{value:,}" for value in row.values()) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Synthesize a processing element at every point, and print the table."""
    args = parse(argv)
    for k in args.block_size:
        rule = f"one of {', '.join(map(str, FAST_BLOCK_SIZES))}"
        require(k in FAST_BLOCK_SIZES, "--block-size", rule, k)
    library = load_libraries([args.liberty])[0] if args.liberty else None
    points = [
        (k, bits, engine, arithmetic, args.tile_cols, levels)
        for k in args.block_size
        for bits in args.weight_bits
        for levels in dict.fromkeys(args.weight_levels)
        if levels == "integer" or bits in HALF_LEVEL_BITS
        for engine in ENGINES
        for arithmetic in ARITHMETICS
    ]
    # All are checked before the first is synthesized.
    require(bool(points), "--weight-bits", "2 or 3 where --weight-levels is half alone", args.weight_bits)
    configs = [config_of(*point) for point in points]
    folder = make_folder(args.output or BUILD / "pe-area")
    rows, progress = [], Progress(len(points), unit="design")
    for number, (k, bits, engine, arithmetic, _, levels) in enumerate(points):
        progress.show(number, f"k = {k}, {bits} bit, {levels} levels, {engine}, {arithmetic}", always=True)
        rows.append(measure(configs[number], library))
    stored = stored_transformed(rows)
    unit = f"NAND2 equivalents of {library.name}, mapped for area" if library else "generic gates"
    text = markdown(rows, stored, unit, args.tile_cols)
    values = {"unit": unit, "tile_cols": args.tile_cols, "elements": rows, "stored_transformed": stored}
    write_atomic(folder / "pe-area.json", json.dumps(values, indent=1) + "\n")
    write_atomic(folder / "pe-area.md", text)
    print(json.dumps(values, indent=1) if args.json else text + f"\nwritten: {folder}/pe-area.json, pe-area.md")
    return 0
