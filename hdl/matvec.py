"""The matrix–vector engine: a tile of R × C processing elements with its weight banks and accumulators.

All banks are read at the same address, so a memory may hold those of several processing elements side by side.
"""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.kept_register import keep
from chessrnn.hdl.loader import write_port
from chessrnn.hdl.memory import address_width, delay
from chessrnn.hdl.operand import OperandStage, WeightStage
from chessrnn.hdl.parity import Memories, parity_port
from chessrnn.hdl.part_shapes import late_port, shape_bits
from chessrnn.hdl.pass_address import PassAddress, layer_port
from chessrnn.hdl.pe import ProcessingElement
from chessrnn.hdl.row import held_sums, row
from chessrnn.hdl.word_slots import SlotAddress, SlotPassAddress, SlotSelect, has_slots
from chessrnn.model.config import Config
from chessrnn.model.memory_image import weight_memories
from chessrnn.model.schedule import Schedule, operand_registers
from chessrnn.model.widths.hardware import hardware_widths


def issue_tags(config: Config) -> data.StructLayout:
    """Tags that accompany the operands of an issue, and later its sums."""
    return data.StructLayout(
        {
            "valid": 1,  # there is an issue
            "first": 1,  # the sums start from zero
            "resume": 1,  # the sums start from parked ones
            "park": 1,  # the sums are parked afterwards
            "complete": 1,  # the sums go to the drain
            "final": 1,  # last row group of its part
            "first_step": 1,  # first step of its sequence: the state is zero
            "last_step": 1,  # last step of its sequence
            **shape_bits(config),
            **late_port(config),  # the operands are of the late columns of their part
        }
    )


def sums_layout(config: Config) -> data.ArrayLayout:
    """Layout of the packed sums of a row group, or of a bundle, if the rows hold their sums until it is complete."""
    return data.ArrayLayout(sum(hardware_widths(config).sum), max(1, held_sums(config)) * config.architecture.tile_rows)


class MatVec(wiring.Component):
    """Multiplies R × C blocks per cycle: the chessboard division of W · [x; h].

    Parameters
    ----------
    config : Config
    contents : dict of str to list of int, optional
        Words of the memories of weights, for Amaranth's simulator.

    Members
    -------
    start, first, layer : In, in a bidirectional network
        Begin of a pass, as in :class:`chessrnn.hdl.pass_address.PassAddress`.
    issue : In(1)
        Read the next word of every weight bank, one cycle before ``elements``.
    tags : In(issue_tags)
        Tags of the issue, together with ``elements``.
    elements : In(ArrayLayout(k · element_bits, C))
        A block of the vector for every tile column, one cycle after ``issue``.
    sums : Out(sums_layout)
        Packed sums of every tile row, or those of a bundle, a cycle later, if the rows hold them.
    sum_tags : Out(issue_tags)
        Tags of ``sums``.
    load : In, with ``architecture.weight_memory = ram``
        Word that is written into a bank (``chessrnn.hdl.loader``).
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read has a wrong parity (``chessrnn.hdl.parity``).

    Latency: ``Schedule.matvec_latency`` - 1, less the register of the issue, from ``issue`` to ``sums`` ·
    Throughput: one issue per cycle ·
    Numerics: exact · Reference: ``chessrnn.model.reference.matvec``
    """

    module_name = "matvec"

    def __init__(self, config: Config, contents: dict[str, list[int]] | None = None):
        self.config, self.contents = config, contents
        schedule = Schedule(config)
        self.schedule = schedule
        arch = config.architecture
        self.latency = schedule.matvec_latency - arch.pipeline.issue_register - 1
        both = config.network.bidirectional
        super().__init__(
            {
                **({"start": In(1), "first": In(1), **layer_port(config, In)} if both else {}),
                "issue": In(1),
                "tags": In(issue_tags(config)),
                "elements": In(data.ArrayLayout(config.block_size * config.element_bits, arch.tile_cols)),
                "sums": Out(sums_layout(config)),
                "sum_tags": Out(issue_tags(config)),
                **write_port(config),
                **parity_port(config),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, arch = self.config, self.config.architecture
        memory_register, memories = int(arch.pipeline.memory_register), Memories(m, platform, config)

        if config.network.bidirectional:
            counts = [config.directions * sum(part.words for part in parts) for parts in config.layer_parts]
            packed = has_slots(config)
            address = SlotPassAddress(config) if packed else PassAddress(config, "weight_address", counts)
            m.d.comb += [address.start.eq(self.start), address.first.eq(self.first)]
            if config.network.num_layers > 1:
                m.d.comb += address.layer.eq(self.layer)
        else:
            address = SlotAddress(config) if has_slots(config) else WeightAddress(config.bank_words)
        m.submodules.weight_address = shared(address, platform)
        m.d.comb += address.advance.eq(self.issue)
        slot = None
        if isinstance(address, (SlotAddress, SlotPassAddress)):
            read = Signal.like(address.slot, name="read_slot", reset_less=True)
            with m.If(self.issue):
                m.d.sync += read.eq(address.slot)
            slot = delay(m, read, memory_register, "slot")

        operands = []
        for col in range(arch.tile_cols):
            stage = OperandStage(config)
            m.submodules[f"operand_c{col}"] = shared(stage, platform)
            m.d.comb += stage.elements.eq(delay(m, self.elements[col], memory_register, f"elements_c{col}"))
            operands.append(stage.operand)

        rows = [row(config, self.schedule.lookahead) for _ in range(arch.tile_rows)]
        # The rows register the tags as well, once for every value.
        registered = rows[0].tag_register
        early = delay(m, self.tags.as_value(), self.latency - 1 - registered, "tags", reset_less=False)
        m.d.comb += self.sum_tags.as_value().eq(delay(m, early, registered, "sum_tags", reset_less=False))
        early = data.View(issue_tags(config), early)
        carry_save = arch.arithmetic == "carry_save"
        first_places = {held.places[0]: held for held in weight_memories(config)}
        words: dict[tuple[int, int], Value] = {}
        # On an FPGA wires are slow, so that every row has a copy of the tags beside it, if there is a cycle for that.
        copied: dict[str, Value] = {}
        copies = min(operand_registers(config), self.latency - 1 - registered)
        if copies:
            cycles = self.latency - 1 - registered - copies
            latest = delay(m, self.tags.as_value(), cycles, "copied_tags", reset_less=False)
            copied = {"tags": latest}
        if held_sums(config):
            # A reset clears the sums.
            ends = Signal(init=1)
            before = delay(m, self.tags.as_value(), cycles - 1, "ending_tags", reset_less=False)
            before = data.View(issue_tags(config), before)
            m.d.sync += ends.eq(before.valid & before.complete)
            copied["ends"] = ends
        for row_index, sums in enumerate(rows):
            blocks = []
            row_tags = early
            if copies:
                copy = keep(m, copied, platform, f"tags_{row_index}")
                row_tags = data.View(issue_tags(config), copy["tags"])
            for col in range(arch.tile_cols):
                place = row_index, col
                # A memory is added with the first of its processing elements, and read for all of them.
                if place in first_places:
                    held = first_places[place]
                    bank = memories.parameters(
                        held.spec, self.contents[held.spec.name] if self.contents else None, self
                    )
                    m.d.comb += [bank.en.eq(self.issue), bank.addr.eq(address.address)]
                    word = delay(m, bank.data, memory_register, f"word_r{row_index}_c{col}")
                    words |= zip(held.places, _parts(word, len(held.places)), strict=True)
                word = words[place]
                if slot is not None:
                    selected = SlotSelect(config)
                    m.submodules[f"slot_r{row_index}_c{col}"] = shared(selected, platform)
                    m.d.comb += [selected.stored.eq(word), selected.slot.eq(slot)]
                    word = selected.word
                element = WeightStage(config) if carry_save else ProcessingElement(config)
                m.submodules[f"pe_r{row_index}_c{col}"] = shared(element, platform)
                m.d.comb += element.word.eq(word)
                if carry_save:
                    blocks.append(element.weight)
                else:
                    m.d.comb += element.operand.eq(operands[col])
                    blocks.append(element.partial)
            m.submodules[f"row_{row_index}"] = shared(sums, platform)
            m.d.comb += [
                sums.blocks.eq(Cat(*blocks)),
                sums.valid.eq(row_tags.valid),
                sums.ends.eq(copy["ends"]) if sums.held else sums.first.eq(row_tags.first),
                sums.resume.eq(row_tags.resume),
                sums.park.eq(row_tags.park),
            ]
            parts = _parts(sums.sums, max(1, sums.held))
            m.d.comb += [self.sums[n * len(rows) + row_index].eq(part) for n, part in enumerate(parts)]
            for name in (*shape_bits(config), *late_port(config)):
                m.d.comb += getattr(sums, name).eq(getattr(row_tags, name))
            if carry_save:
                m.d.comb += sums.operands.eq(Cat(*operands))
        memories.report(self)
        return m


def _parts(word: Value, count: int) -> list[Value]:
    """A word cut into parts of equal width, the lowest bits first."""
    if count == 1:
        return [word]
    width = len(word) // count
    return [word[start : start + width] for start in range(0, len(word), width)]


class WeightAddress(wiring.Component):
    """Address of all weight banks: it counts through every word once per step.

    Parameters
    ----------
    words : int
        Words of a bank.

    Members
    -------
    advance : In(1)
        Go on to the next word.
    address : Out
        Address of the current word.
    """

    module_name = "weight_address"

    def __init__(self, words: int):
        self.words = words
        super().__init__({"advance": In(1), "address": Out(address_width(words))})

    def elaborate(self, platform):
        m = Module()
        # ``advance`` comes late in the cycle, so the next address is computed before.
        following = Signal(len(self.address), init=min(1, self.words - 1))
        with m.If(self.advance):
            m.d.sync += [self.address.eq(following), following.eq(following + 1)]
            with m.If(following == self.words - 1):
                m.d.sync += following.eq(0)
        return m
