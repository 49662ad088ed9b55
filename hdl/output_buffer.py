"""The output buffer has room for all steps that can be under way, so the datapath never waits for the sink of h."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import bit_of
from chessrnn.hdl.block_stream import block_stream
from chessrnn.hdl.parity import Memories, parity_port
from chessrnn.model.config import Config
from chessrnn.model.memory_image import output_buffer_spec
from chessrnn.model.schedule import OUTPUT_BUFFER_LATENCY, output_buffer_steps


class OutputBuffer(wiring.Component):
    """A FIFO of blocks of h; the controller starts a step only if there is room for its blocks.

    Parameters
    ----------
    config : Config

    Members
    -------
    write : In(1)
        Store ``block``.
    block : In(k · h.width)
        A block of h.
    last_step : In(1)
        With a step's last block: the step is the last of its sequence.
    h : Out(stream.Signature(…))
        ``data``: a block of h; ``last``: set on the last beat of a sequence's last step.
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read has a wrong parity (``chessrnn.hdl.parity``).

    Latency: ``chessrnn.model.schedule.OUTPUT_BUFFER_LATENCY`` · Throughput: 1 block per cycle
    """

    module_name = "output_buffer"

    def __init__(self, config: Config):
        self.config = config
        self.latency = OUTPUT_BUFFER_LATENCY
        bits = config.block_size * config.quantization.h.width
        super().__init__(
            {
                "write": In(1),
                "block": In(bits),
                "last_step": In(1),
                "h": Out(block_stream(config, config.quantization.h)),
                **parity_port(config),
            }
        )

    def elaborate(self, platform):
        m = Module()
        blocks = self.config.num_output_blocks
        spec, memories = output_buffer_spec(self.config), Memories(m, platform, self.config)
        ram = memories.ram(spec)
        memories.report(self)
        level = Signal(range(spec.depth + 1))
        read = Signal()

        m.d.comb += [
            ram.write_en.eq(self.write), ram.write_data.eq(self.block), ram.read_en.eq(read),
            read.eq((level != 0) & (~self.h.valid | self.h.ready)), self.h.payload.data.eq(ram.read_data),
        ]  # fmt: skip
        m.d.sync += level.eq(level + self.write - read)
        for enable, port, name in ((self.write, ram.write_addr, "write"), (read, ram.read_addr, "read")):
            pointer = Signal.like(port, name=f"{name}_pointer")
            m.d.comb += port.eq(pointer)
            with m.If(enable):
                m.d.sync += pointer.eq(Mux(pointer == spec.depth - 1, 0, pointer + 1))
        with m.If(read):
            m.d.sync += self.h.valid.eq(1)
        with m.Elif(self.h.ready):
            m.d.sync += self.h.valid.eq(0)

        # One flag per step in the buffer; steps leave in the order in which they enter.
        steps = output_buffer_steps(self.config)
        flags = Signal(steps)
        written, sent = (Signal(range(max(2, blocks)), name=name) for name in ("written", "sent"))
        write_step, send_step = (Signal(range(steps), name=name) for name in ("write_step", "send_step"))
        with m.If(self.write):
            m.d.sync += written.eq(written + 1)
            with m.If(written == blocks - 1):
                m.d.sync += [
                    written.eq(0),
                    write_step.eq(write_step + 1),
                    flags.bit_select(write_step, 1).eq(self.last_step),
                ]
        with m.If(self.h.valid & self.h.ready):
            m.d.sync += sent.eq(sent + 1)
            with m.If(sent == blocks - 1):
                m.d.sync += [sent.eq(0), send_step.eq(send_step + 1)]
        m.d.comb += self.h.payload.last.eq((sent == blocks - 1) & bit_of(flags, send_step))
        return m
