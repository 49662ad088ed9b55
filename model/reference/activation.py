"""Golden σ and tanh on integers.  Hardware twin: ``chessrnn.hdl.activation``."""

from functools import lru_cache

import numpy as np

from chessrnn.model.activation_tables import SLOPE_FRACTION_BITS, ActivationTable
from chessrnn.model.fixed_point import saturate, shift_half_up


def activate(x: np.ndarray, table: ActivationTable) -> np.ndarray:
    """Apply a table to codes of ``table.in_format`` (any shape); the result are codes of ``table.out_format``."""
    x = np.asarray(x, dtype=np.int64)
    magnitude = np.abs(x)
    segment = np.searchsorted(np.asarray(table.starts), magnitude, side="right") - 1
    slope = np.asarray(table.slopes)[segment]
    intercept = np.asarray(table.intercepts)[segment] << (table.sum_frac - table.intercept_frac)
    if table.kind == "pwl":
        offset = magnitude - np.asarray(table.starts)[segment]
        frac = table.in_format.fraction_bits + SLOPE_FRACTION_BITS
        line = (slope * offset) << (table.sum_frac - frac)
    else:
        line = magnitude << (table.sum_frac - table.in_format.fraction_bits - slope)
    positive = shift_half_up(intercept + line, table.sum_frac - table.out_format.fraction_bits)
    positive = np.where(magnitude >= table.limit, table.saturated, positive)
    mirrored = -positive if table.function == "tanh" else table.one - positive
    return saturate(np.where(x < 0, mirrored, positive), table.out_format)


@lru_cache(maxsize=32)
def lookup(table: ActivationTable) -> np.ndarray:
    """Array of the results for all codes of ``in_format``; that of code x has the index ``x - in_format.min``."""
    values = activate(np.arange(table.in_format.min, table.in_format.max + 1), table)
    values.setflags(write=False)
    return values
