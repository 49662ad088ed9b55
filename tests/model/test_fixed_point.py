from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model.fixed_point import dequantize, quantize, requantize, saturate, shift_half_up
from chessrnn.model.qformat import QFormat

formats = st.tuples(st.integers(1, 8), st.integers(1, 16)).map(lambda bits: QFormat(*bits))


@given(st.integers(-(2**40), 2**40), st.integers(-12, 31))
def test_shift_is_half_up(value, shift):
    exact = Fraction(value) / Fraction(2) ** shift
    assert int(shift_half_up(value, shift)) == floor(exact + Fraction(1, 2))


def test_half_up_is_neither_half_even_nor_away_from_zero():
    assert shift_half_up([-3, -1, 1, 3, 5], 1).tolist() == [-1, 0, 1, 2, 3]


@given(st.integers(-(2**40), 2**40), st.integers(0, 31), formats)
def test_requantize_rounds_once_then_saturates(value, fraction_bits, fmt):
    exact = floor(Fraction(value) * Fraction(2) ** (fmt.fraction_bits - fraction_bits) + Fraction(1, 2))
    assert int(requantize(value, fraction_bits, fmt)) == min(max(exact, fmt.min), fmt.max)


@given(formats)
def test_codes_survive(fmt):
    codes = np.unique(np.linspace(fmt.min, fmt.max, 1000).astype(np.int64))
    assert np.array_equal(quantize(dequantize(codes, fmt), fmt), codes)
    assert np.array_equal(saturate(codes, fmt), codes)
    assert np.array_equal(quantize([-1e9, 1e9], fmt), [fmt.min, fmt.max])
