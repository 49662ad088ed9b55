"""Messages: one grammar, and refused values of any size in at most 80 characters."""

import re

import numpy as np
import pytest

from chessrnn.model.errors import (
    MAX_SHOWN,
    InvalidTypeError,
    InvalidValueError,
    reason,
    require,
    require_type,
    shortened,
    shown,
)


def nested(depth: int) -> list:
    value = []
    for _ in range(depth):
        value = [value]
    return value


HUGE = [
    ("a" * 10**6, r"'a{36}\.\.\.a{36}'"),
    (b"\x00" * 10**6, r"b'(\\x00)+\\*(x0*)?\.\.\..*'"),
    ("\U0001f600\n" * 10**6, "'.*'"),
    (10**5000, r"<int of 16610 bits>"),
    (-(10**5000), r"<int of 16610 bits>"),
    ([10**5000], "<list with too long an integer>"),
    (list(range(10**5)), r"\[0, 1, .*\.\.\..*, 99999\]"),
    (nested(10**5), "<list nested too deeply>"),
    ({"a" * 200: 1}, r"\{'a+\.\.\.a+': 1\}"),
    (tuple("ab" * 60), r"\('a'.*\)"),
]


@pytest.mark.parametrize(("value", "pattern"), HUGE, ids=[pattern for _, pattern in HUGE])
def test_huge_values_are_shortened(value, pattern):
    text = shown(value)
    assert len(text) <= MAX_SHOWN
    assert re.fullmatch(pattern, text, re.DOTALL), text
    with pytest.raises(InvalidValueError) as caught:
        require(False, "field", "small", value)
    assert str(caught.value) == f"field must be small, not {text}"
    with pytest.raises(InvalidTypeError) as caught:
        require_type(value, float, "field", "a float")
    assert str(caught.value) == f"field must be a float, not {text}"


@pytest.mark.parametrize("value", [0, -1, 1.5, "a", [7, 7, 7, 30], None, True, ("x",), "a" * 78, np.int64(3)])
def test_small_values_are_shown_whole(value):
    assert shown(value) == repr(value)


def test_shortened_keeps_both_ends():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcd...ijk"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one\n  two"), "one two"),
        (ValueError("\x1b[2Jred\x07"), "?[2Jred?"),
        (ValueError(), "ValueError"),
        (ValueError("\n "), "ValueError"),
    ],
)
def test_reasons_of_other_packages_are_one_plain_line(error, text):
    assert reason(error) == text
    assert len(reason(ValueError("a" * 10**6))) == MAX_SHOWN
