"""The numbers of multipliers and memory bits of a configuration, counted without building any hardware."""

from chessrnn.model.bilinear import num_products
from chessrnn.model.config import Config
from chessrnn.model.memory_image import initialised_memories, state_memories
from chessrnn.model.schedule import Schedule


def products_per_block(config: Config) -> int:
    """Number of multipliers of one processing element, which works on one block per cycle."""
    k = config.block_size
    return num_products(k) if config.architecture.engine == "fast" else k * k


def matvec_multipliers(config: Config) -> int:
    """Number of multipliers of all R · C processing elements."""
    return config.num_banks * products_per_block(config)


def cell_multipliers(config: Config) -> int:
    """Number of multipliers of the activations and the cell update."""
    # An activation multiplies slope and offset, except those of kind "shift".
    per_lane = config.cell.products + (config.cell.num_activations if config.activation.kind == "pwl" else 0)
    # A scale of a block row is another factor of the sum of each gate.
    per_lane += config.bundle_rows * config.has_row_scales
    return Schedule(config).cell_lanes * per_lane


def output_multipliers(config: Config) -> int:
    """Number of multipliers of the output layer on chip; 0 for a network without one."""
    plan = config.output_plan
    return plan.lanes * config.block_size if plan else 0


def multipliers(config: Config) -> int:
    """Number of all multipliers of the accelerator."""
    return matvec_multipliers(config) + cell_multipliers(config) + output_multipliers(config)


def macs_per_cycle(config: Config) -> int:
    """Number of multiply-accumulates of the uncompressed network per cycle: R · C · k²."""
    return config.num_banks * config.block_size**2


def memory_bits(config: Config) -> dict[str, int]:
    """Number of bits of every memory by name, initialised ones first."""
    return {spec.name: spec.bits for spec in (*initialised_memories(config), *state_memories(config))}
