"""Page of a study: its rows as they are finished, and a diagram of the loss against the memory that is removed."""

from pathlib import Path

from chessrnn.model.files import write_atomic
from chessrnn.sim.report_page.scripted_page import plotly_source, render_scripted

STUDY_PAGE = "study.html"
# Seconds after which a browser loads the page of a running command again.
RELOAD_SECONDS = 30
FLOAT_BITS = 32


def write_study_page(path: Path, studies: list[dict], command: str, is_running: bool) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
        File to write.
    studies : list of dict
        For each table ``title`` and ``description``, ``parts``, the number of test sets and seeds, and ``rows``, as
        :func:`chessrnn.model.training.study_report.rows_so_far` lists them, the dense baseline first.
    command : str
        The command that measures.
    is_running : bool
        Whether rows will follow.

    Raises
    ------
    MissingToolError
        Plotly is not installed.
    """
    plotly = plotly_source("the page of the study")
    values = {
        "studies": [table_values(study) for study in studies],
        "command": command,
        "reload_seconds": RELOAD_SECONDS if is_running else 0,
        "finished": sum(row["finished"] == study["parts"] for study in studies for row in study["rows"]),
        "wanted": sum(len(study["rows"]) for study in studies),
    }
    write_atomic(path, render_scripted("study", values, plotly))


def table_values(study: dict) -> dict:
    """Values of one table and of its diagram."""
    best = best_rows(study["rows"])
    rows = [_row_values(row, row["name"] in best) for row in study["rows"]]
    names = next((list(row["figures"]) for row in rows if row["finished"]), [])
    metric = next((row["metric"] for row in study["rows"] if row["finished"]), "")
    # The figure that losses compare comes first.
    names = sorted(names, key=lambda name: name != metric)
    drawn = [row for row in rows if row["finished"]]
    for row in rows:
        row["figures"] = [f"{row['figures'][name]:.3f}" if row["finished"] else "" for name in names]
    unit = next((row["unit"] for row in drawn), "%")
    axis = "increase of perplexity, %" if unit == "%" else "increase of the error rate, points"
    return {
        "title": study["title"],
        "description": study["description"],
        "parts": study["parts"],
        "columns": [name.replace("_", " ") for name in names],
        "rows": rows,
        "diagram": {"rows": drawn, "axis": axis, "dense_bytes": drawn[0]["bytes"] if drawn else 0},
    }


def best_rows(rows: list[dict]) -> set[str]:
    """Names of the rows on the Pareto front: no other integer row has fewer bytes of weights and a smaller loss."""
    integers = [row for row in rows if row["finished"] and row["weight_bits"] < FLOAT_BITS]
    ordered = sorted(integers, key=lambda row: (row["weight_bytes"], row["loss"]))
    best, least = set(), float("inf")
    for row in ordered:
        if row["loss"] < least:
            best.add(row["name"])
            least = row["loss"]
    return best


def _row_values(row: dict, is_best: bool) -> dict:
    """Values of one row, plain or formatted."""
    if not row["finished"]:
        return {"name": row["name"], "label": row["label"], "finished": 0, "figures": {}}
    sizes = list(dict.fromkeys(row["block_sizes"]))
    losses = row["losses"]
    return {
        "name": row["name"],
        "label": row["label"],
        "finished": row["finished"],
        "k": ", ".join(map(str, sizes)),
        "bits": row["weight_bits"],
        "bytes": row["weight_bytes"],
        "removed": row["removed_percent"],
        "loss": row["loss"],
        "least": min(losses),
        "greatest": max(losses),
        "unit": "points" if row["loss_unit"] == "points" else "%",
        "figures": row["figures"],
        "updates": row["updates"],
        "arithmetic": row["arithmetic"],
        "note": row["note"],
        "keys": [key[:16] for key in row["keys"]],
        "best": is_best,
    }
