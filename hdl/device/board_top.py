"""The top level for a board of amaranth-boards: clock, reset and pins around the device."""

from dataclasses import dataclass
from importlib import import_module

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io

from chessrnn.hdl.device.device import FPGA_MODULE
from chessrnn.model.boards import Board
from chessrnn.model.errors import require

# The reset lasts 2^RESET_BITS cycles after configuration.  Block RAMs of the iCE40 read zeros for some 3 us (icestorm
# issue 76); this is over ten times as long at 50 MHz.
RESET_BITS = 11
PFD_HZ = (10e6, 400e6)
VCO_HZ = (400e6, 800e6)


@dataclass(frozen=True)
class Pll:
    """The dividers of an ECP5's PLL (EHXPLLL) whose output is also its feedback.

    output = input · feedback / reference; the oscillator runs at output · post (Lattice FPGA-TN-02200).
    """

    reference: int
    feedback: int
    post: int

    @classmethod
    def for_clocks(cls, input_hz: float, output_hz: float) -> "Pll":
        """Find dividers that derive ``output_hz`` from ``input_hz`` to within 1 Hz.

        Raises
        ------
        InvalidValueError
            No dividers yield this frequency.
        """
        choices = [
            cls(reference, feedback, post)
            for reference in range(1, 129)
            for feedback in range(1, 81)
            if abs(input_hz * feedback / reference - output_hz) < 1 and PFD_HZ[0] <= input_hz / reference <= PFD_HZ[1]
            for post in range(1, 129)
            if VCO_HZ[0] <= output_hz * post <= VCO_HZ[1]
        ]
        rule = f"{input_hz / 1e6:g} MHz times a ratio of small whole numbers"
        require(bool(choices), "--clock-mhz", rule, output_hz / 1e6)
        # Prefer a fast phase comparison, then an oscillator in the middle of its range.
        return min(choices, key=lambda pll: (pll.reference, abs(output_hz * pll.post - 600e6)))


class BoardTop(Elaboratable):
    """Connects the emitted device to the clock, the reset and the pins of a board.

    Parameters
    ----------
    board : Board
    clock_hz : float
        Clock of the device; if it differs from the board's, an ECP5 derives it with a PLL.
    """

    def __init__(self, board: Board, clock_hz: float):
        self.board = board
        self.pll = None if clock_hz == board.input_hz else Pll.for_clocks(board.input_hz, clock_hz)

    def elaborate(self, platform):
        m = Module()
        # The platforms' own domain relies on the registers' values after configuration, but the device needs a reset.
        port = platform.request(platform.default_clk, dir="-")
        m.submodules.clock_buffer = buffer = io.Buffer(io.Direction.Input, port)
        m.domains.sync = ClockDomain()
        m.domains.start = ClockDomain(reset_less=True)
        locked = Signal()
        if self.pll is None:
            m.d.comb += [ClockSignal("sync").eq(buffer.i), locked.eq(1)]
        else:
            m.submodules.pll = self._ehxplll(self.pll, buffer.i, ClockSignal("sync"), locked)
        count, ready = Signal(RESET_BITS), Signal()
        m.d.comb += ClockSignal("start").eq(ClockSignal("sync"))
        with m.If(~locked):
            m.d.start += [count.eq(0), ready.eq(0)]
        with m.Elif(count.all()):
            m.d.start += ready.eq(1)
        with m.Else():
            m.d.start += count.eq(count + 1)
        m.d.comb += ResetSignal("sync").eq(~ready)

        # Buffers are placed here, as for the clock: a request without ``dir="-"`` is deprecated in Amaranth.
        pins = {pin.name: "-" for pin in platform.lookup("uart", 0).ios}
        uart = platform.request("uart", 0, dir=pins)
        m.submodules.rx_buffer = rx = io.Buffer(io.Direction.Input, uart.rx)
        m.submodules.tx_buffer = tx = io.Buffer(io.Direction.Output, uart.tx)
        busy, led_register = Signal(), Signal()
        m.submodules.device = Instance(
            FPGA_MODULE,
            i_clk=ClockSignal(), i_rst=ResetSignal(), i_rx=rx.i, o_tx=tx.o, o_busy=busy,
        )  # fmt: skip
        if self.board.led is not None:
            m.submodules.led_buffer = led = io.Buffer(io.Direction.Output, platform.request(self.board.led, 0, dir="-"))
            m.d.sync += led_register.eq(busy)
            m.d.comb += led.o.eq(led_register)
        return m

    def _ehxplll(self, pll: Pll, clock_in, clock_out, locked) -> Instance:
        feedback = clock_out
        return Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=pll.reference, p_CLKFB_DIV=pll.feedback, p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=pll.post,
            p_CLKOP_CPHASE=pll.post - 1, p_CLKOP_FPHASE=0, p_FEEDBK_PATH="CLKOP",
            i_RST=0, i_STDBY=0, i_CLKI=clock_in, i_CLKFB=feedback, i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1,
            i_PHASESTEP=1, i_PHASELOADREG=1, i_PLLWAKESYNC=0, i_ENCLKOP=0, o_CLKOP=clock_out, o_LOCK=locked,
        )  # fmt: skip


def platform_of(board: Board):
    """Create the platform of a board; a platform object can be built once only."""
    module, _, name = board.platform.partition(":")
    return getattr(import_module(module), name)()
