"""Carry-save arithmetic: rows of full adders compress many words to two words with the same sum.

A chain or tree of two-input adders propagates carries at every node.  Here carries propagate only once, in the adder
that the caller adds behind the two words.  A row of full adders is written as word-wide logic, so a simulator evaluates
a few statements per word rather than several per bit.
"""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value

# Delay of a full adder, and from its latest input, counted in exclusive ors.  They only decide in which order words
# are compressed.
ADDER_DELAY, LAST_DELAY = 2, 1


class Word(NamedTuple):
    """An unsigned summand ``value`` · 2^offset, and the delay after which it is valid, in exclusive ors."""

    delay: int
    offset: int
    value: Value

    @property
    def end(self) -> int:
        """The position after the word's last bit."""
        return self.offset + len(self.value)

    def bits(self, start: int, stop: int) -> Value:
        """The word's bits at the positions from ``start`` to ``stop``, which must be within its range."""
        return self.value[start - self.offset : stop - self.offset]

    def covers(self, position: int) -> bool:
        """Whether the word covers this bit position."""
        return self.offset <= position < self.end


class CarrySaveSum:
    """Collects unsigned words and bits, and compresses them to two words with the same sum.

    Parameters
    ----------
    m : Module
        Module to which the full adders are added.
    largest : int
        Upper bound of the sum.  No word can exceed it either, so higher bits are known to be 0.
    name : str
        Prefix of the signals' names.

    Attributes
    ----------
    width : int
        Bits of the sum.
    """

    def __init__(self, m: Module, largest: int, name: str = "sum"):
        self.width = max(1, largest.bit_length())
        self._m, self._name = m, name
        self._words: list[Word] = []
        self._bits: list[tuple[int, Value]] = []
        self._signals = 0

    def add(self, value: Value, offset: int = 0, delay: int = 0) -> None:
        """Add the unsigned summand ``value`` · 2^offset."""
        value = value[: max(0, self.width - offset)]
        if len(value):
            self._words.append(Word(delay, offset, self._signal(value)))

    def add_bit(self, bit: Value, position: int) -> None:
        """Add the summand ``bit`` · 2^position; it costs nothing if some carry word has a gap at that position."""
        self._bits.append((position, bit))

    def words(self) -> tuple[Value, Value]:
        """Two words of ``width`` bits whose sum is that of all summands, without wrapping."""
        while len(self._words) > 2 or self._bits:
            if len(self._words) > 2:
                self._compress(self._take())
            else:
                position, bit = self._bits.pop(0)
                self.add(bit, position)
        rows = [Cat(Const(0, word.offset), word.value) for word in self._words]
        return tuple([*rows, Const(0, self.width), Const(0, self.width)][:2])

    def _signal(self, value: Value) -> Signal:
        signal = Signal(len(value), name=f"{self._name}_{self._signals}")
        self._signals += 1
        self._m.d.comb += signal.eq(value)
        return signal

    def _take(self) -> list[Word]:
        """Take the earliest word and the two that match it best: valid early too, and covering the same positions."""
        first = min(self._words, key=lambda word: (word.delay, word.offset))

        def misfit(word: Word) -> int:
            late = 4 * (word.delay - first.delay)
            return late + abs(word.offset - first.offset) + abs(word.end - first.end)

        others = sorted((word for word in self._words if word is not first), key=misfit)
        taken = [first, *others[:2]]
        self._words = [word for word in self._words if all(word is not used for used in taken)]
        return sorted(taken, key=lambda word: word.delay)

    def _gap(self, position: int) -> Value:
        """A bit that is still to be added at this position, or 0."""
        for index, (wanted, bit) in enumerate(self._bits):
            if wanted == position:
                del self._bits[index]
                return bit
        return Const(0, 1)

    def _compress(self, words: list[Word]) -> None:
        """Replace three words by two, with full adders where all overlap, half adders above and wires below."""
        low, high = max(word.offset for word in words), min(word.end for word in words)
        start, end = min(word.offset for word in words), max(word.end for word in words)
        high = max(high, low)
        *_, before, last = (word.delay for word in words)
        delay = max(before + ADDER_DELAY, last + LAST_DELAY)
        save: list[Value] = []
        carry: list[Value | None] = []  # None: a gap
        for position in range(start, low):
            here = [word.bits(position, position + 1) for word in words if word.covers(position)]
            save.append(here[0] if here else Const(0, 1))
            carry.append(here[1] if len(here) > 1 else None)
        carry.append(None)  # no carry comes into the lowest adder
        if high > low:
            a, b, c = (word.bits(low, high) for word in words)
            half = self._signal(a ^ b)
            save.append(half ^ c)
            carry.append((a & b) | (half & c))
        above = [word for word in words if word.end > high]
        if len(above) == 2:
            shared_end = min(word.end for word in above)
            a, b = (word.bits(high, shared_end) for word in above)
            save.append(a ^ b)
            carry.append(a & b)
            high = shared_end
        for word in above:
            if word.end == end > high:
                save.append(word.bits(high, end))
        self.add(Cat(*save), start, delay)
        while carry and carry[0] is None and not any(position == start for position, _ in self._bits):
            carry, start = carry[1:], start + 1
        filled, position = [], start
        for part in carry:
            filled.append(self._gap(position) if part is None else part)
            position += len(filled[-1])
        self.add(Cat(*filled), start, delay)


def compress(m: Module, a: Value, b: Value, c: Value, width: int, name: str) -> tuple[Value, Value]:
    """Compress three words by a row of full adders: returns two words whose sum is a + b + c modulo 2^width."""
    half, save, carry = (Signal(width, name=f"{name}_{part}") for part in ("half", "save", "carry"))
    a, b, c = (Value.cast(value)[:width] for value in (a, b, c))
    m.d.comb += [half.eq(a ^ b), save.eq(half ^ c), carry.eq(Cat(Const(0, 1), (a & b) | (half & c)))]
    return save, carry
