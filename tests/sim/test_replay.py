"""Replay of what a whole model sent through its recurrent layers in the emitted Verilog."""

import numpy as np
import pytest

from chessrnn.model.config import Config
from chessrnn.model.errors import UserError
from chessrnn.model.hybrid.border import Border
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import emit
from chessrnn.sim.replay import replay, scenario_of


def border(rng, record=True, **architecture):
    values = {
        "name": "tiny",
        "network": {"input_size": 4, "hidden_size": 4},
        "compression": {"block_size": 2},
        "architecture": architecture,
    }
    return Border(random_weights(Config.from_dict(values), rng), record=record)


def test_calls_that_continue_become_one_sequence(rng):
    model, x = border(rng), rng.uniform(-1, 1, (6, 2, 4))
    state = None
    for part in np.split(x, 3):
        state = model.run(part, state).state
    model.run(x[:3])
    scenario, expected = scenario_of(model)
    assert scenario.lengths == [6, 6, 3, 3] and scenario.initial == ()
    assert scenario_of(model, 8)[0].lengths == [6, 2]
    for wanted, h in zip(expected, scenario.expected, strict=True):
        np.testing.assert_array_equal(wanted, h)


def test_nothing_recorded(rng):
    model = border(rng, record=False)
    model.run(np.zeros((1, 1, 4)))
    with pytest.raises(UserError, match="the record must be of at least one call"):
        scenario_of(model)


def test_another_first_state_needs_state_ports(rng):
    model = border(rng)
    model.run(np.zeros((1, 1, 4)), [(np.ones((1, 4)) / 4, np.ones((1, 4)) / 2)])
    with pytest.raises(UserError, match="architecture.state_ports must be true to simulate first states"):
        scenario_of(model)


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_verilog_with_first_states(rng, tmp_path):
    model = border(rng, state_ports=True)
    start = [(rng.uniform(-0.5, 0.5, (2, 4)), rng.uniform(-1, 1, (2, 4)))]
    state = model.run(rng.uniform(-1, 1, (2, 2, 4)), start).state
    model.run(rng.uniform(-1, 1, (2, 2, 4)), state)
    emit(model.weights, tmp_path / "build", "test")
    assert replay(model, tmp_path / "build", "icarus") == (8, [])
    # The model received something else.
    model.recorded[0].h[1] = model.recorded[0].h[1] + 1
    steps, problems = replay(model, tmp_path / "build", "icarus")
    assert problems == ["h of the Verilog must equal what the model received, not differ"]
