"""A LiteX SoC around the emitted module, as a script of its own: LiteX is no part of the process that runs the tests.

usage: litex_soc.py FOLDER PREFIX CPU [ROM]    writes soc.v, csr.h and sources.json into the current folder

FOLDER is a build with its bus shell, CPU picorv32 or none, ROM the program's binary.
"""

import json
import sys
from pathlib import Path

from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.gen import LiteXModule
from litex.soc.integration import export
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect.csr import CSRStorage
from migen import Display, Finish, If
from migen.genlib.io import CRG

ORIGIN = 0x90000000


class Result(LiteXModule):
    """A register with which the program ends the simulation."""

    def __init__(self):
        self.value = CSRStorage(32)
        self.sync += If(self.value.re, Display("RESULT %d", self.value.storage), Finish())


def main(folder: str, prefix: str, cpu: str, rom: str | None = None) -> None:
    """Build the SoC."""
    sys.path.insert(0, folder)
    module = __import__(f"{prefix}_litex")
    data = Path(rom).read_bytes() if rom else b""
    words = [int.from_bytes(data[place : place + 4], "little") for place in range(0, len(data), 4)]
    platform = SimPlatform("SIM", [("sys_clk", 0, Pins(1)), ("sys_rst", 0, Pins(1))])
    soc = SoCCore(
        platform, int(1e6), cpu_type=None if cpu == "none" else cpu, integrated_rom_size=0x8000,
        integrated_rom_init=words, integrated_sram_size=0x4000, with_uart=False, with_timer=False,
    )  # fmt: skip
    soc.crg = CRG(platform.request("sys_clk"), platform.request("sys_rst"))
    soc.result = Result()
    module.add_accelerator(soc, prefix, ORIGIN, with_dma=True)
    soc.finalize()
    platform.get_verilog(soc, name="soc").write("soc.v")
    header = export.get_csr_header(
        soc.csr_regions, soc.constants, csr_base=soc.mem_regions["csr"].origin, with_access_functions=False
    )
    Path("csr.h").write_text(header)
    Path("sources.json").write_text(json.dumps([str(source[0]) for source in platform.sources]))


main(*sys.argv[1:])
