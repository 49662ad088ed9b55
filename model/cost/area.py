"""Silicon area from counts alone: the 90 nm equivalent, memory macros, and figures beside the paper's.

Nothing here needs a tool, so a search over design points can call it.
"""

from dataclasses import dataclass

from chessrnn.model.config import Config
from chessrnn.model.memory_image import MemorySpec, initialised_memories, state_memories

# -- the 90 nm equivalent ----------------------------------------------------------------------------------------

NAND2_AREA_90NM = 2.8  # µm²
UTILISATION = 0.7
# What may be expected of placement, and how far apart four libraries are for one 16 × 16 multiply-accumulate.
UTILISATION_RANGE = (0.6, 0.8)
LIBRARY_SPREAD = (3489 - 3120) / (3489 + 3120)

SRAM_WORD_BITS = 64
# A memory this small is an array of latches or flip-flops rather than a macro: one bit with its share of the
# write enables and the read multiplexer.
CELL_ARRAY_NAND2_PER_BIT = 8.0
# A bit cell with a second port, counted in bit cells of one port.
TWO_PORT_FACTOR = 2.0

CLOCK_HZ = 600e6


@dataclass(frozen=True)
class SramModel:
    """Area of an SRAM macro of 64-bit words: ``fixed + per_bit · bits`` µm².

    A wider word takes several macros side by side; a memory with a read and a write port pays
    :data:`TWO_PORT_FACTOR` for its bits; where an array of standard cells is smaller, it is one.
    """

    name: str
    fixed: float
    per_bit: float

    def macro_area(self, width: int, depth: int, two_port: bool = False) -> float:
        """µm² of the macros of a memory."""
        per_bit = self.per_bit * (TWO_PORT_FACTOR if two_port else 1.0)
        return -(-width // SRAM_WORD_BITS) * self.fixed + per_bit * width * depth

    def area(self, width: int, depth: int, two_port: bool, nand2_area: float) -> tuple[float, str]:
        """µm² of a memory and what it is made of, ``"macro"`` or ``"cell array"``.

        Parameters
        ----------
        nand2_area : float
            µm² of layout per NAND2 equivalent, utilisation included.
        """
        macro = self.macro_area(width, depth, two_port)
        cells = CELL_ARRAY_NAND2_PER_BIT * width * depth * nand2_area
        return (cells, "cell array") if cells < macro else (macro, "macro")

    def describe(self) -> str:
        """The formula in words."""
        return f"{self.name}: {self.fixed:,.0f} + {self.per_bit:.3f} x bits um2 per macro of {SRAM_WORD_BITS}-bit words"


SRAM_90NM = SramModel("90 nm", 16000.0, 1.53)
SRAM_IHP130 = SramModel("IHP 130 nm", 36259.0, 3.474)


def scaled_sram(name: str, nand2_area: float) -> SramModel:
    """The 90 nm model scaled by the area of a NAND2, for a library that comes without macros."""
    scale = nand2_area / NAND2_AREA_90NM
    return SramModel(f"90 nm model scaled by the NAND2 of {name}", SRAM_90NM.fixed * scale, SRAM_90NM.per_bit * scale)


def logic_area_90nm(nand2: float) -> float:
    """µm² in 90 nm of logic given in NAND2 equivalents."""
    return nand2 * NAND2_AREA_90NM / UTILISATION


def logic_area_90nm_range(nand2: float) -> tuple[float, float]:
    """Least and greatest µm² in 90 nm that placement and the choice of library leave open."""
    area = nand2 * NAND2_AREA_90NM
    return area * (1 - LIBRARY_SPREAD) / UTILISATION_RANGE[1], area * (1 + LIBRARY_SPREAD) / UTILISATION_RANGE[0]


def memory_area_90nm(width: int, depth: int, two_port: bool) -> tuple[float, str]:
    """µm² in 90 nm of a memory, and what it is made of."""
    return SRAM_90NM.area(width, depth, two_port, NAND2_AREA_90NM / UTILISATION)


def memories(config: Config) -> list[tuple[MemorySpec, bool]]:
    """Every memory of the design, and whether it has a read and a write port."""
    return [(spec, False) for spec in initialised_memories(config)] + [(spec, True) for spec in state_memories(config)]


# -- work --------------------------------------------------------------------------------------------------------


def operations_per_step(config: Config) -> int:
    """Operations of the uncompressed network: a multiplication and an addition per weight of the dense matrix."""
    return 2 * config.dense_weights


def tera_operations(config: Config, cycles: int, clock_hz: float = CLOCK_HZ) -> float:
    """TOPS counted on the uncompressed network.

    Parameters
    ----------
    cycles : int
        Cycles per step, sustained.
    """
    return operations_per_step(config) * clock_hz / cycles / 1e12


@dataclass(frozen=True)
class PublishedDesign:
    """Figures of a published accelerator."""

    name: str
    node_nm: int
    step_us: float
    tops: float
    on_chip_kilobytes: float
    area_mm2: float

    @property
    def tops_per_mm2(self) -> float:
        """TOPS per mm²."""
        return self.tops / self.area_mm2


PAPER = PublishedDesign("Wang, Lin, Wang 2017", 90, 1.71, 2.46, 518.5, 30.77)
