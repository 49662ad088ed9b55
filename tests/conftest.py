"""Fixtures of every test, what a test needs from the system, and lines of progress."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from chessrnn.model import progress
from chessrnn.model.fixed_point import requantize, shift_half_up
from chessrnn.model.reference import cell_update, layer
from chessrnn.scripts.set_up import PROGRAMS, TOOLS, all_required, install_command

# Simulators and a loaded two-core machine make single examples slow: no deadline; the same examples every time, and
# fewer than the usual hundred, since most examples here are whole designs.
settings.register_profile("chessrnn", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("chessrnn")

# A design consists of very many objects that live until it is emitted: looking for garbage after every 700 of them
# takes a tenth of all processor time.
gc.set_threshold(100_000, 20, 50)

# No step is long: what a command prints must not depend on the speed of the machine.
progress.PATIENCE = threading.TIMEOUT_MAX

# Command that runs the tests marked slow.
SLOW_COMMAND = "make test-slow"


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers seeded by the test's own name: the same in every run, different between tests."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def clipped(monkeypatch):
    """Number of values that the reference has clipped so far in this test, by the format that they were clipped to."""
    found = {}

    def counting(values, fraction_bits, fmt):
        exact = shift_half_up(values, fraction_bits - fmt.fraction_bits)
        found[str(fmt)] = found.get(str(fmt), 0) + int(np.sum((exact > fmt.max) | (exact < fmt.min)))
        return requantize(values, fraction_bits, fmt)

    for module in (cell_update, layer):
        monkeypatch.setattr(module, "requantize", counting)
    return found


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler, and the two worker processes of its cluster."""
    distributed = pytest.importorskip("distributed")
    # Workers find modules of tests by their names.
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[__name__.count(".")]), "OMP_NUM_THREADS": "1"}
    file, processes = tmp_path / "scheduler.json", []
    common = ["--no-dashboard", "--scheduler-file", str(file)]

    def start(kind, *options):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, *common]
        with (tmp_path / f"{kind}.log").open("a") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        for _ in range(2):
            start("worker", "--nthreads", "1", "--no-nanny")
        address = json.loads(file.read_text())["address"]
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def pytest_configure(config):
    """Create what the hooks below remember."""
    config.pluginmanager.register(Needs(), "chessrnn-needs")
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(WorkerCount(config), "chessrnn-count")
    else:
        config.pluginmanager.register(Summary(config), "chessrnn-summary")


def pytest_collection_modifyitems(items):
    """Begin with tests of minutes, ``slow(first=True)``: begun last, one would keep the other process waiting."""
    items.sort(key=lambda item: not any(mark.kwargs.get("first") for mark in item.iter_markers("slow")))


class Needs:
    """The marker ``needs``: a test whose programs are missing is skipped, and a test sees no program of other tools.

    The second keeps the markers complete on machines that have everything: a test that runs Icarus without saying so
    fails there as well.
    """

    def __init__(self):
        self.path = os.environ.get("PATH", os.defpath)
        self.missing = [program for program in PROGRAMS if shutil.which(program.name, path=self.path) is None]
        self.folder = tempfile.TemporaryDirectory(prefix="chessrnn-path-")
        self.paths: dict[frozenset, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        """Skip the test, or set PATH for it and its fixtures."""
        tools = frozenset(name for mark in item.iter_markers("needs") for name in mark.args)
        assert tools <= TOOLS.keys(), f"needs must name some of {', '.join(TOOLS)}, not {', '.join(tools)}"
        missing = [program for program in self.missing if program.tool in tools]
        if missing:
            reason = f"without {', '.join(program.name for program in missing)} ({install_command(missing)})"
            (pytest.fail if all_required() else pytest.skip)(reason)
        if tools not in self.paths:
            self.paths[tools] = self.path_without({p.name for p in PROGRAMS if p.tool not in tools})
        os.environ["PATH"] = self.paths[tools]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item):
        """Tell of a failed test which programs it did not see."""
        report = yield
        tools = {name for mark in item.iter_markers("needs") for name in mark.args}
        hidden = [program.name for program in PROGRAMS if program.tool not in tools]
        names = "|".join(map(re.escape, hidden))
        if report.failed and re.search(rf"'({names})'|\b({names})\)? must be installed", str(report.longrepr)):
            text = f"{', '.join(hidden)}: a test that runs them has the marker needs, with a tool of scripts/set_up.py"
            report.sections.append(("programs that this test does not see", text))
        return report

    def path_without(self, hidden: set[str]) -> str:
        """PATH whose folders lack some programs: where one is, a folder of links to everything else takes its place."""
        folders = []
        for folder in map(Path, self.path.split(os.pathsep)):
            if any((folder / name).exists() for name in hidden):
                links = Path(tempfile.mkdtemp(dir=self.folder.name))
                for program in folder.iterdir():
                    if program.name not in hidden:
                        (links / program.name).symlink_to(program.absolute())
                folder = links
            folders.append(str(folder))
        return os.pathsep.join(folders)

    def pytest_unconfigure(self):
        """Remove the links."""
        self.folder.cleanup()


def counted(number: int, noun: str) -> str:
    """Number and noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def number_slow(items) -> int:
    """Tests marked slow."""
    return sum(item.get_closest_marker("slow") is not None for item in items)


class WorkerCount:
    """Reports from a worker process how many tests marked slow were deselected."""

    def __init__(self, config):
        config.workeroutput["slow"] = 0
        self.output = config.workeroutput

    def pytest_deselected(self, items):
        """Count."""
        self.output["slow"] += number_slow(items)


class Summary:
    """A line per finished file where tests run side by side, and a last line about what did not run."""

    def __init__(self, config):
        self.config, self.began = config, time.monotonic()
        self.complete, self.slow, self.skipped = False, 0, Counter()
        self.lines = bool(config.getoption("numprocesses", None)) and config.get_verbosity() == 0
        self.total, self.left = 0, Counter()
        self.outcomes, self.seconds = defaultdict(Counter), Counter()

    def pytest_deselected(self, items):
        """Count tests marked slow in a run without workers."""
        self.slow += number_slow(items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        """Take a worker's count; every worker has collected all tests."""
        self.slow = max(self.slow, getattr(node, "workeroutput", {}).get("slow", 0))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids):
        """Learn how many tests each file has."""
        self.total, self.left = len(ids), Counter(name.split("::")[0] for name in ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self):
        """Print no letters where files have lines."""
        category, letter, word = yield
        return (category, "", "") if self.lines else (category, letter, word)

    def pytest_runtest_logreport(self, report):
        """Count a phase of a test, and print the line of a file with its last test."""
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skipped[report.longrepr[2].removeprefix("Skipped: ")] += 1
        if not self.lines:
            return
        file = report.nodeid.split("::")[0]
        self.seconds[file] += report.duration
        if report.failed or report.when == "call" or report.skipped:
            self.outcomes[file][report.outcome] += 1
        if report.failed:
            self.write(f"FAILED {report.nodeid}")
        if report.when == "teardown":
            self.left[file] -= 1
            if not self.left[file]:
                counts = ", ".join(f"{number} {outcome}" for outcome, number in self.outcomes[file].items())
                self.write(f"{file}: {counts} in {self.seconds[file]:.0f} s")

    def write(self, text: str):
        """Print a line behind the time since the start and the share of tests that are done."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        share = 100 * (self.total - self.left.total()) // max(1, self.total)
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter:
            reporter.write_line(f"{minutes:3d}:{seconds:02d} {share:3d} %  {text}")
            reporter.flush()

    def pytest_sessionfinish(self, exitstatus):
        """Remember whether the run was complete."""
        self.complete = exitstatus == pytest.ExitCode.OK

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        """Print the last line: what did not run, and why."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        parts = [f"{counted(number, 'test')} {reason}" for reason, number in sorted(self.skipped.items())]
        parts += [f"{counted(self.slow, 'slow test')} ({SLOW_COMMAND} runs them)"] if self.slow else []
        if reporter and not self.config.option.collectonly and (parts or self.complete):
            reporter.write_line(f"not run: {'; '.join(parts)}" if parts else "every selected test ran")
