"""The state of a network as beats of the streams ``state_in`` and ``state_out`` (``architecture.state_ports``).

The beats of a state come layer after layer: first the blocks of h, then, if the cell keeps a state besides h, the
slices of ``cell_lanes`` units of that state.  Each block or slice is one beat, with its first element in the lowest
bits.  The payload is as wide as the wider of both.

The state of one context moves at a time.  When a sequence has ended, the state of its context is sent before the step
of the next context begins; when a sequence asks for a state, it is taken before the first step of that sequence.  So
states leave in the order in which sequences end, and arrive in the order in which the sequences that ask for one begin.
"""

from typing import NamedTuple

import numpy as np

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.memory_image import pack
from chessrnn.model.parts import CELL
from chessrnn.model.schedule import Schedule


class Segment(NamedTuple):
    """The beats of a state that belong to one memory.

    Attributes
    ----------
    layer : int
        Index of the layer.
    is_cell : bool
        Whether the beats hold the state that the cell keeps besides h, not h itself.
    beats : int
        Number of beats.
    elements : int
        Number of elements per beat.
    bits : int
        Width of an element.
    first : int
        Address of the first word in the memory of cell states, or tile column of the first block of h.
    """

    layer: int
    is_cell: bool
    beats: int
    elements: int
    bits: int
    first: int


def state_segments(config: Config) -> list[Segment]:
    """Segments of a state in the order of their beats."""
    schedule, points, k = Schedule(config), config.quantization, config.block_size
    segments, slices = [], 0
    for part in config.parts:
        # In a cell of several stages, the first stage reads the layer's own h.
        if part.kind == CELL and part.gates == config.cell.stage_gates[0]:
            # The layer's own h of the step before is the late vector in the first layer and the early one in others.
            h_blocks = circulant.num_blocks(config.layer_output_sizes[part.layer], k)
            first = 0 if part.layer else part.early.blocks % config.architecture.tile_cols
            segments.append(Segment(part.layer, False, h_blocks, k, points.h.width, first))
            count, lanes = part.output_blocks * schedule.slices, schedule.cell_lanes
            if config.cell.has_state:
                first = slices // config.cell.stages
                segments.append(Segment(part.layer, True, count, lanes, points.cell.width, first))
        slices += part.row_blocks // config.bundle_rows * schedule.slices
    return segments


def state_bits(config: Config) -> int:
    """Width of the payload of a beat."""
    return max(segment.elements * segment.bits for segment in state_segments(config))


def pack_state(config: Config, state: list[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """Convert the (h, c) of every layer, integers (H or P,) and (H,), to beats; padding is zero."""
    words = []
    for segment in state_segments(config):
        values = np.asarray(state[segment.layer][segment.is_cell])
        padded = np.zeros(segment.beats * segment.elements, dtype=np.int64)
        padded[: len(values)] = values
        words += pack(padded.reshape(segment.beats, segment.elements), segment.bits)
    return words


def state_text(config: Config, state: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Text of the states (B, H or P) and (B, H) of B sequences: a comment each, then one hexadecimal beat per line."""
    digits, lines = -(-state_bits(config) // 4), []
    for number in range(len(state[0][0])):
        lines.append(f"// sequence {number}: payloads of state_in, in order")
        words = pack_state(config, [(h[number], c[number]) for h, c in state])
        lines += [f"{word:0{digits}x}" for word in words]
    return "\n".join(lines) + "\n"


def unpack_state(config: Config, words: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inverse of :func:`pack_state`; a cell that keeps only h gets its h as c."""
    start, state = 0, []
    for segment in state_segments(config):
        mask, half = (1 << segment.bits) - 1, 1 << (segment.bits - 1)
        values = [
            (word >> position * segment.bits) & mask
            for word in words[start : start + segment.beats]
            for position in range(segment.elements)
        ]
        sizes = config.network.hidden_sizes if segment.is_cell else config.layer_output_sizes
        array = np.array(values, dtype=np.int64)[: sizes[segment.layer]]
        array -= (array >= half) * (2 * half)
        if segment.is_cell:
            state[-1] = (state[-1][0], array)
        else:
            state.append((array, array))
        start += segment.beats
    return state
