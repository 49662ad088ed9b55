"""Bounds of sums are attained: they are compared with every combination of codes of small formats."""

import itertools

import pytest

from chessrnn.model.activation_tables import FUNCTIONS, activation_table
from chessrnn.model.cells import CELLS
from chessrnn.model.config_sections import ACTIVATION_KINDS
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.activation import lookup
from chessrnn.model.widths.interval import Interval, product_interval, signed_interval
from chessrnn.model.widths.sums import (
    MAX_SUM_BITS,
    accumulator_sum_bits,
    activated_interval,
    biased_interval,
    cell_sums,
    dot_product_bound,
    format_interval,
    logit_interval,
    peephole_sum_interval,
    products_interval,
    recodes_weights,
    union,
)
from chessrnn.sim.scenarios import FORMAT_WIDTHS, FRACTION_BITS, MIN_INTEGER_BITS


def codes(bits: int) -> range:
    """Every integer of a width."""
    return range(-(1 << (bits - 1)), 1 << (bits - 1))


def span(values) -> Interval:
    """The interval from the least to the greatest value."""
    values = list(values)
    return Interval(min(values), max(values))


@pytest.mark.parametrize(("weight", "x", "h"), [(2, 2, 2), (2, 3, 2), (3, 2, 3)])
def test_products_of_a_row(weight, x, h):
    # Two elements of x and one of h; then a bias of three bits.
    rows = [
        a * b + c * d + e * f
        for a, c, e in itertools.product(codes(weight), repeat=3)
        for b, d, f in itertools.product(codes(x), codes(x), codes(h))
    ]
    columns = [(2, signed_interval(x)), (1, signed_interval(h))]
    products = products_interval(signed_interval(weight), columns)
    assert products == span(rows)
    assert biased_interval(products, 3) == Interval(min(rows) - 4, max(rows) + 3)


def test_an_accumulator_has_room_for_one_more_than_the_greatest_sum():
    assert [accumulator_sum_bits(Interval(-7, high)) for high in (6, 7, 8, 14, 15, 16)] == [4, 5, 5, 5, 6, 6]
    assert accumulator_sum_bits(Interval(-9, 3)) == 5


def test_union():
    assert union([Interval(-3, 1), Interval(-1, 5), Interval(0, 0)]) == Interval(-3, 5)


@pytest.mark.parametrize("target_frac", [0, 1, 3])
@pytest.mark.parametrize(
    ("peephole", "state", "total_frac"), [("Q1.2", "Q2.2", 2), ("Q2.0", "Q2.1", 3), ("Q1.1", "Q1.3", 4)]
)
def test_peephole_sum(peephole, state, total_frac, target_frac):
    peephole, state, target = QFormat.parse(peephole), QFormat.parse(state), QFormat(4, target_frac)
    total, product_frac = Interval(-9, 7), peephole.fraction_bits + state.fraction_bits
    frac = max(total_frac, product_frac)
    constant = (1 << (frac - target_frac)) // 2 if frac > target_frac else 0
    sums = [
        (value << (frac - total_frac)) + (a * b << (frac - product_frac))
        for value in total
        for a, b in itertools.product(codes(peephole.width), codes(state.width))
    ]
    found = peephole_sum_interval(total, total_frac, peephole, state, target)
    assert found == Interval(min(sums), max(sums) + constant)


@pytest.mark.parametrize("formats", [("Q2.2", "Q1.3", "Q2.2", "Q1.1"), ("Q3.1", "Q3.1", "Q3.1", "Q-2.5")])
@pytest.mark.parametrize("cell", list(CELLS))
def test_sums_of_a_cell(cell, formats):
    preact, state, gate, output = map(QFormat.parse, formats)
    one, gates, states, preacts = 1 << gate.fraction_bits, codes(gate.width), codes(state.width), codes(preact.width)
    g, c, p = gate.fraction_bits, state.fraction_bits, preact.fraction_bits
    # Terms, as their possible values and their fraction bits.
    kept = {f * s for f in gates for s in states}, g + c
    plain = {i * n for i in gates for n in gates}, 2 * g
    renewed = {(one - z) * n for z in gates for n in gates}, 2 * g
    scaled = {r * n for r in gates for n in preacts}, g + p
    # Name → terms and target.
    of_lstm = {"state": ([kept, plain], state), "output": ([plain], output)}
    of_gru = {"state": ([renewed, kept], state)}
    expected = {
        "lstm": of_lstm,
        "lstm_peephole": of_lstm,
        "gru": {**of_gru, "sum": ([scaled, (set(preacts), p)], preact)},
        "gru_reset_first": {**of_gru, "scaled": ([kept], output)},
    }.get(cell, {})
    found = cell_sums(cell, preact, gate, state, output)
    assert found.keys() == expected.keys()
    for name, (terms, target) in expected.items():
        frac = max(fraction for _, fraction in terms)
        shift = frac - target.fraction_bits
        constant = (1 << shift) // 2 if shift > 0 else 0
        low = sum(min(values) << (frac - fraction) for values, fraction in terms)
        high = sum(max(values) << (frac - fraction) for values, fraction in terms) + constant
        result = found[name]
        assert (result.interval, result.fraction_bits, result.shift) == (Interval(low, high), frac, shift)
        assert result.interval.bits <= result.bits


def test_logits_and_dot_products():
    h = QFormat(1, 2)
    sums = [
        a * b + c * d + bias
        for a, b, c, d in itertools.product(codes(2), codes(3), codes(2), codes(3))
        for bias in codes(4)
    ]
    assert logit_interval(2, 4, 2, h) == span(sums)
    # An operand has digits d0 + 4·d1, from -2 to 2, where the last one of three bits is from -1 to 1.  The constant is
    # 2^w at the place of each digit, or half of it.
    for bits, constant in ((3, 8 + 16), (4, 8 + 32)):
        offset, largest = dot_product_bound(2, 3, bits)
        assert offset == 2 * constant
        products = [a * b for a, b in itertools.product(codes(3), codes(bits))]
        assert largest == offset + 2 * max(products)
        assert offset + 2 * min(products) >= 0


def test_only_narrow_weights_are_recoded():
    """Two bits are one digit; from 4 bits on the fast engine's products of k = 4 and 8 recode x."""
    assert all(recodes_weights(2, width) for width in range(8, 20))
    assert recodes_weights(4, 10)
    assert not any(recodes_weights(width, width) for width in range(2, 24))
    assert not any(recodes_weights(*pair) for pair in [(5, 9), (6, 10), (7, 11), (5, 10), (10, 8), (16, 9)])


def test_products_are_at_ends_of_both_factors():
    for low, high, other in itertools.product(range(-4, 1), range(0, 4), range(2, 5)):
        b = signed_interval(other)
        assert product_interval(Interval(low, high), b) == span(
            x * y for x in range(low, high + 1) for y in codes(other)
        )


def corner_formats(name: str) -> list[QFormat]:
    """The formats at the ends of the legal range of a quantization point."""
    low, high = FRACTION_BITS[name]
    ends = [(width, (low, min(high, width - MIN_INTEGER_BITS[name]))) for width in FORMAT_WIDTHS[name]]
    return [QFormat(width - frac, frac) for width, fracs in ends for frac in fracs]


@pytest.mark.parametrize("cell", list(CELLS))
def test_the_reference_has_bits_enough_for_every_legal_format(cell):
    # Widths and shifts grow with the distance of formats, so the corners have the widest sums.
    formats = (corner_formats(name) for name in ("preact", "gate", "cell", "h"))
    for preact, gate, state, h in itertools.product(*formats):
        for output in (h, QFormat(1, h.width - 1)):
            sums = cell_sums(cell, preact, gate, state, output, activated_interval(gate))
            assert all(terms.reference_bits <= MAX_SUM_BITS for terms in sums.values())


@pytest.mark.parametrize("kind", ACTIVATION_KINDS)
@pytest.mark.parametrize("function", list(FUNCTIONS))
def test_activated_gates_are_in_their_interval(function, kind):
    for source in (QFormat(3, 1), QFormat(3, 13), QFormat(15, 1), QFormat(4, 8)):
        for gate in (QFormat(2, 2), QFormat(3, 1), QFormat(2, 14), QFormat(15, 1)):
            segments = 4 if kind == "pwl" else 8
            if kind == "pwl" and source.width < 5:
                continue
            interval, results = (
                activated_interval(gate),
                lookup(activation_table(function, kind, segments, source, gate)),
            )
            assert interval.low <= results.min()
            assert results.max() <= interval.high
            assert format_interval(gate).low <= interval.low
            # All codes that are below 2 in magnitude.
            assert interval == Interval(1 - (2 << gate.fraction_bits), (2 << gate.fraction_bits) - 1)
