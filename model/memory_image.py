"""What stands in every memory of the accelerator, word by word, and the files that fill it.

A word is an integer whose low bits hold the first entry.  Weight banks are in the order of
``Schedule.issues``: each bank is read at consecutive addresses, every word once per step.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, require
from chessrnn.model.output_layer import OutputLayer, first_columns
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.parts import CELL, PROJECTION, Vector
from chessrnn.model.qformat import QFormat
from chessrnn.model.schedule import Schedule, output_buffer_steps
from chessrnn.model.weights import NetworkWeights

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
OUTPUT_WEIGHTS, OUTPUT_BIAS, OUTPUT_H = "output_weights", "output_bias", "output_h"
# Of a bidirectional network: the input of its first layer, and in turn what a layer makes and the next one reads.
SEQUENCE_X = "sequence_x"
SEQUENCE_H = ("sequence_h0", "sequence_h1")


def num_slices(config: Config, schedule: Schedule) -> int:
    """Slices of ``cell_lanes`` units in a step, those of every part and direction: bias and peepholes have words for.

    A projection has as many as its bundles, and uses none of those words.
    """
    return config.directions * sum(part.row_blocks // config.bundle_rows for part in config.parts) * schedule.slices


def slices_per_round(config: Config, schedule: Schedule) -> int:
    """Slices after which the drain counts from 0 again: those of a step, or of both directions' step in one layer."""
    slices = num_slices(config, schedule)
    return slices // config.network.num_layers if config.network.bidirectional else slices


def bias_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The bias memory: a word serves the gates of ``cell_lanes`` hidden units, stage by stage."""
    width = config.bundle_rows * schedule.cell_lanes * config.quantization.bias_bits
    return MemorySpec(BIAS_NAME, num_slices(config, schedule), width)


def peephole_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of peephole weights, of a cell that has them: as the biases."""
    width = len(config.cell.peepholes) * schedule.cell_lanes * config.quantization.peephole.width
    return MemorySpec(PEEPHOLE_NAME, num_slices(config, schedule), width)


def cell_state_words(config: Config, schedule: Schedule) -> int:
    """Words of the memory of the state for one context, or of both directions for the layer at work."""
    return slices_per_round(config, schedule) // config.cell.stages


def cell_state_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of the state, of a cell that has one: a word for ``cell_lanes`` units, context after context.

    The stages of a cell share it.  A bidirectional network keeps it for the layer at work alone, one direction after
    the other.
    """
    words = config.architecture.contexts * cell_state_words(config, schedule)
    return MemorySpec("cell_state", words, schedule.cell_lanes * config.quantization.cell.width)


def held_gate_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of a gate that waits for a later stage of its layer: a word for ``cell_lanes`` units, of either
    direction where there are two."""
    words = config.directions * config.num_hidden_blocks * schedule.slices
    return MemorySpec("held_gate", words, schedule.cell_lanes * config.quantization.gate.width)


def parameter_memories(config: Config) -> list[MemorySpec]:
    """Every memory that a file fills for the cell update."""
    schedule = Schedule(config)
    peephole = [peephole_spec(config, schedule)] if config.cell.peepholes else []
    return [bias_spec(config, schedule), *peephole]


def output_layer_memories(config: Config) -> list[MemorySpec]:
    """Every memory that a file fills for the output layer: a word serves its lanes, of weights for a block of h."""
    plan = config.output_plan
    if plan is None:
        return []
    return [
        MemorySpec(OUTPUT_WEIGHTS, plan.cycles, plan.block_rows * config.block_size * WEIGHT_BITS),
        MemorySpec(OUTPUT_BIAS, plan.groups, plan.lanes * BIAS_BITS),
    ]


def output_vector_spec(config: Config) -> MemorySpec:
    """The memory of what the output layer reads: h of two steps."""
    return MemorySpec(OUTPUT_H, HALVES * config.num_output_blocks, config.block_size * config.quantization.h.width)


def initialised_memories(config: Config) -> list[MemorySpec]:
    """Every memory that a file fills, weight banks first."""
    arch = config.architecture
    banks = [
        MemorySpec(weight_bank_name(row, col), config.bank_words, config.weight_word_bits)
        for row in range(arch.tile_rows)
        for col in range(arch.tile_cols)
    ]
    return [*banks, *parameter_memories(config), *output_layer_memories(config)]


def state_memories(config: Config) -> list[MemorySpec]:
    """Every memory without initial contents."""
    k, q = config.block_size, config.quantization
    state = [cell_state_spec(config, Schedule(config))] if config.cell.has_state else []
    if config.cell.stages > 1:
        state.append(held_gate_spec(config, Schedule(config)))
    if config.network.bidirectional:
        return [*pass_vector_memories(config), *state, *sequence_memories(config)]
    return [
        *(spec for memory in vector_stores(config) for spec in memory.banks),
        *state,
        MemorySpec("output_buffer", output_buffer_steps(config) * config.num_output_blocks, k * q.h.width),
        *([output_vector_spec(config)] if config.architecture.output_layer else []),
    ]


@dataclass(frozen=True)
class VectorStore:
    """Where a part's early or late vector is kept for its columns, a bank for each tile column that meets it.

    Attributes
    ----------
    name : str
        Of the memory; a bank's is ``<name>_c<column>``.
    parts : tuple of int
        Those that find it in the same columns.
    is_late : bool
    vector : Vector
    format : QFormat
    first_bank : int
        Tile column of the first block.
    columns : tuple of int
        Tile columns that have a bank.
    banks : tuple of MemorySpec
        A block per column group, two halves in turn; what belongs to the step before is kept for every context.
    """

    name: str
    parts: tuple[int, ...]
    is_late: bool
    vector: Vector
    format: QFormat
    first_bank: int
    columns: tuple[int, ...]
    banks: tuple[MemorySpec, ...]


def vector_stores(config: Config) -> list[VectorStore]:
    """Every memory of a vector, part after part."""
    readers: dict[tuple, list[int]] = {}
    for number, part in enumerate(config.parts):
        for is_late, vector, before in ((False, part.early, 0), (True, part.late, part.early.blocks)):
            if vector.blocks:
                readers.setdefault((is_late, vector, before), []).append(number)
    return [_vector_store(config, tuple(numbers), is_late, vector) for (is_late, vector, _), numbers in readers.items()]


def _vector_store(config: Config, numbers: tuple[int, ...], is_late: bool, vector: Vector) -> VectorStore:
    part, cols, points = config.parts[numbers[0]], config.architecture.tile_cols, config.quantization
    is_last_stage = config.cell.stages > 1 and part.gates == config.cell.stage_gates[-1]
    if part.kind == PROJECTION:
        name = f"layer{part.layer}_unprojected"
    elif is_last_stage:
        name = f"layer{part.layer}_{'scaled' if is_late else 'below'}"
    elif part.layer:
        name = f"layer{part.layer}_{'late' if is_late else 'early'}"
    else:
        name = "h" if is_late else "x"
    first = part.early.blocks % cols if is_late else 0
    columns = sorted({(first + block) % cols for block in range(min(vector.blocks, cols))})
    places = HALVES << (context_bits(config) if vector.is_previous else 0)
    fmt = points.x if vector.source is None else config.cell_output if part.kind == PROJECTION else points.h
    depth = places * -(-(first + vector.blocks) // cols)
    banks = tuple(MemorySpec(f"{name}_c{column}", depth, config.block_size * fmt.width) for column in columns)
    return VectorStore(name, numbers, is_late, vector, fmt, first, tuple(columns), banks)


def layer_input_bits(config: Config) -> int:
    """Width of an element of what a layer of a bidirectional network reads: x, and h where there are several layers."""
    return config.quantization.x.width if config.network.num_layers == 1 else config.element_bits


def pass_vector_memories(config: Config) -> list[MemorySpec]:
    """Banks of what the columns of a bidirectional network's layer meet: own h of both directions, then its input;
    where a step has several parts, what one makes for a later one, of both directions.

    A block per column group, two halves in turn, those of h for each direction; the layers' inputs share a memory.
    """
    cols, own, k = config.architecture.tile_cols, config.num_output_blocks, config.block_size
    inputs, h_bits = max(part.late.blocks for part in config.parts), config.quantization.h.width
    memories = [
        ("h", HALVES * config.directions * -(-own // cols), h_bits, range(min(cols, own))),
        (
            "input",
            HALVES * -(-(own % cols + inputs) // cols),
            layer_input_bits(config),
            sorted({(own + block) % cols for block in range(min(inputs, cols))}),
        ),
    ]
    if len(config.layer_parts[0]) > 1:
        inner = config.num_hidden_blocks
        memories.append(("inner", config.directions * -(-inner // cols), h_bits, range(min(cols, inner))))
    return [MemorySpec(f"{name}_c{bank}", depth, k * bits) for name, depth, bits, banks in memories for bank in banks]


def sequence_memories(config: Config) -> list[MemorySpec]:
    """Memories of a bidirectional network's whole sequence: x, and twice the h of both directions."""
    steps, k, q = config.sequence_steps, config.block_size, config.quantization
    outputs = [MemorySpec(name, steps * config.num_stream_blocks, k * q.h.width) for name in SEQUENCE_H]
    return [MemorySpec(SEQUENCE_X, steps * config.num_input_blocks, k * q.x.width), *outputs]


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
    # Every part, of both directions where there are two, with its layer's weights.
    ways = config.directions
    pairs = [(part, weights.layers[ways * part.layer + way]) for part in config.parts for way in range(ways)]
    for part, layer in pairs:
        grid = np.zeros((part.row_groups * rows, part.col_groups * cols, config.block_size), dtype=np.int64)
        blocks = layer.projection if part.kind == PROJECTION else layer.interleaved(part.gates)
        if part.kind == CELL and part.reads_input_last:
            # What the layer makes itself before its input.
            blocks = np.roll(blocks, config.num_output_blocks, axis=1)
        grid[: blocks.shape[0], : blocks.shape[1]] = blocks
        grids.append(grid)
        orders.append(schedule.part_issues(config.parts.index(part)))

    def bank(row: int, col: int) -> list[int]:
        blocks = [
            grid[issue.row * rows + row, issue.col * cols + col]
            for grid, order in zip(grids, orders, strict=True)
            for issue in order
        ]
        return pack(np.stack(blocks), config.quantization.weight_bits)

    words = {weight_bank_name(r, c): bank(r, c) for r in range(rows) for c in range(cols)}
    words[BIAS_NAME], words[PEEPHOLE_NAME] = [], []
    for part, layer in pairs:
        used = part.kind == CELL
        unused = np.zeros((1, part.row_blocks // config.bundle_rows * config.block_size), dtype=np.int64)
        bias = layer.bias[list(part.gates)] if used else unused.repeat(config.bundle_rows, axis=0)
        words[BIAS_NAME] += pack(_per_slice(bias, schedule), config.quantization.bias_bits)
        if config.cell.peepholes:
            peephole = layer.peephole if used else unused.repeat(len(config.cell.peepholes), axis=0)
            words[PEEPHOLE_NAME] += pack(_per_slice(peephole, schedule), config.quantization.peephole.width)
    if config.architecture.output_layer:
        require(weights.output is not None, "weights.output", "given with architecture.output_layer", None)
        words |= _output_words(config, weights.output)
    return {name: contents for name, contents in words.items() if contents}


def _output_words(config: Config, layer: OutputLayer) -> dict[str, list[int]]:
    """Group after group, block after block; lanes beyond the outputs, and elements beyond those of h, are zero.

    Of circulant blocks only the first columns are there: in a word those of k/k_y blocks of columns for each of the
    blocks of k_y lanes.
    """
    plan, k = config.output_plan, config.block_size
    wanted = plan.outputs, config.output_size
    require(layer.weight.shape == wanted, "weights.output", f"of shape {wanted}", layer.weight.shape)
    columns, rows = first_columns(layer.weight, plan.sharing, "weights.output"), plan.block_rows
    weight = np.zeros((plan.groups * rows, plan.blocks * k // plan.sharing, plan.sharing), dtype=np.int64)
    weight[: columns.shape[0], : columns.shape[1]] = columns
    weight = weight.reshape(plan.groups, rows, plan.blocks, k).transpose(0, 2, 1, 3)
    bias = np.zeros(plan.groups * plan.lanes, dtype=np.int64)
    bias[: wanted[0]] = layer.bias
    return {
        OUTPUT_WEIGHTS: pack(weight.reshape(plan.cycles, rows * k), WEIGHT_BITS),
        OUTPUT_BIAS: pack(bias.reshape(plan.groups, plan.lanes), BIAS_BITS),
    }


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
