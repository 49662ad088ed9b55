"""Radix-4 Booth recoding represents a signed operand by digits from -2 to 2, half as many as it has bits."""

from amaranth.hdl import Cat, Const, Value
from amaranth.lib import data

from chessrnn.model.widths.sums import num_digits


def digits_layout(width: int) -> data.ArrayLayout:
    """Layout of the digits of a signed operand of ``width`` bits, least significant digit first.

    A digit is 1 or 2 times (``once``, ``twice``) a factor of -1 or 1 (``negative``), or 0.
    """
    digit = data.StructLayout({"once": 1, "twice": 1, "negative": 1})
    return data.ArrayLayout(digit, num_digits(width))


def recode(value: Value) -> Value:
    """The Booth digits of a signed value, packed as in :func:`digits_layout`."""
    bits = [Const(0, 1), *value]
    if len(value) % 2:
        bits.append(value[-1])
    digits = []
    for position in range(0, len(bits) - 2, 2):
        low, middle, high = bits[position : position + 3]
        once = low ^ middle
        digits.append(Cat(once, ~once & (middle ^ high), high))
    return Cat(*digits)


def partial_product(digit: data.View, multiplicand: Value) -> Value:
    """The partial product of a digit as an unsigned number: ``digit · multiplicand - digit.negative + 2^width``.

    ``width`` is that of the multiplicand; the result ranges from 0 to 2^(width + 1) - 1.  The sign bit is inverted,
    which saves the sign extension: -s · 2^width = (1 - s) · 2^width - 2^width.
    """
    bits = len(multiplicand) + 1
    once = Cat(multiplicand, multiplicand[-1]) & digit.once.replicate(bits)
    twice = Cat(Const(0, 1), multiplicand) & digit.twice.replicate(bits)
    row = (once | twice) ^ digit.negative.replicate(bits)
    return Cat(row[:-1], ~row[-1])


def last_partial_product(digit: data.View, multiplicand: Value) -> Value:
    """The partial product of the highest digit of an operand of odd width, which is only -1, 0 or 1.

    As :func:`partial_product`, but a bit shorter: ``digit · multiplicand - digit.negative + 2^(width - 1)``.
    """
    bits = len(multiplicand)
    row = (Cat(multiplicand) & digit.once.replicate(bits)) ^ digit.negative.replicate(bits)
    return Cat(row[:-1], ~row[-1])
