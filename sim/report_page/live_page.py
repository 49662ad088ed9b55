"""A page with the curves of a training that runs, and with the finished rows of a study, served on this machine."""

import contextlib
import ipaddress
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

from chessrnn.model.curves import SUFFIX, curves_below
from chessrnn.model.errors import InvalidFileError, InvalidValueError, MissingToolError
from chessrnn.model.text_file import read_json
from chessrnn.sim.report_page.study_page import STUDY_PAGE

LOCAL = "127.0.0.1"
PACKAGE = "chessrnn.sim.report_page"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:"
MAX_TEXT = 200


def live_values(root: Path) -> dict:
    """Curves below a folder, and the rows that a study has finished there."""
    rows = []
    for folder in sorted({path.parent for path in root.rglob(f"*{SUFFIX}")}):
        for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            try:
                values = read_json(path)
                figures = {str(name): float(value) for name, value in values["figures"].items()}
                texts = [str(values[name])[:MAX_TEXT] for name in ("label", "arithmetic", "note")]
                rows.append([folder.name, *texts, int(values["weight_bytes"]), figures])
            except (InvalidFileError, KeyError, TypeError, ValueError, AttributeError):
                continue  # another file, or one of an earlier version
    return {"curves": [[curve.name, curve.metric, curve.points] for curve in curves_below(root)], "rows": rows}


def make_handler(root: Path, hosts: set[str] | None, study: Path | None) -> type[BaseHTTPRequestHandler]:
    """Handler of requests for the page of a folder.

    Parameters
    ----------
    root : Path
    hosts : set of str or None
        Names that a browser may call this machine by; ``None`` allows every one.  Other names are those of pages
        elsewhere that were made to resolve to this machine.
    study : Path or None
        Page of a study, which has a policy of its own.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingToolError("plotly must be installed for --live: pip install plotly") from None
    content = {
        "/": ("text/html", (files(PACKAGE) / "live.html").read_bytes()),
        "/live.js": ("text/javascript", (files(PACKAGE) / "live.js").read_bytes()),
        "/page.css": ("text/css", (files(PACKAGE) / "page.css").read_bytes()),
        "/plotly.js": ("text/javascript", get_plotlyjs().encode()),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            """Answer with the page, its scripts or its present values."""
            if hosts is not None and self.headers.get("Host", "").rpartition(":")[0] not in hosts:
                return self.send_error(403)
            kind, text = content.get(self.path, ("", b""))
            policy = POLICY
            if self.path == "/data":
                values = live_values(root) | {"study": study is not None and study.is_file()}
                kind, text = "application/json", json.dumps(values).encode()
            elif self.path == f"/{STUDY_PAGE}" and study is not None and study.is_file():
                kind, text, policy = "text/html", study.read_bytes(), ""
            if not kind:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments):
            """Print nothing: the terminal is the progress of training."""

    return Handler


@contextlib.contextmanager
def live_page(root: Path, port: int | None, address: str = LOCAL, study: Path | None = None) -> Iterator[str | None]:
    """Serve the page of a folder during the block, and give its address; ``None`` as port serves nothing.

    Only this machine can see it unless another address is asked for.  The page of a study is served beside it.

    Raises
    ------
    InvalidValueError
        The address is none of this machine, or the port is in use.
    MissingToolError
        Plotly is not installed.
    """
    if port is None:
        yield None
        return
    try:
        local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise InvalidValueError(f"--live-address must be an IP address of this machine, not {address[:80]!r}") from None
    handler = make_handler(root, {LOCAL, "localhost", address} if local else None, study)
    try:
        server = ThreadingHTTPServer((address, port), handler)
    except (OSError, OverflowError) as error:
        raise InvalidValueError(f"--live must be a free port at {address}, not {port}: {error}") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{address}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
