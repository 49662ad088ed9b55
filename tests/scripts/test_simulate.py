"""Simulation with Icarus says how long it will take, and is short by default where steps are slow."""

from types import SimpleNamespace

import numpy as np
import pytest

from chessrnn.model.presets import preset
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.scripts import simulate
from chessrnn.scripts.cli import run_command
from chessrnn.sim.runner import Run
from chessrnn.sim.scenarios import Scenario


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (1, "1 s"),
        (119, "119 s"),
        (121, "2 min"),
        (523, "9 min"),
        (7199, "120 min"),
        (7300, "2 h"),
        (1e6, "278 h"),
    ],
)
def test_durations(seconds, text):
    assert simulate.duration(seconds) == text


def test_the_estimate_is_of_the_measured_rate(capsys, monkeypatch, rng, tmp_path):
    weights = random_weights(preset("tiny"), rng)
    x = random_inputs(weights.config, rng, 100)
    measured = []

    def pretend(directory, runs, simulator):
        measured.extend(runs)
        return [SimpleNamespace(run=run, seconds=0.5) for run in runs]

    monkeypatch.setattr(simulate, "simulate", pretend)
    simulate.print_estimate(tmp_path, weights, [Run(Scenario(weights, (x[:1], x[1:])))] * 2)
    assert capsys.readouterr().err == "that takes about 25 s, at 8 steps/s\n"
    np.testing.assert_array_equal(measured[0].scenario.sequences[0], x[:4])
    # A short simulation is not measured first.
    simulate.print_estimate(tmp_path, weights, [Run(Scenario(weights, (x[:20],)))])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "steps", "noted"),
    [
        (["--sim", "icarus"], 210, True),
        (["--sim", "icarus", "--steps", "30"], 30, True),
        (["--sim", "icarus", "--set", "architecture.arithmetic=multiplier"], 2100, False),
        (["--sim", "verilator"], 2100, False),
    ],
)
def test_fewer_steps_where_they_are_slow(arguments, steps, noted, capsys, monkeypatch, tmp_path):
    class Reached(Exception):
        """The simulation would begin."""

    def stop(*_):
        raise Reached

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simulate, "make_current", lambda directory, chosen: None)
    monkeypatch.setattr(simulate, "simulate", stop)
    with pytest.raises(Reached):
        run_command(lambda: simulate.main(["--config", "tiny", "--random-weights", "1", *arguments]), "command")
    error = capsys.readouterr().err
    assert f"simulating {steps} steps with {arguments[1]}\n" in error
    assert ("Icarus simulates carry-save arithmetic slowly" in error) == noted


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_an_estimate_of_a_real_simulation(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ["--config", "tiny", "--sim", "icarus", "--steps", "60", "--set", "architecture.arithmetic=multiplier"]
    assert simulate.main(arguments) == 0
    assert "that takes about " in capfd.readouterr().err
