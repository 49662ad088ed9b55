"""Distillation: a network learns from the predictions of another one, its teacher (Hinton et al. 2015)."""

import torch
from torch import nn


def distillation_loss(
    logits: torch.Tensor, teacher_logits: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the mean divergence of a network's distribution from its teacher's, in nats.

    Parameters
    ----------
    logits, teacher_logits : tensor (..., V)
        Logits of both networks for the same inputs.
    mask : tensor that broadcasts to (...), optional
        True where the logits count, as at the steps before the padding of a sequence; ``None`` counts all of them.

    Examples
    --------
    >>> logits = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> float(distillation_loss(logits, logits))
    0.0
    """
    target = nn.functional.log_softmax(teacher_logits.detach().float(), dim=-1)
    found = nn.functional.log_softmax(logits.float(), dim=-1)
    divergence = nn.functional.kl_div(found, target, reduction="none", log_target=True).sum(dim=-1)
    return divergence.mean() if mask is None else (divergence * mask).sum() / mask.sum()
