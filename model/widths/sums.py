"""Ranges and widths of the sums behind the matrix products, proven from the formats.

All functions take formats and counts, not a configuration, since the configuration checks itself by them.

A rounding HALF_UP by ``shift`` bits adds the constant 2^(shift-1) before the lowest bits are dropped.  The constant can
be larger than the sum itself, when a format is much coarser than the sum: a width must hold both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chessrnn.model.qformat import QFormat
from chessrnn.model.widths.interval import Interval, product_interval, signed_bits, signed_interval

# Greatest width of an accumulator: products of matrices are exact in float64 up to 53 bits.
MAX_ACCUMULATOR_BITS = 48
# Greatest width of any other sum with its rounding constant, as the reference computes in 64 bits.
MAX_SUM_BITS = 63
# Carry-save arithmetic takes a factor of a product as radix-4 Booth digits, of three bits: once, twice, negative.
DIGIT_BITS = 3
# Share of the products' gates, as `recodes_weights` counts them, that recoding the weights must save.
RECODING_GAIN = 0.07


def format_interval(fmt: QFormat) -> Interval:
    """Range of the codes of a format."""
    return Interval(fmt.min, fmt.max)


def half(shift: int) -> int:
    """The constant that makes dropping ``shift`` bits round HALF_UP; none where nothing is dropped."""
    return 1 << (shift - 1) if shift > 0 else 0


# -- matrix products -------------------------------------------------------------------------------------------


def products_interval(weight: Interval, columns: Sequence[tuple[int, Interval]]) -> Interval:
    """Range of a row of a matrix product, Σ w·v over columns, given as (number of elements, range of an element).

    The weights and elements are independent, so both ends are attained: each product is at its own extreme.
    """
    return Interval(0, 0).plus(*(product_interval(weight, element).times(count) for count, element in columns))


def union(intervals: Sequence[Interval]) -> Interval:
    """The least interval that contains all the given ones."""
    return Interval(min(interval.low for interval in intervals), max(interval.high for interval in intervals))


def biased_interval(products: Interval, bias_bits: int) -> Interval:
    """Range of a row of a matrix product plus a bias of ``bias_bits`` bits; both ends are attained."""
    return products.plus(signed_interval(bias_bits))


def accumulator_sum_bits(sums: Interval) -> int:
    """Width of an accumulator for sums from this interval, and for one more than its greatest.

    Only where that is a power of two, the accumulator has a bit that no sum needs.  A narrower one would change designs
    that are in use, such as the preset ``char64``.
    """
    return signed_bits(sums.low, sums.high + 1)


def rounded_sum_bits(sum_bits: int, shift: int) -> int:
    """Width of a sum of ``sum_bits`` bits with the rounding constant added.

    A bit is added even where nothing is rounded, so that the width depends on the shift only when it exceeds the sum.
    The sum is below 2^(sum_bits-1) and the constant is 2^(shift-1), so the bit is enough for every shift up to
    ``sum_bits``; beyond that the constant decides.
    """
    sums = signed_interval(sum_bits)
    return max(sum_bits + 1, signed_bits(sums.low, sums.high + half(shift)))


def scaled_sum_bits(scaled: Interval, shift: int) -> int:
    """Width of a sum from this interval, which includes the scale of its row, with the rounding constant added."""
    return signed_bits(scaled.low, scaled.high + half(shift))


def peephole_sum_interval(total: Interval, total_frac: int, peephole: QFormat, state: QFormat, target: QFormat):
    """Range of the sum of a gate plus its peephole product, at their common scale and with the rounding constant.

    Parameters
    ----------
    total : Interval
        Range of the sum with its bias.
    total_frac : int
        Number of fraction bits of the sum.
    peephole, state, target : QFormat
        Formats of the peephole weight, of the cell state, and of the rounded sum.
    """
    product_frac = peephole.fraction_bits + state.fraction_bits
    frac = max(total_frac, product_frac)
    product = product_interval(format_interval(peephole), format_interval(state))
    both = total.times(1 << (frac - total_frac)).plus(product.times(1 << (frac - product_frac)))
    return Interval(both.low, both.high + half(frac - target.fraction_bits))


# -- cell updates ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """A term of a rounded sum: a product of two factors, or one value.

    Attributes
    ----------
    factors : tuple of Interval
        Ranges of the one or two factors.
    fraction_bits : int
        Number of fraction bits of the term.
    """

    factors: tuple[Interval, ...]
    fraction_bits: int

    @property
    def bits(self) -> int:
        """Width of the term: that of its factors together, which holds the product of any two codes of these widths."""
        return sum(factor.bits for factor in self.factors)

    @property
    def interval(self) -> Interval:
        """Exact range of the term; both ends are attained."""
        return product_interval(*self.factors) if len(self.factors) == 2 else self.factors[0]


@dataclass(frozen=True)
class RoundedTerms:
    """A sum of one to three terms that is rounded once.

    Attributes
    ----------
    terms : tuple of Term
        The terms, each at its own scale.
    target : QFormat
        Format that the sum is rounded to.
    """

    terms: tuple[Term, ...]
    target: QFormat

    @property
    def fraction_bits(self) -> int:
        """Number of fraction bits of the sum: the most of any term, so that no bit of any term is lost."""
        return max(term.fraction_bits for term in self.terms)

    @property
    def shift(self) -> int:
        """Number of bits that the rounding drops; negative if the target is finer than the sum."""
        return self.fraction_bits - self.target.fraction_bits

    @property
    def interval(self) -> Interval:
        """Range of the sum with the rounding constant, if the factors of all terms are independent."""
        frac = self.fraction_bits
        total = Interval(0, 0).plus(*(term.interval.times(1 << (frac - term.fraction_bits)) for term in self.terms))
        return Interval(total.low, total.high + half(self.shift))

    @property
    def bits(self) -> int:
        """Width of the words whose sum is the sum of all terms and the rounding constant, modulo 2^bits."""
        return rounded_terms_bits(
            [term.bits + self.fraction_bits - term.fraction_bits for term in self.terms], self.shift
        )

    @property
    def reference_bits(self) -> int:
        """Width that the reference computes in: of the sum with its constant, or of its codes in a finer target."""
        return self.interval.bits + max(0, -self.shift)


def rounded_terms_bits(term_bits: Sequence[int], shift: int) -> int:
    """Width of the sum of one to three signed terms and the rounding constant, as carry-save words.

    A term of b bits has a magnitude of at most 2^(b-1).  Three of them stay below 2^(max b + 1), and so does the
    constant unless it is wider than they are; then the exact bound decides.

    Parameters
    ----------
    term_bits : sequence of int
        Widths of the terms, aligned to the same scale.
    shift : int
        Bits that the rounding drops.
    """
    assert 1 <= len(term_bits) <= 3, "two more bits than the widest term hold three terms"
    bound = sum(1 << (bits - 1) for bits in term_bits)
    return max(max(term_bits) + 2, signed_bits(-bound, bound + half(shift)))


def activated_interval(gate: QFormat) -> Interval:
    """Range that every result of an activation is in: below 2 in magnitude, as σ and tanh are at most 1.

    The lines of a table are within a fraction of 1 of the function.
    """
    one = 1 << gate.fraction_bits
    return Interval(1 - 2 * one, 2 * one - 1)


def cell_sums(
    cell: str, preact: QFormat, gate: QFormat, state: QFormat, output: QFormat, activated: Interval | None = None
) -> dict[str, RoundedTerms]:
    """The rounded sums of a cell update by name, empty for a cell without products.

    ===========  ============================  =============================
    name         LSTM                          GRU
    ===========  ============================  =============================
    ``state``    c' = f·c + i·g                s' = (1 - z)·n + z·s
    ``output``   h' = o·tanh(c')               none: s' is rounded again
    ``sum``      none                          nx + r·nh, behind the matrix
    ``scaled``   none                          r·s, in front of the matrix
    ===========  ============================  =============================

    1 - z has one bit more than z: 1 is at most a quarter of the range of a gate's format, which has two integer bits.

    Parameters
    ----------
    cell : str
        Name of the cell, a key of ``chessrnn.model.cells.CELLS``.
    preact, gate, state, output : QFormat
        Formats of pre-activations, activated gates, the cell's state, and its output.
    activated : Interval, optional
        Range of an activated gate; when left out it is any code of its format, so that the widths of the hardware are
        right for every table.
    """
    states, preacts = format_interval(state), format_interval(preact)
    gates = activated or format_interval(gate)
    gate_frac, state_frac = gate.fraction_bits, state.fraction_bits
    if cell in ("lstm", "lstm_peephole"):
        kept, renewed = Term((gates, states), gate_frac + state_frac), Term((gates, gates), 2 * gate_frac)
        return {"state": RoundedTerms((kept, renewed), state), "output": RoundedTerms((renewed,), output)}
    if cell not in ("gru", "gru_reset_first"):
        return {}
    one = 1 << gate_frac
    renewed = Term((Interval(one - gates.high, one - gates.low), gates), 2 * gate_frac)
    kept = Term((gates, states), gate_frac + state_frac)
    sums = {"state": RoundedTerms((renewed, kept), state)}
    if cell == "gru_reset_first":
        return sums | {"scaled": RoundedTerms((kept,), output)}
    scaled, plain = Term((gates, preacts), gate_frac + preact.fraction_bits), Term((preacts,), preact.fraction_bits)
    return sums | {"sum": RoundedTerms((scaled, plain), preact)}


# -- output layer, carry-save dot products -------------------------------------------------------------------


def logit_interval(weight_bits: int, bias_bits: int, size: int, element: QFormat) -> Interval:
    """Range of a logit of the output layer, Σ w·h + bias over ``size`` elements; both ends are attained."""
    return biased_interval(
        products_interval(signed_interval(weight_bits), [(size, format_interval(element))]), bias_bits
    )


def num_digits(width: int) -> int:
    """Number of Booth digits of a signed operand of ``width`` bits."""
    return -(-width // 2)


def recodes_weights(weight_bits: int, operand_bits: int) -> bool:
    """Tell whether products are smaller if their weight is recoded into Booth digits, in place of the vector's element.

    A product has a row for every digit, as wide as the other factor and a bit more; the gates of a row are taken to be
    in proportion to that and one bit for its sign.  Digits of an element are shared by all rows of the tile, whereas
    each weight takes a recoder of about half a bit per digit.  Only narrow weights gain by it: see
    ``tests/baselines/recoding.py``.
    """
    of_weights = num_digits(weight_bits) * (operand_bits + 2.5)
    return of_weights < (1 - RECODING_GAIN) * num_digits(operand_bits) * (weight_bits + 2)


def digits_width(width: int) -> int:
    """Number of control bits of all Booth digits of a signed operand of ``width`` bits."""
    return DIGIT_BITS * num_digits(width)


def product_offset(multiplicand_bits: int, multiplier_bits: int) -> int:
    """The constant that makes all partial products of a product unsigned, each at the place of its digit.

    A digit of at least -2 times a multiplicand is at least -2^multiplicand_bits.  The highest digit of a multiplier of
    odd width is the sign and one more bit, so it is at least -1, and half of the constant is enough.
    """
    digits, odd = num_digits(multiplier_bits), multiplier_bits % 2
    whole = sum(4**digit for digit in range(digits)) << multiplicand_bits
    return whole - odd * (4 ** (digits - 1) << multiplicand_bits - 1)


def dot_product_bound(terms: int, multiplicand_bits: int, multiplier_bits: int) -> tuple[int, int]:
    """Offset and upper bound of a carry-save dot product whose partial products are made unsigned.

    A product is at most 2^(multiplicand_bits + multiplier_bits - 2), the product of the two least values, so the sum of
    all is at most the offset plus ``terms`` times that, which is attained.
    """
    offset = terms * product_offset(multiplicand_bits, multiplier_bits)
    return offset, offset + terms * (1 << (multiplicand_bits + multiplier_bits - 2))
