"""The command as its user meets it."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from chessrnn.scripts import synthesize
from chessrnn.scripts.cli import run_command
from chessrnn.sim.synthesis import yosys

SETTINGS = [
    "architecture.engine=fast", "architecture.tile_rows=4", "architecture.tile_cols=1", "architecture.cell_lanes=1",
]  # fmt: skip
DESIGN = ["--config", "tiny", *(part for setting in SETTINGS for part in ("--set", setting))]


def run(argv: list[str]) -> int:
    return run_command(lambda: synthesize.main(argv), "synthesize")


@pytest.mark.slow
def test_report_of_generic_gates(tmp_path, capsys):
    assert run([*DESIGN, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    modules = {row["module"]: row for row in values["modules"]}
    assert sum(row["all_own_gates"] for row in modules.values()) == pytest.approx(values["logic"]["gates"])
    for row in modules.values():
        below = sum(number * modules[child]["total_gates"] for child, number in row["children"].items())
        assert row["total_gates"] == pytest.approx(row["own_gates"] + below)
        assert row["module"] in printed
    # Every bit that the design stores in memories is behind a wrapper.
    assert values["memory"]["bits"] == values["design"]["memory_bits"]["total"]
    assert values["timing"] is None and "timing" in printed
    side = values["comparison"]
    assert side["area_mm2"] == pytest.approx(values["logic"]["gates"] * 2.8 / 0.7 / 1e6 + side["memory_mm2"])
    assert side["tops_per_mm2"] == pytest.approx(side["tops"] / side["area_mm2"])
    assert side["paper"]["tops_per_mm2"] == pytest.approx(0.080, abs=0.0005)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])
    # Every rectangle of the treemap has a tooltip.
    assert len(drawing.findall(".//{*}title")) > 10
    assert "Wang, Lin, Wang 2017" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.needs("opensta")
def test_one_unit(tmp_path, library_file, capsys):
    argv = [*DESIGN, "--unit", "transform", "--liberty", str(library_file), "--output", str(tmp_path), "--json"]
    assert run(argv) == 0
    # One of the weights, one of x.
    both = json.loads(capsys.readouterr().out)
    assert len(both) == 2
    for values in both:
        assert "forward_transform" in values["top"] and values["comparison"] is None
        assert values["logic"]["flip_flops"] == 0 and values["logic"]["gates"] > 0
        assert values["timing"]["fo4_ps"] == pytest.approx(26.0, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unit", "nothing"], "unit must be one of"),
        (["--liberty", "/nowhere/cells.lib"], "cells.lib must be a readable Liberty file: No such file or directory"),
        (["--gate-level"], "--liberty must be given with --gate-level"),
        (["--clock-gates"], "--liberty must be given with --clock-gates"),
        (["--set", "architecture.engine=magic"], "engine must be"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, capsys, options, message):
    output = tmp_path / "reports"
    assert run([*DESIGN, *options, "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not output.exists()


def test_library_without_clock_gate_is_named_before_synthesis(tmp_path, texts, capsys):
    library, output = tmp_path / "none.lib", tmp_path / "reports"
    library.write_text(texts["library"]().replace("latch_posedge", "latch_negedge"), encoding="ascii")
    assert run([*DESIGN, "--liberty", str(library), "--clock-gates", "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert "--liberty must be a library with a clock gate" in error and error.count("\n") == 1
    assert not output.exists()


@pytest.mark.needs("opensta")
def test_clock_gates_are_reported(tmp_path, library_file, capsys):
    argv = [*DESIGN, "--unit", "drain", "--liberty", str(library_file), "--clock-gates", "--output", str(tmp_path)]
    assert run(argv) == 0
    assert re.search(r" flip-flops, [1-9]\d* clock gates\n", capsys.readouterr().out)


def test_missing_weights_are_named_before_synthesis(tmp_path, library_file, capsys):
    arguments = ["--config", "char128", "--set", "network.input_size=128", "--liberty", str(library_file), "--power"]
    assert run([*arguments, "--output", str(tmp_path / "reports")]) == 2
    error = capsys.readouterr().err
    assert "--weights or --random-weights must be given for char128" in error and error.count("\n") == 1
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda texts: "module x; endmodule", "must be a Liberty file"),
        (lambda texts: texts["library"](without=("NAND2_X1", "NAND2_X4")), "must have a two-input NAND"),
        (lambda texts: texts["library"](flip_flops=()), "must have a D flip-flop"),
    ],
)
def test_unusable_library_is_one_line(tmp_path, texts, capsys, change, message):
    library, output = tmp_path / "bad.lib", tmp_path / "reports"
    library.write_text(change(texts), encoding="ascii")
    assert run([*DESIGN, "--liberty", str(library), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not output.exists()


def test_missing_yosys_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(yosys.importlib.util, "find_spec", lambda name: None)
    assert run([*DESIGN, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "pyosys must be installed to synthesize" in error and error.count("\n") == 1


@pytest.mark.slow
def test_latch_is_named_and_nothing_is_reported(tmp_path, monkeypatch, capsys):
    latch = "reg bad; always @* if (rst) bad = x_valid;\n"
    whole = synthesize.generate

    def faulty(config):
        verilog = whole(config)
        end = verilog.index("endmodule", verilog.index("module accelerator("))
        return verilog[:end] + latch + verilog[end:]

    monkeypatch.setattr(synthesize, "generate", faulty)
    assert run([*DESIGN, "--output", str(tmp_path)]) == 2
    assert "synthesize: error: design must hold no latch, not 'accelerator/" in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


def test_two_libraries_are_refused(tmp_path, library_file, capsys):
    other = tmp_path / "other.lib"
    other.write_bytes(library_file.read_bytes())
    assert run([*DESIGN, "--liberty", str(library_file), str(other)]) == 2
    assert "liberty must be one standard-cell library" in capsys.readouterr().err
