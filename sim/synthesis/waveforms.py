"""Value change dumps: the value of every bit at the end of every clock cycle."""

import io
import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from vcd.reader import TokenKind, tokenize

END_OF_HEADER = "$enddefinitions"


class Waveforms:
    """Values in a dump with a clock.

    Parameters
    ----------
    path : Path
        VCD file.
    clock : str
        Name of the clock in the outermost scope; a cycle ends just before its rising edge.

    Attributes
    ----------
    cycles : int
        Number of rising edges of the clock.
    """

    def __init__(self, path: Path, clock: str = "clk"):
        self._codes: dict[tuple[str, str], tuple[str, int]] = {}
        self._changes: dict[str, list[tuple[int, str]]] = {}
        self._bits: dict[str, list[int]] = {}
        self.cycles = 0
        with path.open(encoding="ascii", errors="replace") as lines:
            header = takewhile(lambda line: not line.startswith(END_OF_HEADER), lines)
            self._read_header("".join(header))
            self._read_changes(lines, clock)

    def _read_header(self, header: str) -> None:
        scopes: list[str] = []
        for token in tokenize(io.BytesIO(header.encode("ascii", "replace"))):
            if token.kind is TokenKind.SCOPE:
                scopes.append(token.scope.ident.lstrip("\\"))
            elif token.kind is TokenKind.UPSCOPE:
                scopes.pop()
            elif token.kind is TokenKind.VAR:
                name = token.var.reference.lstrip("\\")
                self._codes[".".join(scopes), name] = (token.var.id_code, token.var.size)

    def _read_changes(self, lines: Iterable[str], clock: str) -> None:
        # pyvcd makes an object of every change, which takes six times as long as this loop.
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
        """Values of one bit, bit t for the end of cycle t; ``None`` for an unknown name.  Unknown values are 0."""
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
    """Number of changes of a bit from cycle ``first`` to cycle ``last``."""
    window = (wave >> first) & ((1 << (last - first + 1)) - 1)
    return ((window ^ (window >> 1)) & ((1 << (last - first)) - 1)).bit_count()
