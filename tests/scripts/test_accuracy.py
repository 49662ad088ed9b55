"""The study on seconds of training: every row, the report, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch

from chessrnn.model.errors import Interrupted, InvalidFileError, InvalidValueError
from chessrnn.model.text.corpus import load_corpus
from chessrnn.model.training import pipeline, study_jobs
from chessrnn.model.training.layers import QuantLstm
from chessrnn.model.training.plain_network import PlainScript, train_plain
from chessrnn.model.training.study import (
    STUDIES,
    Budget,
    Row,
    RowBuilder,
    Study,
    dense_beside_plain,
    removed_percent,
    tried_rows,
    weight_bytes,
)
from chessrnn.model.training.study_jobs import needed_stages, table_jobs
from chessrnn.model.training.study_report import loss_text, markdown_table, mean_rows
from chessrnn.model.training.tasks.digits import DigitTask
from chessrnn.model.training.tasks.language import CharacterTask
from chessrnn.scripts import accuracy, train_speed
from chessrnn.scripts.cli import run_command

pytestmark = pytest.mark.usefixtures("torch_settings")


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
    dense = 4 * 32 * (64 + 32)
    for k, bits in ((8, 8), (4, 4), (8, 4), (4, 2), (16, 8)):
        # Every block row of a gate has a scale of 8 bits besides.
        stored = dense // k * bits // 8 + 4 * 32 // k
        assert by_sizes[k, bits] == pytest.approx(100 * (1 - stored / (4 * dense)), abs=0.005)
    table = (folder / "accuracy.md").read_text()
    assert "| dense float |" in table
    assert "chessrnn accuracy --text" in table
    assert (folder / "accuracy.svg").stat().st_size > 1000
    assert (folder / "accuracy.png").stat().st_size > 1000
    (text.parent / "runs" / "characters-1" / "k4-scratch-b8.json").unlink()
    assert accuracy.main(arguments(text, "--finished")) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(lines) - 1
    assert accuracy.main(arguments(text)) == 0
    again = capsys.readouterr()
    assert "step" not in again.err
    assert again.out == captured.out


@pytest.mark.slow
def test_two_workers_share_the_rows_of_a_seed(text, capsys):
    """Figures, order and checkpoints are those of one process, and no stage is trained twice."""
    folder, found = text.parent, {}
    for workers in ("1", "2"):
        options = ["--runs", str(folder / f"runs{workers}"), "--out", str(folder / f"out{workers}")]
        assert accuracy.main(arguments(text, "--rows", "k8,k8-b8,k8-b4", "--workers", workers, *options)) == 0
        captured = capsys.readouterr()
        report = json.loads((folder / f"out{workers}" / "accuracy.json").read_text())
        curves = {path.name: path.read_text() for path in folder.glob(f"runs{workers}/*/*.curve.csv")}
        found[workers] = captured.out.splitlines()[:-1], report["studies"], curves
    assert found["2"] == found["1"]
    assert len(found["1"][0]) == 4


def test_an_interrupted_study_goes_on_where_it_was(text, monkeypatch, capsys):
    options = arguments(text, "--rows", "k8", "--json")
    run_row = study_jobs.run_row

    def interrupted(row, task, folder, hidden_size):
        if row.stage.name == "k8":
            raise Interrupted(folder / "k8.pt", 0)
        return run_row(row, task, folder, hidden_size)

    monkeypatch.setattr(study_jobs, "run_row", interrupted)
    assert accuracy.main(options) == 130
    page = text.parent / "out" / "study.html"
    assert "1 of 2 rows are finished" in page.read_text(encoding="utf-8")
    assert "The command has ended before the others" in page.read_text(encoding="utf-8")
    monkeypatch.setattr(study_jobs, "run_row", run_row)
    assert "dense-start  step 1/1" in capsys.readouterr().err
    assert accuracy.main(options) == 0
    captured = capsys.readouterr()
    assert "dense-start" not in captured.err
    assert [row["name"] for row in json.loads(captured.out)["studies"][0]["rows"]] == ["dense", "k8"]
    assert "2 of 2 rows are finished" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: f"{study.task}-{study.split}")
def test_a_stage_is_trained_by_one_job_and_the_others_wait_for_it(study: Study):
    rows = study.table(64, 0.01, 1, True, None)
    for done in (lambda number: False, lambda number: number == 0, lambda number: number % 3 == 0):
        finished = [done(number) for number in range(len(rows))]
        jobs = table_jobs(rows, finished)
        assert sorted(job.row for job in jobs if job.row is not None) == [
            number for number, is_known in enumerate(finished) if not is_known
        ]
        trained: dict[str, int] = {}
        ready: list[set[int]] = []  # jobs that have surely ended before each one
        for index, job in enumerate(jobs):
            ready.append({other for before in job.after for other in (before, *ready[before])})
            if isinstance(job.work, Row):
                stages = {} if job.work.script else needed_stages(*job.work.rivals, job.work.stage)
            else:
                stages = needed_stages(job.work)
            for name in stages:
                assert trained.setdefault(name, index) in {index, *ready[index]}, (job, name)


@pytest.mark.slow
def test_word_task(text, capsys):
    # The smallest budget that there is, on the first rows of the table.
    assert accuracy.main(arguments(text, "--tasks", "words", "--json")) == 0
    study = json.loads(capsys.readouterr().out)["studies"][0]
    # 13 words, the paragraph's end and <unk>.
    assert "15 symbols" in study["description"]


@pytest.mark.slow
def test_held_out_speakers_and_seeds_are_averaged(recordings, capsys):
    folder = recordings.parent
    arguments = ["--fsdd", str(recordings), "--tasks", "digits", "--splits", "speakers", "--rows", "k8-b8"]
    arguments += ["--runs", str(folder / "runs"), "--out", str(folder / "out"), "--scale", "0.001", "--seeds", "3,4"]
    arguments += ["--augmentation", "warp", "--learning-rate", "0.01"]
    arguments += ["--hidden-speech", "16", "--json"]
    assert accuracy.main([*arguments, "--workers", "2"]) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    # One after the other, in the process of the command, gives the same order; nothing is trained again.
    assert accuracy.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["studies"] == [study]
    assert "anna, bert" in study["description"]
    assert "seeds 3, 4" in study["description"]
    assert [row["name"] for row in study["rows"]] == ["dense", "k8-b8"]
    losses = [part[1]["loss"] for part in study["parts"]]
    assert study["rows"][1]["losses"] == losses
    assert study["rows"][1]["loss"] == sum(losses) / 4
    assert {path.parent.name for path in folder.glob("runs/*/dense.json")} == {
        "digits-anna-warp-3", "digits-anna-warp-4", "digits-bert-warp-3", "digits-bert-warp-4",
    }  # fmt: skip


def test_updates_of_the_stages_are_the_users(capsys):
    args = accuracy.parse(["--text", "x", "--stages", "5,4,3,2"])
    assert args.stages == {"dense": 5, "circulant": 4, "approximate": 3, "quantized": 2}
    for text in ("1,2,3", "1,2,3,0", "a,b,c,d"):
        with pytest.raises(SystemExit):
            accuracy.parse(["--stages", text])
        assert f"must be four whole numbers from 1, not {text!r}" in capsys.readouterr().err


def test_the_baseline_is_the_best_of_its_stages(monkeypatch):
    """By validation, the loss deciding among equals, then the longer stage."""
    row = RowBuilder(8, 8, Budget(4, 3, 2, 1)).baseline()
    monkeypatch.setattr(pipeline, "run_stage", lambda stage, task, folder: stage.name)

    def best(**figures):
        figures = {name.replace("_", "-"): value for name, value in figures.items()}

        class Validation(DigitTask):
            def __init__(self):
                pass

            def measure(self, network, split):
                assert split == "validation"
                error, loss = figures[network]
                return {self.metric: error, "loss": loss}

        found, network = pipeline.best_of((row.stage, *row.rivals), Validation(), None)
        assert found.name == network
        return network, found.total_updates

    assert best(dense_start=(2, 1), dense=(3, 1)) == ("dense-start", 4)
    assert best(dense_start=(2, 1), dense=(2, 0.5)) == ("dense", 10)
    assert best(dense_start=(2, 1), dense=(2, 1)) == ("dense", 10)


def test_the_plain_script_is_a_row_beside_the_baseline(text, capsys):
    assert accuracy.main(arguments(text, "--rows", "plain", "--quick", "--json")) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    dense, plain = study["rows"]
    assert (dense["name"], plain["name"], plain["label"]) == ("dense", "plain", "plain nn.LSTM")
    assert (plain["weight_bytes"], plain["arithmetic"]) == (dense["weight_bytes"], "float32")
    assert plain["note"] == dense_beside_plain(dense["value"], plain["value"], True)


@pytest.mark.parametrize("cell", ["gru", "rnn", "rnn_relu", "lstm_peephole"])
def test_every_cell_of_torch_has_a_plain_script(cell, recordings, capsys):
    folder = recordings.parent
    options = ["--fsdd", str(recordings), "--tasks", "digits", "--splits", "official", "--cell", cell, "--json"]
    options += ["--runs", str(folder / "runs"), "--out", str(folder / "out"), "--scale", "0.001"]
    options += ["--hidden-speech", "8", "--rows", "plain"]
    if cell == "lstm_peephole":
        with pytest.raises(InvalidValueError, match="--rows must be made of dense, k8-scratch, .*, not 'plain'"):
            accuracy.main(options)
        return
    assert accuracy.main(options) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    assert study["rows"][1]["label"] == f"plain nn.{cell.upper().removesuffix('_RELU')}"
    assert "points" in study["rows"][1]["note"]


def test_a_weak_baseline_is_called_weak():
    assert dense_beside_plain(5.02, 5.0, True) == "dense float is as good as this (+0.40 %)"
    assert dense_beside_plain(4.0, 5.0, True) == "dense float is as good as this (-20.00 %)"
    weak = "dense float is weaker than this, so that losses look small"
    assert dense_beside_plain(5.1, 5.0, True) == f"{weak} (+2.00 %)"
    assert dense_beside_plain(7.5, 5.0, False) == f"{weak} (+2.50 points)"


def test_an_interrupted_plain_script_ends_the_same(text, tmp_path, monkeypatch):
    script = PlainScript("lstm", 6, 8, 7, 4, 5e-3, 3, 1)
    task, batch = CharacterTask(load_corpus(text), 8), CharacterTask.batch
    wanted = train_plain(script, task, tmp_path / "straight", 3).state_dict()

    def interrupted(self, update, size):
        if update == 5:
            raise KeyboardInterrupt
        return batch(self, update, size)

    monkeypatch.setattr(CharacterTask, "batch", interrupted)
    with pytest.raises(Interrupted, match=r"interrupted at step 5: .*plain\.pt is complete"):
        train_plain(script, task, tmp_path / "broken", 3)
    monkeypatch.setattr(CharacterTask, "batch", batch)
    with pytest.raises(InvalidFileError, match="seed must be 2 as asked for, not 1 as in .*plain.pt"):
        train_plain(replace(script, seed=2), task, tmp_path / "broken", 3)
    found = train_plain(script, task, tmp_path / "broken", 3).state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_tries_are_trained(text, capsys):
    names = ["k8-pulled-b4", "k8-scratch-distilled-b4-d", "k16-h48-b4", "kx4-kh16-b4"]
    assert accuracy.main(arguments(text, "--rows", ",".join(names), "--json")) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    assert {row["name"] for row in study["rows"]} == {"dense", *names}


def test_half_levels_are_a_recipe_of_all_rows_or_of_one(text):
    """The option changes the rows of the table, and a row that is named for them needs no option."""
    ((_, ((_, table, _),)),) = accuracy.studies(accuracy.parse(arguments(text, "--half-levels", "--rows", "k4-b2")))
    stages = {row.stage.name: row.stage for row in table}
    assert list(stages) == ["dense", "k4-b2"] and stages["k4-b2"].config.has_half_levels
    rows = RowBuilder(16, 32, Budget(4, 4, 2, 2, half_levels=True))
    fixed, half, whole = (
        rows.quantized(rows.circulant(4), 2, half_levels=levels).stage for levels in (None, True, False)
    )
    assert [stage.config.has_half_levels for stage in (fixed, half, whole)] == [True, True, False]
    assert [stage.parent.config.has_half_levels for stage in (fixed, half, whole)] == [False] * 3
    assert (half.name, whole.name) == ("k4-b2-half", "k4-b2-whole")
    assert weight_bytes(half) == weight_bytes(whole)
    every = {row.stage.name for row in tried_rows(RowBuilder(16, 32, Budget(4, 4, 2, 2)))}
    assert every >= {f"k4-b{bits}-undistilled-at-once-fixed-half" for bits in (3, 2)}
    assert every >= {f"k4-b{bits}-d-progressive-learned-rows{more}" for bits in (3, 2) for more in ("", "-half")}
    # The cell gru has gates with zero weights, so that it has no such rows.
    names = {row.stage.name for row in tried_rows(RowBuilder(16, 32, Budget(4, 4, 2, 2), "gru"))}
    assert names and not any(name.endswith("half") for name in names)


def test_pulled_weights_are_circulant_in_the_end():
    torch.manual_seed(1)
    layer = QuantLstm(RowBuilder(16, 32, Budget(1, 1, 1, 1)).config())
    projected = QuantLstm(layer.config.replace({"compression.block_size": 8}))
    projected.set_dense(*layer.dense())
    before = layer.dense()[1] - projected.dense()[1]
    layer.pull_to_circulant((8, 8), 0.25)
    torch.testing.assert_close(layer.dense()[1] - projected.dense()[1], 0.75 * before)
    layer.pull_to_circulant((8, 8), 1.0)
    for found, wanted in zip(layer.dense(), projected.dense(), strict=True):
        torch.testing.assert_close(found, wanted)
    with pytest.raises(
        InvalidValueError, match=r"^block sizes must be \(1, 1\) for weights that are pulled, not \(8, 8\)$"
    ):
        projected.pull_to_circulant((8, 8), 0.5)


def test_nothing_finished_is_no_report(text):
    with pytest.raises(InvalidFileError, match="--runs must hold a finished dense baseline, not none in"):
        accuracy.main(arguments(text, "--finished"))
    assert not (text.parent / "out").exists()


def test_tries_answer_what_is_asked():
    rows = RowBuilder(16, 32, Budget(4, 4, 2, 2))
    table = tried_rows(rows)
    stages = [row.stage for row in table]
    notes = " ".join(row.note for row in table)
    for word in ("scratch", "multiplier-free", "apart", "distilled", "twice as long", "pulled", "at the bytes of"):
        assert word in notes
    assert {stage.block_sizes for stage in stages} >= {None, (4, 8), (8, 4), (1, 8)}
    scratch = next(row.stage for row in table if row.note == "from scratch")
    assert scratch.total_updates == 8
    # Nothing but what says so is trained for longer than the baseline, or has more bytes than what it stands beside.
    assert {row.stage.total_updates for row in table if "long" not in row.note} == {8, 12}
    for k in (4, 8):
        wide = [row.stage for row in table if row.note == f"wider at the bytes of k = {k}"]
        assert weight_bytes(wide[1]) <= weight_bytes(rows.quantized(rows.circulant(k), 4).stage)
        assert wide[1].config.network.units > 32
    apart = next(stage for stage in stages if stage.block_sizes == (4, 8))
    assert weight_bytes(apart) == 4 * 32 * (16 // 4 + 32 // 8)
    assert removed_percent(apart, 32) == 100 * (1 - weight_bytes(apart) / (4 * 4 * 32 * 48))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: f"{study.task}-{study.split}")
def test_every_row_of_a_study_has_a_name_of_its_own(study: Study):
    stages = {row.stage.name: row.stage for row in study.table(64, 0.01, 1, True, None)}
    assert len(stages) == len(study.table(64, 0.01, 1, True, None))
    # Stages of one name are one stage, whichever row they belong to.
    for stage in list(stages.values()):
        while stage is not None:
            assert stages.setdefault(stage.name, stage) == stage
            stage = stage.parent
    assert [row.stage.name for row in study.table(64, 1, 1, False, ["k8-scratch"])] == ["dense", "k8-scratch"]
    with pytest.raises(InvalidValueError, match="--rows must be made of dense, .*, not 'k5'"):
        study.table(64, 1, 1, False, ["k5"])


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
    assert loss_text(mean[0]) == "+1.00 points (+0.00 to +2.00)"


def test_wrong_arguments_are_refused(text, tmp_path, capsys):
    for more, kind, message in (
        ([], InvalidValueError, "--text or --fsdd must be given"),
        (["--tasks", "digits"], InvalidFileError, "--fsdd must be given for the task digits: see --help for public"),
        (["--tasks", "phones", "--fsdd", "x"], InvalidFileError, "--cmudict must be given"),
        (["--tasks", "poems", "--text", "x"], InvalidValueError, "--tasks must be made of characters, words"),
        (["--fsdd", str(tmp_path / "none")], InvalidFileError, "--fsdd must be the folder of recordings of https"),
        (
            ["--text", str(text), "--cell", "gru", "--cell-limit", "8"],
            InvalidValueError,
            "--cell-limit must be left out for cells other than lstm, not 8.0",
        ),
        (
            ["--fsdd", str(tmp_path), "--reset-every", "4"],
            InvalidValueError,
            "--reset-every must be left out without a task on text, not 4",
        ),
        (["--text", str(text), "--test-percent", "90"], InvalidValueError, "test share must be more than 0 and at mo"),
    ):
        with pytest.raises(kind, match=message):
            accuracy.main([*more, "--runs", str(tmp_path / "r"), "--out", str(tmp_path / "o")])
    assert run_command(lambda: accuracy.main([]), "accuracy") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_speed_is_measured_beside_torch(capsys):
    sizes = ["--input", "16", "--hidden", "32", "--batch", "2", "--steps", "3", "--block-sizes", "8", "--bits", "4"]
    assert train_speed.main([*sizes, "--repeats", "1", "--ways", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["torch.nn.LSTM"]["ratio"] == 1
    assert {"k = 8, float", "k = 8, approximate", "k = 8, float, gather"} <= set(results)
    assert train_speed.main([*sizes, "--repeats", "1"]) == 0
    assert "of torch.nn.LSTM" in capsys.readouterr().out
