"""The trainable network of every task: optional embedding, recurrent layers, output layer."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.training.products import Expanded
from chessrnn.model.training.quantizers import fake_quantize
from chessrnn.model.training.trainable_cells import make_layer


class Dropout(NamedTuple):
    """Share of the elements that become zero, and what draws them."""

    share: float
    generator: torch.Generator

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Those that stay grow, so that the mean does."""
        stays = torch.rand(values.shape, generator=self.generator) >= self.share
        return values * (stays / (1 - self.share)).to(values.dtype)


class SequenceNetwork(nn.Module):
    """Sequences → logits of every step; once quantized, equal to ``sequence_model.SequenceModel`` at 0 LSB.

    Parameters
    ----------
    config : Config
    num_outputs : int or None
        V; ``None``: there is no output layer, the results are h.
    num_symbols : int or None
        Rows of the embedding; ``None`` takes real vectors as inputs.
    block_sizes : (int, int), optional
        k of W_x and of W_h where they differ from the configuration's.

    Members
    -------
    embedding : (num_symbols, X) or None
    layer : QuantLayer or QuantStack
    head_weight : (V, P or H), or (⌈V/k⌉, ⌈H/k⌉, k) where ``compression.output_block_size`` is not 1; or None
        Of the output layer; of circulant blocks the defining vectors.
    head_bias : (V,) or None
    head_frac : int
        Fraction bits of the quantized ``head_weight``.
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
        self.embedding = None if num_symbols is None else nn.Parameter(torch.randn(num_symbols, size_x) * 0.3)
        self.head_weight = self.head_bias = None
        if num_outputs is not None:
            k = config.compression.output_block_size
            # A dense matrix has no third axis: its checkpoints and random numbers are those of networks without blocks.
            shape = (circulant.num_blocks(num_outputs, k), circulant.num_blocks(size_h, k), *([k] if k > 1 else []))
            self.head_weight = nn.Parameter(torch.randn(shape) * 0.05)
            self.head_bias = nn.Parameter(torch.zeros(num_outputs))
        self.head_frac = WEIGHT_BITS - 1

    @property
    def config(self) -> Config:
        """Configuration of the layers."""
        return self.layer.config

    @property
    def head_block_size(self) -> int:
        """k of the output layer; 1: dense."""
        return self.head_weight.shape[2] if self.head_weight is not None and self.head_weight.ndim == 3 else 1

    def dense_head(self) -> torch.Tensor:
        """Weights of the output layer (V, H), circulant blocks written out."""
        if self.head_block_size == 1:
            return self.head_weight
        way = Expanded(len(self.head_bias), self.config.output_size, self.head_block_size)
        return way.prepare(self.head_weight[None])[0].T

    @torch.no_grad()
    def set_dense_head(self, weight: torch.Tensor) -> None:
        """Take (V, H) weights of the output layer, or their least-squares projection to circulant blocks."""
        if self.head_block_size > 1:
            projected = circulant.project_padded(weight.detach().double().numpy(), self.head_block_size)
            weight = torch.from_numpy(projected)
        self.head_weight.copy_(weight)

    @property
    def stage(self) -> str:
        """Stage of the layers: one of ``layers.STAGES``."""
        return self.layer.stage

    @property
    def quantized(self) -> bool:
        """Whether the forward pass is the integers'."""
        return self.layer.quantized

    def start_quantization(self, config: Config, head_frac: int = WEIGHT_BITS - 1) -> None:
        """Switch the forward pass to integers with the formats of ``config``."""
        self.layer.config, self.layer.quantized, self.head_frac = config, True, head_frac
        self.clamp_parameters()

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """Bring every parameter back into the range of its format, beyond which it would get no gradient."""
        x = self.config.quantization.x
        if self.embedding is not None:
            self.embedding.clamp_(x.min * x.lsb, x.max * x.lsb)
        if not self.quantized:
            return
        for layer in self.layer.layers:
            layer.clamp_parameters()
        if self.head_weight is not None:
            half = 1 << (WEIGHT_BITS - 1)
            self.head_weight.clamp_(-half * 2.0**-self.head_frac, (half - 1) * 2.0**-self.head_frac)

    def _head(self) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.quantized:
            return self.dense_head(), self.head_bias
        half, bias_half = 1 << (WEIGHT_BITS - 1), 1 << (BIAS_BITS - 1)
        bias_frac = self.head_frac + self.config.quantization.h.fraction_bits
        weight = fake_quantize(self.dense_head(), self.head_frac, -half, half - 1)
        return weight, fake_quantize(self.head_bias, bias_frac, -bias_half, bias_half - 1)

    def forward(self, inputs: torch.Tensor, state=None, dropout: Dropout | None = None):
        """Symbol codes (T, B), or vectors (T, B, X) → real logits (T, B, V) or h, and the final (h, c).

        ``dropout`` thins out what the output layer reads.
        """
        plan = self.layer.plan()
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
        if self.head_weight is None:
            return h, state
        weight, bias = self._head()
        return nn.functional.linear(h, weight.to(h.dtype), bias.to(h.dtype)), state

    @torch.no_grad()
    def logits(self, inputs: np.ndarray, state=None) -> tuple[np.ndarray, object]:
        """As ``SequenceModel.logits``, in the arithmetic of the present stage."""
        result, state = self(torch.from_numpy(np.ascontiguousarray(inputs)), state)
        return result.double().numpy(), state
