"""Blocks of the host link are compared with the reference codec; ``chessrnn host --fuzz`` tests the whole device."""

import struct
import zlib

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from chessrnn.hdl.device.frame_receiver import FrameReceiver
from chessrnn.hdl.device.frame_sender import FrameSender
from chessrnn.hdl.device.uart import UartReceiver, UartTransmitter
from chessrnn.model.link.frames import (
    FLAG,
    Frame,
    FrameDecoder,
    Kind,
    LinkConfig,
    LinkLayout,
    Reason,
    escape,
    parse_body,
)
from chessrnn.model.presets import preset
from chessrnn.sim.pysim import CLOCK_PERIOD

LINK = LinkConfig(1e6, 4, 400)


def simulate(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD)
    sim.add_testbench(bench)
    sim.run()


class Loop(wiring.Component):
    """A transmitter connected to a receiver, as by a cable."""

    def __init__(self, divisor):
        self.transmitter, self.receiver = UartTransmitter(divisor), UartReceiver(divisor)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules += [self.transmitter, self.receiver]
        m.d.comb += self.receiver.rx.eq(self.transmitter.tx)
        return m


@pytest.mark.parametrize("divisor", [4, 7])
def test_uart_carries_every_byte(divisor, rng):
    dut, sent, got = Loop(divisor), [0, 255, *rng.integers(0, 256, 60).tolist()], []

    async def bench(ctx):
        queue, cycle = list(sent), 0
        ctx.set(dut.transmitter.bytes.valid, 1)
        while len(got) < len(sent):
            ctx.set(dut.transmitter.bytes.payload, queue[0] if queue else 0)
            ctx.set(dut.transmitter.bytes.valid, bool(queue))
            if queue and ctx.get(dut.transmitter.bytes.ready):
                queue.pop(0)
            if ctx.get(dut.receiver.valid):
                got.append(ctx.get(dut.receiver.data))
                assert not ctx.get(dut.receiver.error)
            cycle += 1
            # Bytes follow each other without a gap: ten bits per byte.
            assert cycle <= len(sent) * 10 * divisor + 20
            await ctx.tick()

    simulate(dut, bench)
    assert got == sent


def line_bits(byte, divisor, rate=1.0, stop=1):
    """Levels of the line, one per clock cycle, from a sender whose bits last ``rate`` times as long as expected."""
    levels = [0, *((byte >> bit) & 1 for bit in range(8)), stop]
    return [levels[int(cycle / (divisor * rate))] for cycle in range(int(len(levels) * divisor * rate))]


@pytest.mark.parametrize("rate", [0.97, 1.0, 1.03])
def test_uart_tolerates_a_clock_that_differs(rate, rng):
    divisor, sent, got = 16, rng.integers(0, 256, 40).tolist(), []
    dut = UartReceiver(divisor)

    async def bench(ctx):
        for level in [1] * 5 + [bit for byte in sent for bit in line_bits(byte, divisor, rate)] + [1] * 40:
            ctx.set(dut.rx, level)
            await ctx.tick()
            if ctx.get(dut.valid):
                got.append((ctx.get(dut.data), ctx.get(dut.error)))

    simulate(dut, bench)
    assert got == [(byte, 0) for byte in sent]


def test_uart_reports_a_missing_stop_bit_once_and_ignores_glitches():
    divisor, got = 8, []
    dut = UartReceiver(divisor)
    held_low = line_bits(0x41, divisor, stop=0) + [0] * 300
    glitch = [0, 0, 1]

    async def bench(ctx):
        line = [1] * 5 + held_low + [1] * 10 + glitch + [1] * 100 + line_bits(0x5A, divisor) + [1] * 20
        for level in line:
            ctx.set(dut.rx, level)
            await ctx.tick()
            if ctx.get(dut.valid):
                got.append((ctx.get(dut.data), ctx.get(dut.error)))

    simulate(dut, bench)
    assert got == [(0x41, 1), (0x5A, 0)]


def damage(body: bytes, rng) -> list[tuple[int, bool]]:
    """The bytes of a frame with their error flags, damaged in one of the ways in which a line damages frames."""
    line = [FLAG, *escape(body), FLAG]
    errors = [False] * len(line)
    place = int(rng.integers(0, len(line)))
    match int(rng.integers(0, 9)):
        case 0:
            line[place] ^= 1 << int(rng.integers(0, 8))
        case 1:
            del line[place], errors[place]
        case 2:
            line.insert(place, int(rng.integers(0, 256)))
            errors.insert(place, False)
        case 3:
            line, errors = line[:place] + [FLAG], errors[:place] + [False]
        case 4:
            errors[place] = True
        case 5:
            extra = rng.integers(0, 256, int(rng.integers(1, 200))).tolist()
            line[place:place] = extra
            errors[place:place] = [False] * len(extra)
        case 6:
            line[place:place] = [0x7D, FLAG]
            errors[place:place] = [False, False]
        case 7:
            line, errors = rng.integers(0, 256, place + 1).tolist() + [FLAG], [False] * (place + 2)
        case _:
            pass  # undamaged
    return list(zip(line, errors, strict=True))


def requests(layout, rng, count):
    """Bodies of frames of every kind, most of them valid."""
    kinds = [Kind.STEP, Kind.STEP, Kind.IDENTIFY, Kind.COUNTERS, Kind.RESET, 0, 77]
    for _ in range(count):
        kind = kinds[int(rng.integers(len(kinds)))]
        size = layout.step_bytes if kind == Kind.STEP else 0
        if rng.random() < 0.1:
            size = int(rng.integers(0, layout.step_bytes + 3))
        yield Frame(int(kind), int(rng.integers(0, 256)), rng.bytes(size)).body()


def test_receiver_sorts_damaged_frames(rng):
    """The receiver rejects every damaged frame and decodes every other one, as the reference decoder does."""
    layout = LinkLayout(preset("tiny"))
    dut, golden = FrameReceiver(layout, LINK), FrameDecoder(layout.max_request_bytes)
    line = [pair for body in requests(layout, rng, 400) for pair in damage(body, rng)]
    expected = [found for pair in line if (found := golden.byte(*pair)) is not None]
    got = []

    async def bench(ctx):
        for value, error in line:
            ctx.set(dut.data, value)
            ctx.set(dut.error, int(error))
            ctx.set(dut.valid, 1)
            await ctx.tick()
            ctx.set(dut.valid, 0)
            if ctx.get(dut.ready):
                reason = Reason(ctx.get(dut.reason))
                header = (ctx.get(dut.kind), ctx.get(dut.sequence), ctx.get(dut.length))
                got.append(reason if reason else header)
                ctx.set(dut.release, 1)
                await ctx.tick()
                ctx.set(dut.release, 0)

    simulate(dut, bench)
    words = [f if isinstance(f, Reason) else (f.kind, f.sequence, len(f.payload)) for f in expected]
    assert got == words
    assert sum(isinstance(f, Reason) for f in expected) > 100 and 40 < sum(isinstance(f, Frame) for f in expected)


@pytest.mark.parametrize(("stated", "reason"), [(0, Reason.NONE), (1, Reason.SIZE), (-1, Reason.SIZE)])
def test_a_length_that_is_not_that_of_the_payload_is_rejected(stated, reason):
    """The CRC of such a frame is right: its sender is another program, not a bad line."""
    layout = LinkLayout(preset("tiny"))
    head = struct.pack("<BBH", Kind.STEP, 3, layout.step_bytes + stated) + bytes(layout.step_bytes)
    body = head + struct.pack("<I", zlib.crc32(head))
    found = parse_body(body, layout.max_request_bytes)
    assert (found if isinstance(found, Reason) else Reason.NONE) == reason
    dut = FrameReceiver(layout, LINK)

    async def bench(ctx):
        await send(ctx, dut, [FLAG, *escape(body), FLAG])
        assert (ctx.get(dut.ready), ctx.get(dut.reason)) == (1, reason)

    simulate(dut, bench)


async def send(ctx, receiver, line):
    """Give the receiver bytes, one per cycle."""
    for value in line:
        ctx.set(receiver.data, value)
        ctx.set(receiver.valid, 1)
        await ctx.tick()
    ctx.set(receiver.valid, 0)


async def cycles_until_ready(ctx, receiver, limit):
    """Count the cycles until the receiver delivers something; at most ``limit``."""
    for cycle in range(limit):
        if ctx.get(receiver.ready):
            return cycle
        await ctx.tick()
    return limit


async def release(ctx, receiver):
    """Give up the kept frame."""
    ctx.set(receiver.release, 1)
    await ctx.tick()
    ctx.set(receiver.release, 0)


# The silence is counted in whole bytes, and noticed and delivered in a cycle each.
SILENCE = LINK.silence_cycles + 1
WAIT = 3 * LINK.silence_cycles


@pytest.mark.parametrize("begun", [1, 5, 11])
def test_silence_ends_a_frame(begun, rng):
    """A frame that stops half way is reported after the silence, not before, and the next one is received."""
    layout = LinkLayout(preset("tiny"))
    dut, frame = FrameReceiver(layout, LINK), Frame(Kind.STEP, 3, rng.bytes(layout.step_bytes))

    async def bench(ctx):
        await send(ctx, dut, frame.encode()[: 1 + begun])
        assert await cycles_until_ready(ctx, dut, WAIT) == SILENCE
        assert ctx.get(dut.reason) == Reason.LINE
        await release(ctx, dut)
        # A line that is silent between frames is reported never.
        assert await cycles_until_ready(ctx, dut, WAIT) == WAIT
        await send(ctx, dut, frame.encode())
        assert await cycles_until_ready(ctx, dut, WAIT) == 0
        assert (ctx.get(dut.reason), ctx.get(dut.kind), ctx.get(dut.sequence)) == (Reason.NONE, Kind.STEP, 3)

    simulate(dut, bench)


def test_bytes_with_pauses_shorter_than_the_silence_are_one_frame():
    dut, frame = FrameReceiver(LinkLayout(preset("tiny")), LINK), Frame(Kind.IDENTIFY, 9)

    async def bench(ctx):
        for value in frame.encode():
            assert await cycles_until_ready(ctx, dut, LINK.silence_cycles - 1) == LINK.silence_cycles - 1
            await send(ctx, dut, [value])
        assert (ctx.get(dut.ready), ctx.get(dut.reason), ctx.get(dut.sequence)) == (1, Reason.NONE, 9)

    simulate(dut, bench)


def test_silence_ends_a_frame_that_was_lost():
    """Bytes that arrive while a frame is kept are reported as lost, after a flag or after the silence."""
    dut, frame = FrameReceiver(LinkLayout(preset("tiny")), LINK), Frame(Kind.IDENTIFY, 9)

    async def bench(ctx):
        await send(ctx, dut, frame.encode())
        assert (ctx.get(dut.ready), ctx.get(dut.reason)) == (1, Reason.NONE)
        await send(ctx, dut, frame.encode()[:4])
        await release(ctx, dut)
        assert 0 < await cycles_until_ready(ctx, dut, WAIT) <= SILENCE
        assert ctx.get(dut.reason) == Reason.BUSY
        await release(ctx, dut)
        await send(ctx, dut, frame.encode())
        assert (ctx.get(dut.ready), ctx.get(dut.reason), ctx.get(dut.sequence)) == (1, Reason.NONE, 9)

    simulate(dut, bench)


def test_sender_builds_frames_that_the_codec_reads(rng):
    dut = FrameSender(300)
    frames = [Frame(int(rng.integers(256)), int(rng.integers(256)), rng.bytes(int(n))) for n in rng.integers(0, 300, 6)]
    frames += [Frame(0x7E, 0x7D, bytes([0x7E, 0x7D, 0x5E, 0x20])), Frame(1, 2)]
    got, expected = bytearray(), b"".join(frame.encode() for frame in frames)

    async def bench(ctx):
        for frame in frames:
            ctx.set(dut.kind, frame.kind)
            ctx.set(dut.sequence, frame.sequence)
            ctx.set(dut.length, len(frame.payload))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            byte = 0
            while ctx.get(dut.busy):
                ctx.set(dut.payload, byte)  # a cycle after its index, as memories are
                index = ctx.get(dut.index)
                byte = frame.payload[index] if index < len(frame.payload) else 0
                ready = rng.random() < 0.5
                ctx.set(dut.bytes.ready, int(ready))
                if ready and ctx.get(dut.bytes.valid):
                    got.append(ctx.get(dut.bytes.payload))
                    assert len(got) <= len(expected)  # in place of a frame that never ends
                await ctx.tick()

    simulate(dut, bench)
    assert bytes(got) == expected
    assert parse_body(frames[0].body(), 400) == frames[0]
