"""What the accelerator takes of Xilinx parts, by Yosys's synthesis: no vendor tool, no placement, no clock."""

import argparse
import json
from pathlib import Path

from chessrnn.hdl.verilog import TOP_MODULE
from chessrnn.model.config import parse_setting
from chessrnn.model.presets import resolve
from chessrnn.model.schedule import Schedule
from chessrnn.scripts.cli import add_config_arguments, command_parser
from chessrnn.scripts.fpga import progress
from chessrnn.scripts.verilog import BUILD
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.fpga_build import yosys

FAMILIES = {"xc7": "7-series", "xcup": "UltraScale+"}
# Cell → LUTs, flip-flops, block RAMs of 36 kbit, DSP slices.  What is not here is wiring.  An inverter is a LUT here;
# placement may move some into others.
CELLS = {
    "LUT": {f"LUT{n}": 1 for n in range(1, 7)}
    | {"INV": 1, "SRL16E": 1, "SRLC32E": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM32M": 4, "RAM64M": 4}
    | {"RAM128X1D": 4, "RAM256X1D": 8, "RAM32M16": 8, "RAM64M8": 8, "RAM64X8SW": 8, "RAM512X1S": 8},
    "FF": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
    "BRAM": {"RAMB36E1": 1, "RAMB36E2": 1, "RAMB18E1": 0.5, "RAMB18E2": 0.5},
    "DSP": {"DSP48E1": 1, "DSP48E2": 1},
}

# synth_xilinx's own, with abc in place of abc9, which this Yosys does not bring back into a hierarchy.
LUT_COMMANDS = (
    "opt_expr -mux_undef -noclkinv",
    "abc -luts 2:2,3,6:5,10,20",
    "clean",
    "xilinx_srl -fixed -minlen 3",
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
    "xilinx_dffopt",
    "opt_lut_ins -tech xilinx",
    "clean",
)

EXAMPLES = """examples:
  chessrnn xilinx --config char128
  chessrnn xilinx --config lm512 --family xc7 --json"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    parser = command_parser("xilinx", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    parser.add_argument(
        "--family", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="default both; xc7, xcup (UltraScale+)"
    )
    parser.add_argument("--json", action="store_true", help="results as JSON on stdout")
    return parser.parse_args(argv)


def resources(modules: dict[str, dict[str, int]], top: str) -> dict[str, float]:
    """LUT, FF, BRAM, DSP of a module with everything below it.

    Parameters
    ----------
    modules : dict of str to dict of str to int
        Cells and modules by type of every module.
    """
    total = dict.fromkeys(CELLS, 0.0)
    for kind, count in modules[top].items():
        if kind in modules:
            found = resources(modules, kind)
        else:
            found = {name: kinds.get(kind, 0) for name, kinds in CELLS.items()}
        for name, value in found.items():
            total[name] += count * value
    return total


def module_cells(statistics: Path) -> dict[str, dict[str, int]]:
    """Cells by type of every module from Yosys's ``stat -json``, whose own total leaves some primitives out."""
    text = statistics.read_text(encoding="utf-8")
    modules = json.loads(text[text.index("{") :])["modules"]
    return {name.removeprefix("\\"): values["num_cells_by_type"] for name, values in modules.items()}


def synthesize(folder: Path, family: str) -> dict[str, float]:
    """Resources of a build directory's Verilog; its modules are mapped once each."""
    stat = folder / f"{family}.cells.json"
    stat.unlink(missing_ok=True)
    seconds = yosys(
        [
            f"read_verilog -defer {VERILOG_FILE}",
            f"synth_xilinx -family {family} -top {TOP_MODULE} -noiopad -noclkbuf -run begin:map_luts",
            *LUT_COMMANDS,
            f"tee -q -o {stat.name} stat -top {TOP_MODULE} -json",
        ],
        folder / f"{family}.rpt",
        folder,
        lambda line: progress(f"{family}: {line[:70]}", True),
    )
    progress(f"{FAMILIES[family]}: {seconds:.0f} s")
    return resources(module_cells(stat), TOP_MODULE)


def main(argv: list[str] | None = None) -> int:
    """Parse, emit, synthesize, print."""
    args = parse(argv)
    # Carry-save rows would be made of LUTs and leave the DSP slices idle.
    settings = {"architecture.arithmetic": "multiplier", **dict(parse_setting(text) for text in args.settings)}
    config = resolve(args.config).replace(settings)
    chosen, folder = weights_from(args, config), BUILD / f"{config.name}-xilinx"
    emit(chosen.weights, folder, chosen.source, prefix="")
    found = {family: synthesize(folder, family) for family in args.family}
    cycles = Schedule(config).initiation_interval
    if args.json:
        design = {"configuration": config.fingerprint, "cycles_per_step": cycles, "families": found}
        print(json.dumps(design, indent=2))
        return 0
    print(f"{config.name} {config.fingerprint}, {cycles} cycles per step")
    print(f"{'':<12}" + "".join(f"{name:>9}" for name in CELLS))
    for family, use in found.items():
        print(f"{FAMILIES[family]:<12}" + "".join(f"{use[name]:>9,g}" for name in CELLS))
    return 0
