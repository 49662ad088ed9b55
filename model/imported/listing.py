"""Names in messages: as many as fit into one line."""

from collections.abc import Sequence

MAX_CHARACTERS = 90


def listed(names: Sequence[str]) -> str:
    """Join quoted names with commas; names that would make a message too long are counted instead."""
    shown, length = [], 0
    for name in names:
        length += len(repr(name)) + 2
        if shown and length > MAX_CHARACTERS:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(repr(name))
    return ", ".join(shown)
