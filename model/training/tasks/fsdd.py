"""The Free Spoken Digit Dataset: a folder of ``{digit}_{speaker}_{take}.wav``, its features and its two splits.

Source: https://github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0).
"""

import hashlib
import re
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import InvalidFileError, InvalidValueError, require, shown

NAME = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]+)\.wav")
SOURCE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
RATE = 8000
WINDOW, HOP, FFT, MELS = 200, 80, 256, 40
# Two frames of 10 ms make one step: half as many steps, and no information lost.
STACKED = 2
NUM_FEATURES = MELS * STACKED
OFFICIAL_TEST_TAKES = range(5)
VALIDATION_TAKES = range(5, 9)
# Normalized features reach about ±4 and x spans ±1.
FEATURE_SCALE = 0.25
NOISE = 0.2
AUGMENTATIONS = ("noise", "warp")
# Greatest changes: natural logarithms of speed and of the stretch of the mel axis, bands of its shift, normalized
# energy at the ends of the spectrum, bands of the mask.
SPEED, STRETCH, SHIFT, TILT, MASKED_BANDS = 0.2, 0.12, 1.5, 0.5, 8


class Recording(NamedTuple):
    """One utterance."""

    digit: int
    speaker: str
    take: int
    features: torch.Tensor  # (T, NUM_FEATURES) float32


def mel_filters() -> torch.Tensor:
    """(FFT/2 + 1, MELS) triangles, equally spaced on the mel scale 2595·log10(1 + f/700) from 60 Hz to 4 kHz."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([60.0, RATE / 2]) / 700)), MELS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.arange(FFT // 2 + 1)[:, None] * RATE / FFT
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling))).float()


def log_mel(samples: torch.Tensor) -> torch.Tensor:
    """Samples (N,) in ±1 → (T, NUM_FEATURES): log-mel energies of 25 ms every 10 ms, normalized over the whole
    utterance (each band by itself would lose what tells vowels apart), two frames to a step, scaled into ±1.
    """
    samples = nn.functional.pad(samples, (0, max(0, WINDOW + STACKED * HOP - len(samples))))
    spectrum = torch.stft(
        samples, FFT, HOP, WINDOW, torch.hann_window(WINDOW), center=False, return_complex=True
    ).abs()  # fmt: skip
    energies = torch.log(spectrum.square().T @ mel_filters() + 1e-6)
    energies = (energies - energies.mean()) / (energies.std() + 0.5)
    whole = len(energies) // STACKED * STACKED
    return (energies[:whole].reshape(-1, NUM_FEATURES) * FEATURE_SCALE).clamp(-1, 1)


def read_wave(path: Path) -> torch.Tensor:
    """Samples (N,) in ±1 of a mono 16 bit file at 8 kHz.

    Raises
    ------
    InvalidFileError
    """
    try:
        with wave.open(str(path)) as file:
            kind = file.getnchannels(), file.getsampwidth(), file.getframerate()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise InvalidFileError(f"{path} must be a WAV file: {str(error) or 'it ends early'}") from None
    if kind != (1, 2, RATE):
        raise InvalidFileError(f"{path} must be mono, 16 bit, {RATE} Hz, not {kind[0]} channels, {8 * kind[1]} bit, "
                               f"{kind[2]} Hz")  # fmt: skip
    if len(content) < 2 * WINDOW:
        raise InvalidFileError(f"{path} must hold at least {WINDOW} samples, not {len(content) // 2}")
    return torch.from_numpy(np.frombuffer(content, dtype="<i2").astype(np.float32) / 32768)


def load(folder: Path) -> list[Recording]:
    """Every recording of a folder, in the order of their names.

    Raises
    ------
    InvalidFileError
        No such folder, nothing in it, or a file that is no such audio.
    """
    if not folder.is_dir():
        raise InvalidFileError(f"--fsdd must be the folder of recordings of {SOURCE}, not a missing {str(folder)!r}")
    recordings = []
    for path in sorted(folder.glob("*.wav")):
        match = NAME.fullmatch(path.name)
        if match is None:
            raise InvalidFileError(f"{path} must be called {{digit}}_{{speaker}}_{{take}}.wav")
        recordings.append(Recording(int(match[1]), match[2], int(match[3]), log_mel(read_wave(path))))
    if not recordings:
        raise InvalidFileError(f"{folder} must hold {{digit}}_{{speaker}}_{{take}}.wav files of {SOURCE}, not none")
    return recordings


def speakers(recordings: list[Recording]) -> list[str]:
    """Names, in order."""
    return sorted({recording.speaker for recording in recordings})


def split(recordings: list[Recording], held_out: str | None) -> dict[str, list[Recording]]:
    """Train, validation and test.

    Parameters
    ----------
    held_out : str or None
        The speaker whose recordings are the test set, none of which is in the others; ``None`` is the official
        split: takes 0 to 4 of every speaker are the test set.
    """
    if held_out is not None and held_out not in speakers(recordings):
        raise InvalidValueError(f"speaker must be one of {', '.join(speakers(recordings))}, not {shown(held_out)}")
    parts: dict[str, list[Recording]] = {"train": [], "validation": [], "test": []}
    for recording in recordings:
        tested = recording.take in OFFICIAL_TEST_TAKES if held_out is None else recording.speaker == held_out
        name = "test" if tested else "validation" if recording.take in VALIDATION_TAKES else "train"
        parts[name].append(recording)
    for name, part in parts.items():
        require(len(part) > 0, "--fsdd", f"a folder with recordings for the {name} split", len(part))
    return parts


def fingerprint(parts: dict[str, list[Recording]], more: str = "") -> str:
    """SHA-256 of the features in their splits."""
    digest = hashlib.sha256(more.encode())
    for name, part in parts.items():
        digest.update(name.encode())
        for recording in part:
            digest.update(recording.features.numpy().tobytes() + bytes([recording.digit]))
    return digest.hexdigest()


def task_name(task: str, held_out: str | None, augmentation: str) -> str:
    """Of a task on these recordings, by which its checkpoints are found."""
    require(augmentation in AUGMENTATIONS, "augmentation", f"one of {', '.join(AUGMENTATIONS)}", augmentation)
    return "-".join([task, *([held_out] if held_out else []), *([augmentation] if augmentation != "noise" else [])])


def pad(part: list[Recording]) -> tuple[torch.Tensor, torch.Tensor]:
    """(T, B, NUM_FEATURES) padded with zeros, and the lengths (B,)."""
    lengths = torch.tensor([len(recording.features) for recording in part])
    inputs = nn.utils.rnn.pad_sequence([recording.features for recording in part])
    return inputs, lengths


class Batches:
    """Endless shuffled batches of like lengths; epoch and order follow from the number of the update.

    Parameters
    ----------
    part : list of Recording
    seed : int
    """

    def __init__(self, part: list[Recording], seed: int = 0):
        self.part, self.seed = part, seed
        self._epoch, self._size, self._order = -1, 0, []

    def __call__(self, update: int, size: int, rank: int, world: int) -> list[Recording]:
        """Share ``rank`` of ``world`` of batch ``update``."""
        size = min(size, len(self.part))
        per_epoch = len(self.part) // size
        epoch = update // per_epoch
        if (epoch, size) != (self._epoch, self._size):
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.part))[: per_epoch * size]
            # Sorted by length in groups of 8 batches: little padding, much mixing.
            groups = [order[start : start + 8 * size] for start in range(0, len(order), 8 * size)]
            groups = [g[np.argsort([len(self.part[i].features) for i in g], kind="stable")] for g in groups]
            batches = np.concatenate(groups).reshape(per_epoch, size)
            self._order = batches[rng.permutation(per_epoch)]
            self._epoch, self._size = epoch, size
        return [self.part[i] for i in self._order[update % per_epoch][rank::world]]


def augmented(
    inputs: torch.Tensor, lengths: torch.Tensor, kind: str, update: int, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and lengths as training sees them, drawn from the number of the update: three thousand recordings of six
    speakers are few.

    Parameters
    ----------
    inputs : (T, B, NUM_FEATURES)
    lengths : (B,)
    kind : str
        ``"noise"``: Gaussian noise.  ``"warp"``: before it, every recording is spoken faster or slower (Ko et al. 2015)
        by a longer or shorter vocal tract (Jaitly and Hinton 2013), with another tilt of its spectrum, and a few bands
        are masked (Park et al. 2019).
    """
    generator = torch.Generator().manual_seed(update * 64 + rank)
    if kind == "warp":
        inputs, lengths = _warped(inputs, lengths, generator)
    return inputs + torch.randn(inputs.shape, generator=generator) * (NOISE * FEATURE_SCALE), lengths


def _warped(inputs: torch.Tensor, lengths: torch.Tensor, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Bilinear interpolation at other times and bands; silence beyond the new lengths."""
    steps, batch = inputs.shape[:2]

    def drawn(spread: float) -> torch.Tensor:
        return (torch.rand(batch, generator=generator) * 2 - 1) * spread

    speed = torch.exp(drawn(SPEED))
    lengths = (lengths / speed).long().clamp(min=1)
    frames = int(lengths.max()) * STACKED
    bands = torch.arange(MELS, dtype=torch.float32) - (MELS - 1) / 2
    # (B, frames) and (B, MELS): where to look, in frames and in bands from the middle.
    times = torch.arange(frames) * speed[:, None]
    places = bands * torch.exp(drawn(STRETCH))[:, None] + drawn(SHIFT)[:, None]
    # grid_sample counts from -1 to 1.
    times = times / max(1, steps * STACKED - 1) * 2 - 1
    places = places / ((MELS - 1) / 2)
    grid = torch.stack(torch.broadcast_tensors(places[:, None], times[:, :, None]), dim=-1)
    image = inputs.transpose(0, 1).reshape(batch, 1, steps * STACKED, MELS)
    image = nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=True)[:, 0]
    image = image + drawn(TILT)[:, None, None] * bands * (FEATURE_SCALE / bands.max())
    first = torch.rand(batch, generator=generator) * MELS
    last = first + torch.rand(batch, generator=generator) * MASKED_BANDS
    number = torch.arange(MELS)
    image = image * ((number < first[:, None]) | (number >= last[:, None]))[:, None]
    inputs = image.reshape(batch, -1, NUM_FEATURES).transpose(0, 1)
    return inputs * (torch.arange(len(inputs))[:, None] < lengths)[..., None], lengths
