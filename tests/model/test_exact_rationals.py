"""The reference over 100,000 steps against rational numbers, computed from the definition of the cell alone."""

from fractions import Fraction
from operator import mul

import numpy as np
import pytest

from chessrnn.model.presets import preset
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import random_inputs, random_weights

# One network in every state that 100,000 random inputs lead it to, without a reset in between.
STEPS = 100_000


def rounded(value: Fraction, fmt) -> int:
    """The code of a format that is nearest to a number, halves upwards, or that of the nearer end of its range."""
    scaled = value * 2**fmt.fraction_bits
    # floor(scaled + 1/2)
    code = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    end = 2 ** (fmt.integer_bits + fmt.fraction_bits - 1)
    return min(max(code, -end), end - 1)


class Activation:
    """σ or tanh as lines over a magnitude: from a code to a number; results are remembered."""

    def __init__(self, table):
        self.table, self.known = table, {}

    def __call__(self, code: int) -> Fraction:
        if code not in self.known:
            self.known[code] = self.of(Fraction(code, 2**self.table.in_format.fraction_bits))
        return self.known[code]

    def of(self, x: Fraction) -> Fraction:
        """The rounded line of the segment that the magnitude is in, or the constant beyond all segments."""
        t, magnitude = self.table, abs(x)
        lsb_in, lsb_out = Fraction(1, 2**t.in_format.fraction_bits), Fraction(1, 2**t.out_format.fraction_bits)
        y = t.saturated * lsb_out
        if magnitude < t.limit * lsb_in:
            segment = max(number for number, start in enumerate(t.starts) if magnitude >= start * lsb_in)
            # An intercept has three bits more than the result, a slope ten fraction bits.
            slope, offset = Fraction(t.slopes[segment], 1024), magnitude - t.starts[segment] * lsb_in
            y = rounded(t.intercepts[segment] * lsb_out / 8 + slope * offset, t.out_format) * lsb_out
        mirrored = -y if t.function == "tanh" else 1 - y
        return rounded(mirrored if x < 0 else y, t.out_format) * lsb_out


def circulant(defining: np.ndarray, columns: list[int], size: int, k: int) -> list[list[int]]:
    """Rows of a matrix of circulant blocks: the entry in row r and column c of a block is w[(r - c) mod k]."""
    return [[int(defining[r // k, c // k, (r - c) % k]) for c in columns] for r in range(size)]


def lstm(config, weights, inputs: np.ndarray):
    """Yield the h of every step as codes, computed with rational numbers only."""
    q, size, k = config.quantization, config.network.units, config.block_size
    first = config.num_input_blocks * k
    columns = [*range(config.network.input_size), *range(first, first + size)]
    # Products of W_h and h count in these units.  Those of W_x and x have as many fraction bits more as input_shift
    # says, and a bias counts in the finer ones of both units.
    unit_of_h = Fraction(1, 2 ** (q.weight_frac[0] + q.h.fraction_bits))
    unit_of_x = unit_of_h / Fraction(2) ** q.input_shift
    units = [*[unit_of_x] * config.network.input_size, *[unit_of_h] * size]
    rows = [circulant(weights.defining[gate], columns, size, k) for gate in range(4)]
    bias = [weights.bias[gate][:size].tolist() for gate in range(4)]
    functions, tanh = [Activation(config.gate_table(gate)) for gate in range(4)], Activation(config.cell_table)
    h, c = [0] * size, [Fraction(0)] * size
    for x in inputs.tolist():
        vector, h = list(map(mul, units, x + h)), []
        for unit in range(size):
            biases = [bias[gate][unit] * min(unit_of_x, unit_of_h) for gate in range(4)]
            sums = [sum(map(mul, rows[gate][unit], vector), biases[gate]) for gate in range(4)]
            i, f, g, o = (functions[gate](rounded(sums[gate], q.preact)) for gate in range(4))
            code = rounded(f * c[unit] + i * g, q.cell)
            c[unit] = Fraction(code, 2**q.cell.fraction_bits)
            h.append(rounded(o * tanh(code), q.h))
        yield h


def compare(steps: int, rng: np.random.Generator, **settings) -> int:
    """Assert that every step is equal, and return the number of different h."""
    sizes = {"network.input_size": 1, "network.hidden_size": 2, "compression.block_size": 1}
    tile = {"architecture.tile_rows": 1, "architecture.tile_cols": 1}
    config = preset("tiny").replace({**sizes, **tile, **settings})
    weights, x = random_weights(config, rng), random_inputs(config, rng, steps)
    h, _ = NetworkReference(weights).run(x[:, None])
    for step, exact in enumerate(lstm(config, weights, x)):
        assert h[step, 0].tolist() == exact, step
    return len(np.unique(h[:, 0], axis=0))


@pytest.mark.parametrize("block_size", [1, 2])
def test_reference_equals_rational_numbers(block_size, rng):
    assert compare(500, rng, **{"compression.block_size": block_size}) > 100


@pytest.mark.parametrize("shift", [-3, 4])
def test_reference_equals_rational_numbers_where_products_of_x_are_finer_or_coarser(shift, rng):
    assert compare(200, rng, **{"quantization.input_shift": shift, "quantization.weight_frac": 5}) > 20


@pytest.mark.slow
def test_reference_equals_rational_numbers_for_100_000_steps(rng):
    assert compare(STEPS, rng) > 100
