"""Gate equivalents of one processing element: engines, arithmetics, block sizes and weight widths in one table."""

import argparse
import json
import sys
from itertools import product
from pathlib import Path

from chessrnn.hdl.verilog import generate
from chessrnn.model.config import ARITHMETICS, ENGINES, FAST_BLOCK_SIZES, Config
from chessrnn.model.cost.area import NAND2_AREA_90NM, SRAM_90NM, UTILISATION
from chessrnn.model.datapath import datapath_widths
from chessrnn.model.errors import require
from chessrnn.model.files import make_folder, scratch_folder, write_atomic
from chessrnn.model.presets import preset
from chessrnn.scripts.cli import command_parser, count
from chessrnn.scripts.verilog import BUILD
from chessrnn.sim.synthesis.flow import Choices
from chessrnn.sim.synthesis.library import Library, load_libraries
from chessrnn.sim.synthesis.units import role_of
from chessrnn.sim.synthesis.yosys import map_generic, prepare

EXAMPLES = """examples:
  chessrnn pearea
  chessrnn pearea --liberty nangate45_typ.lib.gz --block-size 8 --weight-bits 4 8"""
BLOCK_SIZES, WEIGHT_BITS = (4, 8, 16), (4, 6, 8)
# The tile of lm512.  One row is enough: all rows are alike.
TILE_COLS = 4
# Mapping for area: no delay target that a path could miss.
RELAXED_PS = 100_000.0
AREA_EFFORTS = ("dense", "small")
BASELINE = ("direct", "multiplier")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    parser = command_parser("pearea", __doc__, EXAMPLES)
    parser.add_argument(
        "--liberty", type=Path, metavar="FILE", help="standard cells, plain or .gz; default generic gates"
    )
    parser.add_argument("--block-size", type=count, nargs="+", default=list(BLOCK_SIZES), help="default 4 8 16")
    parser.add_argument("--weight-bits", type=count, nargs="+", default=list(WEIGHT_BITS), help="default 4 6 8")
    parser.add_argument("--tile-cols", type=count, default=TILE_COLS, help=f"that share a row; default {TILE_COLS}")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default build/pe-area")
    parser.add_argument("--json", action="store_true", help="the table as JSON on stdout")
    return parser.parse_args(argv)


def config_of(k: int, bits: int, engine: str, arithmetic: str, tile_cols: int) -> Config:
    """One row of processing elements of the 512 × 512 network, nothing parked."""
    return preset("lm512").replace(
        {
            "compression.block_size": k,
            "quantization.weight_bits": bits,
            "architecture.engine": engine,
            "architecture.arithmetic": arithmetic,
            "architecture.tile_rows": 1,
            "architecture.tile_cols": tile_cols,
            "architecture.lookahead": 1,
        }
    )


def areas(config: Config, library: Library | None) -> dict[str, float]:
    """Gate equivalents of every module that stands in a tile row, the modules below included."""
    with scratch_folder() as folder:
        plain = library.write_plain(folder) if library else None
        prepared = prepare(generate(config), "matvec", plain, folder)
        if library is None:
            found, unit = map_generic(prepared, folder).areas(None), 1.0
        else:
            liberty = library.liberty
            choices = Choices(prepared, liberty, plain, RELAXED_PS, folder, AREA_EFFORTS)
            found, unit = choices.netlist(choices.smallest()).areas(liberty), liberty.nand2.area
    return {name: area.total / unit for name, area in found.items()}


def measure(config: Config, library: Library | None) -> dict:
    """Figures of one design."""
    arch, k, bits = config.architecture, config.block_size, config.quantization.weight_bits
    modules = areas(config, library)
    role = "weight" if arch.arithmetic == "carry_save" else "pe"
    (element,) = (area for name, area in modules.items() if role_of(name) == role)
    row = modules["row"] / arch.tile_cols
    return {
        "block_size": k,
        "weight_bits": bits,
        "engine": arch.engine,
        "arithmetic": arch.arithmetic,
        "gates": round(element + row),
        "gates_before_row": round(element),
        "gates_of_row_share": round(row),
        "forward_transform": round(modules.get(f"forward_transform_k{k}_w{bits}", 0.0)),
    }


def stored_transformed(rows: list[dict]) -> list[dict]:
    """What storing M·w instead of w would save and cost per processing element.

    Below ``break_even_words`` the adders of the transform are larger than the bits that they save.
    """
    found = []
    for row in rows:
        if row["engine"] == "fast" and row["arithmetic"] == "carry_save":
            widths = datapath_widths(config_of(row["block_size"], row["weight_bits"], "fast", "carry_save", 1))
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


def markdown(rows: list[dict], stored: list[dict], unit: str, tile_cols: int) -> str:
    """Both tables."""
    kinds = [(engine, arithmetic) for arithmetic in reversed(ARITHMETICS) for engine in ENGINES]
    gates = {(r["block_size"], r["weight_bits"], r["engine"], r["arithmetic"]): r["gates"] for r in rows}
    lines = [
        f"Gates of one processing element ({unit}): operand registers, products,",
        f"and its share of a tile row of {tile_cols}, sums and accumulators. What a whole column or tile shares is",
        "not in it: the transform and recoding of x, the inverse transform (`make synth` shows them).",
        "",
        "| k | bit | " + " | ".join(f"{engine}, {arithmetic}" for engine, arithmetic in kinds)
        + " | direct / fast, multiplier | direct / fast, carry_save | conventional / best |",
        "|" + " --- |" * (len(kinds) + 5),
    ]  # fmt: skip
    for k, bits in sorted({(r["block_size"], r["weight_bits"]) for r in rows}):
        values = {kind: gates[k, bits, *kind] for kind in kinds}
        ratios = [values["direct", a] / values["fast", a] for a in reversed(ARITHMETICS)]
        ratios.append(values[BASELINE] / min(values.values()))
        cells = [f"{value:,}" for value in values.values()] + [f"{ratio:.2f} x" for ratio in ratios]
        lines.append(f"| {k} | {bits} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Storing M·w instead of w would save the forward transform of the weights and lengthen every word; it pays in",
        "banks of fewer words than the last column tells (90 nm equivalents of chessrnn.model.cost.area).",
        "",
        "| k | bit | gates saved | more bits per block | pays below, words |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in stored:
        lines.append("| " + " | ".join(f"{value:,}" for value in row.values()) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Parse, synthesize every point, print."""
    args = parse(argv)
    for k in args.block_size:
        rule = f"one of {', '.join(map(str, FAST_BLOCK_SIZES))}"
        require(k in FAST_BLOCK_SIZES, "--block-size", rule, k)
    library = load_libraries([args.liberty])[0] if args.liberty else None
    points = list(product(args.block_size, args.weight_bits, ENGINES, ARITHMETICS))
    configs = [config_of(*point, args.tile_cols) for point in points]  # all are checked before the first takes its time
    folder = make_folder(args.output or BUILD / "pe-area")
    rows = []
    for number, point in enumerate(points):
        print(
            f"{number + 1}/{len(points)}: k={point[0]} bits={point[1]} {point[2]} {point[3]}",
            file=sys.stderr,
            flush=True,
        )
        rows.append(measure(configs[number], library))
    stored = stored_transformed(rows)
    unit = f"NAND2 equivalents of {library.name}, mapped for area" if library else "generic gates"
    text = markdown(rows, stored, unit, args.tile_cols)
    values = {"unit": unit, "tile_cols": args.tile_cols, "elements": rows, "stored_transformed": stored}
    write_atomic(folder / "pe-area.json", json.dumps(values, indent=1) + "\n")
    write_atomic(folder / "pe-area.md", text)
    print(json.dumps(values, indent=1) if args.json else text + f"\nwritten: {folder}/pe-area.json, pe-area.md")
    return 0
