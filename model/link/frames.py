"""The protocol of the host link: frames of bytes that carry x to the accelerator and h back.

A frame is ``kind · sequence number · length (2 bytes) · payload · CRC-32 (4 bytes)`` between two flags, with the lowest
byte of every number first; one flag may end a frame and begin the next.  A flag or an escape inside a frame is sent as
an escape followed by the byte with bit 5 flipped, as in RFC 1662 (PPP in HDLC-like framing).  So a flag is always the
border of a frame, and the next frame is understood whatever was lost before.  The CRC is that of ISO 3309 and of
``zlib.crc32``, over everything before it.

The host sends a request.  The device answers with the same sequence number and ``kind | REPLY``, or refuses with
:data:`REFUSED`.  If the request of a step has the sequence number of the step before, the device repeats its answer and
computes nothing, so a host that lost an answer simply repeats the request.
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
# Bit of the first payload byte of a step: the sequence ends here, and the next step starts from zero state.
LAST_STEP = 0x01


class Kind(IntEnum):
    """The kinds of requests of the host."""

    IDENTIFY = 1  # answered by an Identity
    STEP = 2  # carries flags and the x of a step; answered by the h of the step
    COUNTERS = 3  # answered by Counters
    RESET = 4  # sets state and counters to zero; the number of the next step is that of this frame plus one


class Reason(IntEnum):
    """The reasons for which a frame is refused; 0 marks a good frame."""

    NONE = 0
    LINE = 1  # a stop bit was missing, an escape was cut off, or the line was idle for too long inside the frame
    SIZE = 2  # the frame is shorter or longer than any valid one, or its length field is wrong
    CHECKSUM = 3  # the CRC is wrong
    KIND = 4  # the kind is unknown
    LENGTH = 5  # the payload has the wrong length for its kind
    SEQUENCE = 6  # the step is neither the next one nor a repetition of the last one
    BUSY = 7  # two other frames were waiting


class FrameError(UserError):
    """A frame was damaged, or the device did not answer as expected."""


@dataclass(frozen=True)
class Frame:
    """A frame without flags, escapes and CRC.

    Attributes
    ----------
    kind : int
        A :class:`Kind`, with ``REPLY`` added in an answer, or ``REFUSED``.
    sequence : int
        Sequence number, which wraps at 256.
    payload : bytes
        The payload.
    """

    kind: int
    sequence: int
    payload: bytes = b""

    def body(self) -> bytes:
        """All bytes between the flags, without escapes."""
        head = struct.pack("<BBH", self.kind, self.sequence, len(self.payload)) + self.payload
        return head + struct.pack("<I", zlib.crc32(head))

    def encode(self) -> bytes:
        """Encode the frame as the bytes on the line, both flags included."""
        return bytes([FLAG]) + escape(self.body()) + bytes([FLAG])


def escape(body: bytes) -> bytes:
    """Replace every flag and escape in the body of a frame by an escape sequence (byte stuffing)."""
    out = bytearray()
    for byte in body:
        out += bytes([ESCAPE, byte ^ FLIP]) if byte in (FLAG, ESCAPE) else bytes([byte])
    return bytes(out)


def parse_body(body: bytes, max_bytes: int) -> Frame | Reason:
    """Parse the bytes between two flags; the result is a frame, or the reason why they are none.

    Parameters
    ----------
    body : bytes
        The bytes, without escapes.
    max_bytes : int
        Length of the longest frame that is expected, header and CRC included.
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
    """A decoder that turns the bytes of the line into frames and reasons for refusal, in order.

    Hardware twin: ``chessrnn.hdl.device.frame_receiver``.

    Parameters
    ----------
    max_bytes : int
        Length of the longest frame that is expected, header and CRC included.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._restart()

    def _restart(self) -> None:
        self._body, self._begun, self._escaped, self._broken = bytearray(), False, False, False

    def byte(self, value: int, error: bool = False) -> Frame | Reason | None:
        """Decode one byte; ``error`` says that its stop bit was missing, which damages the frame in any case."""
        if value == FLAG and not error:
            return self._end()
        self._begun = True
        self._broken |= error
        if value == ESCAPE and not self._escaped:
            self._escaped = True
        else:
            # One byte more than the longest frame is enough to detect an overlong one.
            if len(self._body) <= self.max_bytes:
                self._body.append(value ^ FLIP if self._escaped else value)
            self._escaped = False
        return None

    def silence(self) -> Reason | None:
        """Take note that the line was idle for too long; an unfinished frame is damaged by it."""
        begun = self._begun
        self._restart()
        return Reason.LINE if begun else None

    def feed(self, data: bytes) -> list[Frame | Reason]:
        """Decode several bytes."""
        return [found for found in map(self.byte, data) if found is not None]

    def _end(self) -> Frame | Reason | None:
        begun, broken, body = self._begun, self._broken or self._escaped, bytes(self._body)
        self._restart()
        if not begun:
            return None
        return Reason.LINE if broken else parse_body(body, self.max_bytes)


@dataclass(frozen=True)
class LinkLayout:
    """The layout of the payloads of a configuration.

    A beat of the streams of the accelerator takes whole bytes, with its first element in the lowest bits of the first
    byte.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator, which must have one context, one direction, no state ports and no output
        layer.
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
        """Number of bytes of a beat of x."""
        return -(-self.config.block_size * self.config.quantization.x.width // 8)

    @property
    def h_beat_bytes(self) -> int:
        """Number of bytes of a beat of h."""
        return -(-self.config.block_size * self.config.quantization.h.width // 8)

    @property
    def step_bytes(self) -> int:
        """Number of payload bytes of the request of a step: flags, then the beats of x."""
        return 1 + self.config.num_input_blocks * self.x_beat_bytes

    @property
    def answer_bytes(self) -> int:
        """Number of payload bytes of the answer to a step: the beats of h."""
        return self.config.num_output_blocks * self.h_beat_bytes

    @property
    def max_request_bytes(self) -> int:
        """Length of the longest frame that the device accepts, the request of a step."""
        return HEADER_BYTES + self.step_bytes + CRC_BYTES

    @property
    def max_answer_bytes(self) -> int:
        """Length of the longest frame that the host accepts."""
        return HEADER_BYTES + max(self.answer_bytes, Identity.BYTES, Counters.BYTES) + CRC_BYTES

    def pack_x(self, x: np.ndarray, last: bool = False) -> bytes:
        """Pack the payload of a step from integers (X,) in the format of x."""
        k, count = self.config.block_size, self.config.num_input_blocks
        padded = np.zeros(count * k, dtype=np.int64)
        padded[: len(x)] = x
        words = pack(padded.reshape(count, k), self.config.quantization.x.width)
        return bytes([LAST_STEP if last else 0]) + b"".join(
            word.to_bytes(self.x_beat_bytes, "little") for word in words
        )

    def unpack_x(self, payload: bytes) -> tuple[np.ndarray, bool]:
        """Unpack the payload of a step: integers (X,), and whether the sequence ends."""
        x = _elements(payload[1:], self.x_beat_bytes, self.config.block_size, self.config.quantization.x.width)
        return x[: self.config.network.input_size], bool(payload[0] & LAST_STEP)

    def pack_h(self, h: np.ndarray) -> bytes:
        """Pack the payload of an answer from integers (H or P,) in the format of h."""
        k, count = self.config.block_size, self.config.num_output_blocks
        padded = np.zeros(count * k, dtype=np.int64)
        padded[: len(h)] = h
        words = pack(padded.reshape(count, k), self.config.quantization.h.width)
        return b"".join(word.to_bytes(self.h_beat_bytes, "little") for word in words)

    def unpack_h(self, payload: bytes) -> np.ndarray:
        """Unpack the payload of an answer: integers (H or P,)."""
        if len(payload) != self.answer_bytes:
            raise FrameError(f"an answer must hold {self.answer_bytes} bytes of h, not {len(payload)}")
        h = _elements(payload, self.h_beat_bytes, self.config.block_size, self.config.quantization.h.width)
        return h[: self.config.output_size]


def _elements(data: bytes, beat_bytes: int, count: int, bits: int) -> np.ndarray:
    """Unpack the ``count`` two's-complement elements of every beat."""
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    values = []
    for start in range(0, len(data), beat_bytes):
        word = int.from_bytes(data[start : start + beat_bytes], "little")
        values += [((word >> (position * bits)) & mask) for position in range(count)]
    array = np.array(values, dtype=np.int64)
    return array - ((array >= half) * (2 * half))


@dataclass(frozen=True)
class Identity:
    """The identity of a device: the network and the weights that it holds.

    Attributes
    ----------
    block_size : int
        k.
    x_bits, h_bits : int
        Widths of an element of x and of h.
    input_size : int
        X.
    hidden_size : int
        Number of elements of the h that the device sends: H, or P with a projection.
    step_bytes, answer_bytes : int
        Numbers of payload bytes of the request of a step and of its answer.
    clock_khz : int
        Clock frequency in kHz.
    configuration : str
        ``Config.fingerprint``, 16 hexadecimal digits.
    numerics : str
        ``Config.model_fingerprint``, 16 hexadecimal digits, which is the same for every architecture.
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
        """Identity of a design point with its weights."""
        layout = LinkLayout(config)
        q, network = config.quantization, config.network
        return cls(
            config.block_size, q.x.width, q.h.width, network.input_size, config.output_size,
            layout.step_bytes, layout.answer_bytes, round(clock_hz / 1000), config.fingerprint,
            config.model_fingerprint, weights_sha256[:16],
        )  # fmt: skip

    def pack(self) -> bytes:
        """Pack the payload of the answer to IDENTIFY."""
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
        return cls(*values, configuration=configuration.hex(), numerics=numerics.hex(), weights=weights.hex())


@dataclass(frozen=True)
class Counters:
    """The counts of a device since its last reset; each one wraps at 2^32.

    Attributes
    ----------
    steps : int
        Number of steps computed; repeated answers do not count.
    tile_cycles : int
        Number of cycles in which the matrix engine worked.
    step_cycles : int
        Number of cycles from the first beat of x to the last beat of h, summed over all steps.
    accepted, refused : int
        Numbers of accepted and of refused frames; the frame that asks for the counts is included.
    """

    steps: int
    tile_cycles: int
    step_cycles: int
    accepted: int
    refused: int

    FORMAT = "<5I"
    BYTES = struct.calcsize(FORMAT)

    def pack(self) -> bytes:
        """Pack the payload of the answer to COUNTERS."""
        return struct.pack(self.FORMAT, self.steps, self.tile_cycles, self.step_cycles, self.accepted, self.refused)

    @classmethod
    def unpack(cls, payload: bytes) -> "Counters":
        """Inverse of :meth:`pack`."""
        if len(payload) != cls.BYTES:
            raise FrameError(f"counters must hold {cls.BYTES} bytes, not {len(payload)}")
        return cls(*struct.unpack(cls.FORMAT, payload))


# -- the line --------------------------------------------------------------------------------------------------

# A receiver finds the middle of the bits from the edge of the start bit, and nine and a half bits later it must still
# sample inside the stop bit.
MAX_BAUD_ERROR = 0.02
MIN_DIVISOR = 4
BITS_PER_BYTE = 10  # start, eight data bits, stop


@dataclass(frozen=True)
class LinkConfig:
    """The clock and the line timing of a device.

    Parameters
    ----------
    clock_hz : float
        Clock frequency of the whole device in Hz.
    divisor : int
        Number of clock cycles per bit on the line.
    silence_cycles : int
        Number of clock cycles without a byte after which an unfinished frame is abandoned.
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
        """Number of bits per second on the line."""
        return self.clock_hz / self.divisor

    @classmethod
    def from_baud(cls, clock_hz: float, baud: int) -> "LinkConfig":
        """Line timing with the divisor that comes closest to ``baud`` bits per second.

        Raises
        ------
        InvalidValueError
            No divisor comes close enough.
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
        """Seconds that the two frames of a step take on the line, one after the other, without escapes."""
        frames = 2 * (2 + HEADER_BYTES + CRC_BYTES) + layout.step_bytes + layout.answer_bytes
        return frames * BITS_PER_BYTE / self.baud
