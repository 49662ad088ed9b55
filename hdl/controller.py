"""Controller: decides in every cycle whether the next tile of work is issued."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from hdl.matvec import issue_tags
from hdl.vector_memory import context_ports, group_shape, layer_port
from model.config import Config
from model.schedule import Schedule, output_buffer_steps


class Phase(enum.Enum):
    """Part of a layer's work, see ``model.schedule``."""

    AHEAD = 0  # early columns of the first row groups
    RESUME = 1  # the rest of their columns
    WHOLE = 2  # every other row group


class Controller(wiring.Component):
    """Walks through ``Schedule.issues`` and holds an issue back while something it needs is missing.

    Parameters
    ----------
    config : Config

    Members
    -------
    x_written : In(1)
        A block of x is being written.
    x_step_last, x_half : In(1)
        It ends its step; the half that it goes to.
    x_sequence_last : In(1)
        Its stream's ``last``, which counts on a step's last block.
    x_room : Out(1)
        Another block of x can be taken.
    h_written : In(1)
        A block of h is being written.
    h_sent : In(1)
        A beat of h leaves the output buffer.
    issue : Out(1)
        Read weights and vector.
    layer : Out, where there are several
        Layer of the issue.
    group : Out
        Its column group.
    half : Out(1)
        Half of the x memory that the step uses.
    context, turn : Out, where there are several contexts
        Context of the step; changes with every turn of all of them.
    first_step : Out(1)
        First step of its sequence.
    tags : Out(issue_tags)
        One cycle after ``issue``.

    Latency: none · Throughput: one issue per cycle · Reference: ``model.schedule.Schedule.timeline``
    """

    module_name = "controller"

    def __init__(self, config: Config):
        self.config = config
        self.schedule = Schedule(config)
        super().__init__(
            {
                "x_written": In(1), "x_step_last": In(1), "x_half": In(1), "x_sequence_last": In(1), "x_room": Out(1),
                "h_written": In(1), "h_sent": In(1),
                "issue": Out(1), **layer_port(config, Out), **context_ports(config, Out),
                "group": Out(group_shape(config)), "half": Out(1),
                "first_step": Out(1, init=config.architecture.contexts == 1), "tags": Out(issue_tags(config)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        x_blocks, h_blocks = config.num_input_blocks, config.num_hidden_blocks
        rows, tile_cols, layers = config.num_row_groups, config.architecture.tile_cols, config.network.num_layers
        most_cols = max(blocks.col_groups for blocks in config.layer_blocks)
        inner = self.layer != 0 if layers > 1 else Const(0, 1)
        not_inner = ~inner if layers > 1 else Const(1, 1)

        def of_layer(values: list):
            """What the layer at work has of these, one per layer; all layers but the first are alike."""
            first, other = values[0], values[-1]
            return first if first == other else Mux(inner, other, first)

        cols = of_layer([blocks.col_groups for blocks in config.layer_blocks])
        pure = of_layer([blocks.early_groups for blocks in config.layer_blocks])
        aheads = [self.schedule.ahead(layer) for layer in range(layers)]
        ahead = max(aheads)

        # -- where we are ----------------------------------------------------------------------------------
        starts = [Phase.AHEAD if count else Phase.WHOLE for count in aheads]
        phase = Signal(Phase, init=starts[0])
        row = Signal(range(max(2, rows)))
        col = self.group
        # Blocks of this layer's columns up to this one.
        reach = Signal(range((most_cols + 1) * tile_cols + 1), init=tile_cols)
        step_begins, col_ends, layer_ends, step_ends, complete = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            step_begins.eq((phase == starts[0]) & (row == 0) & (col == 0) & not_inner),
            complete.eq((phase != Phase.AHEAD) & (col == cols - 1)),
            col_ends.eq(complete | ((phase == Phase.AHEAD) & (col == pure - 1))),
            layer_ends.eq(complete & (row == rows - 1)),
            step_ends.eq(layer_ends & (self.layer == layers - 1) if layers > 1 else layer_ends),
        ]
        with m.If(self.issue):
            m.d.sync += [col.eq(col + 1), reach.eq(reach + tile_cols)]
            with m.If(col_ends):
                m.d.sync += [row.eq(row + 1), col.eq(0), reach.eq(tile_cols)]
                resumed = [col.eq(pure), reach.eq((pure + 1) * tile_cols)]
                if ahead:
                    last_ahead = row == ahead - 1
                    with m.If((phase == Phase.AHEAD) & last_ahead):
                        m.d.sync += [phase.eq(Phase.RESUME), row.eq(0), *resumed]
                    with m.If(phase == Phase.RESUME):
                        with m.If(last_ahead):
                            m.d.sync += phase.eq(Phase.WHOLE)
                        with m.Else():
                            m.d.sync += resumed
                with m.If(layer_ends):
                    # The layer after the last is the first.
                    following = Mux(step_ends, starts[0], starts[-1]) if starts[0] != starts[-1] else starts[0]
                    m.d.sync += [phase.eq(following), row.eq(0), col.eq(0), reach.eq(tile_cols)]
                    if layers > 1:
                        m.d.sync += self.layer.eq(Mux(step_ends, 0, self.layer + 1))
                with m.If(step_ends):
                    m.d.sync += self.half.eq(~self.half)

        # -- x: blocks of this step and the next that lie in the memory --------------------------------------
        x_level = Signal(range(2 * x_blocks + 1))
        m.d.sync += x_level.eq(x_level + self.x_written - Mux(self.issue & step_ends, x_blocks, 0))
        x_ready = Signal()
        m.d.comb += [
            x_ready.eq((x_level >= x_blocks) | (x_level >= reach) | (inner if layers > 1 else 0)),
            self.x_room.eq(x_level != 2 * x_blocks),
        ]
        sequence_ends = Signal(2)
        with m.If(self.x_written & self.x_step_last):
            m.d.sync += sequence_ends.bit_select(self.x_half, 1).eq(self.x_sequence_last)
        last_step = sequence_ends.bit_select(self.half, 1)
        contexts = config.architecture.contexts
        if contexts == 1:
            with m.If(self.issue & step_ends):
                m.d.sync += self.first_step.eq(last_step)
        else:
            first_steps = Signal(contexts, init=(1 << contexts) - 1)
            m.d.comb += self.first_step.eq(first_steps.bit_select(self.context, 1))
            with m.If(self.issue & step_ends):
                m.d.sync += [first_steps.bit_select(self.context, 1).eq(last_step), self.context.eq(self.context + 1)]
                with m.If(self.context == contexts - 1):
                    m.d.sync += [self.context.eq(0), self.turn.eq(~self.turn)]

        # -- h: blocks of finished layers not yet written, less those of this one that are --------------------
        buffered = output_buffer_steps(config)
        missing = Signal(range(-h_blocks, buffered * layers * h_blocks + 1))
        m.d.sync += missing.eq(missing + Mux(self.issue & layer_ends, h_blocks, 0) - self.h_written)
        h_ready, allowed = Signal(), contexts * layers * h_blocks
        # Of what is missing, what the layers above and the other contexts made since comes last.
        own = self.first_step | (reach <= x_blocks) | (missing <= allowed - h_blocks)
        own |= missing + reach <= x_blocks + allowed
        if layers > 1:
            # In the other layers early columns hold the own h of the step before, late ones the h of the layer below.
            own_inner = self.first_step | (missing + reach <= allowed)
            below = (missing <= 0) | (missing + reach <= 2 * h_blocks)
            own = Mux(inner, Mux(reach <= h_blocks, own_inner, below), own)
        m.d.comb += h_ready.eq(own)

        # -- output: blocks promised to the buffer and not yet sent ------------------------------------------
        promised = Signal(range(buffered * h_blocks + 1))
        m.d.sync += promised.eq(promised + Mux(self.issue & step_begins, h_blocks, 0) - self.h_sent)
        has_room = Signal()
        m.d.comb += has_room.eq(~step_begins | (promised <= (buffered - 1) * h_blocks))

        # -- drain: busy for a while after every complete row group ------------------------------------------
        gap = self.schedule.drain_cycles
        drain_free = Signal(init=1)
        if gap > 1:
            cooldown = Signal(range(gap))
            m.d.comb += drain_free.eq(~complete | (cooldown == 0))
            with m.If(self.issue & complete):
                m.d.sync += cooldown.eq(gap - 1)
            with m.Elif(cooldown != 0):
                m.d.sync += cooldown.eq(cooldown - 1)

        m.d.comb += self.issue.eq(x_ready & h_ready & has_room & drain_free)
        m.d.sync += [
            self.tags.valid.eq(self.issue),
            self.tags.first.eq(col == 0),
            self.tags.resume.eq((phase == Phase.RESUME) & (col == pure)),
            self.tags.park.eq((phase == Phase.AHEAD) & (col == pure - 1)),
            self.tags.complete.eq(complete),
            self.tags.final.eq(layer_ends),
            self.tags.first_step.eq(self.first_step),
            self.tags.last_step.eq(last_step),
        ]
        if layers > 1:
            m.d.sync += self.tags.inner.eq(inner)
        return m
