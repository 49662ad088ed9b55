"""A float layer as rows of the accelerator's W, and as the circulant blocks that are stored of them; and back."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.imported.recurrent_network import DirectionWeights, RecurrentLayer
from chessrnn.model.imported.summary import hardware_cell


def _split(matrix: np.ndarray, sizes: tuple[int, ...] | None) -> list[np.ndarray]:
    """Columns of the last axis in pieces; in one, where the sizes are left out."""
    return np.split(matrix, np.cumsum(sizes)[:-1], axis=-1) if sizes else [matrix]


def project_layer(layer: RecurrentLayer, block_size: int, sizes: tuple[int, ...] | None = None) -> RecurrentLayer:
    """The same layer with matrices of circulant blocks, gate by gate, as dense ones.

    Parameters
    ----------
    sizes : tuple of int, optional
        Of the layer's input, see :func:`chessrnn.model.imported.summary.input_sizes`.
    """

    def projected(matrix: np.ndarray, rows: int = layer.hidden_size) -> np.ndarray:
        gates = matrix.reshape(-1, rows, matrix.shape[1])
        return np.concatenate(
            [
                circulant.expand(circulant.project_padded(gate, block_size))[: gate.shape[0], : gate.shape[1]]
                for gate in gates
            ]
        )

    def of_direction(w: DirectionWeights) -> DirectionWeights:
        behind = None if w.projection is None else projected(w.projection, len(w.projection))
        w_x = np.concatenate([projected(piece) for piece in _split(w.w_x, sizes)], axis=1)
        return replace(w, w_x=w_x, w_h=projected(w.w_h), projection=behind)

    return replace(layer, weights=tuple(of_direction(w) for w in layer.weights))


class Rows(NamedTuple):
    """A float layer as rows of the accelerator's W, gate by gate of ``config.gates``.

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


def hardware_rows(layer: RecurrentLayer) -> Rows:
    """The rows of a layer of one direction.

    The candidate of ``gru`` takes two: NX reads x alone, NH reads h alone, since r stands between them.
    """
    (w,) = layer.weights
    w_x, w_h, bias_x, bias_h = (
        array.reshape(-1, layer.hidden_size, *array.shape[1:]) for array in (w.w_x, w.w_h, w.bias_x, w.bias_h)
    )
    if hardware_cell(layer) != "gru":
        return Rows(w_x, w_h, bias_x + bias_h, w.peepholes)
    return Rows(
        np.concatenate([w_x, np.zeros_like(w_x[:1])]),
        np.concatenate([w_h[:2], np.zeros_like(w_h[:1]), w_h[2:]]),
        np.concatenate([bias_x[:2] + bias_h[:2], bias_x[2:], bias_h[2:]]),
        None,
    )


def layer_of_rows(layer: RecurrentLayer, rows: Rows) -> RecurrentLayer:
    """Inverse of :func:`hardware_rows`: the layer with the values of the rows, biases of one gate as one."""
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
    """Defining vectors (G, H/k, columns/k, k) of the gates (G, H, columns) of a matrix, padded in pieces."""
    pieces = [[circulant.project_padded(piece, block_size) for piece in _split(gate, sizes)] for gate in gates]
    return np.stack([np.concatenate(gate, axis=1) for gate in pieces])


class Blocks(NamedTuple):
    """What is stored of a layer of one direction, as real numbers.

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
    """The nearest circulant blocks of a layer of one direction.

    Parameters
    ----------
    sizes : tuple of int, optional
        Of the layer's input, see :func:`chessrnn.model.imported.summary.input_sizes`.
    """
    rows, behind = hardware_rows(layer), layer.weights[0].projection
    return Blocks(
        defining_vectors(rows.w_x, block_size, sizes),
        defining_vectors(rows.w_h, block_size),
        rows.bias,
        rows.peephole,
        None if behind is None else defining_vectors(behind[None], block_size)[0],
    )


def layer_of_blocks(layer: RecurrentLayer, blocks: Blocks, sizes: tuple[int, ...] | None = None) -> RecurrentLayer:
    """Inverse of :func:`blocks_of_layer` for a layer whose matrices are circulant."""
    k = blocks.w_x.shape[-1]

    def dense(defining: np.ndarray, pieces: tuple[int, ...]) -> np.ndarray:
        used = np.concatenate([np.arange(circulant.num_blocks(size, k) * k) < size for size in pieces])
        return np.stack([circulant.expand(gate)[: layer.hidden_size, used] for gate in defining])

    w_x, w_h = dense(blocks.w_x, sizes or (layer.input_size,)), dense(blocks.w_h, (layer.state_size,))
    result = layer_of_rows(layer, Rows(w_x, w_h, blocks.bias, blocks.peephole))
    if blocks.projection is None:
        return result
    behind = circulant.expand(blocks.projection)[: layer.state_size, : layer.hidden_size]
    return replace(result, weights=(replace(result.weights[0], projection=behind),))


def one_direction(layer: RecurrentLayer, index: int) -> RecurrentLayer:
    """One direction of a layer as a forward layer: what the accelerator runs, on reversed sequences for ``index`` 1."""
    name = layer.name + (" reverse" if index or layer.direction == "reverse" else "")
    return replace(layer, name=name, weights=(layer.weights[index],), direction="forward")


def directions(layer: RecurrentLayer) -> list[RecurrentLayer]:
    """Each direction of a layer as a layer of its own."""
    return [one_direction(layer, index) for index in range(layer.num_directions)]
