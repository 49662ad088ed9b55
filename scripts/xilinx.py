"""Count the resources of Xilinx parts that the accelerator needs, by Yosys's synthesis without vendor tools."""

import argparse
import json
from pathlib import Path

from chessrnn.hdl.verilog import TOP_MODULE
from chessrnn.model.presets import resolve
from chessrnn.model.schedule import Schedule
from chessrnn.scripts.cli import add_config_arguments, command_parser, settings_from
from chessrnn.scripts.fpga import progress
from chessrnn.scripts.verilog import BUILD
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.fpga_build import yosys

FAMILIES = {"xc7": "7-series", "xcup": "UltraScale+"}
# Number of LUTs, flip-flops, block RAMs of 36 kbit and DSP slices in each cell; cells that are not listed are wiring.
# An inverter counts as a LUT, although placement may merge some of them into others.
CELLS = {
    "LUT": {f"LUT{n}": 1 for n in range(1, 7)}
    | {"INV": 1, "SRL16E": 1, "SRLC32E": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM32M": 4, "RAM64M": 4}
    | {"RAM128X1D": 4, "RAM256X1D": 8, "RAM32M16": 8, "RAM64M8": 8, "RAM64X8SW": 8, "RAM512X1S": 8},
    "FF": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
    "BRAM": {"RAMB36E1": 1, "RAMB36E2": 1, "RAMB18E1": 0.5, "RAMB18E2": 0.5},
    "DSP": {"DSP48E1": 1, "DSP48E2": 1},
}

# The passes of synth_xilinx, with abc in place of abc9, whose result this Yosys cannot bring back into a hierarchy.
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
    """Parse the command line."""
    parser = command_parser("xilinx", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    parser.add_argument(
        "--family",
        nargs="+",
        choices=FAMILIES,
        default=list(FAMILIES),
        help="xc7 (7-series), xcup (UltraScale+); default both",
    )
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def resources(modules: dict[str, dict[str, int]], top: str) -> dict[str, float]:
    """Resources of a module, including everything below it.

    Parameters
    ----------
    modules : dict of str to dict of str to int
        Number of cells and modules of each type in every module.
    top : str
        Name of the module.
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
    """Number of cells of each type in every module, from Yosys's ``stat -json``, whose total omits some primitives."""
    text = statistics.read_text(encoding="utf-8")
    modules = json.loads(text[text.index("{") :])["modules"]
    return {name.removeprefix("\\"): values["num_cells_by_type"] for name, values in modules.items()}


def synthesize(folder: Path, family: str) -> dict[str, float]:
    """Synthesize a build directory's Verilog, each module once, and return the resources of the whole."""
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
    """Emit the design, synthesize it for every family, and print the resources."""
    args = parse(argv)
    # Carry-save rows would be built from LUTs and leave the DSP slices unused.
    settings = {"architecture.arithmetic": "multiplier", **settings_from(args)}
    config = resolve(args.config).replace(settings)
    chosen, folder = weights_from(args, config), BUILD / f"{config.name}-xilinx"
    with locked_folder(folder):
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
