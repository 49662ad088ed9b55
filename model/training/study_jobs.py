"""The study as jobs: one for each row of a table, and one for each stage of training that several rows share.

Whoever runs the jobs, and in whatever order, a stage is trained once and its checkpoint is the same: the seeds, batches
and dropout of a stage depend on nothing but its settings.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from chessrnn.model.training.pipeline import Stage, run_stage
from chessrnn.model.training.study import Row, run_row
from chessrnn.model.training.tasks.base import Task


@dataclass(frozen=True)
class StudyJob:
    """A row to measure, or a stage to train from which several rows start, or by which they are taught.

    Attributes
    ----------
    work : Row or Stage
    row : int or None
        Index of the row in its table; ``None`` for a stage.
    after : tuple of int
        Indices of earlier jobs whose checkpoints this one reads.
    """

    work: Row | Stage
    row: int | None
    after: tuple[int, ...]


def needed_stages(*stages: Stage) -> dict[str, Stage]:
    """Stages that must be trained for some stages, themselves included, each behind those that it needs."""
    found: dict[str, Stage] = {}
    for stage in stages:
        before = [one for one in (stage.parent, stage.teacher) if one is not None]
        found |= {name: one for name, one in needed_stages(*before).items() if name not in found}
        found.setdefault(stage.name, stage)
    return found


def table_jobs(rows: Sequence[Row], finished: Sequence[bool]) -> list[StudyJob]:
    """List the jobs of the unfinished rows of a table; a job waits only for earlier ones."""
    # A plain script trains none of the stages.
    needed = {
        number: {} if row.script is not None else needed_stages(*row.rivals, row.stage)
        for number, row in enumerate(rows)
        if not finished[number]
    }
    users = Counter(name for stages in needed.values() for name in stages)
    jobs: list[StudyJob] = []
    trains: dict[str, int] = {}  # index of the job that trains a stage

    def add(work: Row | Stage, number: int | None, stages: dict[str, Stage]) -> None:
        jobs.append(StudyJob(work, number, tuple(sorted({trains[name] for name in stages if name in trains}))))

    for number, stages in needed.items():
        own = rows[number].stage.name
        for name, stage in stages.items():
            if users[name] > 1 and name != own and name not in trains:
                add(stage, None, needed_stages(stage))
                trains[name] = len(jobs) - 1
        add(rows[number], number, stages)
        if own in stages:
            trains.setdefault(own, len(jobs) - 1)
    return jobs


def run_study_job(work: Row | Stage, task: Task, folder: Path, hidden_size: int, threads: int) -> dict | None:
    """Do one job of a study; this may run in a process of its own.

    Parameters
    ----------
    work : Row or Stage
    task : Task
    folder : Path
        Folder of the checkpoints.
    hidden_size : int
        H of the dense baseline.
    threads : int
        Threads of torch.

    Returns
    -------
    dict or None
        Figures of a row; ``None`` for a stage.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if isinstance(work, Row):
        return run_row(work, task, folder, hidden_size)
    run_stage(work, task, folder)
    return None
