"""Golden cell updates, from the sums of a step to its h.

Hardware twins: ``chessrnn.hdl.cell_lane``, ``chessrnn.hdl.staged_update``.

A sum includes its bias, is exact, and has the scale of the accumulator, or that of its product with the scale of its
block row (``Config.sum_fracs``).  Every :func:`requantize` below is one
rounding, HALF_UP and saturating; nothing else rounds.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.fixed_point import requantize
from chessrnn.model.reference.activation import activate, lookup

LOOKUP_BITS = 16


class Trace(NamedTuple):
    """The integers of one step at the named quantization points, for B sequences.

    Attributes
    ----------
    preact : int64 array (G, B, H)
        Pre-activations of the gates.
    gate : int64 array (A, B, H)
        Activated gates; for ``gru`` they are R, Z and the candidate N.
    cell : int64 array (B, H)
        State that the cell keeps; h for a cell without a state besides h.
    h : int64 array (B, H)
        Hidden state; with a projection (B, P), behind the projection.
    """

    preact: np.ndarray
    gate: np.ndarray
    cell: np.ndarray
    h: np.ndarray


def apply_table(values: np.ndarray, table) -> np.ndarray:
    """Apply :func:`activate`, by look-up in a table of all its results if that table is small."""
    if table.in_format.width > LOOKUP_BITS:
        return activate(values, table)
    return lookup(table)[values - table.in_format.min]


def _aligned(*terms: tuple[np.ndarray, int]) -> tuple[np.ndarray, int]:
    """Add terms (codes, number of fraction bits) exactly; the result is the sum and its number of fraction bits."""
    frac = max(bits for _, bits in terms)
    first, *others = (values << (frac - bits) for values, bits in terms)
    return sum(others, first), frac


def next_cell(config: Config, i, f, g, c) -> np.ndarray:
    """Compute c' = f·c + i·g at full width, with one rounding to the format ``quantization.cell``."""
    gate, cell = config.quantization.gate, config.quantization.cell
    total = _aligned((f * c, gate.fraction_bits + cell.fraction_bits), (i * g, 2 * gate.fraction_bits))
    return requantize(*total, cell)


def next_hidden(config: Config, o, c) -> np.ndarray:
    """Compute h' = o·tanh(c') with one rounding to the format :attr:`Config.cell_output`."""
    tanh_c = apply_table(c, config.cell_table)
    return requantize(o * tanh_c, 2 * config.quantization.gate.fraction_bits, config.cell_output)


def lstm(config: Config, sums, c, peephole=None) -> Trace:
    """Update an LSTM: i, f, g, o = σ, σ, tanh, σ(preact); c' = f·c + i·g; h' = o·tanh(c').

    With peepholes, p·c is added to the sums of I and F, and p·c' to that of O, before they are rounded to preact.
    """
    q = config.quantization
    weights = {} if peephole is None else dict(zip(config.cell.peepholes, peephole, strict=True))

    def preact(gate: int, state) -> np.ndarray:
        terms = [(sums[gate], config.sum_fracs[gate])]
        if gate in weights:
            terms.append((weights[gate] * state, q.peephole.fraction_bits + q.cell.fraction_bits))
        return requantize(*_aligned(*terms), q.preact)

    preacts = [preact(gate, c) for gate in range(3)]
    i, f, g = (apply_table(values, config.gate_table(gate)) for gate, values in enumerate(preacts))
    c = next_cell(config, i, f, g, c)
    preacts.append(preact(3, c))
    o = apply_table(preacts[3], config.gate_table(3))
    return Trace(np.stack(preacts), np.stack([i, f, g, o]), c, next_hidden(config, o, c))


def gru(config: Config, sums, s, peephole=None) -> Trace:
    """Update a GRU: r, z = σ(preact); n = tanh(nx + r·nh); s' = (1 - z)·n + z·s; h' = s'.

    The state s has the finer format ``quantization.cell``: if z is close to 1, the change of a step may be smaller than
    an LSB of h and must not be lost.
    """
    q = config.quantization
    preacts = [requantize(values, frac, q.preact) for values, frac in zip(sums, config.sum_fracs, strict=True)]
    r, z = (apply_table(preacts[gate], config.gate_table(gate)) for gate in range(2))
    gate, state = q.gate.fraction_bits, q.cell.fraction_bits
    candidate = _aligned((preacts[2], q.preact.fraction_bits), (r * preacts[3], q.preact.fraction_bits + gate))
    n = apply_table(requantize(*candidate, q.preact), config.candidate_table)
    one = 1 << gate
    s = requantize(*_aligned(((one - z) * n, 2 * gate), (z * s, gate + state)), q.cell)
    return Trace(np.stack(preacts), np.stack([r, z, n]), s, requantize(s, state, q.h))


def gru_reset_first(config: Config, sums, s, candidate: Callable[[np.ndarray], np.ndarray]) -> Trace:
    """Update a GRU whose reset gate scales h: r, z = σ(preact); n = tanh(W_x·x + W_h·(r·s) + b); then as :func:`gru`.

    Parameters
    ----------
    config : Config
        Configuration of the layer.
    sums : int64 array (2, B, H)
        Sums of the gates R and Z.
    s : int64 array (B, H)
        State before the step.
    candidate : callable
        Function that computes the sum of gate N from r·s in the format of h.
    """
    q = config.quantization
    gate, state = q.gate.fraction_bits, q.cell.fraction_bits

    def activated(number: int, total) -> tuple[np.ndarray, np.ndarray]:
        preact = requantize(total, config.sum_fracs[number], q.preact)
        return preact, apply_table(preact, config.gate_table(number))

    preact_r, r = activated(0, sums[0])
    preact_z, z = activated(1, sums[1])
    preact_n, n = activated(2, candidate(requantize(r * s, gate + state, q.h)))
    one = 1 << gate
    s = requantize(*_aligned(((one - z) * n, 2 * gate), (z * s, gate + state)), q.cell)
    return Trace(np.stack([preact_r, preact_z, preact_n]), np.stack([r, z, n]), s, requantize(s, state, q.h))


def rnn(config: Config, sums, state, peephole=None) -> Trace:
    """Update an Elman RNN: h' = tanh(preact)."""
    q = config.quantization
    preact = requantize(sums[0], config.sum_fracs[0], q.preact)
    gate = apply_table(preact, config.gate_table(0))
    h = requantize(gate, q.gate.fraction_bits, q.h)
    return Trace(preact[None], gate[None], h, h)


def rnn_relu(config: Config, sums, state, peephole=None) -> Trace:
    """Update an Elman RNN with relu: h' = max(0, sum), which is reported for every quantization point."""
    h = np.maximum(requantize(sums[0], config.sum_fracs[0], config.quantization.h), 0)
    return Trace(h[None], h[None], h, h)


UPDATES = {"lstm": lstm, "lstm_peephole": lstm, "gru": gru, "rnn": rnn, "rnn_relu": rnn_relu}
# Updates of cells of several stages, where the sum of a gate depends on the output of another gate.
STAGED_UPDATES = {"gru_reset_first": gru_reset_first}
