"""The trainable network of every task: an optional embedding, recurrent layers, an optional output layer."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.training.products import Expanded
from chessrnn.model.training.quantizers import fake_quantize
from chessrnn.model.training.trainable_cells import make_layer

# Range of the elements of an embedding that ``torch.nn`` draws with deviation 1, a power of two.
EMBEDDING_RANGE = 4.0
# Learning rate of the logarithm of a scale, relative to that of the weights: of a block row, and of a gate, whose scale
# is a power of two and must not change at every update.
ROW_SCALE_RATE, GATE_SCALE_RATE = 0.25, 0.05
# Names of the output layer's parameters in a checkpoint.
STORED_NAMES = {"output_weight": "head_weight", "output_bias": "head_bias"}


class Dropout(NamedTuple):
    """Dropout: the share of the elements that become zero, and the generator that chooses them."""

    share: float
    generator: torch.Generator

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Set some elements to zero and scale the others up, so that the mean stays the same."""
        stays = torch.rand(values.shape, generator=self.generator) >= self.share
        return values * (stays / (1 - self.share)).to(values.dtype)


def _to_stored_names(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """Rename the parameters in a state_dict to their names in a checkpoint."""
    for name, stored in STORED_NAMES.items():
        if prefix + name in state:
            state[prefix + stored] = state.pop(prefix + name)


def _from_stored_names(module: nn.Module, state: dict, prefix: str, *_) -> None:
    """Rename the entries of a state_dict that is to be loaded: the inverse of :func:`_to_stored_names`."""
    for name, stored in STORED_NAMES.items():
        if prefix + stored in state:
            state[prefix + name] = state.pop(prefix + stored)


class SequenceNetwork(nn.Module):
    """Network that maps sequences to logits; once quantized, it equals ``sequence_model.SequenceModel`` at 0 LSB.

    Parameters
    ----------
    config : Config
    num_outputs : int or None
        V; ``None`` is a network without an output layer, whose results are h.
    num_symbols : int or None
        Rows of the embedding; ``None`` takes real vectors as inputs.
    block_sizes : (int, int), optional
        k of W_x and of W_h where they differ from the configuration's.

    Members
    -------
    embedding : (num_symbols, X) or None
    layer : QuantLayer or QuantStack
    output_weight : (V, P or H), or (⌈V/k⌉, ⌈H/k⌉, k) where ``compression.output_block_size`` is not 1; or None
        Weights of the output layer, or the defining vectors of its circulant blocks.
    output_bias : (V,) or None
    output_frac : int
        Fraction bits of the quantized ``output_weight``.

    Notes
    -----
    A state_dict calls the parameters of the output layer by their names in a checkpoint: :data:`STORED_NAMES`.
    """

    def __init__(
        self,
        config: Config,
        num_outputs: int | None,
        num_symbols: int | None = None,
        block_sizes: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.layer = make_layer(config, block_sizes)
        size_x, size_h = config.network.input_size, config.output_size
        self.embedding: nn.Parameter | None = None
        if num_symbols is not None:
            self.embedding = nn.Parameter(torch.randn(num_symbols, size_x) / self.embedding_scale)
            with torch.no_grad():
                for matrix in self.layer.layers[0].weight_x:
                    matrix.defining.mul_(self.embedding_scale)
        self.output_weight: nn.Parameter | None = None
        self.output_bias: nn.Parameter | None = None
        if num_outputs is not None:
            k = config.compression.output_block_size
            # Checkpoints store a dense matrix with two axes.
            shape = (circulant.num_blocks(num_outputs, k), circulant.num_blocks(size_h, k), *([k] if k > 1 else []))
            self.output_weight = nn.Parameter(torch.randn(shape) * 0.05)
            self.output_bias = nn.Parameter(torch.zeros(num_outputs))
        self.output_frac = WEIGHT_BITS - 1
        self.register_state_dict_post_hook(_to_stored_names)
        self.register_load_state_dict_pre_hook(_from_stored_names)

    @property
    def config(self) -> Config:
        """Configuration of the layers."""
        return self.layer.config

    @property
    def embedding_scale(self) -> float:
        """Factor that an embedding is divided by, to fit the format of x; W_x of the first layer has it instead.

        The products are those of an embedding as ``torch.nn`` has it, but the elements of x are within ±1 by default.
        """
        x = self.config.quantization.x
        return EMBEDDING_RANGE / (-x.min * x.lsb)

    def rate_factors(self) -> dict[str, float]:
        """Factors of the learning rates of scales, and of parameters that are larger or smaller than in ``torch.nn``.

        Adam moves every parameter by about its learning rate, whatever the gradient, so the scale must be in the rate.
        """
        names = [name for name, _ in self.named_parameters()]
        rate = ROW_SCALE_RATE if self.config.has_row_scales else GATE_SCALE_RATE
        factors = {name: rate for name in names if name.endswith("log2_scale")}
        if self.embedding is None:
            return factors
        factors["embedding"] = 1 / self.embedding_scale
        first = {id(matrix.defining) for matrix in self.layer.layers[0].weight_x}
        return factors | {name: self.embedding_scale for name, value in self.named_parameters() if id(value) in first}

    @property
    def output_block_size(self) -> int:
        """Block size k of the output layer; 1 is a dense one."""
        return self.output_weight.shape[2] if self.output_weight is not None and self.output_weight.ndim == 3 else 1

    def dense_output_weight(self) -> torch.Tensor:
        """Expand the weights of the output layer to a dense matrix (V, H)."""
        assert self.output_weight is not None and self.output_bias is not None
        if self.output_block_size == 1:
            return self.output_weight
        algorithm = Expanded(len(self.output_bias), self.config.output_size, self.output_block_size)
        return algorithm.prepare(self.output_weight[None])[0].T

    @torch.no_grad()
    def set_output_weight(self, weight: torch.Tensor) -> None:
        """Set the output layer to weights (V, H), or to their least-squares projection to circulant blocks."""
        if self.output_block_size > 1:
            projected = circulant.project_padded(weight.detach().double().numpy(), self.output_block_size)
            weight = torch.from_numpy(projected)
        assert self.output_weight is not None
        self.output_weight.copy_(weight)

    @property
    def stage(self) -> str:
        """Stage of the layers, one of ``layers.STAGES``."""
        return self.layer.stage

    @property
    def quantized(self) -> bool:
        """Whether the forward pass computes integers."""
        return self.layer.quantized

    def start_quantization(
        self,
        config: Config,
        output_frac: int = WEIGHT_BITS - 1,
        keeps_exponents: bool = False,
        trains_scales: bool = True,
    ) -> None:
        """Switch the forward pass to integers with the formats of ``config``.

        Scales of block rows are chosen for its exponents with ``keeps_exponents``, otherwise together with exponents;
        they are trained with ``trains_scales``.
        """
        self.layer.config, self.layer.quantized, self.output_frac = config, True, output_frac
        if config.has_row_scales:
            self.layer.learn_scales(keeps_exponents, trains_scales)
        self.clamp_parameters()

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """Bring every parameter back into the range of its format: beyond it, it would receive no gradient."""
        x = self.config.quantization.x
        if self.embedding is not None:
            self.embedding.clamp_(x.min * x.lsb, x.max * x.lsb)
        if not self.quantized:
            return
        self.layer.adopt_scales()
        for layer in self.layer.layers:
            layer.clamp_parameters()
        if self.output_weight is not None:
            half = 1 << (WEIGHT_BITS - 1)
            self.output_weight.clamp_(-half * 2.0**-self.output_frac, (half - 1) * 2.0**-self.output_frac)

    def _output_layer(self) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.output_bias is not None
        if not self.quantized:
            return self.dense_output_weight(), self.output_bias
        half, bias_half = 1 << (WEIGHT_BITS - 1), 1 << (BIAS_BITS - 1)
        bias_frac = self.output_frac + self.config.quantization.h.fraction_bits
        weight = fake_quantize(self.dense_output_weight(), self.output_frac, -half, half - 1)
        return weight, fake_quantize(self.output_bias, bias_frac, -bias_half, bias_half - 1)

    def forward(self, inputs: torch.Tensor, state=None, dropout: Dropout | None = None):
        """Compute real logits (T, B, V) or h, and the final (h, c).

        Parameters
        ----------
        inputs : int64 (T, B) or float (T, B, X)
            Symbol codes, or vectors.
        state : (h, c), optional
            State that the sequences begin with; zero when left out.
        dropout : Dropout, optional
            Applied to the h that the output layer reads.
        """
        plan: Any = self.layer.plan()  # a stack has one for each layer
        if self.embedding is None:
            from_x = self.layer.project_input(inputs, plan)
        elif len(self.embedding) <= inputs.numel():
            # Few symbols, many steps: W_x is multiplied by the embedding once, not by every x.
            from_x = nn.functional.embedding(inputs, self.layer.project_input(self.embedding, plan))
        else:
            from_x = self.layer.project_input(nn.functional.embedding(inputs, self.embedding), plan)
        h, state = self.layer.recur(from_x, plan, state)
        if dropout is not None:
            h = dropout(h)
        if self.output_weight is None:
            return h, state
        weight, bias = self._output_layer()
        return nn.functional.linear(h, weight.to(h.dtype), bias.to(h.dtype)), state

    @torch.no_grad()
    def logits(self, inputs: np.ndarray, state=None) -> tuple[np.ndarray, object]:
        """Compute logits like ``SequenceModel.logits``, in the arithmetic of the present stage."""
        result, state = self(torch.from_numpy(np.ascontiguousarray(inputs)), state)
        return result.double().numpy(), state
