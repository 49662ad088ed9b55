"""The sequencer of a bidirectional network stores whole sequences and runs every layer over them in both directions."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import padding_mask, widened
from chessrnn.hdl.block_stream import block_stream
from chessrnn.hdl.framing import X_ERROR_BITS, Framing
from chessrnn.hdl.loader import is_loadable
from chessrnn.hdl.parity import Memories, parity_port
from chessrnn.hdl.part_shapes import select
from chessrnn.hdl.pass_address import layer_port
from chessrnn.model.config import Config
from chessrnn.model.memory_image import layer_input_bits, sequence_memories


class Sequencer(wiring.Component):
    """Receives a sequence of x, runs one pass per layer over it, stores each pass's h, and sends the h of the last one.

    A pass feeds the engine with step 0, the last step, step 1, the last but one, and so on, as the two directions
    alternate.  The first layer reads x, the others the h of both directions of the layer below.  Two memories of h swap
    their roles after every pass.  The next sequence's x is accepted as soon as the first layer has read this one's.

    Parameters
    ----------
    config : Config
        Configuration of a bidirectional network.

    Members
    -------
    x : In(stream.Signature(…))
        ``data``: a block of x; ⌈X/k⌉ beats make a step, padding is ignored.  ``last``: set on the last beat of a
        sequence's last step; a sequence also ends after ``sequence_steps`` steps.  On an earlier beat zeros complete
        the step.
    h : Out(stream.Signature(…))
        ``data``: a block of h; a step has ⌈H/k⌉ beats of the forward direction, then as many of the reverse one.
        ``last``: set on the last beat of the sequence.
    x_error : Out(X_ERROR_BITS)
        In the cycle after the faulty beat, one bit per kind of error (``chessrnn.hdl.framing``).
    start : Out(1)
        A pass begins in the next cycle.
    first : Out(1)
        With ``start``: the pass is that of the first layer.
    layer : Out, with several layers
        Layer of the pass; stable from the cycle after ``start``.
    room : In(1)
        The engine has room for another block of input.
    promise : Out(1)
        Announces a block of input, which follows as ``block`` with ``block_valid`` in the next cycle.
    block_valid, block : Out
        A block of the layer's input, in the order in which the pass works on the steps.
    h_write, h_block : In
        A block of h that the engine computed, in the same order.
    hold : In(1), with ``architecture.weight_memory = ram``
        No sequence begins.
    quiet : Out(1), with ``architecture.weight_memory = ram``
        No sequence is under way.
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read has a wrong parity (``chessrnn.hdl.parity``).

    Latency, throughput: ``chessrnn.model.sequence_schedule``, to the cycle · Numerics: sign extension
    """

    module_name = "sequencer"

    def __init__(self, config: Config):
        self.config = config
        k, q = config.block_size, config.quantization
        super().__init__(
            {
                "x": In(block_stream(config, q.x)),
                "h": Out(block_stream(config, q.h)),
                "x_error": Out(X_ERROR_BITS),
                "start": Out(1), "first": Out(1), **layer_port(config, Out),
                "room": In(1), "promise": Out(1), "block_valid": Out(1), "block": Out(k * layer_input_bits(config)),
                "h_write": In(1), "h_block": In(k * q.h.width),
                **({"hold": In(1), "quiet": Out(1)} if is_loadable(config) else {}),
                **parity_port(config),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        x_blocks, own, layers = config.num_input_blocks, config.num_output_blocks, config.network.num_layers
        both = config.num_stream_blocks
        x_spec, *h_specs = sequence_memories(config)
        memories = Memories(m, platform, config)
        memory_x, memory_h = memories.ram(x_spec), [memories.ram(spec) for spec in h_specs]
        memories.report(self)
        layer = self.layer if layers > 1 else Const(0, 1)

        def pointer(name: str, spec=h_specs[0]) -> Signal:
            return Signal(range(max(2, spec.depth)), name=name)

        # -- x: a whole sequence, from its first step to its last -----------------------------------------------
        x_full, x_word, x_base = Signal(), pointer("x_word", x_spec), pointer("x_base", x_spec)
        x_count, h_base, release = Signal(range(max(2, x_blocks))), pointer("h_base"), Signal()
        taken, step_ends, sequence_ends = Signal(), Signal(), Signal()
        mask = padding_mask(config.network.input_size, config.block_size, config.quantization.x.width)
        longest = (config.sequence_steps - 1) * x_blocks
        room = ~x_full
        if is_loadable(config):
            room = ~x_full & ~(self.hold & (x_word == 0))
        framing = Framing(m, self.x, step_ends, room, x_blocks)
        too_long = Signal()
        m.d.comb += [
            taken.eq(framing.write),
            step_ends.eq(x_count == x_blocks - 1),
            sequence_ends.eq(step_ends & (framing.last | (x_base == longest))),
            memory_x.write_en.eq(taken),
            memory_x.write_addr.eq(x_word),
            memory_x.write_data.eq(Mux(step_ends, framing.block & mask, framing.block)),
            self.x_error.eq(Cat(framing.early, too_long)),
        ]
        m.d.sync += too_long.eq(taken & sequence_ends & ~framing.last)
        with m.If(taken):
            m.d.sync += [x_word.eq(x_word + 1), x_count.eq(x_count + 1)]
            with m.If(step_ends):
                m.d.sync += x_count.eq(0)
                # The address of the last step, here and in the memories of h, is kept until the first layer is done.
                with m.If(sequence_ends):
                    m.d.sync += x_full.eq(1)
                with m.Else():
                    m.d.sync += [x_base.eq(x_base + x_blocks), h_base.eq(h_base + both)]
        with m.If(release):
            m.d.sync += [x_full.eq(0), x_word.eq(0), x_base.eq(0), h_base.eq(0)]

        # -- passes ------------------------------------------------------------------------------------------------
        # Number of the memory that the pass writes, and the address of the sequence's last step in it.
        target, h_last, written, sent, launch = Signal(init=1), pointer("h_last"), Signal(), Signal(), Signal()
        with m.FSM() as fsm:
            with m.State("LOAD"):  # until a whole sequence of x is stored
                with m.If(x_full):
                    m.d.comb += [self.start.eq(1), self.first.eq(1)]
                    m.d.sync += h_last.eq(h_base)
                    m.next = "PASS"
            with m.State("PASS"):  # until all h of the layer is written
                with m.If(written):
                    m.next = "NEXT"
            with m.State("NEXT"):  # until the last sequence's output is sent: then another layer, or this output
                with m.If(sent):
                    m.d.comb += [self.start.eq(layer != layers - 1), launch.eq(layer == layers - 1)]
                    m.next = "LOAD"
                    with m.If(layer != layers - 1):
                        m.next = "PASS"
        with m.If(self.start):
            m.d.sync += target.eq(~target)
            if layers > 1:
                m.d.sync += layer.eq(Mux(self.first, 0, layer + 1))

        # -- input of the engine: the steps of both directions alternate -------------------------------------------
        feeding, direction, count = Signal(), Signal(name="feed_direction"), Signal(range(max(2, x_blocks, both)))
        word, forward, backward = (
            Signal(range(max(2, x_spec.depth, h_specs[0].depth)), name=f"feed_{name}")
            for name in ("word", "forward", "backward")
        )
        inputs = select(layer, [parts[0].late.blocks for parts in config.layer_parts])
        m.d.comb += self.promise.eq(feeding & self.room)
        m.d.sync += self.block_valid.eq(self.promise)
        with m.If(self.promise):
            m.d.sync += [word.eq(word + 1), count.eq(count + 1)]
            with m.If(count == inputs - 1):
                m.d.sync += [count.eq(0), direction.eq(~direction), word.eq(backward)]
                with m.If(direction):
                    m.d.sync += [
                        forward.eq(forward + inputs), word.eq(forward + inputs), backward.eq(backward - inputs),
                    ]  # fmt: skip
                    # The reverse direction ends at step 0.
                    with m.If(backward == 0):
                        m.d.sync += feeding.eq(0)
                        m.d.comb += release.eq(layer == 0)
        with m.If(self.start):
            m.d.sync += [feeding.eq(1), word.eq(0), forward.eq(0), backward.eq(Mux(self.first, x_base, h_last))]

        # -- h that the pass computes ------------------------------------------------------------------------------
        h_direction, h_count = Signal(), Signal(range(max(2, own)))
        h_word, h_forward, h_backward = pointer("h_word"), pointer("h_forward"), pointer("h_backward")
        with m.If(self.h_write):
            m.d.sync += [h_word.eq(h_word + 1), h_count.eq(h_count + 1)]
            with m.If(h_count == own - 1):
                m.d.sync += [h_count.eq(0), h_direction.eq(~h_direction), h_word.eq(h_backward + own)]
                with m.If(h_direction):
                    m.d.sync += [
                        h_forward.eq(h_forward + both), h_word.eq(h_forward + both), h_backward.eq(h_backward - both),
                    ]  # fmt: skip
                    m.d.comb += written.eq(h_backward == 0)
        with m.If(self.start):
            m.d.sync += [h_word.eq(0), h_forward.eq(0), h_backward.eq(Mux(self.first, h_base, h_last))]

        # -- output: steps from the first to the last --------------------------------------------------------------
        sending, source, out_word, out_last = Signal(), Signal(), pointer("out_word"), pointer("out_last")
        out_read = Signal()
        if is_loadable(config):
            m.d.comb += self.quiet.eq(fsm.ongoing("LOAD") & ~x_full & (x_word == 0) & sent)
        m.d.comb += [out_read.eq(sending & (~self.h.valid | self.h.ready)), sent.eq(~sending & ~self.h.valid)]
        with m.If(launch):
            m.d.sync += [sending.eq(1), source.eq(target), out_word.eq(0), out_last.eq(h_last + (both - 1))]
        with m.If(out_read):
            m.d.sync += [out_word.eq(out_word + 1), self.h.valid.eq(1), self.h.payload.last.eq(out_word == out_last)]
            with m.If(out_word == out_last):
                m.d.sync += sending.eq(0)
        with m.Elif(self.h.ready):
            m.d.sync += self.h.valid.eq(0)
        m.d.comb += self.h.payload.data.eq(Mux(source, memory_h[1].read_data, memory_h[0].read_data))

        # -- memories ----------------------------------------------------------------------------------------------
        m.d.comb += [memory_x.read_en.eq(self.promise & (layer == 0)), memory_x.read_addr.eq(word)]
        for number, ram in enumerate(memory_h):
            # The previous sequence's output is sent before a pass reads or overwrites the memory that holds it.
            reads_out = out_read & (source == number)
            feeds = self.promise & (layer != 0) & (target != number)
            m.d.comb += [
                ram.write_en.eq(self.h_write & (target == number)),
                ram.write_addr.eq(h_word),
                ram.write_data.eq(self.h_block),
                ram.read_en.eq(reads_out | feeds if layers > 1 else reads_out),
                ram.read_addr.eq(Mux(reads_out, out_word, word) if layers > 1 else out_word),
            ]
        width, bits = layer_input_bits(config), config.quantization.h.width
        from_x = widened(memory_x.read_data, config.quantization.x.width, width)
        if layers == 1:
            m.d.comb += self.block.eq(from_x)
        else:
            h_data = Mux(target, memory_h[0].read_data, memory_h[1].read_data)
            m.d.comb += self.block.eq(Mux(layer == 0, from_x, widened(h_data, bits, width)))
        return m
