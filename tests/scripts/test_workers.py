"""Commands whose jobs run elsewhere: each takes a scheduler, and a killed worker changes no result."""

import json
import re
import signal
from pathlib import Path

import pytest

from chessrnn.model.jobs import Workers, run_jobs
from chessrnn.scripts import accuracy, explore, fuzz, silicon

ADDRESS = "tcp://127.0.0.1:8786"
COMMANDS = {
    accuracy: ["--text", "text.txt", "--rows", "k8", "--hidden-language", "32"],
    explore: ["--config", "tiny"],
    fuzz: ["--count", "3"],
    silicon: ["--design", "tiny", "--liberty", "cells.lib"],
}


class Asked(Exception):
    """Raised in place of running the jobs."""


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--scheduler", ADDRESS], Workers(scheduler=ADDRESS)),
        (["--workers", "3"], Workers(3)),
        (["--workers", "3", "--scheduler", ADDRESS], None),
    ],
)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__.rpartition(".")[2])
def test_every_long_command_takes_workers_or_a_scheduler(command, options, wanted, text, monkeypatch, capsys):
    def asked(function, jobs, workers, *more):
        assert jobs
        assert workers.scheduler == wanted.scheduler
        assert wanted.scheduler or workers.count == wanted.count
        raise Asked

    monkeypatch.chdir(text.parent)
    monkeypatch.setattr(command, "run_jobs", asked)
    # Libraries are read and Verilog is generated before any job; which they are does not matter here.
    monkeypatch.setattr(silicon, "load_libraries", lambda paths: [None])
    monkeypatch.setattr(silicon, "generate", lambda config: "module accelerator; endmodule")
    if wanted is None:
        with pytest.raises(SystemExit):
            command.main([*COMMANDS[command], *options])
        assert "not allowed with argument" in capsys.readouterr().err
        return
    with pytest.raises(Asked):
        command.main([*COMMANDS[command], *options])


@pytest.mark.slow
@pytest.mark.usefixtures("torch_settings")
def test_a_study_on_a_cluster_with_a_killed_worker_is_that_of_one_process(cluster, text, monkeypatch, capsys):
    address, workers = cluster
    options = ["--text", str(text), "--scale", "0.001", "--hidden-language", "32", "--rows", "k8,k8-b4"]
    folder, found = text.parent, []

    def killing(function, jobs, who, finished, after):
        def kill_one(index, result):
            workers[0].kill()
            workers[0].wait()
            finished(index, result)

        return run_jobs(function, jobs, who, kill_one if who.scheduler else finished, after)

    monkeypatch.setattr(accuracy, "run_jobs", killing)
    for name, more in (("here", []), ("cluster", ["--scheduler", address])):
        places = ["--runs", str(folder / name / "runs"), "--out", str(folder / name / "out")]
        assert accuracy.main([*options, *places, *more]) == 0
        lines = capsys.readouterr().out.splitlines()[:-1]
        found.append((lines, json.loads((folder / name / "out" / "accuracy.json").read_text())["studies"]))
    assert workers[0].returncode == -signal.SIGKILL
    assert found[1] == found[0]
    assert len(found[0][0]) == 3


@pytest.mark.slow
def test_an_exploration_on_a_cluster_is_that_of_this_machine(cluster, monkeypatch, tmp_path, capsys):
    pytest.importorskip("plotly")
    address, _ = cluster
    monkeypatch.chdir(tmp_path)
    found = []
    for more in (["--workers", "1"], ["--scheduler", address]):
        assert explore.main(["--config", "tiny", "--block-sizes", "8", "--weight-bits", "8", *more]) == 0
        page = Path("build/explore-tiny/pareto.html").read_text(encoding="utf-8")
        points = re.search(r'id="designs">(.*?)</script>', page, re.DOTALL)
        assert points is not None
        found.append((capsys.readouterr().out, json.loads(points[1])["points"]))
    assert found[0] == found[1]
