"""Compare recoding x with recoding the weights: gates of the products of one processing element.

A product of two numbers compresses one row for every Booth digit of one of them.  Digits of x are formed once per
column and shared by all rows of the tile; each row is then as wide as a weight.  Digits of the weights need a recoder
in every processing element, but there are fewer of them, with rows as wide as x.  The hardware chooses for every
product by its widths (``chessrnn.model.widths.sums.recodes_weights``).  Registers behind the products are counted;
joins, accumulators, transforms and the registers of weights, which are nearly equal, are not.

usage: .venv/bin/python tests/baselines/recoding.py [--liberty FILE] [--block-size 4 8] [--weight-bits 2 3 4 8]
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from chessrnn.hdl.arithmetic.booth import digits_layout, recode
from chessrnn.hdl.arithmetic.dot_product import DotProduct
from chessrnn.hdl.hierarchy import VerilogPlatform, shared
from chessrnn.hdl.verilog import to_verilog
from chessrnn.model.config import Config
from chessrnn.model.config_sections import FAST_BLOCK_SIZES
from chessrnn.model.errors import require
from chessrnn.model.files import scratch_folder
from chessrnn.model.widths.hardware import hardware_widths
from chessrnn.model.widths.sums import recodes_weights
from chessrnn.scripts.cli import command_parser, count, run_command
from chessrnn.scripts.pe_area import AREA_EFFORTS, HALF_LEVEL_BITS, RELAXED_PS, config_of
from chessrnn.sim.synthesis.flow import Choices
from chessrnn.sim.synthesis.library import Library, load_libraries
from chessrnn.sim.synthesis.yosys import map_generic, prepare

# Products between two registers, as in the designs.
TERMS = 2
TOP = "recoding"


class Recoder(wiring.Component):
    """Forms the Booth digits of a number.

    Members
    -------
    number : In(width)
    digits : Out(digits_layout(width))

    Latency: 0
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__({"number": In(width), "digits": Out(digits_layout(width))})

    @property
    def module_name(self) -> str:
        return f"recoder_w{self.width}"

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.digits.as_value().eq(recode(self.number.as_signed()))
        return m


class Parts(wiring.Component):
    """All parts to synthesize, with their ports led outside."""

    module_name = TOP

    def __init__(self, parts: list[wiring.Component]):
        self.parts = parts
        members = {
            name: In(len(value)) if member.flow == In else Out(len(value)) for name, member, value in self.ports()
        }
        super().__init__(members)

    def ports(self) -> Iterator[tuple[str, Member, Value]]:
        """Name, direction and value of every port of every part."""
        for part in self.parts:
            for path, member, value in part.signature.flatten(part):
                yield f"{part.module_name}__{'__'.join(map(str, path))}", member, Value.cast(value)

    def elaborate(self, platform):
        m = Module()
        for part in self.parts:
            m.submodules[part.module_name] = shared(part, platform)
        for name, member, value in self.ports():
            port = getattr(self, name)
            m.d.comb += value.eq(port) if member.flow == In else port.eq(value)
        return m


def products(config: Config) -> Counter:
    """Number of products of a processing element, by widths of weight and operand."""
    widths = hardware_widths(config)
    if config.architecture.engine == "fast":
        return Counter(zip(widths.weight, widths.operand, strict=True))
    return Counter({(widths.weight[0], widths.operand[0]): config.block_size**2})


def of_products(config: Config, gates: dict, dots: dict, of_weights: Callable[[int, int], bool]) -> list[float]:
    """Gates of the products of a processing element, if ``of_weights`` tells which weights are recoded."""
    return [
        number / TERMS * gates[dots[pair[::-1] if of_weights(*pair) else pair].module_name]
        for pair, number in products(config).items()
    ]


def of_recoders(config: Config, gates: dict, coders: dict, of_weights: Callable[[int, int], bool]) -> list[float]:
    """Gates of the recoders of a processing element, if ``of_weights`` tells which weights are recoded."""
    widths = hardware_widths(config)
    pairs = zip(widths.weight, widths.operand, strict=True)
    return [gates[coders[weight].module_name] for weight, operand in pairs if of_weights(weight, operand)]


def areas(parts: dict[str, wiring.Component], library: Library | None) -> dict[str, float]:
    """Gate equivalents of every part, by module name."""
    platform = VerilogPlatform()
    top = Parts(list(parts.values()))
    text = rtlil.convert(top, name=TOP, platform=platform, emit_src=False)
    verilog = to_verilog("\n".join([*platform.modules.values(), text]))
    with scratch_folder() as folder:
        plain = library.write_plain(folder) if library else None
        prepared = prepare(verilog, TOP, plain, folder)
        if library is None or plain is None:
            found, unit = map_generic(prepared, folder).areas(None), 1.0
        else:
            choices = Choices(prepared, library.liberty, plain, RELAXED_PS, folder, AREA_EFFORTS)
            found, unit = choices.netlist(choices.smallest()).areas(library.liberty), library.liberty.nand2.area
    return {name: area.total / unit for name, area in found.items()}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("recoding", __doc__, "")
    parser.prog = "recoding"
    parser.add_argument(
        "--liberty", type=Path, metavar="FILE", help="standard cells, plain or .gz; default generic gates"
    )
    parser.add_argument("--block-size", type=count, nargs="+", default=[4, 8], help="default 4 8")
    parser.add_argument("--weight-bits", type=count, nargs="+", default=[2, 3, 4, 8], help="default 2 3 4 8")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Synthesize the parts of all designs in one run, and print the table."""
    args = parse(argv)
    for k in args.block_size:
        require(k in FAST_BLOCK_SIZES, "--block-size", f"one of {', '.join(map(str, FAST_BLOCK_SIZES))}", k)
    library = load_libraries([args.liberty])[0] if args.liberty else None
    configs = [
        config_of(k, bits, engine, "carry_save", TERMS, levels)
        for k in args.block_size
        for bits in args.weight_bits
        for levels in (("integer", "half") if bits in HALF_LEVEL_BITS else ("integer",))
        for engine in ("direct", "fast")
    ]
    pairs = {way for config in configs for pair in products(config) for way in (pair, pair[::-1])}
    dots = {pair: DotProduct(TERMS, *pair) for pair in sorted(pairs)}
    coders = {
        width: Recoder(width)
        for width in sorted({width for config in configs for width in hardware_widths(config).weight})
    }
    parts = {part.module_name: part for part in (*dots.values(), *coders.values())}
    gates = areas(parts, library)

    print("| k | bit | levels | engine | x recoded | weights recoded | as built | products of recoded weights |")
    print("|" + " --- |" * 8)
    for config in configs:
        ways = [
            sum(of_products(config, gates, dots, choose) + of_recoders(config, gates, coders, choose))
            for choose in (lambda *_: False, lambda *_: True, recodes_weights)
        ]
        all_products = products(config)
        recoded = sum(number for pair, number in all_products.items() if recodes_weights(*pair))
        q = config.quantization
        print(
            f"| {config.block_size} | {q.weight_bits} | {q.weight_levels} | {config.architecture.engine} "
            f"| {ways[0]:,.0f} | {ways[1]:,.0f} | {ways[2]:,.0f} | {recoded} of {all_products.total()} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, "recoding"))
