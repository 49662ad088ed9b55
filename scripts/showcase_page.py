"""Page of the showcase: table, curve of agreement against memory, and a stream with both models' probabilities."""

import html
import io
from pathlib import Path
from typing import Any

import numpy as np

from chessrnn.model.errors import MissingToolError
from chessrnn.model.files import write_atomic
from chessrnn.model.hybrid.evaluation import Comparison

# Colours that people with any colour vision tell apart (Okabe and Ito 2008).
FLOAT, INTEGERS, OTHER = "#999999", "#0072B2", "#D55E00"
RATE, CHUNK = 16000, 512
SHOWN_STREAMS = 3
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:right}
img{max-width:100%}.warn{background:#fff3cd;padding:.5rem 1rem}"""


def _pyplot():
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingToolError("matplotlib must be installed to draw: make showcase") from None
    return plt


def _svg(figure) -> bytes:
    buffer = io.BytesIO()
    # Without a date, the same figures give the same picture.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def curve(rows: list[dict[str, Any]]) -> bytes:
    """Draw agreement against the memory that is left, trained and untrained."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for key, colour, label in (("agreement", INTEGERS, "trained"), ("agreement_untrained", OTHER, "not trained")):
        for bits in sorted({row["weight_bits"] for row in rows}):
            own = [row for row in rows if row["weight_bits"] == bits]
            axes.plot([row["weight_bytes"] / 1024 for row in own], [row[key] for row in own],
                      "o-" if bits == 8 else "s--", color=colour, label=f"{label}, {bits} bit")  # fmt: skip
    for row in rows:
        place = row["weight_bytes"] / 1024, row["agreement"]
        axes.annotate(f"k={row['k']}", place, textcoords="offset points", xytext=(4, 6), fontsize=8)
    axes.set(xscale="log", xlabel="weight memory, KiB (float32: 512)", ylabel="equal decisions, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture = _svg(figure)
    plt.close(figure)
    return picture


def streams(samples: np.ndarray, found: Comparison, name: str) -> bytes:
    """Draw some streams: the sound, and the probability of speech by both models."""
    plt = _pyplot()
    count = min(SHOWN_STREAMS, len(samples))
    figure, rows = plt.subplots(2 * count, 1, figsize=(11, 3 * count), sharex=True, squeeze=False,
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
    picture = _svg(figure)
    plt.close(figure)
    return picture


def _agreement(row: dict[str, Any]) -> str:
    """Equal decisions, with the least and the most of several seeds."""
    values = row.get("agreement_by_seed", [])
    return f"{row['agreement']:.2f} %" + (f" ({min(values):.2f} to {max(values):.2f})" if values else "")


def _fpga(row: dict[str, Any]) -> str:
    found = row["fpga"]
    return f"{found['part']}, {found['engine']} engine, {found['luts']:,} LUTs" if found else "none of those known"


def write_page(folder: Path, report: dict[str, Any], samples: np.ndarray, outputs: dict[str, Comparison]) -> Path:
    """Write index.html with its pictures, and return its path."""
    rows = report["designs"]
    # The smallest design of all is the one that people doubt.
    smallest = min(rows, key=lambda row: row["weight_bytes"])["name"]
    write_atomic(folder / "memory.svg", curve(rows))
    write_atomic(folder / "streams.svg", streams(samples, outputs[smallest], smallest))
    cells = [
        (
            row["k"], row["weight_bits"], f"{row['removed_percent']:.1f} %", _agreement(row),
            f"{row['false_speech']:.2f} %", f"{row['missed_speech']:.2f} %", f"{row['agreement_untrained']:.2f} %",
            f"{row['weight_bytes']:,}", f"{row['gate_equivalents']:,}", f"{row['area_mm2_90nm']:.3f}",
            f"{row['cycles']:,}", f"{row['least_clock_hz'] / 1e6:.2f}", row["board"] or "none of those known",
            _fpga(row),
        )
        for row in rows
    ]  # fmt: skip
    heads = ("k", "bits", "memory removed", "equal decisions", "false speech", "missed speech", "equal, not trained",
             "bytes", "gates", "mm² at 90 nm", "cycles a step", "least clock, MHz", "smallest board",
             "smallest FPGA")  # fmt: skip
    table = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in cells)
    warning = (
        '<p class="warn">A quick run: training took seconds, and the figures mean little.</p>'
        if report["quick"]
        else ""
    )
    energies = "".join(
        f"<p>{html.escape(row['name'])} takes {row['energy']['uj_per_second']:.2f} µJ for a second of audio, "
        f"{row['energy']['leakage_uj_per_second']:.2f} of them leakage of logic that is never switched off, in "
        f"{html.escape(row['energy']['library'])} at {row['energy']['voltage']:g} V and "
        f"{row['energy']['clock_mhz']:.3f} MHz. {html.escape(row['energy']['how'])}</p>"
        for row in rows
        if "energy" in row
    )
    seeds = len(report["seeds"])
    several = f", means of {seeds} seeds, each of which holds out other speakers" if seeds > 1 else ""
    share, speech = rows[0]["speech_share"], html.escape(report["speech"])
    noises = html.escape(", ".join(report["noises_measured"]))
    text = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Speech activity in few kilobytes</title>
<style>{STYLE}</style><h1>Speech activity in few kilobytes</h1>{warning}
<p>The LSTM of Silero VAD, 128 inputs and 128 units, as a circulant integer accelerator. Decisions at 0.5 of the
package's own ONNX file with the accelerator's integers inside, against the same file as it is, on
{report["frames_measured"]:,} frames{several} ({share:.0f} % of them speech by the float model) of {speech}:
speakers and kinds of noise ({noises}) that training did not hear. It heard
{report["seconds_trained"] / 60:.0f} minutes of others, and no labels.</p>
<table><tr>{table}</tr>{body}</table>
<p>Gates, area, cycles and board are estimates of one processing element; a step is due every 32 ms. False speech is the
share of frames without speech, missed speech that of frames with speech, by the float model. The smallest FPGA is that
with the fewest LUTs of the families of which a design was placed, with the engine that it needs.</p>{energies}
<img src="memory.svg" alt="agreement against memory"><h2>{html.escape(smallest)}, some streams</h2>
<img src="streams.svg" alt="probability of speech over time"></html>
"""
    path = folder / "index.html"
    write_atomic(path, text)
    return path
