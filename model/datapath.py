"""Widths along the matrix–vector datapath, proven from the formats: one list per engine and point.

The points are the same for both engines; what differs is how many values a block has there:

- *operand*: a block of x or h as it reaches the multipliers (elements, or forms of them),
- *weight*: a block of weights as it reaches the multipliers,
- *partial*: what a processing element gives per block (k dot products, or n products of forms),
- *sum*: what a row accumulates over the block columns.
"""

from dataclasses import dataclass

from model import bilinear
from model.config import Config


@dataclass(frozen=True)
class DatapathWidths:
    """Bits of every value of a block at each point, in order."""

    operand: tuple[int, ...]
    weight: tuple[int, ...]
    partial: tuple[int, ...]
    sum: tuple[int, ...]


def datapath_widths(config: Config) -> DatapathWidths:
    """Widths for the engine of ``config``."""
    k, element, weight = config.block_size, config.element_bits, config.quantization.weight_bits
    sum_bits = config.product_sum_bits
    if config.architecture.engine == "direct":
        partial = min(element + weight + (k.bit_length() - 1), sum_bits)
        return DatapathWidths((element,) * k, (weight,) * k, (partial,) * k, (sum_bits,) * k)
    weight_range = bilinear.signed_interval(weight)
    q = config.quantization
    parts = [
        (config.num_input_blocks, bilinear.signed_interval(q.x.width)),
        (config.num_hidden_blocks, bilinear.signed_interval(q.h.width)),
    ]
    sums = bilinear.accumulator_widths(k, weight_range, parts, sum_bits)
    products = bilinear.product_ranges(k, weight_range, bilinear.signed_interval(element))
    partial = [min(bilinear.width_for(*p), s) for p, s in zip(products, sums, strict=True)]
    return DatapathWidths(
        tuple(bilinear.form_widths(k, element)), tuple(bilinear.form_widths(k, weight)), tuple(partial), tuple(sums)
    )
