"""A scenario: configuration, weights, sequences of x, and the outputs that must follow, with their cycles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap

import numpy as np

from chessrnn.model.cells import CELLS, Cell
from chessrnn.model.config import Config
from chessrnn.model.config_sections import ACTIVATION_KINDS, ARITHMETICS, BLOCK_SIZES, FAST_BLOCK_SIZES
from chessrnn.model.cost.resources import matvec_multipliers
from chessrnn.model.errors import UserError, require
from chessrnn.model.memory_image import pack
from chessrnn.model.parts import CELL
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.network import NetworkReference, State
from chessrnn.model.schedule import Schedule, Timeline, interleave
from chessrnn.model.sequence_schedule import split_sequences
from chessrnn.model.shared_words import packable_widths
from chessrnn.model.state_beats import pack_state, state_bits, unpack_state
from chessrnn.model.weights import NetworkWeights, random_inputs, random_weights
from chessrnn.sim.boundary_values import at_bounds, at_breakpoints, at_extremes, at_form_bounds


def to_beats(values: np.ndarray, block_size: int, bits: int) -> list[int]:
    """Pack ``(steps, elements)`` integers into one word per beat, first element lowest, padded with zeros."""
    steps, size = values.shape
    blocks = -(-size // block_size)
    padded = np.zeros((steps, blocks * block_size), dtype=np.int64)
    padded[:, :size] = values
    return pack(padded.reshape(steps * blocks, block_size), bits)


def from_beats(words: Sequence[int], size: int, block_size: int, bits: int) -> np.ndarray:
    """Unpack words that :func:`to_beats` made into ``(steps, size)`` integers; the padding is dropped."""
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
        Weights and, as their attribute ``config``, the design point.
        sequences : tuple of int arrays (T, X)
            Inputs, dealt to the contexts and streamed back to back; the state returns to zero between them.  A
            bidirectional network splits a sequence that is longer than its memories.
        initial : tuple of (list of State, or None), optional
            State that each sequence starts from, (P or H) and (H) of each layer; needs state ports.
    """

    weights: NetworkWeights
    sequences: tuple[np.ndarray, ...]
    initial: tuple = ()

    def __post_init__(self):
        require(bool(self.sequences), "sequences", "at least one", self.sequences)
        for sequence in self.sequences:
            require(
                sequence.ndim == 2 and len(sequence) > 0, "sequence", "of shape (steps, input_size)", sequence.shape
            )

        if self.initial:
            count, has_ports = len(self.sequences), self.config.architecture.state_ports
            require(len(self.initial) == count, "initial", f"{count}, one per sequence", len(self.initial))
            require(has_ports, "architecture.state_ports", "true for initial states", has_ports)

    @property
    def config(self) -> Config:
        """Design point of the weights."""
        return self.weights.config

    @property
    def lengths(self) -> list[int]:
        """Number of steps of each sequence."""
        return [len(sequence) for sequence in self.sequences]

    @cached_property
    def order(self) -> list[tuple[int, int]]:
        """Pairs (sequence, step) in the order of the stream; sequence -1 is a step of zeros for an idle context."""
        return interleave(self.lengths, self.config.architecture.contexts)

    @property
    def num_steps(self) -> int:
        """Number of steps in the stream, those of idle contexts included."""
        return len(self.order)

    @cached_property
    def expected(self) -> tuple[np.ndarray, ...]:
        """Output of each sequence by the reference: (T, H), with two directions (T, 2H)."""
        return tuple(h for h, _ in self._golden)

    @cached_property
    def _golden(self) -> list[tuple]:
        """Output h and final state of each sequence by the reference."""
        runs = zip(self.sequences, self.initial or [None] * len(self.sequences), strict=True)
        return [self._run(sequence, state) for sequence, state in runs]

    def _run(self, sequence: np.ndarray, state: list | None = None) -> tuple[np.ndarray, list]:
        """Run the reference: h (T, H), with two directions (T, 2H), and the final (h, c) of every layer."""
        if self.config.network.bidirectional:
            network, longest = NetworkReference(self.weights), self.config.sequence_steps
            parts = [sequence[start : start + longest] for start in range(0, len(sequence), longest)]
            return np.concatenate([network.run(part[:, None])[0][:, 0] for part in parts]), []
        start = None if state is None else [(h[None], c[None]) for h, c in state]
        h, final = NetworkReference(self.weights).run(sequence[:, None], start)
        return h[:, 0], [(h[0], c[0]) for h, c in final]

    @property
    def loads(self) -> list[bool]:
        """Whether each sequence starts from a loaded state."""
        return [state is not None for state in self.initial]

    @cached_property
    def state_in_beats(self) -> list[int]:
        """Payloads of the stream ``state_in``: the initial states in the order in which their sequences begin."""
        begun = [self.initial[number] for number, step in self.order if step == 0 and number >= 0 and self.initial]
        return [beat for state in begun if state is not None for beat in pack_state(self.config, state)]

    @property
    def num_state_beats(self) -> int:
        """Number of payloads that the stream ``state_out`` must carry."""
        has_ports = self.config.architecture.state_ports
        return len(self._last_places) * Schedule(self.config).state_beats if has_ports else 0

    @cached_property
    def expected_states(self) -> list[list]:
        """Final (h, c) of every layer for each sequence, idle contexts included, in the order in which they end."""
        ended = [self.order[place][0] for place in sorted(self._last_places)]
        return [self._run(self._idle)[1] if number < 0 else self._golden[number][1] for number in ended]

    def states(self, beats: Sequence[int]) -> list[list]:
        """Unpack payloads of the stream ``state_out``: (h, c) of every layer for each complete state."""
        count, mask = Schedule(self.config).state_beats, (1 << state_bits(self.config)) - 1
        words = [beat & mask for beat in beats]
        whole = range(0, len(words) - count + 1, count)
        return [unpack_state(self.config, words[start : start + count]) for start in whole]

    @cached_property
    def _ends(self) -> set[tuple[int, int]]:
        """Pairs (sequence, step) after which the accelerator's state returns to zero."""
        longest = self.config.sequence_steps if self.config.network.bidirectional else max(self.lengths)
        return {
            (number, end - 1)
            for number, length in enumerate(self.lengths)
            for end in np.cumsum(split_sequences([length], longest)).tolist()
        }

    def in_order(self, values: Sequence[np.ndarray], idle: np.ndarray) -> np.ndarray:
        """Arrange the steps of all sequences as they are streamed; ``idle`` (1, N) fills those of idle contexts."""
        return np.stack([idle[0] if number < 0 else values[number][step] for number, step in self.order])

    @cached_property
    def _idle(self) -> np.ndarray:
        return np.zeros((1, self.config.network.input_size), dtype=np.int64)

    @cached_property
    def expected_steps(self) -> np.ndarray:
        """Output of every step in the order of the stream: (steps, H), with two directions (steps, 2H)."""
        return self.in_order(self.expected, self._run(self._idle)[0])

    def steps_of(self, number: int) -> list[int]:
        """Positions of a sequence's steps in the stream."""
        return [place for place, (sequence, _) in enumerate(self.order) if sequence == number]

    @cached_property
    def timeline(self) -> Timeline:
        """Predicted cycles of a run without stalls."""
        return Schedule(self.config).timeline(self.lengths, self.loads)

    @property
    def issue_counts(self) -> list[int]:
        """Number of tile issues of every step of the timeline."""
        return Schedule(self.config).issue_counts(self.lengths)

    @cached_property
    def x_beats(self) -> list[int]:
        """Payloads of the stream ``x``: ``{load, last, data}``."""
        bits = self.config.quantization.x.width
        words = self._beats(self.in_order(self.sequences, self._idle), bits)
        for place, (number, step) in enumerate(self.order):
            if step == 0 and number >= 0 and self.initial and self.initial[number] is not None:
                words[place * self.config.num_input_blocks] |= 2 << (self.config.block_size * bits)
        return words

    @cached_property
    def h_beats(self) -> list[int]:
        """Payloads that the stream ``h`` must carry: ``{last, data}``."""
        # Each direction is padded to blocks by itself.
        return self._beats(self.expected_steps.reshape(-1, self.config.output_size), self.config.quantization.h.width)

    @cached_property
    def y_beats(self) -> list[int]:
        """Payloads that the stream ``y`` must carry: ``{last, logit, index}``; none without an output layer on chip."""
        plan = self.config.output_plan
        if plan is None:
            return []
        assert self.weights.output is not None
        index, logit = self.weights.output.largest_logit(self.expected_steps)
        logits = pack(logit[:, None], plan.logit_bits)
        words = [int(number) | word << plan.index_bits for number, word in zip(index, logits, strict=True)]
        last = 1 << (plan.index_bits + plan.logit_bits)
        return [word | last * (place in self._last_places) for place, word in enumerate(words)]

    @cached_property
    def _last_places(self) -> set[int]:
        """Positions in the stream of the steps after which a state returns to zero."""
        return {place for place, step in enumerate(self.order) if step[0] < 0 or step in self._ends}

    def _beats(self, vectors: np.ndarray, bits: int) -> list[int]:
        k = self.config.block_size
        words = to_beats(vectors, k, bits)
        per_step = len(words) // self.num_steps
        for place in self._last_places:
            words[(place + 1) * per_step - 1] |= 1 << (k * bits)
        return words

    def h_values(self, beats: Sequence[int]) -> np.ndarray:
        """Unpack payloads of the stream ``h`` into (steps, H) integers, with two directions (steps, 2H)."""
        k, bits = self.config.block_size, self.config.quantization.h.width
        mask = (1 << (k * bits)) - 1
        values = from_beats([word & mask for word in beats], self.config.output_size, k, bits)
        return values.reshape(-1, self.config.stream_size)


def random_sequences(config: Config, rng: np.random.Generator, lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Draw one sequence of x for each of the given lengths."""
    return tuple(random_inputs(config, rng, length) for length in lengths)


def random_scenario(config: Config, rng: np.random.Generator, max_steps: int = 12) -> Scenario:
    """Draw several sequences, one of them a single step, with weights; half are at boundaries of the design.

    The boundaries are those of ``chessrnn.sim.boundary_values``.
    """
    lengths = [1, *rng.integers(1, 5, size=rng.integers(1, 4)).tolist()]
    while sum(lengths) > max_steps:
        lengths.pop()
    rng.shuffle(lengths)
    draws = [at_extremes, at_bounds, at_breakpoints, at_breakpoints]
    if config.architecture.engine == "fast":
        draws.append(at_form_bounds)
    number = int(rng.integers(2 * len(draws)))
    if number < len(draws):
        return Scenario(*draws[number](config, rng, lengths))
    initial = ()
    if config.architecture.state_ports:
        initial = tuple(random_state(config, rng) if rng.random() < 0.6 else None for _ in lengths)
    return Scenario(random_weights(config, rng), random_sequences(config, rng, lengths), initial)


def continued(weights: NetworkWeights, sequences: Sequence[np.ndarray]) -> Scenario:
    """Make a scenario in which each sequence continues, through the state ports, where the one before it ended.

    With several contexts, each sequence continues the one before it in the same context.
    """
    initial = []
    states: list[list[State] | None] = [None] * weights.config.architecture.contexts
    for number, sequence in enumerate(sequences):
        context = number % len(states)
        state = states[context]
        initial.append(None if state is None else [(h[0], c[0]) for h, c in state])
        _, states[context] = NetworkReference(weights).run(sequence[:, None], state)
    return Scenario(weights, tuple(sequences), tuple(initial))


def random_state(config: Config, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw (h, c) of every layer, uniformly over their formats."""
    h, cell = config.quantization.h, config.quantization.cell

    def of_layer(size_h: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(h.min, h.max + 1, size_h), rng.integers(cell.min, cell.max + 1, size)

    return list(starmap(of_layer, zip(config.layer_output_sizes, config.network.hidden_sizes, strict=True)))


# What the validator accepts of each format: widths, fraction bits (those of x and h within what Q-formats are used for,
# as a finer or coarser one only changes shifts) and least integer bits.
FORMAT_WIDTHS = {"x": (2, 16), "h": (2, 16), "preact": (4, 16), "gate": (4, 16), "cell": (4, 24), "peephole": (2, 16)}
FRACTION_BITS = {
    "x": (-16, 32),
    "h": (-16, 32),
    "preact": (1, 32),
    "gate": (1, 32),
    "cell": (1, 32),
    "peephole": (-16, 32),
}
MIN_INTEGER_BITS = {"x": -30, "h": -30, "preact": -30, "gate": 2, "cell": -30, "peephole": -30}

# Random designs have at most this many products, so that they simulate quickly.
MAX_PRODUCTS = 300
MAX_DRAWS = 1000


def random_config(rng: np.random.Generator, max_products: int = MAX_PRODUCTS) -> Config:
    """Draw a small valid configuration: any block size, engine, tile, format and pipeline.

    Its tile takes at most ``max_products`` products at a time.
    """
    for _ in range(MAX_DRAWS):
        try:
            config = Config.from_dict(_draw(rng))
        except UserError:
            continue  # Config rejects impossible combinations, so that its relations need no copy here.
        if matvec_multipliers(config) <= max_products:
            config = _with_half_levels(_with_row_scales(_with_scales_of_layers(config)))
            return _with_input_shifts(_with_layer_widths(_with_layer_sizes(_with_shared_memories(config))))
    raise AssertionError(f"no valid configuration in {MAX_DRAWS} draws")


def _with_scales_of_layers(config: Config) -> Config:
    """The design, in two thirds of the networks of several layers with scales of their own for each layer.

    They follow from what is drawn, so that the other designs of a seed stay the same.
    """
    layers, sizes = config.network.num_layers, config.network.input_size + config.network.units
    if layers == 1 or sizes % 3 == 0:
        return config
    # Every layer has those of the layer below, moved on by a gate; those of a single gate are one finer or coarser.
    fracs, step = list(config.weight_fracs), 1 if sizes % 2 else -1
    rows = [fracs[number % len(fracs) :] + fracs[: number % len(fracs)] for number in range(layers)]
    if len(fracs) == 1:
        rows = [[fracs[0] + step * number] for number in range(layers)]
    fields: dict[str, object] = {"quantization.weight_frac": rows}
    if config.network.projection_size:
        projected = [max(0, config.projection_frac - number) for number in range(layers)]
        fields["quantization.projection_frac"] = projected
    try:
        return config.replace(fields)
    except UserError:
        return config


def _with_layer_sizes(config: Config) -> Config:
    """The design, in most stacks that may have them with layers of different sizes; these follow from what is drawn.

    A layer may be smaller or larger than the one below, by less than a block or by several.
    """
    network, sizes = config.network, []
    if network.num_layers == 1 or (network.input_size + network.units) % 4 == 0:
        return config
    for number in range(network.num_layers):
        sizes.append(1 + (network.units - 1 + number * (network.input_size + 1)) % (3 * config.block_size + 2))
    for changed in (sizes, sizes[::-1]):
        for cols in (config.architecture.tile_cols, 1):
            fields = {"network.hidden_size": changed, "architecture.tile_cols": cols, "architecture.lookahead": None}
            try:
                return config.replace(fields)
            except UserError:
                continue
    return config


def _with_layer_widths(config: Config) -> Config:
    """The design, in most stacks with layers of different widths; these follow from what is drawn.

    The widest layer, which may be any, has the width that was drawn, or 4 bits where no other fits beside that.
    """
    network, layers = config.network, config.network.num_layers
    turn = network.input_size + sum(network.hidden_sizes)
    if layers == 1 or turn % 5 == 0:
        return config
    good = packable_widths(max(config.weight_bits, 4))
    widths = [good[(turn + number) % len(good)] for number in range(layers)]
    widths[turn % layers] = good[0]
    try:
        return config.replace({"quantization.weight_bits": widths})
    except UserError:
        return config


def _with_row_scales(config: Config) -> Config:
    """The design, in a quarter of the networks with scales of block rows, which follow from what is drawn as well."""
    input_size, hidden_size = config.network.input_size, config.network.units
    if (input_size + 3 * hidden_size) % 4:
        return config
    try:
        return config.replace({"quantization.weight_scale": "row", "quantization.scale_bits": 4 + hidden_size % 5})
    except UserError:
        return config


def _with_half_levels(config: Config) -> Config:
    """The design, in a third of the networks with weights of half levels, on a tile that these need."""
    if (config.network.input_size + 2 * config.network.units) % 3:
        return config
    cols = math.gcd(config.architecture.tile_cols, *(part.blocks for part in config.parts))
    try:
        return config.replace({"quantization.weight_levels": "half", "architecture.tile_cols": cols})
    except UserError:
        return config


def _with_input_shifts(config: Config) -> Config:
    """The design, in a third of the networks with products of W_x finer or coarser than those of W_h.

    They follow from what is drawn as well.  Where the tile does not divide the columns that come first, it is narrowed.
    """
    network, columns = config.network, [part.early.blocks for part in config.parts if part.kind == CELL]
    turn = network.input_size + sum(network.hidden_sizes)
    if turn % 3:
        return config
    shifts = [(turn // 3 + 3 * number) % 9 - 4 for number in range(network.num_layers)]
    cols = math.gcd(config.architecture.tile_cols, *columns)
    for lookahead in (config.architecture.lookahead, None):
        fields = {"quantization.input_shift": shifts, "architecture.tile_cols": cols}
        try:
            return config.replace(fields | {"architecture.lookahead": lookahead})
        except UserError:
            continue
    return config


def _with_shared_memories(config: Config) -> Config:
    """The design, in half of the tiles of several PEs with memories that up to four of these share.

    This too follows from what is drawn; a few bits of a memory may be left over.
    """
    arch, sizes = config.architecture, config.network.units + config.num_input_blocks
    if config.num_banks == 1 or (sizes + arch.tile_cols) % 2:
        return config
    width = (2 + sizes % 3) * config.weight_word_bits + sizes % 4 + (arch.parity == "word")
    try:
        return config.replace({"architecture.memory_width": width})
    except UserError:
        return config


@dataclass(frozen=True)
class _Dice:
    """Random choices that a drawn design is made of.

    The designs of a seed depend on the order of these calls: new choices go after the present ones, or are derived
    from values that are drawn already.
    """

    rng: np.random.Generator

    def pick(self, *options):
        """One of the options."""
        return options[self.rng.integers(len(options))]

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Whether an event of the given probability occurs."""
        return bool(self.rng.random() < probability)

    def corner(self, low: int, high: int) -> int:
        """An integer from low to high, with three tenths of the draws at one of the two ends."""
        return self.pick(low, high) if self.chance(0.3) else self.between(low, high)

    def legal_format(self, name: str) -> QFormat:
        """Any format that the quantization point of this name may have, often one at the end of a range."""
        width = self.corner(*FORMAT_WIDTHS[name])
        low, high = FRACTION_BITS[name]
        fraction_bits = self.corner(low, min(high, width - MIN_INTEGER_BITS[name]))
        return QFormat(width - fraction_bits, fraction_bits)

    def qformat(self, integer_bits: tuple[int, int], fraction_bits: tuple[int, int]) -> str:
        """A Q-format whose numbers of bits lie in the given ranges."""
        return str(QFormat(self.between(*integer_bits), self.between(*fraction_bits)))


def _draw(rng: np.random.Generator) -> dict:
    """A random configuration as :meth:`Config.from_dict` reads it; its values need not fit together."""
    dice = _Dice(rng)
    network, engine, k = _draw_network(dice)
    tile_rows, tile_cols, groups = _draw_tile(dice, network, k)
    kind = dice.pick(*ACTIVATION_KINDS)
    network["bidirectional"] = not network["projection_size"] and dice.chance(0.15)
    output_layer, output_block_size = _output_layer(network, k)
    design = {
        "name": "random",
        "network": network,
        "compression": {"block_size": k, "output_block_size": output_block_size},
        "quantization": _draw_quantization(dice, CELLS[network["cell"]]),
        "activation": {"kind": kind, "segments": dice.pick(4, 8, 16) if kind == "pwl" else dice.between(2, 8)},
        "architecture": {
            "tile_rows": tile_rows,
            "tile_cols": tile_cols,
            "engine": engine,
            "output_layer": output_layer,
            **_draw_architecture(dice, network, k, groups),
        },
    }
    return _with_more_registers(_with_loader(_with_projected_directions(design)))


def _draw_network(dice: _Dice) -> tuple[dict, str, int]:
    """Cell and sizes of a network, with the engine and the block size that bound them."""
    cell = dice.pick("lstm", dice.pick(*CELLS))
    engine = dice.pick("direct", "fast")
    k = dice.pick(*(FAST_BLOCK_SIZES if engine == "fast" else BLOCK_SIZES))
    largest = min(4 * k + 3, 40)
    input_size, hidden_size = dice.between(1, largest), dice.between(1, largest)
    layers = dice.pick(1, 1, 2, 3)
    projected = CELLS[cell].may_be_projected and dice.chance(0.25)
    network = {
        "input_size": input_size,
        "hidden_size": hidden_size,
        "cell": cell,
        "num_layers": layers,
        "projection_size": dice.between(1, hidden_size) if projected else 0,
    }
    return network, engine, k


def _draw_tile(dice: _Dice, network: dict, k: int) -> tuple[int, int, int]:
    """Rows and columns of the tile, and the number of row groups that it divides the matrix into."""
    cell = CELLS[network["cell"]]
    input_blocks, hidden_blocks = -(-network["input_size"] // k), -(-network["hidden_size"] // k)
    output_blocks = -(-network["projection_size"] // k) or hidden_blocks
    # Deeper layers read h of the layer below, and the tile must fit the narrowest of them.
    most_inputs = input_blocks if network["num_layers"] == 1 else min(input_blocks, output_blocks)
    row_blocks = len(cell.gates) // cell.stages * hidden_blocks
    rows, cols = dice.between(1, row_blocks), dice.between(1, output_blocks + most_inputs)
    return rows, cols, -(-row_blocks // rows)


def _output_layer(network: dict, k: int) -> tuple[int, int]:
    """Outputs and block size of the output layer.

    Both follow from what is drawn already, so that the designs of a seed are the same as before there was such a layer.
    """
    input_size, hidden_size = network["input_size"], network["hidden_size"]
    if network["bidirectional"] or (input_size + hidden_size) % 5:
        return 0, 1
    return 2 + input_size, BLOCK_SIZES[input_size % k.bit_length()]


def _draw_quantization(dice: _Dice, cell: Cell) -> dict:
    """Formats: the defaults with random weights, every one of them random, or anything that is legal."""
    if dice.chance(0.4):
        return _draw_legal_quantization(dice, cell)
    usual = dice.chance(0.4)
    quantization: dict = {"weight_bits": dice.between(2, 8), "projection_frac": dice.between(0, 9)}
    if usual:
        return quantization | {"weight_frac": [dice.between(5, 8) for _ in cell.gates]}
    return quantization | {
        "x": dice.qformat((1, 3), (1, 9)),
        "h": dice.qformat((1, 3), (1, 9)),
        "weight_frac": [dice.between(1, 10) for _ in cell.gates],
        "bias_bits": dice.between(8, 24),
        "preact": dice.qformat((2, 5), (3, 11)),
        "gate": dice.qformat((2, 4), (3, 12)),
        "cell": dice.qformat((2, 8), (3, 16)),
        "peephole": dice.qformat((1, 3), (1, 9)),
    }


def _draw_legal_quantization(dice: _Dice, cell: Cell) -> dict:
    """Formats from the whole range that the validator accepts, with a share at its corners."""
    formats = {name: dice.legal_format(name) for name in FORMAT_WIDTHS}
    # The rounding of a sum drops 0 to 31 bits: of the other weights, all are rejected.
    least = formats[cell.sum_format].fraction_bits - formats["h"].fraction_bits
    low, high = max(-8, least), min(20, least + 31)
    fracs = [dice.corner(low, max(low, high)) for _ in cell.gates]
    return {
        **{name: str(fmt) for name, fmt in formats.items()},
        "weight_bits": dice.corner(2, 8),
        "weight_frac": fracs,
        "projection_frac": dice.corner(0, 20),
        "bias_bits": dice.corner(8, 32),
    }


def _draw_architecture(dice: _Dice, network: dict, k: int, groups: int) -> dict:
    """Arithmetic, contexts, ports and pipeline."""
    both = network["bidirectional"]
    arithmetic = dice.pick(*ARITHMETICS)
    contexts = 1 if both else dice.pick(1, 1, 1, 2, 3)
    return {
        "arithmetic": arithmetic,
        "contexts": contexts,
        "state_ports": not both and _draw_state_ports(dice, network, contexts),
        "sequence_steps": dice.pick(None, dice.between(1, 5)) if both else None,
        "cell_lanes": dice.pick(None, *(lanes for lanes in BLOCK_SIZES if k % lanes == 0)),
        "lookahead": None if both else dice.pick(None, dice.between(1, groups)),
        "pipeline": {
            "memory_register": dice.pick(False, True),
            "operand_register": dice.pick(False, True),
            "inverse_levels": dice.between(0, 3),
            "compressor_terms": dice.between(2, 12),
            "multiplier_stages": dice.between(0, 2),
            "adder_levels": dice.between(0, 4),
        },
    }


def _draw_state_ports(dice: _Dice, network: dict, contexts: int) -> bool:
    """Whether a unidirectional design has state ports."""
    # Several contexts came later, so their ports follow from what is drawn: the other designs of a seed stay the same.
    return dice.chance(0.3) if contexts == 1 else (network["hidden_size"] - network["input_size"]) % 3 == 0


def _with_projected_directions(design: dict) -> dict:
    """The design, in a third of the projected networks with two directions; this too follows from what is drawn."""
    network = design["network"]
    input_size = network["input_size"]
    if not network["projection_size"] or (input_size + network["hidden_size"]) % 3:
        return design
    fixed = {"contexts": 1, "state_ports": False, "lookahead": None, "output_layer": 0}
    architecture = design["architecture"] | fixed | {"sequence_steps": 1 + input_size % 5}
    return design | {"network": network | {"bidirectional": True}, "architecture": architecture}


def _with_more_registers(design: dict) -> dict:
    """The design: some with registers in the forward transforms, some with those in the cell update; it follows too.

    Some have a register of the issue, and some one inverse transform for all gates.
    """
    pipeline = design["architecture"]["pipeline"]
    terms, levels = pipeline["compressor_terms"], pipeline["inverse_levels"]
    more = {
        "forward_levels": (terms + levels) % 3,
        "issue_register": not design["network"]["bidirectional"] and (2 * terms + levels) % 3 == 0,
        "shared_inverse": terms % 3 == 0,
        "multiplier_register": (terms + levels) % 2 == 0,
        "cell_register": (terms + 2 * levels) % 4 == 0,
    }
    return design | {"architecture": design["architecture"] | {"pipeline": pipeline | more}}


def _with_loader(design: dict) -> dict:
    """The design: a third with weights that are loaded, another with parity bits, and a quarter with a monitor.

    This too follows from what is drawn.
    """
    network, architecture = design["network"], design["architecture"]
    number = 2 * network["input_size"] + network["hidden_size"] + architecture["tile_rows"]
    memory, parity = "rom" if number % 3 else "ram", "none" if network["hidden_size"] % 3 else "word"
    options = {"weight_memory": memory, "parity": parity, "monitor": number % 4 == 0}
    return design | {"architecture": architecture | options}
