"""Compare the build folders of two versions of the generator, file by file, apart from modules renamed on purpose.

usage: python tests/compare_builds.py BEFORE AFTER [OLD=NEW ...]

Each OLD=NEW is a Verilog module whose name changed.  The digest of the generator's own sources in ``config.json`` is
left out, since it changes with every edit; fingerprints, weights, vectors, ports and reports must be byte-identical.
Prints a line per difference; the exit status is 1 if there is any.
"""

import re
import sys
from pathlib import Path


def comparable(path: Path, renamed: dict[str, str]) -> bytes:
    """A file's content with old module names replaced and the generator's digest blanked."""
    content = path.read_bytes()
    if path.suffix == ".v":
        for old, new in renamed.items():
            content = re.sub(rb"\b%s\b" % re.escape(old).encode(), new.encode(), content)
    if path.name == "config.json":
        content = re.sub(rb'("generator": )"[0-9a-f]+"', rb'\1""', content)
    return content


def differences(before: Path, after: Path, renamed: dict[str, str]) -> list[str]:
    """One line per file that is missing on a side or differs."""
    names = {path.relative_to(root) for root in (before, after) for path in root.rglob("*") if path.is_file()}
    found = []
    for name in sorted(names):
        if not (before / name).is_file() or not (after / name).is_file():
            found.append(f"{name}: only in one of the two folders")
        elif comparable(before / name, renamed) != comparable(after / name, {}):
            found.append(f"{name}: differs")
    return found


def main(argv: list[str]) -> int:
    """Compare two folders and print what differs."""
    if len(argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    before, after, *pairs = argv
    found = differences(Path(before), Path(after), dict(pair.split("=", 1) for pair in pairs))
    print("\n".join(found) if found else "identical")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
