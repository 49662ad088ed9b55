"""Measure the small designs that tests watch, and make the figures the new baseline of the installed tools."""

import argparse
import json
import sys

from model.files import write_atomic
from scripts.cli import run_command
from scripts.synthesis.baseline import ENGINES, baseline_file, measure, read_baseline, regressions


def main(argv: list[str] | None = None) -> int:
    """Measure, show what changed, write."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bless", description=__doc__, epilog="example: python -m scripts.bless"
    )
    parser.parse_args(argv)
    path = baseline_file()
    before = read_baseline(path) if path.exists() else {}
    now = {}
    for engine in ENGINES:
        print(f"measuring engine {engine}", file=sys.stderr)
        now[engine] = measure(engine)
        old = before.get(engine)
        change = f", {now[engine]['gates'] - old['gates']:+,.0f}" if old else ""
        print(f"{engine}: {now[engine]['gates']:,.0f} gates{change}, {now[engine]['depth']} cells deep")
        for text in regressions(old, now[engine]) if old else ():
            print(f"  {text}")
    write_atomic(path, json.dumps(now, indent=1) + "\n")
    print(f"written to {path.parent.parent.name}/{path.parent.name}/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, "bless"))
