"""Layers with narrower weights than others: several of their words share a stored word of a weight bank.

A stored word is as wide as a word of the widest layer, b bits for each of its k weights.  Of a layer with c bits it
holds ⌊b/c⌋ words in as many *slots*, the first in the lowest bits; bits above the last slot are zero.  Every layer
begins with a stored word of its own, so its word n is in slot n mod slots of the stored word ⌊n / slots⌋ of the layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

MIN_WIDTH = 2


def packable_widths(widest: int) -> list[int]:
    """Widths that a layer may have beside one of ``widest`` bits: those that no wider one has as many slots as."""
    return sorted({widest // slots for slots in range(1, widest // MIN_WIDTH + 1)}, reverse=True)


class Slot(NamedTuple):
    """A place of a word in a stored word.

    Attributes
    ----------
    bits : int
        Width of a weight.
    number : int
        Number of the slot among those of this width, the one in the lowest bits first.
    """

    bits: int
    number: int


def word_slots(layer_bits: Sequence[int]) -> list[Slot]:
    """All places of a word, by width, the widest first; ``layer_bits`` are the widths of the layers."""
    widest = max(layer_bits)
    widths = sorted(set(layer_bits), reverse=True)
    return [Slot(bits, number) for bits in widths for number in range(widest // bits)]


def side_by_side(words: Sequence[int], bits: int) -> int:
    """Join words of ``bits`` bits, the first in the lowest bits."""
    return sum(word << (place * bits) for place, word in enumerate(words))


def share_words(words: Sequence[int], slots: int, bits: int) -> list[int]:
    """Put words of ``bits`` bits into stored words of ``slots`` slots; the last one may hold fewer."""
    return [side_by_side(words[start : start + slots], bits) for start in range(0, len(words), slots)]
