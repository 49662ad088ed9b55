"""Golden network of layers that each read the h of the layer below.

Hardware twins: ``chessrnn.hdl.accelerator``, ``chessrnn.hdl.bidirectional.bidirectional_accelerator``.
"""

import numpy as np

from chessrnn.model.errors import require
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.weights import NetworkWeights

# The state (h, c) of one layer in one direction.
State = tuple[np.ndarray, np.ndarray]


class NetworkReference:
    """The bit-accurate model of all layers.

    Parameters
    ----------
    weights : LayerWeights or StackWeights
        Weights and configuration of the network.

    Notes
    -----
    In a bidirectional network every layer runs over the sequence from the first step to the last, and with other
    weights from the last step to the first.  Its output at step t consists of the h of both directions at step t,
    forward first (``torch.nn.LSTM(bidirectional=True)``; Schuster and Paliwal 1997).
    """

    def __init__(self, weights: NetworkWeights):
        self.config = weights.config
        self.layers = [LayerReference(layer) for layer in weights.layers]

    def run(self, x, state: list[State] | None = None) -> tuple[np.ndarray, list[State]]:
        """Run whole sequences.

        Parameters
        ----------
        x : integer array (T, B, X)
            Inputs of B sequences of T steps, as codes of the format of x.
        state : list of (h, c), optional
            State of every layer before the first step; zero if left out.

        Returns
        -------
        h : int64 array (T, B, H)
            Output of the last layer, as codes of the format of h: (T, B, P) with a projection, twice as many elements
            with two directions.
        state : list of (h, c)
            State of every layer after its last step; with two directions, forward then reverse for every layer.

        Raises
        ------
        InvalidValueError
            x does not fit the network, or a state is given for a bidirectional network, whose reverse direction begins
            at the end of the whole sequence.
        """
        outputs, final = self.run_layers(x, state)
        return outputs[-1], final

    def run_layers(self, x, state: list[State] | None = None) -> tuple[list[np.ndarray], list[State]]:
        """Run whole sequences like :meth:`run`, but return the h of every layer."""
        both = self.config.network.bidirectional
        require(state is None or not both, "state", "left out for a bidirectional network", type(state).__name__)
        return self._both_directions(x) if both else self._forward(x, state)

    def _forward(self, x, state: list[State] | None) -> tuple[list[np.ndarray], list[State]]:
        outputs, final = [], []
        for layer, start in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, end = layer.run(x, start)
            outputs.append(x)
            final.append(end)
        return outputs, final

    def _both_directions(self, x) -> tuple[list[np.ndarray], list[State]]:
        outputs, final = [], []
        padding = self.config.num_output_blocks * self.config.block_size - self.config.output_size
        x = np.asarray(x)
        for forward, reverse in zip(self.layers[::2], self.layers[1::2], strict=True):
            h, end = forward.run(x)
            reversed_h, reversed_end = reverse.run(x[::-1])
            parts = [h, reversed_h[::-1]]
            outputs.append(np.concatenate(parts, axis=-1))
            final += [end, reversed_end]
            # The layer above reads whole blocks, so each direction is padded separately.
            x = np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, padding))) for part in parts], axis=-1)
        return outputs, final
