"""The frame sender turns an answer into bytes for the line."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.device.uart import DATA_BITS
from chessrnn.model.link.frames import CRC_BYTES, ESCAPE, FLAG, FLIP, HEADER_BYTES, SEQUENCE_BITS


class FrameSender(wiring.Component):
    """Assembles a frame from its flags, header, payload and CRC, and inserts escapes.

    Parameters
    ----------
    max_payload : int
        Largest number of bytes in a payload.

    Members
    -------
    start : In(1)
        While not ``busy``: send a frame with ``kind``, ``sequence`` and ``length``.
    kind, sequence, length : In
        Fields of the header; they must not change until the frame is sent.
    busy : Out(1)
        A frame is being sent.
    index : Out
        Index of the payload byte that the sender needs.
    payload : In(8)
        The byte at ``index``, at most two cycles later.
    bytes : Out(stream.Signature(8))
        Bytes of the frame for the line.

    Latency: 1 cycle from ``start`` to the flag · Throughput: a byte in four cycles ·
    Reference: ``chessrnn.model.link.frames.Frame.encode``
    """

    module_name = "frame_sender"

    def __init__(self, max_payload: int):
        bits = max_payload.bit_length()
        super().__init__(
            {
                "start": In(1), "kind": In(8), "sequence": In(SEQUENCE_BITS), "length": In(bits), "busy": Out(1),
                "index": Out(bits), "payload": In(DATA_BITS), "bytes": Out(stream.Signature(DATA_BITS)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        crc: Any = CRC32_ISO_HDLC(DATA_BITS).create()  # the stubs of Amaranth lack amaranth.lib.crc
        m.submodules.crc = crc
        chosen, raw = Signal(DATA_BITS), Signal(DATA_BITS)
        escaped, special = Signal(), Signal()
        # The CRC covers every byte as it is before escaping.  It takes the byte from its register, a cycle after the
        # byte is selected: both in one cycle would be the longest path of a board's design.
        fresh = Signal()
        m.d.sync += fresh.eq(0)
        m.d.comb += [
            special.eq(((raw == FLAG) | (raw == ESCAPE)) & ~escaped), self.busy.eq(1), crc.data.eq(raw),
            crc.valid.eq(fresh),
        ]  # fmt: skip

        def emit(byte):
            m.d.comb += [self.bytes.valid.eq(1), self.bytes.payload.eq(byte)]
            return m.If(self.bytes.ready)

        header = (self.kind, self.sequence, self.length[:8], self.length[8:])
        crc_bytes = [crc.crc.word_select(position, 8) for position in range(CRC_BYTES)]
        part = Signal(range(3))  # header, payload, CRC

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.busy.eq(0), crc.start.eq(self.start)]
                m.d.sync += [part.eq(0), self.index.eq(0)]
                with m.If(self.start):
                    m.next = "OPEN"
            with m.State("OPEN"), emit(FLAG):
                m.next = "FETCH"
            with m.State("FETCH"):  # wait for the memory's byte and for the CRC
                m.next = "CHOOSE"
            with m.State("CHOOSE"):  # wait until the byte is chosen from those of the memories
                m.next = "LOAD"
            with m.State("LOAD"):  # select the byte
                with m.Switch(part):
                    for number, choices in ((0, header), (2, crc_bytes)):
                        with m.Case(number), m.Switch(self.index[:2]):
                            for position, byte in enumerate(choices):
                                with m.Case(position):
                                    m.d.comb += chosen.eq(byte)
                    with m.Default():
                        m.d.comb += chosen.eq(self.payload)
                m.d.sync += [raw.eq(chosen), fresh.eq(part != 2)]
                m.next = "SEND"
            with m.State("SEND"):  # add the byte to the CRC, and send it, or the escape and then the byte
                with m.If(special):
                    with emit(ESCAPE):
                        m.d.sync += [escaped.eq(1), raw.eq(raw ^ FLIP)]
                with m.Else(), emit(raw):
                    m.d.sync += [escaped.eq(0), self.index.eq(self.index + 1)]
                    m.next = "FETCH"
                    with m.If((part == 0) & (self.index == HEADER_BYTES - 1)):
                        m.d.sync += [part.eq(1), self.index.eq(0)]
                        with m.If(self.length == 0):
                            m.d.sync += part.eq(2)
                    with m.If((part == 1) & (self.index + 1 == self.length)):
                        m.d.sync += [part.eq(2), self.index.eq(0)]
                    with m.If((part == 2) & (self.index == CRC_BYTES - 1)):
                        m.next = "CLOSE"
            with m.State("CLOSE"), emit(FLAG):
                m.next = "IDLE"
        return m
