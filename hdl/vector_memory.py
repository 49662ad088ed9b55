"""The vector memory holds the blocks of x and h that the tile reads, double-buffered, with one bank per tile column."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import widened
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import address_width
from chessrnn.hdl.parity import Memories, parity_port
from chessrnn.hdl.part_shapes import group_shape, part_port, select
from chessrnn.hdl.state_access import state_access
from chessrnn.model.config import Config
from chessrnn.model.memory_image import VectorStore, parity_bits, vector_stores


def context_ports(config: Config, direction) -> dict:
    """Members ``context`` and ``round_parity`` of a block that handles several contexts; none if there is one context.

    ``round_parity`` toggles after every round: a step of every context.
    """
    contexts = config.architecture.contexts
    return {"context": direction(range(contexts)), "round_parity": direction(1)} if contexts > 1 else {}


class BankWriter(wiring.Component):
    """Counts the place of the next block: one bank after the other, then the next column group; steps alternate halves.

    If contexts have places of their own, consecutive steps belong to consecutive contexts, and the half changes after
    all contexts have had a step.

    Parameters
    ----------
    banks : int
        Number of banks, C.
    first_bank : int
        Bank of the first block of a step.
    blocks : int
        Blocks of a step.
    contexts : int
        Number of contexts that have places of their own.

    Members
    -------
    advance : In(1)
        A block is written: go on to the next place.
    bank : Out(C)
        Bank of the next block, one-hot.
    address : Out
        Address of the next block: half in the lowest bit, then the context, then the column group.
    last : Out(1)
        The next block is the last of its step.
    half : Out(1)
        Half that the next block is written to.
    """

    def __init__(self, banks: int, first_bank: int, blocks: int, contexts: int = 1):
        self.banks, self.first_bank, self.blocks, self.contexts = banks, first_bank, blocks, contexts
        groups = -(-(first_bank + blocks) // banks)
        self.context_bits = (contexts - 1).bit_length()
        super().__init__(
            {
                "advance": In(1),
                "bank": Out(banks, init=1 << first_bank),  # pyright: ignore[reportCallIssue]  the stubs say reset
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
    """Delivers the operands of a column group of a part: one block for every tile column.

    Early columns come before late ones (``chessrnn.model.parts``).  Every vector is stored in the banks of the columns
    that read it (``chessrnn.model.memory_image.vector_stores``): the h of a layer once for its own next step, and again
    for the layer above.

    Parameters
    ----------
    config : Config

    Members
    -------
    x_write, x_block : In
        Write the next block of x.
    x_last : Out(1)
        The next block of x is the last of its step.
    x_half : Out(1)
        Half that the next block of x is written to.
    h_write, h_block : In
        Write the next block that a part computed; blocks come part by part.
    h_last : Out(1)
        The next of these blocks is the last of its part.
    h_part : Out, with several parts
        The part that computes the next of these blocks.
    read : In(1)
        Read a column group.
    part : In, with several parts
        Part that reads.
    group : In
        Column group that is read.
    half : In(1)
        Half that holds the vectors of this step; those of the step before are in the other one.
    context, round_parity : In, with several contexts
        Place of the vectors of the context's step before, where they replace ``half``.
    first_step : In(1)
        The step is the first of its sequence: vectors of the step before read as zero.
    elements : Out(ArrayLayout(k · element_bits, C))
        The blocks of the group, one cycle after ``read``; block columns beyond the matrix are zero.
    access, access_data : with state ports
        Reads and writes h of the step before while no step is under way (``chessrnn.hdl.state_access``).
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read and used has a wrong parity (``chessrnn.hdl.parity``).

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
                **parity_port(config),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        numbers, memories = range(len(self.config.parts)), Memories(m, platform, self.config)
        writers = [self._writer(m, platform, store) for store in self.stores]
        self._sources(m, writers)
        banks = {}
        for store, writer in zip(self.stores, writers, strict=True):
            read, address = self._read(m, store)
            for column, spec in zip(store.columns, store.banks, strict=True):
                ram = memories.ram(spec, always_used=False)
                banks |= {(part, store.is_late, column): (store, ram) for part in store.parts}
                m.d.comb += [
                    ram.write_en.eq(writer.advance & writer.bank[column]),
                    ram.write_addr.eq(writer.address),
                    ram.write_data.eq(self.x_block if store.vector.source is None else self.h_block),
                    ram.read_en.eq(read),
                    ram.read_addr.eq(address),
                ]
        if self.config.architecture.state_ports:
            self._access(m, banks)
        memories.report(self)

        # What a column delivers depends on the group that was read, so that is kept for one cycle.
        group = Signal.like(self.group, reset_less=True)
        is_first_step = Signal(reset_less=True)
        with m.If(self.read):
            m.d.sync += [group.eq(self.group), is_first_step.eq(self.first_step)]
        if len(numbers) == 1:
            self._show(m, memories, banks, 0, group, is_first_step)
            self._use_accessed(m, memories, banks)
            return m
        part = Signal.like(self.part, reset_less=True, name="part_read")
        with m.If(self.read):
            m.d.sync += part.eq(self.part)
        with m.Switch(part):
            for number in numbers:
                with m.Case(number):
                    self._show(m, memories, banks, number, group, is_first_step)
        self._use_accessed(m, memories, banks)
        return m

    def _writer(self, m, platform, store: VectorStore) -> BankWriter:
        """Add the writer of a vector's memory; it advances with every block of that vector."""
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
        """Drive the outputs that describe the next blocks of x and of h, from the writers of their memories."""
        # All writers of a vector count the same blocks, so any of them will do.
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
        # Parts without output blocks are skipped; the last part always has some.
        made = [bool(part.output_blocks) for part in self.config.parts]
        ahead = [made.index(True, number + 1) - number for number in range(len(made) - 1)]
        with m.If(self.h_write & self.h_last):
            following = self.h_part + select(self.h_part, [*ahead, 1])
            m.d.sync += self.h_part.eq(Mux(self.h_part == len(made) - 1, 0, following))

    def _read(self, m, store: VectorStore) -> tuple[Value, Value]:
        """The read enable and the read address of a vector's banks."""
        part = self.config.parts[store.parts[0]]
        early_groups, extra_blocks = part.early_groups, part.early.blocks % self.config.architecture.tile_cols
        # A bank is read only for groups that it holds blocks of, and vectors of the step before never in a first step:
        # any other read could hit the address that is being written.
        reads, group = self.read, self.group
        if len(self.config.parts) > 1:
            reads &= reduce(or_, (self.part == number for number in store.parts))
        if store.is_late:
            reads &= self.group >= early_groups
            group = Signal.like(self.group, name=f"{store.name}_group")
            m.d.comb += group.eq(self.group - early_groups)
        else:
            reads &= self.group < early_groups + (extra_blocks > 0)
        place = self.half
        if store.vector.is_previous:
            reads &= ~self.first_step
            place = ~self.half if self.config.architecture.contexts == 1 else Cat(~self.round_parity, self.context)
        enable = Signal(name=f"reads_{store.name}")
        m.d.comb += enable.eq(reads)
        return enable, Cat(place, group)

    def _access(self, m, banks: dict) -> None:
        """Let ``access`` read and write h of the step before."""
        access, contexts = self.access, self.config.architecture.contexts
        # A state that is sent was written in this round of the contexts; one that is received is read in this round.
        read_place = ~self.half if contexts == 1 else Cat(self.round_parity, self.context)
        write_place = ~self.half if contexts == 1 else Cat(~self.round_parity, self.context)
        column, layer = Signal.like(access.column), Signal.like(access.layer)
        with m.If(access.read_h):
            m.d.sync += [column.eq(access.column), layer.eq(access.layer)]
        for (number, _, index), (store, ram) in banks.items():
            # Parts that share a memory belong to the same layer, so only the first of them is connected.
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

    def _use_accessed(self, m, memories: Memories, banks: dict) -> None:
        """Words that are sent as part of a state are used, whichever group was read last."""
        if not (self.config.architecture.state_ports and parity_bits(self.config)):
            return
        accessed = Signal()
        m.d.sync += accessed.eq(self.access.read_h)
        with m.If(accessed):
            for _, ram in banks.values():
                memories.use(ram)

    def _show(self, m, memories: Memories, banks: dict, number: int, group, is_first_step) -> None:
        """Select what every column delivers for part ``number``."""
        part, cols = self.config.parts[number], self.config.architecture.tile_cols
        early_groups, extra_blocks = part.early_groups, part.early.blocks % cols
        last_group, last_column = divmod(part.blocks - 1, cols)
        for column in range(cols):
            # The last group of early columns may hold late ones as well; late columns end with the matrix.
            early_end = early_groups + (column < extra_blocks)
            shown = Const(0)
            for is_late, end in ((True, last_group + (column <= last_column)), (False, early_end)):
                store, ram = banks.get((number, is_late, column), (None, None))
                if store is None or (is_late and end <= early_end):
                    continue
                value, shows = widened(ram.read_data, store.format.width, self.config.element_bits), group < end
                memories.use(ram, shows if not is_late else shows & (group >= early_end))
                if store.vector.is_previous:
                    # Without a late column that applies, the default is zero already.
                    value, shows = (value, shows & ~is_first_step) if is_late else (Mux(is_first_step, 0, value), shows)
                shown = Mux(shows, value, shown)
            m.d.comb += self.elements[column].eq(shown)
