"""A circulant matrix–vector datapath by FFT in fixed point, a baseline for the area of the exact engines.

A row of C processing elements multiplies C circulant blocks per cycle, as published circulant LSTM hardware does: the
weights are stored as spectra, the spectrum of a block of x is computed once per column, products and their sums are
complex numbers, and one inverse FFT ends a row.  There are two versions, which give equal integers:

- *uniform*: all words of a spectrum are equally wide, a complex product takes four multipliers, adders form trees;
- otherwise: every word is as narrow as its range allows, a complex product takes three real ones, whose sums are
  combined behind the accumulator, and the arithmetic is the carry-save arithmetic of the exact engines.

All modules are checked against ``fft_model``.
"""

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from fft_model import FORWARD_TWIDDLE_BITS, INVERSE_TWIDDLE_BITS, FftFormat, transform_matrix, twiddles
from row_plan import Plan, PlannedRow, Sum

from chessrnn.hdl.arithmetic.booth import recode
from chessrnn.hdl.arithmetic.carry_save import CarrySaveSum
from chessrnn.hdl.arithmetic.packing import join, split
from chessrnn.hdl.arithmetic.requantize import resize
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import delay


def plan(fmt: FftFormat) -> Plan:
    """The factors in the order of the spectrum: those of ``uniform`` are a, b and -b of a complex number a + i·b."""
    operand, weight, sums = [], [], []
    forms, sizes = transform_matrix(fmt.block_size), fmt.sizes
    x_widths, weight_widths = fmt.widths(fmt.x_ranges), fmt.widths(fmt.weight_ranges)
    for place, size in enumerate(sizes):
        x, w, width = len(operand), len(weight), fmt.sum_widths[place]
        if size < 2:
            operand.append(x_widths[place])
            weight.append(weight_widths[place])
            sums.append(Sum(width, ((w, x),)))
        elif place not in fmt.bins:
            continue
        elif fmt.uniform:
            operand += [x_widths[place]] * 3
            weight += [weight_widths[place]] * 2
            sums += [Sum(width, ((w, x), (w + 1, x + 2))), Sum(width, ((w + 1, x), (w, x + 1)))]
        else:
            re, im = forms[place], forms[place + 1]
            operand += [fmt.x_range(re + im, size, 2).bits, x_widths[place], x_widths[place + 1]]
            factors = fmt.weight_range(im - re, size, 2), fmt.weight_range(re + im, size, 2)
            weight += [weight_widths[place], *(interval.bits for interval in factors)]
            # The sums may wrap: only their differences must fit.
            width = max(width, fmt.sum_widths[place + 1])
            sums += [Sum(width, ((w + number, x + number),)) for number in range(3)]
    return Plan(tuple(operand), tuple(weight), tuple(sums), recoded=not fmt.uniform)


def _name(kind: str, fmt: FftFormat, more: str = "") -> str:
    style = "uniform" if fmt.uniform else "narrow"
    weight = f"w{fmt.weight.low}_{fmt.weight.high}".replace("-", "m")
    return f"fft_{kind}_{style}_k{fmt.block_size}_f{fmt.fraction_bits}_{weight}{more}"


def _constant_products(m: Module, terms: Sequence[tuple[Value, int]], shift: int, name: str) -> Value:
    """Σ value · constant, rounded HALF_UP by ``shift`` bits: signed digits of the constants, one carry propagation."""
    width = 1 + max(len(value) + constant.bit_length() for value, constant in terms)
    total, known = CarrySaveSum(m, (1 << width) - 1, name), 1 << (shift - 1)
    for value, constant in terms:
        for position, negative in _signed_digits(constant):
            word = Value.cast(~value if negative else value)
            # The sign bit is inverted, which adds 2^(its position).
            total.add(Cat(word[:-1], ~word[-1]), position)
            known += (int(negative) << position) - (1 << (position + len(value) - 1))
    total.add(Const(known % (1 << width), width))
    save, carry = total.words()
    return (save + carry)[shift:width].as_signed()


def _signed_digits(constant: int) -> list[tuple[int, bool]]:
    """Position and sign of the digits ±1 of a constant, no two of them next to each other."""
    sign, constant, digits, position = constant < 0, abs(constant), [], 0
    while constant:
        if constant & 1:
            digit = 2 - (constant & 3)
            digits.append((position, (digit < 0) != sign))
            constant -= digit
        constant, position = constant >> 1, position + 1
    return digits


def _twiddled(m: Module, numbers: list[tuple[Value, Value]], size: int, bits: int, fraction: int, sign: int, name: str):
    """Complex numbers times exp(sign·i·π·n/h), rounded to ``fraction`` bits behind the point."""
    found = []
    for n, ((re, im), cosine, sine) in enumerate(zip(numbers, *twiddles(size, bits), strict=True)):
        c, s = int(cosine), sign * int(sine)
        if n == 0:
            found.append((re << fraction, im << fraction))
        elif c == abs(s):
            # Multiples of 45°: one multiplication for each part.
            pair = (re - im, im + re) if s > 0 else (re + im, im - re)
            found.append(
                tuple(_constant_products(m, [(v, c)], bits - fraction, f"{name}_{n}_{i}") for i, v in enumerate(pair))
            )
        else:
            pair = [(re, c), (im, -s)], [(im, c), (re, s)]
            found.append(
                tuple(_constant_products(m, v, bits - fraction, f"{name}_{n}_{i}") for i, v in enumerate(pair))
            )
    return found


def _butterflies(numbers: list[tuple[Value, Value]], sign: int) -> list[tuple[Value, Value]]:
    """An FFT of 1, 2 or 4 complex numbers, in natural order."""
    if len(numbers) == 1:
        return numbers
    half = len(numbers) // 2
    pairs = list(zip(numbers[:half], numbers[half:], strict=True))
    plus = [(a[0] + b[0], a[1] + b[1]) for a, b in pairs]
    minus = [(a[0] - b[0], a[1] - b[1]) for a, b in pairs]
    if half == 2:
        re, im = minus[1]
        minus[1] = (-im, re) if sign > 0 else (im, -re)
    even, odd = _butterflies(plus, sign), _butterflies(minus, sign)
    return [number for pair in zip(even, odd, strict=True) for number in pair]


class FftOperand(wiring.Component):
    """Transforms a block of x, once for all rows: from elements to the factors of the products, or their Booth digits.

    Members
    -------
    elements : In(k · element_bits)
    operand : Out

    Latency: 1 · Throughput: 1 block per cycle · Reference: ``fft_model.forward``
    """

    reset_less = True
    latency = 1

    def __init__(self, fmt: FftFormat):
        self.fmt, self.plan = fmt, plan(fmt)
        bits = fmt.block_size * fmt.element_bits
        super().__init__({"elements": In(bits), "operand": Out(sum(self.plan.operand_bits))})

    @property
    def module_name(self) -> str:
        return _name("operand", self.fmt)

    def elaborate(self, platform):
        m = Module()
        fmt, values = self.fmt, split(self.elements, [self.fmt.element_bits] * self.fmt.block_size)
        numbers: list[Value] = []
        for size in fmt.groups[:-1]:
            pairs = list(zip(values[:size], values[size:], strict=True))
            values, minus = [a + b for a, b in pairs], [a - b for a, b in pairs]
            if size == 1:
                numbers += minus
                continue
            bins = [(re, -im) for re, im in zip(minus[: size // 2], minus[size // 2 :], strict=True)]
            if size > 2:
                bits = fmt.fraction_bits + FORWARD_TWIDDLE_BITS
                bins = _twiddled(m, bins, size, bits, fmt.fraction_bits, -1, f"twiddled_{size}")
            numbers += [part for number in _butterflies(bins, -1) for part in number]
        numbers += values
        fractions = [0 if size > 2 else fraction for size, fraction in zip(fmt.sizes, fmt.fractions, strict=True)]
        numbers = [number << fraction for number, fraction in zip(numbers, fractions, strict=True)]
        factors: list[Value] = []
        for place, size in enumerate(fmt.sizes):
            if size < 2:
                factors.append(numbers[place])
            elif place in fmt.bins:
                re, im = numbers[place], numbers[place + 1]
                factors += [re, im, -im] if fmt.uniform else [re + im, re, im]
        factors = [resize(factor, width) for factor, width in zip(factors, self.plan.operand, strict=True)]
        m.d.sync += self.operand.eq(join(factors if fmt.uniform else [recode(factor) for factor in factors]))
        return m


class FftWeights(wiring.Component):
    """Prepares a block of weights: from the stored spectrum to the factors of the products.

    Members
    -------
    word : In(stored_bits)
    weight : Out

    Latency: 1 · Throughput: 1 block per cycle
    """

    reset_less = True
    latency = 1

    def __init__(self, fmt: FftFormat):
        self.fmt, self.widths = fmt, plan(fmt).weight
        super().__init__({"word": In(fmt.stored_bits), "weight": Out(sum(self.widths))})

    @property
    def module_name(self) -> str:
        return _name("weights", self.fmt)

    def elaborate(self, platform):
        m = Module()
        numbers = split(self.word, self.fmt.widths(self.fmt.weight_ranges))
        factors: list[Value] = []
        for place, size in enumerate(self.fmt.sizes):
            if size < 2 or self.fmt.uniform:
                factors.append(numbers[place])
            elif place in self.fmt.bins:
                re, im = numbers[place], numbers[place + 1]
                factors += [re, im - re, re + im]
        m.d.sync += self.weight.eq(
            join(resize(value, width) for value, width in zip(factors, self.widths, strict=True))
        )
        return m


class FftInverse(wiring.Component):
    """Transforms the sums of a row back: from sums of products to the elements of an output block.

    Members
    -------
    sums : In
    elements : Out(k · output_bits)

    Latency: ``latency`` · Throughput: 1 block per cycle · Reference: ``fft_model.inverse``
    """

    reset_less = True

    def __init__(self, fmt: FftFormat):
        self.fmt, self.plan = fmt, plan(fmt)
        # Registers are behind the combination of three sums, rounding, butterflies, twiddles, and two levels of adders.
        levels = fmt.block_size.bit_length() - 1
        self.latency = (not fmt.uniform) + 3 + (levels - 1) // 2
        super().__init__(
            {
                "sums": In(sum(value.width for value in self.plan.sums)),
                "elements": Out(fmt.block_size * fmt.output_bits),
            }
        )

    @property
    def module_name(self) -> str:
        return _name("inverse", self.fmt)

    def elaborate(self, platform):
        m = Module()
        fmt, sums = self.fmt, split(self.sums, [value.width for value in self.plan.sums])
        numbers = sums if fmt.uniform else registered(m, self._combined(sums), "combined")
        rounded = []
        for number, fraction in zip(numbers, fmt.fractions, strict=True):
            shift = 2 * fraction
            rounded.append((number + (1 << (shift - 1)))[shift:].as_signed() if shift else number)
        rounded = registered(m, rounded, "rounded")
        groups, place = [], 0
        for size in fmt.groups[:-1]:
            group = rounded[place : place + size]
            groups.append(_butterflies(list(zip(group[0::2], group[1::2], strict=True)), 1) if size > 1 else group)
            place += size
        constant = rounded[place:]

        def advance(step: Callable, name: str):
            """Apply a step to every group of complex numbers, and register everything."""
            nonlocal groups, constant
            groups = [
                registered_pairs(m, step(group, size), f"{name}_{size}")
                if size > 1
                else registered(m, group, f"{name}_1")
                for size, group in zip(fmt.groups, groups, strict=False)
            ]
            constant = registered(m, constant, f"{name}_constant")

        advance(lambda group, size: group, "bins")
        bits = fmt.fraction_bits + INVERSE_TWIDDLE_BITS
        advance(
            lambda group, size: group if size == 2 else _twiddled(m, group, size, bits, 0, 1, f"twiddled_{size}"),
            "turned",
        )
        parts = [
            [*(re for re, _ in group), *(-im for _, im in group)] if size > 1 else group
            for size, group in zip(fmt.groups, groups, strict=False)
        ]
        # Everything behind the twiddles is additions, so that k times the result may wrap before its last bits drop.
        width = fmt.output_bits + fmt.block_size.bit_length() - 1
        values = constant
        for level, part in enumerate(reversed(parts)):
            if level and level % 2 == 0:
                values = registered(m, values, f"level_{level}")
                kept = len(parts) - level
                parts[:kept] = [registered(m, p, f"part_{level}_{i}") for i, p in enumerate(parts[:kept])]
                part = parts[kept - 1]
            minus = part if len(part) == 1 else [value << 1 for value in part]
            pairs = list(zip(values, minus, strict=True))
            values = [resize(a + b, width) for a, b in pairs] + [resize(a - b, width) for a, b in pairs]
        shift = fmt.block_size.bit_length() - 1
        elements = [(value + (1 << (shift - 1)))[shift : shift + fmt.output_bits] for value in values]
        m.d.comb += self.elements.eq(join(elements))
        return m

    def _combined(self, sums: list[Value]) -> list[Value]:
        numbers: list[Value] = []
        source = iter(sums)
        for place, size in enumerate(self.fmt.sizes):
            if size < 2:
                numbers.append(next(source))
            elif place in self.fmt.bins:
                both, left, right = next(source), next(source), next(source)
                numbers += [resize(both - right, self.fmt.sum_widths[place])]
                numbers += [resize(both + left, self.fmt.sum_widths[place + 1])]
        return numbers


def registered(m: Module, values: Sequence[Value], name: str) -> list[Value]:
    """The values, one cycle later."""
    found = []
    for number, value in enumerate(values):
        register = Signal(Value.cast(value).shape(), name=f"{name}_{number}", reset_less=True)
        m.d.sync += register.eq(value)
        found.append(register)
    return found


def registered_pairs(m: Module, pairs: Sequence[tuple[Value, Value]], name: str) -> list[tuple[Value, Value]]:
    """Complex numbers, one cycle later."""
    flat = registered(m, [part for pair in pairs for part in pair], name)
    return list(zip(flat[0::2], flat[1::2], strict=True))


class FftEngine(wiring.Component):
    """A row of C processing elements with the transforms around it.

    Parameters
    ----------
    fmt : FftFormat
    tile_cols : int
        C, the number of blocks per cycle.

    Members
    -------
    words : In(C · stored_bits)
        Stored spectra of C blocks of weights.
    elements : In(C · k · element_bits)
        C blocks of x.
    valid, first : In(1)
        The blocks count; they begin a new sum.
    result : Out(k · output_bits)
        The elements of the output block, ``latency`` cycles after the last blocks of its sum.

    Latency: ``latency`` · Throughput: C blocks per cycle · Reference: ``fft_model.circulant_row``
    """

    reset_less = True
    module_name = "fft_engine"

    def __init__(self, fmt: FftFormat, tile_cols: int):
        self.fmt, self.tile_cols = fmt, tile_cols
        issues = -(-fmt.blocks // tile_cols)
        self.row = PlannedRow(plan(fmt), tile_cols, issues, _name("row", fmt, f"_c{tile_cols}"))
        self.inverse = FftInverse(fmt)
        # The sums are registered before the inverse transform, which several rows would share.
        self.latency = FftOperand.latency + self.row.latency + 1 + self.inverse.latency
        super().__init__(
            {
                "words": In(tile_cols * fmt.stored_bits),
                "elements": In(tile_cols * fmt.block_size * fmt.element_bits),
                "valid": In(1),
                "first": In(1),
                "result": Out(fmt.block_size * fmt.output_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        blocks, operands = [], []
        element_bits = self.fmt.block_size * self.fmt.element_bits
        for col in range(self.tile_cols):
            weights, operand = FftWeights(self.fmt), FftOperand(self.fmt)
            m.submodules[f"weights_{col}"] = shared(weights, platform)
            m.submodules[f"operand_{col}"] = shared(operand, platform)
            m.d.comb += [
                weights.word.eq(self.words.word_select(col, self.fmt.stored_bits)),
                operand.elements.eq(self.elements.word_select(col, element_bits)),
            ]
            blocks.append(weights.weight)
            operands.append(operand.operand)
        m.submodules.row = shared(self.row, platform)
        m.submodules.inverse = shared(self.inverse, platform)
        (sums,) = registered(m, [self.row.sums], "sums")
        early = FftOperand.latency + self.row.latency - 1
        m.d.comb += [
            self.row.blocks.eq(join(blocks)),
            self.row.operands.eq(join(operands)),
            self.row.valid.eq(delay(m, self.valid, early, "valid")),
            self.row.first.eq(delay(m, self.first, early, "first")),
            self.inverse.sums.eq(sums),
            self.result.eq(self.inverse.elements),
        ]
        return m
