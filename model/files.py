"""Output files and folders that appear under their final name only when they are complete.

Until then they have a hidden temporary name beside the target.  That name contains the process that writes them, so
that the next run can remove the leftovers of killed processes, and nothing else.
"""

import atexit
import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, require, shortened

# Names inside the temporary folder of a replaced folder: the new content, the old content, and the file that holds the
# name of the target.
NEW, OLD, TARGET = "new", "old", "target"
_PREFIX = ".chessrnn-"


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename it, so that readers see either the old content or the new.

    Missing folders are created.

    Raises
    ------
    InvalidFileError
        The folder cannot be created, the file cannot be written, the disk is full, or the path is a device, a pipe, a
        folder or a symbolic link, which a rename would destroy.
    """
    path = Path(path)
    require_regular_file(path)
    with _as_invalid_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        handle, temporary = tempfile.mkstemp(prefix=_own_prefix(), dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                # A full disk may be reported only here, and a power failure must not leave an empty file behind.
                os.fsync(stream.fileno())
            # mkstemp creates private files, but output must have the permissions of any other new file of the user.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def require_regular_file(path: str | Path) -> None:
    """Check that a file can be written: the path is a regular file or does not exist yet.

    Commands that run long before they write call this first.

    Raises
    ------
    InvalidFileError
        The path is a device, a pipe, a socket, a folder or a symbolic link, or cannot be accessed.
    """
    path = Path(path)
    with _as_invalid_file(path):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
        if not stat.S_ISREG(mode):
            raise InvalidFileError(f"{_name(path)} must be a regular file or a new one, not {_kind(mode)}")
    require_folder(path.parent)


def require_folder(path: str | Path) -> None:
    """Check that files can be written into a folder, which need not exist yet.

    Raises
    ------
    InvalidFileError
        The folder or one above it has the name of something else, or the user must not create files there.
    """
    path = Path(path)
    with _as_invalid_file(path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)  # raises for a name that is too long
        existing = path.absolute()
        while not os.path.lexists(existing) and existing != existing.parent:
            existing = existing.parent
        if not stat.S_ISDIR(os.stat(existing).st_mode):
            found = f"{_kind(os.lstat(existing).st_mode)} at {_name(existing)}"
            raise InvalidFileError(f"{_name(path)} must be a folder or a new one, not {found}")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise InvalidFileError(f"{_name(path)} must be writable: {os.strerror(errno.EACCES)}")
        # The permission says too much of file systems such as /proc.
        with tempfile.TemporaryFile(dir=existing):
            pass


def require_file(path: str | Path, kind: str) -> None:
    """Check before reading that a path is a regular file or a link to one.

    Parameters
    ----------
    path : str or Path
        Path of the file.
    kind : str
        Description of the expected file in the message.

    Raises
    ------
    InvalidFileError
        The path does not exist, is a folder, a device or a pipe, or cannot be accessed.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InvalidFileError(f"{_name(path)} must be {kind}, not a missing file") from None
    except OSError as error:
        raise InvalidFileError(f"{_name(path)} must be {kind}: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise InvalidFileError(f"{_name(path)} must be {kind}, not {_kind(mode)}")


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
        raise InvalidFileError(f"{_name(path)} must be a folder that can be made: {error.strerror or error}") from None
    return path


def require_replaceable(path: str | Path, marker: str, is_ours: Callable[[Path], bool] | None = None) -> None:
    """Check that a directory may be replaced, or created: nothing of somebody else is in it.

    Parameters
    ----------
    path : str or Path
    marker : str
        Name of a file that every directory of this kind holds.
    is_ours : callable, optional
        Function that recognises a directory of this kind by its contents; left out, the marker is enough.

    Raises
    ------
    InvalidValueError
        It is something else than a directory, or one that is neither empty nor of this kind.
    InvalidFileError
        It cannot be read.
    """
    path = Path(path)
    with _as_invalid_file(path):
        if path.is_symlink() or path.exists():
            good = path.is_dir() and not path.is_symlink()
            require(good, "output", "a directory and no symbolic link", str(path))
            found = is_ours(path) if is_ours is not None else (path / marker).exists()
            rule = f"a new directory, an empty one or one that holds {marker}" + (" of this program" if is_ours else "")
            require(found or not any(path.iterdir()), "output", rule, str(path))


@contextlib.contextmanager
def replaced_directory(
    path: str | Path,
    marker: str,
    is_ours: Callable[[Path], bool] | None = None,
    kept: Callable[[Path], Iterable[str]] | None = None,
) -> Iterator[Path]:
    """Let the block fill a temporary directory, which replaces ``path`` when the block ends without an exception.

    Nothing of the old directory survives the swap but what ``kept`` names, and nothing of the new one remains when the
    block fails.

    Parameters
    ----------
    path : str or Path
        Directory to create or to replace.
    marker : str
        Name of a file that every directory of this kind holds.
    is_ours : callable, optional
        See :func:`require_replaceable`.  A directory of somebody else is rejected.
    kept : callable, optional
        Function from the old directory to the names in it that the new one takes over, unless it has them itself.

    Yields
    ------
    Path
        The temporary directory.

    Raises
    ------
    InvalidValueError
        The path is something else than such a directory.
    InvalidFileError
        The directory cannot be created or filled, for example because the disk is full.
    """
    path = Path(path)
    require_replaceable(path, marker, is_ours)
    with _as_invalid_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        temporary = Path(tempfile.mkdtemp(prefix=_own_prefix(), dir=path.parent))
        new, old = temporary / NEW, temporary / OLD
        try:
            new.mkdir()
            (temporary / TARGET).write_text(path.name, encoding="utf-8")
            yield new
            for name in kept(path) if kept is not None and path.exists() else ():
                if not (new / name).exists():
                    _copy(path / name, new / name)
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, old)
            os.rename(new, path)
        finally:
            if old.is_dir() and not path.exists():  # interrupted between the two renames
                os.rename(old, path)
            shutil.rmtree(temporary, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, a symbolic link as it is, or a folder with all that is in it."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a folder for the files of one tool run in the system's temporary folder, and remove it afterwards.

    Raises
    ------
    InvalidFileError
        The folder cannot be created.
    """
    folder = temporary_folder(Path(tempfile.gettempdir()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temporary_folder(parent: Path) -> Path:
    """Create a hidden folder that the caller removes; if it is killed before, the next run does.

    Raises
    ------
    InvalidFileError
        The folder cannot be created.
    """
    with _as_invalid_file(parent):
        remove_leftovers(parent)
        return Path(tempfile.mkdtemp(prefix=_own_prefix(), dir=parent))


@cache
def provide_cache_folder() -> Path:
    """Return the user's cache, and set ``XDG_CACHE_HOME`` to a temporary folder if it cannot be written.

    Yosys and nextpnr come as WebAssembly, whose runtime refuses to start without a cache.

    Raises
    ------
    InvalidFileError
        The temporary folder cannot be created either.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~")) / ".cache")
    with contextlib.suppress(OSError):
        given.mkdir(parents=True, exist_ok=True)
        if given.is_absolute() and os.access(given, os.W_OK | os.X_OK):
            return given
    folder = temporary_folder(Path(tempfile.gettempdir()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder


def remove_leftovers(parent: Path) -> None:
    """Remove the temporary files and folders of this module whose process has ended from one folder.

    Leftovers of processes on other machines or in other containers that share the folder stay, as their process numbers
    mean nothing here.
    """
    for entry in parent.iterdir():
        found = re.fullmatch(rf"{re.escape(_PREFIX)}([0-9a-f]{{8}})-(\d+)-\w+", entry.name)
        if found is None or found[1] != _machine() or _runs(int(found[2])):
            continue
        with contextlib.suppress(OSError):
            if entry.is_dir() and not entry.is_symlink():
                _finish_swap(entry)
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def _finish_swap(temporary: Path) -> None:
    """Move the new folder to its place if a killed run had already moved the old one away."""
    if (temporary / OLD).is_dir() and (temporary / NEW).is_dir():
        target = temporary.parent / (temporary / TARGET).read_text(encoding="utf-8")
        if not target.exists():
            os.rename(temporary / NEW, target)


def _own_prefix() -> str:
    return f"{_PREFIX}{_machine()}-{os.getpid()}-"


@cache
def _machine() -> str:
    """Hash of the host and of its process name space, within which process numbers are unique, in eight digits."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # the process of another user
    return True


@contextlib.contextmanager
def _as_invalid_file(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidFileError(f"{_name(path)} must be writable: {error.strerror or error}") from None


def _name(path: Path) -> str:
    return shortened(str(path), 120)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISREG: "a file",
        stat.S_ISLNK: "a symbolic link",
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in kinds.items() if test(mode)), "something else")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
