"""Rounding and saturation as expressions.  The golden functions are in ``chessrnn.model.fixed_point``."""

from amaranth.hdl import Cat, Mux, Value

from chessrnn.model.qformat import QFormat


def saturate(value: Value, fmt: QFormat, seen: list[Value] | None = None) -> Value:
    """Clip the signed ``value`` to the range of ``fmt``.  Reference: ``chessrnn.model.fixed_point.saturate``.

    A bit that is 1 while the value is clipped is appended to ``seen``, as in the functions below, unless every value
    fits.
    """
    value = Value.cast(value)
    if len(value) <= fmt.width:
        return value.as_signed()
    # The value is in range exactly if every removed bit equals the sign of the result.
    upper = value[fmt.width - 1 :]
    sign = value[-1]
    clipped, fits = Cat((~sign).replicate(fmt.width - 1), sign), upper.all() | ~upper.any()
    if seen is not None:
        seen.append(~fits)
    return Mux(fits, value[: fmt.width], clipped).as_signed()


def requantize(value: Value, fraction_bits: int, fmt: QFormat, seen: list[Value] | None = None) -> Value:
    """Convert a signed value with ``fraction_bits`` fraction bits to ``fmt``: one HALF_UP rounding, then saturation.

    Reference: ``chessrnn.model.fixed_point.requantize``.
    """
    return drop(value + half_lsb(fraction_bits, fmt), fraction_bits, fmt, seen)


def half_lsb(fraction_bits: int, fmt: QFormat) -> int:
    """The constant, in units of 2^-fraction_bits, that makes :func:`drop` round HALF_UP if it is added before."""
    shift = fraction_bits - fmt.fraction_bits
    return 1 << (shift - 1) if shift > 0 else 0


def drop(value: Value, fraction_bits: int, fmt: QFormat, seen: list[Value] | None = None) -> Value:
    """Convert a signed value with ``fraction_bits`` fraction bits to ``fmt``: one FLOOR rounding, then saturation."""
    shift = fraction_bits - fmt.fraction_bits
    return saturate(value >> shift if shift >= 0 else value << -shift, fmt, seen)


def resize(value: Value, width: int) -> Value:
    """Bring the signed ``value`` to ``width`` bits: sign-extended, or wrapped modulo 2^width."""
    value = Value.cast(value)
    if len(value) >= width:
        return value[:width].as_signed()
    return Cat(value, value[-1].replicate(width - len(value))).as_signed()
