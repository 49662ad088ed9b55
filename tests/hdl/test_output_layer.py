"""The output layer on chip in Amaranth's simulator: the reference's choice, in the predicted cycle."""

import dataclasses
import re

import numpy as np
import pytest

from model.char_model import CharModel
from model.errors import UserError
from model.explore import candidates
from model.output_layer import OutputLayer, output_plan
from model.presets import preset
from model.reference.network import NetworkReference
from model.schedule import Schedule
from model.weight_image import WeightImage
from model.weights import random_inputs, random_weights
from scripts.weights import SHIPPED
from sim.pysim import beats_of, run_accelerator

LENGTHS = (3, 1, 1, 2)


def check(config, rng, change=lambda layer: layer):
    """Values and cycles without stalls, values under stalls."""
    weights = random_weights(config, rng)
    weights = dataclasses.replace(weights, output=change(weights.output))
    q, k = config.quantization, config.block_size
    sequences = [random_inputs(config, rng, length) for length in LENGTHS]
    x_beats = beats_of(sequences, k, q.x.width)
    h = [NetworkReference(weights).run(x[:, None])[0][:, 0] for x in sequences]
    expected_h = beats_of(h, k, q.h.width)
    index, logit = weights.output.choose(np.concatenate(h))
    last = np.concatenate([np.arange(length) == length - 1 for length in LENGTHS])
    expected = [tuple(map(int, row)) for row in zip(index, logit, last, strict=True)]

    run = run_accelerator(weights, x_beats, len(expected_h))
    assert run.results == expected
    assert run.beats == expected_h
    line, latency = Schedule(config).timeline(list(LENGTHS)), output_plan(config).latency
    # It never holds up the layers.
    assert run.beat_cycles[config.num_output_blocks - 1 :: config.num_output_blocks] == line.last_beat
    assert run.result_cycles == [cycle + latency for cycle in line.last_beat]
    stall = float(rng.random() * 0.7)
    stalled = run_accelerator(
        weights, x_beats, len(expected_h), lambda: rng.random() >= stall, lambda: rng.random() >= stall
    )
    assert (stalled.results, stalled.beats) == (expected, expected_h)
    return index


DESIGNS = [
    {"output_layer": 10},
    {"output_layer": 7, "tile_rows": 1, "tile_cols": 1},
    {"output_layer": 7, "output_lanes": 7, "tile_rows": 1, "tile_cols": 1},
    {"output_layer": 13, "tile_rows": 3, "tile_cols": 2, "arithmetic": "carry_save"},
    {"output_layer": 5, "tile_rows": 2, "tile_cols": 1, "engine": "fast"},
]


@pytest.mark.parametrize("index", range(len(DESIGNS)))
def test_choice_and_cycle(index, rng):
    settings = {f"architecture.{name}": value for name, value in {"arithmetic": "multiplier", **DESIGNS[index]}.items()}
    check(preset("tiny").replace(settings), rng)


def small(**settings):
    """One tile of multipliers."""
    settings = {"tile_rows": 1, "tile_cols": 1, "arithmetic": "multiplier", **settings}
    return preset("tiny").replace({f"architecture.{name}": value for name, value in settings.items()})


def test_first_of_equals(rng):
    def equal(layer):
        weight = np.zeros_like(layer.weight)
        return dataclasses.replace(layer, weight=weight, bias=np.array([3, 5, 5, -1, 5, 2, 5]))

    assert set(check(small(output_layer=7, output_lanes=3), rng, equal)) == {1}


def test_lanes_without_output_never_win(rng):
    least = -(1 << 31)

    def negative(layer):
        return dataclasses.replace(layer, weight=layer.weight * 0, bias=np.full(7, least))

    # The last group has one output of its own and two lanes without.
    assert set(check(small(output_layer=7, output_lanes=3), rng, negative)) == {0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_layer": 1}, "architecture.output_layer must be 0 (none), or from 2 to 65536, not 1"),
        ({"output_lanes": 2}, "architecture.output_lanes must be left out (null) as architecture.output_layer is 0"),
        (
            {"output_layer": 7, "output_lanes": 8},
            "output_lanes must be from 1, or the output layer could not keep up, to 7, not 8",
        ),
        ({"output_layer": 64, "output_lanes": 2}, "architecture.output_lanes must be from"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        small(**settings)


def test_results_that_are_not_taken_hold_up_h_and_are_not_lost(rng):
    config = small(output_layer=7)
    weights = random_weights(config, rng)
    q, x = config.quantization, random_inputs(config, rng, output_plan(config).buffered + 12)
    h = NetworkReference(weights).run(x[:, None])[0][:, 0]
    expected = beats_of([h], config.block_size, q.h.width)
    held, cycle = 40 * config.bank_words, iter(range(1 << 30))
    run = run_accelerator(
        weights, beats_of([x], config.block_size, q.x.width), len(expected), accept_result=lambda: next(cycle) > held
    )
    assert run.beats == expected
    assert [index for index, _, _ in run.results] == weights.output.choose(h)[0].tolist()
    # All came, and the last of h only after the first result was taken.
    assert min(run.result_cycles) < run.beat_cycles[-1]
    assert sum(cycle < min(run.result_cycles) for cycle in run.beat_cycles) < len(expected) - config.num_output_blocks


def test_the_choice_is_the_character_models(rng):
    image = WeightImage.load(
        SHIPPED / "char128.safetensors", preset("char128").replace({"architecture.output_layer": 96})
    )
    fmt, model = image.config.quantization.h, CharModel(image)
    h = rng.integers(fmt.min, fmt.max + 1, (500, image.config.output_size))
    index, logit = image.weights.output.choose(h)
    assert np.array_equal(index, model.predict(h))
    assert np.array_equal(logit, model.logits(h).max(axis=-1))


@pytest.mark.parametrize(("field", "value"), [("weight", 128), ("bias", -(1 << 31) - 1)])
def test_values_beyond_their_bits_are_refused(field, value):
    values = {"weight": np.zeros((3, 4), dtype=np.int64), "bias": np.zeros(3, dtype=np.int64)}
    values[field].flat[1] = value
    with pytest.raises(UserError, match=rf"output.{field} must be from -\d+ to \d+, not {value}"):
        OutputLayer(**values, weight_frac=7)


def test_an_image_without_such_a_head_is_refused(rng):
    weights = random_weights(small(output_layer=7), rng)
    with pytest.raises(UserError, match="architecture.output_layer must be 0 without a head, not 7"):
        WeightImage(weights)


def test_no_exploration():
    with pytest.raises(UserError, match="architecture.output_layer must be 0 to be explored"):
        next(candidates(small(output_layer=7)))


def test_too_short_a_step():
    with pytest.raises(UserError, match="such that a step takes at least"):
        preset("tiny").replace(
            {"architecture.tile_rows": 12, "architecture.tile_cols": 5, "architecture.output_layer": 4}
        )
