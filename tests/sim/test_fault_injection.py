"""Parity: every flipped bit that is read and used is reported, and nothing is without a fault."""

import pytest

from chessrnn.model.memory_image import initialised_memories, state_memories
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import emit, load_build
from chessrnn.sim.fault_injection import inject

SMALL = {
    "network.input_size": 3, "network.hidden_size": 3, "compression.block_size": 2, "architecture.tile_rows": 2,
    "architecture.tile_cols": 2, "architecture.engine": "direct", "architecture.arithmetic": "multiplier",
    "quantization.weight_bits": 3, "quantization.bias_bits": 12, "quantization.x": "Q1.3", "quantization.h": "Q1.3",
    "quantization.preact": "Q4.4", "quantization.gate": "Q2.4", "quantization.cell": "Q3.4",
    "quantization.weight_frac": 4, "activation.segments": 4, "architecture.parity": "word",
}  # fmt: skip
DESIGNS = {
    # Two banks of six bits and their parity bit share a memory.
    "rnn": {"network.cell": "rnn", "architecture.weight_memory": "ram", "architecture.memory_width": 13},
    "lstm": {"architecture.tile_cols": 1},
    "staged": {"network.cell": "gru_reset_first", "architecture.tile_rows": 1},
    "bidirectional": {"network.cell": "rnn", "network.bidirectional": True, "architecture.sequence_steps": 4,
                      "network.num_layers": 2},
    "output layer": {"network.cell": "rnn", "architecture.output_layer": 3},
}  # fmt: skip


@pytest.mark.needs("icarus")
@pytest.mark.parametrize(
    "design", [name if name == "rnn" else pytest.param(name, marks=pytest.mark.slow) for name in DESIGNS]
)
def test_every_bit_of_every_memory(design, tmp_path, rng):
    config = preset("tiny").replace(SMALL | DESIGNS[design])
    emit(random_weights(config, rng), tmp_path / "build", "a test")
    intact, *faults = inject(load_build(tmp_path / "build"), tmp_path)
    assert (intact.differences, intact.reported) == (0, False)
    assert len(faults) == sum(spec.bits for spec in (*initialised_memories(config), *state_memories(config)))
    assert [fault for fault in faults if fault.reads and not fault.reported] == []
    assert [fault for fault in faults if fault.reported and not fault.reads] == []
    assert [fault for fault in faults if fault.differences and not fault.reported] == []
    read = sum(fault.reported for fault in faults)
    print(f"{design}: {len(faults)} bits, {read} read, {sum(fault.differences > 0 for fault in faults)} change h")
    assert read > 0.8 * len(faults)
