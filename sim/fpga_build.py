"""Build of a bitstream from a device's Verilog with open tools: Yosys, nextpnr and the packers of their projects.

Every stage stores its product in the build directory beside a digest of its sources, so that an interrupted build
continues where it stopped.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chessrnn.hdl.device.board_platform import platform_of
from chessrnn.hdl.device.board_top import BoardTop
from chessrnn.hdl.device.device import FPGA_MODULE
from chessrnn.hdl.device.pll import pll_for
from chessrnn.model.boards import Board
from chessrnn.model.boards import FpgaPart as Part
from chessrnn.model.errors import InvalidFileError, MissingToolError, UserError, require
from chessrnn.model.files import provide_cache_folder, write_atomic
from chessrnn.model.link.frames import LinkConfig
from chessrnn.model.text_file import read_json
from chessrnn.model.weights import NetworkWeights
from chessrnn.sim.device_simulation import DEVICE_FILE, device_texts
from chessrnn.sim.fpga_cells import end_carries, fpga_cells
from chessrnn.sim.fpga_families import FAMILIES
from chessrnn.sim.manifest import CONFIG_FILE, file_digest

TOP = "top"
REPORT_FILE = "report.json"
NETLIST_FILE = "netlist.v"
CELLS_FILE = "fpga_cells.v"
POLL_SECONDS = 1.0
# Yosys runs in a process of its own, because it prints to file descriptor 1 and must be interruptible.
YOSYS_DRIVER = """\
import sys
from pyosys import libyosys as ys
design = ys.Design()
for command in sys.argv[1:]:
    ys.run_pass(command, design)
"""
RESOURCE_NAMES = {"luts": "LUT", "ffs": "FF", "brams": "BRAM", "dsps": "DSP"}


class BuildError(UserError):
    """A tool failed on the design."""


@dataclass(frozen=True)
class Utilisation:
    """Resources that a design uses (``luts``, ``ffs``, ``brams``, ``dsps``), beside those of the part."""

    used: dict
    part: Part

    def available(self, name: str) -> int:
        """Number of resources of a kind that the part has."""
        return getattr(self.part, name)

    @property
    def excess(self) -> dict:
        """Missing number of every resource of which the part has too few."""
        return {name: n - self.available(name) for name, n in self.used.items() if n > self.available(name)}

    def to_dict(self) -> dict:
        """Plain JSON values with percentages."""
        return {
            RESOURCE_NAMES[name]: {
                "used": used,
                "available": self.available(name),
                "percent": round(100 * used / self.available(name), 1) if self.available(name) else None,
            }
            for name, used in self.used.items()
        }


def python_tool(module: str) -> None:
    """Report early that a package of the extra ``fpga`` is missing."""
    try:
        __import__(module)
    except ImportError:
        raise MissingToolError(f"package {module.replace('_', '-')} must be installed (make fpga does)") from None


def tool(name: str) -> str:
    """Path of a program that a package of the extra ``fpga`` installed beside this Python."""
    provide_cache_folder()
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        raise MissingToolError(f"{name} must be installed (make fpga does)")
    return path


def run_tool(command: list[str], log: Path, folder: Path, note: Callable[[str], None] = lambda text: None) -> float:
    """Run a program in ``folder`` with its output in ``log``, and return the seconds that it took.

    Parameters
    ----------
    note : callable
        Called about once per second with the log's last line.

    Raises
    ------
    BuildError
        The program failed; the message contains its own error lines.
    """
    started = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    note(_last_line(log))
        except BaseException:
            process.kill()
            process.wait()
            raise
    if status:
        complaints = [line for line in _lines(log) if "ERROR" in line.upper()] or _lines(log)[-3:]
        raise BuildError(f"{Path(command[0]).name} must succeed, not fail with {' '.join(complaints[-3:])!r} ({log})")
    return time.monotonic() - started


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()


def _last_line(log: Path) -> str:
    size = log.stat().st_size
    with open(log, "rb") as stream:
        stream.seek(max(0, size - 400))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return lines[-1].strip() if lines else ""


def yosys(commands: list[str], log: Path, folder: Path, note=lambda text: None) -> float:
    """Run Yosys, and return the seconds that it took."""
    python_tool("pyosys")
    return run_tool([sys.executable, "-c", YOSYS_DRIVER, *commands], log, folder, note)


def cell_counts(statistics: Path) -> dict[str, int]:
    """Number of cells of every type, from Yosys's ``stat -json``."""
    text = statistics.read_text(encoding="utf-8")
    return json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]


class BoardBuild:
    """Build of one device for one board.

    Parameters
    ----------
    weights : NetworkWeights
        Weights with their configuration.
    board : Board
        Board that the bitstream is for.
    link : LinkConfig
        Clock of the device and timing of its serial line.
    folder : Path
        Directory of the build.
    seed : int
        Seed of the placement.
    progress : callable
        Called with one line about the present stage, and true where the next line may replace it.
    """

    def __init__(self, weights: NetworkWeights, board: Board, link: LinkConfig, folder: Path, seed: int, progress):
        self.weights, self.board, self.link, self.folder = weights, board, link, folder
        self.family = FAMILIES[board.part.family]
        self.seed, self.progress = seed, progress
        self.seconds: dict[str, float] = {}

    # -- stages ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write every source of the build."""
        pll_for(self.board, self.link.clock_hz)  # rejects a bad clock before anything is written
        platform = platform_of(self.board)
        texts = device_texts(self.weights, self.link)
        platform.add_file(DEVICE_FILE, texts[DEVICE_FILE])
        cells = fpga_cells(texts[DEVICE_FILE], self.board.part.family)
        if cells:
            texts[CELLS_FILE] = cells
            platform.add_file(CELLS_FILE, cells)
        plan = platform.prepare(
            BoardTop(self.board, self.link.clock_hz),
            TOP,
            emit_src=False,
            # Modules of the second file replace those of the first.
            read_verilog_opts="-defer -overwrite" if cells else "-defer",
            synth_opts=self.family.synthesis_options if self.board.part.dsps else "",
            nextpnr_opts=f"--seed {self.seed} --router {self.board.router} --report {TOP}.placed.json"
            " --timing-allow-fail",
        )
        self._commands = [command for command in json.loads(plan.files[f"build_{TOP}.json"])["commands"]]
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in {**texts, **plan.files}.items():
            content = text.encode() if isinstance(text, str) else text
            path = self.folder / name
            if not path.exists() or path.read_bytes() != content:
                write_atomic(path, content)
        # The tools do not read the configuration, so a change of it alone needs no new build.
        texts.pop(CONFIG_FILE)
        self._sources = [
            *texts,
            *(name for name in plan.files if name.endswith((".il", ".ys", ".lpf", ".pcf", ".cst"))),
        ]

    def synthesize(self) -> Utilisation:
        """Synthesize with Yosys: the resources of the design before it is placed."""
        product, stat = self.folder / self._netlist, self.folder / f"{TOP}.cells.json"
        self._stage(
            "synthesis",
            [product, stat],
            self._digest(self._sources),
            self._synthesize,
        )
        return Utilisation(self.family.synthesized(cell_counts(stat)), self.board.part)

    def _synthesize(self, note: Callable) -> float:
        commands = [f"script {TOP}.ys", f"tee -q -o {TOP}.cells.json stat -json"]
        seconds = yosys(commands, self.folder / f"{TOP}.rpt", self.folder, note)
        if self.board.part.family == "ecp5":
            end_carries(self.folder / self._netlist)
        return seconds

    def place_and_route(self) -> dict:
        """Place and route with nextpnr, and return its report."""
        command = next(command for command in self._commands if command[0].startswith("nextpnr"))
        program, *arguments = self.family.placer(command)
        products = [self.folder / self._placed, self.folder / f"{TOP}.placed.json"]
        self._stage(
            "placement and routing",
            products,
            self._digest([*self._sources, self._netlist], " ".join([program, *arguments])),
            lambda note: run_tool([tool(program), *arguments], self.folder / f"{TOP}.nextpnr.log", self.folder, note),
        )
        return json.loads(products[1].read_text(encoding="utf-8"))

    def pack(self) -> Path:
        """Pack the bitstream, and return its path."""
        command = self._commands[-1]
        bitstream = self.folder / f"{TOP}.{self.board.bitstream}"
        self._stage(
            "packing",
            [bitstream],
            self._digest([self._placed]),
            lambda note: run_tool(
                [tool(self.family.packer), *command[1:]], self.folder / f"{TOP}.pack.log", self.folder, note
            ),
        )
        return bitstream

    @property
    def _netlist(self) -> str:
        """Name of the synthesized design, which the placer reads."""
        return f"{TOP}.{self.family.netlist_suffix}"

    @property
    def _placed(self) -> str:
        """Name of the placed design, which the packer reads."""
        return f"{TOP}.{self.family.placed_suffix}"

    # -- what stages share -------------------------------------------------------------------------------------

    def _digest(self, names: list[str], more: str = "") -> str:
        digest = hashlib.sha256(more.encode())
        for name in sorted(names):
            digest.update(name.encode() + b"\0" + (self.folder / name).read_bytes())
        return digest.hexdigest()

    def _stage(self, name: str, products: list[Path], digest: str, work: Callable) -> None:
        stamp = self.folder / f"{name.replace(' ', '-')}.done"
        try:
            done = read_json(stamp)
            if done["digest"] == digest and done["products"] == {p.name: file_digest(p) for p in products}:
                self.seconds[name] = done["seconds"]
                self.progress(f"{name}: done before")
                return
        except (InvalidFileError, KeyError, TypeError):
            pass
        for product in products:
            product.unlink(missing_ok=True)
        started = time.monotonic()
        self.progress(f"{name}: started")
        seconds = work(lambda line: self.progress(f"{name}: {time.monotonic() - started:.0f} s  {line[:70]}", True))
        self.seconds[name] = round(seconds, 1)
        made = {product.name: file_digest(product) for product in products}
        write_atomic(stamp, json.dumps({"digest": digest, "products": made, "seconds": self.seconds[name]}) + "\n")
        self.progress(f"{name}: {seconds:.0f} s")


def device_domain(report: dict, clock_hz: float) -> str:
    """Name of the device's own clock in nextpnr's report, a key of its ``fmax``."""
    # The board's clock before a PLL drives no logic; the device's domain is the one with its clock as the target.
    clocks = report["fmax"]
    require(bool(clocks), "nextpnr's report", "with the highest clock", clocks)
    target = clock_hz / 1e6
    closest = min(abs(clock["constraint"] - target) for clock in clocks.values())
    candidates = [name for name, clock in clocks.items() if abs(clock["constraint"] - target) <= closest + 1e-6]
    return min(candidates, key=lambda name: clocks[name]["achieved"])


# Block RAMs are mapped to logic, as Yosys has no simulation model of them.
NETLIST_COMMANDS = (
    f"read_verilog -defer {DEVICE_FILE}",
    f"synth_ecp5 -nobram -top {FPGA_MODULE}",
    "opt_clean -purge",
    "tee -q -o netlist.cells.json stat -json",
    "write_verilog -noattr netlist.cells.v",
)
# Cells are replaced by their models, because simulators compile one module of plain logic in seconds, and thousands of
# little ones with their own parameters in an hour.  Only constants such as a LUT's contents are folded.
INLINE_COMMANDS = (
    "read_verilog netlist.cells.v netlist.models.v",
    f"hierarchy -check -top {FPGA_MODULE}",
    "proc -noopt",
    "flatten -noscopeinfo",
    "opt_expr",
    "opt_clean -purge",
    f"rename {FPGA_MODULE} netlist",
    "write_verilog -noattr netlist.flat.v",
)
NETLIST_CELLS = ("LUT2", "LUT4", "PFUMX", "L6MUX21", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4")
MULTIPLIER_BITS, PRODUCT_BITS = 18, 36
# The netlist is wrapped in a module of its own, as the bench makes every variable of the outermost one accessible.
NETLIST_TOP = f"""\
module {FPGA_MODULE}(input clk, input rst, input rx, output tx, output busy);
  netlist netlist(.clk(clk), .rst(rst), .rx(rx), .tx(tx), .busy(busy));
endmodule
"""


def emit_netlist(directory: Path, progress: Callable) -> dict[str, int]:
    """Synthesize a device's directory for an ECP5 and write ``netlist.v``, a netlist that simulators can run.

    In it LUTs, flip-flops, carries, distributed RAMs and multipliers are replaced by Yosys's models of them;
    ``netlist.cells.v`` holds the cells themselves.

    Returns
    -------
    dict
        Number of cells of every type.
    """
    (directory / NETLIST_FILE).unlink(missing_ok=True)
    for name, commands in (("synthesis", NETLIST_COMMANDS), ("models of the cells", INLINE_COMMANDS)):
        progress(f"{name}: started")
        if commands is INLINE_COMMANDS:
            write_atomic(directory / "netlist.models.v", _cell_models())
        seconds = yosys(
            list(commands),
            directory / "netlist.rpt",
            directory,
            lambda line, name=name: progress(f"{name}: {line[:70]}", True),
        )
        progress(f"{name}: {seconds:.0f} s")
    header = (directory / DEVICE_FILE).read_text(encoding="utf-8").split("\n\n", 1)[0]
    body = (directory / "netlist.flat.v").read_text(encoding="utf-8")
    write_atomic(directory / NETLIST_FILE, f"{header}\n\n{NETLIST_TOP}\n{body}")
    (directory / "netlist.flat.v").unlink()
    for compiled in (directory / "sim").glob(f"*/{Path(NETLIST_FILE).stem}"):
        shutil.rmtree(compiled)
    return cell_counts(directory / "netlist.cells.json")


def _cell_models() -> str:
    """Verilog models of the ECP5's cells: those of Yosys, and one of the multiplier without registers."""
    import pyosys

    share = Path(pyosys.__file__).parent / "share" / "ecp5"
    text = "\n".join((share / name).read_text(encoding="utf-8") for name in ("common_sim.vh", "ccu2c_sim.vh"))
    patterns = (rf"^module {cell}\b.*?^endmodule" for cell in NETLIST_CELLS)
    models = [found[0] for pattern in patterns for found in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)]
    assert len(models) == len(NETLIST_CELLS)
    operands = [f"{port}{bit}" for port in "AB" for bit in range(MULTIPLIER_BITS)]
    product = [f"P{bit}" for bit in range(PRODUCT_BITS)]
    unused = [
        *(f"C{bit}" for bit in range(MULTIPLIER_BITS)),
        *("SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB"),
        *(f"{name}{i}" for name in ("CLK", "CE", "RST") for i in range(4)),
        *(f"SRI{port}{bit}" for port in "AB" for bit in range(MULTIPLIER_BITS)),
    ]

    def vector(names: list[str]) -> str:
        return "{" + ", ".join(reversed(names)) + "}"

    a, b = operands[:MULTIPLIER_BITS], operands[MULTIPLIER_BITS:]
    models.append(
        f"module MULT18X18D(input {', '.join([*operands, *unused])}, output {', '.join(product)});\n"
        f"  wire signed [18:0] a = {{SIGNEDA & A17, {vector(a)[1:-1]}}};\n"
        f"  wire signed [18:0] b = {{SIGNEDB & B17, {vector(b)[1:-1]}}};\n"
        "  wire signed [37:0] p = a * b;\n"
        f"  assign {vector(product)} = p[35:0];\n"
        "endmodule\n"
    )
    return "\n".join(models)
