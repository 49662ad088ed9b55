"""Choice of a power of two and an offset per input element, and the layer that has them folded into its weights."""

from dataclasses import replace

import numpy as np

from chessrnn.model.conversion.formats import best_fraction_bits
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.input_fold import InputFold
from chessrnn.model.qformat import QFormat

# An offset is taken where it makes the largest magnitude of an element so many times smaller.
OFFSET_GAIN = 4.0
# Magnitudes that differ by more than the range of doubles in use are treated as if they did not.
EXPONENTS = range(-40, 41)


def choose_fold(fmt: QFormat, x: np.ndarray) -> InputFold | None:
    """Choose exponents and offsets that let every element of x (T, B, X) fill the format of x.

    Returns
    -------
    InputFold or None
        ``None`` where one format for all elements, without an offset, is as good.
    """
    exponents, offsets = [], []
    for values in np.moveaxis(x, -1, 0):
        low, high = float(values.min()), float(values.max())
        middle, half = (low + high) / 2, (high - low) / 2
        offset = middle if max(abs(low), abs(high)) > OFFSET_GAIN * half else 0.0
        rest = values - offset
        # The finest fraction bits with the least error; an element that never changes needs no scale.
        best = best_fraction_bits([(rest, 0)], fmt.width, [*reversed(EXPONENTS)]) if rest.any() else fmt.fraction_bits
        exponents.append(best - fmt.fraction_bits)
        offsets.append(offset)
    return InputFold(tuple(exponents), tuple(offsets)) if len(set(exponents)) > 1 or any(offsets) else None


def fold_layer(layer: RecurrentLayer, fold: InputFold) -> RecurrentLayer:
    """Create the layer that computes from x' what the given one computes from x."""
    scale, offsets = 2.0 ** -np.array(fold.exponents, dtype=np.float64), np.array(fold.offsets)
    changed = [replace(w, w_x=w.w_x * scale, bias_x=w.bias_x + w.w_x @ offsets) for w in layer.weights]
    return replace(layer, weights=tuple(changed))
