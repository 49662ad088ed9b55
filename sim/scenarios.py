"""A scenario: configuration, weights, sequences of x, and what must come out, when."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model.cells import CELLS
from model.config import ACTIVATION_KINDS, ARITHMETICS, BLOCK_SIZES, FAST_BLOCK_SIZES, Config
from model.errors import UserError, require
from model.memory_image import pack
from model.qformat import QFormat
from model.reference.network import NetworkReference
from model.resources import matvec_multipliers
from model.schedule import Schedule, Timeline, interleave
from model.weights import LayerWeights, NetworkWeights, drop_absent, of_layers, random_inputs, random_weights


def to_beats(values: np.ndarray, block_size: int, bits: int) -> list[int]:
    """``(steps, elements)`` integers → a word per beat, first element lowest, padded with zeros."""
    steps, size = values.shape
    blocks = -(-size // block_size)
    padded = np.zeros((steps, blocks * block_size), dtype=np.int64)
    padded[:, :size] = values
    return pack(padded.reshape(steps * blocks, block_size), bits)


def from_beats(words: Sequence[int], size: int, block_size: int, bits: int) -> np.ndarray:
    """Inverse of :func:`to_beats`: ``(steps, size)`` integers; padding is dropped."""
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    values = [((word >> (position * bits)) & mask) for word in words for position in range(block_size)]
    blocks = -(-size // block_size)
    array = np.array(values, dtype=np.int64).reshape(len(words) // blocks, blocks * block_size)[:, :size]
    return array - ((array >= half) * (2 * half))


@dataclass(frozen=True)
class Scenario:
    """One run of the accelerator from reset.

    Parameters
    ----------
    weights : LayerWeights or StackWeights
        With their configuration.
    sequences : tuple of int arrays (T, X)
        Dealt to the contexts and streamed back to back; the state returns to zero between them.
    """

    weights: NetworkWeights
    sequences: tuple[np.ndarray, ...]

    def __post_init__(self):
        require(bool(self.sequences), "sequences", "at least one", self.sequences)
        for sequence in self.sequences:
            require(
                sequence.ndim == 2 and len(sequence) > 0, "sequence", "of shape (steps, input_size)", sequence.shape
            )

    @property
    def config(self) -> Config:
        """Design point."""
        return self.weights.config

    @property
    def lengths(self) -> list[int]:
        """Steps of each sequence."""
        return [len(sequence) for sequence in self.sequences]

    @cached_property
    def order(self) -> list[tuple[int, int]]:
        """(sequence, step) as they are streamed; sequence -1 is a single step of zeros for an idle context."""
        return interleave(self.lengths, self.config.architecture.contexts)

    @property
    def num_steps(self) -> int:
        """Steps of all sequences, and of idle contexts."""
        return len(self.order)

    @cached_property
    def expected(self) -> tuple[np.ndarray, ...]:
        """h of each sequence, (T, H), by the reference."""
        return tuple(self._golden(sequence) for sequence in self.sequences)

    def _golden(self, sequence: np.ndarray) -> np.ndarray:
        return NetworkReference(self.weights).run(sequence[:, None])[0][:, 0]

    def in_order(self, values: Sequence[np.ndarray], idle: np.ndarray) -> np.ndarray:
        """Steps of every sequence as they are streamed, ``idle`` (1, N) for those of idle contexts."""
        return np.stack([idle[0] if number < 0 else values[number][step] for number, step in self.order])

    @cached_property
    def _idle(self) -> np.ndarray:
        return np.zeros((1, self.config.network.input_size), dtype=np.int64)

    @cached_property
    def expected_steps(self) -> np.ndarray:
        """h of every step (steps, H) as they are streamed."""
        return self.in_order(self.expected, self._golden(self._idle))

    def steps_of(self, number: int) -> list[int]:
        """Places of a sequence's steps in the stream."""
        return [place for place, (sequence, _) in enumerate(self.order) if sequence == number]

    @cached_property
    def timeline(self) -> Timeline:
        """Predicted cycles without stalls."""
        return Schedule(self.config).timeline(self.lengths)

    @cached_property
    def x_beats(self) -> list[int]:
        """Payloads of stream x: ``{last, data}``."""
        return self._beats(self.in_order(self.sequences, self._idle), self.config.quantization.x.width)

    @cached_property
    def h_beats(self) -> list[int]:
        """Payloads that stream h must carry: ``{last, data}``."""
        return self._beats(self.expected_steps, self.config.quantization.h.width)

    def _beats(self, steps: np.ndarray, bits: int) -> list[int]:
        k = self.config.block_size
        words = to_beats(steps, k, bits)
        per_step = len(words) // len(steps)
        for place, (number, step) in enumerate(self.order):
            if number < 0 or step == self.lengths[number] - 1:
                words[(place + 1) * per_step - 1] |= 1 << (k * bits)
        return words

    def h_values(self, beats: Sequence[int]) -> np.ndarray:
        """Payloads of stream h → (steps, H) integers."""
        k, bits = self.config.block_size, self.config.quantization.h.width
        mask = (1 << (k * bits)) - 1
        return from_beats([word & mask for word in beats], self.config.output_size, k, bits)


def random_sequences(config: Config, rng: np.random.Generator, lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Sequences of x of the given lengths."""
    return tuple(random_inputs(config, rng, length) for length in lengths)


def extreme_weights(config: Config, rng: np.random.Generator) -> NetworkWeights:
    """Weights and biases at the ends of their ranges: sums reach the ends of the accumulator."""
    layers = range(config.network.num_layers)
    return of_layers(config, [_extreme_layer(config.layer(number), rng) for number in layers])


def _extreme_layer(config: Config, rng: np.random.Generator) -> LayerWeights:
    k, blocks = config.block_size, config.num_hidden_blocks
    low, high = config.bias_format_min_max
    gates, peepholes, fmt = config.num_gates, len(config.cell.peepholes), config.quantization.peephole
    defining = rng.choice([config.weight_min, config.weight_max], size=(gates, blocks, config.num_col_blocks, k))
    return LayerWeights(
        config,
        drop_absent(config, defining),
        rng.choice([low, high], size=(gates, blocks * k)),
        rng.choice([fmt.min, fmt.max], size=(peepholes, blocks * k)) if peepholes else None,
        rng.choice([config.weight_min, config.weight_max], size=(config.num_output_blocks, blocks, k))
        if config.network.projection_size
        else None,
    )


def random_scenario(config: Config, rng: np.random.Generator, max_steps: int = 12) -> Scenario:
    """Several sequences of different lengths, one of them a single step; a quarter of the scenarios is extreme."""
    lengths = [1, *rng.integers(1, 5, size=rng.integers(1, 4)).tolist()]
    while sum(lengths) > max_steps:
        lengths.pop()
    rng.shuffle(lengths)
    if rng.random() < 0.25:
        fmt = config.quantization.x
        size = config.network.input_size
        sequences = tuple(rng.choice([fmt.min, fmt.max], size=(length, size)) for length in lengths)
        return Scenario(extreme_weights(config, rng), sequences)
    return Scenario(random_weights(config, rng), random_sequences(config, rng, lengths))


# Most products of one emitted design that random configurations may have: keeps simulators quick.
MAX_PRODUCTS = 300
MAX_DRAWS = 1000


def random_config(rng: np.random.Generator) -> Config:
    """A small valid configuration: any block size, engine, tile, format, pipeline."""
    for _ in range(MAX_DRAWS):
        try:
            config = Config.from_dict(_draw(rng))
        except UserError:
            continue  # an impossible combination: the relations of Config decide, not a copy of them here
        if matvec_multipliers(config) <= MAX_PRODUCTS:
            return config
    raise AssertionError(f"no valid configuration in {MAX_DRAWS} draws")


def _draw(rng: np.random.Generator) -> dict:
    def pick(*options):
        return options[rng.integers(len(options))]

    def between(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def fmt(integer_bits: tuple[int, int], fraction_bits: tuple[int, int]) -> str:
        return str(QFormat(between(*integer_bits), between(*fraction_bits)))

    cell = pick("lstm", pick(*CELLS))
    gates = len(CELLS[cell].gates)
    engine = pick("direct", "fast")
    k = pick(*(FAST_BLOCK_SIZES if engine == "fast" else BLOCK_SIZES))
    size = min(4 * k + 3, 40)
    input_size, hidden_size = between(1, size), between(1, size)
    input_blocks, hidden_blocks = -(-input_size // k), -(-hidden_size // k)
    layers = pick(1, 1, 2, 3)
    projected = between(1, hidden_size) if CELLS[cell].may_be_projected and rng.random() < 0.25 else 0
    output_blocks = -(-projected // k) or hidden_blocks
    most_cols = output_blocks + (input_blocks if layers == 1 else min(input_blocks, output_blocks))
    row_blocks = gates // CELLS[cell].stages * hidden_blocks
    rows, cols = between(1, row_blocks), between(1, most_cols)
    groups = -(-row_blocks // rows)
    kind = pick(*ACTIVATION_KINDS)
    usual = rng.random() < 0.4
    quantization = {"weight_bits": between(2, 8), "projection_frac": between(0, 9)}
    if usual:
        quantization["weight_frac"] = [between(5, 8) for _ in range(gates)]
    else:
        quantization |= {
            "x": fmt((1, 3), (1, 9)),
            "h": fmt((1, 3), (1, 9)),
            "weight_frac": [between(1, 10) for _ in range(gates)],
            "bias_bits": between(8, 24),
            "preact": fmt((2, 5), (3, 11)),
            "gate": fmt((2, 4), (3, 12)),
            "cell": fmt((2, 8), (3, 16)),
            "peephole": fmt((1, 3), (1, 9)),
        }
    return {
        "name": "random",
        "network": {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "cell": cell,
            "num_layers": layers,
            "projection_size": projected,
        },
        "compression": {"block_size": k},
        "quantization": quantization,
        "activation": {"kind": kind, "segments": pick(4, 8, 16) if kind == "pwl" else between(2, 8)},
        "architecture": {
            "tile_rows": rows,
            "tile_cols": cols,
            "engine": engine,
            "arithmetic": pick(*ARITHMETICS),
            "contexts": pick(1, 1, 1, 2, 3),
            "cell_lanes": pick(None, *(lanes for lanes in BLOCK_SIZES if k % lanes == 0)),
            "lookahead": pick(None, between(1, groups)),
            "pipeline": {
                "memory_register": pick(False, True),
                "operand_register": pick(False, True),
                "inverse_levels": between(0, 3),
                "compressor_terms": between(2, 12),
                "multiplier_stages": between(0, 2),
                "adder_levels": between(0, 4),
            },
        },
    }
