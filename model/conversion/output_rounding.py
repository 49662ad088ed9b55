"""Rounding of a float output layer to the integers of the accelerator's."""

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.formats import best_fraction_bits
from chessrnn.model.imported.recurrent_network import LinearLayer
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS

FRACTION_BITS = range(-8, 21)


def _codes(values: np.ndarray, frac: int, bits: int) -> np.ndarray:
    """Round (HALF_UP, saturating) to codes of ``bits`` bits."""
    half = 1 << (bits - 1)
    return np.clip(np.floor(values * 2.0**frac + 0.5), -half, half - 1).astype(np.int64)


def round_output(linear: LinearLayer, config: Config) -> OutputLayer:
    """Choose the scale with the least squared error of the weights that the biases allow, and round both."""
    h = config.quantization.h.fraction_bits
    limit = (1 << (BIAS_BITS - 1)) - 1
    largest = float(np.abs(linear.bias).max())
    allowed = [frac for frac in FRACTION_BITS if largest * 2.0 ** (frac + h) <= limit] or [FRACTION_BITS[0]]
    frac = best_fraction_bits([(linear.weight, 0)], WEIGHT_BITS, allowed)
    return OutputLayer(_codes(linear.weight, frac, WEIGHT_BITS), _codes(linear.bias, frac + h, BIAS_BITS), frac)
