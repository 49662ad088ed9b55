"""The command ``chessrnn``: finds the module of a sub-command and runs it."""

import sys
from importlib import import_module, metadata

from chessrnn.model.errors import shown
from chessrnn.scripts.cli import run_command

# Module of each sub-command, with the summary that ``chessrnn --help`` prints, so that help imports none of them.
COMMANDS = {
    "verilog": ("verilog", "emit an accelerator: Verilog, weight files, expected vectors, report"),
    "weights": ("weight_file", "write the file of weights that is loaded at run time, or check one"),
    "sim": ("simulate", "run the emitted Verilog in a simulator and compare every h with the reference"),
    "report": ("report", "write one page that shows a design, from the figures that other commands made"),
    "inspect": ("inspect_model", "list the layers, sizes and bytes of a model file"),
    "convert": ("convert", "make a weight image of a model file's recurrent layers"),
    "predict": ("predict", "run your own inputs through the reference or the Verilog, and trace the errors"),
    "evaluate-model": ("evaluate_model", "measure what a whole model loses by its layers' integers"),
    "showcase": ("showcase", "compress a public speech detector or noise suppressor, and measure what it loses"),
    "train": ("compress", "compress a network in stages: dense, circulant, approximated, few-bit"),
    "evaluate": ("evaluate", "evaluate a weight image on a text with the integer reference"),
    "explore": ("explore", "find design points: Pareto front of latency and area, or the cheapest tile"),
    "synth": ("synthesize", "synthesize a design: area, timing and power"),
    "fpga": ("fpga", "build a bitstream for a board"),
    "host": ("host", "talk to an accelerator on a board or in a simulator"),
    "listen": ("listen", "draw where somebody speaks, by a detector whose LSTM is on a board"),
    "check": ("lint", "lint the emitted Verilog with Verilator and Yosys"),
    "prove": ("prove", "prove properties of the streams for every input"),
    "fuzz": ("fuzz", "compare random designs with the reference"),
    "accuracy": ("accuracy", "measure the loss of accuracy by compression"),
    "place": ("place", "place and route a block, and time it with its wires"),
    "silicon": ("silicon", "compare designs and cell libraries with the published figures"),
    "xilinx": ("xilinx", "count LUT, FF, BRAM and DSP of Xilinx parts"),
    "pearea": ("pe_area", "measure the gates of one processing element, for every engine"),
    "train-speed": ("train_speed", "time training steps beside torch.nn"),
    "bless": ("bless", "store the present area and depth of small designs as the baseline of tests"),
}
USAGE = "usage: chessrnn COMMAND [OPTIONS]"


def help_text() -> str:
    """Text of ``chessrnn --help``."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    options = ["  --help     print this list", "  --version  print the version"]
    lines = [USAGE, "", "commands:", *rows, "", "options:", *options, ""]
    return "\n".join([*lines, "examples:", "  chessrnn verilog --config char128", "  chessrnn convert --help"])


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"chessrnn {metadata.version('chessrnn')}")
        return 0
    if name not in COMMANDS:
        what = f"not {shown(name)}" if name else "not left out"
        print(f"{USAGE}\nchessrnn: error: COMMAND must be one that chessrnn --help lists, {what}", file=sys.stderr)
        return 2
    module = import_module(f"chessrnn.scripts.{COMMANDS[name][0]}")
    return run_command(lambda: module.main(arguments[1:]), f"chessrnn {name}")
