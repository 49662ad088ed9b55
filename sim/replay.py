"""Replay of what a whole model sent through its recurrent layers: the emitted Verilog must give the same h."""

from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.hybrid.border import Border
from chessrnn.sim.runner import Run, simulate
from chessrnn.sim.scenarios import Scenario


def scenario_of(border: Border, steps: int | None = None) -> tuple[Scenario, list[np.ndarray]]:
    """Turn recorded calls into one stream of sequences.

    Parameters
    ----------
    border : Border
        Border of a model that was created with ``record=True`` and has run.
    steps : int, optional
        Greatest number of steps in all; left out, every step.

    Returns
    -------
    Scenario
    list of int array (T, H)
        h of the reference, as the model received it, for every sequence.

    Raises
    ------
    InvalidValueError
        Nothing was recorded, or a first state is not zero and the design has no state ports.
    """
    require(bool(border.recorded), "the record", "of at least one call: record=True, then a run", "empty")
    inputs: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    initial: list = []
    left = steps
    for sequences in border.recorded:
        x, h = np.concatenate(sequences.x), np.concatenate(sequences.h)
        for number in range(x.shape[1]):
            length = len(x) if left is None else min(len(x), left)
            if border.config.network.bidirectional and length < len(x):
                length = 0  # its reverse direction begins at the end
            if length <= 0:
                continue
            left = None if left is None else left - length
            inputs.append(x[:length, number])
            expected.append(h[:length, number])
            start = sequences.start
            initial.append(None if start is None else [(h0[number], c0[number]) for h0, c0 in start])
    require(bool(inputs), "steps", "enough for one whole sequence", steps)
    is_zero = all(one is None for one in initial)
    if not is_zero and not border.config.architecture.state_ports:
        raise InvalidValueError("architecture.state_ports must be true to simulate first states that are not zero")
    return Scenario(border.weights, tuple(inputs), () if is_zero else tuple(initial)), expected


def replay(border: Border, folder: str | Path, simulator: str, steps: int | None = None) -> tuple[int, list[str]]:
    """Simulate the Verilog in a build folder on recorded calls.

    Parameters
    ----------
    border, steps
        Arguments of :func:`scenario_of`.
    folder : path
        Build folder of the same weights; the caller holds its lock.
    simulator : str
        ``"icarus"`` or ``"verilator"``.

    Returns
    -------
    int
        Number of steps that were simulated.
    list of str
        Every difference from what the model received; empty when the model would have computed the same with the
        hardware.
    """
    scenario, expected = scenario_of(border, steps)
    (result,) = simulate(folder, [Run(scenario, name="inputs")], simulator)
    problems = list(result.problems)
    if not problems:
        found = [result.h[scenario.steps_of(number)] for number in range(len(expected))]
        if not all(np.array_equal(h, wanted) for h, wanted in zip(found, expected, strict=True)):
            problems.append("h of the Verilog must equal what the model received, not differ")
    return sum(map(len, expected)), problems
