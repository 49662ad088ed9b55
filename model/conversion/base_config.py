"""The configuration that a conversion begins with: the sizes of the layers, defaults, and the user's settings."""

from collections.abc import Sequence

from chessrnn.model import circulant
from chessrnn.model.cells import CELLS
from chessrnn.model.config import Config
from chessrnn.model.config_sections import FAST_BLOCK_SIZES
from chessrnn.model.config_values import to_plain
from chessrnn.model.conversion.first_state import begins_elsewhere
from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.imported.recurrent_network import LinearLayer, RecurrentLayer
from chessrnn.model.imported.summary import hardware_cell
from chessrnn.model.parts import CELL

Layers = Sequence[RecurrentLayer]
# Bits of x and h, and the segments of the activations up to a number of these bits.
ELEMENT_BITS = range(8, 17)
ELEMENT_SEGMENTS = {8: 16, 10: 32, 16: 64}

# Greatest number of columns of a tile, and of one that has to divide the columns of a matrix.
USUAL_TILE_COLS, MAX_TILE_COLS = 4, 8


def wider_formats(element_bits: int) -> dict[str, dict]:
    """Fields of a configuration whose x and h have so many bits, and whose other points are as much finer."""
    sums, state = min(element_bits + 4, 16), min(element_bits + 8, 24)
    segments = next(number for bits, number in ELEMENT_SEGMENTS.items() if element_bits <= bits)
    return {
        "quantization": {
            **dict.fromkeys(("x", "h"), f"Q1.{element_bits - 1}"),
            **{"preact": f"Q4.{sums - 4}", "gate": f"Q2.{sums - 2}", "cell": f"Q4.{state - 4}"},
        },
        "activation": {"segments": segments},
    }


def base_config(
    layers: Layers,
    block_size: int,
    weight_bits: int | Sequence[int],
    name: str,
    settings: dict,
    linear: LinearLayer | None = None,
    element_bits: int = 8,
) -> Config:
    """Create the default configuration for the layers' sizes, with the user's settings.

    Parameters
    ----------
    element_bits : int
        Bits of x and h, from 8 to 16; see :func:`wider_formats`.

    Raises
    ------
    InvalidValueError
        A setting that contradicts the layers, the block size or the width of the weights.
    """
    weight_bits = weight_bits if isinstance(weight_bits, int) else list(weight_bits)
    require(element_bits in ELEMENT_BITS, "--element-bits", "from 8 to 16", element_bits)
    wide = wider_formats(element_bits)
    layer = layers[0]
    input_blocks = circulant.num_blocks(layer.input_size, block_size)
    blocks, state_blocks = (
        [circulant.num_blocks(size, block_size) for size in sizes]
        for sizes in ([each.hidden_size for each in layers], [each.state_size for each in layers])
    )
    cell = CELLS[hardware_cell(layer)]
    rows = len(cell.stage_gates[0]) * max(blocks)
    below_blocks = [input_blocks, *(layer.num_directions * count for count in state_blocks[:-1])]
    columns = min(own + below for own, below in zip(state_blocks, below_blocks, strict=True))
    if layer.projection_size:
        columns = min(columns, *blocks)
    hidden_sizes = [each.hidden_size for each in layers]
    network = {
        "input_size": layer.input_size,
        "hidden_size": hidden_sizes if len(set(hidden_sizes)) > 1 else layer.hidden_size,
        "cell": hardware_cell(layer),
        "num_layers": len(layers),
        "projection_size": layer.projection_size or 0,
        "bidirectional": layer.num_directions == 2,
    }
    fixed = {
        **{f"network.{field}": value for field, value in network.items()},
        "compression.block_size": block_size,
        "quantization.weight_bits": weight_bits,
        "compression.output_block_size": 1,
    }
    if linear is None:
        fixed["architecture.output_layer"] = 0
    else:
        outputs, given = len(linear.weight), settings.get("architecture.output_layer", 0)
        rule = f"0 or {outputs}, the outputs of {linear.name}"
        require(given in (0, outputs), "architecture.output_layer", rule, given)
    if begins_elsewhere(layers):
        # The accelerator receives the first state of the file through its state ports.
        fixed["architecture.state_ports"] = True
    for path, value in fixed.items():
        if path in settings:
            good = to_plain(settings[path]) == value
            require(good, path, f"{value!r} as in the model and the arguments", settings[path])
    values = {
        "name": name,
        "network": network,
        "compression": {"block_size": block_size},
        "quantization": {"weight_bits": weight_bits, **wide["quantization"]},
        "activation": wide["activation"],
        "architecture": {
            "engine": "fast" if block_size in FAST_BLOCK_SIZES else "direct",
            "tile_rows": min(4, rows),
            "tile_cols": min(USUAL_TILE_COLS, columns),
            "state_ports": begins_elsewhere(layers),
        },
    }
    if not {"quantization.weight_levels", "quantization.input_shift"} & settings.keys():
        return Config.from_dict(values).replace(settings)
    if "architecture.tile_cols" in settings:
        return Config.from_dict(values).replace(settings)
    # Half levels have no zeros to fill the last columns with; sums that are shifted apart share no group of columns.
    usual, values["architecture"]["tile_cols"] = values["architecture"]["tile_cols"], 1
    config = Config.from_dict(values).replace(settings)
    counts = config.divided_columns
    return config.replace({"architecture.tile_cols": _dividing(counts, config) if counts else usual})


def _dividing(counts: Sequence[int], config: Config) -> int:
    """Choose the number of tile columns that divides all of these numbers: a usual one, or the next wider one."""
    most = min(MAX_TILE_COLS, config.max_tile_cols)
    sizes = [size for size in range(1, most + 1) if all(count % size == 0 for count in counts)]
    usual = max(size for size in sizes if size <= USUAL_TILE_COLS)
    return usual if usual > 1 or len(sizes) == 1 else sizes[1]


def with_divided_columns(config: Config, settings: dict) -> Config | None:
    """Choose a tile whose columns divide those that come first, as ``quantization.input_shift`` demands.

    Returns ``None`` where the user chose another tile, or what does not go with this one.
    """
    counts = [part.early.blocks for part in config.parts if part.kind == CELL]
    cols = config.architecture.tile_cols
    if all(count % cols == 0 for count in counts):
        return config
    if "architecture.tile_cols" in settings:
        return None
    fields = {"architecture.tile_cols": _dividing(counts, config), "architecture.lookahead": None}
    try:
        return config.replace(fields | {name: value for name, value in settings.items() if name in fields})
    except InvalidValueError:
        # Another field that the user chose does not go with this tile.
        return None
