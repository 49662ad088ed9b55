"""cocotb bench of the emitted ``chessrnn_fpga``: connects its serial pins to a pseudo-terminal.

A program that opens the terminal communicates with the device as over a cable.  ``CHESSRNN_JOB`` names a JSON file
(see ``chessrnn.sim.device_simulation``).  The bench transfers bits and does not interpret frames.
"""

import json
import mmap
import os
import select
import struct
import tty
from collections import deque
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer
from cocotb.utils import get_sim_time

from chessrnn.model.files import write_atomic
from chessrnn.model.link.frames import BITS_PER_BYTE

RESET_CYCLES = 3
HALF_PERIOD_NS = 1
PERIOD_NS = 2 * HALF_PERIOD_NS
# While the line is idle, the time of this many bytes is simulated in this many real seconds.
IDLE_BYTES = 20
IDLE_SECONDS = 0.02
# Format of the device's clock cycle, which the host's process shares: native, as one memory access writes it.
CYCLE = struct.Struct("Q")


@cocotb.test()
async def serve(dut):
    """Serve until the process that started the simulator has ended, or the job's stop file appears."""
    job = json.loads(Path(os.environ["CHESSRNN_JOB"]).read_text(encoding="utf-8"))
    await Bench(dut, job).run()


class Bench:
    """Connection of the device's clock and two serial pins with a pseudo-terminal."""

    def __init__(self, dut, job: dict):
        self.dut = dut
        # Two triggers, as one that two coroutines wait for fires for both when it fires for the first.
        self.bit_out, self.bit_in = (Timer(job["divisor"] * PERIOD_NS, "ns") for _ in range(2))
        self.one_and_a_half = Timer(job["divisor"] * PERIOD_NS * 3 // 2, "ns")
        self.byte = Timer(BITS_PER_BYTE * job["divisor"] * PERIOD_NS, "ns")
        self.idle = Timer(IDLE_BYTES * BITS_PER_BYTE * job["divisor"] * PERIOD_NS, "ns")
        # The device may take this long before it answers.
        self.patience = job["patience_bytes"]
        self.stop = Path(job["stop"])
        with open(job["clock"], "r+b") as clock:
            self.clock = mmap.mmap(clock.fileno(), CYCLE.size)
        self.parent = os.getppid()
        # The bench keeps the host's side of the terminal open too, so that hosts may connect and disconnect.
        self.master, self.slave = os.openpty()
        for end in (self.master, self.slave):
            tty.setraw(end)
        os.set_blocking(self.master, False)
        write_atomic(job["address"], os.ttyname(self.slave))
        self.received = 0

    async def run(self):
        """Reset the device, then transfer bytes in both directions."""
        dut = self.dut
        dut.rx.value = 1
        for level in [1] * RESET_CYCLES + [0]:
            dut.clk.value = 1
            await Timer(HALF_PERIOD_NS, "ns")
            dut.clk.value = 0
            dut.rst.value = level
            await Timer(HALF_PERIOD_NS, "ns")
        # The simulator's own clock saves two calls per cycle.
        clock = Clock(dut.clk, PERIOD_NS, "ns")
        clock.start(start_high=False)
        cocotb.start_soon(self.listen())
        waiting = deque()
        quiet = 0
        while True:
            # Published only now, after every byte that arrived before was passed on.
            CYCLE.pack_into(self.clock, 0, int(get_sim_time("ns")) // PERIOD_NS)
            if not waiting:
                waiting.extend(self.read(IDLE_SECONDS if quiet > self.patience else 0))
            if waiting:
                await self.send(waiting.popleft())
                quiet = 0
                continue
            before = self.received
            await (self.idle if quiet > self.patience else self.byte)
            quiet = 0 if self.received != before else quiet + 1
            if quiet > self.patience and (self.stop.exists() or os.getppid() != self.parent):
                return

    def read(self, seconds: float) -> bytes:
        """Read what the host has written, waiting at most ``seconds`` for it."""
        if not select.select([self.master], [], [], seconds)[0]:
            return b""
        return os.read(self.master, 4096)

    async def send(self, byte: int):
        """Send a byte to the device's ``rx``."""
        rx, bit = self.dut.rx, self.bit_out
        for level in (0, *((byte >> position) & 1 for position in range(8)), 1):
            rx.value = level
            await bit

    async def listen(self):
        """Pass bytes from the device's ``tx`` to the host."""
        tx, bit = self.dut.tx, self.bit_in
        while True:
            await FallingEdge(tx)
            await self.one_and_a_half
            byte = 0
            for position in range(8):
                byte |= int(tx.value) << position
                await bit
            assert tx.value == 1, "the device sends no stop bit"
            self.received += 1
            os.write(self.master, bytes([byte]))
