"""The memories of the accelerator: their sizes, their contents word by word, and the files that initialise them.

A word is an integer whose lowest bits hold the first entry.  The words of a weight bank are in the order of
``Schedule.issues``: each bank is read at consecutive addresses, every word once per step.  All banks are read at the
same address, so several can share a memory, whose word holds theirs side by side.  Of layers with narrower weights than
others, a stored word holds several words, which are read one after the other (:mod:`chessrnn.model.shared_words`).
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, require, shown
from chessrnn.model.output_layer import OutputLayer, first_columns
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.parts import CELL, PROJECTION, Vector
from chessrnn.model.qformat import QFormat
from chessrnn.model.schedule import Schedule, output_buffer_steps
from chessrnn.model.shared_words import share_words, side_by_side
from chessrnn.model.weights import NetworkWeights

FINGERPRINT_LABEL = "configuration"
# x and h are double-buffered: one half is filled while the other is read.
HALVES = 2


@dataclass(frozen=True)
class MemorySpec:
    """The name and size of a memory.

    Attributes
    ----------
    name : str
        Name of the memory, and of its file if it has one.
    depth : int
        Number of words.
    width : int
        Number of bits per word.
    """

    name: str
    depth: int
    width: int

    @property
    def bits(self) -> int:
        """Number of bits of the whole memory."""
        return self.depth * self.width


def weight_bank_name(row: int, col: int) -> str:
    """Name of the weight bank of the processing element at (row, col) of the tile."""
    return f"weights_r{row}_c{col}"


@dataclass(frozen=True)
class WeightMemory:
    """A memory of weights and the banks that it holds.

    Attributes
    ----------
    spec : MemorySpec
        The memory, with the width of its data alone; it is named after its first bank.
    places : tuple of (int, int)
        Row and column of the processing element of every bank, the lowest bits of a word first.
    """

    spec: MemorySpec
    places: tuple[tuple[int, int], ...]


def weight_memories(config: Config) -> list[WeightMemory]:
    """All memories of weights: each holds the banks of neighbours, counted row after row through the tile."""
    arch, size = config.architecture, config.banks_per_memory
    places = [(row, col) for row in range(arch.tile_rows) for col in range(arch.tile_cols)]
    groups = [tuple(places[start : start + size]) for start in range(0, len(places), size)]
    return [
        WeightMemory(
            MemorySpec(weight_bank_name(*group[0]), config.bank_depth, len(group) * config.weight_word_bits), group
        )
        for group in groups
    ]


BIAS_NAME = "bias"
PEEPHOLE_NAME = "peephole"
SCALE_NAME = "scale"
OUTPUT_WEIGHTS, OUTPUT_BIAS, OUTPUT_H = "output_weights", "output_bias", "output_h"
# Memories of a whole sequence of a bidirectional network: one for the x of the first layer, and two for h, of which a
# layer reads one while it fills the other.
SEQUENCE_X = "sequence_x"
SEQUENCE_H = ("sequence_h0", "sequence_h1")


def num_slices(config: Config, schedule: Schedule) -> int:
    """Number of slices of ``cell_lanes`` units in a step, over all parts and directions.

    The bias and peephole memories have a word for each slice.  The slices of a projection count too, although their
    words are not used.
    """
    return config.directions * sum(part.row_blocks // config.bundle_rows for part in config.parts) * schedule.slices


def slices_per_round(config: Config, schedule: Schedule) -> int:
    """Slices after which the drain counts from 0 again: those of a step, or of both directions' step in one layer."""
    slices = num_slices(config, schedule)
    return slices // config.network.num_layers if config.network.bidirectional else slices


def bias_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The bias memory: a word holds the biases of ``cell_lanes`` hidden units for the gates of one stage."""
    width = config.bundle_rows * schedule.cell_lanes * config.quantization.bias_bits
    return MemorySpec(BIAS_NAME, num_slices(config, schedule), width)


def peephole_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of peephole weights of a cell that has them, organised like the bias memory."""
    width = len(config.cell.peepholes) * schedule.cell_lanes * config.quantization.peephole.width
    return MemorySpec(PEEPHOLE_NAME, num_slices(config, schedule), width)


def scale_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of scales of block rows: a word holds those of a hidden block for the gates of one stage.

    A projection has words that are not used, as it has in the bias memory.
    """
    depth = num_slices(config, schedule) // schedule.slices
    return MemorySpec(SCALE_NAME, depth, config.bundle_rows * config.quantization.scale_bits)


def cell_state_words(config: Config, schedule: Schedule) -> int:
    """Number of words of the memory of cell states per context, or for both directions of one layer."""
    return slices_per_round(config, schedule) // config.cell.stages


def cell_state_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of cell states: a word per slice of ``cell_lanes`` units, context after context.

    The stages of a cell share it.  A bidirectional network holds only the states of the layer that is running, the
    forward direction first.
    """
    words = config.architecture.contexts * cell_state_words(config, schedule)
    return MemorySpec("cell_state", words, schedule.cell_lanes * config.quantization.cell.width)


def held_gate_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of a gate that a later stage of the cell reads, for one layer.

    It has a word per slice of ``cell_lanes`` units, for each direction.
    """
    words = config.directions * config.num_hidden_blocks * schedule.slices
    return MemorySpec("held_gate", words, schedule.cell_lanes * config.quantization.gate.width)


def parameter_memories(config: Config) -> list[MemorySpec]:
    """Memories of the cell update that are initialised from files."""
    schedule = Schedule(config)
    peephole = [peephole_spec(config, schedule)] if config.cell.peepholes else []
    scale = [scale_spec(config, schedule)] if config.has_row_scales else []
    return [bias_spec(config, schedule), *peephole, *scale]


def output_layer_memories(config: Config) -> list[MemorySpec]:
    """Memories of the output layer that are initialised from files.

    A word of weights holds those of all lanes for one block of h; a word of biases holds those of all lanes.
    """
    plan = config.output_plan
    if plan is None:
        return []
    return [
        MemorySpec(OUTPUT_WEIGHTS, plan.cycles, plan.block_rows * config.block_size * WEIGHT_BITS),
        MemorySpec(OUTPUT_BIAS, plan.groups, plan.lanes * BIAS_BITS),
    ]


def output_vector_spec(config: Config) -> MemorySpec:
    """The memory of the h that the output layer reads, for two steps."""
    return MemorySpec(OUTPUT_H, HALVES * config.num_output_blocks, config.block_size * config.quantization.h.width)


def parity_bits(config: Config) -> int:
    """Number of parity bits that are stored with a word: one, or none."""
    return int(config.architecture.parity == "word")


def stored_spec(config: Config, spec: MemorySpec) -> MemorySpec:
    """The memory of some words as it is built: with their parity bits, above the data."""
    return replace(spec, width=spec.width + parity_bits(config))


def initialised_memories(config: Config) -> list[MemorySpec]:
    """All memories that are initialised from files, those of weights first, as they are built."""
    return [stored_spec(config, spec) for spec in data_memories(config)]


def data_memories(config: Config) -> list[MemorySpec]:
    """The same memories with the width of their data alone."""
    weights = [memory.spec for memory in weight_memories(config)]
    return [*weights, *parameter_memories(config), *output_layer_memories(config)]


def state_memories(config: Config) -> list[MemorySpec]:
    """All memories without initial contents, as they are built."""
    return [stored_spec(config, spec) for spec in _state_memories(config)]


def _state_memories(config: Config) -> list[MemorySpec]:
    state = [cell_state_spec(config, Schedule(config))] if config.cell.has_state else []
    if config.cell.stages > 1:
        state.append(held_gate_spec(config, Schedule(config)))
    if config.network.bidirectional:
        return [*pass_vector_memories(config), *state, *sequence_memories(config)]
    return [
        *(spec for memory in vector_stores(config) for spec in memory.banks),
        *state,
        output_buffer_spec(config),
        *([output_vector_spec(config)] if config.architecture.output_layer else []),
    ]


def output_buffer_spec(config: Config) -> MemorySpec:
    """The memory of blocks of h that wait for their sink."""
    depth = output_buffer_steps(config) * config.num_output_blocks
    return MemorySpec("output_buffer", depth, config.block_size * config.quantization.h.width)


@dataclass(frozen=True)
class VectorStore:
    """The memory of the early or late vector of parts, with a bank for each tile column that is multiplied by it.

    Attributes
    ----------
    name : str
        Name of the memory; that of a bank is ``<name>_c<column>``.
    parts : tuple of int
        Indices of the parts that read the vector, in the same block columns.
    is_late : bool
        Whether it is the late vector of these parts.
    vector : Vector
        The vector.
    format : QFormat
        Format of the elements.
    first_bank : int
        Tile column of the first block.
    columns : tuple of int
        Tile columns that have a bank.
    banks : tuple of MemorySpec
        The banks, with a word (one block) per column group.  Each has two halves that are used alternately; a vector of
        the step before is kept for every context.
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
    """Memories of all vectors, in the order of the first part that reads each."""
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
    halves = HALVES << (context_bits(config) if vector.is_previous else 0)
    fmt = points.x if vector.source is None else config.cell_output if part.kind == PROJECTION else points.h
    depth = halves * -(-(first + vector.blocks) // cols)
    banks = tuple(MemorySpec(f"{name}_c{column}", depth, config.block_size * fmt.width) for column in columns)
    return VectorStore(name, numbers, is_late, vector, fmt, first, tuple(columns), banks)


def layer_input_bits(config: Config) -> int:
    """Width of an element of the input of a layer of a bidirectional network: x, and h if there are several layers."""
    return config.quantization.x.width if config.network.num_layers == 1 else config.element_bits


def pass_vector_memories(config: Config) -> list[MemorySpec]:
    """Banks of the vectors that a pass of a bidirectional network reads.

    They are the layer's own h, its input, and, if a step has several parts, the output of a part for a later part.  A
    word is one block per column group.  The banks of h have two halves for each direction; those of the input have two
    halves and serve all layers.
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
    """Memories of a whole sequence of a bidirectional network: one for x, and two for the h of both directions."""
    steps, k, q = config.sequence_steps, config.block_size, config.quantization
    outputs = [MemorySpec(name, steps * config.num_stream_blocks, k * q.h.width) for name in SEQUENCE_H]
    return [MemorySpec(SEQUENCE_X, steps * config.num_input_blocks, k * q.x.width), *outputs]


def context_bits(config: Config) -> int:
    """Number of address bits that select the context."""
    return (config.architecture.contexts - 1).bit_length()


def pack(values: np.ndarray, bits: int) -> list[int]:
    """Pack integers (words, entries) in two's complement into one integer per word, the first entry in the low bits."""
    mask = (1 << bits) - 1
    words = []
    for row in np.asarray(values, dtype=np.int64).tolist():
        word = 0
        for position, value in enumerate(row):
            word |= (value & mask) << (position * bits)
        words.append(word)
    return words


def memory_words(weights: NetworkWeights) -> dict[str, list[int]]:
    """Contents of all memories that are initialised from files, by name, with their parity bits if they have any."""
    words = data_words(weights)
    if not parity_bits(weights.config):
        return words
    widths = {spec.name: spec.width for spec in data_memories(weights.config)}
    return {
        name: [word | (word.bit_count() & 1) << widths[name] for word in contents] for name, contents in words.items()
    }


def data_words(weights: NetworkWeights) -> dict[str, list[int]]:
    """The same contents without parity bits."""
    config = weights.config
    schedule, arch = Schedule(config), config.architecture
    rows, cols = arch.tile_rows, arch.tile_cols
    grids, orders = [], []
    # Every part with the weights of its layer, once per direction.
    ways = config.directions
    pairs = [(part, weights.layers[ways * part.layer + way]) for part in config.parts for way in range(ways)]
    for part, layer in pairs:
        grid = np.zeros((part.row_groups * rows, part.col_groups * cols, config.block_size), dtype=np.int64)
        blocks = layer.projection if part.kind == PROJECTION else layer.interleaved(part.gates)
        assert blocks is not None
        if part.kind == CELL and part.reads_input_last:
            # The columns of what the layer computes itself come before those of its input.
            blocks = np.roll(blocks, part.early.blocks, axis=1)
        grid[: blocks.shape[0], : blocks.shape[1]] = blocks
        grids.append(grid)
        orders.append(schedule.part_issues(config.parts.index(part)))

    def bank(row: int, col: int) -> list[int]:
        found: list[list[int]] = [[] for _ in config.layer_weight_bits]
        for (part, _), grid, order in zip(pairs, grids, orders, strict=True):
            blocks = np.stack([grid[issue.row * rows + row, issue.col * cols + col] for issue in order])
            # With half levels the code of a weight 2·q + 1 is q.  Blocks that only fill the tile are code 0: no result
            # of theirs is read.
            found[part.layer] += pack(blocks >> config.has_half_levels, config.layer_weight_bits[part.layer])
        layers = zip(found, config.layer_slots, config.layer_weight_bits, strict=True)
        return [word for of_layer, slots, bits in layers for word in share_words(of_layer, slots, bits * k)]

    k, words = config.block_size, {}
    for memory in weight_memories(config):
        banks = zip(*(bank(*place) for place in memory.places), strict=True)
        words[memory.spec.name] = [side_by_side(of_banks, config.weight_word_bits) for of_banks in banks]
    words[BIAS_NAME], words[PEEPHOLE_NAME], words[SCALE_NAME] = [], [], []
    for part, layer in pairs:
        used = part.kind == CELL
        unused = np.zeros((1, part.row_blocks // config.bundle_rows * config.block_size), dtype=np.int64)
        bias = layer.bias[list(part.gates)] if used else unused.repeat(config.bundle_rows, axis=0)
        words[BIAS_NAME] += pack(_per_slice(bias, schedule), config.quantization.bias_bits)
        if config.cell.peepholes:
            peephole = layer.peephole if used else unused.repeat(len(config.cell.peepholes), axis=0)
            assert peephole is not None
            words[PEEPHOLE_NAME] += pack(_per_slice(peephole, schedule), config.quantization.peephole.width)
        if config.has_row_scales:
            assert layer.scale is not None
            unused = np.zeros((config.bundle_rows, part.row_blocks // config.bundle_rows), dtype=np.int64)
            scale = layer.scale[list(part.gates)] if used else unused
            words[SCALE_NAME] += pack(scale.T, config.quantization.scale_bits)
    if config.architecture.output_layer:
        require(weights.output is not None, "weights.output", "given with architecture.output_layer", None)
        assert weights.output is not None
        words |= _output_words(config, weights.output)
    return {name: contents for name, contents in words.items() if contents}


def _output_words(config: Config, layer: OutputLayer) -> dict[str, list[int]]:
    """Contents of the memories of the output layer, by group and then by block of h.

    Lanes beyond the outputs and elements beyond those of h are zero.  Only the first columns of circulant blocks are
    stored: a word holds those of k/k_y block columns for each group of k_y lanes.
    """
    plan, k = config.required_output_plan, config.block_size
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
    """Rearrange parameters (rows, H) of hidden units into one row per slice."""
    lanes = schedule.cell_lanes
    return values.reshape(len(values), -1, lanes).transpose(1, 0, 2).reshape(-1, len(values) * lanes)


def mem_text(spec: MemorySpec, words: list[int], fingerprint: str) -> str:
    """Text of a ``$readmemh`` file: a comment with the fingerprint, then one word per line."""
    digits = _digits(spec)
    return f"{_header(spec, fingerprint)}\n" + "".join(f"{word:0{digits}x}\n" for word in words)


def _digits(spec: MemorySpec) -> int:
    return -(-spec.width // 4)


def _header(spec: MemorySpec, fingerprint: str) -> str:
    return f"// {spec.name}: {spec.depth} words of {spec.width} bits, {FINGERPRINT_LABEL} {fingerprint}"


def read_mem(path: Path, spec: MemorySpec, fingerprint: str) -> list[int]:
    """Read a ``$readmemh`` file, and check that it is of the form that :func:`mem_text` writes, and no other.

    Raises
    ------
    InvalidFileError
        The file is missing, truncated or damaged, or belongs to another configuration.
    """
    try:
        text = path.read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path} must be a readable memory file: {error}") from None
    header, _, body = text.partition("\n")
    found = re.search(rf"{FINGERPRINT_LABEL} ([0-9a-f]+)", header)
    if found is None or found[1] != fingerprint:
        what = shown(found[1] if found else header)
        raise InvalidFileError(f"{path} must be of {FINGERPRINT_LABEL} {fingerprint}, not {what}")
    if header != _header(spec, fingerprint):
        raise InvalidFileError(f"{path} must begin with {_header(spec, fingerprint)!r}, not {shown(header)}")
    count = body.count("\n")
    if count != spec.depth or not body.endswith("\n"):
        raise InvalidFileError(f"{path} must hold {spec.depth} words, each with a line break, not {count}")
    digits = _digits(spec)
    if re.fullmatch(rf"(?:[0-9a-f]{{{digits}}}\n)*", body) is None:
        line = next(line for line in body.split("\n") if re.fullmatch(rf"[0-9a-f]{{{digits}}}", line) is None)
        raise InvalidFileError(f"{path} must hold words of {digits} lower-case hexadecimal digits, not {shown(line)}")
    words = [int(line, 16) for line in body.split()]
    if max(words).bit_length() > spec.width:
        raise InvalidFileError(f"{path} must hold words of {spec.width} bits, not {max(words).bit_length()}")
    return words
