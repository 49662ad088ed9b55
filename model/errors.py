"""Errors that a user can correct.

Commands print these as one line and exit with status 2; every other exception is a bug of the program and keeps its
traceback.  The grammar of a message is ``<field> must be <rule>, not <value!r>``.
"""

from pathlib import Path


class UserError(Exception):
    """Base class of all errors that the input of the program causes."""


class InvalidValueError(UserError, ValueError):
    """A field has a value of the right type that breaks a rule."""


class InvalidTypeError(UserError, TypeError):
    """A field has the wrong type."""


class InvalidFileError(UserError):
    """A file is missing, damaged or does not belong to the configuration."""


class MissingToolError(UserError):
    """A program or package that the command needs is not installed."""


class Interrupted(Exception):
    """The user pressed Ctrl-C, and the checkpoint has been written.

    Attributes
    ----------
    path : Path
        The checkpoint.
    step : int
        Number of updates that the checkpoint contains.
    """

    def __init__(self, path: Path, step: int):
        super().__init__(f"interrupted at step {step}: {path} is complete, and the same command continues from it")
        self.path, self.step = path, step


def require(condition: bool, field: str, rule: str, value: object) -> None:
    """Raise :class:`InvalidValueError` in the common grammar unless ``condition`` holds."""
    if not condition:
        raise InvalidValueError(f"{field} must be {rule}, not {value!r}")


def require_type(value: object, kind: type | tuple[type, ...], field: str, rule: str) -> None:
    """Raise :class:`InvalidTypeError` unless ``value`` is a ``kind`` (``bool`` never passes for ``int``)."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InvalidTypeError(f"{field} must be {rule}, not {value!r}")
