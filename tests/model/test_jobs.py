"""Jobs by processes and by a cluster: order of results, exceptions, Ctrl-C, and workers that die."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from chessrnn.model import jobs as module
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.jobs import MAX_DEATHS, WorkerDied, Workers, run_jobs

LOCAL = Workers(2)


def double(value, seconds=0.0):
    time.sleep(seconds)
    return 2 * value


def refuse(value):
    if value == 1:
        raise InvalidValueError("value must be another one, not 1")
    time.sleep(60)


def die_first(value, folder):
    """A job whose first two workers die."""
    (folder / f"{value}-{os.getpid()}").touch()
    if value == 1 and len(list(folder.glob("1-*"))) < MAX_DEATHS:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def die(value):
    if value == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def interrupted(folder, value, command):
    """Like Ctrl-C in the terminal, which reaches the command; what it does to the jobs is written down."""
    try:
        if value == 0:
            os.kill(command, signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"interrupted-{value}").touch()
        raise


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt here, also where a shell that runs the tests in its background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("workers", [Workers(), LOCAL, Workers(8)])
def test_results_have_the_order_of_the_jobs(workers):
    ended = []
    jobs = [(0, 0.3), (1,), (2,), (3,), (4,)]
    assert run_jobs(double, jobs, workers, lambda index, result: ended.append((index, result))) == [0, 2, 4, 6, 8]
    assert sorted(ended) == [(0, 0), (1, 2), (2, 4), (3, 6), (4, 8)]
    assert run_jobs(double, [], workers) == []


def after_files(folder, value, names):
    """A job that reads the files of other jobs."""
    assert all((folder / name).exists() for name in names)
    time.sleep(0.1)
    (folder / str(value)).touch()
    return value


@pytest.mark.parametrize("workers", [Workers(), LOCAL, Workers(8)])
def test_a_job_begins_behind_those_whose_files_it_reads(tmp_path, workers):
    after = [[], [0], [], [1, 2], [], [0, 4], []]
    jobs = [(tmp_path, number, tuple(map(str, others))) for number, others in enumerate(after)]
    ended = []
    results = run_jobs(after_files, jobs, workers, lambda index, result: ended.append(index), after)
    assert results == list(range(7))
    assert all(ended.index(other) < ended.index(index) for index, others in enumerate(after) for other in others)


def test_jobs_wait_for_one_that_is_run_again(tmp_path):
    jobs = [(value, tmp_path) for value in range(4)]
    ended = []
    assert run_jobs(die_first, jobs, LOCAL, lambda index, _: ended.append(index), [[], [], [1], [2]]) == [0, 1, 2, 3]
    assert [index for index in ended if index] == [1, 2, 3]


def test_an_exception_ends_everything():
    began = time.monotonic()
    with pytest.raises(InvalidValueError, match="value must be another one"):
        run_jobs(refuse, [(0,), (1,), (2,)], LOCAL)
    assert time.monotonic() - began < 30


def test_the_job_of_a_dead_process_is_run_again(tmp_path):
    assert run_jobs(die_first, [(value, tmp_path) for value in range(4)], LOCAL) == [0, 1, 2, 3]
    # Each time in another process; the jobs beside it ran once.
    assert [len(list(tmp_path.glob(f"{value}-*"))) for value in range(4)] == [1, MAX_DEATHS, 1, 1]


def test_a_job_that_kills_its_processes_is_named():
    with pytest.raises(WorkerDied, match="job 2 must end, not its worker: 3 workers died over it"):
        run_jobs(die, [(value,) for value in range(4)], LOCAL)


def test_ctrl_c_reaches_the_jobs_that_run(tmp_path, interruptible):
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(interrupted, [(tmp_path, value, os.getpid()) for value in range(4)], LOCAL)
    assert time.monotonic() - began < 30
    # The second job may end before it begins; the others never begin.
    names = {path.name for path in tmp_path.iterdir()}
    assert {"interrupted-0"} <= names <= {"interrupted-0", "interrupted-1"}


def wait_long(folder, value):
    """A job that runs a program for longer than its test, and says which two processes these are."""
    with subprocess.Popen(["sleep", "60"]) as program:
        (folder / f"{value}").write_text(f"{os.getpid()} {program.pid}")


def is_running(pid: int) -> bool:
    """Whether a process exists that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_runs_on_after_a_command_that_was_killed(tmp_path):
    code = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_jobs import LOCAL, run_jobs, wait_long
        run_jobs(wait_long, [(Path({str(tmp_path)!r}), value) for value in range(2)], LOCAL)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)]) as command:
        deadline = time.monotonic() + 60
        pids = []
        while len(pids) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
            pids = [int(pid) for path in tmp_path.iterdir() for pid in path.read_text().split()]
        assert len(pids) == 4 and all(map(is_running, pids))
        command.kill()
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


# -- a cluster -------------------------------------------------------------------------------------------------


def noted(value, folder):
    """A job that says which process runs it."""
    (folder / f"job-{value}-{os.getpid()}").touch()
    time.sleep(1.0)
    return 2 * value


@pytest.mark.slow
def test_the_job_of_a_killed_worker_is_run_by_the_other_one(cluster, tmp_path):
    address, workers = cluster
    pids = {worker.pid for worker in workers}

    def begun(pid):
        return {path.name.split("-")[1] for path in tmp_path.glob(f"job-*-{pid}")}

    def kill_one(index, result):
        """Kill the first worker in the middle of its second job or a later one."""
        before = begun(workers[0].pid)
        deadline = time.monotonic() + 30
        while workers[0].poll() is None and time.monotonic() < deadline:
            if begun(workers[0].pid) > before:
                workers[0].kill()
                workers[0].wait()

    jobs = [(value, tmp_path) for value in range(8)]
    # The last one waits for the others.
    after = [[]] * 7 + [range(7)]
    assert run_jobs(noted, jobs, Workers(scheduler=address), kill_one, after) == [2 * value for value in range(8)]
    assert max(tmp_path.glob("job-*"), key=lambda path: path.stat().st_mtime_ns).name.startswith("job-7-")
    killed, other = (begun(worker.pid) for worker in workers)
    assert workers[0].returncode == -signal.SIGKILL
    # Both worked, every job was done, and what the killed one was doing was done again by the other.
    assert {int(path.name.split("-")[2]) for path in tmp_path.glob("job-*")} == pids
    assert killed | other == {str(value) for value in range(8)}
    assert killed & other


@pytest.mark.slow
def test_what_is_no_scheduler_is_refused(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:1", "http://127.0.0.1:1"):
        with pytest.raises(InvalidValueError, match="--scheduler must be the address of a Dask scheduler") as caught:
            run_jobs(double, [(1,)], Workers(scheduler=address))
        assert len(str(caught.value)) < 200
