"""Lock of a generated folder: processes that write, compile or simulate in one folder do so one after the other."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from chessrnn.model.errors import InvalidFileError, require, shortened

# Seconds between two attempts to get a lock that another process holds.
POLL_SECONDS = 0.2


@contextlib.contextmanager
def locked_folder(directory: str | Path) -> Iterator[None]:
    """Let no other process use a folder during the block; where one does, wait, and say so once on stderr.

    The lock is a hidden file beside the folder, since the folder itself may be replaced.  The operating system frees it
    when its process ends in any way.  Within one thread locks of the same folder nest.

    Parameters
    ----------
    directory : str or Path
        The folder, which need not exist yet.

    Raises
    ------
    InvalidFileError
        The lock cannot be created beside the folder.
    """
    is_inside = Path(os.path.realpath(directory)).name != ""
    require(is_inside, "a folder that is locked", "one inside another", str(directory))
    path = lock_file(directory)
    lock = FileLock(path, is_singleton=True)
    nested = lock.is_locked
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # Where no file can be made, waiting would never end.
            path.touch()
            print(f"waiting for {directory}, which {_holder(path)} uses", file=sys.stderr, flush=True)
            lock.acquire(poll_interval=POLL_SECONDS)
        if not nested:
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        lock.release()
        name = shortened(str(directory), 120)
        raise InvalidFileError(f"{name} must be a folder that can be locked: {error.strerror or error}") from None
    try:
        yield
    finally:
        if not nested:
            # While it is still locked: a process that waits for the removed file notices, and makes a new one.
            path.unlink(missing_ok=True)
        lock.release()


def lock_file(directory: str | Path) -> Path:
    """Path of the lock of a folder."""
    folder = Path(os.path.realpath(directory))
    # The name itself may be as long as a file name can be.
    return folder.with_name(f".chessrnn-lock-{hashlib.sha256(folder.name.encode()).hexdigest()[:16]}")


def _holder(path: Path) -> str:
    """The process whose number is in a lock, in words."""
    try:
        return f"process {int(path.read_text(encoding='ascii'))}"
    except (OSError, ValueError):  # not written yet, or just removed
        return "another process"
