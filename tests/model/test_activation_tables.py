"""The error of every activation table over every input code stays within stated bounds."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model.activation_tables import FUNCTIONS, activation_table
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.fixed_point import dequantize
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.activation import activate, lookup

FORMATS = {"preact": QFormat(4, 8), "cell": QFormat(4, 12)}
GATE = QFormat(2, 10)
# Greatest |approximation - function| over all codes of the default formats, in real units.  The LSB of a gate is
# 2^-10, just below 1e-3, so rounding alone costs half of that.
BOUNDS = {
    ("sigmoid", "preact", "pwl", 4): 0.0413,
    ("sigmoid", "preact", "pwl", 8): 0.0073,
    ("sigmoid", "preact", "pwl", 16): 0.0020,
    ("sigmoid", "preact", "pwl", 32): 0.0009,
    ("sigmoid", "preact", "pwl", 64): 0.0007,
    ("sigmoid", "preact", "shift", 2): 0.0380,
    ("sigmoid", "preact", "shift", 3): 0.0183,
    ("sigmoid", "preact", "shift", 4): 0.0161,
    ("sigmoid", "preact", "shift", 8): 0.0161,
    ("tanh", "preact", "pwl", 4): 0.0822,
    ("tanh", "preact", "pwl", 8): 0.0147,
    ("tanh", "preact", "pwl", 16): 0.0034,
    ("tanh", "preact", "pwl", 32): 0.0013,
    ("tanh", "preact", "pwl", 64): 0.0007,
    ("tanh", "preact", "shift", 2): 0.0793,
    ("tanh", "preact", "shift", 3): 0.0363,
    ("tanh", "preact", "shift", 4): 0.0316,
    ("tanh", "preact", "shift", 8): 0.0316,
    ("tanh", "cell", "pwl", 16): 0.0035,
    ("tanh", "cell", "pwl", 64): 0.0007,
    ("tanh", "cell", "shift", 4): 0.0322,
    ("tanh", "cell", "shift", 8): 0.0322,
}


def max_error(table) -> float:
    """Greatest |approximation - true function| over every input code."""
    codes = np.arange(table.in_format.min, table.in_format.max + 1)
    exact = FUNCTIONS[table.function](dequantize(codes, table.in_format))
    return float(np.abs(dequantize(activate(codes, table), table.out_format) - exact).max())


@pytest.mark.parametrize(("function", "point", "kind", "segments"), BOUNDS)
def test_maximum_error(function, point, kind, segments):
    table = activation_table(function, kind, segments, FORMATS[point], GATE)
    assert max_error(table) <= BOUNDS[function, point, kind, segments]


@st.composite
def tables(draw):
    kind = draw(st.sampled_from(["pwl", "shift"]))
    segments = draw(st.sampled_from([4, 8, 16]) if kind == "pwl" else st.integers(2, 8))
    in_format = QFormat(draw(st.integers(3, 5)), draw(st.integers(4, 11)))
    out_format = QFormat(draw(st.integers(2, 4)), draw(st.integers(3, 12)))
    return activation_table(draw(st.sampled_from(["sigmoid", "tanh"])), kind, segments, in_format, out_format)


@given(tables())
def test_symmetry_and_range(table):
    codes = np.arange(-table.in_format.max, table.in_format.max + 1)
    values = activate(codes, table)
    mirrored = activate(-codes, table)
    if table.function == "tanh":
        assert np.array_equal(values, -mirrored)
        # Rounding never raises a code above 1.0.
        assert np.abs(values).max() <= table.one
    else:
        # Zero has no sign, and σ of it is one half.
        positive = codes > 0
        assert np.array_equal((values + mirrored)[positive], np.full(positive.sum(), table.one))
        assert values.min() >= 0
        assert values.max() <= table.one


@given(tables())
def test_lookup_is_activate(table):
    codes = np.arange(table.in_format.min, table.in_format.max + 1)
    assert np.array_equal(lookup(table)[codes - table.in_format.min], activate(codes, table))


@given(tables())
def test_shift_tables_are_monotonic(table):
    if table.kind == "shift":
        values = activate(np.arange(table.in_format.min, table.in_format.max + 1), table)
        assert np.all(np.diff(values) >= 0)


def test_zero():
    for kind, segments in (("pwl", 16), ("shift", 4)):
        for function, expected in (("tanh", 0), ("sigmoid", 512)):
            table = activation_table(function, kind, segments, FORMATS["preact"], GATE)
            assert int(activate(0, table)) == expected


def test_too_coarse_a_format():
    text = "input format of tanh must be fine enough for 64 segments, not 'Q4.2'"
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        activation_table("tanh", "pwl", 64, QFormat(4, 2), GATE)


def test_functions():
    assert FUNCTIONS["sigmoid"](0.0) == 0.5
    assert FUNCTIONS["tanh"](0.0) == 0.0


def exhaustive_shift_codes(function, segments, in_format, out_format) -> tuple[int, ...]:
    """Intercepts of the table of kind shift, each error of the search taken over every magnitude."""
    f = FUNCTIONS[function]
    first = {"sigmoid": 2, "tanh": 0}[function]
    shifts = range(first, first + segments)
    unit = 2.0 ** -(out_format.fraction_bits + 3)
    x = np.arange((1 << (in_format.width - 1)) + 1) * in_format.lsb
    codes = [int(np.floor(float((f(x) - x * 2.0**-j).max()) / unit + 0.5)) for j in shifts]
    cap = int(np.floor(min(1.0, (float(f(x[-1])) + 1.0) / 2.0) / unit + 0.5))

    def error(candidate):
        lines = [code * unit + x * 2.0**-j for code, j in zip(candidate, shifts, strict=True)]
        return round(float(np.abs(np.minimum(np.min(lines, axis=0), cap * unit) - f(x)).max()), 9)

    step = max(1, (1 << (out_format.fraction_bits + 3)) >> 5)
    while step >= 1:
        for j in range(1, segments):
            codes = min(([*codes[:j], codes[j] + delta, *codes[j + 1 :]] for delta in (0, -step, step)), key=error)
        step //= 2
    return tuple(codes)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("in_format", "out_format", "segments"), [
    ("Q4.6", "Q2.10", 8), ("Q9.1", "Q2.2", 5), ("Q-4.12", "Q2.14", 3), ("Q3.3", "Q14.2", 2), ("Q-22.32", "Q2.5", 8),
])  # fmt: skip
def test_few_magnitudes_decide_a_shift_table(function, in_format, out_format, segments):
    formats = QFormat.parse(in_format), QFormat.parse(out_format)
    table = activation_table(function, "shift", segments, *formats)
    assert table.intercepts == exhaustive_shift_codes(function, segments, *formats)


def test_a_shift_table_of_the_widest_format():
    # The search over each of its 2^23 magnitudes took minutes.
    table = activation_table("tanh", "shift", 8, QFormat(4, 20), QFormat(2, 14))
    codes = np.arange(table.in_format.min, table.in_format.max + 1, 97)
    exact = FUNCTIONS["tanh"](dequantize(codes, table.in_format))
    error = np.abs(dequantize(activate(codes, table), table.out_format) - exact).max()
    assert error <= BOUNDS["tanh", "cell", "shift", 8]
