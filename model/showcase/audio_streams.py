"""Streams of speech with pauses in noise, at many levels: what a microphone might hear."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from chessrnn.model.showcase.noises import noise
from chessrnn.model.showcase.voices import RATE

# Level of the loudest sample of speech in dB.
LEVELS = (-32.0, -3.0)
PAUSES = (0.05, 1.6)
# Highest sample of a stream.
LIMIT = 0.99


class Mixture(NamedTuple):
    """How speech and noise are mixed.

    Attributes
    ----------
    ratios : (float, float)
        Lowest and highest signal to noise ratio in dB.
    silent_share : float
        Share of streams without speech.
    """

    ratios: tuple[float, float] = (-3.0, 35.0)
    silent_share: float = 0.15


EVERYDAY = Mixture()


def stream(
    speak: Callable[[int], np.ndarray],
    kinds: Sequence[str],
    seconds: float,
    rng: np.random.Generator,
    mixture: Mixture = EVERYDAY,
) -> tuple[np.ndarray, np.ndarray]:
    """Make a stream of one speaker, one kind of noise, and one level of each: the mixture, and its speech alone.

    Parameters
    ----------
    speak : callable
        Samples of an utterance by its number, at 16 kHz.
    kinds : sequence of str
        Kinds of noise to draw from.

    Returns
    -------
    mixed, speech : float array (N,)
        Samples in ±1.
    """
    size = int(seconds * RATE)
    speech = np.zeros(size)
    place = int(rng.uniform(0, 1) * RATE)
    is_silent = rng.random() < mixture.silent_share
    while place < size and not is_silent:
        utterance = speak(int(rng.integers(1 << 16)))
        if not len(utterance):
            utterance = np.zeros(RATE // 10)
        speech[place : place + len(utterance)] += utterance[: size - place]
        place += len(utterance) + int(rng.uniform(*PAUSES) * RATE)
    peak = 10 ** (rng.uniform(*LEVELS) / 20)
    speech *= peak / max(float(np.abs(speech).max()), 1e-9)
    loud = speech[np.abs(speech) > 0.05 * peak]
    level = float(np.sqrt(np.mean(loud**2))) if len(loud) else 0.2 * peak
    mixed = speech + noise(str(rng.choice(kinds)), size, rng) * level * 10 ** (-rng.uniform(*mixture.ratios) / 20)
    return np.clip(mixed, -LIMIT, LIMIT), speech
