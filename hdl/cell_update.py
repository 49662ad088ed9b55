"""LSTM cell update of one hidden unit per cycle, from accumulated sums to h."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.activation import Activation
from hdl.hierarchy import shared
from hdl.memory import delay
from hdl.requantize import requantize, resize
from model.config import GATES, Config
from model.schedule import activation_latency


class CellLane(wiring.Component):
    """Bias, activations and state update of one hidden unit per cycle.

    ``preact = requantize(sum + bias)``, ``i, f, g, o = σ, σ, tanh, σ(preact)``,
    ``c' = requantize(f·c + i·g)``, ``h' = requantize(o·tanh(c'))``.

    Parameters
    ----------
    config : Config
    sum_width : int
        Bits of a matrix–vector sum.

    Members
    -------
    sums : In(ArrayLayout(signed(sum_width), 4))
        I, F, G, O.
    bias : In(ArrayLayout(signed(bias_bits), 4))
    c : In(signed), codes of the format of cell
        Wanted ``cell_read_latency`` cycles after ``sums``.
    c_next : Out(signed)
        ``cell_latency`` cycles after ``sums``.
    h : Out(signed), codes of the format of h
        ``latency`` cycles after ``sums``.

    Latency: see members · Throughput: 1 unit per cycle · Numerics: as above, nothing else rounds ·
    Reference: ``model.reference.cell_update``, ``model.reference.layer``
    """

    reset_less = True

    def __init__(self, config: Config, sum_width: int):
        self.config, self.sum_width = config, sum_width
        activation = activation_latency(config.activation.kind)
        self.cell_read_latency = 2 + activation
        self.cell_latency = self.cell_read_latency + 2
        self.latency = self.cell_latency + activation + 2
        q = config.quantization
        super().__init__(
            {
                "sums": In(data.ArrayLayout(signed(sum_width), len(GATES))),
                "bias": In(data.ArrayLayout(signed(q.bias_bits), len(GATES))),
                "c": In(signed(q.cell.width)),
                "c_next": Out(signed(q.cell.width)),
                "h": Out(signed(q.h.width)),
            }
        )

    module_name = "cell_lane"

    def elaborate(self, platform):
        m = Module()
        config, q = self.config, self.config.quantization
        gates = []
        for index, name in enumerate(GATES):
            total = Signal(signed(config.accumulator_bits), name=f"total_{name}")
            preact = Signal(signed(q.preact.width), name=f"preact_{name}")
            m.d.sync += total.eq(resize(self.sums[index] + self.bias[index], len(total)))
            m.d.sync += preact.eq(requantize(total, config.accumulator_fracs[index], q.preact))
            activation = Activation(config.gate_table(index))
            m.submodules[f"activation_{name}"] = shared(activation, platform)
            m.d.comb += activation.x.eq(preact)
            gates.append(activation.y)
        i, f, g, o = gates

        forget = Signal(signed(q.gate.width + q.cell.width))
        update = Signal(signed(2 * q.gate.width))
        m.d.sync += [forget.eq(f * self.c), update.eq(i * g)]
        forget_frac, update_frac = q.gate.fraction_bits + q.cell.fraction_bits, 2 * q.gate.fraction_bits
        frac = max(forget_frac, update_frac)
        total = (forget << (frac - forget_frac)) + (update << (frac - update_frac))
        m.d.sync += self.c_next.eq(requantize(total, frac, q.cell))

        tanh = Activation(config.cell_table)
        m.submodules.activation_cell = shared(tanh, platform)
        m.d.comb += tanh.x.eq(self.c_next)
        product = Signal(signed(2 * q.gate.width))
        m.d.sync += [
            product.eq(delay(m, o, 2 + tanh.latency, "o") * tanh.y),
            self.h.eq(requantize(product, 2 * q.gate.fraction_bits, q.h)),
        ]
        return m
