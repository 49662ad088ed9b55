"""Names of files and folders for the parts of a model, whose own names may hold any character."""

import re
from collections.abc import Collection

from chessrnn.model.config import MAX_NAME

# Room for what callers and :func:`unique_name` append.
MAX_PLAIN = MAX_NAME - 8


def plain_name(text: str) -> str:
    """Make a name of letters, digits, ``_`` and ``-`` alone."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)


def unique_name(text: str, used: Collection[str]) -> str:
    """Make a name of letters, digits, ``_`` and ``-`` that is not used yet, with a number where it would be."""
    plain = plain_name(text)[:MAX_PLAIN]
    found, number = plain, 1
    while found in used:
        number += 1
        found = f"{plain}_{number}"
    return found
