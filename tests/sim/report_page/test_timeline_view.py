"""Timeline of a page: its prediction agrees with the schedule, and every difference of a simulation is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule, Trace
from chessrnn.sim.recorded_run import RecordedRun, excerpt, predicted, read_record, write_record
from chessrnn.sim.report_page.timeline_view import timeline, works
from chessrnn.sim.scenarios import random_config

configs = st.integers(0, 2**32 - 1).map(lambda seed: random_config(np.random.default_rng(seed)))
SETTINGS = (
    {},
    {"architecture.contexts": 3, "network.num_layers": 2},
    {"network.cell": "gru", "network.bidirectional": True, "network.num_layers": 2},
    {"network.projection_size": 8, "architecture.state_ports": True},
)


@settings(max_examples=15)
@given(configs, st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_the_trace_has_the_cycles_of_the_timeline(config, lengths):
    schedule = Schedule(config)
    trace, line, ends = schedule.trace(lengths), schedule.timeline(lengths), np.cumsum(schedule.issue_counts(lengths))
    assert [trace.issues[end - 1] for end in ends] == line.last_issue
    assert [trace.issues[begin] for begin in (0, *ends[:-1])] == line.first_issue
    assert len(trace.issues) == ends[-1]
    blocks = config.num_stream_blocks
    assert trace.h_beats[blocks - 1 :: blocks] == line.last_beat
    assert len(trace.x_beats) * blocks == len(trace.h_beats) * config.num_input_blocks
    assert trace.x_beats[0] == 0


@settings(max_examples=15)
@given(configs, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_an_excerpt_is_the_beginning_of_the_trace(config, lengths):
    part = excerpt(config, lengths)
    whole, some = Schedule(config).trace(lengths), predicted(config, part, [])
    assert [len(values) for values in some] == [part.x_beats, part.issues, part.h_beats]
    assert all(values == all_values[: len(values)] for values, all_values in zip(some, whole, strict=True))
    assert {work.shown for work in works(config, part)} >= set("AB"[: part.count])


@pytest.mark.parametrize("changes", SETTINGS)
def test_bars_cover_every_issue_of_the_shown_steps(changes):
    config = preset("tiny").replace(changes)
    part = excerpt(config, [1, 3, 4])
    trace = predicted(config, part, [])
    line = timeline(config, part, trace, trace)
    assert line.different == 0
    assert line.compared == sum(map(len, trace))
    drawn = {
        cycle
        for lane in line.lanes
        if lane.group is not None
        for bar in lane.measured
        for cycle in range(bar.start, bar.end)
    }
    assert drawn == {cycle for cycle in trace.issues if line.start <= cycle < line.end}
    assert all(line.start <= bar.start < bar.end <= line.end for lane in line.lanes for bar in lane.measured)
    assert not any(row.differs for row in line.rows)


def test_stored_and_resumed_sums_are_those_of_the_order():
    config = preset("char128")
    issues = Schedule(config).issues
    line = timeline(config, excerpt(config, [4]), predicted(config, excerpt(config, [4]), []), None)
    lanes = {lane.label: lane for lane in line.lanes if lane.inside}
    assert list(lanes)[:2] == ["sums stored (park)", "stored sums go on (resume)"]
    for lane, wanted in zip(lanes.values(), ("park", "resume"), strict=False):
        shown = [bar for bar in lane.measured if bar.kind.startswith("A")]
        assert len(shown) == sum(getattr(issue, wanted) for issue in issues) == Schedule(config).lookahead
    without = preset("tiny").replace({"architecture.lookahead": 1})
    line = timeline(without, excerpt(without, [4]), predicted(without, excerpt(without, [4]), []), None)
    assert [lane.label for lane in line.lanes if lane.inside] == ["drain", "activations, cell update"]


@pytest.mark.parametrize("kind", Trace._fields)
def test_a_late_event_is_different(kind):
    config = preset("tiny")
    part = excerpt(config, [4])
    trace = predicted(config, part, [])
    values = list(getattr(trace, kind))
    # The last event of the first shown step.
    place = len(values) // part.steps - 1
    values[place] += 1
    line = timeline(config, part, trace, trace._replace(**{kind: values}))
    assert line.different == 1
    assert [cycle for lane in line.lanes for cycle in lane.different] == [values[place] - 1, values[place]]
    assert [row.differs for row in line.rows].count(True) == 1


def test_missing_events_are_different():
    config = preset("tiny")
    part = excerpt(config, [4])
    trace = predicted(config, part, [])
    line = timeline(config, part, trace, trace._replace(h_beats=trace.h_beats[:-2]))
    assert line.different == 2


def test_without_a_simulation_only_the_prediction_is_drawn():
    config = preset("tiny")
    part = excerpt(config, [2])
    line = timeline(config, part, predicted(config, part, []), None)
    assert line.compared == line.different == 0
    assert not any(lane.measured for lane in line.lanes if not lane.inside)
    assert all(row.measured == "–" for row in line.rows)


def test_a_record_comes_back_cut_to_its_excerpt(tmp_path):
    config = preset("tiny")
    part = excerpt(config, [9])
    trace = Schedule(config).trace([9])
    run = RecordedRun(config.fingerprint, "f" * 64, "icarus", [9], [], 9, 0, ["a problem"], trace)
    write_record(tmp_path, config, run)
    found = read_record(tmp_path, config, "f" * 64)
    assert found.trace == predicted(config, part, [])
    assert found.problems == run.problems
    assert read_record(tmp_path, config, "e" * 64) is None
    assert read_record(tmp_path, preset("char64"), "f" * 64) is None
