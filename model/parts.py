"""The parts of a step: matrix–vector products that run one after the other on the matrix engine.

A *part* is a matrix of blocks together with what its sums are used for: gates of a layer and their share of the cell
update, or a projection.  Its columns form two groups: the *early* ones read what is available first, the *late* ones
read what is computed last, and follow behind the early ones.
"""

from typing import NamedTuple

# Gates of a layer, with a block row per gate and hidden block; the sums go to the lanes of the cell update.
CELL = "cell"
# A separate matrix behind the cell, block row after block row; the sums are rounded to h.
PROJECTION = "projection"


class Vector(NamedTuple):
    """A vector that a group of columns of a part is multiplied by.

    Attributes
    ----------
    blocks : int
        Number of blocks, and so of block columns; 0 for an empty group.
    source : int or None
        Index of the part that computes the vector; ``None`` for x.
    is_previous : bool
        Whether the vector comes from the step before (it is zero in the first step of a sequence), not from this step.
    """

    blocks: int
    source: int | None = None
    is_previous: bool = False


class Part(NamedTuple):
    """One matrix–vector product of a step.

    Attributes
    ----------
    kind : str
        ``CELL`` or ``PROJECTION``.
    layer : int
        Index of the layer.
    gates : tuple of int
        Indices of the gates of the cell that the rows belong to; empty for a projection.
    row_blocks : int
        Number of block rows, a multiple of the rows of a bundle (``Config.bundle_rows``).
    output_blocks : int
        Number of blocks of the vector that the part computes for other parts or for the output; 0 if for neither.
    early, late : Vector
        Vectors of the early and of the late columns, in this order.
    row_groups : int
        Number of groups of R block rows.
    col_groups : int
        Number of groups of C block columns.
    early_groups : int
        Number of column groups that consist of early columns only.
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
        """Number of block columns."""
        return self.early.blocks + self.late.blocks

    @property
    def reads_input_last(self) -> bool:
        """Whether the columns of what the layer computes itself come before those of the input of the layer."""
        return self.early.source is not None and (self.late.source is None or self.late.source < self.early.source)

    @property
    def words(self) -> int:
        """Number of words that the part takes in every weight bank (for one direction)."""
        return self.row_groups * self.col_groups


def parts_of(
    input_blocks: int,
    hidden_blocks: tuple[int, ...],
    projection_blocks: int,
    stages: tuple[tuple[int, ...], ...],
    tile: tuple[int, int],
    directions: int = 1,
) -> tuple[Part, ...]:
    """Parts of a step, in the order in which they run.

    In layer 0 the early vector is x and the late one the layer's own h of the step before.  In the other layers the
    early vector is their own h of the step before and the late one the h of the layer below, which is still being
    computed.  A projection reads the output of its cell and computes the h of the layer.  In a cell of several stages,
    the first stage computes what the last stage reads in place of the layer's own h, the last stage computes the h of
    the layer, and the stages between compute nothing that a matrix reads.

    In a bidirectional network each part exists for both directions, and a step is a step of one layer.  The early
    vector is computed by the engine itself (the layer's own h, or the output of an earlier part), the late one is the
    input of the layer (x, or both h of the layer below), or empty for a projection.  So only the number of blocks of
    the input differs between layers.

    Parameters
    ----------
    input_blocks : int
        Number of blocks of x.
    hidden_blocks : tuple of int
        Number of blocks of the output of a cell, for every layer; equal ones where there are two directions.
    projection_blocks : int
        Number of blocks of the output of a projection; 0 for a network without projections.
    stages : tuple of tuple of int
        Gates of every stage of the cell (``Cell.stage_gates``).
    tile : (int, int)
        R and C.
    directions : int
        1 or 2.
    """
    rows, cols = tile
    per_layer = len(stages) + (1 if projection_blocks else 0)
    bundle_rows = len(stages[0])

    def part(
        kind: str, layer: int, gates: tuple[int, ...], row_blocks: int, output_blocks: int, columns: tuple
    ) -> Part:
        early, late = columns
        blocks = early.blocks + late.blocks
        groups = -(-row_blocks // rows), -(-blocks // cols), early.blocks // cols
        return Part(kind, layer, gates, row_blocks, output_blocks, early, late, *groups)

    parts = []
    for layer, blocks in enumerate(hidden_blocks):
        h_blocks, blocks_below = projection_blocks or blocks, projection_blocks or hidden_blocks[max(0, layer - 1)]
        first, maker = layer * per_layer, layer * per_layer + per_layer - 1
        own = Vector(h_blocks, maker, is_previous=True)
        below = Vector(directions * blocks_below, maker - per_layer) if layer else Vector(input_blocks)
        for stage, gates in enumerate(stages):
            columns = (own, below) if layer or directions > 1 else (below, own)
            if stage and stage == len(stages) - 1:
                scaled = Vector(blocks, first)
                columns = (scaled, below) if directions > 1 else (below, scaled)
            output_blocks = blocks if stage in (0, len(stages) - 1) else 0
            parts.append(part(CELL, layer, gates, len(gates) * blocks, output_blocks, columns))
        if projection_blocks:
            bundles = -(-projection_blocks // bundle_rows)
            cell_output = Vector(blocks, first)
            columns = (cell_output, Vector(0)) if directions > 1 else (Vector(0), cell_output)
            parts.append(part(PROJECTION, layer, (), bundle_rows * bundles, projection_blocks, columns))
    return tuple(parts)
