"""The UART of an asynchronous serial line: eight data bits, lowest bit first, no parity, one stop bit."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

DATA_BITS = 8


class UartReceiver(wiring.Component):
    """Receives bytes from a serial line.

    Every bit is sampled once, in its middle, counted from the edge of the start bit.  A start bit that has ended before
    its middle is ignored as a glitch.  After a missing stop bit the line must become idle before the next start bit is
    accepted, so a line that is held low causes one error rather than one per byte.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit.

    Members
    -------
    rx : In(1)
        The line, asynchronous to the clock.
    valid : Out(1)
        High for one cycle after a byte was received.
    data : Out(8)
        The byte, valid with ``valid`` and until the next byte.
    error : Out(1)
        With ``valid``: the stop bit was missing.

    Latency: two cycles of synchronization, then ``valid`` in the middle of the stop bit · Throughput: a byte per
    ten bits · Reference: ``chessrnn.model.link.frames.FrameDecoder.byte`` takes these outputs as its arguments
    """

    def __init__(self, divisor: int):
        self.divisor = divisor
        super().__init__({"rx": In(1), "valid": Out(1), "data": Out(DATA_BITS), "error": Out(1)})

    @property
    def module_name(self) -> str:
        return f"uart_receiver_d{self.divisor}"

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)
        wait = Signal(range(self.divisor))
        bits = Signal(range(DATA_BITS))
        m.d.sync += self.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):  # wait for the line to fall
                m.d.sync += wait.eq(self.divisor // 2 - 1)
                with m.If(~rx):
                    m.next = "START"
            with m.State("START"):  # after half a bit the line must still be low
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += [wait.eq(self.divisor - 1), bits.eq(DATA_BITS - 1)]
                    m.next = "IDLE"
                    with m.If(~rx):
                        m.next = "DATA"
            with m.State("DATA"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += [
                        wait.eq(self.divisor - 1),
                        self.data.eq(Cat(self.data[1:], rx)),
                        bits.eq(bits - 1),
                    ]
                    with m.If(bits == 0):
                        m.next = "STOP"
            with m.State("STOP"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += [self.valid.eq(1), self.error.eq(~rx)]
                    m.next = "RECOVER"
            with m.State("RECOVER"):  # wait for the line to be idle
                with m.If(rx):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes on a serial line.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit.

    Members
    -------
    bytes : In(stream.Signature(8))
        Bytes to send.
    tx : Out(1)
        The line, registered; high when idle.

    Latency: 1 cycle to the start bit · Throughput: a byte per ten bits
    """

    def __init__(self, divisor: int):
        self.divisor = divisor
        tx = Out(1, init=1)  # pyright: ignore[reportCallIssue]  the stubs say reset
        super().__init__({"bytes": In(stream.Signature(DATA_BITS)), "tx": tx})

    @property
    def module_name(self) -> str:
        return f"uart_transmitter_d{self.divisor}"

    def elaborate(self, platform):
        m = Module()
        frame_bits = DATA_BITS + 1  # start and data; the stop bit is the idle line
        wait = Signal(range(self.divisor))
        left = Signal(range(frame_bits + 2))
        rest = Signal(DATA_BITS)
        bit_ends = Signal()
        m.d.comb += [bit_ends.eq(wait == 0), self.bytes.ready.eq((left == 0) & bit_ends)]
        m.d.sync += wait.eq(Mux(bit_ends, wait, wait - 1))
        with m.If(bit_ends & (left != 0)):
            m.d.sync += [
                self.tx.eq(rest[0]),
                rest.eq(Cat(rest[1:], 1)),
                left.eq(left - 1),
                wait.eq(self.divisor - 1),
            ]
        with m.If(self.bytes.valid & self.bytes.ready):
            m.d.sync += [
                self.tx.eq(0),
                rest.eq(self.bytes.payload),
                left.eq(frame_bits),
                wait.eq(self.divisor - 1),
            ]
        return m
