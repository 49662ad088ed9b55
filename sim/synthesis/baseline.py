"""Baselines of gates and depth of small designs (``tests/baselines/``), which show when a change enlarges them."""

from itertools import product
from pathlib import Path

from chessrnn.hdl.verilog import TOP_MODULE, generate
from chessrnn.model.config_sections import ARITHMETICS, ENGINES
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import scratch_folder
from chessrnn.model.presets import preset
from chessrnn.model.text_file import read_json
from chessrnn.sim.synthesis.flow import synthesize
from chessrnn.sim.synthesis.yosys import yosys_version

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "baselines"
# A small tile with one lane shows the cost of every module as well as a large one.
SMALL = {"architecture.tile_rows": 4, "architecture.tile_cols": 1, "architecture.cell_lanes": 1}
DESIGNS = tuple(product(ENGINES, ARITHMETICS))
# Growth below this is noise of the mapper.
GROWTH, DEEPER = 0.01, 1


def baseline_file() -> Path:
    """Path of the baseline of the installed Yosys, as each version maps differently."""
    return FOLDER / f"synthesis-pyosys-{yosys_version()}.json"


def measure(engine: str, arithmetic: str) -> dict:
    """Synthesize a small design: gate equivalents and depth in cells, of the whole and of each module."""
    chosen = {"architecture.engine": engine, "architecture.arithmetic": arithmetic}
    config = preset("tiny").replace(SMALL | chosen)
    with scratch_folder() as folder:
        result = synthesize(generate(config), TOP_MODULE, None, folder)
    top = result.areas[TOP_MODULE]
    return {
        "gates": top.total,
        "flip_flops": top.flip_flops,
        "depth": max(area.depth for area in result.areas.values()),
        "modules": {name: {"gates": area.total, "depth": area.depth} for name, area in sorted(result.areas.items())},
    }


def name(engine: str, arithmetic: str) -> str:
    """Key of a design in the baseline's file."""
    return f"{engine}, {arithmetic}"


def read_baseline(path: Path) -> dict:
    """Read a file that ``make bless`` wrote: the figures of every design, by :func:`name`.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged.
    """
    try:
        return read_json(path)
    except InvalidFileError as error:
        raise InvalidFileError(f"{path} must be a baseline that `make bless` wrote: {error}") from None


def regressions(before: dict, now: dict) -> list[str]:
    """Descriptions of what grew: the whole design, and every module that both versions have."""
    found = []
    pairs = [("the design", before, now)]
    pairs += [
        (name, before["modules"][name], now["modules"][name]) for name in before["modules"] if name in now["modules"]
    ]
    for name, old, new in pairs:
        if new["gates"] > old["gates"] * (1 + GROWTH):
            found.append(f"{name} grew from {old['gates']:,.0f} to {new['gates']:,.0f} gates")
        if new["depth"] > old["depth"] + DEEPER:
            found.append(f"{name} is {new['depth']} cells deep, not {old['depth']}")
    return found
