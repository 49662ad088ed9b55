"""Set-up on machines that lack programs: what is said, what is installed, and which tests still run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chessrnn.scripts import set_up

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {program.name: program.package for program in set_up.PROGRAMS}
# Puts an empty program of each package's name into the folder of PATH, and leaves the call in a file.
APT_GET = """\
#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> "$PATH/calls"
for word; do
    case "$word" in
        opensta) name=sta ;;
        -*|update|install) continue ;;
        lacking|g++) echo "E: Unable to locate package $word"; exit 100 ;;
        *) name="$word" ;;
    esac
    : > "$PATH/$name"; /bin/chmod +x "$PATH/$name"
done
"""
# As the real one with the option -n, for a user who may do everything.
SUDO = '#!/bin/sh\nshift\nexec "$@"\n'
# Tests with every marker of needs, and one without.
TESTS = """\
import shutil
import pytest

@pytest.mark.needs("icarus")
def test_icarus():
    assert shutil.which("iverilog")

@pytest.mark.needs("opensta", "verilator")
def test_netlist():
    assert shutil.which("sta") and shutil.which("g++") and not shutil.which("iverilog")

def test_plain():
    assert not any(map(shutil.which, ("iverilog", "sta", "g++", "perl", "make")))

@pytest.mark.slow
def test_long():
    pass
"""


def write_program(folder: Path, name: str, text: str = "#!/bin/sh\n") -> None:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path):
    """A function: a folder to be PATH, with every program but some, and what else is named."""

    def make(lacking: set[str], **more: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "env").symlink_to(shutil.which("env"))
        for name in PROGRAMS.keys() - lacking:
            write_program(folder, name)
        for name, text in more.items():
            write_program(folder, name.replace("_", "-"), text)
        return folder

    return make


def run(path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run ``set_up.py``, as a fresh machine's Python would, outside of any package."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "REQUIRE_ALL")}
    return subprocess.run(
        [sys.executable, "-I", str(ROOT / "scripts" / "set_up.py"), *arguments],
        env=kept | environment | {"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_said_where_nothing_is_missing(machine):
    done = run(machine(set()), "programs", "--install", "--optional")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_missing_program_is_named_with_its_package(machine, name):
    path = machine({name})
    done = run(path, "programs", "--install", "--optional")
    assert done.returncode == 0
    assert f"missing: {name} (" in done.stderr
    assert f"they come with: apt-get install {PROGRAMS[name]} " in done.stderr
    # Without a note, everything must be there.
    expected = f"make: error: {name} must be installed (Debian: apt-get install {PROGRAMS[name]})\n"
    done = run(path, "programs", "--install")
    assert (done.returncode, done.stderr) == (2, expected)


@pytest.mark.parametrize("variable", [{"CI": "true"}, {"REQUIRE_ALL": "1"}])
def test_continuous_integration_needs_every_program(machine, variable):
    done = run(machine({"sta", "perl"}), "programs", "--install", "--optional", **variable)
    expected = "make: error: sta, perl must be installed (Debian: apt-get install opensta perl)\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_only_programs_of_the_tools_asked_for(machine):
    path = machine({"sta", "iverilog"})
    assert run(path, "programs", "verilator").returncode == 0
    done = run(path, "programs", "verilator", "icarus")
    assert done.returncode == 2 and done.stderr.startswith("make: error: iverilog must be installed (")


def test_installs_where_it_may(machine):
    path = machine({"sta", "iverilog"}, apt_get=APT_GET, sudo=SUDO)
    done = run(path, "programs", "--install", "--optional", CI="true")
    assert done.returncode == 0
    assert "installing system programs: iverilog (" in done.stderr and "sta (" in done.stderr
    update, install = (path / "calls").read_text(encoding="utf-8").splitlines()
    assert update.startswith("noninteractive") and update.endswith("update")
    assert install.endswith("install -y --no-install-recommends iverilog opensta")


def test_installs_the_rest_where_a_package_is_unknown(machine):
    path = machine({"sta", "g++"}, apt_get=APT_GET, sudo=SUDO)
    done = run(path, "programs", "--install", "--optional")
    assert done.returncode == 0 and (path / "sta").exists()
    assert "E: Unable to locate package g++" in done.stderr
    assert "missing: g++ (" in done.stderr


@pytest.mark.parametrize(
    ("user", "programs", "expected"),
    [
        (0, {"apt_get": ""}, []),
        (0, {}, None),
        (1000, {"apt_get": ""}, None),
        (1000, {"apt_get": "", "sudo": SUDO}, ["sudo", "-n"]),
        (1000, {"apt_get": "", "sudo": "#!/bin/sh\necho a password is required >&2; exit 1\n"}, None),
    ],
)
def test_who_may_install(machine, monkeypatch, user, programs, expected):
    path = machine(set(), **programs)
    (path / "true").symlink_to(shutil.which("true"))
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert set_up.privilege() == expected


@pytest.mark.parametrize(
    "arguments", [["programs", "sta"], ["programs", "--now"], ["packages", "--all"], ["pip", "26"], ["all"]]
)
def test_usage(machine, arguments):
    done = run(machine(set()), *arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: set_up.py")


@pytest.fixture
def run_tests(tmp_path):
    """A function: a run of the tests above under this project's settings, with a PATH and options."""
    folder = tmp_path / "tests"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_needs.py").write_text(TESTS, encoding="utf-8")

    def call(path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
        kept = {name: value for name, value in os.environ.items() if name not in ("CI", "REQUIRE_ALL")}
        kept = {name: value for name, value in kept.items() if not name.startswith("PYTEST_")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder, *options, folder],
            env=kept | environment | {"PATH": str(path)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_every_test_runs_with_every_program(machine, run_tests):
    done = run_tests(machine(set()))
    assert done.returncode == 0, done.stdout
    assert " 4 passed" in done.stdout and done.stdout.endswith("\nevery selected test ran\n")


def test_the_last_line_counts_what_did_not_run(machine, run_tests):
    done = run_tests(machine({"g++", "iverilog"}), "-m", "not slow")
    assert done.returncode == 0 and " 1 passed, 2 skipped" in done.stdout, done.stdout
    missing = "1 test without g++ (apt-get install g++); 1 test without iverilog (apt-get install iverilog)"
    assert done.stdout.endswith(f"\nnot run: {missing}; 1 slow test (make test-slow runs them)\n")


def test_continuous_integration_skips_nothing(machine, run_tests):
    done = run_tests(machine({"sta", "iverilog"}), CI="true")
    assert done.returncode == 1 and " 2 passed, 2 errors" in done.stdout
    assert "without sta (apt-get install opensta)" in done.stdout


def test_a_file_has_a_line_where_tests_run_side_by_side(machine, run_tests):
    done = run_tests(machine({"sta"}), "-n", "1", "-m", "not slow")
    assert done.returncode == 0, done.stdout
    assert " 100 %  test_needs.py: 2 passed, 1 skipped in " in done.stdout
    last = "not run: 1 test without sta (apt-get install opensta); 1 slow test (make test-slow runs them)"
    assert done.stdout.endswith(f"\n{last}\n")
