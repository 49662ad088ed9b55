"""Widths of rounded sums, proven from the widths of their terms and the shift of the rounding.

A rounding HALF_UP by ``shift`` bits adds the constant 2^(shift-1) before the lowest bits are dropped.  The constant can
be larger than the sum itself, when a format is much coarser than the sum: a width must hold both.
"""

from collections.abc import Sequence


def signed_bits(low: int, high: int) -> int:
    """Narrowest two's-complement width, in bits, that holds every integer from ``low`` to ``high``."""
    return max(low if low >= 0 else ~low, high if high >= 0 else ~high).bit_length() + 1


def half(shift: int) -> int:
    """The constant that makes dropping ``shift`` bits round HALF_UP; none where nothing is dropped."""
    return 1 << (shift - 1) if shift > 0 else 0


def rounded_sum_bits(sum_bits: int, shift: int) -> int:
    """Width of a sum of ``sum_bits`` bits with the rounding constant added.

    A bit is added even where nothing is rounded, so that the width depends on the shift only when it exceeds the sum.
    """
    bound = 1 << (sum_bits - 1)
    return max(sum_bits + 1, signed_bits(-bound, bound - 1 + half(shift)))


def rounded_terms_bits(term_bits: Sequence[int], shift: int) -> int:
    """Width of the sum of one to three signed terms and the rounding constant, as carry-save words.

    Parameters
    ----------
    term_bits : sequence of int
        Widths of the terms, aligned to the same scale.
    shift : int
        Bits that the rounding drops.
    """
    assert 1 <= len(term_bits) <= 3, "two more bits than the widest term hold three terms"
    bound = sum(1 << (bits - 1) for bits in term_bits)
    return max(max(term_bits) + 2, signed_bits(-bound, bound + half(shift)))
