"""Simulation with Amaranth's own simulator: single blocks, and the whole accelerator without a compiler."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from amaranth.lib import wiring
from amaranth.sim import Simulator

from chessrnn.hdl.verilog import accelerator
from chessrnn.model.memory_image import memory_words, pack
from chessrnn.model.weights import NetworkWeights

CLOCK_PERIOD = 1e-6
DEADLOCK_CYCLES = 5000


def pump(dut: wiring.Component, stimuli: list[dict], outputs: tuple[str, ...], latency: int) -> list[dict]:
    """Drive a pipelined block with one set of inputs per cycle.

    Parameters
    ----------
    stimuli : list of dict
        Values of one cycle: a Python integer for each port name, or a list of integers for an array port.
    outputs : tuple of str
        Names of the ports to read; array ports give lists.
    latency : int
        Number of cycles from an input to its output.

    Returns
    -------
    list of dict
        The outputs that belong to each stimulus.
    """
    results = []
    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD, if_exists=True)

    def read(ctx, port):
        value = ctx.get(port)
        return list(value) if hasattr(value, "__len__") and not isinstance(value, (int, str)) else value

    async def bench(ctx):
        for cycle in range(len(stimuli) + latency):
            if cycle < len(stimuli):
                for name, value in stimuli[cycle].items():
                    ctx.set(getattr(dut, name), value)
            if cycle >= latency:
                results.append({name: read(ctx, getattr(dut, name)) for name in outputs})
            if latency:
                await ctx.tick()
            else:
                await ctx.delay(CLOCK_PERIOD)

    sim.add_testbench(bench)
    sim.run()
    return results


class Run(NamedTuple):
    """Record of a simulation of the accelerator.

    Attributes
    ----------
    beats : list of (int, int)
        Packed data and ``last`` of every beat of h.
    beat_cycles, issue_cycles : list of int
        Cycle of every beat of h and of every tile issue; the first beat of x is taken in cycle 0.
        results : list of (int, int, int)
            Index, logit and ``last`` of every result of an output layer.
        result_cycles : list of int
            Cycle of every result of an output layer.
    errors : list of int
        Value of ``x_error`` in every cycle in which it was not zero.
    states : int
        Number of states that left through the state ports.
    saturations : int
        Number of values that a monitor has counted as clipped.
    """

    beats: list[tuple[int, int]]
    beat_cycles: list[int]
    issue_cycles: list[int]
    results: list[tuple[int, int, int]]
    result_cycles: list[int]
    errors: list[int]
    states: int
    saturations: int = 0


def beats_of(sequences: list[np.ndarray], block_size: int, bits: int, padding: Callable | None = None):
    """Pack sequences of integer vectors (T, N) into stream beats ``(data, last)``.

    Parameters
    ----------
    padding : callable, optional
        ``padding(shape)`` fills the elements beyond N; zero when left out.
    """
    beats = []
    for sequence in sequences:
        steps, size = sequence.shape
        blocks = -(-size // block_size)
        padded = np.zeros((steps, blocks * block_size), dtype=np.int64)
        if padding is not None:
            padded[:] = padding(padded.shape)
        padded[:, :size] = sequence
        words = pack(padded.reshape(steps * blocks, block_size), bits)
        beats += [(word, int(index == len(words) - 1)) for index, word in enumerate(words)]
    return beats


def run_accelerator(
    weights: NetworkWeights,
    x_beats: list[tuple[int, int]],
    count: int,
    offer: Callable[[], bool] = lambda: True,
    accept: Callable[[], bool] = lambda: True,
    accept_result: Callable[[], bool] | None = None,
) -> Run:
    """Feed beats of x until ``count`` beats of h have arrived; with state ports, states that leave are taken at once.

    Parameters
    ----------
    offer, accept : callable
        Called once per cycle: whether the source offers its next beat, and whether the sink takes one.
    accept_result : callable, optional
        Whether the sink of an output layer's results takes one; ``accept`` when left out.

    Raises
    ------
    TimeoutError
        Nothing moved for ``DEADLOCK_CYCLES`` cycles; the message names the waiting stream.
    """
    config = weights.config
    dut: Any = accelerator(config, memory_words(weights))  # its ports exist at run time alone
    sim = Simulator(dut)
    sim.add_clock(CLOCK_PERIOD)
    result, states, saturations = Run([], [], [], [], [], [], 0), 0, 0
    has_results = bool(config.architecture.output_layer)
    results = count // config.num_stream_blocks if has_results else 0

    async def bench(ctx):
        nonlocal states, saturations
        sent, cycle, start, idle, offered = 0, 0, None, 0, False
        if config.architecture.state_ports:
            ctx.set(dut.state_out.ready, 1)

        def elapsed() -> int:
            assert start is not None, "nothing leaves the accelerator before it has taken a beat of x"
            return cycle - start

        while len(result.beats) < count or len(result.results) < results:
            # An offered beat stays until it is taken.
            offered = offered or (sent < len(x_beats) and offer())
            ready = accept()
            ctx.set(dut.x.valid, int(offered))
            if offered:
                ctx.set(dut.x.payload.data, x_beats[sent][0])
                ctx.set(dut.x.payload.last, x_beats[sent][1])
            ctx.set(dut.h.ready, int(ready))
            idle += 1
            if offered and ctx.get(dut.x.ready):
                start = cycle if start is None else start
                sent, idle, offered = sent + 1, 0, False
            if ready and ctx.get(dut.h.valid):
                result.beats.append((ctx.get(dut.h.payload.data), ctx.get(dut.h.payload.last)))
                result.beat_cycles.append(elapsed())
                idle = 0
            if has_results:
                ready = (accept_result or accept)()
                ctx.set(dut.y.ready, int(ready))
                if ready and ctx.get(dut.y.valid):
                    y = ctx.get(dut.y.payload)
                    result.results.append((y.index, y.logit, y.last))
                    result.result_cycles.append(elapsed())
                    idle = 0
            if ctx.get(dut.x_error):
                result.errors.append(ctx.get(dut.x_error))
            if config.architecture.state_ports:
                states += ctx.get(dut.state_out.valid) & ctx.get(dut.state_out.payload.last)
            if config.architecture.monitor:
                saturations += ctx.get(dut.saturations)
            if ctx.get(dut.matvec_active):
                result.issue_cycles.append(elapsed())
            if idle > DEADLOCK_CYCLES:
                stuck = "x" if sent < len(x_beats) else "h"
                raise TimeoutError(f"stream {stuck} stuck after {sent} beats of x and {len(result.beats)} of h")
            cycle += 1
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    return result._replace(states=states, saturations=saturations)
