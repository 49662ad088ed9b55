"""A power of two and an offset per element of x, which the weights of the first layer contain in inverse.

W_x·x + b equals (W_x·2^-e)·((x - o)·2^e) + (b + W_x·o).  So elements of very different magnitudes, or a small signal on
a large offset, use the few bits of x equally well, and the hardware is the same: whoever feeds the accelerator computes
x' = (x - o)·2^e before x' is rounded to the format of x.
"""

from dataclasses import dataclass

import numpy as np

from chessrnn.model.errors import require

MAX_EXPONENT = 64


@dataclass(frozen=True)
class InputFold:
    """A power of two and an offset for every element of x.

    Attributes
    ----------
    exponents : tuple of int
        e of every element, from -64 to 64.
    offsets : tuple of float
        o of every element, in the units of x.

    Raises
    ------
    InvalidValueError
        The numbers of exponents and offsets differ, or one is out of range.
    """

    exponents: tuple[int, ...]
    offsets: tuple[float, ...]

    def __post_init__(self):
        require(len(self.offsets) == len(self.exponents), "offsets", f"{len(self.exponents)}", len(self.offsets))
        for exponent in self.exponents:
            rule = f"from {-MAX_EXPONENT} to {MAX_EXPONENT}"
            require(-MAX_EXPONENT <= exponent <= MAX_EXPONENT, "exponents", rule, exponent)
        for offset in self.offsets:
            require(bool(np.isfinite(offset)), "offsets", "finite numbers", offset)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Compute x' = (x - o)·2^e of inputs (..., X)."""
        return (np.asarray(x, dtype=np.float64) - np.array(self.offsets)) * 2.0 ** np.array(self.exponents)

    def to_dict(self) -> dict:
        """Exponents and offsets as plain JSON values."""
        return {"exponents": list(self.exponents), "offsets": list(self.offsets)}


def folded(fold: InputFold | None, x: np.ndarray) -> np.ndarray:
    """Apply a fold, or nothing where there is none."""
    return np.asarray(x, dtype=np.float64) if fold is None else fold.apply(x)
