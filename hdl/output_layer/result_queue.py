"""The queue of results that wait for the sink."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.output_layer.largest import result_layout
from chessrnn.model.config import Config


class ResultQueue(wiring.Component):
    """A FIFO in registers; a step reserves its place when it begins, so nothing on the way to the queue has to wait.

    Parameters
    ----------
    config : Config

    Members
    -------
    may_begin : Out(1)
        There is a place for the result of one more step.
    begins : In(1)
        A step begins and reserves the place.
    result : In(result_layout(config))
        Result of a step.
    write : In(1)
        Store ``result`` in its place.
    y : Out(stream.Signature(result_layout(config)))
        Results in the order of the steps.

    Latency: 1 · Throughput: 1 per cycle
    """

    module_name = "result_queue"

    def __init__(self, config: Config):
        self.places, layout = config.required_output_plan.buffered, result_layout(config)
        super().__init__(
            {
                "may_begin": Out(1), "begins": In(1), "result": In(layout), "write": In(1),
                "y": Out(stream.Signature(layout)),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        free, level = Signal(range(self.places + 1), init=self.places), Signal(range(self.places + 1))
        entries = [Signal.like(self.result, name=f"result_{number}", reset_less=True) for number in range(self.places)]
        taken = Signal()
        m.d.comb += [
            taken.eq(self.y.valid & self.y.ready), self.may_begin.eq(free != 0),
            self.y.valid.eq(level != 0), self.y.payload.eq(entries[0]),
        ]  # fmt: skip
        m.d.sync += [free.eq(free + taken - self.begins), level.eq(level + self.write - taken)]
        with m.If(taken):
            m.d.sync += [now.eq(following) for now, following in zip(entries, entries[1:], strict=False)]
        with m.If(self.write):
            for number, entry in enumerate(entries):
                with m.If(level - taken == number):
                    m.d.sync += entry.eq(self.result)
        return m
