"""Projection of dense layers to circulant blocks that keeps what the layers compute from real inputs.

The plain projection averages the diagonals of every block, and keeps most of the weights' energy.  Here the error of
the pre-activations is least instead, in the mean over inputs and states of the float layer: a linear problem, which is
the same for all blocks of rows of a matrix.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chessrnn.model.circulant import num_blocks
from chessrnn.model.imported.float_evaluation import relative_error, run_layers
from chessrnn.model.imported.recurrent_network import DirectionWeights, RecurrentLayer

Layers = Sequence[RecurrentLayer]
# Added to the variance of every input as a share of it: inputs that hardly vary would get weights without limits.
RIDGE = 1e-3
# Variance of an input that is always the same.
LEAST_VARIANCE = 1e-7
# Steps of all sequences together that the blocks are fitted to.
MAX_STEPS = 1 << 15


def fitted(matrix: np.ndarray, moment: np.ndarray, k: int) -> np.ndarray:
    """Choose circulant blocks of k × k for which the mean of ((W - Ŵ)·z)² is least.

    Parameters
    ----------
    matrix : float array (rows, cols)
        W, of multiples of k.
    moment : float array (cols, cols)
        Mean of z·zᵀ, positive definite.

    Returns
    -------
    float array (rows, cols)
        Ŵ, expanded.
    """
    column = np.arange(matrix.shape[1])
    # Where entry c of row r of a block lies in the defining vectors: a permutation that is its own inverse.
    places = [column // k * k + (row - column) % k for row in range(k)]
    pulled = matrix @ moment
    total = np.sum([moment[place][:, place] for place in places], axis=0)
    wanted = np.sum([pulled[row::k][:, place] for row, place in enumerate(places)], axis=0)
    defining = np.linalg.solve(total, wanted.T).T
    found = np.empty_like(pulled)
    for row, place in enumerate(places):
        found[row::k] = defining[:, place]
    return found


def second_moment(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of inputs (N, cols), and the mean of z·zᵀ of what is left without it, made positive definite."""
    mean = inputs.mean(axis=0)
    centred = inputs - mean
    moment = centred.T @ centred / len(inputs)
    return mean, moment + np.diag(RIDGE * np.diag(moment) + LEAST_VARIANCE)


def better_projection(
    layers: Layers, projected: Layers, x: np.ndarray, block_size: int, sizes: Sequence[tuple[int, ...]]
) -> list[RecurrentLayer]:
    """Fit circulant blocks to inputs, where that errs less than the nearest blocks on inputs that were left out.

    Parameters
    ----------
    layers, projected : sequence of RecurrentLayer
        Dense layers, each reading the h of the one before, and their plain projection.
    x : array (T, B, X)
        Inputs of the first layer.  Half of the sequences, or of the steps of a single one, are left out for the
        comparison.
    block_size : int
    sizes : sequence of tuple of int
        Parts of each layer's input that are padded separately.

    Returns
    -------
    list of RecurrentLayer
        The layers with fitted blocks, or the plain projection.
    """
    steps, batch, _ = x.shape
    if block_size == 1 or steps * batch < 2:
        return list(projected)
    x = x[:, : max(1, MAX_STEPS // steps)][:MAX_STEPS]
    half = batch // 2 if batch > 1 else steps // 2
    used, kept = (x[:, :half], x[:, half:]) if batch > 1 else (x[:half], x[half:])
    wanted = run_layers(layers, kept)[-1]
    errors = [
        relative_error(run_layers(tried, kept)[-1], wanted)
        for tried in (projected, fit_layers(layers, projected, used, block_size, sizes))
    ]
    if not errors[1] < errors[0]:
        return list(projected)
    return fit_layers(layers, projected, x, block_size, sizes)


def fit_layers(
    layers: Layers, projected: Layers, x: np.ndarray, block_size: int, sizes: Sequence[tuple[int, ...]]
) -> list[RecurrentLayer]:
    """Fit the circulant blocks of W_x and W_h of every layer; for parameters see :func:`better_projection`.

    Biases take over the mean of what the blocks cannot express.  The projection behind an LSTM stays the nearest one.
    """
    values, found = run_layers(layers, x), []
    for number, (layer, plain) in enumerate(zip(layers, projected, strict=True)):
        weights = []
        for direction, (own, nearest) in enumerate(zip(layer.weights, plain.weights, strict=True)):
            is_reverse = direction == 1 or layer.direction == "reverse"
            turn = slice(None, None, -1 if is_reverse else 1)
            columns = slice(direction * layer.state_size, (direction + 1) * layer.state_size)
            inputs, h = values[number][turn], values[number + 1][turn][..., columns]
            before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
            read = np.concatenate([inputs, before], axis=2).reshape(-1, inputs.shape[2] + h.shape[2])
            weights.append(_fit_direction(layer, own, nearest, read, block_size, sizes[number]))
        found.append(replace(plain, weights=tuple(weights)))
    return found


def _fit_direction(
    layer: RecurrentLayer,
    own: DirectionWeights,
    nearest: DirectionWeights,
    read: np.ndarray,
    k: int,
    sizes: tuple[int, ...],
) -> DirectionWeights:
    """Fit the blocks of one direction to what it reads (N, X + P): x, and h of the step before."""
    size, width = layer.hidden_size, layer.input_size
    # The place of every column, and of every row of a gate, in matrices of whole blocks.
    parts = (*(sizes or (width,)), read.shape[1] - width)
    starts = np.cumsum([0, *(num_blocks(part, k) * k for part in parts)])
    columns = np.concatenate([start + np.arange(part) for start, part in zip(starts[:-1], parts, strict=True)])
    dense = np.concatenate([own.w_x, own.w_h], axis=1).reshape(-1, size, read.shape[1])
    padded = np.zeros((len(dense), num_blocks(size, k) * k, starts[-1]))
    padded[:, :size, columns] = dense
    inputs = np.zeros((len(read), starts[-1]))
    inputs[:, columns] = read
    mean, moment = second_moment(inputs)
    blocks = fitted(padded.reshape(-1, starts[-1]), moment, k).reshape(padded.shape)
    if layer.cell == "gru":
        # The reset gate stands between both products of the candidate, which are fitted apart.
        split = starts[-2]
        moment[:split, split:] = moment[split:, :split] = 0
        blocks[2] = fitted(padded[2], moment, k)
    missing = (padded - blocks) * mean
    missing = missing[:, :size, columns].reshape(-1, read.shape[1])
    matrix = blocks[:, :size, columns].reshape(-1, read.shape[1])
    return replace(
        nearest,
        w_x=matrix[:, :width],
        w_h=matrix[:, width:],
        bias_x=own.bias_x + missing[:, :width].sum(axis=1),
        bias_h=own.bias_h + missing[:, width:].sum(axis=1),
    )
