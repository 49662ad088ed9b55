"""The top level for a board: clock, reset and pins around the device."""

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io

from chessrnn.hdl.device.device import FPGA_MODULE
from chessrnn.hdl.device.pll import clock_input, pll_for
from chessrnn.model.boards import Board

# The reset lasts 2^RESET_BITS cycles after configuration.  Block RAMs of the iCE40 read zeros for some 3 us (icestorm
# issue 76); this is over ten times as long at 50 MHz.
RESET_BITS = 11


class BoardTop(Elaboratable):
    """Connects the emitted device to the clock, the reset and the pins of a board.

    Parameters
    ----------
    board : Board
    clock_hz : float
        Clock of the device in Hz; if it differs from the board's, a PLL derives it.
    """

    def __init__(self, board: Board, clock_hz: float):
        self.board, self.clock_hz = board, clock_hz
        self.pll = pll_for(board, clock_hz)

    def elaborate(self, platform):
        m = Module()
        # The platforms' own domain relies on the registers' values after configuration, but the device needs a reset.
        port = platform.request(platform.default_clk, dir="-")
        m.domains.sync = ClockDomain()
        m.domains.start = ClockDomain(reset_less=True)
        locked = Signal()
        if self.pll is None:
            m.d.comb += [ClockSignal("sync").eq(clock_input(m, port)), locked.eq(1)]
        else:
            clock = Signal(name="clock")
            self.pll.connect(m, port, clock, locked)
            m.d.comb += ClockSignal("sync").eq(clock)
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
