"""The bus shell: the accelerator with AXI4-Stream ports, an AXI4-Lite register file and an interrupt."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.framing import EARLY_LAST, TOO_LONG
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.loader import is_loadable
from chessrnn.hdl.monitor import add_beat_check, monitor_ports
from chessrnn.hdl.parity import parity_port
from chessrnn.hdl.shell.register_file import RegisterFile, axi_lite_members
from chessrnn.model.config import Config
from chessrnn.model.shell.registers import WORD_BITS, counters, register_map
from chessrnn.model.shell.stream_beats import StreamBeat, shell_streams

LITE = "s_axil"


def shell_members(config: Config) -> dict:
    """Members of the shell's signature, in the order in which ``ports.json`` lists them."""
    members = {"aclk": In(1), "aresetn": In(1)}
    for beat in shell_streams(config):
        # The flow of what the source of the stream drives.
        forward, backward = (In, Out) if beat.is_input else (Out, In)
        members |= {f"{beat.prefix}_tvalid": forward(1), f"{beat.prefix}_tready": backward(1)}
        members |= {f"{beat.prefix}_tdata": forward(beat.bus_bits)}
        members |= {f"{beat.prefix}_tlast": forward(1)} if beat.has_last else {}
        members |= {f"{beat.prefix}_tuser": forward(1)} if beat.has_user else {}
    members |= {f"{LITE}_{name}": member for name, member in axi_lite_members().items()}
    return members | {"irq": Out(1)}


class AxiShell(wiring.Component):
    """Wraps the accelerator for a system on chip.

    The streams are those of the accelerator, with their data widened to whole bytes.  A beat that is not taken is
    never changed, except by a reset of the accelerator.  The register file works while the accelerator is in reset.

    Parameters
    ----------
    core : wiring.Component
        The accelerator (``chessrnn.hdl.verilog.accelerator``).
    config : Config

    Members
    -------
    aclk, aresetn : In(1)
        Clock, and synchronous reset, active low.
    s_axis_*, m_axis_* : AXI4-Stream
        ``chessrnn.model.shell.stream_beats.shell_streams``.
    s_axil_* : AXI4-Lite
        Registers: ``chessrnn.model.shell.registers.register_map``.
    irq : Out(1)
        High while an enabled event is pending.

    Latency: none in the streams · Numerics: none
    """

    module_name = "axi"

    def __init__(self, core: wiring.Component, config: Config):
        self.core, self.config = core, config
        super().__init__(shell_members(config))

    def elaborate(self, platform):
        m = Module()
        core, config = self.core, self.config
        m.domains.sync = ClockDomain(local=True)
        m.domains.core = ClockDomain(local=True)
        registers = RegisterFile(register_map(config))
        m.submodules.registers = shared(registers, platform)
        m.submodules.core = DomainRenamer("core")(shared(core, platform))
        m.d.comb += [
            ClockSignal("sync").eq(self.aclk), ResetSignal("sync").eq(~self.aresetn),
            ClockSignal("core").eq(self.aclk), ResetSignal("core").eq(~self.aresetn | registers.control_reset),
        ]  # fmt: skip
        for name in axi_lite_members():
            outer, inner = getattr(self, f"{LITE}_{name}"), getattr(registers, name)
            m.d.comb += outer.eq(inner) if registers.signature.members[name].flow == Out else inner.eq(outer)

        runs = Signal()
        m.d.comb += runs.eq(~ResetSignal("core"))
        taken, stalled, lasts = {}, {}, {}
        for beat in shell_streams(config):
            taken[beat.name], stalled[beat.name], lasts[beat.name] = self._stream(m, beat, runs)
        self._count(m, registers, taken["h"], lasts["h"], stalled["x"], stalled["h"], runs)

        events = {
            "early_last": core.x_error[EARLY_LAST], "too_long": core.x_error[TOO_LONG],
            "sequence_done": taken["h"] & lasts["h"],
        }  # fmt: skip
        if is_loadable(config):
            events["load_refused"] = self._loader(m, registers, runs)
        if parity_port(config):
            events["parity"] = core.parity_error
        if monitor_ports(config):
            check = add_beat_check(m, platform, config, core, taken["x"], taken["h"], "core")
            events |= {"beats": check, "saturation": core.saturations.any()}
        pending = []
        for name, event in events.items():
            # The accelerator is unknown in a simulation before its first reset, and so is what it reports.
            m.d.comb += getattr(registers, f"events_{name}").eq(event & runs)
            pending.append(getattr(registers, f"events_{name}_now") & getattr(registers, f"interrupt_enable_{name}"))
        m.d.comb += [
            self.irq.eq(Cat(*pending).any() & self.aresetn),
            registers.status_x_waits.eq(stalled["x"]), registers.status_h_waits.eq(stalled["h"]),
            registers.status_active.eq(core.matvec_active & runs),
        ]  # fmt: skip
        return m

    def _stream(self, m, beat: StreamBeat, runs):
        """Connect a stream; returns whether a beat is taken, whether one waits, and its last flag."""
        stream = getattr(self.core, beat.name)

        def port(name: str):
            return getattr(self, f"{beat.prefix}_{name}")

        # Streams without fields have data only.
        inner = Cat(*(getattr(stream.payload, name) for name in beat.fields)) if beat.fields else stream.payload
        if beat.is_input:
            m.d.comb += [
                stream.valid.eq(port("tvalid")), port("tready").eq(stream.ready & runs), inner.eq(port("tdata")),
                *([stream.payload.last.eq(port("tlast"))] if beat.has_last else []),
                *([stream.payload.load.eq(port("tuser"))] if beat.has_user else []),
            ]  # fmt: skip
        else:
            m.d.comb += [
                port("tvalid").eq(stream.valid & runs), stream.ready.eq(port("tready")), port("tdata").eq(inner),
                port("tlast").eq(stream.payload.last),
            ]  # fmt: skip
        return port("tvalid") & port("tready"), port("tvalid") & ~port("tready"), port("tlast") if beat.has_last else 0

    def _loader(self, m, registers: RegisterFile, runs):
        """Connect the loader, whose address counts on with every write; returns whether a write is refused."""
        core, address = self.core, Signal.like(self.core.load_address)
        writes = registers.load_data_word_push
        m.d.comb += [
            core.load_hold.eq(registers.control_hold), core.load_address.eq(address), core.load_en.eq(writes),
            core.load_data.eq(registers.load_data_word), registers.status_load_ready.eq(core.load_ready & runs),
            registers.load_address_address_open.eq(1), registers.load_address_address_now.eq(address),
            registers.load_data_word_open.eq(core.load_ready & runs), registers.load_crc_value.eq(core.load_crc),
        ]  # fmt: skip
        with m.If(writes):
            m.d.sync += address.eq(core.load_next)
        with m.If(registers.load_address_address_push):
            m.d.sync += address.eq(registers.load_address_address)
        return registers.refused

    def _count(self, m, registers: RegisterFile, h_taken, h_last, x_stalls, h_stalls, runs) -> None:
        """Add the counters."""
        blocks = self.config.num_stream_blocks
        place, step_ends = Signal(range(max(2, blocks))), Signal()
        m.d.comb += step_ends.eq(h_taken & (place == blocks - 1))
        with m.If(h_taken):
            m.d.sync += place.eq(place + 1)
        with m.If(step_ends | ~runs):
            m.d.sync += place.eq(0)
        counted = {
            "cycles": 1, "active_cycles": self.core.matvec_active & runs, "steps": step_ends,
            "sequences": h_taken & h_last, "x_stalls": x_stalls, "h_stalls": h_stalls,
        }  # fmt: skip
        if monitor_ports(self.config):
            counted["saturations"] = Mux(runs, self.core.saturations, 0)
        assert counted.keys() == counters(self.config).keys(), "every counter of the map is connected"
        for name, event in counted.items():
            counter = Signal(WORD_BITS, name=name)
            with m.If(registers.control_clear):
                m.d.sync += counter.eq(0)
            with m.Elif(~registers.control_freeze):
                m.d.sync += counter.eq(counter + event)
            m.d.comb += getattr(registers, f"{name}_count").eq(counter)


def shell_ports(config: Config) -> list[dict]:
    """Describe every port of the shell: name, direction, width in bits, meaning."""
    meanings = {"aclk": "clock, rising edge", "aresetn": "synchronous reset, active low", "irq": "an event is pending"}
    for beat in shell_streams(config):
        texts = {
            "tvalid": "a beat is offered", "tready": "it is taken in this cycle if it is offered",
            "tdata": beat.meaning, "tlast": "on the last beat of a sequence",
            "tuser": "on the first beat of a sequence: it starts from state_in",
        }  # fmt: skip
        meanings |= {f"{beat.prefix}_{name}": text for name, text in texts.items()}
    meanings |= {f"{LITE}_{name}": "AXI4-Lite" for name in axi_lite_members()}
    return [
        {
            "name": name,
            "direction": "input" if member.flow == In else "output",
            "width": Shape.cast(member.shape).width,
            "meaning": meanings[name],
        }
        for name, member in shell_members(config).items()
    ]
