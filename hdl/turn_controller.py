"""Controller of a bidirectional network: the steps of both directions of a layer, in turns."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.drain import drain_is_free
from hdl.matvec import issue_tags
from hdl.parts import part_shapes, select, shapes
from hdl.pass_address import layer_port
from hdl.vector_memory import group_shape
from model.config import Config
from model.schedule import Schedule


class TurnController(wiring.Component):
    """Walks through a step's row groups and column groups, and holds an issue back while what it reads is missing.

    Parameters
    ----------
    config : Config
        Of a bidirectional network.

    Members
    -------
    start : In(1)
        A pass begins in the next cycle.
    layer : In, where there are several
        Layer of the pass.
    input_promised : In(1)
        A block of the layer's input is on its way here.
    input_written : In(1)
        A block of it is being written.
    input_room : Out(1)
        Another one can be promised.
    h_written : In(1)
        A block of h is being written.
    issue : Out(1)
        Read weights and vector.
    group : Out
        Column group of the issue.
    half : Out(1)
        Half of the input's memory that the step uses.
    direction, turn : Out(1)
        Direction of the step; changes with every turn of both.
    first_step : Out(1)
        First step of its direction.
    tags : Out(issue_tags)
        One cycle after ``issue``.

    Latency: none · Throughput: one issue per cycle · Reference: ``model.sequence_schedule.SequenceSchedule``
    """

    module_name = "turn_controller"

    def __init__(self, config: Config):
        self.config, self.schedule = config, Schedule(config)
        super().__init__(
            {
                "start": In(1), **layer_port(config, In),
                "input_promised": In(1), "input_written": In(1), "input_room": Out(1), "h_written": In(1),
                "issue": Out(1), "group": Out(group_shape(config)), "half": Out(1), "direction": Out(1),
                "turn": Out(1), "first_step": Out(1), "tags": Out(issue_tags(config)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, several = self.config, self.config.network.num_layers > 1
        own, rows, tile_cols = config.num_output_blocks, config.num_row_groups, config.architecture.tile_cols
        layer = self.layer if several else Const(0, 1)
        most_cols = max(part.col_groups for part in config.parts)
        most_inputs = max(part.late.blocks for part in config.parts)
        cols = select(layer, [part.col_groups for part in config.parts])
        inputs = select(layer, [part.late.blocks for part in config.parts])

        # -- where we are ----------------------------------------------------------------------------------
        row, col = Signal(range(max(2, rows))), self.group
        # Blocks of the layer's columns up to this one, its own h first.
        reach = Signal(range((most_cols + 1) * tile_cols + 1), init=tile_cols)
        complete, step_ends = Signal(), Signal()
        m.d.comb += [complete.eq(col == cols - 1), step_ends.eq(complete & (row == rows - 1))]
        with m.If(self.issue):
            m.d.sync += [col.eq(col + 1), reach.eq(reach + tile_cols)]
            with m.If(complete):
                m.d.sync += [row.eq(row + 1), col.eq(0), reach.eq(tile_cols)]
            with m.If(step_ends):
                m.d.sync += [row.eq(0), self.half.eq(~self.half), self.direction.eq(~self.direction)]
                with m.If(self.direction):
                    m.d.sync += self.turn.eq(~self.turn)
        first_steps = Signal(2)
        m.d.comb += self.first_step.eq(first_steps.bit_select(self.direction, 1))
        with m.If(self.start):
            m.d.sync += first_steps.eq(0b11)
        with m.Elif(self.issue & step_ends):
            m.d.sync += first_steps.bit_select(self.direction, 1).eq(0)

        # -- input: blocks of this step and the next that are promised, that lie in the memory -----------------
        taken = Mux(self.issue & step_ends, inputs, 0)
        promised, level = (Signal(range(2 * most_inputs + 1), name=name) for name in ("promised", "level"))
        input_ready = Signal()
        m.d.sync += [
            promised.eq(promised + self.input_promised - taken),
            level.eq(level + self.input_written - taken),
        ]
        m.d.comb += [
            self.input_room.eq(promised != select(layer, [2 * part.late.blocks for part in config.parts])),
            # The first block tells that there is a step at all.
            input_ready.eq((level >= inputs) | ((level != 0) & (level + own >= reach))),
        ]

        # -- own h: blocks of finished steps not yet written, less those of this one that are ------------------
        missing = Signal(range(-own, 2 * own + 1))
        m.d.sync += missing.eq(missing + Mux(self.issue & step_ends, own, 0) - self.h_written)
        h_ready = Signal()
        # What the other direction's step makes comes last.
        m.d.comb += h_ready.eq(self.first_step | (missing <= own) | (missing + reach <= 2 * own))

        # -- drain: busy for a while after every complete row group ------------------------------------------
        gap = self.schedule.drain_cycles(config.parts[0])
        drain_free = drain_is_free(m, self.issue, complete, None, [gap])

        m.d.comb += self.issue.eq(input_ready & h_ready & drain_free)
        m.d.sync += [
            self.tags.valid.eq(self.issue),
            self.tags.first.eq(col == 0),
            self.tags.complete.eq(complete),
            self.tags.final.eq(step_ends),
            self.tags.first_step.eq(self.first_step),
        ]
        numbers = [shapes(config).index(shape) for shape in part_shapes(config)]
        if max(numbers):
            m.d.sync += self.tags.part_shape.eq(select(layer, numbers))
        return m
