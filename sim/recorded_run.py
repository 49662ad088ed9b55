"""The first cycles of a simulation without stalls, kept in the build folder so that its page can show them.

A record covers the steps of a :class:`Excerpt`: two steps in a row, and what overlaps with them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import write_atomic
from chessrnn.model.schedule import Schedule, Trace, interleave
from chessrnn.model.sequence_schedule import split_sequences
from chessrnn.model.text_file import read_json

RECORD_FILE = "sim/recorded.json"
# Greatest number of kept events of a kind; a page of more could not be read.
MAX_EVENTS = 100_000
# Greatest number of steps of a recorded run, since their order is looked through.
MAX_STEPS = 1_000_000
SHOWN_STEPS = 2
# Steps behind the shown ones that begin before the h of the shown ones has left.
OVERLAPPING_STEPS = 2


class Excerpt(NamedTuple):
    """Steps of a run that are shown, and the number of events from its beginning that cover them.

    Attributes
    ----------
    first, count : int
        Shown steps, in the order of the stream.  For a bidirectional network they are steps of the first layer in
        sequence ``sequence``.
    sequence : int
        Number of the sequence, of those that a bidirectional network cuts up; 0 for other networks.
    lengths : list of int
        Lengths of the sequences to follow.
    steps : int
        Number of steps to follow, for a network without a reverse direction.
    x_beats, issues, h_beats : int
        Numbers of events.
    """

    first: int
    count: int
    sequence: int
    lengths: list[int]
    steps: int
    x_beats: int
    issues: int
    h_beats: int


def excerpt(config: Config, lengths: list[int]) -> Excerpt:
    """Choose two steps that follow each other, the second of which uses the h of an earlier step where one does."""
    if config.network.bidirectional:
        lengths = split_sequences(lengths, config.sequence_steps)
        number = next((number for number, length in enumerate(lengths) if length >= SHOWN_STEPS), 0)
        lengths = lengths[: number + 1]
        first, count, steps = 0, min(SHOWN_STEPS, lengths[number]), sum(lengths)
    else:
        order, number = interleave(lengths, config.architecture.contexts), 0
        second = next((place for place, (_, step) in enumerate(order) if step), 1)
        first, count = second - 1, min(SHOWN_STEPS, len(order) - second + 1)
        steps = min(first + count + OVERLAPPING_STEPS, len(order))
    numbers = config.num_input_blocks, config.bank_words, config.num_stream_blocks
    return Excerpt(first, count, number, lengths, steps, *(min(steps * n, MAX_EVENTS) for n in numbers))


def predicted(config: Config, part: Excerpt, loads: list[bool]) -> Trace:
    """Cycles that the schedule predicts for the events of an excerpt."""
    trace = Schedule(config).trace(part.lengths, loads, part.steps)
    return Trace(trace.x_beats[: part.x_beats], trace.issues[: part.issues], trace.h_beats[: part.h_beats])


@dataclass(frozen=True)
class RecordedRun:
    """Record of a run.

    Attributes
    ----------
    configuration : str
        Fingerprint of the simulated configuration.
    verilog : str
        SHA-256 of the simulated Verilog.
    simulator : str
        ``"verilator"`` or ``"icarus"``.
    lengths : list of int
        Number of steps of every sequence.
    loads : list of bool
        Whether each sequence takes its state from the stream; empty if none does.
    steps, mismatches : int
        Number of steps of the run, and of those whose h differs from the reference.
    problems : list of str
        Differences from reference and prediction.
    trace : Trace
        Measured cycles; the first beat of x was taken in cycle 0.
    """

    configuration: str
    verilog: str
    simulator: str
    lengths: list[int]
    loads: list[bool]
    steps: int
    mismatches: int
    problems: list[str]
    trace: Trace


def write_record(directory: Path, config: Config, run: RecordedRun) -> None:
    """Write a record into a build folder; events beyond its excerpt are left out, and a run that is too long."""
    if sum(run.lengths) > MAX_STEPS:
        return
    part = excerpt(config, run.lengths)
    values = {
        "configuration": run.configuration,
        "verilog_sha256": run.verilog,
        "simulator": run.simulator,
        "lengths": run.lengths,
        "loads": run.loads,
        "steps": run.steps,
        "mismatches": run.mismatches,
        "problems": run.problems,
        "x_beats": run.trace.x_beats[: part.x_beats],
        "issues": run.trace.issues[: part.issues],
        "h_beats": run.trace.h_beats[: part.h_beats],
    }
    write_atomic(directory / RECORD_FILE, json.dumps(values) + "\n")


def read_record(directory: Path, config: Config, verilog: str) -> RecordedRun | None:
    """Read the record of a build folder; ``None`` where there is none, or one of other Verilog.

    Parameters
    ----------
    directory : Path
    config : Config
        Configuration of the folder.
    verilog : str
        SHA-256 of the folder's Verilog.

    Raises
    ------
    InvalidFileError
        The record is damaged.
    """
    path = directory / RECORD_FILE
    if not path.exists():
        return None
    values = read_json(path)
    kinds = {"lengths": int, "loads": bool, "problems": str, "x_beats": int, "issues": int, "h_beats": int}
    try:
        lists = {name: _list_of(values[name], kind) for name, kind in kinds.items()}
        configuration, simulated, simulator = (
            str(values[name]) for name in ("configuration", "verilog_sha256", "simulator")
        )
        steps, mismatches = int(values["steps"]), int(values["mismatches"])
    except (KeyError, TypeError, ValueError):
        raise InvalidFileError(f"{path} must be the record of a simulation, as chessrnn sim writes it") from None
    if (configuration, simulated) != (config.fingerprint, verilog):
        return None
    lengths = lists["lengths"]
    if not lengths or min(lengths) < 1 or sum(lengths) > MAX_STEPS or len(lists["loads"]) not in (0, len(lengths)):
        raise InvalidFileError(f"{path} must hold lengths of 1 to {MAX_STEPS} steps together, and loads of each")
    trace = Trace(lists["x_beats"], lists["issues"], lists["h_beats"])
    return RecordedRun(
        configuration, simulated, simulator, lengths, lists["loads"], steps, mismatches, lists["problems"], trace
    )


def _list_of(values: object, kind: type) -> list:
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise TypeError
    return values
