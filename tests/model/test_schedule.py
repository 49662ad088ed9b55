from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chessrnn.model.config import Config
from chessrnn.model.presets import preset
from chessrnn.model.schedule import (
    OUTPUT_BUFFER_LATENCY,
    Schedule,
    SequenceTimeline,
    Timeline,
    adder_tree_latency,
    dot_product_latency,
    ends_sequence,
    interleave,
    inverse_transform_latency,
    transform_stages,
)
from chessrnn.model.sequence_schedule import split_sequences
from chessrnn.sim.scenarios import random_config

configs = st.integers(0, 2**32 - 1).map(lambda seed: random_config(np.random.default_rng(seed)))


@given(configs)
def test_every_tile_is_worked_on_once(config: Config):
    issues = Schedule(config).issues
    grid = {
        (number, row, col)
        for number, part in enumerate(config.parts)
        for row in range(part.row_groups)
        for col in range(part.col_groups)
    }
    assert {(issue.part, issue.row, issue.col) for issue in issues} == grid
    assert len(issues) == config.directions * len(grid) == config.bank_words


@given(configs)
def test_sums_start_park_resume_and_complete(config: Config):
    parked, current, done = [], None, []
    for issue in Schedule(config).issues:
        if issue.first:
            current = (issue.part, issue.row, 0)
        elif issue.resume:
            current = parked.pop(0)  # the oldest
        assert current == (issue.part, issue.row, issue.col)
        current = (issue.part, issue.row, issue.col + 1)
        assert not (issue.park and issue.complete)
        if issue.park:
            parked.append(current)
        if issue.complete:
            done.append((issue.part, issue.row))
            assert issue.col == config.parts[issue.part].col_groups - 1
    assert done == [
        (number, row)
        for number, part in enumerate(config.parts)
        for _ in range(config.directions)
        for row in range(part.row_groups)
    ]
    assert not parked


@given(configs, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_timeline_is_causal(config: Config, lengths):
    schedule = Schedule(config)
    line = schedule.timeline(lengths)
    assert schedule.initiation_interval >= schedule.ideal_interval
    if config.network.bidirectional:
        return
    assert len(line.first_issue) == len(line.last_issue) == len(line.last_beat)
    assert len(line.last_beat) == len(interleave(lengths, config.architecture.contexts))
    steps = list(zip(line.first_issue, line.last_issue, line.last_beat, strict=True))
    for first, last, beat in steps:
        assert last - first >= schedule.ideal_interval - 1
        assert beat > last
    for earlier, later in zip(steps[:-1], steps[1:], strict=True):
        assert later[0] > earlier[1]
        assert later[2] >= earlier[2] + config.num_output_blocks
    assert schedule.overhead >= 0


@given(configs, st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 4))
def test_a_sequence_of_both_directions_passes_layer_by_layer(config: Config, lengths, longest):
    settings = {"network.bidirectional": True, "architecture.sequence_steps": longest}
    fixed = {"architecture.contexts": 1, "architecture.lookahead": None, "architecture.state_ports": False}
    fixed |= {"architecture.output_layer": 0, "compression.output_block_size": 1}
    fixed |= {"architecture.pipeline.issue_register": False, "network.hidden_size": max(config.network.hidden_sizes)}
    config = config.replace(settings | fixed | {"architecture.tile_rows": 1, "architecture.tile_cols": 1})
    schedule, blocks = Schedule(config), config.num_stream_blocks
    line, layers, parts = schedule.timeline(lengths), config.network.num_layers, len(config.layer_parts[0])
    cut = split_sequences(lengths, longest)
    assert sum(cut) == sum(lengths) == len(line.last_beat)
    counts = schedule.issue_counts(lengths)
    assert len(counts) == len(line.first_issue) == len(line.last_issue) == 2 * parts * layers * sum(lengths)
    assert sum(counts) == config.bank_words * sum(lengths)
    work = list(zip(line.first_issue, line.last_issue, counts, strict=True))
    assert all(last - first >= count - 1 for first, last, count in work)
    assert all(later[0] > earlier[1] for earlier, later in pairwise(work))
    # The output of a sequence comes without a pause, after its last layer and before the second layer of the next one.
    place = done = 0
    for steps in cut:
        assert place == 0 or layers == 1 or line.first_issue[place + 2 * parts * steps] > line.last_beat[done - 1]
        place, done = place + 2 * parts * layers * steps, done + steps
        beats = line.last_beat[done - steps : done]
        assert beats == list(range(beats[0], beats[0] + steps * blocks, blocks))
        assert beats[0] - blocks > line.last_issue[place - 1]


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
    # The second context is idle in the second round, and nothing follows the last step.
    assert interleave([3, 1, 1], 2) == [(0, 0), (1, 0), (0, 1), (-1, 0), (0, 2), (-1, 0), (2, 0)]


def test_contexts_need_no_lookahead():
    config = preset("char128")
    assert Schedule(config).lookahead > 1
    shared = Schedule(config.replace({"architecture.contexts": 2}))
    assert (shared.lookahead, shared.overhead) == (1, 0)


def test_contexts_that_wait_together_are_counted():
    """With a tile as large as the matrix, the steps of the contexts follow each other closely, then all wait for h."""
    whole = preset("tiny").replace({"architecture.tile_rows": 12, "architecture.tile_cols": 6})
    shared = Schedule(whole.replace({"architecture.contexts": 2}))
    last = shared.timeline([8, 8]).last_issue
    assert last[-1] - last[-2] < shared.initiation_interval == -(-(last[-1] - last[-3]) // 2)
    assert Schedule(whole).initiation_interval / 2 <= shared.initiation_interval < Schedule(whole).initiation_interval


@pytest.mark.parametrize("settings", [{}, {"tile_rows": 12, "tile_cols": 6}])
def test_states_go_out_and_in_while_no_step_is_under_way(settings):
    """States move only while nothing is computed, also with a context that waits and one that is idle in the end."""
    ports = {"architecture.contexts": 3, "architecture.state_ports": True}
    config = preset("tiny").replace({f"architecture.{name}": value for name, value in settings.items()} | ports)
    schedule, lengths = Schedule(config), [2, 1, 3]
    order = interleave(lengths, 3)
    assert order == [(0, 0), (1, 0), (2, 0), (0, 1), (-1, 0), (2, 1), (-1, 0), (-1, 0), (2, 2)]
    line, loaded = schedule.timeline(lengths), schedule.timeline(lengths, [False, False, True])
    for one in (line, loaded):
        ends = [place for place, step in enumerate(order) if ends_sequence(lengths, step)]
        assert ends == [1, 3, 4, 6, 7, 8]
        assert len(one.last_state) == len(ends)
        for place, out in zip(ends, one.last_state, strict=True):
            # The last h is written before the state leaves, and no step begins meanwhile.
            assert out - schedule.state_beats >= one.last_beat[place] - OUTPUT_BUFFER_LATENCY
            assert all(later > out for later in one.first_issue[place + 1 :])
    # Where no state is asked for, a sequence begins as it would without these ports.
    without = Schedule(config.replace({"architecture.state_ports": False})).timeline(lengths)
    assert line.first_issue[:2] == without.first_issue[:2]
    # Everything under way is finished before the state comes in.
    before = max(line.last_state[0], line.last_beat[1] - OUTPUT_BUFFER_LATENCY)
    assert loaded.first_issue[2] == before + schedule.state_beats + 2
    assert loaded.first_issue[:2] == line.first_issue[:2]
    # A state comes in after a step that ends no sequence.
    into_second = schedule.timeline([2, 2, 2], [False, True, False])
    assert into_second.first_issue[1] > into_second.last_beat[0] - OUTPUT_BUFFER_LATENCY + schedule.state_beats


@given(configs)
def test_state_ports_do_not_change_the_interval(config: Config):
    """The initiation interval is that of endless sequences, so it does not count states sent after sequences."""
    assume(not config.network.bidirectional)
    kinds = [Schedule(config.replace({"architecture.state_ports": value})) for value in (False, True)]
    assert kinds[0].initiation_interval == kinds[1].initiation_interval


def test_the_papers_case():
    # 1,024 cycles at 600 MHz are the paper's 1.71 µs.
    assert Schedule(preset("lm512")).initiation_interval == 1024


@pytest.mark.parametrize(
    ("terms", "group", "registers"),
    [(1, 2, 1), (2, 2, 1), (3, 2, 2), (16, 2, 2), (17, 2, 3), (32, 2, 3), (32, 4, 2), (33, 4, 3), (64, 64, 1)],
)
def test_dot_product_latency(terms, group, registers):
    # Groups of products are compressed first, then sums are joined, eight or twice as many as products at a time.
    assert dot_product_latency(terms, group) == registers


@pytest.mark.parametrize(
    ("terms", "levels", "registers"), [(1, 2, 0), (2, 0, 0), (2, 1, 1), (8, 1, 3), (8, 2, 2), (9, 2, 2), (8, 16, 1)]
)
def test_adder_tree_latency(terms, levels, registers):
    assert adder_tree_latency(terms, levels) == registers


# Four block rows by four block columns of x and h each, in blocks of four.
SQUARE = {
    "network.input_size": 16, "network.hidden_size": 16, "compression.block_size": 4, "architecture.tile_cols": 3,
}  # fmt: skip


def test_matvec_latency_by_hand():
    """A row of 3 blocks of 4 products: pairs are compressed, and the 6 sums joined to 1: two registers.

    The word of the memory, its register, the operand and the accumulator take a cycle each.
    """
    config = preset("tiny").replace({**SQUARE, "architecture.tile_rows": 4})
    assert (config.architecture.engine, config.architecture.arithmetic) == ("direct", "carry_save")
    assert config.architecture.pipeline.compressor_terms == 2
    assert Schedule(config).matvec_latency == 4 + 2


@pytest.mark.parametrize(
    ("rows", "lanes", "cycles"), [(4, 4, 1), (6, 4, 2), (12, 4, 3), (4, 2, 2), (12, 2, 6), (12, 1, 12)]
)
def test_drain_cycles_by_hand(rows, lanes, cycles):
    """A bundle is the four gates of a hidden block; each takes the cycles in which the lanes compute its elements."""
    config = preset("tiny").replace({**SQUARE, "architecture.tile_rows": rows, "architecture.cell_lanes": lanes})
    assert Schedule(config).drain_cycles(config.parts[0]) == cycles


def test_a_shared_inverse_transform_by_hand():
    """Four gates pass it in four cycles, so that a bundle takes three cycles more, and so does its first result."""
    config = preset("tiny").replace({**SQUARE, "architecture.engine": "fast", "architecture.cell_lanes": 2})
    shared = config.replace({"architecture.pipeline.shared_inverse": True})
    part = config.parts[0]
    assert [Schedule(one).bundle_cycles(part) for one in (config, shared)] == [2, 5]
    assert Schedule(shared).epilogue_latency() == Schedule(config).epilogue_latency() + 3


def test_a_register_of_the_issue_by_hand():
    """It delays the sums by a cycle, and the half of x is free a cycle later."""
    config = preset("tiny").replace({**SQUARE, "architecture.lookahead": 1})
    later = config.replace({"architecture.pipeline.issue_register": True})
    assert Schedule(later).matvec_latency == Schedule(config).matvec_latency + 1
    x_blocks = config.num_input_blocks
    for one, free in ((config, 1), (later, 2)):
        schedule = Schedule(one)
        assert schedule.trace([3]).x_beats[2 * x_blocks] == schedule.timeline([3]).last_issue[0] + free


@pytest.mark.parametrize(("lookahead", "ahead"), [(1, 0), (2, 2), (3, 3)])
def test_row_groups_whose_early_columns_go_first(lookahead, ahead):
    config = preset("tiny").replace({**SQUARE, "architecture.tile_rows": 4, "architecture.lookahead": lookahead})
    assert Schedule(config).part_lookahead(0) == ahead


@pytest.mark.parametrize(("cell", "beats"), [("lstm", 4 + 4), ("gru", 4 + 4), ("rnn", 4)])
def test_beats_of_a_state_by_hand(cell, beats):
    """Four blocks of h, and as many of the state of the cell where there is one besides h."""
    config = preset("tiny").replace({**SQUARE, "network.cell": cell, "quantization.weight_frac": 7})
    assert Schedule(config).state_beats == beats


def test_the_other_direction_hides_the_latency():
    """If a step takes longer than the latency of the datapath, nothing waits in either direction."""
    config = preset("char128").replace({"network.bidirectional": True, "architecture.lookahead": None})
    assert (Schedule(config).lookahead, Schedule(config).overhead) == (1, 0)


@pytest.mark.parametrize(
    ("depth", "levels", "registers"), [(1, 2, 0), (2, 2, 0), (3, 2, 1), (5, 2, 2), (4, 1, 3), (4, 0, 0)]
)
def test_registers_of_a_transform(depth, levels, registers):
    assert transform_stages(depth, levels) == registers


@pytest.mark.parametrize(("block_size", "registers"), [(2, 0), (4, 2), (8, 4), (16, 6)])
def test_registers_of_an_inverse_transform(block_size, registers):
    assert inverse_transform_latency(block_size, 1) == registers


def test_intervals_of_timelines():
    assert Timeline([0, 10, 16], [5, 11, 17], [9, 15, 23], []).interval == 6
    assert Timeline([0, 10], [5, 11], [9, 15], []).interval == 6
    assert Timeline([0], [5], [9], []).interval is None
    # From the first beat of x on, as every step waits for a whole sequence.
    assert SequenceTimeline([0, 10, 16], [5, 11, 17], [9, 15, 23], []).interval == 8
