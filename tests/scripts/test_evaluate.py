"""`chessrnn evaluate` finds the shipped weights from any folder."""

import json

from chessrnn.scripts import evaluate


def test_shipped_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("The function returns the value of the list.\n" * 100, encoding="utf-8")
    assert evaluate.main(["--text", "text.txt", "--streams", "1", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["weights"] == "pretrained/char128.safetensors"
    assert 0 < results["bits_per_character"] < 8
