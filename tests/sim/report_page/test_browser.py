"""Pages in a browser: they load without complaint, sliders and filters work, and everything on them can be read."""

import json
import shutil
from operator import attrgetter

import numpy as np
import pytest

from chessrnn.model.boards import BOARDS
from chessrnn.model.cost.explore import engines, pareto
from chessrnn.model.curves import add_point, curve_file
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import VERILOG_FILE, emit
from chessrnn.sim.manifest import file_digest
from chessrnn.sim.recorded_run import RecordedRun, write_record
from chessrnn.sim.report_page.board_view import block_label, boards, what_happens
from chessrnn.sim.report_page.explore_page import may_fit, write_explore_page
from chessrnn.sim.report_page.live_page import live_page
from chessrnn.sim.report_page.render import write_page
from chessrnn.sim.report_page.study_page import STUDY_PAGE, write_study_page

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]

HOSTILE = "</script><script>window.injected = 1</script><img src=x onerror='window.injected = 1'>.safetensors"
LEAST_CONTRAST = 4.5
DESIGNS = {
    "lstm": {},
    "gru": {"network.cell": "gru", "network.bidirectional": True},
    "projection": {"network.num_layers": 2, "network.projection_size": 8},
}
# Ratio of contrast of every piece of text with the ground behind it, as WCAG 2 defines it; the least, with its text.
CONTRAST = """() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = numbers(colour).slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor, parts = numbers(colour);
      if (parts.length === 3 || parts[3] === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let least = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || ["SCRIPT", "STYLE"].includes(element.tagName) || element.tagName === "title") continue;
    const style = getComputedStyle(element);
    const [one, other] = [element instanceof SVGElement ? style.fill : style.color, ground(element)].map(luminance);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < least[0]) least = [ratio, text];
  }
  return least;
}"""


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium; without its sandbox, since it opens nothing but files of these tests."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module", params=DESIGNS)
def design(request, tmp_path_factory):
    """Configuration and page of a design whose recorded simulation has one late issue."""
    config = preset("tiny").replace({"architecture.arithmetic": "multiplier", **DESIGNS[request.param]})
    folder = tmp_path_factory.mktemp(request.param) / "tiny"
    emit(random_weights(config, np.random.default_rng(1)), folder, HOSTILE)
    trace = Schedule(config).trace([4])
    trace.issues[3] += 1
    verilog = file_digest(folder / VERILOG_FILE)
    run = RecordedRun(config.fingerprint, verilog, "icarus", [4], [], 4, 0, [HOSTILE], trace)
    write_record(folder, config, run)
    return config, write_page(folder, folder.parent)


def opened(browser, path, **options):
    """The page in a new tab, and a list that collects complaints and requests of anything else."""
    page, complaints = browser.new_page(**options), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.extend([request.url] if request.url != path.as_uri() else []))
    page.goto(path.as_uri())
    return page, complaints


def test_no_complaints_and_no_injected_script(browser, design):
    page, complaints = opened(browser, design[1])
    assert page.evaluate("window.injected") is None
    assert page.locator("img").count() == 0
    assert page.get_by_text("window.injected = 1").count() >= 2
    assert [text for text in complaints if not text.startswith("data:")] == []
    page.close()


def test_the_slider_moves_the_tile(browser, design):
    config, path = design
    page, complaints = opened(browser, path)
    issues, shown, arch = Schedule(config).issues, boards(config), config.architecture
    for cycle in (0, 1, len(issues) // 2, len(issues) - 1):
        page.locator("#cycle").fill(str(cycle))
        issue = issues[cycle]
        text = page.locator("#cycle-text").inner_text()
        assert text.startswith(f"tile {cycle} of {len(issues)}, from 0: {shown[issue.part].title};")
        assert f"row group {issue.row}, column group {issue.col};" in text
        assert text.endswith(f"sums {what_happens(issue)}")
        labels = [
            block_label(shown[issue.part], issue.row * arch.tile_rows + row, issue.col * arch.tile_cols + col)
            for row in range(arch.tile_rows)
            for col in range(arch.tile_cols)
        ]
        assert page.locator("#elements td").all_inner_texts() == labels
        tile = page.locator(f"#tile-{issue.part}")
        assert float(tile.get_attribute("y")) == pytest.approx(issue.row * arch.tile_rows * shown[issue.part].block)
        visible = [page.locator(f"#tile-{part}").is_visible() for part in range(len(shown))]
        assert visible == [part == issue.part for part in range(len(shown))]
        done = [page.locator(f"#done-{part}").get_attribute("d").count("M") for part in range(len(shown))]
        assert sum(done) == cycle
    # After the last tile the first one follows.
    page.locator("#play").click()
    page.locator("#cycle-text", has_text="tile 0 of").wait_for()
    page.locator("#play", has_text="pause").click()
    page.locator("#play", has_text="play").wait_for()
    assert [text for text in complaints if not text.startswith("data:")] == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_everything_can_be_read(browser, design, scheme, width):
    page, _ = opened(browser, design[1], viewport={"width": width, "height": 900}, color_scheme=scheme)
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= LEAST_CONTRAST, text
    # Wide tables scroll by themselves, the page does not.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_a_page_is_light_and_without_controls_in_print(browser, design):
    page, _ = opened(browser, design[1], color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [page.locator(name).first.is_visible() for name in ("nav", ".control", "svg.timeline")] == [
        False,
        False,
        True,
    ]
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= LEAST_CONTRAST, text
    # Nothing is cut off at the right edge of a sheet.
    page.set_viewport_size({"width": 720, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


# -- the page of an exploration --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """Design points of two weight widths, and their page, with a hostile study and a hostile configuration file."""
    pytest.importorskip("plotly")
    folder = tmp_path_factory.mktemp("explored")
    config = preset("tiny")
    both = [config, config.replace({"quantization.weight_bits": 4})]
    points = [point for one in both for engine in engines(one) for point in pareto(one, [engine])]
    row = {"weight_bits": 8, "loss": -1.25, "losses": [-2, -0.5], "loss_unit": "points", "note": HOSTILE}
    rows = [row | {"block_sizes": [1, 1]}, row | {"block_sizes": [4, 4]}]
    study = folder / "accuracy.json"
    study.write_text(json.dumps({"studies": [{"title": HOSTILE, "description": HOSTILE, "rows": rows}]}))
    path = folder / "pareto.html"
    write_explore_page(path, config, points, f"explore {HOSTILE}", ["--config", HOSTILE], 600.0, folder, study)
    return points, path


def best_of(points, value):
    """Design points that no faster one reaches, fastest first."""
    found = []
    for point in sorted(points, key=lambda point: (point.cycles, value(point))):
        if not found or value(point) < value(found[-1]):
            found.append(point)
    return found


def test_filters_change_what_is_shown(browser, explored):
    points, path = explored
    page, complaints = opened(browser, path)
    area = attrgetter("area.total_mm2")
    count, rows = page.locator("#count"), page.locator("#front tbody tr")
    # The page begins with the configuration's own weight width.
    own = [point for point in points if point.config.quantization.weight_bits == 8]
    assert count.inner_text() == f"{len(own)} of {len(points)} designs, {len(best_of(own, area))} of them best"
    page.locator("#bits").select_option("")
    best = best_of(points, area)
    assert count.inner_text() == f"{len(points)} of {len(points)} designs, {len(best)} of them best"
    assert [int(text.replace(",", "")) for text in page.locator("#front td:nth-child(5)").all_inner_texts()] == [
        point.cycles for point in best
    ]
    # At most so many microseconds, at another clock.
    page.locator("#clock").fill("100")
    most = sorted(point.cycles for point in points)[len(points) // 2]
    page.locator("#latency").fill(str(most / 100))
    left = [point for point in points if point.cycles <= most]
    assert count.inner_text().startswith(f"{len(left)} of {len(points)} designs")
    page.locator("#bits").select_option("4")
    left = [point for point in left if point.config.quantization.weight_bits == 4]
    assert count.inner_text() == f"{len(left)} of {len(points)} designs, {len(best_of(left, area))} of them best"
    # The slider goes from the fastest design to any; here the number of PEs is limited as well.
    page.locator("#latency-slider").fill("0")
    fastest = min(point.cycles for point in points)
    assert float(page.locator("#latency").input_value()) == pytest.approx(fastest / 100, rel=1e-4)
    assert count.inner_text().startswith(f"{sum(point.cycles == fastest for point in left)} of {len(points)} designs")
    page.locator("#latency-slider").fill("100")
    page.locator("#elements").fill("2")
    few = [
        p
        for p in points
        if p.config.quantization.weight_bits == 4
        and p.config.architecture.tile_rows * p.config.architecture.tile_cols <= 2
    ]
    assert count.inner_text().startswith(f"{len(few)} of {len(points)} designs")
    page.locator("#elements").fill("")
    page.locator("#latency").fill(str(most / 100))
    assert 0 < int(page.locator("#latency-slider").input_value()) < 100
    # Another axis: of each number of weight bits the best design.
    page.locator("#bits").select_option("")
    page.locator("#latency").fill("")
    page.locator("#sideways").select_option("bits")
    assert page.locator("#front td:nth-child(2)").all_inner_texts() == ["4"]
    page.locator("#sideways").select_option("time")
    page.locator("#latency").fill(str(most / 100))
    page.locator("#bits").select_option("4")
    # Losses are of 8 bits alone: the others are counted as missing, and named so in the table.
    page.locator("#upwards").select_option("loss")
    assert f"{len(left)} of these designs have no such figure" in page.locator("#missing").inner_text()
    assert rows.count() == 0
    page.locator("#bits").select_option("8")
    assert rows.count() == 1
    assert rows.first.locator("td").last.inner_text().startswith("−1.25 points (−2.00 to −0.50)")
    # A greatest loss leaves those that have one.
    page.locator("#most-loss").fill("-2")
    assert rows.count() == 0
    page.locator("#most-loss").fill("-1")
    assert rows.count() == 1
    page.locator("#most-loss").fill("")
    # A row is chosen, and its command shown.
    page.locator("#front button").first.click()
    command = page.locator("#command").inner_text()
    assert "architecture.tile_rows=" in command
    assert HOSTILE in command.replace("'\"'\"'", "'")
    assert page.locator("#measure").inner_text().startswith("chessrnn synth --power --liberty FILE --config")
    page.locator("#latency").fill("")
    page.locator("#upwards").select_option("area_mm2")
    page.locator("#bits").select_option("")
    page.locator("#board").select_option("ecpix5_45f")
    left = [point for point in points if may_fit(point.config, BOARDS["ecpix5_45f"].part)]
    assert 0 < len(left) < len(points)
    assert count.inner_text().startswith(f"{len(left)} of {len(points)} designs")
    assert [text for text in complaints if not text.startswith("data:")] == []
    page.close()


def test_a_point_shows_its_design_and_no_text_is_injected(browser, explored):
    _, path = explored
    page, complaints = opened(browser, path)
    page.locator("#diagram .points path").first.hover(force=True)
    shown = page.locator("#diagram .hoverlayer").text_content()
    for text in ("cycles", "mm²", "--set architecture.engine=", "window.injected = 1"):
        assert text in shown, text
    assert page.evaluate("window.injected") is None
    assert page.locator("img").count() == 0
    assert [text for text in complaints if not text.startswith("data:")] == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_of_designs_can_be_read(browser, explored, scheme, width):
    page, _ = opened(browser, explored[1], viewport={"width": width, "height": 900}, color_scheme=scheme)
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= LEAST_CONTRAST, text
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for element in page.locator("[role=img], [role=group]").all():
        assert element.get_attribute("aria-label")
    page.close()


# -- the page of a study -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Page of a study with a hostile configuration, one row of which is not finished."""
    pytest.importorskip("plotly")
    rows = [
        {
            "name": f"row{number}", "label": HOSTILE, "block_sizes": [k, k], "weight_bits": bits, "weight_bytes": size,
            "removed_percent": 100 - size / 10, "figures": {"error": 10.5}, "metric": "error", "loss": loss,
            "losses": [loss - 0.5, loss + 0.5], "loss_unit": "points", "updates": 1000, "arithmetic": "float32",
            "note": HOSTILE, "finished": 2, "keys": ["0123456789abcdef" * 4] * 2,
        }
        for number, (k, bits, size, loss) in enumerate(
            [(1, 32, 1000, 0.0), (8, 32, 125, 0.5), (8, 8, 31, 0.75), (4, 4, 31, 0.25), (8, 4, 16, 1.0)]
        )
    ]  # fmt: skip
    rows.append({"name": "row5", "label": HOSTILE, "finished": 0, "keys": []})
    path = tmp_path_factory.mktemp("study") / STUDY_PAGE
    table = {"title": HOSTILE, "description": HOSTILE, "parts": 2, "rows": rows}
    write_study_page(path, [table, table], f"accuracy {HOSTILE}", is_running=True)
    return path


def test_rows_of_a_study_are_points_and_no_text_is_injected(browser, study):
    page, complaints = opened(browser, study, viewport={"width": 1400, "height": 900})
    assert page.locator("h2").count() == 2
    assert page.locator("#diagram-0 .points path.point").count() == 4
    page.locator("#diagram-1 .points path.point").last.hover(force=True)
    shown = page.locator("#diagram-1 .hoverlayer").text_content()
    for text in ("bytes", "% removed", "loss +", "window.injected = 1"):
        assert text in shown, text
    assert page.get_by_text("not finished yet").count() == 2
    assert page.evaluate("window.injected") is None
    assert page.locator("img").count() == 0
    assert [text for text in complaints if not text.startswith("data:")] == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_of_a_study_can_be_read(browser, study, scheme, width):
    page, _ = opened(browser, study, viewport={"width": width, "height": 900}, color_scheme=scheme)
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= LEAST_CONTRAST, text
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for element in page.locator("[role=img], [role=group]").all():
        assert element.get_attribute("aria-label")
    page.close()


# -- the live page of training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [400, 1400])
def test_the_live_page_shows_points_and_rows_as_they_come(browser, tmp_path, width):
    pytest.importorskip("plotly")
    curve = curve_file(tmp_path / "run" / "dense.pt")
    curve.parent.mkdir()
    add_point(curve, 10, 2.0, "perplexity", 9.5)
    with live_page(tmp_path, 0, study=tmp_path / STUDY_PAGE) as address:
        page, complaints = browser.new_page(viewport={"width": width, "height": 900}), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.locator("#state", has_text="1 stages, 0 finished rows").wait_for()
        assert page.locator("#loss .point").count() == 1
        add_point(curve, 20, 1.0, "perplexity", 8.5)
        row = {"label": HOSTILE, "arithmetic": "float32", "note": "", "weight_bytes": 12, "figures": {"loss": 0.25}}
        curve.with_name("dense.json").write_text(json.dumps(row))
        page.locator("#state", has_text="1 stages, 1 finished rows").wait_for()
        assert page.locator("#loss .point").count() == page.locator("#validation .point").count() == 2
        assert page.locator("#rows td").nth(1).inner_text() == HOSTILE
        for element in page.locator("[role=img], [role=group]").all():
            assert element.get_attribute("aria-label")
        assert not page.locator("#study").is_visible()
        (tmp_path / STUDY_PAGE).write_text("<title>a study</title>")
        page.locator("#study").wait_for()
        assert page.evaluate("window.injected") is None
        ratio, text = page.evaluate(CONTRAST)
        assert ratio >= LEAST_CONTRAST, text
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints == []
        page.locator("#study a").click()
        assert page.title() == "a study"
        page.close()
