"""Progress lines on stderr for commands that run long."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

# Seconds until a step counts as long, and between its lines on a terminal and in a log file.
PATIENCE, TERMINAL_INTERVAL, LOG_INTERVAL = 2.0, 1.0, 30.0
# The process whose long steps are shown: a command's, neither one of its workers nor a program that imports this.
_shown_process = None


def show_elapsed() -> None:
    """Let :func:`elapsed` print in this process from now on."""
    global _shown_process
    _shown_process = os.getpid()


@contextlib.contextmanager
def elapsed(text: str) -> Iterator[None]:
    """Show on stderr what a long step does and how many seconds it has taken so far.

    Nothing is printed for a step that ends within :data:`PATIENCE` seconds, or without :func:`show_elapsed`.
    """
    if _shown_process != os.getpid():
        yield
        return
    # Taken now: the step itself may redirect its output.
    stream, began, done, lines = sys.stderr, time.monotonic(), threading.Event(), 0
    terminal = stream.isatty()

    def show(end: str) -> None:
        print(f"{text}: {time.monotonic() - began:.0f} s", end=end, file=stream, flush=True)

    def tick() -> None:
        nonlocal lines
        wait = PATIENCE
        while not done.wait(wait):
            show("\r" if terminal else "\n")
            lines, wait = lines + 1, TERMINAL_INTERVAL if terminal else LOG_INTERVAL

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if lines:
            show("\n")


class Progress:
    """A line with the number of finished steps, a status text, the elapsed time and the time left.

    On a terminal it is one moving line, updated at most twice per second.  A log file gets a new line every half
    minute.  The line of the last step is always printed.

    Parameters
    ----------
    total : int
        Number of steps.
    start : int
        Number of steps that were finished before, in a run that continues another.
    label : str
        Name of the work in front of the line.
    unit : str
        Name of a step.
    """

    def __init__(self, total: int, start: int = 0, label: str = "", unit: str = "step"):
        self.total, self.start = total, start
        self._head = f"{label}  {unit}" if label else unit
        self._began, self._shown = time.monotonic(), 0.0

    def show(self, step: int, text: str, always: bool = False) -> None:
        """Report that ``step`` steps are finished; ``always`` prints the line even if the last one is recent."""
        now = time.monotonic()
        stays = always or step >= self.total
        if not stays and now - self._shown < (0.5 if sys.stderr.isatty() else 30.0):
            return
        self._shown = now
        elapsed = now - self._began
        times = f"{_clock(elapsed)} elapsed"
        if step > self.start:
            times += f", {_clock(elapsed / (step - self.start) * (self.total - step))} left"
        end = "\r" if sys.stderr.isatty() and not stays else "\n"
        line = "  ".join(filter(None, (f"{self._head} {step}/{self.total}", text, times)))
        print(f"{line:<78}", end=end, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
