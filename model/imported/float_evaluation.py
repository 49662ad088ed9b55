"""Float64 evaluation of an imported network; it computes what PyTorch and ONNX compute.

The equations use a = W_x·x + b_x and u = W_h·h + b_h, whose rows are in the order of
:data:`.recurrent_network.CELL_GATES`:

- ``lstm``: i, f, o = σ(a + u + p∘c), g = tanh(a + u); c' = f∘c + i∘g; h' = R·(o∘tanh(c')).  The peephole of o reads
  c', those of i and f read c.  (``torch.nn.LSTM``; ONNX operator LSTM; projection of Sak, Senior, Beaufays 2014;
  peepholes of Gers and Schmidhuber 2000.)
- ``gru``: r, z = σ(a + u); n = tanh(a_n + r∘u_n) with ``linear_before_reset``, else
  n = tanh(a_n + W_hn·(r∘h) + b_hn); h' = (1 - z)∘n + z∘h.  (``torch.nn.GRU``; ONNX operator GRU; Cho et al. 2014.)
- ``rnn``: h' = tanh(a + u) or relu(a + u).  (``torch.nn.RNN``; ONNX operator RNN; Elman 1990.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chessrnn.model.errors import require
from chessrnn.model.imported.recurrent_network import CELL_GATES, DirectionWeights, RecurrentLayer, RecurrentNetwork


class State(NamedTuple):
    """State of one layer: h (D, B, P), and c (D, B, H) of an LSTM, else ``None``."""

    h: np.ndarray
    c: np.ndarray | None


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Compute 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _lstm_step(w: DirectionWeights, a: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, f, g, o = np.split(a + h @ w.w_h.T + w.bias_h, 4, axis=-1)
    if w.peepholes is not None:
        i, f = i + w.peepholes[0] * c, f + w.peepholes[1] * c
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    if w.peepholes is not None:
        o = o + w.peepholes[2] * c
    h = sigmoid(o) * np.tanh(c)
    return (h if w.projection is None else h @ w.projection.T), c


def _gru_step(layer: RecurrentLayer, w: DirectionWeights, a: np.ndarray, h: np.ndarray) -> np.ndarray:
    size = layer.hidden_size
    a_r, a_z, a_n = np.split(a, 3, axis=-1)
    if layer.linear_before_reset:
        u_r, u_z, u_n = np.split(h @ w.w_h.T + w.bias_h, 3, axis=-1)
        n = np.tanh(a_n + sigmoid(a_r + u_r) * u_n)
    else:
        u_r, u_z = np.split(h @ w.w_h[: 2 * size].T + w.bias_h[: 2 * size], 2, axis=-1)
        n = np.tanh(a_n + (sigmoid(a_r + u_r) * h) @ w.w_h[2 * size :].T + w.bias_h[2 * size :])
    z = sigmoid(a_z + u_z)
    return (1.0 - z) * n + z * h


def _reversal(steps: int, lengths: np.ndarray) -> np.ndarray:
    """Compute the index (T, B) of steps that reverses each sequence within its own length."""
    t = np.arange(steps)[:, None]
    return np.where(t < lengths, lengths - 1 - t, t)


def _run_direction(
    layer: RecurrentLayer, w: DirectionWeights, reverse: bool, x: np.ndarray, lengths: np.ndarray, h, c
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    steps, batch, _ = x.shape
    order = (_reversal(steps, lengths), np.arange(batch))
    if reverse:
        x = x[order]
    from_x = x @ w.w_x.T + w.bias_x
    out = np.zeros((steps, batch, layer.state_size))
    for t in range(steps):
        active = (t < lengths)[:, None]
        if layer.cell == "lstm":
            assert c is not None
            new_h, new_c = _lstm_step(w, from_x[t], h, c)
            c = np.where(active, new_c, c)
        elif layer.cell == "gru":
            new_h = _gru_step(layer, w, from_x[t], h)
        else:
            total = from_x[t] + h @ w.w_h.T + w.bias_h
            new_h = np.tanh(total) if layer.activation == "tanh" else np.maximum(total, 0.0)
        h = np.where(active, new_h, h)
        out[t] = np.where(active, new_h, 0.0)
    return (out[order] if reverse else out), h, c


def initial_state(layer: RecurrentLayer, batch: int) -> State:
    """Return the layer's own first state for a batch, zero where the file has none.

    Raises
    ------
    InvalidValueError
        The file's state has another batch size.
    """

    def part(name: str, size: int) -> np.ndarray:
        rows = []
        for w in layer.weights:
            value = getattr(w, name)
            value = np.zeros((1, size)) if value is None else value
            require(value.shape[0] in (1, batch), f"{layer.name}: batch", f"{value.shape[0]} as in {name}", batch)
            rows.append(np.broadcast_to(value, (batch, size)))
        return np.stack(rows)

    c = part("initial_c", layer.hidden_size) if layer.cell == "lstm" else None
    return State(part("initial_h", layer.state_size), c)


def _checked_state(layer: RecurrentLayer, state: State | None, batch: int) -> State:
    if state is None:
        return initial_state(layer, batch)
    h, c = np.asarray(state[0], dtype=np.float64), state[1]
    shape = (layer.num_directions, batch, layer.state_size)
    require(h.shape == shape, f"{layer.name}: state h", f"of shape {shape}", h.shape)
    if layer.cell != "lstm":
        return State(h, None)
    c = np.asarray(c, dtype=np.float64)
    shape = (layer.num_directions, batch, layer.hidden_size)
    require(c.shape == shape, f"{layer.name}: state c", f"of shape {shape}", c.shape)
    return State(h, c)


def run_layer(
    layer: RecurrentLayer, x: np.ndarray, lengths: np.ndarray, state: State | None = None
) -> tuple[np.ndarray, State]:
    """Run one layer over x (T, B, X): output (T, B, D·P), with both directions side by side, and the final state."""
    state = _checked_state(layer, state, x.shape[1])
    parts = []
    for index, w in enumerate(layer.weights):
        reverse = layer.direction == "reverse" or index == 1
        c = None if state.c is None else state.c[index]
        parts.append(_run_direction(layer, w, reverse, x, lengths, state.h[index], c))
    out, h, c = zip(*parts, strict=True)
    return np.concatenate(out, axis=-1), State(np.stack(h), None if state.c is None else np.stack(c))


def run(
    network: RecurrentNetwork, x: np.ndarray, lengths: np.ndarray | None = None, state: list[State] | None = None
) -> tuple[np.ndarray, list[State]]:
    """Run whole sequences through every layer.

    Parameters
    ----------
    x : array (T, B, X)
    lengths : integer array (B,), optional
        Steps of each sequence (1..T), with the meaning of ONNX's ``sequence_lens``: outputs beyond are zero, the final
        state is that of the last step, and the reverse direction starts there.  When left out: the file's own, else T.
    state : list of State, optional
        First state of every layer; when left out: the file's own, else zero.

    Returns
    -------
    y : float64 array (T, B, D·P)
    state : list of State
        Final state of every layer.

    Raises
    ------
    InvalidValueError
        A shape or a length does not fit.
    """
    x = np.asarray(x, dtype=np.float64)
    require(x.ndim == 3, "x", "of shape (steps, batch, input_size)", x.shape)
    require(x.shape[2] == network.input_size, "x", f"of {network.input_size} elements per step", x.shape)
    steps, batch, _ = x.shape
    lengths = network.lengths if lengths is None else lengths
    lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    require(np.issubdtype(lengths.dtype, np.integer), "lengths", "an array of integers", str(lengths.dtype))
    require(lengths.shape == (batch,), "lengths", f"of shape {(batch,)}", lengths.shape)
    outside = lengths[(lengths < min(1, steps)) | (lengths > steps)]
    require(outside.size == 0, "lengths", f"from 1 to {steps}", int(outside[0]) if outside.size else None)
    if state is not None:
        require(len(state) == len(network.layers), "state", f"{len(network.layers)}, one per layer", len(state))
    final = []
    for index, layer in enumerate(network.layers):
        x, last = run_layer(layer, x, lengths, None if state is None else state[index])
        final.append(last)
    return x, final


def gate_names(layer: RecurrentLayer) -> tuple[str, ...]:
    """List the gates of the layer's cell in the order of its rows."""
    return CELL_GATES[layer.cell]


def run_layers(layers: Sequence[RecurrentLayer], x: np.ndarray) -> list[np.ndarray]:
    """Run all layers: x (T, B, X), then h of every layer, (T, B, H) or (T, B, 2H) for both directions."""
    lengths, values = np.full(x.shape[1], len(x)), [x]
    for layer in layers:
        values.append(run_layer(layer, values[-1], lengths)[0])
    return values


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Divide the root mean square of the error by that of the wanted values; where those are zero, do not divide."""
    difference, scale = np.sqrt(np.mean((found - wanted) ** 2)), np.sqrt(np.mean(wanted**2))
    return float(difference / scale) if scale else float(difference)
