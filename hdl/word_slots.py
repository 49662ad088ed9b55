"""Weight banks whose stored words hold several words of layers with narrower weights than others.

See ``chessrnn.model.shared_words`` for where a word is stored.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.memory import address_width
from chessrnn.hdl.part_shapes import select
from chessrnn.hdl.pass_address import layer_port
from chessrnn.model.config import Config
from chessrnn.model.shared_words import Slot, word_slots


def has_slots(config: Config) -> bool:
    """Whether stored words hold several words of some layer."""
    return max(config.layer_slots) > 1


class LayerPlaces:
    """Begin and end of the words of every layer in the weight banks.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    num_slots : int
        Number of entries of ``chessrnn.model.shared_words.word_slots``, of which every slot here is an index.
    words : list of int
        Number of words of each layer, both directions together.
    first_addresses, last_addresses : list of int
        Addresses of the first and of the last stored word of each layer.
    first_slots, top_slots, last_slots : list of int
        Slots of the first and last word of a whole stored word, and of the last word of each layer.
    """

    def __init__(self, config: Config):
        slots, counts, depths = word_slots(config.layer_weight_bits), config.layer_slots, config.layer_bank_depths
        self.num_slots = len(slots)
        self.words = [config.directions * sum(part.words for part in parts) for parts in config.layer_parts]
        self.first_addresses = [sum(depths[:layer]) for layer in range(len(depths))]
        self.last_addresses = [first + depth - 1 for first, depth in zip(self.first_addresses, depths, strict=True)]
        self.first_slots = [slots.index(Slot(bits, 0)) for bits in config.layer_weight_bits]
        self.top_slots = [first + count - 1 for first, count in zip(self.first_slots, counts, strict=True)]
        each = zip(self.first_slots, self.words, counts, strict=True)
        self.last_slots = [first + (words - 1) % count for first, words, count in each]

    def ports(self, depth: int) -> dict:
        """The members ``address`` and ``slot``, which begin with the first word."""
        slot = Out(range(self.num_slots), init=self.first_slots[0])  # pyright: ignore[reportCallIssue]  the stubs say reset
        return {"address": Out(address_width(depth)), "slot": slot}


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
        self.config, self.places = config, LayerPlaces(config)
        super().__init__({"advance": In(1), **self.places.ports(config.bank_depth)})

    def elaborate(self, platform):
        m = Module()
        places, count = self.places, len(self.places.words)
        firsts = places.first_slots
        # ``advance`` comes late in the cycle, so the next place is computed before: at first that of the second word.
        start = 0, 1, firsts[0]
        if places.words[0] == 1:
            start = 1, 1, firsts[1]
        elif places.top_slots[0] > firsts[0]:
            start = 0, 0, firsts[0] + 1
        layer = Signal(range(count), init=start[0])
        address, slot = Signal(len(self.address), init=start[1]), Signal(len(self.slot), init=start[2])
        with m.If(self.advance):
            m.d.sync += [self.address.eq(address), self.slot.eq(slot), slot.eq(slot + 1)]
            with m.If(slot == select(layer, places.top_slots)):
                m.d.sync += [address.eq(address + 1), slot.eq(select(layer, firsts))]
            with m.If((address == select(layer, places.last_addresses)) & (slot == select(layer, places.last_slots))):
                m.d.sync += [address.eq(address + 1), layer.eq(layer + 1)]
                m.d.sync += slot.eq(select(layer, [*firsts[1:], firsts[0]]))
                with m.If(layer == count - 1):
                    m.d.sync += [address.eq(0), layer.eq(0)]
        return m


class SlotPassAddress(wiring.Component):
    """Address and slot in a bidirectional network: a pass repeats the words of one layer.

    Parameters
    ----------
    config : Config
        Configuration of a bidirectional network whose layers differ in the width of their weights.

    Members
    -------
    start, first, layer, advance
        Inputs of :class:`chessrnn.hdl.pass_address.PassAddress`.
    address, slot : Out
        Outputs of :class:`SlotAddress`.
    """

    module_name = "weight_address"

    def __init__(self, config: Config):
        self.config, self.places = config, LayerPlaces(config)
        inputs = {"start": In(1), "first": In(1), **layer_port(config, In), "advance": In(1)}
        super().__init__(inputs | self.places.ports(config.bank_depth))

    def elaborate(self, platform):
        m = Module()
        places, layer = self.places, self.layer
        with m.If(self.advance):
            m.d.sync += self.slot.eq(self.slot + 1)
            with m.If(self.slot == select(layer, places.top_slots)):
                m.d.sync += [self.address.eq(self.address + 1), self.slot.eq(select(layer, places.first_slots))]
            last_address, last_slot = (select(layer, values) for values in (places.last_addresses, places.last_slots))
            with m.If((self.address == last_address) & (self.slot == last_slot)):
                m.d.sync += self.address.eq(select(layer, places.first_addresses))
                m.d.sync += self.slot.eq(select(layer, places.first_slots))
        with m.If(self.start):
            # ``layer`` is still that of the pass before.
            for output, values in ((self.address, places.first_addresses), (self.slot, places.first_slots)):
                m.d.sync += output.eq(Mux(self.first, values[0], select(layer, [*values[1:], values[0]])))
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
