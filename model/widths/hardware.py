"""The widths of a design's hardware: the one place that the RTL reads them from.

The matrix–vector datapath has four points.  Both engines have the same points, but a different number of values per
block at each:

- *operand*: a block of x or h as it enters the multipliers (its elements, or their forms),
- *weight*: a block of weights as it enters the multipliers,
- *partial*: the results of the multipliers for a block (k dot products, or n products of forms); they exist as numbers
  only with arithmetic ``multiplier``,
- *sum*: the values that a row accumulates over the block columns.

Expressions without a width of their own grow by the rules of Amaranth, which never wrap.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from chessrnn.model.config import Config
from chessrnn.model.output_plan import WEIGHT_BITS
from chessrnn.model.widths.forms import accumulator_widths, form_widths, product_ranges
from chessrnn.model.widths.interval import Interval, product_interval, signed_interval
from chessrnn.model.widths.sums import (
    RoundedTerms,
    digits_width,
    format_interval,
    products_interval,
    recodes_weights,
    rounded_sum_bits,
    scaled_sum_bits,
)


@dataclass(frozen=True)
class HardwareWidths:
    """The widths in bits of all values whose width no format states.

    Attributes
    ----------
    operand, weight, partial, sum : tuple of int
        Widths of the values of a block at the points described above, in their order within the block.
    recodes_weights : tuple of bool
        Whether carry-save arithmetic takes the weight of each value as Booth digits; otherwise the operand.
    operand_factors, weight_factors : tuple of int
        Widths of the values of a block as they enter the products: numbers, or Booth digits.
    terms : int
        Number of products of a block that are added to one value of the sums.
    product_sum : int
        Width of a row of W_x·x + W_h·h.
    accumulator : int
        Width of the sum with its bias.
    rounded_sum : tuple of int
        Width of the sum with its bias and the constant of the rounding to the format of the sum, for each gate; in
        layers with scales of their own that of the widest.
    scaled_sum : tuple of int
        Width of the sum with its bias, multiplied by the scale of its row, with the rounding constant, for each gate;
        in layers with scales of their own that of the widest.  Used with scales of rows.
    peephole_product : int
        Width of a peephole weight times a cell state; 0 for a cell without peepholes.
    cell_sums : dict of str to RoundedTerms
        The rounded sums of the cell update by name; see ``chessrnn.model.widths.sums.cell_sums``.
    logit_products : int
        Width of the products of a block that the output layer adds to a logit; 0 without an output layer.
    """

    operand: tuple[int, ...]
    weight: tuple[int, ...]
    partial: tuple[int, ...]
    sum: tuple[int, ...]
    recodes_weights: tuple[bool, ...]
    operand_factors: tuple[int, ...]
    weight_factors: tuple[int, ...]
    terms: int
    product_sum: int
    accumulator: int
    rounded_sum: tuple[int, ...]
    scaled_sum: tuple[int, ...]
    peephole_product: int
    cell_sums: dict[str, RoundedTerms] = field(hash=False)
    logit_products: int


@lru_cache(maxsize=64)
def hardware_widths(config: Config) -> HardwareWidths:
    """Widths for the network, the formats, the engine and the arithmetic of ``config``."""
    q = config.quantization
    make = _direct if config.architecture.engine == "direct" else _fast
    operand, weight, partial, sums, terms = make(config)
    carry_save = config.architecture.arithmetic == "carry_save"
    recoded = [carry_save and recodes_weights(*widths) for widths in zip(weight, operand, strict=True)]
    return HardwareWidths(
        operand=tuple(operand),
        weight=tuple(weight),
        partial=tuple(partial),
        sum=tuple(sums),
        recodes_weights=tuple(recoded),
        operand_factors=tuple(
            digits_width(width) if carry_save and not of_weight else width
            for width, of_weight in zip(operand, recoded, strict=True)
        ),
        weight_factors=tuple(
            digits_width(width) if of_weight else width for width, of_weight in zip(weight, recoded, strict=True)
        ),
        terms=terms,
        product_sum=config.product_sum_bits,
        accumulator=config.accumulator_bits,
        rounded_sum=tuple(
            max(rounded_sum_bits(config.accumulator_bits, shift) for shift in shifts)
            for shifts in zip(*config.layer_preact_shifts, strict=True)
        ),
        scaled_sum=tuple(
            max(scaled_sum_bits(config.scaled_interval, shift + config.scale_frac) for shift in shifts)
            for shifts in zip(*config.layer_preact_shifts, strict=True)
        ),
        peephole_product=product_interval(format_interval(q.peephole), format_interval(q.cell)).bits
        if config.cell.peepholes
        else 0,
        cell_sums=config.cell_sums,
        logit_products=products_interval(signed_interval(WEIGHT_BITS), [(config.block_size, format_interval(q.h))]).bits
        if config.architecture.output_layer
        else 0,
    )


def _direct(config: Config) -> tuple:
    """Operands, weights, partial results, sums and terms of engine ``direct``.

    A partial result is a dot product over a block, whose range is attained; it may wrap where a whole row is narrower.
    """
    k, element, weight = config.block_size, config.element_bits, config.weight_value_bits
    range_of_weight = Interval(config.weight_min, config.weight_max)
    dot = products_interval(range_of_weight, [(k, signed_interval(element))]).bits
    total = config.product_sum_bits
    return (element,) * k, (weight,) * k, (min(dot, total),) * k, (total,) * k, k


def _fast(config: Config) -> tuple:
    """Operands, weights, partial results, sums and terms of engine ``fast``."""
    k, element, weight_bits = config.block_size, config.element_bits, config.weight_value_bits
    x_bits, h_bits = config.quantization.x.width, config.quantization.h.width
    weight, x, h = Interval(config.weight_min, config.weight_max), signed_interval(x_bits), signed_interval(h_bits)
    # The vectors that each part reads, each shifted as its sums are: x in its own format, every other one in that of h.
    columns = {
        tuple(
            (vector.blocks, (x if vector.source is None else h).times(1 << shift))
            for vector, shift in zip((part.early, part.late), config.part_shifts(part), strict=True)
            if vector.blocks
        )
        for part in config.parts
    }
    widths = [accumulator_widths(k, weight, list(parts), config.product_sum_bits) for parts in columns]
    sums = [max(values) for values in zip(*widths, strict=True)]
    products = product_ranges(k, weight, signed_interval(element))
    partial = [min(interval.bits, total) for interval, total in zip(products, sums, strict=True)]
    return form_widths(k, element), form_widths(k, weight_bits), partial, sums, 1
