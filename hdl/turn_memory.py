"""What the columns of a bidirectional network's layer meet: own h of either direction, and the layer's input."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.hierarchy import shared
from hdl.memory import Ram, address_width
from hdl.packing import widened
from hdl.parts import select
from hdl.pass_address import layer_port
from hdl.vector_memory import BankWriter, group_shape
from model.config import Config
from model.memory_image import turn_input_bits, turn_memories


class TurnMemory(wiring.Component):
    """The columns of a layer for the tile: a block for every tile column, of the column group that is asked for.

    Own h comes before the input, so both lie in the same banks whatever the layer, and only the number of the input's
    blocks changes.

    Parameters
    ----------
    config : Config
        Of a bidirectional network.

    Members
    -------
    layer : In, where there are several
        Layer of the pass.
    input_write, input_block : In
        Takes the next block of the layer's input.
    h_write, h_block : In
        Takes the next block of h, one direction's step after the other's.
    h_last : Out(1)
        The next block of h is the last of its step.
    read : In(1)
    group : In
        Column group.
    half : In(1)
        Half of the input of this step.
    direction, turn : In(1)
        Whose own h of the turn before.
    first_step : In(1)
        Read zeros for it.
    elements : Out(ArrayLayout(k · element_bits, C))
        One cycle after ``read``; block columns beyond the matrix give zeros.

    Latency: 1 · Throughput: one read, one write of input, one of h per cycle · Numerics: sign extension
    """

    module_name = "turn_memory"

    def __init__(self, config: Config):
        self.config = config
        k, bits = config.block_size, config.quantization.h.width
        super().__init__(
            {
                **layer_port(config, In), "input_write": In(1), "input_block": In(k * turn_input_bits(config)),
                "h_write": In(1), "h_block": In(k * bits), "h_last": Out(1),
                "read": In(1), "group": In(group_shape(config)), "half": In(1), "direction": In(1), "turn": In(1),
                "first_step": In(1),
                "elements": Out(data.ArrayLayout(k * config.element_bits, config.architecture.tile_cols)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, cols = self.config, self.config.architecture.tile_cols
        layer = self.layer if config.network.num_layers > 1 else Const(0, 1)
        own = config.num_output_blocks
        pure, first = divmod(own, cols)
        specs = {spec.name: spec for spec in turn_memories(config)}

        h_writer = BankWriter(cols, 0, own, config.directions)
        m.submodules.h_writer = shared(h_writer, platform)
        m.d.comb += [h_writer.advance.eq(self.h_write), self.h_last.eq(h_writer.last)]
        bank, address = self._input_writer(m, layer, first)

        # A bank is only read for a group that it holds a part of, and own h not at all in a first step: the address
        # of any other read could be the one that is just being written.
        reads_own, reads_input, input_group = Signal(), Signal(), Signal.like(self.group)
        m.d.comb += [
            reads_own.eq(self.read & ~self.first_step & (self.group < pure + (first > 0))),
            reads_input.eq(self.read & (self.group >= pure)),
            input_group.eq(self.group - pure),
        ]
        own_banks, input_banks = {}, {}
        for col in range(cols):
            for name, banks in (("h", own_banks), ("input", input_banks)):
                if f"{name}_c{col}" in specs:
                    banks[col] = Ram(specs[f"{name}_c{col}"])
                    m.submodules[f"{name}_c{col}"] = shared(banks[col], platform)
            if col in own_banks:
                ram = own_banks[col]
                m.d.comb += [
                    ram.write_en.eq(self.h_write & h_writer.bank[col]), ram.write_addr.eq(h_writer.address),
                    ram.write_data.eq(self.h_block), ram.read_en.eq(reads_own),
                    ram.read_addr.eq(Cat(~self.turn, self.direction, self.group)),
                ]  # fmt: skip
            if col in input_banks:
                ram = input_banks[col]
                m.d.comb += [
                    ram.write_en.eq(self.input_write & bank[col]), ram.write_addr.eq(address),
                    ram.write_data.eq(self.input_block), ram.read_en.eq(reads_input),
                    ram.read_addr.eq(Cat(self.half, input_group)),
                ]  # fmt: skip

        # What each column shows depends on the group that was read, known one cycle later.
        group, is_first_step = Signal.like(self.group, reset_less=True), Signal(reset_less=True)
        with m.If(self.read):
            m.d.sync += [group.eq(self.group), is_first_step.eq(self.first_step)]
        for col in range(cols):
            shows_own = group < pure + (col < first)
            with m.If(shows_own):
                if col in own_banks:
                    word = widened(own_banks[col].read_data, config.quantization.h.width, config.element_bits)
                    m.d.comb += self.elements[col].eq(Mux(is_first_step, 0, word))
            if col in input_banks:
                with m.Elif(group < select(layer, self._limits(col))):
                    word = widened(input_banks[col].read_data, turn_input_bits(config), config.element_bits)
                    m.d.comb += self.elements[col].eq(word)
        return m

    def _limits(self, col: int) -> list[int]:
        """Per layer the column groups of which this column shows a block."""
        cols = self.config.architecture.tile_cols
        return [-(-max(0, part.blocks - col) // cols) for part in self.config.parts]

    def _input_writer(self, m, layer, first: int) -> tuple[Signal, Signal]:
        """Bank (one-hot) and address of the next block of input: banks in turn, then groups; halves step by step."""
        cols, inputs = self.config.architecture.tile_cols, [part.late.blocks for part in self.config.parts]
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
