"""Radix-4 Booth recoding: a signed operand as digits -2 … 2, half as many rows as it has bits."""

from amaranth.hdl import Cat, Const, Value
from amaranth.lib import data

from chessrnn.model.datapath import num_digits


def digits_layout(width: int) -> data.ArrayLayout:
    """Digits of a signed operand of ``width`` bits, least significant first; fields once, twice, negative."""
    digit = data.StructLayout({"once": 1, "twice": 1, "negative": 1})
    return data.ArrayLayout(digit, num_digits(width))


def recode(value: Value) -> Value:
    """Digits of a signed value, packed as :func:`digits_layout`."""
    bits = [Const(0, 1), *value]
    if len(value) % 2:
        bits.append(value[-1])
    digits = []
    for position in range(0, len(bits) - 2, 2):
        low, middle, high = bits[position : position + 3]
        once = low ^ middle
        digits.append(Cat(once, ~once & (middle ^ high), high))
    return Cat(*digits)


def select(digit: data.View, multiplicand: Value) -> Value:
    """The row of a digit: ``digit · multiplicand - digit.negative + 2^width``, from 0 to 2^(width + 1) - 1, where
    ``width`` is that of the multiplicand.

    The sign bit is inverted, which spares the sign extension: -s · 2^width = (1 - s) · 2^width - 2^width.
    """
    bits = len(multiplicand) + 1
    once = Cat(multiplicand, multiplicand[-1]) & digit.once.replicate(bits)
    twice = Cat(Const(0, 1), multiplicand) & digit.twice.replicate(bits)
    row = (once | twice) ^ digit.negative.replicate(bits)
    return Cat(row[:-1], ~row[-1])


def row_offset(width: int) -> int:
    """What :func:`select` adds to a row, less the bit that a negative digit lacks."""
    return 1 << width
