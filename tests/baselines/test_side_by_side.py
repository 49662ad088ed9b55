"""The table of engines beside the FFT baseline: its designs, its files, its refusals."""

import json

import pytest
import side_by_side

from chessrnn.scripts.cli import run_command


def test_designs():
    found = list(side_by_side.designs([4, 8, 16], [2, 8], [12, 16]))
    keys = [
        (d.config.block_size, d.config.quantization.weight_bits, d.config.quantization.weight_levels, d.name)
        for d in found
    ]
    assert len(set(keys)) == len(keys)
    exact = ["exact, direct", "exact, fast"]
    fft = [f"FFT, {style} words, {word} bit" for style in ("equal", "narrow") for word in (12, 16)]
    assert [key[3] for key in keys if key[:3] == (8, 2, "integer")] == exact
    assert [key[3] for key in keys if key[:3] == (8, 2, "half")] == exact
    assert [key[3] for key in keys if key[:2] == (8, 8)] == exact + fft
    # With four elements every bin is an integer, whatever the width of a word.
    assert [key[3] for key in keys if key[:2] == (4, 8)] == [*exact, *fft[:2], "FFT, narrow words"]
    # The direct engine of 16 elements is left out.
    assert [key[3] for key in keys if key[:2] == (16, 8)] == ["exact, fast", *fft]


def test_table(monkeypatch, tmp_path, capsys):
    row = {
        "gates_element": 6400, "gates_operand_share": 32, "gates_inverse_share": 0, "gates_per_mac": 100.5,
        "path_fo4": None, "stored_bits_per_weight": 8.0,
    }  # fmt: skip

    def measure(design, library, fo4):
        weights = {"block_size": 8, "weight_bits": 8, "weight_levels": "integer", "design": design.name}
        return weights | row | side_by_side.rounding(design)

    monkeypatch.setattr(side_by_side, "measure", measure)
    arguments = ["--block-size", "8", "--weight-bits", "8", "--word-bits", "16", "--output", str(tmp_path)]
    assert side_by_side.main(arguments) == 0
    table = (tmp_path / "side-by-side.md").read_text()
    assert table in capsys.readouterr().out
    assert "| 8 | 8 | integer | exact, fast | 6,400 | 32 | 0 | 100.5 | – | 8.0 | 0 |" in table
    values = json.loads((tmp_path / "side-by-side.json").read_text())
    errors = {design["design"]: design["error_max"] for design in values["designs"]}
    assert errors["exact, direct"] == errors["exact, fast"] == 0
    # Words of 16 bits round the sums of 1,024 columns by less than one LSB of a pre-activation.
    assert 0 < errors["FFT, narrow words, 16 bit"] < 1


@pytest.mark.slow
def test_measures_on_generic_gates(tmp_path, capsys):
    arguments = ["--block-size", "4", "--weight-bits", "4", "--word-bits", "12", "--output", str(tmp_path), "--json"]
    assert side_by_side.main(arguments) == 0
    rows = {row["design"]: row for row in json.loads(capsys.readouterr().out)["designs"]}
    gates = {name: row["gates_per_mac"] for name, row in rows.items()}
    assert gates["exact, fast"] < gates["exact, direct"] < gates["FFT, equal words, 12 bit"]
    # With four elements it is nearly the same algorithm.
    assert 0.9 < gates["FFT, narrow words"] / gates["exact, fast"] < 1.15
    assert rows["FFT, narrow words"]["error_max"] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--block-size", "2"], "--block-size must be one of 4, 8, 16, not 2"),
        (["--only", "slow"], "--only must be part of the name of a design, not 'slow'"),
        (["--word-bits", "11"], "--word-bits must be from 12 to 20, not 11"),
        (["--weight-bits", "9"], "quantization.weight_bits must be from 2 to 8, not 9"),
        (["--liberty", "missing.lib"], "missing.lib"),
    ],
)
def test_wrong_input(arguments, text, capsys, monkeypatch):
    monkeypatch.setattr(side_by_side, "measure", None)
    assert run_command(lambda: side_by_side.main(arguments), "side_by_side") == 2
    assert text in capsys.readouterr().err.replace("\n", " ")
