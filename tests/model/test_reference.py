"""The NumPy reference against a step-by-step specification in plain Python integers, and against stored vectors."""

import json
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chessrnn.model.cells import CELLS
from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.fixed_point import dequantize
from chessrnn.model.presets import preset
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import LayerWeights, StackWeights, random_inputs, random_weights
from chessrnn.sim.boundary_values import extreme_weights
from chessrnn.sim.scenarios import random_config

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def requantized(value: Fraction, fmt) -> int:
    """Round a real number to a code (HALF_UP), then saturate it."""
    return min(max(floor(value * 2**fmt.fraction_bits + Fraction(1, 2)), fmt.min), fmt.max)


def activated(code: int, table) -> int:
    """Evaluate the line of the segment in exact arithmetic, round once, and correct the result for the sign."""
    a = abs(code)
    if a >= table.limit:
        positive = table.saturated
    else:
        segment = max(index for index, start in enumerate(table.starts) if start <= a)
        intercept = Fraction(table.intercepts[segment], 2 ** (table.out_format.fraction_bits + 3))
        if table.kind == "pwl":
            slope, run = Fraction(table.slopes[segment], 2**10), a - table.starts[segment]
        else:
            slope, run = Fraction(1, 2 ** table.slopes[segment]), a
        value = intercept + slope * run / 2**table.in_format.fraction_bits
        positive = floor(value * 2**table.out_format.fraction_bits + Fraction(1, 2))
    if code < 0:
        positive = -positive if table.function == "tanh" else table.one - positive
    return min(max(positive, table.out_format.min), table.out_format.max)


def real(code, fmt) -> Fraction:
    return Fraction(int(code), 2**fmt.fraction_bits)


def exact_update(config: Config, sums: list[Fraction], state: Fraction, peephole) -> tuple[int, int]:
    """Compute the codes of h and of the state of one unit from the equations of its cell on real values."""
    q = config.quantization
    behind = QFormat(1, q.h.width - 1) if config.network.projection_size else q.h

    def gate(number, extra=0):
        code = requantized(sums[number] + extra, q.preact)
        return real(activated(code, config.gate_table(number)), q.gate)

    if config.network.cell == "rnn_relu":
        return requantized(max(sums[0], Fraction(0)), q.h), 0
    if config.network.cell == "rnn":
        return requantized(gate(0), q.h), 0
    if config.network.cell == "gru_reset_first":
        z, n = gate(1), gate(2)
        code = requantized((1 - z) * n + z * state, q.cell)
        return requantized(real(code, q.cell), q.h), code
    if config.network.cell == "gru":
        r, z = gate(0), gate(1)
        nx, nh = (real(requantized(total, q.preact), q.preact) for total in sums[2:])
        n = real(activated(requantized(nx + r * nh, q.preact), config.candidate_table), q.gate)
        code = requantized((1 - z) * n + z * state, q.cell)
        return requantized(real(code, q.cell), q.h), code
    p_i, p_f, p_o = peephole or (0, 0, 0)
    i, f, g = gate(0, p_i * state), gate(1, p_f * state), gate(2)
    code = requantized(f * state + i * g, q.cell)
    tanh = real(activated(code, config.cell_table), q.gate)
    return requantized(gate(3, p_o * real(code, q.cell)) * tanh, behind), code


def run_exactly(weights: LayerWeights, x: np.ndarray) -> list[list[int]]:
    """Run sequences in rational arithmetic on real values, without any shift, accumulator or product of the model."""
    config = weights.config
    q, k = config.quantization, config.block_size
    size_x, size_h, first_h = config.network.input_size, config.network.units, config.num_input_blocks * k
    defining = weights.defining.tolist()

    def entry(gate, row, col):
        return defining[gate][row // k][col // k][(row - col) % k]

    h, c, out = [0] * config.output_size, [0] * size_h, []

    def exact_sum(gate, unit, step, recurrent):
        # The unit of a product of W_h and h, of one of W_x and x, and of a bias.
        unit_h = 1 / Fraction(2) ** (q.weight_frac[gate] + q.h.fraction_bits)
        unit_x = unit_h / Fraction(2) ** q.input_shift
        total = int(weights.bias[gate, unit]) * min(unit_x, unit_h)
        total += sum(entry(gate, unit, col) * value for col, value in enumerate(step)) * unit_x
        total += sum(entry(gate, unit, first_h + col) * value for col, value in enumerate(recurrent)) * unit_h
        scale = Fraction(1)
        if weights.scale is not None:
            scale = Fraction(int(weights.scale[gate, unit // k]), 2 ** (q.scale_bits - 1))
        return scale * total

    for step in x.tolist():
        next_h, next_c = [], []
        # The vectors that the rows of every gate are multiplied by.
        met = [h] * config.num_gates
        if config.network.cell == "gru_reset_first":
            r = [requantized(exact_sum(0, unit, step, h), q.preact) for unit in range(size_h)]
            r = [real(activated(code, config.gate_table(0)), q.gate) for code in r]
            met[2] = [requantized(factor * real(code, q.cell), q.h) for factor, code in zip(r, c, strict=True)]
        for unit in range(size_h):
            sums = [exact_sum(gate, unit, step, met[gate]) for gate in range(config.num_gates)]
            peephole = None if weights.peephole is None else [real(w, q.peephole) for w in weights.peephole[:, unit]]
            new = exact_update(config, sums, real(c[unit], q.cell), peephole)
            next_h.append(new[0])
            next_c.append(new[1])
        h, c = next_h, next_c
        if weights.projection is not None:
            scale = Fraction(2) ** (q.projection_frac + q.h.width - 1)
            rows = weights.projection.tolist()
            h = [
                requantized(
                    sum(rows[row // k][col // k][(row - col) % k] * next_h[col] for col in range(size_h)) / scale, q.h
                )
                for row in range(config.output_size)
            ]
        out.append(h)
        assert len(step) == size_x
    return out


def both_directions_exactly(weights: StackWeights, x: np.ndarray) -> list[list[int]]:
    """Run layers that read both h of the layer below, each padded to whole blocks separately."""
    size, k, steps = weights.config.output_size, weights.config.block_size, x.tolist()
    padding = [0] * (-size % k)
    for forward, reverse in zip(weights.layers[::2], weights.layers[1::2], strict=True):
        ahead = run_exactly(forward, np.array(steps))
        back = run_exactly(reverse, np.array(steps[::-1]))[::-1]
        outputs = [one + other for one, other in zip(ahead, back, strict=True)]
        steps = [one + padding + other + padding for one, other in zip(ahead, back, strict=True)]
    return outputs


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_equals_exact_arithmetic(seed, extreme):
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    weights = (extreme_weights if extreme else random_weights)(config, rng)
    x = random_inputs(config, rng, 3)
    h, state = NetworkReference(weights).run(x[:, None])
    if config.network.bidirectional:
        assert h[:, 0].tolist() == both_directions_exactly(weights, x)
        return
    # Two halves of a sequence, with the state of the first passed to the second, equal the whole.
    first, between = NetworkReference(weights).run(x[:1, None])
    rest, end = NetworkReference(weights).run(x[1:, None], between)
    assert np.array_equal(np.concatenate([first, rest]), h)
    assert all(np.array_equal(a, b) for a, b in zip(sum(state, ()), sum(end, ()), strict=True))
    for layer in weights.layers:
        x = np.array(run_exactly(layer, x))
    assert h[:, 0].tolist() == x.tolist()


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_golden_vectors(path):
    """Results equal the stored ones: a change of them changes what every trained network computes."""
    vectors = json.loads(path.read_text(encoding="utf-8"))
    config = Config.from_dict(vectors["config"])
    assert config.model_fingerprint == vectors["model_configuration"]
    weights = LayerWeights(config, np.array(vectors["defining"]), np.array(vectors["bias"]))
    trace = LayerReference(weights).trace(np.array(vectors["x"])[:, None])
    for name in ("preact", "gate"):
        assert getattr(trace, name)[:, :, 0].tolist() == vectors[name], name
    for name in ("cell", "h"):
        assert getattr(trace, name)[:, 0].tolist() == vectors[name], name


def test_there_are_golden_vectors():
    assert {path.stem for path in VECTORS.glob("*.json")} >= {"tiny_pwl", "tiny_shift"}


def test_batch_and_split_do_not_matter(rng):
    config = preset("char128")
    reference = LayerReference(random_weights(config, rng))
    x = random_inputs(config, rng, 9, 3)
    h, (last_h, last_c) = reference.run(x)
    first, state = reference.run(x[:4])
    second, (split_h, split_c) = reference.run(x[4:], state)
    assert np.array_equal(np.concatenate([first, second]), h)
    assert np.array_equal(split_h, last_h)
    assert np.array_equal(split_c, last_c)
    alone = np.concatenate([reference.run(x[:, [column]])[0] for column in range(3)], axis=1)
    assert np.array_equal(alone, h)
    assert np.array_equal(reference.trace(x).h, h)


def test_architecture_does_not_matter(rng):
    config = preset("tiny")
    weights = random_weights(config, rng)
    other = LayerWeights(config.replace({"architecture.engine": "fast"}), weights.defining, weights.bias)
    x = random_inputs(config, rng, 6, 2)
    assert np.array_equal(LayerReference(weights).run(x)[0], LayerReference(other).run(x)[0])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((2, 10), dtype=int), r"x must be of shape \(steps, batch, input_size\), not \(2, 10\)"),
        (np.zeros((2, 1, 9), dtype=int), r"x must be of 10 elements per step, not \(2, 1, 9\)"),
        (np.zeros((2, 1, 10)), "x must be an array of integers, not 'float64'"),
        (np.full((2, 1, 10), 128), "x must be from -128 to 127 in format Q1.7, not 128"),
        (np.full((2, 1, 10), -129), "x must be from -128 to 127 in format Q1.7, not -129"),
    ],
)
def test_wrong_inputs(rng, x, text):
    reference = LayerReference(random_weights(preset("tiny"), rng))
    with pytest.raises(InvalidValueError, match=text):
        reference.run(x)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d, b: (d.astype(float), b), "weights.defining must be an array of integers, not 'float64'"),
        (lambda d, b: (d[:, :, :-1], b), r"weights.defining must be of shape \(4, 3, 6, 4\), not \(4, 3, 5, 4\)"),
        (lambda d, b: (d + 1000, b), "weights.defining must be from -128 to 127, not "),
        (lambda d, b: (d, b + (1 << 20)), "weights.bias must be from -524288 to 524287, not "),
    ],
)
def test_wrong_weights(rng, change, text):
    weights = random_weights(preset("tiny"), rng)
    with pytest.raises(InvalidValueError, match=text):
        LayerWeights(weights.config, *change(weights.defining, weights.bias))


def test_absent_weights_are_refused(rng):
    config = preset("tiny").replace({"network.cell": "gru"})
    weights = random_weights(config, rng)
    defining = weights.defining.copy()
    defining[2, 0, config.num_input_blocks, 0] = 3
    with pytest.raises(
        InvalidValueError, match=r"^weights.defining must be 0 in the columns that gate NX does not read, not 3$"
    ):
        LayerWeights(config, defining, weights.bias)
    with pytest.raises(InvalidValueError, match=r"^weights.peephole must be left out for cell gru, not "):
        LayerWeights(config, weights.defining, weights.bias, weights.bias)


FLOAT_CELLS = {
    "lstm": lambda s, c, h, p: _lstm(s, c, (0, 0, 0)),
    "lstm_peephole": lambda s, c, h, p: _lstm(s, c, p),
    "gru": lambda s, c, h, p: _gru(s, c),
    "gru_reset_first": lambda s, c, h, p: _gru_reset_first(s, c),
    "rnn": lambda s, c, h, p: (np.tanh(s[0]), c),
    # The format of h used here ends at 1.
    "rnn_relu": lambda s, c, h, p: (np.clip(s[0], 0, 1), c),
}


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _lstm(s, c, p):
    c = _sigmoid(s[1] + p[1] * c) * c + _sigmoid(s[0] + p[0] * c) * np.tanh(s[2])
    return _sigmoid(s[3] + p[2] * c) * np.tanh(c), c


def _gru(s, c):
    r, z = _sigmoid(s[0]), _sigmoid(s[1])
    h = (1 - z) * np.tanh(s[2] + r * s[3]) + z * c
    return h, h


def _gru_reset_first(s, c):
    z = _sigmoid(s[1])
    h = (1 - z) * np.tanh(s[2]) + z * c
    return h, h


@pytest.mark.parametrize("cell", CELLS)
def test_follows_the_real_recurrence(cell, rng):
    """With fine formats, only the error of the activations remains."""
    config = preset("tiny").replace(
        {
            "network.cell": cell, "quantization.weight_frac": 7, "quantization.x": "Q1.11", "quantization.h": "Q1.11",
            "quantization.preact": "Q4.12", "quantization.gate": "Q2.14", "quantization.cell": "Q4.18",
            "quantization.bias_bits": 24, "activation.segments": 64, "architecture.tile_rows": 2,
        }
    )  # fmt: skip
    weights, q = random_weights(config, rng), config.quantization
    x = random_inputs(config, rng, 8)
    found = dequantize(LayerReference(weights).run(x[:, None])[0][:, 0], q.h)
    size_x, size_h, start = config.network.input_size, config.network.units, config.num_input_blocks * 4
    scale = 2.0 ** -np.array(config.accumulator_fracs)
    dense = weights.dense().reshape(config.num_gates, -1, weights.config.num_col_blocks * 4)[:, :size_h]
    peephole = None if weights.peephole is None else dequantize(weights.peephole[:, :size_h], q.peephole)
    h, c = np.zeros(size_h), np.zeros(size_h)
    for step, expected in zip(x, found, strict=True):
        given = (dense[:, :, :size_x] @ step + weights.bias[:, :size_h]) * scale[:, None]
        recurrent = dense[:, :, start : start + size_h] * (scale * 2.0**q.h.fraction_bits)[:, None, None]
        sums = given + recurrent @ h
        if cell == "gru_reset_first":
            sums[2] = given[2] + recurrent[2] @ (_sigmoid(sums[0]) * h)
        h, c = FLOAT_CELLS[cell](sums, c, h, peephole)
        np.testing.assert_allclose(h, expected, atol=0.02)


@pytest.mark.parametrize("settings", [{"network.hidden_size": 10}, {"network.projection_size": 10}])
def test_directions_are_layers_of_their_own(settings, rng):
    config = preset("tiny").replace({"network.bidirectional": True} | settings)
    weights, x = random_weights(config, rng), random_inputs(config, rng, 5, 2)
    h, state = NetworkReference(weights).run(x)
    forward, reverse = (LayerReference(layer) for layer in weights.layers)
    assert h.shape == (5, 2, 20)
    assert np.array_equal(h[..., :10], forward.run(x)[0])
    assert np.array_equal(h[..., 10:], reverse.run(x[::-1])[0][::-1])
    text = r"^state must be left out for a bidirectional network, not 'list'$"
    with pytest.raises(InvalidValueError, match=text):
        NetworkReference(weights).run(x, state)


def test_other_layers_are_refused(rng):
    config = preset("tiny").replace({"network.num_layers": 2})
    weights = random_weights(config, rng)
    with pytest.raises(InvalidValueError, match=r"^weights.layers must be 2, not 1$"):
        StackWeights(config, weights.layers[:1])
    with pytest.raises(InvalidValueError, match=r"^weights.layers\[1\] must be of configuration [0-9a-f]{16}, not "):
        StackWeights(config, (weights.layers[0], random_weights(preset("tiny"), rng)))
