"""The whole accelerator in Amaranth's simulator: its outputs equal the reference in the predicted cycles."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from chessrnn.hdl.row import held_sums
from chessrnn.hdl.verilog import accelerator
from chessrnn.model.cells import CELLS
from chessrnn.model.memory_image import memory_words
from chessrnn.model.presets import preset
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import random_inputs, random_weights
from chessrnn.sim.pysim import CLOCK_PERIOD, beats_of, run_accelerator

LENGTHS = (3, 1, 1, 2)


def scenario(config, rng):
    weights = random_weights(config, rng)
    q, k = config.quantization, config.block_size
    sequences = [random_inputs(config, rng, length) for length in LENGTHS]
    x_beats = beats_of(sequences, k, q.x.width, lambda shape: rng.integers(q.x.min, q.x.max + 1, size=shape))
    golden = NetworkReference(weights)
    expected = beats_of([golden.run(x[:, None])[0][:, 0] for x in sequences], k, q.h.width)
    return weights, x_beats, expected


def check(config, rng):
    weights, x_beats, expected = scenario(config, rng)
    run = run_accelerator(weights, x_beats, len(expected))
    assert run.beats == expected
    schedule, line = Schedule(config), Schedule(config).timeline(list(LENGTHS))
    per_step, blocks, steps = schedule.ideal_interval, config.num_output_blocks, sum(LENGTHS)
    # Every weight word is read once per step, at the predicted cycles.
    assert len(run.issue_cycles) == per_step * steps
    assert run.issue_cycles[::per_step] == line.first_issue
    assert run.issue_cycles[per_step - 1 :: per_step] == line.last_issue
    assert run.beat_cycles[blocks - 1 :: blocks] == line.last_beat

    stall = float(rng.random() * 0.7)
    stalled = run_accelerator(
        weights, x_beats, len(expected), lambda: rng.random() >= stall, lambda: rng.random() >= stall
    )
    assert stalled.beats == expected


def test_a_sink_that_waits_longer_than_all_steps_loses_nothing(rng):
    """The output buffer fills, and the next step begins only when it has room for all of its blocks."""
    config = architecture(engine="direct", tile_rows=3, tile_cols=4)
    weights, x_beats, expected = scenario(config, rng)
    wait, cycles = 2 * sum(LENGTHS) * Schedule(config).initiation_interval, itertools.count()
    assert run_accelerator(weights, x_beats, len(expected), accept=lambda: next(cycles) >= wait).beats == expected


def variant(**settings):
    return preset("tiny").replace(settings)


# The cocotb regression sweeps the emitted Verilog; for the schedule, designs with multipliers suffice, which Amaranth's
# simulator runs faster.
ARCHITECTURES = [
    {"engine": "direct"},
    {"engine": "fast", "tile_rows": 1, "tile_cols": 1},
    {"engine": "direct", "tile_rows": 3, "tile_cols": 4},
    {"engine": "fast", "tile_rows": 5, "tile_cols": 3, "lookahead": 1},
    {"engine": "fast", "tile_rows": 12, "tile_cols": 6},
    {"engine": "direct", "tile_rows": 2, "tile_cols": 5, "cell_lanes": 1},
    {"engine": "fast", "tile_rows": 6, "tile_cols": 1, "lookahead": 2},
    # Four memories of two banks of 32 bits, of one row or of two, and one of a single bank.
    {"engine": "fast", "tile_rows": 3, "tile_cols": 3, "memory_width": 70},
]


def architecture(**fields):
    return variant(**{f"architecture.{name}": value for name, value in {"arithmetic": "multiplier", **fields}.items()})


# Amaranth's simulator is slow with many processing elements.
SLOW_ARCHITECTURES = {1, 2, 3, 4, 6, 7}


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(index, marks=[pytest.mark.slow] if index in SLOW_ARCHITECTURES else [])
        for index in range(len(ARCHITECTURES))
    ],
)
def test_architecture_changes_no_bit(index, rng):
    check(architecture(**ARCHITECTURES[index]), rng)


def test_two_banks_share_a_memory(rng):
    """Neighbours of two rows read one memory; the last one has a memory of its own."""
    network = {"network.cell": "rnn", "network.input_size": 5, "network.hidden_size": 12, "quantization.weight_frac": 5}
    check(architecture(engine="fast", tile_rows=3, tile_cols=1, memory_width=64).replace(network), rng)


PIPELINES = [
    {"memory_register": False, "operand_register": False, "multiplier_stages": 0, "adder_levels": 0},
    {"memory_register": True, "operand_register": False, "multiplier_stages": 2, "adder_levels": 1},
    {"memory_register": False, "operand_register": True, "inverse_levels": 0, "adder_levels": 3},
    {"forward_levels": 1, "cell_register": True},
    {"multiplier_register": True},
    {"issue_register": True, "shared_inverse": True},
]


@pytest.mark.parametrize("index", [0, 3, 4, 5, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_pipeline_changes_no_bit(index, rng):
    pipeline = {f"pipeline.{name}": value for name, value in PIPELINES[index].items()}
    check(architecture(engine="fast", **pipeline), rng)


@pytest.mark.parametrize("settings", [
    {"tile_rows": 4, "tile_cols": 1, "cell_lanes": 1, "lookahead": 1},
    {"tile_rows": 2, "tile_cols": 2, "lookahead": 2, "pipeline.shared_inverse": True},
    {"tile_rows": 1, "tile_cols": 3, "engine": "direct"},
])  # fmt: skip
def test_rows_that_hold_their_sums(settings, rng):
    config = architecture(**{"engine": "fast", "pipeline.multiplier_register": True, **settings})
    assert held_sums(config) == config.bundle_rows // config.architecture.tile_rows
    check(config, rng)


def test_a_reset_clears_the_sums(rng):
    """A row group that a reset interrupts leaves nothing behind in the sums of the next sequence."""
    config = architecture(
        **{"engine": "fast", "tile_rows": 2, "tile_cols": 1, "lookahead": 1, "pipeline.multiplier_register": True}
    )
    weights, x_beats, expected = scenario(config, rng)
    dut, reset, beats = accelerator(config, memory_words(weights)), Signal(), []
    sim = Simulator(ResetInserter(reset)(dut))
    sim.add_clock(CLOCK_PERIOD)

    async def bench(ctx):
        # The first run is too short for a result, and long enough for sums that are not zero.
        for cycles in (int(rng.integers(20, 40)), 60 * len(expected)):
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            ctx.set(dut.h.ready, 1)
            sent = 0
            beats.clear()
            for _ in range(cycles):
                ctx.set(dut.x.valid, sent < len(x_beats))
                if sent < len(x_beats):
                    ctx.set(dut.x.payload.data, x_beats[sent][0])
                    ctx.set(dut.x.payload.last, x_beats[sent][1])
                    sent += ctx.get(dut.x.ready)
                if ctx.get(dut.h.valid):
                    beats.append((ctx.get(dut.h.payload.data), ctx.get(dut.h.payload.last)))
                await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    assert held_sums(config)
    assert beats == expected


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("engine", "arithmetic", "rows", "cols"),
    [
        ("fast", "multiplier", 3, 2),
        pytest.param("direct", "multiplier", 2, 3, marks=pytest.mark.slow),
    ],
)
def test_every_cell(cell, engine, arithmetic, rows, cols, rng):
    settings = {"network.cell": cell, "quantization.weight_frac": [7] * len(CELLS[cell].gates)}
    config = architecture(engine=engine, arithmetic=arithmetic, tile_rows=rows, tile_cols=cols)
    check(config.replace(settings), rng)


@pytest.mark.parametrize(
    ("layers", "cell", "settings"),
    [
        pytest.param(2, "lstm", {"engine": "fast", "tile_rows": 3, "tile_cols": 2}, marks=pytest.mark.slow),
        pytest.param(3, "lstm", {"engine": "direct", "tile_rows": 5, "tile_cols": 4}, marks=pytest.mark.slow),
        (2, "gru", {"engine": "direct", "tile_rows": 2, "tile_cols": 1, "lookahead": 1}),
        pytest.param(
            2,
            "lstm_peephole",
            {"engine": "direct", "tile_rows": 1, "tile_cols": 2},
            marks=pytest.mark.slow,
        ),
        pytest.param(4, "rnn", {"engine": "fast", "tile_rows": 3, "tile_cols": 5}, marks=pytest.mark.slow),
        pytest.param(2, "lstm", {"engine": "direct", "tile_rows": 12, "tile_cols": 3}, marks=pytest.mark.slow),
        (2, "gru_reset_first", {"engine": "fast", "tile_rows": 2, "tile_cols": 2}),
        pytest.param(
            3,
            "gru_reset_first",
            {"engine": "direct", "tile_rows": 3, "tile_cols": 1, "cell_lanes": 2, "lookahead": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_layers(layers, cell, settings, rng):
    config = preset("tiny").replace(
        {"network.num_layers": layers, "network.cell": cell, "quantization.weight_frac": 7}
        | {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.arithmetic": "multiplier"}
        | ({"network.input_size": 18} if layers == 3 else {"network.input_size": 5} if layers == 4 else {})
    )
    check(config.replace({f"architecture.{name}": value for name, value in settings.items()}), rng)


@pytest.mark.parametrize(
    ("cell", "fracs", "settings"),
    [
        pytest.param(
            "lstm",
            [[7, 5, 6, 7], [4, 5, 6, 7]],
            {"projection_size": 3, "hidden_size": 4, "input_size": 4},
            marks=pytest.mark.slow,
        ),
        pytest.param("lstm_peephole", [[7, 5, 6, 7], [4, 5, 6, 9]], {}, marks=pytest.mark.slow),
        pytest.param("gru", [[7], [5, 6, 7, 4], [5]], {"engine": "fast"}, marks=pytest.mark.slow),
        pytest.param(
            "gru_reset_first", [[7], [5, 6, 4], [5]], {"cell_lanes": 2, "input_size": 5}, marks=pytest.mark.slow
        ),
        ("rnn_relu", [[7], [5]], {"engine": "fast", "input_size": 5}),
    ],
)
def test_layers_with_scales_of_their_own(cell, fracs, settings, rng):
    network = {"num_layers": len(fracs), "cell": cell, "hidden_size": 6, "input_size": 9}
    network |= {name: settings[name] for name in settings.keys() & {"projection_size", "hidden_size", "input_size"}}
    tile = {"tile_rows": 1, "tile_cols": 1, "arithmetic": "multiplier"}
    tile |= {name: value for name, value in settings.items() if name not in network}
    fields = {f"network.{name}": value for name, value in network.items()}
    fields |= {f"architecture.{name}": value for name, value in tile.items()}
    check(preset("tiny").replace(fields | {"quantization.weight_frac": fracs}), rng)


@pytest.mark.parametrize(
    ("cell", "bits", "settings"),
    [
        ("rnn", 2, {"architecture.engine": "fast", "architecture.tile_cols": 2}),
        ("rnn", 3, {"architecture.engine": "direct", "architecture.tile_rows": 2}),
        pytest.param("lstm", 2, {"network.projection_size": 5, "architecture.tile_rows": 3}, marks=pytest.mark.slow),
        pytest.param("lstm", 3, {"architecture.engine": "fast", "network.num_layers": 2}, marks=pytest.mark.slow),
        pytest.param("gru_reset_first", 2, {}, marks=pytest.mark.slow),
    ],
)
def test_half_levels(cell, bits, settings, rng):
    """Padding that is multiplied by weights which cannot be zero changes nothing."""
    fields = {"network.cell": cell, "network.input_size": 5, "network.hidden_size": 6, "quantization.weight_frac": 3}
    fields |= {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.arithmetic": "multiplier"}
    fields |= {"quantization.weight_levels": "half", "quantization.weight_bits": bits}
    check(preset("tiny").replace(fields | settings), rng)


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        ("rnn", {"architecture.engine": "fast"}),
        pytest.param("lstm", {"network.projection_size": 3, "architecture.cell_lanes": 2}, marks=pytest.mark.slow),
        pytest.param("lstm_peephole", {"architecture.arithmetic": "carry_save"}, marks=pytest.mark.slow),
        pytest.param("gru", {"network.num_layers": 2}, marks=pytest.mark.slow),
        pytest.param("gru_reset_first", {"architecture.cell_lanes": 1}, marks=pytest.mark.slow),
    ],
)
def test_row_scales(cell, settings, rng):
    fields = {"network.cell": cell, "network.input_size": 5, "network.hidden_size": 6, "quantization.weight_frac": 6}
    fields |= {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.arithmetic": "multiplier"}
    fields |= {"quantization.weight_scale": "row", "quantization.scale_bits": 6}
    check(preset("tiny").replace(fields | settings), rng)


@pytest.mark.parametrize("arithmetic", ["multiplier", "carry_save"])
@pytest.mark.parametrize("shift", [-3, 2])
def test_sums_of_x_and_of_h_are_aligned(arithmetic, shift, rng):
    fields = {"network.input_size": 8, "network.hidden_size": 6, "quantization.input_shift": shift}
    fields |= {"network.cell": "rnn", "quantization.weight_frac": 6, "architecture.engine": "fast"}
    fields |= {"architecture.tile_rows": 1, "architecture.tile_cols": 2, "architecture.arithmetic": arithmetic}
    check(preset("tiny").replace(fields), rng)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        ("lstm", {"quantization.input_shift": -5, "architecture.lookahead": 2, "architecture.cell_lanes": 2}),
        (
            "lstm",
            {"network.num_layers": 2, "quantization.input_shift": [3, 0], "architecture.arithmetic": "carry_save"},
        ),
        ("lstm", {"network.num_layers": 2, "quantization.input_shift": [0, -2], "architecture.engine": "fast"}),
        ("lstm", {"network.projection_size": 3, "quantization.input_shift": 1, "quantization.h": "Q2.6"}),
        ("lstm_peephole", {"network.num_layers": 3, "quantization.input_shift": [-1, 2, -4]}),
        ("gru", {"network.num_layers": 2, "quantization.input_shift": [1, -1], "quantization.weight_scale": "row"}),
        ("gru_reset_first", {"quantization.input_shift": 4, "architecture.arithmetic": "carry_save"}),
        ("gru_reset_first", {"network.num_layers": 2, "quantization.input_shift": -2}),
        ("rnn_relu", {"quantization.input_shift": 6, "quantization.weight_levels": "half"}),
        ("rnn", {"quantization.input_shift": 2, "architecture.engine": "direct", "architecture.cell_lanes": 1}),
        (
            "lstm",
            {"architecture.pipeline.multiplier_register": True, "quantization.input_shift": 3}
            | {"architecture.pipeline.issue_register": True},
        ),
    ],
)
def test_sums_of_x_and_of_h_are_aligned_in_every_cell(cell, settings, rng):
    fields = {"network.cell": cell, "network.input_size": 6, "network.hidden_size": 6, "quantization.weight_frac": 6}
    fields |= {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.arithmetic": "multiplier"}
    check(preset("tiny").replace(fields | settings), rng)


@pytest.mark.parametrize(
    ("fracs", "settings"),
    [
        ([3, 6], {"architecture.monitor": True}),
        pytest.param([9, 0, 4], {"architecture.engine": "fast"}, marks=pytest.mark.slow),
    ],
)
def test_projections_of_layers_have_scales_of_their_own(fracs, settings, rng):
    fields = {"network.num_layers": len(fracs), "network.projection_size": 3, "network.hidden_size": 4}
    fields |= {"network.input_size": 3, "quantization.projection_frac": fracs, "quantization.h": "Q2.6"}
    fields |= {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.arithmetic": "multiplier"}
    config = preset("tiny").replace(fields | settings)
    assert [config.layer(number).projection_frac for number in range(len(fracs))] == fracs
    weights, x_beats, expected = scenario(config, rng)
    assert run_accelerator(weights, x_beats, len(expected)).beats == expected


@pytest.mark.parametrize(
    ("layers", "projection", "settings"),
    [
        (1, 5, {"engine": "direct", "tile_rows": 1, "tile_cols": 1}),
        pytest.param(1, 12, {"engine": "fast", "tile_rows": 3, "tile_cols": 2}, marks=pytest.mark.slow),
        pytest.param(
            2, 10, {"engine": "direct", "tile_rows": 5, "tile_cols": 2, "cell_lanes": 2}, marks=pytest.mark.slow
        ),
        pytest.param(
            3,
            6,
            {"engine": "fast", "tile_rows": 2, "tile_cols": 3},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            2,
            12,
            {"engine": "direct", "tile_rows": 12, "tile_cols": 3, "cell_lanes": 2, "lookahead": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_projections(layers, projection, settings, rng):
    """Projections of more and of fewer rows than a bundle has, and of bundles with more blocks than slices."""
    config = preset("tiny").replace(
        {"network.num_layers": layers, "network.projection_size": projection, "quantization.projection_frac": 6}
        | {"network.hidden_size": 26, "compression.block_size": 2, "architecture.arithmetic": "multiplier"}
        | {f"architecture.{name}": value for name, value in settings.items()}
    )
    check(config, rng)


@pytest.mark.parametrize("settings", [{"tile_cols": 2}, {"engine": "fast", "tile_cols": 1}])
def test_a_gate_that_waits_waits_long_enough(settings, rng):
    """With a hidden block in one or two cycles, z is stored before N reads it."""
    fields = {"network.input_size": 4, "network.hidden_size": 4, "network.cell": "gru_reset_first"}
    fields |= {"architecture.tile_rows": 1, "architecture.cell_lanes": 4, "architecture.arithmetic": "multiplier"}
    pipeline = {f"pipeline.{name}": value for name, value in PIPELINES[0].items()}
    settings = {f"architecture.{name}": value for name, value in {**settings, **pipeline}.items()}
    check(preset("tiny").replace({**fields, **settings, "quantization.weight_frac": 7}), rng)


@pytest.mark.parametrize(
    ("contexts", "layers", "settings"),
    [
        (2, 1, {"engine": "fast", "tile_rows": 4, "tile_cols": 2}),
        # A slice of the last layer is followed at once by one of the first, which has another scale.
        (3, 2, {"cell": "rnn", "weight_frac": [[7], [5]], "hidden_size": 4, "input_size": 4, "tile_cols": 2}),
        pytest.param(3, 1, {"engine": "direct", "tile_rows": 12, "tile_cols": 5}, marks=pytest.mark.slow),
        pytest.param(
            2, 2, {"engine": "direct", "tile_rows": 3, "tile_cols": 3, "lookahead": 1}, marks=pytest.mark.slow
        ),
        pytest.param(
            2, 2, {"engine": "fast", "tile_rows": 5, "tile_cols": 1, "projection_size": 6}, marks=pytest.mark.slow
        ),
        pytest.param(
            3,
            2,
            {"engine": "direct", "tile_rows": 2, "tile_cols": 3, "cell": "gru_reset_first"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_contexts_take_turns(contexts, layers, settings, rng):
    """Streams interleaved step by step give the outputs that each gives alone, and none waits for its own last step."""
    fixed = {"network.num_layers": layers, "architecture.contexts": contexts, "architecture.arithmetic": "multiplier"}
    settings = dict(settings)
    fixed["network.projection_size"] = settings.pop("projection_size", 0)
    fixed |= {"network.cell": settings.pop("cell", "lstm"), "architecture.tile_rows": 1}
    fixed["quantization.weight_frac"] = settings.pop("weight_frac", 7)
    fixed |= {f"network.{size}": settings.pop(size) for size in settings.keys() & {"hidden_size", "input_size"}}
    config = preset("tiny").replace(fixed)
    config = config.replace({f"architecture.{name}": value for name, value in settings.items()})
    weights, q, k = random_weights(config, rng), config.quantization, config.block_size
    lengths = [(3, 1, 2), (1, 4, 1), (2, 2, 2)][:contexts]
    golden = NetworkReference(weights)
    x_beats, expected = [], []
    for own in lengths:
        sequences = [random_inputs(config, rng, length) for length in own]
        x_beats.append(beats_of(sequences, k, q.x.width))
        expected.append(beats_of([golden.run(x[:, None])[0][:, 0] for x in sequences], k, q.h.width))

    def dealt(streams, blocks):
        steps = range(0, len(streams[0]), blocks)
        return [beat for start in steps for stream in streams for beat in stream[start : start + blocks]]

    x_beats, expected = dealt(x_beats, config.num_input_blocks), dealt(expected, config.num_output_blocks)
    run = run_accelerator(weights, x_beats, len(expected))
    assert run.beats == expected
    line = Schedule(config).timeline([own[turn] for turn in range(3) for own in lengths])
    per_step, blocks = config.bank_words, config.num_output_blocks
    assert run.issue_cycles[::per_step] == line.first_issue
    assert run.beat_cycles[blocks - 1 :: blocks] == line.last_beat
    stalled = run_accelerator(weights, x_beats, len(expected), lambda: rng.random() < 0.6, lambda: rng.random() < 0.6)
    assert stalled.beats == expected


@pytest.mark.parametrize("sign", [-1, pytest.param(1, marks=pytest.mark.slow)])
def test_extreme_sums_do_not_overflow(sign, rng):
    config = architecture(engine="fast", arithmetic="carry_save", tile_rows=2)
    weights, _, _ = scenario(config, rng)
    q, k = config.quantization, config.block_size
    extreme = type(weights)(
        config,
        np.full_like(weights.defining, config.weight_min),
        np.full_like(weights.bias, config.bias_format_min_max[0]),
    )
    sequence = np.full((3, config.network.input_size), q.x.min if sign < 0 else q.x.max)
    expected = beats_of([LayerReference(extreme).run(sequence[:, None])[0][:, 0]], k, q.h.width)
    run = run_accelerator(extreme, beats_of([sequence], k, q.x.width), len(expected))
    assert run.beats == expected
