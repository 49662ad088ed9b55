"""The NumPy reference against plain Python integers, step by step as the specification says, and against vectors."""

import json
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import Config
from model.errors import InvalidValueError
from model.presets import preset
from model.reference.layer import LstmReference
from model.weights import LstmWeights, random_inputs, random_weights
from sim.scenarios import extreme_weights, random_config

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def requantized(value: Fraction, fmt) -> int:
    """One HALF_UP rounding of a real number to codes, then saturation."""
    return min(max(floor(value * 2**fmt.fraction_bits + Fraction(1, 2)), fmt.min), fmt.max)


def activated(code: int, table) -> int:
    """The line of the segment in exact arithmetic, rounded once; signs mended."""
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


def run_exactly(weights: LstmWeights, x: np.ndarray) -> list[list[int]]:
    """Rational arithmetic on real values: no shift, no accumulator, no matrix product of the model's."""
    config = weights.config
    q, k = config.quantization, config.block_size
    size_x, size_h, first_h = config.network.input_size, config.network.hidden_size, config.num_input_blocks * k
    defining = weights.defining.tolist()

    def entry(gate, row, col):
        return defining[gate][row // k][col // k][(row - col) % k]

    h, c, out = [0] * size_h, [0] * size_h, []
    for step in x.tolist():
        next_h, next_c = [], []
        for unit in range(size_h):
            gates = []
            for gate in range(4):
                frac = q.weight_frac[gate] + q.h.fraction_bits
                total = int(weights.bias[gate, unit])
                total += sum(entry(gate, unit, col) * value for col, value in enumerate(step))
                total += sum(entry(gate, unit, first_h + col) * value for col, value in enumerate(h))
                code = requantized(Fraction(total) / Fraction(2) ** frac, q.preact)
                gates.append(Fraction(activated(code, config.gate_table(gate)), 2**q.gate.fraction_bits))
            i, f, g, o = gates
            cell = requantized(f * Fraction(c[unit], 2**q.cell.fraction_bits) + i * g, q.cell)
            tanh = Fraction(activated(cell, config.cell_table), 2**q.gate.fraction_bits)
            next_c.append(cell)
            next_h.append(requantized(o * tanh, q.h))
        h, c = next_h, next_c
        out.append(h)
        assert len(step) == size_x
    return out


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_equals_exact_arithmetic(seed, extreme):
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    weights = (extreme_weights if extreme else random_weights)(config, rng)
    x = random_inputs(config, rng, 3)
    h, _ = LstmReference(weights).run(x[:, None])
    assert h[:, 0].tolist() == run_exactly(weights, x)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_golden_vectors(path):
    """Pinned results: whoever changes them changes what every trained network computes."""
    vectors = json.loads(path.read_text(encoding="utf-8"))
    config = Config.from_dict(vectors["config"])
    assert config.model_fingerprint == vectors["model_configuration"]
    weights = LstmWeights(config, np.array(vectors["defining"]), np.array(vectors["bias"]))
    trace = LstmReference(weights).trace(np.array(vectors["x"])[:, None])
    for name in ("preact", "gate"):
        assert getattr(trace, name)[:, :, 0].tolist() == vectors[name], name
    for name in ("cell", "h"):
        assert getattr(trace, name)[:, 0].tolist() == vectors[name], name


def test_there_are_golden_vectors():
    assert {path.stem for path in VECTORS.glob("*.json")} >= {"tiny_pwl", "tiny_shift"}


def test_batch_and_split_do_not_matter(rng):
    config = preset("char128")
    reference = LstmReference(random_weights(config, rng))
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
    other = LstmWeights(config.replace({"architecture.engine": "fast"}), weights.defining, weights.bias)
    x = random_inputs(config, rng, 6, 2)
    assert np.array_equal(LstmReference(weights).run(x)[0], LstmReference(other).run(x)[0])


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
    reference = LstmReference(random_weights(preset("tiny"), rng))
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
        LstmWeights(weights.config, *change(weights.defining, weights.bias))
