import os
import signal
import stat
import subprocess
import sys
from functools import partial

import pytest

from chessrnn.model.errors import InvalidFileError, InvalidValueError
from chessrnn.model.files import (
    NEW,
    OLD,
    TARGET,
    _machine,
    make_folder,
    replaced_directory,
    require_file,
    require_folder,
    require_regular_file,
    scratch_folder,
    write_atomic,
)


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


# -- what is not a regular file --------------------------------------------------------------------------------


def make_irregular(kind: str, path) -> None:
    if kind == "a symbolic link":
        (path.parent / "precious.txt").write_text("precious")
        path.symlink_to("precious.txt")
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("this user may not make device nodes")


@pytest.mark.parametrize("kind", ["a symbolic link", "a pipe", "a folder", "a device"])
def test_only_regular_files_are_replaced(kind, tmp_path):
    path = tmp_path / "out"
    make_irregular(kind, path)
    before = os.lstat(path)
    text = f"^{path} must be a regular file or a new one, not {kind}$"
    for check in (lambda: write_atomic(path, "new"), lambda: require_regular_file(path)):
        with pytest.raises(InvalidFileError, match=text):
            check()
    assert (os.lstat(path).st_ino, os.lstat(path).st_mode) == (before.st_ino, before.st_mode)
    if kind == "a symbolic link":
        assert (tmp_path / "precious.txt").read_text() == "precious"
        assert names(tmp_path) == ["out", "precious.txt"]


def test_the_null_device_is_refused():
    with pytest.raises(InvalidFileError, match="^/dev/null must be a regular file or a new one, not a device$"):
        require_regular_file("/dev/null")


@pytest.mark.parametrize("kind", ["a symbolic link", "a pipe", "a file"])
def test_only_directories_are_replaced(kind, tmp_path):
    path = tmp_path / "build"
    if kind == "a symbolic link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "marker").touch()
        path.symlink_to("elsewhere")
    elif kind == "a file":
        path.touch()
    else:
        os.mkfifo(path)
    text = "^output must be a directory and no symbolic link, not "
    with pytest.raises(InvalidValueError, match=text), replaced_directory(path, "marker"):
        pytest.fail("the block must not run")


def test_what_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    long = tmp_path / ("a" * 300)
    for path, text in ((tmp_path / "file" / "x", "Not a directory"), (long, "File name too long")):
        for call in (partial(write_atomic, content="x"), make_folder, require_folder):
            with pytest.raises(InvalidFileError, match=f"must be .*({text}|not a file at {tmp_path}/file)$") as caught:
                call(path)
            assert len(str(caught.value)) < 250
    with pytest.raises(InvalidFileError, match="File name too long"), replaced_directory(long, "marker"):
        pytest.fail("the block must not run")
    with pytest.raises(InvalidFileError, match="must be a model, not a folder$"):
        require_file(tmp_path, "a model")
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old(tmp_path):
    """Data beyond the limit for a file's size, which stands for the disk's: the old file and folder stay, whole."""
    write_atomic(tmp_path / "a.txt", "one")
    with replaced_directory(tmp_path / "build", "marker") as directory:
        (directory / "marker").write_text("one")
    script = (
        "import resource, signal, sys\n"
        "from chessrnn.model.files import replaced_directory, write_atomic\n"
        "from chessrnn.model.errors import InvalidFileError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for build in (False, True):\n"
        "    try:\n"
        "        if build:\n"
        "            with replaced_directory('build', 'marker') as directory:\n"
        "                (directory / 'marker').write_text(2000 * 'x')\n"
        "        else:\n"
        "            write_atomic('a.txt', 2000 * 'x')\n"
        "    except InvalidFileError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "a.txt must be writable: File too large\nbuild must be writable: File too large\n"
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "build" / "marker").read_text() == "one"
    assert names(tmp_path) == ["a.txt", "build"]


# -- leftovers of killed runs ----------------------------------------------------------------------------------

SLEEPER = """
import sys, time
from chessrnn.model.files import replaced_directory
with replaced_directory("build", "marker") as directory:
    (directory / "marker").write_text("half")
    print("begun", flush=True)
    time.sleep(600)
"""


def test_leftovers_of_a_killed_run_are_removed_by_the_next(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"begun\n"
        (hidden,) = names(tmp_path)
        write_atomic(tmp_path / "a.txt", "one")
        assert names(tmp_path) == [hidden, "a.txt"], "what a running process works on stays"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    write_atomic(tmp_path / "a.txt", "two")
    assert names(tmp_path) == ["a.txt"]


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_ours_is_removed(tmp_path):
    gone = dead_process()
    ours = tmp_path / f".chessrnn-{_machine()}-{gone}-abc_1234"
    others = [".chessrnn-00000000-1-abcdefgh", f".chessrnn-{_machine()}-{os.getpid()}-abcdefgh", ".chessrnn", ".a.b"]
    for name in (ours.name, *others):
        (tmp_path / name).write_text("x")
    with replaced_directory(tmp_path / "build", "marker") as directory:
        (directory / "marker").touch()
    assert names(tmp_path) == sorted([*others, "build"])


def test_a_swap_that_was_killed_half_way_is_finished(tmp_path):
    hidden = tmp_path / f".chessrnn-{_machine()}-{dead_process()}-abcdefgh"
    for side in (NEW, OLD):
        (hidden / side).mkdir(parents=True)
        (hidden / side / "marker").write_text(side)
    (hidden / TARGET).write_text("build")
    write_atomic(tmp_path / "a.txt", "one")
    assert names(tmp_path) == ["a.txt", "build"]
    assert (tmp_path / "build" / "marker").read_text() == NEW


def test_scratch_folders_end_with_their_block(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder() as folder:
        (folder / "a").touch()
        assert folder.parent == tmp_path
    assert names(tmp_path) == []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(InvalidFileError, match="none must be writable: No such file"), scratch_folder():
        pytest.fail("the block must not run")
