"""Names of files for the parts of a model."""

from chessrnn.model.config import MAX_NAME
from chessrnn.model.unique_names import plain_name, unique_name


def test_names_are_plain():
    assert plain_name("/dec/LSTM.1 ä-b_c") == "_dec_LSTM_1_-b_c"
    assert plain_name("") == ""


def test_names_are_unique():
    used = []
    for name in ("a.b", "a_b", "a/b", "a_b_2", "c"):
        used.append(unique_name(name, used))
    assert used == ["a_b", "a_b_2", "a_b_3", "a_b_2_2", "c"]


def test_long_names_stay_unique_and_short():
    long = "x" * 300
    first = unique_name(long, ())
    second = unique_name(long + "y", {first})
    assert first != second
    assert len(first) < len(second) <= MAX_NAME
