"""Carry-save sums are the integer sums."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hdl.carry_save import compress
from hdl.dot_product import DotProduct, dot_product_latency
from model import bilinear


def vectors(terms: int, weight_width: int, operand_width: int, count: int) -> list[tuple[list[int], list[int]]]:
    ranges = [bilinear.signed_interval(width) for width in (weight_width, operand_width)]
    rng = np.random.default_rng(terms)
    corners = [([a] * terms, [b] * terms) for a, b in itertools.product(*ranges)]
    pairs = [[rng.integers(r.low, r.high + 1, terms).tolist() for r in ranges] for _ in range(count)]
    mixed = [[rng.choice([*r, 0, -1], terms).tolist() for r in ranges] for _ in range(count)]
    return [*corners, *(tuple(pair) for pair in pairs + mixed)]


@pytest.mark.parametrize(("weight_width", "operand_width"), [(2, 2), (2, 9), (5, 9), (8, 8), (9, 9), (11, 10)])
@pytest.mark.parametrize(("terms", "group"), [(1, 8), (3, 8), (5, 2)])
def test_dot_product(weight_width, operand_width, terms, group):
    full = weight_width + operand_width + (terms - 1).bit_length()
    # At full width, and wrapped as accumulators of the fast engine may be.
    for out_width in (full, full + 3, weight_width + operand_width - 2):
        check(DotProduct(terms, weight_width, operand_width, out_width, group))


def check(dut):
    assert dut.latency == dot_product_latency(dut.terms, dut.group)
    cases = vectors(dut.terms, dut.weight_width, dut.operand_width, 20)

    async def testbench(ctx):
        for cycle in range(len(cases) + dut.latency):
            if cycle < len(cases):
                for index, (weight, operand) in enumerate(zip(*cases[cycle], strict=True)):
                    ctx.set(dut.weights[index], weight)
                    ctx.set(dut.operands[index], operand)
            if cycle >= dut.latency:
                weights, operands = cases[cycle - dut.latency]
                expected = sum(a * b for a, b in zip(weights, operands, strict=True))
                total = ctx.get(dut.save) + ctx.get(dut.carry)
                assert (total - expected) % (1 << dut.out_width) == 0
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def test_every_product_of_small_operands():
    dut = DotProduct(1, 4, 3, 7)

    async def testbench(ctx):
        for a, b in itertools.product(range(-8, 8), range(-4, 4)):
            ctx.set(dut.weights[0], a)
            ctx.set(dut.operands[0], b)
            await ctx.tick()
            assert (ctx.get(dut.save) + ctx.get(dut.carry) - a * b) % 128 == 0

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def test_compress():
    m, words = Module(), [Signal(4, name=name) for name in "abc"]
    save, carry = compress(m, *words, 4, "sum")

    async def testbench(ctx):
        for values in itertools.product(range(16), repeat=3):
            for word, value in zip(words, values, strict=True):
                ctx.set(word, value)
            assert (ctx.get(save) + ctx.get(carry) - sum(values)) % 16 == 0

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()
