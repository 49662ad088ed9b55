"""What a configuration costs in multipliers and memory, counted without building any hardware."""

from chessrnn.model.bilinear import num_products
from chessrnn.model.config import Config
from chessrnn.model.memory_image import initialised_memories, state_memories
from chessrnn.model.schedule import Schedule


def products_per_block(config: Config) -> int:
    """Multipliers of one processing element, which takes a block per cycle."""
    k = config.block_size
    return num_products(k) if config.architecture.engine == "fast" else k * k


def matvec_multipliers(config: Config) -> int:
    """Multipliers of all R · C processing elements."""
    return config.num_banks * products_per_block(config)


def cell_multipliers(config: Config) -> int:
    """Multipliers of the activations and the cell update."""
    # Slope · offset, which activations of kind "shift" do without.
    per_lane = config.cell.products + (config.cell.num_activations if config.activation.kind == "pwl" else 0)
    return Schedule(config).cell_lanes * per_lane


def output_multipliers(config: Config) -> int:
    """Multipliers of the output layer, if there is one on chip."""
    plan = config.output_plan
    return plan.lanes * config.block_size if plan else 0


def multipliers(config: Config) -> int:
    """All multipliers of the accelerator."""
    return matvec_multipliers(config) + cell_multipliers(config) + output_multipliers(config)


def macs_per_cycle(config: Config) -> int:
    """Multiply–accumulates of the uncompressed network that a cycle does: R · C · k²."""
    return config.num_banks * config.block_size**2


def memory_bits(config: Config) -> dict[str, int]:
    """Bits of every memory by name, initialised ones first."""
    return {spec.name: spec.bits for spec in (*initialised_memories(config), *state_memories(config))}
