"""What an application loses: measures that compare a model's outputs in integers with those in float."""

import numpy as np

from chessrnn.model.errors import InvalidValueError, require

METRICS = ("agreement", "accuracy", "mse", "si-sdr")
# Metrics that may be measured against a target; accuracy must be.
WITH_TARGET = ("accuracy", "mse", "si-sdr")


def decisions(output: np.ndarray, threshold: float) -> np.ndarray:
    """Decide: the index of the largest of several values in the last axis, else whether a value reaches a threshold."""
    if output.ndim > 0 and output.shape[-1] > 1:
        return output.argmax(axis=-1)
    values = output[..., 0] if output.ndim and output.shape[-1] == 1 else output
    return (values >= threshold).astype(np.int64)


def si_sdr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Compute the scale-invariant signal-to-distortion ratio in dB: 10·log10(|s|² / |s - found|²), s = α·wanted.

    α is the least-squares factor between both, and neither mean is removed (Le Roux, Wisdom, Erdogan, Hershey 2019).
    Equal signals give infinity, and a signal of zeros minus infinity.
    """
    found, wanted = np.ravel(found).astype(np.float64), np.ravel(wanted).astype(np.float64)
    scaled = wanted * (found @ wanted) / max(float(wanted @ wanted), np.finfo(float).tiny)
    distortion, signal = float(np.sum((scaled - found) ** 2)), float(scaled @ scaled)
    if signal == 0:
        return -np.inf
    return 10 * float(np.log10(signal / distortion)) if distortion else np.inf


def loss(
    metric: str, floats: np.ndarray, integers: np.ndarray, target: np.ndarray | None = None, threshold: float = 0.5
) -> dict[str, float]:
    """Compare outputs.

    Parameters
    ----------
    metric : str
        ``"agreement"``: share of equal decisions in percent, with the shares of both kinds of other decisions where a
        decision is yes or no.  ``"accuracy"``: percent of decisions that equal the target.  ``"mse"``: mean of squared
        differences, and relative to the mean square.  ``"si-sdr"``: in dB.
    floats, integers : float array (..., V)
        Output of the model as it is, and with the accelerator's integers.
    target : array, optional
        Labels (integers) of every decision for ``"accuracy"``; wanted values for ``"mse"`` and ``"si-sdr"``, which
        compare with the float output where it is left out.
    threshold : float
        What a single value must reach for a yes.

    Returns
    -------
    dict of str to float
        With a target: ``float``, ``integers`` and ``loss``.

    Raises
    ------
    InvalidValueError
        The metric is unknown, or a shape does not fit.
    """
    require(metric in METRICS, "metric", f"one of {', '.join(METRICS)}", metric)
    require(floats.shape == integers.shape, "the integer output", f"of shape {floats.shape}", integers.shape)
    require(floats.size > 0, "the output", "of at least one value", floats.shape)
    if metric == "agreement":
        return _agreement(floats, integers, threshold)
    if metric == "accuracy":
        wanted = decisions(floats, threshold)
        if target is None:
            raise InvalidValueError("--target must be given for accuracy, not None")
        labels = np.asarray(target)
        labels = labels if labels.shape == wanted.shape else labels.reshape(-1)
        rule = f"of shape {wanted.shape}, a label for every decision"
        require(labels.size == wanted.size, "the target", rule, np.shape(target))
        found = [decisions(out, threshold).ravel() for out in (floats, integers)]
        shares = [100 * float(np.mean(one == labels.ravel())) for one in found]
        return {"float": shares[0], "integers": shares[1], "loss": shares[0] - shares[1]}
    if target is not None:
        require(np.size(target) == floats.size, "the target", f"of shape {floats.shape}", np.shape(target))
        target = np.asarray(target, dtype=np.float64).reshape(floats.shape)
        measure = _mse if metric == "mse" else si_sdr
        values = [float(measure(out, target)) for out in (floats, integers)]
        difference = values[1] - values[0] if metric == "mse" else values[0] - values[1]
        return {"float": values[0], "integers": values[1], "loss": difference}
    if metric == "mse":
        error, scale = _mse(integers, floats), float(np.mean(np.square(floats, dtype=np.float64)))
        return {"mse": error, "relative": error / scale if scale else error}
    return {"si_sdr_db": si_sdr(integers, floats)}


def _mse(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean((found.astype(np.float64) - wanted) ** 2))


def _agreement(floats: np.ndarray, integers: np.ndarray, threshold: float) -> dict[str, float]:
    wanted, found = decisions(floats, threshold), decisions(integers, threshold)
    result = {"agreement": 100 * float(np.mean(wanted == found))}
    if floats.ndim == 0 or floats.shape[-1] == 1:
        yes, no = wanted == 1, wanted == 0
        result["float_yes"] = 100 * float(np.mean(yes))
        result["false_yes"] = 100 * float(np.mean(found[no])) if no.any() else 0.0
        result["missed_yes"] = 100 * float(np.mean(found[yes] == 0)) if yes.any() else 0.0
    return result
