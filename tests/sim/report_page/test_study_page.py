"""Page of a study: which rows are best, that unfinished ones are shown, and that nothing becomes markup."""

import json
import re
import urllib.request

import pytest

from chessrnn.model.training.study_report import rows_so_far
from chessrnn.sim.report_page.live_page import live_page
from chessrnn.sim.report_page.study_page import STUDY_PAGE, best_rows, table_values, write_study_page

pytest.importorskip("plotly")

HOSTILE = "</script><script>window.injected = 1</script><img src=x onerror='window.injected = 1'>{{ 7 * 7 }}"
MAX_BYTES = 5_000_000


def row(name, k, bits, size, loss, **more):
    return {
        "name": name, "label": f"{bits} bit, k = {k}", "block_sizes": [k, k], "weight_bits": bits, "weight_bytes": size,
        "removed_percent": 100 - size / 10, "figures": {"loss": 1.5, "error": 10 + loss}, "metric": "error",
        "value": 10 + loss, "loss": loss, "loss_unit": "points", "updates": 1000, "arithmetic": "integer reference",
        "note": "", "key": f"{name:0<64}", **more,
    }  # fmt: skip


ROWS = [
    row("dense", 1, 32, 1000, 0.0, arithmetic="float32"),
    row("k8", 8, 32, 125, 0.5, arithmetic="float32"),
    row("k8-b8", 8, 8, 31, 0.75, note=HOSTILE),
    row("k4-b4", 4, 4, 31, 0.25),
    row("k8-b4", 8, 4, 16, 1.0),
]
OTHER_SEED = [{**one, "loss": one["loss"] - 0.5, "note": ""} for one in ROWS[:3]]
NAMES = [*((one["name"], one["label"]) for one in ROWS), ("k16-b4", "4 bit, k = 16")]


@pytest.fixture
def page(tmp_path):
    """Page of two seeds, one of them half finished, with hostile texts."""
    path = tmp_path / "out" / STUDY_PAGE
    study = {"title": HOSTILE, "description": HOSTILE, "parts": 2, "rows": rows_so_far(NAMES, [ROWS, OTHER_SEED])}
    write_study_page(path, [study], f"accuracy {HOSTILE}", is_running=True)
    return path


def test_rows_are_means_over_what_is_finished():
    rows = {one["name"]: one for one in rows_so_far(NAMES, [ROWS, OTHER_SEED])}
    assert list(rows) == [name for name, _ in NAMES]
    assert (rows["k8-b8"]["loss"], rows["k8-b8"]["losses"], rows["k8-b8"]["finished"]) == (0.5, [0.75, 0.25], 2)
    assert (rows["k8-b4"]["loss"], rows["k8-b4"]["losses"], rows["k8-b4"]["finished"]) == (1.0, [1.0], 1)
    assert rows["k16-b4"] == {"name": "k16-b4", "label": "4 bit, k = 16", "finished": 0, "keys": []}


def test_best_rows_are_those_that_no_other_beats(rng):
    for _ in range(20):
        rows = [
            row(str(number), 8, 4, int(rng.integers(1, 9)), int(rng.integers(0, 9)), finished=1)
            for number in range(int(rng.integers(1, 12)))
        ]
        figures = [(one["weight_bytes"], one["loss"]) for one in rows]
        front = {
            (size, loss)
            for size, loss in figures
            if not any(s <= size and v <= loss and (s, v) != (size, loss) for s, v in figures)
        }
        best = best_rows(rows)
        assert {(one["weight_bytes"], one["loss"]) for one in rows if one["name"] in best} == front
        assert len(best) == len(front)
    assert best_rows([one | {"finished": 1} for one in ROWS]) == {"k4-b4", "k8-b4"}
    assert best_rows([{"name": "a", "label": "a", "finished": 0}]) == set()


def test_no_text_becomes_markup_or_template_and_nothing_is_fetched(page):
    source = page.read_text(encoding="utf-8")
    assert len(source.encode()) < MAX_BYTES
    own = re.sub(r"<script>/\*\*\n\* plotly.*?</script>", "", source, flags=re.DOTALL)
    assert own.count("</script>") == 2
    assert "<img" not in own
    assert "{{ 7 * 7 }}" in own
    assert "default-src 'none'" in own
    assert "http" not in own.replace("http-equiv", "")


def test_the_page_says_what_is_missing(page):
    text = page.read_text(encoding="utf-8")
    assert "3 of 6 rows are finished" in text
    assert 'http-equiv="refresh" content="30"' in text
    assert "not finished yet" in text
    write_study_page(
        page, [{"title": "t", "description": "d", "parts": 1, "rows": rows_so_far(NAMES, [ROWS])}], "c", False
    )
    text = page.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in text
    assert "the same command continues" in text
    (diagram,) = json.loads(re.search(r'id="studies">(.*?)</script>', text, re.DOTALL)[1])
    assert [one["name"] for one in diagram["rows"]] == [one["name"] for one in ROWS]
    assert (diagram["dense_bytes"], diagram["axis"]) == (1000, "increase of the error rate, points")


def test_a_study_without_a_finished_row_has_a_table_alone():
    values = table_values({"title": "t", "description": "d", "parts": 1, "rows": rows_so_far(NAMES, [[]])})
    assert (values["columns"], values["diagram"]["rows"]) == ([], [])


def test_the_live_page_serves_it(page, tmp_path):
    with live_page(tmp_path, 0, study=page) as address:
        with urllib.request.urlopen(f"{address}data") as answer:
            assert json.load(answer)["study"] is True
        with urllib.request.urlopen(f"{address}{STUDY_PAGE}") as answer:
            assert answer.read() == page.read_bytes()
            # Its own policy, inside the page, allows its two scripts and nothing else.
            assert answer.headers["Content-Security-Policy"] is None
