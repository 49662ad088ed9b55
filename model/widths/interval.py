"""Ranges of integers, and the bits that hold them."""

from typing import NamedTuple

from chessrnn.model.errors import require


class Interval(NamedTuple):
    """The integers from ``low`` to ``high``, both included."""

    low: int
    high: int

    @property
    def bits(self) -> int:
        """Narrowest two's-complement width that holds every integer of the interval."""
        return signed_bits(*self)

    def plus(self, *others: "Interval") -> "Interval":
        """The exact range of the sum of independent integers, one from this interval and one from each other."""
        terms = (self, *others)
        return Interval(sum(term.low for term in terms), sum(term.high for term in terms))

    def times(self, factor: int) -> "Interval":
        """The exact range of the sum of ``factor`` independent integers from this interval."""
        return Interval(self.low * factor, self.high * factor)


def signed_bits(low: int, high: int) -> int:
    """Narrowest two's-complement width, in bits, that holds every integer from ``low`` to ``high``."""
    require(low <= high, "interval", "from its least to its greatest integer", (low, high))
    return 1 + max((value if value >= 0 else ~value).bit_length() for value in (low, high))


def signed_interval(bits: int) -> Interval:
    """Range of a two's-complement integer of ``bits`` bits."""
    return Interval(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def product_interval(a: Interval, b: Interval) -> Interval:
    """Exact range of the product of two independent integers.

    The product is linear in each factor, so its extremes are at ends of both intervals.
    """
    corners = [x * y for x in a for y in b]
    return Interval(min(corners), max(corners))
