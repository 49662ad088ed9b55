"""What a network costs in hardware without synthesis: memory, area, cycles, and the smallest FPGA that holds it."""

from chessrnn.model.boards import BOARDS
from chessrnn.model.config import Config
from chessrnn.model.cost.estimate import estimate
from chessrnn.model.cost.fit import Measured
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule

# Boards whose own design was placed and routed, smallest part first, with what it used (docs/results/fpga.md).
PLACED = {
    "ice40_hx8k_b_evn": {"luts": 6380, "ffs": 0, "brams": 18, "dsps": 0},
    "ecpix5_45f": {"luts": 15051, "ffs": 10428, "brams": 8, "dsps": 60},
    "ulx3s_85f": {"luts": 17102, "ffs": 12042, "brams": 8, "dsps": 88},
}
# One processing element: at a few steps a second, the smallest design is fast enough.
SMALLEST = {"architecture.tile_rows": 1, "architecture.tile_cols": 1, "architecture.cell_lanes": 1}


def smallest_board(config: Config, cycles_per_second: float) -> str | None:
    """Name the first board that holds a design by the estimate and is fast enough; ``None`` where none does."""
    for name, used in PLACED.items():
        board = BOARDS[name]
        multiplier = {"architecture.arithmetic": "multiplier"}
        measured = Measured(preset(board.config).replace(board.settings | multiplier), used, board.part)
        design = config.replace(multiplier)
        if cycles_per_second <= board.clock_hz and measured.fits(design):
            return name
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
        ``area_mm2_90nm`` by the estimate, ``cycles`` per step, ``least_clock_hz`` for real time, and ``board``.
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
    }
