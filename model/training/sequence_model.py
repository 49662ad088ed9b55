"""The whole network in integers, inputs → logits, around the bit-accurate reference; accuracy is measured on it."""

import numpy as np

from chessrnn.model.errors import require
from chessrnn.model.fixed_point import quantize
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.reference.matvec import ExactMatrix
from chessrnn.model.reference.network import NetworkReference, State
from chessrnn.model.weights import NetworkWeights


class SequenceModel:
    """Network that computes the logits of whole sequences with the NumPy reference.

    Parameters
    ----------
    weights : LayerWeights
    output : OutputLayer
    embedding : int64 array (V, X), optional
        Codes of every symbol in the format of x.  Without it the inputs are real vectors, which are quantized to that
        format.
    """

    def __init__(self, weights: NetworkWeights, output: OutputLayer, embedding: np.ndarray | None = None):
        self.config = config = weights.config
        self.reference = NetworkReference(weights)
        self.output, self.embedding = output, embedding
        self._matrix = ExactMatrix(output.weight, -config.quantization.h.min)
        self._logit_lsb = 2.0 ** -(output.weight_frac + config.quantization.h.fraction_bits)

    def integers(self, inputs: np.ndarray) -> np.ndarray:
        """Compute the accelerator's inputs (T, B, X), integers, from symbol codes (T, B) or real vectors (T, B, X)."""
        if self.embedding is not None:
            require(inputs.ndim == 2, "inputs", "symbol codes of shape (steps, batch)", inputs.shape)
            return self.embedding[inputs]
        return quantize(inputs, self.config.quantization.x)

    def logits(self, inputs: np.ndarray, state=None) -> tuple[np.ndarray, list[State]]:
        """Compute real logits (T, B, V), float64 multiples of an LSB, and the final (h, c) in integers."""
        h, state = self.reference.run(self.integers(inputs), state)
        return (self._matrix(h).astype(np.int64) + self.output.bias) * self._logit_lsb, state
