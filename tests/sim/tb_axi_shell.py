"""cocotb bench of the bus shell with independent AXI masters and sinks (cocotbext-axi)."""

import ctypes
import importlib.util
import itertools
import json
import os
import random
import zlib
from pathlib import Path

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)
from cocotbext.axi.axil_channels import AxiLiteARTransaction, AxiLiteAWTransaction, AxiLiteWTransaction

JOB = json.loads(Path(os.environ["CHESSRNN_JOB"]).read_text())
DRIVER = importlib.util.module_from_spec(importlib.util.spec_from_file_location("driver", JOB["driver"]))
DRIVER.__spec__.loader.exec_module(DRIVER)
REGISTERS = DRIVER.REGISTERS
SATURATION = 1 << DRIVER.FIELDS["events"]["saturation"][0] if "saturation" in DRIVER.FIELDS["events"] else 0
timed = cocotb.test(timeout_time=200, timeout_unit="us")


class Bench:
    """The shell with a master of its registers, a source of x and a sink of h."""

    def __init__(self, dut, pauses: int | None = None):
        self.dut = dut
        cocotb.start_soon(Clock(dut.aclk, 10, "ns").start())
        where = {"reset": dut.aresetn, "reset_active_level": False}
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, **where)
        self.x = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_x"), dut.aclk, **where)
        self.h = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis_h"), dut.aclk, **where)
        if pauses is not None:
            draw = random.Random(pauses)
            channels = [self.x, self.h, self.lite.write_if.aw_channel, self.lite.write_if.w_channel]
            channels += [self.lite.write_if.b_channel, self.lite.read_if.ar_channel, self.lite.read_if.r_channel]
            for channel in channels:
                channel.set_pause_generator(itertools.cycle([draw.random() < 0.5 for _ in range(97)]))

    async def start(self):
        """Apply a reset."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 4)
        for name in ("s_axis_x_tready", "m_axis_h_tvalid", "s_axil_awready", "s_axil_bvalid", "s_axil_rvalid", "irq"):
            assert getattr(self.dut, name).value == 0, name
        self.dut.aresetn.value = 1
        await RisingEdge(self.dut.aclk)
        return self

    async def send(self, sequences):
        """Send sequences of bytes, and compare what comes back."""
        for sequence in sequences:
            await self.x.send(AxiStreamFrame(bytes.fromhex(sequence["x"])))
        for sequence in sequences:
            frame = await self.h.recv()
            assert bytes(frame.tdata).hex() == sequence["h"]

    async def read(self, register: str) -> int:
        """Value of a register."""
        response = await self.lite.read(REGISTERS[register], 4)
        assert response.resp == AxiResp.OKAY
        return int.from_bytes(response.data, "little")

    async def events(self) -> int:
        """Pending events without saturations, which depend on the data."""
        return await self.read("events") & ~SATURATION

    async def write(self, register: str, value: int) -> None:
        """Write a register."""
        response = await self.lite.write(REGISTERS[register], value.to_bytes(4, "little"))
        assert response.resp == AxiResp.OKAY

    async def raw_read(self, address: int) -> int:
        """Response to a read of any address, as it is."""
        await self.lite.read_if.ar_channel.send(AxiLiteARTransaction(araddr=address))
        return int((await self.lite.read_if.r_channel.recv()).rresp)

    async def raw_write(self, address: int, value: int = 0xFFFFFFFF) -> int:
        """Response to a write to any address, as it is."""
        await self.lite.write_if.w_channel.send(AxiLiteWTransaction(wdata=value, wstrb=15))
        await self.lite.write_if.aw_channel.send(AxiLiteAWTransaction(awaddr=address))
        return int((await self.lite.write_if.b_channel.recv()).bresp)


@timed
async def streams_carry_the_expected_vectors(dut):
    """Without pauses and with pauses on every channel, while registers are read."""
    bench = await Bench(dut).start()
    await bench.send(JOB["sequences"])
    assert await bench.read("sequences") == len(JOB["sequences"])
    assert await bench.read("steps") == JOB["steps"]
    assert await bench.read("active_cycles") == JOB["steps"] * JOB["issues"]
    if JOB["saturations"] is not None:
        assert await bench.read("saturations") == JOB["saturations"]
        assert await bench.read("events") & ~4 == (SATURATION if JOB["saturations"] else 0)


@timed
async def pauses_change_nothing(dut):
    """Pauses on all channels of both buses."""
    bench = await Bench(dut, pauses=1).start()
    reads = cocotb.start_soon(bench.read("id"))
    await bench.send(JOB["sequences"])
    assert await reads == JOB["id"]
    assert await bench.read("h_stalls") > 0
    assert await bench.read("cycles") > await bench.read("x_stalls")


@timed
async def registers_read_and_write(dut):
    """Constants, byte strobes, commands and bits that are cleared by writing 1."""
    bench = await Bench(dut).start()
    for register, value in DRIVER.EXPECTED.items():
        assert await bench.read(register) == value
    await bench.write("interrupt_enable", 0xFFFFFFFF)
    every = sum(1 << bit for bit in JOB["events"])
    assert await bench.read("interrupt_enable") == every
    # A write of one byte leaves the others as they are.
    await bench.lite.write(REGISTERS["interrupt_enable"] + 1, b"\0")
    assert await bench.read("interrupt_enable") == every
    await bench.lite.write(REGISTERS["interrupt_enable"], b"\2")
    assert await bench.read("interrupt_enable") == 2
    assert await bench.read("events") == 0
    before = await bench.read("cycles")
    await bench.write("control", 4)
    assert await bench.read("control") == 0
    assert 0 < await bench.read("cycles") < before
    await bench.write("control", 2)
    assert await bench.read("cycles") == await bench.read("cycles")


@timed
async def wrong_accesses_give_an_error_and_change_nothing(dut):
    """Every address of the window that is not a register, unaligned ones, and writes to what cannot be written."""
    bench = await Bench(dut).start()
    words, last = range(0, 4096, 4), max(REGISTERS.values())
    for address in [*words[len(REGISTERS) : len(REGISTERS) + 3], 0x800, 0xFFC, 1, 2, 3, last + 2]:
        assert await bench.raw_read(address) == AxiResp.SLVERR
        assert await bench.raw_write(address) == AxiResp.SLVERR
    for register in ("id", "status", "cycles", "fingerprint_high"):
        assert await bench.raw_write(REGISTERS[register]) == AxiResp.SLVERR
        assert await bench.raw_read(REGISTERS[register]) == AxiResp.OKAY
    assert await bench.read("id") == JOB["id"]
    assert await bench.read("interrupt_enable") == 0
    await bench.send(JOB["sequences"])


@timed
async def a_framing_error_raises_the_interrupt(dut):
    """Registers keep the error until it is cleared, and the next sequence is exact."""
    bench = await Bench(dut).start()
    await bench.write("interrupt_enable", 1)
    beat = len(dut.s_axis_x_tdata) // 8
    await bench.x.send(AxiStreamFrame(bytes.fromhex(JOB["sequences"][0]["x"])[:-beat]))
    await bench.h.recv()
    await ClockCycles(dut.aclk, 2)
    assert dut.irq.value == 1
    assert await bench.events() == 5
    await bench.write("events", 4)
    assert (await bench.events(), int(dut.irq.value)) == (1, 1)
    await bench.write("events", 1)
    assert (await bench.events(), int(dut.irq.value)) == (0, 0)
    await bench.send(JOB["sequences"])
    assert await bench.events() == 4


@timed
async def a_reset_of_the_accelerator_keeps_the_registers(dut):
    """A reset in the middle of a step: nothing is taken meanwhile, and afterwards everything is as at the start."""
    bench = await Bench(dut).start()
    await bench.write("interrupt_enable", 3)
    beat = len(dut.s_axis_x_tdata) // 8
    # A beat without last, so that a step has begun.
    bench.x.send_nowait(AxiStreamFrame(bytes(2 * beat)))
    while not (dut.s_axis_x_tvalid.value and dut.s_axis_x_tready.value):
        await RisingEdge(dut.aclk)
    bench.x.clear()
    await bench.write("control", 1)
    assert (int(dut.s_axis_x_tready.value), int(dut.m_axis_h_tvalid.value)) == (0, 0)
    assert await bench.read("control") == 1
    await bench.write("control", 0)
    # What the source still had under way.
    await ClockCycles(dut.aclk, 200)
    await bench.write("control", 1)
    await bench.write("control", 0)
    bench.h.clear()
    await bench.send(JOB["sequences"])
    assert await bench.read("interrupt_enable") == 3


async def with_driver(bench, calls):
    """Run calls of a blocking driver, whose accesses go to the simulated bus."""

    @resume
    async def read(address):
        response = await bench.lite.read(address, 4)
        return int.from_bytes(response.data, "little")

    @resume
    async def write(address, value):
        await bench.lite.write(address, value.to_bytes(4, "little"))

    return await bridge(calls)(read, write)


@timed
async def the_python_driver_works(dut):
    """Every function of the Python driver."""
    bench = await Bench(dut).start()

    def first(read, write):
        driver = DRIVER.Driver(read, write)
        driver.init()
        driver.enable_interrupts(["sequence_done"])

    def second(read, write):
        driver = DRIVER.Driver(read, write)
        found = [name for name in driver.events() if name != "saturation"], driver.counters()
        driver.clear_events()
        assert driver.events() == []
        return found

    await with_driver(bench, first)
    await bench.send(JOB["sequences"])
    assert dut.irq.value == 1
    events, counters = await with_driver(bench, second)
    assert (events, counters["steps"], int(dut.irq.value)) == (["sequence_done"], JOB["steps"], 0)


def bound(library, read, write):
    """Let the accesses of the C driver go through Python; the caller keeps what is returned while the driver runs."""
    readers = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_size_t)
    writers = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_uint32)
    kept = readers(read), writers(write)
    for name, function in zip(("bus_read", "bus_write"), kept, strict=True):
        ctypes.c_void_p.in_dll(library, name).value = ctypes.cast(function, ctypes.c_void_p).value
    return kept


@timed
async def the_c_driver_works(dut):
    """Every function of the C driver, compiled for this machine, with its accesses on the simulated bus."""
    bench, prefix = await Bench(dut).start(), JOB["prefix"]
    library = ctypes.CDLL(JOB["library"])

    class Counters(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint32) for name in DRIVER.COUNTERS]

    def first(read, write):
        kept = bound(library, read, write)
        assert getattr(library, f"{prefix}_init")(0) == 0
        assert getattr(library, f"{prefix}_init")(4) == -1
        getattr(library, f"{prefix}_enable_interrupts")(0, 4)
        return kept

    def second(read, write):
        kept, counters = bound(library, read, write), Counters()
        getattr(library, f"{prefix}_read_counters")(0, ctypes.byref(counters))
        found = getattr(library, f"{prefix}_events")(0)
        getattr(library, f"{prefix}_clear_events")(0, found)
        assert getattr(library, f"{prefix}_events")(0) == 0
        return kept and (found, {name: getattr(counters, name) for name in DRIVER.COUNTERS})

    await with_driver(bench, first)
    # Steps are packed and unpacked by the driver.
    x_bytes, h_bytes = JOB["step_bytes"]
    for sequence in JOB["integers"]:
        packed = b""
        for step in sequence["x"]:
            buffer = (ctypes.c_uint8 * x_bytes)()
            getattr(library, f"{prefix}_pack_x")((ctypes.c_int32 * len(step))(*step), buffer)
            packed += bytes(buffer)
        await bench.x.send(AxiStreamFrame(packed))
    for sequence in JOB["integers"]:
        data = bytes((await bench.h.recv()).tdata)
        steps = []
        for place in range(0, len(data), h_bytes):
            values = (ctypes.c_int32 * len(sequence["h"][0]))()
            getattr(library, f"{prefix}_unpack_h")((ctypes.c_uint8 * h_bytes)(*data[place : place + h_bytes]), values)
            steps.append(list(values))
        assert steps == sequence["h"]
    assert dut.irq.value == 1
    found, counters = await with_driver(bench, second)
    assert (found & ~SATURATION, counters["steps"]) == (4, JOB["steps"])
    assert (counters["sequences"], counters.get("saturations")) == (len(JOB["integers"]), JOB["saturations"])
    assert dut.irq.value == 0


def damaged(content: bytes, place: int) -> bytes:
    """The content with one bit changed."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def wrong_files(content: bytes) -> dict[str, list[bytes]]:
    """Damaged weight files, and one of another design with a correct header."""
    other = damaged(content[:24], 9)
    other += zlib.crc32(other).to_bytes(4, "little") + content[28:]
    broken = [b"", content[:20], content[:-1], content + b"\0", damaged(content, 0), damaged(content, 9)]
    return {"damaged": [*broken, damaged(content, len(content) - 1)], "other design": [other]}


@timed
async def weights_are_loaded_between_sequences(dut):
    """Both drivers load three images; wrong files change nothing; a write during a sequence is refused."""
    bench, prefix = await Bench(dut).start(), JOB["prefix"]
    library = ctypes.CDLL(JOB["library"])
    ok, busy = 0, -4
    for number, image in enumerate(JOB["images"]):
        content = bytes.fromhex(image["file"])
        wrong = wrong_files(content)

        def in_python(read, write, content=content, wrong=wrong):
            driver = DRIVER.Driver(read, write)
            for kind, files in wrong.items():
                for file in files:
                    with pytest.raises(ValueError, match="of another design" if kind == "other design" else "damaged"):
                        driver.load_weights(file)
            assert driver.read("control") == 0
            driver.load_weights(content)

        def in_c(read, write, content=content, wrong=wrong):
            kept = bound(library, read, write)
            load = getattr(library, f"{prefix}_load_weights")
            for code, kind in ((-5, "damaged"), (-3, "other design")):
                for file in wrong[kind]:
                    assert load(0, file, ctypes.c_size_t(len(file))) == code
            assert kept[0](REGISTERS["control"]) == 0
            assert load(0, content, ctypes.c_size_t(len(content))) == ok

        await with_driver(bench, in_c if number % 2 else in_python)
        assert await bench.read("control") == 0
        await bench.send(image["sequences"])
    if not JOB["images"]:
        return
    # A step has begun: nothing is written, and the sequence goes on as it was.
    await bench.write("interrupt_enable", 8)
    await bench.write("events", 0x1F)
    x, beat = bytes.fromhex(JOB["images"][-1]["sequences"][0]["x"]), len(dut.s_axis_x_tdata) // 8
    bench.h.clear()
    await bench.x.send(AxiStreamFrame(x[:beat] + x[beat:]))
    while not (dut.s_axis_x_tvalid.value and dut.s_axis_x_tready.value):
        await RisingEdge(dut.aclk)
    assert await bench.raw_write(REGISTERS["load_data"]) == AxiResp.SLVERR
    assert (await bench.read("events") & 8, int(dut.irq.value)) == (8, 1)
    await bench.write("events", 8)

    def is_busy(read, write):
        kept = bound(library, read, write)
        content = bytes.fromhex(JOB["images"][0]["file"])
        return kept and getattr(library, f"{prefix}_load_weights")(0, content, ctypes.c_size_t(len(content)))

    bench.h.pause = True
    assert await with_driver(bench, is_busy) == busy
    bench.h.pause = False
    frame = await bench.h.recv()
    assert bytes(frame.tdata).hex() == JOB["images"][-1]["sequences"][0]["h"]
    # No sequence begins until the image is loaded, with which the next one is computed.
    sending = cocotb.start_soon(bench.send(JOB["images"][0]["sequences"]))
    await ClockCycles(dut.aclk, 100)
    assert dut.s_axis_x_tready.value == 0
    assert await with_driver(bench, is_busy) == ok
    await sending
    # Bytes of a word that are left out, and addresses beyond the last memory.
    await bench.write("control", 8)
    await bench.lite.write(REGISTERS["load_data"], b"\0")
    assert await bench.read("events") & 8
    await bench.write("load_address", (1 << 32) - 1)
    assert await bench.raw_write(REGISTERS["load_data"]) == AxiResp.SLVERR
