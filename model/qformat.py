"""Fixed-point formats in the notation ``Qm.n``."""

import re
from dataclasses import dataclass

from chessrnn.model.errors import InvalidTypeError, require, require_type, shown

MAX_WIDTH = 32


@dataclass(frozen=True)
class QFormat:
    """A two's-complement fixed-point format ``Qm.n``: value = integer · 2^-n.

    Parameters
    ----------
    integer_bits : int
        m, the number of integer bits *including* the sign bit.  It may be zero or negative; the width m + n must be
        from 2 to 32.
    fraction_bits : int
        n, the number of fraction bits.  It may be negative, which makes an LSB larger than one.
    """

    integer_bits: int
    fraction_bits: int

    def __post_init__(self):
        require_type(self.integer_bits, int, "format", "Qm.n with integers m and n")
        require_type(self.fraction_bits, int, "format", "Qm.n with integers m and n")
        require(2 <= self.width <= MAX_WIDTH, "format", f"Qm.n with 2 <= m + n <= {MAX_WIDTH}", str(self))

    @classmethod
    def parse(cls, text: "str | QFormat") -> "QFormat":
        """Convert ``"Q4.8"`` to ``QFormat(4, 8)``; a ``QFormat`` is returned as it is."""
        if isinstance(text, cls):
            return text
        match = re.fullmatch(r"Q(-?\d{1,3})\.(-?\d{1,3})", text) if isinstance(text, str) else None
        if match is None:
            raise InvalidTypeError(f"format must be a string of the form Qm.n, not {shown(text)}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self):
        return f"Q{self.integer_bits}.{self.fraction_bits}"

    @property
    def width(self) -> int:
        """Number of bits, sign included."""
        return self.integer_bits + self.fraction_bits

    @property
    def min(self) -> int:
        """Least integer code."""
        return -(1 << (self.width - 1))

    @property
    def max(self) -> int:
        """Greatest integer code."""
        return (1 << (self.width - 1)) - 1

    @property
    def lsb(self) -> float:
        """Real value of the least significant bit."""
        return 2.0**-self.fraction_bits
