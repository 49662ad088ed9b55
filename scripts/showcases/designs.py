"""Designs that a showcase tries, and how much it trains and measures."""

import argparse
from typing import NamedTuple

from chessrnn.model.config_sections import BLOCK_SIZES, WEIGHT_BITS


class Design(NamedTuple):
    """Block size and width of the weights."""

    block_size: int
    weight_bits: int

    @property
    def name(self) -> str:
        """Name of the design and of its files."""
        return f"k{self.block_size}w{self.weight_bits}"


def design(text: str) -> Design:
    """``argparse`` type of a design, K:BITS."""
    try:
        k, bits = map(int, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be of the form K:BITS, not {text!r}") from None
    if k not in BLOCK_SIZES or bits not in WEIGHT_BITS:
        sizes, widths = ", ".join(map(str, BLOCK_SIZES)), f"{WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]}"
        raise argparse.ArgumentTypeError(f"must have K of {sizes} and {widths} BITS, not {text}")
    return Design(k, bits)


class Effort(NamedTuple):
    """How much is done.

    Attributes
    ----------
    trained, measured : int
        Numbers of streams to train with and to measure with.
    seconds : float
        Length of a stream.
    updates : dict of int to int
        Updates of the float stage by block size; a larger block size takes the last.
    integer_updates : dict of int to int
        Updates of the integer stage by width of the weights.
    batch : int
        Streams per update.
    float_rate : float
        First learning rate of the float stage.
    trains_dense : bool
        Whether designs of block size 1 are trained as well, which lose little by rounding.
    """

    trained: int
    measured: int
    seconds: float
    updates: dict[int, int]
    integer_updates: dict[int, int]
    batch: int = 32
    float_rate: float = 1e-2
    trains_dense: bool = True

    def updates_of(self, one: Design) -> tuple[int, int]:
        """Updates of the float and of the integer stage of a design."""
        k, bits = one
        if k == 1 and not self.trains_dense:
            return 0, 0
        floats = self.updates.get(k, self.updates[max(self.updates)])
        return floats, self.integer_updates.get(bits, max(self.integer_updates.values()))

    def untrained(self) -> "Effort":
        """Return the same sounds without training."""
        return self._replace(updates={1: 0}, integer_updates={8: 0})

    def longer(self, factor: int) -> "Effort":
        """Return as many times the updates and the streams to train with; what is measured stays the same."""
        updates, integer_updates = (
            {key: factor * number for key, number in table.items()} for table in (self.updates, self.integer_updates)
        )
        return self._replace(trained=factor * self.trained, updates=updates, integer_updates=integer_updates)
