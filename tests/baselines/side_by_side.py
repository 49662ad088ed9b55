"""Compare the exact engines with a datapath by FFT: area, path and memory per uncompressed multiply-accumulate.

All designs are a tile row of C processing elements with the transforms around it, synthesized in the same run with the
same library.  What a tile of R rows shares is divided as in a tile of R x C: the transform and recoding of x by R rows,
four inverse transforms by R·C processing elements.  Not counted are the memories, controller and cell update, which
do not depend on how a block is multiplied.

usage: make sidebyside [ARGS="--liberty FILE --block-size 8 --weight-bits 4 8"]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.back import rtlil

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fft_model
from fft_datapath import FftEngine
from fft_model import FftFormat

from chessrnn.hdl.hierarchy import VerilogPlatform
from chessrnn.hdl.verilog import generate, to_verilog
from chessrnn.model.config import Config
from chessrnn.model.config_sections import FAST_BLOCK_SIZES
from chessrnn.model.errors import require
from chessrnn.model.files import make_folder, scratch_folder, write_atomic
from chessrnn.model.progress import Progress
from chessrnn.model.widths.interval import Interval
from chessrnn.scripts.cli import command_parser, count, run_command
from chessrnn.scripts.pe_area import HALF_LEVEL_BITS, RELAXED_PS, config_of
from chessrnn.scripts.verilog import BUILD
from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.flow import Choices
from chessrnn.sim.synthesis.library import Library, load_libraries
from chessrnn.sim.synthesis.memory_macro import MemoryModel
from chessrnn.sim.synthesis.netlist import Netlist
from chessrnn.sim.synthesis.timing import analyse
from chessrnn.sim.synthesis.units import role_of
from chessrnn.sim.synthesis.yosys import map_generic, module_names, prepare

BLOCK_SIZES, WEIGHT_BITS, WORD_BITS = (4, 8, 16), (2, 3, 4, 8), (12, 16)
# Published datapaths by FFT have words of 12 bits and more, so that fewer bits of the weights save nothing in them.
FFT_WEIGHT_BITS = (4, 8)
# Words that hold the integers of every block size, and whose sums fit into the model's 64 bits.
WORD_RANGE = range(12, 21)
# The tile of lm512, and its inverse transforms: one for each gate.
TILE_ROWS, TILE_COLS, INVERSES = 8, 4, 4
EFFORTS = ("dense", "small")
# Sums for the rounding error; their seed is fixed, so that the table is the same in every run.
ERROR_SUMS = 400
# Direct engines of this block size take k² = 256 products per block: minutes of synthesis for a design nobody builds.
LARGEST_DIRECT = 8


@dataclass(frozen=True)
class Design:
    """A design of the table: an engine of a configuration, or a datapath by FFT.

    Attributes
    ----------
    name : str
        Name in the table.
    config : Config
        The network and its weights.
    fft : FftFormat or None
        Format of the datapath by FFT.
    """

    name: str
    config: Config
    fft: FftFormat | None = None

    def modules(self) -> dict[str, tuple[str, str]]:
        """Verilog and top module of the tile row, and of the inverse transform where that is no part of the row."""
        if self.fft:
            platform = VerilogPlatform()
            engine = FftEngine(self.fft, TILE_COLS)
            text = rtlil.convert(engine, name=engine.module_name, platform=platform, emit_src=False)
            return {"row": (to_verilog("\n".join([*platform.modules.values(), text])), engine.module_name)}
        verilog = generate(self.config)
        parts = {"row": (verilog, "matvec")}
        for name in module_names(verilog):
            if role_of(name) == "inverse":
                parts["inverse"] = verilog, name
        return parts

    @property
    def stored_bits(self) -> int:
        """Bits of a stored block of weights."""
        return self.fft.stored_bits if self.fft else self.config.weight_word_bits


def part_of(module: str) -> str | None:
    """Part of a processing element's area that a module is, from its name; ``None`` for all others."""
    if module.startswith("fft_"):
        return {"operand": "operand", "weights": "weight", "row": "row", "inverse": "inverse"}.get(module.split("_")[1])
    role = role_of(module)
    return role if role in ("operand", "weight", "row", "inverse") else None


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("sidebyside", __doc__, "")
    parser.prog = "side_by_side"
    parser.add_argument(
        "--liberty", type=Path, metavar="FILE", help="standard cells, plain or .gz; default generic gates"
    )
    parser.add_argument("--block-size", type=count, nargs="+", default=list(BLOCK_SIZES), help="default 4 8 16")
    parser.add_argument("--weight-bits", type=count, nargs="+", default=list(WEIGHT_BITS), help="default 2 3 4 8")
    parser.add_argument(
        "--word-bits", type=count, nargs="*", default=list(WORD_BITS), help="words of the FFT at 8 bit; default 12 16"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only designs whose names contain this text, as fast"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder to write; default build/side-by-side")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    return parser.parse_args(argv)


def designs(block_sizes: list[int], weight_bits: list[int], word_bits: list[int]) -> Iterator[Design]:
    """Every design of the table, in its order."""
    for k in block_sizes:
        for bits in weight_bits:
            for levels in ("integer", "half") if bits in HALF_LEVEL_BITS else ("integer",):
                for engine in ("direct", "fast"):
                    if engine == "fast" or k <= LARGEST_DIRECT:
                        yield Design(f"exact, {engine}", config_of(k, bits, engine, "carry_save", TILE_COLS, levels))
                if bits in FFT_WEIGHT_BITS:
                    yield from fft_designs(k, bits, word_bits)


def fft_designs(k: int, bits: int, word_bits: list[int]) -> Iterator[Design]:
    """The datapaths by FFT whose words have these widths at 8 bit; narrower weights have narrower words."""
    config = config_of(k, bits, "fast", "carry_save", TILE_COLS)
    weight = Interval(config.weight_min, config.weight_max)
    seen = set()
    for uniform in (True, False):
        for word in word_bits:
            require(word in WORD_RANGE, "--word-bits", f"from {WORD_RANGE[0]} to {WORD_RANGE[-1]}", word)
            fraction = word - config.element_bits - (k.bit_length() - 1)
            fmt = FftFormat(k, fraction, weight, config.num_col_blocks, uniform=uniform)
            key = tuple(fmt.widths(fmt.x_ranges))
            if key not in seen:
                seen.add(key)
                style = "equal words" if uniform else "narrow words"
                name = f"FFT, {style}" if k == 4 and not uniform else f"FFT, {style}, {word} bit"
                yield Design(name, config, fmt)


def measure(design: Design, library: Library | None, fo4: float | None) -> dict:
    """Area by part in gate equivalents, the longest path in FO4, stored bits and rounding error of a design."""
    areas: dict[str, float] = {}
    paths = []
    for verilog, top in design.modules().values():
        with scratch_folder() as scratch:
            netlist, unit = mapped(verilog, top, library, scratch)
            for name, area in netlist.areas(library.liberty if library else None).items():
                if part := part_of(name):
                    areas[part] = area.total / unit
            if library and fo4:
                paths.append(longest_path(netlist, library, scratch, fo4))
    k, config = design.config.block_size, design.config
    element = areas["weight"] + areas["row"] / TILE_COLS
    operand = areas["operand"] / TILE_ROWS
    inverse = areas.get("inverse", 0.0) * INVERSES / (TILE_ROWS * TILE_COLS)
    return {
        "block_size": k,
        "weight_bits": config.quantization.weight_bits,
        "weight_levels": config.quantization.weight_levels,
        "design": design.name,
        "gates_element": round(element),
        "gates_operand_share": round(operand),
        "gates_inverse_share": round(inverse),
        "gates_per_mac": round((element + operand + inverse) / k**2, 1),
        "path_fo4": round(max(paths), 1) if paths else None,
        "stored_bits_per_weight": round(design.stored_bits / k, 2),
        **rounding(design),
    }


def rounding(design: Design) -> dict:
    """Rounding error of the sums of a row, in LSB of the pre-activation that a sum is rounded to."""
    if design.fft is None:
        return {"error_rms": 0.0, "error_max": 0.0}
    fmt, config, rng = design.fft, design.config, np.random.default_rng(0)
    shape = (ERROR_SUMS, fmt.blocks, fmt.block_size)
    x = rng.integers(-(1 << (fmt.element_bits - 1)), 1 << (fmt.element_bits - 1), shape)
    w = rng.integers(fmt.weight.low, fmt.weight.high + 1, shape)
    error = fft_model.circulant_row(fmt, x, fft_model.weight_spectrum(fmt, w)) - fft_model.exact_row(x, w)
    # The weights fill their range with any number of bits, so that fewer bits have a greater unit.
    lsb = 2.0 ** (config.layer_preact_shifts[0][0] - (8 - config.quantization.weight_bits))
    return {
        "error_rms": round(float(np.sqrt((error**2.0).mean())) / lsb, 2),
        "error_max": round(float(np.abs(error).max()) / lsb, 2),
    }


def mapped(verilog: str, top: str, library: Library | None, folder: Path) -> tuple[Netlist, float]:
    """The design mapped for area, with buffers behind large loads, and the area of a gate equivalent."""
    plain = library.write_plain(folder) if library else None
    prepared = prepare(verilog, top, plain, folder)
    if library is None or plain is None:
        return map_generic(prepared, folder), 1.0
    choices = Choices(prepared, library.liberty, plain, RELAXED_PS, folder, EFFORTS)
    netlist = choices.netlist(choices.smallest())
    netlist.repair(library.liberty)
    return netlist, library.liberty.nand2.area


def longest_path(netlist: Netlist, library: Library, folder: Path, fo4: float) -> float:
    """The longest path of logic between two registers in FO4; ports and memories are registered outside."""
    plain, memory = library.write_plain(folder), MemoryModel(library.liberty, fo4, [])
    timing = analyse(netlist, library.liberty, plain, memory, folder, fo4, target_fo4=100.0, ports_fraction=0.0)
    path = timing.longest(from_memory=False)
    return path.period / fo4 if path else 0.0


def markdown(rows: list[dict], unit: str) -> str:
    """Markdown of the table."""
    lines = [
        f"Per uncompressed multiply-accumulate per cycle, in {unit}; shares of a tile of {TILE_ROWS} x {TILE_COLS}.",
        "",
        "| k | bit | levels | design | element | x transform | inverse | gates per MAC | path, FO4 | bits per weight "
        "| error rms (max), LSB |",
        "|" + " --- |" * 11,
    ]
    for row in rows:
        path = "–" if row["path_fo4"] is None else row["path_fo4"]
        error = f"{row['error_rms']} ({row['error_max']})" if row["error_max"] else "0"
        cells = [row["block_size"], row["weight_bits"], row["weight_levels"], row["design"]]
        cells += [f"{row[f'gates_{part}']:,}" for part in ("element", "operand_share", "inverse_share")]
        cells += [row["gates_per_mac"], path, row["stored_bits_per_weight"], error]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Synthesize every design, and print the table."""
    args = parse(argv)
    for k in args.block_size:
        require(k in FAST_BLOCK_SIZES and k > 2, "--block-size", "one of 4, 8, 16", k)
    everything = list(designs(args.block_size, args.weight_bits, args.word_bits))
    todo = [design for design in everything if args.only in design.name]
    require(bool(todo), "--only", "part of the name of a design", args.only)
    library = load_libraries([args.liberty])[0] if args.liberty else None
    folder = make_folder(args.output or BUILD / "side-by-side")
    fo4 = None
    if library and opensta.available():
        with scratch_folder() as scratch:
            fo4 = opensta.measure_fo4(library.liberty, scratch)
    unit = f"NAND2 equivalents of {library.name}, mapped for area" if library else "generic gates"
    rows: list[dict] = []
    values = {"unit": unit, "tile": [TILE_ROWS, TILE_COLS], "designs": rows}
    progress = Progress(len(todo), unit="design")
    for number, design in enumerate(todo):
        config = design.config
        weights = f"{config.quantization.weight_bits} bit, {config.quantization.weight_levels} levels"
        progress.show(number, f"k = {config.block_size}, {weights}, {design.name}", always=True)
        rows.append(measure(design, library, fo4))
        # An interrupted run leaves what it has measured.
        write_atomic(folder / "side-by-side.json", json.dumps(values, indent=1) + "\n")
    text = markdown(rows, unit)
    write_atomic(folder / "side-by-side.md", text)
    written = f"\nwritten: {folder}/side-by-side.json, side-by-side.md"
    print(json.dumps(values, indent=1) if args.json else text + written)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, "side_by_side"))
