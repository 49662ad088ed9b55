"""Retraining without labels: layers reach the trainer and return unchanged, and training lowers the error."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chessrnn.model.conversion.base_config import base_config
from chessrnn.model.conversion.convert import convert
from chessrnn.model.conversion.hardware_rows import blocks_of_layer, layer_of_blocks, one_direction, project_layer
from chessrnn.model.conversion.integer_rounding import integer_weights
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.float_evaluation import run_layer
from chessrnn.model.imported.recurrent_network import CELL_GATES, DirectionWeights, RecurrentLayer
from chessrnn.model.imported.summary import input_sizes
from chessrnn.model.training import retraining
from chessrnn.model.training.export import layer_weights
from chessrnn.model.training.retraining import LayerwiseRetraining, blocks_of, padded, parameters_of
from chessrnn.model.training.sequence_network import SequenceNetwork
from chessrnn.model.training.tasks.imitation import (
    ImitationTask,
    LayerInputs,
    as_streams,
    state_pair,
    stream_slices,
    targets_and_states,
)

CELLS = {
    "lstm": {},
    "lstm_peephole": {"peepholes": True},
    "lstm_projected": {"projection": 6},
    "gru": {},
    "gru_reset_first": {"linear_before_reset": False},
    "rnn": {},
    "rnn_relu": {"activation": "relu"},
}


def make_layer(rng, name, size_x=9, size_h=10, directions=1, scale=0.5):
    options = dict(CELLS[name])
    cell, peepholes, size_p = name.split("_")[0], options.pop("peepholes", False), options.pop("projection", None)
    rows, width = len(CELL_GATES[cell]) * size_h, size_p or size_h

    def weights():
        return DirectionWeights(
            *(rng.normal(size=shape) * scale for shape in ((rows, size_x), (rows, width), rows, rows)),
            peepholes=rng.normal(size=(3, size_h)) if peepholes else None,
            projection=rng.normal(size=(size_p, size_h)) * scale if size_p else None,
        )

    direction = "forward" if directions == 1 else "bidirectional"
    return RecurrentLayer("l0", cell, tuple(weights() for _ in range(directions)), direction, **options)


def trained_network(layer, config, block_size):
    network = SequenceNetwork(config, None)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in parameters_of(blocks_of_layer(layer, block_size)):
            parameters[name].copy_(value)
    return network


@pytest.mark.parametrize("name", CELLS)
def test_every_float_cell_is_the_imported_one(name, rng):
    layer = make_layer(rng, name)
    network = trained_network(layer, base_config([layer], 1, 8, "a", {}), 1).double()
    x = rng.normal(size=(12, 3, 9))
    found, _ = network.logits(x)
    np.testing.assert_allclose(found, run_layer(layer, x, np.full(3, 12))[0], atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("block_size", [1, 4])
def test_integers_of_a_retrained_layer_equal_the_trainers(name, block_size, rng):
    layer = make_layer(rng, name)
    config = base_config([layer], block_size, 6, "a", {"quantization.weight_frac": 4})
    network = trained_network(layer, config, block_size)
    back = layer_of_blocks(layer, blocks_of(network.layer))
    found, _ = integer_weights(back, config)
    wanted = layer_weights(network.layer)
    np.testing.assert_array_equal(found.bias, wanted.bias)
    for part in ("defining", "peephole", "projection"):
        if getattr(wanted, part) is not None:
            # An entry that only pads is never multiplied by anything.
            np.testing.assert_array_equal(getattr(found, part), getattr(wanted, part))


def test_slices_of_sequences_begin_where_the_float_layer_is(rng):
    for name in ("lstm", "gru"):
        layer = make_layer(rng, name)
        x = rng.normal(size=(23, 3, 9))
        parts = stream_slices(23, 4)
        assert [(part.start, part.stop) for part in parts] == [(0, 6), (6, 12), (12, 18), (17, 23)]
        h, (first_h, first_c) = targets_and_states(layer, x, parts)
        assert (h.shape, first_h.shape) == ((6, 12, 10), (12, 10))
        whole, _ = run_layer(layer, x, np.full(3, 23))
        np.testing.assert_array_equal(h, as_streams(whole, parts))
        _, state = run_layer(layer, x[:17], np.full(3, 17))
        np.testing.assert_array_equal(first_h[9:], state_pair(state)[0])
        np.testing.assert_array_equal(first_c[9:], state_pair(state)[1])
        assert not first_h[:3].any()


@pytest.mark.parametrize(("steps", "count", "size"), [(63, 40, 32), (50, 12, 32), (95, 40, 32), (60, 1, 32), (7, 3, 2)])
def test_every_input_is_learnt_from(steps, count, size, rng):
    layer = make_layer(rng, "rnn", size_x=1)
    x = np.arange(steps * count, dtype=np.float64).reshape(steps, count, 1)
    task = ImitationTask(layer, LayerInputs(x, x), LayerInputs(x[:2], x[:2]), size, 32)
    batches = [task.batch(update, size) for update in range(40)]
    assert set(torch.cat([batch.inputs.flatten() for batch in batches]).tolist()) == set(x.ravel())
    assert max(len(batch.inputs) for batch in batches) <= 32


def test_batches_go_through_all_streams(rng):
    layer, x = make_layer(rng, "lstm"), rng.normal(size=(64, 5, 9))
    task = ImitationTask(layer, LayerInputs(x, x), LayerInputs(x[:8], x[:8]), 8, 16)
    # Two slices of each sequence, ten streams, eight at a time.
    batches = [task.batch(update, 8) for update in range(4)]
    assert [batch.carries_state for batch in batches] == [False, True] * 2
    assert all(batch.inputs.shape == (16, 8, 9) for batch in batches)
    streams = as_streams(x, stream_slices(64, 2)).astype(np.float32)
    for number, first in enumerate((0, 2)):
        found = torch.cat([batch.inputs for batch in batches[2 * number :][:2]]).numpy()
        np.testing.assert_array_equal(found, streams[:, first : first + 8])
    shared = [task.batch(3, 8, rank, 2).targets for rank in range(2)]
    assert torch.equal(torch.stack(shared, dim=2).flatten(1, 2), task.batch(3, 8).targets)


@pytest.mark.parametrize("rate", [0.5, 1e30])
def test_a_start_that_is_the_best_stays(rate, rng, tmp_path):
    """Where training only makes the result worse, the parameters that it began with are kept."""
    layer, x = make_layer(rng, "lstm"), rng.normal(size=(40, 10, 9))
    # Blocks that are fitted to inputs would depend on which these are.
    quick = convert([layer], 4, 8, calibration=x[:, -2:], effort="quick").report["output"]
    retraining = replace(retraining_of(x, tmp_path, 6), learning_rate=rate, quantized_rate=rate)
    found = convert([layer], 4, 8, calibration=x[:, :-2], retraining=retraining, effort="quick").report["output"]
    # The parameters are float32.
    assert found["retrained"] <= (1 + 1e-6) * found["projected"] == (1 + 1e-6) * quick["projected"]
    assert found["integers"] <= 1.05 * found["projected"]


def test_input_of_both_directions_is_padded_by_halves(rng):
    layer = make_layer(rng, "lstm", directions=2)
    config = base_config([layer, replace(make_layer(rng, "lstm", 20, directions=2), name="l1")], 4, 8, "a", {})
    values = rng.normal(size=(2, 3, 20))
    found = padded(values, (10, 10), config.layer(1))
    assert found.shape == (2, 3, config.layer(1).network.input_size)
    np.testing.assert_array_equal(found[..., :10], values[..., :10])
    np.testing.assert_array_equal(found[..., 12:22], values[..., 10:])
    assert not found[..., [10, 11, 22, 23]].any()


def retraining_of(x, folder, updates=60):
    return LayerwiseRetraining(x[:, :-2], x[:, -2:], updates, folder, batch=8, segment=10)


@pytest.mark.parametrize(
    ("name", "layers", "directions", "block_size", "bits"),
    [pytest.param("gru", 2, 1, 2, 8, marks=pytest.mark.slow),
     pytest.param("lstm", 2, 2, 4, 8, marks=pytest.mark.slow),
     pytest.param("lstm_projected", 2, 2, 4, 4, marks=pytest.mark.slow),
     pytest.param("gru_reset_first", 2, 2, 4, 8, marks=pytest.mark.slow),
     pytest.param("lstm_peephole", 1, 1, 2, 4, marks=pytest.mark.slow), ("rnn", 1, 1, 1, 2), ("rnn_relu", 2, 1, 4, 6)],
)  # fmt: skip
def test_retraining_loses_less(name, layers, directions, block_size, bits, rng, tmp_path):
    """Retraining lowers the error of every cell, measured in integers on held-out inputs."""
    scale, width = 0.3 if name.startswith("rnn") else 0.6, CELLS[name].get("projection", 10)
    stack = [make_layer(rng, name, 9 if n == 0 else directions * width, 10, directions, scale) for n in range(layers)]
    x = rng.normal(size=(40, 10, 9))
    # Without retraining but with --effort full, weights would be rounded to fit the very inputs that are held out here.
    quick = convert(stack, block_size, bits, calibration=x[:, -2:], effort="quick")
    found = convert(stack, block_size, bits, calibration=x[:, :-2], retraining=retraining_of(x, tmp_path))
    assert found.report["output"]["integers"] < 0.95 * quick.report["output"]["integers"]
    assert found.report["measured_on"] == "calibration data held out from retraining"
    assert found.report["steps"] == 80
    np.testing.assert_array_equal(found.inputs, x[:, -2:])
    names = {path.stem for path in tmp_path.glob("*.pt")}
    kinds = ("float", "quantized") if block_size > 1 else ("quantized",)
    ways = ("", "-reverse")[:directions]
    assert names == {f"{number}{way}-{kind}" for number in range(layers) for way in ways for kind in kinds}
    # A second run only reads the checkpoints.
    again = convert(stack, block_size, bits, calibration=x[:, :-2], retraining=retraining_of(x, tmp_path))
    assert again.report == found.report


@pytest.mark.parametrize(
    ("name", "layers", "directions", "settings"),
    [
        ("rnn", 1, 1, {"quantization.weight_scale": "row"}),
        pytest.param("lstm_projected", 2, 1, {"quantization.weight_scale": "row"}, marks=pytest.mark.slow),
        pytest.param("lstm", 1, 2, {"quantization.weight_scale": "row", "quantization.scale_bits": 5},
                     marks=pytest.mark.slow),
        ("gru_reset_first", 1, 1, {"quantization.weight_levels": "half"}),
        ("rnn", 2, 1, {"quantization.input_shift": [2, -3], "architecture.tile_cols": 1}),
        pytest.param("lstm_peephole", 1, 2,
                     {"quantization.weight_scale": "row", "quantization.weight_levels": "half"},
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_what_was_retrained_is_what_is_stored(name, layers, directions, settings, rng, tmp_path, monkeypatch):
    """Scales of block rows, exponents and integers are those that the last stage computed with."""
    networks, run_stage = [], retraining.run_stage

    def recorded(stage, task, folder):
        networks.append(run_stage(stage, task, folder))
        return networks[-1]

    monkeypatch.setattr(retraining, "run_stage", recorded)
    width = CELLS[name].get("projection", 10)
    stack = [make_layer(rng, name, 9 if n == 0 else directions * width, 10, directions) for n in range(layers)]
    x = rng.normal(size=(30, 10, 9))
    found = convert(
        stack, 2, 3, settings=settings, calibration=x[:, :-2], retraining=retraining_of(x, tmp_path, 10), effort="quick"
    )
    trained = [layer_weights(network.layer) for network in networks if network.quantized]
    assert len(trained) == len(found.weights.layers) == layers * directions
    for stored, wanted in zip(found.weights.layers, trained, strict=True):
        assert stored.config.weight_fracs == wanted.config.weight_fracs
        for part in ("defining", "bias", "scale", "peephole", "projection"):
            assert np.array_equal(getattr(stored, part), getattr(wanted, part)), part
        if "quantization.weight_scale" in settings:
            assert len(np.unique(stored.scale)) > 1


def test_circulant_layers_stay_what_they_are(rng, tmp_path):
    """A network that is circulant already keeps a small error when it is retrained."""
    layer = project_layer(make_layer(rng, "lstm", 8, 8), 4)
    x = rng.normal(size=(40, 10, 8))
    found = convert([layer], 4, 8, calibration=x[:, :-2], retraining=retraining_of(x, tmp_path)).report["output"]
    assert found["projected"] == pytest.approx(0, abs=1e-12)
    assert found["retrained"] < 0.1
    assert found["integers"] < 0.1


def test_checkpoints_of_other_data_are_refused(rng, tmp_path):
    layer, x = make_layer(rng, "rnn"), rng.normal(size=(30, 10, 9))
    convert([layer], 2, 8, calibration=x, retraining=retraining_of(x, tmp_path, 4))
    with pytest.raises(InvalidFileError, match=r"data must be the same that .*float.pt was trained on"):
        convert([layer], 2, 8, calibration=x, retraining=retraining_of(x + 1, tmp_path, 4))


def test_a_first_state_is_where_training_begins(rng, tmp_path):
    layer = make_layer(rng, "gru")
    begins = rng.normal(size=(1, 10))
    layer = replace(layer, weights=(replace(layer.weights[0], initial_h=begins),))
    x = rng.normal(size=(30, 4, 9))
    task = ImitationTask(layer, LayerInputs(x, x), LayerInputs(x, x), 4, 30)
    np.testing.assert_array_equal(task.batch(0, 4).state[0].numpy(), np.repeat(begins, 4, axis=0).astype(np.float32))
    assert input_sizes([one_direction(layer, 0)]) == [(9,)]
    retraining = LayerwiseRetraining(x[:27], x[27:], 8, tmp_path, batch=4, segment=9)
    result = convert([layer], 2, 8, calibration=x[:27], retraining=retraining)
    assert result.state is not None
