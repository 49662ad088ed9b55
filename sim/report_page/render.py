"""Rendering of a design's page: one HTML file with everything in it."""

import base64
import hashlib
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from chessrnn.model.files import write_atomic
from chessrnn.sim.build import load_build
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.report_page.page_values import page_values

PACKAGE = "chessrnn.sim.report_page"
PAGE_FILE = "report.html"


def render(values: dict) -> str:
    """Fill the page's template with the values of :func:`chessrnn.sim.report_page.page_values.page_values`.

    Every value is escaped.  The page's policy allows only the script of this package, and no address to be fetched.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template, script, style = (
        (files(PACKAGE) / name).read_text(encoding="utf-8") for name in ("page.html", "page.js", "page.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(template).render(
        **values,
        version=metadata.version("chessrnn"),
        script=Markup(script),
        script_digest=digest,
        style=Markup(style),
        drawing=Markup,
    )


def write_page(folder: str | Path, root: str | Path) -> Path:
    """Write the page of a build folder, and return its path.

    Parameters
    ----------
    folder : str or Path
        A build folder, whose files are checked first.
    root : str or Path
        Folder below which syntheses and bitstreams are looked for.

    Raises
    ------
    InvalidFileError
        A generated file is missing or was changed.
    """
    folder = Path(folder)
    with locked_folder(folder):
        path = folder / PAGE_FILE
        write_atomic(path, render(page_values(load_build(folder), Path(root))))
    return path
