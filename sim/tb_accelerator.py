"""cocotb bench of the emitted ``accelerator``: streams beats in and out, and records values and cycles.

The job and the results are JSON files named by ``CHESSRNN_JOB`` and ``CHESSRNN_RESULTS`` (see ``chessrnn.sim.runner``).
The bench checks only the protocol; ``chessrnn.sim.runner`` compares values and cycles.
"""

import json
import os
import time
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

from chessrnn.sim.stalls import StallPattern
from chessrnn.sim.streams import DeadlockError, ProtocolError, Sink, Source, Watchdog

RESET_CYCLES = 3
# Simulated after the last beat, as nothing more may come out.
TAIL_CYCLES = 8


@cocotb.test()
async def stream_sequences(dut):
    """Simulate every run of every design of the job, each from reset."""
    job = json.loads(Path(os.environ["CHESSRNN_JOB"]).read_text(encoding="utf-8"))
    results = []
    for design in job["designs"]:
        bench = Bench(Part(dut, **design["part"]) if design["part"] else dut)
        results.append([await bench.run(run) for run in design["runs"]])
    Path(os.environ["CHESSRNN_RESULTS"]).write_text(json.dumps({"designs": results}), encoding="utf-8")


class Part:
    """Ports of one of several designs in a simulation, by the names that they have where the design is alone."""

    def __init__(self, dut, prefix: str, ports: list[str]):
        for port in ports:
            setattr(self, port, getattr(dut, f"{prefix}_{port}"))


class Bench:
    """Driver of one clock cycle at a time: inputs change at the falling edge, wires are read before the rising one."""

    def __init__(self, dut):
        self.dut = dut
        self.half = Timer(1, "ns")
        self.data_bits = {"x": len(dut.x_data), "h": len(dut.h_data)}
        self.others = [kind(dut) for kind, port in OTHER_PORTS if hasattr(dut, port)]
        self.loads = hasattr(dut, "x_load")

    async def cycle(self):
        """Advance from the start of a cycle to its end, just before the next rising edge."""
        clk = self.dut.clk
        clk.value = 1
        await self.half
        clk.value = 0

    async def reset(self):
        """Apply a synchronous reset while all streams are idle."""
        dut = self.dut
        others = [port for other in self.others for port in other.inputs]
        for port in (dut.x_valid, dut.x_data, dut.x_last, dut.h_ready, *others):
            port.value = 0
        for level in [1] * RESET_CYCLES + [0]:
            await self.cycle()
            dut.rst.value = level
            await self.half

    async def load(self, chunks: list[int]):
        """Load the weights, chunk by chunk; before each memory holds the opposite of every bit."""
        dut = self.dut
        dut.load_hold.value = 1
        for flip in (0xFFFFFFFF, 0):
            dut.load_address.value = 0
            for chunk in chunks:
                dut.load_en.value, dut.load_data.value = 1, chunk ^ flip
                await self.half
                following = int(dut.load_next.value)
                await self.cycle()
                await self.half
                dut.load_address.value = following
        dut.load_en.value, dut.load_hold.value = 0, 0
        await self.half

    async def run(self, run: dict) -> dict:
        """Simulate one run: payloads ``x`` go in, and ``h_count`` payloads must come out."""
        dut, half = self.dut, self.half
        source = Source("x", run["x"], StallPattern(**run["source"]))
        sink = Sink("h", run["h_count"], StallPattern(**run["sink"]))
        ends = [source, sink]
        others, loads = self.others, self.loads
        for other in others:
            ends += other.start(run)
        watchdog = Watchdog(tuple(ends), run["patience"])
        x_bits, h_bits = self.data_bits["x"], self.data_bits["h"]
        x_mask = (1 << x_bits) - 1
        clk, x_valid, x_data, x_last, x_ready = dut.clk, dut.x_valid, dut.x_data, dut.x_last, dut.x_ready
        h_valid, h_data, h_last, h_ready, matvec_active = (
            dut.h_valid,
            dut.h_data,
            dut.h_last,
            dut.h_ready,
            dut.matvec_active,
        )
        x_cycles, h_cycles, active = [], [], []
        offered, was_ready, error = None, False, None

        await self.reset()
        if run["load"]:
            await self.load(run["load"])
        started = time.perf_counter()
        cycle, tail = 0, 0
        while tail < TAIL_CYCLES:
            # A cycle begins with the rising edge.  Only changed wires are written, as each write costs a call.
            clk.value = 1
            await half
            clk.value = 0
            payload, ready = source.offer(), sink.offer()
            if payload != offered:
                if payload is None:
                    x_valid.value = 0
                else:
                    x_valid.value = 1
                    x_data.value = payload & x_mask
                    x_last.value = payload >> x_bits & 1
                    if loads:
                        dut.x_load.value = payload >> (x_bits + 1)
                offered = payload
            if ready != was_ready:
                h_ready.value = ready
                was_ready = ready
            for other in others:
                other.drive()
            await half
            try:
                taken = payload is not None and source.observe(bool(x_ready.value))
                if taken:
                    x_cycles.append(cycle)
                output = int(h_data.value) | int(h_last.value) << h_bits if h_valid.value else None
                given = sink.observe(output)
                if given:
                    h_cycles.append(cycle)
                if matvec_active.value:
                    active.append(cycle)
                for other in others:
                    given |= other.observe(cycle)
                if all(end.done for end in ends):
                    tail += 1
                else:
                    watchdog.observe(taken or given)
            except (ProtocolError, DeadlockError, ValueError) as problem:
                # cocotb raises ValueError where a handshake wire is neither 0 nor 1.
                error = f"cycle {cycle}: {problem}"
                break
            cycle += 1
        if error is None and hasattr(dut, "parity_error") and str(dut.parity_error.value) != "0":
            error = f"parity_error is {dut.parity_error.value} without a fault"
        if error is None and hasattr(dut, "beat_error") and str(dut.beat_error.value) != "0":
            error = f"beat_error is {dut.beat_error.value} without a fault"
        return {
            "name": run["name"],
            "error": error,
            "cycles": cycle,
            "seconds": time.perf_counter() - started,
            "h": sink.received,
            "x_cycles": x_cycles,
            "h_cycles": h_cycles,
            "active": active,
            "states": [],
            "state_cycles": [],
            "y": [],
            "y_cycles": [],
        } | {key: value for other in others for key, value in other.results().items()}


class StatePorts:
    """Streams of the state, driven and recorded beside those of x and h."""

    def __init__(self, dut):
        self.dut = dut
        self.bits = len(dut.state_in_data)
        self.inputs = (dut.x_load, dut.state_in_valid, dut.state_in_data, dut.state_out_ready)

    def start(self, run: dict) -> list:
        """Create the stream drivers for one run."""
        self.source = Source("state_in", run["state_in"], StallPattern(**run["source"]))
        self.sink = Sink("state_out", run["state_count"], StallPattern(**run["sink"]))
        self.cycles = []
        return [self.source, self.sink]

    def drive(self):
        """Begin a cycle: write the inputs."""
        dut, payload = self.dut, self.source.offer()
        dut.state_in_valid.value = payload is not None
        if payload is not None:
            dut.state_in_data.value = payload
        dut.state_out_ready.value = self.sink.offer()

    def observe(self, cycle: int) -> bool:
        """End a cycle: read the outputs; true when a beat was transferred."""
        dut = self.dut
        taken = self.source.observe(bool(dut.state_in_ready.value))
        output = None
        if dut.state_out_valid.value:
            output = int(dut.state_out_data.value) | int(dut.state_out_last.value) << self.bits
        given = self.sink.observe(output)
        if given:
            self.cycles.append(cycle)
        return taken or given

    def results(self) -> dict:
        """Payloads that arrived, and their cycles."""
        return {"states": self.sink.received, "state_cycles": self.cycles}


class ResultPort:
    """Stream of the output layer's results."""

    def __init__(self, dut):
        self.dut, self.inputs = dut, (dut.y_ready,)
        self.index_bits, self.last = len(dut.y_index), len(dut.y_index) + len(dut.y_logit)

    def start(self, run: dict) -> list:
        """Create the stream drivers for one run."""
        # Another seed, so that this sink does not stall in the same cycles as that of h.
        stalls = StallPattern(**run["sink"] | {"seed": run["sink"]["seed"] + 1})
        self.sink, self.cycles = Sink("y", run["y_count"], stalls), []
        return [self.sink]

    def drive(self):
        """Begin a cycle: write the inputs."""
        self.dut.y_ready.value = self.sink.offer()

    def observe(self, cycle: int) -> bool:
        """End a cycle: read the outputs; true when a result was transferred."""
        dut, output = self.dut, None
        if dut.y_valid.value:
            logit = dut.y_logit.value.to_unsigned()
            output = int(dut.y_index.value) | logit << self.index_bits | int(dut.y_last.value) << self.last
        given = self.sink.observe(output)
        if given:
            self.cycles.append(cycle)
        return given

    def results(self) -> dict:
        """Payloads that arrived, and their cycles."""
        return {"y": self.sink.received, "y_cycles": self.cycles}


class LoaderPort:
    """Inputs of the loader, which stay 0 while streams run."""

    def __init__(self, dut):
        self.inputs = (dut.load_hold, dut.load_en, dut.load_address, dut.load_data)

    def start(self, run: dict) -> list:
        """It has no stream."""
        return []

    def drive(self):
        """Nothing changes in a cycle."""

    def observe(self, cycle: int) -> bool:
        """Nothing is transferred."""
        return False

    def results(self) -> dict:
        """Nothing is recorded."""
        return {}


# Streams that only some accelerators have, each with a port that shows whether it is there.
OTHER_PORTS = ((StatePorts, "x_load"), (ResultPort, "y_valid"), (LoaderPort, "load_hold"))
