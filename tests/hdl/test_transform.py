"""Transforms and the multiplier are compared with NumPy, also at the extremes of every operand."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from chessrnn.hdl.arithmetic.multiplier import Multiplier
from chessrnn.hdl.transform import ForwardTransform, InverseTransform, forward_adders, inverse_adders
from chessrnn.model import bilinear
from chessrnn.model.widths.forms import accumulator_widths
from chessrnn.model.widths.interval import signed_bits, signed_interval

SIZES = bilinear.FAST_BLOCK_SIZES


def evaluate(dut, vectors: np.ndarray, source: str, result: str) -> np.ndarray:
    """Drive a component with one vector per cycle; returns the vectors of its outputs."""
    outputs = []

    async def testbench(ctx):
        port = getattr(dut, source)
        for cycle in range(len(vectors) + dut.latency):
            if cycle < len(vectors):
                for key, value in zip(fields(port), vectors[cycle].tolist(), strict=True):
                    ctx.set(port[key], value)
            if cycle >= dut.latency:
                outputs.append([ctx.get(getattr(dut, result)[key]) for key in fields(getattr(dut, result))])
            if dut.latency:
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6, if_exists=True)
    simulator.add_testbench(testbench)
    simulator.run()
    return np.array(outputs)


def fields(port) -> list:
    return [key for key, _ in port.shape()]


def element_vectors(k: int, bits: int, count: int) -> np.ndarray:
    """Vectors that drive every form to both ends of its range, then random ones."""
    low, high = signed_interval(bits)
    forward = bilinear.forward_matrix(k)
    random = np.random.default_rng(k).integers(low, high + 1, (count, k))
    return np.concatenate([np.where(forward > 0, low, high), np.where(forward > 0, high, low), random])


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_forward(k, bits):
    vectors = element_vectors(k, bits, 50)
    forms = evaluate(ForwardTransform(k, bits), vectors, "elements", "forms")
    np.testing.assert_array_equal(forms, vectors @ bilinear.forward_matrix(k).T)


@pytest.mark.parametrize(("k", "levels", "latency"), [(2, 1, 0), (4, 1, 1), (8, 1, 2), (8, 2, 1), (16, 3, 1)])
def test_forward_with_registers(k, levels, latency):
    transform = ForwardTransform(k, 3, levels)
    assert transform.latency == latency
    vectors = element_vectors(k, 3, 20)
    forms = evaluate(transform, vectors, "elements", "forms")
    np.testing.assert_array_equal(forms, vectors @ bilinear.forward_matrix(k).T)


def test_forward_of_every_operand():
    vectors = np.array(list(itertools.product(range(-2, 2), repeat=4)))
    forms = evaluate(ForwardTransform(4, 2), vectors, "elements", "forms")
    np.testing.assert_array_equal(forms, vectors @ bilinear.forward_matrix(4).T)


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("weight_bits", [2, 8])
@pytest.mark.parametrize(("spare_bits", "levels"), [(0, 0), (3, 1), (0, 2)])
def test_inverse(k, weight_bits, spare_bits, levels):
    blocks, rng = 5, np.random.default_rng(k)
    weight, element = signed_interval(weight_bits), signed_interval(8)
    w = rng.integers(weight.low, weight.high + 1, (60, blocks, k))
    x = rng.integers(element.low, element.high + 1, (60, blocks, k))
    w[0], x[0] = weight.low, element.low
    w[1], x[1] = weight.low, element.high
    forward = bilinear.forward_matrix(k)
    sums = ((w @ forward.T) * (x @ forward.T)).sum(axis=1)
    bound = blocks * k * weight.low * element.low
    output_bits = signed_bits(-bound, bound) + spare_bits
    widths = accumulator_widths(k, weight, [(blocks, element)], output_bits)
    half = np.array([1 << (width - 1) for width in widths])
    wrapped = (sums + half) % (2 * half) - half
    elements = evaluate(InverseTransform(k, widths, output_bits, levels), wrapped, "forms", "elements")
    expected = (sums @ bilinear.inverse_matrix(k).T) >> bilinear.inverse_shift(k)
    np.testing.assert_array_equal(elements, expected)


@pytest.mark.parametrize(
    ("k", "forward", "inverse"),
    [(2, 2, 2), (4, 4 + 2 + 1, 4 + 2 + 3), (8, 8 + 7 + 5, 8 + 9 + 15), (16, 16 + 20 + 19, 16 + 32 + 57)],
)
def test_adder_count(k, forward, inverse):
    assert forward_adders(k) == forward
    assert inverse_adders(k) == inverse


@pytest.mark.parametrize(("a", "b"), [(8, 8), (9, 5), (3, 11), (2, 2), (10, 10)])
@pytest.mark.parametrize(("stages", "registered"), [(0, False), (0, True), (1, False), (1, True), (2, False)])
def test_multiplier(a, b, stages, registered):
    ranges = [signed_interval(width) for width in (a, b)]
    rng = np.random.default_rng(0)
    random = np.stack([rng.integers(r.low, r.high + 1, 60) for r in ranges], axis=1)
    pairs = [*itertools.product(*ranges), *random.tolist()]
    dut, latency = Multiplier(a, b, stages, registered), stages + registered
    assert dut.latency == latency

    async def testbench(ctx):
        for cycle in range(len(pairs) + latency):
            if cycle < len(pairs):
                ctx.set(dut.left, pairs[cycle][0])
                ctx.set(dut.right, pairs[cycle][1])
            if cycle >= latency:
                left, right = pairs[cycle - latency]
                assert ctx.get(dut.product) == left * right
            if latency:
                await ctx.tick()

    simulator = Simulator(dut)
    if latency:
        simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
