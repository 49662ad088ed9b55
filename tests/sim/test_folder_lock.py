"""Processes that use one generated folder wait for each other, and a killed one stops nobody."""

import os
import re
import signal
import subprocess
import sys

import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.sim.folder_lock import lock_file, locked_folder

# Prints a line when it has the lock, and keeps it until its input ends.
HOLDER = """\
import sys
from chessrnn.sim.folder_lock import locked_folder
with locked_folder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(folder):
    """Start a process that waits for the lock of a folder and keeps it."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_second_process_waits_and_says_so_once(tmp_path):
    folder = tmp_path / "build" / "tiny"
    first = hold(folder)
    assert first.stdout.readline() == "locked\n"
    second = hold(folder)
    assert second.stderr.readline() == f"waiting for {folder}, which process {first.pid} uses\n"
    assert first.communicate("") == ("", "")
    assert second.communicate("") == ("locked\n", "")
    assert list(folder.parent.iterdir()) == []


def test_a_killed_process_leaves_no_dead_lock(tmp_path):
    first = hold(tmp_path / "tiny")
    assert first.stdout.readline() == "locked\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert lock_file(tmp_path / "tiny").exists()
    second = hold(tmp_path / "tiny")
    assert second.communicate("") == ("locked\n", "")
    assert list(tmp_path.iterdir()) == []


def test_locks_nest(tmp_path, capsys):
    with locked_folder(tmp_path / "a"), locked_folder(tmp_path / "b"):
        with locked_folder(tmp_path / "." / "a"):
            pass
        assert lock_file(tmp_path / "a").read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_an_error_frees_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path / "a"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    assert hold(tmp_path / "a").communicate("") == ("locked\n", "")


def test_names_as_long_as_a_file_name_can_be(tmp_path):
    with locked_folder(tmp_path / ("a" * 255)):
        pass


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / "file").touch()
    text = f"^{re.escape(str(tmp_path))}/file/a must be a folder that can be locked: "
    with pytest.raises(InvalidFileError, match=text), locked_folder(tmp_path / "file" / "a"):
        pytest.fail("the block must not run")


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_two_simulations_of_one_name_at_once(tmp_path):
    """The designs differ, so that either process would replace the folder under the other one."""
    first = hold(tmp_path / "build" / "tiny")
    assert first.stdout.readline() == "locked\n"
    command = [sys.executable, "-m", "chessrnn", "sim", "--config", "tiny", "--sim", "icarus", "--steps", "3"]
    command += ["--set", "architecture.arithmetic=multiplier"]
    processes = [
        subprocess.Popen(
            [*command, "--set", f"architecture.engine={engine}"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for engine in ("direct", "fast")
    ]  # fmt: skip
    for process in processes:
        assert process.stderr.readline() == f"waiting for build/tiny, which process {first.pid} uses\n"
    first.communicate("")
    for process in processes:
        output, error = process.communicate()
        assert process.returncode == 0, error
        assert re.search(r"^mismatches +0$", output, re.MULTILINE), output
        assert "waiting" not in error
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["tiny"]
