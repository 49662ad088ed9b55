"""The language of the host link: frames of bytes that carry x to the accelerator and h back.

A frame is ``kind · sequence number · length (2 bytes) · payload · CRC-32 (4 bytes)``, numbers with the lowest byte
first, between two flags; one flag may end a frame and begin the next.  A flag or an escape inside is sent as
an escape and the byte with bit 5 flipped, as in RFC 1662 (PPP in HDLC-like framing), so that a flag always is
the border of a frame: whatever was lost before, the next frame is understood.  The CRC is that of ISO 3309 and
of ``zlib.crc32``, over everything before it.

The host asks, the device answers with the same sequence number and ``kind | REPLY``, or refuses with
:data:`REFUSED`.  A step that is asked for again with the number of the last one is answered again without being
computed again, so a host that lost an answer just repeats the question.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError, UserError, require
from chessrnn.model.memory_image import pack

FLAG, ESCAPE, FLIP = 0x7E, 0x7D, 0x20
HEADER_BYTES, CRC_BYTES = 4, 4
SEQUENCE_BITS = 8
PROTOCOL_VERSION = 1
REPLY = 0x80
REFUSED = 0xFF
# Bit of a step's first payload byte: the sequence ends here and the next step starts from zero state.
LAST_STEP = 0x01


class Kind(IntEnum):
    """What the host asks for."""

    IDENTIFY = 1  # answer: Identity
    STEP = 2  # payload: flags, x of a step; answer: h of the step
    COUNTERS = 3  # answer: Counters
    RESET = 4  # zero state, zero counters; the next step's number is this frame's plus one


class Reason(IntEnum):
    """Why a frame was refused; 0 stands for a good one."""

    NONE = 0
    LINE = 1  # a stop bit was missing, an escape was cut off, or the line fell silent inside a frame
    SIZE = 2  # shorter or longer than any frame, or not as long as it says
    CHECKSUM = 3
    KIND = 4  # of no kind above
    LENGTH = 5  # not the length of its kind
    SEQUENCE = 6  # a step that is neither the next nor the last one
    BUSY = 7  # sent while two others were waiting


class FrameError(UserError):
    """A frame was damaged on its way, or no answer came."""


@dataclass(frozen=True)
class Frame:
    """A whole frame.

    Attributes
    ----------
    kind, sequence : int
    payload : bytes
    """

    kind: int
    sequence: int
    payload: bytes = b""

    def body(self) -> bytes:
        """Everything between the flags, without escapes."""
        head = struct.pack("<BBH", self.kind, self.sequence, len(self.payload)) + self.payload
        return head + struct.pack("<I", zlib.crc32(head))

    def encode(self) -> bytes:
        """The bytes on the line, both flags included."""
        return bytes([FLAG]) + escape(self.body()) + bytes([FLAG])


def escape(body: bytes) -> bytes:
    """Byte stuffing."""
    out = bytearray()
    for byte in body:
        out += bytes([ESCAPE, byte ^ FLIP]) if byte in (FLAG, ESCAPE) else bytes([byte])
    return bytes(out)


def parse_body(body: bytes, max_bytes: int) -> Frame | Reason:
    """What stood between two flags: a frame, or why it is none.

    Parameters
    ----------
    max_bytes : int
        Of the longest frame that is expected, header and CRC included.
    """
    if not HEADER_BYTES + CRC_BYTES <= len(body) <= max_bytes:
        return Reason.SIZE
    head, crc = body[:-CRC_BYTES], struct.unpack("<I", body[-CRC_BYTES:])[0]
    if zlib.crc32(head) != crc:
        return Reason.CHECKSUM
    kind, sequence, length = struct.unpack("<BBH", head[:HEADER_BYTES])
    if length != len(head) - HEADER_BYTES:
        return Reason.SIZE
    return Frame(kind, sequence, head[HEADER_BYTES:])


class FrameDecoder:
    """Bytes of the line → frames and reasons for refusal, in order.

    Hardware twin: ``chessrnn.hdl.device.frame_receiver``.

    Parameters
    ----------
    max_bytes : int
        Of the longest frame, header and CRC included.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._restart()

    def _restart(self) -> None:
        self._body, self._begun, self._escaped, self._broken = bytearray(), False, False, False

    def byte(self, value: int, error: bool = False) -> Frame | Reason | None:
        """One byte; ``error``: its stop bit was missing, which damages the frame whatever the byte is."""
        if value == FLAG and not error:
            return self._end()
        self._begun = True
        self._broken |= error
        if value == ESCAPE and not self._escaped:
            self._escaped = True
        else:
            # One byte beyond the longest frame tells as much as a thousand.
            if len(self._body) <= self.max_bytes:
                self._body.append(value ^ FLIP if self._escaped else value)
            self._escaped = False
        return None

    def silence(self) -> Reason | None:
        """The line was idle for longer than the device waits."""
        begun = self._begun
        self._restart()
        return Reason.LINE if begun else None

    def feed(self, data: bytes) -> list[Frame | Reason]:
        """Many bytes."""
        return [found for found in map(self.byte, data) if found is not None]

    def _end(self) -> Frame | Reason | None:
        begun, broken, body = self._begun, self._broken or self._escaped, bytes(self._body)
        self._restart()
        if not begun:
            return None
        return Reason.LINE if broken else parse_body(body, self.max_bytes)


@dataclass(frozen=True)
class LinkLayout:
    """Sizes of the payloads of a configuration.

    A beat of the accelerator's streams takes whole bytes, the first element in the lowest bits of the first.
    """

    config: Config

    def __post_init__(self):
        contexts = self.config.architecture.contexts
        require(contexts == 1, "architecture.contexts", "1 behind the host link", contexts)
        both = self.config.network.bidirectional
        require(not both, "network.bidirectional", "false behind the host link, which sends step by step", both)
        has_ports = self.config.architecture.state_ports
        require(not has_ports, "architecture.state_ports", "false behind the host link", has_ports)
        outputs = self.config.architecture.output_layer
        require(outputs == 0, "architecture.output_layer", "0 behind the host link, which carries h", outputs)

    @property
    def x_beat_bytes(self) -> int:
        """Bytes of a beat of x."""
        return -(-self.config.block_size * self.config.quantization.x.width // 8)

    @property
    def h_beat_bytes(self) -> int:
        """Bytes of a beat of h."""
        return -(-self.config.block_size * self.config.quantization.h.width // 8)

    @property
    def step_bytes(self) -> int:
        """Payload of a step's question: flags, then the beats of x."""
        return 1 + self.config.num_input_blocks * self.x_beat_bytes

    @property
    def answer_bytes(self) -> int:
        """Payload of a step's answer: the beats of h."""
        return self.config.num_output_blocks * self.h_beat_bytes

    @property
    def max_request_bytes(self) -> int:
        """Longest frame that the device takes: a step's."""
        return HEADER_BYTES + self.step_bytes + CRC_BYTES

    @property
    def max_answer_bytes(self) -> int:
        """Longest frame that the host takes."""
        return HEADER_BYTES + max(self.answer_bytes, Identity.BYTES, Counters.BYTES) + CRC_BYTES

    def pack_x(self, x: np.ndarray, last: bool = False) -> bytes:
        """Payload of a step: integers (X,) in the format of x."""
        k, count = self.config.block_size, self.config.num_input_blocks
        padded = np.zeros(count * k, dtype=np.int64)
        padded[: len(x)] = x
        words = pack(padded.reshape(count, k), self.config.quantization.x.width)
        return bytes([LAST_STEP if last else 0]) + b"".join(
            word.to_bytes(self.x_beat_bytes, "little") for word in words
        )

    def unpack_x(self, payload: bytes) -> tuple[np.ndarray, bool]:
        """Inverse of :meth:`pack_x`: integers (X,), and whether the sequence ends."""
        x = _elements(payload[1:], self.x_beat_bytes, self.config.block_size, self.config.quantization.x.width)
        return x[: self.config.network.input_size], bool(payload[0] & LAST_STEP)

    def pack_h(self, h: np.ndarray) -> bytes:
        """Payload of an answer: integers (H,) in the format of h."""
        k, count = self.config.block_size, self.config.num_output_blocks
        padded = np.zeros(count * k, dtype=np.int64)
        padded[: len(h)] = h
        words = pack(padded.reshape(count, k), self.config.quantization.h.width)
        return b"".join(word.to_bytes(self.h_beat_bytes, "little") for word in words)

    def unpack_h(self, payload: bytes) -> np.ndarray:
        """Inverse of :meth:`pack_h`: integers (H,)."""
        if len(payload) != self.answer_bytes:
            raise FrameError(f"an answer must hold {self.answer_bytes} bytes of h, not {len(payload)}")
        h = _elements(payload, self.h_beat_bytes, self.config.block_size, self.config.quantization.h.width)
        return h[: self.config.output_size]


def _elements(data: bytes, beat_bytes: int, count: int, bits: int) -> np.ndarray:
    """``count`` two's-complement elements of every beat."""
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    values = []
    for start in range(0, len(data), beat_bytes):
        word = int.from_bytes(data[start : start + beat_bytes], "little")
        values += [((word >> (position * bits)) & mask) for position in range(count)]
    array = np.array(values, dtype=np.int64)
    return array - ((array >= half) * (2 * half))


@dataclass(frozen=True)
class Identity:
    """What a device says about itself.

    Attributes
    ----------
    block_size, x_bits, h_bits, input_size, hidden_size : int
        k, widths of an element, X, H.
    step_bytes, answer_bytes : int
        Payloads of a step.
    clock_khz : int
    configuration : str
        16 hexadecimal digits: ``Config.fingerprint``.
    numerics : str
        16 hexadecimal digits: ``Config.model_fingerprint``, which no tile changes.
    weights : str
        First 16 hexadecimal digits of the SHA-256 of the weights.
    """

    block_size: int
    x_bits: int
    h_bits: int
    input_size: int
    hidden_size: int
    step_bytes: int
    answer_bytes: int
    clock_khz: int
    configuration: str
    numerics: str
    weights: str

    FORMAT = "<BBBBHHHHI8s8s8s"
    BYTES = struct.calcsize(FORMAT)

    @classmethod
    def of(cls, config: Config, weights_sha256: str, clock_hz: float) -> "Identity":
        """The identity of a design point with weights."""
        layout = LinkLayout(config)
        q, network = config.quantization, config.network
        return cls(
            config.block_size, q.x.width, q.h.width, network.input_size, config.output_size,
            layout.step_bytes, layout.answer_bytes, round(clock_hz / 1000), config.fingerprint,
            config.model_fingerprint, weights_sha256[:16],
        )  # fmt: skip

    def pack(self) -> bytes:
        """Payload of the answer to IDENTIFY."""
        return struct.pack(
            self.FORMAT, PROTOCOL_VERSION, self.block_size, self.x_bits, self.h_bits, self.input_size,
            self.hidden_size, self.step_bytes, self.answer_bytes, self.clock_khz, bytes.fromhex(self.configuration),
            bytes.fromhex(self.numerics), bytes.fromhex(self.weights),
        )  # fmt: skip

    @classmethod
    def unpack(cls, payload: bytes) -> "Identity":
        """Inverse of :meth:`pack`."""
        if len(payload) != cls.BYTES:
            raise FrameError(f"an identity must hold {cls.BYTES} bytes, not {len(payload)}")
        version, *values, configuration, numerics, weights = struct.unpack(cls.FORMAT, payload)
        if version != PROTOCOL_VERSION:
            raise FrameError(f"the device's protocol must be version {PROTOCOL_VERSION}, not {version}")
        return cls(*values, configuration.hex(), numerics.hex(), weights.hex())


@dataclass(frozen=True)
class Counters:
    """What a device counted since its last reset; each wraps at 2^32.

    Attributes
    ----------
    steps : int
        Steps computed; a repeated answer is none.
    tile_cycles : int
        Cycles in which the tile worked.
    step_cycles : int
        Cycles from the first beat of x to the last of h, of all steps.
    accepted, refused : int
        Frames; the one that asks counts.
    """

    steps: int
    tile_cycles: int
    step_cycles: int
    accepted: int
    refused: int

    FORMAT = "<5I"
    BYTES = struct.calcsize(FORMAT)

    def pack(self) -> bytes:
        """Payload of the answer to COUNTERS."""
        return struct.pack(self.FORMAT, self.steps, self.tile_cycles, self.step_cycles, self.accepted, self.refused)

    @classmethod
    def unpack(cls, payload: bytes) -> "Counters":
        """Inverse of :meth:`pack`."""
        if len(payload) != cls.BYTES:
            raise FrameError(f"counters must hold {cls.BYTES} bytes, not {len(payload)}")
        return cls(*struct.unpack(cls.FORMAT, payload))


# -- the line --------------------------------------------------------------------------------------------------

# A receiver samples in the middle of a bit, found from the start bit; nine and a half bits later it must still be
# inside of the stop bit.
MAX_BAUD_ERROR = 0.02
MIN_DIVISOR = 4
BITS_PER_BYTE = 10  # start, eight data bits, stop


@dataclass(frozen=True)
class LinkConfig:
    """Clock and line of a device.

    Parameters
    ----------
    clock_hz : float
        Of everything.
    divisor : int
        Clock cycles per bit.
    silence_cycles : int
        A frame that pauses for this long is given up.
    """

    clock_hz: float
    divisor: int
    silence_cycles: int

    SILENCE_SECONDS = 0.1

    def __post_init__(self):
        require(self.divisor >= MIN_DIVISOR, "clock cycles per bit", f"at least {MIN_DIVISOR}", self.divisor)
        least = 2 * BITS_PER_BYTE * self.divisor
        require(self.silence_cycles >= least, "silence_cycles", f"at least {least}", self.silence_cycles)

    @property
    def baud(self) -> float:
        """Bits per second."""
        return self.clock_hz / self.divisor

    @classmethod
    def from_baud(cls, clock_hz: float, baud: int) -> "LinkConfig":
        """The divisor that comes closest to a rate.

        Raises
        ------
        InvalidValueError
            None comes close enough.
        """
        require(baud > 0, "baud", "more than 0", baud)
        divisor = max(MIN_DIVISOR, round(clock_hz / baud))
        if abs(clock_hz / divisor / baud - 1) > MAX_BAUD_ERROR:
            raise InvalidValueError(
                f"baud must be within {100 * MAX_BAUD_ERROR:g} % of {clock_hz:.0f} divided by a whole number from "
                f"{MIN_DIVISOR}, not {baud}"
            )
        return cls(clock_hz, divisor, round(clock_hz * cls.SILENCE_SECONDS))

    def step_seconds(self, layout: LinkLayout) -> float:
        """Time of a step's two frames on the line, one after the other, without escapes."""
        frames = 2 * (2 + HEADER_BYTES + CRC_BYTES) + layout.step_bytes + layout.answer_bytes
        return frames * BITS_PER_BYTE / self.baud
