"""A cell lane turns the matrix–vector sums of one hidden unit into its new h, one unit per cycle.

There is one class per recurrence; all of them are placed between the drain and the vector memory.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.activation import Activation
from chessrnn.hdl.arithmetic.carry_save import CarrySaveSum
from chessrnn.hdl.arithmetic.dot_product import CarrySaveProduct
from chessrnn.hdl.arithmetic.multiplier import Multiplier
from chessrnn.hdl.arithmetic.requantize import drop, half_lsb, requantize, resize, saturate
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import delay
from chessrnn.hdl.monitor import number_of_ones, saturated_port
from chessrnn.hdl.part_shapes import select
from chessrnn.model.config import Config
from chessrnn.model.schedule import (
    activation_latency,
    cell_latency,
    operand_registers,
    rounding_registers,
    state_read_latency,
    state_write_latency,
)
from chessrnn.model.widths.hardware import hardware_widths


class CellLane(wiring.Component):
    """A lane adds the bias, applies the activations and updates the state of one hidden unit per cycle.

    Parameters
    ----------
    config : Config
    sum_width : int
        Bits of a matrix–vector sum.

    Members
    -------
    sums : In(ArrayLayout(signed(sum_width), G))
        Sums of the unit's gates.
    bias : In(ArrayLayout(signed(bias_bits), G))
        Biases of the same gates, in the same cycle.
    scale : In(ArrayLayout(scale_bits, G)), with scales of block rows
        Scales of the block rows of the unit's gates, in the cycle of ``sums``.
    layer : In, where layers have scales of their own
        Layer of the unit, in the cycle of ``sums``.
    peephole : In(ArrayLayout(signed, P)), in cells with peepholes
        Peephole weights of the P gates that have one, in the cycle of ``sums``.
    c : In(signed), codes of the format of cell, in cells with a state
        The unit's state; it must be valid ``read_latency`` cycles after ``sums``.
    c_next : Out(signed), in cells with a state
        The unit's new state, ``write_latency`` cycles after ``sums``.
    h : Out(signed), codes of ``Config.cell_output``
        The unit's new h, ``latency`` cycles after ``sums``.
    saturated : Out, with ``architecture.monitor``
        With ``h``: number of values on its way that were clipped to the range of their format.

    Latency: see members · Throughput: 1 unit per cycle · Reference: ``chessrnn.model.reference.cell_update``
    """

    reset_less = True
    module_name = "cell_lane"

    def __init__(self, config: Config, sum_width: int):
        self.config, self.sum_width, self.widths = config, sum_width, hardware_widths(config)
        cell, q = config.cell, config.quantization
        # Registers between a sum of products and its rounding, and all that are added to such a sum.
        self.split, self.added = int(config.architecture.pipeline.cell_register), rounding_registers(config)
        self.activation = activation_latency(config.activation.kind, bool(self.split))
        self.read_latency = state_read_latency(config)
        self.write_latency = state_write_latency(config)
        self.latency = cell_latency(config)
        # Registers from the sums to where they are rounded.
        self.rounding_delay = 1 + config.has_row_scales
        members = {
            "sums": In(data.ArrayLayout(signed(sum_width), config.num_gates)),
            "bias": In(data.ArrayLayout(signed(q.bias_bits), config.num_gates)),
            **scale_layer_port(config, In),
        }
        if config.has_row_scales:
            members["scale"] = In(data.ArrayLayout(q.scale_bits, config.num_gates))
        if cell.peepholes:
            members["peephole"] = In(data.ArrayLayout(signed(q.peephole.width), len(cell.peepholes)))
        if cell.has_state:
            members |= {"c": In(signed(q.cell.width)), "c_next": Out(signed(q.cell.width))}
        # Cycle after the sums → whether values that are rounded in it are clipped.
        self.clipped: dict[int, list[Value]] = {}
        super().__init__({**members, "h": Out(signed(q.h.width)), **saturated_port(config)})

    def _seen(self, cycle: int) -> list[Value] | None:
        """List of the values that are rounded some cycles after the sums and clipped; ``None`` without a monitor."""
        return self.clipped.setdefault(cycle, []) if self.config.architecture.monitor else None

    def _count_clipped(self, m: Module) -> None:
        """Drive ``saturated``, if the design has a monitor."""
        if self.config.architecture.monitor:
            late = [delay(m, Cat(*flags), self.latency - cycle, f"clipped_{cycle}")
                    for cycle, flags in self.clipped.items() if flags]  # fmt: skip
            m.d.comb += self.saturated.eq(number_of_ones(Cat(*late)))

    def _total(self, m: Module, gate: int) -> Signal:
        """A register that holds the sum of a gate plus its bias."""
        name = self.config.gates[gate]
        total = Signal(signed(self.widths.accumulator), name=f"total_{name}")
        m.d.sync += total.eq(resize(self.sums[gate] + self.bias[gate], len(total)))
        return total

    def _preact(self, m: Module, gate: int, value) -> Signal:
        """A register that holds ``value``, which is already in the format of preact."""
        preact = Signal(signed(self.config.quantization.preact.width), name=f"preact_{self.config.gates[gate]}")
        m.d.sync += preact.eq(value)
        return preact

    def _scaled(self, m: Module, platform, gate: int, fmt=None) -> Value:
        """The sum plus bias of a gate times the scale of its block row, and the half LSB of rounding to ``fmt``.

        It comes two cycles after the sums.
        """
        name, fracs = self.config.gates[gate], {fracs[gate] for fracs in self.config.layer_sum_fracs}
        halves = [half_lsb(fracs[gate], fmt) if fmt else 0 for fracs in self.config.layer_sum_fracs]
        layer = delay(m, self.layer, 2, f"half_layer_{name}") if len(fracs) > 1 and fmt else None
        total, scale = self._total(m, gate), delay(m, self.scale[gate], 1, f"scale_{name}")
        return scaled_sum(m, platform, self.config, gate, total, scale, select(layer, halves))

    def _rounded(self, m: Module, platform, gate: int) -> Signal:
        """The sum plus bias of a gate, times its scale if it has one, rounded to the format of preact.

        Half an LSB is added together with the bias or in the product, so the rounding needs no adder of its own.
        """
        name, fmt, seen = self.config.gates[gate], self.config.quantization.preact, self._seen(self.rounding_delay)
        layer, fracs = self._scales(m, gate, self.rounding_delay)
        if self.config.has_row_scales:
            return self._preact(
                m, gate, drop_by_layer(m, name, self._scaled(m, platform, gate, fmt), layer, fracs, fmt, seen)
            )
        half = select(self.layer if layer is not None else None, [half_lsb(frac, fmt) for frac in fracs])
        total = Signal(signed(self.widths.rounded_sum[gate]), name=f"total_{name}")
        m.d.sync += total.eq(self.sums[gate] + self.bias[gate] + half)
        return self._preact(m, gate, drop_by_layer(m, name, total, layer, fracs, fmt, seen))

    def _scales(self, m: Module, gate: int, cycles: int) -> tuple[Value | None, list[int]]:
        """The layer of the sums of some cycles ago, and the fraction bits of a gate's sums for each layer.

        Where the layers share them, the layer is ``None`` and there is one entry.
        """
        fracs = [fracs[gate] for fracs in self.config.layer_sum_fracs]
        if len(set(fracs)) == 1:
            return None, fracs[:1]
        return delay(m, self.layer, cycles, f"layer_{self.config.gates[gate]}"), fracs

    def _rounded_products(self, m: Module, platform, name: str, fmt, products, cycle: int, addend=None) -> Value:
        """Σ a · b (+ addend) rounded to ``fmt``; products are registered, and ``addend`` comes together with them.

        Parameters
        ----------
        products : list of (name, a, b, fraction bits of the product)
        cycle : int
            Cycles from the sums to the rounding.
        addend : (value, fraction bits), optional
        """
        terms = [(len(a) + len(b), bits) for _, a, b, bits in products]
        terms += [(len(addend[0]), addend[1])] if addend else []
        proven = self.widths.cell_sums[name]
        assert sorted(terms) == sorted((term.bits, term.fraction_bits) for term in proven.terms)
        assert fmt == proven.target
        frac, half = proven.fraction_bits, half_lsb(proven.fraction_bits, fmt)
        if self.config.architecture.arithmetic == "multiplier":
            terms = [addend] if addend else []
            for part, a, b, bits in products:
                multiplier = Multiplier(len(a), len(b), 1, bool(operand_registers(self.config)))
                m.submodules[f"product_{part}"] = shared(multiplier, platform)
                m.d.comb += [multiplier.left.eq(a), multiplier.right.eq(b)]
                terms.append((multiplier.product, bits))
            total, frac = aligned(*terms)
            return drop(self._settled(m, total + half_lsb(frac, fmt), name), frac, fmt, self._seen(cycle))
        # Carries do not propagate in the products, only once in the final addition.
        width = proven.bits
        total = CarrySaveSum(m, (1 << width) - 1, name)
        for part, a, b, bits in products:
            # The half LSB is added inside the first product that has as many fraction bits as the sum.
            added, half = (half, 0) if bits == frac else (0, half)
            product = CarrySaveProduct(len(a), len(b), width - (frac - bits), added)
            m.submodules[f"product_{part}"] = shared(product, platform)
            m.d.comb += [product.multiplier.eq(a), product.multiplicand.eq(b)]
            total.add(product.save, frac - bits)
            total.add(product.carry, frac - bits)
        if addend:
            value, bits = addend
            total.add(resize(value, width - (frac - bits)).as_unsigned(), frac - bits)
        save, carry = total.words()
        total = self._settled(m, (save + carry + half)[:width].as_signed(), name)
        return drop(total, frac, fmt, self._seen(cycle))

    def _settled(self, m: Module, total, name: str) -> Value:
        """A sum of products that is to be rounded: behind a register, if the pipeline asks for it."""
        return delay(m, total, self.split, f"sum_{name}")

    def _activated(self, m: Module, platform, name: str, table, value):
        """The output of a new activation block that is fed with ``value``."""
        activation = Activation(table, bool(self.split), bool(operand_registers(self.config)))
        m.submodules[f"activation_{name}"] = shared(activation, platform)
        m.d.comb += activation.x.eq(value)
        return activation.y


def scaled_sum(m: Module, platform, config: Config, gate: int, total, scale, half) -> Value:
    """The product of a registered sum and the scale of its block row, plus ``half``, a cycle later.

    Parameters
    ----------
    total : signed Value
        Sum of products and bias.
    scale : unsigned Value
    half : Value or int
        Rounding constant; a signal comes with the result.
    """
    name, width = config.gates[gate], hardware_widths(config).scaled_sum[gate]
    result = Signal(signed(width), name=f"scaled_{name}")
    # A bit more, as the scale is unsigned.
    bits = len(scale) + 1
    if config.architecture.arithmetic == "multiplier":
        multiplier = Multiplier(len(total), bits, 1)
        m.submodules[f"product_{name}"] = shared(multiplier, platform)
        m.d.comb += [multiplier.left.eq(total), multiplier.right.eq(scale)]
        m.d.comb += result.eq(resize(multiplier.product + half, width))
        return result
    added = half if isinstance(half, int) else 0
    product = CarrySaveProduct(bits, len(total), width, added)
    m.submodules[f"product_{name}"] = shared(product, platform)
    m.d.comb += [product.multiplier.eq(scale), product.multiplicand.eq(total)]
    rest = 0 if isinstance(half, int) else half
    m.d.comb += result.eq((product.save + product.carry + rest)[:width].as_signed())
    return result


def scale_layer_port(config: Config, direction) -> dict:
    """The member ``layer`` of a block that rounds the sums of layers with scales of their own; else none."""
    layers = len(set(config.layer_accumulator_fracs))
    return {"layer": direction(range(config.network.num_layers))} if layers > 1 else {}


def drop_by_layer(m: Module, name: str, value, layer, fracs: list[int], fmt, seen: list[Value] | None = None) -> Value:
    """The value without the fraction bits that rounding drops in the selected layer: :func:`drop` for every layer."""
    if layer is None:
        return drop(value, fracs[0], fmt, seen)
    shifts = [frac - fmt.fraction_bits for frac in fracs]
    assert min(shifts) >= 0, "the configuration admits no other"
    shifted = Signal(signed(max(1, len(value) - min(shifts))), name=f"shifted_{name}")
    with m.Switch(layer):
        for number, shift in enumerate(shifts):
            with m.Case(number):
                m.d.comb += shifted.eq(value >> shift)
    return saturate(shifted, fmt, seen)


def align_by_layer(m: Module, name: str, value, layer, fracs: list[int]) -> tuple[Value, int]:
    """The value at the finest scale of all layers, and the fraction bits of that."""
    if layer is None:
        return value, fracs[0]
    finest = max(fracs)
    shifted = Signal(signed(len(value) + finest - min(fracs)), name=f"aligned_{name}")
    with m.Switch(layer):
        for number, frac in enumerate(fracs):
            with m.Case(number):
                m.d.comb += shifted.eq(value << (finest - frac))
    return shifted, finest


def aligned(*terms: tuple) -> tuple:
    """The exact sum of terms (value, fraction bits), returned together with its fraction bits."""
    frac = max(bits for _, bits in terms)
    first, *others = (value << (frac - bits) for value, bits in terms)
    return sum(others, first), frac


class LstmLane(CellLane):
    """LSTM: ``i, f, g, o = σ, σ, tanh, σ(preact)``, ``c' = requantize(f·c + i·g)``, ``h' = requantize(o·tanh(c'))``.

    ``preact = requantize(sum + bias)``; peepholes add p·c to the sums of I and F, and p·c' to the sum of O.

    Reference: ``chessrnn.model.reference.cell_update.lstm``
    """

    def elaborate(self, platform):
        m = Module()
        config, q, gates = self.config, self.config.quantization, []
        c = self.c
        if config.cell.peepholes:
            count, settled = len(config.gates), self.rounding_delay + 1
            if config.has_row_scales:
                totals = [self._scaled(m, platform, gate) for gate in range(count)]
            else:
                totals = [self._total(m, gate) for gate in range(count)]
            peephole = dict(zip(config.cell.peepholes, self.peephole, strict=True))
            # One cycle for the product p·c, which is needed before f·c.
            sums = [delay(m, total, 1, f"sum_{config.gates[gate]}") for gate, total in enumerate(totals)]
            totals = [align_by_layer(m, config.gates[gate], total, *self._scales(m, gate, settled))
                      for gate, total in enumerate(sums[:3])]  # fmt: skip
            for gate in (0, 1):
                weight = delay(m, peephole[gate], self.read_latency, f"peephole_{config.gates[gate]}")
                totals[gate] = self._with_peephole(m, gate, weight, c, totals[gate])
            c = delay(m, c, self.activation + 2, "c")
            preacts = [
                self._preact(m, gate, requantize(*totals[gate], q.preact, self._seen(settled))) for gate in range(3)
            ]
        else:
            preacts = [self._rounded(m, platform, gate) for gate in range(4)]
        for gate, preact in enumerate(preacts[:3]):
            gates.append(self._activated(m, platform, config.gates[gate], config.gate_table(gate), preact))
        i, f, g = gates

        gate = q.gate.fraction_bits
        products = [("forget", f, c, gate + q.cell.fraction_bits), ("update", i, g, 2 * gate)]
        state = self._rounded_products(m, platform, "state", q.cell, products, self.write_latency - 1)
        m.d.sync += self.c_next.eq(state)

        name = config.gates[3]
        if config.cell.peepholes:
            weight = delay(m, peephole[3], self.write_latency, f"peephole_{name}")
            late = delay(m, sums[3], self.write_latency + 1 - settled, f"late_{name}")
            late = align_by_layer(m, name, late, *self._scales(m, 3, self.write_latency + 1))
            total, frac = self._with_peephole(m, 3, weight, self.c_next, late)
            preacts.append(self._preact(m, 3, requantize(total, frac, q.preact, self._seen(self.write_latency + 1))))
        o = self._activated(m, platform, name, config.gate_table(3), preacts[3])
        tanh = self._activated(m, platform, "cell", config.cell_table, self.c_next)
        # The earlier of the two factors of h is delayed: without peepholes it is o, with them tanh(c').
        if config.cell.peepholes:
            tanh = delay(m, tanh, 2, "tanh")
        else:
            o = delay(m, o, 2 + self.added + self.activation, "o")
        products = [("h", o, tanh, 2 * gate)]
        h = self._rounded_products(m, platform, "output", config.cell_output, products, self.latency - 1)
        m.d.sync += self.h.eq(h)
        self._count_clipped(m)
        return m

    def _with_peephole(self, m, gate: int, weight, state, total: tuple) -> tuple:
        """The total of a gate plus its registered peephole product: ``total`` comes one cycle after the factors."""
        q = self.config.quantization
        product = Signal(signed(self.widths.peephole_product), name=f"peephole_product_{self.config.gates[gate]}")
        m.d.sync += product.eq(weight * state)
        return aligned(total, (product, q.peephole.fraction_bits + q.cell.fraction_bits))


class GruLane(CellLane):
    """GRU: ``r, z = σ(preact)``, ``n = tanh(nx + r·nh)``, ``s' = requantize((1-z)·n + z·s)``, ``h' = requantize(s')``.

    ``nx`` and ``nh`` are the candidate gate's sums over x and over h, each rounded to the format of preact.

    Reference: ``chessrnn.model.reference.cell_update.gru``
    """

    def elaborate(self, platform):
        m = Module()
        config, q = self.config, self.config.quantization
        preacts = [self._rounded(m, platform, gate) for gate in range(4)]
        r, z = (
            self._activated(m, platform, config.gates[gate], config.gate_table(gate), preacts[gate]) for gate in (0, 1)
        )
        preact, gate = q.preact.fraction_bits, q.gate.fraction_bits
        nx, nh = (
            delay(m, preacts[number], cycles, f"late_{config.gates[number]}")
            for number, cycles in ((2, self.activation + 1 + operand_registers(config)), (3, self.activation))
        )
        candidate = Signal(signed(q.preact.width))
        products = [("scaled", r, nh, preact + gate)]
        cycle = self.rounding_delay + self.activation + 2 + self.added
        total = self._rounded_products(m, platform, "sum", q.preact, products, cycle, (nx, preact))
        m.d.sync += candidate.eq(total)
        n = self._activated(m, platform, "candidate", config.candidate_table, candidate)

        z = delay(m, z, self.activation + 2 + self.added, "z")
        products = [
            ("renewed", (1 << gate) - z, n, 2 * gate),
            ("kept", z, self.c, gate + q.cell.fraction_bits),
        ]
        state = self._rounded_products(m, platform, "state", q.cell, products, self.write_latency - 1)
        seen = self._seen(self.latency - 1)
        m.d.sync += [self.c_next.eq(state), self.h.eq(requantize(self.c_next, q.cell.fraction_bits, q.h, seen))]
        self._count_clipped(m)
        return m


class RnnLane(CellLane):
    """Elman RNN: ``h' = requantize(tanh(preact))``.

    Reference: ``chessrnn.model.reference.cell_update.rnn``
    """

    def elaborate(self, platform):
        m = Module()
        config, q = self.config, self.config.quantization
        gate = self._activated(m, platform, config.gates[0], config.gate_table(0), self._rounded(m, platform, 0))
        m.d.sync += self.h.eq(requantize(gate, q.gate.fraction_bits, q.h, self._seen(self.latency - 1)))
        self._count_clipped(m)
        return m


class ReluLane(CellLane):
    """RNN with ReLU: ``h' = requantize(max(0, sum))``.

    Reference: ``chessrnn.model.reference.cell_update.rnn_relu``
    """

    def elaborate(self, platform):
        m = Module()
        fmt = self.config.quantization.h
        total = self._scaled(m, platform, 0) if self.config.has_row_scales else self._total(m, 0)
        layer, fracs = self._scales(m, 0, self.rounding_delay)
        rounded = total + select(layer, [half_lsb(frac, fmt) for frac in fracs])
        seen = None if self._seen(self.rounding_delay) is None else []
        m.d.sync += self.h.eq(Mux(total[-1], 0, drop_by_layer(m, "H", rounded, layer, fracs, fmt, seen)))
        # What becomes zero is not clipped, however negative it is.
        for flag in seen or []:
            self.clipped[self.rounding_delay].append(flag & ~total[-1])
        self._count_clipped(m)
        return m


LANES = {"lstm": LstmLane, "lstm_peephole": LstmLane, "gru": GruLane, "rnn": RnnLane, "rnn_relu": ReluLane}
