"""The interface of a task: data, splits, loss, and a metric that depends on logits alone.

A task knows neither torch networks nor integers: :meth:`Task.measure` takes anything with the method
``logits(inputs, state)``, which both ``SequenceNetwork`` (float) and ``SequenceModel`` (the integer reference) have.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch


class Batch(NamedTuple):
    """Data of one update.

    Attributes
    ----------
    inputs : int64 (T, B), or float32 (T, B, X)
    targets
        Targets in the form that the task's loss takes.
    carries_state : bool
        Whether the sequences continue those of the batch before.
    state : (h, c) or None
        State that sequences begin with where they do not continue others; ``None`` is zero.
    """

    inputs: torch.Tensor
    targets: Any
    carries_state: bool
    state: tuple[torch.Tensor, torch.Tensor] | None = None


class Task(ABC):
    """A task: training data, a loss, and a metric on held-out data.

    Attributes
    ----------
    name : str
    metric : str
        Name of the figure of :meth:`measure` that is compared; less is better.
    num_outputs : int or None
        V; ``None`` where h itself is the result.
    num_symbols : int or None
        Rows of the embedding; ``None`` where inputs are real vectors.
    num_features : int or None
        Elements of a real input vector.
    judges_start : bool
        Whether the parameters that a stage begins with are candidates for its best.
    fingerprint : str
        Hash of data and split: a checkpoint of other data is rejected.
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
        """Load share ``rank`` of ``world`` of an update's ``size`` sequences, which ``update`` alone determines."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Compute the mean loss in nats."""

    def distillation_mask(self, batch: Batch) -> torch.Tensor | None:
        """Mark the steps (T, B) whose logits mean something; ``None`` stands for all of them."""
        return None

    @abstractmethod
    def measure(self, model, split: str) -> dict[str, float]:
        """Measure figures by name over the whole ``"validation"`` or ``"test"`` split."""

    def score(self, figures: dict[str, float]) -> float:
        """Score a network, less is better: by the metric, and among networks that are equal in it by the loss."""
        return figures[self.metric] + 1e-3 * figures.get("loss", 0.0)
