import pytest

from chessrnn.sim.stalls import NONE, StallPattern
from chessrnn.sim.streams import DeadlockError, ProtocolChecker, ProtocolError, Sink, Source, Watchdog


def test_source_holds_its_offer_until_taken():
    source = Source("x", [7, 8, 9], StallPattern("random", 0.6, seed=2))
    taken, held = [], None
    for cycle in range(200):
        payload = source.offer()
        if held is not None:
            assert payload == held
        if source.observe(ready=cycle % 3 == 0):
            taken.append(payload)
        held = payload if payload is not None and cycle % 3 else None
    assert taken == [7, 8, 9]
    assert source.done


def test_sink_takes_only_when_ready():
    sink = Sink("h", 5, StallPattern("random", 0.5, seed=1))
    sent = 0
    while not sink.done:
        ready = sink.offer()
        assert sink.observe(sent) is ready
        sent += ready
    assert sink.received == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("second", "text"),
    [(None, "stream h: valid dropped before ready"), (6, "stream h: payload changed from 0x5 to 0x6 before ready")],
)
def test_protocol(second, text):
    checker = ProtocolChecker("h")
    checker.observe(5, ready=False)
    checker.observe(5, ready=False)
    with pytest.raises(ProtocolError, match=text):
        checker.observe(second, ready=True)


def test_protocol_allows_change_after_ready():
    checker = ProtocolChecker("h")
    for payload, ready in ((5, True), (6, True), (None, False), (None, True), (7, False), (7, True)):
        checker.observe(payload, ready)


def test_watchdog_names_the_stuck_stream():
    source, sink = Source("x", [1, 2], NONE), Sink("h", 3, NONE)
    watchdog = Watchdog((source, sink), patience=3)
    source.offer()
    source.observe(ready=True)
    watchdog.observe(moved=True)
    source.offer()
    for _ in range(3):
        watchdog.observe(moved=False)
    with pytest.raises(DeadlockError, match=r"3 cycles: stream x: beat 1 of 2 offered, not taken; stream h: beat 0 of"):
        watchdog.observe(moved=False)


def test_watchdog_does_not_name_what_is_done():
    source, sink = Source("x", [], NONE), Sink("h", 1, NONE)
    watchdog = Watchdog((source, sink), patience=1)
    watchdog.observe(moved=False)
    with pytest.raises(DeadlockError, match=r"1 cycles: stream h: beat 0 of 1 never arrived$"):
        watchdog.observe(moved=False)
