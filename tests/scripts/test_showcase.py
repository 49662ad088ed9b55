"""The showcase on a detector of our own with the shape of the public one: its float twin, training, command, page."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from chessrnn.model.errors import UserError
from chessrnn.model.hybrid.evaluation import Comparison
from chessrnn.model.presets import preset
from chessrnn.model.showcase.hardware_figures import SMALLEST, hardware_figures, smallest_part
from chessrnn.model.showcase.speech_frames import detector_file
from chessrnn.model.training import frozen_training
from chessrnn.model.training.frozen_training import Lesson, copied_weights, train
from chessrnn.model.training.recurrent_modules import LSTM
from chessrnn.model.training.speech_activity import Detector
from chessrnn.scripts.main import main
from chessrnn.scripts.showcases import sounds, speech_page
from chessrnn.scripts.showcases.designs import Design, Effort
from chessrnn.scripts.showcases.speech_task import SpeechActivity, calls_of

SIZE = 128


@pytest.fixture
def path(detector_path):
    return detector_path


def test_float_twin_equals_the_file(path, rng):
    samples = rng.uniform(-0.5, 0.5, (3, 5 * 512)).astype(np.float32)
    detector = Detector(path)
    with torch.no_grad():
        found = torch.sigmoid(detector(detector.features(samples)))
    session, state = onnxruntime.InferenceSession(path.read_bytes()), np.zeros((2, 3, SIZE), dtype=np.float32)
    for call, wanted in zip(calls_of(samples), found, strict=True):
        feeds = {"input": call, "state": state, "sr": np.array(16000)}
        output, state = session.run(["output", "stateN"], feeds)
        np.testing.assert_allclose(output[:, 0], wanted, atol=1e-5)


def test_other_files_are_refused(path):
    model = onnx.load(path)
    next(one for one in model.graph.initializer if one.name == "model.decoder.rnn.bias_hh").name = "other"
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"model.decoder.rnn.bias_hh must be a tensor of shape \(512,\) in .*"):
        Detector(path)


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "silero_vad", raising=False)
    with pytest.raises(UserError, match="silero-vad must be installed: make showcase, or pip install --no-deps"):
        detector_file()
    (tmp_path / "silero_vad").mkdir()
    (tmp_path / "silero_vad" / "__init__.py").write_text("raise RuntimeError")
    with pytest.raises(UserError, match="silero_vad_16k_op15.onnx must be in the package silero-vad"):
        detector_file()


def test_training_continues_where_it_was_stopped(path, rng, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(frozen_training, "CHECKPOINT_ROUNDS", 1)
    detector = Detector(path)
    features = torch.from_numpy(rng.uniform(0, 1, (2, 2, SIZE))).float()
    lesson = Lesson("float", 4, 1e-2, batch=2, segment=1)

    def trained(checkpoint, stop=None):
        lstm = LSTM.from_dense(detector.lstm, k=8, weight_bits=8).calibrate(features)

        def show(done, loss):
            if done == stop:
                raise KeyboardInterrupt

        train(lstm, detector, features, lesson, tmp_path / checkpoint, {"k": 8}, show)
        return lstm.weights()

    whole = trained("whole.pt")
    with pytest.raises(KeyboardInterrupt):
        trained("stopped.pt", stop=3)
    for one, other in zip(whole.layers, trained("stopped.pt").layers, strict=True):
        np.testing.assert_array_equal(one.defining, other.defining)
    # Another training does not take the checkpoint.
    other = lesson._replace(seed=1)
    assert frozen_training._resume(tmp_path / "whole.pt", json.dumps(other._asdict()), None, None, None) == (0, 0)


def test_weights_of_another_width_keep_their_formats(path, rng):
    dense, x = Detector(path).lstm, torch.from_numpy(rng.uniform(0, 1, (4, 4, SIZE))).float()
    wide, narrow = (LSTM.from_dense(dense, k=8, weight_bits=bits).calibrate(x) for bits in (8, 4))
    with torch.no_grad():
        wide.layers[0].bias.add_(1)
    copied_weights(wide, narrow)
    torch.testing.assert_close(narrow.layers[0].bias, wide.layers[0].bias)
    assert narrow.config.quantization.weight_bits == 4


def test_hardware_figures():
    found = hardware_figures(preset("char128").replace(SMALLEST), 31.25)
    assert found["removed_percent"] == pytest.approx(96.875)
    assert found["least_clock_hz"] == found["cycles"] * 31.25
    assert found["board"] == "ecpix5_45f"
    assert found["fpga"] == {"part": "LFE5U-12F", "engine": "fast", "luts": 9185}
    huge = hardware_figures(preset("lm512"), 1e7)
    assert (huge["board"], huge["fpga"]) == (None, None)


def test_the_smallest_fpga_has_either_engine(rng):
    dense = preset("char64").replace(SMALLEST | {"architecture.engine": "direct", "compression.block_size": 1})
    # A dense network has no other engine, and 40 times the memory of the part above it in size.
    assert smallest_part(dense, 1e3)["engine"] == "direct"
    small = preset("char64").replace(SMALLEST)
    by_engine = [smallest_part(small.replace({"architecture.engine": engine}), 1e3) for engine in ("fast", "direct")]
    assert by_engine[0] == by_engine[1]


def test_longer_training_measures_the_same_sounds():
    effort = SpeechActivity.quick
    longer = effort.longer(3)
    assert longer.updates_of(Design(4, 8)) == (120, 30)
    assert (longer.trained, longer.measured, longer.seconds) == (72, effort.measured, effort.seconds)


def test_seeds_are_joined():
    rows = [dict.fromkeys(SpeechActivity.figures, value) | {"name": "k8w4"} for value in (90.0, 92.0)]
    found = SpeechActivity().joined(rows)
    assert (found["agreement"], found["agreement_by_seed"], found["name"]) == (91.0, [90.0, 92.0], "k8w4")
    assert SpeechActivity().joined(rows[:1]) == rows[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--designs", "3:8"), "--designs must have K of 1, 2, 4, 8, 16 and 2 to 8 BITS, not 3:8"),
        (("--designs", "8"), "--designs must be of the form K:BITS, not '8'"),
        (("--speaker", "(a)"), "--speaker must be left out without --audio, not '(a)'"),
        (("--task", "song"), "--task must be one of speech, noise, not 'song'"),
        (("--seeds", "0"), "--seeds must be from 1 to 100, not 0"),
        (("--longer", "0"), "--longer must be from 1 to 100, not 0"),
        (("--longer", "2", "--untrained"), "--longer must be left out with --untrained, not 2"),
        (("--liberty", "none.lib"), "none.lib must be"),
        (("--audio", "none"), "--audio must be a folder of WAV files, not 'none'"),
    ],
)
def test_refusals(options, message, capsys, monkeypatch, path, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chessrnn.scripts.showcases.speech_task.detector_file", lambda: path)
    try:
        status = main(["showcase", *options])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    assert message in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_energy_and_seeds_are_on_the_page(tmp_path, monkeypatch, capsys):
    for picture in ("curve", "streams"):
        monkeypatch.setattr(speech_page, picture, lambda *_: b"<svg/>")
    rows = [dict.fromkeys(SpeechActivity.figures, value) for value in (90.0, 92.0)]
    row = {"name": "k8w4", "k": 8, "weight_bits": 4, **SpeechActivity().joined(rows)}
    row |= hardware_figures(preset("char64").replace(SMALLEST), 31.25)
    row["energy"] = {"library": "cells", "voltage": 1.1, "clock_mhz": 0.064, "nj_per_step": 46000.0,
                     "uj_per_second": 1437.5, "leakage_uj_per_second": 1430.0, "how": "Activity: none"}  # fmt: skip
    report = {"speech": "formants", "noises_measured": ["rain"], "frames_measured": 6, "seconds_trained": 60.0,
              "quick": False, "seeds": [0, 1], "designs": [row]}  # fmt: skip
    outputs = {"k8w4": Comparison(np.zeros((3, 2, 1)), np.ones((3, 2, 1)), "output", 3)}
    text = speech_page.write_page(tmp_path, report, np.zeros((2, 3 * 512)), outputs).read_text()
    assert "k8w4 takes 1437.50 µJ for a second of audio, 1430.00 of them leakage" in text
    assert "91.00 % (90.00 to 92.00)" in text and "means of 2 seeds" in text
    SpeechActivity().print_rows(report)
    out = capsys.readouterr().out
    assert "k8w4: 90.00 to 92.00 % equal decisions, 2 seeds" in out
    assert "k8w4: 1437.50 uJ per second of audio in cells, 1430.00 of them leakage" in out


@pytest.mark.slow
def test_whole_showcase(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chessrnn.scripts.showcases.speech_task.detector_file", lambda: path)
    monkeypatch.setattr(sounds, "espeak_voices", lambda rng: (_ for _ in ()).throw(OSError("eSpeak NG is missing")))
    monkeypatch.setattr(SpeechActivity, "quick", Effort(6, 6, 1.0, {1: 0, 8: 2}, {8: 1, 4: 1}))
    assert main(["showcase", "--quick", "--designs", "1:8", "8:4", "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "note: eSpeak NG is missing: voices are made of formants" in captured.err
    assert [row["name"] for row in report["designs"]] == ["k1w8", "k8w4"]
    assert report["designs"][1]["removed_percent"] == pytest.approx(98.4375)
    assert report["frames_measured"] == 6 * (16000 // 512)
    folder = tmp_path / "runs" / "showcase"
    page = (folder / "index.html").read_text()
    assert "A quick run" in page and "k8w4" in page
    files = {path.name for path in folder.iterdir()}
    assert {"memory.svg", "streams.svg", "results.json", "k8w4.json", "k8w4.safetensors", "k8-float.pt"} <= files
    # A second run finds everything done.
    assert main(["showcase", "--quick", "--designs", "1:8", "8:4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report
    # So does one of more seeds, of the first.
    assert main(["showcase", "--quick", "--designs", "8:4", "--seeds", "2", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    values = both["designs"][0]["agreement_by_seed"]
    assert values[0] == report["designs"][1]["agreement"] and both["seeds"] == [0, 1]
    assert both["designs"][0]["agreement"] == pytest.approx(sum(values) / 2)
    assert f"({min(values):.2f} to {max(values):.2f})" in (folder / "index.html").read_text()
