"""Memories of x and h: double-buffered, one bank per tile column."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.hierarchy import shared
from hdl.memory import Ram, address_width
from hdl.requantize import resize
from model.config import Config
from model.memory_image import hidden_banks, input_banks, vector_spec


class BankWriter(wiring.Component):
    """Where the next block goes: banks in turn, then the next column group; halves change after every step.

    Parameters
    ----------
    banks : int
        C.
    first_bank : int
        Bank of the first block of a step.
    blocks : int
        Blocks of a step.

    Members
    -------
    advance : In(1)
    bank : Out(C)
        One-hot.
    address : Out
        2 · column group + half.
    last : Out(1)
        This is the last block of its step.
    half : Out(1)
    """

    def __init__(self, banks: int, first_bank: int, blocks: int):
        self.banks, self.first_bank, self.blocks = banks, first_bank, blocks
        groups = -(-(first_bank + blocks) // banks)
        super().__init__(
            {
                "advance": In(1),
                "bank": Out(banks, init=1 << first_bank),
                "address": Out(address_width(2 * groups)),
                "last": Out(1),
                "half": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        return f"bank_writer_c{self.banks}_f{self.first_bank}_n{self.blocks}"

    def elaborate(self, platform):
        m = Module()
        count = Signal(range(max(2, self.blocks)))
        m.d.comb += self.last.eq(count == self.blocks - 1)
        group = Signal(max(1, len(self.address) - 1))
        m.d.comb += self.address.eq(Cat(self.half, group))
        with m.If(self.advance):
            with m.If(self.last):
                m.d.sync += [count.eq(0), self.bank.eq(1 << self.first_bank), group.eq(0), self.half.eq(~self.half)]
            with m.Else():
                m.d.sync += [count.eq(count + 1), self.bank.eq(self.bank.rotate_left(1))]
                with m.If(self.bank[-1]):
                    m.d.sync += group.eq(group + 1)
        return m


class VectorMemory(wiring.Component):
    """[x; h] for the tile: a block for every tile column, of the column group that is asked for.

    Parameters
    ----------
    config : Config

    Members
    -------
    x_write, x_block : In
        Takes the next block of x.
    x_last : Out(1)
        The next block of x is the last of its step.
    x_half : Out(1)
        Half that the next block of x goes to.
    h_write, h_block, h_last : as for x
    read : In(1)
    group : In
        Column group.
    half : In(1)
        Half of x; h is read from the other one.
    first_step : In(1)
        Read zeros for h.
    elements : Out(ArrayLayout(k · element_bits, C))
        One cycle after ``read``; block columns beyond the matrix give zeros.

    Latency: 1 · Throughput: one read, one write of x, one of h per cycle · Numerics: sign extension
    """

    module_name = "vector_memory"

    def __init__(self, config: Config):
        self.config = config
        q, k = config.quantization, config.block_size
        cols = config.architecture.tile_cols
        super().__init__(
            {
                "x_write": In(1), "x_block": In(k * q.x.width), "x_last": Out(1), "x_half": Out(1),
                "h_write": In(1), "h_block": In(k * q.h.width), "h_last": Out(1),
                "read": In(1), "group": In(range(max(2, config.num_col_groups))), "half": In(1), "first_step": In(1),
                "elements": Out(data.ArrayLayout(k * config.element_bits, cols)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        cols, first = config.architecture.tile_cols, config.num_input_blocks
        pure, mixed = divmod(first, cols)

        x_writer = BankWriter(cols, 0, first)
        h_writer = BankWriter(cols, mixed, config.num_hidden_blocks)
        m.submodules.x_writer = shared(x_writer, platform)
        m.submodules.h_writer = shared(h_writer, platform)
        m.d.comb += [
            x_writer.advance.eq(self.x_write), self.x_last.eq(x_writer.last), self.x_half.eq(x_writer.half),
            h_writer.advance.eq(self.h_write), self.h_last.eq(h_writer.last),
        ]  # fmt: skip
        # A bank is only read for a group that it holds a part of, and h not at all in a first step: the address of
        # any other read could be the one that is just being written.
        reads_x, reads_h = Signal(), Signal()
        m.d.comb += [
            reads_x.eq(self.read & (self.group < pure + (mixed > 0))),
            reads_h.eq(self.read & (self.group >= pure) & ~self.first_step),
        ]
        h_group = Signal.like(self.group)
        m.d.comb += h_group.eq(self.group - pure)

        banks = {}
        plan = (
            ("x", input_banks(config), x_writer, self.x_write, self.x_block, reads_x, self.group, self.half),
            ("h", hidden_banks(config), h_writer, self.h_write, self.h_block, reads_h, h_group, ~self.half),
        )
        for name, columns, writer, write, block, read, group, half in plan:
            for col in columns:
                ram = Ram(vector_spec(config, name, col))
                banks[name, col] = ram
                m.submodules[f"{name}_c{col}"] = shared(ram, platform)
                m.d.comb += [
                    ram.write_en.eq(write & writer.bank[col]),
                    ram.write_addr.eq(writer.address),
                    ram.write_data.eq(block),
                    ram.read_en.eq(read),
                    ram.read_addr.eq(Cat(half, group)),
                ]

        # What each column shows depends on the group that was read, known one cycle later.
        group = Signal.like(self.group, reset_less=True)
        is_first_step = Signal(reset_less=True)
        with m.If(self.read):
            m.d.sync += [group.eq(self.group), is_first_step.eq(self.first_step)]
        for col in range(cols):
            with m.If(group < pure):
                m.d.comb += self.elements[col].eq(self._extend(banks.get(("x", col)), config.quantization.x))
            if col < mixed:
                with m.Elif(group == pure):
                    m.d.comb += self.elements[col].eq(self._extend(banks.get(("x", col)), config.quantization.x))
            last_group, last_col = divmod(first + config.num_hidden_blocks - 1, cols)
            limit = last_group if col <= last_col else last_group - 1
            if ("h", col) in banks and limit >= pure:
                with m.Elif((group <= limit) & ~is_first_step):
                    m.d.comb += self.elements[col].eq(self._extend(banks["h", col], config.quantization.h))
        return m

    def _extend(self, bank, fmt):
        """Every element of the bank's word at ``element_bits``."""
        if bank is None:
            return 0
        word = bank.read_data
        bits, k = fmt.width, self.config.block_size
        return Cat(*(resize(word[i * bits : (i + 1) * bits], self.config.element_bits) for i in range(k)))
