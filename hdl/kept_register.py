"""A register that synthesis keeps beside what it drives, although others hold the same bits."""

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.hierarchy import shared


class KeptRegister(wiring.Component):
    """Delays some bits by a cycle.

    Many copies of a signal shorten its wires on an FPGA, but synthesis merges equal registers.  The build of a board
    replaces this module by cells that it does not merge (``chessrnn.sim.fpga_cells``).

    Parameters
    ----------
    width : int
        Number of bits.

    Members
    -------
    early : In(width)
    late : Out(width)
        ``early``, one cycle later.

    Latency: 1 · Throughput: 1 per cycle
    """

    reset_less = True

    def __init__(self, width: int):
        self.width = width
        super().__init__({"early": In(width), "late": Out(width)})

    @property
    def module_name(self) -> str:
        return f"kept_register_w{self.width}"

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.late.eq(self.early)
        return m


def keep(m: Module, values: dict[str, Value], platform, name: str = "kept") -> dict[str, Value]:
    """The values, a cycle later, from one :class:`KeptRegister` that is added to the module."""
    register = KeptRegister(sum(len(value) for value in values.values()))
    m.submodules[name] = shared(register, platform)
    m.d.comb += register.early.eq(Cat(*values.values()))
    late, start = {}, 0
    for key, value in values.items():
        late[key] = register.late[start : start + len(value)]
        start += len(value)
    return late
