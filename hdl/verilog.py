"""Configuration → Verilog-2005 text of the whole design."""

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.hdl import Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.accelerator import Accelerator
from chessrnn.hdl.bidirectional.bidirectional_accelerator import BidirectionalAccelerator
from chessrnn.hdl.hierarchy import VerilogPlatform, shared
from chessrnn.hdl.memory import RAM_VERILOG, ROM_VERILOG
from chessrnn.model.config import Config
from chessrnn.model.memory_image import FINGERPRINT_LABEL
from chessrnn.model.schedule import Schedule
from chessrnn.model.state_beats import state_bits

TOP_MODULE = "accelerator"


def accelerator(config: Config, contents: dict[str, list[int]] | None = None) -> wiring.Component:
    """The accelerator of the configuration's directions."""
    kind = BidirectionalAccelerator if config.network.bidirectional else Accelerator
    return kind(config, contents)


def top_members(config: Config) -> dict:
    """Members of the top module's signature, in the order in which ``ports.json`` lists them."""
    k, q, plan = config.block_size, config.quantization, config.output_plan
    members = {
        "x_valid": In(1), "x_ready": Out(1), "x_data": In(k * q.x.width), "x_last": In(1),
        "h_valid": Out(1), "h_ready": In(1), "h_data": Out(k * q.h.width), "h_last": Out(1),
        "matvec_active": Out(1),
    }  # fmt: skip
    if config.architecture.state_ports:
        bits = state_bits(config)
        members |= {
            "x_load": In(1), "state_in_valid": In(1), "state_in_ready": Out(1), "state_in_data": In(bits),
            "state_out_valid": Out(1), "state_out_ready": In(1), "state_out_data": Out(bits),
            "state_out_last": Out(1),
        }  # fmt: skip
    if plan is not None:
        members |= {
            "y_valid": Out(1), "y_ready": In(1), "y_index": Out(plan.index_bits), "y_logit": Out(plan.logit_bits),
            "y_last": Out(1),
        }  # fmt: skip
    return members


class Top(wiring.Component):
    """The accelerator with plain ports under the names that ``ports.json`` lists."""

    def __init__(self, config: Config):
        self.core = accelerator(config)
        self.has_state = config.architecture.state_ports
        self.has_output_layer = config.output_plan is not None
        super().__init__(top_members(config))

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


def ports(config: Config) -> list[dict]:
    """Describe every port of the top module: name, direction, width in bits, meaning.

    Names, directions and widths are those of :func:`top_members`; only the meanings are written here.
    """
    meanings = _port_meanings(config)
    return [
        {
            "name": name,
            "direction": "input" if member.flow == In else "output",
            "width": Shape.cast(member.shape).width,
            "meaning": meanings[name],
        }
        for name, member in {"clk": In(1), "rst": In(1), **top_members(config)}.items()
    ]


def _port_meanings(config: Config) -> dict[str, str]:
    """What a system designer needs to know of each port, by its name."""
    k, q, plan = config.block_size, config.quantization, config.output_plan
    x_beats, h_beats = config.num_input_blocks, f"{config.num_output_blocks} beats make a step"
    x_end = "on the last beat of a step: the sequence ends, the state returns to zero"
    if config.network.bidirectional:
        h_beats = f"{config.num_output_blocks} beats of the forward and as many of the reverse direction make a step"
        x_end += f"; so it does at step {config.sequence_steps}"
    its = "its state" if config.architecture.contexts == 1 else "its context's state"
    state_beats = Schedule(config).state_beats if config.architecture.state_ports else 0
    state = (
        f"{state_beats} beats are a state: of each layer the blocks of h, then its cells' states, first element lowest"
    )
    return {
        "clk": "clock, rising edge",
        "rst": "synchronous reset, active high",
        "x_valid": "a beat of x is offered",
        "x_ready": "the beat of x is taken in this cycle if it is offered",
        "x_data": f"{k} elements of x in format {q.x}, the first in the lowest bits; {x_beats} beats make a step; "
        "padding is ignored",
        "x_last": x_end,
        "h_valid": "a beat of h is offered",
        "h_ready": "the beat of h is taken in this cycle if it is offered",
        "h_data": f"{k} elements of h in format {q.h}, the first in the lowest bits; {h_beats}; padding is zero",
        "h_last": "on the last beat of the last step of a sequence",
        "matvec_active": "the tile works in this cycle: one word is read from every weight bank",
        "x_load": f"on the first beat of a sequence: {its} comes from state_in, else it is zero",
        "state_in_valid": "a beat of a state is offered",
        "state_in_ready": "it is taken in this cycle if it is offered",
        "state_in_data": state,
        "state_out_valid": f"a beat of {its} after a sequence is offered; the next step waits for it",
        "state_out_ready": "it is taken in this cycle if it is offered",
        "state_out_data": state,
        "state_out_last": "on the last beat of a state",
        "y_valid": "the result of a step is offered",
        "y_ready": "it is taken in this cycle if it is offered",
        "y_index": f"the largest of {plan.outputs} logits, the first of equals" if plan else "",
        "y_logit": "its logit, two's complement, at the scale of the output layer's biases",
        "y_last": "on the result of a sequence's last step",
    }


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


def to_verilog(text: str) -> str:
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
    body = to_verilog("\n".join([*platform.modules.values(), text]))
    c, arch = config, config.architecture
    header = (
        f"// chessrnn accelerator {c.name}, {FINGERPRINT_LABEL} {c.fingerprint}\n"
        f"// {c.network.cell} {c.network.input_size} -> {c.network.hidden_size}, block size {c.block_size}, "
        f"engine {arch.engine}, tile {arch.tile_rows} x {arch.tile_cols}\n\n"
    )
    return header + body + "\n" + ROM_VERILOG + "\n" + RAM_VERILOG
