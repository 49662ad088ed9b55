"""The list of planted errors fits the sources, and the runner tells noticed errors from others."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "mutants"
ROOT = FOLDER.parents[1]


def load_runner():
    """The runner is a program, and no module of the package."""
    spec = importlib.util.spec_from_file_location("mutants_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


runner = load_runner()


def test_every_listed_error_is_in_its_source_once():
    # ``listed`` raises for an old text that is not there, or is there twice.
    mutants = runner.listed(FOLDER / "hdl.toml")
    assert len(mutants) >= 60
    for mutant in mutants:
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert mutant.applied(source) != source
        compile(mutant.applied(source), mutant.file, "exec")


def test_every_made_error_is_a_program():
    # ``made`` raises for a reason that belongs to no error.
    mutants = runner.made(FOLDER / "model.toml")
    files = {f"model/{name}.py" for name in ("fixed_point", "schedule", "widths/sums")}
    assert {mutant.file for mutant in mutants} >= files
    for mutant in mutants[:: len(mutants) // 50]:
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        compile(mutant.applied(source), mutant.file, "exec")


def test_tests_of_errors_exist():
    for mutant in [*runner.listed(FOLDER / "hdl.toml"), *runner.made(FOLDER / "model.toml")]:
        files = [argument for argument in mutant.tests if argument.startswith("tests/")]
        assert files
        assert all((ROOT / file).is_file() for file in files), mutant.tests


SOURCE = """\
def f(a: int, b=2) -> int:
    'Not 1 error in 1 docstring.'
    if a < 3 and not b:
        raise ValueError(f"{a + 1}")
    return (a) + (b) * 2
"""


def test_changes_of_a_source():
    found = {SOURCE[:start] + new + SOURCE[end:] for _, start, end, new in runner._changes(SOURCE)}
    lines = SOURCE.splitlines()
    changed = sorted(
        after for text in found for before, after in zip(lines, text.splitlines(), strict=True) if before != after
    )
    assert changed == sorted(
        [
            "def f(a: int, b=3) -> int:",
            "    if a <= 3 and not b:",
            "    if a < 4 and not b:",
            "    if a < 3 or not b:",
            "    if a < 3 and b:",
            "    return (a) - (b) * 2",
            "    return (a) + (b) + 2",
            "    return (a) + (b) * 3",
        ]
    )


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree of one module, with a test that sees an error in one of its two functions."""
    for name in ("hdl", "model", "sim", "scripts/api", "constraints"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "model" / "sums.py").write_text(
        "def seen(a):\n    return a + 1\n\n\ndef unseen(a):\n    return a - 1\n"
    )
    (tmp_path / "tests" / "test_sums.py").write_text(
        "from chessrnn.model.sums import seen\n\n\ndef test_seen():\n    assert seen(3) == 4\n"
    )
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    return tmp_path


MUTANTS = """\
[tests]
sums = ["tests/test_sums.py"]

[[mutant]]
name = "seen"
file = "model/sums.py"
old = "a + 1"
new = "a + 2"
tests = "sums"

[[mutant]]
name = "unseen"
file = "model/sums.py"
old = "a - 1"
new = "a - 2"
tests = "sums"
"""


RUN = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import run
run.ROOT = tree = Path(sys.argv[2])
run.run(run.listed(tree / "list.toml", tree), tree / "results.json")
"""


@pytest.mark.slow
def test_errors_are_noticed_or_not(tree):
    (tree / "list.toml").write_text(MUTANTS)
    # In a process of its own, which has not imported the package.
    subprocess.run([sys.executable, "-c", RUN, str(FOLDER), str(tree)], check=True, stderr=subprocess.DEVNULL)
    results = json.loads((tree / "results.json").read_text())
    assert [(result["name"], result["verdict"]) for result in results] == [("seen", "killed"), ("unseen", "survived")]
    assert results[0]["test"] == "tests/test_sums.py::test_seen"
    # The tree itself is as before.
    assert "a + 1" in (tree / "model" / "sums.py").read_text()
    table = runner.table(results)
    assert "| `model/sums.py` | 2 | 1 | 1 | 0 |" in table
    assert "| `unseen` | none is known: write a test |" in table


def test_tests_that_notice_soon_come_first():
    order = runner.Order(seconds={"slow": 4.0, "quick": 0.1, "other": 1.0})
    names = ["slow", "other", "unknown", "quick"]
    assert sorted(names, key=lambda name: order.key("a.py", name)) == ["unknown", "quick", "other", "slow"]
    order.note("a.py", "other")
    assert sorted(names, key=lambda name: order.key("a.py", name)) == ["unknown", "other", "quick", "slow"]
    # What noticed errors of one source says nothing about another.
    assert sorted(names, key=lambda name: order.key("b.py", name)) == ["unknown", "quick", "other", "slow"]


def test_a_list_that_does_not_fit_is_rejected(tree):
    path = tree / "list.toml"
    path.write_text(MUTANTS.replace('old = "a - 1"', 'old = "a"'))
    with pytest.raises(ValueError, match="old text of unseen must be in model/sums.py once, not "):
        runner.listed(path, tree)
    path.write_text(MUTANTS.replace('name = "unseen"', 'name = "seen"'))
    with pytest.raises(ValueError, match="names must be unique, not seen"):
        runner.listed(path, tree)
    path.write_text('[[source]]\nfile = "model/sums.py"\ntests = []\n\n[[unnoticed]]\nname = "other"\nwhy = "none"\n')
    with pytest.raises(ValueError, match="unnoticed must name errors that exist, not other"):
        runner.made(path, tree)
