"""The loader writes weights, biases and output layer at run time, between two sequences."""

from functools import reduce
from itertools import groupby
from operator import xor

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.hierarchy import shared
from chessrnn.model.config import Config
from chessrnn.model.load_layout import CHUNK_BITS, load_layout
from chessrnn.model.memory_image import parity_bits
from chessrnn.model.schedule import output_buffer_steps

# Steps that may be in the core besides those that the output buffer has room for: in the memory of x, in the output
# layer and in its queue; a generous bound, as it only sizes a counter.
OTHER_STEPS = 64
# CRC-32 as in zlib: the polynomial with its bits reversed, the state at the start.
CRC32_POLYNOMIAL = 0xEDB88320
CRC32_START = 0xFFFFFFFF


def is_loadable(config: Config) -> bool:
    """Whether weights are loaded at run time."""
    return config.architecture.weight_memory == "ram"


def loader_ports(config: Config) -> dict:
    """Members through which the weights of an accelerator are loaded; none if they are fixed."""
    if not is_loadable(config):
        return {}
    bits = load_layout(config).address_bits
    return {
        "load_hold": In(1), "load_ready": Out(1), "load_en": In(1), "load_address": In(bits),
        "load_data": In(CHUNK_BITS), "load_next": Out(bits), "load_crc": Out(CHUNK_BITS), "load_error": Out(1),
    }  # fmt: skip


def write_port(config: Config, direction=In) -> dict:
    """The member ``load`` of a block with memories that the loader writes: a word, its memory and its address."""
    if not is_loadable(config):
        return {}
    layout = load_layout(config)
    widest = max(spec.width for spec in layout.memories)
    fields = {"en": 1, "memory": layout.memory_bits, "address": layout.word_bits, "word": widest}
    if parity_bits(config):
        fields["parity"] = 1
    return {"load": direction(data.StructLayout(fields))}


def connect_loader(m, platform, core, quiet, blocks: list) -> None:
    """Add the loader to an accelerator with :func:`loader_ports`, and connect the blocks that it writes."""
    loader = Loader(core.config)
    m.submodules.loader = shared(loader, platform)
    m.d.comb += [
        loader.quiet.eq(core.load_hold & quiet), loader.en.eq(core.load_en), loader.address.eq(core.load_address),
        loader.chunk.eq(core.load_data), core.load_ready.eq(loader.ready), core.load_next.eq(loader.following),
        core.load_crc.eq(loader.crc), core.load_error.eq(loader.refused),
        *(block.load.eq(loader.load) for block in blocks),
    ]  # fmt: skip


def crc32_step(value: Value) -> Value:
    """The state of a CRC-32 after 32 bits, from the XOR of these bits and the state before, by XOR gates alone."""
    # What each bit of the value becomes; the step is linear.
    images = []
    for bit in range(CHUNK_BITS):
        state = 1 << bit
        for _ in range(CHUNK_BITS):
            state = state >> 1 ^ (CRC32_POLYNOMIAL if state & 1 else 0)
        images.append(state)
    return Cat(reduce(xor, (value[bit] for bit in range(CHUNK_BITS) if images[bit] >> place & 1))
               for place in range(CHUNK_BITS))  # fmt: skip


class Loader(wiring.Component):
    """Assembles words from chunks of 32 bits and writes them, and computes the CRC-32 of what it writes.

    A word is written with its last chunk; the chunks below are collected in a register, so they come first, in order.
    A chunk that comes while ``ready`` is low is dropped and reported.

    The CRC covers the chunks as they are written, since one that reads them back would need a multiplexer over all
    banks.  It starts again with the chunk of address 0.

    Parameters
    ----------
    config : Config

    Members
    -------
    quiet : In(1)
        No sequence is under way, and none may begin.
    en : In(1)
        Take ``chunk`` in this cycle.
    address : In
        Address of the chunk (``chessrnn.model.load_layout``).
    chunk : In(32)
        The chunk.
    following : Out
        Address of the chunk after the one of ``address``: 0 after the last.
    ready : Out(1)
        A chunk may be written to ``address``: ``quiet``, and there is such an address.
    crc : Out(32)
        CRC-32 of the chunks since address 0, as in zlib; 0 after a reset.
    refused : Out(1)
        In the cycle after a chunk that was dropped.
    load : Out
        Word that is written, in the cycle after its last chunk.

    Latency: 1 · Throughput: one chunk per cycle
    """

    module_name = "loader"

    def __init__(self, config: Config):
        self.config, self.layout = config, load_layout(config)
        bits = self.layout.address_bits
        super().__init__(
            {
                "quiet": In(1), "en": In(1), "address": In(bits), "chunk": In(CHUNK_BITS), "following": Out(bits),
                "ready": Out(1), "crc": Out(CHUNK_BITS), "refused": Out(1), **write_port(config, Out),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        layout = self.layout
        chunk_bits, word_bits = layout.chunk_bits, layout.word_bits
        chunk, word = self.address[:chunk_bits], self.address[chunk_bits : chunk_bits + word_bits]
        number = self.address[chunk_bits + word_bits :]
        last_chunk, last_word, exists = Signal(chunk_bits), Signal(word_bits), Signal()
        # Neighbours of equal size, like all weight banks, are decoded together.
        first = 0
        for (depth, chunks), group in groupby(layout.memories, key=lambda spec: (spec.depth, layout.chunks(spec))):
            end = first + len(list(group))
            with m.If((number >= first) & (number < end)):
                m.d.comb += [last_word.eq(depth - 1), last_chunk.eq(chunks - 1), exists.eq(1)]
            first = end
        next_chunk, next_word, next_number = Signal.like(last_chunk), Signal.like(last_word), Signal(layout.memory_bits)
        completes = Signal()
        m.d.comb += [
            completes.eq(chunk == last_chunk),
            next_chunk.eq(Mux(completes, 0, chunk + 1)), next_word.eq(word), next_number.eq(number),
            self.following.eq(Cat(next_chunk, next_word, next_number)),
            self.ready.eq(self.quiet & exists & (chunk <= last_chunk) & (word <= last_word)),
        ]  # fmt: skip
        with m.If(completes):
            m.d.comb += next_word.eq(Mux(word == last_word, 0, word + 1))
            with m.If(word == last_word):
                m.d.comb += next_number.eq(Mux(number == len(layout.memories) - 1, 0, number + 1))

        take = Signal()
        m.d.comb += take.eq(self.en & self.ready)
        m.d.sync += [self.refused.eq(self.en & ~self.ready), self.load.en.eq(take & completes)]
        chunks = max(map(layout.chunks, layout.memories))
        collected = Signal(chunks * CHUNK_BITS, reset_less=True)
        m.d.comb += self.load.word.eq(collected)
        with m.If(take):
            m.d.sync += [self.load.memory.eq(number), self.load.address.eq(word)]
            with m.Switch(chunk):
                for place in range(chunks):
                    with m.Case(place):
                        m.d.sync += collected.word_select(place, CHUNK_BITS).eq(self.chunk)

        if parity_bits(self.config):
            with m.If(take):
                m.d.sync += self.load.parity.eq(self.chunk.xor() ^ (self.load.parity & (chunk != 0)))
        crc = Signal(CHUNK_BITS, init=CRC32_START)
        m.d.comb += self.crc.eq(~crc)
        with m.If(take):
            m.d.sync += crc.eq(crc32_step(Mux(self.address == 0, CRC32_START, crc) ^ self.chunk))
        return m


class SequenceGate(wiring.Component):
    """Watches where sequences begin and end, so that weights are written only between them.

    Parameters
    ----------
    config : Config
        Configuration of a network of one direction.

    Members
    -------
    x_written, x_step_last, x_sequence_last : In(1)
        A block of x enters; it is the last of its step, of its sequence.
    step_left : In(1)
        The last beat of a step, and with an output layer its result, leaves.
    between : Out(1)
        The next block of x begins a sequence, and no context is in the middle of one.
    quiet : Out(1)
        Moreover all steps have left.

    Latency: 1
    """

    module_name = "sequence_gate"

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "x_written": In(1), "x_step_last": In(1), "x_sequence_last": In(1), "step_left": In(1),
                "between": Out(1), "quiet": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        contexts = self.config.architecture.contexts
        # One bit per context, the one of the next step first: it is in the middle of a sequence.
        inside, in_step = Signal(contexts), Signal()
        steps, enters = Signal(range(output_buffer_steps(self.config) + contexts + OTHER_STEPS)), Signal()
        m.d.comb += [
            enters.eq(self.x_written & self.x_step_last),
            self.between.eq((inside == 0) & ~in_step), self.quiet.eq(self.between & (steps == 0)),
        ]  # fmt: skip
        m.d.sync += steps.eq(steps + enters - self.step_left)
        with m.If(self.x_written):
            m.d.sync += in_step.eq(~self.x_step_last)
        with m.If(enters):
            m.d.sync += inside.eq(Cat(inside[1:], ~self.x_sequence_last))
        return m
