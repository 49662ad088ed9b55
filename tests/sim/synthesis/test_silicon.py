"""The table of designs and libraries, and that it does no work twice."""

import json

import pytest

from chessrnn.scripts import silicon
from chessrnn.scripts.cli import run_command
from chessrnn.sim.synthesis import opensta


def run(argv):
    return run_command(lambda: silicon.main(argv), "silicon")


@pytest.mark.slow
def test_table_reuses_what_is_known(smallest, library_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(opensta, "available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smallest.json").write_text(json.dumps(smallest.to_dict()), encoding="ascii")
    argv = ["--design", "./smallest.json", "--liberty", str(library_file)]
    assert run(argv) == 0
    first = capsys.readouterr()
    assert "design 0/1" in first.err and "| smallest | k = 2, 3 bit | 2 x 1 | fast |" in first.out
    assert "Wang, Lin, Wang 2017" in first.out
    assert len(list(tmp_path.glob("build/synthesis/smallest-*/linear/treemap.svg"))) == 1
    assert (tmp_path / "build" / "synthesis" / "silicon.md").read_text(encoding="utf-8") + "\n" == first.out
    assert run(argv) == 0
    second = capsys.readouterr()
    assert "design 0/1" not in second.err and second.out == first.out


def test_paths_over_the_target_are_named():
    path = {"from": ["a", "x"], "to": ["b", "y"], "fo4_by_module": {"a": 11.0, "memory": 30.5}}
    values = {
        "name": "some", "engine": "fast", "library": {"name": "cells"},
        "design": {"division": {"block_size": 8, "tile_rows": 7, "tile_cols": 32}, "numerics": {"weight_bits": 4}},
        "timing": {"target_fo4": 40.0, "paths": [path | {"fo4": 41.5}, path | {"fo4": 40.0}]},
    }  # fmt: skip
    head = ("some", "k = 8, 4 bit", "7 x 32", "fast")
    assert silicon.too_long(values) == [(*head, "cells", "41.5", "a.x", "b.y", "memory 30.5, a 11.0")]
    assert silicon.too_long(values | {"timing": None}) == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--liberty", "/nowhere.lib"], "nowhere.lib must be a readable Liberty file: No such file or directory"),
        (["--design", "nothing", "--liberty", "/nowhere.lib"], "preset must be one of"),
    ],
)
def test_wrong_input(argv, message, capsys):
    assert run(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
