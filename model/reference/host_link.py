"""Golden device of the host link.  Hardware twin: ``chessrnn.hdl.device.host_link``."""

import numpy as np

from chessrnn.model.link.frames import (
    REFUSED,
    REPLY,
    SEQUENCE_BITS,
    Counters,
    Frame,
    FrameDecoder,
    Identity,
    Kind,
    LinkLayout,
    Reason,
)
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import NetworkWeights


class HostLinkReference:
    """What a device answers to bytes, as long as no more than two frames wait at a time.

    Parameters
    ----------
    weights : NetworkWeights
    identity : Identity

    Attributes
    ----------
    steps, accepted, refused : int
        As :class:`chessrnn.model.link.frames.Counters` counts them.
    """

    def __init__(self, weights: NetworkWeights, identity: Identity):
        self.network, self.identity = NetworkReference(weights), identity
        self.layout = LinkLayout(weights.config)
        self.decoder = FrameDecoder(self.layout.max_request_bytes)
        self.expected = 0
        self._clear()

    def _clear(self) -> None:
        self.steps = self.accepted = self.refused = 0
        self.state, self.last, self.answer = None, None, b""

    def byte(self, value: int, error: bool = False) -> Frame | None:
        """One byte of the line → the answer that it completes."""
        return self._answer(self.decoder.byte(value, error))

    def silence(self) -> Frame | None:
        """A long pause of the line."""
        return self._answer(self.decoder.silence())

    def feed(self, data: bytes) -> list[Frame]:
        """Many bytes."""
        return [answer for answer in map(self.byte, data) if answer is not None]

    def _answer(self, found: Frame | Reason | None) -> Frame | None:
        if found is None:
            return None
        if isinstance(found, Reason):
            return self._refuse(0, found)
        if found.kind not in tuple(Kind):
            return self._refuse(found.sequence, Reason.KIND)
        wanted = self.layout.step_bytes if found.kind == Kind.STEP else 0
        if len(found.payload) != wanted:
            return self._refuse(found.sequence, Reason.LENGTH)
        payload = b""
        if found.kind == Kind.STEP:
            if found.sequence == self.last:
                payload = self.answer
            elif found.sequence != self.expected:
                return self._refuse(found.sequence, Reason.SEQUENCE)
            else:
                payload = self._step(found)
        elif found.kind == Kind.RESET:
            self._clear()
            self.expected = self._next(found.sequence)
        self.accepted += 1
        if found.kind == Kind.IDENTIFY:
            payload = self.identity.pack()
        elif found.kind == Kind.COUNTERS:
            # Cycles are the hardware's own affair.
            payload = Counters(self.steps, 0, 0, self.accepted, self.refused).pack()
        return Frame(found.kind | REPLY, found.sequence, payload)

    def _refuse(self, sequence: int, reason: Reason) -> Frame:
        self.refused += 1
        return Frame(REFUSED, sequence, bytes([reason, self.expected]))

    def _step(self, frame: Frame) -> bytes:
        x, last = self.layout.unpack_x(frame.payload)
        h, state = self.network.run(np.asarray(x)[None, None], self.state)
        self.state = None if last else state
        self.last, self.expected = frame.sequence, self._next(frame.sequence)
        self.steps += 1
        self.answer = self.layout.pack_h(h[0, 0])
        return self.answer

    @staticmethod
    def _next(sequence: int) -> int:
        return (sequence + 1) % (1 << SEQUENCE_BITS)
