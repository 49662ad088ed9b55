"""What stands in every memory of the accelerator, word by word, and the files that fill it.

A word is an integer whose low bits hold the first entry.  Weight banks are in the order of
``Schedule.issues``: each bank is read at consecutive addresses, every word once per step.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.config import Config
from model.errors import InvalidFileError
from model.schedule import Schedule, output_buffer_steps
from model.weights import NetworkWeights

FINGERPRINT_LABEL = "configuration"
# x and h are double-buffered: one half is filled while the other is read.
HALVES = 2


@dataclass(frozen=True)
class MemorySpec:
    """A memory with contents: name (also of its file), words, bits per word."""

    name: str
    depth: int
    width: int

    @property
    def bits(self) -> int:
        """Size."""
        return self.depth * self.width


def weight_bank_name(row: int, col: int) -> str:
    """Name of the bank of the processing element at (row, col) of the tile."""
    return f"weights_r{row}_c{col}"


BIAS_NAME = "bias"
PEEPHOLE_NAME = "peephole"
# The two vectors that a layer's columns meet: see model.config.LayerBlocks.
PARTS = ("early", "late")
# Of a bidirectional network: the input of its first layer, and in turn what a layer makes and the next one reads.
SEQUENCE_X = "sequence_x"
SEQUENCE_H = ("sequence_h0", "sequence_h1")


def num_slices(config: Config, schedule: Schedule) -> int:
    """Slices of ``cell_lanes`` hidden units in a step, those of every layer and direction."""
    layers = config.network.num_layers * config.directions
    return layers * config.num_hidden_blocks * config.block_size // schedule.cell_lanes


def turn_slices(config: Config, schedule: Schedule) -> int:
    """Slices after which the drain begins anew: of a step, or of a turn of both directions of one layer."""
    slices = num_slices(config, schedule)
    return slices // config.network.num_layers if config.network.bidirectional else slices


def bias_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The bias memory: a word serves the gates of ``cell_lanes`` hidden units."""
    lanes = schedule.cell_lanes
    return MemorySpec(BIAS_NAME, num_slices(config, schedule), config.num_gates * lanes * config.quantization.bias_bits)


def peephole_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of peephole weights, of a cell that has them: as the biases."""
    width = len(config.cell.peepholes) * schedule.cell_lanes * config.quantization.peephole.width
    return MemorySpec(PEEPHOLE_NAME, num_slices(config, schedule), width)


def cell_state_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of the state, of a cell that has one: a word for ``cell_lanes`` units, context after context.

    A bidirectional network keeps it for the layer at work alone, one direction after the other.
    """
    words = config.architecture.contexts * turn_slices(config, schedule)
    return MemorySpec("cell_state", words, schedule.cell_lanes * config.quantization.cell.width)


def parameter_memories(config: Config) -> list[MemorySpec]:
    """Every memory that a file fills for the cell update."""
    schedule = Schedule(config)
    peephole = [peephole_spec(config, schedule)] if config.cell.peepholes else []
    return [bias_spec(config, schedule), *peephole]


def initialised_memories(config: Config) -> list[MemorySpec]:
    """Every memory that a file fills, weight banks first."""
    arch = config.architecture
    banks = [
        MemorySpec(weight_bank_name(row, col), config.bank_words, config.weight_word_bits)
        for row in range(arch.tile_rows)
        for col in range(arch.tile_cols)
    ]
    return [*banks, *parameter_memories(config)]


def state_memories(config: Config) -> list[MemorySpec]:
    """Every memory without initial contents."""
    k, q = config.block_size, config.quantization
    state = [cell_state_spec(config, Schedule(config))] if config.cell.has_state else []
    if config.network.bidirectional:
        return [*turn_memories(config), *state, *sequence_memories(config)]
    vectors = [
        vector_spec(config, layer, part, bank)
        for layer in range(config.network.num_layers)
        for part in PARTS
        for bank in vector_banks(config, layer, part)
    ]
    return [
        *vectors,
        *state,
        MemorySpec("output_buffer", output_buffer_steps(config) * config.num_hidden_blocks, k * q.h.width),
    ]


def turn_input_bits(config: Config) -> int:
    """Width of an element of what a layer of a bidirectional network reads: x, and h where there are several layers."""
    return config.quantization.x.width if config.network.num_layers == 1 else config.element_bits


def turn_memories(config: Config) -> list[MemorySpec]:
    """Banks of what the columns of a bidirectional network's layer meet: own h of both directions, then its input.

    A block per column group, two halves in turn, those of h for each direction; the layers' inputs share a memory.
    """
    cols, own, k = config.architecture.tile_cols, config.num_hidden_blocks, config.block_size
    inputs = max(blocks.late for blocks in config.layer_blocks)
    groups = -(-own // cols), -(-(own % cols + inputs) // cols)
    banks = range(min(cols, own)), sorted({(own + block) % cols for block in range(min(inputs, cols))})
    widths = k * config.quantization.h.width, k * turn_input_bits(config)
    depths = HALVES * config.directions * groups[0], HALVES * groups[1]
    return [
        MemorySpec(f"{name}_c{bank}", depth, width)
        for name, depth, width, chosen in zip(("h", "input"), depths, widths, banks, strict=True)
        for bank in chosen
    ]


def sequence_memories(config: Config) -> list[MemorySpec]:
    """Memories of a bidirectional network's whole sequence: x, and twice the h of both directions."""
    steps, k, q = config.sequence_steps, config.block_size, config.quantization
    outputs = [MemorySpec(name, steps * config.num_output_blocks, k * q.h.width) for name in SEQUENCE_H]
    return [MemorySpec(SEQUENCE_X, steps * config.num_input_blocks, k * q.x.width), *outputs]


def vector_banks(config: Config, layer: int, part: str) -> list[int]:
    """Block columns of a tile that ever meet an early, a late block of a layer."""
    cols, blocks = config.architecture.tile_cols, config.layer_blocks[layer]
    if part == "early":
        return list(range(min(cols, blocks.early)))
    return sorted({(blocks.early + block) % cols for block in range(min(blocks.late, cols))})


def vector_spec(config: Config, layer: int, part: str, bank: int) -> MemorySpec:
    """A bank of the memory of a layer's early or late vector: a block per column group, two halves in turn.

    A layer's own h is kept for every context.
    """
    cols, blocks = config.architecture.tile_cols, config.layer_blocks[layer]
    groups = -(-blocks.early // cols) if part == "early" else -(-(blocks.early % cols + blocks.late) // cols)
    name = vector_name(layer, part)
    fmt = config.quantization.x if name == "x" else config.quantization.h
    places = HALVES << (context_bits(config) if is_own(layer, part) else 0)
    return MemorySpec(f"{name}_c{bank}", places * groups, config.block_size * fmt.width)


def vector_name(layer: int, part: str) -> str:
    """Of the memory of a layer's early or late vector."""
    return {(0, "early"): "x", (0, "late"): "h"}.get((layer, part), f"layer{layer}_{part}")


def is_own(layer: int, part: str) -> bool:
    """Whether the vector is the layer's own h of the step before."""
    return part == ("early" if layer else "late")


def context_bits(config: Config) -> int:
    """Address bits that tell contexts apart."""
    return (config.architecture.contexts - 1).bit_length()


def pack(values: np.ndarray, bits: int) -> list[int]:
    """``(words, entries)`` two's-complement integers → one packed integer per word, first entry lowest."""
    mask = (1 << bits) - 1
    words = []
    for row in np.asarray(values, dtype=np.int64).tolist():
        word = 0
        for position, value in enumerate(row):
            word |= (value & mask) << (position * bits)
        words.append(word)
    return words


def memory_words(weights: NetworkWeights) -> dict[str, list[int]]:
    """Contents of every initialised memory by name."""
    config = weights.config
    schedule, arch = Schedule(config), config.architecture
    rows, cols = arch.tile_rows, arch.tile_cols
    grids, orders = [], []
    for number, layer in enumerate(weights.layers):
        place = number // config.directions
        shape = (config.num_row_groups * rows, config.layer_blocks[place].col_groups * cols, config.block_size)
        grid, blocks = np.zeros(shape, dtype=np.int64), layer.interleaved()
        if place or config.network.bidirectional:
            # Its own h before the h of the layer below, or before any input.
            blocks = np.roll(blocks, config.num_hidden_blocks, axis=1)
        grid[: blocks.shape[0], : blocks.shape[1]] = blocks
        grids.append(grid)
        orders.append(schedule.layer_issues(place))

    def bank(row: int, col: int) -> list[int]:
        blocks = [
            grid[issue.row * rows + row, issue.col * cols + col]
            for grid, order in zip(grids, orders, strict=True)
            for issue in order
        ]
        return pack(np.stack(blocks), config.quantization.weight_bits)

    words = {weight_bank_name(r, c): bank(r, c) for r in range(rows) for c in range(cols)}
    words[BIAS_NAME], words[PEEPHOLE_NAME] = [], []
    for layer in weights.layers:
        words[BIAS_NAME] += pack(_per_slice(layer.bias, schedule), config.quantization.bias_bits)
        if config.cell.peepholes:
            words[PEEPHOLE_NAME] += pack(_per_slice(layer.peephole, schedule), config.quantization.peephole.width)
    return {name: contents for name, contents in words.items() if contents}


def _per_slice(values: np.ndarray, schedule: Schedule) -> np.ndarray:
    """(rows, H) parameters of hidden units as one row per slice."""
    lanes = schedule.cell_lanes
    return values.reshape(len(values), -1, lanes).transpose(1, 0, 2).reshape(-1, len(values) * lanes)


def mem_text(spec: MemorySpec, words: list[int], fingerprint: str) -> str:
    """Text of a ``$readmemh`` file: a comment with the fingerprint, then one word per line."""
    digits = -(-spec.width // 4)
    header = f"// {spec.name}: {spec.depth} words of {spec.width} bits, {FINGERPRINT_LABEL} {fingerprint}\n"
    return header + "".join(f"{word:0{digits}x}\n" for word in words)


def read_mem(path: Path, spec: MemorySpec, fingerprint: str) -> list[int]:
    """Read and check a ``$readmemh`` file that :func:`mem_text` wrote.

    Raises
    ------
    InvalidFileError
        Missing, of another configuration, truncated or damaged.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path} must be a readable memory file: {error}") from None
    header, _, body = text.partition("\n")
    found = re.search(rf"{FINGERPRINT_LABEL} ([0-9a-f]+)", header)
    if found is None or found[1] != fingerprint:
        raise InvalidFileError(
            f"{path} must be of {FINGERPRINT_LABEL} {fingerprint}, not {found[1] if found else header!r}"
        )
    lines = body.split()
    if len(lines) != spec.depth:
        raise InvalidFileError(f"{path} must hold {spec.depth} words, not {len(lines)}")
    try:
        words = [int(line, 16) for line in lines]
    except ValueError:
        raise InvalidFileError(f"{path} must hold hexadecimal words alone") from None
    if max(words).bit_length() > spec.width:
        raise InvalidFileError(f"{path} must hold words of {spec.width} bits, not {max(words).bit_length()}")
    return words
