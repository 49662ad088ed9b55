"""Synthesis of a design or of one unit in one library, with reports in a folder that are reused if nothing changed."""

import hashlib
import json
import resource
from collections.abc import Callable
from pathlib import Path

from chessrnn.model.config import Config
from chessrnn.model.cost import area
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import make_folder, write_atomic
from chessrnn.model.text_file import read_json
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.plain_path import plain_path
from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.flow import Synthesis, synthesize
from chessrnn.sim.synthesis.library import Library
from chessrnn.sim.synthesis.results import report_values
from chessrnn.sim.synthesis.synthesis_report import html, markdown
from chessrnn.sim.synthesis.yosys import yosys_version

REPORT_FILE = "report.json"
# Modules of this package that decide figures; the others only present them.
SOURCES = (
    "flow", "job", "liberty", "library", "memory_macro", "netlist", "opensta", "results", "timing", "units", "yosys",
)  # fmt: skip
# Fraction of the clock period that the surrounding logic takes before the accelerator's inputs and after its outputs.
PORTS_FRACTION = 0.3


def tools() -> dict[str, str | None]:
    """Versions of the tools that decide the figures.

    Raises
    ------
    MissingToolError
        Yosys is not installed.
    """
    return {"pyosys": yosys_version(), "opensta": opensta.version() if opensta.available() else None}


def run_key(verilog: str, top: str, library: Library | None, target_fo4: float, clock_gates: bool) -> str:
    """Digest of everything that determines the figures."""
    digest = hashlib.sha256()
    own = [Path(__file__).with_name(f"{name}.py") for name in SOURCES]
    for source in (*own, opensta.SDC, Path(area.__file__)):
        digest.update(source.read_bytes())
    facts = [verilog, top, library.digest if library else None, target_fo4, clock_gates, tools()]
    digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


def folder_of(root: Path, config: Config, library: Library | None, clock_gates: bool = False) -> Path:
    """Folder of the reports of a design in a library."""
    design = f"{config.name}-{config.architecture.engine}-{config.fingerprint[:8]}"
    return root / "synthesis" / design / f"{library.name if library else 'generic'}{'-gated' * clock_gates}"


def earlier(folder: Path, key: str) -> dict | None:
    """Report of an earlier run with the same key, if there is one."""
    try:
        values = read_json(folder / REPORT_FILE)
    except InvalidFileError:
        return None
    return values if isinstance(values, dict) and values.get("key") == key else None


def run(
    config: Config,
    verilog: str,
    top: str,
    library: Library | None,
    target_fo4: float,
    folder: Path,
    whole: bool,
    progress: Callable[[str], None],
    clock_gates: bool = False,
) -> tuple[dict, Synthesis]:
    """Synthesize, write the reports, and return their values and the synthesized design."""
    key = run_key(verilog, top, library, target_fo4, clock_gates)
    with locked_folder(folder):
        place = plain_path(make_folder(folder).resolve())
        return _run(key, config, verilog, top, library, target_fo4, place, whole, progress, clock_gates)


def _run(
    key: str,
    config: Config,
    verilog: str,
    top: str,
    library: Library | None,
    target_fo4: float,
    folder: Path,
    whole: bool,
    progress: Callable[[str], None],
    clock_gates: bool,
) -> tuple[dict, Synthesis]:
    """Synthesize in a folder that this process has locked."""
    # An old report is removed first, so that an interrupted run does not leave it beside files of another run.
    (folder / REPORT_FILE).unlink(missing_ok=True)
    fraction = PORTS_FRACTION if whole else 0.0
    before = _cpu_seconds()
    result = synthesize(verilog, top, library, folder, target_fo4, fraction, progress, clock_gates)
    values = {"key": key, **report_values(result, config, target_fo4, whole)}
    values["cpu_seconds"] = round(_cpu_seconds() - before, 1)
    write(folder, values)
    return values, result


def _cpu_seconds() -> float:
    """Processor time in seconds so far of this program and of the tools that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def write(folder: Path, values: dict) -> None:
    """Write ``report.json`` and its readable forms ``report.md`` and ``report.html``."""
    write_atomic(folder / "report.md", markdown(values))
    write_atomic(folder / "report.html", html(values))
    write_atomic(folder / REPORT_FILE, json.dumps(values, indent=1) + "\n")
