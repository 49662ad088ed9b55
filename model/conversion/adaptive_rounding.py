"""Rounding of weights by the error of their sums on data, in place of the error of each weight by itself.

Rounding a weight changes a sum in proportion to its input.  Inputs are correlated, so that the weights which are still
to be rounded can make up for most of the change: the columns are rounded one after the other, and after each one the
others move to where the squared error of the sums over the data is least.  Saturated weights are made up for in the
same way, and a bias takes what is left on average.

Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ", ICLR 2023; the optimal update is that of Hassibi and Stork,
"Optimal Brain Surgeon", 1993.  New here are circulant blocks, where a stored weight counts in k rows, and data of both
networks: the sums are those of the float network, and the rounded weights read what the integer network computes.
"""

from dataclasses import replace

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.hardware_rows import blocks_of_layer
from chessrnn.model.conversion.row_scales import nearest_weights
from chessrnn.model.fixed_point import quantize
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.weights import LayerWeights

# Added to the variance of every input, as a share of it: it keeps weights near their float values where the data say
# little.
DAMPING = 0.01
# Columns that are rounded before the others move.
COLUMNS = 64
# Steps times sequences that are looked at.
MAX_SAMPLES = 8192


def round_columns(
    weights: np.ndarray, lsb: np.ndarray, second: np.ndarray, least: int, greatest: int, is_odd: bool = False
) -> np.ndarray:
    """Round weights (rows, n) column by column to integers; see the module.

    Parameters
    ----------
    lsb : (rows, n)
        Value of a step of every weight.
    second : (n, n)
        Second moments of the inputs, positive definite.
    least, greatest : int
        Range of a code.
    is_odd : bool
        Whether every code is odd.
    """
    order = np.argsort(-np.diag(second), kind="stable")
    left, step = weights[:, order].copy(), lsb[:, order]
    # Row i of the factor holds how the later columns answer an error of column i.
    factor = np.linalg.cholesky(np.linalg.inv(second[np.ix_(order, order)])).T
    codes = np.empty(weights.shape, dtype=np.int64)
    count = weights.shape[1]
    for start in range(0, count, COLUMNS):
        end = min(start + COLUMNS, count)
        errors = np.empty((len(weights), end - start))
        for column in range(start, end):
            scale = step[:, column]
            code = nearest_weights(left[:, column] / scale, least, greatest, is_odd)
            codes[:, order[column]] = code
            errors[:, column - start] = (left[:, column] - code * scale) / factor[column, column]
            left[:, column + 1 : end] -= np.outer(errors[:, column - start], factor[column, column + 1 : end])
        left[:, end:] -= errors @ factor[start:end, end:]
    return codes


def _shifted(values: np.ndarray, block_size: int, row: int) -> np.ndarray:
    """Reorder inputs (N, n) so that stored weights times them are the sum of row ``row`` of every circulant block."""
    index = (row - np.arange(block_size)) % block_size
    return values.reshape(len(values), -1, block_size)[:, :, index].reshape(values.shape)


def _padded(values: np.ndarray, block_size: int, sizes: tuple[int, ...]) -> np.ndarray:
    """Pad every part of the last axis to whole blocks, and join steps and sequences: (N, n)."""
    parts = np.split(values, np.cumsum(sizes)[:-1], axis=-1)
    padded = [np.pad(part, ((0, 0), (0, 0), (0, -part.shape[-1] % block_size))) for part in parts]
    return np.concatenate(padded, axis=-1).reshape(values.shape[0] * values.shape[1], -1)


def _before(h: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """Return h of the step before each step, (T, B, P)."""
    start = np.zeros_like(h[:1]) if first is None else np.broadcast_to(first, h[:1].shape)
    return np.concatenate([start, h[:-1]])


def adapted_weights(
    layer: RecurrentLayer,
    rounded: LayerWeights,
    sizes: tuple[int, ...],
    floats: tuple[np.ndarray, np.ndarray],
    integers: tuple[np.ndarray, np.ndarray] | None = None,
) -> LayerWeights:
    """Round the weights of a layer of one direction, whose float matrices are circulant, by the error of their sums.

    Parameters
    ----------
    layer : RecurrentLayer
    rounded : LayerWeights
        Its weights, each rounded by itself.
    sizes : tuple of int
        Parts of the layer's input that are padded separately.
    floats : (x, h), arrays (T, B, X) and (T, B, P)
        Inputs and outputs of the float layer, in the order of its steps.
    integers : (x, h), optional
        Those of the integer layer, as real numbers; left out, those of ``floats`` rounded.
    """
    config, k = rounded.config, rounded.config.block_size
    points = config.quantization
    first = layer.weights[0].initial_h
    if integers is None:
        x, h = floats
        integers = quantize(x, points.x) * points.x.lsb, quantize(h, points.h) * points.h.lsb

    def inputs(x: np.ndarray, h: np.ndarray) -> np.ndarray:
        joined = [_padded(x, k, sizes), _padded(_before(h, first), k, (h.shape[-1],))]
        return np.concatenate(joined, axis=1)

    wanted, found = inputs(*floats), inputs(*integers)
    every = -(-len(wanted) // MAX_SAMPLES)
    wanted, found = wanted[::every], found[::every]
    start = config.num_input_blocks * k
    lsb_x, lsb_h = (2.0 ** -np.array(fracs, float) for fracs in (config.input_weight_fracs, points.weight_frac))
    blocks = blocks_of_layer(layer, k, sizes)
    real = np.concatenate([blocks.w_x, blocks.w_h], axis=2)
    centre, centre_wanted = found - found.mean(0), wanted - wanted.mean(0)
    count = len(found)
    columns = [_shifted(centre, k, row) for row in range(k)]
    columns_wanted = [_shifted(centre_wanted, k, row) for row in range(k)]
    second = sum((c.T @ c for c in columns), np.zeros(())) / (k * count)
    cross = sum((w.T @ c for w, c in zip(columns_wanted, columns, strict=True)), np.zeros(())) / (k * count)
    # Rounding of x and h in steps beyond the data.
    noise = np.repeat([points.x.lsb**2 / 12, points.h.lsb**2 / 12], [start, len(second) - start])
    damping = DAMPING * np.diag(second) + noise
    defining, bias = rounded.defining.copy(), rounded.bias.copy()
    scales = np.ones(real.shape[:2])
    if rounded.scale is not None:
        scales = rounded.scale * 2.0**-config.scale_frac
    of_units = scales.repeat(k, axis=1)[:, : layer.hidden_size]
    for used, gates in _gates_by_columns(config, start, len(second)):
        weights = real[gates].reshape(len(gates) * real.shape[1], -1)[:, used]
        moments = second[used, used] + np.diag(damping[used])
        best = np.linalg.solve(moments, (weights @ cross[used, used] + weights * damping[used]).T).T
        of_rows = scales[gates].reshape(-1, 1)
        lsb = of_rows * np.repeat(
            [np.repeat([lsb_x[gate], lsb_h[gate]], [start, len(second) - start])[used] for gate in gates],
            real.shape[1],
            axis=0,
        )
        codes = round_columns(best, lsb, moments, config.weight_min, config.weight_max, config.has_half_levels)
        whole = np.zeros((len(codes), len(second)), dtype=np.int64)
        whole[:, used] = codes
        defining[gates] = whole.reshape(defining[gates].shape)
        means = wanted[:, used].mean(0)[None], found[:, used].mean(0)[None]
        shifted = [[_shifted(mean, k, row)[0] for mean in means] for row in range(k)]
        # What the sums lack on average, for every row of every block.
        lacking = np.stack([weights @ mine - (codes * lsb) @ theirs for mine, theirs in shifted], axis=1)
        lacking = lacking.reshape(len(gates), -1)[:, : layer.hidden_size]
        scale = 2.0 ** np.array(config.accumulator_fracs)[gates, None] / of_units[gates]
        values = np.floor((blocks.bias[gates] + lacking) * scale + 0.5)
        bias[gates, : layer.hidden_size] = np.clip(values, *config.bias_format_min_max).astype(np.int64)
    return replace(rounded, defining=defining, bias=bias)


def _gates_by_columns(config: Config, start: int, end: int) -> list[tuple[slice, list[int]]]:
    """Group the gates by the columns that they read; those of a last stage, which multiplies r·h, are left out."""
    looked_at = config.num_gates if config.cell.stages == 1 else config.num_gates - config.bundle_rows
    groups: dict[tuple[int, int], list[int]] = {}
    for number, gate in enumerate(config.cell.gates[:looked_at]):
        place = 0 if gate.reads_x else start, end if gate.reads_h else start
        groups.setdefault(place, []).append(number)
    return [(slice(*place), gates) for place, gates in groups.items()]
