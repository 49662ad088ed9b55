"""The device is the accelerator behind a serial line, as built for any FPGA board."""

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetInserter, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.accelerator import Accelerator
from chessrnn.hdl.device.host_link import HostLink
from chessrnn.hdl.device.uart import UartReceiver, UartTransmitter
from chessrnn.hdl.hierarchy import VerilogPlatform, shared
from chessrnn.hdl.loader import is_loadable
from chessrnn.hdl.memory import RAM_VERILOG, ROM_VERILOG, WEIGHT_RAM_VERILOG
from chessrnn.hdl.verilog import OWNERSHIP, to_verilog
from chessrnn.model.config import Config
from chessrnn.model.link.frames import LinkConfig
from chessrnn.model.memory_image import FINGERPRINT_LABEL

FPGA_MODULE = "chessrnn_fpga"


class Device(wiring.Component):
    """Connects the accelerator, the host link, and the receiver and transmitter of the line.

    Parameters
    ----------
    config : Config
    link : LinkConfig
    contents : dict of str to list of int, optional
        Words of the initialised memories, ``identity`` among them, for Amaranth's simulator.

    Members
    -------
    rx : In(1)
        The serial line from the host.
    tx : Out(1)
        The serial line to the host.
    busy : Out(1)
        High while the tile works; it may drive an LED.

    Reference: ``chessrnn.model.reference.host_link.HostLinkReference``
    """

    def __init__(self, config: Config, link: LinkConfig, contents: dict[str, list[int]] | None = None):
        self.core = Accelerator(config, contents)
        self.host_link = HostLink(config, link, contents["identity"] if contents else None)
        self.receiver, self.transmitter = UartReceiver(link.divisor), UartTransmitter(link.divisor)
        super().__init__({"rx": In(1), "tx": Out(1), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        core, link, receiver, transmitter = self.core, self.host_link, self.receiver, self.transmitter
        m.submodules.receiver = shared(receiver, platform)
        m.submodules.transmitter = shared(transmitter, platform)
        m.submodules.host_link = shared(link, platform)
        if isinstance(platform, VerilogPlatform):
            m.domains.core = domain = ClockDomain(local=True)
            m.d.comb += [domain.clk.eq(ClockSignal()), domain.rst.eq(ResetSignal() | link.core_reset)]
            m.submodules.core = DomainRenamer("core")(shared(core, platform))
        else:
            # In Amaranth's simulator a derived clock domain would be clocked one delta cycle too late.
            m.submodules.core = ResetInserter(link.core_reset)(core)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            link.rx_valid.eq(receiver.valid), link.rx_data.eq(receiver.data), link.rx_error.eq(receiver.error),
            self.tx.eq(transmitter.tx),
            link.tile_active.eq(core.matvec_active), self.busy.eq(core.matvec_active),
        ]  # fmt: skip
        wiring.connect(m, link.tx, transmitter.bytes)
        wiring.connect(m, link.x, core.x)
        wiring.connect(m, core.h, link.h)
        return m


def generate(config: Config, link: LinkConfig) -> str:
    """The Verilog of the device, with every module emitted once, and of the memory wrappers.

    The memories are filled from the accelerator's ``$readmemh`` files and from ``identity.mem`` at elaboration.
    """
    platform = VerilogPlatform()
    text = rtlil.convert(Device(config, link), name=FPGA_MODULE, platform=platform, emit_src=False)
    body = to_verilog("\n".join([*platform.modules.values(), text]))
    header = (
        f"// chessrnn device {config.name}, {FINGERPRINT_LABEL} {config.fingerprint}\n"
        f"// clock {link.clock_hz:.0f} Hz, {link.divisor} cycles per bit of the serial line\n"
        f"{OWNERSHIP}\n"
    )
    wrappers = [ROM_VERILOG, RAM_VERILOG, *([WEIGHT_RAM_VERILOG] if is_loadable(config) else [])]
    return header + body + "\n" + "\n".join(wrappers)
