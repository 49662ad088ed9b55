"""What a step consists of: matrix–vector products, one after the other on one engine.

A *part* is a matrix of blocks with what becomes of its sums: gates of a layer and their share of the cell update, or a
projection.  Its columns stand in two groups, those that need not wait first.
"""

from typing import NamedTuple

# Gates of a layer, a block row each per hidden block; the sums go to the cell's lanes.
CELL = "cell"
# A matrix of its own behind the cell, block rows one after the other; the sums are rounded to h.
PROJECTION = "projection"


class Vector(NamedTuple):
    """Columns of a part that meet one vector.

    Attributes
    ----------
    blocks : int
        Block columns; 0: there are none.
    source : int or None
        Number of the part that makes the vector; ``None``: x.
    is_previous : bool
        Made in the step before (zero in the first step of a sequence), else in this one.
    """

    blocks: int
    source: int | None = None
    is_previous: bool = False


class Part(NamedTuple):
    """One product of a step.

    Attributes
    ----------
    kind : str
        ``CELL`` or ``PROJECTION``.
    layer : int
    gates : tuple of int
        Numbers of the cell's gates whose rows these are; empty for a projection.
    row_blocks : int
        Block rows, a multiple of a bundle's.
    output_blocks : int
        Number of blocks of the vector that the part computes for other parts or for the output; 0 if for neither.
    early, late : Vector
        Columns in their order.
    row_groups, col_groups : int
        Groups of R block rows, of C block columns.
    early_groups : int
        Column groups that hold early columns alone.
    """

    kind: str
    layer: int
    gates: tuple[int, ...]
    row_blocks: int
    output_blocks: int
    early: Vector
    late: Vector
    row_groups: int
    col_groups: int
    early_groups: int

    @property
    def blocks(self) -> int:
        """Block columns."""
        return self.early.blocks + self.late.blocks

    @property
    def reads_input_last(self) -> bool:
        """Whether its columns are those of what its layer makes itself, then those of the layer's input."""
        return self.early.source is not None and (self.late.source is None or self.late.source < self.early.source)

    @property
    def words(self) -> int:
        """Words of a weight bank."""
        return self.row_groups * self.col_groups


def parts_of(
    input_blocks: int,
    hidden_blocks: int,
    projection_blocks: int,
    stages: tuple[tuple[int, ...], ...],
    layers: int,
    tile: tuple[int, int],
    directions: int = 1,
) -> tuple[Part, ...]:
    """The parts of a step in order.

    Layer 0 reads x before its own h of the step before; the others read their own h before the h of the layer below,
    which is only just being made.  A projection reads what its cell makes, and makes the layer's h.  Of a cell of
    several stages the first makes what the last reads in place of the layer's own h, the last makes the layer's h, and
    the others make nothing that a matrix reads.

    With two directions a part stands for either of its layer, and steps are of one layer alone.  Early is what the
    engine makes itself, the layer's own h or what a part before makes; late is the layer's input, x or both h of the
    layer below, and of a projection nothing.  So only the number of the input's blocks differs between layers.

    Parameters
    ----------
    input_blocks, hidden_blocks, projection_blocks : int
        Blocks of x, of what a cell makes, of what a projection makes (0: there is none).
    stages : tuple of tuple of int
        Gates of the cell (``Cell.stage_gates``).
    layers : int
    tile : (int, int)
        R, C.
    directions : int
        1 or 2.
    """
    rows, cols = tile
    per_layer = len(stages) + (1 if projection_blocks else 0)
    h_blocks, bundle_rows = projection_blocks or hidden_blocks, len(stages[0])

    def part(
        kind: str, layer: int, gates: tuple[int, ...], row_blocks: int, output_blocks: int, columns: tuple
    ) -> Part:
        early, late = columns
        blocks = early.blocks + late.blocks
        groups = -(-row_blocks // rows), -(-blocks // cols), early.blocks // cols
        return Part(kind, layer, gates, row_blocks, output_blocks, early, late, *groups)

    parts = []
    for layer in range(layers):
        first, maker = layer * per_layer, layer * per_layer + per_layer - 1
        own = Vector(h_blocks, maker, is_previous=True)
        below = Vector(directions * h_blocks, maker - per_layer) if layer else Vector(input_blocks)
        for stage, gates in enumerate(stages):
            columns = (own, below) if layer or directions > 1 else (below, own)
            if stage and stage == len(stages) - 1:
                scaled = Vector(hidden_blocks, first)
                columns = (scaled, below) if directions > 1 else (below, scaled)
            output_blocks = hidden_blocks if stage in (0, len(stages) - 1) else 0
            parts.append(part(CELL, layer, gates, len(gates) * hidden_blocks, output_blocks, columns))
        if projection_blocks:
            bundles = -(-projection_blocks // bundle_rows)
            made_before = Vector(hidden_blocks, first)
            columns = (made_before, Vector(0)) if directions > 1 else (Vector(0), made_before)
            parts.append(part(PROJECTION, layer, (), bundle_rows * bundles, projection_blocks, columns))
    return tuple(parts)
