"""Address counter of a bidirectional network: it repeats the words of one layer until the next pass begins."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.memory import address_width
from chessrnn.hdl.part_shapes import select
from chessrnn.model.config import Config


def layer_port(config: Config, direction) -> dict:
    """The member ``layer`` of a block that handles several layers; none in a network of one layer."""
    return {"layer": direction(range(config.network.num_layers))} if config.network.num_layers > 1 else {}


class PassAddress(wiring.Component):
    """Address of a memory that holds its words layer after layer; a pass repeats the words of one layer.

    One repetition serves a step of the forward and a step of the reverse direction.

    Parameters
    ----------
    config : Config
        Configuration of a bidirectional network.
    name : str
        Name of the emitted module.
    words : list of int
        Number of words of each layer, both directions together.

    Members
    -------
    start : In(1)
        A pass begins in the next cycle.
    first : In(1)
        With ``start``: the pass is that of the first layer, else that of the layer after the previous pass's.
    layer : In, with several layers
        Layer of the pass.
    advance : In(1)
        Go on to the next word.
    address : Out
        Address of the current word.
    """

    def __init__(self, config: Config, name: str, words: list[int]):
        self.config, self.module_name, self.words = config, name, words
        super().__init__(
            {
                "start": In(1), "first": In(1), **layer_port(config, In), "advance": In(1),
                "address": Out(address_width(sum(words))),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        several = len(self.words) > 1
        words = select(self.layer if several else None, self.words)
        base, place = Signal.like(self.address), Signal(range(max(2, *self.words)))
        with m.If(self.advance):
            m.d.sync += [self.address.eq(self.address + 1), place.eq(place + 1)]
            with m.If(place == words - 1):
                m.d.sync += [self.address.eq(base), place.eq(0)]
        if several:
            following = Signal.like(base)
            m.d.comb += following.eq(Mux(self.first, 0, base + words))
            with m.If(self.start):
                m.d.sync += [self.address.eq(following), base.eq(following)]
        return m
