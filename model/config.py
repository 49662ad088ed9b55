"""The configuration object: everything that decides the integers and the hardware.

Two levels: users set the few fields of the dataclasses below; modules read the derived, checked properties
of :class:`Config`.  A design that cannot be built is refused here, before anything is elaborated.
"""

import dataclasses
import hashlib
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from chessrnn.model import circulant
from chessrnn.model.activation_tables import ActivationTable, activation_table, pwl_offset_bits
from chessrnn.model.cells import CELLS, Cell
from chessrnn.model.errors import InvalidFileError, InvalidTypeError, InvalidValueError, require, require_type
from chessrnn.model.output_plan import OutputPlan, output_plan
from chessrnn.model.parts import CELL, PROJECTION, Part, parts_of
from chessrnn.model.qformat import QFormat

ENGINES = ("direct", "fast")
ARITHMETICS = ("carry_save", "multiplier")
ACTIVATION_KINDS = ("pwl", "shift")
BLOCK_SIZES = (1, 2, 4, 8, 16)
FAST_BLOCK_SIZES = (2, 4, 8, 16)
# Of a quantization point: keeps the model's exact sums within 64 bits.
MAX_FRACTION_BITS = 32
MAX_SIZE = 65536
# Of a network of both directions that does not say how long its sequences are.
DEFAULT_SEQUENCE_STEPS = 64


def _format(text: str):
    return field(default_factory=lambda: QFormat.parse(text))


@dataclass(frozen=True)
class NetworkConfig:
    """What the user brings: recurrent layers, each reading the h of the one before.

    Parameters
    ----------
    input_size : int
        X, elements of x per step.
    hidden_size : int
        H, elements of h per step of every layer.
    cell : str
        A name of ``chessrnn.model.cells.CELLS``.
    num_layers : int
        L.
    projection_size : int
        P, elements of h where a matrix reduces what the cell makes (``proj_size`` of ``torch.nn.LSTM``); 0: none does.
    bidirectional : bool
        Every layer runs over the sequence in both directions, each with weights of its own, and gives both h.
    """

    input_size: int
    hidden_size: int
    cell: str = "lstm"
    num_layers: int = 1
    projection_size: int = 0
    bidirectional: bool = False

    def validate(self):
        rule = f"from 1 to {MAX_SIZE}"
        require(1 <= self.input_size <= MAX_SIZE, "network.input_size", rule, self.input_size)
        require(1 <= self.hidden_size <= MAX_SIZE, "network.hidden_size", rule, self.hidden_size)
        require(1 <= self.num_layers <= 64, "network.num_layers", "from 1 to 64", self.num_layers)
        require(self.cell in CELLS, "network.cell", f"one of {', '.join(CELLS)}", self.cell)
        rule = f"0 (none) to {self.hidden_size}, the hidden size"
        require(0 <= self.projection_size <= self.hidden_size, "network.projection_size", rule, self.projection_size)
        if self.projection_size:
            having = [name for name, cell in CELLS.items() if cell.may_be_projected]
            rule = f"one of {', '.join(having)} where network.projection_size is given"
            require(self.cell in having, "network.cell", rule, self.cell)


@dataclass(frozen=True)
class CompressionConfig:
    """Structure of the weight matrices.

    Parameters
    ----------
    block_size : int
        k; 1 is the dense network.
    output_block_size : int
        k_y of the output layer, on chip or on the host, a divisor of k; 1 is a dense one.
    """

    block_size: int = 8
    output_block_size: int = 1

    def validate(self):
        rule = f"a power of two from {BLOCK_SIZES[0]} to {BLOCK_SIZES[-1]}"
        require(self.block_size in BLOCK_SIZES, "compression.block_size", rule, self.block_size)
        of_output, rule = self.output_block_size, f"a divisor of compression.block_size {self.block_size}"
        good = of_output >= 1 and self.block_size % of_output == 0
        require(good, "compression.output_block_size", rule, of_output)


@dataclass(frozen=True)
class QuantizationConfig:
    """Every quantization point by name.

    Parameters
    ----------
    x, h, preact, gate, cell : QFormat
        Formats of the input, the hidden state, the pre-activations, the activated gates, the cell state.
    weight_bits : int
        b, width of a weight, 2..8.
    weight_frac : tuple of int
        Fraction bits of W_h for each gate of the cell (one integer stands for all), of every layer.  W_x has
        ``weight_frac + h.fraction_bits - x.fraction_bits``, so that both products share one scale.
    bias_bits : int
        Width of a bias, which is stored at the scale of the accumulator.
    accumulator_bits : int or None
        Width of the accumulator; ``None`` derives the narrowest that cannot overflow.
    peephole : QFormat
        Format of the peephole weights, of cells that have them.
    projection_frac : int
        Fraction bits of the projection, where there is one.
    """

    x: QFormat = _format("Q1.7")
    h: QFormat = _format("Q1.7")
    weight_bits: int = 8
    weight_frac: tuple[int, ...] = (7,)
    bias_bits: int = 20
    accumulator_bits: int | None = None
    preact: QFormat = _format("Q4.8")
    gate: QFormat = _format("Q2.10")
    cell: QFormat = _format("Q4.12")
    peephole: QFormat = _format("Q2.6")
    projection_frac: int = 7

    def validate(self):
        require(2 <= self.weight_bits <= 8, "quantization.weight_bits", "from 2 to 8", self.weight_bits)
        for frac in self.weight_frac:
            require(-8 <= frac <= 20, "quantization.weight_frac", "from -8 to 20 for every gate", frac)
        frac = self.projection_frac
        require(0 <= frac <= 20, "quantization.projection_frac", "from 0 to 20", frac)
        require(8 <= self.bias_bits <= 32, "quantization.bias_bits", "from 8 to 32", self.bias_bits)
        widths = {"x": (2, 16), "h": (2, 16), "preact": (4, 16), "gate": (4, 16), "cell": (4, 24), "peephole": (2, 16)}
        for name, (low, high) in widths.items():
            fmt = getattr(self, name)
            require(low <= fmt.width <= high, f"quantization.{name}", f"from {low} to {high} bits wide", str(fmt))
            rule = f"of at most {MAX_FRACTION_BITS} fraction bits"
            require(fmt.fraction_bits <= MAX_FRACTION_BITS, f"quantization.{name}", rule, str(fmt))
        for name in ("preact", "gate", "cell"):
            fmt = getattr(self, name)
            require(fmt.fraction_bits >= 1, f"quantization.{name}", "of at least 1 fraction bit", str(fmt))
        require(
            self.gate.integer_bits >= 2, "quantization.gate", "Q2.n or wider, as 1.0 is a gate value", str(self.gate)
        )


@dataclass(frozen=True)
class ActivationConfig:
    """Forward nonlinear function approximation of σ and tanh.

    Parameters
    ----------
    kind : str
        ``"pwl"``: equal segments with a slope/intercept table; ``"shift"``: slopes are powers of two,
        no multiplier.
    segments : int
        Segments over the positive half axis.  A power of two for ``pwl``.
    """

    kind: str = "pwl"
    segments: int = 16

    def validate(self):
        require(self.kind in ACTIVATION_KINDS, "activation.kind", f"one of {', '.join(ACTIVATION_KINDS)}", self.kind)
        if self.kind == "pwl":
            good = self.segments in (4, 8, 16, 32, 64)
            require(good, "activation.segments", "a power of two from 4 to 64 for kind pwl", self.segments)
        else:
            require(2 <= self.segments <= 8, "activation.segments", "from 2 to 8 for kind shift", self.segments)


@dataclass(frozen=True)
class PipelineConfig:
    """Where registers stand.  Results never change; latency does, as ``chessrnn.model.schedule`` predicts.

    Parameters
    ----------
    memory_register : bool
        Register what the weight and vector memories give before anything else.
    operand_register : bool
        Register the operands right before the products (after the transforms of the fast engine).
    inverse_levels : int
        Levels of two-input adders between registers of the inverse transform of the fast engine; 0 is no register.
    compressor_terms : int
        Arithmetic ``carry_save``: products that are compressed between two registers; of their sums, twice as many.
    multiplier_stages : int
        Arithmetic ``multiplier``: registers of a multiplier, 0 combinational, 1 product registered, 2 also inside.
    adder_levels : int
        Arithmetic ``multiplier``: levels of two-input adders between registers of an adder tree; 0 is no register
        at all.
    """

    memory_register: bool = True
    operand_register: bool = True
    inverse_levels: int = 2
    compressor_terms: int = 2
    multiplier_stages: int = 1
    adder_levels: int = 2

    def validate(self):
        require(
            0 <= self.multiplier_stages <= 2,
            "architecture.pipeline.multiplier_stages",
            "0, 1 or 2",
            self.multiplier_stages,
        )
        require(0 <= self.adder_levels <= 16, "architecture.pipeline.adder_levels", "from 0 to 16", self.adder_levels)
        levels = self.inverse_levels
        require(0 <= levels <= 16, "architecture.pipeline.inverse_levels", "from 0 to 16", levels)
        terms = self.compressor_terms
        require(2 <= terms <= 64, "architecture.pipeline.compressor_terms", "from 2 to 64", terms)


@dataclass(frozen=True)
class ArchitectureConfig:
    """How much hardware: none of this changes a single result bit.

    Parameters
    ----------
    tile_rows, tile_cols : int
        R × C processing elements, each one block per cycle (chessboard division).
    engine : str
        ``"direct"`` (k² products per block) or ``"fast"`` (exact bilinear algorithm).
    arithmetic : str
        ``"carry_save"``: Booth digits of all products of a tile row compressed at once, the smallest in gates;
        ``"multiplier"``: a ``*`` per product and adder trees, for the multipliers of an FPGA.
    cell_lanes : int or None
        Hidden units activated and updated per cycle, a divisor of k; ``None`` takes the fewest that keep up.
    contexts : int
        Independent streams that take turns, a step each, every one with a state of its own.  A stream's step then
        has the others' steps to become ready in, and less needs to go ahead.
    state_ports : bool
        Streams for the state: in before a sequence that asks for it, out after every sequence, of every context.
    lookahead : int or None
        Row groups of a layer whose early columns (of the first layer: x) are worked on before any late one: work
        that does not wait and so covers the latency of what the late ones read.  Their partial sums are parked.
        ``None`` takes the fewest with the least initiation interval.
    sequence_steps : int or None
        Steps of the longest sequence that the memories of a bidirectional network hold; a longer one is cut there.
        ``None`` is 64.
    output_layer : int
        V outputs of a layer on chip that reads h, of which it tells the largest; 0 leaves them to the host.
    output_lanes : int or None
        Of them that are summed at a time, a multiple of ``compression.output_block_size``; ``None`` takes the fewest
        that keep up with the layers.
    """

    tile_rows: int = 4
    tile_cols: int = 4
    engine: str = "direct"
    arithmetic: str = "carry_save"
    cell_lanes: int | None = None
    contexts: int = 1
    state_ports: bool = False
    lookahead: int | None = None
    sequence_steps: int | None = None
    output_layer: int = 0
    output_lanes: int | None = None
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)

    def validate(self):
        require(1 <= self.tile_rows <= 4096, "architecture.tile_rows", "from 1 to 4096", self.tile_rows)
        require(1 <= self.tile_cols <= 4096, "architecture.tile_cols", "from 1 to 4096", self.tile_cols)
        require(self.engine in ENGINES, "architecture.engine", f"one of {', '.join(ENGINES)}", self.engine)
        require(1 <= self.contexts <= 64, "architecture.contexts", "from 1 to 64", self.contexts)
        rule = f"one of {', '.join(ARITHMETICS)}"
        require(self.arithmetic in ARITHMETICS, "architecture.arithmetic", rule, self.arithmetic)
        steps = self.sequence_steps
        require(steps is None or 1 <= steps <= MAX_SIZE, "architecture.sequence_steps", f"from 1 to {MAX_SIZE}", steps)
        outputs, lanes = self.output_layer, self.output_lanes
        rule = f"0 (none), or from 2 to {MAX_SIZE}"
        require(outputs == 0 or 2 <= outputs <= MAX_SIZE, "architecture.output_layer", rule, outputs)
        rule = "left out (null) as architecture.output_layer is 0"
        require(lanes is None or outputs > 0, "architecture.output_lanes", rule, lanes)
        self.pipeline.validate()


@dataclass(frozen=True)
class Config:
    """One design point: network, compression, quantization, activation, architecture.

    ``Config`` is validated when it is made.  ``to_dict``/``from_dict`` convert to and from plain JSON values.
    """

    network: NetworkConfig
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    activation: ActivationConfig = field(default_factory=ActivationConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    name: str = "custom"

    def __post_init__(self):
        require(
            bool(self.name) and all(c.isascii() and (c.isalnum() or c in "_-") for c in self.name),
            "name", "letters, digits, '_' and '-' only", self.name,
        )  # fmt: skip
        for part in ("network", "compression", "quantization", "activation", "architecture"):
            getattr(self, part).validate()
        self._spread_weight_frac()
        self._validate_relations()

    def _spread_weight_frac(self):
        """One integer stands for every gate."""
        fracs, count = self.quantization.weight_frac, self.num_gates
        if len(fracs) == 1:
            spread = dataclasses.replace(self.quantization, weight_frac=fracs * count)
            object.__setattr__(self, "quantization", spread)
        rule = f"one integer or {count}, as the cell {self.network.cell} has gates"
        if count == 1:
            rule = f"one integer, as the cell {self.network.cell} has one gate"
        require(len(fracs) in (1, count), "quantization.weight_frac", rule, list(fracs))

    def _validate_relations(self):
        needed = self.min_accumulator_bits
        given = self.quantization.accumulator_bits
        if given is not None:
            rule = f"at least {needed}, or the longest sum could overflow"
            require(needed <= given <= 64, "quantization.accumulator_bits", rule, given)
        require(needed <= 48, "network sizes and formats", "such that the accumulator has at most 48 bits", needed)
        for gate, shift, frac in zip(self.gates, self.preact_shifts, self.quantization.weight_frac, strict=True):
            target = self.cell.sum_format
            rule = f"such that {target} drops 0 to 31 fraction bits of the accumulator (gate {gate})"
            require(0 <= shift <= 31, "quantization.weight_frac", rule, frac)
        for gate in self.cell.peepholes:
            rule = f"such that a sum with its product has at most 63 bits (gate {self.gates[gate]})"
            good = self._peephole_sum_bits(gate) <= 63
            require(good, "quantization.peephole", rule, str(self.quantization.peephole))
        if self.network.projection_size:
            h = self.quantization.h
            require(h.integer_bits >= 1, "quantization.h", "Q1.n or wider in front of a projection", str(h))
        if self.architecture.engine == "fast":
            rule = f"one of {', '.join(map(str, FAST_BLOCK_SIZES))} for engine fast"
            require(self.block_size in FAST_BLOCK_SIZES, "compression.block_size", rule, self.block_size)
        lanes = self.architecture.cell_lanes
        if lanes is not None:
            rule = f"a divisor of block_size {self.block_size}"
            require(lanes >= 1 and self.block_size % lanes == 0, "architecture.cell_lanes", rule, lanes)
        self._validate_directions()
        ahead = self.architecture.lookahead
        if ahead is not None:
            rule = f"from 1 to the number of row groups {self.num_row_groups}"
            require(1 <= ahead <= self.num_row_groups, "architecture.lookahead", rule, ahead)
            rule = f"1 as no group of {self.architecture.tile_cols} block columns holds early ones (x) alone"
            can_go_ahead = any(part.early_groups for part in self.parts)
            require(ahead == 1 or can_go_ahead, "architecture.lookahead", rule, ahead)
        if self.activation.kind == "pwl":
            used = [(gate.function, "preact") for gate in self.cell.gates if gate.function]
            for function, name in dict.fromkeys([*used, *self.cell.functions]):
                fmt = getattr(self.quantization, name)
                rule = f"fine enough for {self.activation.segments} segments of {function}"
                good = pwl_offset_bits(function, self.activation.segments, fmt) >= 0
                require(good, f"quantization.{name}", rule, str(fmt))
        rule = f"at most the number of block rows {self.max_tile_rows}"
        rows = self.architecture.tile_rows
        require(rows <= self.max_tile_rows, "architecture.tile_rows", rule, rows)
        of_what = "the number of block columns"
        if self.network.projection_size:
            of_what += ", those of the projection too,"
        rule = f"at most {of_what} {self.max_tile_cols}"
        cols = self.architecture.tile_cols
        require(cols <= self.max_tile_cols, "architecture.tile_cols", rule, cols)
        _ = self.output_plan  # raises where it is impossible

    def _validate_directions(self):
        """What two directions leave no choice of, and what they alone have."""
        arch = self.architecture
        if not self.network.bidirectional:
            rule = "left out (null) as network.bidirectional is false"
            require(arch.sequence_steps is None, "architecture.sequence_steps", rule, arch.sequence_steps)
            return
        rule = "0 as network.bidirectional is true"
        require(arch.output_layer == 0, "architecture.output_layer", rule, arch.output_layer)
        rule, of_output = "1 as network.bidirectional is true", self.compression.output_block_size
        require(of_output == 1, "compression.output_block_size", rule, of_output)
        rule = "1 as the two directions of the network take turns"
        require(arch.contexts == 1, "architecture.contexts", rule, arch.contexts)
        require(arch.lookahead in (None, 1), "architecture.lookahead", rule, arch.lookahead)
        rule = "false as network.bidirectional is true: the reverse direction begins at the end"
        require(not arch.state_ports, "architecture.state_ports", rule, arch.state_ports)
        if self.network.num_layers > 1:
            rule = f"at most {MAX_SIZE // 2} as the layers above read both directions"
            field_name = "projection_size" if self.network.projection_size else "hidden_size"
            require(self._inner_input_size <= MAX_SIZE, f"network.{field_name}", rule, self.output_size)

    # -- sizes ---------------------------------------------------------------------------------------------

    @property
    def block_size(self) -> int:
        """k."""
        return self.compression.block_size

    @property
    def cell(self) -> Cell:
        """The recurrent cell."""
        return CELLS[self.network.cell]

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the cell's gates, in the order of the rows of W."""
        return self.cell.gate_names

    @property
    def num_gates(self) -> int:
        """Rows of W per hidden unit."""
        return len(self.cell.gates)

    @property
    def bundle_rows(self) -> int:
        """Rows of W per hidden unit that are finished together: the gates of a stage of the cell."""
        return self.num_gates // self.cell.stages

    @cached_property
    def output_plan(self) -> OutputPlan | None:
        """Sizes and cycles of the output layer on chip, or ``None`` where there is none.

        Raises
        ------
        InvalidValueError
            No or too few lanes keep up with the layers.
        """
        arch = self.architecture
        return output_plan(
            arch.output_layer,
            arch.output_lanes,
            self.num_output_blocks,
            self.bank_words,
            self.compression.output_block_size,
            self.quantization.h.min,
            self.output_size,
        )

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What a step consists of, in order; those of a bidirectional network are of either direction."""
        projected = circulant.num_blocks(self.network.projection_size, self.block_size)
        tile = self.architecture.tile_rows, self.architecture.tile_cols
        layers, directions = self.network.num_layers, self.directions
        sizes = self.num_input_blocks, self.num_hidden_blocks, projected
        return parts_of(*sizes, self.cell.stage_gates, layers, tile, directions)

    @property
    def layer_parts(self) -> tuple[tuple[Part, ...], ...]:
        """The parts of every layer."""
        count = len(self.parts) // self.network.num_layers
        return tuple(self.parts[start : start + count] for start in range(0, len(self.parts), count))

    @property
    def last_reader(self) -> int:
        """Of the parts of a layer, the number of the last that reads the layer's input."""
        return sum(part.kind == CELL for part in self.layer_parts[0]) - 1

    @property
    def directions(self) -> int:
        """2 of a bidirectional network, else 1."""
        return 2 if self.network.bidirectional else 1

    @property
    def turns(self) -> int:
        """States that steps take turns with: those of the contexts, or of the two directions."""
        return self.directions if self.network.bidirectional else self.architecture.contexts

    @property
    def sequence_steps(self) -> int:
        """Steps of the longest sequence of a bidirectional network."""
        return self.architecture.sequence_steps or DEFAULT_SEQUENCE_STEPS

    @property
    def _inner_input_size(self) -> int:
        """Elements that the layers but the first read: the h of the layer below, each of two directions padded."""
        return 2 * self.num_output_blocks * self.block_size if self.network.bidirectional else self.output_size

    @property
    def max_tile_rows(self) -> int:
        """Block rows of the gates that are worked on together."""
        return self.bundle_rows * self.num_hidden_blocks

    @property
    def max_tile_cols(self) -> int:
        """Block columns of the narrowest part."""
        return min(part.blocks for part in self.parts)

    def layer(self, number: int) -> "Config":
        """The network of one layer, of one direction, alone; the smallest architecture stands for the real one.

        Where there are two directions, the input of another layer than the first is h of both, each padded to blocks.
        """
        if self.network.num_layers == 1 and not self.network.bidirectional:
            return self
        settings = {
            "network.num_layers": 1,
            "network.bidirectional": False,
            "architecture": _to_plain(ArchitectureConfig(1, 1)),
        }
        if number:
            settings |= {"network.input_size": self._inner_input_size, "quantization.x": str(self.quantization.h)}
        return self.replace(settings)

    @property
    def num_input_blocks(self) -> int:
        """Blocks of x."""
        return circulant.num_blocks(self.network.input_size, self.block_size)

    @property
    def num_hidden_blocks(self) -> int:
        """Blocks of h."""
        return circulant.num_blocks(self.network.hidden_size, self.block_size)

    @property
    def output_size(self) -> int:
        """Elements of h as a layer hands it on: H, or P behind a projection."""
        return self.network.projection_size or self.network.hidden_size

    @property
    def num_output_blocks(self) -> int:
        """Blocks of h as a layer hands it on."""
        return circulant.num_blocks(self.output_size, self.block_size)

    @property
    def stream_size(self) -> int:
        """Elements of a step's output: h, of both directions where there are two."""
        return self.directions * self.output_size

    @property
    def num_stream_blocks(self) -> int:
        """Blocks of a step's output."""
        return self.directions * self.num_output_blocks

    @property
    def num_row_blocks(self) -> int:
        """p: block rows of W = [W_x | W_h], one per gate and hidden block."""
        return self.num_gates * self.num_hidden_blocks

    @property
    def num_col_blocks(self) -> int:
        """q: block columns of layer 0's W, those of x first."""
        return self.num_input_blocks + self.num_output_blocks

    @property
    def num_row_groups(self) -> int:
        """⌈p/R⌉ of every stage of the cell."""
        return -(-self.max_tile_rows // self.architecture.tile_rows)

    @property
    def num_col_groups(self) -> int:
        """⌈q/C⌉ of layer 0."""
        return self.parts[0].col_groups

    @property
    def num_banks(self) -> int:
        """R · C: one weight bank per processing element."""
        return self.architecture.tile_rows * self.architecture.tile_cols

    @property
    def bank_words(self) -> int:
        """Words of a weight bank, each one block: ⌈p/R⌉ · ⌈q/C⌉, summed over the parts and directions."""
        return self.directions * sum(part.words for part in self.parts)

    @property
    def weight_word_bits(self) -> int:
        """Bits of a word of a weight bank as stored."""
        return self.block_size * self.quantization.weight_bits

    @property
    def element_bits(self) -> int:
        """Width of a vector element on its way to the multipliers: the wider of x and h."""
        return max(self.quantization.x.width, self.quantization.h.width)

    @property
    def cell_output(self) -> QFormat:
        """Format of what a cell makes: h, or in front of a projection as many bits, all but the sign behind the point.

        Its magnitude is below 1, while that of what a projection makes of it is not bounded.
        """
        h = self.quantization.h
        return QFormat(1, h.width - 1) if self.network.projection_size else h

    @property
    def formats(self) -> dict[str, str]:
        """Format of every quantization point of the cell, by name."""
        names = ("x", "h", "preact", "gate", "cell", *(("peephole",) if self.cell.peepholes else ()))
        return {name: str(getattr(self.quantization, name)) for name in names}

    # -- numerics ------------------------------------------------------------------------------------------

    @property
    def weight_min(self) -> int:
        """Least integer weight."""
        return -(1 << (self.quantization.weight_bits - 1))

    @property
    def weight_max(self) -> int:
        """Greatest integer weight."""
        return (1 << (self.quantization.weight_bits - 1)) - 1

    @property
    def bias_format_min_max(self) -> tuple[int, int]:
        """Least and greatest integer bias."""
        half = 1 << (self.quantization.bias_bits - 1)
        return -half, half - 1

    @property
    def accumulator_fracs(self) -> tuple[int, ...]:
        """Fraction bits of the accumulator for each gate."""
        return tuple(frac + self.quantization.h.fraction_bits for frac in self.quantization.weight_frac)

    @property
    def input_weight_fracs(self) -> tuple[int, ...]:
        """Fraction bits of W_x for each gate."""
        return tuple(frac - self.quantization.x.fraction_bits for frac in self.accumulator_fracs)

    @property
    def preact_shifts(self) -> tuple[int, ...]:
        """Right shift from the accumulator to what its sum is rounded to, for each gate."""
        target = getattr(self.quantization, self.cell.sum_format)
        return tuple(frac - target.fraction_bits for frac in self.accumulator_fracs)

    @property
    def product_sum_bound(self) -> int:
        """Greatest magnitude that W_x·x + W_h·h can take."""
        from_x = -self.network.input_size * self.quantization.x.min
        from_h = -self.output_size * self.quantization.h.min
        from_inner = -self._inner_input_size * self.quantization.h.min
        from_below = max(from_x, from_inner) if self.network.num_layers > 1 else from_x
        projected = -self.network.hidden_size * self.quantization.h.min if self.network.projection_size else 0
        return max(from_below + from_h, projected) * -self.weight_min

    @property
    def product_sum_bits(self) -> int:
        """Width of W_x·x + W_h·h: as given for the accumulator, or the narrowest that cannot overflow."""
        return self.quantization.accumulator_bits or self.product_sum_bound.bit_length() + 1

    @property
    def min_accumulator_bits(self) -> int:
        """Width that no sum of products and bias can overflow."""
        bound = self.product_sum_bound + (1 << (self.quantization.bias_bits - 1))
        return bound.bit_length() + 1

    @property
    def accumulator_bits(self) -> int:
        """Width of the accumulator (products and bias summed)."""
        return self.quantization.accumulator_bits or self.min_accumulator_bits

    def _peephole_sum_bits(self, gate: int) -> int:
        """Width of a gate's sum and its peephole's product at their common scale, with what rounding adds."""
        q, sum_frac = self.quantization, self.accumulator_fracs[gate]
        product_frac = q.peephole.fraction_bits + q.cell.fraction_bits
        frac = max(sum_frac, product_frac)
        bound = 1 << (self.min_accumulator_bits - 1 + frac - sum_frac)
        bound += q.peephole.min * q.cell.min << (frac - product_frac)
        return (bound + (1 << max(frac - q.preact.fraction_bits, 1) - 1)).bit_length() + 1

    def gate_table(self, gate: int) -> ActivationTable:
        """Table of the activation of a gate that has one, by its number."""
        return self._table(self.cell.gates[gate].function, self.quantization.preact)

    @property
    def cell_table(self) -> ActivationTable:
        """Table of the tanh of the cell state."""
        return self._table("tanh", self.quantization.cell)

    @property
    def candidate_table(self) -> ActivationTable:
        """Table of the tanh of a GRU's candidate."""
        return self._table("tanh", self.quantization.preact)

    def _table(self, function: str, in_format: QFormat) -> ActivationTable:
        kind, segments = self.activation.kind, self.activation.segments
        return activation_table(function, kind, segments, in_format, self.quantization.gate)

    # -- bytes ---------------------------------------------------------------------------------------------

    @property
    def weight_bytes(self) -> int:
        """Bytes of the compressed weights (padding included, biases not)."""
        # The rows that fill a projection's last bundle are not counted.
        rows = ((part.made if part.kind == PROJECTION else part.row_blocks) * part.blocks for part in self.parts)
        blocks = self.directions * sum(rows)
        return -(-blocks * self.weight_word_bits // 8)

    @property
    def dense_float_bytes(self) -> int:
        """Bytes of the weights of the same network in dense float32 (biases not included)."""
        return 4 * self.dense_weights

    @property
    def dense_weights(self) -> int:
        """Weights of the same network without compression; a gate that reads x or h alone has no others."""
        size, size_h, projected = self.network.hidden_size, self.output_size, self.network.projection_size
        below = (self.network.input_size, *[self.stream_size] * (self.network.num_layers - 1))
        return self.directions * (
            sum(size * (gate.reads_x * size_x + gate.reads_h * size_h) for gate in self.cell.gates for size_x in below)
            + self.network.num_layers * projected * size
        )

    # -- conversion ----------------------------------------------------------------------------------------

    def to_dict(self) -> dict:
        """Plain JSON values; formats as strings."""
        return _to_plain(self)

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict) -> "Config":
        """Inverse of :meth:`to_dict`; unknown keys and wrong types are refused by name."""
        return _from_plain(cls, values, "")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify this design point (the name does not count)."""
        return _digest({key: value for key, value in self._identity().items() if key != "name"})

    @property
    def model_fingerprint(self) -> str:
        """16 hexadecimal digits that identify the numerics alone: equal for every architecture."""
        values = self._identity()
        del values["quantization"]["accumulator_bits"]
        return _digest({key: value for key, value in values.items() if key not in ("name", "architecture")})

    def _identity(self) -> dict:
        """The fields that mean something for this cell."""
        values = self.to_dict()
        if not self.cell.peepholes:
            del values["quantization"]["peephole"]
        if self.network.num_layers == 1:
            del values["network"]["num_layers"]
        if not self.network.projection_size:
            del values["network"]["projection_size"], values["quantization"]["projection_frac"]
        if not self.network.bidirectional:
            del values["network"]["bidirectional"], values["architecture"]["sequence_steps"]
        if self.architecture.contexts == 1:
            del values["architecture"]["contexts"]
        if not self.architecture.state_ports:
            del values["architecture"]["state_ports"]
        if not self.architecture.output_layer:
            del values["architecture"]["output_layer"], values["architecture"]["output_lanes"]
        if self.compression.output_block_size == 1:
            del values["compression"]["output_block_size"]
        return values

    def replace(self, settings: dict[str, object]) -> "Config":
        """A copy with dotted fields replaced by plain values: ``{"architecture.tile_rows": 8}``."""
        values = self.to_dict()
        for path, value in settings.items():
            _assign(values, path, value)
        return Config.from_dict(values)


def _digest(values: dict) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _to_plain(value):
    if isinstance(value, QFormat):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return value


def _from_plain(cls, values, path: str):
    require_type(values, dict, path or "configuration", "a table of fields")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        name = f"{path}.{key}".lstrip(".")
        if key not in fields:
            raise InvalidValueError(f"{name} must be one of {', '.join(fields)}, not an unknown key")
    arguments = {}
    for key, spec in fields.items():
        name = f"{path}.{key}".lstrip(".")
        if key in values:
            arguments[key] = _convert(spec.type, values[key], name)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise InvalidValueError(f"{name} must be given, not left out")
    return cls(**arguments)


def _convert(kind, value, name: str):
    if dataclasses.is_dataclass(kind) and kind is not QFormat:
        return _from_plain(kind, value, name)
    if kind is QFormat:
        try:
            return QFormat.parse(value)
        except (InvalidTypeError, InvalidValueError) as error:
            raise type(error)(f"{name}: {error}") from None
    if typing.get_origin(kind) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        for item in items:
            require_type(item, int, name, "an integer or an integer per gate")
        return tuple(items)
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    names = {int: "an integer", bool: "true or false", str: "a string"}
    require_type(value, kind, name, names[kind])
    return value


def _assign(values: dict, path: str, value) -> None:
    *parents, last = path.split(".")
    table = values
    for depth, key in enumerate(parents):
        if not isinstance(table.get(key), dict):
            name = ".".join(parents[: depth + 1])
            raise InvalidValueError(f"{path} must be a field of the configuration, not below {name!r}")
        table = table[key]
    if last not in table:
        raise InvalidValueError(f"{path} must be a field of the configuration, not an unknown key")
    table[last] = value


def parse_setting(text: str) -> tuple[str, object]:
    """``"architecture.tile_rows=8"`` → ``("architecture.tile_rows", 8)``; values are JSON, else strings."""
    path, separator, value = text.partition("=")
    require(bool(separator) and bool(path), "--set", "of the form section.field=value", text)
    try:
        return path.strip(), json.loads(value)
    except json.JSONDecodeError:
        return path.strip(), value.strip()


def load_config(path: str | Path) -> Config:
    """Read a ``.json`` or ``.toml`` configuration file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path} must be a readable text file: {error}") from None
    try:
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise InvalidFileError(f"{path} must be valid {path.suffix.lstrip('.').upper() or 'JSON'}: {error}") from None
    return Config.from_dict(values)
