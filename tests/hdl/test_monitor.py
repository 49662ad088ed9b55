"""The monitor: its count of clipped values is that of the reference, and it compares the beats of x with those of h."""

import dataclasses

import numpy as np
import pytest

from chessrnn.hdl.framing import TOO_LONG
from chessrnn.hdl.monitor import BeatCheck
from chessrnn.hdl.verilog import generate
from chessrnn.model.presets import preset
from chessrnn.model.reference import cell_update
from chessrnn.model.weights import random_weights
from chessrnn.sim.pysim import pump, run_accelerator
from chessrnn.sim.scenarios import Scenario, random_sequences

# Narrow formats, so that values of every kind are clipped; sizes that leave padding in the last block.
NARROW = {
    "network.input_size": 6, "network.hidden_size": 6, "quantization.preact": "Q2.8", "quantization.cell": "Q0.12",
    "quantization.h": "Q0.8", "quantization.weight_frac": 5, "architecture.engine": "direct",
    "architecture.arithmetic": "multiplier", "architecture.tile_rows": 2, "architecture.tile_cols": 2,
    "architecture.monitor": True,
}  # fmt: skip
DESIGNS = {
    "lstm": {},
    "carry save": {"architecture.arithmetic": "carry_save", "architecture.cell_lanes": 2},
    "peephole": {"network.cell": "lstm_peephole", "quantization.weight_scale": "row"},
    "gru": {
        "network.cell": "gru",
        "network.num_layers": 2,
        "quantization.weight_frac": [[5, 5, 5, 5], [6, 5, 6, 5]],
        "quantization.cell": "Q1.12",
    },
    "reset first": {"network.cell": "gru_reset_first", "architecture.contexts": 2},
    "rnn": {"network.cell": "rnn", "quantization.weight_scale": "row"},
    "relu": {"network.cell": "rnn_relu"},
    "projection": {"network.projection_size": 5, "quantization.h": "Q1.7", "quantization.projection_frac": 4},
    "directions": {
        "network.cell": "gru_reset_first",
        "network.bidirectional": True,
        "architecture.sequence_steps": 4,
        "quantization.cell": "Q1.12",
    },
}
SLOW = {"carry save", "directions"}


def beats(words: list[int], bits: int) -> list[tuple[int, int]]:
    """Words of data and last as pairs."""
    return [(word & ((1 << bits) - 1), word >> bits) for word in words]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in DESIGNS])
def test_saturations_are_those_of_the_reference(name, clipped, rng, monkeypatch):
    config = preset("tiny").replace(NARROW | DESIGNS[name])
    if config.network.cell == "rnn_relu":
        # A sum below 0 becomes 0, which is no saturation.
        counting = cell_update.requantize
        monkeypatch.setattr(cell_update, "requantize", lambda values, *where: counting(np.maximum(values, 0), *where))
    k, q = config.block_size, config.quantization
    weights = random_weights(config, rng)
    if config.network.projection_size:
        weights = dataclasses.replace(weights, projection=weights.projection * 3)
    scenario = Scenario(weights, random_sequences(config, rng, (2, 2)))
    assert len(scenario.expected) == 2
    # What follows runs the reference again.
    expected, by_format = sum(clipped.values()), dict(clipped)
    h_beats = beats(scenario.h_beats, k * q.h.width)
    run = run_accelerator(weights, beats(scenario.x_beats, k * q.x.width), len(h_beats))
    assert run.beats == h_beats
    assert run.saturations == expected > 0
    # The state of a GRU is clipped, or its h, which is as small.
    assert sum(count > 0 for count in by_format.values()) >= min(2, len(by_format)), by_format


# -- beats -----------------------------------------------------------------------------------------------------------
CHECKED = {"lstm": {}, "directions": DESIGNS["directions"]}


def ideal_run(config, steps: int, rng) -> list[dict]:
    """What a correct accelerator does with random sequences: stimuli of the check, some of them with an early last."""
    x_blocks, h_blocks = config.num_input_blocks, config.num_stream_blocks
    rows, waiting = [], []
    for _ in range(steps):
        ends, fault = bool(rng.random() < 0.4), bool(rng.random() < 0.2)
        count = int(rng.integers(1, x_blocks)) if fault else x_blocks
        ends |= fault
        for beat in range(count):
            last = int(ends and beat == count - 1)
            rows.append({"x_taken": 1, "x_last": last, "h_taken": 0, "h_last": 0, "x_error": 0})
            rows.append({"x_taken": 0, "x_last": 0, "h_taken": 0, "h_last": 0, "x_error": int(fault and last)})
        waiting.append(ends)
        if ends or rng.random() < 0.5:
            for flag in waiting:
                for beat in range(h_blocks):
                    last = int(flag and beat == h_blocks - 1)
                    rows.append({"x_taken": 0, "x_last": 0, "h_taken": 1, "h_last": last, "x_error": 0})
            waiting = []
    return rows


def errors(config, rows: list[dict]) -> int:
    """In how many cycles the check reports an error."""
    # The first row is behind a reset; idle rows let the last error come out.
    idle = dict.fromkeys(rows[0], 0)
    return sum(out["error"] for out in pump(BeatCheck(config), [*rows, idle, idle], ("error",), 1))


@pytest.mark.parametrize("name", CHECKED)
def test_a_correct_run_has_no_error_of_beats(name, rng):
    config = preset("tiny").replace(NARROW | CHECKED[name])
    assert config.num_input_blocks > 1
    assert errors(config, ideal_run(config, 40, rng)) == 0


FAULTS = {
    "a beat of h twice": lambda rows, h: [*rows[: h + 1], *rows[h:]],
    "a beat of h lost": lambda rows, h: [*rows[:h], *rows[h + 1 :]],
    "a last lost": lambda rows, h: [{**row, "h_last": 0} if n == h else row for n, row in enumerate(rows)],
    "a last too many": lambda rows, h: [{**row, "h_last": row["h_taken"]} for row in rows],
    "an error that was none": lambda rows, h: [*rows[:h], {**rows[h], "x_error": 1}, *rows[h + 1 :]],
    "an error that is missing": lambda rows, h: [{**row, "x_error": row["x_error"] & 2} for row in rows],
    "a sequence cut for no reason": lambda rows, h: [*rows[:h], {**rows[h], "x_error": 1 << TOO_LONG}, *rows[h + 1 :]],
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_add_up_is_reported(fault, rng):
    config = preset("tiny").replace(NARROW)
    rows = ideal_run(config, 40, rng)
    assert any(row["x_error"] for row in rows)
    # The last beat of a sequence, with others behind it.
    ends = [number for number, row in enumerate(rows) if row["h_last"]]
    assert errors(config, FAULTS[fault](rows, ends[len(ends) // 2])) > 0


def test_a_beat_of_h_without_a_step_is_reported_at_once():
    beat = {"x_taken": 0, "x_last": 0, "h_taken": 1, "h_last": 0, "x_error": 0}
    assert errors(preset("tiny").replace(NARROW), [beat]) == 1


def test_a_cut_sequence_of_two_directions_adds_up(rng):
    """A sequence without last ends when the accelerator says so, and h has the last."""
    config = preset("tiny").replace(NARROW | DESIGNS["directions"])
    x_blocks, h_blocks, idle = (
        config.num_input_blocks,
        config.num_stream_blocks,
        {"x_error": 0, "h_taken": 0, "h_last": 0},
    )
    rows = [{"x_taken": 1, "x_last": 0, **idle} for _ in range(config.sequence_steps * x_blocks)]
    rows.append({"x_taken": 0, "x_last": 0, **idle, "x_error": 1 << TOO_LONG})
    count = config.sequence_steps * h_blocks
    out = [{"x_taken": 0, "x_last": 0, "x_error": 0, "h_taken": 1, "h_last": int(n == count - 1)} for n in range(count)]
    assert errors(config, rows + out) == 0
    out[-1]["h_last"] = 0
    assert errors(config, rows + out) == 1


@pytest.mark.slow
def test_without_a_monitor_there_is_none_of_it():
    plain = generate(preset("tiny").replace(NARROW | {"architecture.monitor": False}), "d")
    watched = generate(preset("tiny").replace(NARROW), "d")
    for word in ("beat_check", "clipped", "saturated", "saturations", "beat_error"):
        assert word in watched and word not in plain
