"""Configuration → Verilog-2005 text of the whole design."""

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bidirectional import accelerator
from hdl.hierarchy import VerilogPlatform, shared
from hdl.memory import RAM_VERILOG, ROM_VERILOG
from model.config import Config
from model.memory_image import FINGERPRINT_LABEL
from model.output_layer import output_plan
from model.state_beats import state_bits

TOP_MODULE = "accelerator"


class Top(wiring.Component):
    """The accelerator with plain ports under the names that ``ports.json`` lists."""

    def __init__(self, config: Config):
        self.core = accelerator(config)
        k, q = config.block_size, config.quantization
        self.has_state = config.architecture.state_ports
        state = {}
        if self.has_state:
            bits = state_bits(config)
            state = {
                "x_load": In(1), "state_in_valid": In(1), "state_in_ready": Out(1), "state_in_data": In(bits),
                "state_out_valid": Out(1), "state_out_ready": In(1), "state_out_data": Out(bits),
                "state_out_last": Out(1),
            }  # fmt: skip
        self.has_output_layer = bool(config.architecture.output_layer)
        results = {}
        if self.has_output_layer:
            plan = output_plan(config)
            results = {
                "y_valid": Out(1), "y_ready": In(1), "y_index": Out(plan.index_bits), "y_logit": Out(plan.logit_bits),
                "y_last": Out(1),
            }  # fmt: skip
        super().__init__(
            {
                "x_valid": In(1), "x_ready": Out(1), "x_data": In(k * q.x.width), "x_last": In(1),
                "h_valid": Out(1), "h_ready": In(1), "h_data": Out(k * q.h.width), "h_last": Out(1),
                "matvec_active": Out(1), **state, **results,
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        core = self.core
        m.submodules.core = shared(core, platform)
        m.d.comb += [
            core.x.valid.eq(self.x_valid), self.x_ready.eq(core.x.ready),
            core.x.payload.data.eq(self.x_data), core.x.payload.last.eq(self.x_last),
            self.h_valid.eq(core.h.valid), core.h.ready.eq(self.h_ready),
            self.h_data.eq(core.h.payload.data), self.h_last.eq(core.h.payload.last),
            self.matvec_active.eq(core.matvec_active),
        ]  # fmt: skip
        if self.has_state:
            m.d.comb += [
                core.x.payload.load.eq(self.x_load),
                core.state_in.valid.eq(self.state_in_valid), self.state_in_ready.eq(core.state_in.ready),
                core.state_in.payload.eq(self.state_in_data),
                self.state_out_valid.eq(core.state_out.valid), core.state_out.ready.eq(self.state_out_ready),
                self.state_out_data.eq(core.state_out.payload.data),
                self.state_out_last.eq(core.state_out.payload.last),
            ]  # fmt: skip
        if self.has_output_layer:
            m.d.comb += [
                self.y_valid.eq(core.y.valid), core.y.ready.eq(self.y_ready), self.y_index.eq(core.y.payload.index),
                self.y_logit.eq(core.y.payload.logit), self.y_last.eq(core.y.payload.last),
            ]  # fmt: skip
        return m


# Initial values go, so that the reset has to do its work in simulation as on silicon; processes become
# expressions, which spares simulators the sensitivity of ``always @*``; what nobody reads goes as well.
PASSES = (
    "proc -norom",
    "attrmap -remove init",
    "opt_expr",
    "opt_muxtree",
    "opt_dff -nosdff",
    "opt_clean -purge",
    "write_verilog -norename -noattr -noparallelcase",
)


def _to_verilog(text: str) -> str:
    """RTLIL of several modules → Verilog, through the Yosys that Amaranth brings."""
    # Amaranth's own conversion takes one top at a time and knows no other passes, hence its private locator.
    yosys = find_yosys(lambda version: version >= (0, 40))
    body = yosys.run(["-q", "-"], "\n".join([f"read_rtlil <<rtlil\n{text}\nrtlil", *PASSES]), ignore_warnings=True)
    # A multiplexer of many inputs is printed as a function under its own name, and Icarus takes every call of a
    # name that starts with $, escaped or not, for a system function.
    return body.replace("\\$procmux$", "\\procmux$")


def generate(config: Config) -> str:
    """Verilog of the accelerator, its modules emitted once each, and of the memory wrappers.

    The text holds no weights: ``$readmemh`` files fill the memories when it is elaborated.
    """
    platform = VerilogPlatform()
    text = rtlil.convert(Top(config), name=TOP_MODULE, platform=platform, emit_src=False)
    body = _to_verilog("\n".join([*platform.modules.values(), text]))
    c, arch = config, config.architecture
    header = (
        f"// chessrnn accelerator {c.name}, {FINGERPRINT_LABEL} {c.fingerprint}\n"
        f"// {c.network.cell} {c.network.input_size} -> {c.network.hidden_size}, block size {c.block_size}, "
        f"engine {arch.engine}, tile {arch.tile_rows} x {arch.tile_cols}\n\n"
    )
    return header + body + "\n" + ROM_VERILOG + "\n" + RAM_VERILOG
