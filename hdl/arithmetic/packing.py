"""Several signed values of different widths in one bit vector, first value lowest."""

from amaranth.hdl import Cat, Value

from chessrnn.hdl.arithmetic.requantize import resize


def split(packed: Value, widths) -> list[Value]:
    """The signed values of ``packed``."""
    packed, values, start = Value.cast(packed), [], 0
    for width in widths:
        values.append(packed[start : start + width].as_signed())
        start += width
    return values


def join(values) -> Value:
    """Inverse of :func:`split`."""
    return Cat(*values)


def widened(packed: Value, bits: int, width: int) -> Value:
    """Signed values of ``bits`` bits, sign-extended to ``width`` bits each."""
    return join(resize(value, width) for value in split(packed, [bits] * (len(packed) // bits)))


def padding_mask(size: int, block_size: int, bits: int) -> int:
    """Ones over the elements, of ``bits`` bits, of the last block of ``size`` elements that are not padding."""
    used = (size - 1) % block_size + 1
    return (1 << (used * bits)) - 1
