"""Area and depth do not grow unnoticed."""

import pytest

from chessrnn.sim.synthesis.baseline import DESIGNS, baseline_file, measure, name, read_baseline, regressions

QUICK = ("direct", "multiplier")


@pytest.mark.parametrize(
    ("engine", "arithmetic"),
    [pytest.param(*design, marks=[] if design == QUICK else [pytest.mark.slow]) for design in DESIGNS],
)
def test_no_regression(engine, arithmetic):
    path = baseline_file()
    assert path.exists(), f"{path.name} is missing: make bless measures it for this version"
    before = read_baseline(path)[name(engine, arithmetic)]
    assert not regressions(before, measure(engine, arithmetic)), "make bless accepts what is meant"


def test_regressions_are_seen():
    before = {
        "gates": 1000,
        "depth": 10,
        "modules": {"a": {"gates": 100, "depth": 5}, "gone": {"gates": 1, "depth": 1}},
    }
    same = {"gates": 1005, "depth": 11, "modules": {"a": {"gates": 100, "depth": 5}, "new": {"gates": 9, "depth": 9}}}
    assert regressions(before, same) == []
    worse = {"gates": 1020, "depth": 12, "modules": {"a": {"gates": 90, "depth": 7}}}
    assert len(regressions(before, worse)) == 3
