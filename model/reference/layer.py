"""Golden recurrent layer over batches of sequences.  Hardware twin: ``chessrnn.hdl.accelerator``.

The sources of the recurrences are in ``chessrnn.model.cells``; equations and orders of gates are those of ``torch.nn``.
"""

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.errors import require
from chessrnn.model.fixed_point import requantize
from chessrnn.model.reference.cell_update import STAGED_UPDATES, UPDATES, Trace
from chessrnn.model.reference.matvec import ExactMatrix
from chessrnn.model.weights import LayerWeights


class LayerReference:
    """The bit-accurate model of one layer in one direction.

    Parameters
    ----------
    weights : LayerWeights
        Weights and configuration of the layer.

    Notes
    -----
    Units that only pad H to a multiple of k do not exist here: the hardware holds their h at zero.
    """

    def __init__(self, weights: LayerWeights):
        self.config = config = weights.config
        q = config.quantization
        size_x, size_h, k = config.network.input_size, config.network.units, config.block_size
        size_out = config.output_size
        dense = weights.dense().reshape(config.num_gates, config.num_hidden_blocks * k, -1)[:, :size_h]
        start_h = config.num_input_blocks * k
        dense = dense.reshape(config.num_gates * size_h, -1)
        self._w_x = ExactMatrix(dense[:, :size_x], -q.x.min)
        w_h = dense[:, start_h : start_h + size_out]
        # In a cell of several stages, the rows of the last stage are multiplied by another vector than h.
        split = (config.num_gates - config.bundle_rows if config.cell.stages > 1 else config.num_gates) * size_h
        self._w_h, self._w_last = ExactMatrix(w_h[:split], -q.h.min), ExactMatrix(w_h[split:], -q.h.min)
        # Left shifts that make the coarser of both sums as fine as the other.
        self._shift_x, self._shift_h = config.sum_shifts
        self._bias = weights.bias[:, :size_h].reshape(-1)
        # The scales of block rows (G, 1, H), or 1.
        self._scale = np.ones((config.num_gates, 1, 1), dtype=np.int64)
        if weights.scale is not None:
            self._scale = weights.scale.repeat(k, axis=1)[:, None, :size_h]
        self._peephole = None if weights.peephole is None else weights.peephole[:, :size_h]
        self._projection = None
        if weights.projection is not None:
            self._projection = ExactMatrix(
                circulant.expand(weights.projection)[:size_out, :size_h], -config.cell_output.min
            )

    def initial_state(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Zero state (h, c), int64 arrays (B, H or P) and (B, H); c of a cell that keeps only h is h again."""
        sizes = self.config.output_size, self.config.network.units
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
        total = from_x + self._shifted(self._w_h, h, self._shift_h) + self._bias
        sums = total.reshape(h.shape[0], self.config.num_gates, -1).swapaxes(0, 1) * self._scale
        trace = UPDATES[self.config.network.cell](self.config, sums, c, self._peephole)
        if self._projection is None:
            return trace
        points = self.config.quantization
        products = self._projection(trace.h).astype(np.int64)
        frac = self.config.projection_frac + self.config.cell_output.fraction_bits
        return trace._replace(h=requantize(products, frac, points.h))

    @staticmethod
    def _shifted(matrix: ExactMatrix, vectors: np.ndarray, shift: int) -> np.ndarray:
        return matrix(vectors).astype(np.int64) << shift

    def _staged_step(self, partial: np.ndarray, h: np.ndarray, c: np.ndarray) -> Trace:
        """Compute a step of a cell of several stages; ``partial`` (B, G·H) are the sums without W_h·h."""
        size = self.config.network.units
        first, last = partial[:, :-size], partial[:, -size:]
        from_h = self._shifted(self._w_h, h, self._shift_h)
        sums = (first + from_h).reshape(h.shape[0], -1, size).swapaxes(0, 1) * self._scale[:-1]

        def candidate(reset_h: np.ndarray) -> np.ndarray:
            return (last + self._shifted(self._w_last, reset_h, self._shift_h)) * self._scale[-1]

        return STAGED_UPDATES[self.config.network.cell](self.config, sums, c, candidate)

    def run(self, x, state=None) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Run whole sequences.

        Parameters
        ----------
        x : integer array (T, B, X)
            Inputs of B sequences of T steps, as codes of the format of x.
        state : (h, c), optional
            State before the first step, integer arrays (B, H or P) and (B, H); zero if left out.

        Returns
        -------
        h : int64 array (T, B, H or P)
            Hidden state of every step, as codes of the format of h.
        state : (h, c)
            State after the last step.

        Raises
        ------
        InvalidValueError
            x has the wrong shape or type, or a value outside its format.
        """
        x = self._check_inputs(x)
        steps, batch, _ = x.shape
        h, c = self.initial_state(batch) if state is None else state
        out = np.empty((steps, batch, self.config.output_size), dtype=np.int64)
        from_x = self._w_x(x)
        for t in range(steps):
            trace = self._step(from_x[t].astype(np.int64) << self._shift_x, h, c)
            h, c = trace.h, trace.cell
            out[t] = h
        return out, (h, c)

    def trace(self, x, state=None) -> Trace:
        """Run whole sequences and return the arrays of :class:`Trace` for all steps, stacked along a first axis."""
        x = self._check_inputs(x)
        h, c = self.initial_state(x.shape[1]) if state is None else state
        traces = []
        for t in range(len(x)):
            traces.append(self._step(self._shifted(self._w_x, x[t], self._shift_x), h, c))
            h, c = traces[-1].h, traces[-1].cell
        return Trace(*(np.stack(part) for part in zip(*traces, strict=True)))
