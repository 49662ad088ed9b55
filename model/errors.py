"""Errors that a user can mend.

Commands print these as one line and exit with status 2; every other exception is a bug of ours and keeps
its traceback.  The grammar of a message is ``<field> must be <rule>, not <value!r>``.
"""

from pathlib import Path


class UserError(Exception):
    """Base of everything that is the input's fault."""


class InvalidValueError(UserError, ValueError):
    """A field has the right type and a value that breaks a rule."""


class InvalidTypeError(UserError, TypeError):
    """A field has the wrong type."""


class InvalidFileError(UserError):
    """A file is missing, damaged or does not belong to the configuration."""


class MissingToolError(UserError):
    """A program or package that the command needs is not installed."""


class Interrupted(Exception):
    """Ctrl-C, after the checkpoint was written.

    Attributes
    ----------
    path : Path
        The checkpoint.
    step : int
    """

    def __init__(self, path: Path, step: int):
        super().__init__(f"interrupted at step {step}: {path} is complete, the same command continues")
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
