import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import Config
from model.presets import preset
from model.schedule import Schedule, adder_tree_latency, dot_product_latency, interleave
from sim.scenarios import random_config

configs = st.integers(0, 2**32 - 1).map(lambda seed: random_config(np.random.default_rng(seed)))


@given(configs)
def test_every_tile_is_worked_on_once(config: Config):
    issues = Schedule(config).issues
    grid = {
        (layer, row, col)
        for layer, blocks in enumerate(config.layer_blocks)
        for row in range(config.num_row_groups)
        for col in range(blocks.col_groups)
    }
    assert {(issue.layer, issue.row, issue.col) for issue in issues} == grid
    assert len(issues) == len(grid) == config.bank_words


@given(configs)
def test_sums_start_park_resume_and_complete(config: Config):
    parked, current, done = [], None, []
    for issue in Schedule(config).issues:
        if issue.first:
            current = (issue.layer, issue.row, 0)
        elif issue.resume:
            current = parked.pop(0)  # the oldest
        assert current == (issue.layer, issue.row, issue.col)
        current = (issue.layer, issue.row, issue.col + 1)
        assert not (issue.park and issue.complete)
        if issue.park:
            parked.append(current)
        if issue.complete:
            done.append((issue.layer, issue.row))
            assert issue.col == config.layer_blocks[issue.layer].col_groups - 1
    assert done == [(layer, row) for layer in range(len(config.layer_blocks)) for row in range(config.num_row_groups)]
    assert not parked


@given(configs, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_timeline_is_causal(config: Config, lengths):
    schedule = Schedule(config)
    line = schedule.timeline(lengths)
    assert len(line.first_issue) == len(line.last_issue) == len(line.last_beat)
    assert len(line.last_beat) == len(interleave(lengths, config.architecture.contexts))
    steps = list(zip(line.first_issue, line.last_issue, line.last_beat, strict=True))
    for first, last, beat in steps:
        assert last - first >= schedule.ideal_interval - 1
        assert beat > last
    for earlier, later in zip(steps[:-1], steps[1:], strict=True):
        assert later[0] > earlier[1]
        assert later[2] >= earlier[2] + config.num_hidden_blocks
    assert schedule.initiation_interval >= schedule.ideal_interval
    assert schedule.overhead >= 0


@given(configs)
def test_derived_parallelism_is_valid(config: Config):
    schedule = Schedule(config)
    derived = {"architecture.cell_lanes": schedule.cell_lanes, "architecture.lookahead": schedule.lookahead}
    again = Schedule(config.replace(derived))
    assert again.initiation_interval == schedule.initiation_interval


@pytest.mark.parametrize("name", ["char128", "lm512"])
def test_presets_never_wait(name):
    assert Schedule(preset(name)).overhead == 0


def test_sequences_are_dealt_to_contexts():
    assert interleave([2, 1], 1) == [(0, 0), (0, 1), (1, 0)]
    # The second context is idle in the second turn, nothing follows the last step.
    assert interleave([3, 1, 1], 2) == [(0, 0), (1, 0), (0, 1), (-1, 0), (0, 2), (-1, 0), (2, 0)]


def test_contexts_need_no_lookahead():
    config = preset("char128")
    assert Schedule(config).lookahead > 1
    shared = Schedule(config.replace({"architecture.contexts": 2}))
    assert (shared.lookahead, shared.overhead) == (1, 0)


def test_contexts_that_wait_together_are_counted():
    """A tile that is the whole matrix: the contexts' steps follow each other closely, then all wait for h."""
    whole = preset("tiny").replace({"architecture.tile_rows": 12, "architecture.tile_cols": 6})
    shared = Schedule(whole.replace({"architecture.contexts": 2}))
    last = shared.timeline([8, 8]).last_issue
    assert last[-1] - last[-2] < shared.initiation_interval == -(-(last[-1] - last[-3]) // 2)
    assert Schedule(whole).initiation_interval / 2 <= shared.initiation_interval < Schedule(whole).initiation_interval


def test_the_papers_case():
    # 1,024 cycles at 600 MHz are the paper's 1.71 µs.
    assert Schedule(preset("lm512")).initiation_interval == 1024


@pytest.mark.parametrize(
    ("terms", "group", "registers"),
    [(1, 2, 1), (2, 2, 1), (3, 2, 2), (8, 2, 2), (9, 2, 3), (32, 2, 3), (32, 4, 2), (33, 4, 3), (64, 64, 1)],
)
def test_dot_product_latency(terms, group, registers):
    # Groups of products, then joins of twice as many sums.
    assert dot_product_latency(terms, group) == registers


@pytest.mark.parametrize(
    ("terms", "levels", "registers"), [(1, 2, 0), (2, 0, 0), (2, 1, 1), (8, 1, 3), (8, 2, 2), (9, 2, 2), (8, 16, 1)]
)
def test_adder_tree_latency(terms, levels, registers):
    assert adder_tree_latency(terms, levels) == registers
