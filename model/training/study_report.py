"""Markdown tables of the study: what compression costs, from plain rows."""


def value_columns(rows: list[dict]) -> list[str]:
    """List the figures that a reader compares, the metric first."""
    metric = rows[0]["metric"]
    more = ["bits_per_symbol"] if "bits_per_symbol" in rows[0]["figures"] else []
    return [metric, *more]


def loss_text(row: dict) -> str:
    """Format a loss as ``+0.8 %`` or ``+0.3 points``; a mean is followed by its least and greatest value."""
    unit = "points" if row["loss_unit"] == "points" else "%"
    losses = row.get("losses", [])
    spread = f" ({min(losses):+.2f} to {max(losses):+.2f})" if len(losses) > 1 else ""
    return f"{row['loss']:+.2f} {unit}{spread}"


def markdown_table(rows: list[dict]) -> str:
    """Format one study's rows as a Markdown table, the baseline first."""
    figures = value_columns(rows)
    head = ["network", "W bytes", "removed", *[name.replace("_", " ") for name in figures], "loss", "updates",
            "measured on", "note"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [
            row["label"],
            f"{row['weight_bytes']:,}",
            f"{row['removed_percent']:.1f} %",
            *[f"{row['figures'][name]:.3f}" for name in figures],
            "" if row is rows[0] else loss_text(row),
            f"{row['updates']:,}",
            row["arithmetic"],
            row["note"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def mean_row(same: list[dict]) -> dict:
    """Average one row over several test sets (held-out speakers) or seeds; ``losses`` has the loss of each."""
    row = dict(same[0])
    row["figures"] = {name: sum(r["figures"][name] for r in same) / len(same) for name in row["figures"]}
    for name in ("value", "loss"):
        row[name] = sum(r[name] for r in same) / len(same)
    row["losses"] = [r["loss"] for r in same]
    row["note"] = " / ".join(dict.fromkeys(r["note"] for r in same if r["note"]))
    return row


def mean_rows(studies: list[list[dict]]) -> list[dict]:
    """Average the rows of several test sets (held-out speakers) or seeds, each over the same network and budget.

    A row that is missing in one of the studies is left out.
    """
    found = ([row for study in studies for row in study if row["name"] == first["name"]] for first in studies[0])
    return [mean_row(same) for same in found if len(same) == len(studies)]


def rows_so_far(names: list[tuple[str, str]], studies: list[list[dict]]) -> list[dict]:
    """List all rows of a table that is not finished yet: the means over what is finished of each.

    Parameters
    ----------
    names : list of (str, str)
        Name and label of every row.
    studies : list of list of dict
        Finished rows of each test set or seed.

    Returns
    -------
    list of dict
        The rows of :func:`mean_rows` with ``finished``, the number of test sets or seeds that a row is the mean of, and
        ``keys``, the hashes of what was measured.  A row of which nothing is finished has its name, its label and 0.
    """
    rows = []
    for name, label in names:
        same = [row for study in studies for row in study if row["name"] == name]
        mean = mean_row(same) if same else {"name": name, "label": label}
        rows.append(mean | {"finished": len(same), "keys": [row["key"] for row in same]})
    return rows


def markdown(report: dict) -> str:
    """Format the whole report as Markdown."""
    lines = ["# What compression costs", "", f"Made by `{report['command']}`.", ""]
    for study in report["studies"]:
        lines += [f"## {study['title']}", "", study["description"], "", markdown_table(study["rows"])]
    return "\n".join(lines)
