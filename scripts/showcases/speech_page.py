"""Page of speech activity: table, curve of agreement against memory, and streams with both models' probabilities."""

import html
from pathlib import Path
from typing import Any

import numpy as np

from chessrnn.model.files import write_atomic
from chessrnn.model.hybrid.evaluation import Comparison
from chessrnn.model.showcase.speech_frames import CHUNK, RATE
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

SHOWN_STREAMS = 3


def streams(samples: np.ndarray, found: Comparison, name: str) -> bytes:
    """Draw some streams: the sound, and the probability of speech by both models."""
    count = min(SHOWN_STREAMS, len(samples))
    figure, rows = pyplot().subplots(2 * count, 1, figsize=(11, 3 * count), sharex=True, squeeze=False,
                                height_ratios=(1, 2) * count, layout="constrained")  # fmt: skip
    frames = np.arange(len(found.floats)) * CHUNK / RATE
    for number in range(count):
        top, bottom = rows[2 * number, 0], rows[2 * number + 1, 0]
        step = 40
        sound = samples[number, : len(frames) * CHUNK // step * step].reshape(-1, step)
        time = np.arange(len(sound)) * step / RATE
        top.fill_between(time, sound.min(axis=1), sound.max(axis=1), color="#555555", lw=0)
        top.set(ylabel="sound", yticks=[])
        floats, integers = found.floats[:, number, 0], found.integers[:, number, 0]
        bottom.plot(frames, floats, color=FLOAT, lw=3, label="float")
        bottom.plot(frames, integers, color=INTEGERS, lw=1, label=f"integers, {name}")
        other = (floats >= 0.5) != (integers >= 0.5)
        bottom.plot(frames[other], integers[other], "x", color=OTHER, label="other decision")
        bottom.axhline(0.5, color="black", lw=0.6, ls=":")
        bottom.set(ylabel="p(speech)", ylim=(-0.05, 1.05))
    rows[1, 0].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    rows[-1, 0].set(xlabel="seconds")
    return svg(figure)


def write_page(folder: Path, report: dict[str, Any], samples: np.ndarray, outputs: dict[str, Comparison]) -> Path:
    """Write index.html with its pictures, and return its path."""
    rows = report["designs"]
    # The smallest design of all is the one that people doubt.
    smallest = min(rows, key=lambda row: row["weight_bytes"])["name"]
    write_atomic(folder / "memory.svg", curve(rows, "agreement", "equal decisions, %"))
    write_atomic(folder / "streams.svg", streams(samples, outputs[smallest], smallest))
    heads = ("equal decisions", "false speech", "missed speech", "equal, not trained")
    cells = [
        (
            spread(row, "agreement", "%"),
            *(f"{row[name]:.2f} %" for name in ("false_speech", "missed_speech", "agreement_untrained")),
        )
        for row in rows
    ]
    share, speech = rows[0]["speech_share"], html.escape(report["speech"])
    noises = html.escape(", ".join(report["noises_measured"]))
    body = f"""<p>The LSTM of Silero VAD, 128 inputs and 128 units, as a circulant integer accelerator. Decisions at 0.5
of the package's own ONNX file with the accelerator's integers inside, against the same file as it is, on
{report["frames_measured"]:,} frames{several_seeds(report)} ({share:.0f} % of them speech by the float model) of
{speech}: speakers and kinds of noise ({noises}) that training did not hear. It heard
{report["seconds_trained"] / 60:.0f} minutes of others, and no labels.</p>
{table(report, heads, cells)}
<p>Gates, area, cycles and board are estimates of one processing element; a step is due every 32 ms. False speech is the
share of frames without speech, missed speech that of frames with speech, by the float model. The smallest FPGA is that
with the fewest LUTs of the families of which a design was placed, with the engine that it needs.</p>{energies(report)}
<img src="memory.svg" alt="agreement against memory"><h2>{html.escape(smallest)}, some streams</h2>
<img src="streams.svg" alt="probability of speech over time">"""
    return write_html(folder, "Speech activity in few kilobytes", report, body)
