"""`make report` as its user: on a build folder as it is, on one that is missing, and on one that is damaged."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest

from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.scripts import design_page, verilog
from chessrnn.scripts.main import main
from chessrnn.scripts.weight_arguments import Chosen
from chessrnn.sim.build import emit, load_build, weights_digest

# Its Verilog is generated faster than that of carry-save arithmetic.
SETTING = "architecture.arithmetic=multiplier"
CONFIG = preset("tiny").replace({"architecture.arithmetic": "multiplier"})


@pytest.fixture(scope="module")
def emitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emitted") / "tiny"
    emit(random_weights(CONFIG, np.random.default_rng(3)), folder, "random, seed 3 (requested)")
    return folder


@pytest.fixture
def place(emitted, tmp_path, monkeypatch):
    """The present folder, with a build in ``build/tiny`` and another one in ``runs/verilog``."""
    for name in ("build/tiny", "runs/verilog"):
        shutil.copytree(emitted, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["--config", "tiny", "--set", SETTING], "build/tiny"),
        (["--config", "build/tiny"], "build/tiny"),
        (["--config", "build/tiny", "--random-weights", "3"], "build/tiny"),
        (["--config", "runs/verilog"], "runs/verilog"),
        (["--config", "runs/verilog/config.json"], "runs/verilog"),
    ],
)
def test_a_build_is_shown_as_it_is(place, arguments, folder, capsys):
    before = (place / folder / "config.json").stat().st_mtime_ns
    assert main(["report", *arguments]) == 0
    assert capsys.readouterr().out == f"written to {folder}/report.html\n"
    assert (place / folder / "config.json").stat().st_mtime_ns == before
    text = (place / folder / "report.html").read_text(encoding="utf-8")
    assert f"--config {folder} --random-weights 3" in text
    assert [path.name for path in place.rglob("report.html")] == ["report.html"]


def test_another_choice_of_weights_is_emitted(place, capsys):
    assert main(["report", "--config", "build/tiny", "--random-weights", "4"]) == 0
    assert "emitting build/tiny/: it holds other weights" in capsys.readouterr().err
    wanted = weights_digest(random_weights(CONFIG, np.random.default_rng(4)))
    assert load_build(place / "build" / "tiny").weights_sha256 == wanted


@pytest.mark.parametrize("folder", ["runs/verilog", "build/tiny"])
def test_a_damaged_folder_is_named(place, folder, capsys):
    (place / folder / "ports.json").write_text("{}")
    assert main(["report", "--config", folder]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert f"{folder}/ports.json must be as it was generated" in error
    assert not (place / folder / "report.html").exists()


def test_a_folder_of_another_configuration_needs_weights(place, capsys):
    assert main(["report", "--config", "build/tiny", "--set", "architecture.tile_rows=2"]) == 2
    assert "--weights or --random-weights must be given" in capsys.readouterr().err
    assert load_build(place / "build" / "tiny").config == CONFIG


def test_a_named_folder_is_the_one_that_is_used(place, capsys):
    """Not another one of the same name; where it holds something else, that is said."""
    arguments = argparse.Namespace(config="runs/verilog", settings=[])
    image = Chosen(random_weights(CONFIG, np.random.default_rng(3)), None, "random", True)
    assert verilog.build_folder(arguments, image) == Path("runs/verilog")
    other = Chosen(random_weights(CONFIG, np.random.default_rng(4)), None, "random", True)
    assert verilog.build_folder(arguments, other) == Path("build/tiny")
    assert "runs/verilog/ is not used: it holds other weights" in capsys.readouterr().err


def test_a_build_that_is_emitted_again_keeps_its_prefix_and_its_shell(place, capsys):
    arguments = ["--config", "tiny", "--set", SETTING]
    assert main(["verilog", *arguments, "--prefix", "mine", "--shell", "axi"]) == 0
    assert main(["report", *arguments, "--random-weights", "4"]) == 0
    build = load_build(place / "build" / "tiny")
    assert (build.prefix, build.shell) == ("mine", "axi")
    text = (place / "build" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert "chessrnn verilog --config build/tiny --random-weights 4 --prefix mine --shell axi" in text


@pytest.mark.parametrize(
    ("config", "changes", "options", "folder"),
    [
        ("tiny", {}, {}, "build/tiny"),
        ("runs/verilog", {}, {}, "runs/verilog"),
        # A bitstream of another tile is shown as well, a synthesis is not.
        ("tiny", {"architecture.tile_rows": 2}, {"same_architecture": False}, "build/tiny"),
        ("tiny", {"architecture.tile_rows": 2}, {}, None),
        ("tiny", {"quantization.weight_bits": 4}, {"same_architecture": False}, None),
    ],
)
def test_the_page_after_other_commands(place, config, changes, options, folder, capsys):
    settings = [f"{name}={value}" for name, value in changes.items()]
    args = argparse.Namespace(config=config, settings=settings, weights=None, random_weights=None)
    chosen = CONFIG.replace(changes)
    design_page.show_page_of(args, chosen, config, verilog.possible_folders(args, chosen), **options)
    written = [str(path.relative_to(place)) for path in place.rglob("report.html")]
    out, error = capsys.readouterr()
    assert out == ""
    if folder is None:
        assert written == []
        command = f"chessrnn report --config tiny --set {settings[0]}"
        assert error == f"note: {command} makes a page with these figures\n"
    else:
        assert written == [f"{folder}/report.html"]
        assert error == f"page: {folder}/report.html\n"


def test_a_folder_that_changed_has_no_page(place, capsys):
    (place / "build" / "tiny" / "ports.json").write_text("{}")
    design_page.write_design_page(Path("build/tiny"), Path("build"))
    assert "note: no page is written: build/tiny/ports.json must be as it was generated" in capsys.readouterr().err


def test_the_command_that_makes_a_page_names_weights_where_none_are_shipped(place, capsys):
    other = CONFIG.replace({"name": "mine"})
    (place / "mine.json").write_text(other.to_json())
    args = argparse.Namespace(config="mine.json", settings=[], weights=None, random_weights=None)
    design_page.show_page_of(args, other, "mine.json", verilog.possible_folders(args, other))
    command = "chessrnn report --config mine.json --random-weights 0"
    assert capsys.readouterr().err == f"note: {command} makes a page with these figures\n"
