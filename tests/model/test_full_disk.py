"""A full disk and a home folder that cannot be written: one line, and nothing half-written is left."""

import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import provide_cache_folder, replaced_directory, write_atomic
from chessrnn.model.presets import preset
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_weights

# More than the limit below, and far less than what a design needs.
LIMIT = 1000


@pytest.fixture
def full_disk():
    """Let no file of this process grow beyond some bytes: the error is that of a full disk but for its number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit(tmp_path, full_disk):
    (tmp_path / "file").write_bytes(b"old")
    text = f"^{tmp_path}/file must be writable: File too large$"
    with pytest.raises(InvalidFileError, match=text):
        write_atomic(tmp_path / "file", bytes(2 * LIMIT))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_does_not_fit(tmp_path, full_disk):
    text = f"^{tmp_path}/folder must be writable: File too large$"
    with pytest.raises(InvalidFileError, match=text), replaced_directory(tmp_path / "folder", "marker") as folder:
        (folder / "marker").write_bytes(bytes(2 * LIMIT))
    assert list(tmp_path.iterdir()) == []


def test_a_weight_image_that_does_not_fit(tmp_path, full_disk):
    weights = random_weights(preset("tiny"), np.random.default_rng(0))
    with pytest.raises(InvalidFileError, match="must be writable: File too large$"):
        WeightImage(weights).save(tmp_path / "image.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_message_of_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # where a disk that is filled by others shows it
    with pytest.raises(InvalidFileError, match=f"^{tmp_path}/file must be writable: No space left on device$"):
        write_atomic(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


# -- the cache of WebAssembly programs -------------------------------------------------------------------------


def test_a_cache_that_can_be_written_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    provide_cache_folder.__wrapped__()
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "cache")
    assert (tmp_path / "cache").is_dir()


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_a_cache_that_cannot_be_written_is_replaced_for_the_process(variable, tmp_path):
    (tmp_path / "file").touch()
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    environment[variable] = str(tmp_path / "file" / "home")
    code = (
        "import os; from chessrnn.model.files import provide_cache_folder; provide_cache_folder(); "
        "folder = os.environ['XDG_CACHE_HOME']; print(folder, os.access(folder, os.W_OK))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    folder, usable = done.stdout.split()
    assert usable == "True"
    assert not os.path.exists(folder)
