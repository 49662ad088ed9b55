"""Mutation testing: plant one error at a time in a copy of the sources, and see whether the tests notice.

``hdl.toml`` lists errors of the hardware by hand.  Errors of the arithmetic, the schedule and the file formats in
``model/`` are made from the sources in ``model.toml``: another comparison, operator or number in one place.  Both files
give the reason for every error that no test notices.

usage: make mutants [ARGS="--only TEXT"] [ARGS="--sample N --seed S"] [ARGS=--list]
"""

import argparse
import ast
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The share of the errors that tests must notice; those that change nothing at all do not count.
GOAL = 0.95
# Tests that take longer hang, which is noticed as well.
HANG_SECONDS = 900.0
KILLED, HANGS, SURVIVED, BROKEN = "killed", "hangs", "survived", "broken"
# Packages of which the copy consists, and their names in the package chessrnn.
PACKAGES = ("constraints", "hdl", "model", "scripts", "sim")
COPIED = (*PACKAGES, "tests", "docs", "pyproject.toml", "requirements.lock", "Makefile", "README.md")


@dataclass(frozen=True)
class Mutant:
    """One planted error.

    Attributes
    ----------
    name : str
        Short name, unique among all.
    file : str
        Path of the source from the top of the tree.
    start, end : int
        Characters of the source that are replaced.
    new : str
        Text in their place.
    tests : tuple of str
        Arguments of pytest for the tests that should notice it.
    why : str
        Reason why no test can or need notice it; empty where one must.
    equivalent : bool
        Whether the changed program does the same for all inputs, so that the error is none.
    """

    name: str
    file: str
    start: int
    end: int
    new: str
    tests: tuple[str, ...]
    why: str = ""
    equivalent: bool = False

    def applied(self, source: str) -> str:
        """The source with the error."""
        return source[: self.start] + self.new + source[self.end :]

    def digest(self, source: str) -> str:
        """Digest of the source with the error and of the tests' names, by which an earlier result is known again."""
        return hashlib.sha256("\0".join([self.applied(source), *self.tests]).encode()).hexdigest()[:16]


# -- errors by hand --------------------------------------------------------------------------------------------


def listed(path: Path, root: Path = ROOT) -> list[Mutant]:
    """Errors of a file with tables ``mutant``, each with the old text, which must be unique in its source.

    Raises
    ------
    ValueError
        A text is not in its source exactly once, or a name is used twice.
    """
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    tests = {name: tuple(arguments) for name, arguments in values["tests"].items()}
    found = []
    for entry in values["mutant"]:
        source = (root / entry["file"]).read_text(encoding="utf-8")
        count = source.count(entry["old"])
        if count != 1:
            raise ValueError(
                f"{path.name}: old text of {entry['name']} must be in {entry['file']} once, not {count} times"
            )
        start = source.index(entry["old"])
        end = start + len(entry["old"])
        note = {"why": entry.get("why", ""), "equivalent": entry.get("equivalent", False)}
        found.append(Mutant(entry["name"], entry["file"], start, end, entry["new"], tests[entry["tests"]], **note))
    _require_unique(found)
    return found


def _require_unique(mutants: list[Mutant]) -> None:
    names = [mutant.name for mutant in mutants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names must be unique, not {', '.join(twice)}")


# -- errors made from the sources ------------------------------------------------------------------------------

COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
OPERATORS = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "+", ast.LShift: ">>",
    ast.RShift: "<<", ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "|",
}  # fmt: skip


def made(path: Path, root: Path = ROOT) -> list[Mutant]:
    """Errors in all sources of a file with tables ``source``; ``unnoticed`` gives the reasons for those not noticed.

    Raises
    ------
    ValueError
        ``unnoticed`` names an error that does not exist.
    """
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    reasons = {entry["name"]: entry for entry in values.get("unnoticed", ())}
    found = []
    for source in values["source"]:
        text = (root / source["file"]).read_text(encoding="utf-8")
        for name, start, end, new in _changes(text):
            full = f"{source['file']}:{name}"
            entry = reasons.pop(full, {})
            note = {"why": entry.get("why", ""), "equivalent": entry.get("equivalent", False)}
            found.append(Mutant(full, source["file"], start, end, new, tuple(source["tests"]), **note))
    if reasons:
        raise ValueError(f"{path.name}: unnoticed must name errors that exist, not {', '.join(reasons)}")
    _require_unique(found)
    return found


def _changes(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Name, first and last character, and new text of every change of a source."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    encoded = text.encode()

    def place(line: int, column: int) -> int:
        return len(encoded[: starts[line - 1] + column].decode())

    def begin(node) -> int:
        return place(node.lineno, node.col_offset)

    def end(node) -> int:
        return place(node.end_lineno, node.end_col_offset)

    seen: dict[str, int] = {}
    for scope, node, around in _nodes(ast.parse(text), ()):
        for first, last, old, new in _changes_of(node, text, begin, end):
            named = around if isinstance(node, ast.Constant) and isinstance(around, ast.expr) else node
            words = " ".join(text[begin(named) : end(named)].split())
            name = f"{'.'.join(scope) or 'module'}: {words if len(words) <= 60 else words[:57] + '...'}, {old} as {new}"
            seen[name] = seen.get(name, 0) + 1
            yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), first, last, new


def _nodes(node, scope: tuple[str, ...]) -> Iterator:
    """Nodes with the names and the node around them; without annotations, messages, assertions and docstrings."""
    skipped = (ast.Raise, ast.Assert, ast.JoinedStr)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, skipped):
                inner = scope
                if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                    inner = (*scope, child.name)
                yield inner, child, node
                yield from _nodes(child, inner)


def _changes_of(node, text: str, begin, end) -> Iterator[tuple[int, int, str, str]]:
    """First and last character, old and new text of every change of one node."""
    if isinstance(node, ast.Compare):
        for left, kind, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            if type(kind) in COMPARISONS:
                yield _operator(text, end(left), begin(right), COMPARISONS[type(kind)])
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield _operator(text, end(node.left), begin(node.right), OPERATORS[type(node.op)])
    elif isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        first, last, old, _ = _operator(text, end(node.target), begin(node.value), "")
        yield first, last, old, OPERATORS[type(node.op)] + "="
    elif isinstance(node, ast.BoolOp):
        new = "or" if isinstance(node.op, ast.And) else "and"
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield _operator(text, end(left), begin(right), new)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield begin(node), begin(node.operand), "not", ""
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield begin(node), end(node), text[begin(node) : end(node)], str(node.value + 1)


def _operator(text: str, after: int, before: int, new: str) -> tuple[int, int, str, str]:
    """Place and text of the operator between two operands, which may be in parentheses."""
    found = re.search(r"(<=|>=|==|!=|<<|>>|//|\*\*|[-+*/%&|^<>]=?|\band\b|\bor\b)", text[after:before])
    return after + found.start(), after + found.end(), found[0], new


# -- runs ------------------------------------------------------------------------------------------------------


@dataclass
class Order:
    """Order of tests in which an error is noticed soon.

    Attributes
    ----------
    seconds : dict
        Time of each test that passed before, by its name.
    noticed : dict
        By source, how often each test noticed an error there.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    noticed: dict[str, dict[str, int]] = field(default_factory=dict)

    def note(self, file: str, test: str) -> None:
        """Remember that a test noticed an error of a source."""
        counts = self.noticed.setdefault(file, {})
        counts[test] = counts.get(test, 0) + 1

    def key(self, file: str, test: str) -> float:
        """Seconds that a test is expected to take for an error that it notices; unknown ones come first."""
        # One error more than it noticed, so that a quick test comes before a slow one that noticed a few.
        return self.seconds.get(test, 0.0) / (1 + 10 * self.noticed.get(file, {}).get(test, 0))


class OrderPlugin:
    """Plugin of pytest that sorts the tests, stops at failures, and writes the time of each that passes into a file."""

    def __init__(self, order: Order, file: str, times: Path):
        self.order, self.file, self.times = order, file, times
        self.seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        """Let hypothesis stop at its first failing example: to shrink it takes minutes, and nobody reads it."""
        from hypothesis import Phase, settings

        settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items) -> None:
        """Sort the tests; those that would take as long keep their places."""
        items.sort(key=lambda item: self.order.key(self.file, item.nodeid))

    def pytest_runtest_logreport(self, report) -> None:
        """Keep the time of a test."""
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = report.duration

    def pytest_sessionfinish(self) -> None:
        """Write the times."""
        self.times.write_text(json.dumps(self.seconds), encoding="utf-8")


class Copy:
    """A copy of the tree in which errors are planted; the tree itself is never changed."""

    def __init__(self, folder: Path):
        self.tree, self.packages = folder / "tree", folder / "packages"
        self.log, self.times, self.order = folder / "log", folder / "times.json", Order()
        self.passing: set[str] = set()
        self._time = int(time.time()) - 1_000_000
        self.tree.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, self.tree / name)
        package = self.packages / "chessrnn"
        package.mkdir(parents=True)
        for path in (self.tree / "scripts" / "api").iterdir():
            (package / path.name).symlink_to(path)
        for name in PACKAGES:
            (package / name).symlink_to(self.tree / name)

    def write(self, file: str, text: str) -> None:
        """Write a source with a time of its own, by which Python knows that its compiled form is old."""
        path = self.tree / file
        path.write_text(text, encoding="utf-8")
        self._time += 1
        os.utime(path, (self._time, self._time))

    def require_passing(self, test: str) -> None:
        """Run one test, or collect those of a file, without an error; each is run once.

        Raises
        ------
        SystemExit
            It fails, so that it says nothing about errors.
        """
        if test in self.passing:
            return
        verdict, _ = self.test((test,) if "::" in test else (test, "--collect-only"), "", HANG_SECONDS)
        if verdict != SURVIVED:
            sys.exit(f"mutants: error: {test} must pass without an error:\n{self.log.read_text(errors='replace')}")
        self.passing.add(test)

    def test(self, arguments: tuple[str, ...], file: str, seconds: float = HANG_SECONDS) -> tuple[str, float]:
        """Run tests in a child of this process, which has imported the large packages; verdict and seconds."""
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._run_tests(arguments, file)
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                if self.times.exists():
                    self.order.seconds |= json.loads(self.times.read_text(encoding="utf-8"))
                verdict = {0: SURVIVED, 1: KILLED}.get(code, KILLED if code == 2 or code < 0 else BROKEN)
                return verdict, time.monotonic() - began
            if time.monotonic() - began > seconds:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return HANGS, time.monotonic() - began
            time.sleep(0.02)

    def _run_tests(self, arguments: tuple[str, ...], file: str) -> None:
        """Become a process that runs pytest and ends."""
        code = 99
        try:
            os.setpgid(0, 0)
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.tree)
            sys.path.insert(0, str(self.packages))
            os.environ["PYTHONPATH"] = str(self.packages)
            # Errors are noticed without simulators, which the tests would otherwise hide from each other in every run.
            os.environ["PATH"] = str(Path(sys.executable).parent)
            # A test that is killed leaves its temporary files here, where they are removed.
            os.environ["TMPDIR"] = tempfile.tempdir = str(self.packages.parent)
            import pytest

            plugin = OrderPlugin(self.order, file, self.times)
            # Packages that were imported before this run keep their assertions as they are.
            quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
            code = int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *quiet, *arguments], [plugin]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)


def preload() -> None:
    """Import what tests import and no error changes, once for all runs."""
    import amaranth.sim  # noqa: F401
    import hypothesis.extra.numpy  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401


def chosen(args: argparse.Namespace) -> list[Mutant]:
    """Errors that the arguments choose, in the order of their sources."""
    mutants = [*listed(HERE / "hdl.toml"), *made(HERE / "model.toml")]
    if args.only:
        mutants = [mutant for mutant in mutants if args.only in mutant.name or args.only in mutant.file]
    if args.sample is not None and args.sample < len(mutants):
        keep = set(random.Random(args.seed).sample(range(len(mutants)), args.sample))
        mutants = [mutant for number, mutant in enumerate(mutants) if number in keep]
    return mutants


def run(mutants: list[Mutant], results_file: Path) -> list[dict]:
    """Run every error's tests, and keep the results in a file as they come, beside those of other errors there.

    Errors that tests noticed before, as the file says, are not planted again while their sources are the same.
    """
    preload()
    results: list[dict] = []
    before = _read_results(results_file)
    known = {result["digest"]: result for result in before if result["verdict"] in (KILLED, HANGS)}
    names = {mutant.name for mutant in mutants}
    others = [result for result in before if result["name"] not in names]
    with tempfile.TemporaryDirectory(prefix="chessrnn-mutants-") as folder:
        copy = Copy(Path(folder))
        for number, mutant in enumerate(mutants, 1):
            # Of the copy, as the tree may be edited in the meantime.
            source = (copy.tree / mutant.file).read_text(encoding="utf-8")
            digest = mutant.digest(source)
            if digest in known:
                results.append(known[digest])
                continue
            copy.write(mutant.file, mutant.applied(source))
            verdict, seconds = copy.test(mutant.tests, mutant.file)
            copy.write(mutant.file, source)
            text = copy.log.read_text(errors="replace")
            noticed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
            test = noticed[1] if noticed else ""
            if test:
                copy.order.note(mutant.file, test)
                copy.require_passing(test)
            results.append(
                {
                    "name": mutant.name, "file": mutant.file, "verdict": verdict, "seconds": round(seconds, 1),
                    "test": test, "why": mutant.why, "equivalent": mutant.equivalent, "digest": digest,
                }
            )  # fmt: skip
            print(f"{number}/{len(mutants)}  {verdict}  {seconds:.0f} s  {mutant.name}", file=sys.stderr, flush=True)
            results_file.parent.mkdir(parents=True, exist_ok=True)
            results_file.write_text(json.dumps([*others, *results], indent=1) + "\n", encoding="utf-8")
    return results


def _read_results(results_file: Path) -> list[dict]:
    """Results of an earlier run; none where there is no such file."""
    try:
        return json.loads(results_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []


def table(results: list[dict]) -> str:
    """Markdown: per source the numbers of errors, those noticed and not noticed, and every survivor with its reason."""
    lines = ["| source | errors | noticed | not noticed | without effect |", "|---|---|---|---|---|"]
    for file in sorted({result["file"] for result in results}):
        own = [result for result in results if result["file"] == file]
        lines.append(f"| `{file}` | {len(own)} | {' | '.join(str(count) for count in _counts(own))} |")
    lines.append(f"| all | {len(results)} | {' | '.join(str(count) for count in _counts(results))} |")
    lines += ["", "| not noticed | reason |", "|---|---|"]
    for result in results:
        if result["verdict"] not in (KILLED, HANGS):
            name = result["name"].replace("|", "\\|")
            lines.append(f"| `{name}` | {result['why'] or 'none is known: write a test'} |")
    return "\n".join(lines)


def _counts(results: list[dict]) -> tuple[int, int, int]:
    """Errors that are noticed, not noticed, and without any effect."""
    noticed = sum(result["verdict"] in (KILLED, HANGS) for result in results)
    idle = sum(result["equivalent"] and result["verdict"] not in (KILLED, HANGS) for result in results)
    return noticed, len(results) - noticed - idle, idle


def main(argv: list[str] | None = None) -> int:
    """Run the chosen errors and print the table; 1 where too many or unexplained ones are not noticed."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="TEXT", help="only errors whose name or source contains the text")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of them, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="seed of --sample; default 1")
    parser.add_argument("--list", action="store_true", help="print the names, and run nothing")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("build/mutants.json"),
        help="file of the results; default build/mutants.json",
    )
    args = parser.parse_args(argv)
    mutants = chosen(args)
    if args.list:
        print("\n".join(mutant.name for mutant in mutants))
        return 0
    results = run(mutants, args.results)
    print(table(results))
    noticed, missed, idle = _counts(results)
    share = noticed / max(1, noticed + missed)
    unexplained = [
        result["name"] for result in results if result["verdict"] not in (KILLED, HANGS) and not result["why"]
    ]
    explained = [result["name"] for result in results if result["verdict"] in (KILLED, HANGS) and result["why"]]
    print(f"\n{noticed} of {noticed + missed} errors noticed ({100 * share:.1f} %), {idle} without effect")
    for name in unexplained:
        print(f"mutants: {name} is not noticed, and no reason is given", file=sys.stderr)
    for name in explained:
        print(f"mutants: {name} is noticed: its reason can go", file=sys.stderr)
    return 1 if unexplained or share < GOAL else 0


if __name__ == "__main__":
    sys.exit(main())
