"""The compress and evaluate commands on seconds of training."""

import copy
import json
import math
import os
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chessrnn.model import circulant
from chessrnn.model.curves import curves_below
from chessrnn.model.errors import Interrupted, InvalidFileError, InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.model.progress import Progress
from chessrnn.model.text.char_model import CharModel
from chessrnn.model.text.corpus import SYMBOLS, load_corpus
from chessrnn.model.training.checkpoint import load_checkpoint, save_checkpoint
from chessrnn.model.training.export import sequence_model
from chessrnn.model.training.initial_weights import load_initial
from chessrnn.model.training.pipeline import CHECKPOINT, DivergedError, Stage, StageSettings, StageTrainer, run_stage
from chessrnn.model.training.tasks.language import CharacterTask
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts import compress, evaluate
from chessrnn.scripts.cli import run_command

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("torch_settings")


def arguments(text, *more, updates=(12, 12, 6, 10)):
    stages = zip(("--dense", "--circulant", "--approximate", "--quantized"), updates, strict=True)
    return [
        *("--config", "tiny", "--text", str(text), "--runs", str(text.parent / "runs"), "--segment", "16"),
        *("--batch", "8", "--evaluate-every", "5", *(str(part) for pair in stages for part in pair), *more),
    ]


def test_compression_learns_exports_and_is_measured(text, tmp_path, capsys):
    image = tmp_path / "out" / "tiny.safetensors"
    assert compress.main(arguments(text, "--export", str(image), "--json", updates=(60, 120, 10, 60))) == 0
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert results["bits_per_character"] < results["order_0_bits_per_character"]
    assert results["removed_percent"] == 93.18  # 12 rows of 4 gates, 10 columns padded to 12
    assert results["updates"] == 250
    for stage in ("1-dense", "2-circulant", "3-approximate", "4-quantized"):
        assert f"{stage}  step" in captured.err
    loaded = WeightImage.load(image)
    assert list(loaded.config.quantization.weight_frac) == results["weight_frac"]
    assert loaded.text_sha256 == results["text_sha256"] == load_corpus(text).sha256
    assert loaded.metrics["settings"]["seed"] == 1
    after = loaded.metrics["stages"]
    labels = ["dense float", "circulant float", "with the hardware's activations", "integer reference, 8-bit weights"]
    assert [stage["stage"] for stage in after] == labels
    assert after[-1]["perplexity"] == results["perplexity"]
    assert loaded.command.startswith("chessrnn train --config tiny")
    # What the task measures on the integers is what the exported image scores, with as many streams.
    streams = CharacterTask(load_corpus(text)).streams
    found = CharModel(loaded).bits_per_character(load_corpus(text).test, min(streams, len(load_corpus(text).test) // 8))
    assert found == pytest.approx(results["bits_per_character"], abs=1e-4)

    common = ["--config", results["config"], "--weights", str(image), "--text", str(text)]
    assert evaluate.main([*common, "--json", "--sample", "the ", "--length", "20"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["sample"] == CharModel(loaded).generate("the ", 20)


def test_a_circulant_network_starts_from_random_weights(text, capsys):
    """With ``--scratch`` the dense network, where there is one, teaches but gives no weights."""
    folder = text.parent / "runs" / "alone"
    assert compress.main(arguments(text, "--scratch", "--name", "alone", "--json", updates=(0, 8, 4, 10))) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 22
    assert sorted(path.stem for path in folder.glob("*.pt")) == ["2-circulant", "3-approximate", "4-quantized"]
    alone = load_checkpoint(folder / "2-circulant.pt", CHECKPOINT)["stage"]
    assert alone["parent"] is alone["teacher"] is None

    assert compress.main(arguments(text, "--scratch", "--name", "taught", "--json", updates=(12, 8, 4, 10))) == 0
    # The updates are those of the network itself, not of its teacher.
    assert json.loads(capsys.readouterr().out)["updates"] == 22
    taught = load_checkpoint(text.parent / "runs" / "taught" / "2-circulant.pt", CHECKPOINT)["stage"]
    assert taught["parent"] is None
    assert taught["teacher"]["settings"]["updates"] == 12


def test_an_output_layer_of_circulant_blocks_is_trained(text, tmp_path, capsys):
    image = tmp_path / "circulant.safetensors"
    setting = "compression.output_block_size=4"
    more = ["--set", setting, "--set", "architecture.output_layer=96", "--export", str(image), "--json"]
    assert compress.main(arguments(text, *more)) == 0
    results, loaded = json.loads(capsys.readouterr().out), WeightImage.load(image)
    assert loaded.config.compression.output_block_size == 4
    assert circulant.exact_defining(loaded.text_layers.weight, 4).shape == (24, 3, 4)
    assert (loaded.weights.output.weight == loaded.text_layers.weight).all()
    streams = CharacterTask(load_corpus(text)).streams
    found = CharModel(loaded).bits_per_character(load_corpus(text).test, min(streams, len(load_corpus(text).test) // 8))
    assert found == pytest.approx(results["bits_per_character"], abs=1e-4)

    fracs = "quantization.weight_frac=" + json.dumps(results["weight_frac"])
    common = ["--config", "tiny", "--set", fracs, "--set", setting, "--weights", str(image), "--text", str(text)]
    assert evaluate.main([*common, "--json"]) == 0
    found = CharModel(loaded).bits_per_character(load_corpus(text).test)
    assert json.loads(capsys.readouterr().out)["bits_per_character"] == pytest.approx(found, abs=1e-4)
    # The dense stage is the same for both kinds of output layer, what comes after it is not.
    dense = (tmp_path / "runs" / "tiny" / "1-dense.pt").read_bytes()
    message = "compression.output_block_size must be None as asked for, not 4 as in"
    with pytest.raises(InvalidFileError, match=message):
        compress.main(arguments(text))
    assert (tmp_path / "runs" / "tiny" / "1-dense.pt").read_bytes() == dense
    with pytest.raises(InvalidFileError, match=r"output_block_size must be 2 as asked for, not 4 as in .*2-circulant"):
        compress.main(arguments(text, "--set", "compression.output_block_size=2"))


@pytest.mark.parametrize(
    "settings",
    [["network.cell=gru"], ["network.cell=gru_reset_first", "network.num_layers=2", "quantization.weight_frac=7",
      "architecture.tile_rows=2"],
     ["network.cell=lstm_peephole", "network.projection_size=8", "network.num_layers=2"]],
)  # fmt: skip
def test_another_network_is_trained(settings, text, tmp_path, capsys):
    image = tmp_path / "gru.safetensors"
    more = [*(part for setting in settings for part in ("--set", setting)), "--export", str(image), "--json"]
    assert compress.main(arguments(text, *more, "--name", "gru")) == 0
    results, loaded = json.loads(capsys.readouterr().out), WeightImage.load(image)
    assert settings[0].endswith(f"={loaded.config.network.cell}")
    # Three matrices in float, four rows as they are stored.
    removed = 1 - loaded.config.weight_bytes / loaded.config.dense_float_bytes
    assert results["removed_percent"] == round(100 * removed, 2)
    streams = CharacterTask(load_corpus(text)).streams
    found = CharModel(loaded).bits_per_character(load_corpus(text).test, min(streams, len(load_corpus(text).test) // 8))
    assert found == pytest.approx(results["bits_per_character"], abs=1e-4)


@pytest.mark.parametrize("scale", ["gate", pytest.param("row", marks=pytest.mark.slow)])
def test_interrupted_run_resumes_to_the_same_result(scale, text, capsys, monkeypatch):
    def weights(name):
        path = text.parent / f"{name}.safetensors"
        more = [
            "--set",
            "quantization.weight_bits=4",
            "--set",
            f"quantization.weight_scale={scale}",
            "--learned-scales",
            "--dropout",
            "0.2",
            "--export",
            str(path),
        ]
        return compress.main(arguments(text, "--name", name, *more)), path

    status, straight = weights("straight")
    assert status == 0
    update = StageTrainer._update
    stops = ("1-dense", 7), ("2-circulant", 3), ("3-approximate", 4), ("4-quantized-from8", 1), ("4-quantized", 7)
    for name, stop in stops:

        def interrupted(self, model, name=name, stop=stop):
            if (self.stage.name, self.step) == (name, stop):
                raise KeyboardInterrupt
            return update(self, model)

        monkeypatch.setattr(StageTrainer, "_update", interrupted)
        status, path = weights("broken")
        assert status == 130
        assert not path.exists()
        assert f"interrupted at step {stop}" in capsys.readouterr().err
    monkeypatch.setattr(StageTrainer, "_update", update)
    status, resumed = weights("broken")
    assert status == 0
    found, wanted = WeightImage.load(resumed), WeightImage.load(straight)
    assert found.config == wanted.config
    assert (found.weights.defining == wanted.weights.defining).all()
    assert (found.weights.bias == wanted.weights.bias).all()
    assert np.array_equal(found.weights.scale, wanted.weights.scale)
    assert (found.text_layers.embedding == wanted.text_layers.embedding).all()
    assert (found.text_layers.weight == wanted.text_layers.weight).all()


def character_task(text):
    return CharacterTask(load_corpus(text), 8)


def test_divergence_keeps_the_best_checkpoint(text, tmp_path, monkeypatch):
    task = character_task(text)
    stage = Stage("x", "float", preset("tiny"), StageSettings(30, 4, evaluate_every=5))
    trainer = StageTrainer(stage, task, tmp_path)
    update = trainer._update
    monkeypatch.setattr(trainer, "_update", lambda model: math.nan if trainer.step == 12 else update(model))
    with pytest.raises(DivergedError, match="loss must be finite, not nan at step 12 of x: use a lower learning rate"):
        trainer.run()
    kept = StageTrainer(stage, task, tmp_path)
    assert kept.step == 10
    assert math.isfinite(kept.best)
    assert all(torch.isfinite(value).all() for value in kept.best_state.values())


def test_nan_in_the_parameters_is_noticed(text, tmp_path):
    task = character_task(text)
    trainer = StageTrainer(Stage("x", "float", preset("tiny"), StageSettings(30, 4)), task, tmp_path)
    with torch.no_grad():
        trainer.network.output_bias[0] = math.nan
    with pytest.raises(DivergedError, match="not nan at step 0 of x.*no checkpoint was written"):
        trainer.run()


def test_distillation_and_block_sizes_apart(text, tmp_path, capsys):
    more = ["--name", "apart", "--block-size-x", "1", "--distillation", "0.5", "--json"]
    assert compress.main(arguments(text, *more)) == 0
    results = json.loads(capsys.readouterr().out)
    # W_x dense, W_h in blocks of 4: (10 + 12 / 4) of (10 + 12) columns in 8 of 32 bits.
    assert results["removed_percent"] == round(100 * (1 - (10 + 3) / 22 / 4), 2)
    with pytest.raises(InvalidValueError, match="--export must be left out with block sizes of W_x and W_h apart"):
        compress.main(arguments(text, *more, "--export", str(tmp_path / "x.safetensors")))


def stages_of(text, *more):
    """The stages that these arguments train, the last one first."""
    args = compress.parse(arguments(text, *more))
    config = preset("tiny").replace({"quantization.weight_bits": 2})
    stage, found = compress.make_stages(args, config, CharacterTask(load_corpus(text), 8)), []
    while stage is not None:
        found.append(stage)
        stage = stage.parent
    return found


def test_weights_narrow_in_stages_and_all_but_the_first_are_taught(text):
    stages = stages_of(text)
    names = ["4-quantized", "4-quantized-from4", "4-quantized-from8", "3-approximate", "2-circulant", "1-dense"]
    assert [stage.name for stage in stages] == names
    assert [stage.config.quantization.weight_bits for stage in stages] == [2, 4, 8, 2, 2, 2]
    assert [stage.settings.updates for stage in stages] == [6, 2, 2, 6, 12, 12]
    assert [stage.settings.distillation for stage in stages] == [0.5] * 5 + [0.0]
    assert {stage.teacher for stage in stages[:-1]} == {stages[-1]}
    at_once = stages_of(text, "--at-once", "--distillation", "0", "--learned-scales")
    assert [stage.name for stage in at_once] == [names[0], *names[3:]]
    assert {stage.teacher for stage in at_once} == {None}
    assert [stage.settings.learned_scales for stage in at_once] == [True, False, False, False]
    assert "learned_scales" not in stages[0].description()["settings"]


class TheirModel(torch.nn.Module):
    """A network definition such as a user would write."""

    def __init__(self, symbols=96, cell=torch.nn.LSTM, **arguments):
        super().__init__()
        self.embedding = torch.nn.Embedding(symbols, 10)
        self.rnn = cell(10, 12, **arguments)
        self.fc = torch.nn.Linear(arguments.get("proj_size", 12), symbols)

    def forward(self, codes):
        return self.fc(self.rnn(self.embedding(codes))[0])


def test_a_state_dict_is_brought_in(text, tmp_path, capsys):
    torch.manual_seed(1)
    theirs = TheirModel()
    with torch.no_grad():
        theirs.embedding.weight.clamp_(-3.9, 3.9)
    path = tmp_path / "theirs.pt"
    torch.save(theirs.state_dict(), path)
    task = character_task(text)
    config = preset("tiny").replace({"compression.block_size": 1})
    stage = Stage("x", "float", config, StageSettings(5, 4), initial=load_initial(path, config, task))
    network = StageTrainer(stage, task, tmp_path).network
    codes = torch.randint(0, len(SYMBOLS), (7, 2))
    torch.testing.assert_close(network(codes)[0], theirs(codes))
    # An output layer of circulant blocks is the projection of theirs.
    config = preset("tiny").replace({"compression.output_block_size": 4})
    stage = Stage("y", "float", config, StageSettings(5, 4), initial=load_initial(path, config, task))
    found = StageTrainer(stage, task, tmp_path).network.dense_output_weight()
    wanted = circulant.expand(circulant.project(theirs.fc.weight.detach().double().numpy(), 4))
    torch.testing.assert_close(found, torch.from_numpy(wanted).float())
    assert compress.main(arguments(text, "--state-dict", str(path), updates=(0, 5, 5, 5))) == 0
    assert compress.main(arguments(text, "--state-dict", str(path), "--lstm-only", "--name", "b")) == 0
    capsys.readouterr()

    for change, message in (
        (lambda d: d.pop("rnn.weight_hh_l0"), "must hold one tensor called weight_hh_l0, not 0"),
        (lambda d: d.update({"rnn.weight_ih_l1": torch.zeros(48, 12)}), "must hold one layer of one direction"),
        (lambda d: d.update({"rnn.weight_ih_l0": torch.zeros(48, 9)}), r"must be of shape \(48, 10\), not \(48, 9\)"),
        (lambda d: d.update({"fc.weight": torch.zeros(65, 12)}), r"fc.weight must be of shape \(96, 12\), not \(65"),
        (lambda d: d["fc.bias"].fill_(math.nan), "fc.bias must be made of finite numbers"),
    ):
        changed = {name: value.clone() for name, value in theirs.state_dict().items()}
        change(changed)
        torch.save(changed, path)
        if "finite" in message:
            continue
        with pytest.raises(InvalidFileError, match=message):
            compress.main(arguments(text, "--state-dict", str(path), "--name", "c"))
    torch.save(TheirModel(65).state_dict(), path)
    with pytest.raises(InvalidFileError, match=r"embedding.weight must be of shape \(96, 10\), not \(65, 10\)"):
        compress.main(arguments(text, "--state-dict", str(path), "--name", "c"))
    path.write_bytes(b"no tensors")
    with pytest.raises(InvalidFileError, match="must be a readable state_dict"):
        compress.main(arguments(text, "--state-dict", str(path), "--name", "c"))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("cell", "module", "more"),
    [("gru", torch.nn.GRU, {}), ("rnn", torch.nn.RNN, {}), ("rnn_relu", torch.nn.RNN, {"nonlinearity": "relu"}),
     ("gru", torch.nn.GRU, {"num_layers": 2}), ("lstm", torch.nn.LSTM, {"num_layers": 3, "proj_size": 5})],
)  # fmt: skip
def test_a_state_dict_of_another_network_is_brought_in(cell, module, more, text, tmp_path):
    torch.manual_seed(2)
    theirs = TheirModel(cell=module, **more)
    with torch.no_grad():
        theirs.embedding.weight.clamp_(-3.9, 3.9)
    path, task = tmp_path / "theirs.pt", character_task(text)
    torch.save(theirs.state_dict(), path)
    settings = {"compression.block_size": 1, "network.cell": cell, "architecture.tile_rows": 1}
    settings |= {"network.num_layers": more.get("num_layers", 1), "network.projection_size": more.get("proj_size", 0)}
    config = preset("tiny").replace({**settings, "quantization.weight_frac": 7})
    stage = Stage("x", "float", config, StageSettings(5, 4), initial=load_initial(path, config, task))
    network = StageTrainer(stage, task, tmp_path).network
    codes = torch.randint(0, len(SYMBOLS), (7, 2))
    torch.testing.assert_close(network(codes)[0], theirs(codes))
    message = r"must hold one layer of one direction, not 'rnn\.weight_ih_l1'"
    if "num_layers" not in more:
        message = r"rnn.weight_ih_l0 must be of shape \(48, 10\), not"
    with pytest.raises(InvalidFileError, match=message):
        load_initial(path, preset("tiny"), task)


def test_a_state_dict_of_other_layers_is_refused(text, tmp_path):
    path, task, config = tmp_path / "theirs.pt", character_task(text), preset("tiny")
    torch.save(TheirModel(cell=torch.nn.GRU).state_dict(), path)
    with pytest.raises(InvalidFileError, match=r"rnn.weight_ih_l0 must be of shape \(48, 10\), not"):
        load_initial(path, config, task)
    torch.save(TheirModel(num_layers=2).state_dict(), path)
    with pytest.raises(InvalidFileError, match=r"must hold one layer of one direction, not 'rnn.weight_ih_l1'"):
        load_initial(path, config, task)
    with pytest.raises(InvalidFileError, match=r"must hold one tensor called weight_ih_l2, not 0"):
        load_initial(path, config.replace({"network.num_layers": 3}), task)
    projected = config.replace({"network.num_layers": 2, "network.projection_size": 5})
    with pytest.raises(InvalidFileError, match=r"weight_hr_l0 must be in .* where network.projection_size is 5"):
        load_initial(path, projected, task)
    torch.save(TheirModel(proj_size=5).state_dict(), path)
    with pytest.raises(InvalidFileError, match=r"weight_hr_l0 must be left out of .* network.projection_size is 0"):
        load_initial(path, config, task)
    torch.save(TheirModel(bidirectional=True).state_dict(), path)
    with pytest.raises(InvalidFileError, match=r"must hold one layer of one direction, not 'rnn.weight_ih_l0_reverse'"):
        load_initial(path, config, task)


def test_streams_begin_again_in_turn():
    """A stream every update; over two processes those that one process would have."""
    batch, state = SimpleNamespace(carries_state=True), (torch.ones(8, 2), torch.ones(8, 3))

    def begun(rank, world, step=6):
        trainer = SimpleNamespace(settings=StageSettings(reset_every=4), rank=rank, world=world, step=step)
        parts = StageTrainer._carried(trainer, tuple(part[rank::world] for part in state), batch)
        assert all(((part == 0).all(dim=1) | (part == 1).all(dim=1)).all() for part in parts)
        return [rank + world * int(row) for row in (parts[0][:, 0] == 0).nonzero()]

    assert begun(0, 1) == [2, 6]
    assert begun(0, 1, step=7) == [1, 5]
    assert sorted(begun(0, 2) + begun(1, 2)) == [2, 6]
    plain, both = StageSettings(), StageSettings(reset_every=4, cell_limit=8.0)
    stages = [Stage("s", "float", preset("tiny"), settings) for settings in (plain, both)]
    assert "reset_every" not in stages[0].description()["settings"]
    assert stages[1].description()["settings"]["cell_limit"] == 8.0


def test_dropout_is_that_of_the_update(rng):
    """Drawn from seed, update and process alone, so that an interrupted stage goes on as it would have."""

    def drawn(step, **settings):
        stage = SimpleNamespace(name="1-dense")
        trainer = SimpleNamespace(settings=StageSettings(**settings), stage=stage, rank=0, world=1, step=step)
        dropout = StageTrainer._dropout(trainer)
        return None if dropout is None else dropout(torch.ones(40, 50))

    assert drawn(3) is None
    once, again, other = drawn(3, dropout=0.25), drawn(3, dropout=0.25), drawn(4, dropout=0.25)
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert set(once.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert 0.7 < float((once > 0).double().mean()) < 0.8
    plain, dropped = (Stage("s", "float", preset("tiny"), StageSettings(dropout=p)) for p in (0.0, 0.5))
    assert "dropout" not in plain.description()["settings"]
    assert dropped.description()["settings"]["dropout"] == 0.5


def test_wrong_input_is_refused_and_no_checkpoint_is_lost(text, tmp_path):
    assert compress.main(arguments(text, updates=(2, 2, 2, 2))) == 0
    checkpoint = tmp_path / "runs" / "tiny" / "1-dense.pt"
    whole = checkpoint.read_bytes()
    for more, message in (
        (["--set", "network.hidden_size=16"], "network.hidden_size must be 16 as asked for, not 12 as in"),
        (["--batch", "4"], "settings.batch must be 4 as asked for, not 8 as in"),
        (["--seed", "2"], "settings.seed must be 2 as asked for, not 1 as in"),
    ):
        with pytest.raises(InvalidFileError, match=message):
            compress.main(arguments(text, *more, updates=(2, 2, 2, 2)))
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[1000:])
    with pytest.raises(InvalidFileError, match="data must be the same that .*1-dense.pt was trained on"):
        compress.main(arguments(other, updates=(2, 2, 2, 2)))
    assert checkpoint.read_bytes() == whole
    for damaged in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        checkpoint.write_bytes(damaged)
        with pytest.raises(InvalidFileError, match="must be a whole checkpoint"):
            compress.main(arguments(text, updates=(2, 2, 2, 2)))
    checkpoint.write_bytes(whole)
    content = load_checkpoint(checkpoint, {})
    del content["sha256"]
    for damage in (
        lambda content: content["network"].popitem(),
        lambda content: content.update(weight_frac=[99]),
        lambda content: content["optimizer"].clear(),
    ):
        changed = copy.deepcopy(content)
        damage(changed)
        save_checkpoint(checkpoint, changed)
        with pytest.raises(InvalidFileError, match="must be a checkpoint of this version: "):
            compress.main(arguments(text, updates=(2, 2, 2, 2)))
    for more, message in (
        (["--set", "network.bidirectional=true"], "network.bidirectional must be false to be trained, not True"),
        (["--set", "network.cell=gru", "--cell-limit", "8"], "--cell-limit must be left out for cells other than lstm"),
        (["--set", "architecture.output_layer=7"], "architecture.output_layer must be 0 or 96, not 7"),
        (
            ["--set", "compression.output_block_size=4", "--block-size-x", "2"],
            "compression.output_block_size must be 1 with block sizes of W_x and W_h apart, not 4",
        ),
        (["--block-size-x", "3"], "--block-size-x must be one of 1, 2, 4, 8, 16, not 3"),
        (["--name", "../x"], "name must be made of letters, digits, '_' and '-' only, not '../x'"),
        (["--batch", "100000"], "batch must be at most"),
        (["--dense", "0"], "--dense must be at least 1 without --state-dict or --scratch, not 0"),
        (["--scratch", "--state-dict", "x.pt"], "--scratch must be left out with --state-dict, not 'x.pt'"),
        (["--scratch", "--set", "compression.block_size=1"], "--scratch must be left out with a block size of 1"),
        (["--task", "words", "--export", "x"], "--export must be left out but for the task characters"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            compress.main(arguments(text, "--name", "x", *more))
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(InvalidValueError, match="--text must be of at least 1000 characters of 'empty.txt'"):
        compress.main(arguments(empty))
    with pytest.raises(InvalidFileError, match="must be a readable UTF-8 text file"):
        compress.main(arguments(tmp_path / "none.txt"))
    with pytest.raises(InvalidFileError, match="must be a weight image, not a missing file"):
        evaluate.main(["--weights", str(tmp_path / "none.safetensors")])


def test_errors_are_one_line(tmp_path, capsys):
    missing = ["--task", "digits", "--fsdd", str(tmp_path / "none"), "--set", "network.input_size=80"]
    assert run_command(lambda: compress.main(missing), "compress") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "free-spoken-digit-dataset" in error


@pytest.mark.slow
def test_two_processes_train_the_network_of_one(text, tmp_path):
    """The same script under torchrun: gradients of half a batch each, averaged, are those of the batch."""

    def final(name, *launcher):
        command = [*launcher, "-m", "chessrnn", "train", *arguments(text, "--name", name, updates=(6, 6, 2, 4))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return torch.load(tmp_path / "runs" / name / "2-circulant.pt", weights_only=True), done

    one, _ = final("one", sys.executable)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two, done = final("two", *run)
    assert done.stdout.count("perplexity") == 1
    for name, value in one["network"].items():
        torch.testing.assert_close(two["network"][name], value, rtol=1e-3, atol=1e-4)
    # And what two processes wrote, one continues.
    again, _ = final("two", sys.executable)
    assert again["step"] == 6


# -- spoken digits ---------------------------------------------------------------------------------------------


def speech_arguments(task, recordings, *more, updates=(60, 40, 5, 10)):
    stages = zip(("--dense", "--circulant", "--approximate", "--quantized"), updates, strict=True)
    return [
        *("--task", task, "--fsdd", str(recordings), "--runs", str(recordings.parent / "runs"), "--config", "tiny"),
        *("--set", "network.input_size=80", "--set", "network.hidden_size=24", "--batch", "16"),
        *("--evaluate-every", "20", "--json", *(str(part) for pair in stages for part in pair)),
        *("--cmudict", str(recordings.parent / "cmudict"), *more),
    ]


def test_digits_are_learnt(recordings, capsys):
    assert compress.main(speech_arguments("digits", recordings)) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["recordings"] == 2 * 10 * 3
    assert results["error_percent"] < 45
    assert compress.main(speech_arguments("digits", recordings, "--speaker", "bert", "--name", "b",
                                          updates=(2, 2, 2, 2))) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["recordings"] == 10 * 7
    with pytest.raises(InvalidValueError, match="speaker must be one of anna, bert, not 'carl'"):
        compress.main(speech_arguments("digits", recordings, "--speaker", "carl"))
    with pytest.raises(InvalidValueError, match="network.input_size must be 80, as many as features"):
        compress.main(speech_arguments("digits", recordings, "--set", "network.input_size=64"))


def test_phones_are_learnt(recordings, capsys):
    assert compress.main(speech_arguments("phones", recordings, updates=(4, 4, 2, 2))) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["phones"] == 2 * 3 * 32
    assert results["phone_error_percent"] <= 100


def test_what_is_no_recording_is_refused(recordings):
    def refused(message):
        with pytest.raises(InvalidFileError, match=message):
            compress.main(speech_arguments("digits", recordings))

    odd = recordings / "notes.wav"
    odd.write_bytes(b"RIFF")
    refused("must be called {digit}_{speaker}_{take}.wav")
    odd.unlink()
    first = recordings / "0_anna_0.wav"
    whole = first.read_bytes()
    for content, message in (
        (b"", "must be a WAV file: it ends early"),
        (b"no audio at all" * 10, "must be a WAV file"),
        (whole[:100], "must hold at least 200 samples, not 28"),
    ):
        first.write_bytes(content)
        refused(message)
    with wave.open(str(first), "wb") as file:
        file.setparams((2, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(4000))
    refused("must be mono, 16 bit, 8000 Hz, not 2 channels, 16 bit, 16000 Hz")
    for path in recordings.glob("*.wav"):
        path.unlink()
    refused("must hold .* files of .*free-spoken-digit-dataset, not none")


def test_dictionary_is_checked(recordings, tmp_path):
    arguments_now = speech_arguments("phones", recordings)
    other = tmp_path / "other"
    for content, message in (
        (b"ONE 1 W AH1 N\n", "must be a pronouncing dictionary with the word 'zero'"),
        (b"\x1f\x8bdamaged", "must be a readable dictionary"),
    ):
        other.write_bytes(content)
        with pytest.raises(InvalidFileError, match=message):
            compress.main([*arguments_now, "--cmudict", str(other)])
    with pytest.raises(InvalidFileError, match="--cmudict must be the dictionary of https"):
        compress.main([*arguments_now, "--cmudict", str(tmp_path / "none")])


def test_a_rate_must_be_above_zero(text, capsys):
    with pytest.raises(InvalidValueError, match=r"^learning_rate must be more than 0, not -1$"):
        StageSettings(learning_rate=-1)
    for option in ("--learning-rate", "--retraining-rate"):
        for value in ("-1", "nan", "inf"):
            with pytest.raises(SystemExit) as ended:
                compress.main(arguments(text, option, value))
            assert ended.value.code == 2
            assert f"{option} must be a finite number more than 0, not {value}" in capsys.readouterr().err


def test_schedule_of_the_learning_rate():
    settings = StageSettings(1000, warmup=10, learning_rate=0.01, final_learning_rate=0.001)
    assert settings.rate(0) == pytest.approx(0.001)
    assert settings.rate(10) == pytest.approx(0.01)
    assert settings.rate(1000) == pytest.approx(0.001)


def test_progress_says_how_long_still(capsys):
    progress = Progress(10, label="x")
    progress.show(5, "loss", always=True)
    line = capsys.readouterr().err
    assert line.startswith("x  step 5/10  loss")
    assert "0:00 left" in line


def test_a_stage_shares_its_parent(text, tmp_path):
    """Two bit widths from one circulant stage; each final network is the integer reference's."""
    task = character_task(text)
    settings = StageSettings(6, 4, evaluate_every=3)
    parent = Stage("k", "float", preset("tiny"), settings)
    for bits in (8, 3):
        config = preset("tiny").replace({"quantization.weight_bits": bits})
        stage = Stage(f"b{bits}", "quantized", config, settings, parent=parent)
        network = run_stage(stage, task, tmp_path)
        measured = task.measure(sequence_model(network), "test"), task.measure(network, "test")
        assert measured[0]["perplexity"] == pytest.approx(measured[1]["perplexity"], rel=1e-5)
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["b3.pt", "b8.pt", "k.pt"]
    assert issubclass(Interrupted, Exception)


@pytest.mark.slow
def test_curves_are_written_and_copied_to_tensorboard(text, tmp_path, capsys):
    """A run that continues keeps the points of its first part; a stage that begins anew drops those of an older run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logs = tmp_path / "logs"
    assert compress.main(arguments(text, "--tensorboard", str(logs), "--live", "0", "--json")) == 0
    assert "live page: http://127.0.0.1:" in capsys.readouterr().err
    curves = {curve.name: curve for curve in curves_below(text.parent / "runs" / "tiny")}
    # Progressive widths add stages in front of the last one.
    assert {"1-dense", "2-circulant", "3-approximate", "4-quantized"} <= set(curves)
    assert [step for step, _, _ in curves["1-dense"].points] == [5, 10, 12]
    events = accumulator.EventAccumulator(str(logs / "1-dense")).Reload()
    for tag, column in (("loss", 1), (curves["1-dense"].metric, 2)):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        wanted = [(point[0], point[column]) for point in curves["1-dense"].points]
        assert [step for step, _ in found] == [step for step, _ in wanted]
        assert [value for _, value in found] == pytest.approx([value for _, value in wanted])
    before = [path.read_bytes() for path in sorted((text.parent / "runs" / "tiny").glob("*.csv"))]
    assert compress.main(arguments(text, "--json")) == 0
    assert [path.read_bytes() for path in sorted((text.parent / "runs" / "tiny").glob("*.csv"))] == before
