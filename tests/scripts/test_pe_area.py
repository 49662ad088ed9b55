"""The table of processing elements, on generic gates."""

import json

import pytest

from chessrnn.scripts import pe_area
from chessrnn.scripts.cli import run_command


@pytest.mark.slow
def test_fast_is_smaller(tmp_path, capsys):
    arguments = ["--block-size", "4", "--weight-bits", "3", "--tile-cols", "2", "--output", str(tmp_path)]
    assert pe_area.main([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    gates = {(row["weight_levels"], row["engine"], row["arithmetic"]): row["gates"] for row in values["elements"]}
    assert len(gates) == 8
    for levels in ("integer", "half"):
        for arithmetic in ("multiplier", "carry_save"):
            assert gates[levels, "fast", arithmetic] < gates[levels, "direct", arithmetic]
        for engine in ("direct", "fast"):
            assert gates[levels, engine, "carry_save"] < gates[levels, engine, "multiplier"]
    # A half level has one bit more than its code.
    assert gates["half", "fast", "carry_save"] > gates["integer", "fast", "carry_save"]
    (stored,) = values["stored_transformed"]
    # M has five forms of four elements: 3 + 2 bits twice, then three of 3 + 1 (and one more bit where two meet).
    assert stored["more_bits_per_block"] == 5 + 5 + 4 + 4 + 5 - 12
    assert json.loads((tmp_path / "pe-area.json").read_text()) == values
    table = (tmp_path / "pe-area.md").read_text()
    assert "| 4 | 3 | integer |" in table
    assert "| 4 | 3 | half |" in table


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--block-size", "3"], "--block-size must be one of 2, 4, 8, 16, not 3"),
        (["--weight-bits", "9"], "quantization.weight_bits must be from 2 to 8, not 9"),
        (["--liberty", "missing.lib"], "missing.lib"),
        (
            ["--weight-levels", "half", "--weight-bits", "4", "8"],
            "--weight-bits must be 2 or 3 where --weight-levels is half alone, not [4, 8]",
        ),
    ],
)
def test_wrong_input(arguments, text, capsys):
    assert run_command(lambda: pe_area.main(arguments), "pe_area") == 2
    assert text in capsys.readouterr().err.replace("\n", " ")
