"""The configuration object: everything that decides the integers and the hardware.

There are two levels: users set the few fields of the sections (:mod:`.config_sections`), and modules read the derived,
checked properties of :class:`Config`.  A design that cannot be built is rejected here, before hardware is elaborated.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from chessrnn.model import circulant
from chessrnn.model.activation_tables import ActivationTable, activation_table, pwl_offset_bits
from chessrnn.model.cells import CELLS, Cell
from chessrnn.model.config_sections import (
    FAST_BLOCK_SIZES,
    MAX_SIZE,
    ActivationConfig,
    ArchitectureConfig,
    CompressionConfig,
    NetworkConfig,
    QuantizationConfig,
    layers_text,
    rows_by_layer,
)
from chessrnn.model.config_values import assign, from_plain, to_plain
from chessrnn.model.errors import InvalidFileError, require, shown
from chessrnn.model.output_plan import OutputPlan, output_plan
from chessrnn.model.parts import CELL, PROJECTION, Part, parts_of
from chessrnn.model.qformat import QFormat
from chessrnn.model.shared_words import packable_widths
from chessrnn.model.text_file import MAX_CONFIG_BYTES, read_json, read_toml
from chessrnn.model.widths.interval import Interval, product_interval
from chessrnn.model.widths.sums import (
    MAX_ACCUMULATOR_BITS,
    MAX_SUM_BITS,
    RoundedTerms,
    accumulator_sum_bits,
    biased_interval,
    cell_sums,
    format_interval,
    peephole_sum_interval,
    products_interval,
    union,
)

# What this program needs to generate a design: arrays of 64 bits and their copies for a weight, a Python integer and
# its line of text for a word of a memory, a tuple for an issue.  Larger designs are rejected.
BYTES_PER_WEIGHT, BYTES_PER_WORD, BYTES_PER_ISSUE = 32, 160, 400
MAX_MEMORY = 16 * 10**9
# Greatest length of the name of a design.  Folders and files have this name with a few more letters, and a file name
# has at most 255 bytes.
MAX_NAME = 128
# Fields of a build folder's config.json: the fingerprint, and the configuration itself.
BUILD_FIELDS = {"configuration", "config"}
# Sequence length that the memories of a bidirectional network are sized for unless the configuration gives one.
DEFAULT_SEQUENCE_STEPS = 64


@dataclass(frozen=True)
class Config:
    """One design point: network, compression, quantization, activation and architecture.

    A ``Config`` is validated when it is created.  ``to_dict``/``from_dict`` convert to and from plain JSON values.

    Parameters
    ----------
    network, compression, quantization, activation, architecture
        The sections above; all but the network have defaults.
    name : str
        Name of the design and of its build folder: at most 128 ASCII letters, digits, ``_`` and ``-``.  It changes no
        fingerprint.
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
            "name", "made of letters, digits, '_' and '-' only", self.name,
        )  # fmt: skip
        require(len(self.name) <= MAX_NAME, "name", f"at most {MAX_NAME} characters long", self.name)
        self._join_hidden_sizes()
        for part in ("network", "compression", "quantization", "activation", "architecture"):
            getattr(self, part).validate()
        self._spread_weight_frac()
        self._join_layer_values("weight_bits")
        self._join_layer_values("projection_frac")
        self._join_layer_values("input_shift")
        self._validate_widths()
        self._validate_relations()

    def _join_hidden_sizes(self):
        """Write one ``hidden_size`` for all layers where the given ones are equal."""
        given = self.network.hidden_size
        if isinstance(given, tuple) and len(given) == self.network.num_layers and len(set(given)) == 1:
            object.__setattr__(self, "network", dataclasses.replace(self.network, hidden_size=given[0]))

    def _spread_weight_frac(self):
        """Repeat a single ``weight_frac`` for every gate, and write equal lists of all layers as one list."""
        given, count, layers = self.quantization.weight_frac, self.num_gates, self.network.num_layers
        rule = f"one integer or {count}, one for each gate of cell {self.network.cell}"
        if count == 1:
            rule = f"one integer, as cell {self.network.cell} has one gate"
        rows = rows_by_layer(given)
        for row in rows:
            require(len(row) in (1, count), "quantization.weight_frac", rule, list(row))
        rule = f"one list for all layers or {layers}, one for each layer"
        require(len(rows) == layers or rows == (given,), "quantization.weight_frac", rule, len(rows))
        rows = tuple(row * count if len(row) == 1 else row for row in rows)
        spread = rows if len(set(rows)) > 1 else rows[0]
        if spread != given:
            spread_points = dataclasses.replace(self.quantization, weight_frac=spread)
            object.__setattr__(self, "quantization", spread_points)

    def _join_layer_values(self, name: str):
        """Write one value of a field of the quantization for all layers where the given ones are equal."""
        given, layers = getattr(self.quantization, name), self.network.num_layers
        if isinstance(given, int):
            return
        rule = f"one integer or {layers}, one for each layer" if layers > 1 else "one integer, as there is one layer"
        require(len(given) == layers, f"quantization.{name}", rule, list(given))
        if len(set(given)) == 1:
            object.__setattr__(self, "quantization", dataclasses.replace(self.quantization, **{name: given[0]}))

    def _validate_widths(self):
        """Check that the widths of layers which differ save memory, each over the next wider one."""
        widths = self.layer_weight_bits
        if len(set(widths)) == 1:
            return
        good = packable_widths(self.weight_bits)
        for bits in widths:
            same = max(width for width in good if self.weight_bits // width == self.weight_bits // bits)
            rule = f"one of {', '.join(map(str, good))} beside a layer of {self.weight_bits} bits, "
            rule += f"as {bits} bits would take the memory of {same}"
            require(bits in good, "quantization.weight_bits", rule, list(widths))

    def _validate_relations(self):
        needed = self.min_accumulator_bits
        given = self.quantization.accumulator_bits
        if given is not None:
            rule = f"at least {needed}, or the longest sum could overflow"
            require(needed <= given <= 64, "quantization.accumulator_bits", rule, given)
        rule = f"such that the accumulator has at most {MAX_ACCUMULATOR_BITS} bits"
        require(needed <= MAX_ACCUMULATOR_BITS, "network sizes and formats", rule, needed)
        for shifts, fracs in zip(self.layer_preact_shifts, self.layer_weight_fracs, strict=True):
            for gate, shift, frac in zip(self.gates, shifts, fracs, strict=True):
                target = self.cell.sum_format
                rule = f"such that rounding to {target} drops 0 to 31 fraction bits of the accumulator (gate {gate})"
                require(0 <= shift <= 31, "quantization.weight_frac", rule, frac)
        for gate in self.cell.peepholes:
            rule = f"such that the sum of a gate with its peephole product has at most {MAX_SUM_BITS} bits"
            rule += f" (gate {self.gates[gate]})"
            good = self._peephole_sum_bits(gate) <= MAX_SUM_BITS
            require(good, "quantization.peephole", rule, str(self.quantization.peephole))
        if self.network.projection_size:
            h = self.quantization.h
            require(
                h.integer_bits >= 1, "quantization.h", "Q1.n or wider when network.projection_size is not 0", str(h)
            )
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
            rule = f"from 1 to {self.num_row_groups}, the number of row groups"
            require(1 <= ahead <= self.num_row_groups, "architecture.lookahead", rule, ahead)
            rule = (
                f"1, as no group of {self.architecture.tile_cols} block columns consists of early columns (of x) only"
            )
            can_go_ahead = any(part.early_groups for part in self.parts)
            require(ahead == 1 or can_go_ahead, "architecture.lookahead", rule, ahead)
        if self.activation.kind == "pwl":
            used = [(gate.function, "preact") for gate in self.cell.gates if gate.function]
            for function, name in dict.fromkeys([*used, *self.cell.functions]):
                fmt = getattr(self.quantization, name)
                rule = f"fine enough for {self.activation.segments} segments of {function}"
                good = pwl_offset_bits(function, self.activation.segments, fmt) >= 0
                require(good, f"quantization.{name}", rule, str(fmt))
        rule = f"at most {self.max_tile_rows}, the number of block rows"
        rows = self.architecture.tile_rows
        require(rows <= self.max_tile_rows, "architecture.tile_rows", rule, rows)
        rule = f"at most {self.max_tile_cols}, the number of block columns"
        if self.network.projection_size:
            rule += " of the narrowest matrix, the projection included"
        cols = self.architecture.tile_cols
        require(cols <= self.max_tile_cols, "architecture.tile_cols", rule, cols)
        self._validate_levels()
        self._validate_input_shifts()
        self._validate_memory()
        _ = self.output_plan  # raises where it is impossible

    def _validate_levels(self):
        """Check that no weight has to be zero where none can be."""
        if not self.has_half_levels:
            return
        partial = [gate.name for gate in self.cell.gates if not (gate.reads_x and gate.reads_h)]
        rule = f"integer for cell {self.network.cell}, as {' and '.join(partial)} have zero weights"
        require(not partial, "quantization.weight_levels", rule, self.quantization.weight_levels)
        cols, blocks = self.architecture.tile_cols, sorted({part.blocks for part in self.parts})
        rule = f"a divisor of the block columns ({', '.join(map(str, blocks))}) for quantization.weight_levels half"
        require(all(count % cols == 0 for count in blocks), "architecture.tile_cols", rule, cols)

    def _validate_input_shifts(self):
        """Check that no column group has columns of both W_x and W_h where their sums are shifted apart."""
        cols, blocks = self.architecture.tile_cols, self._shifted_columns
        rule = f"a divisor of the block columns that come first ({', '.join(map(str, blocks))})"
        rule += " for quantization.input_shift other than 0"
        require(all(count % cols == 0 for count in blocks), "architecture.tile_cols", rule, cols)

    def _validate_memory(self):
        """Check that this program can hold the weights of the network, before it takes the memory."""
        need, k = self.memory_estimate, self.block_size
        sizes = {
            "network.hidden_size": max(self.network.hidden_sizes),
            "network.input_size": self.network.input_size,
            "architecture.output_layer": self.architecture.output_layer,
        }
        name = max(sizes, key=sizes.__getitem__)
        rule = f"small enough for {MAX_MEMORY / 1e9:g} GB of memory (with blocks of {k} it needs {need / 1e9:,.0f} GB)"
        require(need <= MAX_MEMORY, name, rule, sizes[name])

    @property
    def memory_estimate(self) -> int:
        """Bytes of memory that this program needs to generate the design: weights, words of memories, order of work."""
        words = self.bank_words * self.num_banks
        outputs = self.architecture.output_layer * self.output_size // self.compression.output_block_size
        weights = words * self.block_size + outputs
        return BYTES_PER_WEIGHT * weights + BYTES_PER_WORD * words + BYTES_PER_ISSUE * self.bank_words

    def _validate_directions(self):
        """Check the fields that a bidirectional network fixes, and the field that only such a network has."""
        arch = self.architecture
        if not self.network.bidirectional:
            rule = "left out (null) when network.bidirectional is false"
            require(arch.sequence_steps is None, "architecture.sequence_steps", rule, arch.sequence_steps)
            return
        rule = "0 when network.bidirectional is true"
        require(arch.output_layer == 0, "architecture.output_layer", rule, arch.output_layer)
        rule, output_block_size = "1 when network.bidirectional is true", self.compression.output_block_size
        require(output_block_size == 1, "compression.output_block_size", rule, output_block_size)
        rule = "1 when network.bidirectional is true, as the two directions already alternate"
        require(arch.contexts == 1, "architecture.contexts", rule, arch.contexts)
        require(arch.lookahead in (None, 1), "architecture.lookahead", rule, arch.lookahead)
        rule = "false when network.bidirectional is true, as the reverse direction begins at the end"
        require(not arch.state_ports, "architecture.state_ports", rule, arch.state_ports)
        rule, register = "false when network.bidirectional is true", arch.pipeline.issue_register
        require(not register, "architecture.pipeline.issue_register", rule, register)
        if self.network.num_layers > 1:
            rule = f"at most {MAX_SIZE // 2}, as the layers above read both directions"
            field_name = "projection_size" if self.network.projection_size else "hidden_size"
            require(self.input_sizes[1] <= MAX_SIZE, f"network.{field_name}", rule, self.output_size)

    # -- sizes ---------------------------------------------------------------------------------------------

    @property
    def block_size(self) -> int:
        """Block size k: rows and columns of a circulant block."""
        return self.compression.block_size

    @property
    def cell(self) -> Cell:
        """The recurrent cell of every layer."""
        return CELLS[self.network.cell]

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the cell's gates, in the order of the rows of W."""
        return self.cell.gate_names

    @property
    def num_gates(self) -> int:
        """Number of gates of the cell: rows of W per hidden unit."""
        return len(self.cell.gates)

    @property
    def bundle_rows(self) -> int:
        """Number of rows of W per hidden unit that are finished together: the gates of one stage of the cell."""
        return self.num_gates // self.cell.stages

    @cached_property
    def output_plan(self) -> OutputPlan | None:
        """Sizes and cycles of the output layer on chip, or ``None`` for a network without one.

        Raises
        ------
        InvalidValueError
            The given number of lanes, or any number of lanes, cannot keep up with the layers.
        """
        arch = self.architecture
        return output_plan(
            arch.output_layer,
            arch.output_lanes,
            self.num_output_blocks,
            self.bank_words,
            self.compression.output_block_size,
            self.quantization.h,
            self.output_size,
        )

    @property
    def required_output_plan(self) -> OutputPlan:
        """The output plan of a network that is known to have its output layer on chip."""
        assert self.output_plan is not None
        return self.output_plan

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The matrix products of a step, in order; in a bidirectional network each one exists for both directions."""
        projected = circulant.num_blocks(self.network.projection_size, self.block_size)
        tile = self.architecture.tile_rows, self.architecture.tile_cols
        directions = self.directions
        sizes = self.num_input_blocks, self.layer_hidden_blocks, projected
        return parts_of(*sizes, self.cell.stage_gates, tile, directions)

    @property
    def layer_parts(self) -> tuple[tuple[Part, ...], ...]:
        """The parts of a step, grouped by layer."""
        count = len(self.parts) // self.network.num_layers
        return tuple(self.parts[start : start + count] for start in range(0, len(self.parts), count))

    @property
    def last_reader(self) -> int:
        """Index, within a layer, of the last part that reads the layer's input."""
        return sum(part.kind == CELL for part in self.layer_parts[0]) - 1

    @property
    def directions(self) -> int:
        """Number of directions: 2 for a bidirectional network, else 1."""
        return 2 if self.network.bidirectional else 1

    @property
    def states_per_layer(self) -> int:
        """Number of states that every layer keeps: one per context, or one per direction."""
        return self.directions if self.network.bidirectional else self.architecture.contexts

    @property
    def sequence_steps(self) -> int:
        """Number of steps of the longest sequence that the memories of a bidirectional network hold."""
        return self.architecture.sequence_steps or DEFAULT_SEQUENCE_STEPS

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Number of elements that each layer reads: x, and above the first layer the h of the layer below.

        With two directions that is both h, each padded to whole blocks.
        """
        below = self.layer_output_sizes[:-1]
        if self.network.bidirectional:
            below = (2 * self.num_output_blocks * self.block_size,) * len(below)
        return self.network.input_size, *below

    @property
    def max_tile_rows(self) -> int:
        """Number of block rows of the gates that are computed together, in the largest layer.

        It is the limit of ``tile_rows``.
        """
        return self.bundle_rows * max(self.layer_hidden_blocks)

    @property
    def _shifted_columns(self) -> list[int]:
        """Numbers of early block columns of the parts whose sums over early and late columns are shifted apart."""
        shifts = self.layer_input_shifts
        return sorted({part.early.blocks for part in self.parts if part.kind == CELL and shifts[part.layer]})

    @property
    def divided_columns(self) -> list[int]:
        """Numbers of block columns that ``tile_cols`` must divide; none for most networks."""
        whole = {part.blocks for part in self.parts} if self.has_half_levels else set()
        return sorted(whole.union(self._shifted_columns))

    @property
    def max_tile_cols(self) -> int:
        """Number of block columns of the narrowest part: the limit of ``tile_cols``."""
        return min(part.blocks for part in self.parts)

    def layer(self, number: int) -> "Config":
        """Configuration of one layer in one direction, as a network of its own on the smallest architecture.

        In a bidirectional network the input of a layer above the first is the h of both directions, each padded to
        whole blocks.
        """
        if self.network.num_layers == 1 and not self.network.bidirectional:
            return self
        settings = {
            "network.num_layers": 1,
            "network.hidden_size": self.network.hidden_sizes[number],
            "network.bidirectional": False,
            "architecture": to_plain(ArchitectureConfig(1, 1)),
            "quantization.weight_bits": self.layer_weight_bits[number],
            "quantization.weight_frac": list(self.layer_weight_fracs[number]),
            "quantization.input_shift": self.layer_input_shifts[number],
            "quantization.projection_frac": self.layer_projection_fracs[number],
        }
        if number:
            settings |= {"network.input_size": self.input_sizes[number], "quantization.x": str(self.quantization.h)}
        return self.replace(settings)

    @property
    def num_input_blocks(self) -> int:
        """Number of blocks of x."""
        return circulant.num_blocks(self.network.input_size, self.block_size)

    @property
    def num_hidden_blocks(self) -> int:
        """Number of blocks of hidden units of a layer, or of layers that share it: ⌈H/k⌉."""
        return circulant.num_blocks(self.network.units, self.block_size)

    @property
    def layer_hidden_blocks(self) -> tuple[int, ...]:
        """Number of blocks of hidden units of each layer: ⌈H/k⌉."""
        return tuple(circulant.num_blocks(size, self.block_size) for size in self.network.hidden_sizes)

    @property
    def layer_output_sizes(self) -> tuple[int, ...]:
        """Number of elements of h that each layer passes on in one direction: H, or P with a projection."""
        return tuple(self.network.projection_size or size for size in self.network.hidden_sizes)

    @property
    def output_size(self) -> int:
        """Number of elements of h that the last layer passes on in one direction: H, or P with a projection."""
        return self.layer_output_sizes[-1]

    @property
    def num_output_blocks(self) -> int:
        """Number of blocks of h that the last layer passes on in one direction: ⌈H/k⌉, or ⌈P/k⌉ with a projection."""
        return circulant.num_blocks(self.output_size, self.block_size)

    @property
    def stream_size(self) -> int:
        """Number of elements of the network's output per step: h of every direction."""
        return self.directions * self.output_size

    @property
    def num_stream_blocks(self) -> int:
        """Number of blocks of the network's output per step: h of every direction."""
        return self.directions * self.num_output_blocks

    @property
    def num_row_blocks(self) -> int:
        """Number p of block rows of W = [W_x | W_h] in the largest layer, one per gate and hidden block."""
        return self.num_gates * max(self.layer_hidden_blocks)

    @property
    def num_col_blocks(self) -> int:
        """Number q of block columns of the W of layer 0, those of x first."""
        return self.num_input_blocks + circulant.num_blocks(self.layer_output_sizes[0], self.block_size)

    @property
    def num_row_groups(self) -> int:
        """Number of row groups of a stage of the cell, in the smallest layer: ⌈p/R⌉ with the p of that stage."""
        return min(part.row_groups for part in self.parts if part.kind == CELL)

    @property
    def num_col_groups(self) -> int:
        """Number of column groups of layer 0: ⌈q/C⌉."""
        return self.parts[0].col_groups

    @property
    def num_banks(self) -> int:
        """Number of weight banks: R · C, one per processing element."""
        return self.architecture.tile_rows * self.architecture.tile_cols

    @property
    def banks_per_memory(self) -> int:
        """Number of weight banks that share a memory; the last memory may hold fewer."""
        width = self.architecture.memory_width or 0
        fitting = (width - (self.architecture.parity == "word")) // self.weight_word_bits
        return max(1, min(fitting, self.num_banks))

    @property
    def num_weight_memories(self) -> int:
        """Number of memories that hold the weight banks."""
        return -(-self.num_banks // self.banks_per_memory)

    @property
    def bank_words(self) -> int:
        """Number of words read from a weight bank per step, one block each: ⌈p/R⌉ · ⌈q/C⌉ over parts and directions."""
        return self.directions * sum(part.words for part in self.parts)

    @property
    def layer_weight_bits(self) -> tuple[int, ...]:
        """Width of the weights of each layer."""
        given = self.quantization.weight_bits
        return given if isinstance(given, tuple) else (given,) * self.network.num_layers

    @property
    def weight_bits(self) -> int:
        """Width of the weights of the widest layer, for which the banks and the datapath are built."""
        return max(self.layer_weight_bits)

    @property
    def weight_bits_text(self) -> str:
        """The width of the weights as text, with those of layers that differ one after the other: ``8-4``."""
        return layers_text(self.quantization.weight_bits)

    @property
    def layer_slots(self) -> tuple[int, ...]:
        """Number of words of each layer that a stored word of a weight bank holds."""
        return tuple(self.weight_bits // bits for bits in self.layer_weight_bits)

    @property
    def layer_bank_depths(self) -> tuple[int, ...]:
        """Number of stored words of a weight bank that each layer takes; it begins with a word of its own."""
        counts = [self.directions * sum(part.words for part in parts) for parts in self.layer_parts]
        return tuple(-(-words // slots) for words, slots in zip(counts, self.layer_slots, strict=True))

    @property
    def bank_depth(self) -> int:
        """Number of stored words of a weight bank: fewer than ``bank_words`` where layers are narrower than others."""
        return sum(self.layer_bank_depths)

    @property
    def weight_word_bits(self) -> int:
        """Number of bits of a stored word of a weight bank."""
        return self.block_size * self.weight_bits

    @property
    def element_bits(self) -> int:
        """Width of a vector element on its way to the multipliers: the wider of x and h."""
        return max(self.quantization.x.width, self.quantization.h.width)

    @property
    def cell_output(self) -> QFormat:
        """Format of the output of a cell: that of h, or with a projection as many bits, all but the sign fractional.

        The magnitude of a cell's output stays below 1, while that of the projected h is not bounded.
        """
        h = self.quantization.h
        return QFormat(1, h.width - 1) if self.network.projection_size else h

    @property
    def formats(self) -> dict[str, str]:
        """Formats of all quantization points of the cell, by name."""
        names = ("x", "h", "preact", "gate", "cell", *(("peephole",) if self.cell.peepholes else ()))
        return {name: str(getattr(self.quantization, name)) for name in names}

    # -- numerics ------------------------------------------------------------------------------------------

    @property
    def weight_min(self) -> int:
        """Least integer weight, of the widest layer."""
        return self._weight_interval(self.weight_bits).low

    @property
    def weight_max(self) -> int:
        """Greatest integer weight, of the widest layer."""
        return self._weight_interval(self.weight_bits).high

    def _weight_interval(self, bits: int) -> Interval:
        """Range of the integer weights with codes of ``bits`` bits."""
        half = 1 << (bits - 1)
        return Interval(1 - 2 * half, 2 * half - 1) if self.has_half_levels else Interval(-half, half - 1)

    @property
    def has_half_levels(self) -> bool:
        """Whether every weight is an odd integer, 2·q + 1 for the stored code q."""
        return self.quantization.weight_levels == "half"

    @property
    def weight_value_bits(self) -> int:
        """Width of an integer weight of the widest layer, which is that of its code or with half levels a bit more."""
        return self.weight_bits + self.has_half_levels

    @property
    def bias_format_min_max(self) -> tuple[int, int]:
        """Least and greatest integer bias."""
        half = 1 << (self.quantization.bias_bits - 1)
        return -half, half - 1

    @property
    def layer_weight_fracs(self) -> tuple[tuple[int, ...], ...]:
        """Fraction bits of W_h for each layer and gate."""
        rows = rows_by_layer(self.quantization.weight_frac)
        return rows if len(rows) > 1 else rows * self.network.num_layers

    @property
    def layer_projection_fracs(self) -> tuple[int, ...]:
        """Fraction bits of the weights of the projection of each layer; without meaning for other networks."""
        given = self.quantization.projection_frac
        return (given,) * self.network.num_layers if isinstance(given, int) else given

    @property
    def projection_frac(self) -> int:
        """Fraction bits of the weights of the projection of a layer, or of layers that share them."""
        given = self.quantization.projection_frac
        assert isinstance(given, int), "the layers have projections of their own scales"
        return given

    @property
    def layer_input_shifts(self) -> tuple[int, ...]:
        """Fraction bits that the products of W_x have more than those of W_h, for each layer."""
        given = self.quantization.input_shift
        return (given,) * self.network.num_layers if isinstance(given, int) else given

    @property
    def layer_sum_shifts(self) -> tuple[tuple[int, int], ...]:
        """Left shifts of W_x·x and of W_h·h before they are added, for each layer; at least one of the two is 0."""
        return tuple((max(0, -shift), max(0, shift)) for shift in self.layer_input_shifts)

    def part_shifts(self, part: Part) -> tuple[int, int]:
        """Left shifts of the sums over the early and over the late columns of a part before they are added."""
        if part.kind == PROJECTION:
            return 0, 0
        shift_x, shift_h = self.layer_sum_shifts[part.layer]
        return (shift_h, shift_x) if part.reads_input_last else (shift_x, shift_h)

    @property
    def sum_shifts(self) -> tuple[int, int]:
        """Left shifts of W_x·x and of W_h·h before they are added, in a layer, or in layers that share them."""
        assert isinstance(self.quantization.input_shift, int), "the layers have shifts of their own"
        return self.layer_sum_shifts[0]

    @property
    def layer_accumulator_fracs(self) -> tuple[tuple[int, ...], ...]:
        """Fraction bits of the accumulator for each layer and gate."""
        more, rows = self.quantization.h.fraction_bits, zip(self.layer_weight_fracs, self.layer_sum_shifts, strict=True)
        return tuple(tuple(frac + more + shift_h for frac in fracs) for fracs, (_, shift_h) in rows)

    @property
    def layer_preact_shifts(self) -> tuple[tuple[int, ...], ...]:
        """Right shift that rounds the accumulator to the format of the sum, for each layer and gate."""
        target = getattr(self.quantization, self.cell.sum_format).fraction_bits
        return tuple(tuple(frac - target for frac in fracs) for fracs in self.layer_accumulator_fracs)

    @property
    def has_row_scales(self) -> bool:
        """Whether the sum of every block row is multiplied by a scale of its own."""
        return self.quantization.weight_scale == "row"

    @property
    def scale_frac(self) -> int:
        """Number of fraction bits of the scales of block rows; 0 for a network without them."""
        return self.quantization.scale_bits - 1 if self.has_row_scales else 0

    @property
    def scale_min_max(self) -> tuple[int, int]:
        """Least and greatest scale of a block row; (1, 1) for a network without them."""
        return 1, (1 << self.quantization.scale_bits) - 1 if self.has_row_scales else 1

    @property
    def scale_storage_bits(self) -> int:
        """Number of bits of the scales of all block rows; 0 for a network without them."""
        rows = self.directions * self.num_gates * sum(self.layer_hidden_blocks)
        return rows * self.quantization.scale_bits if self.has_row_scales else 0

    @property
    def layer_sum_fracs(self) -> tuple[tuple[int, ...], ...]:
        """Fraction bits of the sums that are rounded, scales included, for each layer and gate."""
        return tuple(tuple(frac + self.scale_frac for frac in fracs) for fracs in self.layer_accumulator_fracs)

    @property
    def sum_fracs(self) -> tuple[int, ...]:
        """Fraction bits of the sums that are rounded, for each gate of a layer, or of layers that share them."""
        return self._of_all_layers(self.layer_sum_fracs)

    def _of_all_layers(self, rows: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The row that all layers share; layers that differ are asked one by one (:meth:`layer`)."""
        assert len(set(rows)) == 1, "the layers have scales of their own"
        return rows[0]

    @property
    def weight_fracs(self) -> tuple[int, ...]:
        """Fraction bits of W_h for each gate of a layer, or of layers that share them."""
        return self._of_all_layers(self.layer_weight_fracs)

    @property
    def accumulator_fracs(self) -> tuple[int, ...]:
        """Fraction bits of the accumulator for each gate of a layer, or of layers that share them."""
        return self._of_all_layers(self.layer_accumulator_fracs)

    @property
    def input_weight_fracs(self) -> tuple[int, ...]:
        """Fraction bits of the W_x of layer 0 for each gate."""
        more = self.quantization.h.fraction_bits - self.quantization.x.fraction_bits + self.layer_input_shifts[0]
        return tuple(frac + more for frac in self.layer_weight_fracs[0])

    @property
    def preact_shifts(self) -> tuple[int, ...]:
        """Right shift that rounds the accumulator to the format of the sum (usually preact), for each gate."""
        return self._of_all_layers(self.layer_preact_shifts)

    @property
    def product_sum_interval(self) -> Interval:
        """Range of every row of a matrix product in any layer: of W_x·x + W_h·h, and of the projection."""
        network, x, h = self.network, format_interval(self.quantization.x), format_interval(self.quantization.h)
        inputs, own, widths = self.input_sizes, self.layer_output_sizes, self.layer_weight_bits
        # What the sums over the input and over the layer's own h are multiplied by.
        (of_input, of_own), *factors = ((1 << shift_x, 1 << shift_h) for shift_x, shift_h in self.layer_sum_shifts)
        matrices = [(widths[0], [(network.input_size, x.times(of_input)), (own[0], h.times(of_own))])]
        # Layers of equal sizes, widths and shifts have equal ranges.
        above = set(zip(widths[1:], inputs[1:], own[1:], factors, strict=True))
        matrices += [
            (bits, [(below, h.times(of_input)), (size, h.times(of_own))])
            for bits, below, size, (of_input, of_own) in above
        ]
        if network.projection_size:
            matrices.append((self.weight_bits, [(network.units, format_interval(self.cell_output))]))
        return union([products_interval(self._weight_interval(bits), columns) for bits, columns in matrices])

    @property
    def product_sum_bits(self) -> int:
        """Width of W_x·x + W_h·h: as given for the accumulator, or the narrowest that cannot overflow."""
        return self.quantization.accumulator_bits or self.product_sum_interval.bits

    @property
    def min_accumulator_bits(self) -> int:
        """Width that no sum of products and bias can overflow; a given accumulator is at least as wide."""
        return accumulator_sum_bits(self._accumulator_interval)

    @property
    def _accumulator_interval(self) -> Interval:
        return biased_interval(self.product_sum_interval, self.quantization.bias_bits)

    @property
    def scaled_interval(self) -> Interval:
        """Range of the sum of products and bias, multiplied by the scale of its block row where there is one."""
        return product_interval(self._accumulator_interval, Interval(*self.scale_min_max))

    @property
    def accumulator_bits(self) -> int:
        """Width of the accumulator (products and bias summed)."""
        return self.quantization.accumulator_bits or self.min_accumulator_bits

    def _peephole_sum_bits(self, gate: int) -> int:
        """Width of the sum of a gate and its peephole product at their common scale, rounding constant included."""
        q, sums = self.quantization, self.scaled_interval
        fracs = {fracs[gate] for fracs in self.layer_sum_fracs}
        return max(peephole_sum_interval(sums, frac, q.peephole, q.cell, q.preact).bits for frac in fracs)

    @property
    def cell_sums(self) -> dict[str, RoundedTerms]:
        """The rounded sums of the cell update by name; see ``chessrnn.model.widths.sums.cell_sums``."""
        q = self.quantization
        return cell_sums(self.network.cell, q.preact, q.gate, q.cell, self.cell_output)

    def gate_table(self, gate: int) -> ActivationTable:
        """Table of the activation of gate number ``gate``, which must have one."""
        function = self.cell.gates[gate].function
        assert function is not None
        return self._table(function, self.quantization.preact)

    @property
    def cell_table(self) -> ActivationTable:
        """Table of the tanh that is applied to the cell state."""
        return self._table("tanh", self.quantization.cell)

    @property
    def candidate_table(self) -> ActivationTable:
        """Table of the tanh that gives the candidate of a GRU."""
        return self._table("tanh", self.quantization.preact)

    def _table(self, function: str, in_format: QFormat) -> ActivationTable:
        kind, segments = self.activation.kind, self.activation.segments
        return activation_table(function, kind, segments, in_format, self.quantization.gate)

    # -- bytes ---------------------------------------------------------------------------------------------

    @property
    def weight_bytes(self) -> int:
        """Number of bytes of the compressed weights (padding and scales of rows included, biases not)."""
        words = 0
        for parts, slots in zip(self.layer_parts, self.layer_slots, strict=True):
            # The rows that only fill the last bundle of a projection are not counted.
            rows = (
                (part.output_blocks if part.kind == PROJECTION else part.row_blocks) * part.blocks for part in parts
            )
            words += -(-self.directions * sum(rows) // slots)
        return -(-(words * self.weight_word_bits + self.scale_storage_bits) // 8)

    @property
    def dense_float_bytes(self) -> int:
        """Number of bytes of the weights of the same network in dense float32 (biases not included)."""
        return 4 * self.dense_weights

    @property
    def dense_weights(self) -> int:
        """Number of weights of the same network without compression.

        A gate that reads only x or only h has no weights for the other.
        """
        below = (self.network.input_size, *(self.directions * size for size in self.layer_output_sizes[:-1]))
        projected, total = self.network.projection_size, 0
        for size, size_h, size_x in zip(self.network.hidden_sizes, self.layer_output_sizes, below, strict=True):
            total += sum(size * (gate.reads_x * size_x + gate.reads_h * size_h) for gate in self.cell.gates)
            total += projected * size
        return self.directions * total

    # -- conversion ----------------------------------------------------------------------------------------

    def to_dict(self) -> dict:
        """The configuration as plain JSON values, with formats as strings."""
        return to_plain(self)

    def to_json(self) -> str:
        """The configuration as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict) -> "Config":
        """Inverse of :meth:`to_dict`; unknown keys and wrong types are rejected with a message that names the field."""
        return from_plain(cls, values, "")

    @property
    def fingerprint(self) -> str:
        """Digest of 16 hexadecimal digits that identifies this design point (the name does not count)."""
        return _digest({key: value for key, value in self._identity().items() if key != "name"})

    @property
    def model_fingerprint(self) -> str:
        """Digest of 16 hexadecimal digits that identifies only the numerics: it is equal for every architecture."""
        values = self._identity()
        del values["quantization"]["accumulator_bits"]
        return _digest({key: value for key, value in values.items() if key not in ("name", "architecture")})

    def _identity(self) -> dict:
        """The fields that fingerprints cover: those with a meaning for this network.

        A field that a network has no use for, or whose default turns a feature off, is left out.  So the fingerprint
        of a design stays the same when a version adds a feature.
        """
        values = self.to_dict()
        if not self.cell.peepholes:
            del values["quantization"]["peephole"]
        if not any(self.layer_input_shifts):
            del values["quantization"]["input_shift"]
        if not self.has_half_levels:
            del values["quantization"]["weight_levels"]
        if not self.has_row_scales:
            del values["quantization"]["weight_scale"], values["quantization"]["scale_bits"]
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
        if self.architecture.weight_memory == "rom":
            del values["architecture"]["weight_memory"]
        if self.banks_per_memory == 1:
            del values["architecture"]["memory_width"]
        if self.architecture.parity == "none":
            del values["architecture"]["parity"]
        if not self.architecture.monitor:
            del values["architecture"]["monitor"]
        for name in ("issue_register", "forward_levels", "shared_inverse", "multiplier_register", "cell_register"):
            if not values["architecture"]["pipeline"][name]:
                del values["architecture"]["pipeline"][name]
        if self.compression.output_block_size == 1:
            del values["compression"]["output_block_size"]
        return values

    def replace(self, settings: Mapping[str, object]) -> "Config":
        """Copy with some fields replaced by plain values, by dotted name: ``{"architecture.tile_rows": 8}``."""
        values = self.to_dict()
        for path, value in settings.items():
            assign(values, path, value)
        return Config.from_dict(values)


def _digest(values: dict) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_config(path: str | Path) -> Config:
    """Read a ``.json`` or ``.toml`` configuration file, or the ``config.json`` of a build folder.

    Raises
    ------
    InvalidFileError
        The file cannot be read, or it is of a build and its fingerprint is not that of its configuration.
    InvalidTypeError, InvalidValueError
        A field is unknown, missing or wrong.
    """
    path = Path(path)
    values = read_toml(path) if path.suffix == ".toml" else read_json(path, MAX_CONFIG_BYTES)
    if not isinstance(values, dict) or not BUILD_FIELDS <= values.keys():
        return Config.from_dict(values)
    config = Config.from_dict(values["config"])
    if values["configuration"] != config.fingerprint:
        stated = shown(values["configuration"])
        raise InvalidFileError(f"{path}: configuration must be {config.fingerprint}, its fingerprint, not {stated}")
    return config
