"""The chessboard of a design as plain values: its matrices of blocks, and the tile's way over them."""

from typing import NamedTuple

from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION, Part, Vector
from chessrnn.model.schedule import Issue, Schedule

# More tiles than this are not embedded in the page: their list would be larger than everything else.
MAX_TILES = 60_000
# Pixels of the longer side of a matrix, and limits of the side of a block.
BOARD_SIZE, LEAST_BLOCK, LARGEST_BLOCK = 620, 1.0, 30.0
# Pixels that a tile must have for its number.
NUMBER_WIDTH, NUMBER_HEIGHT = 24, 12


class Board(NamedTuple):
    """The matrix of one part.

    Attributes
    ----------
    title : str
        Name of the part.
    rows, cols : int
        Number of block rows and block columns.
    gates : list of str
        Names of the gates in the order of the rows, which repeats; empty for a projection.
    early : int
        Number of early block columns, which come first.
    early_name, late_name : str
        Vectors that the two groups of columns are multiplied by.
    early_letter, late_letter : str
        The same, short.
    block : float
        Side of a block in pixels.
    """

    title: str
    rows: int
    cols: int
    gates: list[str]
    early: int
    early_name: str
    late_name: str
    early_letter: str
    late_letter: str
    block: float

    @property
    def width(self) -> float:
        """Width of the matrix in pixels."""
        return round(self.cols * self.block, 1)

    @property
    def height(self) -> float:
        """Height of the matrix in pixels."""
        return round(self.rows * self.block, 1)


def part_title(config: Config, number: int) -> str:
    """Name of a part for people."""
    part = config.parts[number]
    layer = f"layer {part.layer}, " if config.network.num_layers > 1 else ""
    if part.kind == PROJECTION:
        return f"{layer}projection"
    return f"{layer}gates {', '.join(config.gates[gate] for gate in part.gates)}"


def vector_name(config: Config, part: Part, vector: Vector) -> tuple[str, str]:
    """Name of the vector that columns are multiplied by, and a letter for it."""
    if not vector.blocks:
        return "", ""
    if vector.source is None:
        return "x(t)", "x"
    source = config.parts[vector.source]
    of_layer = f" of layer {source.layer}" if config.network.num_layers > 1 else ""
    if vector.is_previous:
        return f"{_previous_h(config)}{of_layer}", "h"
    if source.layer != part.layer:
        ways = ", both directions" if config.network.bidirectional else ""
        return f"h(t){of_layer}{ways}", "u"
    if part.kind == PROJECTION:
        return "output of the cell", "m"
    return f"the product of the reset gate and {_previous_h(config)}", "r"


def _previous_h(config: Config) -> str:
    """Name of the hidden state that a step begins with; the reverse direction begins at the sequence's end."""
    return "h of the previous step in the same direction" if config.network.bidirectional else "h(t−1)"


def boards(config: Config) -> list[Board]:
    """Matrices of all parts, in the order of their work."""
    longest = max(max(part.row_blocks, part.blocks) for part in config.parts)
    block = round(min(LARGEST_BLOCK, max(LEAST_BLOCK, BOARD_SIZE / longest)), 2)
    found = []
    for number, part in enumerate(config.parts):
        (early, early_letter), (late, late_letter) = (vector_name(config, part, v) for v in (part.early, part.late))
        names = [config.gates[gate] for gate in part.gates]
        title = part_title(config, number)
        found.append(
            Board(title, part.row_blocks, part.blocks, names, part.early.blocks, early, late, early_letter,
                  late_letter, block)
        )  # fmt: skip
    return found


def tiles(config: Config) -> list[list[int]]:
    """The issues of a step: part, row group, column group, and what happens to the sums (:func:`what_happens`)."""
    return [
        [issue.part, issue.row, issue.col, issue.first + 2 * issue.resume + 4 * issue.park + 8 * issue.complete]
        for issue in Schedule(config).issues[:MAX_TILES]
    ]


def numbers(config: Config, part: int, board: Board) -> list[tuple[float, float, int]]:
    """Position of every tile's number on the matrix of a part, and the number: its place in the step.

    There are none where tiles are too small.  In a bidirectional network they are those of the forward direction.
    """
    width, height = (count * board.block for count in (config.architecture.tile_cols, config.architecture.tile_rows))
    if width < NUMBER_WIDTH or height < NUMBER_HEIGHT:
        return []
    places: dict[tuple[int, int], int] = {}
    for number, issue in enumerate(Schedule(config).issues):
        if issue.part == part:
            places.setdefault((issue.row, issue.col), number)
    return [
        (
            round((col * width + min((col + 1) * width, board.width)) / 2, 1),
            round((row * height + min((row + 1) * height, board.height)) / 2 + 4, 1),
            number,
        )
        for (row, col), number in places.items()
    ]


def what_happens(issue: Issue) -> str:
    """Words for what happens to the sums of an issue."""
    start = "start at zero" if issue.first else "continue stored ones" if issue.resume else "continue"
    end = ", are stored" if issue.park else ", are complete and drained" if issue.complete else ""
    return start + end


def block_label(board: Board, row: int, col: int) -> str:
    """The block at (row, col): gate and block of its output, then the block of its input; ``–`` beyond the matrix."""
    if row >= board.rows or col >= board.cols:
        return "–"
    to = f"{board.gates[row % len(board.gates)]}{row // len(board.gates)}" if board.gates else f"h{row}"
    early = col < board.early
    return f"{to}·{board.early_letter if early else board.late_letter}{col if early else col - board.early}"
