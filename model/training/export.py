"""Conversion of a trained network to integers: the choice of exponents, and the weight image."""

from collections.abc import Callable

import numpy as np
import torch

from chessrnn.model.config import Config
from chessrnn.model.conversion import formats
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.training.layers import QuantLayer
from chessrnn.model.training.quantizers import codes_of, quantize
from chessrnn.model.training.sequence_model import SequenceModel
from chessrnn.model.training.sequence_network import SequenceNetwork
from chessrnn.model.weight_image import TextLayers, WeightImage
from chessrnn.model.weights import LayerWeights, NetworkWeights, StackWeights


def _reals(values: torch.Tensor) -> np.ndarray:
    return values.detach().double().numpy()


def choose_formats(network: SequenceNetwork) -> tuple[Config, int]:
    """Choose formats for the weights: the configuration, and the fraction bits of the output layer's weights."""
    layers, config = network.layer.layers, network.config
    points = config.quantization
    matrices = [
        (
            np.stack([_reals(matrix.defining) for matrix in layer.weight_x]),
            np.stack([_reals(matrix.defining) for matrix in layer.weight_h]),
        )
        for layer in layers
    ]
    (fracs,) = formats.weight_fraction_bits(config, matrices)
    chosen: dict[str, object] = {"quantization.weight_frac": fracs}
    peepholes: list[torch.Tensor] = [layer.peephole for layer in layers if layer.peephole is not None]
    if peepholes:
        weights = _reals(torch.stack(peepholes))
        chosen["quantization.peephole"] = str(formats.closest_format(points.peephole, weights))
    projections = [_reals(layer.projection.defining) for layer in layers if layer.projection is not None]
    if projections:
        chosen["quantization.projection_frac"] = formats.projection_fraction_bits(config, projections)
    output_frac = formats.best_fraction_bits([(_reals(network.dense_output_weight()), 0)], WEIGHT_BITS)
    return config.replace(chosen), output_frac


@torch.no_grad()
def refine_formats(network: SequenceNetwork, loss: Callable[[], float]) -> None:
    """Shift every exponent of a quantized network by one where that lowers a loss, one gate after the other.

    The squared error of the weights, by which the exponents were chosen, is a good start but not the goal.

    Parameters
    ----------
    network : SequenceNetwork
    loss : callable
        Returns the loss of the network in its present state.
    """
    least = loss()
    for gate in range(network.config.num_gates):
        for change in (-1, 1):
            before = network.config
            fracs = list(before.weight_fracs)
            fracs[gate] += change
            try:
                network.layer.config = before.replace({"quantization.weight_frac": fracs})
            except InvalidValueError:
                continue
            found = loss()
            if found < least:
                least = found
                break
            network.layer.config = before


def _expanded(layer: QuantLayer) -> QuantLayer:
    """Create the same layer with k = 1."""
    one = {"compression.block_size": 1, "compression.output_block_size": 1, "architecture.engine": "direct"}
    config = layer.config.replace(one)
    dense = type(layer)(config, (1, 1))
    dense.stage = layer.stage
    dense.project(layer)
    return dense


@torch.no_grad()
def layer_weights(layer) -> LayerWeights:
    """Round a :class:`chessrnn.model.training.layers.QuantLayer` to integers in the formats of its configuration.

    No configuration describes different block sizes of W_x and W_h; such a layer is expanded to k = 1 first.
    """
    if layer.block_sizes != (layer.config.block_size,) * 2:
        layer = _expanded(layer)
    config = layer.config

    def codes(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return codes_of(values, scale, config.weight_min, config.weight_max, config.has_half_levels)

    gates = []
    steps = layer.steps(config.input_weight_fracs), layer.steps(config.weight_fracs)
    for w_x, w_h, step_x, step_h in zip(layer.weight_x, layer.weight_h, *steps, strict=True):
        parts = (w_x.defining, step_x), (w_h.defining, step_h)
        gates.append(torch.cat([codes(values, step[:, None, None]) for values, step in parts], dim=1))
    defining = torch.stack(gates).long().numpy()
    bias = np.zeros((len(gates), config.num_hidden_blocks * config.block_size), dtype=np.int64)
    low, high = config.bias_format_min_max
    bias_codes = codes_of(layer.bias, layer.bias_scales(), low, high)
    bias[:, : config.network.units] = bias_codes.long().numpy()
    peephole = projection = None
    if layer.peephole is not None:
        fmt = config.quantization.peephole
        peephole = np.zeros((len(config.cell.peepholes), bias.shape[1]), dtype=np.int64)
        peephole_codes = quantize(layer.peephole, fmt.fraction_bits, fmt.min, fmt.max)
        peephole[:, : config.network.units] = peephole_codes.long().numpy()
    if layer.projection is not None:
        lsb = torch.tensor(2.0**-config.projection_frac, dtype=torch.float64)
        projection = codes(layer.projection.defining, lsb).long().numpy()
    scale = layer.row_scales()
    scale = None if scale is None else scale.long().numpy()
    return LayerWeights(config, defining, bias, peephole, projection, scale=scale)


def network_weights(network: SequenceNetwork) -> NetworkWeights:
    """Round all layers to integers: see :func:`layer_weights`."""
    layers = [layer_weights(layer) for layer in network.layer.layers]
    if len(layers) == 1:
        return layers[0]
    config, k = network.config, layers[0].config.block_size
    if k != config.block_size:
        config = config.replace({"compression.block_size": k, "architecture.engine": "direct"})
    return StackWeights(config, tuple(layers))


@torch.no_grad()
def _output_integers(network: SequenceNetwork) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Round the weight and bias of the output layer, and the embedding, to integers."""
    config = network.config
    x = config.quantization.x
    half, bias_half = 1 << (WEIGHT_BITS - 1), 1 << (BIAS_BITS - 1)
    bias_frac = network.output_frac + config.quantization.h.fraction_bits
    embedding = network.embedding
    assert network.output_bias is not None
    return (
        quantize(network.dense_output_weight(), network.output_frac, -half, half - 1).long().numpy(),
        quantize(network.output_bias, bias_frac, -bias_half, bias_half - 1).long().numpy(),
        None if embedding is None else quantize(embedding, x.fraction_bits, x.min, x.max).long().numpy(),
    )


def sequence_model(network: SequenceNetwork) -> SequenceModel:
    """Create the integer model of a trained network."""
    weight, bias, embedding = _output_integers(network)
    return SequenceModel(network_weights(network), OutputLayer(weight, bias, network.output_frac), embedding)


def weight_image(network: SequenceNetwork, symbols: str, **metadata) -> WeightImage:
    """Create the weight image of a character model; ``metadata`` are further fields of ``WeightImage``."""
    block_sizes = network.layer.block_sizes
    if block_sizes != (network.config.block_size,) * 2:
        raise InvalidValueError(f"block sizes of W_x and W_h must be equal in a weight image, not {block_sizes!r}")
    weight, bias, embedding = _output_integers(network)
    text_layers = TextLayers(network.config, weight, bias, network.output_frac, symbols, embedding)
    return WeightImage(network_weights(network), text_layers, **metadata)
