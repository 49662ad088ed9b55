"""A lane of the output layer computes one logit of every group."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.adder_tree import AdderTree
from chessrnn.hdl.arithmetic.booth import digits_layout, recode
from chessrnn.hdl.arithmetic.dot_product import DotProduct
from chessrnn.hdl.arithmetic.multiplier import Multiplier
from chessrnn.hdl.arithmetic.packing import split
from chessrnn.hdl.hierarchy import shared
from chessrnn.model.config import Config
from chessrnn.model.output_plan import BIAS_BITS, WEIGHT_BITS
from chessrnn.model.widths.hardware import hardware_widths


class OutputLane(wiring.Component):
    """Computes a logit: the bias plus the sum of products over all blocks of h.

    Parameters
    ----------
    config : Config

    Members
    -------
    weights : In(k · 8)
        Packed weights of one block, the first in the lowest bits.
    h : In(k · h.width)
        The block of h that these weights are multiplied by, in the same cycle.
    valid, first : In(1)
        Three cycles later: the products count; they are the first of a logit.
    bias : In(signed(32))
        Bias of a logit, one cycle before ``first``.
    logit : Out(signed(logit_bits))
        The logit, four cycles after its last block and until the first block of the next one is added.

    Latency: ``chessrnn.model.output_plan.SUM_LATENCY`` minus the 1 cycle of the memories ·
    Throughput: 1 block per cycle · Numerics: exact ·
    Reference: ``chessrnn.model.output_layer.OutputLayer.largest_logit``
    """

    reset_less = True
    module_name = "output_lane"

    def __init__(self, config: Config):
        self.config, self.plan = config, config.required_output_plan
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
        total = Signal(signed(hardware_widths(self.config).logit_products))
        if self.config.architecture.arithmetic == "carry_save":
            dot = DotProduct(k, WEIGHT_BITS, bits)
            m.submodules.dot = shared(dot, platform)
            for number, (weight, element) in enumerate(zip(registered, elements, strict=True)):
                digits = Signal(digits_layout(bits), name=f"digits_{number}")
                m.d.sync += digits.as_value().eq(recode(element))
                m.d.comb += [dot.multiplicands[number].eq(weight), dot.digits[number].eq(digits)]
            m.d.sync += total.eq(dot.save + dot.words.spread - dot.offset)
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
        # The register separates the read of the memory from the addition: both in one cycle would be too slow.
        bias = Signal.like(self.bias, name="bias_register")
        m.d.sync += bias.eq(self.bias)
        with m.If(self.valid):
            m.d.sync += self.logit.eq(Mux(self.first, bias, self.logit) + total)
        return m
