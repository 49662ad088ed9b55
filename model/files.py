"""Output that is never half-written: files and whole directories appear under their name when complete."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, require


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename it: readers see the old content or the new.

    Raises
    ------
    InvalidFileError
        The folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
            # mkstemp makes files private; a report is as readable as any other file of its user.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InvalidFileError(f"{path} must be writable: {error.strerror or error}") from None


def make_folder(path: str | Path) -> Path:
    """The folder, made when it is missing.

    Raises
    ------
    InvalidFileError
        It cannot be made, or something else has its name.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidFileError(f"{path} must be a folder that can be made: {error.strerror or error}") from None
    return path


@contextlib.contextmanager
def replaced_directory(path: str | Path, marker: str) -> Iterator[Path]:
    """Fill a directory under a temporary name; it takes the place of ``path`` when the block ends well.

    Nothing of the old directory survives the swap, and nothing of the new one stays when the block fails.

    Parameters
    ----------
    path : str or Path
    marker : str
        A file that every such directory holds.  A directory without it is somebody else's and is refused.
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
