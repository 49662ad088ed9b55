"""A progress line on stderr for commands that run long."""

import sys
import time


class Progress:
    """A line with the number of finished steps, a status text and the time left, updated at most twice per second.

    If stderr is not a terminal, a new line is printed every half minute instead.

    Parameters
    ----------
    total : int
        Number of steps.
    start : int
        Number of steps that were finished before, in a run that continues another.
    label : str
        Name of the work in front of the line.
    """

    def __init__(self, total: int, start: int = 0, label: str = ""):
        self.total, self.start, self.label = total, start, f"{label}  " if label else ""
        self.began, self.shown = time.monotonic(), 0.0

    def show(self, step: int, text: str, always: bool = False) -> None:
        """Report that ``step`` steps are finished; ``always`` prints the line even if the last one is recent."""
        now = time.monotonic()
        # A terminal shows one moving line, while a log file should stay short.
        interval = 0.5 if sys.stderr.isatty() else 30.0
        if not always and now - self.shown < interval:
            return
        self.shown = now
        left = (now - self.began) / max(1, step - self.start) * (self.total - step)
        end = "\r" if sys.stderr.isatty() and not always else "\n"
        line = f"{self.label}step {step}/{self.total}  {text}  {int(left) // 60}:{int(left) % 60:02d} left"
        print(f"{line:<78}", end=end, file=sys.stderr, flush=True)
