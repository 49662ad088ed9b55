"""Several signed values of different widths in one bit vector, first value lowest."""

from amaranth.hdl import Cat, Value


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
