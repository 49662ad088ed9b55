"""The FFT baseline: its hardware equals its model in every integer, and its rounding error has stated bounds."""

import fft_model
import numpy as np
import pytest
from amaranth.sim import Simulator
from fft_datapath import FftEngine
from fft_model import FftFormat

from chessrnn.model.widths.interval import Interval, signed_interval


def pack(values, widths) -> int:
    """Pack integers into one, the first in the lowest bits."""
    total = start = 0
    for value, width in zip(values, widths, strict=True):
        total |= (int(value) & ((1 << width) - 1)) << start
        start += width
    return total


def unpack(packed: int, width: int, count: int) -> list[int]:
    """The inverse of :func:`pack` for signed integers of one width."""
    sign = 1 << (width - 1)
    return [(((packed >> (width * place)) & (2 * sign - 1)) ^ sign) - sign for place in range(count)]


def simulate(fmt: FftFormat, tile_cols: int, elements: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Results of the engine for sums that follow each other without a gap."""
    engine, issues = FftEngine(fmt, tile_cols), fmt.blocks // tile_cols
    blocks, words = (value.reshape(len(elements) * issues, -1) for value in (elements, spectra))
    word_widths, element_widths = fmt.widths(fmt.weight_ranges) * tile_cols, [fmt.element_bits] * blocks.shape[1]
    results = []

    async def testbench(ctx):
        for cycle in range(len(blocks) + engine.latency):
            ctx.set(engine.valid, int(cycle < len(blocks)))
            if cycle < len(blocks):
                ctx.set(engine.words, pack(words[cycle], word_widths))
                ctx.set(engine.elements, pack(blocks[cycle], element_widths))
                ctx.set(engine.first, int(cycle % issues == 0))
            if cycle >= engine.latency and (cycle - engine.latency) % issues == issues - 1:
                results.append(unpack(ctx.get(engine.result), fmt.output_bits, fmt.block_size))
            await ctx.tick()

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return np.array(results)


def operands(rng, fmt: FftFormat, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks of x and of weights, after the sums of greatest magnitude."""
    shape = (count, fmt.blocks, fmt.block_size)
    element, weight = signed_interval(fmt.element_bits), fmt.weight
    x = rng.integers(element.low, element.high + 1, shape)
    w = rng.integers(weight.low, weight.high + 1, shape)
    x[0], w[0] = element.low, weight.low
    x[1], w[1] = element.low, weight.high
    return x, w


@pytest.mark.parametrize(
    ("block_size", "fraction_bits", "tile_cols", "uniform", "weight"),
    [
        (4, 0, 3, False, signed_interval(8)),
        (4, 2, 3, True, signed_interval(8)),
        (4, 0, 1, False, Interval(-3, 3)),
        (8, 1, 1, True, signed_interval(8)),
        (8, 1, 1, False, signed_interval(4)),
        (16, 1, 1, True, signed_interval(8)),
        pytest.param(16, 1, 1, False, signed_interval(2), marks=pytest.mark.slow),
    ],
)
def test_hardware_equals_model(block_size, fraction_bits, tile_cols, uniform, weight, rng):
    fmt = FftFormat(block_size, fraction_bits, weight, 2 * tile_cols, uniform=uniform)
    x, w = operands(rng, fmt, 5)
    spectra = fft_model.weight_spectrum(fmt, w)
    np.testing.assert_array_equal(simulate(fmt, tile_cols, x, spectra), fft_model.circulant_row(fmt, x, spectra))


@pytest.mark.parametrize("block_size", [4, 8, 16])
@pytest.mark.parametrize("uniform", [False, True])
def test_spectrum_is_that_of_numpy(block_size, uniform, rng):
    fmt = FftFormat(block_size, 6, signed_interval(8), 1, uniform=uniform)
    x, _ = operands(rng, fmt, 100)
    numbers = fft_model.forward(fmt, x) / 2.0 ** np.array(fmt.fractions)
    expected, place = np.fft.fft(x), 0
    for size in fmt.groups:
        period = block_size // max(1, 2 * size)
        bins = (
            expected[..., period * (1 + 4 * np.arange(max(1, size // 2))) % block_size] if size else expected[..., :1]
        )
        found = numbers[..., place : place + size : 2] + 1j * numbers[..., place + 1 : place + size : 2]
        found = found if size > 1 else numbers[..., place : place + 1]
        # Each of the twiddled values that meet in a bin is at most half a unit off, and its factor a little.
        assert np.abs(found - bins).max() <= max(0.0001, (size // 2) * 2.0**-6)
        place += max(1, size)


def test_every_number_fits_its_width(rng):
    for block_size in (4, 8, 16):
        for uniform in (False, True):
            fmt = FftFormat(block_size, 3, signed_interval(8), 2, uniform=uniform)
            # Every linear form of the spectrum at both ends of its range.
            forms = fft_model.transform_matrix(block_size)
            extremes = np.concatenate([np.where(forms > 0, 127, -128), np.where(forms > 0, -128, 127)])
            for numbers, ranges in (
                (fft_model.forward(fmt, extremes), fmt.x_ranges),
                (fft_model.weight_spectrum(fmt, extremes), fmt.weight_ranges),
            ):
                low, high = np.array(ranges).T
                assert ((numbers >= low) & (numbers <= high)).all()
                assert (numbers.max(axis=0) > high // 2).all(), "no width has a bit to spare"


def rounding_error(fmt: FftFormat, rng, count: int) -> np.ndarray:
    """Deviation from the exact circulant products, in units of the product of an LSB of x and one of the weights."""
    x, w = operands(rng, fmt, count)
    return fft_model.circulant_row(fmt, x, fft_model.weight_spectrum(fmt, w)) - fft_model.exact_row(x, w)


def test_block_size_4_is_exact(rng):
    fmt = FftFormat(4, 0, signed_interval(8), 256)
    assert not rounding_error(fmt, rng, 200).any()


@pytest.mark.parametrize(
    ("block_size", "word_bits", "blocks", "greatest", "rms"),
    [
        # A block alone, then the 1,024 columns of a 512 × 512 LSTM.
        (8, 12, 1, 80, 17),
        (8, 12, 128, 800, 190),
        (8, 16, 1, 6, 1.2),
        (8, 16, 128, 50, 12),
        (16, 12, 1, 260, 52),
        (16, 12, 64, 1900, 420),
        (16, 16, 1, 17, 3.5),
        (16, 16, 64, 120, 28),
    ],
)
@pytest.mark.parametrize("uniform", [False, True])
def test_rounding_error(block_size, word_bits, blocks, greatest, rms, uniform, rng):
    fraction_bits = word_bits - 8 - (block_size.bit_length() - 1)
    fmt = FftFormat(block_size, fraction_bits, signed_interval(8), blocks, uniform=uniform)
    assert max(fmt.widths(fmt.x_ranges)) == word_bits
    assert max(fmt.widths(fmt.weight_ranges)) == word_bits
    error = rounding_error(fmt, rng, 300)
    assert 0 < np.abs(error).max() <= greatest
    assert rms / 2 <= np.sqrt((error**2.0).mean()) <= rms
