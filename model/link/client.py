"""The host's end of the link: questions, answers, patience."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError, shown
from chessrnn.model.link.frames import (
    REFUSED,
    REPLY,
    SEQUENCE_BITS,
    Counters,
    Frame,
    FrameDecoder,
    FrameError,
    Identity,
    Kind,
    LinkLayout,
    Reason,
)

ATTEMPTS = 8
# The device did not understand, or was not listening: the question may simply be asked again.
TRANSIENT = (Reason.LINE, Reason.SIZE, Reason.CHECKSUM, Reason.BUSY)
SEQUENCES = 1 << SEQUENCE_BITS


class Line(Protocol):
    """What carries bytes: a serial port, a socket, a terminal."""

    def write(self, data: bytes) -> object:
        """Send all of ``data``."""

    def read(self) -> bytes:
        """What has come; waits a short while for the first byte, returns nothing if none came."""


@dataclass(frozen=True)
class Patience:
    """How long a host waits.

    Attributes
    ----------
    answer : float
        Seconds without a byte after which a question is asked again.
    settled : float
        Seconds without a byte after which nothing more follows a refusal.
    clock : callable
        The time in seconds.  Of a simulated device it is the device's own: how fast a simulator runs beside other
        work says nothing about the device, and a question repeated too soon only fills its line.
    """

    answer: float = 1.0
    # A USB adapter may hold bytes back for 16 ms.
    settled: float = 0.05
    clock: Callable[[], float] = time.monotonic


class DeviceClient:
    """Talks to one device.

    Parameters
    ----------
    line : Line
    config : Config
        Of the network that the device should hold; its architecture does not matter.
    patience : Patience

    Attributes
    ----------
    repeats : int
        Questions that were asked again.
    """

    def __init__(self, line: Line, config: Config, patience: Patience | None = None):
        self.line, self.config, self.patience = line, config, patience or Patience()
        self.layout = LinkLayout(config)
        self.decoder = FrameDecoder(self.layout.max_answer_bytes)
        self.next_step = 0
        self.repeats = 0
        self._found: list[Frame | Reason] = []

    def ask(self, question: Frame) -> bytes:
        """Payload of the answer.

        Raises
        ------
        FrameError
            None came in several attempts, or the device refuses for good.
        """
        data, complaint = question.encode(), "no answer"
        for attempt in range(ATTEMPTS):
            if attempt:
                self.repeats += 1
            self.line.write(data)
            complaint, wait = "no answer", self.patience.answer
            while (found := self._next(wait)) is not None:
                if isinstance(found, Reason):
                    complaint, wait = f"a damaged answer ({found.name})", self.patience.settled
                elif found.kind == REFUSED:
                    reason = found.payload[0] if found.payload else 0
                    name = Reason(reason).name if reason in tuple(Reason) else str(reason)
                    # Perhaps of noise before the question, whose answer then follows at once.
                    complaint, wait = f"a refusal ({name})", self.patience.settled
                    if reason not in TRANSIENT and found.sequence == question.sequence:
                        raise FrameError(f"the device refuses {_name(question)}: {name}")
                elif found.kind == question.kind | REPLY and found.sequence == question.sequence:
                    return found.payload
                # Anything else answers something that was asked twice.
        raise FrameError(f"the device must answer {_name(question)} within {ATTEMPTS} attempts, not with {complaint}")

    def _next(self, wait: float) -> Frame | Reason | None:
        """The next frame of the line, ``None`` after ``wait`` seconds without a byte."""
        clock = self.patience.clock
        last = clock()
        while not self._found:
            # Before it is read: what comes in between is not late.
            now = clock()
            data = self.line.read()
            if data:
                last = clock()
                self._found += self.decoder.feed(data)
            elif now - last > wait:
                return None
        return self._found.pop(0)

    def identify(self) -> Identity:
        """Who is there?"""
        return Identity.unpack(self.ask(Frame(Kind.IDENTIFY, 0)))

    def expect(self, weights_sha256: str) -> Identity:
        """The device's identity, which must be that of the configured network with these weights.

        Raises
        ------
        InvalidValueError
            It is another one; the message tells the first thing that differs.
        """
        found = self.identify()
        wanted = Identity.of(self.config, weights_sha256, 0)
        for name in ("input_size", "hidden_size", "block_size", "x_bits", "h_bits", "numerics", "weights"):
            must, value = getattr(wanted, name), getattr(found, name)
            if must != value:
                raise InvalidValueError(f"the device's {name} must be {must!r} as configured, not {shown(value)}")
        return found

    def reset(self) -> None:
        """Zero state, zero counters."""
        self.ask(Frame(Kind.RESET, self.next_step))
        self.next_step = (self.next_step + 1) % SEQUENCES

    def step_frame(self, x: np.ndarray, last: bool = False) -> Frame:
        """The question of the next step."""
        return Frame(Kind.STEP, self.next_step, self.layout.pack_x(x, last))

    def step(self, x: np.ndarray, last: bool = False) -> np.ndarray:
        """One step: integers (X,) → integers (H,).

        Parameters
        ----------
        last : bool
            The sequence ends with it; the next step starts from zero state.
        """
        payload = self.ask(self.step_frame(x, last))
        self.next_step = (self.next_step + 1) % SEQUENCES
        return self.layout.unpack_h(payload)

    def counters(self) -> Counters:
        """What the device counted since the last reset."""
        return Counters.unpack(self.ask(Frame(Kind.COUNTERS, 0)))


def _name(frame: Frame) -> str:
    return f"{Kind(frame.kind).name} {frame.sequence}"


def damaged(frame: bytes, rng: np.random.Generator) -> bytes:
    """A frame as a bad line delivers it: bits flipped, bytes lost, added or cut off, or noise instead."""
    line = bytearray(frame)
    place = int(rng.integers(0, len(line)))
    match int(rng.integers(0, 6)):
        case 0:
            for _ in range(int(rng.integers(1, 4))):
                line[int(rng.integers(0, len(line)))] ^= 1 << int(rng.integers(0, 8))
        case 1:
            del line[place : place + int(rng.integers(1, 5))]
        case 2:
            line[place:place] = rng.bytes(int(rng.integers(1, 9)))
        case 3:
            del line[place:]
        case 4:
            line[place:place] = rng.bytes(int(rng.integers(1, 3 * len(line))))
        case _:
            line[:] = rng.bytes(place + 1)
    return bytes(line)
