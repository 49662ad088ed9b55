"""Golden matrix–vector products.  Hardware twin: ``chessrnn.hdl.matvec``.

Integer products run through BLAS.  They are exact as long as every partial sum stays below 2^24 in float32 or 2^53 in
float64, which the largest row sum of |w| proves.
"""

import numpy as np

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53


class ExactMatrix:
    """An integer matrix that multiplies integer vectors exactly.

    Parameters
    ----------
    matrix : integer array (rows, cols)
        The matrix.
    max_magnitude : int
        Greatest magnitude of an element of the vectors that will be multiplied.
    """

    def __init__(self, matrix: np.ndarray, max_magnitude: int):
        bound = int(np.abs(matrix).sum(axis=1, dtype=np.int64).max(initial=0)) * max_magnitude
        assert bound <= FLOAT64_EXACT, "the configuration bounds accumulators far below 2^53"
        self.dtype = np.float32 if bound <= FLOAT32_EXACT else np.float64
        self._transposed = np.ascontiguousarray(matrix.T, dtype=self.dtype)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Multiply integers (..., cols) of any dtype; the result (..., rows) are integers in ``self.dtype``."""
        return np.asarray(vectors, dtype=self.dtype) @ self._transposed
