"""Bidirectional networks in Amaranth's simulator: outputs equal the reference, cycle by cycle; the sequencer."""

from itertools import accumulate

import pytest
from amaranth.sim import Simulator

from chessrnn.hdl.bidirectional.sequencer import Sequencer
from chessrnn.hdl.pass_address import PassAddress
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import random_weights
from chessrnn.sim.boundary_values import extreme_weights
from chessrnn.sim.pysim import run_accelerator
from chessrnn.sim.scenarios import Scenario, random_sequences

LENGTHS = (3, 1)


def design(**settings):
    """Configuration of a small bidirectional network; settings without a section belong to the architecture."""
    fixed = {"network.bidirectional": True, "architecture.arithmetic": "multiplier", "architecture.tile_cols": 1}
    # Amaranth's simulator is slow, so x and h have two blocks of four elements each.
    config = preset("tiny").replace(fixed | {"architecture.tile_rows": 1})
    config = config.replace({"network.input_size": 6, "network.hidden_size": 5})
    if "network.cell" in settings:
        config = config.replace({"network.cell": settings["network.cell"], "quantization.weight_frac": 7})
    return config.replace({(name if "." in name else f"architecture.{name}"): v for name, v in settings.items()})


def payloads(beats, bits):
    """Split beats, each ``{last, data}`` as one integer, into pairs (data, last)."""
    return [(beat & ((1 << bits) - 1), beat >> bits) for beat in beats]


def check(config, rng, lengths=LENGTHS, make=random_weights, stalled=True):
    scenario = Scenario(make(config, rng), random_sequences(config, rng, lengths))
    k, q = config.block_size, config.quantization
    x, h = payloads(scenario.x_beats, k * q.x.width), payloads(scenario.h_beats, k * q.h.width)
    # The padding of x must not matter, so it is filled with noise.
    used, width = (config.network.input_size - 1) % k + 1, q.x.width
    noise = int(rng.integers(1 << 30)) << (used * width) & ((1 << (k * width)) - 1)
    last_blocks = range(config.num_input_blocks - 1, len(x), config.num_input_blocks)
    x = [(data | noise, last) if place in last_blocks else (data, last) for place, (data, last) in enumerate(x)]

    run = run_accelerator(scenario.weights, x, len(h))
    assert run.beats == h
    cycles = Schedule(config)._sequences.run(scenario.lengths)
    assert run.beat_cycles == cycles.beats
    ends = list(accumulate(scenario.issue_counts))
    assert len(run.issue_cycles) == ends[-1] == config.bank_words * sum(lengths)
    assert [run.issue_cycles[end - 1] for end in ends] == cycles.last_issue
    assert [run.issue_cycles[begin] for begin in [0, *ends[:-1]]] == cycles.first_issue
    if stalled:
        share = float(rng.random() * 0.7)
        again = run_accelerator(
            scenario.weights, x, len(h), lambda: rng.random() >= share, lambda: rng.random() >= share
        )
        assert again.beats == h


@pytest.mark.parametrize(
    ("cell", "layers", "sizes", "settings"),
    [
        ("lstm", 1, (10, 7), {"tile_cols": 3}),
        pytest.param("lstm", 2, (10, 6), {"engine": "fast", "tile_rows": 3, "tile_cols": 2}, marks=pytest.mark.slow),
        ("lstm_peephole", 2, (4, 8), {"engine": "fast", "tile_rows": 4, "tile_cols": 3}),
        ("gru", 3, (3, 4), {"engine": "fast", "tile_rows": 3, "tile_cols": 2}),
        ("rnn_relu", 1, (3, 4), {"tile_rows": 1}),
        pytest.param(
            "rnn", 2, (9, 5), {"engine": "fast", "arithmetic": "carry_save", "tile_rows": 2}, marks=pytest.mark.slow
        ),
    ],
)
def test_every_cell(cell, layers, sizes, settings, rng):
    network = {"network.input_size": sizes[0], "network.hidden_size": sizes[1], "network.num_layers": layers}
    check(design(**{"network.cell": cell, **network}, **settings), rng)


@pytest.mark.parametrize(
    ("cell", "projection"),
    [("lstm", 0), *(pytest.param(*one, marks=pytest.mark.slow) for one in [("gru_reset_first", 0), ("lstm", 3)])],
)
def test_layers_with_scales_of_their_own_and_of_rows(cell, projection, rng):
    fields = {"network.num_layers": 2, "network.projection_size": projection, "network.hidden_size": 4}
    fields |= {"quantization.weight_scale": "row", "quantization.scale_bits": 5}
    config = design(**{"network.cell": cell, "network.input_size": 3, **fields})
    fracs = {
        "quantization.weight_frac": [[7, 6, 5, 7][: config.num_gates], [4]],
        "quantization.projection_frac": [7, 5],
    }
    check(config.replace(fracs), rng, lengths=(2, 1))


@pytest.mark.parametrize(
    "settings",
    [
        # A step shorter than the latency, a single group of rows and columns, a datapath without registers, and so few
        # lanes that the drain waits for them.
        {"network.hidden_size": 4, "network.input_size": 4, "tile_rows": 4, "tile_cols": 2},
        pytest.param({"engine": "fast", "tile_rows": 5, "tile_cols": 4, "cell_lanes": 1}, marks=pytest.mark.slow),
        pytest.param(
            {"engine": "fast", "tile_rows": 2, "architecture.pipeline.memory_register": False}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"network.num_layers": 2, "engine": "fast", "tile_rows": 6, "tile_cols": 3, "quantization.x": "Q2.9"},
            marks=pytest.mark.slow,
        ),
        {"network.num_layers": 2, "engine": "fast", "tile_rows": 7, "quantization.h": "Q1.9", "quantization.x": "Q1.3"},
    ],
)
def test_what_must_not_matter(settings, rng):
    check(design(**settings), rng)


@pytest.mark.parametrize(
    ("cell", "layers", "projection", "settings"),
    [
        # One block, which does not fill a bundle; more rows than a bundle; bundles with more blocks than slices; a tile
        # that covers a whole projection; a cell that takes much longer than the latency, and much shorter.
        ("lstm", 1, 3, {"network.hidden_size": 11}),
        pytest.param("lstm_peephole", 2, 5, {"engine": "fast", "tile_rows": 3, "tile_cols": 2}, marks=pytest.mark.slow),
        pytest.param(
            "lstm",
            3,
            6,
            {"network.hidden_size": 9, "engine": "fast", "tile_rows": 5, "tile_cols": 2, "cell_lanes": 4},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "lstm",
            2,
            10,
            {"compression.block_size": 2, "network.hidden_size": 13, "tile_rows": 12, "tile_cols": 3},
            marks=pytest.mark.slow,
        ),
        ("lstm", 1, 1, {"network.hidden_size": 2, "compression.block_size": 1, "tile_rows": 8, "cell_lanes": 1}),
        ("lstm_peephole", 1, 4, {"network.hidden_size": 4, "network.input_size": 4, "tile_rows": 4}),
        pytest.param(
            "lstm",
            2,
            7,
            {"network.hidden_size": 8, "engine": "fast", "tile_rows": 8, "tile_cols": 2, "cell_lanes": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_projections(cell, layers, projection, settings, rng):
    network = {"network.hidden_size": 7, "network.num_layers": layers, "network.cell": cell}
    network |= {"network.projection_size": projection, "quantization.projection_frac": 6}
    check(design(**(network | settings)), rng)


@pytest.mark.parametrize(
    ("layers", "sizes", "settings"),
    [
        # Steps much shorter than the latency; a hidden block in one cycle; input that the directions wait for; a drain
        # that delays issues; several groups of rows and columns.
        (1, (4, 4), {"cell_lanes": 4}),
        (1, (2, 3), {"engine": "fast", "tile_cols": 2}),
        pytest.param(2, (30, 5), {"tile_cols": 3, "tile_rows": 2}, marks=pytest.mark.slow),
        pytest.param(
            2, (6, 9), {"engine": "fast", "tile_rows": 3, "tile_cols": 3, "cell_lanes": 1}, marks=pytest.mark.slow
        ),
        pytest.param(
            3,
            (9, 7),
            {"tile_rows": 2, "compression.block_size": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_reset_gate_first(layers, sizes, settings, rng):
    network = {"network.input_size": sizes[0], "network.hidden_size": sizes[1], "network.num_layers": layers}
    check(design(**{"network.cell": "gru_reset_first", **network}, **settings), rng)


@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_sequence_too_long_is_cut(layers, steps, rng):
    settings = {"network.num_layers": layers, "network.hidden_size": 5, "engine": "fast", "sequence_steps": steps}
    check(design(**settings, tile_rows=4, tile_cols=2), rng, (2 * steps + 1, steps))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "layers", "shifts", "settings"),
    [
        ("rnn", 2, [2, -3], {"engine": "fast", "arithmetic": "carry_save", "tile_rows": 2, "tile_cols": 2}),
        pytest.param("lstm", 1, -4, {"network.projection_size": 2, "quantization.h": "Q2.6"}, marks=pytest.mark.slow),
        pytest.param("gru_reset_first", 2, [0, 1], {"tile_rows": 2}, marks=pytest.mark.slow),
    ],
)
def test_sums_of_x_and_of_h_are_aligned(cell, layers, shifts, settings, rng):
    fields = {"network.cell": cell, "network.num_layers": layers, "quantization.input_shift": shifts}
    check(design(**fields, **settings), rng)


def test_extreme_sums_do_not_overflow(rng):
    check(design(engine="fast", tile_rows=6, tile_cols=2), rng, make=extreme_weights, stalled=False)
    shifted = {"quantization.input_shift": 3, "engine": "fast", "tile_rows": 6, "tile_cols": 2}
    check(design(**shifted), rng, make=extreme_weights, stalled=False)
    projected = {"network.projection_size": 5, "network.num_layers": 2}
    check(design(**projected, engine="fast", tile_rows=6, tile_cols=2), rng, make=extreme_weights, stalled=False)


def test_addresses_of_a_pass():
    config = design(**{"network.num_layers": 3})
    words = [3, 5, 5]
    dut, seen = PassAddress(config, "address", words), []
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx):
        for sequence in range(2):
            for layer in range(3):
                ctx.set(dut.start, 1)
                ctx.set(dut.first, int(layer == 0))
                await ctx.tick()
                ctx.set(dut.start, 0)
                ctx.set(dut.layer, layer)
                for _ in range(2 * words[layer]):
                    seen.append((sequence, layer, ctx.get(dut.address)))
                    ctx.set(dut.advance, 1)
                    await ctx.tick()
                    ctx.set(dut.advance, 0)
                    await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    assert seen == [
        (sequence, layer, sum(words[:layer]) + word)
        for sequence in range(2)
        for layer in range(3)
        for _ in range(2)
        for word in range(words[layer])
    ]


class Engine:
    """A model of the engine beside the sequencer; its h depends on the step's whole input and on the direction.

    Attributes
    ----------
    busy : list of (int, int)
        Pairs of a block of h and, before it, the cycle from which it can be written.
    """

    def __init__(self, own, bits):
        self.own, self.bits, self.held, self.step, self.busy = own, bits, [], 0, []

    def take(self, block, inputs, cycle, rng):
        """Receive a block of input; after the last one of a step, schedule the step's h."""
        self.held.append(block)
        if len(self.held) == inputs:
            self.busy += [(cycle + int(rng.integers(20)), block) for block in self.make(self.held, self.step % 2)]
            self.held, self.step = [], self.step + 1

    def make(self, blocks, direction):
        """The h of a step."""
        mixed = sum((number + 1) * block for number, block in enumerate(blocks))
        return [(31 * mixed + 7 * number + direction) % (1 << self.bits) for number in range(self.own)]


def layers_over(sequence, engine, layers):
    """The output blocks of all steps, after all layers have run over a sequence of steps (lists of blocks)."""
    steps = sequence
    for _ in range(layers):
        forward, reverse = ([engine.make(step, direction) for step in steps] for direction in range(2))
        steps = [ahead + back for ahead, back in zip(forward, reverse, strict=True)]
    return [block for step in steps for block in step]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(1, 1), (9, 5), (3, 11)])
def test_the_sequencer_leads_every_layer_over_the_sequence(layers, sizes, rng):
    size_x, size_h = sizes
    network = {"network.input_size": size_x, "network.hidden_size": size_h, "network.num_layers": layers}
    config = design(**network, **{"compression.block_size": 4, "sequence_steps": 5, "quantization.h": "Q1.7"})
    dut = Sequencer(config)
    bits = config.block_size * config.quantization.h.width
    engine, x_blocks = Engine(config.num_output_blocks, bits), config.num_input_blocks
    used = ((size_x - 1) % 4 + 1) * config.quantization.x.width
    x, wanted = [], []
    for length in (2, 1, 5, 7):
        steps = rng.integers(1 << 30, size=(length, x_blocks)).tolist()
        x += [(block, int(step == length - 1 and n == x_blocks - 1)) for step, row in enumerate(steps)
              for n, block in enumerate(row)]  # fmt: skip
        masked = [[*row[:-1], row[-1] & ((1 << used) - 1)] for row in steps]
        for start in range(0, length, 5):
            blocks = layers_over(masked[start : start + 5], engine, layers)
            wanted += [(block, int(number == len(blocks) - 1)) for number, block in enumerate(blocks)]
    received, starts = [], []
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx):
        offered, sent = False, 0
        for cycle in range(20000):
            if len(received) == len(wanted):
                return
            offered = offered or (sent < len(x) and rng.random() < 0.6)
            ready, writes = int(rng.random() < 0.5), bool(engine.busy and engine.busy[0][0] <= cycle)
            ctx.set(dut.x.valid, int(offered))
            if offered:
                ctx.set(dut.x.payload.data, x[sent][0])
                ctx.set(dut.x.payload.last, x[sent][1])
            ctx.set(dut.h.ready, ready)
            ctx.set(dut.room, int(rng.random() < 0.7))
            ctx.set(dut.h_write, int(writes))
            if writes:
                ctx.set(dut.h_block, engine.busy.pop(0)[1])
            layer = ctx.get(dut.layer) if layers > 1 else 0
            if ctx.get(dut.start):
                starts.append((ctx.get(dut.first), engine.held[:], engine.busy[:]))
            if ctx.get(dut.block_valid):
                engine.take(ctx.get(dut.block), config.parts[layer].late.blocks, cycle, rng)
            if offered and ctx.get(dut.x.ready):
                offered, sent = False, sent + 1
            if ready and ctx.get(dut.h.valid):
                received.append((ctx.get(dut.h.payload.data), ctx.get(dut.h.payload.last)))
            await ctx.tick()
        raise TimeoutError

    sim.add_testbench(bench)
    sim.run()
    assert received == wanted
    # There are five sequences, as the one of seven steps is cut; no block is under way when a pass begins.
    assert starts == [(int(layer == 0), [], []) for _ in range(5) for layer in range(layers)]
