"""Widths of the forms of engine ``fast``, of their products and of the sums of these.

A form is a sum of independent elements, so the ends of its range are *attained*, and so are those of its products and
of their sum over blocks: no bit is wasted.  If a sum is wider than the output requires, :func:`modulus_bits` gives the
number of low bits that are enough.
"""

from functools import cache

import numpy as np

from chessrnn.model.bilinear import form_levels, forward_matrix, num_products
from chessrnn.model.widths.interval import Interval, product_interval, signed_interval


def _combine(coefficients: np.ndarray, intervals: list[Interval]) -> Interval:
    """Exact range of the sum of coefficient · value over independent values."""
    parts = [product_interval(Interval(c, c), i) for c, i in zip(coefficients.tolist(), intervals, strict=True)]
    return Interval(sum(part.low for part in parts), sum(part.high for part in parts))


@cache
def form_ranges(block_size: int, low: int, high: int) -> list[Interval]:
    """Range of every form of k elements that are each from ``low`` to ``high``; every bound is attained."""
    return [_combine(row, [Interval(low, high)] * block_size) for row in forward_matrix(block_size)]


def form_widths(block_size: int, element_bits: int) -> list[int]:
    """Width of every form of two's-complement elements of ``element_bits`` bits."""
    return [interval.bits for interval in form_ranges(block_size, *signed_interval(element_bits))]


def product_ranges(block_size: int, weight: Interval, element: Interval) -> list[Interval]:
    """Range of every product (M w)_i · (M x)_i; every bound is attained."""
    pairs = zip(form_ranges(block_size, *weight), form_ranges(block_size, *element), strict=True)
    return [product_interval(a, b) for a, b in pairs]


def sum_ranges(block_size: int, weight: Interval, parts: list[tuple[int, Interval]]) -> list[Interval]:
    """Range of every product summed over the blocks of a row; every bound is attained.

    Parameters
    ----------
    block_size : int
        k.
    weight : Interval
        Range of a weight.
    parts : list of (int, Interval)
        Number of block columns and range of their elements, one entry each for x and for h.
    """
    total = [Interval(0, 0)] * num_products(block_size)
    for count, element in parts:
        products = product_ranges(block_size, weight, element)
        total = [Interval(t.low + count * p.low, t.high + count * p.high) for t, p in zip(total, products, strict=True)]
    return total


def modulus_bits(block_size: int, output_bits: int) -> list[int]:
    """Number of low bits of every product sum that determine an output known to fit ``output_bits``.

    Each level of the inverse computes lo = (p + m)/2 and hi = (p - m)/2 with p mod z^{k/2} - 1 and m mod z^{k/2} + 1.
    The numerators are even, so lo and hi modulo 2^B follow from p and m modulo 2^{B+1}.  m is a sum of products with
    integer coefficients, so B + 1 low bits of each product are enough; p is an output of the next level, for which the
    same holds with B + 1 in place of B.  So the sum of a form needs ``output_bits`` + the level of the form, whatever
    its own range: sums may wrap.
    """
    return [output_bits + level for level in form_levels(block_size)]


def accumulator_widths(
    block_size: int, weight: Interval, parts: list[tuple[int, Interval]], output_bits: int
) -> list[int]:
    """Width of every accumulator in the transform domain: that of its own range or :func:`modulus_bits`, if narrower.

    Parameters
    ----------
    block_size, weight, parts
        See :func:`sum_ranges`.
    output_bits : int
        Width that the sums after the inverse transform are known to fit.
    """
    own = [interval.bits for interval in sum_ranges(block_size, weight, parts)]
    return [min(pair) for pair in zip(own, modulus_bits(block_size, output_bits), strict=True)]
