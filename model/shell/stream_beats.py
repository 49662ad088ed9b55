"""The AXI4-Stream ports of the bus shell: which streams there are, and how a beat lies on the bus."""

from dataclasses import dataclass

from chessrnn.model.config import Config
from chessrnn.model.state_beats import state_bits


@dataclass(frozen=True)
class StreamBeat:
    """A stream of the shell.

    Attributes
    ----------
    name : str
        Name of the accelerator's stream.
    is_input : bool
        The accelerator receives it.
    bits : int
        Bits of a beat's data.
    meaning : str
    has_last, has_user : bool
        ``tlast`` counts; there is ``tuser``.
    fields : tuple of str
        Fields of the payload that make the data, the first in the lowest bits; none where the payload is the data.
    """

    name: str
    is_input: bool
    bits: int
    meaning: str
    has_last: bool = True
    has_user: bool = False
    fields: tuple[str, ...] = ("data",)

    @property
    def prefix(self) -> str:
        """Name of the port without the signal."""
        return f"s_axis_{self.name}" if self.is_input else f"m_axis_{self.name}"

    @property
    def bus_bits(self) -> int:
        """Bits of ``tdata``, whole bytes; those above the data are ignored on input, and 0 on output."""
        return -(-self.bits // 8) * 8


def shell_streams(config: Config) -> list[StreamBeat]:
    """The streams of a design point."""
    k, q, plan, has_state = config.block_size, config.quantization, config.output_plan, config.architecture.state_ports
    x_text = f"{k} elements of x, {q.x}, the first lowest; {config.num_input_blocks} beats make a step"
    h_text = f"{k} elements of h, {q.h}, the first lowest; {config.num_stream_blocks} beats make a step"
    streams = [
        StreamBeat("x", True, k * q.x.width, x_text, has_user=has_state),
        StreamBeat("h", False, k * q.h.width, h_text),
    ]
    if plan is not None:
        bits = plan.index_bits + plan.logit_bits
        text = f"index of the largest logit, {plan.index_bits} bits, and above it the logit; one beat per step"
        streams.append(StreamBeat("y", False, bits, text, fields=("index", "logit")))
    if has_state:
        bits = state_bits(config)
        streams += [
            StreamBeat("state_in", True, bits, "state before a sequence", has_last=False, fields=()),
            StreamBeat("state_out", False, bits, "state after a sequence"),
        ]
    return streams
