"""Golden model of a device at the host link.  Hardware twin: ``chessrnn.hdl.device.host_link``."""

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
    """Model of a device that computes the answer to every frame, for at most two frames that wait at a time.

    Parameters
    ----------
    weights : NetworkWeights
        Weights of the network on the device.
    identity : Identity
        Answer to the frame IDENTIFY.

    Attributes
    ----------
    steps, accepted, refused : int
        Counts as in :class:`chessrnn.model.link.frames.Counters`.
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
        """Receive one byte; the result is the answer to the frame that it completes, if any."""
        return self._answer(self.decoder.byte(value, error))

    def silence(self) -> Frame | None:
        """Receive a long pause of the line; the result is the refusal of an unfinished frame, if any."""
        return self._answer(self.decoder.silence())

    def feed(self, data: bytes) -> list[Frame]:
        """Receive several bytes; the result are the answers in order."""
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
            # The reference has no clock, so it counts no cycles.
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
