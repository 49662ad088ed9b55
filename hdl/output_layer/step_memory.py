"""The step memory holds h of two steps: one is read once per group of logits, while the next one arrives."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import bit_of
from chessrnn.hdl.block_stream import block_stream
from chessrnn.hdl.memory import Ram
from chessrnn.hdl.parity import CheckedRam, Memories, parity_port
from chessrnn.model.config import Config
from chessrnn.model.memory_image import output_vector_spec

# Tags of a block that is read: it is valid; it is the first or last block of its step, in the first or last group; its
# step is the last of a sequence.
READ_TAGS = data.StructLayout(
    {name: 1 for name in ("valid", "first_block", "last_block", "first_group", "last_group", "ends_sequence")}
)


class StepMemory(wiring.Component):
    """Stores the beats of a step, then delivers all its blocks for every group, one block per cycle.

    Parameters
    ----------
    config : Config

    Members
    -------
    h : In(stream.Signature(…))
        Blocks of h, as in the accelerator's stream; not ready while both steps are stored.
    may_begin : In(1)
        Whether the reading of a step may begin.
    begins : Out(1)
        The reading of a step begins.
    tags : Out(READ_TAGS)
        Tags of the block that is read in this cycle.
    block : Out(k · h.width)
        The block, one cycle after its tags.
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read has a wrong parity (``chessrnn.hdl.parity``).

    Latency: 1 from a step's last beat to its first ``tags`` · Throughput: a step in ``OutputPlan.cycles``
    """

    module_name = "step_memory"

    def __init__(self, config: Config):
        self.config, self.plan = config, config.required_output_plan
        super().__init__(
            {
                "h": In(block_stream(config, config.quantization.h)), "may_begin": In(1), "begins": Out(1),
                "tags": Out(READ_TAGS), "block": Out(config.block_size * config.quantization.h.width),
                **parity_port(config),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        memories = Memories(m, platform, self.config)
        ram = memories.ram(output_vector_spec(self.config))
        memories.report(self)
        m.d.comb += self.block.eq(ram.read_data)
        # One bit per half: it holds a whole step; that step is the last of a sequence.
        full, ends = Signal(2), Signal(2)
        written, read = self._write(m, ram, full, ends), self._read(m, ram, full, ends)
        m.d.sync += full.eq((full | written) & ~read)
        return m

    def _write(self, m, ram: Ram | CheckedRam, full: Signal, ends: Signal):
        """Write beats to a free half; returns one bit per half, set when the half becomes full."""
        blocks = self.plan.blocks
        half, block, taken, whole = Signal(), Signal(range(blocks)), Signal(), Signal()
        m.d.comb += [
            self.h.ready.eq(~bit_of(full, half)), taken.eq(self.h.valid & self.h.ready),
            whole.eq(taken & (block == blocks - 1)), ram.write_en.eq(taken),
            ram.write_data.eq(self.h.payload.data), ram.write_addr.eq(block + Mux(half, blocks, 0)),
        ]  # fmt: skip
        with m.If(taken):
            m.d.sync += block.eq(block + 1)
        with m.If(whole):
            m.d.sync += [block.eq(0), half.eq(~half), ends.bit_select(half, 1).eq(self.h.payload.last)]
        return whole << half

    def _read(self, m, ram: Ram | CheckedRam, full: Signal, ends: Signal):
        """Read the blocks of a full half; returns one bit per half, set when the half becomes free."""
        blocks, groups, tags = self.plan.blocks, self.plan.groups, self.tags
        half, busy, block, group, done = Signal(), Signal(), Signal(range(blocks)), Signal(range(groups)), Signal()
        m.d.comb += [
            self.begins.eq(~busy & bit_of(full, half) & self.may_begin), tags.valid.eq(busy | self.begins),
            tags.first_block.eq(block == 0), tags.last_block.eq(block == blocks - 1),
            tags.first_group.eq(group == 0), tags.last_group.eq(group == groups - 1),
            tags.ends_sequence.eq(bit_of(ends, half)), done.eq(tags.valid & tags.last_block & tags.last_group),
            ram.read_en.eq(tags.valid), ram.read_addr.eq(block + Mux(half, blocks, 0)),
        ]  # fmt: skip
        with m.If(tags.valid):
            m.d.sync += [busy.eq(~done), block.eq(Mux(tags.last_block, 0, block + 1))]
            with m.If(tags.last_block):
                m.d.sync += group.eq(Mux(tags.last_group, 0, group + 1))
        with m.If(done):
            m.d.sync += half.eq(~half)
        return done << half
