"""Framing of the stream x: a sequence is whole steps, and an early ``last`` does not shift the steps that follow.

A beat too few or too many in a sequence puts its ``last`` on a beat that is not the last of a step.  The step has
begun by then, with some of its sums computed, so it is not taken back: zeros complete it, and the sequence ends with
it.  Therefore every ``last`` of x gives one ``last`` of h, contexts keep their order, and a state leaves after every
sequence, whatever the number of beats was.
"""

from amaranth.hdl import Const, Module, Signal

# Bits of ``x_error``, by the kind of error.
EARLY_LAST, TOO_LONG = 0, 1
X_ERROR_BITS = 2


class Framing:
    """Takes the beats of x, and completes a step that ends too early with blocks of zeros.

    Adds its logic to a module, since most of it belongs to the paths of that module's handshake.

    Parameters
    ----------
    m : Module
        Module that receives the stream.
    x : stream interface
        Its ``ready`` is driven.
    step_ends : Value
        The next block is the last of its step.
    room : Value
        There is room for a block.
    blocks : int
        Blocks of a step.  With a single one every beat is a step, so there is nothing to go wrong.

    Attributes
    ----------
    write, block, last : Value
        A block is written: its elements, and the flag that counts on a step's last block.
    early : Signal or Const
        Pulse in the cycle after an early ``last``.
    filling : Signal or Const
        Zeros complete a step: no beat is taken.
    """

    def __init__(self, m: Module, x, step_ends, room, blocks: int):
        if blocks == 1:
            self.filling, self.early = Const(0), Const(0)
            m.d.comb += x.ready.eq(room)
            self.write, self.block, self.last = x.valid & room, x.payload.data, x.payload.last
            return
        self.filling, self.early, is_early = Signal(name="filling"), Signal(name="early_last"), Signal()
        self.write, self.block = Signal(name="x_taken"), Signal.like(x.payload.data, name="x_block")
        self.last = x.payload.last | self.filling
        m.d.comb += [
            x.ready.eq(room & ~self.filling),
            self.write.eq((x.valid | self.filling) & room),
            is_early.eq(x.valid & x.ready & x.payload.last & ~step_ends),
            self.block.eq(x.payload.data & ~self.filling.replicate(len(self.block))),
        ]
        m.d.sync += self.early.eq(is_early)
        with m.If(is_early):
            m.d.sync += self.filling.eq(1)
        with m.If(self.filling & room & step_ends):
            m.d.sync += self.filling.eq(0)
