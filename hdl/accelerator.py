"""The accelerator: streams of x in, streams of h out."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.cell_update import CellLane
from hdl.controller import Controller
from hdl.drain import Drain, slice_layout, unit_shape
from hdl.hierarchy import shared
from hdl.matvec import MatVec
from hdl.memory import Ram, Rom, delay
from hdl.output_buffer import OutputBuffer
from hdl.vector_memory import VectorMemory
from model.config import GATES, Config
from model.memory_image import bias_spec, state_memories
from model.schedule import Schedule


class Accelerator(wiring.Component):
    """One LSTM layer, a step after the other, the matrix–vector engine never idle where the recurrence allows.

    Parameters
    ----------
    config : Config
    contents : dict of str to list of int, optional
        Words of the initialised memories (``model.memory_image.memory_words``), for Amaranth's simulator.

    Members
    -------
    x : In(stream.Signature(…))
        ``data``: a block of k elements, first lowest; ⌈X/k⌉ beats make a step, padding is ignored.
        ``last``: on a step's last beat ends the sequence, and the next step starts from zero state.
    h : Out(stream.Signature(…))
        ``data``: a block of k elements, padding is zero; ⌈H/k⌉ beats make a step.
        ``last``: on the last beat of a sequence's last step.
    matvec_active : Out(1)
        The tile works in this cycle: a word is read from every weight bank.

    Latency, throughput: ``model.schedule.Schedule.timeline``, to the cycle · Numerics: ``model.config`` ·
    Reference: ``model.reference.layer.LstmReference``
    """

    module_name = "layer"

    def __init__(self, config: Config, contents: dict[str, list[int]] | None = None):
        self.config, self.contents = config, contents
        k, q = config.block_size, config.quantization
        super().__init__(
            {
                "x": In(stream.Signature(data.StructLayout({"data": k * q.x.width, "last": 1}))),
                "h": Out(stream.Signature(data.StructLayout({"data": k * q.h.width, "last": 1}))),
                "matvec_active": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        controller = Controller(config)
        m.submodules.controller = shared(controller, platform)
        vectors = VectorMemory(config)
        m.submodules.vectors = shared(vectors, platform)
        matvec = MatVec(config, self.contents)
        m.submodules.matvec = shared(matvec, platform)
        drain = Drain(config)
        m.submodules.drain = shared(drain, platform)
        cells = CellUpdate(config, self.contents)
        m.submodules.cells = shared(cells, platform)
        output = OutputBuffer(config)
        m.submodules.output = shared(output, platform)

        x_taken = Signal()
        x_block, x_mask = (
            self.x.payload.data,
            self._padding_mask(config.network.input_size, config.quantization.x.width),
        )
        m.d.comb += [
            self.x.ready.eq(controller.x_room),
            x_taken.eq(self.x.valid & self.x.ready),
            vectors.x_write.eq(x_taken),
            vectors.x_block.eq(x_block),
            controller.x_written.eq(x_taken),
            controller.x_step_last.eq(vectors.x_last),
            controller.x_half.eq(vectors.x_half),
            controller.x_sequence_last.eq(self.x.payload.last),
        ]
        with m.If(vectors.x_last):
            m.d.comb += vectors.x_block.eq(x_block & x_mask)
        m.d.comb += [
            vectors.read.eq(controller.issue),
            vectors.group.eq(controller.group),
            vectors.half.eq(controller.half),
            vectors.first_step.eq(controller.first_step),
            matvec.issue.eq(controller.issue),
            matvec.tags.eq(controller.tags),
            matvec.elements.eq(vectors.elements),
            drain.sums.eq(matvec.sums),
            drain.tags.eq(matvec.sum_tags),
            cells.select.eq(drain.select),
            cells.unit.eq(drain.unit),
            cells.slice.eq(drain.slice),
            cells.slice_valid.eq(drain.slice_valid),
            cells.first_step.eq(drain.slice_first_step),
            cells.last_step.eq(drain.slice_last_step),
            self.matvec_active.eq(controller.issue),
        ]

        h_block, h_mask = (
            Signal.like(cells.block),
            self._padding_mask(config.network.hidden_size, config.quantization.h.width),
        )
        m.d.comb += h_block.eq(cells.block)
        with m.If(vectors.h_last):
            m.d.comb += h_block.eq(cells.block & h_mask)
        m.d.comb += [
            vectors.h_write.eq(cells.block_valid),
            vectors.h_block.eq(h_block),
            controller.h_written.eq(cells.block_valid),
            output.write.eq(cells.block_valid),
            output.block.eq(h_block),
            output.last_step.eq(cells.block_last_step),
            controller.h_sent.eq(self.h.valid & self.h.ready),
        ]
        wiring.connect(m, wiring.flipped(self.h), output.h)
        return m

    def _padding_mask(self, size: int, width: int) -> int:
        """Ones over the elements of a step's last block that are not padding."""
        used = (size - 1) % self.config.block_size + 1
        return (1 << (used * width)) - 1


class CellUpdate(wiring.Component):
    """Lanes of the cell update with their bias and cell-state memories; gathers h into blocks.

    Parameters
    ----------
    config : Config
    contents : dict of str to list of int, optional

    Members
    -------
    select, unit : In
        The drain selects this slice: read its biases.
    slice, slice_valid : In
        One cycle later.
    first_step, last_step : In(1)
        With ``slice``: its sequence starts (state is zero), ends.
    block_valid, block, block_last_step : Out
        A block of k elements of h.

    Latency: ``Schedule.epilogue_latency`` less the drain and the write · Throughput: one slice per cycle ·
    Reference: ``model.reference.cell_update``
    """

    module_name = "cell_update"

    def __init__(self, config: Config, contents: dict[str, list[int]] | None = None):
        self.config, self.contents = config, contents
        self.schedule = Schedule(config)
        super().__init__(
            {
                "select": In(1),
                "unit": In(unit_shape(config)),
                "slice": In(slice_layout(config)),
                "slice_valid": In(1),
                "first_step": In(1),
                "last_step": In(1),
                "block_valid": Out(1),
                "block": Out(config.block_size * config.quantization.h.width),
                "block_last_step": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, q = self.config, self.config.quantization
        lanes = self.schedule.cell_lanes
        spec = bias_spec(config, self.schedule)
        bias = Rom(spec, self.contents and self.contents[spec.name])
        m.submodules.bias = shared(bias, platform)
        state_spec = next(s for s in state_memories(config) if s.name == "cell_state")
        state = Ram(state_spec)
        m.submodules.cell_state = shared(state, platform)
        m.d.comb += [bias.en.eq(self.select), bias.addr.eq(self.unit)]
        biases = data.View(data.ArrayLayout(data.ArrayLayout(q.bias_bits, lanes), len(GATES)), bias.data)

        cells = [CellLane(config, config.product_sum_bits) for _ in range(lanes)]
        timing = cells[0]
        # A register behind each memory: the sums wait for theirs, the state is read that much earlier.
        biases = data.View(biases.shape(), delay(m, biases.as_value(), 1, "bias"))
        sums = data.View(self.slice.shape(), delay(m, self.slice.as_value(), 1, "sums"))
        sums_valid = delay(m, self.slice_valid, 1, "sums_valid", reset_less=False)
        to_read = timing.cell_read_latency - 2
        unit = delay(m, self.unit, 2 + to_read, "unit_read")
        reading = delay(m, sums_valid, to_read, "read", reset_less=False)
        at_read = delay(m, self.first_step, 1 + to_read, "first_step")
        first_step = delay(m, at_read, 1, "first_step_state")
        writing = delay(m, reading, timing.cell_latency - to_read, "write", reset_less=False)
        write_unit = delay(m, unit, timing.cell_latency - to_read, "unit_write")
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
            m.submodules[f"lane_{index}"] = shared(cell, platform)
            bits = slice(index * q.cell.width, (index + 1) * q.cell.width)
            m.d.comb += [
                cell.sums.eq(sums[index]),
                cell.c.eq(previous[bits].as_signed()),
                *(cell.bias[gate].eq(biases[gate][index].as_signed()) for gate in range(len(GATES))),
                state.write_data[bits].eq(cell.c_next),
            ]

        h_valid = delay(m, writing, timing.latency - timing.cell_latency, "h_valid", reset_less=False)
        last_step = delay(m, self.last_step, 1 + timing.latency, "last_step")
        slices = config.block_size // lanes
        now = Cat(*(cell.h for cell in cells))
        m.d.comb += self.block_last_step.eq(last_step)
        if slices == 1:
            m.d.comb += [self.block.eq(now), self.block_valid.eq(h_valid)]
            return m
        # The last slice completes the block without a detour through a register.
        earlier = Signal(len(self.block) - len(now), reset_less=True)
        count = Signal(range(slices))
        with m.If(h_valid):
            m.d.sync += [earlier.eq(Cat(earlier, now)[len(now) :]), count.eq(count + 1)]
            with m.If(count == slices - 1):
                m.d.sync += count.eq(0)
        m.d.comb += [self.block.eq(Cat(earlier, now)), self.block_valid.eq(h_valid & (count == slices - 1))]
        return m
