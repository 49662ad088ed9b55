"""Parts of the pages that every task of the showcase writes: pictures, tables, and what is said about hardware."""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chessrnn.model.errors import MissingToolError
from chessrnn.model.files import write_atomic

# Colours that people with any colour vision tell apart (Okabe and Ito 2008).
FLOAT, INTEGERS, OTHER = "#999999", "#0072B2", "#D55E00"
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:right}
img{max-width:100%}.warn{background:#fff3cd;padding:.5rem 1rem}"""


def pyplot():
    """Import matplotlib for drawing into files.

    Raises
    ------
    MissingToolError
        It is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingToolError("matplotlib must be installed to draw: make showcase") from None
    return plt


def svg(figure) -> bytes:
    """Return a figure as SVG, and close it."""
    buffer = io.BytesIO()
    # Without a date, the same figures give the same picture.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot().close(figure)
    return buffer.getvalue()


def curve(rows: Sequence[dict[str, Any]], key: str, label: str) -> bytes:
    """Draw a figure against the memory that is left, trained and untrained where they differ."""
    figure, axes = pyplot().subplots(figsize=(8, 4), layout="constrained")
    lines = [(key, INTEGERS, "trained"), (f"{key}_untrained", OTHER, "not trained")]
    is_trained = any(row[key] != row[f"{key}_untrained"] for row in rows)
    for name, colour, state in lines if is_trained else lines[1:]:
        for bits in sorted({row["weight_bits"] for row in rows}):
            own = [row for row in rows if row["weight_bits"] == bits]
            axes.plot([row["weight_bytes"] / 1024 for row in own], [row[name] for row in own],
                      "o-" if bits == 8 else "s--", color=colour, label=f"{state}, {bits} bit")  # fmt: skip
    for row in rows:
        place = row["weight_bytes"] / 1024, row[key]
        axes.annotate(f"k={row['k']}", place, textcoords="offset points", xytext=(4, 6), fontsize=8)
    first = rows[0]
    dense = first["weight_bytes"] / (1 - first["removed_percent"] / 100) / 1024
    axes.set(xscale="log", xlabel=f"weight memory, KiB (float32: {dense:,.0f})", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return svg(figure)


def spread(row: dict[str, Any], key: str, unit: str) -> str:
    """Show a figure, with the least and the most of several seeds."""
    values = row.get(f"{key}_by_seed", [])
    return f"{row[key]:.2f} {unit}" + (f" ({min(values):.2f} to {max(values):.2f})" if values else "")


def table(report: dict[str, Any], heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Write the table of all designs, with a task's own columns behind the memory that was removed."""
    heads = ("k", "bits", "memory removed", *heads, "bytes", "gates", "mm² at 90 nm", "cycles a step",
             "least clock, MHz", "smallest board", "smallest FPGA")  # fmt: skip
    lines = [
        (
            row["k"], row["weight_bits"], f"{row['removed_percent']:.1f} %", *own,
            f"{row['weight_bytes']:,}", f"{row['gate_equivalents']:,}", f"{row['area_mm2_90nm']:.3f}",
            f"{row['cycles']:,}", f"{row['least_clock_hz'] / 1e6:.2f}", row["board"] or "none of those known",
            _fpga(row),
        )
        for row, own in zip(report["designs"], cells, strict=True)
    ]  # fmt: skip
    top = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in line)}</tr>" for line in lines)
    return f"<table><tr>{top}</tr>{body}</table>"


def _fpga(row: dict[str, Any]) -> str:
    found = row["fpga"]
    return f"{found['part']}, {found['engine']} engine, {found['luts']:,} LUTs" if found else "none of those known"


def energies(report: dict[str, Any]) -> str:
    """Say what a second of sound costs, where that was measured."""
    return "".join(
        f"<p>{html.escape(row['name'])} takes {row['energy']['uj_per_second']:.2f} µJ for a second of audio, "
        f"{row['energy']['leakage_uj_per_second']:.2f} of them leakage of logic that is never switched off, in "
        f"{html.escape(row['energy']['library'])} at {row['energy']['voltage']:g} V and "
        f"{row['energy']['clock_mhz']:.3f} MHz. {html.escape(row['energy']['how'])}</p>"
        for row in report["designs"]
        if "energy" in row
    )


def several_seeds(report: dict[str, Any]) -> str:
    """Say over how many seeds the figures are means."""
    seeds = len(report["seeds"])
    return f", means of {seeds} seeds, each of which holds out other speakers" if seeds > 1 else ""


def write_html(folder: Path, title: str, report: dict[str, Any], body: str) -> Path:
    """Write index.html, and return its path."""
    warning = (
        '<p class="warn">A quick run: training took seconds, and the figures mean little.</p>'
        if report["quick"]
        else ""
    )
    text = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{STYLE}</style><h1>{html.escape(title)}</h1>{warning}
{body}</html>
"""
    path = folder / "index.html"
    write_atomic(path, text)
    return path
