"""Weights that are loaded at run time: exact between sequences, refused while one is under way."""

import zlib
from dataclasses import dataclass, field

import pytest
from amaranth.sim import Simulator

from chessrnn.hdl.verilog import accelerator
from chessrnn.model.load_layout import HEADER, load_layout, weight_chunks, weight_file
from chessrnn.model.memory_image import memory_words
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.pysim import CLOCK_PERIOD
from chessrnn.sim.scenarios import Scenario, random_sequences

IMAGES = 3
PATIENCE = 2000


def tiny(**settings):
    fixed = {"network.input_size": 3, "network.hidden_size": 4, "architecture.arithmetic": "multiplier"}
    fixed |= {"compression.block_size": 2, "architecture.engine": "direct"}
    fixed |= {"architecture.tile_rows": 2, "architecture.tile_cols": 2, "architecture.weight_memory": "ram"}
    return preset("tiny").replace({**fixed, **settings})


DESIGNS = {
    "peephole projection": tiny(**{"network.cell": "lstm_peephole", "network.projection_size": 3,
                                   "architecture.tile_cols": 1}),
    "staged contexts": tiny(**{"network.cell": "gru_reset_first", "quantization.weight_frac": 7,
                               "architecture.contexts": 2}),
    "output layer": tiny(**{"architecture.output_layer": 5, "architecture.parity": "word"}),
    "bidirectional": tiny(**{"network.bidirectional": True, "architecture.sequence_steps": 4}),
    "row scales": tiny(**{"quantization.weight_scale": "row", "architecture.parity": "word"}),
    "two layers": tiny(**{"network.cell": "rnn", "quantization.weight_frac": 7, "network.num_layers": 2,
                          "architecture.tile_rows": 1, "architecture.tile_cols": 1}),
    "two widths": tiny(**{"network.num_layers": 2, "quantization.weight_bits": [4, 8], "architecture.parity": "word",
                          "quantization.weight_frac": 7, "architecture.memory_width": 40}),
}  # fmt: skip


@dataclass
class Bench:
    """The accelerator with a source of x, a sink that takes everything, and the loader's signals.

    Beats of x in ``queue`` are offered one after the other.  ``h`` and ``y`` collect what leaves.
    """

    ctx: object
    dut: object
    queue: list = field(default_factory=list)
    h: list = field(default_factory=list)
    y: list = field(default_factory=list)
    taken: int = 0
    refusals: int = 0

    async def tick(self, **inputs):
        """One clock cycle, with values for the loader's inputs."""
        ctx, dut = self.ctx, self.dut
        bits = len(dut.x.payload.data)
        ctx.set(dut.x.valid, bool(self.queue))
        if self.queue:
            ctx.set(dut.x.payload.data, self.queue[0] & ((1 << bits) - 1))
            ctx.set(dut.x.payload.last, self.queue[0] >> bits)
        ctx.set(dut.h.ready, 1)
        for name, value in inputs.items():
            ctx.set(getattr(dut, name), value)
        if self.queue and ctx.get(dut.x.ready):
            self.queue.pop(0)
            self.taken += 1
        if ctx.get(dut.h.valid):
            self.h.append(ctx.get(dut.h.payload.data) | ctx.get(dut.h.payload.last) << len(dut.h.payload.data))
        if hasattr(dut, "y"):
            ctx.set(dut.y.ready, 1)
            if ctx.get(dut.y.valid):
                self.y.append(ctx.get(dut.y.payload.as_value()))
        self.refusals += ctx.get(dut.load_error)
        assert not (hasattr(dut, "parity_error") and ctx.get(dut.parity_error))
        await ctx.tick()

    async def until(self, condition):
        """Wait until a condition holds."""
        for _ in range(PATIENCE):
            if condition():
                return
            await self.tick()
        raise TimeoutError("the condition never holds")

    async def load(self, weights):
        """Load weights in the order of ``load_next`` while ``load_hold`` is high."""
        ctx, dut, address = self.ctx, self.dut, 0
        for chunk in weight_chunks(weights):
            ctx.set(dut.load_address, address)
            assert ctx.get(dut.load_ready)
            address = ctx.get(dut.load_next)
            await self.tick(load_en=1, load_data=chunk)
            ctx.set(dut.load_en, 0)
        assert address == 0
        data = weight_file(weights)[HEADER.size :]
        assert ctx.get(dut.load_crc) == zlib.crc32(data) == HEADER.unpack(weight_file(weights)[: HEADER.size])[5]


def simulate(weights, bench):
    """Run ``await bench(Bench)`` on an accelerator that is filled with weights."""
    dut = accelerator(weights.config, memory_words(weights))
    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD)

    async def process(ctx):
        await bench(Bench(ctx, dut))

    sim.add_testbench(process)
    sim.run()


@pytest.mark.parametrize(
    "design", [name if name == "output layer" else pytest.param(name, marks=pytest.mark.slow) for name in DESIGNS]
)
def test_images_are_swapped_between_sequences(design, rng):
    config = DESIGNS[design]
    runs = [Scenario(random_weights(config, rng), random_sequences(config, rng, (2, 2))) for _ in range(IMAGES + 1)]

    async def bench(own):
        for number, run in enumerate(runs):
            own.h.clear(), own.y.clear()
            # The next network's first beats wait at the port while this one's sequences end.
            own.queue += run.x_beats
            end = own.taken + len(own.queue)
            following = runs[number + 1 :][:1]
            own.queue += [beat for other in following for beat in other.x_beats]
            own.ctx.set(own.dut.load_hold, 0)
            await own.until(lambda end=end: own.taken >= end - 1)
            await own.tick(load_hold=1)
            own.ctx.set(own.dut.load_address, 0)
            # A write while the sequence is under way is dropped.
            before = own.refusals
            await own.tick(load_en=1, load_data=0xFFFFFFFF)
            await own.tick(load_en=0)
            assert own.refusals == before + 1
            await own.until(lambda: own.ctx.get(own.dut.load_ready))
            assert own.h == run.h_beats
            assert own.taken == end
            if config.architecture.output_layer:
                assert own.y == run.y_beats
            for other in following:
                await own.load(other.weights)
                own.queue.clear()

    simulate(runs[0].weights, bench)


def test_addresses_beyond_a_memory_are_refused(rng):
    config = DESIGNS["output layer"]
    layout, run = load_layout(config), Scenario(random_weights(config, rng), random_sequences(config, rng, (2,)))
    places = [(len(layout.memories), 0, 0)]
    for number, spec in enumerate(layout.memories):
        places += [(number, spec.depth, 0), (number, 0, layout.chunks(spec))]
    fits = 1 << layout.chunk_bits, 1 << layout.word_bits, 1 << layout.memory_bits
    places = [p for p in places if p[2] < fits[0] and p[1] < fits[1] and p[0] < fits[2]]

    async def bench(own):
        await own.tick(load_hold=1)
        for place in places:
            own.ctx.set(own.dut.load_address, layout.address(*place))
            assert not own.ctx.get(own.dut.load_ready)
            await own.tick(load_en=1, load_data=0xFFFFFFFF)
            own.ctx.set(own.dut.load_en, 0)
        await own.tick(load_hold=0)
        assert (own.refusals, own.ctx.get(own.dut.load_crc)) == (len(places), 0)
        own.queue += run.x_beats
        await own.until(lambda: len(own.h) == len(run.h_beats))
        assert own.h == run.h_beats

    assert len(places) > 3
    simulate(run.weights, bench)
