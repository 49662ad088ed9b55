"""Write one page that shows a design: build/<name>/report.html, which opens without a network.

It shows the network, the tile's way over the chessboard, two steps cycle by cycle, memories, ports, accuracy, area and
FPGA builds, as far as other commands made these figures.
"""

import argparse

from chessrnn.scripts.cli import add_config_arguments, command_parser, config_from, note
from chessrnn.scripts.design_page import build_of
from chessrnn.scripts.verilog import BUILD, make_current, named_folder
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.build import generator_digest, load_build
from chessrnn.sim.folder_lock import locked_folder

EXAMPLES = """examples:
  chessrnn report
  chessrnn report --config build/lm512
  chessrnn report --config lm512 --random-weights 1"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("report", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Emit the design where it is missing, write its page, and print the page's path."""
    # Imported here, as --help needs no templates.
    from chessrnn.sim.report_page.render import write_page

    args = parse(argv)
    config = config_from(args)
    chosen = None
    if args.weights is not None or args.random_weights is not None:
        chosen = weights_from(args, config)
    named = None if chosen else named_folder(args)
    folder = named or BUILD / config.name
    with locked_folder(folder):
        if chosen or (named is None and build_of(folder) != config):
            make_current(folder, chosen or weights_from(args, config))
        elif load_build(folder).generator != generator_digest():
            note(f"another version of the generator wrote {folder}/")
        path = write_page(folder, BUILD)
    print(f"written to {path}")
    return 0
