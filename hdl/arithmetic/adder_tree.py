"""A balanced tree of adders, with registers if the pipeline asks for them."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.requantize import resize
from chessrnn.model.schedule import adder_tree_latency


class AdderTree(wiring.Component):
    """Adds ``terms`` signed operands modulo 2^out_width.

    Parameters
    ----------
    terms : int
        Number of operands.
    width : int
        Bits of an operand.
    out_width : int
        Bits of the sum; may be less than ``width + ⌈log2 terms⌉`` if the caller knows that the sum fits.
    levels_per_register : int
        Levels of adders between registers; 0 for none.

    Members
    -------
    operands : In(ArrayLayout(signed(width), terms))
    total : Out(signed(out_width))

    Latency: ``chessrnn.model.schedule.adder_tree_latency`` · Throughput: 1 per cycle · Numerics: exact modulo
    2^out_width
    """

    reset_less = True

    def __init__(self, terms: int, width: int, out_width: int, levels_per_register: int):
        self.terms, self.width, self.out_width = terms, width, out_width
        self.levels_per_register = levels_per_register
        self.latency = adder_tree_latency(terms, levels_per_register)
        super().__init__({"operands": In(data.ArrayLayout(signed(width), terms)), "total": Out(signed(out_width))})

    @property
    def module_name(self) -> str:
        return f"adder_tree_n{self.terms}_w{self.width}_o{self.out_width}_l{self.levels_per_register}"

    def elaborate(self, platform):
        m = Module()
        level = [self.operands[i] for i in range(self.terms)]
        depth = 0
        while len(level) > 1:
            depth += 1
            pairs = [
                resize(a + b, min(len(a + b), self.out_width)) for a, b in zip(level[::2], level[1::2], strict=False)
            ]
            level = pairs + ([level[-1]] if len(level) % 2 else [])
            last = len(level) == 1
            if self.levels_per_register and (last or depth % self.levels_per_register == 0):
                registers = [Signal(signed(len(value)), name=f"sum_l{depth}_{i}") for i, value in enumerate(level)]
                m.d.sync += [register.eq(value) for register, value in zip(registers, level, strict=True)]
                level = registers
        m.d.comb += self.total.eq(resize(level[0], self.out_width))
        return m
