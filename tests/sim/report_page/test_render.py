"""Page of a design: what it holds, that it fetches nothing, and that no text becomes markup."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import VERILOG_FILE, Build, emit, load_build
from chessrnn.sim.manifest import file_digest
from chessrnn.sim.recorded_run import RECORD_FILE, RecordedRun, write_record
from chessrnn.sim.report_page.board_view import block_label, boards, tiles
from chessrnn.sim.report_page.page_values import Commands, memory_rows, page_values
from chessrnn.sim.report_page.render import PAGE_FILE, render, write_page
from chessrnn.sim.synthesis.job import folder_of

MAX_BYTES = 3_000_000
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}.safetensors"
# Its Verilog is generated faster than that of carry-save arithmetic.
CONFIG = preset("tiny").replace({"architecture.arithmetic": "multiplier"})
VOID = ("meta", "link", "input", "img", "br", "hr")


class Page(HTMLParser):
    """Elements and text of a page; fails on tags that are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.words, self.source = [], [], [], text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["script"] and self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def emitted(tmp_path_factory):
    weights = random_weights(CONFIG, np.random.default_rng(3))
    folder = tmp_path_factory.mktemp("build") / "tiny"
    emit(weights, folder, HOSTILE)
    return folder


@pytest.fixture
def folder(emitted, tmp_path):
    """A copy that the test may change."""
    return shutil.copytree(emitted, tmp_path / "tiny")


def page_of(folder) -> Page:
    path = write_page(folder, folder.parent)
    assert path == folder / PAGE_FILE
    assert path.stat().st_size < MAX_BYTES
    return Page(path.read_text(encoding="utf-8"))


def recorded(folder, change: int = 0, **changes) -> None:
    """Write the record of a perfect run, or of one whose last shown issue is late."""
    config = load_build(folder).config
    trace = Schedule(config).trace([4])
    trace.issues[config.bank_words - 1] += change
    verilog = file_digest(folder / VERILOG_FILE)
    run = RecordedRun(config.fingerprint, verilog, "icarus", [4], [], 4, 0, [], trace)
    write_record(folder, config, dataclasses.replace(run, **changes))


def test_content_without_anything_measured(folder):
    page, config = page_of(folder), CONFIG
    for text in ("cycles per step", "gates I, F, G, O", "tiny_bias.mem", "x_valid", "Q1.7", "weights_r3_c1"):
        assert text in page.text, text
    for command in ("chessrnn sim --config", "chessrnn synth --config", "chessrnn fpga --config", "chessrnn convert"):
        assert command in page.text, command
    assert page.text.count(config.fingerprint) >= 5
    assert "recorded events" not in page.text
    # The page is not one of the generated files that are checked.
    load_build(folder)


def test_no_text_becomes_markup_or_template(folder):
    page = page_of(folder)
    assert "{{ 7 * 7 }}" in page.text
    assert "img" not in [tag for tag, _ in page.elements]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.source.count("</script>") == 2
    assert "<img" not in page.source


def test_nothing_is_fetched(folder):
    page = page_of(folder)
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    assert set(re.findall(r"\w+://[^\"\s]*", page.source)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert [policy.split(";")[0] for policy in policies] == ["default-src 'none'"]


def test_every_picture_and_control_is_described(folder):
    page = page_of(folder)
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for tag, attributes in page.elements:
        if tag in ("svg", "input", "meter") or attributes.get("role") in ("img", "group"):
            assert attributes.get("aria-label"), (tag, attributes)
        for name in ("for", "aria-labelledby", "aria-describedby"):
            assert attributes.get(name) is None or attributes[name] in names


def test_a_recorded_simulation_stands_beside_the_prediction(folder):
    recorded(folder)
    page = page_of(folder)
    events = 4 * (CONFIG.num_input_blocks + CONFIG.bank_words + CONFIG.num_output_blocks)
    assert f"All {events} recorded events are in the predicted cycle" in page.text
    assert "of 4 simulated steps" in page.text
    assert not [a for tag, a in page.elements if tag == "rect" and a.get("class") == "different"]


def test_differences_are_red(folder):
    recorded(folder, change=1, problems=[HOSTILE], mismatches=2)
    page = page_of(folder)
    assert "1 of " in page.text
    assert "not in the predicted cycle" in page.text
    assert len([a for tag, a in page.elements if tag == "rect" and a.get("class") == "different"]) == 2
    assert "{{ 7 * 7 }}" in page.text
    assert page.source.count("</script>") == 2


def test_a_record_of_other_verilog_is_not_shown(folder):
    recorded(folder, verilog="0" * 64)
    assert "Only the prediction is shown" in page_of(folder).text


@pytest.mark.parametrize("text", ["[]", "{}", '{"lengths": [0]}', "nothing"])
def test_a_damaged_record_is_named(folder, text):
    recorded(folder)
    (folder / RECORD_FILE).write_text(text)
    page = page_of(folder)
    assert f"{folder / RECORD_FILE} must" in page.text
    assert "Only the prediction is shown" in page.text


def test_a_changed_file_is_refused(folder):
    (folder / "report.json").write_text("{}")
    with pytest.raises(InvalidFileError, match=r"report\.json must be as it was generated"):
        write_page(folder, folder.parent)
    assert not (folder / PAGE_FILE).exists()


def test_damaged_reports_of_other_commands_are_named(folder):
    synthesis = folder_of(folder.parent, CONFIG, None)
    board = folder.parent / "tiny-icebreaker"
    for place in (synthesis, board):
        place.mkdir(parents=True)
        (place / "report.json").write_text(json.dumps({"configuration": CONFIG.fingerprint}))
    page = page_of(folder)
    assert f"{synthesis / 'report.json'} cannot be read" in page.text
    assert f"{board / 'report.json'} cannot be read" in page.text


@pytest.mark.parametrize(
    ("metrics", "shown", "missing"),
    [
        (
            {
                "perplexity": 4.25,
                "updates": 2000,
                "stages": [{"stage": "dense float", "perplexity": 3.5}, {"stage": HOSTILE, "perplexity": 4.25}],
            },
            (
                "perplexity on the test text 4.25",
                "training updates 2,000",
                "stage perplexity dense float 3.500",
                "{{ 7 * 7 }}",
            ),
            "no figures",
        ),
        (
            {"perplexity": 4.25},
            ("The weights carry no figures of the stages before", "--export FILE"),
            "stage perplexity",
        ),
        (
            {"layers": [{"layer": "l0", "output": {"projected": 0.125, "integers": 0.25}}]},
            ("Error of h of l0", "projected onto circulant blocks 12.50 %", "computes 25.00 %"),
            "no figures",
        ),
        (
            {"perplexity": 4.25, "stages": [HOSTILE, {}, {"stage": 1}, 7]},
            ("no figures of the stages",),
            "stage perplexity",
        ),
        ({}, ("The weights carry no figures.", "chessrnn train"), "After each stage"),
    ],
)
def test_accuracy_is_that_of_the_weights(metrics, shown, missing, folder):
    image = folder.parent / "weights.safetensors"
    weights = random_weights(CONFIG, np.random.default_rng(3))
    WeightImage(weights, metrics=metrics, command="chessrnn train --export here").save(image)
    build, report = load_build(folder), folder / "report.json"
    report.write_text(json.dumps({"weights": {"source": str(image)}}))
    page = Page(render(page_values(build, folder.parent)))
    for text in shown:
        assert text in page.text, text
    assert missing not in page.text
    assert ("measured when the weights were made, by chessrnn train --export here" in page.text) == bool(metrics)
    assert "<img" not in page.source


def test_area_and_paths_of_a_synthesis(folder):
    synthesis = folder_of(folder.parent, CONFIG, None)
    synthesis.mkdir(parents=True)
    module = {"module": "top", "children": {"row": 2}, "own_sequential_gates": 1e5, "own_combinational_gates": 1e5}
    values = {
        "configuration": CONFIG.fingerprint,
        "library": {"name": "cells"},
        "logic": {"gates": 12345.6, "flip_flops": 789, "area_mm2": 0.0125},
        "memory": {"bits": 4321, "rows": [
            {"count": 8, "name": "weights_r0_c0 and others", "words": 18, "width": 32, "area_90nm_mm2": 0.25},
        ]},
        "comparison": {"area_mm2": 1.5},
        "power": {"nj_per_step": 0.456},
        "timing": {"max_clock_mhz": 612.4, "paths": [
            {"fo4": 39.5, "ps": 1632.0, "from": ["row", "sum"], "to": ["drain", HOSTILE]},
        ]},
        "timing_note": "",
        "top": "top",
        "modules": [module, module | {"module": "row", "children": {}}],
    }  # fmt: skip
    (synthesis / "report.json").write_text(json.dumps(values))
    page = page_of(folder)
    figures = ["12,346 NAND2", "789 flip-flops", "0.0125 mm²", "4,321 bits", "1.50 mm²", "612 MHz", "0.46 nJ per step"]
    for text in (*figures, "39.5 1632 row.sum", "2 x row", "8 x weights_r0_c0 (18 x 32)", "chessrnn synth --config"):
        assert text in page.text, text
    assert "<img" not in page.source


def test_every_section_names_its_command(folder):
    recorded(folder)
    source = page_of(folder).source
    sections = re.findall(r"<section id=\"(\w[\w-]*)\".*?</section>", source, re.DOTALL)
    names = ["network", "chessboard", "schedule", "memories", "ports", "accuracy", "area", "fpga-builds"]
    assert sections == names
    for text in re.findall(r"<section .*?</section>", source, re.DOTALL):
        made = re.search(r"made by <code>chessrnn .*?</code>, fingerprint <code>\w{16}</code>", text)
        assert made or re.search(r'<p class="missing">.*?<code>chessrnn ', text, re.DOTALL)


def test_utilisation_of_a_board(folder):
    board = folder.parent / "tiny-icebreaker"
    board.mkdir()
    values = {
        "part": "iCE40UP5K",
        "design": {"model_configuration": CONFIG.model_fingerprint, "configuration": "0123456789abcdef"},
        "utilisation": {"LUT": {"used": 4321, "available": 5280, "percent": 81.8}},
        "clock": {"mhz": 12.0, "max_mhz": 11.5},
        "steps_per_second": {"at_clock": 1000},
    }
    (board / "report.json").write_text(json.dumps(values))
    page = page_of(folder)
    for text in ("4,321", "81.8 %", "12 MHz, at most 11.5 MHz", "0123456789abcdef", "another architecture"):
        assert text in page.text, text
    values["design"]["model_configuration"] = "0" * 16
    (board / "report.json").write_text(json.dumps(values))
    assert "No bitstream of this network" in page_of(folder).text


def test_data_of_the_slider(folder):
    page, config = page_of(folder), CONFIG
    text = re.search(r'<script type="application/json" id="design">(.*?)</script>', page.source, re.DOTALL)[1]
    data = json.loads(text)
    assert data["tiles"] == tiles(config)
    assert len(data["tiles"]) == data["all_tiles"] == config.bank_words
    assert [board["rows"] for board in data["boards"]] == [config.num_row_blocks]


def test_the_page_of_a_large_design_is_small(tmp_path):
    """Many tiles and row groups: the page holds all of them, or says how many; nothing is emitted here."""
    config = preset("lm512").replace({"architecture.tile_rows": 4, "architecture.tile_cols": 1})
    for name in ("report.json", "ports.json", VERILOG_FILE):
        (tmp_path / name).write_text("{}")
    build = Build(tmp_path, config, "large", "0" * 64, "0" * 16)
    trace = Schedule(config).trace([2])
    verilog = file_digest(tmp_path / VERILOG_FILE)
    write_record(tmp_path, config, RecordedRun(config.fingerprint, verilog, "icarus", [2], [], 2, 0, [], trace))
    text = render(page_values(build, tmp_path))
    assert f"{config.bank_words:,} tiles are a step" in text
    assert "recorded events are in the predicted cycle" in text
    assert len(text.encode()) < MAX_BYTES


def test_labels_of_blocks():
    (board,) = boards(CONFIG)
    assert block_label(board, 0, 0) == "I0·x0"
    assert block_label(board, 5, 3) == "F1·h0"
    assert block_label(board, 12, 0) == block_label(board, 0, 6) == "–"


def test_memories_are_grouped_by_size():
    rows = memory_rows(CONFIG, "p")
    assert rows[0].name == "weights_r0_c0 … weights_r3_c1"
    assert rows[0].count == len(rows[0].files) == CONFIG.num_banks
    assert rows[0].files[0] == "p_weights_r0_c0.mem"


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("random, seed 7 (requested)", "--random-weights 7"),
        ("pretrained/char64.safetensors", ""),
        ("my net.safetensors", "--weights 'my net.safetensors'"),
        ("chessrnn.simulate", ""),
    ],
)
def test_commands_repeat_the_choice_of_weights(tmp_path, source, options):
    wanted = " ".join(f"chessrnn verilog --config {tmp_path} {options}".split())
    assert Commands(tmp_path, source).of("verilog") == wanted
