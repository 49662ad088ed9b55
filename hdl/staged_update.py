"""The cell update of the GRU that applies its reset gate before the matrix product: gates R, Z, N in three stages."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.activation import Activation
from chessrnn.hdl.arithmetic.requantize import drop, half_lsb, requantize, resize
from chessrnn.hdl.cell_lane import aligned, scale_layer_port, scaled_sum
from chessrnn.hdl.cell_update import CellUpdate, inner_ports
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import delay
from chessrnn.hdl.monitor import number_of_ones, saturated_port, total
from chessrnn.hdl.parity import Memories
from chessrnn.hdl.part_shapes import select
from chessrnn.model.config import Config
from chessrnn.model.memory_image import bias_spec, cell_state_spec, held_gate_spec
from chessrnn.model.schedule import (
    cell_latency,
    operand_registers,
    rounding_registers,
    state_read_latency,
    state_write_latency,
)
from chessrnn.model.widths.hardware import hardware_widths

# Stages in the order of the gates.
RESET, UPDATE, CANDIDATE = range(3)


class ResetFirstLane(wiring.Component):
    """Computes one gate of one hidden unit per cycle: ``g = σ, σ, tanh (requantize(sum + bias))`` for R, Z, N.

    R: ``h = requantize(r·s)``; Z: ``gate = z``; N: ``s' = requantize((1 - z)·n + z·s)``, ``h = requantize(s')``.

    Parameters
    ----------
    config : Config
    sum_width : int
        Bits of a matrix–vector sum.

    Members
    -------
    sum : In(signed(sum_width))
    bias : In(signed(bias_bits))
    stage : In(range(3))
        With ``sum``: the gate that it belongs to.
    scale : In(scale_bits), with scales of block rows
        With ``sum``: the scale of its block row.
    layer : In, where layers have scales of their own
        With ``sum``: the layer that it belongs to.
    c : In(signed), codes of the format of cell
        The unit's state, used for R and N; it must be valid ``read_latency`` cycles after ``sum``.
    held : In(signed), codes of the format of gate
        The unit's z, used for N; it must be valid together with ``c``.
    saturated : Out, with ``architecture.monitor``
        With ``h``: number of values of the stage that were clipped to the range of their format.
    gate : Out(signed), codes of the format of gate
        The activated gate, ``read_latency`` cycles after ``sum``.
    c_next : Out(signed)
        The new state after N, ``write_latency`` cycles after ``sum``.
    h : Out(signed), codes of the format of h
        After R the scaled state that N's matrix reads, after N the unit's h; ``latency`` cycles after ``sum``.

    Latency: see members, equal for every gate, so results leave in the order of the sums · Throughput: 1 gate per
    cycle · Reference: ``chessrnn.model.reference.cell_update.gru_reset_first``
    """

    reset_less = True
    module_name = "reset_first_lane"

    def __init__(self, config: Config, sum_width: int):
        self.config = config
        q = config.quantization
        # Registers between a sum of products and its rounding, and all that are added to such a sum.
        self.split, self.added = int(config.architecture.pipeline.cell_register), rounding_registers(config)
        self.read_latency = state_read_latency(config)
        self.write_latency = state_write_latency(config)
        self.latency = cell_latency(config)
        super().__init__(
            {
                "sum": In(signed(sum_width)), "bias": In(signed(q.bias_bits)), "stage": In(range(3)),
                **scale_layer_port(config, In),
                **({"scale": In(q.scale_bits)} if config.has_row_scales else {}),
                "c": In(signed(q.cell.width)), "held": In(signed(q.gate.width)),
                "gate": Out(signed(q.gate.width)), "c_next": Out(signed(q.cell.width)), "h": Out(signed(q.h.width)),
                **saturated_port(config),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, q, widths = self.config, self.config.quantization, hardware_widths(self.config)
        gate, state = q.gate.fraction_bits, q.cell.fraction_bits
        total = Signal(signed(widths.accumulator))
        preact = Signal(signed(q.preact.width))
        stage = delay(m, self.stage, 1, "stage")
        # Gates whose sums have the same scale share one rounding.
        by_gate, scaled, rounded_stage = list(zip(*config.layer_sum_fracs, strict=True)), total, stage
        if config.has_row_scales:
            scale, rounded_stage = delay(m, self.scale, 1, "scale"), delay(m, self.stage, 2, "rounded_stage")
            # The widest of all gates, as the gates share the product.
            gate_of_all = max(range(len(by_gate)), key=widths.scaled_sum.__getitem__)
            scaled = scaled_sum(m, platform, config, gate_of_all, total, scale, 0)
        seen: dict[int, list[Value]] = {frac: [] for fracs in by_gate for frac in fracs}
        roundings = {frac: requantize(scaled, frac, q.preact, seen[frac]) for frac in seen}
        layer = delay(m, self.layer, 1 + config.has_row_scales, "layer") if scale_layer_port(config, In) else None
        rounded = [
            roundings[fracs[0]] if len(set(fracs)) == 1 else select(layer, [roundings[frac] for frac in fracs])
            for fracs in by_gate
        ]
        m.d.sync += [
            total.eq(resize(self.sum + self.bias, len(total))),
            preact.eq(rounded[0] if len(roundings) == 1 else Array(rounded)[rounded_stage]),
        ]
        activated = []
        for number in (UPDATE, CANDIDATE):
            table = config.gate_table(number)
            activation = Activation(table, bool(self.split), bool(operand_registers(config)))
            m.submodules[table.function] = shared(activation, platform)
            m.d.comb += activation.x.eq(preact)
            activated.append(activation.y)
        sigmoid, n = activated

        is_reset = delay(m, stage == RESET, self.read_latency - 1, "is_reset")
        scale = Signal(signed(q.gate.width))
        renewed, kept = (
            Signal(signed(term.bits), name=name)
            for name, term in zip(("renewed", "kept"), widths.cell_sums["state"].terms, strict=True)
        )
        m.d.comb += [self.gate.eq(sigmoid), scale.eq(Mux(is_reset, sigmoid, self.held))]
        factors = {"rest": (1 << gate) - self.held, "scale": scale, "n": n, "c": self.c}
        registers = operand_registers(config)
        rest, scale, n, c = (delay(m, value, registers, name) for name, value in factors.items())
        m.d.sync += [renewed.eq(rest * n), kept.eq(scale * c)]
        # R is delayed by one cycle, as N is rounded twice.
        scaled = Signal(signed(q.h.width))
        sum_n, frac = aligned((renewed, 2 * gate), (kept, gate + state))
        half_n, half_r = half_lsb(frac, q.cell), half_lsb(gate + state, q.h)
        sum_n, sum_r = (delay(m, value, self.split, name)
                        for value, name in ((sum_n + half_n, "sum_n"), (kept + half_r, "sum_r")))  # fmt: skip
        of_scaled: list[Value] = []
        of_state: list[Value] = []
        of_h: list[Value] = []
        m.d.sync += [
            scaled.eq(drop(sum_r, gate + state, q.h, of_scaled)),
            self.c_next.eq(drop(sum_n, frac, q.cell, of_state)),
        ]
        was_reset = delay(m, is_reset, 2 + self.added, "was_reset")
        m.d.sync += self.h.eq(Mux(was_reset, scaled, requantize(self.c_next, state, q.h, of_h)))
        if config.architecture.monitor:
            clips = [[Cat(*seen[frac]).any() for frac in fracs] for fracs in by_gate]
            of_gates = [flags[0] if len(set(fracs)) == 1 else select(layer, flags)
                        for flags, fracs in zip(clips, by_gate, strict=True)]  # fmt: skip
            at_preact = Array(of_gates)[rounded_stage]
            # What is rounded one and two cycles after the state is read, or some more.
            reset_then = delay(m, is_reset, 1 + self.added, "reset_then")
            candidate_then = delay(m, stage == CANDIDATE, self.read_latency + self.added, "candidate_then")
            candidate_last = delay(m, candidate_then, 1, "candidate_last")
            late = Cat(*(flag & reset_then for flag in of_scaled), *(flag & candidate_then for flag in of_state))
            flags = [
                delay(m, Cat(at_preact), self.latency - 1 - config.has_row_scales, "clipped_preact"),
                delay(m, late, self.latency - 1 - self.read_latency - self.added, "clipped_state"),
                delay(m, Cat(*(flag & candidate_last for flag in of_h)), 1, "clipped_h"),
            ]
            m.d.comb += self.saturated.eq(number_of_ones(Cat(*flags)))
        return m


class StagedUpdate(CellUpdate):
    """The cell update for slices that hold one gate each: first all slices of R, then of Z, then of N.

    R yields the blocks that N's matrix reads.  z is kept in a memory until N of the same unit is computed.  N never
    comes before z is stored: if too few issues lie between Z and N, N's issues wait until the blocks of R are written,
    which takes longer than storing z.

    Reference: ``chessrnn.model.reference.cell_update.gru_reset_first``
    """

    module_name = "staged_update"

    def elaborate(self, platform):
        m = Module()
        config, q = self.config, self.config.quantization
        lanes, memories = self.schedule.cell_lanes, Memories(m, platform, config)
        ((*biases,),) = self._parameters(m, memories, bias_spec(config, self.schedule), 1, q.bias_bits)
        cells = [ResetFirstLane(config, config.product_sum_bits) for _ in range(lanes)]
        scales = self._row_scales(m, memories) if config.has_row_scales else []
        stage, unit, state_unit = self._place(m)
        sums, lane_stage = delay(m, self.slice.as_value(), 1, "sums"), delay(m, stage, 1, "lane_stage")
        for index, (cell, bias) in enumerate(zip(cells, biases, strict=True)):
            m.submodules[f"lane_{index}"] = shared(cell, platform)
            width = config.product_sum_bits
            if config.has_row_scales:
                m.d.comb += cell.scale.eq(scales[0])
            m.d.comb += [
                cell.sum.eq(sums[index * width : (index + 1) * width].as_signed()),
                cell.bias.eq(bias.as_signed()),
                cell.stage.eq(lane_stage),
            ]
        self._memories(m, memories, cells, stage, unit, state_unit)
        if scale_layer_port(config, In):
            self._select_layer(m, cells)

        latency = 1 + cells[0].latency
        makes = self.slice_valid & (stage != UPDATE)
        block_valid, block = self._gather(m, cells, delay(m, makes, latency, "h_valid", reset_less=False))
        if inner_ports(self.config):
            is_inner = delay(m, stage == RESET, latency, "is_inner")
            m.d.comb += [self.inner_valid.eq(block_valid & is_inner), self.inner.eq(block)]
            block_valid &= ~is_inner
        last_step = delay(m, self.last_step, latency, "last_step")
        if self.config.architecture.monitor:
            m.d.sync += self.saturations.eq(total(self._clipped(m, cells, self.slice_valid)))
        m.d.comb += [self.block_valid.eq(block_valid), self.block.eq(block), self.block_last_step.eq(last_step)]
        memories.report(self)
        return m

    def _place(self, m) -> tuple:
        """Count slices: returns the stage, the number within the layer, and the number among all layers and contexts.

        In a bidirectional network a layer's count spans both directions, and only the layer at work has a state.
        """
        both = self.config.network.bidirectional
        layers = 1 if both else self.config.architecture.contexts * self.config.network.num_layers
        units = self.config.directions * self.config.num_hidden_blocks * self.schedule.slices
        stage, unit = Signal(range(3)), Signal(range(max(2, units)))
        # Number of the first slice of this layer in this context.
        base = Signal(range(max(2, layers * units)))
        with m.If(self.slice_valid):
            m.d.sync += unit.eq(unit + 1)
            with m.If(unit == units - 1):
                m.d.sync += [unit.eq(0), stage.eq(stage + 1)]
                with m.If(stage == CANDIDATE):
                    m.d.sync += [stage.eq(RESET), base.eq(Mux(base == (layers - 1) * units, 0, base + units))]
        return stage, unit, (base + unit)[: len(base)]

    def _memories(self, m, memories: Memories, cells: list, stage, unit, state_unit) -> None:
        """Add the memory of states, read for R and N and written by N, and that of z, written by Z and read for N."""
        timing, points = cells[0], self.config.quantization
        # The slice is one cycle ahead of the lanes' sums; a word reaches the lanes two cycles after its read.
        to_read, to_hold, to_write = timing.read_latency - 1, timing.read_latency + 1, timing.write_latency + 1
        flags = {
            "reads": self.slice_valid & (stage != UPDATE) & ~self.first_step,
            "reads_held": self.slice_valid & (stage == CANDIDATE),
            "holds": self.slice_valid & (stage == UPDATE),
            "writes": self.slice_valid & (stage == CANDIDATE),
        }
        cycles = {"reads": to_read, "reads_held": to_read, "holds": to_hold, "writes": to_write}
        at = {name: delay(m, flag, cycles[name], name, reset_less=False) for name, flag in flags.items()}
        unit_read, state_read = delay(m, unit, to_read, "unit_read"), delay(m, state_unit, to_read, "state_read")
        state = memories.ram(cell_state_spec(self.config, self.schedule))
        held = memories.ram(held_gate_spec(self.config, self.schedule))
        m.d.comb += [
            state.read_en.eq(at["reads"]), state.read_addr.eq(state_read),
            state.write_en.eq(at["writes"]),
            state.write_addr.eq(delay(m, state_read, to_write - to_read, "state_write")),
            held.read_en.eq(at["reads_held"]), held.read_addr.eq(unit_read),
            held.write_en.eq(at["holds"]), held.write_addr.eq(delay(m, unit_read, to_hold - to_read, "unit_hold")),
        ]  # fmt: skip
        is_first = delay(m, self.first_step, to_read + 1, "first_step_state")
        previous, waited = Signal(len(state.read_data), reset_less=True), Signal(len(held.read_data), reset_less=True)
        m.d.sync += [previous.eq(Mux(is_first, 0, state.read_data)), waited.eq(held.read_data)]
        for index, cell in enumerate(cells):
            of_state = slice(index * points.cell.width, (index + 1) * points.cell.width)
            of_gate = slice(index * points.gate.width, (index + 1) * points.gate.width)
            m.d.comb += [
                cell.c.eq(previous[of_state].as_signed()), state.write_data[of_state].eq(cell.c_next),
                cell.held.eq(waited[of_gate].as_signed()), held.write_data[of_gate].eq(cell.gate),
            ]  # fmt: skip
        self._give_access(m, state)
