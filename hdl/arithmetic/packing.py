"""Packing of signed values of different widths into one bit vector, the first value in the lowest bits."""

from amaranth.hdl import Cat, Value

from chessrnn.hdl.arithmetic.requantize import resize


def split(packed: Value, widths) -> list[Value]:
    """The signed values of the given widths that ``packed`` holds."""
    packed, values, start = Value.cast(packed), [], 0
    for width in widths:
        values.append(packed[start : start + width].as_signed())
        start += width
    return values


def join(values) -> Value:
    """Pack values into one bit vector; the inverse of :func:`split`."""
    return Cat(*values)


def widened(packed: Value, bits: int, width: int) -> Value:
    """Sign-extend every packed value of ``bits`` bits to ``width`` bits."""
    return join(resize(value, width) for value in split(packed, [bits] * (len(packed) // bits)))


def bit_of(value: Value, index: Value) -> Value:
    """Bit number ``index`` of a vector of flags.

    ``bit_select`` would do, but in the Verilog it is an assignment of a whole vector to one bit.
    """
    return (value >> index)[0]


def padding_mask(size: int, block_size: int, bits: int) -> int:
    """Mask of the last block of a vector of ``size`` elements: ones over its elements, zeros over the padding.

    An element has ``bits`` bits.
    """
    used = (size - 1) % block_size + 1
    return (1 << (used * bits)) - 1
