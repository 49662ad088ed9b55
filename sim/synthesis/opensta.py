"""Static timing with OpenSTA: fan-out-of-four delay and longest paths.  Any error in its log fails the run."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from chessrnn.model.errors import MissingToolError
from chessrnn.model.files import write_atomic
from chessrnn.model.progress import elapsed
from chessrnn.sim.plain_path import plain_path
from chessrnn.sim.synthesis.liberty import Liberty, input_capacitance
from chessrnn.sim.synthesis.memory_macro import MemoryModel
from chessrnn.sim.synthesis.netlist import Netlist
from chessrnn.sim.synthesis.yosys import ToolError

PROGRAM = "sta"
SDC = Path(str(files("chessrnn.constraints") / "accelerator.sdc"))
UNITS = "set_cmd_units -time ns -capacitance pF -power mW"
FO4_STAGES = 12
_DEFAULT_WIRE_LOAD = re.compile(r"\bdefault_wire_load\w*\s*:[^;\n]*;?")
# A large design is timed with only this many instances of a module in each parent, the first and the last ones; the
# others are represented by the load of their inputs.
KEPT_INSTANCES = 2
FULL_TIMING_CELLS = 20_000
MAX_ENDPOINTS = 2_000_000


@dataclass(frozen=True)
class Endpoint:
    """Longest path to an endpoint: pins of start and end, seconds from one clock edge to the setup of the next."""

    start: str
    end: str
    delay: float


def available() -> bool:
    """Whether OpenSTA is installed."""
    return shutil.which(PROGRAM) is not None


def require_available() -> None:
    """Raise :class:`MissingToolError` unless OpenSTA is installed."""
    if not available():
        raise MissingToolError("OpenSTA (sta) must be installed for timing and power (Debian: apt-get install opensta)")


def version() -> str:
    """Version of the installed OpenSTA."""
    require_available()
    text = subprocess.run([PROGRAM, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return text.stdout.strip().split()[-1] if text.stdout.strip() else "unknown"


def run(commands: list[str], folder: Path, name: str, conversation: "Conversation | None" = None) -> str:
    """Run OpenSTA commands and return the log, which is also kept as ``<name>.log``.

    Parameters
    ----------
    conversation : Conversation, optional
        Further commands that depend on the first output, sent to the same process, which keeps the computed timing.

        Raises
        ------
        MissingToolError
            OpenSTA is not installed.
        ToolError
            OpenSTA reported an error.
    """
    require_available()
    script, log = folder / f"{name}.tcl", folder / f"{name}.log"
    more = conversation.commands if conversation else []
    script.write_text("\n".join([*commands, *more, "exit"]) + "\n", encoding="utf-8")
    with log.open("wb") as stream, elapsed(f"OpenSTA, {name}"):
        process = subprocess.Popen(
            [PROGRAM, "-no_init", "-no_splash", "-exit", str(script)],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
        try:
            if conversation:
                conversation.answer(process)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    # After an error OpenSTA continues with the rest of the design and exits with 0, so only its log shows the error.
    errors = [line for line in text.splitlines() if re.search(r"\bError\b|\berror:|invalid command", line)]
    if code or errors:
        message = errors[0] if errors else f"exit status {code}"
        raise ToolError(f"OpenSTA must finish without an error, not {message.strip()!r} (log: {log.resolve()})")
    return text


class Conversation:
    """Exchange with a running OpenSTA in which the first output decides the commands that follow.

    Parameters
    ----------
    folder : Path
        Folder for the files that carry the exchange.
    first : str
        Command whose output decides.
    follow : callable
        Function from the output of ``first`` to further commands.
    """

    def __init__(self, folder: Path, first: str, follow: Callable[[str], list[str]]):
        self._follow = follow
        self._output, self._ready, self._next = (folder / f"conversation.{end}" for end in ("txt", "ready", "tcl"))
        for path in (self._output, self._ready, self._next):
            path.unlink(missing_ok=True)
        self.commands = [
            f"{first} > {self._output}",
            f"close [open {self._ready} w]",
            f"while {{![file exists {self._next}]}} {{ after 20 }}",
            f"source {self._next}",
        ]

    def answer(self, process: subprocess.Popen) -> None:
        """Wait for the first output and send the commands that follow; returns at once when the process ends early."""
        while not self._ready.exists():
            if process.poll() is not None:
                return
            time.sleep(0.02)
        commands = self._follow(self._output.read_text(encoding="utf-8", errors="replace"))
        write_atomic(self._next, "\n".join(commands) + "\n")


def without_wire_load(liberty: Liberty) -> str:
    """The library's text without its default wire load, which OpenSTA adds to every net of a design."""
    return _DEFAULT_WIRE_LOAD.sub("", liberty.text)


def measure_fo4(liberty: Liberty, folder: Path) -> float:
    """Delay in seconds of the library's weakest inverter with four inverters of the same kind as its only load.

    It is measured on a chain of inverters, each with three more as dummy load, as the mean of a rising and a falling
    stage at its end, where the slope at the beginning no longer matters.  An FO4 has no wires, so the library's default
    wire load is removed.
    """
    plain = folder / "fo4.lib"
    plain.write_text(without_wire_load(liberty), encoding="latin-1")
    cell = liberty.inverter
    pin_in, pin_out = cell.inputs[0], cell.outputs[0]
    lines = ["module fo4(a, y);", "  input a;", "  output y;"]
    lines += [f"  wire s{i};" for i in range(1, FO4_STAGES + 2)]
    for stage in range(FO4_STAGES + 1):
        source = "a" if stage == 0 else f"s{stage}"
        lines.append(f"  {cell.name} main{stage} (.{pin_in}({source}), .{pin_out}(s{stage + 1}));")
        if stage:
            for dummy in range(3):
                lines.append(f"  wire d{stage}_{dummy};")
                lines.append(f"  {cell.name} load{stage}_{dummy} (.{pin_in}({source}), .{pin_out}(d{stage}_{dummy}));")
    lines.append(f"  {cell.name} last (.{pin_in}(s{FO4_STAGES + 1}), .{pin_out}(y));")
    netlist = folder / "fo4.v"
    netlist.write_text("\n".join([*lines, "endmodule", ""]), encoding="utf-8")
    text = run(
        [
            f"read_liberty {plain}", UNITS, f"read_verilog {netlist}", "link_design fo4",
            "create_clock -name clk -period 1", "set_input_delay 0 -clock clk [get_ports a]",
            "set_output_delay 0 -clock clk [get_ports y]",
            "report_checks -path_delay max_rise -format full -digits 6",
        ],
        folder,
        "fo4",
    )  # fmt: skip
    times = {int(n): float(t) for t, n in re.findall(rf"([\d.]+) [v^] main(\d+)/{re.escape(pin_out)} ", text)}
    if FO4_STAGES - 1 not in times:
        raise ToolError(f"OpenSTA must report the chain of inverters (log: {folder / 'fo4.log'})")
    return (times[FO4_STAGES - 1] - times[FO4_STAGES - 3]) / 2 * 1e-9


@dataclass(frozen=True)
class Setup:
    """Files that OpenSTA reads for a design."""

    plain: Path
    macros: Path
    verilog: Path
    top: str
    reduced: bool
    ports_fraction: float

    def commands(self, liberty: Liberty, period: float) -> list[str]:
        """OpenSTA commands that read the files and apply the constraints; ``period`` is in seconds."""
        driver = liberty.buffers[0]
        return [
            f"read_liberty {self.plain}",
            f"read_liberty {self.macros}",
            UNITS,
            f"read_verilog {self.verilog}",
            f"link_design {self.top}",
            f"set clock_period {period * 1e9:.6f}",
            f"set io_fraction {self.ports_fraction}",
            f"read_sdc {plain_path(SDC)}",
            f"set_driving_cell -lib_cell {driver.name} -pin {driver.outputs[0]} [all_inputs]",
            f"set_load {4e12 * input_capacitance(liberty.inverter):.6f} [all_outputs]",
        ]


def write_setup(
    netlist: Netlist, liberty: Liberty, plain: Path, memory: MemoryModel, folder: Path, ports_fraction: float
) -> Setup:
    """Write a design for OpenSTA, of a large one with only part of the instances (see :data:`KEPT_INSTANCES`)."""
    stub: dict[str, set[str]] = {}
    cells = netlist.areas(liberty)[netlist.top].cells
    if cells > FULL_TIMING_CELLS:
        stub = netlist.repeated_instances(KEPT_INSTANCES, liberty)
    macros, verilog = folder / "macros.lib", folder / "netlist.v"
    types = netlist.stubbed_types(stub, liberty)
    macros.write_text(memory.liberty_text(netlist, types), encoding="utf-8")
    verilog.write_text(netlist.verilog(liberty, lambda instance: "", stub), encoding="utf-8")
    return Setup(plain, macros, verilog, netlist.top, bool(stub), ports_fraction)


def longest_paths(
    setup: Setup, liberty: Liberty, period: float, folder: Path, choose: Callable[[list[Endpoint]], list[str]]
) -> dict[str, str]:
    """Find the longest path to every endpoint, and return OpenSTA's own report of those that are chosen.

    Parameters
    ----------
    choose : callable
        Function from all endpoints, longest path first, to the pins whose paths are to be reported cell by cell.

    Returns
    -------
    dict of str to str
        Report of the path to every chosen pin.
    """

    def follow(text: str) -> list[str]:
        found = re.findall(r"^(\S+) \([^)]*\) +(\S+) \([^)]*\) +(-?[\d.]+)$", text, re.MULTILINE)
        commands = []
        for pin in choose([Endpoint(start, end, period - float(slack) * 1e-9) for start, end, slack in found]):
            target = f"[get_pins {{{pin}}}]" if "/" in pin else f"[get_ports {{{pin}}}]"
            commands += [
                f'puts "@@ {pin}"',
                f"report_checks -path_delay max -to {target} -format full -fields {{capacitance slew}} -digits 4",
            ]
        return commands

    first = f"report_checks -path_delay max -format summary -digits 5 -group_count {MAX_ENDPOINTS}"
    text = run(setup.commands(liberty, period), folder, "timing", Conversation(folder, first, follow))
    parts = re.split(r"^@@ (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
