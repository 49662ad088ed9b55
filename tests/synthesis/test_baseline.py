"""Area and depth do not grow unnoticed."""

import pytest

from scripts.synthesis.baseline import ENGINES, baseline_file, measure, read_baseline, regressions


@pytest.mark.parametrize("engine", ENGINES)
def test_no_regression(engine):
    path = baseline_file()
    assert path.exists(), f"{path.name} is missing: make bless measures it for this version"
    assert not regressions(read_baseline(path)[engine], measure(engine)), "make bless accepts what is meant"


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
