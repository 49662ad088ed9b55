"""The client on the host: it sends requests to a device, waits for the answers, and repeats requests that got none."""

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
# Reasons of refusals after which a request may be repeated: the device did not understand it or was busy.
TRANSIENT = (Reason.LINE, Reason.SIZE, Reason.CHECKSUM, Reason.BUSY)
SEQUENCES = 1 << SEQUENCE_BITS


class Line(Protocol):
    """A connection that carries bytes: a serial port, a socket, a terminal."""

    def write(self, data: bytes) -> object:
        """Send all of ``data``."""
        ...

    def read(self) -> bytes:
        """Return the bytes that have arrived; wait a short time for the first one, and return none if none arrives."""
        ...


@dataclass(frozen=True)
class Timeouts:
    """The timeouts of a host.

    Attributes
    ----------
    answer : float
        Seconds without a byte after which a request is repeated.
    after_refusal : float
        Seconds without a byte after which nothing more follows a refusal.
    whole : float
        Seconds after which a request is repeated although bytes still arrive: noise, or a device that sends without
        end, must not keep the host waiting.  It is longer than the longest answer takes on the line.
    clock : callable
        Function that returns the time in seconds.  For a simulated device it is the simulated time: the speed of a
        simulator says nothing about the device, and a request repeated too soon only fills its line.
    """

    answer: float = 1.0
    # A USB adapter may hold bytes back for 16 ms.
    after_refusal: float = 0.05
    whole: float = 3.0
    clock: Callable[[], float] = time.monotonic


class DeviceClient:
    """A client that communicates with one device.

    Parameters
    ----------
    line : Line
        Connection to the device.
    config : Config
        Configuration of the network that the device should hold; its architecture does not matter.
    timeouts : Timeouts, optional
        Timeouts.

    Attributes
    ----------
    repeats : int
        Number of requests that were repeated.
    """

    def __init__(self, line: Line, config: Config, timeouts: Timeouts | None = None):
        self.line, self.config, self.timeouts = line, config, timeouts or Timeouts()
        self.layout = LinkLayout(config)
        self.decoder = FrameDecoder(self.layout.max_answer_bytes)
        self.next_step = 0
        self.repeats = 0
        self._found: list[Frame | Reason] = []

    def ask(self, request: Frame) -> bytes:
        """Send a request and return the payload of the answer.

        Raises
        ------
        FrameError
            No answer came in several attempts, or the device refused the request for a reason that will not change.
        """
        data, failure = request.encode(), "leave it unanswered"
        for attempt in range(ATTEMPTS):
            if attempt:
                self.repeats += 1
            self.line.write(data)
            failure, wait = "leave it unanswered", self.timeouts.answer
            deadline = self.timeouts.clock() + self.timeouts.whole
            while (found := self._next(wait, deadline)) is not None:
                if isinstance(found, Reason):
                    failure, wait = f"damage the answer ({found.name})", self.timeouts.after_refusal
                elif found.kind == REFUSED:
                    reason = found.payload[0] if found.payload else 0
                    name = Reason(reason).name if reason in tuple(Reason) else str(reason)
                    # The refusal may concern noise before the request, whose answer then follows at once.
                    failure, wait = f"refuse it ({name})", self.timeouts.after_refusal
                    if reason not in TRANSIENT and found.sequence == request.sequence:
                        raise FrameError(f"the device must accept {_name(request)}, not refuse it ({name})")
                elif found.kind == request.kind | REPLY and found.sequence == request.sequence:
                    return found.payload
                # Any other frame answers a request that was sent twice.
            if self.timeouts.clock() > deadline:
                failure = f"send other bytes for {self.timeouts.whole:.3g} s"
        raise FrameError(f"the device must answer {_name(request)} within {ATTEMPTS} attempts, not {failure}")

    def _next(self, wait: float, deadline: float) -> Frame | Reason | None:
        """Return the next frame of the line, or ``None`` after ``wait`` seconds without a byte or at the deadline."""
        clock = self.timeouts.clock
        last = clock()
        while not self._found:
            # The time is taken before the read, so that bytes that arrive in between do not count as late.
            now = clock()
            if now > deadline:
                return None
            data = self.line.read()
            if data:
                last = clock()
                self._found += self.decoder.feed(data)
            elif now - last > wait:
                return None
        return self._found.pop(0)

    def identify(self) -> Identity:
        """Ask the device for its identity."""
        return Identity.unpack(self.ask(Frame(Kind.IDENTIFY, 0)))

    def expect(self, weights_sha256: str) -> Identity:
        """Ask the device for its identity, which must be that of the configured network with these weights.

        Parameters
        ----------
        weights_sha256 : str
            SHA-256 of the weights, in hexadecimal digits.

        Raises
        ------
        InvalidValueError
            The identity differs; the message names the first difference.
        """
        found = self.identify()
        wanted = Identity.of(self.config, weights_sha256, 0)
        for name in ("input_size", "hidden_size", "block_size", "x_bits", "h_bits", "numerics", "weights"):
            must, value = getattr(wanted, name), getattr(found, name)
            if must != value:
                raise InvalidValueError(f"the device's {name} must be {must!r} as configured, not {shown(value)}")
        return found

    def reset(self) -> None:
        """Set the state and the counters of the device to zero."""
        self.ask(Frame(Kind.RESET, self.next_step))
        self.next_step = (self.next_step + 1) % SEQUENCES

    def step_frame(self, x: np.ndarray, last: bool = False) -> Frame:
        """Build the request of the next step."""
        return Frame(Kind.STEP, self.next_step, self.layout.pack_x(x, last))

    def step(self, x: np.ndarray, last: bool = False) -> np.ndarray:
        """Let the device compute one step.

        Parameters
        ----------
        x : integer array (X,)
            Input of the step, as codes of the format of x.
        last : bool
            Whether the sequence ends with this step, so that the next step starts from zero state.

        Returns
        -------
        int64 array (H or P,)
            Output of the step, as codes of the format of h.
        """
        payload = self.ask(self.step_frame(x, last))
        self.next_step = (self.next_step + 1) % SEQUENCES
        return self.layout.unpack_h(payload)

    def counters(self) -> Counters:
        """Ask the device for its counts since the last reset."""
        return Counters.unpack(self.ask(Frame(Kind.COUNTERS, 0)))


def _name(frame: Frame) -> str:
    return f"{Kind(frame.kind).name} {frame.sequence}"


def damaged(frame: bytes, rng: np.random.Generator) -> bytes:
    """Damage a frame like a bad line does: flip bits, lose, add or cut off bytes, or deliver only noise."""
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
