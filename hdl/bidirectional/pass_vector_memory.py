"""The vector memory of a bidirectional network holds the layer's h of both directions and the layer's input.

If a step has several parts, it also holds what one of them computes for a later one.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import widened
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import Ram, address_width
from chessrnn.hdl.parity import CheckedRam, Memories, parity_port
from chessrnn.hdl.part_shapes import layer_part_port, select, select_bit, select_part
from chessrnn.hdl.pass_address import layer_port
from chessrnn.hdl.vector_memory import BankWriter, group_shape
from chessrnn.model.config import Config
from chessrnn.model.memory_image import layer_input_bits, pass_vector_memories


class PassVectorMemory(wiring.Component):
    """Delivers the operands of a column group: one block for every tile column.

    The layer's own h, or what an earlier part computed in its place, occupies the first columns and the input those
    after them.  So both are in the same banks in every layer, and only the number of the input's blocks differs.

    Parameters
    ----------
    config : Config
        Configuration of a bidirectional network.

    Members
    -------
    layer : In, with several layers
        Layer of the pass.
    input_write, input_block : In
        Write the next block of the layer's input.
    h_write, h_block : In
        Write the next block of h; the steps of the two directions alternate.
    h_last : Out(1)
        The next block of h is the last of its step.
    inner_write, inner_block, inner_last : if a step has several parts
        The same for blocks that one part computes for a later one.
    read : In(1)
        Read a column group.
    part : In, if a step has several parts
        Part that reads.
    group : In
        Column group that is read.
    half : In(1)
        Half of the input memory that holds the step's input.
    direction, round_parity : In(1)
        Direction of the step; ``round_parity`` toggles after every round: a step of both directions.  The h that is
        read is the direction's own, of the round before.
    first_step : In(1)
        The step is the first of its direction: that h reads as zero.
    elements : Out(ArrayLayout(k · element_bits, C))
        The blocks of the group, one cycle after ``read``; block columns beyond the matrix are zero.
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read and used has a wrong parity (``chessrnn.hdl.parity``).

    Latency: 1 · Throughput: one read, one write of input, one of h per cycle · Numerics: sign extension
    """

    module_name = "pass_vector_memory"

    def __init__(self, config: Config):
        self.config = config
        k, bits = config.block_size, config.quantization.h.width
        super().__init__(
            {
                **layer_port(config, In), "input_write": In(1), "input_block": In(k * layer_input_bits(config)),
                "h_write": In(1), "h_block": In(k * bits), "h_last": Out(1), **self._inner_ports(),
                "read": In(1), **layer_part_port(config, In), "group": In(group_shape(config)), "half": In(1),
                "direction": In(1), "round_parity": In(1), "first_step": In(1),
                "elements": Out(data.ArrayLayout(k * config.element_bits, config.architecture.tile_cols)),
                **parity_port(config),
            }
        )  # fmt: skip

    def _inner_ports(self) -> dict:
        if len(self.config.layer_parts[0]) == 1:
            return {}
        bits = self.config.block_size * self.config.quantization.h.width
        return {"inner_write": In(1), "inner_block": In(bits), "inner_last": Out(1)}

    def elaborate(self, platform):
        m = Module()
        config, cols = self.config, self.config.architecture.tile_cols
        layer = self.layer if config.network.num_layers > 1 else Const(0, 1)
        memories = Memories(m, platform, config)
        parts = config.layer_parts[0]
        several = len(parts) > 1
        own = config.num_output_blocks
        own_groups, first = divmod(own, cols)

        h_writer = BankWriter(cols, 0, own, config.directions)
        m.submodules.h_writer = shared(h_writer, platform)
        m.d.comb += [h_writer.advance.eq(self.h_write), self.h_last.eq(h_writer.last)]
        bank, address = self._input_writer(m, layer, first)

        # A bank is read only for groups that it holds blocks of, and own h never in a first step: any other read could
        # hit the address that is being written.
        reads_own, reads_input, input_group = Signal(), Signal(), Signal.like(self.group)
        wants_own, wants_input, reads_previous = self.read, self.read, None
        if several:
            reads_previous = select_bit(self.part, [part.early.is_previous for part in parts])
            wants_own = self.read & reads_previous
            wants_input = self.read & select_bit(self.part, [bool(part.late.blocks) for part in parts])
        m.d.comb += [
            reads_own.eq(wants_own & ~self.first_step & (self.group < own_groups + (first > 0))),
            reads_input.eq(wants_input & (self.group >= own_groups)),
            input_group.eq(self.group - own_groups),
        ]
        banks = {"h": {}, "input": {}, "inner": {}}
        for spec in pass_vector_memories(config):
            name, _, col = spec.name.rpartition("_c")
            banks[name][int(col)] = memories.ram(spec, always_used=False)
        memories.report(self)
        for col in range(cols):
            if col in banks["h"]:
                ram = banks["h"][col]
                m.d.comb += [
                    ram.write_en.eq(self.h_write & h_writer.bank[col]), ram.write_addr.eq(h_writer.address),
                    ram.write_data.eq(self.h_block), ram.read_en.eq(reads_own),
                    ram.read_addr.eq(Cat(~self.round_parity, self.direction, self.group)),
                ]  # fmt: skip
            if col in banks["input"]:
                ram = banks["input"][col]
                m.d.comb += [
                    ram.write_en.eq(self.input_write & bank[col]), ram.write_addr.eq(address),
                    ram.write_data.eq(self.input_block), ram.read_en.eq(reads_input),
                    ram.read_addr.eq(Cat(self.half, input_group)),
                ]  # fmt: skip
        if reads_previous is not None:
            self._inner(m, platform, banks["inner"], self.read & ~reads_previous)

        # What a column delivers depends on the group that was read, so that is kept for one cycle.
        group, is_first_step = Signal.like(self.group, reset_less=True), Signal(reset_less=True)
        with m.If(self.read):
            m.d.sync += [group.eq(self.group), is_first_step.eq(self.first_step)]
        part, shows_inner = None, None
        if reads_previous is not None:
            part, shows_inner = Signal.like(self.part, reset_less=True, name="part_read"), Signal(reset_less=True)
            with m.If(self.read):
                m.d.sync += [part.eq(self.part), shows_inner.eq(~reads_previous)]
        h_bits = config.quantization.h.width
        for col in range(cols):
            with m.If(group < select(part, [_groups(one.early.blocks, col, cols) for one in parts])):
                if col in banks["h"]:
                    memories.use(banks["h"][col])
                    word = widened(banks["h"][col].read_data, h_bits, config.element_bits)
                    m.d.comb += self.elements[col].eq(Mux(is_first_step, 0, word))
                if shows_inner is not None and col in banks["inner"]:
                    with m.If(shows_inner):
                        memories.use(banks["inner"][col])
                        word = widened(banks["inner"][col].read_data, h_bits, config.element_bits)
                        m.d.comb += self.elements[col].eq(word)
            if col in banks["input"]:
                limits = [[_groups(one.blocks, col, cols) for one in of_layer] for of_layer in config.layer_parts]
                with m.Elif(group < select_part(layer, part, limits)):
                    memories.use(banks["input"][col])
                    word = widened(banks["input"][col].read_data, layer_input_bits(config), config.element_bits)
                    m.d.comb += self.elements[col].eq(word)
        return m

    def _inner(self, m, platform, banks: dict[int, Ram | CheckedRam], reads) -> None:
        """Add the memory of blocks that one part computes for a later part of the same step.

        One place per direction suffices, as the later part reads a step's blocks before those of the next are written.
        """
        cols, blocks = self.config.architecture.tile_cols, self.config.num_hidden_blocks
        writer, enable = BankWriter(cols, 0, blocks), Signal(name="reads_inner")
        m.submodules.inner_writer = shared(writer, platform)
        m.d.comb += [
            writer.advance.eq(self.inner_write), self.inner_last.eq(writer.last),
            enable.eq(reads & (self.group < _groups(blocks, 0, cols))),
        ]  # fmt: skip
        for col, ram in banks.items():
            m.d.comb += [
                ram.write_en.eq(self.inner_write & writer.bank[col]), ram.write_addr.eq(writer.address),
                ram.write_data.eq(self.inner_block), ram.read_en.eq(enable),
                ram.read_addr.eq(Cat(self.direction, self.group)),
            ]  # fmt: skip

    def _input_writer(self, m, layer, first: int) -> tuple[Signal, Signal]:
        """Count blocks of input: returns the bank (one-hot) and the address of the next one.

        Blocks go to one bank after the other, then to the next column group; steps fill the two halves alternately.
        """
        cols, inputs = self.config.architecture.tile_cols, [parts[0].late.blocks for parts in self.config.layer_parts]
        groups = -(-(first + max(inputs)) // cols)
        count, half = Signal(range(max(2, *inputs))), Signal(name="write_half")
        bank, group = Signal(cols, init=1 << first, name="write_bank"), Signal(range(groups), name="write_group")
        address = Signal(address_width(2 * groups), name="write_address")
        m.d.comb += address.eq(Cat(half, group))
        with m.If(self.input_write):
            m.d.sync += [count.eq(count + 1), bank.eq(bank.rotate_left(1))]
            with m.If(bank[-1]):
                m.d.sync += group.eq(group + 1)
            with m.If(count == select(layer, inputs) - 1):
                m.d.sync += [count.eq(0), bank.eq(1 << first), group.eq(0), half.eq(~half)]
        return bank, address


def _groups(blocks: int, col: int, cols: int) -> int:
    """Number of column groups in which column ``col`` holds one of the first ``blocks`` blocks."""
    return -(-max(0, blocks - col) // cols)
