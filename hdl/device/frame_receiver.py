"""The frame receiver turns bytes from the line into checked requests."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.device.uart import DATA_BITS
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import Ram, address_width
from chessrnn.model.link.frames import (
    BITS_PER_BYTE,
    CRC_BYTES,
    ESCAPE,
    FLAG,
    FLIP,
    HEADER_BYTES,
    SEQUENCE_BITS,
    LinkConfig,
    LinkLayout,
    Reason,
)
from chessrnn.model.memory_image import MemorySpec

REASON_BITS = 3


class FrameReceiver(wiring.Component):
    """Decodes and checks frames, and keeps one until its reader releases it.

    Bytes that arrive while a frame is kept are discarded.  The loss is reported: after the end of the last frame that
    lost bytes, the receiver delivers a request with reason BUSY.

    Parameters
    ----------
    layout : LinkLayout
    link : LinkConfig

    Members
    -------
    valid, data, error : In
        Bytes from the receiver of the line (``chessrnn.hdl.device.uart.UartReceiver``).
    ready : Out(1)
        A frame has been received; it is kept until ``release``.
    reason : Out(3)
        With ``ready``: a ``chessrnn.model.link.frames.Reason``; if it is not NONE, no other output is meaningful.
    kind, sequence, length : Out
        With ``ready``: fields of the header.
    address, read : In
        Read byte ``address`` of the frame, counted from the start of the header.
    byte : Out(8)
        The byte that was read, one cycle later.
    release : In(1)
        High for one cycle to give up the kept frame.

    Latency: 1 cycle from a closing flag to ``ready`` · Throughput: a byte per cycle, then a pause of a cycle ·
    Reference: ``chessrnn.model.link.frames.FrameDecoder``
    """

    module_name = "frame_receiver"

    def __init__(self, layout: LinkLayout, link: LinkConfig):
        self.layout, self.link = layout, link
        self.spec = MemorySpec("request", layout.max_request_bytes, DATA_BITS)
        super().__init__(
            {
                "valid": In(1), "data": In(DATA_BITS), "error": In(1),
                "ready": Out(1), "reason": Out(REASON_BITS), "kind": Out(8), "sequence": Out(SEQUENCE_BITS),
                "length": Out(16), "address": In(address_width(self.spec.depth)), "read": In(1), "byte": Out(8),
                "release": In(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        longest = self.layout.max_request_bytes
        buffer = Ram(self.spec)
        m.submodules.buffer = shared(buffer, platform)
        crc: Any = CRC32_ISO_HDLC(DATA_BITS).create()  # the stubs of Amaranth lack amaranth.lib.crc
        m.submodules.crc = crc

        count = Signal(range(longest + 2))  # bytes of the frame so far; the count stops at one too many
        begun, escaped, broken = Signal(), Signal(), Signal()
        flag, escape, value = Signal(), Signal(), Signal(DATA_BITS)
        take = Signal()  # a byte of the frame has been decoded
        m.d.comb += [
            flag.eq(self.valid & ~self.error & (self.data == FLAG)),
            escape.eq((self.data == ESCAPE) & ~escaped),
            value.eq(self.data ^ Mux(escaped, FLIP, 0)),
            buffer.write_data.eq(value),
            buffer.write_addr.eq(count),
            buffer.write_en.eq(take & (count < longest)),
            buffer.read_addr.eq(self.address),
            buffer.read_en.eq(self.read),
            self.byte.eq(buffer.read_data),
            crc.data.eq(value),
            crc.valid.eq(take),
        ]

        # Silence is counted in units of a byte's time, which keeps the counter short.
        byte_cycles = self.link.divisor * BITS_PER_BYTE
        patience = -(-self.link.silence_cycles // byte_cycles)
        tick, silent = Signal(range(byte_cycles)), Signal(range(patience + 1))
        quiet = Signal()
        m.d.comb += quiet.eq(silent == patience)
        with m.If(self.valid | ~begun | quiet):
            m.d.sync += [tick.eq(0), silent.eq(0)]
        with m.Elif(tick == byte_cycles - 1):
            m.d.sync += [tick.eq(0), silent.eq(silent + 1)]
        with m.Else():
            m.d.sync += tick.eq(tick + 1)

        lost = Signal()  # bytes of another frame arrived while one was kept

        def restart():
            m.d.comb += crc.start.eq(1)
            m.d.sync += [count.eq(0), begun.eq(0), escaped.eq(0), broken.eq(0)]

        def keep(reason):
            m.d.sync += self.reason.eq(reason)
            m.next = "KEEP"

        with m.FSM():
            with m.State("RECEIVE"):  # receive a frame, or wait for one
                with m.If(flag & begun):
                    restart()
                    with m.If(broken | escaped):
                        keep(Reason.LINE)
                    with m.Elif((count < HEADER_BYTES + CRC_BYTES) | (count > longest)):
                        keep(Reason.SIZE)
                    with m.Elif(~crc.match_detected):
                        keep(Reason.CHECKSUM)
                    with m.Elif(self.length != count - (HEADER_BYTES + CRC_BYTES)):
                        keep(Reason.SIZE)
                    with m.Else():
                        keep(Reason.NONE)
                with m.Elif(self.valid & ~flag):
                    m.d.sync += begun.eq(1)
                    with m.If(self.error):
                        m.d.sync += broken.eq(1)
                    with m.If(escape):
                        m.d.sync += escaped.eq(1)
                    with m.Else():
                        m.d.comb += take.eq(1)
                        m.d.sync += escaped.eq(0)
                        with m.If(count != longest + 1):
                            m.d.sync += count.eq(count + 1)
                        for position, register in enumerate(
                            (self.kind, self.sequence, self.length[:8], self.length[8:])
                        ):
                            with m.If(count == position):
                                m.d.sync += register.eq(value)
                with m.Elif(quiet):
                    restart()
                    keep(Reason.LINE)
            with m.State("KEEP"):  # keep the frame until its reader releases it
                m.d.comb += self.ready.eq(1)
                with m.If(self.valid):
                    # The bytes up to the next flag belong to a lost frame.
                    m.d.sync += begun.eq(~flag)
                    with m.If(~flag):
                        m.d.sync += lost.eq(1)
                with m.If(self.release):
                    m.next = "RECEIVE"
                    with m.If(lost | (self.valid & ~flag)):
                        m.next = "LOST"
            with m.State("LOST"):  # wait for the end of the lost frame
                with m.If(~begun | (self.valid & flag) | quiet):
                    restart()
                    m.d.sync += lost.eq(0)
                    keep(Reason.BUSY)
        return m
