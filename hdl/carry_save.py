"""Carry-save arithmetic: dots in columns, compressed by full adders to two rows.

A sum of many terms needs one full adder per dot that disappears, whatever the order, but a chain or tree of
two-input adders pays a carry propagation at every node.  Here all dots of all products of a sum are compressed
first and the carries propagate once, in the adder that the caller puts behind the two rows.
"""

import heapq

from amaranth.hdl import Cat, Const, Module, Signal, Value

# Relative delays, for the order in which dots are taken: an AND or XOR is 1.
RECODE_DELAY, SELECT_DELAY, ADDER_DELAY = 2, 2, 2


def compress(m: Module, a: Value, b: Value, c: Value, width: int, name: str) -> tuple[Value, Value]:
    """Two words whose sum is a + b + c modulo 2^width: a row of full adders."""
    half, save, carry = (Signal(width, name=f"{name}_{part}") for part in ("half", "save", "carry"))
    a, b, c = (Value.cast(value)[:width] for value in (a, b, c))
    m.d.comb += [half.eq(a ^ b), save.eq(half ^ c), carry.eq(Cat(Const(0, 1), (a & b) | (half & c)))]
    return save, carry


class Columns:
    """Dots by weight, modulo 2^width.

    Parameters
    ----------
    m : Module
        Gets the full adders.
    width : int
        Bits of the sum.
    name : str
        Prefix of the signals.

    Attributes
    ----------
    full_adders : int
        After :meth:`rows`.
    """

    def __init__(self, m: Module, width: int, name: str = "dot"):
        self._m, self.width, self._name = m, width, name
        self._columns: list[list] = [[] for _ in range(width)]
        self._constant = 0
        self._signals = 0
        self._dots = 0
        self.full_adders = 0

    def _signal(self, value: Value, part: str) -> Signal:
        signal = Signal(name=f"{self._name}_{part}_{self._signals}")
        self._signals += 1
        self._m.d.comb += signal.eq(value)
        return signal

    def add_dot(self, position: int, value: Value, delay: int = 0) -> None:
        """Add ``value`` · 2^position."""
        if position < self.width:
            # The running number keeps the order, and with it the Verilog, independent of Python's hashing.
            heapq.heappush(self._columns[position], (delay, self._dots, value))
            self._dots += 1

    def add_constant(self, value: int) -> None:
        """Add an integer; all constants cost what their sum costs."""
        self._constant = (self._constant + value) % (1 << self.width)

    def add_signed(self, bits, position: int = 0, delay: int = 0) -> None:
        """Add a two's-complement word · 2^position.

        -s · 2^n = ~s · 2^n - 2^n: no sign extension.
        """
        *low, sign = list(bits)
        for index, bit in enumerate(low):
            self.add_dot(position + index, bit, delay)
        top = position + len(low)
        if top < self.width:
            self.add_dot(top, self._signal(~sign, "sign"), delay)
            self.add_constant(-(1 << top))

    def add_product(self, a: Value, b: Value) -> None:
        """Add signed a · b, radix-4 Booth: the narrower one is recoded to digits -2 … 2."""
        recoded, other = (a, b) if len(a) <= len(b) else (b, a)
        bits = [Const(0, 1), *recoded]
        if len(recoded) % 2:
            bits.append(recoded[-1])
        extended, doubled = [*other, other[-1]], [Const(0, 1), *other]
        for position in range(0, len(bits) - 2, 2):
            low, middle, high = bits[position : position + 3]
            once = self._signal(low ^ middle, "once")
            twice = self._signal(~once & (middle ^ high), "twice")
            row = [
                self._signal(((once & x) | (twice & y)) ^ high, "select")
                for x, y in zip(extended, doubled, strict=True)
            ]
            self.add_signed(row, position, RECODE_DELAY + SELECT_DELAY)
            # A negative digit selects the complement, which lacks one.
            self.add_dot(position, high)

    def rows(self) -> tuple[Value, Value]:
        """Two words whose sum modulo 2^width is that of everything added.

        In every column the three earliest dots meet first, so late ones pass through few full adders.
        """
        rows: tuple[list, list] = ([], [])
        for position, column in enumerate(self._columns):
            constant = (self._constant >> position) & 1
            while len(column) + constant > 2:
                taken = [heapq.heappop(column) for _ in range(2 if constant else 3)]
                delay = max(dot[0] for dot in taken) + ADDER_DELAY
                a, b, *rest = (dot[2] for dot in taken)
                half = self._signal(a ^ b, "half")
                if rest:
                    save = self._signal(half ^ rest[0], "save")
                    carry = self._signal((a & b) | (half & rest[0]), "carry")
                else:
                    save, carry, constant = self._signal(~half, "save"), self._signal(a | b, "carry"), 0
                self.full_adders += 1
                self.add_dot(position, save, delay)
                self.add_dot(position + 1, carry, delay)
            left = [dot[2] for dot in sorted(column, key=lambda dot: dot[:2])] + [Const(1, 1)] * constant
            for index, row in enumerate(rows):
                row.append(left[index] if index < len(left) else Const(0, 1))
        return Cat(*rows[0]), Cat(*rows[1])
