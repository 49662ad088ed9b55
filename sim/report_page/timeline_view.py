"""Two steps cycle by cycle: the simulated events beside the predicted ones, as bars in lanes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

from chessrnn.model.config import Config
from chessrnn.model.schedule import Schedule, Trace
from chessrnn.model.sequence_schedule import block_writes
from chessrnn.sim.recorded_run import Excerpt
from chessrnn.sim.report_page.board_view import part_title

MAX_LANES = 160
# Cycles that are drawn around the steps of a bidirectional network.
MARGIN = 3
# Least and greatest width of a cycle, and the width of the whole picture, in pixels.
LEAST_CYCLE, LARGEST_CYCLE, WIDTH = 0.02, 12.0, 1050
OTHER = "other"
SHOWN_NAMES = {"A": "first step", "B": "second step", OTHER: "other steps"}


class Bar(NamedTuple):
    """Consecutive cycles, ``end`` excluded, with the kind that decides the colour, and a description."""

    start: int
    end: int
    kind: str
    title: str


@dataclass(eq=False)
class Lane:
    """A row of the picture.

    Attributes
    ----------
    label : str
        Name of the lane.
    group : object
        Equal for neighbouring lanes that belong together, such as the row groups of a matrix; ``None`` for others.
    measured, predicted : list of Bar
        Simulated bars, and predicted ones.
    different : list of int
        Cycles with an event in only one of both.
    inside : bool
        Whether the lane follows from the latencies of the schedule, since no port shows it.
    """

    label: str
    group: object = None
    measured: list[Bar] = field(default_factory=list)
    predicted: list[Bar] = field(default_factory=list)
    different: list[int] = field(default_factory=list)
    inside: bool = False


class Row(NamedTuple):
    """A row of the table: what happens, its first and last cycle by simulation and prediction."""

    label: str
    measured: str
    predicted: str
    differs: bool


@dataclass
class Timeline:
    """The picture and its table.

    Attributes
    ----------
    start, end : int
        Drawn cycles, ``end`` excluded.
    lanes : list of Lane
    rows : list of Row
    compared, different : int
        Number of compared events, and of those in another cycle than predicted.
    """

    start: int
    end: int
    lanes: list[Lane]
    rows: list[Row]
    compared: int
    different: int

    @property
    def cycle_width(self) -> float:
        """Width of a cycle in pixels."""
        return min(LARGEST_CYCLE, max(LEAST_CYCLE, WIDTH / (self.end - self.start)))

    @property
    def ticks(self) -> list[int]:
        """Cycles with a number at the axis."""
        span = self.end - self.start
        step = next(10**power * digit for power in range(9) for digit in (1, 2, 5) if span / (10**power * digit) <= 12)
        return list(range(-(-self.start // step) * step, self.end, step))


class Work(NamedTuple):
    """The issues of a part in a step: names of step and direction, and whether the step is shown as ``A`` or ``B``."""

    step: str
    shown: str
    part: int
    direction: int


def works(config: Config, part: Excerpt) -> Iterator[Work]:
    """Work on the parts in the order of the issues, from the beginning of a run."""
    if not config.network.bidirectional:
        for place in range(part.steps):
            shown = {part.first: "A", part.first + 1: "B"}.get(place, OTHER)
            yield from (Work(f"step {place}", shown, number, 0) for number in range(len(config.parts)))
        return
    begin = 0
    for sequence, steps in enumerate(part.lengths):
        for layer, parts in enumerate(config.layer_parts):
            for index in range(steps):
                is_shown = sequence == part.sequence and layer == 0 and index < part.count
                for place in range(len(parts)):
                    for direction in range(config.directions):
                        step = begin + (steps - 1 - index if direction else index)
                        yield Work(
                            f"step {step}", "AB"[index] if is_shown else OTHER, layer * len(parts) + place, direction
                        )
        begin += steps


class _Event(NamedTuple):
    """An event with the lane in which it is drawn, a kind that decides its colour, and a description.

    Issues have the work that they belong to, their row group, and whether they complete its sums, store them for later
    or go on with stored ones.
    """

    lane: Any
    kind: str
    title: str
    work: Work | None = None
    row: int = 0
    complete: bool = False
    park: bool = False
    resume: bool = False

    @property
    def issued_work(self) -> Work:
        """Work that an issue belongs to."""
        assert self.work is not None
        return self.work


class _Events(NamedTuple):
    """The events of an excerpt, in the order in which a trace has their cycles."""

    x_beats: list[_Event]
    issues: list[_Event]
    h_beats: list[_Event]


def timeline(config: Config, part: Excerpt, predicted: Trace, measured: Trace | None) -> Timeline:
    """Arrange the events of an excerpt; without a simulation only the predicted ones."""
    schedule = Schedule(config)
    issues = _issue_events(config, schedule, part)
    x, h = (
        _stream_events(config, part, stream, len(beats))
        for stream, beats in (("x", predicted.x_beats), ("h", predicted.h_beats))
    )
    events = _Events(x, issues, h)
    window = _window(config, schedule, events, [predicted, *([measured] if measured else [])])
    lanes = {"x": Lane("x taken"), **_row_lanes(config, issues), "h": Lane("h given")}
    different = sum(
        _fill(lanes, kind, must, got, window)
        for kind, must, got in zip(events, predicted, measured or [None] * len(events), strict=True)
    )
    inside = _inside(config, schedule, issues, (measured or predicted).issues, window)
    last = lanes.pop("h")
    drawn = [lane for lane in dict.fromkeys(lanes.values()) if lane.measured or lane.predicted or lane.different]
    compared = sum(map(len, predicted)) if measured else 0
    return Timeline(*window, [*drawn, *inside, last], _table(events, predicted, measured), compared, different)


def _fill(lanes: dict, events: list[_Event], must: list[int], got: list[int] | None, window: tuple[int, int]) -> int:
    """Put events into their lanes, and return the number of those in another cycle than predicted."""
    for cycles, name in ((must, "predicted"), (got or [], "measured")):
        for lane, bars in _bars(events, cycles, window).items():
            getattr(lanes[lane], name).extend(bars)
    if got is None:
        return 0
    wrong = 0
    for event, *pair in zip_longest(events, must, got):
        if event is not None and pair[0] != pair[1]:
            wrong += 1
            lanes[event.lane].different += [c for c in pair if c is not None and window[0] <= c < window[1]]
    return wrong


def _row_groups_per_lane(config: Config) -> int:
    """Number of neighbouring row groups that share a lane."""
    return -(-config.directions * sum(part.row_groups for part in config.parts) // MAX_LANES)


def _issue_events(config: Config, schedule: Schedule, part: Excerpt) -> list[_Event]:
    """The issues of an excerpt in order."""
    rows, shared, events = config.architecture.tile_rows, _row_groups_per_lane(config), []
    for work in works(config, part):
        source = config.parts[work.part]
        for issue in schedule.part_issues(work.part):
            if len(events) == part.issues:
                return events
            kind = f"{work.shown} {'early' if issue.col < source.early_groups else 'late'}"
            first = issue.row // shared * shared
            end = min((first + shared) * rows, source.row_blocks)
            title = f"{work.step}: {_row_groups(config, work.part, first)}, block rows {first * rows} to {end - 1}"
            lane = (work.part, work.direction, first)
            flags = issue.complete, issue.park, issue.resume
            events.append(_Event(lane, kind, title, work, issue.row, *flags))
    return events


def _row_groups(config: Config, part: int, first: int) -> str:
    """Name of the row groups of a lane."""
    last = min(first + _row_groups_per_lane(config), config.parts[part].row_groups) - 1
    return f"row group {first}" if first == last else f"row groups {first} to {last}"


def _stream_events(config: Config, part: Excerpt, stream: str, number: int) -> list[_Event]:
    """The beats of a stream in order."""
    blocks = config.num_input_blocks if stream == "x" else config.num_stream_blocks
    first, shown = part.first, {}
    if config.network.bidirectional:
        first = sum(part.lengths[: part.sequence])
    for place in range(part.count):
        shown[first + place] = "AB"[place]
    return [
        _Event(stream, shown.get(beat // blocks, OTHER), f"{stream} of step {beat // blocks}") for beat in range(number)
    ]


def _window(config: Config, schedule: Schedule, events: _Events, traces: list[Trace]) -> tuple[int, int]:
    """First cycle that is drawn, and the first one behind."""
    cycles: list[int] = []
    for trace in traces:
        mine = [c for event, c in zip(events.issues, trace.issues, strict=False) if event.issued_work.shown != OTHER]
        if config.network.bidirectional:
            latency = schedule.matvec_latency + schedule.epilogue_latency()
            cycles += [*(max(0, c - MARGIN) for c in mine[:1]), *(c + latency + MARGIN for c in mine[-1:])]
            continue
        cycles += mine
        for beats, when in ((events.x_beats, trace.x_beats), (events.h_beats, trace.h_beats)):
            cycles += [c for event, c in zip(beats, when, strict=False) if event.kind != OTHER]
    return (min(cycles), max(cycles) + 1) if cycles else (0, 1)


def _row_lanes(config: Config, issues: list[_Event]) -> dict:
    """Lanes of the row groups."""
    lanes = {}
    for key in sorted({event.lane for event in issues}):
        number, direction, first = key
        names = [_row_groups(config, number, first)]
        if config.network.bidirectional:
            names = [("forward", "reverse")[direction], *names]
        if len(config.parts) > config.network.num_layers:
            names = [part_title(config, number), *names]
        elif config.network.num_layers > 1:
            names = [f"layer {config.parts[number].layer}", *names]
        lanes[key] = Lane(", ".join(names), (number, direction))
    return lanes


def _bars(events: list[_Event], cycles: Sequence[int], window: tuple[int, int]) -> dict[object, list[Bar]]:
    """Bars of every lane: neighbouring events of one kind and description are one bar."""
    bars: dict[object, list[Bar]] = {}
    for event, cycle in zip(events, cycles, strict=False):
        if window[0] <= cycle < window[1]:
            _append(bars.setdefault(event.lane, []), Bar(cycle, cycle + 1, event.kind, event.title))
    return bars


def _append(bars: list[Bar], bar: Bar) -> None:
    """Append a bar, or extend the last one if the new one continues it."""
    if bars and bars[-1][2:] == bar[2:] and bars[-1].end >= bar.start:
        bars[-1] = bars[-1]._replace(end=max(bar.end, bars[-1].end))
    else:
        bars.append(bar)


def _inside(
    config: Config, schedule: Schedule, events: list[_Event], cycles: list[int], window: tuple[int, int]
) -> list[Lane]:
    """Return the lanes of work that no port shows, computed from the order of issues and the schedule's latencies.

    Partial sums are stored or resumed in the issues that the order marks; drain and cell update follow every issue that
    completes sums.
    """
    stored = [Lane("sums stored (park)", inside=True), Lane("stored sums go on (resume)", inside=True)]
    lanes = [Lane("drain", inside=True), Lane("activations, cell update", inside=True)]
    rows = config.architecture.tile_rows
    for event, cycle in zip(events, cycles, strict=False):
        for lane, happens in zip(stored, (event.park, event.resume), strict=True):
            if happens and window[0] <= cycle < window[1]:
                _append(lane.measured, Bar(cycle, cycle + 1, event.kind, event.title))
        if not event.complete:
            continue
        number = event.issued_work.part
        part, work = config.parts[number], schedule.part_work[number]
        before, after = (min(end * rows, part.row_blocks) // config.bundle_rows for end in (event.row, event.row + 1))
        first = cycle + schedule.matvec_latency
        drained = first + max(1, after - before) * schedule.bundle_cycles(part)
        written = block_writes(config, part, work, event.row, cycle)
        last = written[-1] + 1 if written else drained + schedule.epilogue_latency(part)
        for lane, end in zip(lanes, (drained, last), strict=True):
            if first < window[1] and end > window[0]:
                kind = event.issued_work.shown
                _append(lane.measured, Bar(max(first, window[0]), min(end, window[1]), kind, SHOWN_NAMES[kind]))
    return [*(lane for lane in stored if lane.measured), *lanes]


def _table(events: _Events, predicted: Trace, measured: Trace | None) -> list[Row]:
    """First and last cycles of the shown steps."""
    rows = []
    for shown in "AB":
        worked_on = list(
            dict.fromkeys(event.issued_work.step for event in events.issues if event.issued_work.shown == shown)
        )
        for label, name in (("x taken", "x_beats"), ("products", "issues"), ("h given", "h_beats")):
            mine = [event.kind.split()[0] == shown for event in getattr(events, name)]
            if not any(mine):
                continue
            steps = worked_on
            if name != "issues":  # a step of a stream, where the work is on both ends of a sequence
                place = mine.index(True)
                steps = [getattr(events, name)[place].title.partition(" of ")[2]]
            found = [
                [c for is_mine, c in zip(mine, getattr(trace, name), strict=False) if is_mine] if trace else []
                for trace in (measured, predicted)
            ]
            simulated, expected = (f"{cycles[0]} to {cycles[-1]}" if cycles else "–" for cycles in found)
            differs = measured is not None and found[0] != found[1]
            rows.append(Row(f"{label}, {' and '.join(steps)}", simulated, expected, differs))
    return rows
