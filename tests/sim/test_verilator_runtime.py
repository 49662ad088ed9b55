"""Objects of Verilator's runtime are taken from the cache only as they were put there."""

import pytest

from chessrnn.sim import verilator_runtime as module
from chessrnn.sim.verilator_runtime import OBJECTS, keep_objects, kept_objects, make_variables, runtime_folder

pytestmark = pytest.mark.needs("verilator")


@pytest.fixture
def compiled(tmp_path):
    """A folder with an object of every name."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    for name in OBJECTS:
        (folder / name).write_bytes(name.encode())
    return folder


def test_objects_are_kept_until_one_changes(compiled, tmp_path):
    folder = runtime_folder({}, tmp_path / "cache")
    assert kept_objects(folder) == []
    keep_objects(compiled, folder)
    assert [path.read_bytes() for path in kept_objects(folder)] == [name.encode() for name in OBJECTS]
    (folder / OBJECTS[1]).write_bytes(b"damaged")
    assert kept_objects(folder) == []
    keep_objects(compiled, folder)
    assert len(kept_objects(folder)) == len(OBJECTS)


def test_other_options_and_compilers_have_other_objects(tmp_path, monkeypatch):
    folders = {runtime_folder({}, tmp_path), runtime_folder({"OPT_GLOBAL": "-Os"}, tmp_path)}
    monkeypatch.setenv("CXXFLAGS", "-g")
    folders.add(runtime_folder({}, tmp_path))
    monkeypatch.setattr(module, "_compiler", lambda: "another compiler 1.0")
    folders.add(runtime_folder({}, tmp_path))
    assert len(folders) == 4


def test_options_of_gcc_are_left_out_for_other_compilers(monkeypatch):
    uncached = make_variables.__wrapped__
    monkeypatch.setattr(module, "_compiler", lambda: "clang version 19.1.0")
    assert uncached()["OPT_FAST"] == "-O1"
    monkeypatch.setattr(module, "_compiler", lambda: "c++ 12.2.0\nCopyright (C) 2022 Free Software Foundation, Inc.")
    assert uncached()["OPT_FAST"] == "-O1 -fdisable-rtl-combine"


def test_a_cache_that_cannot_be_written_is_left_alone(compiled, tmp_path):
    folder = runtime_folder({}, tmp_path / "other")
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("not ours")
    keep_objects(compiled, folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (tmp_path / "cache").write_text("a file in its place")
    folder = runtime_folder({}, tmp_path / "cache")
    keep_objects(compiled, folder)
    assert kept_objects(folder) == []
