"""Noises of everyday kinds, made by NumPy: some to train with, others to measure with."""

import numpy as np

from chessrnn.model.showcase.voices import RATE

# Kinds that a network is trained with, and the others, which it meets for the first time when it is measured.
TRAINING = ("shaped", "beating", "hum", "bursts", "glides", "mixed")
HELD_OUT = ("white", "brown", "engine", "rain", "bells", "siren")


def noise(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Make samples (N,) of a kind, with a root mean square of 1.

    Kinds to train with have random properties: ``shaped`` is stationary, with a slope and resonances; ``beating`` the
    same with a varying level; ``hum`` harmonics of a tone; ``bursts`` are short, few or many; ``glides`` tones that
    move; ``mixed`` two of these.  The others are ``white``, ``brown``, ``engine`` (a saw tooth in brown noise),
    ``rain`` (drops in pink noise), ``bells`` (decaying partials) and ``siren`` (two tones in turn).
    """
    samples = _MAKERS[kind](size, rng)
    return samples / max(float(np.sqrt(np.mean(samples**2))), 1e-9)


def _coloured(size: int, rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise whose amplitude falls as f to the power of -slope, from 20 Hz on."""
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    return np.fft.irfft(np.fft.rfft(rng.normal(size=size)) / np.maximum(frequencies, 20.0) ** slope, size)


def _shaped(size: int, rng: np.random.Generator) -> np.ndarray:
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    spectrum = np.fft.rfft(_coloured(size, rng, rng.uniform(-0.2, 1.2)))
    for _ in range(int(rng.integers(0, 6))):
        centre, width = rng.uniform(50, 6000), rng.uniform(20, 800)
        spectrum *= 1 + rng.uniform(-0.9, 8) * np.exp(-(((frequencies - centre) / width) ** 2))
    return np.fft.irfft(spectrum, size)


def _beating(size: int, rng: np.random.Generator) -> np.ndarray:
    rate, depth = 10 ** rng.uniform(-0.3, 1.7), rng.uniform(0.3, 1.0)
    return _shaped(size, rng) * (1 + depth * np.sin(2 * np.pi * rate * np.arange(size) / RATE + rng.uniform(0, 6)))


def _hum(size: int, rng: np.random.Generator) -> np.ndarray:
    time, base = np.arange(size) / RATE, 10 ** rng.uniform(1.6, 2.7)
    phase = base * time + rng.uniform(0, 2) * np.sin(2 * np.pi * rng.uniform(0.1, 3) * time)
    parts = [rng.uniform(0, 1) / order ** rng.uniform(0.3, 1.5) * np.sin(2 * np.pi * order * phase)
             for order in range(1, 20) if base * order < RATE / 2.5]  # fmt: skip
    return np.sum(parts, axis=0) + rng.uniform(0.01, 0.3) * rng.normal(size=size)


def _bursts(size: int, rng: np.random.Generator) -> np.ndarray:
    samples, ground = 1e-3 * rng.normal(size=size), _shaped(size, rng)
    ground /= max(float(np.abs(ground).max()), 1e-9)
    length = int(10 ** rng.uniform(-2.7, -0.8) * RATE)
    shape = np.exp(-np.arange(length) / (length / rng.uniform(2, 8)))
    for start in rng.integers(0, size, rng.poisson(10 ** rng.uniform(-0.3, 2) * size / RATE)):
        part = slice(start, start + length)
        samples[part] += ground[part] * shape[: size - start] * rng.uniform(0.2, 1)
    return samples


def _glides(size: int, rng: np.random.Generator) -> np.ndarray:
    samples = 10 ** rng.uniform(-3, -1) * rng.normal(size=size)
    for _ in range(max(1, int(rng.uniform(0.5, 5) * size / RATE))):
        start, length = int(rng.integers(size)), int(10 ** rng.uniform(-1.5, 0.2) * RATE)
        first, last = 10 ** rng.uniform(2, 3.8, 2)
        path = np.geomspace(first, last, length)
        tone = np.sin(2 * np.pi * np.cumsum(path) / RATE) * np.hanning(length) * rng.uniform(0.2, 1)
        samples[start : start + length] += tone[: size - start]
    return samples


def _mixed(size: int, rng: np.random.Generator) -> np.ndarray:
    kinds = rng.choice(TRAINING[:-1], 2, replace=False)
    return noise(str(kinds[0]), size, rng) + rng.uniform(0.2, 1) * noise(str(kinds[1]), size, rng)


def _engine(size: int, rng: np.random.Generator) -> np.ndarray:
    time, rate = np.arange(size) / RATE, rng.uniform(20, 90)
    saw = 2 * ((rate * time + 0.3 * np.sin(2 * np.pi * 0.2 * time)) % 1) - 1
    return 0.5 * saw + 20 * _coloured(size, rng, 1.0)


def _rain(size: int, rng: np.random.Generator) -> np.ndarray:
    samples = 5 * _coloured(size, rng, 0.5)
    for start in rng.integers(0, size, int(150 * size / RATE)):
        drop = rng.normal(size=60) * np.exp(-np.arange(60) / 12) * rng.uniform(0.5, 3)
        samples[start : start + 60] += drop[: size - start]
    return samples


def _bells(size: int, rng: np.random.Generator) -> np.ndarray:
    samples = 1e-2 * rng.normal(size=size)
    for start in rng.integers(0, size, max(1, int(1.5 * size / RATE))):
        time, base = np.arange(size - start) / RATE, rng.uniform(300, 1500)
        for ratio in (1.0, 2.76, 5.4):
            samples[start:] += np.sin(2 * np.pi * base * ratio * time) * np.exp(-time * ratio * 3) / ratio
    return samples


def _siren(size: int, rng: np.random.Generator) -> np.ndarray:
    time, base = np.arange(size) / RATE, rng.uniform(350, 700)
    path = np.where((time * rng.uniform(0.8, 2)) % 1 < 0.5, base, 1.33 * base)
    phase = 2 * np.pi * np.cumsum(path) / RATE
    return np.sin(phase) + 0.4 * np.sin(3 * phase) + 0.05 * rng.normal(size=size)


_MAKERS = {
    "shaped": _shaped,
    "beating": _beating,
    "hum": _hum,
    "bursts": _bursts,
    "glides": _glides,
    "mixed": _mixed,
    "white": lambda size, rng: rng.normal(size=size),
    "brown": lambda size, rng: _coloured(size, rng, 1.0),
    "engine": _engine,
    "rain": _rain,
    "bells": _bells,
    "siren": _siren,
}
