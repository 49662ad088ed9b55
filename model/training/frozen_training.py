"""Training of compressed recurrent layers through the frozen layers around them: the float model teaches, no labels.

Everything that is drawn depends on the seed and on the number of the round alone, and a checkpoint is written between
rounds, so that a run that was stopped continues with the same numbers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.training.checkpoint import load_checkpoint, save_checkpoint
from chessrnn.model.training.recurrent_modules import Recurrent

# Weight of the error of h beside the cross entropy of the output: h guides a layer that has lost everything.
GUIDANCE = 0.3
# Last learning rate as a share of the first; largest norm of a gradient; rounds between two checkpoints.
FINAL_RATE, MAX_GRADIENT, CHECKPOINT_ROUNDS = 0.02, 1.0, 4
# Standard deviation of the level of features, in powers of two.
LEVEL_SPREAD = 0.4
EXTRA = "_extra_state"


class FrozenModel(Protocol):
    """A float model that is cut at its recurrent layers, whose outputs are probabilities or shares."""

    @property
    def recurrent(self) -> nn.Module:
        """Float layers, which read features (T, B, X)."""
        ...

    def features(self, samples: np.ndarray) -> torch.Tensor:
        """Compute what the recurrent layers read from samples (B, N)."""
        ...

    def logits(self, h: torch.Tensor) -> torch.Tensor:
        """Compute the outputs before the logistic function from h (T, B, H)."""
        ...


class Lesson(NamedTuple):
    """One stage of training.

    Attributes
    ----------
    stage : str
        ``"float"`` or ``"quantized"``.
    updates : int
    rate : float
        First learning rate of Adam; it falls along half a cosine.
    batch, segment : int
        Streams per update, and steps of truncated back-propagation; the state goes on through all of a stream.
    seed : int
    """

    stage: str
    updates: int
    rate: float
    batch: int = 32
    segment: int = 50
    seed: int = 0


@torch.no_grad()
def varied(features: torch.Tensor, batch: int, draw: torch.Generator) -> torch.Tensor:
    """Choose streams (T, B, X), half of them mixed with another one, all at other levels.

    The float model answers whatever it hears, so that such mixtures teach as much as sounds do.
    """
    first, second = (torch.randperm(features.shape[1], generator=draw)[:batch] for _ in range(2))
    size = len(first)
    share = torch.rand(size, 1, generator=draw)
    share = torch.where(torch.rand(size, 1, generator=draw) < 0.5, torch.ones(()), share)
    level = torch.exp2(LEVEL_SPREAD * torch.randn(size, 1, generator=draw))
    return (share * features[:, first] + (1 - share) * features[:, second]) * level


def train(
    compressed: Recurrent,
    model: FrozenModel,
    features: torch.Tensor,
    lesson: Lesson,
    path: Path,
    identity: dict[str, object],
    show: Callable[[int, float], None],
) -> None:
    """Train compressed layers in one stage, in place; continue from a checkpoint where there is one.

    Parameters
    ----------
    compressed : Recurrent
        Calibrated module.
    model : FrozenModel
        The float model, which teaches, and whose last layers the gradient passes.
    features : float tensor (T, B, X)
        What the recurrent layers read from the streams to train with.
    lesson : Lesson
    path : Path
        The checkpoint.
    identity : dict
        What the checkpoint must belong to, as JSON values.
    show : callable
        Function of the number of updates and the present loss.

    Raises
    ------
    InvalidFileError
        The checkpoint is damaged.
    """
    steps = len(features)
    compressed.stage(lesson.stage)
    # Matrices that a gate does not read are zero, and stay so.
    parameters = [parameter for parameter in compressed.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lesson.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda update: FINAL_RATE + (1 - FINAL_RATE) * (1 + _cosine(update / lesson.updates)) / 2
    )
    text = json.dumps(identity | lesson._asdict(), sort_keys=True)
    rounds, updates = _resume(path, text, compressed, optimizer, schedule)
    compressed.train()
    while updates < lesson.updates:
        draw = torch.Generator().manual_seed(lesson.seed * 1_000_003 + rounds)
        x = varied(features, lesson.batch, draw)
        with torch.no_grad():
            taught = model.recurrent(x)[0]
            wanted = torch.sigmoid(model.logits(taught))
        state = None
        for first in range(0, steps, lesson.segment):
            part = slice(first, first + lesson.segment)
            h, state = compressed(x[part], state)
            state = tuple(one.detach() for one in state) if isinstance(state, tuple) else state.detach()
            loss = nn.functional.binary_cross_entropy_with_logits(model.logits(h), wanted[part])
            loss = loss + GUIDANCE * (h - taught[part]).pow(2).mean() / taught.pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT)
            optimizer.step()
            schedule.step()
            updates += 1
            show(min(updates, lesson.updates), float(loss.detach()))
            if updates >= lesson.updates:
                break
        rounds += 1
        if rounds % CHECKPOINT_ROUNDS == 0 or updates >= lesson.updates:
            content = {"identity": text, "rounds": rounds, "updates": updates, "lstm": dict(compressed.state_dict()),
                       "optimizer": optimizer.state_dict(), "schedule": schedule.last_epoch}  # fmt: skip
            save_checkpoint(path, content)
    compressed.eval()


def _cosine(share: float) -> float:
    return float(torch.cos(torch.tensor(torch.pi * min(1.0, share))))


def _resume(path: Path, text: str, compressed: Recurrent, optimizer, schedule) -> tuple[int, int]:
    """Load the checkpoint of the same training; return its rounds and updates, zeros where there is none."""
    if not path.exists():
        return 0, 0
    kinds = {"identity": str, "rounds": int, "updates": int, "lstm": dict, "optimizer": dict, "schedule": int}
    content = load_checkpoint(path, kinds)
    if content["identity"] != text:
        return 0, 0
    try:
        compressed.load_state_dict(content["lstm"])
        optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InvalidFileError(f"{path} must be a checkpoint of this network: {reason}") from None
    schedule.last_epoch = content["schedule"]
    for group, base, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * factor(schedule.last_epoch)
    return content["rounds"], content["updates"]


def copied_weights(source: Recurrent, target: Recurrent) -> Recurrent:
    """Give the parameters of a module to one of another width of weights, whose formats stay its own; return it."""
    own = target.state_dict()
    target.load_state_dict({name: own[name] if name.endswith(EXTRA) else value
                            for name, value in source.state_dict().items()})  # fmt: skip
    return target
