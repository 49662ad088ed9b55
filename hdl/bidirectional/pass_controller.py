"""The controller of a bidirectional network issues one layer's steps of both directions alternately, part by part."""

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import bit_of
from chessrnn.hdl.drain import drain_is_free
from chessrnn.hdl.matvec import issue_tags
from chessrnn.hdl.part_shapes import (
    late_port,
    layer_part_port,
    part_shapes,
    select,
    select_bit,
    select_part,
    shape_bits,
    shapes,
)
from chessrnn.hdl.pass_address import layer_port
from chessrnn.hdl.vector_memory import group_shape
from chessrnn.model.config import Config
from chessrnn.model.schedule import Schedule


class PassController(wiring.Component):
    """Issues a step's row and column groups in order, each as soon as the blocks that it reads are written.

    Parameters
    ----------
    config : Config
        Configuration of a bidirectional network.

    Members
    -------
    start : In(1)
        A pass, one layer over the whole sequence, begins in the next cycle.
    layer : In, with several layers
        Layer of the pass.
    input_promised : In(1)
        The sequencer announces a block of the layer's input.
    input_written : In(1)
        A block of the layer's input is being written.
    input_room : Out(1)
        There is room for the announcement of another block.
    h_written : In(1)
        A block of h is being written.
    inner_written : In(1), if a step has several parts
        A block that one part computes for a later one is being written.
    issue : Out(1)
        Read the weight banks and the vector memory in this cycle.
    part : Out, if a step has several parts
        Part that the issue belongs to.
    group : Out
        Column group of the issue.
    half : Out(1)
        Half of the input memory that holds the step's input.
    direction, round_parity : Out(1)
        Direction of the step, which toggles after every part.  ``round_parity`` toggles after every round: a step of
        both directions.
    first_step : Out(1)
        The step is the first of its direction.
    tags : Out(issue_tags)
        Tags of an issue, one cycle after ``issue``.

    Latency: none · Throughput: one issue per cycle · Reference: ``chessrnn.model.sequence_schedule.SequenceSchedule``
    """

    module_name = "pass_controller"

    def __init__(self, config: Config):
        self.config, self.schedule = config, Schedule(config)
        super().__init__(
            {
                "start": In(1), **layer_port(config, In),
                "input_promised": In(1), "input_written": In(1), "input_room": Out(1), "h_written": In(1),
                **({"inner_written": In(1)} if len(config.layer_parts[0]) > 1 else {}),
                "issue": Out(1), **layer_part_port(config, Out), "group": Out(group_shape(config)), "half": Out(1),
                "direction": Out(1), "round_parity": Out(1), "first_step": Out(1), "tags": Out(issue_tags(config)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, parts = self.config, self.config.layer_parts
        several = len(parts[0]) > 1
        own, tile_cols = config.num_output_blocks, config.architecture.tile_cols
        layer = self.layer if config.network.num_layers > 1 else Const(0, 1)
        part = self.part if several else None
        most_rows, most_cols = max(one.row_groups for one in parts[0]), max(one.col_groups for one in config.parts)
        most_inputs = max(one.late.blocks for one in config.parts)
        rows = select(part, [one.row_groups for one in parts[0]])
        cols = select_part(layer, part, [[one.col_groups for one in of_layer] for of_layer in parts])
        inputs = select(layer, [of_layer[0].late.blocks for of_layer in parts])

        # -- position in the step --------------------------------------------------------------------------
        row, col = Signal(range(max(2, most_rows))), self.group
        # Number of block columns of the part up to the end of this column group; the layer's own h comes first.
        reach = Signal(range((most_cols + 1) * tile_cols + 1), init=tile_cols)
        complete, part_ends = Signal(), Signal(name="part_ends" if several else "step_ends")
        m.d.comb += [complete.eq(col == cols - 1), part_ends.eq(complete & (row == rows - 1))]
        step_ends, is_read = part_ends, part_ends
        if several:
            step_ends, is_read = Signal(), Signal()
            m.d.comb += [
                step_ends.eq(part_ends & (part == len(parts[0]) - 1)),
                # No later part of the step reads its input.
                is_read.eq(part_ends & (part == config.last_reader)),
            ]
        with m.If(self.issue):
            m.d.sync += [col.eq(col + 1), reach.eq(reach + tile_cols)]
            with m.If(complete):
                m.d.sync += [row.eq(row + 1), col.eq(0), reach.eq(tile_cols)]
            with m.If(part_ends):
                m.d.sync += [row.eq(0), self.half.eq(~self.half), self.direction.eq(~self.direction)]
                with m.If(self.direction):
                    m.d.sync += self.round_parity.eq(self.round_parity ^ step_ends if several else ~self.round_parity)
                    if part is not None:
                        m.d.sync += part.eq(Mux(step_ends, 0, part + 1))
        first_steps = Signal(2)
        m.d.comb += self.first_step.eq(bit_of(first_steps, self.direction))
        with m.If(self.start):
            m.d.sync += first_steps.eq(0b11)
        with m.Elif(self.issue & step_ends):
            m.d.sync += first_steps.bit_select(self.direction, 1).eq(0)

        # -- input: blocks of this step and the next that are announced, and that are in the memory ------------
        taken = Mux(self.issue & is_read, inputs, 0)
        promised, level = (Signal(range(2 * most_inputs + 1), name=name) for name in ("promised", "level"))
        input_ready = Signal()
        m.d.sync += [
            promised.eq(promised + self.input_promised - taken),
            level.eq(level + self.input_written - taken),
        ]
        m.d.comb += self.input_room.eq(promised != select(layer, [2 * of_layer[0].late.blocks for of_layer in parts]))
        # Without any block there may be no further step, so an issue waits for the first.
        there = level
        if config.last_reader:
            # The forward direction's input is kept until its last reader, so the reverse one's lies behind it.
            there = Signal(range(-most_inputs, 2 * most_inputs + 1))
            m.d.comb += there.eq(level - Mux(self.direction & (part != config.last_reader), inputs, 0))
            is_there = (there >= inputs) | ((there > 0) & (there + own >= reach))
        else:
            is_there = (level >= inputs) | ((level != 0) & (level + own >= reach))
        m.d.comb += input_ready.eq(is_there | (part > config.last_reader) if part is not None else is_there)

        # -- own h: blocks of steps issued completely and not yet written, less those of the current step ------
        missing = Signal(range(-own, 2 * own + 1))
        m.d.sync += missing.eq(missing + Mux(self.issue & step_ends, own, 0) - self.h_written)
        h_ready = Signal()
        if several:
            m.d.comb += h_ready.eq(self._is_written(m, part, part_ends, missing, reach))
        else:
            # Of the missing blocks, the last are those of the other direction's step, which this one does not read.
            m.d.comb += h_ready.eq(self.first_step | (missing <= own) | (missing + reach <= 2 * own))

        # -- drain: busy for a while after every complete row group ------------------------------------------
        gaps = [self.schedule.drain_cycles(one) for one in parts[0]]
        drain_free = drain_is_free(m, self.issue, complete, part, gaps)

        m.d.comb += self.issue.eq(input_ready & h_ready & drain_free)
        m.d.sync += [
            self.tags.valid.eq(self.issue),
            self.tags.first.eq(col == 0),
            self.tags.complete.eq(complete),
            self.tags.final.eq(part_ends),
            self.tags.first_step.eq(self.first_step),
        ]
        if late_port(config):
            early_groups = select_part(layer, part, [[one.early_groups for one in of_layer] for of_layer in parts])
            m.d.sync += self.tags.late.eq(col >= early_groups)
        if shape_bits(config):
            numbers = [shapes(config).index(shape) for shape in part_shapes(config)]
            by_layer = [numbers[start : start + len(parts[0])] for start in range(0, len(numbers), len(parts[0]))]
            m.d.sync += self.tags.part_shape.eq(select_part(layer, part, by_layer))
        return m

    def _is_written(self, m, part, part_ends, missing, reach) -> Value:
        """Whether a part's blocks from its own layer are written: h of the step before, or those of an earlier part."""
        config = self.config
        own, inner = config.num_output_blocks, config.num_hidden_blocks
        parts = config.layer_parts[0]
        maker = next(number for number, one in enumerate(parts) if one.output_blocks)
        inner_missing = Signal(range(-inner, 2 * inner + 1))
        inner_made = Mux(self.issue & part_ends & (part == maker), inner, 0)
        m.d.sync += inner_missing.eq(inner_missing + inner_made - self.inner_written)

        def there(waits, blocks: int):
            # The reverse direction's blocks come last, and the forward direction's part reads none of them.
            since = Mux(self.direction, blocks, 2 * blocks)
            return (waits + blocks <= since) | (waits + reach <= since)

        reads_own = select_bit(part, [one.early.is_previous for one in parts])
        return Mux(reads_own, self.first_step | there(missing, own), there(inner_missing, inner))
