"""`chessrnn evaluate` finds the shipped weights from any folder."""

import json

import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.scripts import evaluate
from chessrnn.scripts.weight_arguments import SHIPPED


def test_shipped_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("The function returns the value of the list.\n" * 100, encoding="utf-8")
    assert evaluate.main(["--text", "text.txt", "--streams", "1", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["weights"] == "pretrained/char128.safetensors"
    assert 0 < results["bits_per_character"] < 8


def test_the_configuration_is_that_of_the_weights(tmp_path, capsys):
    """Unless another one is asked for, which the weights must then belong to."""
    (tmp_path / "text.txt").write_text("The function returns the value of the list.\n" * 100, encoding="utf-8")
    arguments = [
        "--weights",
        str(SHIPPED / "char64.safetensors"),
        "--text",
        str(tmp_path / "text.txt"),
        "--streams",
        "1",
    ]
    assert evaluate.main([*arguments, "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["bits_per_character"] < 8
    with pytest.raises(InvalidFileError, match="must"):
        evaluate.main([*arguments, "--config", "char128"])
