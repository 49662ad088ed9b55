"""Short-time spectra of sounds, as a suppressor of noise reads them, and the sound of changed spectra."""

import numpy as np

# Samples of a window and between two of them at 16 kHz: 20 ms, half overlapped.
WINDOW, HOP = 320, 160
BINS = WINDOW // 2 + 1
# Least power that is told from silence, before its logarithm; least gain, -80 dB.
LEAST_POWER, LEAST_GAIN = 1e-12, 1e-4
# Square root of Hann's window, once before and once behind: overlapping squares add up to one at every sample.
SHAPE = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW))


def spectra(samples: np.ndarray) -> np.ndarray:
    """Compute complex spectra (B, T, 161) of samples (B, N), T = N // 160 + 1; what is left of the last hop is cut."""
    hops = samples.shape[1] // HOP
    padded = np.pad(samples[:, : hops * HOP].astype(np.float64), ((0, 0), (HOP, HOP)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP]
    return np.fft.rfft(windows * SHAPE)


def waveform(values: np.ndarray) -> np.ndarray:
    """Add up the windows of spectra (B, T, 161): samples (B, (T - 1)·160), those of :func:`spectra` exactly."""
    windows = np.fft.irfft(values, WINDOW) * SHAPE
    batch, steps, _ = windows.shape
    halves = np.zeros((batch, steps + 1, HOP))
    halves[:, :-1] += windows[:, :, :HOP]
    halves[:, 1:] += windows[:, :, HOP:]
    return halves[:, 1:-1].reshape(batch, -1)


def log_power(values: np.ndarray) -> np.ndarray:
    """Compute the common logarithm of the power of spectra."""
    return np.log10(np.maximum(np.abs(values) ** 2, LEAST_POWER)).astype(np.float32)


def suppressed(values: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Multiply spectra (B, T, 161) by gains of the same shape, which are limited to -80 to 0 dB: samples (B, N)."""
    return waveform(values * np.clip(gains, LEAST_GAIN, 1.0))
