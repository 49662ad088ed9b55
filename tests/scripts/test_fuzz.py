"""``chessrnn fuzz``: designs that share one simulation are judged one by one, and a series goes on where it stopped."""

import json

import numpy as np
import pytest

from chessrnn.scripts import fuzz
from chessrnn.sim import together
from chessrnn.sim.runner import SimulationError

# Among the first designs of this seed, ones that simulate in a moment.
SEED, PRODUCTS = 17, 16
SMALL = [2, 5]


@pytest.mark.needs("icarus")
def test_designs_of_one_simulation_are_judged_one_by_one(monkeypatch):
    words = together.memory_words

    def damaged(weights):
        """The words of all memories; those of one of the designs are zeros."""
        own = words(weights)
        return {name: [0] * len(values) for name, values in own.items()} if weights.config == broken else own

    designs = [fuzz.make_runs(SEED, index, PRODUCTS) for index in SMALL]
    broken = designs[1][0].scenario.config
    monkeypatch.setattr(together, "memory_words", damaged)
    judged = together.simulate_together(designs)
    assert [[bool(result.problems) for result in results] for results in judged] == [[False] * 2, [True] * 2]
    for runs, results in zip(designs, judged, strict=True):
        assert [result.run for result in results] == runs
        assert all(result.cycles > result.timeline.last_beat[-1] for result in results)
    assert [result.mismatches for result in judged[0]] == [0, 0]
    assert np.array_equal(judged[0][0].h, judged[0][1].h)


def plain(index: int, problems: list[str] = ()) -> dict:
    return {"index": index, "config": {}, "steps": 2, "cycles": 3, "problems": list(problems), "seconds": 0.5}


@pytest.fixture
def checked(monkeypatch, tmp_path):
    """The designs that are checked, in a process of their own and without a simulator: each is named in a file."""
    done = tmp_path / "done"

    def check(series, indices, simulator, max_products):
        with open(done, "a") as file:
            file.write("".join(f"{index}\n" for index in indices))
        return [plain(index, ["wrong"] if index == 4 else []) for index in indices]

    monkeypatch.setattr(fuzz, "check", check)
    monkeypatch.chdir(tmp_path)
    return lambda: sorted(map(int, done.read_text().split()))


def test_a_series_goes_on(checked, tmp_path, capsys):
    results = tmp_path / "results.jsonl"
    assert fuzz.main(["--count", "4", "--results", str(results), "--workers", "1"]) == 0
    assert fuzz.main(["--count", "30", "--results", str(results), "--workers", "1", "--json"]) == fuzz.EXIT_MISMATCH
    assert checked() == list(range(30))
    summary = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert (summary["designs"], summary["steps"], summary["failed"], summary["seconds"] >= 2.0) == (30, 60, [4], True)
    # Nothing is left to do, and the failure counts still.
    assert fuzz.main(["--count", "30", "--results", str(results), "--workers", "1"]) == fuzz.EXIT_MISMATCH
    assert len(checked()) == 30


def test_results_of_another_series_are_rejected(checked, tmp_path):
    results = tmp_path / "results.jsonl"
    assert fuzz.main(["--count", "1", "--results", str(results), "--workers", "1"]) == 0
    with pytest.raises(fuzz.InvalidFileError, match="must be of the same series and generator"):
        fuzz.main(["--count", "1", "--seed", "2", "--results", str(results), "--workers", "1"])
    results.write_text("{\n")
    with pytest.raises(fuzz.InvalidFileError, match="must hold results that chessrnn fuzz --results wrote"):
        fuzz.main(["--count", "1", "--results", str(results), "--workers", "1"])


def test_a_failing_simulation_is_repeated_for_each_design_alone(monkeypatch, tmp_path):
    log = tmp_path / "log"

    def fail(designs):
        raise SimulationError("icarus must simulate together", log)

    monkeypatch.setattr(fuzz, "simulate_together", fail)
    monkeypatch.setattr(fuzz, "check_alone", lambda series, index, runs, simulator: plain(index))
    assert [result["index"] for result in fuzz.check(SEED, SMALL, "icarus", PRODUCTS)] == SMALL
