"""The output layer on chip multiplies the stream of h by its weights and reports the largest logit."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import join, split
from chessrnn.hdl.block_stream import block_stream
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.loader import write_port
from chessrnn.hdl.memory import Rom, WeightRam, delay
from chessrnn.hdl.output_layer.largest import Largest, result_layout
from chessrnn.hdl.output_layer.output_lane import OutputLane
from chessrnn.hdl.output_layer.result_queue import ResultQueue
from chessrnn.hdl.output_layer.step_memory import StepMemory
from chessrnn.hdl.parity import CheckedRom, Memories, parity_port
from chessrnn.model.config import Config
from chessrnn.model.memory_image import OUTPUT_BIAS, OUTPUT_WEIGHTS, output_layer_memories
from chessrnn.model.output_plan import BIAS_BITS, SUM_LATENCY, WEIGHT_BITS


class OutputLayer(wiring.Component):
    """Computes ``logits = weight · h + bias`` for every step and reports the largest.

    The lanes of one circulant block's rows share its first column, each of them with another rotation.

    Parameters
    ----------
    config : Config
    contents : dict of str to list of int, optional
        Words of the layer's memories, for Amaranth's simulator.

    Members
    -------
    h : In(stream.Signature(…))
        Blocks of h, as in the accelerator's stream.  As long as results are taken at once, h never waits.
    y : Out(stream.Signature(result_layout(config)))
        One result per step.
    load : In, with ``architecture.weight_memory = ram``
        Word that is written into one of the layer's memories (``chessrnn.hdl.loader``).
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read has a wrong parity (``chessrnn.hdl.parity``).

    Latency: ``chessrnn.model.output_plan.OutputPlan.latency`` · Throughput: a step in ``OutputPlan.cycles`` ·
    Numerics: exact · Reference: ``chessrnn.model.output_layer.OutputLayer.largest_logit``
    """

    module_name = "output_layer"

    def __init__(self, config: Config, contents: dict[str, list[int]] | None = None):
        self.config, self.contents, self.plan = config, contents or {}, config.required_output_plan
        super().__init__(
            {
                "h": In(block_stream(config, config.quantization.h)),
                "y": Out(stream.Signature(result_layout(config))),
                **write_port(config),
                **parity_port(config),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, plan, memories = self.config, self.plan, Memories(m, platform, self.config)
        roms = {
            spec.name: memories.parameters(spec, self.contents.get(spec.name), self)
            for spec in output_layer_memories(config)
        }
        weights, bias = roms[OUTPUT_WEIGHTS], roms[OUTPUT_BIAS]
        steps, largest, queue = StepMemory(config), Largest(config), ResultQueue(config)
        m.submodules.steps = shared(steps, platform)
        m.submodules.largest = shared(largest, platform)
        m.submodules.queue = shared(queue, platform)
        wiring.connect(m, wiring.flipped(self.h), steps.h)
        wiring.connect(m, wiring.flipped(self.y), queue.y)

        # With the block that is read; when its bias is asked for; when its products are added; when the sum is there.
        tags = [steps.tags]
        for cycles, name in ((SUM_LATENCY - 3, "bias"), (2, "sum"), (1, "logit")):
            tags.append(delay(m, tags[-1], cycles, f"{name}_tags", reset_less=False))
        read, bias_tags, sum_tags, logit_tags = tags
        self._count(m, weights, read.valid)
        self._count(m, bias, bias_tags.valid & bias_tags.first_block)
        lanes = [OutputLane(config) for _ in range(plan.lanes)]
        stored = split(weights.data, [WEIGHT_BITS] * (len(weights.data) // WEIGHT_BITS))
        for number, lane in enumerate(lanes):
            m.submodules[f"lane_{number}"] = shared(lane, platform)
            m.d.comb += [
                lane.weights.eq(join(stored[place] for place in self._places(number))),
                lane.h.eq(steps.block), lane.bias.eq(bias.data.word_select(number, BIAS_BITS)),
                lane.valid.eq(sum_tags.valid), lane.first.eq(sum_tags.first_block),
            ]  # fmt: skip
        m.d.comb += [
            steps.may_begin.eq(queue.may_begin), queue.begins.eq(steps.begins),
            largest.logits.eq(Cat(lane.logit for lane in lanes)), largest.tags.eq(logit_tags),
            queue.result.eq(largest.result), queue.write.eq(largest.valid),
        ]  # fmt: skip
        memories.report(self, *([steps.parity_error] if parity_port(config) else []))
        return m

    def _places(self, lane: int) -> list[int]:
        """Positions in a word of a lane's weights, one for every element of the block of h."""
        k, size = self.config.block_size, self.plan.sharing
        block_row, row = divmod(lane, size)
        first = block_row * k
        return [first + col - col % size + (row - col) % size for col in range(k)]

    @staticmethod
    def _count(m, rom: Rom | WeightRam | CheckedRom, advance) -> None:
        """Read the words of a memory in order, again and again."""
        word = Signal.like(rom.addr, name=f"{rom.spec.name}_word")
        m.d.comb += [rom.en.eq(advance), rom.addr.eq(word)]
        with m.If(advance):
            m.d.sync += word.eq(Mux(word == rom.spec.depth - 1, 0, word + 1))
