"""The bilinear algorithm is exact, and its widths are neither too narrow nor too wide."""

import itertools

import numpy as np
import pytest

from chessrnn.model import bilinear, circulant, config
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.widths.forms import (
    accumulator_widths,
    form_ranges,
    form_widths,
    modulus_bits,
    product_ranges,
    sum_ranges,
)
from chessrnn.model.widths.interval import Interval, signed_bits, signed_interval

SIZES = bilinear.FAST_BLOCK_SIZES


def fast(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Products y of defining vectors w and vectors x of shape (..., k)."""
    k = w.shape[-1]
    forward = bilinear.forward_matrix(k)
    scaled = ((w @ forward.T) * (x @ forward.T)) @ bilinear.inverse_matrix(k).T
    assert not np.any(scaled & (k - 1)), "the shift is exact"
    return scaled >> bilinear.inverse_shift(k)


def direct(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.einsum("...rc,...c->...r", w[..., circulant.circulant_indices(w.shape[-1])], x)


def every_vector(k: int, bits: int) -> np.ndarray:
    interval = signed_interval(bits)
    return np.array(list(itertools.product(range(interval.low, interval.high + 1), repeat=k)), dtype=np.int64)


@pytest.mark.parametrize(("k", "products"), [(2, 2), (4, 5), (8, 14), (16, 41)])
def test_products(k, products):
    assert bilinear.num_products(k) == products
    assert bilinear.forward_matrix(k).shape == (products, k)
    assert bilinear.inverse_matrix(k).shape == (k, products)
    assert set(np.unique(bilinear.forward_matrix(k))) <= {-1, 0, 1}
    assert 1 << bilinear.inverse_shift(k) == k


@pytest.mark.parametrize(("k", "bits"), [(2, 1), (2, 2), (2, 3), (4, 1), (4, 2), (8, 1)])
def test_every_operand(k, bits):
    vectors = every_vector(k, bits)
    np.testing.assert_array_equal(fast(vectors[:, None], vectors), direct(vectors[:, None], vectors))


@pytest.mark.parametrize("k", SIZES)
def test_bilinear_identity(k):
    # Bilinear maps that agree on every pair of unit vectors are equal, so this proves the algorithm.
    unit = np.eye(k, dtype=np.int64)
    np.testing.assert_array_equal(fast(unit[:, None], unit), direct(unit[:, None], unit))


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize(("weight_bits", "element_bits"), [(2, 16), (4, 8), (8, 8)])
def test_random_matrix(k, weight_bits, element_bits):
    rng = np.random.default_rng(k)
    weights, elements = signed_interval(weight_bits), signed_interval(element_bits)
    defining = rng.integers(weights.low, weights.high + 1, (3, 5, k))
    x = rng.integers(elements.low, elements.high + 1, (20, 5, k))
    forward = bilinear.forward_matrix(k)
    sums = np.einsum("pqn,bqn->bpn", defining @ forward.T, x @ forward.T)
    y = (sums @ bilinear.inverse_matrix(k).T) >> bilinear.inverse_shift(k)
    expected = x.reshape(20, -1) @ circulant.expand(defining).T
    np.testing.assert_array_equal(y.reshape(20, -1), expected)


@pytest.mark.parametrize("k", SIZES)
def test_extremes(k):
    for a, b in itertools.product(signed_interval(8), repeat=2):
        w, x = np.full(k, a), np.full(k, b)
        np.testing.assert_array_equal(fast(w, x), np.full(k, k * a * b))


@pytest.mark.parametrize(
    ("low", "high", "width"),
    [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-2, 2, 3), (-128, 127, 8), (-128, 128, 9), (-255, 255, 9),
     (-129, 0, 9), (5, 7, 4), (-7, -5, 4)],
)  # fmt: skip
def test_width_for(low, high, width):
    assert signed_bits(low, high) == width
    interval = signed_interval(width)
    assert interval.low <= low and high <= interval.high
    narrower = Interval(-(1 << (width - 2)), (1 << (width - 2)) - 1) if width > 1 else Interval(1, 0)
    assert low < narrower.low or high > narrower.high


def extreme_vectors(k: int, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, k) that drive each form to its least and to its greatest value."""
    forward = bilinear.forward_matrix(k)
    return np.where(forward > 0, interval.low, interval.high), np.where(forward > 0, interval.high, interval.low)


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("interval", [Interval(-128, 127), Interval(-8, 7), Interval(0, 3)])
def test_form_ranges_attained_and_never_exceeded(k, interval):
    forward = bilinear.forward_matrix(k)
    ranges = np.array(form_ranges(k, *interval))
    least, greatest = extreme_vectors(k, interval)
    np.testing.assert_array_equal(np.einsum("nk,nk->n", forward, least), ranges[:, 0])
    np.testing.assert_array_equal(np.einsum("nk,nk->n", forward, greatest), ranges[:, 1])
    x = np.random.default_rng(k).integers(interval.low, interval.high + 1, (2000, k))
    forms = x @ forward.T
    assert np.all(forms >= ranges[:, 0]) and np.all(forms <= ranges[:, 1])


def test_form_ranges_of_every_operand():
    forms = every_vector(4, 3) @ bilinear.forward_matrix(4).T
    ranges = np.array(form_ranges(4, -4, 3))
    np.testing.assert_array_equal(forms.min(axis=0), ranges[:, 0])
    np.testing.assert_array_equal(forms.max(axis=0), ranges[:, 1])


def test_form_widths_grow_by_log2_of_the_terms():
    for k in SIZES:
        terms = np.abs(bilinear.forward_matrix(k)).sum(axis=1)
        assert form_widths(k, 8) == [8 + int(t).bit_length() - 1 for t in terms]


@pytest.mark.parametrize("k", SIZES)
def test_product_and_sum_ranges_attained(k):
    weight, x, h = Interval(-8, 7), Interval(-128, 127), Interval(-4, 3)
    products = product_ranges(k, weight, x)
    forward = bilinear.forward_matrix(k)
    w_ends, x_ends = extreme_vectors(k, weight), extreme_vectors(k, x)
    for index, row in enumerate(forward):
        corners = [int((row @ w[index]) * (row @ v[index])) for w in w_ends for v in x_ends]
        assert (min(corners), max(corners)) == products[index]
    sums = sum_ranges(k, weight, [(3, x), (2, h)])
    of_h = product_ranges(k, weight, h)
    # Blocks are independent, so the sum attains the sum of the bounds of its blocks.
    expected = [Interval(3 * p.low + 2 * r.low, 3 * p.high + 2 * r.high) for p, r in zip(products, of_h, strict=True)]
    assert sums == expected


def wrap(values: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << (bits - 1)
    return ((values + half) & ((1 << bits) - 1)) - half


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("weight_bits", [2, 4, 8])
def test_wrapped_accumulators_give_exact_outputs(k, weight_bits):
    blocks, rng = 6, np.random.default_rng(k)
    weight, element = signed_interval(weight_bits), signed_interval(8)
    bound = blocks * k * weight.low * element.low
    output_bits = signed_bits(-bound, bound)
    widths = accumulator_widths(k, weight, [(blocks, element)], output_bits)
    assert all(a <= b for a, b in zip(widths, modulus_bits(k, output_bits), strict=True))
    forward = bilinear.forward_matrix(k)
    shape = (300, blocks, k)
    # Half of the operands are at their extremes, where sums wrap.
    w = np.where(rng.random(shape) < 0.5, weight.low, rng.integers(weight.low, weight.high + 1, shape))
    x = np.where(rng.random(shape) < 0.5, element.low, rng.integers(element.low, element.high + 1, shape))
    w[0], x[0] = weight.low, element.low
    sums = ((w @ forward.T) * (x @ forward.T)).sum(axis=1)
    wrapped = np.stack([wrap(sums[:, i], width) for i, width in enumerate(widths)], axis=1)
    scaled = wrapped @ bilinear.inverse_matrix(k).T
    y = wrap(scaled >> bilinear.inverse_shift(k), output_bits)
    np.testing.assert_array_equal(y, direct(w, x).sum(axis=1))


@pytest.mark.parametrize("k", SIZES)
def test_modulus_is_tight(k):
    # With one bit less of any form, an output changes.
    output_bits = 20
    inverse = bilinear.inverse_matrix(k)
    for index, bits in enumerate(modulus_bits(k, output_bits)):
        contribution = inverse[:, index] << (bits - 1)
        assert np.any((contribution >> bilinear.inverse_shift(k)) & ((1 << output_bits) - 1))


def test_sizes_are_those_of_the_configuration():
    assert bilinear.FAST_BLOCK_SIZES == config.FAST_BLOCK_SIZES


def test_bad_values():
    with pytest.raises(InvalidValueError, match="block_size must be one of 2, 4, 8, 16, not 3"):
        bilinear.forward_matrix(3)
    with pytest.raises(InvalidValueError, match="interval must be"):
        signed_bits(1, 0)
