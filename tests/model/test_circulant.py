import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model import circulant
from chessrnn.model.errors import InvalidValueError

sizes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2, 3, 4, 8, 16]), st.integers(0, 2**31))


@given(sizes)
def test_product_is_cyclic_convolution(size):
    p, q, k, seed = size
    rng = np.random.default_rng(seed)
    defining = rng.integers(-128, 128, size=(p, q, k))
    x = rng.integers(-128, 128, size=(q, k))
    expected = np.zeros((p, k), dtype=np.int64)
    for row in range(p):
        for col in range(q):
            for r in range(k):
                expected[row, r] += sum(defining[row, col, (r - c) % k] * x[col, c] for c in range(k))
    assert np.array_equal(circulant.expand(defining) @ x.reshape(-1), expected.reshape(-1))


@given(sizes)
def test_first_column_defines(size):
    p, q, k, seed = size
    defining = np.random.default_rng(seed).normal(size=(p, q, k))
    dense = circulant.expand(defining)
    assert np.array_equal(dense.reshape(p, k, q, k)[:, :, :, 0].transpose(0, 2, 1), defining)
    assert np.allclose(circulant.project(dense, k), defining, rtol=0, atol=1e-12)


@given(sizes, st.integers(0, 15), st.integers(0, 15))
def test_exact_defining_inverts_expansion(size, less_rows, less_cols):
    p, q, k, seed = size
    defining = np.random.default_rng(seed).integers(-128, 128, size=(p, q, k))
    # The last block row and the last block column are incomplete.
    rows, cols = p * k - less_rows % k, q * k - less_cols % k
    matrix = circulant.expand(defining)[:rows, :cols]
    found = circulant.exact_defining(matrix, k)
    assert found.shape == (p, q, k)
    assert np.array_equal(circulant.expand(found)[:rows, :cols], matrix)
    if rows == p * k and cols == q * k:
        assert np.array_equal(found, defining)
    if k > 1 and min(rows, cols) >= 2:
        changed = matrix.copy()
        changed[1, 1] += 1  # on the diagonal of (0, 0)
        assert circulant.exact_defining(changed, k) is None


def test_projection_is_the_closest(rng):
    dense = rng.normal(size=(8, 12))
    best = circulant.project(dense, 4)
    # In a least-squares projection, the residual is orthogonal to every circulant matrix.
    rest = dense - circulant.expand(best)
    for index in np.ndindex(best.shape):
        unit = np.zeros_like(best)
        unit[index] = 1
        assert abs((rest * circulant.expand(unit)).sum()) < 1e-12


def test_projection_refuses_ragged_shapes():
    with pytest.raises(InvalidValueError, match=r"matrix shape must be a multiple of block_size 4, not \(6, 8\)"):
        circulant.project(np.zeros((6, 8)), 4)


@pytest.mark.parametrize(("size", "k", "blocks"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (512, 1, 512)])
def test_num_blocks(size, k, blocks):
    assert circulant.num_blocks(size, k) == blocks
