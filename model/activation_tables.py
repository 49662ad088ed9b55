"""Integer tables of the piecewise-linear approximation of σ and tanh.

Both kinds work on the magnitude a = |x| and correct the result for the sign afterwards (tanh(-x) = -tanh(x),
σ(-x) = 1 - σ(x)), so a table covers only the positive half axis:

- ``pwl`` has segments of equal width over [0, limit), each with a line ``intercept + slope · offset``, where the offset
  is counted from the start of the segment; from the limit on the result is a constant.
- ``shift`` has segments of unequal width; the slope of each is 2^-j, so the product is a shift.

The trainer, the reference and the RTL share the constants of this file, but not the arithmetic.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from chessrnn.model.errors import require
from chessrnn.model.qformat import QFormat

FUNCTIONS = {
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-np.asarray(x, dtype=np.float64))),
    "tanh": lambda x: np.tanh(np.asarray(x, dtype=np.float64)),
}
# Beyond these arguments the functions are within 4e-4 (σ) and 7e-4 (tanh) of 1.
LIMITS = {"sigmoid": 8, "tanh": 4}
GUARD_BITS = 3
SLOPE_FRACTION_BITS = 10


@dataclass(frozen=True)
class ActivationTable:
    """The integer table of one function between two formats.

    Attributes
    ----------
    function : str
        ``"sigmoid"`` or ``"tanh"``.
    kind : str
        ``"pwl"`` or ``"shift"``.
    in_format, out_format : QFormat
        Formats of the argument and of the result.
    starts : tuple of int
        First magnitude of each segment, in LSBs of ``in_format``; ``starts[0]`` is 0.
    intercepts : tuple of int
        Value of the line at the start of the segment (``pwl``) or at zero (``shift``), with ``intercept_frac`` fraction
        bits.
    slopes : tuple of int
        Slope with ``SLOPE_FRACTION_BITS`` fraction bits (``pwl``), or the j of the slope 2^-j (``shift``).
    offset_bits : int
        Width of the offset: a segment of ``pwl`` is 2^offset_bits LSBs wide.  0 for ``shift``.
    sum_frac : int
        Number of fraction bits of intercept + slope · offset before the one rounding to ``out_format``.
    saturated : int
        Result for every magnitude from ``limit`` on, in ``out_format``.
    limit : int
        Least magnitude with the result ``saturated``, in LSBs of ``in_format``.
    """

    function: str
    kind: str
    in_format: QFormat
    out_format: QFormat
    starts: tuple[int, ...]
    intercepts: tuple[int, ...]
    slopes: tuple[int, ...]
    offset_bits: int
    sum_frac: int
    saturated: int
    limit: int

    @property
    def intercept_frac(self) -> int:
        """Number of fraction bits of an intercept."""
        return self.out_format.fraction_bits + GUARD_BITS

    @property
    def one(self) -> int:
        """Code of 1.0 in ``out_format``."""
        return 1 << self.out_format.fraction_bits


def pwl_offset_bits(function: str, segments: int, in_format: QFormat) -> int:
    """Binary logarithm of the width of a ``pwl`` segment in LSBs; negative if the format is too coarse."""
    # If the range of the format ends before the usual limit, all segments lie within that range.
    limit_bits = min((LIMITS[function].bit_length() - 1) + in_format.fraction_bits, in_format.width - 1)
    return limit_bits - (segments.bit_length() - 1)


def _saturated(function: str, limit: int, in_format: QFormat, out_format: QFormat) -> int:
    """Constant with the least maximum error from ``limit`` to the end of the format: the middle of f there, rounded."""
    end = 1 << (in_format.width - 1)
    middle = float(FUNCTIONS[function](np.array([limit, end]) * in_format.lsb).mean())
    return int(np.floor(middle * 2.0**out_format.fraction_bits + 0.5))


def _pwl_table(function: str, segments: int, in_format: QFormat, out_format: QFormat) -> ActivationTable:
    f = FUNCTIONS[function]
    offset_bits = pwl_offset_bits(function, segments, in_format)
    require(offset_bits >= 0, f"input format of {function}", f"fine enough for {segments} segments", str(in_format))
    guard = out_format.fraction_bits + GUARD_BITS
    width = 1 << offset_bits
    starts, intercepts, slopes = [], [], []
    for segment in range(segments):
        start = segment * width
        x = (start + np.arange(width + 1)) * in_format.lsb
        y = f(x)
        chord = (y[-1] - y[0]) / (x[-1] - x[0])
        slope = int(np.floor(chord * 2.0**SLOPE_FRACTION_BITS + 0.5))
        # The intercept of least maximum error for a given slope is the middle between the extremes of the residual.
        rest = y - slope * 2.0**-SLOPE_FRACTION_BITS * (x - x[0])
        at_origin = float(f(0.0))
        value = at_origin if segment == 0 else (float(rest.max()) + float(rest.min())) / 2.0
        starts.append(start)
        slopes.append(slope)
        intercepts.append(int(np.floor(value * 2.0**guard + 0.5)))
    sum_frac = max(guard, in_format.fraction_bits + SLOPE_FRACTION_BITS)
    limit = segments * width
    saturated = _saturated(function, limit, in_format, out_format)
    return ActivationTable(
        function, "pwl", in_format, out_format, tuple(starts), tuple(intercepts), tuple(slopes), offset_bits,
        sum_frac, saturated, limit,
    )  # fmt: skip


def _touching_magnitudes(function: str, slopes: np.ndarray, in_format: QFormat) -> np.ndarray:
    """Magnitudes around the point where the function has a slope, (slopes, 4), in LSBs."""
    # tanh' = 1 - tanh², σ' = σ (1 - σ); a slope that exceeds f'(0) is nearest at 0.
    derivative_at_zero = {"sigmoid": 0.25, "tanh": 1.0}[function]
    share = np.sqrt(np.maximum(1.0 - slopes / derivative_at_zero, 0.0))
    points = np.arctanh(share) * {"sigmoid": 2.0, "tanh": 1.0}[function]
    nearest = np.floor(points / in_format.lsb)[:, None] + np.arange(-1, 3)
    return np.clip(nearest, 0, 1 << (in_format.width - 1))


def _shift_table(function: str, segments: int, in_format: QFormat, out_format: QFormat) -> ActivationTable:
    """Build a table of lines of slope 2^-j: tangents of the concave function, then moved to reduce the error."""
    f = FUNCTIONS[function]
    first = {"sigmoid": 2, "tanh": 0}[function]
    shifts = list(range(first, first + segments))
    guard = out_format.fraction_bits + GUARD_BITS
    unit = 2.0**-guard
    largest = 1 << (in_format.width - 1)
    slopes = np.array([2.0**-j for j in shifts])
    touching = _touching_magnitudes(function, slopes, in_format)
    tangents = (f(touching * in_format.lsb) - touching * in_format.lsb * slopes[:, None]).max(axis=1)
    codes = [int(np.floor(value / unit + 0.5)) for value in tangents.tolist()]
    top = float(f(np.array([largest * in_format.lsb]))[0])
    cap = int(np.floor(min(1.0, (top + 1.0) / 2.0) / unit + 0.5))
    # The approximation is the least of the lines and the cap, and f is concave: between two crossings of lines their
    # difference is convex, so that its extremes are at crossings, at the ends, or where f has the slope of a line.  All
    # of the magnitudes between, up to 2^23, need not be tried.
    all_slopes = np.append(slopes, 0.0)
    first_line, second_line = np.triu_indices(len(all_slopes), 1)
    always = np.append(touching.reshape(-1), [0, largest])

    def error(candidate: list[int]) -> float:
        values = np.append(candidate, cap) * unit
        crossings = (values[second_line] - values[first_line]) / (all_slopes[first_line] - all_slopes[second_line])
        below = np.floor(np.clip(crossings / in_format.lsb, 0, largest))
        tried = np.concatenate([always, below, np.minimum(below + 1, largest)]) * in_format.lsb
        approximation = (values[:, None] + tried * all_slopes[:, None]).min(axis=0)
        # Rounded, so that a difference in the last place between the tanh of two machines never changes the table.
        return round(float(np.abs(approximation - f(tried)).max()), 9)

    # The first line remains the tangent through f(0), so the approximation stays continuous there (and odd, for tanh).
    span = max(1, (1 << guard) >> 5)
    step = span
    while step >= 1:
        for j in range(1, segments):
            trials = [codes[:j] + [codes[j] + delta] + codes[j + 1 :] for delta in (0, -step, step)]
            codes = min(trials, key=error)
        step //= 2
    # The approximation is the lower envelope of the lines: segment j begins where its line is not above the previous
    # one.
    starts = [0]
    for (a, code_a), (b, code_b) in pairwise(zip(shifts, codes, strict=True)):
        crossing = (code_b - code_a) * unit / (2.0**-a - 2.0**-b)
        starts.append(max(starts[-1], int(np.ceil(crossing * 2.0**in_format.fraction_bits - 1e-9))))
    crossing = (cap - codes[-1]) * unit * 2.0 ** shifts[-1]
    limit = max(starts[-1], int(np.ceil(crossing * 2.0**in_format.fraction_bits - 1e-9)))
    saturated = int(np.floor(cap * unit * 2.0**out_format.fraction_bits + 0.5))
    sum_frac = max(guard, in_format.fraction_bits + shifts[-1])
    return ActivationTable(
        function, "shift", in_format, out_format, tuple(starts), tuple(codes), tuple(shifts), 0, sum_frac,
        saturated, limit,
    )  # fmt: skip


@cache
def activation_table(
    function: str, kind: str, segments: int, in_format: QFormat, out_format: QFormat
) -> ActivationTable:
    """Integer table of ``function`` from ``in_format`` to ``out_format``."""
    make = _pwl_table if kind == "pwl" else _shift_table
    return make(function, segments, in_format, out_format)
