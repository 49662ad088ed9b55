"""The search for the largest logit of a step; of equal logits the first wins."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import split
from chessrnn.hdl.memory import delay
from chessrnn.hdl.output_layer.step_memory import READ_TAGS
from chessrnn.model.config import Config


def result_layout(config: Config) -> data.StructLayout:
    """Layout of a result: index of the largest logit, the logit, and whether its step is the last of a sequence."""
    plan = config.required_output_plan
    return data.StructLayout({"index": plan.index_bits, "logit": signed(plan.logit_bits), "last": 1})


class Largest(wiring.Component):
    """Compares the logits of a group in a tree, one level per cycle, and the winner with that of the earlier groups.

    Parameters
    ----------
    config : Config

    Members
    -------
    logits : In(lanes · logit_bits)
        Packed logits of a group, lane 0 in the lowest bits.
    tags : In(READ_TAGS)
        Tags of the block of h that completed these logits.
    result : Out(result_layout(config))
        Result over the groups so far.
    valid : Out(1)
        ``result`` covers all groups of a step.

    Latency: ``OutputPlan.levels`` + 1 · Throughput: 1 group per cycle · Reference: ``numpy.argmax``
    """

    module_name = "largest"

    def __init__(self, config: Config):
        self.config, self.plan = config, config.required_output_plan
        bits = self.plan.lanes * self.plan.logit_bits
        super().__init__(
            {"logits": In(bits), "tags": In(READ_TAGS), "result": Out(result_layout(config)), "valid": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        plan, best = self.plan, self.result
        value, lane = self._winner(m)
        tags = delay(m, self.tags, plan.levels, "tags", reset_less=False)
        # Index of the group's first output.
        base, whole = Signal(plan.index_bits), Signal()
        m.d.comb += whole.eq(tags.valid & tags.last_block)
        m.d.sync += self.valid.eq(whole & tags.last_group)
        with m.If(whole):
            m.d.sync += [best.last.eq(tags.ends_sequence), base.eq(Mux(tags.last_group, 0, base + plan.lanes))]
            with m.If(tags.first_group | (value > best.logit)):
                m.d.sync += [best.logit.eq(value), best.index.eq(base + lane)]
        return m

    def _winner(self, m) -> tuple:
        """The largest logit of a group and its lane; of equal logits the first wins."""
        plan = self.plan
        least = Const(-(1 << (plan.logit_bits - 1)), signed(plan.logit_bits))
        used = plan.outputs - (plan.groups - 1) * plan.lanes
        # Lanes beyond the last output never win, as no logit is as small as ``least``.
        level = [
            (logit if lane < used else Mux(self.tags.last_group, least, logit), Const(lane, plan.levels))
            for lane, logit in enumerate(split(self.logits, [plan.logit_bits] * plan.lanes))
        ]
        for depth in range(1, plan.levels + 1):
            winners = []
            for number, start in enumerate(range(0, len(level), 2)):
                value = Signal(signed(plan.logit_bits), name=f"value_l{depth}_{number}", reset_less=True)
                lane = Signal(plan.levels, name=f"lane_l{depth}_{number}", reset_less=True)
                better = level[start]
                if start + 1 < len(level):
                    (low, low_lane), (high, high_lane) = level[start : start + 2]
                    wins = Signal(name=f"wins_l{depth}_{number}")
                    m.d.comb += wins.eq(high > low)
                    better = Mux(wins, high, low), Mux(wins, high_lane, low_lane)
                m.d.sync += [value.eq(better[0]), lane.eq(better[1])]
                winners.append((value, lane))
            level = winners
        return level[0]
