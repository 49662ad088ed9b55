"""Sums of products in carry-save form."""

import zlib
from collections.abc import Sequence
from functools import cache

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.booth import digits_layout, last_partial_product, partial_product, recode
from chessrnn.hdl.arithmetic.carry_save import CarrySaveSum, CarrySaveWords
from chessrnn.model.widths.sums import dot_product_bound, num_digits, product_offset

# Delay of a partial product, in the unit of ``chessrnn.hdl.arithmetic.carry_save``.
PARTIAL_PRODUCT_DELAY = 4


class DotProduct(wiring.Component):
    """A dot product: ``save + carry = Σ multiplicands[i] · multipliers[i] + offset``, with multipliers as Booth digits.

    The partial products of all products go through one compressor: neither the products nor their partial sums exist
    as numbers, and no carry propagates.  A caller adds an accumulator with
    :func:`chessrnn.hdl.arithmetic.carry_save.compress` and completes the sum with one adder.  The offset makes every
    partial product unsigned; a caller that adds many sums subtracts the total of their offsets once.

    Parameters
    ----------
    terms : int
        Number of products.
    multiplicand_width, multiplier_width : int
        Bits of a number that partial products are made of, and of a number that is given as digits.

    Members
    -------
    multiplicands : In(ArrayLayout(signed(multiplicand_width), terms))
    digits : In(ArrayLayout(digits_layout(multiplier_width), terms))
    save : Out(width)
    carry : Out(len(places))
        Second bits of the columns that have one, the lowest first.

    Attributes
    ----------
    offset, largest : int
        Constant that the sum includes; upper bound of the sum.
    places : tuple of int
        Positions of the bits of ``carry``.
    words : CarrySaveWords
        The two words; their sum fits in ``width`` bits.

    Latency: 1 · Throughput: 1 per cycle · Numerics: exact · Reference: integer sum of products
    """

    reset_less = True
    latency = 1

    def __init__(self, terms: int, multiplicand_width: int, multiplier_width: int):
        self.terms, self.multiplicand_width, self.multiplier_width = terms, multiplicand_width, multiplier_width
        self.offset, self.largest = dot_product_bound(terms, multiplicand_width, multiplier_width)
        self.width = self.largest.bit_length()
        self.places = _dot_product_places(terms, multiplicand_width, multiplier_width)
        super().__init__(
            {
                "multiplicands": In(data.ArrayLayout(signed(multiplicand_width), terms)),
                "digits": In(data.ArrayLayout(digits_layout(multiplier_width), terms)),
                "save": Out(self.width),
                "carry": Out(len(self.places)),
            }
        )

    @property
    def words(self) -> CarrySaveWords:
        return CarrySaveWords(self.save, self.carry, self.places)

    @property
    def module_name(self) -> str:
        return f"dot_product_n{self.terms}_m{self.multiplicand_width}_d{self.multiplier_width}"

    def elaborate(self, platform):
        m = Module()
        total = CarrySaveSum(m, self.largest)
        for term in range(self.terms):
            _add_product(total, self.digits[term], self.multiplier_width, self.multiplicands[term])
        save, carry, _ = total.compressed()
        m.d.sync += [self.save.eq(save), self.carry.eq(carry)]
        return m


def _add_product(total: CarrySaveSum, digits: data.View, multiplier_width: int, multiplicand: Value) -> None:
    """Add a product plus :func:`product_offset`; the digits are those of a number of ``multiplier_width`` bits."""
    for index in range(num_digits(multiplier_width)):
        digit = digits[index]
        short = 2 * index + 1 == multiplier_width
        row = last_partial_product(digit, multiplicand) if short else partial_product(digit, multiplicand)
        total.add(row, 2 * index, PARTIAL_PRODUCT_DELAY)
        total.add_bit(digit.negative, 2 * index)


@cache
def _dot_product_places(terms: int, multiplicand_width: int, multiplier_width: int) -> tuple[int, ...]:
    """Positions of the bits of ``carry`` of a :class:`DotProduct`, which only depend on its widths."""
    total = CarrySaveSum(None, dot_product_bound(terms, multiplicand_width, multiplier_width)[1])
    for _ in range(terms):
        digits = Signal(digits_layout(multiplier_width))
        _add_product(total, digits, multiplier_width, Signal(signed(multiplicand_width)))
    return total.places()


class CarrySaveProduct(wiring.Component):
    """A product of signed numbers: ``save + carry = multiplier · multiplicand + added`` modulo 2^width.

    Parameters
    ----------
    width_a, width_b : int
        Bits of the operands.
    width : int
        Bits of the words; the sum to which a caller adds them must not need more.
    added : int
        Constant, such as half an LSB of a later rounding; it costs nothing, as there is an offset to add anyway.

    Members
    -------
    multiplier : In(signed(width_a))
        Factor that is recoded into Booth digits.
    multiplicand : In(signed(width_b))
    save, carry : Out(width)

    Latency: 1 · Throughput: 1 per cycle · Numerics: exact modulo 2^width · Reference: integer product
    """

    reset_less = True
    latency = 1

    def __init__(self, width_a: int, width_b: int, width: int, added: int = 0):
        self.width_a, self.width_b, self.width, self.added = width_a, width_b, width, added
        super().__init__(
            {
                "multiplier": In(signed(width_a)),
                "multiplicand": In(signed(width_b)),
                "save": Out(width),
                "carry": Out(width),
            }
        )

    @property
    def module_name(self) -> str:
        return f"carry_save_product_{self.width_a}x{self.width_b}_o{self.width}_a{self.added}"

    def elaborate(self, platform):
        m = Module()
        # The words wrap, so the offset is subtracted by adding its complement modulo 2^width.
        total = CarrySaveSum(m, (1 << self.width) - 1)
        digits = Signal(digits_layout(self.width_a))
        m.d.comb += digits.as_value().eq(recode(self.multiplier))
        _add_product(total, digits, self.width_a, self.multiplicand)
        total.add_constant(self.added - product_offset(self.width_b, self.width_a))
        save, carry = total.words()
        m.d.sync += [self.save.eq(save), self.carry.eq(carry)]
        return m


class CarrySaveJoin(wiring.Component):
    """Joins several sums in carry-save form to one.

    Parameters
    ----------
    shapes : sequence of (int, tuple of int)
        Width of ``save`` and positions of the bits of ``carry``, for every sum to join.
    largest : int
        Upper bound of the joined sum.

    Members
    -------
    operands : In(StructLayout)
        Words of the sums: fields save0, carry0, save1, carry1, …
    save : Out(width)
    carry : Out(len(places))
        Second bits of the columns that have one, the lowest first.

    Attributes
    ----------
    places : tuple of int
        Positions of the bits of ``carry``.
    words : CarrySaveWords
        The two words of the joined sum.

    Latency: 1 · Throughput: 1 per cycle · Numerics: exact
    """

    reset_less = True
    latency = 1

    def __init__(self, shapes: Sequence[tuple[int, tuple[int, ...]]], largest: int):
        self.shapes, self.largest = tuple(shapes), largest
        self.width = largest.bit_length()
        self.places = _join_places(self.shapes, largest)
        fields = {}
        for number, (width, places) in enumerate(self.shapes):
            fields |= {f"save{number}": width, f"carry{number}": len(places)}
        super().__init__(
            {
                "operands": In(data.StructLayout(fields)),
                "save": Out(self.width),
                "carry": Out(len(self.places)),
            }
        )

    @property
    def words(self) -> CarrySaveWords:
        return CarrySaveWords(self.save, self.carry, self.places)

    @property
    def module_name(self) -> str:
        digest = zlib.crc32(repr(self.shapes).encode())
        return f"carry_save_join_n{len(self.shapes)}_o{self.width}_{digest:08x}"

    def elaborate(self, platform):
        m = Module()
        total = CarrySaveSum(m, self.largest)
        for number, (_, places) in enumerate(self.shapes):
            words = (self.operands[f"save{number}"], self.operands[f"carry{number}"])
            total.add_sum(CarrySaveWords(*words, places))
        save, carry, _ = total.compressed()
        m.d.sync += [self.save.eq(save), self.carry.eq(carry)]
        return m


@cache
def _join_places(shapes: tuple[tuple[int, tuple[int, ...]], ...], largest: int) -> tuple[int, ...]:
    """Positions of the bits of ``carry`` of a :class:`CarrySaveJoin`."""
    total = CarrySaveSum(None, largest)
    for width, places in shapes:
        total.add_sum(CarrySaveWords(Signal(width), Signal(len(places)), places))
    return total.places()


def join_sums(parts: Sequence[tuple[CarrySaveWords, int]]) -> tuple[CarrySaveJoin, list]:
    """A component that joins sums, each given with its upper bound, and the statements that connect its operands."""
    shapes = [(len(words.save), words.places) for words, _ in parts]
    join = CarrySaveJoin(shapes, sum(largest for _, largest in parts))
    statements = []
    for number, (words, _) in enumerate(parts):
        statements += [join.operands[f"save{number}"].eq(words.save), join.operands[f"carry{number}"].eq(words.carry)]
    return join, statements
