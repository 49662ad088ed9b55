"""Sum of products in carry-save form."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.carry_save import Columns


def dot_product_latency(terms: int, group: int) -> int:
    """1, or 2 when the terms do not fit one group."""
    return 1 if terms <= group else 2


class DotProduct(wiring.Component):
    """``save + carry = Σ weights[i] · operands[i]`` modulo 2^out_width.

    The dots of all products go through one compressor: neither the products nor their partial sums exist as
    numbers, and nothing propagates a carry.  :func:`hdl.carry_save.compress` joins an accumulator to the two
    words, one adder ends the sum.

    Parameters
    ----------
    terms : int
    weight_width, operand_width : int
        Bits.
    out_width : int
        Bits of the sum.
    group : int
        Terms that are compressed between registers; more terms make groups whose words are registered and then
        compressed together.

    Members
    -------
    weights : In(ArrayLayout(signed(weight_width), terms))
    operands : In(ArrayLayout(signed(operand_width), terms))
    save, carry : Out(out_width)

    Latency: ``dot_product_latency(terms, group)`` · Throughput: 1 per cycle · Numerics: exact modulo 2^out_width ·
    Reference: integer sum of products
    """

    reset_less = True

    def __init__(self, terms: int, weight_width: int, operand_width: int, out_width: int, group: int = 8):
        self.terms, self.group, self.out_width = terms, group, out_width
        self.weight_width, self.operand_width = weight_width, operand_width
        self.latency = dot_product_latency(terms, group)
        super().__init__(
            {
                "weights": In(data.ArrayLayout(signed(weight_width), terms)),
                "operands": In(data.ArrayLayout(signed(operand_width), terms)),
                "save": Out(out_width),
                "carry": Out(out_width),
            }
        )

    @property
    def module_name(self) -> str:
        shape = f"n{self.terms}_w{self.weight_width}_x{self.operand_width}_o{self.out_width}"
        return f"dot_product_{shape}_g{self.group}"

    def elaborate(self, platform):
        m = Module()
        groups = []
        for start in range(0, self.terms, self.group):
            columns = Columns(m, self.out_width, f"g{len(groups)}")
            for term in range(start, min(start + self.group, self.terms)):
                columns.add_product(self.weights[term], self.operands[term])
            groups.append(columns.rows())
        if len(groups) > 1:
            columns = Columns(m, self.out_width, "all")
            for index, words in enumerate(groups):
                for part, word in zip(("save", "carry"), words, strict=True):
                    register = Signal(self.out_width, name=f"g{index}_{part}_register")
                    m.d.sync += register.eq(word)
                    for position in range(self.out_width):
                        columns.add_dot(position, register[position])
            groups = [columns.rows()]
        m.d.sync += [self.save.eq(groups[0][0]), self.carry.eq(groups[0][1])]
        return m
