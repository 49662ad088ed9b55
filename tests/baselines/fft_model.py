"""Fixed-point model of a circulant product by FFT, the method of published circulant LSTM hardware, in NumPy.

y = w ∗ x, the cyclic convolution of k elements, is an inverse FFT of the product of two spectra.  The spectrum of a
real vector consists of k real numbers.  As in the fast engine, z^k - 1 = (z^{k/2} - 1)·(z^{k/2} + 1) is split again and
again; a residue modulo z^h + 1 becomes h/2 complex *bins*, where the fast engine has Karatsuba's products.  Bins with
h ≤ 2 are integers.  Others have irrational twiddle factors, and are rounded to ``fraction_bits``.

The weights are stored as their spectrum, computed in float64 and rounded once.  Products and their sums over the blocks
of a row are exact.  The inverse FFT rounds the sums to integers, its twiddled values once more, and the result once.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chessrnn.model.fixed_point import shift_half_up
from chessrnn.model.widths.interval import Interval, signed_bits, signed_interval

# Bits of a twiddle factor behind its point, beyond the fraction bits of a spectrum: the rounding of the factor then
# weighs less than that of the value, forward with its 9 or 10 integer bits, inverse with those of a whole sum.
FORWARD_TWIDDLE_BITS, INVERSE_TWIDDLE_BITS = 9, 14


@dataclass(frozen=True)
class FftFormat:
    """Sizes and formats of the datapath.

    Parameters
    ----------
    block_size : int
        k: 4, 8 or 16.
    fraction_bits : int
        Bits behind the point in a spectrum of x, and of the weights.
    weight : Interval
        Range of a weight.
    blocks : int
        Number of blocks whose products a row adds up.
    element_bits : int
        Width of an element of x.
    uniform : bool
        Whether all numbers of a spectrum have the format of the widest, as in published designs.  Otherwise integers
        have no fraction bits, and every number is only as wide as its range.
    """

    block_size: int
    fraction_bits: int
    weight: Interval
    blocks: int
    element_bits: int = 8
    uniform: bool = False

    @property
    def groups(self) -> list[int]:
        """h of every group of numbers modulo z^h + 1, the largest first; 0 stands for the one number modulo z - 1."""
        sizes = [self.block_size >> level for level in range(1, self.block_size.bit_length())]
        return [*sizes, 0]

    @property
    def sizes(self) -> list[int]:
        """h of the group of every number of a spectrum."""
        return [size for size in self.groups for _ in range(max(1, size))]

    @property
    def fractions(self) -> list[int]:
        """Fraction bits of every number of a spectrum."""
        return [self.fraction_bits if self.uniform or size > 2 else 0 for size in self.sizes]

    @property
    def bins(self) -> list[int]:
        """Places of the real parts of the complex bins; the imaginary part is the next number."""
        return [place for place, size in enumerate(self.sizes) if size > 1][::2]

    @cached_property
    def x_ranges(self) -> list[Interval]:
        """Range of every number in a spectrum of x."""
        return [
            self.x_range(form, size) for form, size in zip(transform_matrix(self.block_size), self.sizes, strict=True)
        ]

    @cached_property
    def weight_ranges(self) -> list[Interval]:
        """Range of every number in a spectrum of weights."""
        forms = transform_matrix(self.block_size)
        return [self.weight_range(form, size) for form, size in zip(forms, self.sizes, strict=True)]

    def x_range(self, form: np.ndarray, size: int, numbers: int = 1) -> Interval:
        """Range of a sum of ``numbers`` numbers of x, which is this linear form; every twiddled value is rounded."""
        return self._range(form, size, signed_interval(self.element_bits), numbers * (size // 4))

    def weight_range(self, form: np.ndarray, size: int, numbers: int = 1) -> Interval:
        """Range of a sum of ``numbers`` numbers of the weights, which is this linear form; each of them is rounded."""
        return self._range(form, size, self.weight, numbers - 1)

    @cached_property
    def sum_widths(self) -> list[int]:
        """Width of every number in a sum of products.

        It follows from |re(a·b)| ≤ |re a|·|re b| + |im a|·|im b|, and the same for the imaginary part.
        """
        x, w = ([max(-low, high) for low, high in ranges] for ranges in (self.x_ranges, self.weight_ranges))
        bounds = [a * b for a, b in zip(x, w, strict=True)]
        for re in self.bins:
            im = re + 1
            bounds[re], bounds[im] = x[re] * w[re] + x[im] * w[im], x[re] * w[im] + x[im] * w[re]
        return self.widths([Interval(-bound * self.blocks, bound * self.blocks) for bound in bounds])

    @property
    def output_bits(self) -> int:
        """Width of an element of the result."""
        element, w = (max(-low, high) for low, high in (signed_interval(self.element_bits), self.weight))
        bound = self.blocks * self.block_size * element * w
        return signed_bits(-2 * bound, 2 * bound - 1)

    @property
    def stored_bits(self) -> int:
        """Bits of a stored block of weights."""
        return sum(self.widths(self.weight_ranges))

    def widths(self, ranges: list[Interval]) -> list[int]:
        """Width of every number of a spectrum with these ranges."""
        widths = [interval.bits for interval in ranges]
        return [max(widths)] * len(widths) if self.uniform else widths

    def _range(self, form: np.ndarray, size: int, element: Interval, spare: int) -> Interval:
        """Range of a linear form of the elements, ``spare`` units wider where it is rounded."""
        fraction = self.fraction_bits if self.uniform or size > 2 else 0
        corners = np.outer([element.low, element.high], np.round(form, 12))
        low, high = (int(np.floor(side.sum() * 2.0**fraction + 0.5)) for side in (corners.min(0), corners.max(0)))
        spare = spare if size > 2 else 0
        return Interval(low - spare, high + spare)


def transform_matrix(block_size: int) -> np.ndarray:
    """Matrix from k elements to the k real numbers of their spectrum, in float64.

    A group modulo z^h + 1 has the bins 1, 5, 9, … of an FFT of 2·h, real part before imaginary part; their conjugates
    are the other bins.
    """
    rows, places = [], np.arange(block_size)
    size = block_size // 2
    while size:
        for index in range(max(1, size // 2)):
            turns = (1 + 4 * index) * places / (2 * size)
            rows.append(np.cos(2 * np.pi * turns))
            if size > 1:
                rows.append(-np.sin(2 * np.pi * turns))
        size //= 2
    return np.array([*rows, np.ones(block_size)])


def weight_spectrum(fmt: FftFormat, weights: np.ndarray) -> np.ndarray:
    """Spectrum of blocks of weights as it is stored: (…, k) integers of ``fmt.fractions``, rounded once."""
    exact = weights @ transform_matrix(fmt.block_size).T * 2.0 ** np.array(fmt.fractions)
    # What is an integer would otherwise depend on the last bit of float64.
    return np.floor(np.round(exact, 6) + 0.5).astype(np.int64)


def twiddles(size: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of π·n/h for n < h/2, with ``bits`` fraction bits."""
    angles = np.pi * np.arange(size // 2) / size
    return tuple(np.floor(part(angles) * 2.0**bits + 0.5).astype(np.int64) for part in (np.cos, np.sin))


def butterflies(count: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of the matrix of an FFT of 1, 2 or 4 complex numbers, whose entries are ±1 and ±i."""
    turns = np.outer(np.arange(count), np.arange(count)) * (4 // count)
    return tuple(
        np.round(part).astype(np.int64) for part in (np.cos(np.pi / 2 * turns), sign * np.sin(np.pi / 2 * turns))
    )


def forward(fmt: FftFormat, elements: np.ndarray) -> np.ndarray:
    """Spectrum of blocks of x as the hardware computes it: (…, k) integers of ``fmt.fractions``."""
    values, numbers = elements.astype(np.int64), []
    for size in fmt.groups:
        if size == 0:
            numbers.append(values)
            continue
        minus, values = values[..., :size] - values[..., size:], values[..., :size] + values[..., size:]
        numbers.append(minus if size == 1 else _negacyclic(fmt, minus, size))
    return np.concatenate(numbers, axis=-1) << _missing(fmt)


def _missing(fmt: FftFormat) -> np.ndarray:
    """Fraction bits to append to every number: those of integers in a uniform format, which are zero."""
    return np.array([0 if size > 2 else fraction for size, fraction in zip(fmt.sizes, fmt.fractions, strict=True)])


def _negacyclic(fmt: FftFormat, minus: np.ndarray, size: int) -> np.ndarray:
    """Bins of a residue modulo z^h + 1: complex numbers, twiddled, then an FFT of h/2."""
    re, im = minus[..., : size // 2], -minus[..., size // 2 :]
    if size > 2:
        bits = fmt.fraction_bits + FORWARD_TWIDDLE_BITS
        cosine, sine = twiddles(size, bits)
        re, im = (
            shift_half_up(value, bits - fmt.fraction_bits)
            for value in (re * cosine + im * sine, im * cosine - re * sine)
        )
    real, imaginary = butterflies(size // 2, -1)
    bins = np.stack([re @ real - im @ imaginary, re @ imaginary + im @ real], axis=-1)
    return bins.reshape(*minus.shape[:-1], size)


def multiply(fmt: FftFormat, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exact products of two spectra, bin by bin."""
    result = x * weights
    for re in fmt.bins:
        a, b, c, d = x[..., re], x[..., re + 1], weights[..., re], weights[..., re + 1]
        result[..., re], result[..., re + 1] = a * c - b * d, a * d + b * c
    return result


def inverse(fmt: FftFormat, sums: np.ndarray) -> np.ndarray:
    """Elements of an output block, rounded, from the sums of products of spectra."""
    sums = np.stack([shift_half_up(sums[..., i], 2 * fraction) for i, fraction in enumerate(fmt.fractions)], axis=-1)
    values, end = sums[..., -1:], fmt.block_size - 1
    for size in reversed(fmt.groups[:-1]):
        bins, end = sums[..., end - size : end], end - size
        minus = bins if size == 1 else 2 * _inverse_negacyclic(fmt, bins, size)
        values = np.concatenate([values + minus, values - minus], axis=-1)
    return shift_half_up(values, fmt.block_size.bit_length() - 1)


def _inverse_negacyclic(fmt: FftFormat, bins: np.ndarray, size: int) -> np.ndarray:
    """h/2 times the residue modulo z^h + 1."""
    real, imaginary = butterflies(size // 2, 1)
    re, im = bins[..., 0::2], bins[..., 1::2]
    re, im = re @ real - im @ imaginary, re @ imaginary + im @ real
    if size > 2:
        bits = fmt.fraction_bits + INVERSE_TWIDDLE_BITS
        cosine, sine = twiddles(size, bits)
        re, im = (shift_half_up(value, bits) for value in (re * cosine - im * sine, im * cosine + re * sine))
    return np.concatenate([re, -im], axis=-1)


def circulant_row(fmt: FftFormat, elements: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Σ w ∗ x over blocks as the hardware computes it: (n, blocks, k) elements and stored spectra give (n, k)."""
    return inverse(fmt, multiply(fmt, forward(fmt, elements), spectra).sum(axis=1))


def exact_row(elements: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ w ∗ x over blocks without any rounding."""
    k = elements.shape[-1]
    total = np.zeros((len(elements), k), dtype=np.int64)
    for shift in range(k):
        total += (weights[..., shift : shift + 1] * np.roll(elements, shift, axis=-1)).sum(axis=1)
    return total
