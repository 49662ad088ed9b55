"""Sums of products in carry-save form."""

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.booth import digits_layout, partial_product, recode
from chessrnn.hdl.arithmetic.carry_save import CarrySaveSum
from chessrnn.model.widths.sums import dot_product_bound, num_digits, partial_product_offset

# Delay of a partial product in exclusive ors, the unit of ``chessrnn.hdl.arithmetic.carry_save``.
PARTIAL_PRODUCT_DELAY = 2


class DotProduct(wiring.Component):
    """A dot product: ``save + carry = Σ weights[i] · operands[i] + offset``, with operands given as Booth digits.

    The partial products of all products go through one compressor: neither the products nor their partial sums exist
    as numbers, and no carry propagates.  A caller adds an accumulator with
    :func:`chessrnn.hdl.arithmetic.carry_save.compress` and completes the sum with one adder.  The offset makes every
    partial product unsigned; a caller that adds many sums subtracts the total of their offsets once.

    Parameters
    ----------
    terms : int
        Number of products.
    weight_width, operand_width : int
        Bits of a weight, of an operand.

    Members
    -------
    weights : In(ArrayLayout(signed(weight_width), terms))
    digits : In(ArrayLayout(digits_layout(operand_width), terms))
    save, carry : Out(width)
        Unsigned words, whose sum fits in ``width`` bits too.

    Attributes
    ----------
    offset, largest : int
        Constant that the sum includes; upper bound of the sum.

    Latency: 1 · Throughput: 1 per cycle · Numerics: exact · Reference: integer sum of products
    """

    reset_less = True
    latency = 1

    def __init__(self, terms: int, weight_width: int, operand_width: int):
        self.terms, self.weight_width, self.operand_width = terms, weight_width, operand_width
        self.offset, self.largest = dot_product_bound(terms, weight_width, operand_width)
        self.width = self.largest.bit_length()
        super().__init__(
            {
                "weights": In(data.ArrayLayout(signed(weight_width), terms)),
                "digits": In(data.ArrayLayout(digits_layout(operand_width), terms)),
                "save": Out(self.width),
                "carry": Out(self.width),
            }
        )

    @property
    def module_name(self) -> str:
        return f"dot_product_n{self.terms}_w{self.weight_width}_x{self.operand_width}"

    def elaborate(self, platform):
        m = Module()
        total = CarrySaveSum(m, self.largest)
        for term in range(self.terms):
            for index in range(num_digits(self.operand_width)):
                digit = self.digits[term][index]
                total.add(partial_product(digit, self.weights[term]), 2 * index, PARTIAL_PRODUCT_DELAY)
                total.add_bit(digit.negative, 2 * index)
        save, carry = total.words()
        m.d.sync += [self.save.eq(save), self.carry.eq(carry)]
        return m


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
        constant = self.added
        for index in range(num_digits(self.width_a)):
            digit = digits[index]
            total.add(partial_product(digit, self.multiplicand), 2 * index, PARTIAL_PRODUCT_DELAY)
            total.add_bit(digit.negative, 2 * index)
            constant -= partial_product_offset(self.width_b) << (2 * index)
        total.add(Const(constant % (1 << self.width), self.width))
        save, carry = total.words()
        m.d.sync += [self.save.eq(save), self.carry.eq(carry)]
        return m


class CarrySaveJoin(wiring.Component):
    """Joins several sums in carry-save form to one.

    Parameters
    ----------
    sums : int
        Number of sums to join.
    width : int
        Bits of a word.
    largest : int
        Upper bound of the joined sum.

    Members
    -------
    operands : In(ArrayLayout(width, 2 · sums))
    save, carry : Out(out_width)

    Latency: 1 · Throughput: 1 per cycle · Numerics: exact
    """

    reset_less = True
    latency = 1

    def __init__(self, sums: int, width: int, largest: int):
        self.sums, self.width, self.largest = sums, width, largest
        self.out_width = largest.bit_length()
        super().__init__(
            {
                "operands": In(data.ArrayLayout(width, 2 * sums)),
                "save": Out(self.out_width),
                "carry": Out(self.out_width),
            }
        )

    @property
    def module_name(self) -> str:
        return f"carry_save_join_n{self.sums}_w{self.width}_o{self.out_width}"

    def elaborate(self, platform):
        m = Module()
        total = CarrySaveSum(m, self.largest)
        for index in range(2 * self.sums):
            total.add(self.operands[index])
        save, carry = total.words()
        m.d.sync += [self.save.eq(save), self.carry.eq(carry)]
        return m
