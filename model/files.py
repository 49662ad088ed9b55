"""Output files and directories that appear under their final name only when they are complete."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, require


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename it, so that readers see either the old content or the new.

    Missing folders are created.

    Raises
    ------
    InvalidFileError
        The folder cannot be created or the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
            # mkstemp creates private files, but output must have the permissions of any other new file of the user.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InvalidFileError(f"{path} must be writable: {error.strerror or error}") from None


def make_folder(path: str | Path) -> Path:
    """Create a folder, with its parents, unless it exists, and return its path.

    Raises
    ------
    InvalidFileError
        The folder cannot be created, or a file has its name.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidFileError(f"{path} must be a folder that can be made: {error.strerror or error}") from None
    return path


@contextlib.contextmanager
def replaced_directory(path: str | Path, marker: str) -> Iterator[Path]:
    """Let the block fill a temporary directory, which replaces ``path`` when the block ends without an exception.

    Nothing of the old directory survives the swap, and nothing of the new one remains when the block fails.

    Parameters
    ----------
    path : str or Path
        Directory to create or to replace.
    marker : str
        Name of a file that every directory of this kind holds.  A directory that is not empty and lacks this file
        belongs to somebody else and is rejected.

    Yields
    ------
    Path
        The temporary directory.
    """
    path = Path(path)
    if path.exists():
        require(path.is_dir(), "output", "a directory", str(path))
        ours = (path / marker).exists() or not any(path.iterdir())
        require(ours, "output", f"a new directory, an empty one or one that holds {marker}", str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InvalidFileError(f"{path} must be writable: {error.strerror or error}") from None
    try:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, old)
        os.rename(new, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
