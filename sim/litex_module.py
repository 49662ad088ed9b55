"""A Python module by which LiteX takes the bus shell of a design: emitted beside it, never run here."""

from chessrnn.hdl.shell.axi_shell import LITE, shell_ports
from chessrnn.hdl.shell.register_file import axi_lite_members
from chessrnn.model.config import Config
from chessrnn.model.shell.registers import ADDRESS_BITS, WORD_BITS
from chessrnn.model.shell.stream_beats import StreamBeat, shell_streams

# Signals of AXI4-Stream as LiteX names them.
SIGNALS = {"tvalid": "valid", "tready": "ready", "tdata": "data", "tlast": "last", "tuser": "load"}
CHANNELS = ("aw", "ar", "w", "b", "r")

TEXT = '''\
"""LiteX module of {top}, {label}.

It needs LiteX 2024.12 or newer and the other files of this folder::

    from {module} import add_accelerator

    add_accelerator(soc, "{stem}", origin=0x90000000, with_dma=True)

puts the registers on the bus of a SoC, and its interrupt and DMA channels into the SoC's CSRs.  For the streams
themselves, add an Accelerator to a design of your own.
"""

from pathlib import Path

from litex.gen import LiteXModule
from litex.soc.cores.dma import WishboneDMAReader, WishboneDMAWriter
from litex.soc.integration.soc import SoCRegion
from litex.soc.interconnect import axi, stream, wishbone
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
from migen import ClockSignal, Instance, ResetSignal

FOLDER = Path(__file__).resolve().parent
# Bytes of the window of registers.
SIZE = {size}


class Accelerator(LiteXModule):
    """The module {top} in the clock domain "sys".

    Attributes
    ----------
    bus : AXILiteInterface
        Registers; only the {address_bits} lowest bits of an address count.
{stream_docs}
    ev : EventManager
        Its event "pending" is high while an event that the register interrupt_enable selects is pending.
    """

    def __init__(self, platform, folder=FOLDER):
        self.bus = axi.AXILiteInterface(data_width={word_bits}, address_width=32)
{streams}
        self.ev = EventManager()
        self.ev.pending_event = EventSourceLevel(name="pending")
        self.ev.finalize()
        self.specials += Instance(
            "{top}",
            p_MEM_DIR=str(folder),
            i_aclk=ClockSignal("sys"),
            i_aresetn=~ResetSignal("sys"),
{connections}
        )
        platform.add_source(str(Path(folder) / "{verilog}"))


class Dma(LiteXModule):
    """Moves sequences from memory to x, and their h to memory; each has the CSRs of LiteX's DMA cores.

    A transfer of x is one sequence.  Beats lie in memory as pack_x of the C driver writes them, and h as unpack_h
    reads it.
    """

    def __init__(self, core, data_width=32):
        for bits in ({x_bits}, {h_bits}):
            if max(bits, data_width) % min(bits, data_width):
                raise ValueError(f"a beat must be a multiple or a divisor of {{data_width}} bits for DMA, not {{bits}}")
        self.x_bus, self.h_bus = (
            wishbone.Interface(data_width=data_width, address_width=32, addressing="word") for _ in range(2)
        )
        # "big" leaves the bytes of a word where they are.
        self.x = WishboneDMAReader(self.x_bus, endianness="big", with_csr=True)
        self.h = WishboneDMAWriter(self.h_bus, endianness="big", with_csr=True)
        self.x_converter = stream.Converter(data_width, {x_bits})
        self.h_converter = stream.Converter({h_bits}, data_width)
        self.comb += [
            self.x.source.connect(self.x_converter.sink),
            self.x_converter.source.connect(core.x),
            core.h.connect(self.h_converter.sink),
            self.h_converter.source.connect(self.h.sink),
        ]


def add_accelerator(soc, name="{stem}", origin=0x90000000, with_dma=False):
    """Add the accelerator to a SoC: registers at origin, interrupt and DMA as CSRs with these names."""
    core = Accelerator(soc.platform)
    soc.add_module(name=name, module=core)
    soc.bus.add_slave(name, core.bus, SoCRegion(origin=origin, size=SIZE, cached=False))
    if soc.irq.enabled:
        soc.irq.add(name, use_loc_if_exists=True)
    if with_dma:
        dma = Dma(core, soc.bus.data_width)
        soc.add_module(name=f"{{name}}_dma", module=dma)
        soc.bus.add_master(name=f"{{name}}_x", master=dma.x_bus)
        soc.bus.add_master(name=f"{{name}}_h", master=dma.h_bus)
    return core
'''


def litex_module(config: Config, prefix: str, top: str, verilog: str, label: str) -> tuple[str, str]:
    """Name and text of the module for a design with the AXI shell."""
    streams, stem = shell_streams(config), f"{prefix}_litex"
    x, h = streams[:2]
    text = TEXT.format(
        top=top, label=label, module=stem, stem=prefix, verilog=verilog, size=1 << ADDRESS_BITS,
        address_bits=ADDRESS_BITS, word_bits=WORD_BITS, x_bits=x.bus_bits, h_bits=h.bus_bits,
        stream_docs="\n".join(_stream_doc(beat) for beat in streams),
        streams="\n".join(_endpoint(beat) for beat in streams),
        connections="\n".join(_connections(config, streams)),
    )  # fmt: skip
    return f"{stem}.py", text


def _stream_doc(beat: StreamBeat) -> str:
    """Description of a stream in the docstring of the module."""
    return f"    {beat.name} : Endpoint\n        {beat.meaning[0].upper()}{beat.meaning[1:]}."


def _endpoint(beat: StreamBeat) -> str:
    """Statement that makes the endpoint of a stream."""
    layout = f'[("data", {beat.bus_bits})]'
    if beat.has_user:
        layout = f'stream.EndpointDescription({layout}, [("load", 1)])'
    return f"        self.{beat.name} = stream.Endpoint({layout})"


def _connections(config: Config, streams: list[StreamBeat]) -> list[str]:
    """Arguments of the instance, one for every port of the shell but clock and reset."""
    signals = {"irq": "self.ev.pending_event.trigger"}
    for name in axi_lite_members():
        channel = next(start for start in CHANNELS if name.startswith(start))
        signal = f"self.bus.{channel}.{name.removeprefix(channel)}"
        signals[f"{LITE}_{name}"] = f"{signal}[:{ADDRESS_BITS}]" if name.endswith("addr") else signal
    for beat in streams:
        signals |= {f"{beat.prefix}_{signal}": f"self.{beat.name}.{name}" for signal, name in SIGNALS.items()}
    listed = [port for port in shell_ports(config) if port["name"] not in ("aclk", "aresetn")]
    return [f"            {port['direction'][0]}_{port['name']}={signals[port['name']]}," for port in listed]
