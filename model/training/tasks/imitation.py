"""Imitation of a float layer: the targets are its h of every step on real inputs, so no labels are needed."""

import hashlib
from typing import NamedTuple

import numpy as np
import torch

from chessrnn.model.imported.float_evaluation import State, initial_state, relative_error, run_layer
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.training.tasks.base import Batch, Task

CHUNK = 256


def first_state(layer: RecurrentLayer, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the (h, c) that a layer of one direction begins with, as tensors: see :func:`state_pair`."""
    h, c = (torch.from_numpy(part.copy()).float() for part in state_pair(initial_state(layer, batch)))
    return h, c


def state_pair(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Return (h, c) of one direction, (B, P or H) and (B, H); cells other than LSTM have h in both places."""
    return state.h[0], state.h[0] if state.c is None else state.c[0]


def stream_slices(steps: int, count: int) -> list[slice]:
    """Divide a sequence into ``count`` slices of equal length; the last one overlaps the one before it where needed."""
    length = -(-steps // count)
    return [slice(start, start + length) for start in (min(n * length, steps - length) for n in range(count))]


def as_streams(values: np.ndarray, parts: list[slice]) -> np.ndarray:
    """Rearrange sequences (T, B, …) to streams (length, count·B, …): slice n of sequence b is stream n·B + b."""
    return np.concatenate([values[part] for part in parts], axis=1)


def targets_and_states(layer: RecurrentLayer, fed: np.ndarray, parts: list[slice]):
    """Run a float layer of one direction: its outputs as targets of the streams, and the states that these begin with.

    Parameters
    ----------
    fed : array (T, B, X)
        Inputs of the layer in the float network.
    parts : list of slice
        See :func:`stream_slices`.

    Returns
    -------
    h : array (length, count·B, P or H)
        Targets, arranged by :func:`as_streams`.
    state : (h, c)
        States that the streams begin with, (count·B, …) each.
    """
    steps, batch = fed.shape[:2]
    state, outputs, begins = initial_state(layer, batch), [], []
    edges = [*(part.start for part in parts), steps]
    for start, stop in zip(edges, edges[1:], strict=False):
        begins.append(state_pair(state))
        h, state = run_layer(layer, fed[start:stop], np.full(batch, stop - start), state)
        outputs.append(h)
    state = tuple(np.concatenate(part) for part in zip(*begins, strict=True))
    return as_streams(np.concatenate(outputs), parts), state


def outputs(network, inputs: np.ndarray, state) -> np.ndarray:
    """Compute h (T, B, P or H) of a trained layer, some steps at a time so that long sequences need little memory."""
    parts = []
    for start in range(0, len(inputs), CHUNK):
        h, state = network.logits(inputs[start : start + CHUNK].astype(np.float32), state)
        parts.append(h)
    return np.concatenate(parts)


class LayerInputs(NamedTuple):
    """Inputs of one layer, on the same data, in the float and in the compressed network.

    Attributes
    ----------
    original : array (T, B, X)
        Inputs in the float network.
    compressed : array (T, B, X), or X padded to blocks
        Inputs in the network that is trained.
    """

    original: np.ndarray
    compressed: np.ndarray

    @property
    def batch(self) -> int:
        """Number B of sequences."""
        return self.original.shape[1]

    @property
    def lengths(self) -> np.ndarray:
        """Lengths of the sequences, (B,)."""
        return np.full(self.batch, len(self.original))


class ImitationTask(Task):
    """Task of imitating one float layer of one direction.

    Parameters
    ----------
    layer : RecurrentLayer
        Float layer to be imitated.
    learnt, held_out : LayerInputs
        Inputs for training and for validation.
    size : int
        Sequences wanted per update.
    segment : int
        Greatest number of steps of truncated back-propagation.
    """

    name, metric = "imitation", "error_percent"
    num_outputs = None
    judges_start = True

    def __init__(self, layer: RecurrentLayer, learnt: LayerInputs, held_out: LayerInputs, size: int, segment: int):
        steps = len(learnt.original)
        parts = stream_slices(steps, max(1, min(-(-size // learnt.batch), steps // segment)))
        h, state = targets_and_states(layer, learnt.original, parts)
        self._inputs = torch.from_numpy(as_streams(learnt.compressed, parts)).float()
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
        """Return a segment of some streams; later updates continue these to their ends, then take the next ones."""
        total, count = self._inputs.shape[:2]
        segments, groups = -(-total // self.segment), -(-count // size)
        number, group = update % segments, update // segments % groups
        # The last group is as large as the others, so that some streams are in two groups.
        first = min(group * size, max(0, count - size))
        chosen = slice(first + rank, min(first + size, count), world)
        steps = slice(number * total // segments, (number + 1) * total // segments)
        h, c = (part[chosen] for part in self._state)
        return Batch(self._inputs[steps, chosen], self._targets[steps, chosen], number > 0, (h, c))

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Compute the mean square of the difference, relative to the mean square of the float layer's h."""
        return (logits - batch.targets.to(logits.dtype)).square().mean() / self._scale

    def measure(self, model, split: str) -> dict[str, float]:
        """Measure the root of the same ratio, in percent, on the held-out inputs."""
        h = outputs(model, self._held_out, self._first)
        return {self.metric: 100 * relative_error(h, self._wanted)}
