"""Activation functions: σ and tanh from the integer tables of ``chessrnn.model.activation_tables``."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.multiplier import Multiplier
from chessrnn.hdl.arithmetic.requantize import resize
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import delay
from chessrnn.model.activation_tables import SLOPE_FRACTION_BITS, ActivationTable
from chessrnn.model.schedule import activation_latency


class Activation(wiring.Component):
    """Evaluates one approximated function, one value per cycle.

    ``y = ±round(intercept[s] + slope[s] · offset)`` where |x| selects the segment s and the offset within it.

    Parameters
    ----------
    table : ActivationTable
    cell_register : bool
        Whether a register follows the magnitude, and another the sum.
    multiplier_register : bool
        Whether slope and offset are registered in the multiplier, a module of its own, rather than before it.

    Members
    -------
    x : In(signed), codes of ``table.in_format``
    y : Out(signed), codes of ``table.out_format``

    Latency: ``chessrnn.model.schedule.activation_latency`` · Throughput: 1 per cycle · Numerics: one HALF_UP rounding ·
    Reference: ``chessrnn.model.reference.activation.activate``
    """

    reset_less = True

    def __init__(self, table: ActivationTable, cell_register: bool = False, multiplier_register: bool = False):
        self.table, self.registers = table, int(cell_register)
        self.multiplier_register = multiplier_register and table.kind == "pwl"
        self.latency = activation_latency(table.kind, cell_register)
        super().__init__({"x": In(signed(table.in_format.width)), "y": Out(signed(table.out_format.width))})

    @property
    def module_name(self) -> str:
        t = self.table
        formats = f"{t.in_format}_{t.out_format}".replace(".", "_").replace("-", "m").lower()
        return (
            f"{t.function}_{t.kind}{len(t.starts)}_{formats}" + "_r" * self.registers + "_m" * self.multiplier_register
        )

    def elaborate(self, platform):
        m = Module()
        t = self.table
        width = t.in_format.width
        # The magnitude of the most negative code needs as many bits as the code itself.
        magnitude = Signal(unsigned(width))
        m.d.comb += magnitude.eq(Mux(self.x[-1], -self.x, self.x))
        magnitude = delay(m, magnitude, self.registers, "magnitude")
        sign = delay(m, self.x[-1], self.registers, "sign")

        # First cycle: select the segment's line, or saturation beyond the last segment.
        segments = len(t.starts)
        segment = Signal(range(segments))
        intercept = Signal(unsigned(max(1, max(t.intercepts).bit_length())))
        saturated, negative = Signal(), Signal()
        m.d.sync += [negative.eq(sign), saturated.eq(magnitude >= t.limit)]
        constants = Array([Const(value, len(intercept)) for value in t.intercepts])
        if t.kind == "pwl":
            m.d.comb += segment.eq(magnitude[t.offset_bits :])
            slope = Signal(unsigned(max(1, max(t.slopes).bit_length())))
            offset = Signal(unsigned(max(1, t.offset_bits)))
            factors = m.d.comb if self.multiplier_register else m.d.sync
            m.d.sync += intercept.eq(constants[segment])
            factors += [
                slope.eq(Array([Const(value, len(slope)) for value in t.slopes])[segment]),
                offset.eq(magnitude[: t.offset_bits]),
            ]
            # Second cycle: the product.
            line = Signal(unsigned(len(slope) + len(offset)))
            held_intercept, held_saturated, held_negative = (Signal.like(s) for s in (intercept, saturated, negative))
            if self.multiplier_register:
                # The factors are not negative: their sign is a zero more.
                multiplier = Multiplier(len(slope) + 1, len(offset) + 1, 1, operand_register=True)
                m.submodules.multiplier = shared(multiplier, platform)
                m.d.comb += [multiplier.left.eq(slope), multiplier.right.eq(offset), line.eq(multiplier.product)]
            else:
                m.d.sync += line.eq(slope * offset)
            m.d.sync += [
                held_intercept.eq(intercept), held_saturated.eq(saturated), held_negative.eq(negative),
            ]  # fmt: skip
            intercept, saturated, negative = held_intercept, held_saturated, held_negative
            aligned = line << (t.sum_frac - t.in_format.fraction_bits - SLOPE_FRACTION_BITS)
        else:
            m.d.comb += segment.eq(0)
            for index, start in enumerate(t.starts):
                with m.If(magnitude >= start):
                    m.d.comb += segment.eq(index)
            shifts = [t.sum_frac - t.in_format.fraction_bits - slope for slope in t.slopes]
            aligned = Signal(unsigned(width + max(shifts)))
            m.d.sync += [
                intercept.eq(constants[segment]),
                aligned.eq(Array([magnitude << shift for shift in shifts])[segment]),
            ]

        # Last cycle: sum, rounding, sign.
        total = (intercept << (t.sum_frac - t.intercept_frac)) + aligned
        drop = t.sum_frac - t.out_format.fraction_bits
        positive = Mux(saturated, t.saturated, (total + (1 << (drop - 1))) >> drop)
        positive, negative = (delay(m, value, self.registers, name) for value, name in
                              ((positive, "positive"), (negative, "last_negative")))  # fmt: skip
        mirrored = -positive if t.function == "tanh" else t.one - positive
        m.d.sync += self.y.eq(resize(Mux(negative, mirrored, positive), t.out_format.width))
        return m
