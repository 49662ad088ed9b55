"""The Free Spoken Digit Dataset: a folder of ``{digit}_{speaker}_{take}.wav`` files, their features and two splits.

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
# Two frames of 10 ms make one step, which halves the number of steps without losing information.
STACKED = 2
NUM_FEATURES = MELS * STACKED
OFFICIAL_TEST_TAKES = range(5)
VALIDATION_TAKES = range(5, 9)
# Normalized features reach about ±4, and the format of x spans ±1.
FEATURE_SCALE = 0.25
NOISE = 0.2
AUGMENTATIONS = ("noise", "warp")
# Greatest changes by augmentation: natural logarithms of the speed and of the stretch of the mel axis, shift of the
# axis in bands, normalized energy added at the ends of the spectrum, width of the mask in bands.
SPEED, STRETCH, SHIFT, TILT, MASKED_BANDS = 0.2, 0.12, 1.5, 0.5, 8


class Recording(NamedTuple):
    """One recorded utterance and its features."""

    digit: int
    speaker: str
    take: int
    features: torch.Tensor  # (T, NUM_FEATURES) float32


def mel_filters() -> torch.Tensor:
    """Compute triangular filters (FFT/2 + 1, MELS), equally spaced on the mel scale from 60 Hz to 4 kHz.

    The mel scale is 2595·log10(1 + f/700).
    """
    lowest, highest = 2595 * np.log10(1 + np.array([60.0, RATE / 2]) / 700)
    mel = np.linspace(lowest, highest, MELS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.arange(FFT // 2 + 1)[:, None] * RATE / FFT
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling))).float()


def log_mel(samples: torch.Tensor) -> torch.Tensor:
    """Compute the features (T, NUM_FEATURES) of samples (N,) in ±1.

    They are log-mel energies of 25 ms every 10 ms, two frames to a step, scaled into ±1.  They are normalized over the
    whole utterance: normalizing each band by itself would remove what distinguishes vowels.
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
    """Load the samples (N,), in ±1, of a mono 16 bit file at 8 kHz.

    Raises
    ------
    InvalidFileError
        The file is damaged, too short, or of another kind.
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
    """Load every recording of a folder, in the order of the file names.

    Raises
    ------
    InvalidFileError
        The folder is missing or holds no recordings, or a file in it is not such a recording.
    """
    if not folder.is_dir():
        raise InvalidFileError(
            f"--fsdd must be the folder of recordings of {SOURCE}, not the missing folder {str(folder)!r}"
        )
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
    """List the names of the speakers in alphabetical order."""
    return sorted({recording.speaker for recording in recordings})


def split(recordings: list[Recording], held_out: str | None) -> dict[str, list[Recording]]:
    """Split the recordings into train, validation and test.

    Parameters
    ----------
    held_out : str or None
        Speaker whose recordings are the test set and are in no other split.  ``None`` is the official split, whose
        test set is takes 0 to 4 of every speaker.
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
    """Compute the SHA-256 of the features in their splits."""
    digest = hashlib.sha256(more.encode())
    for name, part in parts.items():
        digest.update(name.encode())
        for recording in part:
            digest.update(recording.features.numpy().tobytes() + bytes([recording.digit]))
    return digest.hexdigest()


def task_name(task: str, held_out: str | None, augmentation: str) -> str:
    """Name a task on these recordings; its checkpoints are identified by this name."""
    require(augmentation in AUGMENTATIONS, "augmentation", f"one of {', '.join(AUGMENTATIONS)}", augmentation)
    return "-".join([task, *([held_out] if held_out else []), *([augmentation] if augmentation != "noise" else [])])


def pad(part: list[Recording]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack recordings to (T, B, NUM_FEATURES), padded with zeros; the second result is their lengths (B,)."""
    lengths = torch.tensor([len(recording.features) for recording in part])
    inputs = nn.utils.rnn.pad_sequence([recording.features for recording in part])
    return inputs, lengths


class Batches:
    """Endless shuffled batches of recordings of similar length; the number of the update determines epoch and order.

    Parameters
    ----------
    part : list of Recording
    seed : int
    """

    def __init__(self, part: list[Recording], seed: int = 0):
        self.part, self.seed = part, seed
        self._epoch, self._size, self._order = -1, 0, []

    def __call__(self, update: int, size: int, rank: int, world: int) -> list[Recording]:
        """Return share ``rank`` of ``world`` of batch ``update``."""
        size = min(size, len(self.part))
        per_epoch = len(self.part) // size
        epoch = update // per_epoch
        if (epoch, size) != (self._epoch, self._size):
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.part))[: per_epoch * size]
            # Sorting by length within groups of 8 batches needs little padding and still mixes well.
            groups = [order[start : start + 8 * size] for start in range(0, len(order), 8 * size)]
            groups = [g[np.argsort([len(self.part[i].features) for i in g], kind="stable")] for g in groups]
            batches = np.concatenate(groups).reshape(per_epoch, size)
            self._order = batches[rng.permutation(per_epoch)]
            self._epoch, self._size = epoch, size
        return [self.part[i] for i in self._order[update % per_epoch][rank::world]]


def augmented(
    inputs: torch.Tensor, lengths: torch.Tensor, kind: str, update: int, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment features and lengths for training; the number of the update determines the random changes.

    Without augmentation networks overfit to three thousand recordings of six speakers.

    Parameters
    ----------
    inputs : (T, B, NUM_FEATURES)
    lengths : (B,)
    kind : str
        ``"noise"`` adds Gaussian noise.  ``"warp"`` first changes the speed (Ko et al. 2015), the length of the vocal
        tract (Jaitly and Hinton 2013) and the tilt of the spectrum of every recording, and masks a few bands (Park et
        al. 2019).
    """
    generator = torch.Generator().manual_seed(update * 64 + rank)
    if kind == "warp":
        inputs, lengths = _warped(inputs, lengths, generator)
    return inputs + torch.randn(inputs.shape, generator=generator) * (NOISE * FEATURE_SCALE), lengths


def _warped(inputs: torch.Tensor, lengths: torch.Tensor, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Warp recordings by bilinear interpolation at other times and bands; beyond the new lengths there is silence."""
    steps, batch = inputs.shape[:2]

    def drawn(spread: float) -> torch.Tensor:
        return (torch.rand(batch, generator=generator) * 2 - 1) * spread

    speed = torch.exp(drawn(SPEED))
    lengths = (lengths / speed).long().clamp(min=1)
    frames = int(lengths.max()) * STACKED
    bands = torch.arange(MELS, dtype=torch.float32) - (MELS - 1) / 2
    # Positions to sample, (B, frames) in frames and (B, MELS) in bands from the middle.
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
