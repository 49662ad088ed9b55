"""The output layer on chip: a dense layer behind the stream of h, and the first of its largest logits."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.adder_tree import AdderTree
from hdl.block_stream import block_stream
from hdl.booth import digits_layout, recode
from hdl.dot_product import DotProduct
from hdl.hierarchy import shared
from hdl.memory import Ram, Rom, delay
from hdl.multiplier import Multiplier
from hdl.packing import split
from model.config import Config
from model.memory_image import OUTPUT_BIAS, OUTPUT_WEIGHTS, output_layer_memories, output_vector_spec
from model.output_layer import BIAS_BITS, SUM_LATENCY, WEIGHT_BITS, output_plan


def result_layout(config: Config) -> data.StructLayout:
    """A result: number of the largest logit, that logit, and whether its step ends a sequence."""
    plan = output_plan(config)
    return data.StructLayout({"index": plan.index_bits, "logit": signed(plan.logit_bits), "last": 1})


class OutputLane(wiring.Component):
    """One logit: the sum over the blocks of h, from the bias on.

    Parameters
    ----------
    config : Config

    Members
    -------
    weights : In(k · 8)
        Packed, in the cycle before ``operands`` are registered.
    h : In(k · h.width)
    valid, first : In(1)
        Three cycles after ``weights``: this product counts; it is a sum's first.
    bias : In(signed(32))
        With ``first``.
    logit : Out(signed(logit_bits))

    Latency: ``model.output_layer.SUM_LATENCY`` less that of the memories · Numerics: exact
    """

    reset_less = True
    module_name = "output_lane"

    def __init__(self, config: Config):
        self.config, self.plan = config, output_plan(config)
        k, bits = config.block_size, config.quantization.h.width
        super().__init__(
            {
                "weights": In(k * WEIGHT_BITS), "h": In(k * bits), "valid": In(1), "first": In(1),
                "bias": In(signed(BIAS_BITS)), "logit": Out(signed(self.plan.logit_bits)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        k, bits = self.config.block_size, self.config.quantization.h.width
        weights, elements = split(self.weights, [WEIGHT_BITS] * k), split(self.h, [bits] * k)
        registered = [Signal.like(weight, name=f"weight_{number}") for number, weight in enumerate(weights)]
        m.d.sync += [register.eq(weight) for register, weight in zip(registered, weights, strict=True)]
        total = Signal(signed(WEIGHT_BITS + bits + (k - 1).bit_length()))
        if self.config.architecture.arithmetic == "carry_save":
            dot = DotProduct(k, WEIGHT_BITS, bits)
            m.submodules.dot = shared(dot, platform)
            for number, (weight, element) in enumerate(zip(registered, elements, strict=True)):
                digits = Signal(digits_layout(bits), name=f"digits_{number}")
                m.d.sync += digits.as_value().eq(recode(element))
                m.d.comb += [dot.weights[number].eq(weight), dot.digits[number].eq(digits)]
            m.d.sync += total.eq(dot.save + dot.carry - dot.offset)
        else:
            tree = AdderTree(k, WEIGHT_BITS + bits, len(total), 0)
            m.submodules.tree = shared(tree, platform)
            for number, (weight, element) in enumerate(zip(registered, elements, strict=True)):
                product = Multiplier(WEIGHT_BITS, bits, 1)
                m.submodules[f"product_{number}"] = shared(product, platform)
                operand = Signal.like(element, name=f"operand_{number}")
                m.d.sync += operand.eq(element)
                m.d.comb += [
                    product.left.eq(weight), product.right.eq(operand), tree.operands[number].eq(product.product),
                ]  # fmt: skip
            m.d.sync += total.eq(tree.total)
        with m.If(self.valid):
            m.d.sync += self.logit.eq(Mux(self.first, self.bias, self.logit) + total)
        return m


class OutputLayer(wiring.Component):
    """logits = weight · h + bias of every step; tells the largest.

    Parameters
    ----------
    config : Config
    contents : dict of str to list of int, optional
        Words of its memories, for Amaranth's simulator.

    Members
    -------
    h : In(stream.Signature(…))
        As the accelerator's.  With sinks that take, it is never refused.
    y : Out(stream.Signature(result_layout(config)))
        A result for every step.

    Latency: ``model.output_layer.OutputPlan.latency`` · Throughput: a step in ``cycles`` of the same ·
    Numerics: exact · Reference: ``model.output_layer.OutputLayer.choose``
    """

    module_name = "output_layer"

    def __init__(self, config: Config, contents: dict[str, list[int]] | None = None):
        self.config, self.contents, self.plan = config, contents or {}, output_plan(config)
        super().__init__(
            {
                "h": In(block_stream(config, config.quantization.h)),
                "y": Out(stream.Signature(result_layout(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        plan, k = self.plan, self.config.block_size
        memories = {spec.name: Rom(spec, self.contents.get(spec.name)) for spec in output_layer_memories(self.config)}
        weights, bias, vector = memories[OUTPUT_WEIGHTS], memories[OUTPUT_BIAS], Ram(output_vector_spec(self.config))
        m.submodules.output_weights = shared(weights, platform)
        m.submodules.output_bias = shared(bias, platform)
        m.submodules.output_h = shared(vector, platform)

        credit = Signal(range(plan.buffered + 1), init=plan.buffered)
        tags = self._read(m, vector, weights, credit)
        # When the products are summed, and when the sum is whole.
        early = {name: delay(m, tag, SUM_LATENCY - 2, name, False) for name, tag in tags.items()}
        late = {name: delay(m, tag, 2, f"sum_{name}", False) for name, tag in early.items()}
        group = Signal(range(plan.groups))
        m.d.comb += [bias.en.eq(early["valid"] & early["first"]), bias.addr.eq(group)]
        with m.If(bias.en):
            m.d.sync += group.eq(Mux(group == plan.groups - 1, 0, group + 1))
        summed = {name: delay(m, early[name], 1, f"lane_{name}", False) for name in ("valid", "first")}
        logits = []
        for number in range(plan.lanes):
            lane = OutputLane(self.config)
            m.submodules[f"lane_{number}"] = shared(lane, platform)
            m.d.comb += [
                lane.weights.eq(weights.data.word_select(number, k * WEIGHT_BITS)), lane.h.eq(vector.read_data),
                lane.bias.eq(bias.data.word_select(number, BIAS_BITS)),
                lane.valid.eq(summed["valid"]), lane.first.eq(summed["first"]),
            ]  # fmt: skip
            logits.append(lane.logit)
        result, push = self._largest(m, logits, late)
        self._queue(m, result, push)
        taken, begins = self.y.valid & self.y.ready, tags["valid"] & tags["begins"]
        m.d.sync += credit.eq(credit + taken - begins)
        return m

    def _read(self, m, vector: Ram, weights: Rom, credit: Signal) -> dict[str, Signal]:
        """Memory of h, a half for each of two steps, and what is read of it; tags of the word that is read."""
        blocks, groups = self.plan.blocks, self.plan.groups
        full, ends = Signal(2), Signal(2)
        write_half, read_half = Signal(), Signal()
        write_block, block, group = Signal(range(blocks)), Signal(range(blocks)), Signal(range(groups))
        taken, whole = self.h.valid & self.h.ready, Signal()
        m.d.comb += [
            self.h.ready.eq(~full.bit_select(write_half, 1)), whole.eq(taken & (write_block == blocks - 1)),
            vector.write_en.eq(taken), vector.write_data.eq(self.h.payload.data),
            vector.write_addr.eq(write_block + Mux(write_half, blocks, 0)),
        ]  # fmt: skip
        with m.If(taken):
            m.d.sync += write_block.eq(write_block + 1)
        with m.If(whole):
            m.d.sync += [
                write_block.eq(0), write_half.eq(~write_half),
                ends.bit_select(write_half, 1).eq(self.h.payload.last),
            ]  # fmt: skip

        busy, begins, valid, first, done, first_group, last_group, step_done = (
            Signal(name=name)
            for name in ("busy", "begins", "reads", "first", "done", "first_group", "last_group", "step_done")
        )
        m.d.comb += [
            begins.eq(~busy & full.bit_select(read_half, 1) & (credit != 0)), valid.eq(busy | begins),
            first.eq(block == 0), done.eq(block == blocks - 1),
            first_group.eq(group == 0), last_group.eq(group == groups - 1), step_done.eq(valid & done & last_group),
            vector.read_en.eq(valid), vector.read_addr.eq(block + Mux(read_half, blocks, 0)), weights.en.eq(valid),
        ]  # fmt: skip
        m.d.sync += full.eq((full | (whole << write_half)) & ~(step_done << read_half))
        with m.If(valid):
            word = Signal.like(weights.addr)
            m.d.comb += weights.addr.eq(word)
            m.d.sync += [busy.eq(~step_done), block.eq(block + 1), word.eq(word + 1)]
            with m.If(done):
                m.d.sync += [block.eq(0), group.eq(group + 1)]
            with m.If(step_done):
                m.d.sync += [group.eq(0), word.eq(0), read_half.eq(~read_half)]
        end = Signal()
        m.d.comb += end.eq(ends.bit_select(read_half, 1))
        return {"valid": valid, "begins": begins, "first": first, "done": done, "first_group": first_group,
                "last_group": last_group, "end": end}  # fmt: skip

    def _largest(self, m, logits: list, tags: dict) -> tuple:
        """The first of the largest of all groups' logits; fields of the result, and the cycle in which they hold."""
        plan = self.plan
        tags = tags | {"done": tags["done"] & tags["valid"]}
        least = Const(-(1 << (plan.logit_bits - 1)), signed(plan.logit_bits))
        used = plan.outputs - (plan.groups - 1) * plan.lanes
        # Lanes beyond the outputs never win: no logit is as small.
        level = [
            (logit if lane < used else Mux(tags["last_group"], least, logit), Const(lane, plan.levels))
            for lane, logit in enumerate(logits)
        ]
        depth = 0
        while len(level) > 1:
            depth += 1
            winners = []
            for number, start in enumerate(range(0, len(level), 2)):
                value = Signal(signed(plan.logit_bits), name=f"value_l{depth}_{number}", reset_less=True)
                lane = Signal(plan.levels, name=f"lane_l{depth}_{number}", reset_less=True)
                if start + 1 == len(level):
                    better = level[start]
                else:
                    (low, low_lane), (high, high_lane) = level[start : start + 2]
                    wins = Signal(name=f"wins_l{depth}_{number}")
                    m.d.comb += wins.eq(high > low)
                    better = Mux(wins, high, low), Mux(wins, high_lane, low_lane)
                m.d.sync += [value.eq(better[0]), lane.eq(better[1])]
                winners.append((value, lane))
            level = winners
        tags = {name: delay(m, tags[name], depth, f"tree_{name}", False)
                for name in ("done", "first_group", "last_group", "end")}  # fmt: skip
        (value, lane), base = level[0], Signal(plan.index_bits)
        best, index, end, whole = Signal.like(logits[0]), Signal(plan.index_bits), Signal(), Signal()
        m.d.sync += whole.eq(tags["done"] & tags["last_group"])
        with m.If(tags["done"]):
            m.d.sync += [end.eq(tags["end"]), base.eq(Mux(tags["last_group"], 0, base + plan.lanes))]
            with m.If(tags["first_group"] | (value > best)):
                m.d.sync += [best.eq(value), index.eq(base + lane)]
        return {"index": index, "logit": best, "last": end}, whole

    def _queue(self, m, result: dict, push: Signal) -> None:
        """Results that wait for the sink, the oldest first; the credit sees to the room."""
        count = self.plan.buffered
        entries = [Signal.like(self.y.payload, name=f"result_{number}", reset_less=True) for number in range(count)]
        level, taken = Signal(range(count + 1)), self.y.valid & self.y.ready
        m.d.comb += [self.y.valid.eq(level != 0), self.y.payload.eq(entries[0])]
        m.d.sync += level.eq(level + push - taken)
        with m.If(taken):
            m.d.sync += [now.eq(following) for now, following in zip(entries, entries[1:], strict=False)]
        with m.If(push):
            for number, entry in enumerate(entries):
                with m.If(level - taken == number):
                    m.d.sync += [entry[name].eq(value) for name, value in result.items()]
