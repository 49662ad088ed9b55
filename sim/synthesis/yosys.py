"""Synthesis with Yosys from Verilog to cells, one module at a time, so that the hierarchy is kept."""

import importlib.util
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from chessrnn.hdl.memory import RAM_MODULE, ROM_MODULE, WEIGHT_RAM_MODULE
from chessrnn.model.errors import MissingToolError, UserError
from chessrnn.model.progress import elapsed
from chessrnn.sim.plain_path import plain_path
from chessrnn.sim.synthesis import yosys_process
from chessrnn.sim.synthesis.liberty import SPECIAL_NAMES, Cell, Liberty, input_capacitance
from chessrnn.sim.synthesis.netlist import MEMORY_MODULES, Netlist

GENERIC_GATES = "NAND,NOR,XOR,XNOR,MUX,AOI3,OAI3,AOI4,OAI4"

# ABC scripts from small to fast.  {D} is the delay target, the only difference between "loose" and "medium".  "dense"
# also uses the library's full adder, which ABC itself neither uses nor optimizes across.  "cleanup" removes nodes
# without fan-out, which "map" may leave and the commands behind it refuse.
ABC_SCRIPTS = {
    "dense": (
        "strash", "&get -n", "&fraig -x", "&put", "scorr", "dc2", "strash", "&get -n", "&dch -f", "&nf", "&put",
        "buffer -c -N 12", "topo", "upsize -D {D}", "dnsize -D {D}", "stime -p",
    ),
    "small": (
        "strash", "&get -n", "&fraig -x", "&put", "scorr", "dc2", "strash", "&get -n", "&dch -f", "&nf", "&put",
        "buffer -c -N 12", "topo", "upsize -D {D}", "dnsize -D {D}", "stime -p",
    ),
    "loose": (
        "strash", "ifraig", "scorr", "dc2", "dch -f", "map -B 0.9 -D {D}", "cleanup", "buffer -c -N 10", "topo",
        "upsize -D {D}", "dnsize -D {D}", "stime -p",
    ),
    "medium": (
        "strash", "ifraig", "scorr", "dc2", "dch -f", "map -B 0.9 -D {D}", "cleanup", "buffer -c -N 10", "topo",
        "upsize -D {D}", "dnsize -D {D}", "stime -p",
    ),
    "fast": (
        "strash", "ifraig", "balance", "rewrite", "refactor", "balance", "rewrite", "rewrite -z", "balance",
        "refactor -z", "rewrite -z", "balance", "dch -f", "map -B 0.9 -D {D}", "cleanup", "topo", "buffer -c -N 10",
        "topo", "upsize -D {D}", "dnsize -D {D}", "stime -p",
    ),
}  # fmt: skip
EFFORTS = tuple(ABC_SCRIPTS)
# The effort that uses the library's full adders.
FULL_ADDERS = "dense"

# Black boxes with the ports of chessrnn.hdl.memory's wrappers, whose bodies must not be synthesized.
BLACK_BOXES = f"""
(* blackbox *) module {ROM_MODULE} #(parameter WIDTH = 8, DEPTH = 2, ADDR_WIDTH = 1, INIT_FILE = "") (
  input clk, input en, input [ADDR_WIDTH-1:0] addr, output [WIDTH-1:0] data);
endmodule
(* blackbox *) module {RAM_MODULE} #(parameter WIDTH = 8, DEPTH = 2, ADDR_WIDTH = 1) (
  input clk, input write_en, input [ADDR_WIDTH-1:0] write_addr, input [WIDTH-1:0] write_data,
  input read_en, input [ADDR_WIDTH-1:0] read_addr, output [WIDTH-1:0] read_data);
endmodule
(* blackbox *) module {WEIGHT_RAM_MODULE} #(parameter WIDTH = 8, DEPTH = 2, ADDR_WIDTH = 1, INIT_FILE = "") (
  input clk, input en, input [ADDR_WIDTH-1:0] addr, output [WIDTH-1:0] data,
  input load_en, input [ADDR_WIDTH-1:0] load_addr, input [WIDTH-1:0] load_data);
endmodule
"""


# Flip-flops with the same enable that get a clock gate: fewer would need less area for their multiplexers.
LEAST_GATED = 4


class ToolError(UserError):
    """A tool reported an error; the message quotes it and names the log."""


class SynthesisError(UserError):
    """The design contains what cannot be built: a latch, a memory outside its wrapper, or a loop."""


@dataclass(frozen=True)
class Prepared:
    """A design in generic gates with its hierarchy, ready to be mapped several times."""

    path: Path
    top: str
    modules: tuple[str, ...]


def yosys_version() -> str:
    """Version of the installed pyosys.

    Raises
    ------
    MissingToolError
        pyosys is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        if importlib.util.find_spec("pyosys"):
            return version("pyosys")
    except PackageNotFoundError:
        pass
    raise MissingToolError("pyosys must be installed to synthesize (pip install pyosys==0.70)")


def run_passes(passes: list[str], folder: Path, name: str) -> str:
    """Run Yosys passes in a process of their own and return the log, which is also kept as ``<name>.log``.

    Raises
    ------
    ToolError
        Yosys or ABC reported an error.
    """
    yosys_version()
    script, log = folder / f"{name}.ys", folder / f"{name}.log"
    script.write_text("\n".join(passes) + "\n", encoding="utf-8")
    with log.open("wb") as stream, elapsed(f"yosys, {name}"):
        code = subprocess.run(
            yosys_process.command(script), stdout=stream, stderr=subprocess.STDOUT, cwd=folder, check=False
        ).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = re.findall(r"^(?:ABC: )?(?:ERROR|Error|\*\* cmd error)\b.*", text, re.MULTILINE)
    if code or errors:
        last = text.strip().splitlines()[-1:] or ["no output"]
        raise ToolError(f"yosys must finish without an error, not {(errors or last)[0]!r} (log: {log.resolve()})")
    return text


def prepare(
    verilog: str,
    top: str,
    liberty: Path | None,
    folder: Path,
    extra: tuple[str, ...] = (),
    clock_gate: Cell | None = None,
) -> Prepared:
    """Convert Verilog to generic gates and mapped flip-flops, written as RTLIL.

    Parameters
    ----------
    verilog : str
        Text of the design; the memories' wrappers are removed and become black boxes.
    top : str
        Name of the outermost module.
    liberty : Path or None
        Plain Liberty file, whose flip-flops are used.
    folder : Path
        Folder for the files and logs of the tool.
    extra : tuple of str
        Passes that are added between word level and gates.
    clock_gate : Cell, optional
        Cell that stops the clock of flip-flops with a common enable.  Without it, each of them has a multiplexer that
        holds its value.

    Raises
    ------
    SynthesisError
        The design has a latch, a combinational loop, or a memory that is not behind a wrapper.
    """
    source, prepared = folder / "source.v", folder / "prepared.il"
    boxes = BLACK_BOXES + (_clock_gate_box(clock_gate) if clock_gate else "")
    source.write_text(without_modules(verilog, MEMORY_MODULES) + boxes, encoding="utf-8")
    latches, arrays, names = folder / "latches.txt", folder / "memories.txt", folder / "modules.txt"
    flip_flops = f"dfflibmap -liberty {_quoted(liberty)}" if liberty else "dfflegalize -cell $_DFF_P_ x"
    for path in (latches, arrays, names):
        path.unlink(missing_ok=True)
    passes = [
        f"read_verilog {_quoted(source)}",
        f"hierarchy -check -top {top}",
        "proc",
        f"tee -q -o {_quoted(latches)} select -list t:$dlatch t:$adlatch t:$dlatchsr t:$sr",
        f"synth -top {top} -run coarse:fine",
        f"tee -q -o {_quoted(arrays)} select -list t:$mem t:$mem_v2 t:$memrd* t:$memwr* t:$meminit*",
        "check -assert",
        *extra,
        "opt -fast -full",
        "opt -undriven -fine",
        "techmap",
        "opt -full",
        *([_gate_clocks(clock_gate)] if clock_gate else []),
        flip_flops,
        # opt_dff is left out, as it would infer enables and resets again, which the library's flip-flop lacks.
        "simplemap",
        "opt_expr",
        "opt_merge",
        "opt_clean -purge",
        # Source locations are half of the file and are not used.
        "setattr -unset src",
        f"tee -q -o {_quoted(names)} ls",
        f"write_rtlil {_quoted(prepared)}",
    ]
    try:
        run_passes(passes, folder, "prepare")
    finally:
        # Later passes fail on what is reported here more clearly.
        found = _selected(latches)
        if found:
            raise SynthesisError(f"design must hold no latch, not {found[0]!r}{_more(found)}") from None
        found = _selected(arrays)
        if found:
            rule = f"be behind {ROM_MODULE} or {RAM_MODULE}"
            raise SynthesisError(f"memory must {rule}, not {found[0]!r}{_more(found)}") from None
    listed = re.findall(r"^ +(\S+)$", names.read_text(encoding="utf-8"), re.MULTILINE)
    boxes_of = (*MEMORY_MODULES, *([clock_gate.name] if clock_gate else []))
    return Prepared(prepared, top, tuple(name for name in listed if not any(box in name for box in boxes_of)))


def _gate_clocks(cell: Cell) -> str:
    """Pass that moves the enables of flip-flops to clock gates."""
    pins = cell.gate_pins
    ports = ":".join(pins[role] for role in ("enable", "clock", "output"))
    return f"clockgate -pos {cell.name} {ports} -min_net_size {LEAST_GATED}"


def _clock_gate_box(cell: Cell) -> str:
    """Black box with the ports of a clock gate, whose directions Yosys does not know otherwise."""
    pins = cell.gate_pins
    ports = f"input {pins['enable']}, input {pins['clock']}, output {pins['output']}"
    return f"(* blackbox *) module {cell.name}({ports});\nendmodule\n"


def map_generic(prepared: Prepared, folder: Path) -> Netlist:
    """Map generic gates without a library, to the best choice of :data:`GENERIC_GATES`."""
    output = folder / "mapped.json"
    run_passes(
        [
            f"read_rtlil {_quoted(prepared.path)}",
            f"abc -g {GENERIC_GATES}",
            "opt_clean -purge",
            "check -assert",
            f"write_json {_quoted(output)}",
        ],
        folder,
        "map",
    )
    return Netlist(json.loads(output.read_text(encoding="utf-8"))["modules"], prepared.top)


def map_cells(
    prepared: Prepared, liberty: Liberty, plain: Path, efforts: dict[str, str], delay_ps: float, folder: Path
) -> dict[str, dict]:
    """Map generic gates to cells of the library, with buffers and drive strengths.

    Parameters
    ----------
    prepared : Prepared
        Design in generic gates.
    liberty : Liberty
        Library to map to.
    plain : Path
        The library as a plain file.
    efforts : dict of str to str
        Effort of each module, one of :data:`EFFORTS`; modules that are not named are left out.
    delay_ps : float
        Delay target of each module.
    folder : Path
        Folder for the files and logs of the tool.

    Returns
    -------
    dict
        The named modules in the form of Yosys's JSON, and all black boxes.
    """
    output, constraints = folder / "mapped.json", folder / "abc.constr"
    drive = liberty.inverters[min(1, len(liberty.inverters) - 1)]
    load = 4 * input_capacitance(liberty.inverter) * 1e15
    constraints.write_text(f"set_driving_cell {drive.name}\nset_load {load:.3f}\n", encoding="utf-8")
    passes = [
        f"read_rtlil {_quoted(prepared.path)}",
        f"read_liberty -lib -ignore_miss_func -ignore_redef {_quoted(plain)}",
    ]
    dont_use = " ".join(f"-dont_use {pattern}" for pattern in SPECIAL_NAMES)
    for effort in EFFORTS:
        modules = " ".join(name for name in prepared.modules if efforts.get(name) == effort)
        if not modules:
            continue
        if effort == FULL_ADDERS and liberty.full_adder:
            adder = folder / "full_adder.v"
            adder.write_text(_full_adder_map(liberty), encoding="utf-8")
            passes += [f"extract_fa -fa {modules}", f"techmap -map {_quoted(adder)} {modules}", f"opt_clean {modules}"]
        script = folder / f"{effort}.abc"
        lines = "\n".join(ABC_SCRIPTS[effort]).replace("{D}", f"{delay_ps:.0f}")
        script.write_text(lines + "\n", encoding="utf-8")
        passes.append(
            f"abc -liberty {_quoted(plain)} {dont_use} -constr {_quoted(constraints)} -D {delay_ps:.0f} "
            f"-script {_quoted(script)} {modules}"
        )
    named = " ".join(efforts)
    passes += [f"setundef -zero {named}", f"opt_clean -purge {named}"]
    if liberty.tie_low and liberty.tie_high:
        low, high = liberty.tie_low, liberty.tie_high
        ties = f"-locell {low.name} {low.outputs[0]} -hicell {high.name} {high.outputs[0]}"
        passes.append(f"hilomap -singleton {ties} {named}")
    passes += [f"check -assert {named}", f"write_json {_quoted(output)}"]
    run_passes(passes, folder, "map")
    modules = json.loads(output.read_text(encoding="utf-8"))["modules"]
    return {name: value for name, value in modules.items() if name in efforts or name not in prepared.modules}


def _full_adder_map(liberty: Liberty) -> str:
    assert liberty.full_adder is not None
    cell, total, carry = liberty.full_adder
    a, b, c = cell.inputs
    return (
        '(* techmap_celltype = "$fa" *)\n'
        "module full_adder #(parameter WIDTH = 1) (input [WIDTH-1:0] A, B, C, output [WIDTH-1:0] X, Y);\n"
        "  genvar i;\n"
        "  generate for (i = 0; i < WIDTH; i = i + 1) begin : bits\n"
        f"    {cell.name} adder (.{a}(A[i]), .{b}(B[i]), .{c}(C[i]), .{carry}(X[i]), .{total}(Y[i]));\n"
        "  end endgenerate\nendmodule\n"
    )


def module_names(verilog: str) -> list[str]:
    """Names of the modules that a Verilog text defines, without the memories' wrappers."""
    names = re.findall(r"^module (\w+)", verilog, re.MULTILINE)
    return [name for name in names if name not in MEMORY_MODULES]


def without_modules(verilog: str, names: tuple[str, ...]) -> str:
    """Remove the definitions of the named modules from a Verilog text."""
    for name in names:
        verilog = re.sub(rf"^module {name}\b.*?^endmodule$", "", verilog, flags=re.MULTILINE | re.DOTALL)
    return verilog


def _quoted(path: Path) -> str:
    return str(plain_path(path))


def _selected(path: Path) -> list[str]:
    if not path.exists():
        return []
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "/" in line]


def _more(found: list[str]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""
