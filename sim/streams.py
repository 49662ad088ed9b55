"""Stream drivers: sources and sinks of valid/ready streams as cycle-by-cycle state machines, for any simulator.

Once per cycle a bench asks ``Source.offer`` and ``Sink.offer`` what to drive, and then passes the levels of the
handshake wires at the end of the cycle to ``observe``.
"""

from collections.abc import Iterable

from chessrnn.sim.stalls import StallPattern


class ProtocolError(Exception):
    """A stream violated the rules of valid/ready."""


class DeadlockError(Exception):
    """No stream moved for too long."""


class Source:
    """Stream driver of valid and payload.

    Parameters
    ----------
    name : str
        Name of the stream in messages.
    payloads : list of int
        Payloads to send, in order.
    stalls : StallPattern
        In a stalled cycle no *new* payload is offered; an offered one stays until it is taken.
    """

    def __init__(self, name: str, payloads: list[int], stalls: StallPattern):
        self.name, self.payloads = name, payloads
        self.sent = 0
        self._stalls = stalls.cycles()
        self._offered = False

    @property
    def done(self) -> bool:
        """Whether every payload has been taken."""
        return self.sent == len(self.payloads)

    def offer(self) -> int | None:
        """Begin a cycle: the payload to drive, or ``None`` to keep valid low."""
        stalled = next(self._stalls)
        self._offered = self._offered or not (stalled or self.done)
        return self.payloads[self.sent] if self._offered else None

    def observe(self, ready: bool) -> bool:
        """End a cycle; true when the payload was taken."""
        taken = self._offered and ready
        if taken:
            self._offered = False
            self.sent += 1
        return taken

    def __str__(self):
        state = "offered" if self._offered else "not offered"
        return f"stream {self.name}: beat {self.sent} of {len(self.payloads)} {state}, not taken"


class Sink:
    """Stream driver of ready, which records payloads and checks the protocol of the other side.

    Parameters
    ----------
    name : str
        Name of the stream in messages.
    count : int
        Number of payloads that must arrive.
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
        """Whether every payload has arrived."""
        return len(self.received) >= self.count

    def offer(self) -> bool:
        """Begin a cycle: whether to drive ready high."""
        self._ready = not next(self._stalls)
        return self._ready

    def observe(self, payload: int | None) -> bool:
        """End a cycle with the payload that was valid, or ``None``; true when it was taken."""
        self._checker.observe(payload, self._ready)
        if not self._ready or payload is None:
            return False
        self.received.append(payload)
        return True

    def __str__(self):
        return f"stream {self.name}: beat {len(self.received)} of {self.count} never arrived"


class ProtocolChecker:
    """Check that valid does not drop and the payload does not change before ready.

    Parameters
    ----------
    name : str
        Name of the stream in messages.
    """

    def __init__(self, name: str):
        self.name = name
        self._waiting: int | None = None

    def observe(self, payload: int | None, ready: bool) -> None:
        """Check one cycle with the valid payload, or ``None``, and ready."""
        if self._waiting is not None and payload != self._waiting:
            what = "valid dropped" if payload is None else f"payload changed from {self._waiting:#x} to {payload:#x}"
            raise ProtocolError(f"stream {self.name}: {what} before ready")
        self._waiting = None if ready else payload


class Watchdog:
    """Limit of a run: raises :class:`DeadlockError` when no stream moves for more than ``patience`` cycles.

    Parameters
    ----------
    streams : iterable of Source or Sink
        Streams that the message names unless they are done.
    patience : int
        Number of cycles without a transfer that are tolerated.
    """

    def __init__(self, streams: Iterable[Source | Sink], patience: int):
        self._streams, self._patience = tuple(streams), patience
        self._idle = 0

    def observe(self, moved: bool) -> None:
        """Count one cycle, in which a stream moved or none did."""
        self._idle = 0 if moved else self._idle + 1
        if self._idle > self._patience:
            stuck = "; ".join(str(stream) for stream in self._streams if not stream.done)
            raise DeadlockError(f"no stream moved for {self._patience} cycles: {stuck}")
