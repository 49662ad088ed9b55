"""Rounding of float layers to integers, the float layers that integers stand for, and h of the integer network."""

from collections.abc import Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.hardware_rows import Blocks, blocks_of_layer, directions, layer_of_blocks
from chessrnn.model.conversion.row_scales import Scales, choose_scales
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import LayerWeights, NetworkWeights, join_layers

Layers = Sequence[RecurrentLayer]


def integer_weights(
    layer: RecurrentLayer, config: Config, sizes: tuple[int, ...] | None = None, scale: np.ndarray | None = None
) -> tuple[LayerWeights, int]:
    """Round the weights (HALF_UP, saturating) of a projected layer of one direction, and count those that saturate.

    Parameters
    ----------
    sizes : tuple of int, optional
        Parts of the layer's input that are padded separately, see :func:`input_sizes`.
    scale : int64 array (G, H/k), optional
        Scales of the block rows that the weights were trained for; left out, they are chosen where the configuration
        has them.
    """
    blocks, points = blocks_of_layer(layer, config.block_size, sizes), config.quantization
    padded = config.num_hidden_blocks * config.block_size
    saturated = 0

    def codes(values: np.ndarray, fracs, least: int, greatest: int) -> np.ndarray:
        nonlocal saturated
        scaled = np.floor(values * 2.0 ** np.array(fracs).reshape(-1, *[1] * (values.ndim - 1)) + 0.5)
        saturated += int(((scaled < least) | (scaled > greatest)).sum())
        return np.clip(scaled, least, greatest).astype(np.int64)

    def per_unit(values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, padded - values.shape[1])))

    def weight_codes(values: np.ndarray, fracs) -> np.ndarray:
        least, greatest = config.weight_min, config.weight_max
        if not config.has_half_levels:
            return codes(values, fracs, least, greatest)
        # The nearest odd integer 2·q + 1: q rounds half of the weight less one.
        one = 2.0 ** -np.array(fracs, dtype=np.float64).reshape(-1, *[1] * (values.ndim - 1))
        return 2 * codes(values - one, np.array(fracs) - 1, least // 2, greatest // 2) + 1

    w_x, w_h, bias = blocks.w_x, blocks.w_h, blocks.bias
    if config.has_row_scales and scale is None:
        scale, _ = choose_scales(w_x, w_h, config, config.weight_fracs)
    if scale is not None:
        of_blocks = scale * 2.0**-config.scale_frac
        w_x, w_h = (part / of_blocks[:, :, None, None] for part in (w_x, w_h))
        bias = bias / of_blocks.repeat(config.block_size, axis=1)[:, : bias.shape[1]]
    defining = weight_codes(w_x, config.input_weight_fracs), weight_codes(w_h, config.weight_fracs)
    bias = codes(bias, config.accumulator_fracs, *config.bias_format_min_max)
    peephole, projection = blocks.peephole, blocks.projection
    if peephole is not None:
        fmt = points.peephole
        peephole = per_unit(codes(peephole, [fmt.fraction_bits] * 3, fmt.min, fmt.max))
    if projection is not None:
        projection = weight_codes(projection, [config.projection_frac])
    arrays = np.concatenate(defining, axis=2), per_unit(bias), peephole, projection
    return LayerWeights(config, *arrays, scale=scale), saturated


def restored_layer(
    layer: RecurrentLayer, weights: LayerWeights, sizes: tuple[int, ...] | None = None
) -> RecurrentLayer:
    """Create the float layer of one direction that has exactly the values of the integers.

    Parameters
    ----------
    sizes : tuple of int, optional
        Parts of the layer's input that are padded separately, see :func:`input_sizes`.
    """
    config, points = weights.config, weights.config.quantization
    size_h, start = config.network.units, config.num_input_blocks
    scales = np.ones((config.num_gates, config.num_hidden_blocks))
    if weights.scale is not None:
        scales = weights.scale * 2.0**-config.scale_frac
    of_units, of_blocks = scales.repeat(config.block_size, axis=1)[:, :size_h], scales[:, :, None, None]

    def reals(codes: np.ndarray, fracs: tuple[int, ...]) -> np.ndarray:
        return codes * 2.0 ** -np.array(fracs, dtype=np.float64).reshape(-1, *[1] * (codes.ndim - 1))

    blocks = Blocks(
        reals(weights.defining[:, :, :start] * of_blocks, config.input_weight_fracs),
        reals(weights.defining[:, :, start:] * of_blocks, config.weight_fracs),
        reals(weights.bias[:, :size_h] * of_units, config.accumulator_fracs),
        None if weights.peephole is None else dequantize(weights.peephole[:, :size_h], points.peephole),
        None if weights.projection is None else weights.projection * 2.0**-config.projection_frac,
    )
    return layer_of_blocks(layer, blocks, sizes)


def integer_outputs(weights: NetworkWeights, x: np.ndarray, state: list | None) -> list[np.ndarray]:
    """Run the integer reference: h of every layer as real numbers, (T, B, H) or (T, B, 2H) for both directions."""
    points = weights.config.quantization
    outputs, _ = NetworkReference(weights).run_layers(quantize(x, points.x), state)
    return [dequantize(codes, points.h) for codes in outputs]


def round_layers(
    layers: Layers, config: Config, sizes: list[tuple[int, ...]], scales: Scales | None = None
) -> tuple[NetworkWeights, list[list[LayerWeights]], list[int]]:
    """Round all layers: the network, the parts of each layer by direction, and how many values of it saturate."""
    rounded = [
        [
            integer_weights(one, config.layer(number), sizes[number], scales[number][direction] if scales else None)
            for direction, one in enumerate(directions(layer))
        ]
        for number, layer in enumerate(layers)
    ]
    parts = [[weights for weights, _ in layer] for layer in rounded]
    network = join_layers(config, [part for layer in parts for part in layer])
    return network, parts, [sum(number for _, number in layer) for layer in rounded]
