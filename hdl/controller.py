"""The controller decides in every cycle whether the next tile of work is issued."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import bit_of
from chessrnn.hdl.drain import drain_is_free
from chessrnn.hdl.matvec import issue_tags
from chessrnn.hdl.part_shapes import group_shape, late_port, part_port, part_shapes, select, shape_bits, shapes
from chessrnn.hdl.vector_memory import context_ports
from chessrnn.model.config import Config
from chessrnn.model.schedule import Schedule, output_buffer_steps


class Phase(enum.Enum):
    """Phases in which the columns of a part are issued (``chessrnn.model.schedule``)."""

    AHEAD = 0  # early columns of the first row groups
    RESUME = 1  # the remaining columns of these row groups
    WHOLE = 2  # all columns of every other row group


class Controller(wiring.Component):
    """Issues the work of every step in the order of ``Schedule.issues``, each as soon as all that it needs is there.

    Parameters
    ----------
    config : Config

    Members
    -------
    x_written : In(1)
        A block of x is being written.
    x_step_last, x_half : In(1)
        With ``x_written``: the block is the last of its step; the half of the x memory that it is written to.
    x_sequence_last : In(1)
        The stream's ``last``, which counts on the last block of a step.
    x_room : Out(1)
        There is room for another block of x.
    h_written : In(1)
        A block that a part computed is being written.
    h_sent : In(1)
        A beat of h leaves the output buffer.
    issue : Out(1)
        Read the weight banks and the vector memory in this cycle.
    part : Out, with several parts
        Part that the issue belongs to.
    group : Out
        Column group of the issue.
    half : Out(1)
        Half of the x memory that the step uses.
    context, round_parity : Out, with several contexts
        Context of the step; ``round_parity`` toggles after every round: a step of every context.
    first_step : Out(1)
        The step is the first of its sequence.
    tags : Out(issue_tags)
        Tags of an issue, one cycle after ``issue``.
    x_load : In(1), with state ports
        The stream's ``load``, which counts on the first block of a step.
    save, load : Out(1), with state ports
        No step is under way, and a state must be sent or received before the next one.  With several contexts
        ``context`` is the one whose state it is; after the end of a sequence it does not advance before ``saved``.
    saved, loaded : In(1), with state ports
        The state has been sent, received.
    at_rest : Out(1), with state ports
        A step could begin, and every block that was computed has been written.

    Latency: none · Throughput: one issue per cycle · Reference: ``chessrnn.model.schedule.Schedule.timeline``
    """

    module_name = "controller"

    def __init__(self, config: Config):
        self.config = config
        self.schedule = Schedule(config)
        super().__init__(
            {
                "x_written": In(1), "x_step_last": In(1), "x_half": In(1), "x_sequence_last": In(1), "x_room": Out(1),
                "h_written": In(1), "h_sent": In(1), **state_ports(config),
                "issue": Out(1), **part_port(config, Out), **context_ports(config, Out),
                "group": Out(group_shape(config)), "half": Out(1),
                "first_step": Out(1, init=config.architecture.contexts == 1),  # pyright: ignore[reportCallIssue]  the stubs say reset
                "tags": Out(issue_tags(config)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, parts = self.config, self.config.parts
        x_blocks, h_blocks, tile_cols = config.num_input_blocks, config.num_output_blocks, config.architecture.tile_cols
        number = self.part if len(parts) > 1 else None
        most_rows, most_cols = max(part.row_groups for part in parts), max(part.col_groups for part in parts)
        rows = select(number, [part.row_groups for part in parts])
        cols = select(number, [part.col_groups for part in parts])
        early_groups = select(number, [part.early_groups for part in parts])
        aheads = [self.schedule.part_lookahead(number) for number in range(len(parts))]
        ahead = max(aheads)

        # -- position in the step --------------------------------------------------------------------------
        starts = [Phase.AHEAD if count else Phase.WHOLE for count in aheads]
        phase = Signal(Phase, init=starts[0])
        row = Signal(range(max(2, most_rows)))
        col = self.group
        # Number of block columns of the part up to the end of this column group.
        reach = Signal(range((most_cols + 1) * tile_cols + 1), init=tile_cols)
        step_begins, col_ends, part_ends, step_ends, complete = Signal(), Signal(), Signal(), Signal(), Signal()
        is_first = number == 0 if len(parts) > 1 else 1
        m.d.comb += [
            step_begins.eq((phase == starts[0]) & (row == 0) & (col == 0) & is_first),
            complete.eq((phase != Phase.AHEAD) & (col == cols - 1)),
            col_ends.eq(complete | ((phase == Phase.AHEAD) & (col == early_groups - 1))),
            part_ends.eq(complete & (row == rows - 1)),
            step_ends.eq(part_ends & (number == len(parts) - 1) if len(parts) > 1 else part_ends),
        ]
        last_ahead = row == ahead - 1
        # After these columns come those of a sum that is resumed.
        resumes = ((phase == Phase.AHEAD) & last_ahead) | ((phase == Phase.RESUME) & ~last_ahead)
        with m.If(self.issue):
            m.d.sync += [col.eq(col + 1), reach.eq(reach + tile_cols)]
            with m.If(col_ends):
                m.d.sync += [row.eq(row + 1), col.eq(0), reach.eq(tile_cols)]
                resumed = [col.eq(early_groups), reach.eq((early_groups + 1) * tile_cols)]
                if ahead:
                    with m.If((phase == Phase.AHEAD) & last_ahead):
                        m.d.sync += [phase.eq(Phase.RESUME), row.eq(0), *resumed]
                    with m.If(phase == Phase.RESUME):
                        with m.If(last_ahead):
                            m.d.sync += phase.eq(Phase.WHOLE)
                        with m.Else():
                            m.d.sync += resumed
                with m.If(part_ends):
                    # The part after the last is the first.
                    following = select(number, [*starts[1:], starts[0]])
                    m.d.sync += [phase.eq(following), row.eq(0), col.eq(0), reach.eq(tile_cols)]
                    if len(parts) > 1:
                        m.d.sync += self.part.eq(Mux(step_ends, 0, self.part + 1))
                with m.If(step_ends):
                    m.d.sync += self.half.eq(~self.half)

        # -- x: blocks of this step and the next that are in the memory --------------------------------------
        x_level = Signal(range(2 * x_blocks + 1))
        m.d.sync += x_level.eq(x_level + self.x_written - Mux(self.issue & step_ends, x_blocks, 0))
        m.d.comb += self.x_room.eq(x_level != 2 * x_blocks)
        sequence_ends = Signal(2)
        with m.If(self.x_written & self.x_step_last):
            m.d.sync += sequence_ends.bit_select(self.x_half, 1).eq(self.x_sequence_last)
        last_step = bit_of(sequence_ends, self.half)
        contexts = config.architecture.contexts
        between_steps = Const(0)
        if config.architecture.state_ports:
            between_steps = self._state(m, step_begins, step_ends, last_step, x_level)
        elif contexts == 1:
            with m.If(self.issue & step_ends):
                m.d.sync += self.first_step.eq(last_step)
        else:
            first_steps = Signal(contexts, init=(1 << contexts) - 1)
            m.d.comb += self.first_step.eq(bit_of(first_steps, self.context))
            with m.If(self.issue & step_ends):
                m.d.sync += first_steps.bit_select(self.context, 1).eq(last_step)
                self._next_context(m)

        # -- blocks that are issued completely and not yet written, less those of the current part that are --
        buffered = output_buffer_steps(config)
        made = [part.output_blocks for part in parts]
        missing = Signal(range(-max(made), buffered * sum(made) + 1))
        m.d.sync += missing.eq(missing + Mux(self.issue & part_ends, select(number, made), 0) - self.h_written)

        reached = missing + reach
        if config.architecture.pipeline.issue_register:
            # For a fast decision, a register holds the sum.  At the end of the columns, ``reach`` is known.
            reached = Signal(range(-max(made), buffered * sum(made) + (most_cols + 1) * tile_cols + 1), init=tile_cols)
            ends, begins = (Mux(complete, cols, early_groups), Mux(resumes, early_groups, 0)) if ahead else (cols, 0)
            step = Mux(col_ends, (begins + 1 - ends) * tile_cols, tile_cols) + Mux(part_ends, select(number, made), 0)
            m.d.sync += reached.eq(reached + Mux(self.issue, step, 0) - self.h_written)

        # -- vectors: an issue needs all blocks up to the end of its column group, or the whole vector --------
        def is_ready(index: int):
            """Whether the blocks that the current issue of part ``index`` reads are written."""
            part, ready = parts[index], Const(1)
            for vector, before in ((part.early, 0), (part.late, part.early.blocks)):
                if not vector.blocks:
                    continue
                if vector.source is None:
                    there = (x_level >= x_blocks) | (x_level + before >= reach)
                else:
                    # Blocks are written in order: the missing ones are the last of those from the vector's source on.
                    since = self.schedule.blocks_since(index, vector)
                    there = (missing <= since - vector.blocks) | (reached <= since + before)
                if vector.is_previous:
                    there |= self.first_step
                ready &= (reach <= before) | there if before else there
            return ready

        if config.architecture.state_ports:
            m.d.comb += self.at_rest.eq(step_begins & (missing == 0))

        ready = Signal()
        with m.Switch(Const(0) if number is None else number):
            for index in range(len(parts)):
                with m.Case(index):
                    m.d.comb += ready.eq(is_ready(index))

        # -- output: blocks for which the buffer has reserved room, and which are not yet sent ----------------
        promised = Signal(range(buffered * h_blocks + 1))
        m.d.sync += promised.eq(promised + Mux(self.issue & step_begins, h_blocks, 0) - self.h_sent)
        has_room = Signal()
        m.d.comb += has_room.eq(~step_begins | (promised <= (buffered - 1) * h_blocks))

        # -- drain: busy for a while after every complete row group ------------------------------------------
        gaps = [self.schedule.drain_cycles(part) for part in parts]
        drain_free = drain_is_free(m, self.issue, complete, number, gaps)

        m.d.comb += self.issue.eq(ready & has_room & drain_free & ~between_steps)
        m.d.sync += [
            self.tags.valid.eq(self.issue),
            self.tags.first.eq(col == 0),
            self.tags.resume.eq((phase == Phase.RESUME) & (col == early_groups)),
            self.tags.park.eq((phase == Phase.AHEAD) & (col == early_groups - 1)),
            self.tags.complete.eq(complete),
            self.tags.final.eq(part_ends),
            self.tags.first_step.eq(self.first_step),
            self.tags.last_step.eq(last_step),
        ]
        if late_port(config):
            m.d.sync += self.tags.late.eq(col >= early_groups)
        if shape_bits(config):
            every = shapes(config)
            m.d.sync += self.tags.part_shape.eq(select(number, [every.index(shape) for shape in part_shapes(config)]))
        return m

    def _next_context(self, m):
        """Go on to the step of the next context."""
        m.d.sync += self.context.eq(self.context + 1)
        with m.If(self.context == self.config.architecture.contexts - 1):
            m.d.sync += [self.context.eq(0), self.round_parity.eq(~self.round_parity)]

    def _state(self, m, step_begins, step_ends, last_step, x_level):
        """Request transfers of state before and after a sequence; returns whether the next step must wait for one."""
        loads, x_begins = Signal(2), Signal(init=1)
        with m.If(self.x_written):
            m.d.sync += x_begins.eq(self.x_step_last)
            with m.If(x_begins):
                m.d.sync += loads.bit_select(self.x_half, 1).eq(self.x_load)
        contexts = self.config.architecture.contexts
        starts, is_loaded, is_ended = Signal(contexts, init=(1 << contexts) - 1), Signal(), Signal()
        starts_now = starts.bit_select(self.context, 1) if contexts > 1 else starts
        is_start = bit_of(starts, self.context) if contexts > 1 else starts
        m.d.comb += self.first_step.eq(is_start & ~is_loaded)
        with m.If(self.saved):
            m.d.sync += is_ended.eq(0)
        with m.If(self.loaded):
            m.d.sync += is_loaded.eq(1)
        with m.If(self.issue & step_ends):
            m.d.sync += [starts_now.eq(last_step), is_ended.eq(last_step), is_loaded.eq(0)]
        if contexts > 1:
            # Stay with a context until its state has been sent.
            with m.If(self.saved | (self.issue & step_ends & ~last_step)):
                self._next_context(m)
        wants = self.first_step & bit_of(loads, self.half) & (x_level != 0)
        m.d.comb += [self.save.eq(self.at_rest & is_ended), self.load.eq(self.at_rest & wants & ~is_ended)]
        return step_begins & (is_ended | wants)


def state_ports(config: Config) -> dict:
    """Members that coordinate steps with the state streams; none without state ports."""
    if not config.architecture.state_ports:
        return {}
    inputs = ("x_load", "saved", "loaded")
    return {**dict.fromkeys(inputs, In(1)), **dict.fromkeys(("save", "load", "at_rest"), Out(1))}
