"""The comparison of recoding x with recoding the weights."""

from types import SimpleNamespace

import pytest
import recoding

from chessrnn.scripts.cli import run_command
from chessrnn.scripts.pe_area import config_of


@pytest.mark.parametrize(
    ("engine", "products", "recoders"), [("direct", 8 * 8, 8), ("fast", 14, 14)], ids=["direct", "fast"]
)
def test_counts(engine, products, recoders):
    config = config_of(8, 2, engine, "carry_save", recoding.TERMS)
    assert recoding.products(config).total() == products
    # The direct engine uses each weight in every row of a block, and recodes it once.
    coders = {width: SimpleNamespace(module_name=str(width)) for width in range(2, 9)}
    gates = {coder.module_name: 1 for coder in coders.values()}
    assert sum(recoding.of_recoders(config, gates, coders, lambda *_: True)) == recoders
    assert sum(recoding.of_recoders(config, gates, coders, lambda *_: False)) == 0


@pytest.mark.slow
def test_on_generic_gates(capsys):
    assert recoding.main(["--block-size", "4", "--weight-bits", "2"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:4] for row in rows] == [
        ["4", "2", levels, engine] for levels in ("integer", "half") for engine in ("direct", "fast")
    ]
    of_x, of_weights, built = (int(cell.replace(",", "")) for cell in rows[0][4:7])
    # A weight of two bits is one Booth digit.
    assert built == of_weights < 0.8 * of_x
    assert [row[7] for row in rows] == ["16 of 16", "5 of 5", "0 of 16", "2 of 5"]


def test_wrong_input(capsys):
    assert run_command(lambda: recoding.main(["--block-size", "3"]), "recoding") == 2
    assert "--block-size must be one of 2, 4, 8, 16, not 3" in capsys.readouterr().err
