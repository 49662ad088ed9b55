"""Curves of training: a CSV file beside each checkpoint, with a line for every validation."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".curve.csv"
# Of a folder with more runs, the newest are read.
MAX_CURVES = 100


@dataclass(frozen=True)
class Curve:
    """Curve of one stage of training.

    Attributes
    ----------
    name : str
        Folder of the run and name of the stage.
    metric : str
        Name of the figure on the validation split.
    points : list of (int, float, float)
        Number of updates so far, mean loss since the last point, and the figure.
    """

    name: str
    metric: str
    points: list[tuple[int, float, float]]


def curve_file(checkpoint: Path) -> Path:
    """File of the curve beside a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.stem}{SUFFIX}")


def add_point(path: Path, step: int, loss: float, metric: str, value: float) -> None:
    """Append a point; the first one of a stage begins the file."""
    with path.open("a", encoding="utf-8", newline="") as file:
        if file.tell() == 0:
            csv.writer(file).writerow(["step", "loss", metric])
        csv.writer(file).writerow([step, f"{loss:.6g}", f"{value:.6g}"])


def read_curve(path: Path, root: Path) -> Curve | None:
    """The curve of a file below a folder; ``None`` where it holds none.

    A run that continues repeats the steps since its checkpoint: of two lines with the same step the last one counts.
    """
    points: dict[int, tuple[int, float, float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            metric = next(lines)[2]
            for line in lines:
                step, loss, value = int(line[0]), float(line[1]), float(line[2])
                if math.isfinite(loss) and math.isfinite(value):
                    points[step] = step, loss, value
    except (OSError, UnicodeDecodeError, StopIteration, IndexError, ValueError, csv.Error):
        # Another program may write the last line just now.
        if not points:
            return None
    name = str(path.relative_to(root)).removesuffix(SUFFIX)
    return Curve(name, metric, [points[step] for step in sorted(points)])


def curves_below(root: Path) -> list[Curve]:
    """The newest curves below a folder, by name."""
    files = sorted(root.rglob(f"*{SUFFIX}"), key=lambda path: -path.stat().st_mtime)[:MAX_CURVES]
    return [curve for curve in (read_curve(path, root) for path in sorted(files)) if curve is not None]
