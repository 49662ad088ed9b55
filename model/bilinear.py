"""The exact bilinear algorithm for the product of a circulant block and a vector, used by engine ``fast``.

The product is the cyclic convolution y = w ∗ x, that is w(z)·x(z) mod z^k - 1.  With

- z^k - 1 = (z^{k/2} - 1)(z^{k/2} + 1), applied recursively to the first factor, and
- nested Karatsuba on every second factor: with a(z) = e(z²) + z·o(z²), the product of two such polynomials mod
  z^m + 1 takes three products mod u^{m/2} + 1, u = z², of (e, e'), (o, o') and (e + o, e' + o'),

there are ``n = num_products(k)`` *forms*, sums and differences of the elements (rows of M), such that

    y = S · ((M·w) ∘ (M·x)),   S = inverse_matrix(k) / 2^inverse_shift(k)

exactly, in integers: the division never leaves a remainder.  A block takes n products instead of k².

The widths of all its values are proven in ``chessrnn.model.widths.forms``.
"""

from functools import cache

import numpy as np

from chessrnn.model.errors import require

FAST_BLOCK_SIZES = (2, 4, 8, 16)


def _check(block_size: int) -> None:
    rule = f"one of {', '.join(map(str, FAST_BLOCK_SIZES))}"
    require(block_size in FAST_BLOCK_SIZES, "block_size", rule, block_size)


def _cyclic_forms(rows: np.ndarray) -> list[np.ndarray]:
    half = len(rows) // 2
    if half == 0:
        return [rows[0]]
    low, high = rows[:half], rows[half:]
    return _cyclic_forms(low + high) + _negacyclic_forms(low - high)


def _negacyclic_forms(rows: np.ndarray) -> list[np.ndarray]:
    if len(rows) == 1:
        return [rows[0]]
    even, odd = rows[0::2], rows[1::2]
    return _negacyclic_forms(even) + _negacyclic_forms(odd) + _negacyclic_forms(even + odd)


def _negacyclic_inverse(products: np.ndarray) -> np.ndarray:
    if len(products) == 1:
        return products
    even, odd, both = (_negacyclic_inverse(part) for part in np.split(products, 3))
    # A multiplication by u mod u^{m/2} + 1 moves every coefficient up, and the last one returns negated as the first.
    result = np.empty((2 * len(even), *even.shape[1:]), dtype=even.dtype)
    result[0::2] = even + np.concatenate([-odd[-1:], odd[:-1]])
    result[1::2] = both - even - odd
    return result


def _cyclic_inverse(products: np.ndarray, block_size: int) -> np.ndarray:
    """Invert the transform of a cyclic convolution; the result is scaled by ``block_size`` = 2^inverse_shift."""
    if block_size == 1:
        return products
    half = block_size // 2
    count = len(products) - num_negacyclic(half)
    plus = _cyclic_inverse(products[:count], half)
    minus = half * _negacyclic_inverse(products[count:])
    return np.concatenate([plus + minus, plus - minus])


def num_negacyclic(size: int) -> int:
    """Number of products mod z^size + 1, which are the last ones of a cyclic convolution of 2 · size."""
    return 3 ** (size.bit_length() - 1)


def num_products(block_size: int) -> int:
    """Number n of products (and of forms) of a block: 2, 5, 14, 41 for k = 2, 4, 8, 16."""
    _check(block_size)
    levels = block_size.bit_length() - 1
    return 1 + sum(num_negacyclic(1 << level) for level in range(levels))


def inverse_shift(block_size: int) -> int:
    """Exact right shift after :func:`inverse_matrix`: log2 k."""
    _check(block_size)
    return block_size.bit_length() - 1


@cache
def forward_matrix(block_size: int) -> np.ndarray:
    """Matrix M that gives the forms of a block: int64 array (n, k) of 0 and ±1."""
    _check(block_size)
    matrix = np.array(_cyclic_forms(np.eye(block_size, dtype=np.int64)))
    matrix.setflags(write=False)
    return matrix


@cache
def inverse_matrix(block_size: int) -> np.ndarray:
    """Matrix S · 2^inverse_shift: int64 array (k, n) with y = (inverse_matrix @ ((M w) ∘ (M x))) >> inverse_shift."""
    _check(block_size)
    matrix = _cyclic_inverse(np.eye(num_products(block_size), dtype=np.int64), block_size)
    matrix.setflags(write=False)
    return matrix


@cache
def form_levels(block_size: int) -> tuple[int, ...]:
    """Number of halvings between the product of each form and the output.

    It is 1 for the products mod z^{k/2} + 1, 2 for those mod z^{k/4} + 1, and so on; the two scalar forms (mod z - 1
    and mod z + 1) both have log2 k.
    """
    _check(block_size)
    levels = inverse_shift(block_size)
    result = [levels]
    for level in range(levels, 0, -1):
        result += [level] * num_negacyclic(block_size >> level)
    return tuple(result)
