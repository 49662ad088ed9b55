"""To do what a float layer does: its h of every step is the target, real inputs are the data, no labels are needed."""

import hashlib
from typing import NamedTuple

import numpy as np
import torch

from chessrnn.model.imported.float_evaluation import State, initial_state, relative_error, run_layer
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.training.tasks.base import Batch, Task

CHUNK = 256


def first_state(layer: RecurrentLayer, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(h, c) that a layer of one direction begins with, as the trainer has them: see :func:`as_pair`."""
    return tuple(torch.from_numpy(part.copy()).float() for part in as_pair(initial_state(layer, batch)))


def as_pair(state: State) -> tuple[np.ndarray, np.ndarray]:
    """(h, c) of one direction, (B, P or H) and (B, H); of a cell that is no LSTM h twice."""
    return state.h[0], state.h[0] if state.c is None else state.c[0]


def pieces(steps: int, count: int) -> list[slice]:
    """``count`` pieces of equal length that cover a sequence; the last one begins within the one before it."""
    length = -(-steps // count)
    return [slice(start, start + length) for start in (min(n * length, steps - length) for n in range(count))]


def side_by_side(values: np.ndarray, parts: list[slice]) -> np.ndarray:
    """(T, B, …) → (length, count·B, …): piece n of sequence b is stream n·B + b."""
    return np.concatenate([values[part] for part in parts], axis=1)


def cut(layer: RecurrentLayer, fed: np.ndarray, parts: list[slice]):
    """What a float layer of one direction makes of the pieces of sequences, and the states that they begin with.

    Parameters
    ----------
    fed : array (T, B, X)
        What the layer reads in the float network.
    parts : list of slice
        See :func:`pieces`.

    Returns
    -------
    h : array (length, count·B, P or H)
        As :func:`side_by_side`.
    state : (h, c)
        That the streams begin with, (count·B, …).
    """
    steps, batch = fed.shape[:2]
    state, outputs, begins = initial_state(layer, batch), [], []
    edges = [*(part.start for part in parts), steps]
    for start, stop in zip(edges, edges[1:], strict=False):
        begins.append(as_pair(state))
        h, state = run_layer(layer, fed[start:stop], np.full(batch, stop - start), state)
        outputs.append(h)
    state = tuple(np.concatenate(part) for part in zip(*begins, strict=True))
    return side_by_side(np.concatenate(outputs), parts), state


def outputs(network, inputs: np.ndarray, state) -> np.ndarray:
    """h (T, B, P or H) of a trained layer as it is now, some steps at a time: long sequences fill no memory."""
    parts = []
    for start in range(0, len(inputs), CHUNK):
        h, state = network.logits(inputs[start : start + CHUNK].astype(np.float32), state)
        parts.append(h)
    return np.concatenate(parts)


class Flow(NamedTuple):
    """What a layer reads on the same data in two networks.

    Attributes
    ----------
    original : array (T, B, X)
        In the float network.
    compressed : array (T, B, X), or X padded to blocks
        In the one that is trained.
    """

    original: np.ndarray
    compressed: np.ndarray

    @property
    def batch(self) -> int:
        """B."""
        return self.original.shape[1]

    @property
    def lengths(self) -> np.ndarray:
        """Of the sequences, (B,)."""
        return np.full(self.batch, len(self.original))


class ImitationTask(Task):
    """One layer of one direction.

    Parameters
    ----------
    layer : RecurrentLayer
        The float layer.
    learnt, held_out : Flow
        Data of training and of validation.
    size : int
        Sequences of an update that are wanted.
    segment : int
        Steps of truncated back-propagation, at most.
    """

    name, metric = "imitation", "error_percent"
    num_outputs = None
    judges_start = True

    def __init__(self, layer: RecurrentLayer, learnt: Flow, held_out: Flow, size: int, segment: int):
        steps = len(learnt.original)
        parts = pieces(steps, max(1, min(-(-size // learnt.batch), steps // segment)))
        h, state = cut(layer, learnt.original, parts)
        self._inputs = torch.from_numpy(side_by_side(learnt.compressed, parts)).float()
        self._targets = torch.from_numpy(h).float()
        self._state = tuple(torch.from_numpy(part).float() for part in state)
        self._scale = float(self._targets.square().mean()) or 1.0
        self._held_out = held_out.compressed.astype(np.float32)
        self._wanted, _ = run_layer(layer, held_out.original, held_out.lengths)
        self._first = first_state(layer, held_out.batch)
        self.num_features, self.segment = learnt.compressed.shape[2], segment
        digest = hashlib.sha256()
        for values in (self._inputs, self._targets, *self._state, torch.from_numpy(self._held_out)):
            digest.update(values.contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def batch(self, update: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """A segment of some streams; the same streams go on until their end, then it is the turn of the next ones."""
        total, count = self._inputs.shape[:2]
        segments, groups = -(-total // self.segment), -(-count // size)
        number, group = update % segments, update // segments % groups
        # The last group is as large as the others: some streams come twice.
        first = min(group * size, max(0, count - size))
        chosen = slice(first + rank, min(first + size, count), world)
        steps = slice(number * total // segments, (number + 1) * total // segments)
        state = tuple(part[chosen] for part in self._state)
        return Batch(self._inputs[steps, chosen], self._targets[steps, chosen], number > 0, state)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean square of the difference, of the mean square of h."""
        return (logits - batch.targets.to(logits.dtype)).square().mean() / self._scale

    def measure(self, model, split: str) -> dict[str, float]:
        """Root of the same, in percent, over what is held out."""
        h = outputs(model, self._held_out, self._first)
        return {self.metric: 100 * relative_error(h, self._wanted)}
