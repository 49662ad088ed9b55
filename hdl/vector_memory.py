"""Memories of what the columns of every part meet: double-buffered, one bank per tile column."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import widened
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import Ram, address_width
from chessrnn.hdl.part_shapes import group_shape, part_port, select
from chessrnn.hdl.state_access import state_access
from chessrnn.model.config import Config
from chessrnn.model.memory_image import VectorStore, vector_stores


def context_ports(config: Config, direction) -> dict:
    """The members ``context`` and ``turn`` of what handles several."""
    contexts = config.architecture.contexts
    return {"context": direction(range(contexts)), "turn": direction(1)} if contexts > 1 else {}


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
    """The columns of a part for the tile: a block for every tile column, of the column group that is asked for.

    Early columns come before late ones (``chessrnn.model.parts``), and every vector is kept where it is read
    (``chessrnn.model.memory_image.vector_stores``): the h of a layer as columns of its own next step, and again as
    those of the layer above.

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
    h_write, h_block : In
        Takes the next block that a part made, part by part.
    h_last : Out(1)
        The next of these is the last of its part.
    h_part : Out, where there are several
        The part that makes it.
    read : In(1)
    part : In, where there are several
    group : In
        Column group.
    half : In(1)
        Half of this step; what is left of the step before is in the other one.
    context, turn : In, where there are several contexts
        In place of ``half`` for what is left of the context's step before.
    first_step : In(1)
        Read zeros for what the step before made.
    elements : Out(ArrayLayout(k · element_bits, C))
        One cycle after ``read``; block columns beyond the matrix give zeros.
    access, access_data : where there are state ports
        Reads and writes what the step before made, in place of all else (``chessrnn.hdl.state_access``).

    Latency: 1 · Throughput: one read, one write of x, one of h per cycle · Numerics: sign extension
    """

    module_name = "vector_memory"

    def __init__(self, config: Config):
        self.config = config
        q, k = config.quantization, config.block_size
        self.stores = vector_stores(config)
        super().__init__(
            {
                "x_write": In(1), "x_block": In(k * q.x.width), "x_last": Out(1), "x_half": Out(1),
                "h_write": In(1), "h_block": In(k * q.h.width), "h_last": Out(1), **part_port(config, Out, "h_part"),
                "read": In(1), **part_port(config, In), **context_ports(config, In),
                "group": In(group_shape(config)), "half": In(1),
                "first_step": In(1),
                "elements": Out(data.ArrayLayout(k * config.element_bits, config.architecture.tile_cols)),
                **({"access": In(state_access(config)), "access_data": Out(k * q.h.width)}
                   if config.architecture.state_ports else {}),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        numbers = range(len(self.config.parts))
        writers = [self._writer(m, platform, store) for store in self.stores]
        self._sources(m, writers)
        banks = {}
        for store, writer in zip(self.stores, writers, strict=True):
            read, address = self._read(m, store)
            for column, spec in zip(store.columns, store.banks, strict=True):
                ram = Ram(spec)
                banks |= {(part, store.is_late, column): (store, ram) for part in store.parts}
                m.submodules[spec.name] = shared(ram, platform)
                m.d.comb += [
                    ram.write_en.eq(writer.advance & writer.bank[column]),
                    ram.write_addr.eq(writer.address),
                    ram.write_data.eq(self.x_block if store.vector.source is None else self.h_block),
                    ram.read_en.eq(read),
                    ram.read_addr.eq(address),
                ]
        if self.config.architecture.state_ports:
            self._access(m, banks)

        # What each column shows depends on the group that was read, known one cycle later.
        group = Signal.like(self.group, reset_less=True)
        is_first_step = Signal(reset_less=True)
        with m.If(self.read):
            m.d.sync += [group.eq(self.group), is_first_step.eq(self.first_step)]
        if len(numbers) == 1:
            self._show(m, banks, 0, group, is_first_step)
            return m
        part = Signal.like(self.part, reset_less=True, name="part_read")
        with m.If(self.read):
            m.d.sync += part.eq(self.part)
        with m.Switch(part):
            for number in numbers:
                with m.Case(number):
                    self._show(m, banks, number, group, is_first_step)
        return m

    def _writer(self, m, platform, store: VectorStore) -> BankWriter:
        """The place of the next block in a memory; it advances with what belongs there."""
        vector, config = store.vector, self.config
        contexts = config.architecture.contexts if vector.is_previous else 1
        writer = BankWriter(config.architecture.tile_cols, store.first_bank, vector.blocks, contexts)
        m.submodules[f"{store.name}_writer"] = shared(writer, platform)
        if vector.source is None:
            m.d.comb += writer.advance.eq(self.x_write)
        elif len(config.parts) > 1:
            m.d.comb += writer.advance.eq(self.h_write & (self.h_part == vector.source))
        else:
            m.d.comb += writer.advance.eq(self.h_write)
        return writer

    def _sources(self, m, writers: list[BankWriter]) -> None:
        """What the next blocks of x and of h are, by the writers that wait for them."""
        # Any memory of a vector knows which of its blocks comes next.
        by_source = {store.vector.source: writer for store, writer in zip(self.stores, writers, strict=True)}
        x = by_source.pop(None)
        m.d.comb += [self.x_last.eq(x.last), self.x_half.eq(x.half)]
        if len(self.config.parts) == 1:
            m.d.comb += self.h_last.eq(by_source[0].last)
            return
        with m.Switch(self.h_part):
            for source, writer in by_source.items():
                with m.Case(source):
                    m.d.comb += self.h_last.eq(writer.last)
        # Parts that make nothing are passed over; the last one always makes something.
        made = [bool(part.output_blocks) for part in self.config.parts]
        ahead = [made.index(True, number + 1) - number for number in range(len(made) - 1)]
        with m.If(self.h_write & self.h_last):
            following = self.h_part + select(self.h_part, [*ahead, 1])
            m.d.sync += self.h_part.eq(Mux(self.h_part == len(made) - 1, 0, following))

    def _read(self, m, store: VectorStore) -> tuple[Value, Value]:
        """When the banks of a memory are read, and where."""
        part = self.config.parts[store.parts[0]]
        pure, mixed = part.early_groups, part.early.blocks % self.config.architecture.tile_cols
        # A bank is only read for a group that it holds a part of, and what the step before made not at all in a first
        # step: the address of any other read could be the one that is just being written.
        reads, group = self.read, self.group
        if len(self.config.parts) > 1:
            reads &= reduce(or_, (self.part == number for number in store.parts))
        if store.is_late:
            reads &= self.group >= pure
            group = Signal.like(self.group, name=f"{store.name}_group")
            m.d.comb += group.eq(self.group - pure)
        else:
            reads &= self.group < pure + (mixed > 0)
        place = self.half
        if store.vector.is_previous:
            reads &= ~self.first_step
            place = ~self.half if self.config.architecture.contexts == 1 else Cat(~self.turn, self.context)
        enable = Signal(name=f"reads_{store.name}")
        m.d.comb += enable.eq(reads)
        return enable, Cat(place, group)

    def _access(self, m, banks: dict) -> None:
        """What the step before made, read and written from outside."""
        access, contexts = self.access, self.config.architecture.contexts
        # A context whose state goes out has just made it in this turn; the state that comes in is read in this turn.
        read_place = ~self.half if contexts == 1 else Cat(self.turn, self.context)
        write_place = ~self.half if contexts == 1 else Cat(~self.turn, self.context)
        column, layer = Signal.like(access.column), Signal.like(access.layer)
        with m.If(access.read_h):
            m.d.sync += [column.eq(access.column), layer.eq(access.layer)]
        for (number, _, index), (store, ram) in banks.items():
            # Parts that share a memory are of one layer.
            if not store.vector.is_previous or number != store.parts[0]:
                continue
            own = self.config.parts[number].layer
            chosen = access.column[index] & (access.layer == own)
            with m.If(access.active):
                m.d.comb += [
                    ram.write_en.eq(access.write_h & chosen), ram.read_en.eq(access.read_h & chosen),
                    ram.write_addr.eq(Cat(write_place, access.group)), ram.read_addr.eq(Cat(read_place, access.group)),
                    ram.write_data.eq(self.h_block),
                ]  # fmt: skip
            with m.If(column[index] & (layer == own)):
                m.d.comb += self.access_data.eq(ram.read_data)

    def _show(self, m, banks: dict, number: int, group, is_first_step) -> None:
        """The elements of a part's columns."""
        part, cols = self.config.parts[number], self.config.architecture.tile_cols
        pure, mixed = part.early_groups, part.early.blocks % cols
        last_group, last_column = divmod(part.blocks - 1, cols)
        for column in range(cols):
            # Early columns end with a group that may hold late ones as well; late ones end with the matrix.
            early_end = pure + (column < mixed)
            shown = Const(0)
            for is_late, end in ((True, last_group + (column <= last_column)), (False, early_end)):
                store, ram = banks.get((number, is_late, column), (None, None))
                if store is None or (is_late and end <= early_end):
                    continue
                value, shows = widened(ram.read_data, store.format.width, self.config.element_bits), group < end
                if store.vector.is_previous:
                    # What no late column shows is zero already.
                    value, shows = (value, shows & ~is_first_step) if is_late else (Mux(is_first_step, 0, value), shows)
                shown = Mux(shows, value, shown)
            m.d.comb += self.elements[column].eq(shown)
