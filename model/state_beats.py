"""The state of a network as beats of a stream: what ``architecture.state_ports`` carries in and out.

Layer after layer: the blocks of h, then, of a cell with a state of its own, its slices of ``cell_lanes`` units, each a
beat of its own, first element lowest, in the lower bits of a word that is as wide as the wider of both.

A state is that of one context: out goes that of the context whose sequence has just ended, before the next context's
step begins; in comes that of the context whose step is next.  States leave in the order in which sequences end, and
come in the order in which those begin that ask for one.
"""

from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.memory_image import pack
from chessrnn.model.parts import CELL
from chessrnn.model.schedule import Schedule


class Segment(NamedTuple):
    """Beats that come from one memory.

    Attributes
    ----------
    layer : int
    is_cell : bool
        The cell's state, else h.
    beats : int
    elements, bits : int
        Of a beat.
    first : int
        Word of the memory of cell states, or tile column of the first block of h.
    """

    layer: int
    is_cell: bool
    beats: int
    elements: int
    bits: int
    first: int


def state_segments(config: Config) -> list[Segment]:
    """Segments in order."""
    schedule, points, k = Schedule(config), config.quantization, config.block_size
    segments, slices = [], 0
    for part in config.parts:
        # Of a cell of several stages the first reads the layer's own h.
        if part.kind == CELL and part.gates == config.cell.stage_gates[0]:
            # A layer's own h of the step before: its late columns in the first layer, else its early ones.
            first = 0 if part.layer else part.early.blocks % config.architecture.tile_cols
            segments.append(Segment(part.layer, False, config.num_output_blocks, k, points.h.width, first))
            count, lanes = part.output_blocks * schedule.slices, schedule.cell_lanes
            if config.cell.has_state:
                first = slices // config.cell.stages
                segments.append(Segment(part.layer, True, count, lanes, points.cell.width, first))
        slices += part.row_blocks // config.bundle_rows * schedule.slices
    return segments


def state_bits(config: Config) -> int:
    """Width of a beat."""
    return max(segment.elements * segment.bits for segment in state_segments(config))


def pack_state(config: Config, state: list[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """(h, c) of every layer, integers (P or H) and (H), as beats; padding is zero."""
    words = []
    for segment in state_segments(config):
        values = np.asarray(state[segment.layer][segment.is_cell])
        padded = np.zeros(segment.beats * segment.elements, dtype=np.int64)
        padded[: len(values)] = values
        words += pack(padded.reshape(segment.beats, segment.elements), segment.bits)
    return words


def state_text(config: Config, state: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Beats of the states (B, P or H) and (B, H) of B sequences, hexadecimal, a line each, after a comment each."""
    digits, lines = -(-state_bits(config) // 4), []
    for number in range(len(state[0][0])):
        lines.append(f"// sequence {number}: payloads of state_in, in order")
        words = pack_state(config, [(h[number], c[number]) for h, c in state])
        lines += [f"{word:0{digits}x}" for word in words]
    return "\n".join(lines) + "\n"


def unpack_state(config: Config, words: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inverse of :func:`pack_state`; a cell without a state of its own gets its h again."""
    sizes, start, state = (config.output_size, config.network.hidden_size), 0, []
    for segment in state_segments(config):
        mask, half = (1 << segment.bits) - 1, 1 << (segment.bits - 1)
        values = [
            (word >> position * segment.bits) & mask
            for word in words[start : start + segment.beats]
            for position in range(segment.elements)
        ]
        array = np.array(values, dtype=np.int64)[: sizes[segment.is_cell]]
        array -= (array >= half) * (2 * half)
        if segment.is_cell:
            state[-1] = (state[-1][0], array)
        else:
            state.append((array, array))
        start += segment.beats
    return state
