"""The sums of a tile row, of which each bit counts: they are exact modulo their width."""

from collections import deque

import numpy as np
import pytest
from amaranth.hdl import signed

from chessrnn.hdl.row import Accumulator
from chessrnn.sim.pysim import pump

WIDTH = 6


def wrapped(value: int) -> int:
    """The value in two's complement of WIDTH bits."""
    half = 1 << (WIDTH - 1)
    return (value + half) % (2 * half) - half


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("parked", [0, 3])
@pytest.mark.parametrize("offsets", [[-5], [-5, 11]])
def test_accumulator_is_exact_modulo_its_width(words, parked, offsets, rng):
    dut = Accumulator(WIDTH, [signed(WIDTH)] * words, offsets, parked, tag_register=False)
    fifo, accumulator, stimuli, expected = deque([0] * parked), 0, [], []
    low, high = -(1 << (WIDTH - 1)), (1 << (WIDTH - 1)) - 1
    for cycle in range(300):
        values = rng.integers(low, high + 1, size=words).tolist()
        tags = {name: int(rng.integers(1 << bits)) for name, bits in dut.tags.items()}
        tags["first"] |= cycle == 0
        if cycle == 0 and parked:
            tags["resume"] = 0
        stimuli.append({**tags, "words": {f"w{number}": value for number, value in enumerate(values)}})
        start = offsets[tags.get("part_shape", 0)] if tags["first"] else accumulator
        if tags.get("resume"):
            start = fifo[-1]
        total = wrapped(start + sum(values))
        expected.append(total)
        if tags["valid"]:
            accumulator = total
            if tags.get("park") or tags.get("resume"):
                fifo.rotate()
                fifo[0] = total
    got = [value["total"] for value in pump(dut, stimuli, ("total",), 0)]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("held", [1, 3])
@pytest.mark.parametrize("parked", [0, 2])
def test_a_sum_that_ends_is_held_and_the_next_starts_from_zero(held, parked, rng):
    dut = Accumulator(WIDTH, [signed(WIDTH)], [0], parked, tag_register=False, held=held)
    fifo, kept, accumulator, stimuli, expected = deque([0] * parked), deque([0] * held), 0, [], []
    low, high = -(1 << (WIDTH - 1)), (1 << (WIDTH - 1)) - 1
    for _ in range(300):
        value = int(rng.integers(low, high + 1))
        tags = {name: int(rng.integers(1 << bits)) for name, bits in dut.tags.items()}
        # A sum ends with a valid word, and is not parked then.
        tags["ends"] &= tags["valid"] & ~tags.get("park", 0)
        stimuli.append({**tags, "words": {"w0": value}})
        expected.append(list(kept))
        total = wrapped((fifo[-1] if tags.get("resume") else accumulator) + value)
        if tags["valid"]:
            accumulator = 0 if tags["ends"] or tags.get("park") else total
            if tags.get("park") or tags.get("resume"):
                fifo.rotate()
                fifo[0] = total
        if tags["ends"]:
            kept.rotate(-1)
            kept[-1] = total
    got = [list(value["held_totals"]) for value in pump(dut, stimuli, ("held_totals",), 0)]
    np.testing.assert_array_equal(got, expected)
