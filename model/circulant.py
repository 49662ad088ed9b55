"""Block-circulant matrices: storage as defining vectors, expansion, projection.

A k × k circulant block is stored by its *first column* w, so that ``C[r, c] = w[(r - c) mod k]`` and
``C @ x`` is the cyclic convolution of w and x.  A matrix of P × Q blocks is an array ``(P, Q, k)``.
"""

import numpy as np

from chessrnn.model.errors import require


def circulant_indices(block_size: int) -> np.ndarray:
    """``(k, k)`` array of ``(r - c) mod k``: the index of the entry of the defining vector that is at (r, c)."""
    r = np.arange(block_size)
    return (r[:, None] - r[None, :]) % block_size


def expand(defining: np.ndarray) -> np.ndarray:
    """Expand ``(P, Q, k)`` defining vectors to the dense ``(P·k, Q·k)`` matrix."""
    p, q, k = defining.shape
    blocks = defining[:, :, circulant_indices(k)]
    return blocks.transpose(0, 2, 1, 3).reshape(p * k, q * k)


def project(dense: np.ndarray, block_size: int) -> np.ndarray:
    """Project a dense ``(P·k, Q·k)`` matrix onto the nearest block-circulant one, given as ``(P, Q, k)``.

    The mean over each circulant diagonal minimises the Frobenius distance.
    """
    k = block_size
    rows, cols = dense.shape
    require(rows % k == 0 and cols % k == 0, "matrix shape", f"a multiple of block_size {k}", dense.shape)
    blocks = dense.reshape(rows // k, k, cols // k, k).transpose(0, 2, 1, 3)
    c = np.arange(k)
    # Entry d of the defining vector is at (r, c) = ((c + d) mod k, c) for every column c.
    return np.stack([blocks[:, :, (c + d) % k, c].mean(axis=-1) for d in range(k)], axis=-1)


def project_padded(dense: np.ndarray, block_size: int) -> np.ndarray:
    """Project a matrix of any size, padded to whole blocks: the result is ``(⌈rows/k⌉, ⌈cols/k⌉, k)``.

    Padding rows and columns do not count: an entry is the mean over the elements of its diagonal that exist.
    """
    rows, cols = (num_blocks(size, block_size) * block_size for size in dense.shape)
    padded, exists = np.zeros((rows, cols)), np.zeros((rows, cols))
    padded[: dense.shape[0], : dense.shape[1]] = dense
    exists[: dense.shape[0], : dense.shape[1]] = 1
    share = project(exists, block_size)
    return np.divide(project(padded, block_size), share, out=np.zeros_like(share), where=share > 0)


def exact_defining(matrix: np.ndarray, block_size: int) -> np.ndarray | None:
    """Defining vectors of an integer block-circulant matrix of any size, or ``None`` if a block is not circulant.

    It is the inverse of :func:`expand` with the shape ``(⌈rows/k⌉, ⌈cols/k⌉, k)``.  Padding rows and columns may hold
    anything; an entry whose whole diagonal is padding is 0.
    """
    # The mean of equal integers is exact.
    defining = np.rint(project_padded(matrix, block_size)).astype(np.int64)
    expanded = expand(defining)[: matrix.shape[0], : matrix.shape[1]]
    return defining if np.array_equal(expanded, matrix) else None


def num_blocks(size: int, block_size: int) -> int:
    """Number of blocks that cover ``size`` elements (the last one is padded with zeros)."""
    return -(-size // block_size)
