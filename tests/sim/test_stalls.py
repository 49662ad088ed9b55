from itertools import islice

import pytest

from chessrnn.model.errors import InvalidValueError
from chessrnn.sim.stalls import NONE, StallPattern

CYCLES = 20000


@pytest.mark.parametrize("kind", ["random", "bursty"])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_share_of_stalled_cycles(kind, probability):
    pattern = StallPattern(kind, probability, 5, seed=3)
    cycles = list(islice(pattern.cycles(), CYCLES))
    assert sum(cycles) / CYCLES == pytest.approx(probability, abs=0.04)
    assert cycles == list(islice(StallPattern(**pattern.to_dict()).cycles(), CYCLES))
    assert cycles != list(islice(StallPattern(kind, probability, 5, seed=4).cycles(), CYCLES))


def test_bursts_have_their_length():
    cycles = list(islice(StallPattern("bursty", 0.5, 20, seed=1).cycles(), CYCLES))
    bursts = sum(1 for before, now in zip(cycles[:-1], cycles[1:], strict=True) if now and not before)
    assert sum(cycles) / bursts == pytest.approx(20, rel=0.2)


def test_none():
    assert NONE.never
    assert StallPattern("random", 0.0).never
    assert not any(islice(NONE.cycles(), 100))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("often",), "stalls.kind must be one of none, random, bursty, not 'often'"),
        (("random", 1.0), "stalls.probability must be from 0 to below 1, not 1.0"),
        (("bursty", 0.5, 0), "stalls.length must be at least 1, not 0"),
    ],
)
def test_wrong_patterns(arguments, text):
    with pytest.raises(InvalidValueError, match=text):
        StallPattern(*arguments)
