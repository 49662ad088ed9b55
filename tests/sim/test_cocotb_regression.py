"""Emitted Verilog under both simulators: every h equal, every unstalled cycle as predicted."""

import numpy as np
import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.presets import preset
from chessrnn.model.text.char_model import CharModel
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_weights
from chessrnn.scripts.fuzz import make_runs
from chessrnn.scripts.weight_arguments import SHIPPED
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.manifest import file_digest, replace_file
from chessrnn.sim.recorded_run import excerpt, predicted, read_record
from chessrnn.sim.runner import Run, simulate
from chessrnn.sim.scenarios import Scenario, continued, random_sequences, random_state
from chessrnn.sim.stalls import StallPattern

LENGTHS = (5, 1, 3)
STALLS = [
    (StallPattern(), StallPattern()),
    (StallPattern("random", 0.5, seed=1), StallPattern("random", 0.5, seed=2)),
    (StallPattern("bursty", 0.7, 50, seed=3), StallPattern()),
    (StallPattern(), StallPattern("bursty", 0.8, 100, seed=4)),
]
# Name → simulator, preset, settings.  Between them: both engines, every block size, both activations, every register on
# and off, tiles that do not divide the grid, and tiles that are the whole grid.
DESIGNS = {
    "verilator-tiny": ("verilator", "tiny", {}),
    "verilator-fast": (
        "verilator",
        "tiny",
        {"architecture.engine": "fast", "activation.kind": "shift", "activation.segments": 4},
    ),
    "icarus-tiny": ("icarus", "tiny", {}),
    "icarus-k1": (
        "icarus",
        "tiny",
        {"compression.block_size": 1, "architecture.tile_rows": 7, "architecture.tile_cols": 5},
    ),
    "icarus-k2-fast": (
        "icarus",
        "tiny",
        {"compression.block_size": 2, "architecture.engine": "fast", "architecture.tile_cols": 3},
    ),
    "icarus-k8-fast": (
        "icarus",
        "tiny",
        {"compression.block_size": 8, "architecture.engine": "fast", "architecture.tile_rows": 3},
    ),
    "icarus-k16-fast": (
        "icarus",
        "tiny",
        {"compression.block_size": 16, "architecture.engine": "fast", "architecture.tile_cols": 1},
    ),
    "icarus-whole-grid": ("icarus", "tiny", {"architecture.tile_rows": 12, "architecture.tile_cols": 6}),
    "icarus-one-element": (
        "icarus",
        "tiny",
        {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.lookahead": 1},
    ),
    "icarus-no-registers": (
        "icarus",
        "tiny",
        {
            "architecture.engine": "fast",
            "architecture.arithmetic": "multiplier",
            "architecture.pipeline.memory_register": False,
            "architecture.pipeline.operand_register": False,
            "architecture.pipeline.inverse_levels": 0,
            "architecture.pipeline.multiplier_stages": 0,
            "architecture.pipeline.adder_levels": 0,
        },
    ),
    # A cell each, whose bundles of gates the rows of a tile cut in two.
    "icarus-peephole": (
        "icarus",
        "tiny",
        {"network.cell": "lstm_peephole", "architecture.tile_rows": 3, "quantization.peephole": "Q1.5"},
    ),
    "icarus-gru": (
        "icarus",
        "tiny",
        {"network.cell": "gru", "architecture.engine": "fast", "architecture.tile_rows": 3},
    ),
    "icarus-rnn": (
        "icarus",
        "tiny",
        {"network.cell": "rnn", "quantization.weight_frac": 7, "architecture.tile_rows": 2},
    ),
    "icarus-rnn-relu": (
        "icarus",
        "tiny",
        {
            "network.cell": "rnn_relu",
            "quantization.weight_frac": 7,
            "quantization.h": "Q3.5",
            "architecture.tile_rows": 2,
        },
    ),
    # A step of three products, the last waiting for the first.
    "icarus-reset-first": (
        "icarus",
        "tiny",
        {
            "network.cell": "gru_reset_first",
            "quantization.weight_frac": 7,
            "architecture.engine": "fast",
            "architecture.tile_rows": 2,
        },
    ),
    "icarus-reset-first-stack": (
        "icarus",
        "tiny",
        {
            "network.cell": "gru_reset_first",
            "quantization.weight_frac": 7,
            "network.num_layers": 2,
            "architecture.contexts": 2,
            "architecture.arithmetic": "multiplier",
            "architecture.tile_rows": 2,
            "architecture.tile_cols": 3,
        },
    ),
    # Layers on one engine, their numbers of column groups different.
    "verilator-two-layers": (
        "verilator",
        "tiny",
        {
            "network.num_layers": 2,
            "network.input_size": 22,
            "architecture.engine": "fast",
            "architecture.arithmetic": "multiplier",
        },
    ),
    # States in and out, of every layer, behind projections that fill no bundle.
    "icarus-state-ports": (
        "icarus",
        "tiny",
        {
            "network.num_layers": 2,
            "network.projection_size": 7,
            "architecture.tile_cols": 2,
            "architecture.state_ports": True,
            "architecture.arithmetic": "multiplier",
        },
    ),
    "verilator-gru-state-ports": (
        "verilator",
        "tiny",
        {
            "network.cell": "gru",
            "quantization.weight_frac": 7,
            "architecture.state_ports": True,
            "architecture.arithmetic": "multiplier",
        },
    ),
    # The states of several contexts, of which some go on while another's is out or in.
    "icarus-contexts-state-ports": (
        "icarus",
        "tiny",
        {
            "network.num_layers": 2,
            "network.projection_size": 7,
            "architecture.contexts": 3,
            "architecture.output_layer": 5,
            "architecture.state_ports": True,
            "architecture.arithmetic": "multiplier",
            "architecture.tile_cols": 2,
            "architecture.tile_rows": 5,
        },
    ),
    "icarus-rnn-contexts-state-ports": (
        "icarus",
        "tiny",
        {
            "network.cell": "rnn",
            "quantization.weight_frac": 7,
            "architecture.contexts": 2,
            "architecture.state_ports": True,
            "architecture.engine": "fast",
            "architecture.tile_rows": 3,
        },
    ),
    # Of a cell whose stages share one state.
    "icarus-reset-first-state-ports": (
        "icarus",
        "tiny",
        {
            "network.cell": "gru_reset_first",
            "quantization.weight_frac": 7,
            "network.num_layers": 2,
            "architecture.state_ports": True,
            "architecture.engine": "fast",
            "architecture.tile_rows": 1,
            "architecture.tile_cols": 2,
        },
    ),
    "icarus-reset-first-contexts-state-ports": (
        "icarus",
        "tiny",
        {
            "network.cell": "gru_reset_first",
            "quantization.weight_frac": 7,
            "network.num_layers": 2,
            "architecture.contexts": 3,
            "architecture.output_layer": 6,
            "architecture.state_ports": True,
            "architecture.arithmetic": "multiplier",
            "architecture.tile_rows": 2,
            "architecture.tile_cols": 3,
        },
    ),
    # An output layer on chip, whose lanes do not divide its outputs.
    "icarus-output-layer": (
        "icarus",
        "tiny",
        {
            "network.num_layers": 2,
            "architecture.tile_rows": 3,
            "architecture.contexts": 2,
            "architecture.output_layer": 11,
            "architecture.output_lanes": 4,
        },
    ),
    # Lanes that share the first columns of its circulant blocks; the last block of h has padding.
    "icarus-circulant-output-layer": (
        "icarus",
        "tiny",
        {
            "network.hidden_size": 10,
            "architecture.tile_rows": 3,
            "architecture.output_layer": 11,
            "compression.output_block_size": 4,
        },
    ),
    "icarus-contexts": (
        "icarus",
        "tiny",
        {"architecture.contexts": 2, "network.num_layers": 2, "architecture.tile_rows": 3},
    ),
    # Whole sequences, layer by layer; the longest is cut.
    "icarus-both-directions": (
        "icarus",
        "tiny",
        {
            "network.bidirectional": True,
            "network.num_layers": 2,
            "network.hidden_size": 7,
            "architecture.sequence_steps": 3,
            "architecture.engine": "fast",
            "architecture.arithmetic": "multiplier",
        },
    ),
    # Both again, each behind projections that fill no bundle and end within a block.
    "icarus-both-directions-projected": (
        "icarus",
        "tiny",
        {
            "network.bidirectional": True,
            "network.num_layers": 2,
            "network.cell": "lstm_peephole",
            "network.projection_size": 7,
            "architecture.sequence_steps": 4,
            "architecture.tile_rows": 5,
            "architecture.tile_cols": 2,
        },
    ),
    # The reset gate first: what R makes and what N makes of either direction leave the lanes in turns.
    "icarus-both-directions-reset-first": (
        "icarus",
        "tiny",
        {
            "network.bidirectional": True,
            "network.num_layers": 2,
            "network.cell": "gru_reset_first",
            "network.hidden_size": 7,
            "quantization.weight_frac": 7,
            "architecture.sequence_steps": 4,
            "architecture.engine": "fast",
            "architecture.tile_rows": 2,
        },
    ),
    "icarus-three-layers": (
        "icarus",
        "tiny",
        {"network.num_layers": 3, "network.cell": "gru", "architecture.tile_rows": 2, "architecture.tile_cols": 1},
    ),
    "icarus-all-registers": (
        "icarus",
        "tiny",
        {
            "architecture.engine": "fast",
            "architecture.arithmetic": "multiplier",
            "architecture.pipeline.inverse_levels": 1,
            "architecture.pipeline.multiplier_stages": 2,
            "architecture.pipeline.adder_levels": 1,
        },
    ),
    "icarus-no-registers-carry-save": (
        "icarus",
        "tiny",
        {
            "architecture.arithmetic": "carry_save",
            "architecture.pipeline.memory_register": False,
            "architecture.pipeline.operand_register": False,
            "architecture.pipeline.compressor_terms": 64,
        },
    ),
    "icarus-narrow-compressors": (
        "icarus",
        "tiny",
        {"architecture.arithmetic": "carry_save", "architecture.pipeline.compressor_terms": 2},
    ),
    "icarus-4-bit": ("icarus", "tiny", {"quantization.weight_bits": 4, "quantization.weight_frac": [3, 3, 4, 3]}),
    "icarus-char128": ("icarus", "char128", {"architecture.arithmetic": "multiplier", "architecture.tile_cols": 5}),
}
# Designs that are not left to the slow tests: kinds of engine, cell, port and direction.
QUICK = {
    "icarus-tiny", "icarus-k2-fast", "icarus-one-element", "icarus-gru", "icarus-rnn-relu",
    "icarus-contexts-state-ports", "icarus-both-directions", "icarus-4-bit",
}  # fmt: skip
# The one of them whose carry-save arithmetic is not left to the slow tests either: its words are short.
QUICK_CARRY_SAVE = "icarus-4-bit"

# Designs with carry-save arithmetic as well: those that differ in tile, engine and words.  What sets the others apart
# (cells, layers, ports, directions) comes behind the sums, and random designs have it with either arithmetic.
CARRY_SAVE = {
    "verilator-tiny", "verilator-fast", "icarus-tiny", "icarus-k1", "icarus-k2-fast", "icarus-k8-fast",
    "icarus-k16-fast", "icarus-whole-grid", "icarus-4-bit", "icarus-gru", "icarus-contexts",
    "icarus-both-directions-reset-first",
}  # fmt: skip


def problems(directory, weights, runs, simulator) -> list[str]:
    emit(weights, directory, "a test")
    results = simulate(directory, runs, simulator)
    assert len(results) == len(runs)
    for result in results:
        assert result.issues == result.run.scenario.config.bank_words * result.run.scenario.num_steps
    record = read_record(directory, weights.config, file_digest(directory / VERILOG_FILE))
    assert (record is None) == all(not run.unstalled for run in runs)
    if record is not None:
        # Every single beat and issue, where the comparison above has the first and the last of each step.
        assert record.trace == predicted(weights.config, excerpt(weights.config, record.lengths), record.loads)
    return [f"{result.run.name}: {problem}" for result in results for problem in result.problems]


def cases():
    """Name, simulator and arithmetic of every run of a design.

    Icarus takes ten times as long for carry-save arithmetic as for multipliers, whose integers and cycles are the same.
    """
    for name, (simulator, _base, settings) in DESIGNS.items():
        chosen = settings.get("architecture.arithmetic")
        for arithmetic in ("multiplier", "carry_save"):
            usual = (simulator == "icarus") if arithmetic == "multiplier" else name in CARRY_SAVE
            if arithmetic == chosen or chosen is None and usual:
                slow = name not in QUICK or (arithmetic == "carry_save") != (name == QUICK_CARRY_SAVE)
                marks = [pytest.mark.needs(simulator), *([pytest.mark.slow] if slow else [])]
                yield pytest.param(name, arithmetic, marks=marks, id=f"{name}-{arithmetic}")


@pytest.mark.parametrize(("name", "arithmetic"), list(cases()))
def test_design(name, arithmetic, tmp_path, rng):
    simulator, base, settings = DESIGNS[name]
    settings = settings | {"architecture.arithmetic": arithmetic}
    weights = random_weights(preset(base).replace(settings), rng)
    runs = []
    quick = simulator == "verilator" or arithmetic == "multiplier" and base == "tiny"
    lengths = LENGTHS if quick else LENGTHS[1:]
    for source, sink in STALLS if quick else STALLS[:2]:
        initial = ()
        if weights.config.architecture.state_ports:
            initial = tuple(random_state(weights.config, rng) if number else None for number in range(len(lengths)))
        scenario = Scenario(weights, random_sequences(weights.config, rng, lengths), initial)
        runs.append(Run(scenario, source, sink, f"x stalls {source}, h stalls {sink}"))
    assert problems(tmp_path / "build", weights, runs, simulator) == []


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("index", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 8))])
def test_random_design(index, tmp_path):
    runs = make_runs(2024, index)
    assert problems(tmp_path / "build", runs[0].scenario.weights, runs, "icarus") == []


@pytest.mark.needs("icarus")
def test_a_wrong_weight_is_seen(tmp_path, rng):
    """The comparison itself: another network's memories must not pass."""
    config = preset("tiny").replace({"architecture.arithmetic": "multiplier"})
    scenario = Scenario(random_weights(config, rng), random_sequences(config, rng, LENGTHS))
    emit(scenario.weights, tmp_path / "build", "a test")
    emit(random_weights(config, rng), tmp_path / "other", "a test")
    for path in (tmp_path / "other").glob("tiny_weights_*.mem"):
        replace_file(tmp_path / "build", path.name, path.read_text())
    (result,) = simulate(tmp_path / "build", [Run(scenario)], "icarus")
    assert result.mismatches > 0
    assert any("h is" in problem for problem in result.problems)
    assert result.timeline == scenario.timeline


def test_weights_of_another_network_are_refused(tmp_path, rng):
    config = preset("tiny").replace({"architecture.arithmetic": "multiplier"})
    emit(random_weights(config, rng), tmp_path / "build", "a test")
    other = Scenario(random_weights(config, rng), random_sequences(config, rng, LENGTHS))
    with pytest.raises(InvalidFileError, match="must hold the weights of the run, not others"):
        simulate(tmp_path / "build", [Run(other)], "icarus")


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("contexts", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_sequence_goes_on_where_another_ended(contexts, tmp_path, rng):
    """Cut in three, handed on through the state ports, the sequence of a context gives what it gives whole."""
    settings = {
        "architecture.state_ports": True,
        "architecture.contexts": contexts,
        "architecture.arithmetic": "multiplier",
    }
    weights = random_weights(preset("tiny").replace(settings), rng)
    whole = random_sequences(weights.config, rng, [9, 8][:contexts])
    parts = [np.split(x, cuts) for x, cuts in zip(whole, [(2, 3), (1, 5)], strict=False)]
    scenario = continued(weights, [part for turn in zip(*parts, strict=True) for part in turn])
    emit(weights, tmp_path / "build", "a test")
    (result,) = simulate(tmp_path / "build", [Run(scenario)], "icarus")
    assert result.problems == []
    for context, x in enumerate(whole):
        places = [place for number in range(context, 3 * contexts, contexts) for place in scenario.steps_of(number)]
        assert np.array_equal(result.h[places], Scenario(weights, (x,)).expected[0])


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_ten_thousand_steps(tmp_path, rng):
    # Four sequences in turn cover each other's latency, so a step takes few cycles to simulate.
    sizes = {"network.input_size": 2, "network.hidden_size": 2, "compression.block_size": 2}
    tile = {"architecture.tile_rows": 4, "architecture.tile_cols": 2, "architecture.contexts": 4}
    config = preset("tiny").replace({**sizes, **tile, "architecture.arithmetic": "multiplier"})
    scenario = Scenario(random_weights(config, rng), random_sequences(config, rng, [2500] * 4))
    emit(scenario.weights, tmp_path, "a long run")
    [result] = simulate(tmp_path, [Run(scenario, name="long")], "icarus")
    assert (scenario.num_steps, result.problems) == (10_000, [])


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_characters_of_the_shipped_network(tmp_path):
    """What `make sim` does, in short: the shipped weights, a text, the next characters from the RTL's own h."""
    # Icarus takes minutes for the carry-save rows of a whole tile; `make sim` has Verilator for them.
    config = preset("char128").replace({"architecture.arithmetic": "multiplier"})
    image = WeightImage.load(SHIPPED / "char128.safetensors", config)
    model = CharModel(image)
    x = model.embed(model.encode("The accelerator reads"))
    scenario = Scenario(image.weights, (x,))
    emit(image.weights, tmp_path / "build", "the shipped weights")
    (result,) = simulate(tmp_path / "build", [Run(scenario)], "icarus")
    assert result.problems == []
    assert np.array_equal(model.predict(result.h), model.predict(scenario.expected[0]))
