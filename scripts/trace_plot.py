"""Picture of a quantization trace: the error of every point over the steps, and the share that arises at each."""

import io

import numpy as np

from chessrnn.model.conversion.quantization_trace import POINTS, LayerTrace, QuantizationTrace
from chessrnn.model.errors import MissingToolError

# Colours that people with any colour vision tell apart (Okabe and Ito 2008).
COLOURS = {"x": "#999999", "preact": "#0072B2", "gate": "#E69F00", "cell": "#009E73", "h": "#D55E00"}
FLOOR = 1e-4
MAX_LAYERS = 8
# Steps up to which every one has a dot.
MAX_MARKERS = 40


def _over_steps(layer: LayerTrace, name: str) -> np.ndarray:
    """Compute the error of a point at every step, in percent of the root mean square over all steps."""
    if name == "x":
        found, wanted = layer.x, layer.float_x
    else:
        found, wanted = getattr(layer.integers, name), getattr(layer.floats, name)
    axes = tuple(range(1, found.ndim))
    scale = float(np.sqrt(np.mean(wanted**2))) or 1.0
    return 100 * np.maximum(np.sqrt(np.mean((found - wanted) ** 2, axis=axes)) / scale, FLOOR)


def draw(trace: QuantizationTrace, kind: str) -> bytes:
    """Draw a picture.

    Parameters
    ----------
    kind : str
        ``"png"`` or ``"svg"``.

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
    layers = trace.layers[:MAX_LAYERS]
    figure, rows = plt.subplots(
        len(layers), 2, figsize=(11, 3.2 * len(layers)), squeeze=False, width_ratios=(2, 1), layout="constrained"
    )
    steps = np.arange(*trace.steps)
    for layer, (left, right) in zip(layers, rows, strict=True):
        for name in ("x", *POINTS):
            marker = "." if len(steps) <= MAX_MARKERS else None
            left.plot(steps, _over_steps(layer, name), color=COLOURS[name], label=name, marker=marker)
        left.set(title=f"{layer.name}: error of every point", xlabel="step", ylabel="% of its rms", yscale="log")
        left.xaxis.get_major_locator().set_params(integer=True)
        left.grid(alpha=0.3)
        left.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        errors, places = layer.errors(), np.arange(len(POINTS))
        for offset, (key, shade) in enumerate((("all", 0.35), ("arising", 1.0))):
            values = [100 * errors[name][key] for name in POINTS]
            bars = right.bar(places + 0.4 * offset, values, 0.4, color=[COLOURS[name] for name in POINTS], alpha=shade)
            right.bar_label(bars, fmt="%.2g", fontsize=7)
        right.set_xticks(places + 0.2, POINTS)
        right.set(title="pale: in all; full: arising there", ylabel="% of its rms")
    buffer = io.BytesIO()
    # Without a date, the same trace gives the same picture.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    plt.close(figure)
    return buffer.getvalue()
