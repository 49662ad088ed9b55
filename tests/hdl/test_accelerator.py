"""The whole accelerator in Amaranth's simulator: 0 LSB and the predicted cycle, whatever must not matter."""

import numpy as np
import pytest

from model.config import Config
from model.presets import preset
from model.reference.layer import LstmReference
from model.schedule import Schedule
from model.weights import random_inputs, random_weights
from sim.pysim import beats_of, run_accelerator

LENGTHS = (3, 1, 1, 2)


def scenario(config, rng):
    weights = random_weights(config, rng)
    q, k = config.quantization, config.block_size
    sequences = [random_inputs(config, rng, length) for length in LENGTHS]
    x_beats = beats_of(sequences, k, q.x.width, lambda shape: rng.integers(q.x.min, q.x.max + 1, size=shape))
    golden = LstmReference(weights)
    expected = beats_of([golden.run(x[:, None])[0][:, 0] for x in sequences], k, q.h.width)
    return weights, x_beats, expected


def check(config, rng):
    weights, x_beats, expected = scenario(config, rng)
    run = run_accelerator(weights, x_beats, len(expected))
    assert run.beats == expected
    schedule, line = Schedule(config), Schedule(config).timeline(list(LENGTHS))
    per_step, blocks, steps = schedule.ideal_interval, config.num_hidden_blocks, sum(LENGTHS)
    # Every weight word is read once per step, at the predicted cycles.
    assert len(run.issue_cycles) == per_step * steps
    assert run.issue_cycles[::per_step] == line.first_issue
    assert run.issue_cycles[per_step - 1 :: per_step] == line.last_issue
    assert run.beat_cycles[blocks - 1 :: blocks] == line.last_beat

    stall = float(rng.random() * 0.7)
    stalled = run_accelerator(
        weights, x_beats, len(expected), lambda: rng.random() >= stall, lambda: rng.random() >= stall
    )
    assert stalled.beats == expected


def variant(**settings):
    return preset("tiny").replace(settings)


ARCHITECTURES = [
    {},
    {"architecture.tile_rows": 1, "architecture.tile_cols": 1},
    {"architecture.tile_rows": 3, "architecture.tile_cols": 4},
    {"architecture.tile_rows": 5, "architecture.tile_cols": 3, "architecture.lookahead": 1},
    {"architecture.tile_rows": 12, "architecture.tile_cols": 6},
    {"architecture.tile_rows": 2, "architecture.tile_cols": 5, "architecture.cell_lanes": 1},
    {"architecture.tile_rows": 6, "architecture.tile_cols": 1, "architecture.lookahead": 2},
    {"activation.kind": "shift", "activation.segments": 4},
]


@pytest.mark.parametrize("engine", ["direct", "fast"])
@pytest.mark.parametrize("index", range(len(ARCHITECTURES)))
def test_architecture_changes_no_bit(engine, index, rng):
    check(variant(**{"architecture.engine": engine, **ARCHITECTURES[index]}), rng)


@pytest.mark.parametrize("block_size", [1, 2, 8, 16])
@pytest.mark.parametrize("engine", ["direct", "fast"])
def test_block_sizes(block_size, engine, rng):
    if engine == "fast" and block_size == 1:
        engine = "direct"
    config = Config.from_dict(
        {
            "network": {"input_size": 2 * block_size + 1, "hidden_size": 2 * block_size - 1},
            "compression": {"block_size": block_size},
            "quantization": {"weight_bits": 4, "weight_frac": 4},
            "architecture": {"tile_rows": 3, "tile_cols": 2, "engine": engine},
        }
    )
    check(config, rng)


@pytest.mark.parametrize("memory_register", [False, True])
@pytest.mark.parametrize("multiplier_stages", [0, 1, 2])
@pytest.mark.parametrize("adder_levels", [0, 1, 3])
def test_pipeline_changes_no_bit(memory_register, multiplier_stages, adder_levels, rng):
    pipeline = {
        "memory_register": memory_register,
        "operand_register": not memory_register,
        "multiplier_stages": multiplier_stages,
        "adder_levels": adder_levels,
    }
    settings = {f"architecture.pipeline.{name}": value for name, value in pipeline.items()}
    check(variant(**settings, **{"architecture.engine": str(rng.choice(["direct", "fast"]))}), rng)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("engine", ["direct", "fast"])
def test_extreme_sums_do_not_overflow(sign, engine, rng):
    config = variant(**{"architecture.engine": engine})
    weights, _, _ = scenario(config, rng)
    q, k = config.quantization, config.block_size
    extreme = type(weights)(
        config,
        np.full_like(weights.defining, config.weight_min),
        np.full_like(weights.bias, config.bias_format_min_max[0]),
    )
    sequence = np.full((3, config.network.input_size), q.x.min if sign < 0 else q.x.max)
    expected = beats_of([LstmReference(extreme).run(sequence[:, None])[0][:, 0]], k, q.h.width)
    run = run_accelerator(extreme, beats_of([sequence], k, q.x.width), len(expected))
    assert run.beats == expected
