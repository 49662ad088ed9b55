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
from model.schedule import OUTPUT_BUFFER_STEPS, Schedule
from model.weights import LayerWeights

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


def num_slices(config: Config, schedule: Schedule) -> int:
    """Slices of ``cell_lanes`` hidden units in a step."""
    return config.num_hidden_blocks * config.block_size // schedule.cell_lanes


def bias_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The bias memory: a word serves the gates of ``cell_lanes`` hidden units."""
    lanes = schedule.cell_lanes
    return MemorySpec(BIAS_NAME, num_slices(config, schedule), config.num_gates * lanes * config.quantization.bias_bits)


def peephole_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of peephole weights, of a cell that has them: as the biases."""
    width = len(config.cell.peepholes) * schedule.cell_lanes * config.quantization.peephole.width
    return MemorySpec(PEEPHOLE_NAME, num_slices(config, schedule), width)


def cell_state_spec(config: Config, schedule: Schedule) -> MemorySpec:
    """The memory of the state, of a cell that has one: a word for ``cell_lanes`` hidden units."""
    return MemorySpec("cell_state", num_slices(config, schedule), schedule.cell_lanes * config.quantization.cell.width)


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
    """Every memory without initial contents; x, h and the output are double-buffered."""
    k, q = config.block_size, config.quantization
    state = [cell_state_spec(config, Schedule(config))] if config.cell.has_state else []
    return [
        *(vector_spec(config, "x", bank) for bank in input_banks(config)),
        *(vector_spec(config, "h", bank) for bank in hidden_banks(config)),
        *state,
        MemorySpec("output_buffer", OUTPUT_BUFFER_STEPS * config.num_hidden_blocks, k * q.h.width),
    ]


def input_banks(config: Config) -> list[int]:
    """Block columns of a tile that ever meet a block of x."""
    return list(range(min(config.architecture.tile_cols, config.num_input_blocks)))


def hidden_banks(config: Config) -> list[int]:
    """Block columns of a tile that ever meet a block of h."""
    cols, first = config.architecture.tile_cols, config.num_input_blocks
    return sorted({(first + block) % cols for block in range(min(config.num_hidden_blocks, cols))})


def vector_spec(config: Config, name: str, bank: int) -> MemorySpec:
    """A bank of the memory of ``x`` or ``h``: a block per column group, two halves at even and odd addresses."""
    cols, first = config.architecture.tile_cols, config.num_input_blocks
    groups = -(-first // cols) if name == "x" else -(-(first % cols + config.num_hidden_blocks) // cols)
    fmt = getattr(config.quantization, name)
    return MemorySpec(f"{name}_c{bank}", HALVES * groups, config.block_size * fmt.width)


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


def memory_words(weights: LayerWeights) -> dict[str, list[int]]:
    """Contents of every initialised memory by name."""
    config = weights.config
    schedule, arch = Schedule(config), config.architecture
    rows, cols = arch.tile_rows, arch.tile_cols
    grid = np.zeros((config.num_row_groups * rows, config.num_col_groups * cols, config.block_size), dtype=np.int64)
    grid[: config.num_row_blocks, : config.num_col_blocks] = weights.interleaved()
    row_of = np.array([issue.row for issue in schedule.issues]) * rows
    col_of = np.array([issue.col for issue in schedule.issues]) * cols
    words = {
        weight_bank_name(r, c): pack(grid[row_of + r, col_of + c], config.quantization.weight_bits)
        for r in range(rows)
        for c in range(cols)
    }
    slices = num_slices(config, schedule)

    def per_slice(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(values), slices, schedule.cell_lanes).transpose(1, 0, 2).reshape(slices, -1)

    words[BIAS_NAME] = pack(per_slice(weights.bias), config.quantization.bias_bits)
    if config.cell.peepholes:
        words[PEEPHOLE_NAME] = pack(per_slice(weights.peephole), config.quantization.peephole.width)
    return words


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
