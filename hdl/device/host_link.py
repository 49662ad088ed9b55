"""The device's end of the host link receives requests, runs steps on the accelerator and sends answers."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.device.frame_receiver import FrameReceiver
from chessrnn.hdl.device.frame_sender import FrameSender
from chessrnn.hdl.device.uart import DATA_BITS
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import Ram, Rom
from chessrnn.model.config import Config
from chessrnn.model.link.frames import (
    HEADER_BYTES,
    LAST_STEP,
    REFUSED,
    REPLY,
    SEQUENCE_BITS,
    Counters,
    Identity,
    Kind,
    LinkConfig,
    LinkLayout,
    Reason,
)
from chessrnn.model.memory_image import MemorySpec

COUNTER_BITS = 32
# It holds a ``chessrnn.model.link.frames.Identity``.  It is a memory, filled from a file, so that the Verilog contains
# neither weights nor their digest.
IDENTITY_SPEC = MemorySpec("identity", Identity.BYTES, DATA_BITS)
REFUSAL_BYTES = 2


class HostLink(wiring.Component):
    """Answers one request after the other, and recovers from any sequence of bytes on the line.

    Parameters
    ----------
    config : Config
    link : LinkConfig
    identity : list of int, optional
        Bytes of the identity memory, for Amaranth's simulator.

    Members
    -------
    rx_valid, rx_data, rx_error : In
        Bytes received from the line (``chessrnn.hdl.device.uart.UartReceiver``).
    tx : Out(stream.Signature(8))
        Bytes to be sent on the line.
    x : Out(stream.Signature(…)), h : In(stream.Signature(…))
        The accelerator's streams.
    core_reset : Out(1)
        High for one cycle to reset the accelerator.
    tile_active : In(1)
        ``Accelerator.matvec_active``.

    Latency: 2 cycles per byte of x and 1 per byte of h in a step, added to those of the accelerator and of the line ·
    Throughput: one request at a time, one more may wait ·
    Reference: ``chessrnn.model.reference.host_link.HostLinkReference``
    """

    module_name = "host_link"

    def __init__(self, config: Config, link: LinkConfig, identity: list[int] | None = None):
        self.config, self.link, self.identity = config, link, identity
        self.layout = LinkLayout(config)
        k, q = config.block_size, config.quantization
        super().__init__(
            {
                "rx_valid": In(1), "rx_data": In(DATA_BITS), "rx_error": In(1), "tx": Out(stream.Signature(DATA_BITS)),
                "x": Out(stream.Signature(data.StructLayout({"data": k * q.x.width, "last": 1}))),
                "h": In(stream.Signature(data.StructLayout({"data": k * q.h.width, "last": 1}))),
                "core_reset": Out(1), "tile_active": In(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        layout, config = self.layout, self.config
        requests = FrameReceiver(layout, self.link)
        m.submodules.requests = shared(requests, platform)
        sender = FrameSender(max(layout.answer_bytes, Identity.BYTES, Counters.BYTES))
        m.submodules.sender = shared(sender, platform)
        answer = Ram(MemorySpec("answer", layout.answer_bytes, DATA_BITS))
        m.submodules.answer = shared(answer, platform)
        identity = Rom(IDENTITY_SPEC, self.identity)
        m.submodules.identity = shared(identity, platform)
        wiring.connect(m, wiring.flipped(self.tx), sender.bytes)

        kind, sequence = Signal(8), Signal(SEQUENCE_BITS)
        reason = Signal.like(requests.reason)
        expected = Signal(SEQUENCE_BITS)  # sequence number of the next step
        repeatable = Signal()  # the answer of the step before is still stored
        counters = {name: Signal(COUNTER_BITS, name=name) for name in Counters.__annotations__}
        steps, tile_cycles, step_cycles, accepted, refused = counters.values()

        m.d.comb += [
            requests.valid.eq(self.rx_valid), requests.data.eq(self.rx_data), requests.error.eq(self.rx_error),
            sender.kind.eq(kind), sender.sequence.eq(sequence),
            # Read only while sending: a read during a write has undefined results in a memory macro.
            answer.read_en.eq(sender.busy), answer.read_addr.eq(sender.index),
            identity.en.eq(1), identity.addr.eq(sender.index),
        ]  # fmt: skip
        # A byte of the payload takes two cycles: the memories and the counter are read, and one of them is chosen.
        counted, place_counted, payload = Signal(COUNTER_BITS), Signal(2), Signal(DATA_BITS)
        m.d.sync += place_counted.eq(sender.index[:2])
        with m.Switch(sender.index[2 : (Counters.BYTES - 1).bit_length()]):
            for position, counter in enumerate(counters.values()):
                with m.Case(position):
                    m.d.sync += counted.eq(counter)
        m.d.comb += sender.payload.eq(payload)
        with m.Switch(kind):
            with m.Case(Kind.STEP | REPLY):
                m.d.sync += payload.eq(answer.read_data)
                m.d.comb += sender.length.eq(layout.answer_bytes)
            with m.Case(Kind.IDENTIFY | REPLY):
                m.d.sync += payload.eq(identity.data)
                m.d.comb += sender.length.eq(Identity.BYTES)
            with m.Case(Kind.COUNTERS | REPLY):
                m.d.sync += payload.eq(counted.word_select(place_counted, DATA_BITS))
                m.d.comb += sender.length.eq(Counters.BYTES)
            with m.Case(REFUSED):
                m.d.sync += payload.eq(Mux(place_counted[0], expected, reason))
                m.d.comb += sender.length.eq(REFUSAL_BYTES)

        x_bits, h_bits = layout.x_beat_bytes * DATA_BITS, layout.h_beat_bytes * DATA_BITS
        shift = Signal(max(x_bits, h_bits))
        place = Signal(range(max(layout.x_beat_bytes, layout.h_beat_bytes)))  # byte within the beat
        beat = Signal(range(max(config.num_input_blocks, config.num_output_blocks)))
        last_step = Signal()
        running = Signal()
        x_ends, h_ends = Signal(), Signal()
        m.d.comb += [
            self.x.payload.data.eq(shift[len(shift) - x_bits :]),
            self.x.payload.last.eq(last_step & x_ends),
            x_ends.eq(beat == config.num_input_blocks - 1),
            h_ends.eq(beat == config.num_output_blocks - 1),
            answer.write_data.eq(shift[:DATA_BITS]),
        ]
        # A cycle late, as the accelerator decides late in its cycle; it works well after x and well before h.
        active = Signal()
        m.d.sync += active.eq(self.tile_active)
        with m.If(running):
            m.d.sync += step_cycles.eq(step_cycles + 1)
            with m.If(active):
                m.d.sync += tile_cycles.eq(tile_cycles + 1)

        m.d.sync += self.core_reset.eq(0)
        source, target = requests.address, answer.write_addr
        read_at = Signal.like(source)
        write_at = Signal.like(target)
        m.d.comb += [source.eq(read_at), target.eq(write_at)]

        def refuse(why):
            m.d.sync += reason.eq(why)
            m.next = "REFUSE"

        def accept():
            m.d.comb += requests.release.eq(1)
            m.next = "ACCEPT"

        with m.FSM():
            with m.State("IDLE"):  # wait for a request
                m.d.sync += [
                    kind.eq(requests.kind), sequence.eq(requests.sequence), read_at.eq(HEADER_BYTES), write_at.eq(0),
                ]  # fmt: skip
                with m.If(requests.ready):
                    m.next = "JUDGE"
            with m.State("JUDGE"):  # check the request
                m.d.comb += requests.read.eq(1)
                m.d.sync += read_at.eq(read_at + 1)
                with m.If(requests.reason != Reason.NONE):
                    m.d.sync += sequence.eq(0)
                    refuse(requests.reason)
                with m.Elif(kind == Kind.STEP):
                    with m.If(requests.length != layout.step_bytes):
                        refuse(Reason.LENGTH)
                    with m.Elif(repeatable & ((sequence + 1)[:SEQUENCE_BITS] == expected)):
                        accept()
                    with m.Elif(sequence != expected):
                        refuse(Reason.SEQUENCE)
                    with m.Else():
                        m.next = "FLAGS"
                with m.Elif((kind == Kind.IDENTIFY) | (kind == Kind.COUNTERS) | (kind == Kind.RESET)):
                    with m.If(requests.length != 0):
                        refuse(Reason.LENGTH)
                    with m.Else():
                        accept()
                with m.Else():
                    refuse(Reason.KIND)
            with m.State("REFUSE"):
                m.d.comb += requests.release.eq(1)
                m.d.sync += [kind.eq(REFUSED), refused.eq(refused + 1)]
                m.next = "SEND"
            with m.State("ACCEPT"):
                m.d.sync += [kind.eq(kind | REPLY), accepted.eq(accepted + 1)]
                with m.If(kind == Kind.RESET):
                    m.d.sync += [self.core_reset.eq(1), expected.eq(sequence + 1), repeatable.eq(0)]
                    m.d.sync += [counter.eq(0) for counter in counters.values()] + [accepted.eq(1)]
                m.next = "SEND"

            with m.State("FLAGS"):  # the payload's first byte holds flags
                m.d.sync += [last_step.eq(requests.byte[LAST_STEP.bit_length() - 1]), beat.eq(0), place.eq(0)]
                m.next = "READ"
            with m.State("READ"):  # read a byte of x from the request
                m.d.comb += requests.read.eq(1)
                m.d.sync += read_at.eq(read_at + 1)
                m.next = "GATHER"
            with m.State("GATHER"):  # append the byte to the beat
                m.d.sync += [shift.eq(Cat(shift[DATA_BITS:], requests.byte)), place.eq(place + 1)]
                m.next = "READ"
                with m.If(place == layout.x_beat_bytes - 1):
                    m.d.sync += [place.eq(0), running.eq(1)]
                    m.next = "OFFER"
            with m.State("OFFER"):  # offer a beat of x to the accelerator
                m.d.comb += self.x.valid.eq(1)
                with m.If(self.x.ready):
                    m.d.sync += beat.eq(beat + 1)
                    m.next = "READ"
                    with m.If(x_ends):
                        m.d.comb += requests.release.eq(1)
                        m.d.sync += beat.eq(0)
                        m.next = "COLLECT"
            with m.State("COLLECT"):  # wait for a beat of h
                m.d.comb += self.h.ready.eq(1)
                m.d.sync += shift.eq(self.h.payload.data)
                with m.If(self.h.valid):
                    with m.If(h_ends):
                        m.d.sync += running.eq(0)
                    m.next = "KEEP"
            with m.State("KEEP"):  # store its bytes, one per cycle
                m.d.comb += answer.write_en.eq(1)
                m.d.sync += [write_at.eq(write_at + 1), shift.eq(shift >> DATA_BITS), place.eq(place + 1)]
                with m.If(place == layout.h_beat_bytes - 1):
                    m.d.sync += [place.eq(0), beat.eq(beat + 1)]
                    m.next = "COLLECT"
                    with m.If(h_ends):
                        m.next = "DONE"
            with m.State("DONE"):
                m.d.sync += [steps.eq(steps + 1), expected.eq(sequence + 1), repeatable.eq(1)]
                m.next = "ACCEPT"
            with m.State("SEND"):
                m.d.comb += sender.start.eq(1)
                m.next = "SENDING"
            with m.State("SENDING"):
                with m.If(~sender.busy):
                    m.next = "IDLE"
        return m
