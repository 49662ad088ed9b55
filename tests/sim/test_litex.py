"""The emitted LiteX module: a SoC with a soft CPU runs the emitted C driver in simulation, 0 LSB from the reference."""

import ast
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chessrnn.hdl.shell.axi_shell import shell_ports
from chessrnn.model.load_layout import weight_file
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import emit
from chessrnn.sim.litex_module import litex_module
from chessrnn.sim.runner import environment
from chessrnn.sim.scenarios import Scenario, random_sequences

HERE = Path(__file__).resolve().parent
SMALL = {"architecture.arithmetic": "multiplier", "architecture.engine": "direct", "network.hidden_size": 6}
DESIGNS = {
    "plain": {},
    "all streams": {"architecture.state_ports": True, "architecture.output_layer": 5},
    "wide beats": {"compression.block_size": 8, "architecture.tile_rows": 4, "architecture.tile_cols": 1},
}
LOADABLE = {"architecture.weight_memory": "ram", "architecture.monitor": True, "quantization.preact": "Q2.8"}
# Program at 0, variables and stack in the SoC's SRAM.
LINK = """\
ENTRY(_start)
SECTIONS {
  . = 0;
  .text : { *(.text.start) *(.text .text.*) }
  .rodata : { *(.rodata .rodata.* .srodata .srodata.*) }
  . = 0x01000000;
  .bss (NOLOAD) : { *(.bss .bss.* .sbss .sbss.* COMMON) }
  stack_top = 0x01004000;
  /DISCARD/ : { *(.eh_frame .eh_frame_hdr .comment .riscv.attributes) }
}
"""
START = ".section .text.start\n.globl _start\n_start:\n  la sp, stack_top\n  j main\n"
BENCH = """\
#include "Vsoc.h"
#include "verilated.h"
int main() {
  Vsoc soc;
  for (unsigned cycle = 0; cycle < 1000000 && !Verilated::gotFinish(); cycle++) {
    soc.sys_rst = cycle < 5;
    soc.sys_clk = 0; soc.eval();
    soc.sys_clk = 1; soc.eval();
  }
  soc.final();
}
"""


@pytest.mark.parametrize("name", DESIGNS)
def test_every_port_of_the_shell_is_connected(name):
    config = preset("tiny").replace(SMALL | DESIGNS[name])
    file, text = litex_module(config, "soc", "soc_axi", "accelerator.v", "a label")
    assert file == "soc_litex.py"
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if ast.unparse(node.func) == "Instance"]
    assert ast.literal_eval(call.args[0]) == "soc_axi"
    found = [keyword.arg for keyword in call.keywords if keyword.arg != "p_MEM_DIR"]
    assert sorted(found) == sorted(f"{port['direction'][0]}_{port['name']}" for port in shell_ports(config))


def build_soc(folder: Path, work: Path, cpu: str, *rom: str) -> list[str]:
    """Write the Verilog of a SoC, and return it with the sources that it instantiates."""
    command = [sys.executable, HERE / "litex_soc.py", folder, "soc", cpu, *rom]
    done = subprocess.run([str(part) for part in command], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return ["soc.v", *json.loads((work / "sources.json").read_text())]


@pytest.mark.slow
@pytest.mark.needs("icarus")
@pytest.mark.parametrize("name", DESIGNS)
def test_icarus_elaborates_a_soc_without_a_cpu(name, tmp_path, rng):
    config = preset("tiny").replace(SMALL | DESIGNS[name])
    emit(random_weights(config, rng), tmp_path / "build", "a test", "soc", "axi")
    sources = build_soc(tmp_path / "build", tmp_path, "none")
    done = subprocess.run(
        ["iverilog", "-g2005-sv", "-s", "soc", "-o", "soc.vvp", *sources], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "soc_axi" in (tmp_path / "soc.v").read_text()
    header = (tmp_path / "csr.h").read_text()
    for register in ("EV_STATUS", "EV_ENABLE", "DMA_X_ENABLE", "DMA_H_DONE"):
        assert f"CSR_SOC_{register}_ADDR" in header


def array(kind: str, name: str, values: np.ndarray) -> str:
    """Definition of a C array."""
    sizes = "".join(f"[{size}]" for size in values.shape)
    text = re.sub(r"\s+", "", str(values.tolist())).replace("[", "{").replace("]", "}")
    return f"static const {kind} {name}{sizes} = {text};\n"


def compiled(work: Path, driver: Path) -> Path:
    """The program as a binary, by the C compiler that the package ziglang brings."""
    (work / "link.ld").write_text(LINK)
    (work / "start.S").write_text(START)
    options = ["-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m", "-Os", "-ffreestanding", "-nostdlib"]
    options += ["-fno-sanitize=all", "-Wall", "-Wextra", "-Werror", f"-I{driver.parent}", f"-I{work}", "-T", "link.ld"]
    caches = {f"ZIG_{name}_CACHE_DIR": str(work / "zig") for name in ("GLOBAL", "LOCAL")}
    sources = ["start.S", str(HERE / "litex_program.c"), str(driver)]
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *options, "-o", "program.elf", *sources], cwd=work,
        env={**os.environ, **caches}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    elf, image = (work / "program.elf").read_bytes(), bytearray()
    (table,), (count,) = struct.unpack_from("<I", elf, 28), struct.unpack_from("<H", elf, 44)
    for number in range(count):
        kind, offset, address, _, size = struct.unpack_from("<5I", elf, table + 32 * number)
        if kind == 1 and size:
            image = image.ljust(address + size, b"\0")
            image[address : address + size] = elf[offset : offset + size]
    (work / "program.bin").write_bytes(image.ljust(-(-len(image) // 4) * 4, b"\0"))
    return work / "program.bin"


@pytest.mark.slow
@pytest.mark.needs("verilator")
def test_a_soft_cpu_runs_the_driver(tmp_path, rng, clipped):
    """PicoRV32 sends a sequence by DMA, waits for the interrupt, compares h, loads other weights, and does it again."""
    config = preset("tiny").replace(SMALL | LOADABLE)
    images = [random_weights(config, rng) for _ in range(2)]
    emit(images[0], tmp_path / "build", "a test", "soc", "axi")
    sequences = random_sequences(config, rng, (3,))
    clipped.clear()
    h = np.stack([Scenario(weights, sequences).expected[0] for weights in images])
    saturations = sum(clipped.values())
    assert saturations > 0 and (h[0] != h[1]).any()
    vectors = "#include <stdint.h>\n#define ORIGIN 0x90000000u\n#define STEPS 3u\n"
    vectors += f"#define SATURATIONS {saturations}u\n" + array("int32_t", "x", sequences[0]) + array("int32_t", "h", h)
    vectors += array("uint8_t", "weights", np.frombuffer(weight_file(images[1]), dtype=np.uint8))
    (tmp_path / "vectors.h").write_text(vectors)
    # The addresses of the CSRs are those of the SoC with its program.
    build_soc(tmp_path / "build", tmp_path, "picorv32")
    sources = build_soc(
        tmp_path / "build", tmp_path, "picorv32", compiled(tmp_path, tmp_path / "build" / "soc_driver.c")
    )
    (tmp_path / "main.cpp").write_text(BENCH)
    command = [
        "verilator",
        "--cc",
        "--exe",
        "--build",
        "-Wno-fatal",
        "-Wno-lint",
        "--top-module",
        "soc",
        "-Mdir",
        "obj",
    ]
    with environment("verilator"):
        done = subprocess.run(
            [*command, "-CFLAGS", "-O1", "main.cpp", *sources], cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    done = subprocess.run(["obj/Vsoc"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert re.findall(r"^RESULT +(\d+)$", done.stdout, re.MULTILINE) == ["0"]
