"""Golden cell updates: from the sums of a step to its h.  Hardware twin: ``chessrnn.hdl.cell_lane``.

A sum has its bias, is exact, and stands at the scale of the accumulator.  What rounds is named: every
:func:`requantize` below is one rounding, HALF_UP and saturating, and there are no others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.fixed_point import requantize
from chessrnn.model.reference.activation import activate, lookup

LOOKUP_BITS = 16


class Trace(NamedTuple):
    """Integers of one step at the named quantization points.

    Attributes
    ----------
    preact : array (G, B, H)
    gate : array (A, B, H)
        Activated gates; those of ``gru`` are R, Z and the candidate N.
    cell : array (B, H)
        The state; of a cell without one it is h.
    h : array (B, H)
        Of a layer with a projection (B, P): behind it.
    """

    preact: np.ndarray
    gate: np.ndarray
    cell: np.ndarray
    h: np.ndarray


def apply_table(values: np.ndarray, table) -> np.ndarray:
    """``activate`` through a table of all results where that table is small."""
    if table.in_format.width > LOOKUP_BITS:
        return activate(values, table)
    return lookup(table)[values - table.in_format.min]


def _aligned(*terms: tuple[np.ndarray, int]) -> tuple[np.ndarray, int]:
    """Exact sum of (codes, fraction bits): the sum and its fraction bits."""
    frac = max(bits for _, bits in terms)
    return sum(values << (frac - bits) for values, bits in terms), frac


def next_cell(config: Config, i, f, g, c) -> np.ndarray:
    """c' = f·c + i·g at full width, one rounding to the format of cell."""
    gate, cell = config.quantization.gate, config.quantization.cell
    total = _aligned((f * c, gate.fraction_bits + cell.fraction_bits), (i * g, 2 * gate.fraction_bits))
    return requantize(*total, cell)


def next_hidden(config: Config, o, c) -> np.ndarray:
    """h' = o·tanh(c'), one rounding to the format of h (:attr:`Config.cell_output`)."""
    tanh_c = apply_table(c, config.cell_table)
    return requantize(o * tanh_c, 2 * config.quantization.gate.fraction_bits, config.cell_output)


def lstm(config: Config, sums, c, peephole=None) -> Trace:
    """i, f, g, o = σ, σ, tanh, σ(preact); c' = f·c + i·g; h' = o·tanh(c').

    With peepholes p·c belongs to the sums of I and F, p·c' to that of O, before their rounding to preact.
    """
    q = config.quantization
    weights = {} if peephole is None else dict(zip(config.cell.peepholes, peephole, strict=True))

    def preact(gate: int, state) -> np.ndarray:
        terms = [(sums[gate], config.accumulator_fracs[gate])]
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
    """r, z = σ(preact); n = tanh(nx + r·nh); s' = (1 - z)·n + z·s; h' = s'.

    The state s has the format of cell: z close to 1 must not lose what is smaller than an LSB of h.
    """
    q = config.quantization
    preacts = [requantize(values, frac, q.preact) for values, frac in zip(sums, config.accumulator_fracs, strict=True)]
    r, z = (apply_table(preacts[gate], config.gate_table(gate)) for gate in range(2))
    gate, state = q.gate.fraction_bits, q.cell.fraction_bits
    candidate = _aligned((preacts[2], q.preact.fraction_bits), (r * preacts[3], q.preact.fraction_bits + gate))
    n = apply_table(requantize(*candidate, q.preact), config.candidate_table)
    one = 1 << gate
    s = requantize(*_aligned(((one - z) * n, 2 * gate), (z * s, gate + state)), q.cell)
    return Trace(np.stack(preacts), np.stack([r, z, n]), s, requantize(s, state, q.h))


def gru_reset_first(config: Config, sums, s, candidate: Callable[[np.ndarray], np.ndarray]) -> Trace:
    """r, z = σ(preact); n = tanh(preact of what W_h makes of r·s); s' = (1 - z)·n + z·s; h' = s'.

    Parameters
    ----------
    sums : array (2, B, H)
        Of R and Z.
    candidate : callable
        From r·s in the format of h to the sum of N.
    """
    q = config.quantization
    gate, state = q.gate.fraction_bits, q.cell.fraction_bits

    def activated(number: int, total) -> tuple[np.ndarray, np.ndarray]:
        preact = requantize(total, config.accumulator_fracs[number], q.preact)
        return preact, apply_table(preact, config.gate_table(number))

    preact_r, r = activated(0, sums[0])
    preact_z, z = activated(1, sums[1])
    preact_n, n = activated(2, candidate(requantize(r * s, gate + state, q.h)))
    one = 1 << gate
    s = requantize(*_aligned(((one - z) * n, 2 * gate), (z * s, gate + state)), q.cell)
    return Trace(np.stack([preact_r, preact_z, preact_n]), np.stack([r, z, n]), s, requantize(s, state, q.h))


def rnn(config: Config, sums, state, peephole=None) -> Trace:
    """h' = tanh(preact)."""
    q = config.quantization
    preact = requantize(sums[0], config.accumulator_fracs[0], q.preact)
    gate = apply_table(preact, config.gate_table(0))
    h = requantize(gate, q.gate.fraction_bits, q.h)
    return Trace(preact[None], gate[None], h, h)


def rnn_relu(config: Config, sums, state, peephole=None) -> Trace:
    """h' = max(0, sum); it stands for every point between."""
    h = np.maximum(requantize(sums[0], config.accumulator_fracs[0], config.quantization.h), 0)
    return Trace(h[None], h[None], h, h)


UPDATES = {"lstm": lstm, "lstm_peephole": lstm, "gru": gru, "rnn": rnn, "rnn_relu": rnn_relu}
# Of cells of several stages, where a gate's sum waits for what another gate makes.
STAGED_UPDATES = {"gru_reset_first": gru_reset_first}
