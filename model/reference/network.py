"""Golden network: layers in a row, each reading the h of the one below.  Hardware twin: ``hdl.accelerator``."""

import numpy as np

from model.reference.layer import LayerReference
from model.weights import NetworkWeights

# Of one layer: h and the state of its cell.
State = tuple[np.ndarray, np.ndarray]


class NetworkReference:
    """Bit-accurate model of all layers.

    Parameters
    ----------
    weights : LayerWeights or StackWeights
    """

    def __init__(self, weights: NetworkWeights):
        self.config = weights.config
        self.layers = [LayerReference(layer) for layer in weights.layers]

    def run(self, x, state: list[State] | None = None) -> tuple[np.ndarray, list[State]]:
        """Whole sequences.

        Parameters
        ----------
        x : integer array (T, B, X) in the format of x
        state : list of (h, c) per layer, zero when left out

        Returns
        -------
        h : int64 array (T, B, H) of the last layer in the format of h, and the final (h, c) of every layer
        """
        final = []
        for layer, start in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, end = layer.run(x, start)
            final.append(end)
        return x, final
