"""One line on stderr while something long runs."""

import sys
import time


class Progress:
    """How far, how well and how long still; silent every step but a few per second.

    Parameters
    ----------
    total, start : int
        Steps in all, and those that were done before.
    label : str
        What is being done.
    """

    def __init__(self, total: int, start: int = 0, label: str = ""):
        self.total, self.start, self.label = total, start, f"{label}  " if label else ""
        self.began, self.shown = time.monotonic(), 0.0

    def show(self, step: int, text: str, always: bool = False) -> None:
        """``step`` steps are done."""
        now = time.monotonic()
        # A log file needs a line now and then, a terminal a moving one.
        interval = 0.5 if sys.stderr.isatty() else 30.0
        if not always and now - self.shown < interval:
            return
        self.shown = now
        left = (now - self.began) / max(1, step - self.start) * (self.total - step)
        end = "\r" if sys.stderr.isatty() and not always else "\n"
        line = f"{self.label}step {step}/{self.total}  {text}  {int(left) // 60}:{int(left) % 60:02d} left"
        print(f"{line:<78}", end=end, file=sys.stderr, flush=True)
