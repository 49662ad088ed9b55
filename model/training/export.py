"""From a trained network to integers: choice of exponents, and the weight image."""

import numpy as np
import torch

from model.config import Config
from model.training.char_network import CharNetwork
from model.training.quantizers import quantize
from model.weight_image import HEAD_BIAS_BITS, HEAD_WEIGHT_BITS, Head, WeightImage
from model.weights import LstmWeights

CANDIDATES = range(-2, 13)


def best_fraction_bits(groups: list[tuple[torch.Tensor, int]], bits: int, candidates=CANDIDATES) -> int:
    """Fraction bits with the least squared error of rounding and saturation; the fewest among equals.

    Parameters
    ----------
    groups : list of (tensor, int)
        Real values, and how many fraction bits more than the answer their codes have.
    bits : int
        Width of a code.
    """
    half = 1 << (bits - 1)

    def error(frac: int) -> float:
        total = 0.0
        for values, more in groups:
            values = values.detach().double()
            restored = quantize(values, frac + more, -half, half - 1) * 2.0 ** -(frac + more)
            total += float(((restored - values) ** 2).sum())
        return total

    return min(candidates, key=error)


def choose_formats(network: CharNetwork) -> tuple[Config, int]:
    """The configuration with ``weight_frac`` chosen per gate from the weights, and the head's fraction bits."""
    layer, config = network.layer, network.config
    bits, points = config.quantization.weight_bits, config.quantization
    more = points.h.fraction_bits - points.x.fraction_bits
    # The accumulator must not be coarser than preact.
    least = points.preact.fraction_bits - points.h.fraction_bits
    allowed = [frac for frac in CANDIDATES if frac >= least] or [least]
    fracs = [
        best_fraction_bits([(w_x.defining, more), (w_h.defining, 0)], bits, allowed)
        for w_x, w_h in zip(layer.weight_x, layer.weight_h, strict=True)
    ]
    head_frac = best_fraction_bits([(network.head_weight, 0)], HEAD_WEIGHT_BITS)
    return config.replace({"quantization.weight_frac": fracs}), head_frac


@torch.no_grad()
def layer_weights(layer) -> LstmWeights:
    """Integers of a :class:`model.training.layers.QuantLstm`, with the formats of its configuration."""
    config = layer.config
    low, high = config.weight_min, config.weight_max
    gates = []
    for gate, (w_x, w_h) in enumerate(zip(layer.weight_x, layer.weight_h, strict=True)):
        parts = (
            (w_x.defining, config.input_weight_fracs[gate]),
            (w_h.defining, config.quantization.weight_frac[gate]),
        )
        gates.append(torch.cat([quantize(values, frac, low, high) for values, frac in parts], dim=1))
    defining = torch.stack(gates).long().numpy()
    bias = np.zeros((len(gates), config.num_hidden_blocks * config.block_size), dtype=np.int64)
    fracs = torch.tensor(config.accumulator_fracs)[:, None]
    bias[:, : config.network.hidden_size] = quantize(layer.bias, fracs, *config.bias_format_min_max).long().numpy()
    return LstmWeights(config, defining, bias)


@torch.no_grad()
def weight_image(network: CharNetwork, symbols: str, **metadata) -> WeightImage:
    """Integers of a character model; ``metadata`` as in :class:`model.weight_image.WeightImage`."""
    config = network.config
    x = config.quantization.x
    half, bias_half = 1 << (HEAD_WEIGHT_BITS - 1), 1 << (HEAD_BIAS_BITS - 1)
    head = Head(
        config,
        quantize(network.head_weight, network.head_frac, -half, half - 1).long().numpy(),
        quantize(
            network.head_bias, network.head_frac + config.quantization.h.fraction_bits, -bias_half, bias_half - 1
        ).long().numpy(),
        network.head_frac,
        symbols,
        quantize(network.embedding, x.fraction_bits, x.min, x.max).long().numpy(),
    )  # fmt: skip
    return WeightImage(layer_weights(network.layer), head, **metadata)
