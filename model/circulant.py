"""Block-circulant matrices: storage by defining vectors, expansion, projection.

A k × k circulant block is stored by its *first column* w, so that ``C[r, c] = w[(r - c) mod k]`` and
``C @ x`` is the cyclic convolution of w and x.  A matrix of P × Q blocks is an array ``(P, Q, k)``.
"""

import numpy as np

from chessrnn.model.errors import require


def circulant_indices(block_size: int) -> np.ndarray:
    """``(k, k)`` array of ``(r - c) mod k``: which entry of the defining vector stands at (r, c)."""
    r = np.arange(block_size)
    return (r[:, None] - r[None, :]) % block_size


def expand(defining: np.ndarray) -> np.ndarray:
    """``(P, Q, k)`` defining vectors → dense ``(P·k, Q·k)`` matrix."""
    p, q, k = defining.shape
    blocks = defining[:, :, circulant_indices(k)]
    return blocks.transpose(0, 2, 1, 3).reshape(p * k, q * k)


def project(dense: np.ndarray, block_size: int) -> np.ndarray:
    """Least-squares projection of a dense ``(P·k, Q·k)`` matrix onto block-circulant ones, ``(P, Q, k)``.

    The minimiser of the Frobenius distance is the mean over each circulant diagonal.
    """
    k = block_size
    rows, cols = dense.shape
    require(rows % k == 0 and cols % k == 0, "matrix shape", f"a multiple of block_size {k}", dense.shape)
    blocks = dense.reshape(rows // k, k, cols // k, k).transpose(0, 2, 1, 3)
    c = np.arange(k)
    # Entry d of the defining vector is met at (r, c) = ((c + d) mod k, c) for every column c.
    return np.stack([blocks[:, :, (c + d) % k, c].mean(axis=-1) for d in range(k)], axis=-1)


def project_padded(dense: np.ndarray, block_size: int) -> np.ndarray:
    """:func:`project` for a matrix of any size: ``(⌈rows/k⌉, ⌈cols/k⌉, k)``.

    Rows and columns that only pad do not count: an entry is the mean over those of its diagonal that exist.
    """
    rows, cols = (num_blocks(size, block_size) * block_size for size in dense.shape)
    padded, exists = np.zeros((rows, cols)), np.zeros((rows, cols))
    padded[: dense.shape[0], : dense.shape[1]] = dense
    exists[: dense.shape[0], : dense.shape[1]] = 1
    share = project(exists, block_size)
    return np.divide(project(padded, block_size), share, out=np.zeros_like(share), where=share > 0)


def exact_defining(matrix: np.ndarray, block_size: int) -> np.ndarray | None:
    """Inverse of :func:`expand` for an integer matrix of any size: ``(⌈rows/k⌉, ⌈cols/k⌉, k)``, or ``None`` where a
    block is not circulant.

    Rows and columns that only pad may hold anything; an entry that no others show is 0.
    """
    # Sums of equal integers and their shares are exact.
    defining = np.rint(project_padded(matrix, block_size)).astype(np.int64)
    shown = expand(defining)[: matrix.shape[0], : matrix.shape[1]]
    return defining if np.array_equal(shown, matrix) else None


def num_blocks(size: int, block_size: int) -> int:
    """Blocks that cover ``size`` elements (the last one padded with zeros)."""
    return -(-size // block_size)
