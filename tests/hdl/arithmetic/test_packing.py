"""Packed values are signed, and stay what they are in wider words."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import join, split, widened
from chessrnn.sim.pysim import pump

WIDTHS = (1, 3, 4)


class Packed(wiring.Component):
    """The values of a word, the word that they make again, and a word of more bits for each pair of bits."""

    def __init__(self):
        values = {f"value{number}": Out(signed(8)) for number in range(len(WIDTHS))}
        super().__init__({"word": In(8), "same": Out(8), "wide": Out(20), **values})

    def elaborate(self, platform):
        m = Module()
        values = split(self.word, WIDTHS)
        m.d.comb += [self.same.eq(join(values)), self.wide.eq(widened(self.word, 2, 5))]
        m.d.comb += [getattr(self, f"value{number}").eq(value) for number, value in enumerate(values)]
        return m


def fields(word: int, widths) -> list[int]:
    """Signed values of a word, the first in the lowest bits."""
    found = []
    for width in widths:
        found.append((word & ((1 << width) - 1)) - ((word >> (width - 1) & 1) << width))
        word >>= width
    return found


def test_every_packed_word():
    names = [f"value{number}" for number in range(len(WIDTHS))]
    got = pump(Packed(), [{"word": word} for word in range(256)], ("same", "wide", *names), 0)
    for word, outputs in enumerate(got):
        assert outputs["same"] == word
        assert [outputs[name] for name in names] == fields(word, WIDTHS)
        assert fields(outputs["wide"], [5] * 4) == fields(word, [2] * 4)
