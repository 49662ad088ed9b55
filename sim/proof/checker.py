"""Hardware around a design that watches its ports, with one output for each claim."""

from collections.abc import Mapping

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.hierarchy import VerilogPlatform
from chessrnn.sim.proof.model_checker import BAD, TOP, Claim


class Checker(wiring.Component):
    """Base class of checkers: free inputs, and an output ``bad_<name>`` for every claim.

    The design and the checker are in reset in the first cycle, and afterwards in the cycles that ``restart``, a free
    input, chooses.  What a checker assumes about its surroundings is collected by :meth:`assume`; from the first cycle
    on in which an assumption is broken, no claim is.

    Parameters
    ----------
    inputs : dict of str to int
        Widths of the free inputs by name.
    claims : tuple of Claim
    restarts : bool
        Whether there is a reset after the first cycle.
    """

    # Claims that hold in the first cycle as well, when no register has a known value.
    FROM_START: tuple[str, ...] = ()
    CLAIMS: tuple[Claim, ...] = ()

    def __init__(self, inputs: Mapping[str, int], claims: tuple[Claim, ...], restarts: bool = True):
        self.claims, self.restarts = claims, restarts
        self.assumptions: list[Value] = []
        super().__init__(
            {
                "clk": In(1), "restart": In(1), **{name: In(width) for name, width in inputs.items()},
                **{f"{BAD}{claim.name}": Out(1) for claim in claims},
            }
        )  # fmt: skip

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        """Add the design and what watches it; returns for every claim whether it is broken in this cycle.

        Every checker defines this method; there is nothing to watch without a design.
        """
        raise NotImplementedError

    def assume(self, condition) -> None:
        """Restrict the free inputs: only runs count in which the condition has held in every cycle so far."""
        self.assumptions.append(Value.cast(condition))

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain(local=True)
        begun = Signal(reset_less=True)
        m.d.sync += begun.eq(1)
        m.d.comb += [
            ClockSignal().eq(self.clk),
            ResetSignal().eq(~begun | self.restart if self.restarts else ~begun),
        ]
        broken = self.watch(m, ResetSignal(), platform)
        kept, so_far = Signal(init=1, reset_less=True), Signal()
        holds = Cat(condition.bool() for condition in self.assumptions).all() if self.assumptions else 1
        m.d.comb += so_far.eq(kept & (holds | ~begun))
        m.d.sync += kept.eq(so_far)
        for claim in self.claims:
            counts = so_far if claim.name in self.FROM_START else so_far & begun
            m.d.comb += getattr(self, f"{BAD}{claim.name}").eq(broken[claim.name] & counts)
        return m


def to_rtlil(checker: Checker) -> str:
    """The checker and the modules that it shares with the emitted Verilog, as RTLIL."""
    platform = VerilogPlatform()
    top = rtlil.convert(checker, name=TOP, platform=platform, emit_src=False)
    return "\n".join([*platform.modules.values(), top])


def waits(m: Module, name: str, reset, valid, ready, payload=None) -> tuple[Value, Value]:
    """Whether a beat that was offered and not taken has vanished, or has changed.

    Parameters
    ----------
    m : Module
    name : str
        Begins the names of the registers.
    reset : Value
        A reset in this cycle may take the beat away.
    valid, ready, payload : Value
        The stream.

    Returns
    -------
    tuple of Value
        The beat is no longer offered; it is, with another payload.
    """
    waited = Signal(name=f"{name}_waited")
    m.d.sync += waited.eq(valid & ~ready)
    if payload is None:
        return waited & ~valid & ~reset, Value.cast(0)
    before = Signal(len(Value.cast(payload)), name=f"{name}_before")
    m.d.sync += before.eq(payload)
    return waited & ~valid & ~reset, waited & valid & ~reset & (before != payload)
