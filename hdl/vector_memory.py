"""Memories of what the columns of every layer meet: double-buffered, one bank per tile column."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.hierarchy import shared
from hdl.memory import Ram, address_width
from hdl.requantize import resize
from model.config import Config
from model.memory_image import is_own, vector_banks, vector_name, vector_spec


def group_shape(config: Config) -> range:
    """Number of a column group of any layer."""
    return range(max(2, *(blocks.col_groups for blocks in config.layer_blocks)))


def context_ports(config: Config, direction) -> dict:
    """The members ``context`` and ``turn`` of what handles several."""
    contexts = config.architecture.contexts
    return {"context": direction(range(contexts)), "turn": direction(1)} if contexts > 1 else {}


def layer_port(config: Config, direction) -> dict:
    """The member ``layer`` of what handles several."""
    return {"layer": direction(range(config.network.num_layers))} if config.network.num_layers > 1 else {}


class BankWriter(wiring.Component):
    """Where the next block goes: banks in turn, then the next column group; halves change after every step.

    Where contexts have places of their own, a step is one context's, and halves change after a turn of all.

    Parameters
    ----------
    banks : int
        C.
    first_bank : int
        Bank of the first block of a step.
    blocks : int
        Blocks of a step.
    contexts : int

    Members
    -------
    advance : In(1)
    bank : Out(C)
        One-hot.
    address : Out
        Half in the lowest bit, then the context, then the column group.
    last : Out(1)
        This is the last block of its step.
    half : Out(1)
    """

    def __init__(self, banks: int, first_bank: int, blocks: int, contexts: int = 1):
        self.banks, self.first_bank, self.blocks, self.contexts = banks, first_bank, blocks, contexts
        groups = -(-(first_bank + blocks) // banks)
        self.context_bits = (contexts - 1).bit_length()
        super().__init__(
            {
                "advance": In(1),
                "bank": Out(banks, init=1 << first_bank),
                "address": Out(address_width((2 << self.context_bits) * groups)),
                "last": Out(1),
                "half": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        shared_by = f"_s{self.contexts}" if self.contexts > 1 else ""
        return f"bank_writer_c{self.banks}_f{self.first_bank}_n{self.blocks}{shared_by}"

    def elaborate(self, platform):
        m = Module()
        count = Signal(range(max(2, self.blocks)))
        m.d.comb += self.last.eq(count == self.blocks - 1)
        context = Signal(self.context_bits)
        group = Signal(max(1, len(self.address) - 1 - self.context_bits))
        m.d.comb += self.address.eq(Cat(self.half, context, group))
        with m.If(self.advance):
            with m.If(self.last):
                m.d.sync += [count.eq(0), self.bank.eq(1 << self.first_bank), group.eq(0)]
                if self.contexts > 1:
                    m.d.sync += context.eq(context + 1)
                with m.If(context == self.contexts - 1 if self.contexts > 1 else Const(1)):
                    m.d.sync += [context.eq(0), self.half.eq(~self.half)]
            with m.Else():
                m.d.sync += [count.eq(count + 1), self.bank.eq(self.bank.rotate_left(1))]
                with m.If(self.bank[-1]):
                    m.d.sync += group.eq(group + 1)
        return m


class VectorMemory(wiring.Component):
    """The columns of a layer for the tile: a block for every tile column, of the column group that is asked for.

    Early columns come before late ones (``model.config.LayerBlocks``), so h is kept where it is read: the first
    layer's as its late columns, another layer's as its early ones, and each again as late columns of the layer above.

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
    h_write, h_block, h_last : as for x, layer by layer
    h_top : Out(1), where there are several layers
        The next block of h is of the last layer.
    read : In(1)
    layer : In, where there are several
    group : In
        Column group.
    half : In(1)
        Half of this step; what is left of the step before is in the other one.
    context, turn : In, where there are several contexts
        In place of ``half`` for what is left of the context's step before.
    first_step : In(1)
        Read zeros for h of the step before.
    elements : Out(ArrayLayout(k · element_bits, C))
        One cycle after ``read``; block columns beyond the matrix give zeros.

    Latency: 1 · Throughput: one read, one write of x, one of h per cycle · Numerics: sign extension
    """

    module_name = "vector_memory"

    def __init__(self, config: Config):
        self.config = config
        q, k = config.quantization, config.block_size
        self.num_layers = config.network.num_layers
        super().__init__(
            {
                "x_write": In(1), "x_block": In(k * q.x.width), "x_last": Out(1), "x_half": Out(1),
                "h_write": In(1), "h_block": In(k * q.h.width), "h_last": Out(1),
                **({"h_top": Out(1)} if self.num_layers > 1 else {}),
                "read": In(1), **layer_port(config, In), **context_ports(config, In),
                "group": In(group_shape(config)), "half": In(1),
                "first_step": In(1),
                "elements": Out(data.ArrayLayout(k * config.element_bits, config.architecture.tile_cols)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, layers = self.config, self.num_layers
        # Whose h is being written.
        source = Signal(range(layers)) if layers > 1 else None
        writers = self._writers(m, platform, source)
        m.d.comb += [self.x_last.eq(writers[0, "early"].last), self.x_half.eq(writers[0, "early"].half)]
        own = [writers[layer, "early" if layer else "late"] for layer in range(layers)]
        if layers == 1:
            m.d.comb += self.h_last.eq(own[0].last)
        else:
            with m.Switch(source):
                for layer, writer in enumerate(own):
                    with m.Case(layer):
                        m.d.comb += self.h_last.eq(writer.last)
            m.d.comb += self.h_top.eq(source == layers - 1)
            with m.If(self.h_write & self.h_last):
                m.d.sync += source.eq(Mux(self.h_top, 0, source + 1))

        banks = {}
        for layer in range(layers):
            for part, read, group, place in self._reads(m, layer):
                writer = writers[layer, part]
                for col in vector_banks(config, layer, part):
                    spec = vector_spec(config, layer, part, col)
                    ram = Ram(spec)
                    banks[layer, part, col] = ram
                    m.submodules[spec.name] = shared(ram, platform)
                    m.d.comb += [
                        ram.write_en.eq(writer.advance & writer.bank[col]),
                        ram.write_addr.eq(writer.address),
                        ram.write_data.eq(self.x_block if (layer, part) == (0, "early") else self.h_block),
                        ram.read_en.eq(read),
                        ram.read_addr.eq(Cat(place, group)),
                    ]

        # What each column shows depends on the group that was read, known one cycle later.
        group = Signal.like(self.group, reset_less=True)
        is_first_step = Signal(reset_less=True)
        with m.If(self.read):
            m.d.sync += [group.eq(self.group), is_first_step.eq(self.first_step)]
        if layers == 1:
            self._show(m, banks, 0, group, is_first_step)
            return m
        layer_read = Signal.like(self.layer, reset_less=True)
        with m.If(self.read):
            m.d.sync += layer_read.eq(self.layer)
        with m.Switch(layer_read):
            for layer in range(layers):
                with m.Case(layer):
                    self._show(m, banks, layer, group, is_first_step)
        return m

    def _writers(self, m, platform, source) -> dict:
        """A writer for every memory, by layer and part, that advances with what belongs there."""
        cols, writers = self.config.architecture.tile_cols, {}
        for layer, blocks in enumerate(self.config.layer_blocks):
            parts = (("early", 0, blocks.early, layer), ("late", blocks.early % cols, blocks.late, max(layer - 1, 0)))
            for part, first_bank, count, writes in parts:
                contexts = self.config.architecture.contexts if is_own(layer, part) else 1
                writer = BankWriter(cols, first_bank, count, contexts)
                writers[layer, part] = writer
                m.submodules[f"{vector_name(layer, part)}_writer"] = shared(writer, platform)
                if (layer, part) == (0, "early"):
                    m.d.comb += writer.advance.eq(self.x_write)
                else:
                    mine = self.h_write if source is None else self.h_write & (source == writes)
                    m.d.comb += writer.advance.eq(mine)
        return writers

    def _reads(self, m, layer: int) -> list[tuple]:
        """For the early and the late memory of a layer: when it is read, the group, and the place within a group."""
        blocks, cols = self.config.layer_blocks[layer], self.config.architecture.tile_cols
        pure, mixed = blocks.early_groups, blocks.early % cols
        # A bank is only read for a group that it holds a part of, and h of the step before not at all in a first
        # step: the address of any other read could be the one that is just being written.
        name = f"layer{layer}_" if layer else ""
        reads_early, reads_late = Signal(name=f"{name}reads_early"), Signal(name=f"{name}reads_late")
        read = self.read & (self.layer == layer) if self.num_layers > 1 else self.read
        early, late = read & (self.group < pure + (mixed > 0)), read & (self.group >= pure)
        m.d.comb += [
            reads_early.eq(early & ~self.first_step if layer else early),
            reads_late.eq(late if layer else late & ~self.first_step),
        ]
        late_group = Signal.like(self.group, name=f"{name}late_group")
        m.d.comb += late_group.eq(self.group - pure)
        # x and the h of the layer below are this step's, a layer's own h the last step's.
        before = ~self.half if self.config.architecture.contexts == 1 else Cat(~self.turn, self.context)
        return [
            ("early", reads_early, self.group, before if layer else self.half),
            ("late", reads_late, late_group, self.half if layer else before),
        ]

    def _show(self, m, banks: dict, layer: int, group, is_first_step) -> None:
        """The elements of a layer's columns."""
        blocks, cols = self.config.layer_blocks[layer], self.config.architecture.tile_cols
        pure, mixed, q = blocks.early_groups, blocks.early % cols, self.config.quantization
        for col in range(cols):
            early = self._extend(banks.get((layer, "early", col)), q.h if layer else q.x)
            if layer:
                early = Mux(is_first_step, 0, early)
            with m.If(group < pure):
                m.d.comb += self.elements[col].eq(early)
            if col < mixed:
                with m.Elif(group == pure):
                    m.d.comb += self.elements[col].eq(early)
            last_group, last_col = divmod(blocks.early + blocks.late - 1, cols)
            limit = last_group if col <= last_col else last_group - 1
            if (layer, "late", col) in banks and limit >= pure:
                with m.Elif(group <= limit if layer else (group <= limit) & ~is_first_step):
                    m.d.comb += self.elements[col].eq(self._extend(banks[layer, "late", col], q.h))

    def _extend(self, bank, fmt):
        """Every element of the bank's word at ``element_bits``."""
        if bank is None:
            return 0
        word = bank.read_data
        bits, k = fmt.width, self.config.block_size
        return Cat(*(resize(word[i * bits : (i + 1) * bits], self.config.element_bits) for i in range(k)))
