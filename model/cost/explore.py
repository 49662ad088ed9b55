"""Exploration of the design space of one network: the tile and engine of least area that meet a latency."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from chessrnn.model.config import Config
from chessrnn.model.config_sections import BLOCK_SIZES, FAST_BLOCK_SIZES, WEIGHT_BITS
from chessrnn.model.cost.area import num_macros
from chessrnn.model.cost.estimate import AreaEstimate, estimate
from chessrnn.model.cost.resources import multipliers
from chessrnn.model.errors import InvalidValueError, require
from chessrnn.model.schedule import Schedule, ScheduleKey

# Up to this number of candidates, all are evaluated for the Pareto front.
EXHAUSTIVE = 300
# Of more candidates, those stay whose rough area exceeds that of the best faster one by at most this share.
SLACK = 0.05


@dataclass(frozen=True)
class DesignPoint:
    """A configuration with its predicted cycles and area.

    Attributes
    ----------
    config : Config
        The configuration.
    cycles : int
        Sustained number of cycles per step.
    area : AreaEstimate
        The estimated area.
    """

    config: Config
    cycles: int
    area: AreaEstimate

    def summary(self) -> dict:
        """Main figures as plain JSON values, for tables."""
        arch, schedule = self.config.architecture, Schedule(self.config)
        return {
            "engine": arch.engine,
            "tile_rows": arch.tile_rows,
            "tile_cols": arch.tile_cols,
            "cell_lanes": schedule.cell_lanes,
            "lookahead": schedule.lookahead,
            "cycles_per_step": self.cycles,
            "ideal_cycles": schedule.ideal_interval,
            "multipliers": multipliers(self.config),
            "weight_banks": self.config.num_banks,
            "weight_memories": self.config.num_weight_memories,
            "macros": num_macros(self.config),
            "gate_equivalents": round(self.area.gate_equivalents),
            "memory_mm2_90nm": round(self.area.memory_um2 / 1e6, 3),
            "total_mm2_90nm": round(self.area.total_mm2, 3),
        }


def useful_sizes(blocks: int) -> list[int]:
    """Tile sizes worth considering: for every possible number of groups, the smallest size that gives it."""
    return sorted({-(-blocks // groups) for groups in range(1, blocks + 1)})


def useful_columns(config: Config) -> list[int]:
    """List the numbers of tile columns worth considering: of a network that needs divisors of its columns, these."""
    counts = config.divided_columns
    if not counts:
        return useful_sizes(config.max_tile_cols)
    sizes = range(1, config.max_tile_cols + 1)
    return [size for size in sizes if all(count % size == 0 for count in counts)]


def engines(config: Config) -> list[str]:
    """Names of the engines that the block size allows."""
    return ["direct", "fast"] if config.block_size in FAST_BLOCK_SIZES else ["direct"]


def of_block_size(config: Config, size: int) -> Config:
    """Return the configuration with another block size, and the smallest tile, which every block size has."""
    smallest = {
        "architecture.engine": "direct", "architecture.tile_rows": 1, "architecture.tile_cols": 1,
        "architecture.cell_lanes": None, "architecture.lookahead": None,
    }  # fmt: skip
    return config.replace({"compression.block_size": size, **smallest})


def fitting_sizes(config: Config) -> list[int]:
    """List the block sizes that the other fields of a configuration allow."""
    sizes = []
    for size in BLOCK_SIZES:
        with suppress(InvalidValueError):
            of_block_size(config, size)
            sizes.append(size)
    return sizes


def fitting_widths(config: Config) -> list[int]:
    """List the weight widths that the other fields of a configuration allow."""
    widths = []
    for bits in WEIGHT_BITS:
        with suppress(InvalidValueError):
            config.replace({"quantization.weight_bits": bits})
            widths.append(bits)
    return widths


def num_candidates(config: Config) -> int:
    """Count the design points that an exhaustive search evaluates: useful tiles, for every engine."""
    tiles = len(useful_sizes(config.max_tile_rows)) * len(useful_columns(config))
    return tiles * len(engines(config))


def candidates(config: Config, names: list[str] | None = None) -> Iterator[Config]:
    """Generate a configuration for every useful tile and engine, with derived lanes and lookahead."""
    outputs, rule = config.architecture.output_layer, "0 to be explored, as the estimate does not count it"
    require(outputs == 0, "architecture.output_layer", rule, outputs)
    for engine in names or engines(config):
        for rows in useful_sizes(config.max_tile_rows):
            for cols in useful_columns(config):
                yield config.replace(
                    {
                        "architecture.engine": engine,
                        "architecture.tile_rows": rows,
                        "architecture.tile_cols": cols,
                        "architecture.cell_lanes": None,
                        "architecture.lookahead": None,
                    }
                )


@lru_cache(maxsize=1 << 14)
def _cycles(key: ScheduleKey) -> int:
    """Return the cycles per step of every configuration with a key, in a long run."""
    return Schedule(key.config).initiation_interval


def point(config: Config) -> DesignPoint:
    """Evaluate one configuration with its exact schedule."""
    return DesignPoint(config, _cycles(ScheduleKey(config)), estimate(config))


def _rough_area(config: Config) -> float:
    """Estimate the area in mm² with the cheapest cell update, which needs no schedule.

    It never exceeds the full estimate by more than a little.
    """
    return estimate(config.replace({"architecture.cell_lanes": 1, "architecture.lookahead": 1})).total_mm2


def cycle_budget(latency_us: float, clock_mhz: float) -> int:
    """Number of whole cycles within ``latency_us`` microseconds at ``clock_mhz`` megahertz."""
    require(latency_us > 0, "--latency-us", "positive", latency_us)
    require(clock_mhz > 0, "--clock-mhz", "positive", clock_mhz)
    # The tolerance keeps a product like 1.71 µs · 600 MHz = 1026 whole, which floating point may put just below.
    return int(latency_us * clock_mhz + 1e-9)


def choose(config: Config, max_cycles: int, names: list[str] | None = None) -> tuple[DesignPoint, list[DesignPoint]]:
    """Choose the smallest design point that takes at most ``max_cycles`` per step, sustained.

    Parameters
    ----------
    config : Config
        Configuration whose network is explored.
    max_cycles : int
        Greatest number of cycles per step.
    names : list of str, optional
        Engines to consider; all that the block size allows if left out.

    Returns
    -------
    best : DesignPoint
        The design point of least area.
    others : list of DesignPoint
        The next larger design points, and the smallest one of the other engine, for comparison.

    Raises
    ------
    InvalidValueError
        No design point is fast enough; the message reports the fastest one.
    """
    require(max_cycles >= 1, "cycles per step", "at least 1", max_cycles)
    pool = [c for c in candidates(config, names) if c.bank_words <= max_cycles]
    rough = {candidate: _rough_area(candidate) for candidate in pool}
    pool.sort(key=rough.__getitem__)
    fitting: list[DesignPoint] = []
    for candidate in pool:
        if len(fitting) >= 3 and rough[candidate] > fitting[2].area.total_mm2:
            break
        trial = point(candidate)
        if trial.cycles <= max_cycles:
            fitting = sorted([*fitting, trial], key=lambda p: p.area.total_mm2)
    if not fitting:
        fastest = fastest_point(config, names)
        arch = fastest.config.architecture
        raise InvalidValueError(
            f"cycles per step must be at least {fastest.cycles}, the best possible for this network (tile "
            f"{arch.tile_rows} x {arch.tile_cols}, engine {arch.engine}), not {max_cycles}"
        )
    best = fitting[0]
    others = fitting[1:3]
    for engine in names or engines(config):
        if engine != best.config.architecture.engine and all(p.config.architecture.engine != engine for p in others):
            rival = next(
                (point(c) for c in pool if c.architecture.engine == engine and point(c).cycles <= max_cycles), None
            )
            others += [rival] if rival else []
    return best, others


def fastest_point(config: Config, names: list[str] | None = None) -> DesignPoint:
    """Find the design point of the fewest sustained cycles per step, and of several equally fast ones the smallest."""
    # A tile never takes fewer cycles than its ideal interval, so the search ends where that exceeds the best found.
    pool = sorted(candidates(config, names), key=lambda c: c.bank_words)
    best: DesignPoint | None = None
    for candidate in pool:
        if best is not None and candidate.bank_words > best.cycles:
            break
        trial = point(candidate)
        if best is None or (trial.cycles, trial.area.total_mm2) < (best.cycles, best.area.total_mm2):
            best = trial
    assert best is not None  # every network has design points
    return best


def pareto(
    config: Config, names: list[str] | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[DesignPoint]:
    """Find the design points that no other one beats in both sustained cycles and total area, fastest first.

    Up to ``EXHAUSTIVE`` candidates are all evaluated; more are first reduced by ideal interval and rough area.
    ``progress`` is called with the numbers of finished and of all evaluations.
    """
    kept = list(candidates(config, names))
    if len(kept) > EXHAUSTIVE:
        rough = sorted(((c.bank_words, _rough_area(c), c) for c in kept), key=lambda t: t[:2])
        kept, least = [], float("inf")
        for _, area, candidate in rough:
            if area <= (1 + SLACK) * least:
                kept.append(candidate)
                least = min(least, area)
    points = []
    for done, candidate in enumerate(kept):
        progress(done, len(kept))
        points.append(point(candidate))
    progress(len(kept), len(kept))
    front, least = [], float("inf")
    for candidate in sorted(points, key=lambda p: (p.cycles, p.area.total_mm2)):
        if candidate.area.total_mm2 < least:
            front.append(candidate)
            least = candidate.area.total_mm2
    return front


def pareto_of_widths(
    config: Config,
    engine: str,
    widths: Sequence[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, list[DesignPoint]]:
    """Find the Pareto front of one engine for each width of the weights.

    Widths change areas and no cycle, so that the schedules, which take nearly all of the time, are those of the first
    one; ``progress`` is called during that one.
    """
    fronts = {}
    for bits in widths:
        variant = config.replace({"quantization.weight_bits": bits})
        fronts[bits] = pareto(variant, [engine], progress) if not fronts else pareto(variant, [engine])
    return fronts
