"""Spoken digits: the task is to recognize one of ten from the logits averaged over the utterance."""

import numpy as np
import torch
from torch import nn

from chessrnn.model.training.tasks import fsdd
from chessrnn.model.training.tasks.base import Batch, Task

EVALUATION_BATCH = 100


class DigitTask(Task):
    """Task of recognizing spoken digits.

    Parameters
    ----------
    recordings : list of Recording
    held_out : str or None
        Speaker whose recordings are the test set; ``None`` is the official split.
    augmentation : str
        Augmentation of the training data, one of ``fsdd.AUGMENTATIONS``.
    """

    metric = "error_percent"
    num_outputs = 10
    num_features = fsdd.NUM_FEATURES

    def __init__(self, recordings: list[fsdd.Recording], held_out: str | None = None, augmentation: str = "noise"):
        self.name, self.augmentation = fsdd.task_name("digits", held_out, augmentation), augmentation
        self.parts = fsdd.split(recordings, held_out)
        self.fingerprint = fsdd.fingerprint(self.parts)
        self._batches = fsdd.Batches(self.parts["train"])

    def batch(self, update: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """Load padded recordings with the targets (digits, lengths)."""
        part = self._batches(update, size, rank, world)
        inputs, lengths = fsdd.augmented(*fsdd.pad(part), self.augmentation, update, rank)
        return Batch(inputs, (torch.tensor([recording.digit for recording in part]), lengths), False)

    def distillation_mask(self, batch: Batch) -> torch.Tensor:
        """Mark the steps before the padding."""
        return torch.arange(len(batch.inputs))[:, None] < batch.targets[1]

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Compute the cross entropy of the mean logits."""
        digits, lengths = batch.targets
        mask = self.distillation_mask(batch)[..., None]
        mean = (logits.float() * mask).sum(dim=0) / lengths[:, None]
        return nn.functional.cross_entropy(mean, digits)

    def measure(self, model, split: str) -> dict[str, float]:
        """Measure the percentage of recordings taken for another digit; the loss breaks ties between checkpoints."""
        part = sorted(self.parts[split], key=lambda recording: len(recording.features))
        wrong, loss = 0, 0.0
        for start in range(0, len(part), EVALUATION_BATCH):
            some = part[start : start + EVALUATION_BATCH]
            inputs, lengths = fsdd.pad(some)
            logits, _ = model.logits(inputs.numpy())
            mask = (np.arange(len(inputs))[:, None] < lengths.numpy())[..., None]
            mean = torch.from_numpy((logits * mask).sum(axis=0) / lengths.numpy()[:, None])
            digits = torch.tensor([recording.digit for recording in some])
            wrong += int((mean.argmax(dim=1) != digits).sum())
            loss += float(nn.functional.cross_entropy(mean, digits, reduction="sum"))
        return {"error_percent": 100 * wrong / len(part), "loss": loss / len(part), "recordings": len(part)}
