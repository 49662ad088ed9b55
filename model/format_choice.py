"""Choice of fixed-point formats from data: powers of two with the least squared error."""

import numpy as np

from model.config import Config
from model.qformat import QFormat

# Fraction bits that are tried for a weight, and for a vector element: there the finest of equals comes first.
CANDIDATES = range(-2, 13)
ELEMENT_CANDIDATES = range(12, -9, -1)
PROJECTION_CANDIDATES = range(13)


def squared_error(values: np.ndarray, frac: int, bits: int) -> float:
    """Sum of the squared errors of rounding (HALF_UP) and saturation to codes of a width."""
    half = 1 << (bits - 1)
    codes = np.clip(np.floor(values * 2.0**frac + 0.5), -half, half - 1)
    return float(((codes * 2.0**-frac - values) ** 2).sum())


def best_fraction_bits(groups: list[tuple[np.ndarray, int]], bits: int, candidates=CANDIDATES) -> int:
    """Fraction bits with the least squared error of rounding and saturation; the first among equals.

    Parameters
    ----------
    groups : list of (float64 array, int)
        Real values, and how many fraction bits more than the answer their codes have.
    bits : int
        Width of a code.
    """
    return min(candidates, key=lambda frac: sum(squared_error(values, frac + more, bits) for values, more in groups))


def weight_candidates(config: Config) -> list[int]:
    """Fraction bits that ``weight_frac`` may have: a sum must not be coarser than what it is rounded to."""
    points = config.quantization
    least = getattr(points, config.cell.sum_format).fraction_bits - points.h.fraction_bits
    return [frac for frac in CANDIDATES if frac >= least] or [least]


def with_fraction_bits(fmt: QFormat, fraction_bits: int) -> QFormat:
    """A format of the same width with other fraction bits."""
    return QFormat(fmt.width - fraction_bits, fraction_bits)


def closest_format(fmt: QFormat, values: np.ndarray) -> QFormat:
    """The format of the same width with the least squared error over some values."""
    return with_fraction_bits(fmt, best_fraction_bits([(values, 0)], fmt.width, ELEMENT_CANDIDATES))
