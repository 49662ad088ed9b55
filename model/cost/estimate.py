"""Area estimate of a configuration without synthesis, by which the design-space exploration compares designs.

Logic is counted structurally (multipliers, adders and registers with their proven widths) and converted to gate
equivalents (NAND2) with a few coefficients, which were measured with Yosys and ABC on an open 45 nm library.  Memories
follow the model of ``chessrnn.model.cost.area``, whose fixed area per macro makes many small banks expensive.
``chessrnn synth`` measures the real figure.
"""

from dataclasses import dataclass

from chessrnn.model.config import Config
from chessrnn.model.cost.area import logic_area_90nm, macro_word_bits, memory_area_90nm
from chessrnn.model.load_layout import CHUNK_BITS, load_layout
from chessrnn.model.memory_image import (
    initialised_memories,
    parameter_memories,
    parity_bits,
    state_memories,
    stored_spec,
)
from chessrnn.model.schedule import (
    Schedule,
    adder_tree_latency,
    forward_transform_latency,
    inverse_transform_latency,
    joined_sums,
    operand_registers,
    rounding_registers,
)
from chessrnn.model.shared_words import word_slots
from chessrnn.model.widths.hardware import hardware_widths
from chessrnn.model.widths.sums import num_digits

# Gate equivalents per bit; those of a multiplier per bit of one operand and bit of the other.
GE_MULTIPLIER = 8.5
GE_ADDER = 7.0
GE_REGISTER = 5.7
GE_ENABLED_REGISTER = 8.0
GE_MULTIPLEXER = 2.3
# A bit of a Booth row is a selection and the full adder that compresses it.
GE_BOOTH_BIT = 8.6
GE_FULL_ADDER = 5.2
GE_XOR = 2.5
# Bits per column of a sum in carry-save form: not every column has a second one.
SUM_BITS = 1.4
# Bits of a word whose parity is registered together, and inputs of a bit of a CRC-32 of 32 bits, on average.
PARITY_GROUP, CRC_INPUTS = 8, 16


@dataclass(frozen=True)
class AreaEstimate:
    """The estimated gate equivalents of each part of the accelerator, and areas at 90 nm.

    Attributes
    ----------
    processing_elements, transforms, accumulators, drain, cell_update : float
        Gate equivalents of the part.
    memory_um2 : float
        Area of all memories at 90 nm in µm², by the model of ``chessrnn.model.cost.area``.
    parity, loader : float
        Gate equivalents of the parity of the memories, and of the loader of weights, where there are any.
    """

    processing_elements: float
    transforms: float
    accumulators: float
    drain: float
    cell_update: float
    memory_um2: float
    parity: float = 0.0
    loader: float = 0.0

    @property
    def gate_equivalents(self) -> float:
        """Gate equivalents of all logic."""
        core = self.processing_elements + self.transforms + self.accumulators + self.drain + self.cell_update
        return core + self.parity + self.loader

    @property
    def logic_um2(self) -> float:
        """Area of the logic at 90 nm in µm², utilisation included."""
        return logic_area_90nm(self.gate_equivalents)

    @property
    def total_mm2(self) -> float:
        """Area of logic and memories at 90 nm in mm²."""
        return (self.logic_um2 + self.memory_um2) / 1e6


def _negacyclic_adders(size: int, factor: int) -> int:
    """Number of adders of nested Karatsuba: ``factor`` half-size additions per level, then three halves."""
    return 0 if size == 1 else factor * size // 2 + 3 * _negacyclic_adders(size // 2, factor)


def transform_adders(block_size: int, inverse: bool) -> int:
    """Number of adders of the forward or the inverse transform of a block."""
    if block_size == 1:
        return 0
    half = block_size // 2
    return block_size + transform_adders(half, inverse) + _negacyclic_adders(half, 3 if inverse else 1)


def _tree(terms: int, width: int, levels: int) -> float:
    """Gate equivalents of an adder tree over ``terms`` operands of ``width`` bits, registers included."""
    adders = (terms - 1) * (width + 1) * GE_ADDER
    stages = adder_tree_latency(terms, levels)
    remaining, registers = terms, 0
    for _ in range(stages):
        remaining = max(1, -(-remaining // (1 << levels)))
        registers += remaining * (width + 2)
    return adders + registers * GE_REGISTER


def _weight_stage(config: Config) -> float:
    """Gate equivalents of the path of a block of weights from its bank to the products."""
    pipe, bits = config.architecture.pipeline, config.weight_bits
    area = pipe.memory_register * config.weight_word_bits * GE_REGISTER
    area += pipe.operand_register * sum(hardware_widths(config).weight_factors) * GE_REGISTER
    # The multiplexer of layers with narrower weights than others.
    area += (len(word_slots(config.layer_weight_bits)) - 1) * config.weight_word_bits * GE_MULTIPLEXER
    if config.architecture.engine == "fast":
        area += transform_adders(config.block_size, False) * (bits + 2) * GE_ADDER
        area += _forward_registers(config) * sum(hardware_widths(config).weight) * GE_REGISTER
    return area


def _forward_registers(config: Config) -> int:
    """Registers inside a forward transform; each holds about as many bits as the forms."""
    return forward_transform_latency(config.block_size, config.architecture.pipeline.forward_levels)


def _multiplier_products(config: Config) -> tuple[float, float]:
    """Gate equivalents of the multipliers of a processing element, and of the adder trees of a tile row."""
    arch, widths, pipe = config.architecture, hardware_widths(config), config.architecture.pipeline
    per_value = list(zip(widths.weight, widths.operand, strict=True))
    pairs = per_value * widths.terms
    products = sum(a * b for a, b in pairs) * GE_MULTIPLIER
    products += (pipe.multiplier_stages + operand_registers(config)) * sum(a + b for a, b in pairs) * GE_REGISTER
    if widths.terms > 1:
        products += sum(_tree(widths.terms, a + b, pipe.adder_levels) for a, b in per_value)
    return products, sum(_tree(arch.tile_cols, width, pipe.adder_levels) for width in widths.partial)


def _carry_save_products(config: Config) -> tuple[float, float]:
    """Gate equivalents of the Booth rows of a processing element, and of the compression of a tile row."""
    arch, widths = config.architecture, hardware_widths(config)
    group = arch.pipeline.compressor_terms
    products = sums = 0.0
    for weight, operand, of_weight in zip(widths.weight, widths.operand, widths.recodes_weights, strict=True):
        multiplicand, multiplier = (operand, weight) if of_weight else (weight, operand)
        products += widths.terms * num_digits(multiplier) * (multiplicand + 1) * GE_BOOTH_BIT
        groups, width = -(-arch.tile_cols * widths.terms // group), weight + operand + 3
        sums += SUM_BITS * groups * width * GE_REGISTER
        while groups > 1:
            joins = -(-groups // joined_sums(group))
            sums += SUM_BITS * width * ((groups - joins) * GE_FULL_ADDER + joins * GE_REGISTER)
            groups = joins
        # One carry-propagating adder joins the two words with the accumulator.
        sums += width * GE_ADDER
    return products, sums


def parity_gates(config: Config) -> float:
    """Gate equivalents of the parity of all memories: XOR trees of words that are read and that are written."""
    if not parity_bits(config):
        return 0.0
    checks = [*initialised_memories(config), *state_memories(config)]
    xors = sum(spec.width for spec in (*checks, *state_memories(config)))
    return xors * GE_XOR + sum(spec.width / PARITY_GROUP + 3 for spec in checks) * GE_REGISTER


def loader_gates(config: Config) -> float:
    """Gate equivalents of the loader of weights: the word that it collects, its address, and the CRC."""
    if config.architecture.weight_memory == "rom":
        return 0.0
    layout = load_layout(config)
    collected = max(map(layout.chunks, layout.memories)) * CHUNK_BITS
    crc = CHUNK_BITS * (CRC_INPUTS * GE_XOR + GE_ENABLED_REGISTER + GE_MULTIPLEXER)
    address = layout.address_bits * (2 * GE_ADDER + GE_ENABLED_REGISTER)
    return collected * GE_ENABLED_REGISTER + crc + address + len(layout.memories) * layout.memory_bits


def estimate(config: Config) -> AreaEstimate:
    """Estimate the area of one design point."""
    arch, q, k = config.architecture, config.quantization, config.block_size
    pipe, widths, schedule = arch.pipeline, hardware_widths(config), Schedule(config)
    rows, cols = arch.tile_rows, arch.tile_cols
    fast = arch.engine == "fast"
    products, row_sums = (_carry_save_products if arch.arithmetic == "carry_save" else _multiplier_products)(config)
    element = _weight_stage(config) + products

    stage = pipe.memory_register * k * config.element_bits * GE_REGISTER
    stage += pipe.operand_register * sum(widths.operand_factors) * GE_REGISTER
    inverse = 0.0
    if fast:
        stage += transform_adders(k, False) * (config.element_bits + 2) * GE_ADDER
        stage += _forward_registers(config) * sum(widths.operand) * GE_REGISTER
        per_block = transform_adders(k, True) * (config.product_sum_bits + 2) * GE_ADDER
        held = 1 + inverse_transform_latency(k, pipe.inverse_levels)
        kept = k * config.product_sum_bits * GE_ENABLED_REGISTER
        inverse = config.bundle_rows * (per_block + held * kept)
        if pipe.shared_inverse:
            inverse = per_block + (config.bundle_rows + held - 1) * kept
            inverse += (config.bundle_rows - 1) * sum(widths.sum) * GE_MULTIPLEXER

    parked = schedule.lookahead if schedule.lookahead > 1 else 0
    accumulator = row_sums
    accumulator += sum(widths.sum) * (GE_ADDER + GE_ENABLED_REGISTER + GE_MULTIPLEXER)
    accumulator += parked * sum(widths.sum) * GE_ENABLED_REGISTER
    if any(config.layer_input_shifts):
        # The words that are added are shifted, or not.
        words = 2 if arch.arithmetic == "carry_save" else 1
        accumulator += words * sum(widths.sum) * GE_MULTIPLEXER

    drain = (rows + config.bundle_rows - 1) * sum(widths.sum) * (GE_ENABLED_REGISTER + 2 * GE_MULTIPLEXER)
    drain += config.bundle_rows * schedule.cell_lanes * config.product_sum_bits * (GE_REGISTER + k * GE_MULTIPLEXER)

    # One product has the state as an operand; the others are counted as products of two gates.
    others = config.cell.products - 1
    products = q.gate.width * (q.cell.width + others * q.gate.width) if config.cell.products else 0
    lane = products * GE_MULTIPLIER + 8 * config.product_sum_bits * GE_ADDER + 12 * q.cell.width * GE_REGISTER
    activated = pipe.cell_register * config.cell.num_activations * (q.preact.width + q.gate.width)
    settled = rounding_registers(config) * config.cell.roundings[2] * (q.gate.width + q.cell.width)
    lane += (activated + settled) * GE_REGISTER
    if config.has_row_scales:
        # The product of a sum and its scale, in carry-save form, and the register in front of it.
        scaled = config.accumulator_bits * q.scale_bits * GE_MULTIPLIER
        lane += config.bundle_rows * (scaled + 2 * widths.scaled_sum[0] * GE_REGISTER)
    per_bit = 10 * GE_MULTIPLIER if config.activation.kind == "pwl" else 20
    tables = config.cell.num_activations * q.gate.width * per_bit
    # All memories of weights have the same size, except the last one, so one is computed and multiplied.
    widest, memory = macro_word_bits(config), 0.0
    full, rest = divmod(config.num_banks, config.banks_per_memory)
    for count, banks in ((full, config.banks_per_memory), (int(rest > 0), rest)):
        width = banks * config.weight_word_bits + parity_bits(config)
        memory += count * memory_area_90nm(width, config.bank_depth, two_port=False, word_bits=widest)[0]
    parameters = [stored_spec(config, spec) for spec in parameter_memories(config)]
    for specs, two_port in ((parameters, False), (state_memories(config), True)):
        memory += sum(memory_area_90nm(spec.width, spec.depth, two_port, widest)[0] for spec in specs)
    return AreaEstimate(
        processing_elements=rows * cols * element,
        transforms=cols * stage + inverse,
        accumulators=rows * accumulator,
        drain=drain,
        cell_update=schedule.cell_lanes * (lane + tables + sum(spec.width for spec in parameters)),
        memory_um2=memory,
        parity=parity_gates(config),
        loader=loader_gates(config),
    )
