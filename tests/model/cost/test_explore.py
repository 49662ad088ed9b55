"""The explored design space: the chosen tile meets the budget, no smaller one does, and impossible budgets fail."""

import pytest

from chessrnn.model.config import Config
from chessrnn.model.cost.estimate import estimate, transform_adders
from chessrnn.model.cost.explore import (
    candidates,
    choose,
    cycle_budget,
    fastest_point,
    num_candidates,
    pareto,
    point,
    useful_sizes,
)
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule


@pytest.fixture(scope="module")
def config():
    return Config.from_dict(
        {"name": "small", "network": {"input_size": 24, "hidden_size": 32}, "compression": {"block_size": 4}}
        | {"architecture": {"tile_rows": 1, "tile_cols": 1}}
    )


def test_useful_sizes_cover_every_number_of_groups():
    for blocks in (1, 7, 12, 64):
        sizes = useful_sizes(blocks)
        assert {-(-blocks // size) for size in sizes} == {-(-blocks // n) for n in range(1, blocks + 1)}


@pytest.mark.parametrize(
    ("settings", "columns"),
    [({"quantization.input_shift": -2}, {1, 2, 3, 6}), ({"quantization.weight_levels": "half"}, {1, 2, 7, 14})],
)
def test_tiles_divide_the_columns_of_networks_that_need_it(config, settings, columns):
    every = list(candidates(config.replace(settings)))
    assert {one.architecture.tile_cols for one in every} == columns
    assert len(every) == num_candidates(every[0])


@pytest.mark.parametrize("cycles", [30, 60, 200, 10_000])
def test_choice_is_the_cheapest_that_meets_the_budget(config, cycles):
    best, others = choose(config, cycles)
    assert best.cycles <= cycles
    every = [point(candidate) for candidate in candidates(config)]
    assert best.area.total_mm2 == min(p.area.total_mm2 for p in every if p.cycles <= cycles)
    assert all(p.cycles <= cycles and p.area.total_mm2 >= best.area.total_mm2 for p in others)


def test_fastest_point_and_impossible_budget(config):
    every = [point(candidate) for candidate in candidates(config)]
    least = min(p.cycles for p in every)
    assert fastest_point(config).cycles == least
    with pytest.raises(InvalidValueError, match=f"at least {least}, the best possible"):
        choose(config, least - 1)


def test_front_holds_no_beaten_point(config):
    front = pareto(config)
    every = [point(candidate) for candidate in candidates(config)]
    for a in front:
        assert not any(b.cycles <= a.cycles and b.area.total_mm2 < a.area.total_mm2 * 0.95 for b in every)
    assert [p.cycles for p in front] == sorted(p.cycles for p in front)


def test_presets_of_the_headline_case():
    paper, quarter = preset("lm512"), preset("lm512_quarter")
    assert choose(paper, cycle_budget(1.71, 600))[0].config.architecture == paper.architecture
    assert Schedule(paper).initiation_interval == 1024
    assert Schedule(quarter).initiation_interval <= 150
    assert paper.num_banks * paper.block_size**2 == 2048


@pytest.mark.parametrize(("latency", "clock", "cycles"), [(1.71, 600, 1026), (0.25, 600, 150), (1, 100, 100)])
def test_cycle_budget(latency, clock, cycles):
    assert cycle_budget(latency, clock) == cycles


@pytest.mark.parametrize(("latency", "clock", "field"), [(0, 600, "--latency-us"), (1, -5, "--clock-mhz")])
def test_budget_refuses(latency, clock, field):
    with pytest.raises(InvalidValueError, match=f"{field} must be positive"):
        cycle_budget(latency, clock)


def test_transform_adders_match_the_recursion():
    assert [transform_adders(k, False) for k in (2, 4, 8, 16)] == [2, 7, 20, 55]


def test_fast_engine_is_estimated_smaller():
    for k in (4, 8, 16):
        settings = {"compression.block_size": k, "architecture.tile_rows": 4, "architecture.tile_cols": 4}
        fast = preset("lm512").replace(settings)
        direct = fast.replace({"architecture.engine": "direct"})
        assert estimate(fast).processing_elements < estimate(direct).processing_elements / 1.5
