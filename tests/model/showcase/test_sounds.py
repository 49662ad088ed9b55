"""Sounds of the showcase: noises, voices made of formants, recordings, and streams."""

import wave

import numpy as np
import pytest

from chessrnn.model.errors import UserError
from chessrnn.model.showcase.audio_streams import Mixture, stream
from chessrnn.model.showcase.noises import HELD_OUT, TRAINING, noise
from chessrnn.model.showcase.recordings import read_wav, recorded_voices
from chessrnn.model.showcase.voices import RATE, formant_voices, resampled


@pytest.mark.parametrize("kind", TRAINING + HELD_OUT)
def test_noises_have_unit_power(kind, rng):
    samples = noise(kind, RATE, rng)
    assert samples.shape == (RATE,) and np.isfinite(samples).all()
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(1)


def test_noises_of_measurement_are_not_trained_with():
    assert not set(TRAINING) & set(HELD_OUT)


def test_resampling_keeps_a_tone(rng):
    time = np.arange(8000) / 8000
    found = resampled(np.sin(2 * np.pi * 440 * time), 8000)
    np.testing.assert_allclose(found, np.sin(2 * np.pi * 440 * np.arange(16000) / 16000), atol=1e-9)


def test_formants_are_the_same_for_the_same_sentence(rng):
    first, second = formant_voices(rng, 2)
    np.testing.assert_array_equal(first.speak(3), first.speak(3))
    assert first.speak(3).shape != second.speak(3).shape
    assert np.abs(first.speak(3)).max() == pytest.approx(0.5)


def test_stream_is_within_range(rng):
    voice = formant_voices(rng, 1)[0]
    for _ in range(5):
        samples, speech = stream(voice.speak, TRAINING, 1.0, rng)
        assert samples.shape == speech.shape == (RATE,) and np.abs(samples).max() <= 0.99


def test_stream_has_the_ratio_of_its_mixture(rng):
    mixture = Mixture(ratios=(5.0, 5.0), silent_share=0.0)
    mixed, speech = stream(lambda _: rng.normal(size=RATE), ["white"], 4.0, rng, mixture)
    noise = (mixed - speech)[np.abs(mixed) < 0.99]
    loud = speech[np.abs(speech) > 0.05 * np.abs(speech).max()]
    assert 10 * np.log10(np.mean(loud**2) / np.mean(noise**2)) == pytest.approx(5, abs=0.3)


def write_wav(path, values, width, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = np.round(values * (2 ** (8 * width - 1) - 1)).astype(np.int64) + (128 if width == 1 else 0)
    data = b"".join(int(value).to_bytes(width, "little", signed=width > 1) for value in np.repeat(scaled, channels))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_recordings_of_every_width(tmp_path, width, channels):
    values = 0.8 * np.sin(np.arange(400) / 5 + 0.5)
    write_wav(tmp_path / "a.wav", values, width, channels=channels)
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav"), values, atol=2.0 ** (2 - 8 * width))


def test_speakers_are_folders_or_parts_of_names(tmp_path):
    for number in range(4):
        write_wav(tmp_path / f"s{number}" / "0_anna_1.wav", np.ones(8) / 2, 2)
    assert [voice.name for voice in recorded_voices(tmp_path)] == ["s0", "s1", "s2", "s3"]
    assert len(recorded_voices(tmp_path, r"(s\d)")) == 4
    with pytest.raises(UserError, match="the number of speakers must be at least 4, one folder each, or named by"):
        recorded_voices(tmp_path, "_([a-z]+)_")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"--speaker must be a regular expression, not '\('"),
        ("a", "--speaker must be a regular expression with a group, the speaker, not 'a'"),
        ("(zzz)", "--speaker must be found in a.wav, not"),
    ],
)
def test_wrong_patterns(tmp_path, pattern, message):
    write_wav(tmp_path / "a.wav", np.ones(8) / 2, 2)
    with pytest.raises(UserError, match=message):
        recorded_voices(tmp_path, pattern)


def test_wrong_folders_and_files(tmp_path):
    with pytest.raises(UserError, match="--audio must be a folder of WAV files, not"):
        recorded_voices(tmp_path / "none")
    with pytest.raises(UserError, match="--audio must be a folder with 1 to 20000 WAV files, not 0"):
        recorded_voices(tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="bad.wav must be a WAV file of PCM samples"):
        read_wav(tmp_path / "bad.wav")
