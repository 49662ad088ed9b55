"""Golden LSTM cell update.  Hardware twin: ``hdl.cell_update``."""

import numpy as np

from model.config import Config
from model.fixed_point import requantize
from model.reference.activation import activate, lookup

LOOKUP_BITS = 16


def apply_table(values: np.ndarray, table) -> np.ndarray:
    """``activate`` through a table of all results where that table is small."""
    if table.in_format.width > LOOKUP_BITS:
        return activate(values, table)
    return lookup(table)[values - table.in_format.min]


def next_cell(config: Config, i, f, g, c) -> np.ndarray:
    """c' = f·c + i·g at full width, one rounding to the format of cell."""
    gate, cell = config.quantization.gate, config.quantization.cell
    forget_frac, input_frac = gate.fraction_bits + cell.fraction_bits, 2 * gate.fraction_bits
    frac = max(forget_frac, input_frac)
    total = ((f * c) << (frac - forget_frac)) + ((i * g) << (frac - input_frac))
    return requantize(total, frac, cell)


def next_hidden(config: Config, o, c) -> np.ndarray:
    """h' = o·tanh(c'), one rounding to the format of h."""
    tanh_c = apply_table(c, config.cell_table)
    return requantize(o * tanh_c, 2 * config.quantization.gate.fraction_bits, config.quantization.h)
