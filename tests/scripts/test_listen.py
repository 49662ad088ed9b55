"""The command that draws where somebody speaks: frames, wrong sounds, the simulated device, and the end by Ctrl-C."""

import contextlib
import io
import json
import sys
import wave
from types import SimpleNamespace

import numpy as np
import pytest

from chessrnn.model.presets import preset
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.showcase.hardware_figures import SMALLEST
from chessrnn.model.showcase.speech_frames import frames_of, raw_chunks, wav_chunks
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_weights
from chessrnn.scripts import listen
from chessrnn.scripts.main import main
from chessrnn.scripts.showcases.speech_task import calls_of

DETECTOR = {"name": "detector", "network.input_size": 128, "quantization.weight_bits": 4} | SMALLEST


def write_wav(path, samples, channels=1, width=2, rate=16000):
    """Write samples in ±1, the same in every channel."""
    integers = np.round(np.repeat(samples[:, None], channels, axis=1) * (2 ** (8 * width - 1) - 1))
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes((integers + 128 if width == 1 else integers).astype("u1" if width == 1 else "<i2").tobytes())
    return path


@pytest.fixture
def image(tmp_path, rng):
    """Weight image with the sizes of the detector's LSTM."""
    path = tmp_path / "detector.safetensors"
    WeightImage(random_weights(preset("char128").replace(DETECTOR), rng)).save(path)
    return path


@pytest.fixture
def sound(tmp_path, rng):
    """Four frames and a half."""
    return write_wav(tmp_path / "sound.wav", rng.uniform(-0.5, 0.5, 4 * 512 + 256))


def listen_to(detector_path, image, sound, *options):
    return main(["listen", str(sound), "--weights", str(image), "--model", str(detector_path), *options])


def standard_input(monkeypatch, data, is_terminal=False):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: is_terminal))


def test_frames_are_those_of_the_showcase(tmp_path, rng):
    samples = np.round(rng.uniform(-0.5, 0.5, 3 * 512) * 2**15) / 2**15
    data = (samples * 2**15).astype("<i2")
    wanted = calls_of(samples[None].astype(np.float32))
    np.testing.assert_array_equal(np.stack(list(frames_of(raw_chunks(io.BytesIO(data.tobytes()), "-")))), wanted)
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setparams((2, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.stack([data + 2, data - 2], axis=1).astype("<i2").tobytes())
    np.testing.assert_array_equal(np.stack(list(frames_of(wav_chunks(tmp_path / "stereo.wav")))), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: write_wav(path, np.zeros(600), width=1),
            "a WAV file of 16 bits at 16000 Hz, not 8 bits at 16000 Hz",
        ),
        (
            lambda path: write_wav(path, np.zeros(600), rate=44100),
            "a WAV file of 16 bits at 16000 Hz, not 16 bits at 44100 Hz",
        ),
        (lambda path: write_wav(path, np.zeros(0)), "a WAV file of at least one sample, not 0"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "a whole WAV file of 2304 samples, not one that ends"),
        (lambda path: path.write_bytes(path.read_bytes()[:30]), "a WAV file of PCM samples"),
        (lambda path: path.write_bytes(b""), "a WAV file"),
        (lambda path: path.write_text("no sound at all"), "a WAV file of PCM samples"),
        (lambda path: (path.unlink(), path.mkdir()), "a WAV file"),
        (lambda path: path.unlink(), "a WAV file"),
    ],
)
def test_wrong_sounds(change, message, detector_path, image, sound, capsys):
    change(sound)
    assert listen_to(detector_path, image, sound) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"chessrnn listen: error: {sound} must be {message}")
    assert captured.err.count("\n") == 1 and len(captured.err.replace(str(sound), "")) < 200


@pytest.mark.parametrize(
    ("data", "is_terminal", "message"),
    [
        (b"", False, "standard input must be raw 16-bit samples at 16000 Hz, one channel (arecord -t raw), not empty"),
        (b"RIFF" + bytes(99), False, "standard input must be raw 16-bit samples at 16000 Hz, one channel (arecord"),
        (b"", True, "standard input must be raw samples of a program such as arecord, not 'a terminal'"),
    ],
)
def test_wrong_standard_input(data, is_terminal, message, detector_path, image, capsys, monkeypatch):
    standard_input(monkeypatch, data, is_terminal)
    assert listen_to(detector_path, image, "-") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"chessrnn listen: error: {message}")


def test_other_options_are_refused(detector_path, image, sound, tmp_path, rng, capsys):
    assert listen_to(detector_path, image, sound, "--check") == 2
    assert "--check must be given with --port or --simulate" in capsys.readouterr().err
    other = tmp_path / "other.safetensors"
    WeightImage(random_weights(preset("char64").replace(SMALLEST), rng)).save(other)
    assert listen_to(detector_path, other, sound) == 2
    assert "input_size of the weights must be 128 as in" in capsys.readouterr().err


def test_standard_input_is_heard_like_a_file(detector_path, image, sound, capsys, monkeypatch):
    assert listen_to(detector_path, image, sound, "--json", "--compare") == 0
    *frames, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    summary = summary["summary"]
    assert [one["time"] for one in frames] == [0, 0.032, 0.064, 0.096, 0.128] and summary["frames"] == 5
    equal = [(one["float"] >= 0.5) == one["speech"] for one in frames]
    assert summary["equal_percent"] == 20 * sum(equal) and summary["lstm"] == "integer reference"
    with wave.open(str(sound)) as file:
        standard_input(monkeypatch, file.readframes(file.getnframes()) + b"\0")
    assert listen_to(detector_path, image, "-", "--json", "--compare") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()[:-1]] == frames


def test_ctrl_c_ends_with_the_summary(detector_path, image, monkeypatch, capsys):
    def interrupted(stream, name):
        yield np.zeros(512)
        raise KeyboardInterrupt

    standard_input(monkeypatch, b"")
    monkeypatch.setattr(listen, "raw_chunks", interrupted)
    assert listen_to(detector_path, image, "-") == 0
    out = capsys.readouterr().out
    assert out.startswith("    0.000 s  0.") and "1 of 32 ms" in out and "interrupted" in out


def test_rows_of_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    picture = listen.Picture(0.5, False)
    for number, probability in enumerate(np.linspace(0, 1, listen.ROW + 1)):
        picture.show(number, probability, None)
    picture.end()
    first, second, rest = capsys.readouterr().out.split("\n")
    row = first.split("\r")[-1].split()
    assert row[:2] == ["0.000", "s"] and row[3] == "speech" and sorted(row[2]) == list(row[2])
    assert len(row[2]) == listen.ROW and second.split() == ["1.920", "s", "█", "speech"] and rest == ""


def test_segments():
    assert listen.segments_of([]) == [] and listen.segments_of([False]) == []
    assert listen.segments_of([True, True, False, True]) == [[0, 0.064], [0.096, 0.128]]


class ReferenceClient:
    """A device that answers with the reference's h, and keeps its state."""

    def __init__(self, weights):
        self._reference, self._state, self.steps = NetworkReference(weights), None, 0

    def step(self, x):
        h, self._state = self._reference.run(x[None, None], self._state)
        self.steps += 1
        return h[0, 0]

    def counters(self):
        return SimpleNamespace(steps=self.steps, step_cycles=2000 * self.steps)

    def identify(self):
        return SimpleNamespace(clock_khz=25000)


def test_a_device_equals_the_reference(detector_path, image, sound, monkeypatch, capsys):
    assert listen_to(detector_path, image, sound, "--json") == 0
    *wanted, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    monkeypatch.setattr(listen, "client_of", lambda args, weights: contextlib.nullcontext(ReferenceClient(weights)))
    assert listen_to(detector_path, image, sound, "--json", "--port", "loop://", "--check") == 0
    *found, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == wanted
    summary = summary["summary"]
    assert (summary["checked"], summary["mismatches"], summary["worst_lsb"]) == (5, 0, 0)
    assert (summary["cycles_per_step"], summary["real_time_factor"]) == (2000, 400)


@pytest.mark.slow
@pytest.mark.needs("verilator")
def test_the_simulated_device_equals_the_reference(detector_path, image, sound, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert listen_to(detector_path, image, sound, "--json") == 0
    *wanted, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert listen_to(detector_path, image, sound, "--json", "--simulate", "--check") == 0
    *found, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == wanted
    summary = summary["summary"]
    assert (summary["checked"], summary["mismatches"], summary["worst_lsb"]) == (5, 0, 0)
    assert summary["cycles_per_step"] > 1000
