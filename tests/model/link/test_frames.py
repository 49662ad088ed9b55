"""The codec of the host link, and the client against the reference device."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model.errors import InvalidValueError
from chessrnn.model.link.client import DeviceClient, Timeouts, damaged
from chessrnn.model.link.frames import (
    ESCAPE,
    FLAG,
    Counters,
    Frame,
    FrameDecoder,
    FrameError,
    Identity,
    Kind,
    LinkConfig,
    LinkLayout,
    Reason,
)
from chessrnn.model.presets import preset
from chessrnn.model.reference.host_link import HostLinkReference
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.sim.scenarios import random_config

MAX = 80
frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 255),
    st.lists(st.one_of(st.integers(0, 255), st.sampled_from([FLAG, ESCAPE])), max_size=MAX - 8).map(bytes),
)


@given(st.lists(frames, max_size=5))
def test_decoder_reads_what_frames_encode(many):
    line = b"".join(frame.encode() for frame in many)
    assert FrameDecoder(MAX).feed(line) == many
    # One flag may end a frame and begin the next.
    assert FrameDecoder(MAX).feed(line.replace(bytes([FLAG, FLAG]), bytes([FLAG]))) == many


@given(frames)
def test_flags_stand_at_the_borders_alone(frame):
    assert FLAG not in frame.encode()[1:-1]


@given(frames, st.binary(max_size=3 * MAX), frames)
def test_whatever_came_before_the_next_frame_is_understood(first, noise, second):
    decoder = FrameDecoder(MAX)
    decoder.feed(first.encode()[:-1] + noise)
    assert decoder.feed(second.encode())[-1] == second


@given(frames, st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(frame, place, bit):
    line = bytearray(frame.encode())
    line[1 + place % (len(line) - 2)] ^= 1 << bit
    found = FrameDecoder(MAX).feed(bytes(line))
    assert frame not in found
    assert all(isinstance(f, Reason) for f in found)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (bytes([FLAG, 1, 2, FLAG]), Reason.SIZE),
        (bytes([FLAG]) + bytes(MAX + 1) + bytes([FLAG]), Reason.SIZE),
        (bytes([FLAG]) + bytes(12) + bytes([FLAG]), Reason.CHECKSUM),
        (Frame(1, 2, b"abc").encode()[:-1] + bytes([ESCAPE, FLAG]), Reason.LINE),
    ],
)
def test_reasons(line, reason):
    assert FrameDecoder(MAX).feed(line) == [reason]


def test_numbers_of_reasons_on_the_line():
    # A host of an earlier version must understand them.
    names = ["NONE", "LINE", "SIZE", "CHECKSUM", "KIND", "LENGTH", "SEQUENCE", "BUSY"]
    assert {reason.name: int(reason) for reason in Reason} == {name: number for number, name in enumerate(names)}


def test_numbers_of_requests_on_the_line():
    assert {kind.name: int(kind) for kind in Kind} == {"IDENTIFY": 1, "STEP": 2, "COUNTERS": 3, "RESET": 4}


def test_a_missing_stop_bit_damages_the_whole_frame():
    decoder, frame = FrameDecoder(MAX), Frame(1, 2, b"abc")
    begun, *rest, end = frame.encode()
    decoder.byte(begun)
    for number, value in enumerate(rest):
        assert decoder.byte(value, error=number == 0) is None
    assert decoder.byte(end) is Reason.LINE
    assert decoder.feed(frame.encode()) == [frame]


def test_timing_of_a_line():
    link, layout = LinkConfig.from_baud(25e6, 115_200), LinkLayout(preset("tiny"))
    assert (link.divisor, link.silence_cycles) == (217, 2_500_000)
    for baud in (0, 300_000):
        with pytest.raises(InvalidValueError, match="^baud must be "):
            LinkConfig.from_baud(1e6, baud)
    # Flags, header and checksum of a request and its answer, and ten bits for each byte.
    frames = [Frame(Kind.STEP, 1, bytes(count)).encode() for count in (layout.step_bytes, layout.answer_bytes)]
    assert not any(ESCAPE in frame for frame in frames)
    assert round(link.step_seconds(layout) * 25e6) == sum(map(len, frames)) * 10 * 217


def test_silence_ends_a_frame_and_not_the_line():
    decoder = FrameDecoder(MAX)
    assert decoder.silence() is None
    decoder.feed(Frame(1, 2).encode()[:5])
    assert decoder.silence() is Reason.LINE
    assert decoder.feed(Frame(1, 2).encode()) == [Frame(1, 2)]


@given(st.integers(0, 2**32 - 1))
def test_payloads_carry_every_format(seed):
    rng = np.random.default_rng(seed)
    settings = {"architecture.contexts": 1, "network.bidirectional": False, "architecture.sequence_steps": None}
    config = random_config(rng).replace(settings | {"architecture.state_ports": False, "architecture.output_layer": 0})
    layout, last = LinkLayout(config), bool(rng.integers(2))
    x = random_inputs(config, rng, 1)[0]
    payload = layout.pack_x(x, last)
    assert len(payload) == layout.step_bytes
    got, got_last = layout.unpack_x(payload)
    np.testing.assert_array_equal(got, x)
    assert got_last == last
    fmt = config.quantization.h
    h = rng.integers(fmt.min, fmt.max + 1, config.output_size)
    np.testing.assert_array_equal(layout.unpack_h(layout.pack_h(h)), h)
    identity = Identity.of(config, "ab" * 32, 25e6)
    assert Identity.unpack(identity.pack()) == identity


class BadLine:
    """A line to the reference device that damages frames in both directions."""

    def __init__(self, device, rng, chance):
        self.device, self.rng, self.chance, self.waiting = device, rng, chance, bytearray()

    def _maybe(self, data):
        return damaged(data, self.rng) if self.rng.random() < self.chance else data

    def write(self, data):
        for frame in self.device.feed(self._maybe(data)):
            self.waiting += self._maybe(frame.encode())

    def read(self):
        data, self.waiting = bytes(self.waiting), bytearray()
        return data


def test_client_gets_every_step_through_a_bad_line(rng):
    weights = random_weights(preset("tiny"), rng)
    device = HostLinkReference(weights, Identity.of(weights.config, "cd" * 32, 25e6))
    client = DeviceClient(BadLine(device, rng, 0.2), weights.config, Timeouts(-1.0, -1.0))
    client.expect("cd" * 32)
    client.reset()
    xs = random_inputs(weights.config, rng, 300)
    got = np.stack([client.step(x) for x in xs])
    expected, _ = LayerReference(weights).run(xs[:, None])
    np.testing.assert_array_equal(got, expected[:, 0])
    assert client.counters().steps == len(xs)
    assert client.repeats > 30


def test_client_gives_up_and_names_why(rng):
    weights = random_weights(preset("tiny"), rng)
    device = HostLinkReference(weights, Identity.of(weights.config, "cd" * 32, 25e6))
    client = DeviceClient(BadLine(device, rng, 0), weights.config, Timeouts(-1.0, -1.0))
    with pytest.raises(InvalidValueError, match="weights must be 'efef.* not 'cdcd"):
        client.expect("ef" * 32)
    client.next_step = 7
    with pytest.raises(FrameError, match=r"must accept STEP 7, not refuse it \(SEQUENCE\)"):
        client.step(random_inputs(weights.config, rng, 1)[0])
    client.line.write = lambda data: None
    with pytest.raises(FrameError, match="not leave it unanswered"):
        client.identify()
    with pytest.raises(FrameError, match="must hold 20 bytes, not 3"):
        Counters.unpack(b"abc")


class Flood:
    """A line that carries the same bytes without end; every read takes a tenth of a second of its clock."""

    def __init__(self, data):
        self.data, self.time, self.requests = data, 0.0, 0

    def write(self, data):
        self.requests += 1

    def read(self):
        self.time += 0.1
        return self.data


@pytest.mark.parametrize(
    "data",
    [bytes([FLAG]) * 50, bytes(50), bytes([FLAG, 1, 2]) * 20, Frame(Kind.STEP, 5).encode() * 3, bytes([ESCAPE])],
    ids=["flags", "zeros", "noise", "other frames", "escapes"],
)
def test_a_flood_does_not_keep_the_client_waiting(data):
    line = Flood(data)
    client = DeviceClient(line, preset("tiny"), Timeouts(whole=2.0, clock=lambda: line.time))
    text = "^the device must answer IDENTIFY 0 within 8 attempts, not send other bytes for 2 s$"
    with pytest.raises(FrameError, match=text):
        client.identify()
    assert line.requests == 8
    assert line.time == pytest.approx(8 * 2.1, abs=1)


def test_an_answer_behind_noise_is_found(rng):
    weights = random_weights(preset("tiny"), rng)
    device = HostLinkReference(weights, Identity.of(weights.config, "cd" * 32, 25e6))
    line = Flood(b"")

    def write(data):
        line.data = bytes([FLAG, 1, 2]) * 20 + b"".join(frame.encode() for frame in device.feed(data))

    line.write = write
    client = DeviceClient(line, weights.config, Timeouts(clock=lambda: line.time))
    assert client.expect("cd" * 32).weights == Identity.of(weights.config, "cd" * 32, 0).weights
    assert client.repeats == 0


def test_device_answers_a_repeated_step_without_computing_it(rng):
    weights = random_weights(preset("tiny"), rng)
    device = HostLinkReference(weights, Identity.of(weights.config, "cd" * 32, 25e6))
    layout = LinkLayout(weights.config)
    question = Frame(Kind.STEP, 0, layout.pack_x(random_inputs(weights.config, rng, 1)[0])).encode()
    assert device.feed(question) == device.feed(question)
    assert device.steps == 1


@pytest.mark.parametrize(
    ("clock", "baud", "match"),
    [(12e6, 3_500_000, "baud must be within 2 %"), (25e6, 0, "baud must be more than 0, not 0")],
)
def test_bauds_that_the_clock_does_not_give(clock, baud, match):
    with pytest.raises(InvalidValueError, match=match):
        LinkConfig.from_baud(clock, baud)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"architecture.contexts": 2}, "architecture.contexts must be 1 behind the host link, not 2"),
        (
            {"network.bidirectional": True},
            "network.bidirectional must be false behind the host link, which sends step by step, not True",
        ),
    ],
)
def test_what_the_link_does_not_carry_is_refused(setting, text):
    with pytest.raises(InvalidValueError, match=f"^{text}$"):
        LinkLayout(preset("tiny").replace(setting))
