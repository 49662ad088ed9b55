"""Claims about the parts of the streams by themselves, proved for runs of every length."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl import framing, output_buffer
from chessrnn.hdl.block_stream import block_stream
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.memory import RAM_VERILOG
from chessrnn.hdl.output_layer import result_queue
from chessrnn.hdl.shell import register_file
from chessrnn.hdl.vector_memory import BankWriter
from chessrnn.model.config import Config
from chessrnn.model.presets import preset
from chessrnn.model.schedule import output_buffer_steps
from chessrnn.model.shell.registers import register_map
from chessrnn.sim.proof.checker import Checker, to_rtlil, waits
from chessrnn.sim.proof.model_checker import Claim, Problem, Proof

# Blocks of one element: the parts treat a block as a word, so that a wider one adds nothing but work.
SMALL = preset("tiny").replace(
    {
        "network.input_size": 3,
        "network.hidden_size": 2,
        "compression.block_size": 1,
        "architecture.tile_cols": 1,
        "architecture.output_layer": 3,
    }
)


class OutputBufferChecker(Checker):
    """Writes blocks while there is room, which the controller guarantees, and follows one of them to the output."""

    CLAIMS = (
        Claim("kept", "a beat that is offered is offered until it is taken"),
        Claim("stable", "its data and its last flag do not change while it waits"),
        Claim("written_before", "no beat is offered that was not written"),
        Claim("in_order", "beats leave in the order of writing, each with the data that was written"),
        Claim("last_in_place", "last is 1 on the last beat of a step that ends a sequence, and on no other"),
        Claim("offered_soon", "two cycles after a write, the oldest block is offered"),
    )

    def __init__(self, config: Config = SMALL):
        self.config, self.bits = config, config.block_size * config.quantization.h.width
        self.blocks = config.num_output_blocks
        inputs = {"write": 1, "block": self.bits, "last_step": 1, "ready": 1, "choose": 1}
        super().__init__(inputs, self.CLAIMS)

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        part = output_buffer.OutputBuffer(self.config)
        m.submodules.part = shared(part, platform)
        depth = output_buffer_steps(self.config) * self.blocks
        held, taken = Signal(range(depth + 1)), part.h.valid & self.ready
        m.d.comb += [
            part.write.eq(self.write), part.block.eq(self.block), part.last_step.eq(self.last_step),
            part.h.ready.eq(self.ready),
        ]  # fmt: skip
        m.d.sync += held.eq(held + self.write - taken)
        self.assume(~self.write | (held != depth))

        # One block, freely chosen, and its distance from the output.
        place = Signal(range(max(2, self.blocks)))
        followed, ahead = Signal(), Signal.like(held)
        data, last, is_chosen = Signal(self.bits), Signal(), self.choose & self.write & ~followed
        with m.If(self.write):
            m.d.sync += place.eq(Mux(place == self.blocks - 1, 0, place + 1))
        with m.If(is_chosen):
            m.d.sync += [
                followed.eq(1), ahead.eq(held - taken), data.eq(self.block),
                last.eq(self.last_step & (place == self.blocks - 1)),
            ]  # fmt: skip
        with m.Elif(followed & taken):
            m.d.sync += [ahead.eq(ahead - 1), followed.eq(ahead != 0)]
        arrives = followed & part.h.valid & (ahead == 0)

        waiting = Signal(2)
        m.d.sync += waiting.eq(Mux((held != 0) & ~part.h.valid, waiting + (waiting != 3), 0))
        payload = Cat(part.h.payload.data, part.h.payload.last)
        kept, stable = waits(m, "h", reset, part.h.valid, self.ready, payload)
        return {
            "kept": kept,
            "stable": stable,
            "written_before": part.h.valid & (held == 0),
            "in_order": arrives & (part.h.payload.data != data),
            "last_in_place": arrives & (part.h.payload.last != last),
            "offered_soon": (held != 0) & ~part.h.valid & (waiting >= 2),
        }


class FramedStream(wiring.Component):
    """The framing of x with the counter of blocks that it works with in the accelerator."""

    def __init__(self, config: Config):
        self.config, self.bits = config, config.block_size * config.quantization.x.width
        super().__init__(
            {
                "x": In(block_stream(config, config.quantization.x)), "room": In(1), "write": Out(1),
                "block": Out(self.bits), "last": Out(1), "step_ends": Out(1), "early": Out(1), "filling": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        blocks = self.config.num_input_blocks
        m.submodules.writer = writer = BankWriter(1, 0, blocks)
        framed = framing.Framing(m, self.x, writer.last, self.room, blocks)
        m.d.comb += [
            writer.advance.eq(framed.write), self.write.eq(framed.write), self.block.eq(framed.block),
            self.last.eq(framed.last), self.step_ends.eq(writer.last), self.early.eq(framed.early),
            self.filling.eq(framed.filling),
        ]  # fmt: skip
        return m


class FramingChecker(Checker):
    """Counts beats and blocks by the documented rule: a step is complete at ``last``, or after all of its beats."""

    CLAIMS = (
        Claim("only_what_came", "a block is a beat that is taken, unchanged, or a zero that completes a step"),
        Claim("begins_a_step", "the beat after a last is the first of a step, wherever the last was"),
        Claim("one_end_each", "every last ends one sequence, at the end of a step and before the next beat"),
        Claim(
            "error_reported", "early is 1 in the cycle after a last that was not on a step's last beat, and only then"
        ),
        Claim("recovers", "an early last takes fewer cycles with room than a step has beats before x is ready again"),
    )

    def __init__(self, config: Config = SMALL):
        self.config, self.blocks = config, config.num_input_blocks
        inputs = {"valid": 1, "data": config.block_size * config.quantization.x.width, "last": 1, "room": 1}
        super().__init__(inputs, self.CLAIMS)

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        m.submodules.part = part = FramedStream(self.config)
        m.d.comb += [
            part.x.valid.eq(self.valid), part.x.payload.data.eq(self.data), part.x.payload.last.eq(self.last),
            part.room.eq(self.room),
        ]  # fmt: skip
        taken = Signal()
        m.d.comb += taken.eq(self.valid & part.x.ready)

        # Position by the documented rule, and of the block that is written.
        beat, block = Signal(range(self.blocks)), Signal(range(self.blocks))
        was_early, is_owed = Signal(), Signal()
        is_early = taken & self.last & (beat != self.blocks - 1)
        with m.If(taken):
            m.d.sync += beat.eq(Mux(self.last | (beat == self.blocks - 1), 0, beat + 1))
        with m.If(part.write):
            m.d.sync += block.eq(Mux(block == self.blocks - 1, 0, block + 1))
        m.d.sync += was_early.eq(is_early)
        ends = part.write & part.last & part.step_ends
        m.d.sync += is_owed.eq((is_owed | (taken & self.last)) & ~ends)
        slow = Signal(range(self.blocks + 1))
        with m.If(part.x.ready):
            m.d.sync += slow.eq(0)
        with m.Elif(self.room & (slow != self.blocks)):
            m.d.sync += slow.eq(slow + 1)
        zero = Mux(part.filling, 0, self.data)
        return {
            "only_what_came": (part.write & (part.block != zero))
            | (part.write != (taken | (part.filling & self.room))),
            "begins_a_step": taken & (beat != block),
            "one_end_each": (ends & ~is_owed & ~(taken & self.last)) | (taken & is_owed),
            "error_reported": part.early != was_early,
            "recovers": slow == self.blocks,
        }


class ResultQueueChecker(Checker):
    """Begins steps while there is a place, and writes a result for each."""

    CLAIMS = (
        Claim("kept", "a result that is offered is offered until it is taken"),
        Claim("stable", "its index, logit and last flag do not change while it waits"),
        Claim("has_room", "a step that may begin has a place: never are there more results than places"),
        Claim("written_before", "no result is offered that was not written"),
    )

    def __init__(self, config: Config = SMALL):
        self.config = config
        bits = len(Value.cast(Signal(result_queue.result_layout(config))))
        super().__init__({"begins": 1, "result": bits, "write": 1, "ready": 1}, self.CLAIMS)

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        part = result_queue.ResultQueue(self.config)
        m.submodules.part = shared(part, platform)
        places = part.places
        m.d.comb += [
            part.begins.eq(self.begins), part.result.eq(self.result), part.write.eq(self.write),
            part.y.ready.eq(self.ready),
        ]  # fmt: skip
        under_way, held, taken = Signal(range(places + 2)), Signal(range(places + 2)), part.y.valid & self.ready
        m.d.sync += [under_way.eq(under_way + self.begins - self.write), held.eq(held + self.write - taken)]
        self.assume(~self.begins | part.may_begin)
        self.assume(~self.write | (under_way != 0))
        kept, stable = waits(m, "y", reset, part.y.valid, self.ready, part.y.payload.as_value())
        return {
            "kept": kept,
            "stable": stable,
            "has_room": held + under_way > places,
            "written_before": part.y.valid != (held != 0),
        }


class RegisterFileChecker(Checker):
    """A bus master that does anything AXI4-Lite allows, and fields that have any value."""

    CLAIMS = (
        Claim("write_answer_kept", "an answer to a write is offered until it is taken"),
        Claim("write_answer_stable", "it does not change while it waits"),
        Claim("read_answer_kept", "an answer to a read is offered until it is taken"),
        Claim("read_answer_stable", "its data and its response do not change while it waits"),
        Claim("one_answer_each", "every write and every read has one answer, and no answer comes without an access"),
        Claim("answers_soon", "a read is answered in the next cycle, a write two cycles after its address and data"),
    )

    def __init__(self, config: Config = SMALL):
        self.registers = register_map(config)
        part = register_file.RegisterFile(self.registers)
        members = part.signature.members
        self.driven = [name for name in members if members[name].flow == In]
        super().__init__({name: len(Value.cast(getattr(part, name))) for name in self.driven}, self.CLAIMS)
        part._MustUse__used = True  # only its ports were read

    def watch(self, m: Module, reset, platform) -> dict[str, Value]:
        part = register_file.RegisterFile(self.registers)
        m.submodules.part = shared(part, platform)
        m.d.comb += [getattr(part, name).eq(getattr(self, name)) for name in self.driven]
        addresses, words, reads = (Signal(2, name=name) for name in ("addresses", "words", "reads"))
        written, read = part.bvalid & self.bready, part.rvalid & self.rready
        m.d.sync += [
            addresses.eq(addresses + (self.awvalid & part.awready) - written),
            words.eq(words + (self.wvalid & part.wready) - written),
            reads.eq(reads + (self.arvalid & part.arready) - read),
        ]
        slow = Signal(2)
        m.d.sync += slow.eq(Mux((addresses != 0) & (words != 0) & ~part.bvalid, slow + (slow != 3), 0))
        write_kept, write_stable = waits(m, "b", reset, part.bvalid, self.bready, part.bresp)
        read_kept, read_stable = waits(m, "r", reset, part.rvalid, self.rready, Cat(part.rdata, part.rresp))
        return {
            "write_answer_kept": write_kept,
            "write_answer_stable": write_stable,
            "read_answer_kept": read_kept,
            "read_answer_stable": read_stable,
            "one_answer_each": (part.bvalid & ((addresses == 0) | (words == 0)))
            | (part.rvalid & (reads == 0))
            | (addresses == 3)
            | (words == 3)
            | (reads > 1),
            "answers_soon": ((reads != 0) & ~part.rvalid & ~reset) | (slow > 1),
        }


def _proof(name: str, subject: str, checker: type[Checker]) -> Proof:
    return Proof(name, subject, checker.CLAIMS, lambda: Problem(to_rtlil(checker()), RAM_VERILOG))  # pyright: ignore[reportCallIssue]


def part_proofs() -> tuple[Proof, ...]:
    """The proofs of all parts."""
    return (
        _proof("output_buffer", "the buffer of h (hdl/output_buffer.py)", OutputBufferChecker),
        _proof("framing", "the framing of x (hdl/framing.py)", FramingChecker),
        _proof("result_queue", "the queue of y (hdl/output_layer/result_queue.py)", ResultQueueChecker),
        _proof("register_file", "the registers of the shell (hdl/shell/register_file.py)", RegisterFileChecker),
    )
