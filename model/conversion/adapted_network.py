"""Rounding of all layers of a network by the error of their sums on data, each by what is computed before it."""

from collections.abc import Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.adaptive_rounding import adapted_weights
from chessrnn.model.conversion.hardware_rows import directions
from chessrnn.model.conversion.integer_rounding import integer_outputs, round_layers
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.imported.float_evaluation import relative_error
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.weights import LayerWeights, NetworkWeights, join_layers

Layers = Sequence[RecurrentLayer]
# Times that weights are rounded anew by what the integer network computes.
MAX_ROUNDS = 4


def adapted_network(
    layers: Layers,
    config: Config,
    sizes: list[tuple[int, ...]],
    floats: list[np.ndarray],
    state: list | None,
    rounds: int = MAX_ROUNDS,
    compared: bool = True,
) -> tuple[NetworkWeights, list[list[LayerWeights]], float]:
    """Round all layers by the error of their sums on data, where that lessens the error of h.

    Parameters
    ----------
    floats : list of array
        The data, and h of every layer (:func:`run_layers`).
    rounds : int
        Times that weights are rounded by what the integer network before computes.
    compared : bool
        Whether the weights that are each rounded by themselves are a candidate, too.

    Returns
    -------
    NetworkWeights, list of list of LayerWeights
        The network of :func:`round_layers`, and its parts.
    float
        Error of the last layer's h.
    """
    network, parts, _ = round_layers(layers, config, sizes)
    best, error, read = (network, parts, np.inf), np.inf, None
    if not rounds or compared:
        outputs = integer_outputs(network, floats[0], state)
        error = relative_error(outputs[-1], floats[-1])
        best = network, parts, error
    for _ in range(rounds):
        if error == 0:
            break
        tried = []
        for number, (layer, by_direction) in enumerate(zip(layers, parts, strict=True)):
            here = []
            for direction, (one, part) in enumerate(zip(directions(layer), by_direction, strict=True)):
                turn = slice(None, None, -1 if direction else 1)
                columns = slice(direction * layer.state_size, (direction + 1) * layer.state_size)
                pairs = [
                    (values[number][turn], values[number + 1][turn][..., columns])
                    for values in (floats, read)
                    if values is not None
                ]
                here.append(adapted_weights(one, part, sizes[number], *pairs))
            tried.append(here)
        network = join_layers(config, [part for layer in tried for part in layer])
        outputs = integer_outputs(network, floats[0], state)
        found = relative_error(outputs[-1], floats[-1])
        if found >= error:
            break
        best, error = (network, tried, found), found
        fmt = config.quantization.x
        read = [dequantize(quantize(floats[0], fmt), fmt), *outputs]
    return best
