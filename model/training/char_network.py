"""The trainable character model: embedding, layer, output layer."""

import numpy as np
import torch
from torch import nn

from model.char_model import contiguous_streams
from model.config import Config
from model.training.layers import QuantLstm
from model.training.quantizers import fake_quantize, fake_quantize_to
from model.weight_image import HEAD_BIAS_BITS, HEAD_WEIGHT_BITS


class CharNetwork(nn.Module):
    """Next-character model; once quantized, its forward pass equals ``model.char_model.CharModel`` at 0 LSB.

    Parameters
    ----------
    config : Config
    num_symbols : int
        V.

    Members
    -------
    embedding : (V, X)
    layer : QuantLstm
    head_weight : (V, H)
    head_bias : (V,)
    head_frac : int
        Fraction bits of the quantized ``head_weight``.
    """

    def __init__(self, config: Config, num_symbols: int):
        super().__init__()
        self.layer = QuantLstm(config)
        self.embedding = nn.Parameter(torch.randn(num_symbols, config.network.input_size) * 0.3)
        self.head_weight = nn.Parameter(torch.randn(num_symbols, config.network.hidden_size) * 0.05)
        self.head_bias = nn.Parameter(torch.zeros(num_symbols))
        self.head_frac = HEAD_WEIGHT_BITS - 1

    @property
    def config(self) -> Config:
        """Configuration of the layer."""
        return self.layer.config

    @property
    def quantized(self) -> bool:
        """Whether the forward pass is the integers'."""
        return self.layer.quantized

    def start_quantization(self, config: Config, head_frac: int) -> None:
        """Switch the forward pass to integers with the formats of ``config``."""
        self.layer.config, self.layer.quantized, self.head_frac = config, True, head_frac
        self.clamp_parameters()

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """Bring every parameter back into the range of its format, beyond which it would get no gradient."""
        config = self.config
        x = config.quantization.x
        self.embedding.clamp_(x.min * x.lsb, x.max * x.lsb)
        if not self.quantized:
            return
        low, high = config.weight_min, config.weight_max
        for part, fracs in (
            (self.layer.weight_x, config.input_weight_fracs),
            (self.layer.weight_h, config.quantization.weight_frac),
        ):
            for matrix, frac in zip(part, fracs, strict=True):
                matrix.defining.clamp_(low * 2.0**-frac, high * 2.0**-frac)
        half = 1 << (HEAD_WEIGHT_BITS - 1)
        self.head_weight.clamp_(-half * 2.0**-self.head_frac, (half - 1) * 2.0**-self.head_frac)

    def _head(self) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.quantized:
            return self.head_weight, self.head_bias
        half, bias_half = 1 << (HEAD_WEIGHT_BITS - 1), 1 << (HEAD_BIAS_BITS - 1)
        bias_frac = self.head_frac + self.config.quantization.h.fraction_bits
        weight = fake_quantize(self.head_weight, self.head_frac, -half, half - 1)
        return weight, fake_quantize(self.head_bias, bias_frac, -bias_half, bias_half - 1)

    def forward(self, codes: torch.Tensor, state=None):
        """Symbol codes (T, B) → real logits (T, B, V), and the final (h, c)."""
        embedding = self.embedding
        if self.quantized:
            embedding = fake_quantize_to(embedding, self.config.quantization.x)
        # Few symbols, many steps: W_x is multiplied by the embedding once, not by every x.
        plan = self.layer.plan()
        from_x = nn.functional.embedding(codes, self.layer.project_input(embedding, plan))
        h, state = self.layer.recur(from_x, plan, state)
        weight, bias = self._head()
        return nn.functional.linear(h, weight.to(h.dtype), bias.to(h.dtype)), state

    @torch.no_grad()
    def bits_per_character(self, codes: torch.Tensor, streams: int = 64, chunk: int = 64) -> float:
        """Over a text (N,) in contiguous streams, as ``CharModel.bits_per_character``."""
        inputs, valid = (
            torch.from_numpy(np.ascontiguousarray(a)) for a in contiguous_streams(codes[:-1].numpy(), streams)
        )
        targets = torch.from_numpy(np.ascontiguousarray(contiguous_streams(codes[1:].numpy(), streams)[0]))
        state, total = None, 0.0
        for start in range(0, len(inputs), chunk):
            part = slice(start, start + chunk)
            logits, state = self(inputs[part], state)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets[part].flatten(), reduction="none")
            total += float(loss.double()[valid[part].flatten()].sum())
        return total / float(np.log(2.0)) / (len(codes) - 1)
