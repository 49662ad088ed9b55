"""Page of noise suppression: table, curve of the sound's error against memory, and spectrograms of one stream."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chessrnn.model.files import write_atomic
from chessrnn.model.hybrid.evaluation import Comparison
from chessrnn.model.showcase.short_time_spectrum import HOP, spectra, suppressed
from chessrnn.model.showcase.voices import RATE
from chessrnn.scripts.showcases.page_parts import (
    FLOAT,
    INTEGERS,
    OTHER,
    curve,
    energies,
    pyplot,
    several_seeds,
    spread,
    svg,
    table,
    write_html,
)

# Darkest and brightest level of a spectrogram, in dB below its loudest point.
RANGE = 70.0


def loudest(clean: np.ndarray) -> int:
    """Index of the stream (B, N) with the most speech."""
    return int(np.square(clean).mean(axis=1).argmax())


def spectrograms(sounds: Mapping[str, np.ndarray], outputs: Mapping[str, Comparison], kind: str) -> bytes:
    """Draw one stream: spectrograms of what came in and went out, and what the integers change in the sound.

    Parameters
    ----------
    sounds : dict of str to array
        ``measured`` and ``clean`` streams (B, N).
    outputs : dict of str to Comparison
        Gains (B, T, 161) of some designs by name.
    kind : str
        Kind of noise, for the title.
    """
    number = loudest(sounds["clean"])
    noisy = spectra(sounds["measured"][number : number + 1])
    heard = {name: suppressed(noisy, found.integers[number : number + 1])[0] for name, found in outputs.items()}
    first = next(iter(outputs.values()))
    floats = suppressed(noisy, first.floats[number : number + 1])[0]
    size = len(floats)
    mixed, clean = (sounds[name][number, :size] for name in ("measured", "clean"))
    shown = {f"noisy ({kind})": mixed, "speech alone": clean, "float model": floats}
    shown |= {f"integers, {name}": values for name, values in heard.items()}
    pictures = {name: np.abs(spectra(values[None])[0]).T for name, values in shown.items()}
    top = 20 * np.log10(max(float(np.max(values)) for values in pictures.values()))
    seconds = size / RATE
    figure, rows = pyplot().subplots(len(shown) + 1, 1, figsize=(9, 1.7 * len(shown) + 2.2), sharex=True,
                                     layout="constrained", height_ratios=(1,) * len(shown) + (1.3,))  # fmt: skip
    for axes, (name, values) in zip(rows, pictures.items(), strict=False):
        levels = 20 * np.log10(np.maximum(values, 1e-9))
        extent = (0, (values.shape[1] - 1) * HOP / RATE, 0, RATE / 2e3)
        axes.imshow(levels, origin="lower", aspect="auto", extent=extent,
                    vmin=top - RANGE, vmax=top, cmap="magma", interpolation="nearest")  # fmt: skip
        axes.set(ylabel="kHz", xlim=(0, seconds))
        axes.set_title(name, loc="left", fontsize=10)
    time = np.arange(size) / RATE
    axes = rows[-1]
    axes.plot(time, floats, color=FLOAT, lw=0.5, label="float model")
    for name, colour in zip(reversed(heard), (OTHER, INTEGERS), strict=False):
        axes.plot(time, heard[name] - floats, color=colour, lw=0.5, label=f"{name} minus float model")
    axes.set(xlabel="seconds", ylabel="sound")
    for line in axes.legend(frameon=False, loc="upper right", ncols=3, fontsize=8).get_lines():
        line.set_linewidth(2)
    return svg(figure)


def write_page(
    folder: Path, report: dict[str, Any], sounds: Mapping[str, np.ndarray], outputs: Mapping[str, Comparison]
) -> Path:
    """Write index.html with its pictures, and return its path."""
    rows = report["designs"]
    by_memory = sorted(rows, key=lambda row: row["weight_bytes"])
    # The largest design shows what rounding does, the smallest what compression does.
    ends = list(dict.fromkeys((by_memory[-1]["name"], by_memory[0]["name"])))
    noises = report["noises_measured"]
    kind = noises[loudest(sounds["clean"]) % len(noises)]
    write_atomic(folder / "memory.svg", curve(rows, "fidelity", "SI-SDR against the float model's sound, dB"))
    picture = spectrograms(sounds, {name: outputs[name] for name in ends}, kind)
    write_atomic(folder / "spectrograms.svg", picture)
    heads = ("integers against float", "not trained", "against clean speech", "loss by integers", "loss, not trained")
    cells = [
        (
            spread(row, "fidelity", "dB"),
            *(f"{row[name]:.2f} dB" for name in ("fidelity_untrained", "clean_integers", "loss", "loss_untrained")),
        )
        for row in rows
    ]
    first, speech = rows[0], html.escape(report["speech"])
    body = f"""<p>The two GRU layers of NSNet2, 400 units each, as a circulant integer accelerator. The package's own
ONNX file with the accelerator's integers inside, against the same file as it is, on
{report["seconds_measured"]:.0f} seconds{several_seeds(report)} of {speech} in noise: speakers and kinds of noise
({html.escape(", ".join(noises))}) that training did not hear. It heard {report["seconds_trained"] / 60:.1f} minutes of
others, and no clean speech. Dense weights are not trained.</p>
<p>All figures are SI-SDR of the sound. Against the clean speech, the noisy sound has {first["noisy"]:.2f} dB, and
that of the float model {first["clean_float"]:.2f} dB.</p>
{table(report, heads, cells)}
<p>Gates, area, cycles and board are estimates with 16 processing elements; a step is due every 10 ms.</p>
{energies(report)}
<img src="memory.svg" alt="error of the sound against memory"><h2>{html.escape(" and ".join(ends))}, one stream</h2>
<img src="spectrograms.svg" alt="spectrograms of the noisy sound, of speech, and of both models">"""
    return write_html(folder, "Less noise in few kilobytes", report, body)
