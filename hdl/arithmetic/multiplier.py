"""The multiplier of signed numbers."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.memory import delay

STAGES = (0, 1, 2)


class Multiplier(wiring.Component):
    """Multiplies two signed numbers: ``product = left · right``.

    Parameters
    ----------
    width_a, width_b : int
        Bits of ``left`` and of ``right``.
    stages : int
        0: combinational; 1: the product is registered; 2: the wider operand is cut in halves, both products are
        registered, then their sum.
    operand_register : bool
        Whether ``left`` and ``right`` are registered first.

    Members
    -------
    left : In(signed(width_a))
    right : In(signed(width_b))
    product : Out(signed(width_a + width_b))

    Latency: operand_register + ``stages`` · Throughput: 1 per cycle · Numerics: exact · Reference: integer product
    """

    reset_less = True

    def __init__(self, width_a: int, width_b: int, stages: int = 0, operand_register: bool = False):
        assert stages in STAGES, "the configuration admits no other"
        self.width_a, self.width_b, self.stages, self.operand_register = width_a, width_b, stages, operand_register
        self.latency = operand_register + stages
        super().__init__(
            {"left": In(signed(width_a)), "right": In(signed(width_b)), "product": Out(signed(width_a + width_b))}
        )

    @property
    def module_name(self) -> str:
        register = "_r" if self.operand_register else ""
        return f"multiplier_{self.width_a}x{self.width_b}_s{self.stages}{register}"

    def elaborate(self, platform):
        m = Module()
        left, right = (delay(m, value, int(self.operand_register), name)
                       for value, name in ((self.left, "left"), (self.right, "right")))  # fmt: skip
        if self.stages < 2:
            domain = m.d.sync if self.stages else m.d.comb
            domain += self.product.eq(left * right)
            return m
        cut, whole = (left, right) if self.width_a >= self.width_b else (right, left)
        half = len(cut) // 2
        low, high = cut[:half], cut[half:].as_signed()  # low is unsigned: the sign is high's
        low_product = Signal(signed(len(whole) + half))
        high_product = Signal(signed(len(whole) + len(high)))
        m.d.sync += [
            low_product.eq(whole * low),
            high_product.eq(whole * high),
            self.product.eq(low_product + (high_product << half)),
        ]
        return m
