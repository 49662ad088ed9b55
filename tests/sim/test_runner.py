"""The judge of a simulation sees every kind of mistake; the build directory sees every mismatch."""

import json
import re
import shutil

import numpy as np
import pytest

from chessrnn.model.errors import InvalidFileError, InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import emit, is_current, load_build
from chessrnn.sim.runner import Run, judge, simulate
from chessrnn.sim.scenarios import Scenario, random_sequences
from chessrnn.sim.stalls import StallPattern


@pytest.fixture(scope="module")
def weights():
    return random_weights(preset("tiny"), np.random.default_rng(5))


@pytest.fixture(scope="module")
def scenario(weights):
    return Scenario(weights, random_sequences(weights.config, np.random.default_rng(6), (3, 1)))


@pytest.fixture(scope="module")
def emitted(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("emitted") / "tiny"
    emit(weights, path, "a test")
    return path


@pytest.fixture
def build(emitted, tmp_path):
    """A copy that the test may change."""
    return shutil.copytree(emitted, tmp_path / "tiny")


def perfect(scenario: Scenario) -> dict:
    """The record of a bench on a flawless accelerator."""
    line, issues = scenario.timeline, scenario.config.bank_words
    blocks = scenario.config.num_output_blocks
    active = []
    for first, last in zip(line.first_issue, line.last_issue, strict=True):
        active += [first, *range(last - issues + 2, last + 1)]
    h_cycles = [cycle for last in line.last_beat for cycle in range(last - blocks + 1, last + 1)]
    return {
        "error": None,
        "cycles": 100,
        "seconds": 1.0,
        "h": list(scenario.h_beats),
        "states": [],
        "state_cycles": [],
        "y": [],
        "y_cycles": [],
        "x_cycles": [0],
        "h_cycles": h_cycles,
        "active": active,
    }


def test_perfect(scenario):
    result = judge(Run(scenario), perfect(scenario))
    assert result.problems == []
    assert result.mismatches == 0
    assert result.timeline == scenario.timeline
    assert json.loads(json.dumps(result.to_dict()))["steps"] == 4


LAST = 1 << (4 * 8)


@pytest.mark.parametrize(
    ("field", "change", "text", "mismatches"),
    [
        ("h", lambda h: [h[0] ^ 1, *h[1:]], "step 0, beat 0: h is ", 1),
        ("h", lambda h: [h[0] ^ LAST, *h[1:]], "step 0, beat 0: h_last is ", 0),
        ("h", lambda h: h[:-1], "11 beats of h arrived, not 12", 1),
        ("h", lambda h: [*h, 0], "13 beats of h arrived, not 12", 0),
        ("active", lambda a: a[:-1], "the tile worked in 35 cycles, not 9 x 4 steps", 0),
        ("active", lambda a: [*a[:-1], a[-1] + 1], "step 3: last_issue in cycle ", 0),
        ("active", lambda a: [a[0] - 1, *a[1:]], "step 0: first_issue in cycle ", 0),
        ("h_cycles", lambda h: [*h[:-1], h[-1] + 1], "step 3: last_beat in cycle ", 0),
        ("error", lambda _: "cycle 7: stuck", "cycle 7: stuck", 0),
    ],
)
def test_mistakes_are_seen(scenario, field, change, text, mismatches):
    raw = perfect(scenario)
    raw[field] = change(raw[field])
    result = judge(Run(scenario), raw)
    assert any(problem.startswith(text) for problem in result.problems), result.problems
    assert result.mismatches == mismatches


@pytest.mark.parametrize(
    ("field", "change", "text"),
    [
        ("y", lambda y: [y[0] ^ 1, *y[1:]], "step 0: y_index is "),
        ("y", lambda y: [*y[:-1], y[-1] ^ 1 << 8], "step 3: y_index is "),
        ("y", lambda y: y[:-1], "3 results arrived, not 4"),
        ("y_cycles", lambda c: [*c[:-1], c[-1] + 1], "step 3: result in cycle "),
    ],
)
def test_mistakes_of_an_output_layer_are_seen(field, change, text, rng):
    config = preset("tiny").replace({"architecture.output_layer": 7})
    scenario = Scenario(random_weights(config, rng), random_sequences(config, rng, (3, 1)))
    raw = perfect(scenario)
    raw["y"] = list(scenario.y_beats)
    raw["y_cycles"] = [cycle + config.output_plan.latency for cycle in scenario.timeline.last_beat]
    assert judge(Run(scenario), raw).problems == []
    raw[field] = change(raw[field])
    assert any(problem.startswith(text) for problem in judge(Run(scenario), raw).problems)


def test_cycles_are_free_under_stalls(scenario):
    raw = perfect(scenario)
    raw["h_cycles"] = [cycle + 5 for cycle in raw["h_cycles"]]
    assert judge(Run(scenario, sink=StallPattern("random", 0.5)), raw).problems == []


def test_build_directory(build, weights):
    assert load_build(build).config == weights.config
    assert is_current(build, weights)
    assert not is_current(build, random_weights(weights.config, np.random.default_rng(7)))
    assert {
        "config.json",
        "accelerator.v",
        "ports.json",
        "report.json",
        "tiny_vectors_x.mem",
        "tiny_vectors_h.mem",
    } <= {path.name for path in build.iterdir()}


def test_vectors(build, weights):
    config = weights.config
    words = [int(line, 16) for line in (build / "tiny_vectors_h.mem").read_text().splitlines()[1:]]
    x_words = [int(line, 16) for line in (build / "tiny_vectors_x.mem").read_text().splitlines()[1:]]
    k, q = config.block_size, config.quantization
    scenario = Scenario(weights, random_sequences(config, np.random.default_rng(0), (4, 1, 3)))
    assert words == scenario.h_beats
    assert x_words == scenario.x_beats
    assert sum(word >> (k * q.h.width) for word in words) == 3


def replace_fingerprint(path):
    path.write_text(re.sub(r"configuration [0-9a-f]{16}", "configuration 0123456789abcdef", path.read_text()))


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("name", ["accelerator.v", "tiny_bias.mem", "tiny_weights_r3_c1.mem"])
@pytest.mark.parametrize("damage", [replace_fingerprint, lambda path: path.unlink()], ids=["other", "missing"])
def test_mismatching_files_are_refused(build, scenario, name, damage):
    damage(build / name)
    with pytest.raises(InvalidFileError, match=re.escape(name)):
        simulate(build, [Run(scenario)], "icarus")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": {}}', '{"config": 3, "configuration": ""}'])
def test_damaged_config_is_refused(build, content):
    (build / "config.json").write_text(content)
    with pytest.raises((InvalidFileError, InvalidValueError)):
        load_build(build)


def test_a_build_of_an_older_version_is_not_current(build, weights):
    values = json.loads((build / "config.json").read_text())
    values["config"]["architecture"]["pipeline"]["forgotten"] = 1
    (build / "config.json").write_text(json.dumps(values))
    assert not is_current(build, weights)


def test_config_of_another_design_is_refused(build):
    values = json.loads((build / "config.json").read_text())
    values["config"]["architecture"]["engine"] = "fast"
    (build / "config.json").write_text(json.dumps(values))
    with pytest.raises(InvalidFileError, match="must be of configuration"):
        load_build(build)


def test_unknown_simulator(build, scenario):
    with pytest.raises(InvalidValueError, match="simulator must be one of verilator, icarus, not 'spice'"):
        simulate(build, [Run(scenario)], "spice")
