"""Carry-save arithmetic: full adders compress many words to two words with the same sum.

A chain or tree of two-input adders propagates carries at every node.  Here carries propagate only once, in the adder
that the caller adds behind the two words.
"""

from bisect import insort
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value

# Delays from the inputs of a full adder and of a half adder to the sum and to the carry.  They only decide in which
# order bits are compressed.  The unit is the delay of an inverter that drives four of its kind, roughly; in most
# libraries the carry of a full adder is much faster than its sum.
FULL_SUM, FULL_CARRY = 5, 3
HALF_SUM, HALF_CARRY = 3, 2


class Adder(NamedTuple):
    """A full or half adder of a :class:`Plan`.

    Attributes
    ----------
    position : int
        Its column: that of the inputs and of the sum; the carry is in the next one.
    inputs : tuple of int
        Numbers of the three or two bits that it adds, the latest last.
    level : int
        Number of adders on the longest path from an input of the plan to its outputs.
    """

    position: int
    inputs: tuple[int, ...]
    level: int


class Plan(NamedTuple):
    """Adders that compress columns of bits to at most two bits per column.

    Bits are numbered: first the inputs, column by column, then the sum and the carry of every adder.

    Attributes
    ----------
    adders : tuple of Adder
        Every adder after those that it depends on.
    columns : tuple of tuple of int
        Numbers of the one or two bits, or none, that are left in every column.
    delay : int
        Delay of the latest of them.
    """

    adders: tuple[Adder, ...]
    columns: tuple[tuple[int, ...], ...]
    delay: int


class _Bit(NamedTuple):
    """A bit with the delay after which it is valid, its number, and the number of adders in front of it."""

    delay: int
    number: int
    level: int


def _compress(columns: Sequence[Sequence[int]], left: Sequence[int]) -> Plan:
    """Compress every column to at most the number of bits in ``left``, with the earliest bits first."""
    number = 0
    pending: list[list[_Bit]] = []
    for delays in columns:
        pending.append([_Bit(delay, number + index, 0) for index, delay in enumerate(delays)])
        number += len(delays)
    adders: list[Adder] = []
    for position, most in enumerate(left):
        bits = sorted(pending[position])
        while len(bits) > most:
            # A full adder removes two bits of a column, so a half adder is needed only if an odd number is to go.
            size = 3 if (len(bits) - most) % 2 == 0 else 2
            taken, bits = bits[:size], bits[size:]
            level, latest = 1 + max(bit.level for bit in taken), taken[-1].delay
            total, carry = (FULL_SUM, FULL_CARRY) if size == 3 else (HALF_SUM, HALF_CARRY)
            adders.append(Adder(position, tuple(bit.number for bit in taken), level))
            insort(bits, _Bit(latest + total, number, level))
            if position + 1 < len(left):
                pending[position + 1].append(_Bit(latest + carry, number + 1, level))
            number += 2
        pending[position] = bits
    delay = max((bit.delay for bits in pending for bit in bits), default=0)
    return Plan(tuple(adders), tuple(tuple(bit.number for bit in bits) for bits in pending), delay)


@cache
def plan(columns: tuple[tuple[int, ...], ...]) -> Plan:
    """Plan the compression of columns of bits, given by the delay of every bit, to at most two bits per column.

    Columns of which only one bit is left save a register and an adder behind it.  As many as possible are made so, from
    the lowest up, without lengthening the longest path.
    """
    left = [2] * len(columns)
    best = _compress(columns, left)
    limit = best.delay
    for position in range(len(columns)):
        left[position] = 1
        tried = _compress(columns, left)
        if tried.delay <= limit:
            best = tried
        else:
            left[position] = 2
    return best


class CarrySaveWords(NamedTuple):
    """A sum in carry-save form.

    Attributes
    ----------
    save : Value
        A bit of every column.
    carry : Value
        The second bits of the columns that have one, the lowest column first.
    places : tuple of int
        Positions of these columns.
    """

    save: Value
    carry: Value
    places: tuple[int, ...]

    @property
    def spread(self) -> Value:
        """The word of all second bits, each at its position, with zeros between them."""
        bits = dict(zip(self.places, self.carry, strict=True))
        return Cat(bits.get(position, Const(0, 1)) for position in range(len(self.save)))


class CarrySaveSum:
    """Collects unsigned words and bits, and compresses them to two words with the same sum.

    Every column of bits is compressed for itself, from the lowest up: a full adder takes the three bits that are valid
    first (Oklobdzija et al., "A Method for Speed Optimized Partial Product Reduction", IEEE TC 45(3), 1996).  Adders
    at the same depth are written as one word-wide operation, so a simulator evaluates few statements.

    Parameters
    ----------
    m : Module or None
        Module to which the adders are added; None if only :meth:`places` is asked for.
    largest : int
        Upper bound of the sum.  No summand can exceed it either, so higher bits are known to be 0.
    name : str
        Prefix of the signals' names.

    Attributes
    ----------
    width : int
        Bits of the sum.
    """

    def __init__(self, m: Module | None, largest: int, name: str = "sum"):
        self.width = max(1, largest.bit_length())
        self._m, self._name = m, name
        self._columns: list[list[tuple[int, Value]]] = [[] for _ in range(self.width)]
        self._signals, self._constant = 0, 0

    def add(self, value: Value, offset: int = 0, delay: int = 0) -> None:
        """Add the unsigned summand ``value`` · 2^offset, which is valid after a delay."""
        value = value[: max(0, self.width - offset)]
        if not len(value):
            return
        signal = self._signal(f"{self._signals}", value)
        self._signals += 1
        for index in range(len(value)):
            self.add_bit(signal[index], offset + index, delay)

    def add_sum(self, total: CarrySaveWords) -> None:
        """Add a sum in carry-save form."""
        self.add(total.save)
        for bit, position in zip(total.carry, total.places, strict=True):
            self.add_bit(bit, position)

    def add_bit(self, bit: Value, position: int, delay: int = 0) -> None:
        """Add the summand ``bit`` · 2^position, which is valid after a delay."""
        if position < self.width:
            self._columns[position].append((delay, bit))

    def add_constant(self, constant: int) -> None:
        """Add a constant; all constants together take at most one bit per column."""
        self._constant += constant

    def words(self) -> tuple[Value, Value]:
        """Two words whose sum is that of all summands, without wrapping."""
        total = self.compressed()
        return total.save, total.spread

    def compressed(self) -> CarrySaveWords:
        """The sum of all summands in carry-save form, without wrapping."""
        columns = self._all()
        chosen = plan(_delays(columns))
        bits: dict[int, Value] = dict(enumerate(bit for column in columns for _, bit in column))
        first = len(bits)
        for level in sorted({adder.level for adder in chosen.adders}):
            for size, kind in ((3, "full"), (2, "half")):
                here = [
                    (number, adder)
                    for number, adder in enumerate(chosen.adders)
                    if adder.level == level and len(adder.inputs) == size
                ]
                if not here:
                    continue
                name = f"{kind}{level}"
                inputs = [
                    self._signal(f"{name}_{letter}", Cat(bits[adder.inputs[index]] for _, adder in here))
                    for index, letter in enumerate("abc"[:size])
                ]
                save, carry = self._adders(name, inputs)
                for index, (number, _) in enumerate(here):
                    bits[first + 2 * number], bits[first + 2 * number + 1] = save[index], carry[index]
        save = Cat(bits[column[0]] if column else Const(0, 1) for column in chosen.columns)
        places = _places(chosen)
        return CarrySaveWords(save, Cat(bits[chosen.columns[position][1]] for position in places), places)

    def places(self) -> tuple[int, ...]:
        """Positions of the bits of :attr:`CarrySaveWords.carry` in the compressed sum."""
        return _places(plan(_delays(self._all())))

    def _all(self) -> list[list[tuple[int, Value]]]:
        """The bits of every column with their delays, those of the constant included."""
        return [
            [*column, (0, Const(1, 1))] if self._constant >> position & 1 else column
            for position, column in enumerate(self._columns)
        ]

    def _signal(self, name: str, value: Value) -> Signal:
        signal = Signal(len(value), name=f"{self._name}_{name}")
        if self._m is not None:
            self._m.d.comb += signal.eq(value)
        return signal

    def _adders(self, name: str, inputs: list[Signal]) -> tuple[Signal, Signal]:
        """Sums and carries of a row of full or half adders."""
        a, b = inputs[:2]
        half, carry = self._signal(f"{name}_half", a ^ b), a & b
        if len(inputs) == 2:
            return half, self._signal(f"{name}_carry", carry)
        c = inputs[2]
        return self._signal(f"{name}_save", half ^ c), self._signal(f"{name}_carry", carry | (half & c))


def _places(chosen: Plan) -> tuple[int, ...]:
    return tuple(position for position, column in enumerate(chosen.columns) if len(column) > 1)


def _delays(columns: list[list[tuple[int, Value]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(delay for delay, _ in column) for column in columns)


def compress(m: Module, a: Value, b: Value, c: Value, width: int, name: str) -> tuple[Value, Value]:
    """Compress three words by a row of full adders: returns two words whose sum is a + b + c modulo 2^width."""
    half, save, carry = (Signal(width, name=f"{name}_{part}") for part in ("half", "save", "carry"))
    a, b, c = (Value.cast(value)[:width] for value in (a, b, c))
    m.d.comb += [half.eq(a ^ b), save.eq(half ^ c), carry.eq(Cat(Const(0, 1), (a & b) | (half & c)))]
    return save, carry
