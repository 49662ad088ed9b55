import re
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.memory_image import (
    OUTPUT_BIAS,
    OUTPUT_WEIGHTS,
    MemorySpec,
    bias_spec,
    initialised_memories,
    mem_text,
    memory_words,
    pack,
    peephole_spec,
    read_mem,
    scale_spec,
    state_memories,
    stored_spec,
    vector_stores,
    weight_memories,
)
from chessrnn.model.output_layer import first_columns
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.parts import PROJECTION
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import random_weights
from chessrnn.sim.scenarios import random_config


def unpack(word: int, entries: int, bits: int) -> list[int]:
    values = [(word >> (bits * entry)) & ((1 << bits) - 1) for entry in range(entries)]
    return [value - (1 << bits) * (value >> (bits - 1)) for value in values]


@given(st.integers(2, 16), st.integers(1, 16), st.integers(0, 2**31))
def test_pack_is_invertible(bits, entries, seed):
    values = np.random.default_rng(seed).integers(-(1 << (bits - 1)), 1 << (bits - 1), size=(5, entries))
    assert [unpack(word, entries, bits) for word in pack(values, bits)] == values.tolist()


@given(st.integers(0, 2**32 - 1))
def test_every_weight_is_stored_once_where_it_is_read(seed):
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    weights = random_weights(config, rng)
    words = memory_words(weights)
    specs = {spec.name: spec for spec in initialised_memories(config)}
    assert set(words) == set(specs)
    for name, spec in specs.items():
        assert len(words[name]) == spec.depth
        assert max(words[name]).bit_length() <= spec.width
    arch, k = config.architecture, config.block_size
    # The bank of every processing element: its share of the words of the memory that holds it.
    banks = {
        place: [word >> (position * k * config.weight_bits) for word in words[memory.spec.name]]
        for memory in weight_memories(config)
        for position, place in enumerate(memory.places)
    }
    assert sorted(banks) == [(row, col) for row in range(arch.tile_rows) for col in range(arch.tile_cols)]
    # Every part, once per direction.
    parts = [part for part in config.parts for _ in range(config.directions)]
    layers = [weights.layers[config.directions * part.layer + way] for part in config.parts
              for way in range(config.directions)]  # fmt: skip
    rebuilt = [np.zeros((part.row_blocks, part.blocks, k), dtype=np.int64) for part in parts]
    issues = iter(enumerate(Schedule(config).issues))
    for part, found in zip(parts, rebuilt, strict=True):
        bits, slots = config.layer_weight_bits[part.layer], config.layer_slots[part.layer]
        for address, issue in islice(issues, part.words):
            assert config.parts[issue.part] is part
            word = address - sum(one.words for one in parts if one.layer < part.layer)
            stored = sum(config.layer_bank_depths[: part.layer]) + word // slots
            shift = word % slots * k * bits
            for r in range(arch.tile_rows):
                for c in range(arch.tile_cols):
                    values = unpack(banks[r, c][stored] >> shift, k, bits)
                    row, col = issue.row * arch.tile_rows + r, issue.col * arch.tile_cols + c
                    if row < part.row_blocks and col < part.blocks:
                        found[row, col] = [2 * value + 1 for value in values] if config.has_half_levels else values
                    else:
                        assert not any(values)
    for part, layer, found in zip(parts, layers, rebuilt, strict=True):
        if part.kind == PROJECTION:
            assert np.array_equal(found[: part.output_blocks], layer.projection)
            # Rows that only fill a bundle have code 0.
            assert (found[part.output_blocks :] == config.has_half_levels).all()
            continue
        for row, blocks in enumerate(found):
            unit, place = divmod(row, len(part.gates))
            wanted = layer.defining[part.gates[place], unit]
            if part.early.is_previous or config.network.bidirectional:
                # The layer's own h, or the vector in its place, comes before x or the h of the layer below.
                first = layer.config.num_input_blocks
                wanted = np.concatenate([wanted[first:], wanted[:first]])
            assert np.array_equal(blocks, wanted)
    schedule = Schedule(config)
    spec, lanes = bias_spec(config, schedule), schedule.cell_lanes
    places = [
        (part, layer, place)
        for part, layer in zip(parts, layers, strict=True)
        for place in range(part.row_blocks // config.bundle_rows * schedule.slices)
    ]
    assert len(places) == spec.depth
    for address, (part, layer, place) in enumerate(places):
        if part.kind == PROJECTION:
            assert words[spec.name][address] == 0
            continue
        found = unpack(words[spec.name][address], config.bundle_rows * lanes, config.quantization.bias_bits)
        bias = layer.bias[list(part.gates), place * lanes : (place + 1) * lanes]
        assert found == bias.reshape(-1).tolist()
        if config.has_row_scales:
            block, bits = place // schedule.slices, config.quantization.scale_bits
            word = words[scale_spec(config, schedule).name][address // schedule.slices]
            found = [word >> (row * bits) & ((1 << bits) - 1) for row in range(config.bundle_rows)]
            assert found == layer.scale[list(part.gates), block].tolist()
            assert word.bit_length() <= stored_spec(config, scale_spec(config, schedule)).width
        if config.cell.peepholes:
            count, bits = len(config.cell.peepholes) * lanes, config.quantization.peephole.width
            found = unpack(words[peephole_spec(config, schedule).name][address], count, bits)
            assert found == layer.peephole[:, place * lanes : (place + 1) * lanes].reshape(-1).tolist()


@pytest.mark.parametrize("of_output", [1, 2, 4])
def test_output_weights_are_stored_group_after_group(of_output, rng):
    settings = {"architecture.output_layer": 11, "architecture.output_lanes": 4, "network.hidden_size": 10}
    config = preset("tiny").replace(settings | {"compression.output_block_size": of_output})
    weights, plan, k = random_weights(config, rng), config.output_plan, config.block_size
    words, columns = memory_words(weights), first_columns(weights.output.weight, of_output, "weight")
    rows = plan.lanes // of_output
    for address, word in enumerate(words[OUTPUT_WEIGHTS]):
        group, block = divmod(address, plan.blocks)
        found = np.array(unpack(word, rows * k, WEIGHT_BITS)).reshape(rows, k // of_output, of_output)
        for row, col in np.ndindex(found.shape[:2]):
            place = group * rows + row, block * k // of_output + col
            inside = place[0] < columns.shape[0] and place[1] < columns.shape[1]
            assert np.array_equal(found[row, col], columns[place] if inside else np.zeros(of_output))
    bias = [value for word in words[OUTPUT_BIAS] for value in unpack(word, plan.lanes, BIAS_BITS)]
    assert bias == [*weights.output.bias.tolist(), 0]


# Settings of a network of 10 inputs and 12 hidden units in blocks of 4, on a tile of one element with two cell lanes:
# depth and width of every memory without initial contents.
SIZES = [
    (
        {"network.cell": "gru_reset_first", "network.num_layers": 2, "network.bidirectional": True},
        {
            # Two halves and two directions of three blocks; two halves of three blocks; two directions.
            "h_c0": (12, 32), "input_c0": (12, 32), "inner_c0": (6, 32),
            # Three blocks of two slices, in both directions of the layer that is running.
            "cell_state": (12, 26), "held_gate": (12, 20),
            "sequence_x": (64 * 3, 32), "sequence_h0": (64 * 6, 32), "sequence_h1": (64 * 6, 32),
        },
    ),
    (
        {"network.cell": "gru_reset_first", "network.num_layers": 2, "architecture.contexts": 2},
        {
            # Those of the step before are kept for every context.
            "x_c0": (6, 32), "h_c0": (12, 32), "layer0_scaled_c0": (6, 32), "layer1_early_c0": (12, 32),
            "layer1_late_c0": (6, 32), "layer1_below_c0": (6, 32), "layer1_scaled_c0": (6, 32),
            "cell_state": (24, 26), "held_gate": (6, 20), "output_buffer": (12, 32),
        },
    ),
    (
        {"architecture.output_layer": 5},
        {
            "x_c0": (6, 32), "h_c0": (6, 32), "cell_state": (6, 26), "output_buffer": (6, 32), "output_h": (6, 32),
        },
    ),
    (
        {"network.projection_size": 4, "network.num_layers": 2, "architecture.contexts": 2},
        {
            "x_c0": (6, 32), "h_c0": (4, 32), "layer0_unprojected_c0": (6, 32), "layer1_early_c0": (4, 32),
            "layer1_late_c0": (2, 32), "layer1_unprojected_c0": (6, 32),
            # A projection counts as a block of two slices without state.
            "cell_state": (2 * 2 * (3 + 1) * 2, 26), "output_buffer": (4, 32),
        },
    ),
]  # fmt: skip
SIZED = {
    "architecture.tile_rows": 1,
    "architecture.tile_cols": 1,
    "architecture.cell_lanes": 2,
    "quantization.weight_frac": 7,
    "quantization.x": "Q1.7",
    "quantization.h": "Q2.6",
    "quantization.gate": "Q2.8",
    "quantization.cell": "Q4.9",
}


@pytest.mark.parametrize(("settings", "sizes"), SIZES)
def test_sizes_of_memories(settings, sizes):
    specs = state_memories(preset("tiny").replace(SIZED | settings))
    assert {spec.name: (spec.depth, spec.width) for spec in specs} == sizes


def test_every_memory_has_all_its_words(rng):
    """The slices of a projection have words of zeros, so that those of the layer above follow in their places."""
    settings = {"network.cell": "lstm_peephole", "network.projection_size": 4, "network.num_layers": 2}
    weights = random_weights(preset("tiny").replace(SIZED | settings), rng)
    words = memory_words(weights)
    assert {name: len(contents) for name, contents in words.items()} == {
        spec.name: spec.depth for spec in initialised_memories(weights.config)
    }
    # Six slices of the lower layer, two of its projection, and the units of the layer above, two at a time.
    bits = weights.config.quantization.peephole.width
    assert words["peephole"][6:8] == [0, 0]
    upper = weights.layers[1].peephole
    assert unpack(words["peephole"][8], 6, bits) == upper[:, :2].reshape(-1).tolist()


@pytest.mark.parametrize(
    ("settings", "memories"),
    [
        ({}, {"weights_r0_c0": 32, "weights_r0_c1": 32, "weights_r1_c0": 32, "weights_r1_c1": 32,
              "weights_r2_c0": 32, "weights_r2_c1": 32}),
        ({"architecture.memory_width": 64}, {"weights_r0_c0": 64, "weights_r1_c0": 64, "weights_r2_c0": 64}),
        # Neighbours of two rows share a memory, and the last memory holds fewer.
        ({"architecture.memory_width": 130}, {"weights_r0_c0": 128, "weights_r2_c0": 64}),
        # The parity bit takes part of the width, and is stored once per word of a memory.
        ({"architecture.memory_width": 64, "architecture.parity": "word"},
         {f"weights_r{row}_c{col}": 33 for row in range(3) for col in range(2)}),
        ({"architecture.memory_width": 65, "architecture.parity": "word"},
         {"weights_r0_c0": 65, "weights_r1_c0": 65, "weights_r2_c0": 65}),
    ],
)  # fmt: skip
def test_banks_share_memories(settings, memories):
    tile = {"architecture.tile_rows": 3, "architecture.tile_cols": 2}
    config = preset("tiny").replace(tile | settings)
    specs = initialised_memories(config)[: config.num_weight_memories]
    assert {spec.name: spec.width for spec in specs} == memories
    assert {spec.depth for spec in specs} == {config.bank_depth}


def test_words_of_a_shared_memory(rng):
    """The lowest bits are the word of the first bank; the weights of all banks are those of banks alone."""
    alone = random_weights(preset("tiny").replace({"architecture.tile_rows": 3, "architecture.tile_cols": 1}), rng)
    shared = replace(alone, config=alone.config.replace({"architecture.memory_width": 64}))
    found, banks = memory_words(shared), memory_words(alone)
    pairs = zip(banks["weights_r0_c0"], banks["weights_r1_c0"], strict=True)
    assert found["weights_r0_c0"] == [low | high << 32 for low, high in pairs]
    assert found["weights_r2_c0"] == banks["weights_r2_c0"]
    assert found["bias"] == banks["bias"]


def test_formats_of_vectors():
    """What is projected has the format of a cell's output, which differs from that of h."""
    config = preset("tiny").replace(SIZED | {"network.projection_size": 4, "network.num_layers": 2})
    names = ("x", "h", "layer0_unprojected", "layer1_early", "layer1_late", "layer1_unprojected")
    formats = ("Q1.7", "Q2.6", "Q1.7", "Q2.6", "Q2.6", "Q1.7")
    assert [(store.name, str(store.format)) for store in vector_stores(config)] == list(
        zip(names, formats, strict=True)
    )


SPEC = MemorySpec("bank", 3, 10)
HEADER = b"// bank: 3 words of 10 bits, configuration abc123"


def test_file_round_trip(tmp_path):
    path = tmp_path / "bank.mem"
    path.write_text(mem_text(SPEC, [1, 0x3FF, 0], "abc123"))
    assert read_mem(path, SPEC, "abc123") == [1, 0x3FF, 0]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "must be a readable memory file"),
        (b"// configuration abc124\n1\n2\n3\n", "must be of configuration abc123, not 'abc124'"),
        (b"1\n2\n3\n", "must be of configuration abc123, not '1'"),
        (
            b"// configuration abc123\n001\n002\n003\n",
            f"must begin with {HEADER.decode()!r}, not '// conf",
        ),
        (HEADER + b"\n001\n002\n", "must hold 3 words, each with a line break, not 2"),
        (HEADER + b"\n001\n002\n003\n004\n", "must hold 3 words, each with a line break, not 4"),
        (HEADER + b"\n001\n002\n003", "must hold 3 words, each with a line break, not 2"),
        (HEADER, "must hold 3 words, each with a line break, not 0"),
        (HEADER + b"\n001\n002\nzzz\n", "must hold words of 3 lower-case hexadecimal digits, not 'zzz'"),
        (HEADER + b"\n001\n-02\n003\n", "must hold words of 3 lower-case hexadecimal digits, not '-02'"),
        (HEADER + b"\n001\n-a3df40c\n003\n", "must hold words of 3 lower-case hexadecimal digits, not '-a3df40c'"),
        (HEADER + b"\n001\n+02\n003\n", "must hold words of 3 lower-case hexadecimal digits, not '+02'"),
        (HEADER + b"\n001\n0x2\n003\n", "must hold words of 3 lower-case hexadecimal digits, not '0x2'"),
        (HEADER + b"\n001\n0_2\n003\n", "must hold words of 3 lower-case hexadecimal digits, not '0_2'"),
        (HEADER + b"\n001\n 02\n003\n", "must hold words of 3 lower-case hexadecimal digits, not ' 02'"),
        (HEADER + b"\n001\n2\n003\n", "must hold words of 3 lower-case hexadecimal digits, not '2'"),
        (HEADER + b"\n001\n0A2\n003\n", "must hold words of 3 lower-case hexadecimal digits, not '0A2'"),
        (HEADER + b"\r\n001\r\n002\r\n003\r\n", "must begin with"),
        (HEADER + b"\n001\n002\n400\n", "must hold words of 10 bits, not 11"),
        (b"\xff", "must be a readable memory file"),
    ],
)
def test_wrong_files(tmp_path, content, text):
    path = tmp_path / "bank.mem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidFileError, match=re.escape(text)):
        read_mem(path, SPEC, "abc123")
