"""The latency of beats that ``report.json`` states is that of the hardware."""

import numpy as np
import pytest

from chessrnn.model.cost.design_report import design_report
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.sim.pysim import beats_of, run_accelerator

SMALL = {"architecture.arithmetic": "multiplier", "architecture.engine": "direct"}
DESIGNS = {
    "lstm": SMALL,
    "gru": SMALL | {"network.cell": "gru", "quantization.weight_frac": 7, "architecture.tile_rows": 3},
    "two layers": SMALL | {"network.num_layers": 2},
    "one beat of x": SMALL | {"network.input_size": 3},
}


# Slow: designs whose streams are about those of another.
SLOW = {"lstm", "gru"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in DESIGNS]
)
def test_latency(name, rng):
    config = preset("tiny").replace(DESIGNS[name])
    x = random_inputs(config, rng, 1)
    beats = beats_of([x], config.block_size, config.quantization.x.width)
    cycles, offers = 0, []

    def offer() -> bool:
        offers.append(cycles)
        return True

    def accept() -> bool:
        nonlocal cycles
        cycles += 1
        return True

    run = run_accelerator(random_weights(config, rng), beats, config.num_stream_blocks, offer, accept)
    # A beat is offered in the cycle after the one before it was taken, and there is room for a whole step.
    taken = np.array(offers) - offers[0]
    assert taken.tolist() == list(range(config.num_input_blocks))
    assert design_report(config)["cycles"]["latency"] == {
        "first_x_to_first_h": run.beat_cycles[0],
        "first_x_to_last_h": run.beat_cycles[-1],
        "last_x_to_first_h": run.beat_cycles[0] - taken[-1],
        "last_x_to_last_h": run.beat_cycles[-1] - taken[-1],
    }


def test_the_table_of_the_page():
    latency = design_report(preset("char128"))["cycles"]["latency"]
    assert latency == {
        "first_x_to_first_h": 55, "first_x_to_last_h": 127, "last_x_to_first_h": 48, "last_x_to_last_h": 120,
    }  # fmt: skip
