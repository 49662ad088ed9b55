"""Widths along the matrix–vector datapath, proven from the formats: one list per engine and point.

The points are the same for both engines; what differs is how many values a block has there:

- *operand*: a block of x or h as it is multiplied (elements, or forms of them),
- *weight*: a block of weights as it is multiplied,
- *partial*: what multipliers make of a block (k dot products, or n products of forms); carry-save arithmetic has none,
- *sum*: what a row accumulates over the block columns.
"""

from dataclasses import dataclass

from chessrnn.model import bilinear
from chessrnn.model.config import Config

# Carry-save arithmetic takes operands as radix-4 Booth digits: once, twice, negative.
DIGIT_BITS = 3


def num_digits(width: int) -> int:
    """Booth digits of a signed operand of ``width`` bits."""
    return -(-width // 2)


@dataclass(frozen=True)
class DatapathWidths:
    """Bits of every value of a block at each point, in order.

    Attributes
    ----------
    operand, weight, partial, sum : tuple of int
        See above.
    operand_bits : int
        Bits of all operands of a block as they are handed on: as numbers, or as Booth digits.
    terms : int
        Products of a block that make one value of the sums.
    """

    operand: tuple[int, ...]
    weight: tuple[int, ...]
    partial: tuple[int, ...]
    sum: tuple[int, ...]
    operand_bits: int
    terms: int


def datapath_widths(config: Config) -> DatapathWidths:
    """Widths for the engine and the arithmetic of ``config``."""
    k, element, weight = config.block_size, config.element_bits, config.quantization.weight_bits
    sum_bits = config.product_sum_bits
    if config.architecture.engine == "direct":
        bits = min(element + weight + (k.bit_length() - 1), sum_bits)
        operands, weights, partial, sums, terms = (element,) * k, (weight,) * k, (bits,) * k, (sum_bits,) * k, k
    else:
        weight_range = bilinear.signed_interval(weight)
        q = config.quantization
        x, h = bilinear.signed_interval(q.x.width), bilinear.signed_interval(q.h.width)
        # What meets every part's rows: x as it comes, all else in the format of h.
        columns = {
            tuple(
                (vector.blocks, x if vector.source is None else h)
                for vector in (part.early, part.late)
                if vector.blocks
            )
            for part in config.parts
        }
        operands, weights = bilinear.form_widths(k, element), bilinear.form_widths(k, weight)
        widths = [bilinear.accumulator_widths(k, weight_range, list(parts), sum_bits) for parts in columns]
        sums = [max(values) for values in zip(*widths, strict=True)]
        products = bilinear.product_ranges(k, weight_range, bilinear.signed_interval(element))
        partial = [min(bilinear.width_for(*p), s) for p, s in zip(products, sums, strict=True)]
        terms = 1
    if config.architecture.arithmetic == "carry_save":
        operand_bits = sum(DIGIT_BITS * num_digits(width) for width in operands)
    else:
        operand_bits = sum(operands)
    return DatapathWidths(tuple(operands), tuple(weights), tuple(partial), tuple(sums), operand_bits, terms)
