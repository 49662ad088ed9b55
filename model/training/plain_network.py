"""The same network as a plain PyTorch script would train it: the yardstick of the study's dense baseline.

Nothing here is shared with the trainer of this package except the data, so that a fault of its recipe shows: modules of
``torch.nn``, Adam with one cosine, gradients that are clipped, no validation, and the last parameters count.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import Interrupted, InvalidFileError, shortened
from chessrnn.model.progress import Progress
from chessrnn.model.training.checkpoint import load_checkpoint, save_checkpoint
from chessrnn.model.training.pipeline import DivergedError, compare, is_main_process
from chessrnn.model.training.tasks.base import Task

# Module of ``torch.nn`` for each cell that has one, with its further arguments.
MODULES: dict[str, tuple[Any, dict[str, str]]] = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}
GRADIENT_NORM = 1.0
CHECKPOINT = {
    "script": dict, "step": int, "network": dict, "optimizer": dict, "state": object,
}  # fmt: skip


@dataclass(frozen=True)
class PlainScript:
    """Everything that determines the result of the script.

    Parameters
    ----------
    cell : str
        One of :data:`MODULES`.
    input_size, hidden_size : int
    updates, batch : int
    learning_rate : float
        First value of a cosine that ends at zero.
    reset_every : int or None
        Updates between two resets of the states of all streams of a text.
    seed : int
    """

    cell: str
    input_size: int
    hidden_size: int
    updates: int
    batch: int
    learning_rate: float
    reset_every: int | None
    seed: int

    @property
    def module_name(self) -> str:
        """Name of the module as a user writes it."""
        return f"nn.{MODULES[self.cell][0].__name__}"


class PlainNetwork(nn.Module):
    """Embedding where the task has symbols, one recurrent module, one linear layer."""

    def __init__(self, script: PlainScript, task: Task):
        super().__init__()
        torch.manual_seed(script.seed)
        kind, more = MODULES[script.cell]
        assert task.num_outputs is not None
        self.embedding = None if task.num_symbols is None else nn.Embedding(task.num_symbols, script.input_size)
        self.recurrent = kind(script.input_size, script.hidden_size, **more)
        self.output = nn.Linear(script.hidden_size, task.num_outputs)

    def forward(self, inputs: torch.Tensor, state=None):
        """Compute logits (T, B, V) and the final state."""
        x = inputs if self.embedding is None else self.embedding(inputs)
        h, state = self.recurrent(x, state)
        return self.output(h), state

    @torch.no_grad()
    def logits(self, inputs: np.ndarray, state=None) -> tuple[np.ndarray, object]:
        """Compute logits as :meth:`.tasks.base.Task.measure` asks for them."""
        result, state = self(torch.from_numpy(np.ascontiguousarray(inputs)), state)
        return result.double().numpy(), state


def _detached(state):
    """Cut a state of one tensor or of a pair of them from the graph of its update."""
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def train_plain(script: PlainScript, task: Task, folder: Path, evaluate_every: int = 250) -> PlainNetwork:
    """Run the script, or what is left of it, with a checkpoint like those of the stages.

    Raises
    ------
    DivergedError
        The loss is not finite.
    InvalidFileError
        The checkpoint is damaged, or of another script.
    Interrupted
        The user pressed Ctrl-C; the checkpoint was written before.
    """
    path = folder / "plain.pt"
    network = PlainNetwork(script, task)
    optimizer = torch.optim.Adam(network.parameters(), lr=script.learning_rate)
    description = {"task": task.name, "data": task.fingerprint, **asdict(script)}
    step, state = 0, None
    if path.is_file():
        content = load_checkpoint(path, CHECKPOINT)
        compare(path, description, content["script"])
        try:
            network.load_state_dict(content["network"])
            optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = shortened(" ".join(str(error).split()))
            raise InvalidFileError(f"{path} must be a checkpoint of this version: {reason}") from None
        step, state = content["step"], content["state"]

    def save() -> None:
        if is_main_process():
            save_checkpoint(path, {
                "script": description, "step": step, "network": network.state_dict(),
                "optimizer": optimizer.state_dict(), "state": state,
            })  # fmt: skip

    progress = Progress(script.updates, step, "plain")
    try:
        while step < script.updates:
            for group in optimizer.param_groups:
                group["lr"] = script.learning_rate * (1 + math.cos(math.pi * step / script.updates)) / 2
            batch = task.batch(step, script.batch)
            if not batch.carries_state or (script.reset_every and step % script.reset_every == 0):
                state = None
            logits, new_state = network(batch.inputs, state)
            loss = task.loss(logits, batch)
            if not math.isfinite(float(loss.detach())):
                raise DivergedError(
                    f"loss must be finite, not {float(loss.detach())} at step {step} of the plain script"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimizer.step()
            state, step = _detached(new_state), step + 1
            if step % evaluate_every == 0 or step == script.updates:
                save()
            if is_main_process():
                progress.show(step, f"loss {float(loss.detach()):.3f}", always=step == script.updates)
    except KeyboardInterrupt:
        save()
        raise Interrupted(path, step) from None
    return network
