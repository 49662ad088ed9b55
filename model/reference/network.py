"""Golden network: layers in a row, each reading the h of the one below.

Hardware twin: ``chessrnn.hdl.accelerator``.
"""

import numpy as np

from chessrnn.model.errors import require
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.weights import NetworkWeights

# Of one layer (of one direction): h and the state of its cell.
State = tuple[np.ndarray, np.ndarray]


class NetworkReference:
    """Bit-accurate model of all layers.

    Parameters
    ----------
    weights : LayerWeights or StackWeights

    Notes
    -----
    Of a bidirectional network every layer runs over the sequence from its first step to its last, and with other
    weights from its last to its first; its output at step t is both h that were made of x at step t, forward first
    (``torch.nn.LSTM(bidirectional=True)``; Schuster and Paliwal 1997).
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
            With two directions (T, B, 2H), and the (h, c) of each direction of every layer.

        Raises
        ------
        InvalidValueError
            A state for a bidirectional network, whose reverse direction begins at the end of the whole sequence.
        """
        outputs, final = self.run_layers(x, state)
        return outputs[-1], final

    def run_layers(self, x, state: list[State] | None = None) -> tuple[list[np.ndarray], list[State]]:
        """As :meth:`run`, with the h of every layer."""
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
            # The layer above reads blocks: each direction is padded by itself.
            x = np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, padding))) for part in parts], axis=-1)
        return outputs, final
