"""Weight banks whose stored words hold several words of layers with narrower weights than others.

See ``chessrnn.model.shared_words`` for where a word is stored.
"""

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.memory import address_width
from chessrnn.hdl.part_shapes import select
from chessrnn.model.config import Config
from chessrnn.model.shared_words import Slot, word_slots


def has_slots(config: Config) -> bool:
    """Whether stored words hold several words of some layer."""
    return max(config.layer_slots) > 1


class SlotAddress(wiring.Component):
    """Address of all weight banks and the slot of the current word: it counts through every word once per step.

    Parameters
    ----------
    config : Config
        Configuration of a network of one direction whose layers differ in the width of their weights.

    Members
    -------
    advance : In(1)
        Go on to the next word.
    address : Out
        Address of the stored word.
    slot : Out
        Place of the word in it: an index of ``chessrnn.model.shared_words.word_slots``.
    """

    module_name = "weight_address"

    def __init__(self, config: Config):
        self.config = config
        slots = word_slots(config.layer_weight_bits)
        self.first_slots = [slots.index(Slot(bits, 0)) for bits in config.layer_weight_bits]
        super().__init__(
            {
                "advance": In(1), "address": Out(address_width(config.bank_depth)),
                "slot": Out(range(len(slots)), init=self.first_slots[0]),  # pyright: ignore[reportCallIssue]  the stubs say reset
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, firsts, counts = self.config, self.first_slots, self.config.layer_slots
        words = [sum(part.words for part in parts) for parts in config.layer_parts]
        # The last slot of a whole stored word, and the last word of each layer.
        tops = [first + count - 1 for first, count in zip(firsts, counts, strict=True)]
        last_slots = [first + (number - 1) % count for first, number, count in zip(firsts, words, counts, strict=True)]
        last_addresses = [sum(config.layer_bank_depths[: number + 1]) - 1 for number in range(len(words))]
        # ``advance`` comes late in the cycle, so the next place is computed before: at first that of the second word.
        start = (1, 1, firsts[1]) if words[0] == 1 else (0, 0, firsts[0] + 1) if counts[0] > 1 else (0, 1, firsts[0])
        layer = Signal(range(len(words)), init=start[0])
        address, slot = Signal(len(self.address), init=start[1]), Signal(len(self.slot), init=start[2])
        with m.If(self.advance):
            m.d.sync += [self.address.eq(address), self.slot.eq(slot), slot.eq(slot + 1)]
            with m.If(slot == select(layer, tops)):
                m.d.sync += [address.eq(address + 1), slot.eq(select(layer, firsts))]
            with m.If((address == select(layer, last_addresses)) & (slot == select(layer, last_slots))):
                m.d.sync += [address.eq(address + 1), layer.eq(layer + 1)]
                m.d.sync += slot.eq(select(layer, [*firsts[1:], firsts[0]]))
                with m.If(layer == len(words) - 1):
                    m.d.sync += [address.eq(0), layer.eq(0)]
        return m


class SlotSelect(wiring.Component):
    """Selects the word of a slot of a stored word, with its weights as wide as those of the widest layer.

    Parameters
    ----------
    config : Config

    Members
    -------
    stored : In(k · weight_bits)
        The stored word.
    slot : In
        Index of ``chessrnn.model.shared_words.word_slots``.
    word : Out(k · weight_bits)
        The word; codes of a narrower layer are sign-extended.

    Latency: 0 · Throughput: 1 word per cycle
    """

    def __init__(self, config: Config):
        self.config = config
        self.slots = word_slots(config.layer_weight_bits)
        bits = config.weight_word_bits
        super().__init__({"stored": In(bits), "slot": In(range(len(self.slots))), "word": Out(bits)})

    @property
    def module_name(self) -> str:
        widths = sorted(set(self.config.layer_weight_bits), reverse=True)
        return f"slot_select_k{self.config.block_size}_w{'_'.join(map(str, widths))}"

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.word.eq(Array([self._word(slot) for slot in self.slots])[self.slot])
        return m

    def _word(self, slot: Slot) -> Value:
        """The word of one slot."""
        k, widest = self.config.block_size, self.config.weight_bits
        codes = [self.stored.word_select(slot.number * k + place, slot.bits) for place in range(k)]
        return Cat(Cat(code, code[-1].replicate(widest - slot.bits)) for code in codes)
