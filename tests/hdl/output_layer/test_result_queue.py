"""The queue of results: nothing is lost, and nothing is promised that has no place."""

from collections import deque

import pytest
from amaranth.sim import Simulator

from chessrnn.hdl.output_layer.result_queue import ResultQueue
from chessrnn.model.presets import preset
from chessrnn.sim.pysim import CLOCK_PERIOD

CYCLES = 400


@pytest.mark.parametrize("readiness", [0.2, 0.5, 0.9])
def test_results_leave_in_order_and_places_are_counted(readiness, rng):
    dut = ResultQueue(preset("tiny").replace({"architecture.output_layer": 10}))
    kept, under_way, got = deque(), 0, 0
    counts = set()

    async def bench(ctx):
        nonlocal under_way, got
        for _ in range(CYCLES):
            assert ctx.get(dut.y.valid) == bool(kept)
            free = dut.places - len(kept) - under_way
            assert ctx.get(dut.may_begin) == (free > 0)
            counts.add(free)
            begins, writes = bool(free and rng.random() < 0.7), bool(under_way and rng.random() < 0.7)
            takes = bool(rng.random() < readiness)
            value = {"index": int(rng.integers(10)), "logit": int(rng.integers(-99, 99)), "last": int(rng.integers(2))}
            ctx.set(dut.begins, begins)
            ctx.set(dut.write, writes)
            ctx.set(dut.y.ready, takes)
            ctx.set(dut.result, value)
            if kept and takes:
                assert {name: ctx.get(dut.y.payload[name]) for name in value} == kept.popleft()
                got += 1
            if writes:
                kept.append(value)
            under_way += begins - writes
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD)
    sim.add_testbench(bench)
    sim.run()
    assert got > 50
    # A sink that is seldom ready fills all places, and one that is nearly always ready empties them.
    assert (0 if readiness < 0.9 else dut.places) in counts
