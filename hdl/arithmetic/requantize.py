"""Rounding and saturation as expressions.  Golden functions: ``chessrnn.model.fixed_point``."""

from amaranth.hdl import Cat, Mux, Value

from chessrnn.model.qformat import QFormat


def saturate(value: Value, fmt: QFormat) -> Value:
    """Signed ``value`` clipped to ``fmt``.  Reference: ``chessrnn.model.fixed_point.saturate``."""
    value = Value.cast(value)
    if len(value) <= fmt.width:
        return value.as_signed()
    # In range exactly when every dropped bit equals the sign of the result.
    upper = value[fmt.width - 1 :]
    sign = value[-1]
    clipped = Cat((~sign).replicate(fmt.width - 1), sign)
    return Mux(upper.all() | ~upper.any(), value[: fmt.width], clipped).as_signed()


def requantize(value: Value, fraction_bits: int, fmt: QFormat) -> Value:
    """Signed ``value`` with ``fraction_bits`` fraction bits → ``fmt``: one HALF_UP rounding, then saturation.

    Reference: ``chessrnn.model.fixed_point.requantize``.
    """
    return drop(value + half_lsb(fraction_bits, fmt), fraction_bits, fmt)


def half_lsb(fraction_bits: int, fmt: QFormat) -> int:
    """What makes :func:`drop` round HALF_UP, in units of 2^-fraction_bits."""
    shift = fraction_bits - fmt.fraction_bits
    return 1 << (shift - 1) if shift > 0 else 0


def drop(value: Value, fraction_bits: int, fmt: QFormat) -> Value:
    """Signed ``value`` with ``fraction_bits`` fraction bits → ``fmt``, rounded down, then saturated."""
    shift = fraction_bits - fmt.fraction_bits
    return saturate(value >> shift if shift >= 0 else value << -shift, fmt)


def resize(value: Value, width: int) -> Value:
    """Signed ``value`` sign-extended or truncated (modulo 2^width) to ``width`` bits."""
    value = Value.cast(value)
    if len(value) >= width:
        return value[:width].as_signed()
    return Cat(value, value[-1].replicate(width - len(value))).as_signed()
