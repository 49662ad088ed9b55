import pytest
from hypothesis import given
from hypothesis import strategies as st

from chessrnn.model.errors import InvalidTypeError, InvalidValueError
from chessrnn.model.qformat import MAX_WIDTH, QFormat


@given(st.integers(-20, 40), st.integers(-20, 40))
def test_round_trip_and_range(integer_bits, fraction_bits):
    width = integer_bits + fraction_bits
    if not 2 <= width <= MAX_WIDTH:
        with pytest.raises(InvalidValueError, match=r"format must be Qm\.n with 2 <= m \+ n <= 32, not 'Q"):
            QFormat(integer_bits, fraction_bits)
        return
    fmt = QFormat(integer_bits, fraction_bits)
    assert QFormat.parse(str(fmt)) == fmt
    assert QFormat.parse(fmt) is fmt
    assert (fmt.width, fmt.max - fmt.min + 1, fmt.max + fmt.min) == (width, 1 << width, -1)
    assert fmt.lsb * 2.0**fraction_bits == 1.0


@pytest.mark.parametrize("text", ["4.8", "Q4,8", "Q4.8 ", "q4.8", "", 8, None, 4.8])
def test_wrong_text(text):
    with pytest.raises(InvalidTypeError, match=r"format must be a string of the form Qm\.n, not "):
        QFormat.parse(text)


@pytest.mark.parametrize("bits", [1.0, "4", True])
def test_wrong_type(bits):
    with pytest.raises(InvalidTypeError, match=r"format must be Qm\.n with integers m and n, not "):
        QFormat(bits, 8)
