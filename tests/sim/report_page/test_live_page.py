"""The live page of training: who may see it, what it gives, and how it reads curves that are being written."""

import http.client
import json
import urllib.error
import urllib.request

import pytest

from chessrnn.model.curves import Curve, add_point, curve_file, curves_below
from chessrnn.model.errors import InvalidValueError
from chessrnn.sim.report_page.live_page import live_page, live_values

pytest.importorskip("plotly")

HOSTILE = "</script><img src=x onerror=1>"


@pytest.fixture
def runs(tmp_path):
    """A folder with the curves of two stages, one of them with a line that is half written, and a finished row."""
    folder = tmp_path / "digits-1"
    folder.mkdir()
    for step, loss, value in ((10, 2.0, 0.5), (20, 1.5, 0.4), (20, 1.25, 0.375)):
        add_point(curve_file(folder / "dense.pt"), step, loss, "frame_error", value)
    add_point(curve_file(folder / "k8.pt"), 5, 3.0, "frame_error", 0.75)
    with curve_file(folder / "k8.pt").open("a") as file:
        file.write("10,2.")
    row = {"label": HOSTILE, "arithmetic": "float32", "note": "", "weight_bytes": 12, "figures": {"frame_error": 0.25}}
    (folder / "dense.json").write_text(json.dumps(row))
    (folder / "config.json").write_text("{}")
    return tmp_path


def test_curves(runs):
    assert curves_below(runs) == [
        Curve("digits-1/dense", "frame_error", [(10, 2.0, 0.5), (20, 1.25, 0.375)]),
        Curve("digits-1/k8", "frame_error", [(5, 3.0, 0.75)]),
    ]
    for text in ("", "a", "step,loss,m", "step,loss,m\nx,y,z\n", "step,loss,m\n1,nan,2\n"):
        curve_file(runs / "digits-1" / "k8.pt").write_text(text)
        assert [curve.points for curve in curves_below(runs)][1:] in ([], [[]])


def test_page_and_values(runs):
    with live_page(runs, 0) as address:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address) as answer:
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert b"Finished rows" in answer.read()
        with urllib.request.urlopen(f"{address}data") as answer:
            assert json.load(answer) == json.loads(json.dumps(live_values(runs) | {"study": False}))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}study.html")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}../runs")
    assert live_values(runs)["rows"] == [["digits-1", HOSTILE, "float32", "", 12, {"frame_error": 0.25}]]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


def test_only_this_machine_may_see_it_unless_asked(runs):
    """Nor may a page of the internet whose name was made to resolve to this machine."""
    for address, wanted in (("127.0.0.1", 403), ("0.0.0.0", 200)):
        with live_page(runs, 0, address) as url:
            connection = http.client.HTTPConnection("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
            connection.request("GET", "/data", headers={"Host": "example.org:80"})
            assert connection.getresponse().status == wanted
            connection.close()


def test_wrong_places_are_refused(runs):
    with pytest.raises(InvalidValueError, match="--live-address must be an IP address of this machine, not 'nowhere'"):
        live_page(runs, 0, "nowhere").__enter__()
    with live_page(runs, 0) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(InvalidValueError, match=f"--live must be a free port at 127.0.0.1, not {port}"):
            live_page(runs, port).__enter__()
    with live_page(runs, None) as address:
        assert address is None
