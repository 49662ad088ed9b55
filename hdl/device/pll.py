"""PLLs of FPGA families: the dividers that derive a clock from a board's oscillator, and the primitive they set."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from amaranth.hdl import Instance, Module, Signal
from amaranth.lib import io

from chessrnn.model.boards import Board
from chessrnn.model.errors import require

# Largest difference between the clock that is asked for and the one that dividers yield.
TOLERANCE_HZ = 1.0


class Pll(Protocol):
    """Dividers of one PLL; :meth:`connect` adds the primitive to the top level."""

    def connect(self, m: Module, port: io.PortLike, clock: Signal, locked: Signal) -> None:
        """Add the PLL between the port of the oscillator and ``clock``; ``locked`` is high while it is stable."""
        ...


def clock_input(m: Module, port: io.PortLike) -> Signal:
    """Add the input buffer of the oscillator's pin, and return its signal."""
    m.submodules.clock_buffer = buffer = io.Buffer(io.Direction.Input, port)
    return buffer.i


@dataclass(frozen=True)
class Ecp5Pll:
    """The dividers of an ECP5's PLL (EHXPLLL) whose output is also its feedback.

    output = input · feedback / reference; the oscillator runs at output · post (Lattice FPGA-TN-02200).
    """

    reference: int
    feedback: int
    post: int

    PHASE_HZ: ClassVar = (10e6, 400e6)
    OSCILLATOR_HZ: ClassVar = (400e6, 800e6)

    @classmethod
    def choices(cls, input_hz: float, output_hz: float, part: str) -> "list[Ecp5Pll]":
        """All dividers that derive ``output_hz`` from ``input_hz`` on a part, the best first."""
        found = [
            cls(reference, feedback, post)
            for reference in range(1, 129)
            if _within(input_hz / reference, cls.PHASE_HZ)
            for feedback in range(1, 81)
            if abs(input_hz * feedback / reference - output_hz) < TOLERANCE_HZ
            for post in range(1, 129)
            if _within(output_hz * post, cls.OSCILLATOR_HZ)
        ]
        # Prefer a fast phase comparison, then an oscillator in the middle of its range.
        return sorted(found, key=lambda pll: (pll.reference, abs(output_hz * pll.post - 600e6)))

    def connect(self, m, port, clock, locked):
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=self.reference, p_CLKFB_DIV=self.feedback, p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=self.post,
            p_CLKOP_CPHASE=self.post - 1, p_CLKOP_FPHASE=0, p_FEEDBK_PATH="CLKOP",
            i_RST=0, i_STDBY=0, i_CLKI=clock_input(m, port), i_CLKFB=clock, i_PHASESEL0=0, i_PHASESEL1=0,
            i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1, i_PLLWAKESYNC=0, i_ENCLKOP=0, o_CLKOP=clock,
            o_LOCK=locked,
        )  # fmt: skip


@dataclass(frozen=True)
class Ice40Pll:
    """The dividers of an iCE40's PLL with its own feedback.

    output = input · (feedback + 1) / (reference + 1) / 2^post; the oscillator runs at output · 2^post (Lattice
    FPGA-TN-02052).  The only PLL of a part (SB_PLL40_PAD) takes the pin of the oscillator itself, which must be the one
    beside it.  Of two PLLs the placer picks one whose own pin is free (SB_PLL40_CORE), and the oscillator may have any.
    """

    reference: int
    feedback: int
    post: int
    filter_range: int
    takes_pin: bool

    ONE_PLL: ClassVar = ("iCE40HX1K", "iCE40UP5K")
    PHASE_HZ: ClassVar = (10e6, 133e6)
    OSCILLATOR_HZ: ClassVar = (533e6, 1066e6)
    OUTPUT_HZ: ClassVar = (16e6, 275e6)
    # Greatest frequency of the phase comparison for each setting of the loop's filter, from 1 on.
    FILTER_HZ: ClassVar = (17e6, 26e6, 44e6, 66e6, 101e6, 133e6)

    @classmethod
    def choices(cls, input_hz: float, output_hz: float, part: str) -> "list[Ice40Pll]":
        """All dividers that derive ``output_hz`` from ``input_hz`` on a part, the best first."""
        if not _within(output_hz, cls.OUTPUT_HZ):
            return []
        found = []
        for reference in range(16):
            phase = input_hz / (reference + 1)
            if not _within(phase, cls.PHASE_HZ):
                continue
            setting = 1 + next(number for number, limit in enumerate(cls.FILTER_HZ) if phase <= limit)
            for post in range(1, 7):
                feedback = round(output_hz * 2**post / phase) - 1
                exact = abs(phase * (feedback + 1) / 2**post - output_hz) < TOLERANCE_HZ
                if exact and 0 <= feedback < 64 and _within(output_hz * 2**post, cls.OSCILLATOR_HZ):
                    found.append(cls(reference, feedback, post, setting, part in cls.ONE_PLL))
        return sorted(found, key=lambda pll: pll.reference)

    def connect(self, m, port, clock, locked):
        source = {"io_PACKAGEPIN": port.io} if self.takes_pin else {"i_REFERENCECLK": clock_input(m, port)}
        m.submodules.pll = Instance(
            "SB_PLL40_PAD" if self.takes_pin else "SB_PLL40_CORE",
            p_FEEDBACK_PATH="SIMPLE", p_DIVR=self.reference, p_DIVF=self.feedback, p_DIVQ=self.post,
            p_FILTER_RANGE=self.filter_range,
            **source, i_RESETB=1, i_BYPASS=0, o_PLLOUTGLOBAL=clock, o_LOCK=locked,
        )  # fmt: skip


@dataclass(frozen=True)
class GowinPll:
    """The dividers of a Gowin PLL (rPLL) with its own feedback.

    output = input · (feedback + 1) / (reference + 1); the oscillator runs at output · post (Gowin UG286).
    """

    reference: int
    feedback: int
    post: int
    input_hz: float
    part: str

    PHASE_HZ: ClassVar = (3e6, 400e6)
    OSCILLATOR_HZ: ClassVar = (400e6, 1200e6)
    POSTS: ClassVar = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)

    @classmethod
    def choices(cls, input_hz: float, output_hz: float, part: str) -> "list[GowinPll]":
        """All dividers that derive ``output_hz`` from ``input_hz`` on a part, the best first."""
        found = [
            cls(reference, feedback, post, input_hz, part)
            for reference in range(64)
            if _within(input_hz / (reference + 1), cls.PHASE_HZ)
            for feedback in range(64)
            if abs(input_hz * (feedback + 1) / (reference + 1) - output_hz) < TOLERANCE_HZ
            for post in cls.POSTS
            if _within(output_hz * post, cls.OSCILLATOR_HZ)
        ]
        return sorted(found, key=lambda pll: (pll.reference, abs(output_hz * pll.post - 800e6)))

    def connect(self, m, port, clock, locked):
        m.submodules.pll = Instance(
            "rPLL",
            p_FCLKIN=f"{self.input_hz / 1e6:g}", p_DEVICE=self.part,
            p_IDIV_SEL=self.reference, p_FBDIV_SEL=self.feedback, p_ODIV_SEL=self.post,
            p_DYN_IDIV_SEL="false", p_DYN_FBDIV_SEL="false", p_DYN_ODIV_SEL="false", p_DYN_SDIV_SEL=2,
            p_CLKFB_SEL="internal", p_PSDA_SEL="0000", p_DUTYDA_SEL="1000", p_DYN_DA_EN="false",
            p_CLKOUT_BYPASS="false", p_CLKOUTP_BYPASS="false", p_CLKOUTD_BYPASS="false",
            p_CLKOUTD_SRC="CLKOUT", p_CLKOUTD3_SRC="CLKOUT",
            i_CLKIN=clock_input(m, port), i_CLKFB=0, i_RESET=0, i_RESET_P=0, i_FBDSEL=Signal(6), i_IDSEL=Signal(6),
            i_ODSEL=Signal(6), i_PSDA=Signal(4), i_DUTYDA=Signal(4), i_FDLY=Signal(4),
            o_CLKOUT=clock, o_LOCK=locked,
        )  # fmt: skip


# The kind of PLL of each family of parts; a family that is not listed runs at the oscillator's frequency.
PLLS = {"ecp5": Ecp5Pll, "ice40": Ice40Pll, "gowin": GowinPll}


def pll_for(board: Board, clock_hz: float) -> Pll | None:
    """Find the PLL that derives a clock from a board's oscillator; ``None`` where they are the same.

    Raises
    ------
    InvalidValueError
        The part has no PLL that the program can set, or no dividers yield the clock to within 1 Hz.
    """
    if clock_hz == board.input_hz:
        return None
    kind = PLLS.get(board.part.family)
    rule = f"{board.input_hz / 1e6:g}, the board's own, as no PLL is built for {board.part.name}"
    require(kind is not None, "--clock-mhz", rule, clock_hz / 1e6)
    assert kind is not None
    choices = kind.choices(board.input_hz, clock_hz, board.part.name)
    rule = f"{board.input_hz / 1e6:g} MHz times a ratio that the PLL of {board.part.name} has"
    require(bool(choices), "--clock-mhz", rule, clock_hz / 1e6)
    return choices[0]


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
