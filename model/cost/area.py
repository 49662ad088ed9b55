"""Silicon area computed from counts: the 90 nm equivalent, memory macros, and figures to compare with the paper.

Nothing here needs a synthesis tool, so a search over design points can use it.
"""

from collections import Counter
from dataclasses import dataclass

from chessrnn.model.config import Config
from chessrnn.model.memory_image import MemorySpec, initialised_memories, state_memories

# -- the 90 nm equivalent ----------------------------------------------------------------------------------------

NAND2_AREA_90NM = 2.8  # µm²
UTILISATION = 0.7
# Range of utilisations that placement may reach, and relative spread of the NAND2 equivalents of one 16 × 16
# multiply-accumulate between four libraries.
UTILISATION_RANGE = (0.6, 0.8)
LIBRARY_SPREAD = (3489 - 3120) / (3489 + 3120)

# Words of the macros that the model is made for.
SRAM_WORD_BITS = 64
# Width of a macro beside its bit lines (decoder and control), in bit lines.  IHP's single-port macros of 32 and 64 bits
# are 416.64 and 784.48 µm wide, at the same height for the same number of words.
SRAM_SIDE_BITS = 4.25
# NAND2 equivalents of a bit of a small memory that is built as an array of latches or flip-flops, with its share of the
# write enables and of the read multiplexer.
CELL_ARRAY_NAND2_PER_BIT = 8.0
# Area of a bit cell with two ports relative to one with a single port.
TWO_PORT_FACTOR = 2.0

CLOCK_HZ = 600e6


@dataclass(frozen=True)
class SramModel:
    """The area model of SRAM macros of 64-bit words: ``fixed + per_bit · bits`` µm² each.

    A memory of wider words takes several macros side by side.  Where the compiler has wider macros, one of more than 64
    bits is that of 64 bits, widened by its bit lines: :data:`SRAM_SIDE_BITS` of its width do not grow.  Macros of fewer
    bits would be narrower too, but are not counted so: a memory pays at least ``fixed``.  The bits of a memory with a
    read and a write port cost :data:`TWO_PORT_FACTOR` times as much.  A memory that is smaller as an array of standard
    cells is built as one.

    Attributes
    ----------
    name : str
        Name of the process in reports.
    fixed : float
        Area of a macro without its bits, in µm².
    per_bit : float
        Area per bit, in µm².
    """

    name: str
    fixed: float
    per_bit: float

    def macro_area(self, width: int, depth: int, two_port: bool = False, word_bits: int = SRAM_WORD_BITS) -> float:
        """Area in µm² of the macros of a memory, of at most ``word_bits`` per word each."""
        per_bit, macros = self.per_bit * (TWO_PORT_FACTOR if two_port else 1.0), -(-width // word_bits)
        if width <= macros * SRAM_WORD_BITS:
            return macros * self.fixed + per_bit * width * depth
        growth = (width / macros + SRAM_SIDE_BITS) / (SRAM_WORD_BITS + SRAM_SIDE_BITS)
        return macros * growth * (self.fixed + per_bit * SRAM_WORD_BITS * depth)

    def area(
        self, width: int, depth: int, two_port: bool, nand2_area: float, word_bits: int = SRAM_WORD_BITS
    ) -> tuple[float, str]:
        """Area of a memory in µm², and what it is built as: ``"macro"`` or ``"cell array"``.

        Parameters
        ----------
        width : int
            Number of bits per word.
        depth : int
            Number of words.
        two_port : bool
            Whether the memory has a read and a write port.
        nand2_area : float
            Layout area of a NAND2 equivalent in µm², utilisation included.
        word_bits : int
            Number of bits per word of the widest macro (:func:`macro_word_bits`).
        """
        macro = self.macro_area(width, depth, two_port, word_bits)
        cells = CELL_ARRAY_NAND2_PER_BIT * width * depth * nand2_area
        return (cells, "cell array") if cells < macro else (macro, "macro")

    def describe(self, word_bits: int = SRAM_WORD_BITS) -> str:
        """Text of the formula for reports."""
        text = f"{self.name}: {self.fixed:,.0f} + {self.per_bit:.3f} x bits um2 per macro of {SRAM_WORD_BITS}-bit words"
        if word_bits <= SRAM_WORD_BITS:
            return text
        side = f"{SRAM_SIDE_BITS:g}) / {SRAM_WORD_BITS + SRAM_SIDE_BITS:g}"
        return f"{text}, times (word bits + {side} for words of up to {word_bits} bits"


SRAM_90NM = SramModel("90 nm", 16000.0, 1.53)
SRAM_IHP130 = SramModel("IHP 130 nm", 36259.0, 3.474)


def scaled_sram(name: str, nand2_area: float) -> SramModel:
    """Scale the 90 nm model by the area of a NAND2, for a library without macros."""
    scale = nand2_area / NAND2_AREA_90NM
    return SramModel(f"90 nm model scaled by the NAND2 of {name}", SRAM_90NM.fixed * scale, SRAM_90NM.per_bit * scale)


def logic_area_90nm(nand2: float) -> float:
    """Area in 90 nm, in µm², of logic given in NAND2 equivalents."""
    return nand2 * NAND2_AREA_90NM / UTILISATION


def logic_area_90nm_range(nand2: float) -> tuple[float, float]:
    """Least and greatest area in 90 nm, in µm², for the ranges of utilisations and libraries."""
    area = nand2 * NAND2_AREA_90NM
    return area * (1 - LIBRARY_SPREAD) / UTILISATION_RANGE[1], area * (1 + LIBRARY_SPREAD) / UTILISATION_RANGE[0]


def macro_word_bits(config: Config) -> int:
    """Number of bits per word of the widest macro: 64, or more where the design shares wider memories."""
    return max(SRAM_WORD_BITS, config.architecture.memory_width or 0)


def memory_area_90nm(width: int, depth: int, two_port: bool, word_bits: int = SRAM_WORD_BITS) -> tuple[float, str]:
    """Area of a memory in 90 nm, in µm², and what it is built as (:meth:`SramModel.area`)."""
    return SRAM_90NM.area(width, depth, two_port, NAND2_AREA_90NM / UTILISATION, word_bits)


def num_macros(config: Config) -> int:
    """Number of macros of the whole design at 90 nm; small memories are built of standard cells and do not count."""
    widest = macro_word_bits(config)
    kinds = Counter((spec.width, spec.depth, two_port) for spec, two_port in memories(config))
    return sum(
        count * -(-width // widest)
        for (width, depth, two_port), count in kinds.items()
        if memory_area_90nm(width, depth, two_port, widest)[1] == "macro"
    )


def memories(config: Config) -> list[tuple[MemorySpec, bool]]:
    """All memories of the design, each with whether it has a read and a write port."""
    return [(spec, False) for spec in initialised_memories(config)] + [(spec, True) for spec in state_memories(config)]


# -- work --------------------------------------------------------------------------------------------------------


def operations_per_step(config: Config) -> int:
    """Number of operations of the uncompressed network: a multiplication and an addition per dense weight."""
    return 2 * config.dense_weights


def tera_operations(config: Config, cycles: int, clock_hz: float = CLOCK_HZ) -> float:
    """Throughput in TOPS (10^12 operations per second), counted on the uncompressed network.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    cycles : int
        Sustained number of cycles per step.
    clock_hz : float
        Clock frequency in Hz.
    """
    return operations_per_step(config) * clock_hz / cycles / 1e12


@dataclass(frozen=True)
class PublishedDesign:
    """The figures of a published accelerator."""

    name: str
    node_nm: int
    step_us: float
    tops: float
    on_chip_kilobytes: float
    area_mm2: float

    @property
    def tops_per_mm2(self) -> float:
        """Area efficiency in TOPS per mm²."""
        return self.tops / self.area_mm2


PAPER = PublishedDesign("Wang, Lin, Wang 2017", 90, 1.71, 2.46, 518.5, 30.77)
