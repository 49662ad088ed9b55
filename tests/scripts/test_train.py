"""The train and evaluate commands on seconds of training."""

import json
import math

import pytest
import torch

from model.char_model import CharModel
from model.corpus import load_corpus
from model.errors import InvalidFileError, InvalidValueError
from model.training.loop import DivergedError, Progress, Trainer, TrainSettings
from model.weight_image import WeightImage
from scripts import evaluate, train
from scripts.cli import run_command

WORDS = "the cat sat on the mat and the dog ran to the red house by the sea\n"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 150)
    return path


def arguments(text, *more, steps=40):
    return [
        *("--config", "tiny", "--text", str(text), "--runs", str(text.parent / "runs"), "--steps", str(steps)),
        *("--batch", "8", "--segment", "16", "--evaluate-every", "10", *more),
    ]


def test_training_learns_exports_and_is_measured(text, tmp_path, capsys):
    image = tmp_path / "out" / "tiny.safetensors"
    assert train.main(arguments(text, "--export", str(image), "--json", steps=150)) == 0
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert results["bits_per_character"] < results["order_0_bits_per_character"]
    assert results["order_2_bits_per_character"] < results["order_0_bits_per_character"]
    assert "validation" in captured.err
    loaded = WeightImage.load(image)
    assert list(loaded.config.quantization.weight_frac) == results["weight_frac"]
    assert loaded.text_sha256 == results["text_sha256"] == load_corpus(text).sha256
    assert loaded.metrics["bits_per_character"] == results["bits_per_character"]
    assert loaded.metrics["settings"]["seed"] == 1
    assert loaded.command.startswith("python -m scripts.train --config tiny")

    fracs = "quantization.weight_frac=" + json.dumps(results["weight_frac"])
    common = ["--config", "tiny", "--set", fracs, "--weights", str(image), "--text", str(text)]
    assert evaluate.main([*common, "--json", "--sample", "the ", "--length", "20"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["bits_per_character"] == results["bits_per_character"]
    assert measured["sample"] == CharModel(loaded).generate("the ", 20)
    assert evaluate.main(common) == 0
    assert "order_2_bits_per_character" in capsys.readouterr().out


def test_interrupted_run_resumes_to_the_same_result(text, capsys, monkeypatch):
    def weights(name, *more):
        path = text.parent / f"{name}.safetensors"
        status = train.main(arguments(text, "--name", name, "--export", str(path), *more))
        return status, path

    status, straight = weights("straight")
    assert status == 0
    update = Trainer._update

    # In the float part, and again in the integer part.
    for stop in (13, 31):

        def interrupted(self, stop=stop):
            if self.step == stop:
                raise KeyboardInterrupt
            return update(self)

        monkeypatch.setattr(Trainer, "_update", interrupted)
        status, path = weights("broken", *(["--resume"] if stop > 13 else []))
        assert status == 130
        assert not path.exists()
        assert f"interrupted at step {stop}" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "_update", update)
    early = text.parent / "early.safetensors"
    assert train.main(arguments(text, "--name", "broken", "--export-only", "--export", str(early))) == 0
    assert WeightImage.load(early).metrics["steps"] == 31
    status, resumed = weights("broken", "--resume")
    assert status == 0
    found, wanted = WeightImage.load(resumed), WeightImage.load(straight)
    assert found.config == wanted.config
    assert (found.weights.defining == wanted.weights.defining).all()
    assert (found.weights.bias == wanted.weights.bias).all()
    assert (found.head.embedding == wanted.head.embedding).all()
    assert (found.head.weight == wanted.head.weight).all()


def test_divergence_keeps_the_best_checkpoint(text, monkeypatch):
    corpus = load_corpus(text)
    settings = TrainSettings(steps=30, batch=4, segment=8, evaluate_every=5)
    from model.presets import preset

    trainer = Trainer(preset("tiny"), corpus, "".join(sorted(set(corpus.text))), settings)
    update, checkpoint = trainer._update, text.parent / "runs" / "x" / "checkpoint.pt"

    def diverging():
        return math.nan if trainer.step == 12 else update()

    monkeypatch.setattr(trainer, "_update", diverging)
    with pytest.raises(DivergedError, match="loss must be finite, not nan at step 12: use a lower --learning-rate"):
        trainer.run(checkpoint)
    kept = Trainer.resume(checkpoint, corpus)
    assert kept.step == 10
    assert math.isfinite(kept.best)
    assert all(torch.isfinite(value).all() for value in kept.best_state.values())


def test_wrong_input_is_refused(text, tmp_path):
    with pytest.raises(InvalidFileError, match="must be a checkpoint, not a missing file"):
        train.main(arguments(text, "--resume"))
    assert train.main(arguments(text, steps=2)) == 0
    checkpoint = tmp_path / "runs" / "tiny" / "checkpoint.pt"
    with pytest.raises(InvalidFileError, match="network.hidden_size must be 16 as configured, not 12 as in"):
        train.main(arguments(text, "--resume", "--set", "network.hidden_size=16"))
    other = tmp_path / "other.txt"
    other.write_text(WORDS * 149)
    with pytest.raises(InvalidFileError, match="text must have the SHA-256"):
        train.main(arguments(other, "--resume"))
    whole = checkpoint.read_bytes()
    for damaged in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        checkpoint.write_bytes(damaged)
        with pytest.raises(InvalidFileError, match="must be a whole checkpoint"):
            train.main(arguments(text, "--resume"))
    for option, value, message in (
        ("--quantized-share", "1.5", "quantized_share must be from 0 to 1, not 1.5"),
        ("--learning-rate", "-1", "learning_rate must be more than 0, not -1.0"),
        ("--batch", "100000", "batch must be at most"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            train.main(arguments(text, option, value))
    with pytest.raises(InvalidValueError, match="--export must be given with --export-only"):
        train.main(arguments(text, "--export-only"))
    with pytest.raises(InvalidFileError, match="must be a weight image, not a missing file"):
        evaluate.main(["--weights", str(tmp_path / "none.safetensors")])


def test_errors_are_one_line(text, capsys):
    assert run_command(lambda: train.main(arguments(text, "--resume")), "train") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_has_an_example(capsys):
    for command in (train, evaluate):
        with pytest.raises(SystemExit):
            command.main(["--help"])
        assert f"python -m {command.__name__}" in capsys.readouterr().out


def test_schedule_of_the_learning_rate():
    settings = TrainSettings(steps=1000, warmup=10, learning_rate=0.01, final_learning_rate=0.001)
    assert settings.rate(0) == pytest.approx(0.001)
    assert settings.rate(10) == pytest.approx(0.01)
    assert settings.rate(1000) == pytest.approx(0.001)
    assert settings.float_steps == 600


def test_progress_says_how_long_still(capsys):
    progress = Progress(10)
    progress.show(5, "loss", always=True)
    line = capsys.readouterr().err
    assert line.startswith("step 5/10  loss")
    assert "0:00 left" in line
