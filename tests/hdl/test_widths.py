"""Rounding constants that are larger than the sums they are added to, and every corner of the format ranges."""

import itertools

import numpy as np
import pytest

from chessrnn.hdl.arithmetic.booth import digits_layout
from chessrnn.model.errors import UserError
from chessrnn.model.presets import preset
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.widths.interval import signed_bits
from chessrnn.model.widths.sums import DIGIT_BITS, half, num_digits, rounded_sum_bits, rounded_terms_bits
from chessrnn.sim.boundary_values import extreme_weights
from chessrnn.sim.pysim import beats_of, run_accelerator
from chessrnn.sim.scenarios import FORMAT_WIDTHS, FRACTION_BITS, MIN_INTEGER_BITS

SMALL = {
    "network.input_size": 3,
    "network.hidden_size": 4,
    "architecture.tile_rows": 2,
    "architecture.tile_cols": 1,
}


def equal_to_reference(config, rng, steps=3) -> bool:
    """Whether the hardware gives the reference's h for weights and inputs at the ends of their ranges."""
    weights, q, k = extreme_weights(config, rng), config.quantization, config.block_size
    x = rng.choice([q.x.min, q.x.max], size=(steps, config.network.input_size))
    h, _ = NetworkReference(weights).run(x[:, None])
    expected = beats_of([h[:, 0]], k, q.h.width)
    return run_accelerator(weights, beats_of([x], k, q.x.width), len(expected)).beats == expected


@pytest.mark.parametrize("arithmetic", [pytest.param("carry_save", marks=pytest.mark.slow), "multiplier"])
@pytest.mark.parametrize(
    "formats",
    [
        {"quantization.weight_frac": 20, "quantization.preact": "Q4.5"},
        {"quantization.weight_frac": 20, "quantization.preact": "Q4.6"},
        {"quantization.weight_frac": 20, "quantization.h": "Q8.-6", "quantization.gate": "Q2.2"},
        {
            "quantization.weight_frac": 20,
            "quantization.h": "Q2.0",
            "quantization.weight_bits": 2,
            "quantization.x": "Q2.0",
        },
    ],
)
def test_coarse_roundings(formats, arithmetic, rng):
    config = preset("tiny").replace({**SMALL, **formats, "architecture.arithmetic": arithmetic})
    assert equal_to_reference(config, rng)


@pytest.mark.parametrize("width", range(1, 20))
def test_digits_have_the_width_that_is_counted(width):
    assert digits_layout(width).size == DIGIT_BITS * num_digits(width)


@pytest.mark.parametrize(("sum_bits", "shift"), list(itertools.product((2, 5, 17, 48), (0, 1, 2, 16, 31))))
def test_the_width_of_a_rounded_sum_is_tight(sum_bits, shift):
    low, high = -(1 << (sum_bits - 1)), (1 << (sum_bits - 1)) - 1 + half(shift)
    width = rounded_sum_bits(sum_bits, shift)
    assert -(1 << (width - 1)) <= low
    assert high <= (1 << (width - 1)) - 1
    # One bit less would not do, or is the bit that every sum with a bias gets.
    assert width == max(sum_bits + 1, signed_bits(low, high))


@pytest.mark.parametrize("terms", [(4,), (9, 9), (3, 17, 17), (8, 8, 8)])
@pytest.mark.parametrize("shift", [0, 1, 8, 40])
def test_the_width_of_rounded_terms_holds_their_extremes(terms, shift):
    width = rounded_terms_bits(terms, shift)
    low, high = -sum(1 << (bits - 1) for bits in terms), sum((1 << (bits - 1)) for bits in terms) + half(shift)
    assert -(1 << (width - 1)) <= low
    assert high <= (1 << (width - 1)) - 1
    # One bit less would not do, or is the second of those that any three terms get.
    assert width == max(max(terms) + 2, signed_bits(low, high))


def test_signed_bits():
    assert [signed_bits(*pair) for pair in ((0, 0), (-1, 0), (-2, 1), (-2, 2), (-129, 3), (0, 127), (0, 128))] == [
        1, 1, 2, 3, 9, 8, 9,
    ]  # fmt: skip


def corner_formats() -> dict[str, list[str]]:
    """The ends of the legal range of every quantization point: narrowest and widest, finest and coarsest."""
    found = {}
    for name, widths in FORMAT_WIDTHS.items():
        low, high = FRACTION_BITS[name]
        pairs = [(width, frac) for width in widths for frac in (low, min(high, width - MIN_INTEGER_BITS[name]))]
        found[name] = [f"Q{width - frac}.{frac}" for width, frac in pairs]
    return found


CORNERS = corner_formats()
CORNER_PAIRS = 3


PAIRS = list(itertools.combinations(("x", "h", "preact", "gate", "cell"), 2))
# The others are left to the slow tests.
QUICK_PAIRS = {("h", "cell")}


@pytest.mark.parametrize(
    "pair",
    [pytest.param(pair, marks=[] if pair in QUICK_PAIRS else [pytest.mark.slow], id="-".join(pair)) for pair in PAIRS],
)
def test_pairs_of_corner_formats(pair, rng):
    # For every two points, three pairs of their corners that some weight_frac makes valid, simulated at the extremes;
    # `make fuzz` draws from all of them.
    tried = 0
    for first, second in rng.permutation(list(itertools.product(*(CORNERS[name] for name in pair)))).tolist():
        arithmetic = ("multiplier", "carry_save")[tried % 2]
        for frac in (20, -8, 10):
            try:
                config = preset("tiny").replace(
                    {
                        **SMALL,
                        "architecture.arithmetic": arithmetic,
                        f"quantization.{pair[0]}": first,
                        f"quantization.{pair[1]}": second,
                        "quantization.weight_frac": frac,
                        "activation.kind": "shift",
                        "activation.segments": 4,
                    }
                )
            except UserError:
                continue
            assert equal_to_reference(config, rng, steps=2), (first, second, frac, arithmetic)
            tried += 1
            break
        if tried == CORNER_PAIRS:
            break
    assert tried == CORNER_PAIRS


def test_the_rounding_of_a_projection_that_drops_one_bit(rng):
    config = preset("tiny").replace({**SMALL, "network.projection_size": 3, "architecture.arithmetic": "multiplier"})
    frac = 1 + config.quantization.h.fraction_bits - config.cell_output.fraction_bits
    assert equal_to_reference(config.replace({"quantization.projection_frac": frac}), rng)


def test_the_reference_rounds_half_up_where_the_shift_is_one():
    # HALF_UP and FLOOR differ by one for every odd sum: a rounding that is dropped there must be seen.
    from chessrnn.model.fixed_point import shift_half_up

    np.testing.assert_array_equal(shift_half_up(np.arange(-5, 6), 1), [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3])
