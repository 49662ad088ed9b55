"""Value change dumps: the settled value of every bit in every clock cycle."""

import re
from pathlib import Path

_VARIABLE = re.compile(r"\$var\s+\w+\s+(\d+)\s+(\S+)\s+(\S+?)\s*(?:\[(\d+)(?::(\d+))?\])?\s+\$end")


class Waveforms:
    """A dump with a clock.

    Parameters
    ----------
    path : Path
        VCD file.
    clock : str
        Name of the clock in the outermost scope; a cycle ends just before its rising edge.

    Attributes
    ----------
    cycles : int
    """

    def __init__(self, path: Path, clock: str = "clk"):
        self._codes: dict[tuple[str, str], tuple[str, int]] = {}
        self._changes: dict[str, list[tuple[int, str]]] = {}
        self._bits: dict[str, list[int]] = {}
        self.cycles = 0
        with path.open(encoding="ascii", errors="replace") as lines:
            self._read_header(lines)
            self._read_changes(lines, clock)

    def _read_header(self, lines) -> None:
        scopes: list[str] = []
        for line in lines:
            words = line.split()
            if not words:
                continue
            if words[0] == "$scope":
                scopes.append(words[2].lstrip("\\"))
            elif words[0] == "$upscope":
                scopes.pop()
            elif words[0] == "$var" and (match := _VARIABLE.match(line.strip())):
                width, code, name = int(match[1]), match[2], match[3].lstrip("\\")
                self._codes[".".join(scopes), name] = (code, width)
            elif words[0] == "$enddefinitions":
                return

    def _read_changes(self, lines, clock: str) -> None:
        top = min((scope for scope, _ in self._codes), key=len, default="")
        code = self._codes.get((top, clock), ("", 0))[0]
        wanted = {entry[0] for entry in self._codes.values()}
        block: list[tuple[str, str]] = []
        level = "0"
        for line in lines:
            first = line[0]
            if first == "#":
                level = self._apply(block, code, level)
                block = []
            elif first in "bB":
                value, name = line[1:].split()
                if name in wanted:
                    block.append((name, value))
            elif first in "01xXzZ":
                block.append((line[1:].strip(), first))
        self._apply(block, code, level)

    def _apply(self, block: list[tuple[str, str]], clock: str, level: str) -> str:
        for name, value in block:
            if name == clock:
                if value == "1" and level != "1":
                    self.cycles += 1
                level = value
        for name, value in block:
            self._changes.setdefault(name, []).append((self.cycles, value))
        return level

    def bit(self, scope: str, name: str, index: int) -> int | None:
        """Bit t is the value at the end of cycle t; ``None`` for an unknown name.  Unknown values are 0."""
        code, width = self._codes.get((scope, name), (None, 0))
        if code is None or index >= width:
            return None
        if code not in self._bits:
            rows = []
            value = "0" * width
            changes = self._changes.get(code, [])
            at = 0
            for cycle in range(self.cycles + 1):
                while at < len(changes) and changes[at][0] <= cycle:
                    value = re.sub("[xXzZ]", "0", changes[at][1]).rjust(width, "0")
                    at += 1
                rows.append(value)
            rows.reverse()
            self._bits[code] = [int("".join(column), 2) for column in zip(*rows, strict=True)][::-1]
        return self._bits[code][index]


def toggles(wave: int, first: int, last: int) -> int:
    """Changes of a bit from cycle ``first`` to cycle ``last``."""
    window = (wave >> first) & ((1 << (last - first + 1)) - 1)
    return ((window ^ (window >> 1)) & ((1 << (last - first)) - 1)).bit_count()
