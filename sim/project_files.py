"""Files for other tools: FuseSoC, Vivado, LiteX, a file list, constraints, waivers for Verilator."""

import json
from importlib.resources import files

from chessrnn.hdl.shell.axi_shell import shell_ports
from chessrnn.hdl.verilog import ports, top_module
from chessrnn.model.config import Config
from chessrnn.model.memory_image import FINGERPRINT_LABEL
from chessrnn.sim.litex_module import litex_module

VERILOG_FILE = "accelerator.v"
TESTBENCH_FILE = "testbench.v"
# Times in ns of the constraints, which the Tcl variables of the same names replace.
PERIOD, IO_SHARE = 10.0, 0.3
CLOCKS = ("clk", "aclk")
WAIVERS = files("chessrnn.constraints") / "lint.vlt"

CORE = """\
CAPI=2:
# {label}
# fusesoc --cores-root . run --target sim {name}
name: {name}
description: {description}

filesets:
  rtl:
    files: [{verilog}]
    file_type: verilogSource-2005
  memories:
    # $readmemh files; copyto puts them where the simulator runs.
    files:
{memories}
    file_type: user
  testbench:
    files: [{testbench}]
    file_type: verilogSource-2005
  xdc:
    files: [{stem}.xdc: {{file_type: xdc}}]
  sdc:
    files: [{stem}.sdc: {{file_type: SDC}}]
  waivers:
    files: [{stem}.vlt: {{file_type: vlt}}]

targets:
  default: &default
    filesets: [rtl, memories, "tool_vivado? (xdc)", "tool_quartus? (sdc)"]
    toplevel: {top}
  sim:
    <<: *default
    description: Self-checking testbench; the last line is PASS or FAIL
    filesets: [rtl, memories, testbench]
    toplevel: {bench}
    flow: sim
    flow_options:
      tool: icarus
      iverilog_options: [-g2005]
  lint:
    <<: *default
    description: Verilator's linter
    filesets: [waivers, rtl, memories]
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall]
"""

FILE_LIST = """\
// {label}
// Top module {top}.  Paths are relative to this file: -F {stem}.f (Verilator, Xcelium), or -f in its folder.
{verilog}
"""

SDC = """\
# {label}
# Timing constraints of the module {top}.  Times are in ns; set the two variables before, or edit them here.
if {{![info exists clock_period]}} {{ set clock_period {period} }}
if {{![info exists io_share]}} {{ set io_share {share} }}

create_clock -name {clock} -period $clock_period [get_ports {clock}]
# Share of the period that the surroundings take before inputs and after outputs.
set io_delay [expr {{$clock_period * $io_share}}]
set_input_delay $io_delay -clock {clock} [get_ports {{{inputs}}}]
set_output_delay $io_delay -clock {clock} [get_ports {{{outputs}}}]
"""

XDC = """\
# {label}
# Clock of the module {top} when it is synthesized on its own, out of context; a project that contains it has its own.
create_clock -name {clock} -period {period} [get_ports {clock}]
"""

VIVADO = """\
# {label}
# Packages {top} as an IP for the block designs of Vivado:
#   vivado -mode batch -source {stem}_vivado.tcl -tclargs xc7a100tcsg324-1 ip
# Arguments: part, and folder of the IP.  Add that folder to ip_repo_paths of your project.
set part [expr {{[llength $argv] > 0 ? [lindex $argv 0] : "xc7a100tcsg324-1"}}]
set folder [file normalize [expr {{[llength $argv] > 1 ? [lindex $argv 1] : "ip"}}]]
set here [file dirname [file normalize [info script]]]

create_project -in_memory -part $part
foreach name {{{verilog}}} {{ add_files -norecurse [file join $here $name] }}
foreach name {{
{memories}
}} {{
  set path [file join $here $name]
  add_files -norecurse $path
  set_property file_type {{Memory Initialization Files}} [get_files $path]
}}
set constraints [file join $here {stem}.xdc]
add_files -norecurse -fileset constrs_1 $constraints
set_property USED_IN {{synthesis implementation out_of_context}} [get_files $constraints]
set_property top {top} [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir $folder -vendor chessrnn -library user -taxonomy /UserIP -import_files -force
set core [ipx::current_core]
set_property name {identifier} $core
set_property display_name {{{identifier}}} $core
set_property description {{{description}}} $core
set_property version 1.0 $core
{interfaces}
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
puts "packaged in $folder"
"""


def core_name(prefix: str) -> str:
    """Name of the FuseSoC core of a design."""
    return f"chessrnn:accelerator:{prefix}:1.0"


def project_files(config: Config, prefix: str, shell: str | None, memories: list[str], vectors: list[str]) -> dict:
    """Texts of the files for other tools, by name.

    Parameters
    ----------
    config : Config
    prefix : str
        Begins the names of the files; ``accelerator`` where the design has no prefix.
    shell : str or None
        Bus shell.  Where there is one, it is the module that is constrained, packaged and linted.
    memories, vectors : list of str
        Names of the ``$readmemh`` files of the design and of its testbench.
    """
    stem = prefix or "accelerator"
    top = f"{prefix}_{shell}" if shell else top_module(prefix)
    listed = shell_ports(config) if shell else ports(config)
    clock = next(name for name in CLOCKS if any(port["name"] == name for port in listed))
    description = f"{config.network.cell} {config.network.input_size} -> {config.network.size_text}"
    streams = sorted({port["name"].rpartition("_")[0] for port in listed if "axi" in port["name"]})
    interfaces = [f"ipx::associate_bus_interfaces -busif {stream} -clock {clock} $core" for stream in streams]
    fields = {
        "label": f"chessrnn accelerator {config.name}, {FINGERPRINT_LABEL} {config.fingerprint}",
        "stem": stem, "top": top, "clock": clock, "name": core_name(stem), "identifier": stem,
        "description": description, "verilog": VERILOG_FILE, "testbench": TESTBENCH_FILE,
        "bench": f"{prefix}_testbench" if prefix else "testbench", "period": PERIOD, "share": IO_SHARE,
    }  # fmt: skip

    def names(direction: str) -> str:
        return " ".join(
            port["name"] + ("[*]" if port["width"] > 1 else "")
            for port in listed
            if port["direction"] == direction and port["name"] != clock
        )

    copied = "\n".join(f"      - {json.dumps(name)}: {{copyto: {json.dumps(name)}}}" for name in [*memories, *vectors])
    texts = {
        f"{stem}.core": CORE.format(**fields, memories=copied),
        f"{stem}.f": FILE_LIST.format(**fields),
        f"{stem}.sdc": SDC.format(**fields, inputs=names("input"), outputs=names("output")),
        f"{stem}.vlt": WAIVERS.read_text(encoding="utf-8"),
        f"{stem}.xdc": XDC.format(**fields),
        f"{stem}_vivado.tcl": VIVADO.format(
            **fields, memories="\n".join(f"  {name}" for name in memories), interfaces="\n".join(interfaces)
        ),
    }
    if shell:
        name, text = litex_module(config, prefix, top, VERILOG_FILE, fields["label"])
        texts[name] = text
    return texts
