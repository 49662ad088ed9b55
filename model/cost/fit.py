"""Estimates of the FPGA resources of a design point without synthesis, and the largest networks that fit a part."""

from dataclasses import dataclass

from chessrnn.model.boards import FpgaPart
from chessrnn.model.config import Config
from chessrnn.model.cost.estimate import estimate
from chessrnn.model.cost.resources import multipliers
from chessrnn.model.errors import UserError
from chessrnn.model.memory_image import initialised_memories, state_memories


@dataclass(frozen=True)
class Measured:
    """A synthesized design point, from which other design points on the same part are estimated.

    Attributes
    ----------
    config : Config
        Configuration of the synthesized design.
    used : dict of str to int
        Measured numbers of ``luts``, ``ffs``, ``brams`` and ``dsps``.
    part : FpgaPart
        The FPGA.
    """

    config: Config
    used: dict
    part: FpgaPart

    def estimate(self, config: Config) -> dict:
        """Estimate the resources of another design point: LUTs in proportion to its area estimate, the rest counted."""
        ratio = _logic(config, self.part) / _logic(self.config, self.part)
        brams = self.used["brams"] + block_rams(config, self.part) - block_rams(self.config, self.part)
        return {
            "luts": round(self.used["luts"] * ratio),
            "brams": max(0, brams),
            "dsps": multiplier_blocks(config, self.part),
        }

    def fits(self, config: Config) -> bool:
        """Whether a design point fits the part by the estimate, with some room for the placer."""
        need = self.estimate(config)
        return need["luts"] <= FILL * self.part.luts and all(
            need[name] <= getattr(self.part, name) for name in ("brams", "dsps")
        )


# Share of used LUTs beyond which placement and routing take long and the clock becomes slow.
FILL = 0.9
# Number of bits below which a memory becomes distributed RAM or logic.
LEAST_BLOCK_BITS = 2048


def multiplier_blocks(config: Config, part: FpgaPart) -> int:
    """Number of multipliers that become hard multipliers: all of them, if the part has any."""
    return multipliers(config) if part.dsps else 0


def block_rams(config: Config, part: FpgaPart) -> int:
    """Number of block RAMs for the memories of the accelerator."""
    total = 0
    for spec in (*initialised_memories(config), *state_memories(config)):
        if spec.bits >= LEAST_BLOCK_BITS:
            total += min(-(-spec.depth // words) * -(-spec.width // bits) for words, bits in part.bram_shapes)
    return total


def _logic(config: Config, part: FpgaPart) -> float:
    area = estimate(config)
    elements = area.processing_elements
    if part.dsps:
        # The products become hard multipliers, so only the transform of the weights and registers are left.
        elements *= 0.25
    return elements + area.transforms + area.accumulators + area.drain + area.cell_update + LINK_GATES


# Gate equivalents of the host link (some 800 LUTs), which does not depend on the network.
LINK_GATES = 8000.0


def variants(config: Config) -> list[tuple[str, dict]]:
    """Changes that make a design smaller, each as the name of a field and the settings.

    They are smaller tiles, other block sizes, fewer hidden units and narrower weights.
    """
    arch, network, k = config.architecture, config.network, config.block_size
    found = []
    tiles = sorted(
        {
            (rows, cols)
            for rows in range(1, arch.tile_rows + 1)
            for cols in range(1, arch.tile_cols + 1)
            if rows * cols < arch.tile_rows * arch.tile_cols
        },
        key=lambda tile: (-tile[0] * tile[1], tile[1]),
    )
    for rows, cols in tiles:
        found.append(("architecture.tile_rows", {"architecture.tile_rows": rows, "architecture.tile_cols": cols}))
    one = {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.lookahead": None}
    lanes = {"architecture.cell_lanes": 1}
    found += [
        ("compression.block_size", {"compression.block_size": size, **one, **lanes})
        for size in (16, 8, 4, 2)
        if size != k
    ]
    found += [
        ("network.hidden_size", {"network.hidden_size": size, **one, **lanes})
        for size in range(max(network.hidden_sizes) - 8, 0, -8)
        if len(set(network.hidden_sizes)) == 1
    ]
    found += [
        ("quantization.weight_bits", {"quantization.weight_bits": bits, **one, **lanes})
        for bits in range(config.weight_bits - 1, 1, -1)
    ]
    return found


def remedies(measured: Measured) -> list[dict]:
    """Settings of the first variant of each kind that fits the part by the estimate."""
    found: dict[str, dict] = {}
    for kind, settings in variants(measured.config):
        if kind in found:
            continue
        try:
            candidate = measured.config.replace(settings)
        except UserError:
            continue  # an impossible combination
        if measured.fits(candidate):
            found[kind] = settings
    return list(found.values())


# Values that the search for the largest network tries.
FIT_BLOCK_SIZES = (2, 4, 8, 16)
FIT_WEIGHT_BITS = (8, 4)
FIT_HIDDEN_STEP = 16
FIT_MOST_HIDDEN = 8192
FIT_MOST_BANKS = 64


def largest(measured: Measured, block_size: int, weight_bits: int) -> Config | None:
    """Find the largest hidden size that fits by the estimate, and then the largest tile; ``None`` if nothing fits.

    Parameters
    ----------
    measured : Measured
        A synthesized design on the part; its input size and formats are kept.
    block_size : int
        k of the network.
    weight_bits : int
        Width of a weight.
    """
    small = {
        "compression.block_size": block_size,
        "quantization.weight_bits": weight_bits,
        "architecture.tile_rows": 1,
        "architecture.tile_cols": 1,
        # Deriving these two fields would need the schedule of every candidate.
        "architecture.lookahead": 1,
        "architecture.cell_lanes": 1,
    }

    def fitting(hidden: int, **tile: int) -> Config | None:
        changed = {"network.hidden_size": hidden, **{f"architecture.{name}": value for name, value in tile.items()}}
        try:
            config = measured.config.replace({**small, **changed})
        except UserError:
            return None  # an impossible combination
        return config if measured.fits(config) else None

    fits, fails = 0, FIT_MOST_HIDDEN // FIT_HIDDEN_STEP + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if fitting(middle * FIT_HIDDEN_STEP) is None:
            fails = middle
        else:
            fits = middle
    if not fits:
        return None
    hidden = fits * FIT_HIDDEN_STEP
    tiles = [(rows, banks // rows) for banks in range(FIT_MOST_BANKS, 0, -1) for rows in range(1, banks + 1)
             if banks % rows == 0]  # fmt: skip
    # Among the tiles with the same number of banks, the one with the fewest cycles wins.
    best = None
    for rows, cols in tiles:
        if best is not None and rows * cols < best.num_banks:
            break
        found = fitting(hidden, tile_rows=rows, tile_cols=cols)
        if found is not None and (best is None or found.bank_words < best.bank_words):
            best = found
    return best
