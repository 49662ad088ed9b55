"""Stages that prepare operands for the products: blocks of the vector, shared by a tile column, and of weights."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.booth import recode
from chessrnn.hdl.arithmetic.packing import split
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.transform import ForwardTransform
from chessrnn.model.config import Config
from chessrnn.model.schedule import operand_latency
from chessrnn.model.widths.hardware import hardware_widths


def _forms(m: Module, config: Config, block, width: int, user: str, platform):
    """The factors that the engine multiplies: the k elements of a block (``direct``), or their forms (``fast``)."""
    if config.architecture.engine != "fast":
        return block
    transform = ForwardTransform(config.block_size, width, config.architecture.pipeline.forward_levels, user)
    m.submodules.transform = shared(transform, platform)
    m.d.comb += transform.elements.as_value().eq(block)
    return transform.forms.as_value()


def _recoded(factors: Value, widths: Sequence[int], is_recoded: Sequence[bool]) -> Value:
    """Packed factors, with the Booth digits of some in their place."""
    values = zip(split(factors, widths), is_recoded, strict=True)
    return Cat(*(recode(value) if recoded else value for value, recoded in values))


def levels_suffix(config: Config) -> str:
    """The end of the names of modules that depend on the levels of the weights."""
    return "_half" if config.has_half_levels else ""


class OperandStage(wiring.Component):
    """Prepares a block of the vector for the processing elements of one tile column, which share it.

    Engine ``fast`` transforms the block, and carry-save arithmetic recodes its factors into Booth digits, once for all
    rows, except for those whose weights are recoded.

    Parameters
    ----------
    config : Config

    Members
    -------
    elements : In(k · element_bits)
        Elements of the block, the first in the lowest bits.
    operand : Out
        Packed factors of widths ``hardware_widths(config).operand_factors``.

    Latency: ``chessrnn.model.schedule.operand_latency`` · Throughput: 1 block per cycle · Numerics: exact ·
    Reference: ``chessrnn.model.bilinear.forward_matrix``
    """

    reset_less = True

    def __init__(self, config: Config):
        self.config = config
        self.latency = operand_latency(config)
        widths = hardware_widths(config)
        super().__init__(
            {"elements": In(config.block_size * config.element_bits), "operand": Out(sum(widths.operand_factors))}
        )

    @property
    def module_name(self) -> str:
        c = self.config
        return f"operand_{c.architecture.engine}_k{c.block_size}_x{c.element_bits}"

    def elaborate(self, platform):
        m = Module()
        config = self.config
        operand = _forms(m, config, self.elements, config.element_bits, "operand", platform)
        if config.architecture.arithmetic == "carry_save":
            widths = hardware_widths(config)
            operand = _recoded(operand, widths.operand, [not of_weight for of_weight in widths.recodes_weights])
        domain = m.d.sync if config.architecture.pipeline.operand_register else m.d.comb
        domain += self.operand.eq(operand)
        return m


class WeightStage(wiring.Component):
    """Prepares a block of weights: from the word of its bank to the factors of the products.

    With half levels a stored code q means the weight 2·q + 1: a constant bit below each code.

    Parameters
    ----------
    config : Config

    Members
    -------
    word : In(k · weight_bits)
        The defining vector of the block, as stored in the bank.
    weight : Out
        Packed factors of widths ``hardware_widths(config).weight_factors``.

    Latency: ``chessrnn.model.schedule.operand_latency`` · Throughput: 1 block per cycle · Numerics: exact ·
    Reference: ``chessrnn.model.bilinear.forward_matrix``
    """

    reset_less = True

    def __init__(self, config: Config):
        self.config = config
        self.latency = operand_latency(config)
        super().__init__(
            {"word": In(config.weight_word_bits), "weight": Out(sum(hardware_widths(config).weight_factors))}
        )

    @property
    def module_name(self) -> str:
        c = self.config
        return f"weight_{c.architecture.engine}_k{c.block_size}_w{c.weight_bits}{levels_suffix(c)}"

    def elaborate(self, platform):
        m = Module()
        domain = m.d.sync if self.config.architecture.pipeline.operand_register else m.d.comb
        word, bits = self.word, self.config.weight_bits
        if self.config.has_half_levels:
            codes = (word[bits * place : bits * (place + 1)] for place in range(self.config.block_size))
            word = Cat(*(Cat(Const(1, 1), code) for code in codes))
        weight = _forms(m, self.config, word, self.config.weight_value_bits, "weight", platform)
        widths = hardware_widths(self.config)
        domain += self.weight.eq(_recoded(weight, widths.weight, widths.recodes_weights))
        return m
