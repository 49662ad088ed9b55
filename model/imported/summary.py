"""Figures of an imported network, and which parts of it the accelerator can run."""

from collections.abc import Sequence

from chessrnn.model.cells import CELLS
from chessrnn.model.circulant import num_blocks
from chessrnn.model.config_sections import BLOCK_SIZES
from chessrnn.model.errors import require
from chessrnn.model.imported.recurrent_network import CELL_GATES, RecurrentLayer, RecurrentNetwork
from chessrnn.model.shared_words import packable_widths

FLOAT_BYTES = 4
# Block size of networks that are large enough for it.
DEFAULT_BLOCK_SIZE = 8


def hardware_cell(layer: RecurrentLayer) -> str:
    """Name the layer's cell as ``chessrnn.model.cells.CELLS`` does; the accelerator need not have it."""
    if layer.cell == "lstm" and layer.peephole:
        return "lstm_peephole"
    if layer.cell == "gru" and not layer.linear_before_reset:
        return "gru_reset_first"
    if layer.cell == "rnn" and layer.activation == "relu":
        return "rnn_relu"
    return layer.cell


def layer_limits(layer: RecurrentLayer) -> tuple[str, ...]:
    """List the properties of the layer that the accelerator does not support; empty for a supported layer."""
    limits = []
    cell = hardware_cell(layer)
    if cell not in CELLS:
        limits.append(f"cell {cell}")
    elsewhere = layer.state_inputs or any(w.initial_h is not None or w.initial_c is not None for w in layer.weights)
    # Bidirectional networks have no state ports: see chessrnn.model.config.
    if elsewhere and layer.num_directions == 2:
        limits.append("first state other than zero")
    return tuple(limits)


def differences(layers: Sequence[RecurrentLayer]) -> tuple[str, ...]:
    """List the properties that layers on one engine must have in common and do not."""
    traits = {
        "cell": {hardware_cell(layer) for layer in layers},
        "hidden size": set() if _may_differ(layers) else {layer.hidden_size for layer in layers},
        "direction": {layer.direction for layer in layers},
        "projection": {layer.projection_size for layer in layers},
    }
    return tuple(name for name, values in traits.items() if len(values) > 1)


def _may_differ(layers: Sequence[RecurrentLayer]) -> bool:
    """Whether the layers may have sizes of their own: in one direction, not projected, with one stage per step."""
    return all(
        layer.num_directions == 1
        and not layer.projection_size
        and hardware_cell(layer) in CELLS
        and CELLS[hardware_cell(layer)].stages == 1
        for layer in layers
    )


def network_limits(network: RecurrentNetwork) -> tuple[str, ...]:
    """List the properties of the whole network that the accelerator does not support, beside those of its layers."""
    limits = [f"layers of different {name}" for name in differences(network.layers)]
    return (*limits, *direction_limits(network.layers))


def direction_limits(layers: Sequence[RecurrentLayer]) -> tuple[str, ...]:
    """List the unsupported directions: the accelerator runs layers that are all forward or all bidirectional."""
    found = {layer.direction for layer in layers}
    return () if found == {"bidirectional"} else tuple(f"direction {name}" for name in sorted(found - {"forward"}))


def input_sizes(layers: Sequence[RecurrentLayer]) -> list[tuple[int, ...]]:
    """List, for every layer, the parts of its input that are padded to blocks separately: the h of each direction."""
    return [(layer.state_size,) * 2 if number and layer.num_directions == 2 else (layer.input_size,)
            for number, layer in enumerate(layers)]  # fmt: skip


def compressed_bytes(
    layer: RecurrentLayer, block_size: int, weight_bits: int, sizes: tuple[int, ...] = (), widest: int | None = None
) -> int:
    """Count the bytes of the layer's matrices as the accelerator stores them, with padding and without biases.

    The candidate of ``gru`` has one row for x and one for h, each half zeros.

    Parameters
    ----------
    sizes : tuple of int, optional
        Parts of the layer's input that are padded separately, see :func:`input_sizes`.
    widest : int, optional
        Width of the weights of the widest layer, whose words those of this one share; left out, that of this one.
    """
    hidden, state = (num_blocks(size, block_size) for size in (layer.hidden_size, layer.state_size))
    cell = CELLS.get(hardware_cell(layer))
    rows = len(CELL_GATES[layer.cell] if cell is None else cell.gates)
    inputs = sum(num_blocks(size, block_size) for size in sizes or (layer.input_size,))
    blocks = rows * hidden * (inputs + state)
    if layer.projection_size is not None:
        blocks += state * hidden
    widest = widest or weight_bits
    words = -(-layer.num_directions * blocks // (widest // weight_bits))
    return -(-words * block_size * widest // 8)


def _widths(layers: Sequence[RecurrentLayer], weight_bits: int | Sequence[int]) -> Sequence[int]:
    """Width of the weights of each layer."""
    if isinstance(weight_bits, int):
        return [weight_bits] * len(layers)
    rule = (
        f"one number or {len(layers)}, one for each layer" if len(layers) > 1 else "one number, as there is one layer"
    )
    require(len(weight_bits) == len(layers), "--weight-bits", rule, list(weight_bits))
    good = packable_widths(max(weight_bits))
    rule = f"of {', '.join(map(str, good))} beside a layer of {good[0]} bits"
    require(set(good).issuperset(weight_bits), "--weight-bits", rule, list(weight_bits))
    return weight_bits


def bytes_by_block_size(layers: Sequence[RecurrentLayer], weight_bits: int | Sequence[int]) -> dict[int, int]:
    """Count the bytes of the matrices of all layers for every block size."""
    widths = _widths(layers, weight_bits)
    each = list(zip(layers, widths, input_sizes(layers), strict=True))
    return {
        k: sum(compressed_bytes(layer, k, bits, size, max(widths)) for layer, bits, size in each) for k in BLOCK_SIZES
    }


def paying_block_size(layers: Sequence[RecurrentLayer]) -> int:
    """Choose the block size up to 8 with the fewest bytes; of several the smallest, which loses least.

    A layer of few units is padded to whole blocks, so that a large block size may take more memory than a small one.
    """
    counts = bytes_by_block_size(layers, 8)
    return min((k for k in BLOCK_SIZES if k <= DEFAULT_BLOCK_SIZE), key=lambda k: (counts[k], k))


def summary(network: RecurrentNetwork, block_size: int, weight_bits: int | Sequence[int]) -> dict:
    """Collect everything that ``chessrnn inspect`` prints, as plain JSON values."""
    layers, widths = [], _widths(network.layers, weight_bits)
    for layer, bits, sizes in zip(network.layers, widths, input_sizes(network.layers), strict=True):
        dense = FLOAT_BYTES * layer.num_weights
        small = compressed_bytes(layer, block_size, bits, sizes, max(widths))
        layers.append(
            {
                "name": layer.name,
                "cell": layer.cell,
                "direction": layer.direction,
                "input_size": layer.input_size,
                "hidden_size": layer.hidden_size,
                "projection_size": layer.projection_size,
                "output_size": layer.output_size,
                "peepholes": layer.peephole,
                "linear_before_reset": layer.linear_before_reset if layer.cell == "gru" else None,
                "activation": layer.activation if layer.cell == "rnn" else None,
                "state_inputs": list(layer.state_inputs),
                "weights": layer.num_weights,
                "biases": layer.num_biases,
                "dense_float32_bytes": dense,
                "compressed_bytes": small,
                "removed_percent": round(100 * (1 - small / dense), 2),
                "not_in_hardware": list(layer_limits(layer)),
            }
        )
    dense, small = (sum(layer[name] for layer in layers) for name in ("dense_float32_bytes", "compressed_bytes"))
    limits = network_limits(network)
    return {
        "source": network.source,
        "block_size": block_size,
        "weight_bits": weight_bits,
        "layers": layers,
        "weights": sum(layer["weights"] for layer in layers),
        "dense_float32_bytes": dense,
        "compressed_bytes": small,
        "removed_percent": round(100 * (1 - small / dense), 2),
        "bytes_by_block_size": {str(k): count for k, count in bytes_by_block_size(network.layers, weight_bits).items()},
        "paying_block_size": paying_block_size(network.layers),
        "not_in_hardware": list(limits),
        "supported": not limits and not any(layer["not_in_hardware"] for layer in layers),
        "fixed_lengths": None if network.lengths is None else network.lengths.tolist(),
        "output_layer": None
        if network.linear is None
        else {"name": network.linear.name, "outputs": len(network.linear.weight)},
        "notes": list(network.notes),
        "ignored": list(network.ignored),
    }
