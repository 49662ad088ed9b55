"""Lines about long steps: in a log file, on a terminal, and not at all."""

import io
import re
import sys
import time

import pytest

from chessrnn.model import progress


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch):
    """Steps count as long at once, and lines are due every moment."""
    for name in ("PATIENCE", "TERMINAL_INTERVAL", "LOG_INTERVAL"):
        monkeypatch.setattr(progress, name, 0.01)
    monkeypatch.setattr(progress, "_shown_process", None)
    progress.show_elapsed()


@pytest.mark.parametrize(("kind", "end"), [(io.StringIO, "\n"), (Terminal, "\r")])
def test_a_long_step_has_lines_with_seconds(shown, monkeypatch, kind, end):
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.elapsed("compiling"):
        # What the step does with its own output is no matter.
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        deadline = time.monotonic() + 60
        while stream.getvalue().count(end) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert re.fullmatch(rf"(compiling: \d+ s{end}){{3,}}compiling: \d+ s\n", stream.getvalue())


def test_a_failing_step_ends_its_line(shown, capsys):
    def step():
        with progress.elapsed("compiling"):
            time.sleep(0.1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        step()
    assert capsys.readouterr().err.endswith(" s\n")


@pytest.mark.parametrize("process", [None, -1])
def test_silent_in_other_processes(shown, monkeypatch, capsys, process):
    monkeypatch.setattr(progress, "_shown_process", process)
    with progress.elapsed("compiling"):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_short_step_is_silent(shown, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    with progress.elapsed("compiling"):
        pass
    assert capsys.readouterr().err == ""
