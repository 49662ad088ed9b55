"""A process of its own around pyosys: runs the passes of a file, one per line.

Yosys ends its process on an error, holds on to its memory, and prints: none of that suits the command itself.
"""

import sys
from pathlib import Path


def command(script: Path) -> list[str]:
    """What to run for the passes of a file."""
    # Without the folder of this file on the path: its neighbours are not for Yosys.
    return [sys.executable, "-P", str(Path(__file__).resolve()), str(script)]


def main() -> int:
    """Run every pass of the file named by the only argument."""
    from pyosys import libyosys

    design = libyosys.Design()
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        if line.strip():
            libyosys.run_pass(line, design)
    return 0


if __name__ == "__main__":
    sys.exit(main())
