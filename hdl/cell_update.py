"""The cell update turns slices of matrix–vector sums into blocks of h."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.cell_lane import LANES, scale_layer_port
from chessrnn.hdl.drain import slice_layout, state_unit_port, unit_shape
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.loader import write_port
from chessrnn.hdl.memory import Ram, delay
from chessrnn.hdl.monitor import existing_only, saturations_port, total
from chessrnn.hdl.parity import CheckedRam, Memories, parity_port
from chessrnn.hdl.part_shapes import has_projection
from chessrnn.hdl.projection import Projection, projection_layer_port
from chessrnn.hdl.state_access import state_access
from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.memory_image import MemorySpec, bias_spec, cell_state_spec, peephole_spec, scale_spec
from chessrnn.model.schedule import PROJECTION_LATENCY, Schedule


def inner_ports(config: Config) -> dict:
    """Output members for blocks that one part of a step computes for a later part of the same step.

    They exist in bidirectional networks alone: elsewhere such blocks leave through the port of h.
    """
    if not config.network.bidirectional or len(config.layer_parts[0]) == 1:
        return {}
    return {"inner_valid": Out(1), "inner": Out(config.block_size * config.quantization.h.width)}


class CellUpdate(wiring.Component):
    """Holds the cell lanes with their parameter and state memories, and gathers the lanes' h into blocks.

    Parameters
    ----------
    config : Config
    contents : dict of str to list of int, optional

    Members
    -------
    select, unit : In
        The drain selects slice number ``unit``: the memories read its parameters.
    state_unit : In, with several contexts or two directions
        Number of the slice among the states of all contexts, or of both directions.
    slice, slice_valid : In
        Sums of the selected slice, one cycle after ``select``.
    first_step, last_step : In(1)
        With ``slice``: its step is the first (the state is zero), the last of its sequence.
    projected : In(1), in networks with projections
        With ``slice``: its sums belong to a projection, not to a cell.
    block_valid, block, block_last_step : Out
        A block of k elements of h.
    inner_valid, inner : Out, in bidirectional networks whose steps have several parts
        A block that one part computes for a later part of its step; other networks send it through ``block``.
    access, access_data : with state ports
        Reads and writes the cells' states while no step is under way (``chessrnn.hdl.state_access``).
    load : In, with ``architecture.weight_memory = ram``
        Word that is written into a memory of parameters (``chessrnn.hdl.loader``).
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read has a wrong parity (``chessrnn.hdl.parity``).
    saturations : Out, with ``architecture.monitor``
        Number of values that were clipped; each is counted once, some cycles after it was rounded.

    Latency: ``Schedule.epilogue_latency`` less the drain and the write · Throughput: one slice per cycle ·
    Reference: ``chessrnn.model.reference.cell_update``
    """

    module_name = "cell_update"

    def __init__(self, config: Config, contents: dict[str, list[int]] | None = None):
        self.config, self.contents = config, contents
        self.schedule = Schedule(config)
        super().__init__(
            {
                "select": In(1),
                "unit": In(unit_shape(config)),
                **state_unit_port(config, In),
                "slice": In(slice_layout(config)),
                "slice_valid": In(1),
                "first_step": In(1),
                "last_step": In(1),
                "block_valid": Out(1),
                "block": Out(config.block_size * config.quantization.h.width),
                "block_last_step": Out(1),
                **({"projected": In(1)} if has_projection(config) else {}),
                **inner_ports(config),
                **write_port(config),
                **parity_port(config),
                **saturations_port(config),
                **(self._access_ports() if config.architecture.state_ports and config.cell.has_state else {}),
            }
        )

    def _access_ports(self) -> dict:
        bits = cell_state_spec(self.config, self.schedule).width
        return {"access": In(state_access(self.config)), "access_data": Out(bits)}

    def elaborate(self, platform):
        m = Module()
        config, q = self.config, self.config.quantization
        lanes, memories = self.schedule.cell_lanes, Memories(m, platform, config)
        biases = self._parameters(m, memories, bias_spec(config, self.schedule), config.num_gates, q.bias_bits)
        cells = [LANES[config.cell.name](config, config.product_sum_bits) for _ in range(lanes)]
        # The parameter memories have an output register, so the sums are delayed by one cycle as well.
        sums = data.View(self.slice.shape(), delay(m, self.slice.as_value(), 1, "sums"))
        for index, cell in enumerate(cells):
            m.submodules[f"lane_{index}"] = shared(cell, platform)
            m.d.comb += [
                cell.sums.eq(sums[index]),
                *(cell.bias[gate].eq(biases[gate][index].as_signed()) for gate in range(config.num_gates)),
            ]
        if scale_layer_port(config, In):
            self._select_layer(m, cells)
        if config.has_row_scales:
            scales = self._row_scales(m, memories)
            m.d.comb += [cell.scale[gate].eq(scales[gate]) for cell in cells for gate in range(config.num_gates)]
        peepholes = len(config.cell.peepholes)
        if peepholes:
            spec, width = peephole_spec(config, self.schedule), q.peephole.width
            weights = self._parameters(m, memories, spec, peepholes, width)
            for index, cell in enumerate(cells):
                m.d.comb += [cell.peephole[gate].eq(weights[gate][index].as_signed()) for gate in range(peepholes)]
        of_cell = self.slice_valid & ~self.projected if has_projection(config) else self.slice_valid
        if config.cell.has_state:
            self._state(m, memories, cells, of_cell)

        latency = 1 + cells[0].latency
        block_valid, block = self._gather(m, cells, delay(m, of_cell, latency, "h_valid", reset_less=False))
        last_step = delay(m, self.last_step, latency, "last_step")
        clipped = self._clipped(m, cells, of_cell)
        if has_projection(config):
            projection = Projection(config)
            m.submodules.projection = shared(projection, platform)
            m.d.comb += [
                projection.sums.eq(sums),
                projection.valid.eq(delay(m, self.slice_valid & self.projected, 1, "projected", reset_less=False)),
                projection.last_step.eq(delay(m, self.last_step, 1, "projected_last_step")),
            ]
            if projection_layer_port(config, In):
                self._select_layer(m, [projection], "projected_layer")
            if inner_ports(config):
                # One direction's projection and the other's cell may deliver blocks in the same cycle.
                m.d.comb += [self.inner_valid.eq(block_valid), self.inner.eq(block)]
                block_valid, block, last_step = projection.block_valid, projection.block, projection.block_last_step
            else:
                # A projection ends after its cell has delivered, and the next cell's bundles enter later and take
                # longer: the two never deliver a block in the same cycle.
                assert cells[0].latency >= PROJECTION_LATENCY + config.bundle_rows
                block_valid |= projection.block_valid
                block = Mux(projection.block_valid, projection.block, block)
                last_step = Mux(projection.block_valid, projection.block_last_step, last_step)
            clipped += [projection.saturations] if config.architecture.monitor else []
        m.d.comb += [self.block_valid.eq(block_valid), self.block.eq(block), self.block_last_step.eq(last_step)]
        if config.architecture.monitor:
            m.d.sync += self.saturations.eq(total(clipped))
        memories.report(self)
        return m

    def _clipped(self, m, cells: list, of_cell) -> list[Value]:
        """Numbers of values that every lane has clipped, for units that exist; none without a monitor."""
        if not self.config.architecture.monitor:
            return []
        valid = delay(m, of_cell, 1 + cells[0].latency, "clipped_valid", reset_less=False)
        # Slices follow each other block by block; where all layers have one size, the same in every layer and stage.
        sizes, lanes, k = self.config.network.hidden_sizes, self.schedule.cell_lanes, self.config.block_size
        if len(set(sizes)) == 1:
            sizes = sizes[:1]
        places = [(first, size) for size in sizes for first in range(0, circulant.num_blocks(size, k) * k, lanes)]
        units, limits = [range(first, first + lanes) for first, _ in places], [size for _, size in places]
        slices = len(units)
        place = Signal(range(max(2, slices)), name="clipped_slice")
        with m.If(valid):
            m.d.sync += place.eq(Mux(place == slices - 1, 0, place + 1))
        counts = existing_only([cell.saturated for cell in cells], place, units, limits)
        return [Mux(valid, count, 0) for count in counts]

    def _parameters(self, m, memories: Memories, spec: MemorySpec, rows: int, width: int) -> data.View:
        """Parameters [row][lane] of the slice whose sums the lanes receive, read from the memory ``spec``."""
        rom = memories.parameters(spec, self.contents[spec.name] if self.contents else None, self)
        m.d.comb += [rom.en.eq(self.select), rom.addr.eq(self.unit)]
        layout = data.ArrayLayout(data.ArrayLayout(width, self.schedule.cell_lanes), rows)
        return data.View(layout, delay(m, rom.data, 1, spec.name))

    def _row_scales(self, m, memories: Memories) -> data.View:
        """Scales [row] of the block rows of the slice whose sums the lanes receive."""
        spec = scale_spec(self.config, self.schedule)
        rom = memories.parameters(spec, self.contents[spec.name] if self.contents else None, self)
        # The slices of a hidden block share a word; their number is a power of two.
        m.d.comb += [rom.en.eq(self.select), rom.addr.eq(self.unit >> (self.schedule.slices - 1).bit_length())]
        layout = data.ArrayLayout(self.config.quantization.scale_bits, self.config.bundle_rows)
        return data.View(layout, delay(m, rom.data, 1, spec.name))

    def _select_layer(self, m, cells: list, name: str = "layer") -> None:
        """Give the lanes, or the projection, the layer of their sums, where layers have scales of their own.

        The slices of a layer follow each other, and so do their numbers.
        """
        layers, slices = self.config.network.num_layers, 0
        layer = Signal(range(layers), name=name)
        for number, parts in enumerate(self.config.layer_parts):
            if number:
                with m.If(self.unit >= slices):
                    m.d.comb += layer.eq(number)
            rows = sum(part.row_blocks for part in parts)
            slices += self.config.directions * rows // self.config.bundle_rows * self.schedule.slices
        # As the parameters: a cycle for their memory, one for its register.
        layer = delay(m, layer, 2, name)
        m.d.comb += [cell.layer.eq(layer) for cell in cells]

    def _state(self, m, memories: Memories, cells: list, slice_valid) -> None:
        """Add the memory of the cells' states: it is read in time for the lanes and written when they are done."""
        config, width, timing = self.config, self.config.quantization.cell.width, cells[0]
        state = memories.ram(cell_state_spec(config, self.schedule))
        # The slice is one cycle ahead of the lanes' sums; a word reaches the lanes two cycles after its read.
        to_read, to_write = timing.read_latency - 1, timing.write_latency + 1
        reading = delay(m, slice_valid, to_read, "read", reset_less=False)
        at_read = delay(m, self.first_step, to_read, "first_step")
        unit = self.state_unit if config.states_per_layer > 1 else self.unit
        unit = delay(m, unit, 1 + to_read, "unit_read")
        first_step = delay(m, at_read, 1, "first_step_state")
        writing = delay(m, reading, to_write - to_read, "write", reset_less=False)
        write_unit = delay(m, unit, to_write - to_read, "unit_write")
        previous = Signal(len(state.read_data), reset_less=True)
        with m.If(first_step):
            m.d.sync += previous.eq(0)
        with m.Else():
            m.d.sync += previous.eq(state.read_data)
        m.d.comb += [
            state.read_en.eq(reading & ~at_read), state.read_addr.eq(unit),
            state.write_en.eq(writing), state.write_addr.eq(write_unit),
        ]  # fmt: skip
        for index, cell in enumerate(cells):
            bits = slice(index * width, (index + 1) * width)
            m.d.comb += [cell.c.eq(previous[bits].as_signed()), state.write_data[bits].eq(cell.c_next)]
        self._give_access(m, state)

    def _give_access(self, m, state: Ram | CheckedRam) -> None:
        """Connect the memory of the states to ``access``, if the design has state ports."""
        if not self.config.architecture.state_ports:
            return
        access = self.access
        m.d.comb += self.access_data.eq(state.read_data)
        with m.If(access.active):
            m.d.comb += [
                state.read_en.eq(access.read_cell), state.read_addr.eq(access.unit),
                state.write_en.eq(access.write_cell), state.write_addr.eq(access.unit),
                state.write_data.eq(access.write_data),
            ]  # fmt: skip

    def _gather(self, m, cells: list, h_valid) -> tuple:
        """Collect slices of h in a block: returns a flag that is high when the block is complete, and the block."""
        slices = self.schedule.slices
        now = Cat(*(cell.h for cell in cells))
        if slices == 1:
            return h_valid, now
        # The last slice completes the block without a detour through a register.
        earlier = Signal(self.config.block_size * self.config.quantization.h.width - len(now), reset_less=True)
        count = Signal(range(slices))
        with m.If(h_valid):
            m.d.sync += [earlier.eq(Cat(earlier, now)[len(now) :]), count.eq(count + 1)]
            with m.If(count == slices - 1):
                m.d.sync += count.eq(0)
        return h_valid & (count == slices - 1), Cat(earlier, now)
