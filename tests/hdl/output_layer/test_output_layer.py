"""The output layer on chip in Amaranth's simulator: the reference's logits and choice in the predicted cycles."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from chessrnn.model.cost.explore import candidates
from chessrnn.model.cost.resources import memory_bits
from chessrnn.model.errors import UserError
from chessrnn.model.memory_image import memory_words
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.presets import preset
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.schedule import Schedule
from chessrnn.model.text.char_model import CharModel
from chessrnn.model.training.export import choose_formats, weight_image
from chessrnn.model.training.sequence_network import SequenceNetwork
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.scripts.weight_arguments import SHIPPED
from chessrnn.sim.pysim import beats_of, run_accelerator

LENGTHS = (3, 1, 1, 2)


def check(config, rng, change=lambda layer: layer):
    """Check values and cycles without stalls, and values with stalls."""
    weights = random_weights(config, rng)
    weights = dataclasses.replace(weights, output=change(weights.output))
    q, k = config.quantization, config.block_size
    sequences = [random_inputs(config, rng, length) for length in LENGTHS]
    x_beats = beats_of(sequences, k, q.x.width)
    h = [NetworkReference(weights).run(x[:, None])[0][:, 0] for x in sequences]
    expected_h = beats_of(h, k, q.h.width)
    index, logit = weights.output.largest_logit(np.concatenate(h))
    last = np.concatenate([np.arange(length) == length - 1 for length in LENGTHS])
    expected = [tuple(map(int, row)) for row in zip(index, logit, last, strict=True)]

    run = run_accelerator(weights, x_beats, len(expected_h))
    assert run.results == expected
    assert run.beats == expected_h
    line, latency = Schedule(config).timeline(list(LENGTHS)), config.output_plan.latency
    # The output layer never delays the layers.
    assert run.beat_cycles[config.num_output_blocks - 1 :: config.num_output_blocks] == line.last_beat
    assert run.result_cycles == [cycle + latency for cycle in line.last_beat]
    stall = float(rng.random() * 0.7)
    stalled = run_accelerator(
        weights, x_beats, len(expected_h), lambda: rng.random() >= stall, lambda: rng.random() >= stall
    )
    assert (stalled.results, stalled.beats) == (expected, expected_h)
    return index


def numbered(designs: list, quick: set[int]) -> list:
    """Indices of designs for parametrize; all but the quick ones are left to the slow tests."""
    return [pytest.param(index, marks=[] if index in quick else [pytest.mark.slow]) for index in range(len(designs))]


DESIGNS = [
    {"output_layer": 10},
    {"output_layer": 7, "tile_rows": 1, "tile_cols": 1},
    {"output_layer": 7, "output_lanes": 7, "tile_rows": 1, "tile_cols": 1},
    {"output_layer": 13, "tile_rows": 3, "tile_cols": 2},
    {"output_layer": 5, "tile_rows": 2, "tile_cols": 1, "engine": "fast"},
    # A single value, as of a regression: its index is always 0.
    {"output_layer": 1},
]


@pytest.mark.parametrize("index", numbered(DESIGNS, {1, 4, 5}))
def test_choice_and_cycle(index, rng):
    settings = {f"architecture.{name}": value for name, value in {"arithmetic": "multiplier", **DESIGNS[index]}.items()}
    check(preset("tiny").replace(settings), rng)


def small(**settings):
    """Configuration of a tile of one processing element with multipliers."""
    settings = {"tile_rows": 1, "tile_cols": 1, "arithmetic": "multiplier", **settings}
    return preset("tiny").replace({f"architecture.{name}": value for name, value in settings.items()})


# k, block size of the output layer, H, further settings: outputs and H that are no multiple of a block, more lanes than
# outputs, several groups.
CIRCULANT = [
    (4, 4, 12, {"output_layer": 10}),
    (4, 2, 12, {"output_layer": 7, "output_lanes": 4, "tile_rows": 1, "tile_cols": 1}),
    (4, 4, 10, {"output_layer": 7, "output_lanes": 8, "tile_rows": 1, "tile_cols": 1}),
    (8, 8, 13, {"output_layer": 19, "output_lanes": 16, "tile_rows": 1, "tile_cols": 1, "engine": "fast"}),
    (4, 2, 9, {"output_layer": 5, "tile_rows": 2, "tile_cols": 1, "arithmetic": "carry_save"}),
]


@pytest.mark.parametrize("index", numbered(CIRCULANT, {2}))
def test_circulant_choice_and_cycle(index, rng):
    k, of_output, hidden, arch = CIRCULANT[index]
    settings = {f"architecture.{name}": value for name, value in {"arithmetic": "multiplier", **arch}.items()}
    settings |= {"compression.block_size": k, "network.hidden_size": hidden}
    config = preset("tiny").replace(settings | {"compression.output_block_size": of_output})
    plan = config.output_plan
    assert plan.lanes % of_output == 0
    if plan.lanes <= plan.outputs:
        # Lanes and cycles are those of a dense output layer, with a fraction of its weight bits.
        dense = config.replace({"compression.output_block_size": 1, "architecture.output_lanes": plan.lanes})
        assert dense.output_plan == dataclasses.replace(plan, sharing=1)
        assert memory_bits(config)["output_weights"] * of_output == memory_bits(dense)["output_weights"]
    check(config, rng)


def test_circulant_lanes_without_output_never_win(rng):
    config = small(output_layer=5).replace({"compression.output_block_size": 4})
    assert config.output_plan.lanes == 4

    def negative(layer):
        # All logits are negative, so a lane without an output, whose logit would be 0, would win.
        weight = np.full_like(layer.weight, -1)
        return dataclasses.replace(layer, weight=weight, bias=np.arange(5) - (1 << 31))

    assert set(check(config, rng, negative)) == {4}


def test_circulant_weights_are_dense_ones_too(rng):
    """A dense output layer with the same weights reports the same results."""
    config = small(output_layer=7).replace({"compression.output_block_size": 4})
    weights, q = random_weights(config, rng), config.quantization
    dense = dataclasses.replace(weights, config=config.replace({"compression.output_block_size": 1}))
    x = random_inputs(config, rng, 5)
    beats = beats_of([x], config.block_size, q.x.width)
    runs = [run_accelerator(each, beats, 5 * config.num_output_blocks) for each in (weights, dense)]
    assert runs[0].results == runs[1].results


def test_the_hardware_does_what_was_trained(rng, tmp_path):
    """Trainer, weight image and hardware agree on the results of an output layer of circulant blocks."""
    config = small().replace({"compression.output_block_size": 4})
    torch.manual_seed(3)
    network = SequenceNetwork(config, 7, 7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.6)
    network.start_quantization(*choose_formats(network))
    weight_image(network, "abcdefg").save(tmp_path / "image.safetensors")
    codes = rng.integers(0, 7, (9, 1))
    logits, _ = network.logits(codes)
    image = WeightImage.load(tmp_path / "image.safetensors", network.config.replace({"architecture.output_layer": 7}))
    assert np.array_equal(CharModel(image).logits(network_h(image, codes)) * 2.0**-image.text_layers.logit_frac, logits)
    x = image.text_layers.embedding[codes[:, 0]]
    beats = beats_of([x], config.block_size, config.quantization.x.width)
    run = run_accelerator(image.weights, beats, len(codes) * config.num_output_blocks)
    assert [index for index, _, _ in run.results] == logits[:, 0].argmax(axis=-1).tolist()
    assert [logit * 2.0**-image.text_layers.logit_frac for _, logit, _ in run.results] == logits[:, 0].max(
        axis=-1
    ).tolist()


def network_h(image, codes):
    """The reference's h of every step."""
    return NetworkReference(image.weights).run(image.text_layers.embedding[codes])[0]


def test_dense_weights_are_refused(rng):
    config = small(output_layer=7).replace({"compression.output_block_size": 4})
    weights = random_weights(config, rng)
    weight = weights.output.weight.copy()
    weight[0, 0] ^= 1
    weights = dataclasses.replace(weights, output=dataclasses.replace(weights.output, weight=weight))
    message = (
        "weights.output must be of 4 x 4 circulant blocks, as trained by "
        "chessrnn train --set compression.output_block_size=4, not 'a dense matrix'"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        memory_words(weights)


def test_first_of_equals(rng):
    def equal(layer):
        weight = np.zeros_like(layer.weight)
        return dataclasses.replace(layer, weight=weight, bias=np.array([3, 5, 5, -1, 5, 2, 5]))

    assert set(check(small(output_layer=7, output_lanes=3), rng, equal)) == {1}


def test_lanes_without_output_never_win(rng):
    least = -(1 << 31)

    def negative(layer):
        return dataclasses.replace(layer, weight=layer.weight * 0, bias=np.full(7, least))

    # The last group has one output and two lanes without an output.
    assert set(check(small(output_layer=7, output_lanes=3), rng, negative)) == {0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_layer": -1}, "architecture.output_layer must be from 0 (none) to 65536, not -1"),
        ({"output_lanes": 2}, "architecture.output_lanes must be left out (null) when architecture.output_layer is 0"),
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


@pytest.mark.parametrize(
    ("lanes", "message"),
    [(9, "to 8, not 9"), (6, "architecture.output_lanes must be a multiple of compression.output_block_size 4, not 6")],
)
def test_lanes_of_circulant_blocks(lanes, message):
    settings = {"compression.output_block_size": 4, "architecture.output_lanes": lanes}
    with pytest.raises(UserError, match=f"{re.escape(message)}$"):
        small(output_layer=7).replace(settings)


def test_results_that_are_not_taken_hold_up_h_and_are_not_lost(rng):
    config = small(output_layer=7)
    weights = random_weights(config, rng)
    q, x = config.quantization, random_inputs(config, rng, config.output_plan.buffered + 12)
    h = NetworkReference(weights).run(x[:, None])[0][:, 0]
    expected = beats_of([h], config.block_size, q.h.width)
    held, cycle = 40 * config.bank_words, iter(range(1 << 30))
    run = run_accelerator(
        weights, beats_of([x], config.block_size, q.x.width), len(expected), accept_result=lambda: next(cycle) > held
    )
    assert run.beats == expected
    assert [index for index, _, _ in run.results] == weights.output.largest_logit(h)[0].tolist()
    # All results arrive, and the last beats of h only after the first result has been taken.
    assert min(run.result_cycles) < run.beat_cycles[-1]
    assert sum(cycle < min(run.result_cycles) for cycle in run.beat_cycles) < len(expected) - config.num_output_blocks


def test_the_choice_is_the_character_models(rng):
    image = WeightImage.load(
        SHIPPED / "char128.safetensors", preset("char128").replace({"architecture.output_layer": 96})
    )
    fmt, model = image.config.quantization.h, CharModel(image)
    h = rng.integers(fmt.min, fmt.max + 1, (500, image.config.output_size))
    index, logit = image.weights.output.largest_logit(h)
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
    with pytest.raises(
        UserError, match="architecture.output_layer must be 0 for a network without an output layer, not 7"
    ):
        WeightImage(weights)


def test_no_exploration():
    with pytest.raises(UserError, match="architecture.output_layer must be 0 to be explored"):
        next(candidates(small(output_layer=7)))


def test_too_short_a_step():
    with pytest.raises(UserError, match="such that a step takes at least"):
        preset("tiny").replace(
            {"architecture.tile_rows": 12, "architecture.tile_cols": 5, "architecture.output_layer": 4}
        )
