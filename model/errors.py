"""Errors that a user can correct.

Commands print these as one line and exit with status 2; every other exception is a bug of the program and keeps its
traceback.  The grammar of a message is ``<field> must be <rule>, not <value!r>``.
"""

from pathlib import Path

# Greatest length of a rejected value or name in a message, so that the content of a file cannot flood the terminal.
MAX_SHOWN = 80


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

    def __reduce__(self):
        """Recreate the error in another process from what it was made of."""
        return Interrupted, (self.path, self.step)


def shortened(text: str, limit: int = MAX_SHOWN) -> str:
    """Return the text, or its beginning and its end around ``...`` when it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    begin = (limit - 3 + 1) // 2
    return f"{text[:begin]}...{text[len(text) - (limit - 3 - begin) :]}"


def shown(value: object) -> str:
    """Return ``repr(value)`` in at most 80 characters, or a description of a value for which ``repr`` fails."""
    if isinstance(value, (str, bytes)) and len(value) > MAX_SHOWN:
        # The text is cut before it is quoted, so that a long one is not copied and the quotes remain.
        half = MAX_SHOWN // 2 - 4
        if isinstance(value, str):
            return shortened(repr(value[:half] + "..." + value[-half:]))
        return shortened(repr(value[:half] + b"..." + value[-half:]))
    try:
        return shortened(repr(value))
    except ValueError:  # Python refuses to print longer integers than its limit.
        size = f" of {value.bit_length()} bits" if isinstance(value, int) else " with too long an integer"
        return f"<{type(value).__name__}{size}>"
    except RecursionError:
        return f"<{type(value).__name__} nested too deeply>"


def reason(error: Exception) -> str:
    """Return the text of another package's exception in one short line, or the exception's type where it has none.

    The text may quote a damaged file, so that characters that a terminal would obey are replaced.
    """
    text = "".join(character if character.isprintable() else "?" for character in " ".join(str(error).split()))
    return shortened(text) or type(error).__name__


def require(condition: bool, field: str, rule: str, value: object) -> None:
    """Raise :class:`InvalidValueError` in the common grammar unless ``condition`` holds."""
    if not condition:
        raise InvalidValueError(f"{field} must be {rule}, not {shown(value)}")


def require_type(value: object, kind: type | tuple[type, ...], field: str, rule: str) -> None:
    """Raise :class:`InvalidTypeError` unless ``value`` is a ``kind`` (``bool`` never passes for ``int``)."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InvalidTypeError(f"{field} must be {rule}, not {shown(value)}")
