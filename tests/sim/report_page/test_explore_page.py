"""Page of an exploration: its values, that nothing becomes markup or is fetched, and what its filters do."""

import json
import re
from pathlib import Path

import pytest

from chessrnn.model.boards import PARTS
from chessrnn.model.cost.explore import _cycles, engines, pareto, pareto_of_widths
from chessrnn.model.presets import preset
from chessrnn.model.schedule import _derive
from chessrnn.scripts import explore
from chessrnn.scripts.cli import run_command
from chessrnn.sim.report_page.explore_page import energy_of, left_out, losses_of, may_fit, write_explore_page

pytest.importorskip("plotly")

CONFIG = preset("tiny")
HOSTILE = "</script><script>window.injected = 1</script><img src=x onerror='window.injected = 1'>{{ 7 * 7 }}"
MAX_BYTES = 5_000_000
ROWS = [
    {"block_sizes": [1, 1], "weight_bits": 32, "loss": 0.0, "loss_unit": "% relative", "note": ""},
    {
        "block_sizes": [4, 4],
        "weight_bits": 8,
        "loss": 1.4,
        "losses": [0.2, 2.8],
        "loss_unit": "points",
        "note": HOSTILE,
    },
    {"block_sizes": [4, 4], "weight_bits": 8, "loss": 9.0, "loss_unit": "points", "note": "a later row"},
    {"block_sizes": [4, 8], "weight_bits": 8, "loss": 3.0, "loss_unit": "points", "note": "two sizes"},
]  # fmt: skip


@pytest.fixture(scope="module")
def points():
    return [point for engine in engines(CONFIG) for point in pareto(CONFIG, [engine])]


@pytest.fixture
def page(points, tmp_path):
    """Path of a page whose study and choice of a configuration are hostile."""
    study = tmp_path / "accuracy.json"
    study.write_text(json.dumps({"studies": [{"title": HOSTILE, "description": "d", "rows": ROWS}]}))
    path = tmp_path / "pareto.html"
    write_explore_page(path, CONFIG, points, f"explore {HOSTILE}", ["--config", HOSTILE], 600.0, tmp_path, study)
    return path


def test_no_text_becomes_markup_or_template_and_nothing_is_fetched(page):
    source = page.read_text(encoding="utf-8")
    assert len(source.encode()) < MAX_BYTES
    own = re.sub(r"<script>/\*\*\n\* plotly.*?</script>", "", source, flags=re.DOTALL)
    assert own.count("</script>") == 2
    assert "<img" not in own
    assert "{{ 7 * 7 }}" in own
    assert "default-src 'none'" in own


def test_losses_are_those_of_the_study_with_their_spread(page, tmp_path):
    ((study,), note) = losses_of(page.with_name("accuracy.json"))
    assert note == ""
    assert list(study["rows"]) == ["4/8"]
    row = study["rows"]["4/8"]
    assert (row["loss"], row["least"], row["greatest"], row["unit"]) == (1.4, 0.2, 2.8, "points")
    assert losses_of(tmp_path / "none.json")[1].startswith(f"There is no {tmp_path / 'none.json'}")
    for text in ("[]", "{}", '{"studies": [{}]}', "nothing"):
        (tmp_path / "damaged.json").write_text(text)
        assert "cannot be read" in losses_of(tmp_path / "damaged.json")[1], text


def test_the_page_says_what_was_not_explored(points, page):
    text, command = left_out(CONFIG, points, ["--config", "a b"])
    assert text == "k = 1, 2, 8, 16 and bits = 2, 3, 4, 5, 6, 7"
    wanted = "chessrnn explore --config 'a b' --block-sizes 1,2,4,8,16 --weight-bits 2,3,4,5,6,7,8"
    assert command == wanted
    assert f"Not explored: {text}." in page.read_text(encoding="utf-8")
    # Wider weights would need a wider accumulator than this one.
    narrow = preset("char128").replace({"quantization.weight_bits": 4, "quantization.accumulator_bits": 22})
    text, command = left_out(narrow, points, ["--config", "a b"])
    assert text == "k = 1, 2, 8, 16 and bits = 2, 3, 4, 5, 6"
    assert command.endswith("--block-sizes 1,2,4,8,16 --weight-bits 2,3,4,5,6")


@pytest.mark.parametrize("engine", ["direct", "fast"])
def test_fronts_of_several_widths_are_those_of_each(engine):
    """Cycles, lanes and lookahead do not depend on the width of the weights, so they are searched for once."""
    fronts = pareto_of_widths(CONFIG, engine, [8, 3])
    for bits, found in fronts.items():
        variant = CONFIG.replace({"quantization.weight_bits": bits})
        _cycles.cache_clear()
        _derive.cache_clear()
        alone = pareto(variant, [engine])
        assert [point.summary() for point in found] == [point.summary() for point in alone]
        assert [point.config for point in found] == [point.config for point in alone]


def test_block_sizes_and_widths_that_are_explored_unasked():
    """All that fit the configuration, but for block sizes with too many tiles to compare."""
    args = explore.parse(["--config", "tiny"])
    assert {size: widths for size, (_, widths) in explore.variants(CONFIG, args).items()} == {
        4: [8, 2, 3, 4, 5, 6, 7], **dict.fromkeys((1, 2, 8, 16), list(range(2, 9))),
    }  # fmt: skip
    assert list(explore.variants(preset("char128"), args)) == [8, 4, 16]
    assert list(explore.variants(preset("lm512"), args)) == [8, 16]
    args = explore.parse(["--config", "tiny", "--block-sizes", "2", "--weight-bits", "4"])
    assert {size: widths for size, (_, widths) in explore.variants(CONFIG, args).items()} == {4: [8, 4], 2: [4]}


def test_energy_is_that_of_the_very_same_configuration(tmp_path):
    folder = tmp_path / "synthesis" / f"tiny-{CONFIG.architecture.engine}-{CONFIG.fingerprint[:8]}" / "cells"
    folder.mkdir(parents=True)
    for values, wanted in (
        ({"configuration": CONFIG.fingerprint, "power": {"nj_per_step": 1.5}}, 1.5),
        ({"configuration": CONFIG.fingerprint, "power": None}, None),
        ({"configuration": "0" * 16, "power": {"nj_per_step": 1.5}}, None),
        ([], None),
    ):
        (folder / "report.json").write_text(json.dumps(values))
        assert energy_of(CONFIG, tmp_path) == wanted


def test_a_board_must_have_the_multipliers_and_block_rams():
    assert may_fit(CONFIG.replace({"architecture.tile_rows": 1, "architecture.tile_cols": 1}), PARTS["LFE5U-85F"])
    assert not may_fit(preset("lm512"), PARTS["iCE40UP5K"])


@pytest.mark.slow
def test_command(tmp_path, monkeypatch, capsys):
    """The fronts of processes are those of the command's own process, and the page shows every block size."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--config", "tiny", "--block-sizes", "4,8", "--weight-bits", "8"]
    assert explore.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "page: build/explore-tiny/pareto.html"
    first = {path.name: path.read_bytes() for path in Path("build/explore-tiny").iterdir() if path.suffix != ".html"}
    page = Path("build/explore-tiny/pareto.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="designs">(.*?)</script>', page, re.DOTALL)[1])
    assert {point["k"] for point in data["points"]} == {4, 8}
    assert data["emit"] == "chessrnn verilog --config tiny"
    assert explore.main([*arguments, "--workers", "2"]) == 0
    assert capsys.readouterr().out == captured.out
    assert {name: (Path("build/explore-tiny") / name).read_bytes() for name in first} == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--block-sizes", "3"], "compression.block_size must be"),
        (["--weight-bits", "4,x"], "--weight-bits must be a whole number, not 'x'"),
        (["--workers", "0"], "--workers must be at least 1, not 0"),
    ],
)
def test_wrong_input(options, message, capsys):
    try:
        status = run_command(lambda: explore.main(["--config", "tiny", *options]), "explore")
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error.splitlines()[-1]
    assert len(error.splitlines()) == 1
