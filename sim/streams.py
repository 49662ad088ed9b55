"""Ends of valid/ready streams as cycle-by-cycle state machines, for any simulator.

A bench calls, once per cycle: ``Source.offer`` and ``Sink.offer`` for what to drive, then ``observe`` with what
the handshake wires showed at the end of the cycle.
"""

from collections.abc import Iterable

from chessrnn.sim.stalls import StallPattern


class ProtocolError(Exception):
    """A stream broke the rules of valid/ready."""


class DeadlockError(Exception):
    """A stream did not move for too long."""


class Source:
    """Drives valid and payload.

    Parameters
    ----------
    name : str
        Of the stream, for messages.
    payloads : list of int
        What to send, in order.
    stalls : StallPattern
        In a stalled cycle no *new* payload is offered; one that is offered stays until it is taken.
    """

    def __init__(self, name: str, payloads: list[int], stalls: StallPattern):
        self.name, self.payloads = name, payloads
        self.sent = 0
        self._stalls = stalls.cycles()
        self._offered = False

    @property
    def done(self) -> bool:
        """Everything has been taken."""
        return self.sent == len(self.payloads)

    def offer(self) -> int | None:
        """Payload of this cycle; ``None``: not valid."""
        stalled = next(self._stalls)
        self._offered = self._offered or not (stalled or self.done)
        return self.payloads[self.sent] if self._offered else None

    def observe(self, ready: bool) -> bool:
        """End of the cycle; true when the payload was taken."""
        taken = self._offered and ready
        if taken:
            self._offered = False
            self.sent += 1
        return taken

    def __str__(self):
        state = "offered" if self._offered else "not offered"
        return f"stream {self.name}: beat {self.sent} of {len(self.payloads)} {state}, not taken"


class Sink:
    """Drives ready, records payloads and checks the protocol of the other end.

    Parameters
    ----------
    name : str
    count : int
        Payloads that must come.
    stalls : StallPattern
        Cycles without ready.
    """

    def __init__(self, name: str, count: int, stalls: StallPattern):
        self.name, self.count = name, count
        self.received: list[int] = []
        self._stalls = stalls.cycles()
        self._ready = False
        self._checker = ProtocolChecker(name)

    @property
    def done(self) -> bool:
        """Everything has come."""
        return len(self.received) >= self.count

    def offer(self) -> bool:
        """Ready in this cycle?"""
        self._ready = not next(self._stalls)
        return self._ready

    def observe(self, payload: int | None) -> bool:
        """End of the cycle with the payload that was valid, or ``None``; true when it was taken."""
        self._checker.observe(payload, self._ready)
        taken = self._ready and payload is not None
        if taken:
            self.received.append(payload)
        return taken

    def __str__(self):
        return f"stream {self.name}: beat {len(self.received)} of {self.count} never came"


class ProtocolChecker:
    """Valid must not drop and the payload must not change before ready.

    Parameters
    ----------
    name : str
        Of the stream, for messages.
    """

    def __init__(self, name: str):
        self.name = name
        self._waiting: int | None = None

    def observe(self, payload: int | None, ready: bool) -> None:
        """One cycle: the valid payload (``None``: not valid) and ready."""
        if self._waiting is not None and payload != self._waiting:
            what = "valid dropped" if payload is None else f"payload changed from {self._waiting:#x} to {payload:#x}"
            raise ProtocolError(f"stream {self.name}: {what} before ready")
        self._waiting = None if ready else payload


class Watchdog:
    """Bounds a run: raises when no stream moved for ``patience`` cycles.

    Parameters
    ----------
    streams : iterable of Source or Sink
        Named in the message when they are not done.
    patience : int
    """

    def __init__(self, streams: Iterable[Source | Sink], patience: int):
        self._streams, self._patience = tuple(streams), patience
        self._idle = 0

    def observe(self, moved: bool) -> None:
        """One cycle."""
        self._idle = 0 if moved else self._idle + 1
        if self._idle > self._patience:
            stuck = "; ".join(str(stream) for stream in self._streams if not stream.done)
            raise DeadlockError(f"no stream moved for {self._patience} cycles: {stuck}")
