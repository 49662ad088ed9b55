"""Jobs of a long command, run one by one, by processes of this machine, or by the workers of a Dask cluster.

Whoever runs the jobs, their results are the same and have the order of the jobs.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import metadata
from multiprocessing.connection import wait as wait_for
from typing import Any

from chessrnn.model.errors import InvalidValueError, MissingToolError, UserError, require, shortened

# Indices of jobs with their results, as they end.
Ended = Generator[tuple[int, Any], None, None]
# For each job, the indices of the jobs that must have ended before it begins.
After = Sequence[Sequence[int]]
# A job whose workers die so often is the reason itself: it needs more memory than there is, for example.
MAX_DEATHS = 3
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Workers:
    """Who runs the jobs of a command.

    Attributes
    ----------
    count : int
        Number of processes of this machine; 1 stands for the process of the command itself.
    scheduler : str or None
        Address of the scheduler of a Dask cluster, whose workers then run the jobs.
    """

    count: int = 1
    scheduler: str | None = None


class WorkerDied(UserError):
    """Several workers died over one job, which is not tried again."""

    def __init__(self, job: int):
        super().__init__(
            f"job {job} must end, not its worker: {MAX_DEATHS} workers died over it, out of memory perhaps"
        )


def run_jobs(
    function: Callable[..., Any],
    jobs: Sequence[tuple],
    workers: Workers = Workers(),
    finished: Callable[[int, Any], None] = lambda index, result: None,
    after: After | None = None,
) -> list[Any]:
    """Call a function once for each job, and return the results in the order of the jobs.

    An exception, Ctrl-C included, ends everything: no further job begins, those that run in processes of this machine
    are interrupted as by Ctrl-C, and the exception is raised here.  The job of a worker that dies is run again by
    another one.

    Parameters
    ----------
    function : callable
        Function of a module, so that another process finds it by its name.
    jobs : sequence of tuple
        Arguments of each call.  They and the results travel between processes, and between machines of a cluster.
    workers : Workers
    finished : callable
        Called with the index and the result of each job as soon as it has ended, in the command's own process.
    after : sequence of sequence of int, optional
        For each job, the indices of earlier jobs that leave files which it reads: it begins when they have ended.

    Raises
    ------
    WorkerDied
        Workers died over the same job :data:`MAX_DEATHS` times.
    InvalidValueError
        There is no such cluster, or it cannot run these jobs.
    MissingToolError
        Dask is not installed.
    """
    queue = _Queue(after or [()] * len(jobs))
    if workers.scheduler is not None:
        ended = _by_cluster(function, jobs, workers.scheduler, queue)
    elif min(workers.count, len(jobs)) > 1:
        ended = _by_processes(function, jobs, workers.count, queue)
    else:
        ended = ((index, function(*arguments)) for index, arguments in enumerate(jobs))
    results: list[Any] = [None] * len(jobs)
    try:
        for index, result in ended:
            results[index] = result
            finished(index, result)
    finally:
        ended.close()
    return results


class _Queue:
    """The jobs that have not begun, in order.

    Parameters
    ----------
    after : sequence of sequence of int
        For each job, the indices of the jobs that it waits for.
    """

    def __init__(self, after: After):
        assert all(other < index for index, others in enumerate(after) for other in others), (
            "jobs wait for earlier ones"
        )
        self._missing = {index: set(others) for index, others in enumerate(after)}

    def __bool__(self) -> bool:
        return bool(self._missing)

    def take(self) -> int | None:
        """Remove the first job that may begin, and return its index; ``None`` where all that are left must wait."""
        for index, missing in self._missing.items():
            if not missing:
                del self._missing[index]
                return index
        return None

    def put_back(self, index: int) -> None:
        """Let a job that had begun begin again, before the others."""
        self._missing = {index: set(), **self._missing}

    def end(self, index: int) -> None:
        """Note that a job has ended."""
        for missing in self._missing.values():
            missing.discard(index)


# -- processes of this machine ---------------------------------------------------------------------------------


class _Process:
    """One process that runs a job at a time; of a pool of several, one dead process would break the jobs of all."""

    def __init__(self):
        self.pool = ProcessPoolExecutor(max_workers=1, initializer=_begin_process)
        self.pid = self.pool.submit(os.getpid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it lives."""
        try:
            os.kill(self.pid.result(), number)
        except (BrokenProcessPool, ProcessLookupError):
            pass


_interrupted = False


def _begin_process() -> None:
    """Leave the terminal's group: Ctrl-C reaches the command, which passes it on."""
    os.setpgrp()
    signal.signal(signal.SIGINT, _note_interrupt)
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    """End this process and the programs that it runs when the command is killed, whose signals do not reach them."""
    command = multiprocessing.parent_process()
    assert command is not None
    wait_for([command.sentinel])
    os.killpg(os.getpid(), signal.SIGKILL)


def _note_interrupt(number: int, frame: object) -> None:
    """Let the next job end at once, as none runs yet."""
    global _interrupted
    _interrupted = True


def _interruptible(function: Callable[..., Any], arguments: tuple) -> Any:
    """Call a function that SIGINT interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if _interrupted:
            raise KeyboardInterrupt
        return function(*arguments)
    finally:
        signal.signal(signal.SIGINT, _note_interrupt)


def _by_processes(function: Callable[..., Any], jobs: Sequence[tuple], count: int, waiting: _Queue) -> Ended:
    """Yield the index and result of each job as it ends in one of several processes."""
    deaths = Counter()
    idle = [_Process() for _ in range(min(count, len(jobs)))]
    processes = set(idle)
    running: dict[Future, tuple[_Process, int]] = {}

    def replace(process: _Process) -> None:
        process.pool.shutdown()
        processes.remove(process)
        processes.add(new := _Process())
        idle.append(new)

    try:
        while waiting or running:
            while idle and (index := waiting.take()) is not None:
                process = idle.pop()
                try:
                    running[process.pool.submit(_interruptible, function, jobs[index])] = process, index
                except BrokenProcessPool:  # it died without a job
                    waiting.put_back(index)
                    replace(process)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                process, index = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    deaths[index] += 1
                    if deaths[index] == MAX_DEATHS:
                        raise WorkerDied(index) from None
                    waiting.put_back(index)
                    replace(process)
                else:
                    idle.append(process)
                    waiting.end(index)
                    yield index, result
    finally:
        try:
            for process in processes if running or waiting else ():
                process.send(signal.SIGINT)
            for process in processes:
                process.pool.shutdown(cancel_futures=True)
        except BaseException:  # Ctrl-C for the second time
            for process in processes:
                process.send(signal.SIGKILL)
            raise


# -- a cluster -------------------------------------------------------------------------------------------------


def _by_cluster(function: Callable[..., Any], jobs: Sequence[tuple], address: str, waiting: _Queue) -> Ended:
    """Yield the index and result of each job as it ends on a cluster, which runs the job of a dead worker again."""
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise MissingToolError("distributed must be installed for --scheduler: pip install distributed") from None
    # What it logs about lost connections is said here in one line.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    rule = "the address of a Dask scheduler that answers, such as tcp://host:8786"
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidValueError(f"--scheduler must be {rule}, not {shortened(address)}: {_first_line(error)}") from None
    with client:
        _check_cluster(client)
        pool = client.get_executor(pure=False)
        running: dict[Future, int] = {}
        try:
            while waiting or running:
                while (index := waiting.take()) is not None:
                    running[pool.submit(function, *jobs[index])] = index
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    index = running.pop(future)
                    try:
                        result = future.result()
                    except KilledWorker:
                        raise WorkerDied(index) from None
                    waiting.end(index)
                    yield index, result
        finally:
            pool.shutdown(wait=False)


def _check_cluster(client) -> None:
    """Check that every worker has this version of the package and runs one job at a time.

    Simulators, locks of folders and PyTorch's settings belong to a process, so that jobs do not share one.
    """
    threads = {worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
    require(threads <= {1}, "--scheduler", "a cluster of workers with one thread each (--nthreads 1)", sorted(threads))
    try:
        found = set(client.run(_version).values())
    except ImportError:
        found = {"none"}
    wanted = _version()
    require(found <= {wanted}, "--scheduler", f"a cluster whose workers have chessrnn {wanted}", sorted(found))


def _version() -> str:
    """Version of the package where this runs."""
    return metadata.version("chessrnn")


def _first_line(error: BaseException) -> str:
    return shortened((str(error).splitlines() or [type(error).__name__])[0])
