"""Carry-save sums equal the integer sums."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from chessrnn.hdl.arithmetic.booth import digits_layout, last_partial_product, partial_product, recode
from chessrnn.hdl.arithmetic.carry_save import (
    FULL_CARRY,
    FULL_SUM,
    HALF_CARRY,
    HALF_SUM,
    CarrySaveSum,
    compress,
    plan,
)
from chessrnn.hdl.arithmetic.dot_product import CarrySaveJoin, CarrySaveProduct, DotProduct
from chessrnn.model.widths.interval import signed_interval
from chessrnn.model.widths.sums import DIGIT_BITS, num_digits
from chessrnn.sim.pysim import pump


def golden_digits(value: int, width: int) -> int:
    """The packed radix-4 Booth digits of a value, recoded independently of the hardware."""
    packed = 0
    for index in range(num_digits(width)):
        low, middle, high = (
            (value >> position) & 1 if position >= 0 else 0 for position in range(2 * index - 1, 2 * index + 2)
        )
        digit = low + middle - 2 * high
        packed |= ((abs(digit) == 1) | (abs(digit) == 2) << 1 | high << 2) << (DIGIT_BITS * index)
    return packed


class Recoded(wiring.Component):
    def __init__(self, width):
        self.width = width
        super().__init__({"a": In(width), "digits": Out(DIGIT_BITS * num_digits(width))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.digits.eq(recode(self.a.as_signed()))
        return m


@pytest.mark.parametrize("width", [2, 3, 7, 8])
def test_recode(width):
    values = range(-(1 << (width - 1)), 1 << (width - 1))
    got = pump(Recoded(width), [{"a": value} for value in values], ("digits",), 0)
    assert [g["digits"] for g in got] == [golden_digits(value, width) for value in values]


def vectors(terms: int, weight_width: int, operand_width: int, count: int) -> list[tuple[list[int], list[int]]]:
    ranges = [signed_interval(width) for width in (weight_width, operand_width)]
    rng = np.random.default_rng(terms)
    corners = [([a] * terms, [b] * terms) for a, b in itertools.product(*ranges)]
    pairs = [[rng.integers(r.low, r.high + 1, terms).tolist() for r in ranges] for _ in range(count)]
    mixed = [[rng.choice([*r, 0, -1], terms).tolist() for r in ranges] for _ in range(count)]
    return [*corners, *(tuple(pair) for pair in pairs + mixed)]


def check(dut: DotProduct, cases) -> None:
    stimuli = [
        {"multiplicands": weights, "digits": [golden_digits(x, dut.multiplier_width) for x in operands]}
        for weights, operands in cases
    ]
    got = pump(PlainPorts(dut), stimuli, ("save", "carry"), dut.latency)
    for (weights, operands), words in zip(cases, got, strict=True):
        total = words["save"] + words["carry"]
        assert total == sum(a * b for a, b in zip(weights, operands, strict=True)) + dut.offset
        assert total <= dut.largest


class PlainPorts(wiring.Component):
    """A dot product whose digits are ports of plain words."""

    def __init__(self, dut: DotProduct):
        self.dut = dut
        super().__init__(
            {
                "multiplicands": In(data.ArrayLayout(signed(dut.multiplicand_width), dut.terms)),
                "digits": In(data.ArrayLayout(DIGIT_BITS * num_digits(dut.multiplier_width), dut.terms)),
                "save": Out(dut.width),
                "carry": Out(dut.width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        m.d.comb += [self.save.eq(dut.save), self.carry.eq(dut.words.spread)]
        for term in range(dut.terms):
            m.d.comb += [
                dut.multiplicands[term].eq(self.multiplicands[term]),
                dut.digits[term].as_value().eq(self.digits[term]),
            ]
        return m


@pytest.mark.parametrize(("weight_width", "operand_width"), [(2, 2), (2, 9), (5, 9), (8, 8), (9, 9), (11, 10)])
@pytest.mark.parametrize("terms", [1, 3, 6])
def test_dot_product(weight_width, operand_width, terms):
    check(DotProduct(terms, weight_width, operand_width), vectors(terms, weight_width, operand_width, 20))


def test_every_product_of_small_operands():
    check(DotProduct(1, 4, 3), [([a], [b]) for a in range(-8, 8) for b in range(-4, 4)])


@pytest.mark.parametrize(
    ("function", "width", "digits"),
    [
        (partial_product, 5, {0: 0b000, 1: 0b001, 2: 0b010, -1: 0b101, -2: 0b110}),
        (last_partial_product, 4, {0: 0b000, 1: 0b001, -1: 0b101}),
    ],
)
def test_every_row_of_a_digit(function, width, digits):
    """A row is digit · multiplicand, minus 1 for a negative digit, plus 2^(width - 1)."""

    class Rows(wiring.Component):
        def __init__(self):
            super().__init__({"a": In(4), "digit": In(DIGIT_BITS), "row": Out(width)})

        def elaborate(self, platform):
            m = Module()
            digit = digits_layout(2)(self.digit)[0]
            m.d.comb += self.row.eq(function(digit, self.a.as_signed()))
            return m

    cases = list(itertools.product(range(-8, 8), digits))
    got = pump(Rows(), [{"a": a, "digit": digits[d]} for a, d in cases], ("row",), 0)
    assert [g["row"] for g in got] == [a * d - (d < 0) + (1 << (width - 1)) for a, d in cases]


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_counts_bits_and_prefers_the_earliest(seed, rng):
    """At most two bits are left per column, every full adder removes one bit, and no bit is used before it exists."""
    columns = tuple(tuple(rng.integers(0, 9, size=rng.integers(0, 9)).tolist()) for _ in range(rng.integers(1, 12)))
    chosen = plan(columns)
    delays = [delay for column in columns for delay in column]
    places = [place for place, column in enumerate(columns) for _ in column]
    free = set(range(len(delays)))
    for adder in chosen.adders:
        assert free.issuperset(adder.inputs) and {places[bit] for bit in adder.inputs} == {adder.position}
        others = [delays[bit] for bit in free - set(adder.inputs) if places[bit] == adder.position]
        latest = max(delays[bit] for bit in adder.inputs)
        # A carry into this column may still be missing, but none of the bits that are there was valid earlier.
        assert all(latest <= other for other in others)
        full = len(adder.inputs) == 3
        free = free - set(adder.inputs) | {len(delays), len(delays) + 1}
        delays += [latest + (FULL_SUM if full else HALF_SUM), latest + (FULL_CARRY if full else HALF_CARRY)]
        places += [adder.position, adder.position + 1]
    left = [bit for column in chosen.columns for bit in column]
    assert len(chosen.columns) == len(columns) and all(len(column) <= 2 for column in chosen.columns)
    assert set(left) == {bit for bit in free if places[bit] < len(columns)}
    assert chosen.delay == max((delays[bit] for bit in left), default=0)


@pytest.mark.parametrize(("sums", "width"), [(1, 5), (2, 7), (5, 6)])
def test_join(sums, width, rng):
    largest = sums * ((1 << width) - 1)
    places = tuple(sorted(rng.permutation(width - 1)[: width - 2].tolist()))
    join = CarrySaveJoin([(width, places)] * sums, largest)
    saves = rng.integers(0, 1 << (width - 1), size=(30, sums))
    carries = rng.integers(0, 1 << len(places), size=(30, sums))
    saves[0], carries[0] = (1 << (width - 1)) - 1, (1 << len(places)) - 1
    stimuli = [
        {"operands": {f"{name}{n}": int(v) for name, row in pair for n, v in enumerate(row)}}
        for pair in (zip(("save", "carry"), rows, strict=True) for rows in zip(saves, carries, strict=True))
    ]
    got = pump(join, stimuli, ("save", "carry"), join.latency)

    def spread(carry, places):
        return sum((carry >> index & 1) << place for index, place in enumerate(places))

    assert [g["save"] + spread(g["carry"], join.places) for g in got] == [
        sum(row) + sum(spread(int(v), places) for v in held) for row, held in zip(saves.tolist(), carries, strict=True)
    ]


def test_sums_of_words_everywhere(rng):
    """Sums of words of any offset and length and of bits at any position are exact and have no excess bits."""
    for _ in range(25):
        words = [(int(rng.integers(0, 6)), int(rng.integers(1, 6))) for _ in range(rng.integers(1, 9))]
        places = rng.integers(0, 7, size=rng.integers(0, 5)).tolist()
        largest = sum(((1 << length) - 1) << offset for offset, length in words) + sum(1 << p for p in places)
        m = Module()
        inputs = [Signal(length) for _, length in words]
        bits = [Signal() for _ in places]
        constant = int(rng.integers(0, 40))
        total = CarrySaveSum(m, largest + constant)
        for (offset, _), value in zip(words, inputs, strict=True):
            total.add(value, offset, int(rng.integers(0, 5)))
        total.add_constant(constant + 3)
        total.add_constant(-3)
        for position, bit in zip(places, bits, strict=True):
            total.add_bit(bit, position)
        save, carry = total.words()
        values = [[int(rng.integers(0, 1 << length)) for _, length in words] for _ in range(20)]
        values[0] = [(1 << length) - 1 for _, length in words]

        async def testbench(
            ctx,
            values=values,
            words=words,
            inputs=inputs,
            bits=bits,
            places=places,
            constant=constant,
            out=(save, carry),
        ):
            for case in values:
                for signal, value in zip(inputs, case, strict=True):
                    ctx.set(signal, value)
                for bit in bits:
                    ctx.set(bit, 1)
                await ctx.delay(1e-9)
                expected = constant + sum(v << offset for v, (offset, _) in zip(case, words, strict=True))
                assert ctx.get(out[0]) + ctx.get(out[1]) == expected + sum(1 << p for p in places)

        simulator = Simulator(m)
        simulator.add_testbench(testbench)
        simulator.run()


def test_compress():
    m, words = Module(), [Signal(4, name=name) for name in "abc"]
    save, carry = compress(m, *words, 4, "sum")

    async def testbench(ctx):
        for values in itertools.product(range(16), repeat=3):
            for word, value in zip(words, values, strict=True):
                ctx.set(word, value)
            assert (ctx.get(save) + ctx.get(carry) - sum(values)) % 16 == 0

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize(("width_a", "width_b"), [(2, 2), (3, 5), (4, 3), (6, 4)])
def test_product_of_every_pair(width_a, width_b):
    ranges = [range(-(1 << (width - 1)), 1 << (width - 1)) for width in (width_a, width_b)]
    pairs = list(itertools.product(*ranges))
    width, added = width_a + width_b + 2, 5
    dut = CarrySaveProduct(width_a, width_b, width, added)
    got = pump(dut, [{"multiplier": a, "multiplicand": b} for a, b in pairs], ("save", "carry"), 1)
    words = [(g["save"] + g["carry"]) % (1 << width) for g in got]
    assert words == [(a * b + added) % (1 << width) for a, b in pairs]
