"""Pages that hold Plotly and one script of this package, and allow no other."""

import base64
import hashlib
from importlib import metadata
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from chessrnn.model.errors import MissingToolError

PACKAGE = "chessrnn.sim.report_page"


def plotly_source(what: str) -> str:
    """The script of Plotly, which draws diagrams in the browser.

    Parameters
    ----------
    what : str
        What it is needed for, in the message.

    Raises
    ------
    MissingToolError
        Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingToolError(f"plotly must be installed for {what}: pip install plotly") from None
    return get_plotlyjs()


def render_scripted(name: str, values: dict, plotly: str) -> str:
    """Fill the template of a page; every value is escaped, and the page's policy allows only its own two scripts.

    Parameters
    ----------
    name : str
        Stem of the template and of the script.
    values : dict
        Values of the template.
    plotly : str
        The script of Plotly.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template, script, style = (
        (files(PACKAGE) / file).read_text(encoding="utf-8") for file in (f"{name}.html", f"{name}.js", "page.css")
    )
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (plotly, script)]
    return environment.from_string(template).render(
        **values,
        version=metadata.version("chessrnn"),
        plotly=Markup(plotly),
        script=Markup(script),
        style=Markup(style),
        digests=digests,
    )
