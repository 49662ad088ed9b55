"""Golden recurrent layer over batches of sequences.  Hardware twin: ``chessrnn.hdl.accelerator``.

Sources of the recurrences: ``chessrnn.model.cells``; forms and orders of gates are those of ``torch.nn``.
"""

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.errors import require
from chessrnn.model.fixed_point import requantize
from chessrnn.model.reference.cell_update import STAGED_UPDATES, UPDATES, Trace
from chessrnn.model.reference.matvec import ExactMatrix
from chessrnn.model.weights import LayerWeights


class LayerReference:
    """Bit-accurate model of one layer.

    Parameters
    ----------
    weights : LayerWeights

    Notes
    -----
    Units that only pad H to a multiple of k do not exist here: the hardware holds their h at zero.
    """

    def __init__(self, weights: LayerWeights):
        self.config = config = weights.config
        q = config.quantization
        size_x, size_h, k = config.network.input_size, config.network.hidden_size, config.block_size
        size_out = config.output_size
        dense = weights.dense().reshape(config.num_gates, config.num_hidden_blocks * k, -1)[:, :size_h]
        start_h = config.num_input_blocks * k
        dense = dense.reshape(config.num_gates * size_h, -1)
        self._w_x = ExactMatrix(dense[:, :size_x], -q.x.min)
        w_h = dense[:, start_h : start_h + size_out]
        # Of a cell of several stages the last one's rows meet another vector.
        apart = (config.num_gates - config.bundle_rows if config.cell.stages > 1 else config.num_gates) * size_h
        self._w_h, self._w_last = ExactMatrix(w_h[:apart], -q.h.min), ExactMatrix(w_h[apart:], -q.h.min)
        self._bias = weights.bias[:, :size_h].reshape(-1)
        self._peephole = None if weights.peephole is None else weights.peephole[:, :size_h]
        self._projection = None
        if weights.projection is not None:
            self._projection = ExactMatrix(
                circulant.expand(weights.projection)[:size_out, :size_h], -config.cell_output.min
            )

    def initial_state(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Zero (h, c), (B, P or H) and (B, H); a cell without state of its own has its h again for c."""
        sizes = self.config.output_size, self.config.network.hidden_size
        h, c = (np.zeros((batch, size), dtype=np.int64) for size in sizes)
        return h, c

    def _check_inputs(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        fmt = self.config.quantization.x
        require(x.ndim == 3, "x", "of shape (steps, batch, input_size)", x.shape)
        size = self.config.network.input_size
        require(x.shape[-1] == size, "x", f"of {size} elements per step", x.shape)
        require(np.issubdtype(x.dtype, np.integer), "x", "an array of integers", str(x.dtype))
        if x.size:
            extreme = max(int(x.max()), int(x.min()), key=abs)
            inside = fmt.min <= x.min() and x.max() <= fmt.max
            require(inside, "x", f"from {fmt.min} to {fmt.max} in format {fmt}", extreme)
        return x

    def _step(self, from_x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Trace:
        if self.config.cell.stages > 1:
            return self._staged_step(from_x + self._bias, h, c)
        total = from_x + self._w_h(h).astype(np.int64) + self._bias
        sums = total.reshape(h.shape[0], self.config.num_gates, -1).swapaxes(0, 1)
        trace = UPDATES[self.config.network.cell](self.config, sums, c, self._peephole)
        if self._projection is None:
            return trace
        points = self.config.quantization
        products = self._projection(trace.h).astype(np.int64)
        frac = points.projection_frac + self.config.cell_output.fraction_bits
        return trace._replace(h=requantize(products, frac, points.h))

    def _staged_step(self, given: np.ndarray, h: np.ndarray, c: np.ndarray) -> Trace:
        """A step whose last gate's product waits: ``given`` (B, G·H) are the sums but for W_h·h."""
        size = self.config.network.hidden_size
        first, last = given[:, :-size], given[:, -size:]
        sums = (first + self._w_h(h).astype(np.int64)).reshape(h.shape[0], -1, size).swapaxes(0, 1)
        update = STAGED_UPDATES[self.config.network.cell]
        return update(self.config, sums, c, lambda scaled: last + self._w_last(scaled).astype(np.int64))

    def run(self, x, state=None) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Whole sequences.

        Parameters
        ----------
        x : integer array (T, B, X) in the format of x
        state : (h, c) integer arrays (B, P or H) and (B, H), zero when left out

        Returns
        -------
        h : int64 array (T, B, P or H) in the format of h, and the final (h, c)
        """
        x = self._check_inputs(x)
        steps, batch, _ = x.shape
        h, c = self.initial_state(batch) if state is None else state
        out = np.empty((steps, batch, self.config.output_size), dtype=np.int64)
        from_x = self._w_x(x)
        for t in range(steps):
            trace = self._step(from_x[t].astype(np.int64), h, c)
            h, c = trace.h, trace.cell
            out[t] = h
        return out, (h, c)

    def trace(self, x, state=None) -> Trace:
        """Every quantization point of every step: arrays of :class:`Trace` with a leading step axis."""
        x = self._check_inputs(x)
        h, c = self.initial_state(x.shape[1]) if state is None else state
        traces = []
        for t in range(len(x)):
            traces.append(self._step(self._w_x(x[t]).astype(np.int64), h, c))
            h, c = traces[-1].h, traces[-1].cell
        return Trace(*(np.stack(part) for part in zip(*traces, strict=True)))
