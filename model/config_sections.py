"""Sections of a configuration: the fields that a user sets, each with its range.

A section checks its own fields; what relates fields of several sections is checked by :class:`.config.Config`.
"""

import itertools
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field

from chessrnn.model.cells import CELLS
from chessrnn.model.errors import require
from chessrnn.model.qformat import QFormat

ENGINES = ("direct", "fast")
ARITHMETICS = ("carry_save", "multiplier")
ACTIVATION_KINDS = ("pwl", "shift")
WEIGHT_SCALES = ("gate", "row")
WEIGHT_MEMORIES = ("rom", "ram")
WEIGHT_LEVELS = ("integer", "half")
PARITIES = ("none", "word")
BLOCK_SIZES = (1, 2, 4, 8, 16)
WEIGHT_BITS = range(2, 9)
FAST_BLOCK_SIZES = (2, 4, 8, 16)
# Limit for every quantization point: it keeps the exact sums of the model within 64 bits.
MAX_FRACTION_BITS = 32
# Greatest difference of the fraction bits of the products of W_x and of W_h.
MAX_INPUT_SHIFT = 16
MAX_SIZE = 65536
# Widths of a memory's word that ``architecture.memory_width`` may name.
MEMORY_WIDTHS = range(8, 513)
# Fraction bits of the weights: an integer per gate, or a tuple of these for each layer.
GateFractions = tuple[int, ...] | tuple[tuple[int, ...], ...]
# Fraction bits of the weights of a projection: an integer for all layers, or a tuple with one for each layer.
LayerFractions = int | tuple[int, ...]
# The hidden units of every layer, or of each layer.
HiddenSizes = int | tuple[int, ...]
# The width of the weights in all layers, or in each layer.
WeightWidths = int | tuple[int, ...]


def _format(text: str):
    return field(default_factory=lambda: QFormat.parse(text))


def rows_by_layer(fracs: GateFractions) -> tuple[tuple[int, ...], ...]:
    """The fraction bits as one tuple per layer, or as a single tuple where all layers share them."""
    is_by_layer = bool(fracs) and isinstance(fracs[0], tuple)
    return typing.cast("tuple[tuple[int, ...], ...]", fracs if is_by_layer else (fracs,))


def layers_text(values: int | Sequence[int]) -> str:
    """A value of all layers, or those of each layer one after the other, as text: ``8`` or ``64-32-64``."""
    return "-".join(map(str, values if isinstance(values, Sequence) else (values,)))


@dataclass(frozen=True)
class NetworkConfig:
    """The network that the user brings: recurrent layers, each of which reads the h of the layer below.

    Parameters
    ----------
    input_size : int
        X, the number of elements of x per step, from 1 to 65536.  The hardware pads x with zeros to a multiple of
        ``compression.block_size``.
    hidden_size : int or list of int
        H, the number of hidden units of every layer, from 1 to 65536, padded like ``input_size``; or a list with the
        number of each layer, the first one first, as of an autoencoder.  A network whose weights would need more than
        16 GB of this program's memory is rejected.
    cell : str
        The recurrence, a key of ``chessrnn.model.cells.CELLS``: ``"lstm"`` (the default), ``"lstm_peephole"``,
        ``"gru"``, ``"gru_reset_first"``, ``"rnn"`` or ``"rnn_relu"``.
    num_layers : int
        L, the number of layers, from 1 (the default) to 64.  All layers run one after the other on the same matrix
        engine, so every layer adds its weights and its cycles.
    projection_size : int
        P, the number of elements of h behind a projection, from 1 to H: a matrix reduces the H outputs of the cell
        to P (``proj_size`` of ``torch.nn.LSTM``).  0 (the default) is a network without projections.  Only the LSTM
        cells can have one.
    bidirectional : bool
        Whether every layer runs over the sequence in both directions, each with its own weights, and passes on both
        h (2H or 2P elements).  False by default.  The output of a sequence then begins only after its last input.
    """

    input_size: int
    hidden_size: HiddenSizes
    cell: str = "lstm"
    num_layers: int = 1
    projection_size: int = 0
    bidirectional: bool = False

    def validate(self):
        rule = f"from 1 to {MAX_SIZE}"
        require(1 <= self.input_size <= MAX_SIZE, "network.input_size", rule, self.input_size)
        for size in self.hidden_size if isinstance(self.hidden_size, tuple) else (self.hidden_size,):
            require(1 <= size <= MAX_SIZE, "network.hidden_size", rule, size)
        require(1 <= self.num_layers <= 64, "network.num_layers", "from 1 to 64", self.num_layers)
        require(self.cell in CELLS, "network.cell", f"one of {', '.join(CELLS)}", self.cell)
        if isinstance(self.hidden_size, tuple):
            self._validate_sizes(self.hidden_size)
            return
        rule = f"from 0 (none) to {self.hidden_size}, the hidden size"
        require(0 <= self.projection_size <= self.hidden_size, "network.projection_size", rule, self.projection_size)
        if self.projection_size:
            having = [name for name, cell in CELLS.items() if cell.may_be_projected]
            rule = f"one of {', '.join(having)} when network.projection_size is not 0"
            require(self.cell in having, "network.cell", rule, self.cell)

    def _validate_sizes(self, sizes: tuple[int, ...]) -> None:
        """Check a list of sizes, and that the network has nothing that needs layers of one size."""
        count = self.num_layers
        rule = f"one integer or {count}, one for each layer" if count > 1 else "one integer, as there is one layer"
        require(len(sizes) == count, "network.hidden_size", rule, list(sizes))
        if len(set(sizes)) == 1:
            return
        rule = "the same for every layer when network.bidirectional is true"
        require(not self.bidirectional, "network.hidden_size", rule, list(sizes))
        rule = "the same for every layer when network.projection_size is not 0"
        require(not self.projection_size, "network.hidden_size", rule, list(sizes))
        rule = f"the same for every layer of cell {self.cell}"
        require(CELLS[self.cell].stages == 1, "network.hidden_size", rule, list(sizes))

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Number of hidden units of each layer."""
        sizes = self.hidden_size
        return sizes if isinstance(sizes, tuple) else (sizes,) * self.num_layers

    @property
    def units(self) -> int:
        """Number of hidden units of a layer, or of layers that share it; others are asked one by one."""
        assert isinstance(self.hidden_size, int), "the layers have sizes of their own"
        return self.hidden_size

    @property
    def size_text(self) -> str:
        """The number of hidden units as text, with layers of different sizes one after the other: ``64-32-64``."""
        return layers_text(self.hidden_size)


@dataclass(frozen=True)
class CompressionConfig:
    """The structure of the weight matrices.

    Parameters
    ----------
    block_size : int
        k, the number of rows and columns of a circulant block: 1, 2, 4, 8 (the default) or 16.  A block is stored as
        its first column, so the weights take 1/k of the memory; a larger k costs accuracy.  1 is the dense network.
    output_block_size : int
        k_y, the block size of the output layer (on chip or on the host), a divisor of ``block_size``.  1 (the default)
        is a dense output layer.
    """

    block_size: int = 8
    output_block_size: int = 1

    def validate(self):
        rule = f"a power of two from {BLOCK_SIZES[0]} to {BLOCK_SIZES[-1]}"
        require(self.block_size in BLOCK_SIZES, "compression.block_size", rule, self.block_size)
        size, rule = self.output_block_size, f"a divisor of compression.block_size {self.block_size}"
        require(size >= 1 and self.block_size % size == 0, "compression.output_block_size", rule, size)


def require_weight_bits(bits: int, field: str) -> None:
    """Check that weights may have a number of bits; ``field`` names it in the message."""
    require(bits in WEIGHT_BITS, field, f"from {WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]}", bits)


@dataclass(frozen=True)
class QuantizationConfig:
    """The fixed-point format of every quantization point, by name.

    A format ``Qm.n`` has m integer bits, the sign included, and n fraction bits, at most 32.  More integer bits widen
    the range before a value saturates, more fraction bits make it finer; each bit costs registers, multipliers or
    memory.

    Parameters
    ----------
    x : QFormat
        Format of the input, from 2 to 16 bits wide, Q1.7 by default.
    h : QFormat
        Format of the hidden state, from 2 to 16 bits wide, Q1.7 by default; with a projection it needs at least 1
        integer bit.  The multipliers of the matrix engine are as wide as the wider of x and h.
    weight_bits : int, or tuple of int
        b, the width of every weight of the layers and projections in bits, from 2 to 8 (the default).  Weight memory
        grows in proportion to it.  Or one width for each layer, ``[8, 4]``: the words of a bank are
        as wide as those of the widest layer, and each holds as many words of a narrower layer as fit.  A width that
        saves no memory over a wider one is rejected: beside 8 bits there are 4 and 2.
    weight_frac : tuple of int, or tuple of tuple of int
        Number of fraction bits of W_h, from -8 to 20, for each gate of the cell in the order of ``Cell.gates``; a
        single integer (7 by default) applies to every gate.  The values apply to every layer, unless there is one such
        list for each layer: ``[[7, 7, 7, 7], [5, 6, 5, 6]]``; a multiplexer then selects the rounding of the layer at
        work.  Training and conversion choose the values from the weights.  W_x has ``weight_frac + h.fraction_bits -
        x.fraction_bits + input_shift`` fraction bits; so the products with x and with h share one scale unless
        ``input_shift`` parts them.
    input_shift : int, or tuple of int
        Number of fraction bits that W_x has beyond those that make its products as fine as the ones of W_h, from -16 to
        16, 0 by default: one for all layers, or one for each layer, ``[3, 0]``.  With 0 all products of a gate have the
        same scale, which suits W_x badly where x is much larger or smaller than h.  The coarser ones of the two sums,
        W_x·x if it is negative, are shifted left before they are added, so no bit is lost; the accumulator is as fine
        as the finer ones.  The columns of the tile must then divide those that are issued first in every part of the
        layer: of x in the first layer, and of h of the step before in the others.
    weight_levels : str
        ``"integer"`` (the default): a weight is its code, from -2^(b-1) to 2^(b-1) - 1.  ``"half"``: a code q means the
        weight 2·q + 1, an odd integer from -(2^b - 1) to 2^b - 1, so the levels are symmetric and with 2 or 3 bits none
        is lost: ±1, ±3.  A weight cannot be zero then: cell ``gru``, whose candidate has rows without x or without h,
        is rejected, and ``architecture.tile_cols`` must divide the block columns of every matrix.
    weight_scale : str
        ``"gate"`` (the default): the exponents of ``weight_frac`` are the only scales of the weights.  ``"row"``: every
        block row of every gate and layer has an unsigned integer m of ``scale_bits`` bits besides, by which its sum,
        bias included, is multiplied before the one rounding: preact = HALF_UP((accumulator + bias) · m /
        2^(shift + scale_bits - 1)), so m = 2^(scale_bits-1) is a scale of 1.  W_x and W_h share it; peephole products
        and projections have none.  It costs a small memory, a multiplier per gate and lane, and a cycle of latency.
    scale_bits : int
        Width of m in bits, from 4 to 8 (the default).  Without meaning for ``weight_scale = "gate"``.
    bias_bits : int
        Width of a bias in bits, from 8 to 32, 20 by default.  A bias is stored at the scale of the accumulator.
    accumulator_bits : int or None
        Width of the accumulator in bits, at most 64.  ``None`` (the default) derives the narrowest width that no sum
        can overflow; a narrower one is rejected.
    preact : QFormat
        Format of the pre-activations, to which the accumulated sums are rounded: from 4 to 16 bits wide with at least
        1 fraction bit, Q4.8 by default.
    gate : QFormat
        Format of the activated gates: from 4 to 16 bits wide with at least 2 integer bits, as 1.0 is a gate value, and
        at least 1 fraction bit, Q2.10 by default.
    cell : QFormat
        Format of the state that a cell keeps besides h (c of an LSTM): from 4 to 24 bits wide with at least 1 fraction
        bit, Q4.12 by default.
    peephole : QFormat
        Format of the peephole weights of a cell that has them, from 2 to 16 bits wide, Q2.6 by default.
    projection_frac : int, or tuple of int
        Number of fraction bits of the weights of a projection, from 0 to 20, 7 by default: one for all layers, or one
        for each layer, ``[7, 6]``; a multiplexer then selects the rounding of the layer at work.
    """

    x: QFormat = _format("Q1.7")
    h: QFormat = _format("Q1.7")
    weight_bits: WeightWidths = 8
    weight_frac: GateFractions = (7,)
    input_shift: LayerFractions = 0
    weight_levels: str = "integer"
    weight_scale: str = "gate"
    scale_bits: int = 8
    bias_bits: int = 20
    accumulator_bits: int | None = None
    preact: QFormat = _format("Q4.8")
    gate: QFormat = _format("Q2.10")
    cell: QFormat = _format("Q4.12")
    peephole: QFormat = _format("Q2.6")
    projection_frac: LayerFractions = 7

    def validate(self):
        for bits in self.weight_bits if isinstance(self.weight_bits, tuple) else (self.weight_bits,):
            require_weight_bits(bits, "quantization.weight_bits")
        for frac in itertools.chain(*rows_by_layer(self.weight_frac)):
            require(-8 <= frac <= 20, "quantization.weight_frac", "from -8 to 20 for every gate", frac)
        for shift in self.input_shift if isinstance(self.input_shift, tuple) else (self.input_shift,):
            most = MAX_INPUT_SHIFT
            require(-most <= shift <= most, "quantization.input_shift", f"from -{most} to {most}", shift)
        levels, rule = self.weight_levels, f"one of {', '.join(WEIGHT_LEVELS)}"
        require(levels in WEIGHT_LEVELS, "quantization.weight_levels", rule, levels)
        scale, rule = self.weight_scale, f"one of {', '.join(WEIGHT_SCALES)}"
        require(scale in WEIGHT_SCALES, "quantization.weight_scale", rule, scale)
        require(4 <= self.scale_bits <= 8, "quantization.scale_bits", "from 4 to 8", self.scale_bits)
        for frac in self.projection_frac if isinstance(self.projection_frac, tuple) else (self.projection_frac,):
            require(0 <= frac <= 20, "quantization.projection_frac", "from 0 to 20", frac)
        require(8 <= self.bias_bits <= 32, "quantization.bias_bits", "from 8 to 32", self.bias_bits)
        widths = {"x": (2, 16), "h": (2, 16), "preact": (4, 16), "gate": (4, 16), "cell": (4, 24), "peephole": (2, 16)}
        for name, (low, high) in widths.items():
            fmt = getattr(self, name)
            require(low <= fmt.width <= high, f"quantization.{name}", f"from {low} to {high} bits wide", str(fmt))
            rule = f"a format of at most {MAX_FRACTION_BITS} fraction bits"
            require(fmt.fraction_bits <= MAX_FRACTION_BITS, f"quantization.{name}", rule, str(fmt))
        for name in ("preact", "gate", "cell"):
            fmt = getattr(self, name)
            require(fmt.fraction_bits >= 1, f"quantization.{name}", "a format of at least 1 fraction bit", str(fmt))
        require(
            self.gate.integer_bits >= 2, "quantization.gate", "Q2.n or wider, as 1.0 is a gate value", str(self.gate)
        )


@dataclass(frozen=True)
class ActivationConfig:
    """The piecewise-linear approximation of σ and tanh, used by the hardware and by the forward pass of training.

    Parameters
    ----------
    kind : str
        ``"pwl"`` (the default) has segments of equal width with a table of slopes and intercepts, and one multiplier
        per activation.  ``"shift"`` has slopes that are powers of two and needs no multiplier, but is less accurate.
    segments : int
        Number of segments over the positive half axis: 4, 8, 16 (the default), 32 or 64 for ``"pwl"``, from 2 to 8
        for ``"shift"``.  More segments approximate better and enlarge the tables.
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
    """The places of the pipeline registers.

    Registers shorten the longest path, and so allow a faster clock, in exchange for area and for cycles of latency.
    They never change a result; ``chessrnn.model.schedule`` predicts the latency.

    Parameters
    ----------
    issue_register : bool
        Whether the decision that a tile is computed is registered before it reaches the memories.  False by default,
        and required to be so in a bidirectional network.
    memory_register : bool
        Whether the words read from the weight and vector memories are registered before any logic.  True by default.
    operand_register : bool
        Whether the operands are registered right before the products, after the transforms of engine ``fast``.  True
        by default.
    forward_levels : int
        Engine ``fast`` only: levels of two-input adders between two registers of the transforms of the vectors' blocks
        and of the weights, from 1 to 16.  0 (the default) places no register inside the transforms.
    inverse_levels : int
        Engine ``fast`` only: levels of two-input adders between two registers of the inverse transform, from 1 to 16,
        2 by default.  0 places no register inside the transform.
    shared_inverse : bool
        Engine ``fast`` only: whether the gates of a hidden block pass one inverse transform after the other, in place
        of one each.  False by default.  A block then takes as many cycles more as it has gates beside the first.
    compressor_terms : int
        Arithmetic ``carry_save`` only: number of products that are compressed between two registers, from 2 (the
        default) to 64.  Of the resulting partial sums eight, or twice as many, are joined between two registers.
    multiplier_stages : int
        Arithmetic ``multiplier`` only: registers of a multiplier.  0 is combinational, 1 (the default) registers the
        product, 2 adds a register inside.
    multiplier_register : bool
        Arithmetic ``multiplier`` only: whether each multiplier of the products and of the cell update has registers of
        its own for its operands.  False by default.  In the DSP blocks of an FPGA these registers cost nothing.
    adder_levels : int
        Arithmetic ``multiplier`` only: levels of two-input adders between two registers of an adder tree, from 1 to 16,
        2 by default.  0 places no register, not even behind the last level.
    cell_register : bool
        Whether the long steps of the cell update take two cycles each: the magnitude and the table of an activation,
        its sum and its sign, and a sum of products and its rounding.  False by default.  An update takes six cycles
        more in an LSTM; on an FPGA, where an addition is slow beside a multiplication, it allows a faster clock.
    """

    issue_register: bool = False
    memory_register: bool = True
    operand_register: bool = True
    forward_levels: int = 0
    inverse_levels: int = 2
    shared_inverse: bool = False
    compressor_terms: int = 2
    multiplier_stages: int = 1
    multiplier_register: bool = False
    adder_levels: int = 2
    cell_register: bool = False

    def validate(self):
        require(
            0 <= self.multiplier_stages <= 2,
            "architecture.pipeline.multiplier_stages",
            "0, 1 or 2",
            self.multiplier_stages,
        )
        require(0 <= self.adder_levels <= 16, "architecture.pipeline.adder_levels", "from 0 to 16", self.adder_levels)
        for name in ("forward_levels", "inverse_levels"):
            levels = getattr(self, name)
            require(0 <= levels <= 16, f"architecture.pipeline.{name}", "from 0 to 16", levels)
        terms = self.compressor_terms
        require(2 <= terms <= 64, "architecture.pipeline.compressor_terms", "from 2 to 64", terms)


@dataclass(frozen=True)
class ArchitectureConfig:
    """The amount and arrangement of the hardware, which trades area against speed and never changes a result.

    Parameters
    ----------
    tile_rows, tile_cols : int
        R and C, 4 each by default: R × C processing elements (PEs) work in parallel, each on one k × k block per
        cycle.  A step takes ⌈p/R⌉·⌈q/C⌉ cycles of matrix work for any R and C, also ones that do not divide the p × q
        grid of blocks.  R goes from 1 to the number of block rows that are computed together
        (``Config.max_tile_rows``), C from 1 to the number of block columns of the narrowest matrix
        (``Config.max_tile_cols``), each up to 4096.  Area grows with R·C.
    engine : str
        ``"direct"`` (the default) takes k² products per block.  ``"fast"`` is an exact bilinear algorithm with 2, 5,
        14 or 41 products for k = 2, 4, 8, 16; it needs fewer gates and a few more cycles of latency.
    arithmetic : str
        ``"carry_save"`` (the default) compresses the Booth digits of all products of a tile row at once and takes the
        fewest gates.  ``"multiplier"`` writes a ``*`` per product and adder trees, which map to the multipliers of an
        FPGA.
    cell_lanes : int or None
        Number of hidden units that are activated and updated per cycle, a divisor of k.  More lanes cost activation
        units and multipliers; too few delay the matrix engine.  ``None`` (the default) takes the fewest that keep up.
    contexts : int
        Number of independent sequences that are processed in turn, one step of each, every one with its own state,
        from 1 (the default) to 64.  The latency of a step is covered by the steps of the other sequences, so less
        lookahead is needed; every context adds a copy of the state.  1 for a bidirectional network.
    state_ports : bool
        Whether the accelerator has a stream ``state_in`` that sets the state before a sequence that asks for it, and a
        stream ``state_out`` that gives the final state of every sequence.  False by default, and for a bidirectional
        network.  The beats take cycles between steps.
    lookahead : int or None
        Number of row groups of a layer whose early columns (those of x in the first layer) are computed before any
        late column, from 1 (no lookahead) to the number of row groups; 1 for a bidirectional network.  Early columns
        read what is already there, so this work covers the latency of the values that the late columns read.  The
        partial sums wait in registers meanwhile.  ``None`` (the default) takes the fewest row groups that reach the
        least initiation interval.
    sequence_steps : int or None
        Bidirectional networks only: number of steps, from 1 to 65536, that the memories of a whole sequence hold; a
        longer sequence is cut into several.  ``None`` (the default) is 64.
    output_layer : int
        V, the number of outputs, from 1 to 65536, of an output layer on chip that reads h and reports the largest
        logit of every step.  0 (the default, and for a bidirectional network) leaves the output layer to the host.
    output_lanes : int or None
        Number of logits that are summed at a time, a multiple of ``compression.output_block_size``.  More lanes cost
        multipliers.  ``None`` (the default) takes the fewest that keep up with the layers.
    weight_memory : str
        ``"rom"`` (the default) fixes the weights, biases and the output layer's parameters in memories without a write
        port.  ``"ram"`` adds a port through which another network of the same configuration is loaded between two
        sequences; it costs the loader's gates, but no cycle of a step.
    memory_width : int or None
        Greatest width in bits, from 8 to 512, of a memory that the weight banks of several PEs share, parity bit
        included: all banks are read at the same address, so as many as fit stand side by side in one memory.  A bank
        that is wider, or that no second one fits beside, has a memory of its own, as has every bank with ``None`` (the
        default).  Fewer and wider memories take less area as macros, and change no cycle.
    parity : str
        ``"word"`` stores an even parity bit with every word of every memory and reports a word that is read with a
        wrong one.  ``"none"`` (the default) has neither.  The check costs a bit per word and a tree of XOR gates per
        memory, but no cycle.
    monitor : bool
        Whether the accelerator counts the values that it limits to the range of their format, and compares the beats,
        steps and sequences of x with those of h.  False by default.  The bus shell has a counter and events for both.
    pipeline : PipelineConfig
        The places of the pipeline registers.
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
    weight_memory: str = "rom"
    memory_width: int | None = None
    parity: str = "none"
    monitor: bool = False
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
        rule = f"from 0 (none) to {MAX_SIZE}"
        require(0 <= outputs <= MAX_SIZE, "architecture.output_layer", rule, outputs)
        rule = "left out (null) when architecture.output_layer is 0"
        require(lanes is None or outputs > 0, "architecture.output_lanes", rule, lanes)
        kinds = WEIGHT_MEMORIES
        require(self.weight_memory in kinds, "architecture.weight_memory", " or ".join(kinds), self.weight_memory)
        width, rule = self.memory_width, f"from {MEMORY_WIDTHS[0]} to {MEMORY_WIDTHS[-1]}, or left out (null)"
        require(width is None or width in MEMORY_WIDTHS, "architecture.memory_width", rule, width)
        require(self.parity in PARITIES, "architecture.parity", " or ".join(PARITIES), self.parity)
        self.pipeline.validate()
