"""Picture of a model's output over time, in float and with the accelerator's integers, and of the difference."""

import io

import numpy as np

from chessrnn.model.errors import MissingToolError
from chessrnn.model.hybrid.evaluation import Comparison
from chessrnn.model.hybrid.losses import decisions

# Colours that people with any colour vision tell apart (Okabe and Ito 2008).
FLOAT, INTEGERS, DIFFERENCE = "#999999", "#0072B2", "#D55E00"
MAX_VALUES = 4


def over_time(values: np.ndarray, steps: int, calls: int) -> np.ndarray:
    """Bring an output into (time, values) of its first sequence.

    Time are the calls; of a single call the axis as long as the recurrent layers' sequence, else the longest of all.
    """
    axis = 0
    if calls == 1 and values.ndim:
        axis = list(values.shape).index(steps) if steps in values.shape else int(np.argmax(values.shape))
    rows = np.moveaxis(np.atleast_1d(values), axis, 0).astype(np.float64)
    rows = rows.reshape(len(rows), -1, rows.shape[-1]) if rows.ndim > 1 else rows[:, None, None]
    return rows[:, 0]


def draw(found: Comparison, steps: int, kind: str, metric: str, threshold: float) -> bytes:
    """Draw a picture.

    Parameters
    ----------
    found : Comparison
    steps : int
        Number of steps of the recurrent layers in a call.
    kind : str
        ``"png"`` or ``"svg"``.
    metric : str
        With ``"agreement"`` of single values, the threshold and every other decision are marked.
    threshold : float

    Raises
    ------
    MissingToolError
        matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingToolError("matplotlib must be installed to draw: pip install matplotlib") from None
    floats, integers = (over_time(part, steps, found.calls) for part in (found.floats, found.integers))
    count = min(MAX_VALUES, floats.shape[1])
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(11, 5), sharex=True, height_ratios=(2, 1), layout="constrained")
    time = np.arange(len(floats))
    marker = "." if len(time) == 1 else None
    for place in range(count):
        first = place == 0
        top.plot(time, floats[:, place], color=FLOAT, lw=2.5, marker=marker, label="float" if first else None)
        top.plot(time, integers[:, place], color=INTEGERS, lw=1, marker=marker,
                 label="with the integers" if first else None)  # fmt: skip
        bottom.plot(time, integers[:, place] - floats[:, place], color=DIFFERENCE, lw=1, marker=marker)
    if metric in ("agreement", "accuracy") and floats.shape[1] == 1:
        top.axhline(threshold, color="black", lw=0.7, ls=":")
        others = decisions(floats, threshold) != decisions(integers, threshold)
        top.plot(time[others], integers[others, 0], "x", color=DIFFERENCE, label=f"other decision: {others.sum()}")
    shown = "" if count == floats.shape[1] else f", the first {count} of {floats.shape[1]} values"
    top.set(title=f"output {found.name}{shown}", ylabel="value")
    bottom.set(xlabel="call" if found.calls > 1 else "step", ylabel="difference")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    top.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    buffer = io.BytesIO()
    # Without a date, the same outputs give the same picture.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    plt.close(figure)
    return buffer.getvalue()
