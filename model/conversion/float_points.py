"""One step of a cell in float64, at the names of the accelerator's quantization points.

Every function takes the sums of the accelerator's rows of W, so that its results compare with those of
:mod:`chessrnn.model.reference.cell_update` one by one.
"""

from typing import NamedTuple

import numpy as np

from chessrnn.model.conversion.hardware_rows import GateRows, hardware_rows
from chessrnn.model.imported.float_evaluation import sigmoid
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.imported.summary import hardware_cell


class Points(NamedTuple):
    """Real values of one step at the named points, for B sequences.

    Attributes
    ----------
    preact : float64 array (G, B, H)
    gate : float64 array (A, B, H)
    cell : float64 array (B, H)
    h : float64 array (B, P or H)
    """

    preact: np.ndarray
    gate: np.ndarray
    cell: np.ndarray
    h: np.ndarray


class FloatCell:
    """A forward layer in float64, one step at a time.

    Parameters
    ----------
    layer : RecurrentLayer
        Layer of one direction.
    """

    def __init__(self, layer: RecurrentLayer):
        self.cell = hardware_cell(layer)
        self.rows: GateRows = hardware_rows(layer)
        self.projection = layer.weights[0].projection
        self.sizes = layer.state_size, layer.hidden_size

    def initial_state(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return zeros: h (B, P or H) and the state that the cell keeps (B, H)."""
        h, state = (np.zeros((batch, size)) for size in self.sizes)
        return h, state

    def step(self, x: np.ndarray, h: np.ndarray, state: np.ndarray, given: Points | None = None) -> Points:
        """Compute one step.

        Parameters
        ----------
        x : float array (B, X)
        h : float array (B, P or H)
        state : float array (B, H)
        given : Points, optional
            Values that each point is computed from in place of its own: then the results hold only the error that
            arises at each point.
        """
        updates = {"gru": self._gru, "gru_reset_first": self._reset_first, "rnn": self._rnn, "rnn_relu": self._relu}
        update = updates.get(self.cell, self._lstm)
        return update(x, h, state, given)

    def _sums(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        sums = np.einsum("ghx,bx->gbh", self.rows.w_x, x) + np.einsum("ghp,bp->gbh", self.rows.w_h, h)
        return sums + self.rows.bias[:, None]

    def _lstm(self, x: np.ndarray, h: np.ndarray, c: np.ndarray, given: Points | None) -> Points:
        preact, peephole = self._sums(x, h), self.rows.peephole
        if peephole is not None:
            preact[0], preact[1] = preact[0] + peephole[0] * c, preact[1] + peephole[1] * c
        used = preact if given is None else given.preact
        gate = np.stack([sigmoid(used[0]), sigmoid(used[1]), np.tanh(used[2]), np.zeros_like(used[3])])
        i, f, g, _ = gate if given is None else given.gate
        cell = f * c + i * g
        now = cell if given is None else given.cell
        if peephole is not None:
            preact[3] = preact[3] + peephole[2] * now
        gate[3] = sigmoid((preact if given is None else given.preact)[3])
        h = (gate if given is None else given.gate)[3] * np.tanh(now)
        return Points(preact, gate, cell, h if self.projection is None else h @ self.projection.T)

    def _mixed(self, z: np.ndarray, n: np.ndarray, state: np.ndarray, given: Points | None):
        cell = (1 - z) * n + z * state
        return cell, cell if given is None else given.cell

    def _gru(self, x: np.ndarray, h: np.ndarray, state: np.ndarray, given: Points | None) -> Points:
        preact = self._sums(x, h)
        used = preact if given is None else given.preact
        r = sigmoid(used[0])
        n = np.tanh(used[2] + (r if given is None else given.gate[0]) * used[3])
        gate = np.stack([r, sigmoid(used[1]), n])
        _, z, n = gate if given is None else given.gate
        return Points(preact, gate, *self._mixed(z, n, state, given))

    def _reset_first(self, x: np.ndarray, h: np.ndarray, state: np.ndarray, given: Points | None) -> Points:
        preact = self._sums(x, h)
        r = sigmoid((preact if given is None else given.preact)[0])
        reset = (r if given is None else given.gate[0]) * state
        preact[2] = x @ self.rows.w_x[2].T + reset @ self.rows.w_h[2].T + self.rows.bias[2]
        used = preact if given is None else given.preact
        gate = np.stack([r, sigmoid(used[1]), np.tanh(used[2])])
        _, z, n = gate if given is None else given.gate
        return Points(preact, gate, *self._mixed(z, n, state, given))

    def _rnn(self, x: np.ndarray, h: np.ndarray, state: np.ndarray, given: Points | None) -> Points:
        preact = self._sums(x, h)
        gate = np.tanh(preact if given is None else given.preact)
        now = (gate if given is None else given.gate)[0]
        return Points(preact, gate, now, now)

    def _relu(self, x: np.ndarray, h: np.ndarray, state: np.ndarray, given: Points | None) -> Points:
        preact = np.maximum(self._sums(x, h), 0)
        return Points(preact, preact, preact[0], preact[0])
