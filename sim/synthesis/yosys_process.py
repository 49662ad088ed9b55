"""Process of its own for pyosys, which runs the passes of a file, one per line.

Yosys ends its process on an error, does not free its memory, and prints, so that it is kept out of the command itself.
"""

import sys
from pathlib import Path


def command(script: Path) -> list[str]:
    """Command line that runs the passes of a file."""
    # -P keeps the folder of this file off the import path, where its modules would hide others of the same name.
    return [sys.executable, "-P", str(Path(__file__).resolve()), str(script)]


def main() -> int:
    """Run every pass of the file named by the only argument."""
    from pyosys import libyosys  # pyright: ignore[reportAttributeAccessIssue]  a compiled module without stubs

    design = libyosys.Design()
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        if line.strip():
            libyosys.run_pass(line, design)
    return 0


if __name__ == "__main__":
    sys.exit(main())
