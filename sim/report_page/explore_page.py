"""Page of the designs that an exploration found: an interactive diagram with filters, and a table of the best."""

import shlex
from pathlib import Path

from chessrnn.model.boards import BOARDS, FpgaPart
from chessrnn.model.config import Config
from chessrnn.model.cost.explore import DesignPoint, fitting_sizes, fitting_widths
from chessrnn.model.cost.fit import block_rams, multiplier_blocks
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import write_atomic
from chessrnn.model.text_file import read_json
from chessrnn.sim.report_page.scripted_page import plotly_source, render_scripted

MAX_TEXT = 200


def write_explore_page(
    path: Path,
    config: Config,
    points: list[DesignPoint],
    command: str,
    choice: list[str],
    clock_mhz: float,
    root: Path,
    study: Path,
) -> None:
    """Write the page of design points.

    Parameters
    ----------
    path : Path
        File to write.
    config : Config
        The explored configuration.
    points : list of DesignPoint
        Design points, of any block size, weight width and engine.
    command : str
        The command that explored.
    choice : list of str
        Options of commands that choose the explored configuration.
    clock_mhz : float
        Clock that the page begins with.
    root : Path
        Folder below which reports of syntheses are looked for, which have energies.
    study : Path
        Report of ``chessrnn accuracy``; losses are shown where it exists.

    Raises
    ------
    MissingToolError
        Plotly is not installed.
    """
    plotly = plotly_source("the interactive page")
    losses, loss_note = losses_of(study)
    values = {
        "name": config.name,
        "network": config.network,
        "cell_title": config.cell.title,
        "fingerprint": config.model_fingerprint,
        "clock_mhz": clock_mhz,
        "points": [point_values(point, root) for point in points],
        "losses": losses,
        "loss_note": loss_note,
        "boards": {name: f"{name} ({board.part.name})" for name, board in BOARDS.items()},
        "command": command,
        "bits": config.weight_bits_text,
        "left_out": left_out(config, points, choice),
        "emit": shlex.join(["chessrnn", "verilog", *choice]),
        "measure": shlex.join(["chessrnn", "synth", "--power", "--liberty", "FILE", *choice]),
    }
    write_atomic(path, render_scripted("explore", values, plotly))


def left_out(config: Config, points: list[DesignPoint], choice: list[str]) -> tuple[str, str] | None:
    """Name the block sizes and weight widths that a configuration allows and that were not explored.

    Returns
    -------
    (str, str) or None
        The sizes and widths, and the command that explores all; ``None`` if all were explored.
    """
    groups = (
        ("k", "--block-sizes", fitting_sizes(config), {point.config.block_size for point in points}),
        ("bits", "--weight-bits", fitting_widths(config), {point.config.quantization.weight_bits for point in points}),
    )
    texts, options = [], []
    for name, option, every, there in groups:
        others = [str(value) for value in every if value not in there]
        if others:
            texts.append(f"{name} = {', '.join(others)}")
            options += [option, ",".join(map(str, every))]
    return (" and ".join(texts), shlex.join(["chessrnn", "explore", *choice, *options])) if texts else None


def point_values(point: DesignPoint, root: Path) -> dict:
    """Figures of one design point, as plain values."""
    config, summary = point.config, point.summary()
    arch = config.architecture
    return {
        "k": config.block_size,
        # Of layers that differ the text, which the page writes as a list where it sets the field.
        "bits": config.weight_bits if len(set(config.layer_weight_bits)) == 1 else config.weight_bits_text,
        "engine": arch.engine,
        "tile": [arch.tile_rows, arch.tile_cols],
        "elements": arch.tile_rows * arch.tile_cols,
        "cycles": point.cycles,
        "multipliers": summary["multipliers"],
        "gates": summary["gate_equivalents"],
        "memory_mm2": summary["memory_mm2_90nm"],
        "area_mm2": summary["total_mm2_90nm"],
        "energy_nj": energy_of(config, root),
        "fingerprint": config.fingerprint,
        "boards": [name for name, board in BOARDS.items() if may_fit(config, board.part)],
    }


def may_fit(config: Config, part: FpgaPart) -> bool:
    """Whether a part has the block RAMs and, if it has any hard multipliers, those that a design needs."""
    return block_rams(config, part) <= part.brams and multiplier_blocks(config, part) <= part.dsps


def energy_of(config: Config, root: Path) -> float | None:
    """Energy of a step in nJ that ``chessrnn synth --power`` measured for this configuration; ``None`` without one."""
    folder = root / "synthesis" / f"{config.name}-{config.architecture.engine}-{config.fingerprint[:8]}"
    for path in sorted(folder.glob("*/report.json")):
        try:
            values = read_json(path)
            if values["configuration"] == config.fingerprint and values.get("power"):
                return float(values["power"]["nj_per_step"])
        except (InvalidFileError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return None


def losses_of(path: Path) -> tuple[list[dict], str]:
    """Losses of each table of a study by block size and weight bits, and a remark where there are none."""
    if not path.is_file():
        return [], f"There is no {path}, so no loss is shown: chessrnn accuracy --help says how it is measured."
    try:
        found = [_losses(study) for study in read_json(path)["studies"]]
    except (InvalidFileError, KeyError, TypeError, ValueError, AttributeError):
        return [], f"{path} cannot be read, so no loss is shown: run chessrnn accuracy again."
    return [study for study in found if study["rows"]], ""


def _losses(study: dict) -> dict:
    """Rows of one table of the study: of several with the same sizes, the first, which has nothing unusual."""
    rows: dict[str, dict] = {}
    for row in study["rows"][1:]:
        sizes = set(row["block_sizes"])
        if len(sizes) == 1 and row["weight_bits"] < 32:
            each = [float(loss) for loss in row.get("losses", [])]
            rows.setdefault(
                f"{sizes.pop()}/{int(row['weight_bits'])}",
                {
                    "loss": float(row["loss"]),
                    "least": min(each, default=None),
                    "greatest": max(each, default=None),
                    "unit": "points" if row["loss_unit"] == "points" else "%",
                    "note": str(row["note"])[:MAX_TEXT],
                },
            )
    text = f"{study['title']}: {study['description']}"
    return {"title": text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…", "rows": rows}
