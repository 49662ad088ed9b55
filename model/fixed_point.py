"""The arithmetic vocabulary of the model: quantize, dequantize, requantize, saturate.

Nothing else in the reference rounds or saturates.  All integers are NumPy ``int64``.
"""

import numpy as np

from chessrnn.model.qformat import QFormat


def saturate(values, fmt: QFormat) -> np.ndarray:
    """Clip integers to the range of ``fmt``."""
    return np.clip(np.asarray(values, dtype=np.int64), fmt.min, fmt.max)


def shift_half_up(values, shift: int) -> np.ndarray:
    """Divide by 2^shift, with halves rounded towards +∞ (HALF_UP); a negative shift multiplies exactly."""
    values = np.asarray(values, dtype=np.int64)
    if shift <= 0:
        return values << -shift
    return (values + (1 << (shift - 1))) >> shift


def requantize(values, fraction_bits: int, fmt: QFormat) -> np.ndarray:
    """Convert integers with ``fraction_bits`` fraction bits to ``fmt``: one HALF_UP rounding, then saturation."""
    return saturate(shift_half_up(values, fraction_bits - fmt.fraction_bits), fmt)


def quantize(reals, fmt: QFormat) -> np.ndarray:
    """Convert real numbers to integer codes of ``fmt``, HALF_UP and saturating."""
    scaled = np.floor(np.asarray(reals, dtype=np.float64) * 2.0**fmt.fraction_bits + 0.5)
    return np.clip(scaled, fmt.min, fmt.max).astype(np.int64)


def dequantize(codes, fmt: QFormat) -> np.ndarray:
    """Convert integer codes of ``fmt`` to real numbers."""
    return np.asarray(codes, dtype=np.float64) * fmt.lsb
