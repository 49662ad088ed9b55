"""The interface of a task: data, splits, loss, and a metric that is measured on logits alone.

A task knows neither torch networks nor integers: :meth:`Task.measure` takes anything with the method
``logits(inputs, state)``, which both ``SequenceNetwork`` (float) and ``SequenceModel`` (the integer reference) have.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """One update's worth of data.

    Attributes
    ----------
    inputs : int64 (T, B), or float32 (T, B, X)
    targets
        Whatever the task's loss takes.
    carries_state : bool
        The sequences continue those of the batch before.
    state : (h, c) or None
        That other sequences begin with; ``None`` is zero.
    """

    inputs: torch.Tensor
    targets: object
    carries_state: bool
    state: tuple[torch.Tensor, torch.Tensor] | None = None


class Task(ABC):
    """Attributes
    ----------
    name : str
    metric : str
        The figure of :meth:`measure` that is compared; less is better.
    num_outputs : int or None
        V; ``None``: h itself is the result.
    num_symbols : int or None
        Rows of the embedding; ``None`` where inputs are real vectors.
    num_features : int or None
        Elements of those vectors.
    judges_start : bool
        Whether the parameters that a stage begins with may be its best.
    fingerprint : str
        Identifies data and split: a checkpoint of other data is refused.
    """

    name: str
    metric: str
    num_outputs: int | None
    num_symbols: int | None = None
    num_features: int | None = None
    judges_start: bool = False
    fingerprint: str

    @abstractmethod
    def batch(self, update: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """Training data of one update: share ``rank`` of ``world`` of its ``size`` sequences; decided by ``update``."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean loss in nats."""

    def distillation_mask(self, batch: Batch) -> torch.Tensor | None:
        """(T, B) steps whose logits mean something; ``None`` for all."""
        return None

    @abstractmethod
    def measure(self, model, split: str) -> dict[str, float]:
        """Figures by name over the whole ``"validation"`` or ``"test"`` split."""

    def score(self, figures: dict[str, float]) -> float:
        """What the best network has least of: the metric, and of networks that are equal in it the loss."""
        return figures[self.metric] + 1e-3 * figures.get("loss", 0.0)
