"""What a network costs in hardware without synthesis: memory, area, cycles, and the smallest FPGA that holds it."""

from dataclasses import replace

from chessrnn.model.boards import BOARDS, PARTS
from chessrnn.model.config import Config
from chessrnn.model.cost.estimate import estimate
from chessrnn.model.cost.fit import Measured
from chessrnn.model.errors import UserError
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule

# Boards whose own design was placed and routed, smallest part first, with what it used (docs/results/fpga.md).
PLACED = {
    "ice40_hx8k_b_evn": {"luts": 6643, "ffs": 0, "brams": 18, "dsps": 0},
    "tang_nano_9k": {"luts": 6471, "ffs": 1977, "brams": 4, "dsps": 7},
    "ecpix5_45f": {"luts": 14064, "ffs": 9684, "brams": 8, "dsps": 60},
    "ulx3s_85f": {"luts": 8812, "ffs": 8249, "brams": 12, "dsps": 64},
}
MULTIPLIERS = {"architecture.arithmetic": "multiplier"}
# One processing element: at a few steps a second, the smallest design is fast enough.
SMALLEST = {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.cell_lanes": 1}


def _measured(name: str) -> Measured:
    """Return what a board's own design used."""
    board = BOARDS[name]
    return Measured(preset(board.config).replace(board.settings | MULTIPLIERS), PLACED[name], board.part)


def smallest_board(config: Config, cycles_per_second: float) -> str | None:
    """Name the first board that holds a design by the estimate and is fast enough; ``None`` where none does."""
    design = config.replace(MULTIPLIERS)
    for name in PLACED:
        if cycles_per_second <= BOARDS[name].clock_hz and _measured(name).fits(design):
            return name
    return None


def smallest_part(config: Config, cycles_per_second: float) -> dict[str, object] | None:
    """Find the FPGA with the fewest LUTs that holds a network by the estimate, with either engine.

    Both engines compute the same integers.  A part is estimated from the placed designs of all boards with a part of
    its family, which has hard multipliers as well or has none either, and at the clocks of these boards.

    Returns
    -------
    dict or None
        ``part``, ``engine``, and the estimate of ``luts``.
    """
    designs = []
    for engine in ("direct", "fast"):
        try:
            designs.append(config.replace(MULTIPLIERS | {"architecture.engine": engine}))
        except UserError:  # k = 1 has no fast engine
            continue
    boards = [(BOARDS[name], _measured(name)) for name in PLACED if cycles_per_second <= BOARDS[name].clock_hz]
    for part in sorted(PARTS.values(), key=lambda part: (part.luts, part.brams, part.name)):
        alike = [
            replace(measured, part=part)
            for board, measured in boards
            if board.part.family == part.family and bool(board.part.dsps) == bool(part.dsps)
        ]
        # Boards differ in their settings; the greatest estimate is on the safe side.
        found = [
            {
                "part": part.name,
                "engine": design.architecture.engine,
                "luts": max(one.estimate(design)["luts"] for one in alike),
            }
            for design in designs
            if alike and all(one.fits(design) for one in alike)
        ]
        if found:
            return min(found, key=lambda one: one["luts"])
    return None


def hardware_figures(config: Config, steps_per_second: float) -> dict[str, object]:
    """Collect the figures of a design.

    Parameters
    ----------
    steps_per_second : float
        How often the application calls.

    Returns
    -------
    dict
        ``removed_percent`` of the weight memory against float32, ``weight_bytes``, ``gate_equivalents`` and
        ``area_mm2_90nm`` by the estimate, ``cycles`` per step, ``least_clock_hz`` for real time, the smallest ``board``
        and the smallest ``fpga`` of :func:`smallest_part`.
    """
    # Scheduled once: a step of a dense network has so many cycles that this takes seconds.
    area, cycles = estimate(config), Schedule(config).initiation_interval
    return {
        "removed_percent": 100 * (1 - config.weight_bytes / config.dense_float_bytes),
        "weight_bytes": config.weight_bytes,
        "gate_equivalents": round(area.gate_equivalents),
        "area_mm2_90nm": area.total_mm2,
        "cycles": cycles,
        "least_clock_hz": cycles * steps_per_second,
        "board": smallest_board(config, cycles * steps_per_second),
        "fpga": smallest_part(config, cycles * steps_per_second),
    }
