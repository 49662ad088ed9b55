"""A lane of the output layer by itself: its logits with weights and h at the ends of their formats."""

import pytest

from chessrnn.hdl.output_layer.output_lane import OutputLane
from chessrnn.model.memory_image import pack
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.presets import preset
from chessrnn.sim.pysim import pump

# Cycles from a block of weights to its tags, and to the logit that contains it.
TAGS, LOGIT = 3, 4


@pytest.mark.parametrize("arithmetic", ["carry_save", "multiplier"])
def test_logits(arithmetic, rng):
    config = preset("tiny").replace({"architecture.output_layer": 10, "architecture.arithmetic": arithmetic})
    k, fmt, blocks, logits = config.block_size, config.quantization.h, config.num_output_blocks, 12
    half = 1 << (WEIGHT_BITS - 1)
    weights = rng.integers(-half, half, size=(logits, blocks, k))
    h = rng.integers(fmt.min, fmt.max + 1, size=(logits, blocks, k))
    weights[0], h[0], weights[1], h[1], weights[2], h[2] = -half, fmt.min, -half, fmt.max, half - 1, fmt.min
    largest = 1 << (BIAS_BITS - 2)
    bias = rng.integers(-largest, largest, size=logits)

    words = zip(
        pack(weights.reshape(-1, k), WEIGHT_BITS),
        pack(h.reshape(-1, k), fmt.width),
        range(logits * blocks),
        strict=True,
    )
    stimuli = [{"valid": 0} for _ in range(logits * blocks + TAGS)]
    for word, of_h, t in words:
        stimuli[t] |= {"weights": word, "h": of_h}
        stimuli[t + TAGS] |= {"valid": 1, "first": int(t % blocks == 0)}
        stimuli[t + TAGS - 1]["bias"] = int(bias[t // blocks])
    got = [value["logit"] for value in pump(OutputLane(config), stimuli, ("logit",), LOGIT)]
    assert got[blocks - 1 : logits * blocks : blocks] == ((weights * h).sum(axis=(1, 2)) + bias).tolist()
