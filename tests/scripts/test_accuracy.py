"""The study on seconds of training: every row, the report, and what is refused."""

import json

import pytest
import torch

from model.accuracy_report import loss_text, markdown_table, mean_rows
from model.errors import InvalidFileError, InvalidValueError
from model.training.study import Budget, Rows, removed_percent, weight_bytes
from scripts import accuracy, train_speed
from scripts.cli import run_command

WORDS = "the cat sat on the mat and the dog ran to the red house by the sea\n"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 150)
    return path


def arguments(text, *more):
    folders = ["--runs", str(text.parent / "runs"), "--out", str(text.parent / "out")]
    return ["--text", str(text), "--scale", "0.001", "--hidden-language", "32", *folders, *more]


def test_study_writes_table_and_figure_and_trains_nothing_twice(text, capsys):
    assert accuracy.main(arguments(text)) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split()[:3] == ["characters", "dense", "float"]
    assert "written:" in lines[-1]
    folder = text.parent / "out"
    report = json.loads((folder / "accuracy.json").read_text())
    rows = report["studies"][0]["rows"]
    assert {(tuple(row["block_sizes"]), row["weight_bits"]) for row in rows} >= {
        ((1, 1), 32), ((4, 4), 32), ((8, 8), 32), ((16, 16), 32), ((8, 8), 8), ((8, 8), 6), ((8, 8), 4), ((8, 8), 3),
    }  # fmt: skip
    for row in rows:
        assert row["arithmetic"] == ("float32" if row["weight_bits"] == 32 else "integer reference")
    # The dense baseline gets the budget of a compressed network.
    assert rows[0]["updates"] == max(row["updates"] for row in rows)
    by_sizes = {(row["block_sizes"][0], row["weight_bits"]): row["removed_percent"] for row in rows}
    assert by_sizes[8, 8] == by_sizes[4, 4] == 96.88
    assert by_sizes[8, 4] == by_sizes[4, 2] == by_sizes[16, 8] == 98.44
    table = (folder / "accuracy.md").read_text()
    assert "| dense float |" in table
    assert "python -m scripts.accuracy --text" in table
    assert (folder / "accuracy.svg").stat().st_size > 1000
    assert (folder / "accuracy.png").stat().st_size > 1000
    (text.parent / "runs" / "characters" / "k4-b8.json").unlink()
    assert accuracy.main(arguments(text, "--finished")) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(lines) - 1
    assert accuracy.main(arguments(text)) == 0
    again = capsys.readouterr()
    assert "step" not in again.err
    assert again.out == captured.out


def test_word_task(text, capsys):
    # The smallest budget that there is, on the first rows of the table.
    assert accuracy.main(arguments(text, "--tasks", "words", "--json")) == 0
    study = json.loads(capsys.readouterr().out)["studies"][0]
    # 13 words, the paragraph's end and <unk>.
    assert "15 symbols" in study["description"]


def test_ablations_answer_what_is_asked():
    rows = Rows(16, 32, Budget(4, 4, 2, 2))
    table = accuracy.language_rows(rows, True)
    stages = [row.stage for row in table]
    assert len({stage.name for stage in stages}) == len(stages)
    notes = " ".join(row.note for row in table)
    for word in ("scratch", "multiplier-free", "apart", "distilled", "twice as long", "as large"):
        assert word in notes
    assert {stage.block_sizes for stage in stages} >= {None, (4, 8), (8, 4), (1, 8)}
    scratch = next(row.stage for row in table if row.note == "from scratch")
    assert scratch.total_updates == 8
    apart = next(stage for stage in stages if stage.block_sizes == (4, 8))
    assert weight_bytes(apart) == 4 * 32 * (16 // 4 + 32 // 8)
    assert removed_percent(apart, 32) == 100 * (1 - weight_bytes(apart) / (4 * 4 * 32 * 48))


def test_rows_are_averaged():
    rows = [
        {"label": "a", "name": "n", "value": 1.0, "loss": 0.0, "loss_unit": "points", "figures": {"error_percent": 1.0},
         "metric": "error_percent", "weight_bytes": 5, "removed_percent": 0.0, "updates": 1, "arithmetic": "float32",
         "note": ""},
        {"label": "a", "name": "n", "value": 3.0, "loss": 2.0, "loss_unit": "points", "figures": {"error_percent": 3.0},
         "metric": "error_percent", "weight_bytes": 5, "removed_percent": 50.0, "updates": 1, "arithmetic": "x",
         "note": "why"},
    ]  # fmt: skip
    mean = mean_rows([[rows[0]], [rows[1]]])
    assert (mean[0]["value"], mean[0]["loss"], mean[0]["figures"]["error_percent"]) == (2.0, 1.0, 2.0)
    table = markdown_table(rows)
    assert "| a | 5 | 50.0 % | 3.000 | +2.00 points | 1 | x | why |" in table
    assert loss_text({"loss": 1.234, "loss_unit": "% relative"}) == "+1.23 %"


def test_wrong_arguments_are_refused(text, tmp_path, capsys):
    for more, kind, message in (
        ([], InvalidValueError, "--text or --fsdd must be given"),
        (["--tasks", "digits"], InvalidFileError, "--fsdd must be given for the task digits: see --help for public"),
        (["--tasks", "phones", "--fsdd", "x"], InvalidFileError, "--cmudict must be given"),
        (["--tasks", "poems", "--text", "x"], InvalidValueError, "--tasks must be made of characters, words"),
        (["--fsdd", str(tmp_path / "none")], InvalidFileError, "--fsdd must be the folder of recordings of https"),
        (["--text", str(text), "--test-percent", "90"], InvalidValueError, "test share must be more than 0 and at mo"),
    ):
        with pytest.raises(kind, match=message):
            accuracy.main([*more, "--runs", str(tmp_path / "r"), "--out", str(tmp_path / "o")])
    assert run_command(lambda: accuracy.main([]), "accuracy") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_has_an_example(capsys):
    for command in (accuracy, train_speed):
        with pytest.raises(SystemExit):
            command.main(["--help"])
        assert f"python -m {command.__name__}" in capsys.readouterr().out


def test_speed_is_measured_beside_torch(capsys):
    sizes = ["--input", "16", "--hidden", "32", "--batch", "2", "--steps", "3", "--block-sizes", "8", "--bits", "4"]
    assert train_speed.main([*sizes, "--repeats", "1", "--ways", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["torch.nn.LSTM"]["ratio"] == 1
    assert {"k = 8, float", "k = 8, approximate", "k = 8, float, gather"} <= set(results)
    assert train_speed.main([*sizes, "--repeats", "1"]) == 0
    assert "of torch.nn.LSTM" in capsys.readouterr().out
