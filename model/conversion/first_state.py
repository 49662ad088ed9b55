"""First state of an imported network in the accelerator's integers."""

from collections.abc import Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.fixed_point import quantize, requantize
from chessrnn.model.imported.float_evaluation import initial_state
from chessrnn.model.imported.recurrent_network import RecurrentLayer


def begins_elsewhere(layers: Sequence[RecurrentLayer]) -> bool:
    """Whether a network begins with a state other than zero, from the file or from a graph input."""
    return any(
        layer.state_inputs or w.initial_h is not None or w.initial_c is not None
        for layer in layers
        for w in layer.weights
    )


def first_states(
    config: Config, layers: Sequence[RecurrentLayer], batch: int
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Quantize (h, c) of every layer to integers (B, P or H) and (B, H); ``None`` where the file has only zeros.

    Raises
    ------
    InvalidValueError
        The file's states have another batch size.
    """
    if all(w.initial_h is None and w.initial_c is None for layer in layers for w in layer.weights):
        return None
    points, states = config.quantization, []
    for layer in layers:
        h, c = (None if part is None else part[0] for part in initial_state(layer, batch))
        if layer.cell == "lstm":
            states.append((quantize(h, points.h), quantize(c, points.cell)))
        elif layer.cell == "gru":
            # The state of a GRU is its h with more fraction bits: see docs/cells.md.
            state = quantize(h, points.cell)
            states.append((requantize(state, points.cell.fraction_bits, points.h), state))
        else:
            states.append((quantize(h, points.h),) * 2)
    return states


def num_first_states(layers: Sequence[RecurrentLayer]) -> int:
    """Count the sequences that the file has first states for; 0 where one or none serves any number."""
    parts = (part for layer in layers for w in layer.weights for part in (w.initial_h, w.initial_c))
    return max((len(part) for part in parts if part is not None and len(part) > 1), default=0)
