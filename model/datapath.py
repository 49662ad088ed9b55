"""Widths along the matrix–vector datapath, proven from the formats.

Both engines have the same points, but a different number of values per block at each:

- *operand*: a block of x or h as it enters the multipliers (its elements, or their forms),
- *weight*: a block of weights as it enters the multipliers,
- *partial*: the results of the multipliers for a block (k dot products, or n products of forms); they exist as numbers
  only with arithmetic ``multiplier``,
- *sum*: the values that a row accumulates over the block columns.
"""

from dataclasses import dataclass

from chessrnn.model import bilinear
from chessrnn.model.config import Config

# Carry-save arithmetic takes operands as radix-4 Booth digits, which have three control bits: once, twice, negative.
DIGIT_BITS = 3


def num_digits(width: int) -> int:
    """Number of Booth digits of a signed operand of ``width`` bits."""
    return -(-width // 2)


@dataclass(frozen=True)
class DatapathWidths:
    """The width in bits of every value of a block at each point.

    Attributes
    ----------
    operand, weight, partial, sum : tuple of int
        Widths of the values at the points described above, in their order within the block.
    operand_bits : int
        Number of bits of all operands of a block together, as numbers or as Booth digits.
    terms : int
        Number of products of a block that are added to one value of the sums.
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
        # The vectors that each part reads: x in its own format, every other one in the format of h.
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
