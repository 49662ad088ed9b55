import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model.config import Config, load_config
from chessrnn.model.config_values import parse_setting
from chessrnn.model.errors import InvalidFileError, InvalidTypeError, InvalidValueError
from chessrnn.model.presets import PRESETS, preset, resolve
from chessrnn.sim.scenarios import random_config

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_json_round_trip(seed):
    config = random_config(np.random.default_rng(seed))
    again = Config.from_dict(json.loads(config.to_json()))
    assert again == config
    assert again.fingerprint == config.fingerprint


@given(seeds)
def test_random_configs_are_sound(seed):
    config = random_config(np.random.default_rng(seed))
    assert all(part.row_groups * config.architecture.tile_rows >= part.row_blocks for part in config.parts)
    assert max(part.row_blocks for part in config.parts) >= config.max_tile_rows >= config.architecture.tile_rows
    assert config.num_col_groups * config.architecture.tile_cols >= config.num_col_blocks
    assert 1 << (config.accumulator_bits - 1) > config.product_sum_interval.high


def test_fingerprints_tell_apart_what_matters():
    base = preset("char128")
    renamed, faster = base.replace({"name": "other"}), base.replace({"architecture.tile_rows": 8})
    coarser = base.replace({"quantization.weight_bits": 4})
    wider = base.replace({"quantization.accumulator_bits": 40})
    assert renamed.fingerprint == base.fingerprint
    assert faster.fingerprint != base.fingerprint
    assert faster.model_fingerprint == base.model_fingerprint
    assert wider.model_fingerprint == base.model_fingerprint
    assert coarser.model_fingerprint != base.model_fingerprint
    circulant = base.replace({"compression.output_block_size": 8})
    assert circulant.fingerprint != base.fingerprint
    assert circulant.model_fingerprint != base.model_fingerprint


# Settings on char128, the type of the error and its whole text.
WRONG = [
    ("network.input_size=0", InvalidValueError, "network.input_size must be from 1 to 65536, not 0"),
    (
        "network.hidden_size=65536",
        InvalidValueError,
        "network.hidden_size must be small enough for 16 GB of memory (with blocks of 8 it needs 118 GB), not 65536",
    ),
    ("network.input_size=1.5", InvalidTypeError, "network.input_size must be an integer, not 1.5"),
    (
        "network.hidden_size=true",
        InvalidTypeError,
        "network.hidden_size must be an integer or an integer per layer, not True",
    ),
    (
        "network.cell=hopfield",
        InvalidValueError,
        "network.cell must be one of lstm, lstm_peephole, gru, gru_reset_first, rnn, rnn_relu, not 'hopfield'",
    ),
    (
        "compression.block_size=3",
        InvalidValueError,
        "compression.block_size must be a power of two from 1 to 16, not 3",
    ),
    (
        "compression.output_block_size=3",
        InvalidValueError,
        "compression.output_block_size must be a divisor of compression.block_size 8, not 3",
    ),
    (
        "compression.output_block_size=0",
        InvalidValueError,
        "compression.output_block_size must be a divisor of compression.block_size 8, not 0",
    ),
    ("quantization.weight_bits=9", InvalidValueError, "quantization.weight_bits must be from 2 to 8, not 9"),
    (
        "quantization.weight_frac=[7,7]",
        InvalidValueError,
        "quantization.weight_frac must be one integer or 4, one for each gate of cell lstm, not [7, 7]",
    ),
    (
        "quantization.weight_frac=[7,7,7,30]",
        InvalidValueError,
        "quantization.weight_frac must be from -8 to 20 for every gate, not 30",
    ),
    (
        "quantization.weight_levels=odd",
        InvalidValueError,
        "quantization.weight_levels must be one of integer, half, not 'odd'",
    ),
    (
        "quantization.weight_scale=column",
        InvalidValueError,
        "quantization.weight_scale must be one of gate, row, not 'column'",
    ),
    (
        "architecture.weight_memory=flash",
        InvalidValueError,
        "architecture.weight_memory must be rom or ram, not 'flash'",
    ),
    ("architecture.parity=odd", InvalidValueError, "architecture.parity must be none or word, not 'odd'"),
    (
        "architecture.memory_width=4",
        InvalidValueError,
        "architecture.memory_width must be from 8 to 512, or left out (null), not 4",
    ),
    ("quantization.scale_bits=9", InvalidValueError, "quantization.scale_bits must be from 4 to 8, not 9"),
    (
        "quantization.weight_frac=[[7],[6]]",
        InvalidValueError,
        "quantization.weight_frac must be one list for all layers or 1, one for each layer, not 2",
    ),
    (
        "quantization.weight_frac=[[7,7]]",
        InvalidValueError,
        "quantization.weight_frac must be one integer or 4, one for each gate of cell lstm, not [7, 7]",
    ),
    (
        "quantization.weight_frac=[[7],6]",
        InvalidTypeError,
        "quantization.weight_frac must be a list for each layer, where one is given, not 6",
    ),
    ("quantization.x=8", InvalidTypeError, "quantization.x: format must be a string of the form Qm.n, not 8"),
    ("quantization.x=Q9.9", InvalidValueError, "quantization.x must be from 2 to 16 bits wide, not 'Q9.9'"),
    (
        "quantization.cell=Q-20.40",
        InvalidValueError,
        "quantization.cell must be a format of at most 32 fraction bits, not 'Q-20.40'",
    ),
    (
        "quantization.gate=Q1.7",
        InvalidValueError,
        "quantization.gate must be Q2.n or wider, as 1.0 is a gate value, not 'Q1.7'",
    ),
    (
        "quantization.accumulator_bits=12",
        InvalidValueError,
        "quantization.accumulator_bits must be at least 23, or the longest sum could overflow, not 12",
    ),
    ("activation.kind=relu", InvalidValueError, "activation.kind must be one of pwl, shift, not 'relu'"),
    (
        "activation.segments=12",
        InvalidValueError,
        "activation.segments must be a power of two from 4 to 64 for kind pwl, not 12",
    ),
    ("architecture.tile_rows=0", InvalidValueError, "architecture.tile_rows must be from 1 to 4096, not 0"),
    (
        "architecture.tile_rows=65",
        InvalidValueError,
        "architecture.tile_rows must be at most 64, the number of block rows, not 65",
    ),
    (
        "architecture.tile_cols=25",
        InvalidValueError,
        "architecture.tile_cols must be at most 24, the number of block columns, not 25",
    ),
    ("architecture.engine=fft", InvalidValueError, "architecture.engine must be one of direct, fast, not 'fft'"),
    (
        "architecture.cell_lanes=3",
        InvalidValueError,
        "architecture.cell_lanes must be a divisor of block_size 8, not 3",
    ),
    (
        "architecture.lookahead=17",
        InvalidValueError,
        "architecture.lookahead must be from 1 to 16, the number of row groups, not 17",
    ),
    (
        "architecture.pipeline.multiplier_stages=3",
        InvalidValueError,
        "architecture.pipeline.multiplier_stages must be 0, 1 or 2, not 3",
    ),
    (
        "architecture.pipeline.memory_register=1",
        InvalidTypeError,
        "architecture.pipeline.memory_register must be true or false, not 1",
    ),
    (
        "architecture.speed=1",
        InvalidValueError,
        "architecture.speed must be a field of the configuration, not an unknown key",
    ),
    ("name.first=1", InvalidValueError, "name.first must be a field of the configuration, not a field of 'name'"),
    ("name=a/b", InvalidValueError, "name must be made of letters, digits, '_' and '-' only, not 'a/b'"),
]


@pytest.mark.parametrize(("setting", "kind", "text"), WRONG, ids=[row[0] for row in WRONG])
def test_wrong_setting(setting, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        preset("char128").replace(dict([parse_setting(setting)]))


BOTH = {"network.bidirectional": True}
WRONG_DIRECTIONS = [
    ({"architecture.sequence_steps": 9}, "left out (null) when network.bidirectional is false, not 9"),
    (BOTH | {"architecture.sequence_steps": 0}, "from 1 to 65536, not 0"),
    (
        BOTH | {"architecture.contexts": 2},
        "1 when network.bidirectional is true, as the two directions already alternate, not 2",
    ),
    (
        BOTH | {"architecture.lookahead": 2},
        "1 when network.bidirectional is true, as the two directions already alternate, not 2",
    ),
    (BOTH | {"architecture.state_ports": True}, "true, as the reverse direction begins at the end, not True"),
    (BOTH | {"compression.output_block_size": 2}, "1 when network.bidirectional is true, not 2"),
    (BOTH | {"architecture.pipeline.issue_register": True}, "false when network.bidirectional is true, not True"),
    (
        BOTH | {"network.hidden_size": 40000, "network.num_layers": 2},
        "network.hidden_size must be at most 32768, as the layers above read both directions, not 40000",
    ),
    (
        BOTH | {"network.hidden_size": 40000, "network.num_layers": 2, "network.projection_size": 33000},
        "network.projection_size must be at most 32768, as the layers above read both directions, not 33000",
    ),
]


@pytest.mark.parametrize(("settings", "text"), WRONG_DIRECTIONS, ids=[text for _, text in WRONG_DIRECTIONS])
def test_what_two_directions_exclude(settings, text):
    with pytest.raises(InvalidValueError, match=f"{re.escape(text)}$"):
        preset("char128").replace(settings)


# Settings of a stack of layers of different sizes, and the end of the error's text.
SIZES: dict = {"network.num_layers": 3, "network.hidden_size": [64, 32, 64]}
WRONG_SIZES = [
    ({"network.hidden_size": [64, 32]}, "one integer, as there is one layer, not [64, 32]"),
    (SIZES | {"network.num_layers": 2}, "one integer or 2, one for each layer, not [64, 32, 64]"),
    (SIZES | {"network.hidden_size": [64, 0, 64]}, "network.hidden_size must be from 1 to 65536, not 0"),
    (SIZES | {"network.hidden_size": []}, "one integer or 3, one for each layer, not []"),
    (
        SIZES | BOTH,
        "network.hidden_size must be the same for every layer when network.bidirectional is true, not [64, 32, 64]",
    ),
    (SIZES | {"network.projection_size": 8}, "when network.projection_size is not 0, not [64, 32, 64]"),
    (
        SIZES | {"network.cell": "gru_reset_first", "quantization.weight_frac": [5]},
        "network.hidden_size must be the same for every layer of cell gru_reset_first, not [64, 32, 64]",
    ),
    (
        SIZES | {"architecture.tile_rows": 33},
        "architecture.tile_rows must be at most 32, the number of block rows, not 33",
    ),
    (SIZES | {"architecture.lookahead": 5}, "from 1 to 4, the number of row groups, not 5"),
]


@pytest.mark.parametrize(("settings", "text"), WRONG_SIZES, ids=[text for _, text in WRONG_SIZES])
def test_what_layers_of_different_sizes_exclude(settings, text):
    with pytest.raises(InvalidValueError, match=f"{re.escape(text)}$"):
        preset("char128").replace(settings)


def test_layers_of_different_sizes():
    stack = preset("char128").replace(SIZES)
    layers = [stack.layer(number).network for number in range(3)]
    assert [(layer.input_size, layer.hidden_size) for layer in layers] == [(64, 64), (64, 32), (32, 64)]
    assert stack.output_size == 64
    assert [(part.early.blocks, part.late.blocks) for part in stack.parts] == [(8, 8), (4, 8), (8, 4)]
    assert stack.dense_weights == sum(stack.layer(number).dense_weights for number in range(3))
    assert stack.to_dict()["network"]["hidden_size"] == [64, 32, 64]
    equal = stack.replace({"network.hidden_size": [32, 32, 32]})
    assert equal == stack.replace({"network.hidden_size": 32})


# Settings of a stack of layers with weights of different widths, and the end of the error's text.
WIDTHS: dict = {"network.num_layers": 3, "quantization.weight_bits": [8, 4, 2]}
WRONG_WIDTHS = [
    ({"quantization.weight_bits": [8, 4]}, "one integer, as there is one layer, not [8, 4]"),
    (WIDTHS | {"network.num_layers": 2}, "one integer or 2, one for each layer, not [8, 4, 2]"),
    (WIDTHS | {"quantization.weight_bits": [8, 1, 8]}, "quantization.weight_bits must be from 2 to 8, not 1"),
    *(
        (
            WIDTHS | {"quantization.weight_bits": given},
            f"quantization.weight_bits must be one of {good}, as {wrong} bits would take the memory of {same}, "
            f"not {given}",
        )
        for given, good, wrong, same in (
            ([8, 6, 4], "8, 4, 2 beside a layer of 8 bits", 6, 8),
            ([3, 8, 8], "8, 4, 2 beside a layer of 8 bits", 3, 4),
            ([5, 5, 4], "5, 2 beside a layer of 5 bits", 4, 5),
            ([3, 3, 2], "3 beside a layer of 3 bits", 2, 3),
        )
    ),
]


@pytest.mark.parametrize(("settings", "text"), WRONG_WIDTHS, ids=[text for _, text in WRONG_WIDTHS])
def test_what_layers_of_different_widths_exclude(settings, text):
    with pytest.raises(InvalidValueError, match=f"{re.escape(text)}$"):
        preset("char128").replace(settings)


def test_memory_width_matters_where_banks_share_memories():
    alone = preset("tiny")
    bits = alone.weight_word_bits
    assert alone.replace({"architecture.memory_width": 2 * bits - 1}).fingerprint == alone.fingerprint
    shared = alone.replace({"architecture.memory_width": 2 * bits})
    assert (shared.banks_per_memory, shared.num_weight_memories) == (2, alone.num_banks // 2)
    assert shared.fingerprint != alone.fingerprint
    assert shared.model_fingerprint == alone.model_fingerprint


def test_fingerprints_of_both_directions():
    one = preset("tiny")
    both, longer = one.replace(BOTH), one.replace(BOTH | {"architecture.sequence_steps": 100})
    assert len({one.model_fingerprint, both.model_fingerprint}) == 2
    assert both.model_fingerprint == longer.model_fingerprint
    assert both.fingerprint != longer.fingerprint
    assert (both.sequence_steps, longer.sequence_steps) == (64, 100)


def test_peepholes_keep_sums_exact():
    """The scale of the product may be finer than that of the sum, as long as the exact sum fits 64 bits."""
    config = preset("tiny").replace({"network.cell": "lstm_peephole", "quantization.cell": "Q-8.32"})
    config.replace({"quantization.peephole": "Q-16.24"})
    rule = "such that the sum of a gate with its peephole product has at most 63 bits (gate I)"
    text = f"quantization.peephole must be {rule}, not 'Q-17.25'"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        config.replace({"quantization.peephole": "Q-17.25"})


def test_engine_fast_needs_blocks():
    text = "compression.block_size must be one of 2, 4, 8, 16 for engine fast, not 1"
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        preset("tiny").replace({"compression.block_size": 1, "architecture.engine": "fast"})


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ({}, InvalidValueError, "network must be given, not left out"),
        ([], InvalidTypeError, "configuration must be a table of fields, not []"),
        ({"network": 3}, InvalidTypeError, "network must be a table of fields, not 3"),
        ({"network": {"input_size": 4}}, InvalidValueError, "network.hidden_size must be given, not left out"),
    ],
)
def test_wrong_table(values, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        Config.from_dict(values)


def test_unknown_key_names_the_known_ones():
    with pytest.raises(
        InvalidValueError,
        match=r"^network\.size must be one of input_size, hidden_size, .*, bidirectional, not an unknown",
    ):
        Config.from_dict({"network": {"input_size": 4, "hidden_size": 4, "size": 1}})


def test_toml_and_json_files(tmp_path):
    config = preset("tiny")
    (tmp_path / "a.json").write_text(config.to_json())
    (tmp_path / "a.toml").write_text(
        'name = "tiny"\n[network]\ninput_size = 10\nhidden_size = 12\n[compression]\nblock_size = 4\n'
        "[architecture]\ntile_rows = 4\ntile_cols = 2\n"
    )
    assert load_config(tmp_path / "a.json") == config
    assert resolve(str(tmp_path / "a.toml")) == config


def test_build_folder_and_its_configuration(tmp_path):
    config = preset("tiny")
    build = {"configuration": config.fingerprint, "prefix": "tiny", "config": config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(build))
    assert load_config(tmp_path / "config.json") == config
    assert resolve(str(tmp_path)) == config
    build["config"]["network"]["hidden_size"] = 16
    (tmp_path / "config.json").write_text(json.dumps(build))
    changed = Config.from_dict(build["config"]).fingerprint
    with pytest.raises(InvalidFileError, match=rf"configuration must be {changed}, .*, not '{config.fingerprint}'"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(("name", "content"), [("a.json", b"{"), ("a.toml", b"= 1"), ("a.json", b"\xff\xfe")])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidFileError):
        load_config(tmp_path / name)
    with pytest.raises(InvalidFileError):
        load_config(tmp_path / "missing.json")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    config = preset(name)
    assert config.name == name
    assert dataclasses.is_dataclass(config)


@pytest.mark.parametrize("text", ["tile_rows", "=3", ""])
def test_setting_needs_both_sides(text):
    with pytest.raises(InvalidValueError, match=r"^--set must be of the form section\.field=value, not "):
        parse_setting(text)


def test_scales_of_layers():
    config = preset("tiny").replace({"network.num_layers": 3})
    same = config.replace({"quantization.weight_frac": [[7], [7, 7, 7, 7], [7]]})
    assert same == config, "equal lists of all layers are one list"
    own = config.replace({"quantization.weight_frac": [[7], [6, 5, 6, 4], [7]]})
    assert own.quantization.weight_frac == ((7,) * 4, (6, 5, 6, 4), (7,) * 4)
    assert own.layer(1).quantization.weight_frac == (6, 5, 6, 4)
    assert own.layer(0).model_fingerprint == config.layer(0).model_fingerprint != own.layer(1).model_fingerprint
    assert own.fingerprint != config.fingerprint
    assert Config.from_dict(json.loads(own.to_json())) == own
    assert own.layer_preact_shifts == ((6,) * 4, (5, 4, 5, 3), (6,) * 4)


def test_projections_of_layers_may_have_scales_of_their_own():
    plain = preset("tiny").replace({"network.num_layers": 2, "network.projection_size": 3})
    equal = plain.replace({"quantization.projection_frac": [7, 7]})
    assert equal == plain and equal.fingerprint == plain.fingerprint and plain.layer_projection_fracs == (7, 7)
    apart = plain.replace({"quantization.projection_frac": [7, 5]})
    assert apart.fingerprint != plain.fingerprint and Config.from_dict(apart.to_dict()) == apart
    assert [apart.layer(number).projection_frac for number in range(2)] == [7, 5]
    for fracs, rule, kind in (
        ([7], "be one integer or 2, one for each layer, not [7]", InvalidValueError),
        ([7, 21], "be from 0 to 20, not 21", InvalidValueError),
        ([7, 1.5], "be an integer or an integer per layer, not 1.5", InvalidTypeError),
    ):
        with pytest.raises(kind, match=f"^quantization.projection_frac must {re.escape(rule)}$"):
            plain.replace({"quantization.projection_frac": fracs})
    with pytest.raises(InvalidValueError, match="must be one integer, as there is one layer, not "):
        plain.replace({"network.num_layers": 1, "quantization.projection_frac": [7, 6]})


def test_row_scales_are_weights_to_store():
    plain = preset("tiny")
    rows = plain.replace({"quantization.weight_scale": "row", "quantization.scale_bits": 6})
    # Four gates of three hidden blocks.
    assert rows.scale_storage_bits == 4 * 3 * 6
    assert rows.weight_bytes == plain.weight_bytes + 4 * 3 * 6 // 8
    assert rows.scale_min_max == (1, 63)
    assert rows.sum_fracs == tuple(frac + 5 for frac in plain.accumulator_fracs)
    assert plain.replace({"quantization.scale_bits": 6}).fingerprint == plain.fingerprint, "it has no meaning there"
    assert len({rows.fingerprint, rows.replace({"quantization.scale_bits": 7}).fingerprint, plain.fingerprint}) == 3


def test_input_shift():
    """Products of W_x may be finer or coarser than those of W_h; the accumulator is as fine as the finer ones."""
    plain = preset("tiny").replace({"network.num_layers": 2, "architecture.tile_cols": 1})
    shifted = plain.replace({"quantization.input_shift": [3, -2]})
    assert shifted.layer_sum_shifts == ((0, 3), (2, 0))
    (first, second), (fine, same) = plain.layer_accumulator_fracs, shifted.layer_accumulator_fracs
    assert fine == tuple(frac + 3 for frac in first)
    assert same == second
    for number, shift in enumerate((3, -2)):
        before, after = (config.layer(number).input_weight_fracs for config in (plain, shifted))
        assert after == tuple(frac + shift for frac in before)
        assert shifted.layer(number).weight_fracs == plain.layer(number).weight_fracs
    # Late columns of the second layer are those of x.
    assert [shifted.part_shifts(part) for part in shifted.parts] == [(0, 3), (0, 2)]
    assert len({plain.fingerprint, shifted.fingerprint}) == 2
    assert plain.replace({"quantization.input_shift": [0, 0]}).fingerprint == plain.fingerprint
    with pytest.raises(InvalidValueError, match=r"^quantization\.input_shift must be from -16 to 16, not 17$"):
        plain.replace({"quantization.input_shift": 17})
    blocks = plain.parts[0].early.blocks
    rule = (
        rf"^architecture\.tile_cols must be a divisor of .* come first \({blocks}\) for quantization\.input_shift other"
    )
    with pytest.raises(InvalidValueError, match=rule):
        plain.replace({"quantization.input_shift": [1, 0], "architecture.tile_cols": blocks + 1})


def test_half_levels():
    plain = preset("tiny").replace({"architecture.tile_cols": 1, "quantization.weight_bits": 2})
    half = plain.replace({"quantization.weight_levels": "half"})
    assert (half.weight_min, half.weight_max, half.weight_value_bits) == (-3, 3, 3)
    assert half.weight_bytes == plain.weight_bytes
    assert half.fingerprint != plain.fingerprint
    rule = "quantization.weight_levels must be integer for cell gru, as NX and NH have zero weights, not 'half'"
    with pytest.raises(InvalidValueError, match=rule):
        half.replace({"network.cell": "gru", "quantization.weight_frac": 7})
    blocks = half.parts[0].blocks
    cols = next(count for count in range(2, blocks) if blocks % count)
    rule = rf"^architecture.tile_cols must be a divisor of the block columns \({blocks}\) for .* half, not {cols}$"
    with pytest.raises(InvalidValueError, match=rule):
        half.replace({"architecture.tile_cols": cols})
