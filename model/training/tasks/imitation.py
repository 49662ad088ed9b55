"""To do what a float layer does: its h of every step is the target, real inputs are the data, no labels are needed."""

import hashlib

import numpy as np
import torch

from model.imported.evaluate import State, initial_state, relative_error, run_layer
from model.imported.network import RecurrentLayer
from model.training.tasks.base import Batch, Task

CHUNK = 256


def first_state(layer: RecurrentLayer, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(h, c) that a layer of one direction begins with, as the trainer has them: see :func:`as_pair`."""
    return tuple(torch.from_numpy(part.copy()).float() for part in as_pair(initial_state(layer, batch)))


def as_pair(state: State) -> tuple[np.ndarray, np.ndarray]:
    """(h, c) of one direction, (B, P or H) and (B, H); of a cell that is no LSTM h twice."""
    return state.h[0], state.h[0] if state.c is None else state.c[0]


def cut(layer: RecurrentLayer, fed: np.ndarray, count: int):
    """Sequences cut into pieces, each with the state that it begins with.

    Parameters
    ----------
    fed : array (T, B, X)
        What the layer, of one direction, reads in the float network.
    count : int
        Pieces of each sequence, of ⌊T/count⌋ steps; what is left over at the end is in none.

    Returns
    -------
    h : array (⌊T/count⌋, count·B, P or H)
        Of the float layer; piece n of sequence b is stream n·B + b.
    state : (h, c)
        That the streams begin with.
    """
    length, batch = len(fed) // count, fed.shape[1]
    lengths, state, outputs, begins = np.full(batch, length), None, [], [as_pair(initial_state(layer, batch))]
    for piece in split(fed, count):
        h, state = run_layer(layer, piece, lengths, state)
        outputs.append(h)
        begins.append(as_pair(state))
    return np.concatenate(outputs, axis=1), tuple(np.concatenate(part) for part in zip(*begins[:-1], strict=True))


def split(values: np.ndarray, count: int) -> list[np.ndarray]:
    """The pieces of :func:`cut`."""
    length = len(values) // count
    return [values[number * length : (number + 1) * length] for number in range(count)]


def outputs(network, inputs: np.ndarray, state) -> np.ndarray:
    """h (T, B, P or H) of a trained layer as it is now, some steps at a time: long sequences fill no memory."""
    parts = []
    for start in range(0, len(inputs), CHUNK):
        h, state = network.logits(inputs[start : start + CHUNK].astype(np.float32), state)
        parts.append(h)
    return np.concatenate(parts)


class ImitationTask(Task):
    """One layer of one direction.

    Parameters
    ----------
    layer : RecurrentLayer
        The float layer.
    fed : array (T, B, X)
        What it reads in the float network.
    inputs : array (T, B, X or padded X)
        What its successor reads.
    held_out : tuple of arrays (T, B, X)
        ``fed`` and ``inputs`` of the validation.
    size : int
        Sequences of an update that are wanted.
    segment : int
        Steps of truncated back-propagation.
    """

    name, metric = "imitation", "error_percent"
    num_outputs = None

    def __init__(self, layer: RecurrentLayer, fed: np.ndarray, inputs: np.ndarray, held_out, size: int, segment: int):
        steps, batch = fed.shape[:2]
        count = max(1, min(-(-size // batch), steps // segment))
        h, state = cut(layer, fed, count)
        self._inputs = torch.from_numpy(np.concatenate(split(inputs, count), axis=1)).float()
        self._targets = torch.from_numpy(h).float()
        self._state = tuple(torch.from_numpy(part).float() for part in state)
        self._scale = float(self._targets.square().mean()) or 1.0
        validated, self._held_out = held_out[0], held_out[1].astype(np.float32)
        batch = validated.shape[1]
        self._wanted, _ = run_layer(layer, validated, np.full(batch, len(validated)))
        self._first = first_state(layer, batch)
        self.num_features, self.segment = inputs.shape[2], segment
        digest = hashlib.sha256()
        for values in (self._inputs, self._targets, *self._state, torch.from_numpy(self._held_out)):
            digest.update(values.contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def batch(self, update: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """A segment of some streams; the same streams go on until their end, then it is the turn of the next ones."""
        total, count = self._inputs.shape[:2]
        segments, groups = max(1, total // self.segment), -(-count // size)
        number, group = update % segments, update // segments % groups
        # The last group is as large as the others: some streams come twice.
        first = min(group * size, max(0, count - size))
        chosen = slice(first + rank, min(first + size, count), world)
        steps = slice(number * self.segment, (number + 1) * self.segment)
        state = tuple(part[chosen] for part in self._state)
        return Batch(self._inputs[steps, chosen], self._targets[steps, chosen], number > 0, state)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean square of the difference, of the mean square of h."""
        return (logits - batch.targets.to(logits.dtype)).square().mean() / self._scale

    def measure(self, model, split: str) -> dict[str, float]:
        """Root of the same, in percent, over what is held out."""
        h = outputs(model, self._held_out, self._first)
        return {self.metric: 100 * relative_error(h, self._wanted)}
