"""Choice of the scales of block rows (``quantization.weight_scale = "row"``) by the squared error of the weights."""

from collections.abc import Sequence

import numpy as np

from chessrnn.model.config import Config

# Scales (G, H/k) of the block rows of every layer and direction; ``None`` for a network without them.
Scales = Sequence[Sequence[np.ndarray | None]]
# Scales that are tried, as shares of the greatest; below the last one a scale is too coarse.
SHARES = 2.0 ** -np.arange(0, 5, 0.125)


def nearest_weights(scaled: np.ndarray, least: float, greatest: float, is_odd: bool) -> np.ndarray:
    """Round to the nearest integers, HALF_UP, or to the nearest odd ones, within a range."""
    rounded = 2 * np.floor(scaled / 2) + 1 if is_odd else np.floor(scaled + 0.5)
    return np.clip(rounded, least, greatest)


def choose_scales(
    w_x: np.ndarray, w_h: np.ndarray, config: Config, fracs: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the scale of every block row.

    Parameters
    ----------
    w_x, w_h : float arrays (G, H/k, X/k, k) and (G, H/k, P/k or H/k, k)
        Defining vectors.
    config : Config
    fracs : sequence of int
        Fraction bits of W_h for each gate; W_x has as many more as in the configuration.

    Returns
    -------
    scales : int64 array (G, H/k)
    errors : float array (G,)
        Sum of the squared errors of the weights of a gate.  An error of W_x is multiplied by the step of W_h over that
        of W_x before it is squared, as x and h have about equally large codes.
    """
    of_x = [own - frac for own, frac in zip(config.input_weight_fracs, config.weight_fracs, strict=True)]
    parts = []
    for values, more in ((w_x, np.array(of_x)), (w_h, np.zeros(len(fracs)))):
        steps = 2.0 ** (np.array(fracs, dtype=np.float64) + more)
        parts.append((values.reshape(*values.shape[:2], -1), steps[:, None, None], 4.0 ** more[:, None]))
    least, greatest = config.scale_min_max
    candidates = np.unique(np.clip((SHARES * greatest).round().astype(np.int64), least, greatest))
    errors = np.zeros((len(candidates), *parts[0][0].shape[:2]))
    for number, scale in enumerate(candidates):
        for values, steps, unit in parts:
            here = steps * 2.0**config.scale_frac / scale
            codes = nearest_weights(values * here, config.weight_min, config.weight_max, config.has_half_levels)
            errors[number] += ((codes / here - values) ** 2).sum(axis=2) * unit
    best = errors.argmin(axis=0)
    return candidates[best], errors.min(axis=0).sum(axis=1)
