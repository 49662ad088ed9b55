"""Measure the small designs of the area tests, and store the figures as the baseline of the installed tools."""

import json
import sys

from chessrnn.model.files import write_atomic
from chessrnn.scripts.cli import command_parser
from chessrnn.sim.synthesis.baseline import DESIGNS, baseline_file, measure, name, read_baseline, regressions


def main(argv: list[str] | None = None) -> int:
    """Measure every design, print its changes, and write the baseline."""
    parser = command_parser("bless", __doc__, "example: chessrnn bless")
    parser.parse_args(argv)
    path = baseline_file()
    before = read_baseline(path) if path.exists() else {}
    now = {}
    for engine, arithmetic in DESIGNS:
        design = name(engine, arithmetic)
        print(f"measuring {design}", file=sys.stderr)
        found = now[design] = measure(engine, arithmetic)
        old = before.get(design)
        change = f", {found['gates'] - old['gates']:+,.0f}" if old else ""
        print(f"{design}: {found['gates']:,.0f} gates{change}, {found['depth']} cells deep")
        for text in regressions(old, found) if old else ():
            print(f"  {text}")
    write_atomic(path, json.dumps(now, indent=1) + "\n")
    print(f"written to {path.parent.parent.name}/{path.parent.name}/{path.name}")
    return 0
