"""Stall patterns: the cycles in which a source or a sink pauses, the same in every simulator."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import repeat

from chessrnn.model.errors import require

KINDS = ("none", "random", "bursty")


@dataclass(frozen=True)
class StallPattern:
    """Cycles in which one side of a stream pauses.

    Parameters
    ----------
    kind : str
        ``"none"``: never; ``"random"``: every cycle is drawn independently; ``"bursty"``: runs of cycles.
    probability : float
        Share of stalled cycles, 0 <= probability < 1.
    length : int
        Mean length of a stalled run (``bursty``).
    seed : int
        Seed of the pattern; equal seeds give equal patterns.
    """

    kind: str = "none"
    probability: float = 0.0
    length: int = 1
    seed: int = 0

    def __post_init__(self):
        require(self.kind in KINDS, "stalls.kind", f"one of {', '.join(KINDS)}", self.kind)
        require(0 <= self.probability < 1, "stalls.probability", "from 0 to below 1", self.probability)
        require(self.length >= 1, "stalls.length", "at least 1", self.length)

    @property
    def never(self) -> bool:
        """Whether no cycle stalls."""
        return self.kind == "none" or self.probability == 0

    def cycles(self) -> Iterator[bool]:
        """An endless iterator with one value per cycle: whether it stalls."""
        if self.never:
            return repeat(False)
        return self._random() if self.kind == "random" else self._bursty()

    def _random(self) -> Iterator[bool]:
        draw = random.Random(self.seed).random
        while True:
            yield draw() < self.probability

    def _bursty(self) -> Iterator[bool]:
        # Two states with geometric durations; the ratio of their mean lengths gives the probability.
        draw = random.Random(self.seed).random
        leave_stall = 1.0 / self.length
        enter_stall = min(1.0, leave_stall * self.probability / (1.0 - self.probability))
        stalled = draw() < self.probability
        while True:
            yield stalled
            stalled = draw() >= leave_stall if stalled else draw() < enter_stall

    def to_dict(self) -> dict:
        """Plain JSON values, from which ``StallPattern(**values)`` makes the pattern again."""
        return asdict(self)

    def __str__(self):
        if self.never:
            return "none"
        return f"{self.kind} {self.probability:g}" + (f" x {self.length}" if self.kind == "bursty" else "")


NONE = StallPattern()
