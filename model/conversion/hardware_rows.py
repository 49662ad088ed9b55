"""Rearrangement of a float layer into rows of the accelerator's W and into the circulant blocks stored for them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.imported.recurrent_network import DirectionWeights, RecurrentLayer
from chessrnn.model.imported.summary import hardware_cell


def _split(matrix: np.ndarray, sizes: tuple[int, ...] | None) -> list[np.ndarray]:
    """Split the columns of the last axis into parts of some sizes; into a single part where they are left out."""
    return np.split(matrix, np.cumsum(sizes)[:-1], axis=-1) if sizes else [matrix]


def project_layer(layer: RecurrentLayer, block_size: int, sizes: tuple[int, ...] | None = None) -> RecurrentLayer:
    """Project the matrices of a layer to circulant blocks, gate by gate; the result is dense again.

    Parameters
    ----------
    sizes : tuple of int, optional
        Parts of the layer's input that are padded separately, see
        :func:`chessrnn.model.imported.summary.input_sizes`.
    """

    def projected(matrix: np.ndarray, rows: int = layer.hidden_size) -> np.ndarray:
        gates = matrix.reshape(-1, rows, matrix.shape[1])
        return np.concatenate(
            [
                circulant.expand(circulant.project_padded(gate, block_size))[: gate.shape[0], : gate.shape[1]]
                for gate in gates
            ]
        )

    def projected_weights(w: DirectionWeights) -> DirectionWeights:
        projection = None if w.projection is None else projected(w.projection, len(w.projection))
        w_x = np.concatenate([projected(part) for part in _split(w.w_x, sizes)], axis=1)
        return replace(w, w_x=w_x, w_h=projected(w.w_h), projection=projection)

    return replace(layer, weights=tuple(projected_weights(w) for w in layer.weights))


class GateRows(NamedTuple):
    """Float weights as rows of the accelerator's W, gate by gate in the order of ``config.gates``.

    Attributes
    ----------
    w_x : (G, H, X)
    w_h : (G, H, H)
    bias : (G, H)
    peephole : (3, H) or None
    """

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    peephole: np.ndarray | None


def hardware_rows(layer: RecurrentLayer) -> GateRows:
    """Rearrange a layer of one direction into rows of W.

    The candidate of ``gru`` takes two rows: NX reads only x and NH only h, because r multiplies the second sum before
    they are added.
    """
    (w,) = layer.weights
    w_x, w_h, bias_x, bias_h = (
        array.reshape(-1, layer.hidden_size, *array.shape[1:]) for array in (w.w_x, w.w_h, w.bias_x, w.bias_h)
    )
    if hardware_cell(layer) != "gru":
        return GateRows(w_x, w_h, bias_x + bias_h, w.peepholes)
    return GateRows(
        np.concatenate([w_x, np.zeros_like(w_x[:1])]),
        np.concatenate([w_h[:2], np.zeros_like(w_h[:1]), w_h[2:]]),
        np.concatenate([bias_x[:2] + bias_h[:2], bias_x[2:], bias_h[2:]]),
        None,
    )


def layer_of_rows(layer: RecurrentLayer, rows: GateRows) -> RecurrentLayer:
    """Create the layer of some rows: the inverse of :func:`hardware_rows`, with one bias per sum."""
    if hardware_cell(layer) == "gru":
        w_x, w_h = rows.w_x[:3], rows.w_h[[0, 1, 3]]
        bias_x, bias_h = rows.bias[:3], np.concatenate([np.zeros_like(rows.bias[:2]), rows.bias[3:]])
    else:
        w_x, w_h, bias_x, bias_h = rows.w_x, rows.w_h, rows.bias, np.zeros_like(rows.bias)
    flat = (array.reshape(-1, *array.shape[2:]) for array in (w_x, w_h, bias_x, bias_h))
    names = ("w_x", "w_h", "bias_x", "bias_h")
    changed = dict(zip(names, flat, strict=True))
    return replace(layer, weights=(replace(layer.weights[0], **changed, peepholes=rows.peephole),))


def defining_vectors(gates: np.ndarray, block_size: int, sizes: tuple[int, ...] | None = None) -> np.ndarray:
    """Project gates (G, H, columns) to defining vectors (G, H/k, columns/k, k), with each part padded separately."""
    vectors = [[circulant.project_padded(part, block_size) for part in _split(gate, sizes)] for gate in gates]
    return np.stack([np.concatenate(gate, axis=1) for gate in vectors])


class Blocks(NamedTuple):
    """Stored values of a layer of one direction, as real numbers.

    Attributes
    ----------
    w_x : (G, H/k, X/k, k)
    w_h : (G, H/k, P/k or H/k, k)
        Defining vectors.
    bias : (G, H)
    peephole : (3, H) or None
    projection : (P/k, H/k, k) or None
    """

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    peephole: np.ndarray | None
    projection: np.ndarray | None


def blocks_of_layer(layer: RecurrentLayer, block_size: int, sizes: tuple[int, ...] | None = None) -> Blocks:
    """Project a layer of one direction to the nearest circulant blocks.

    Parameters
    ----------
    sizes : tuple of int, optional
        Parts of the layer's input that are padded separately, see
        :func:`chessrnn.model.imported.summary.input_sizes`.
    """
    rows, projection = hardware_rows(layer), layer.weights[0].projection
    return Blocks(
        defining_vectors(rows.w_x, block_size, sizes),
        defining_vectors(rows.w_h, block_size),
        rows.bias,
        rows.peephole,
        None if projection is None else defining_vectors(projection[None], block_size)[0],
    )


def layer_of_blocks(layer: RecurrentLayer, blocks: Blocks, sizes: tuple[int, ...] | None = None) -> RecurrentLayer:
    """Create the layer of some blocks: the inverse of :func:`blocks_of_layer` for circulant matrices."""
    k = blocks.w_x.shape[-1]

    def dense(defining: np.ndarray, parts: tuple[int, ...]) -> np.ndarray:
        used = np.concatenate([np.arange(circulant.num_blocks(size, k) * k) < size for size in parts])
        return np.stack([circulant.expand(gate)[: layer.hidden_size, used] for gate in defining])

    w_x, w_h = dense(blocks.w_x, sizes or (layer.input_size,)), dense(blocks.w_h, (layer.state_size,))
    result = layer_of_rows(layer, GateRows(w_x, w_h, blocks.bias, blocks.peephole))
    if blocks.projection is None:
        return result
    projection = circulant.expand(blocks.projection)[: layer.state_size, : layer.hidden_size]
    return replace(result, weights=(replace(result.weights[0], projection=projection),))


def one_direction(layer: RecurrentLayer, index: int) -> RecurrentLayer:
    """Create a forward layer of one direction of a layer; for ``index`` 1 it has to run on reversed sequences."""
    name = layer.name + (" reverse" if index or layer.direction == "reverse" else "")
    return replace(layer, name=name, weights=(layer.weights[index],), direction="forward")


def directions(layer: RecurrentLayer) -> list[RecurrentLayer]:
    """Split a layer into one forward layer per direction: see :func:`one_direction`."""
    return [one_direction(layer, index) for index in range(layer.num_directions)]
