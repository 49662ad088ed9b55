import os

import pytest

from chessrnn.model.errors import InvalidFileError, InvalidValueError
from chessrnn.model.files import replaced_directory, write_atomic


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def test_write_atomic_replaces(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert names(path.parent) == ["a.txt"]


def test_write_atomic_failure_keeps_the_old(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomic(path, "one")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InvalidFileError, match="must be writable: disk full"):
        write_atomic(path, "two")
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


def test_directory_appears_whole(tmp_path):
    target = tmp_path / "build"
    for content in ("one", "two"):
        with replaced_directory(target, "marker") as directory:
            (directory / "marker").write_text(content)
            (directory / content).touch()
            assert not (target / content).exists()
        assert names(target) == ["marker", content]
    assert names(tmp_path) == ["build"]


def test_directory_failure_leaves_the_old(tmp_path):
    target = tmp_path / "build"
    with replaced_directory(target, "marker") as directory:
        (directory / "marker").write_text("one")

    def fail_half_way():
        with replaced_directory(target, "marker") as directory:
            (directory / "marker").write_text("two")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert (target / "marker").read_text() == "one"
    assert names(tmp_path) == ["build"]


def test_somebody_elses_directory_is_refused(tmp_path):
    (tmp_path / "precious.txt").touch()
    text = "output must be a new directory, an empty one or one that holds marker, not "
    with pytest.raises(InvalidValueError, match=text), replaced_directory(tmp_path, "marker"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["precious.txt"]
