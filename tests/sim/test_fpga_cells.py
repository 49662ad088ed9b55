"""The cells that a board's build puts in place of modules do what the modules do, by models of the cells."""

import json
import re
import subprocess

import pytest

from chessrnn.hdl.arithmetic.multiplier import Multiplier
from chessrnn.hdl.hierarchy import VerilogPlatform
from chessrnn.hdl.kept_register import KeptRegister
from chessrnn.hdl.verilog import to_verilog
from chessrnn.sim.fpga_cells import OPERAND_BITS, end_carries, fpga_cells

A, B = ([f"{port}{bit}" for bit in reversed(range(OPERAND_BITS))] for port in "AB")
P = [f"P{bit}" for bit in reversed(range(2 * OPERAND_BITS))]
UNUSED = [
    "CLK0",
    "CE0",
    "RST0",
    "SIGNEDA",
    "SIGNEDB",
    "SOURCEA",
    "SOURCEB",
    *(f"C{bit}" for bit in range(OPERAND_BITS)),
]
# By Lattice's FPGA-TN-02205 and FPGA-TN-02200: registers between operands, product and output.
MODELS = f"""
module MULT18X18D #(parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTB_CLK = "NONE",
    parameter REG_PIPELINE_CLK = "NONE", parameter REG_OUTPUT_CLK = "NONE")
    (input {", ".join([*A, *B, *UNUSED])}, output {", ".join(P)});
  wire signed [17:0] a = {{{", ".join(A)}}}, b = {{{", ".join(B)}}};
  reg signed [17:0] a_register, b_register;
  reg signed [35:0] p_register;
  wire signed [17:0] left = REG_INPUTA_CLK == "NONE" ? a : a_register;
  wire signed [17:0] right = REG_INPUTB_CLK == "NONE" ? b : b_register;
  wire signed [35:0] p = left * right;
  assign {{{", ".join(P)}}} = REG_OUTPUT_CLK == "NONE" ? p : p_register;
  always @(posedge CLK0) begin
    a_register <= a;
    b_register <= b;
    p_register <= p;
    if (!SIGNEDA || !SIGNEDB || !CE0 || RST0 || REG_PIPELINE_CLK != "NONE") $fatal;
  end
endmodule
module TRELLIS_FF #(parameter GSR = "", parameter CEMUX = "", parameter CLKMUX = "", parameter LSRMUX = "",
    parameter REGSET = "") (input CLK, input LSR, input DI, output reg Q);
  always @(posedge CLK) Q <= LSR ? 0 : DI;
endmodule
"""
COMPONENTS = [
    (lambda: Multiplier(9, 9, 1), ("left", "right"), "product"),
    (lambda: Multiplier(12, 16, 1, True), ("left", "right"), "product"),
    (lambda: Multiplier(18, 3, 0, True), ("left", "right"), "product"),
    (lambda: KeptRegister(5), ("early",), "late"),
]


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("index", range(len(COMPONENTS)))
def test_cells_do_what_their_module_does(index, tmp_path):
    make, inputs, output = COMPONENTS[index]
    component, platform = make(), VerilogPlatform()
    name = platform.emit(component)
    module = to_verilog("\n".join(platform.modules.values()))
    cells = fpga_cells(module, "ecp5")
    assert f"module {name}(" in cells
    # First the extremes of every operand, in all combinations.
    widths = {port: len(getattr(component, port)) for port in (*inputs, output)}
    pins = ", ".join(f".{port}({port})" for port in inputs)
    extremes = [f"{{1'b1, {{{widths[port] - 1}{{cycle[{number}]}}}}}}" for number, port in enumerate(inputs)]
    values = [f"{port} = cycle < 4 ? {value} : $random;" for port, value in zip(inputs, extremes, strict=True)]
    bench = f"""
module bench;
  reg clk = 0;
  {"".join(f"reg [{widths[port] - 1}:0] {port}; " for port in inputs)}
  wire [{widths[output] - 1}:0] first, second;
  {name} original(.clk(clk), {pins}, .{output}(first));
  {name}_cells replaced(.clk(clk), {pins}, .{output}(second));
  integer cycle;
  initial begin
    for (cycle = 0; cycle < 200; cycle = cycle + 1) begin
      {" ".join(values)}
      #1 clk = 1;
      #1 clk = 0;
      if (cycle > 2 && first !== second) begin
        $display("cycle %0d: %h, not %h", cycle, second, first);
        $finish;
      end
    end
    $display("equal");
  end
endmodule
"""
    text = module + MODELS + cells.replace(f"module {name}(", f"module {name}_cells(") + bench
    (tmp_path / "bench.v").write_text(text)
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", "bench", "bench.v"], cwd=tmp_path, check=True)
    found = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert found.stdout == "equal\n"


def test_what_is_not_replaced():
    device = "\n".join(
        f"module {name}(a);\nendmodule" for name in ("multiplier_9x9_s0", "multiplier_9x9_s2_r", "other")
    )
    wide = "module multiplier_20x4_s1(a);\nendmodule\n"
    assert fpga_cells(device + "\n" + wide, "ecp5") == ""
    registered = "module multiplier_9x9_s1(a);\nendmodule\nmodule kept_register_w3(a);\nendmodule\n"
    assert re.findall(r"module (\w+)", fpga_cells(registered, "ecp5")) == ["multiplier_9x9_s1", "kept_register_w3"]
    assert fpga_cells(registered, "ice40") == ""


def test_carries_that_nothing_reads_are_disconnected(tmp_path):
    """A chain of two carry cells, whose last carry nothing reads."""
    ways = {"CIN": "input", "COUT": "output"}
    carries = [{"type": "CCU2C", "port_directions": ways, "connections": {"CIN": [n], "COUT": [n + 1]}} for n in (2, 3)]
    other = {"type": "LUT4", "port_directions": {"Z": "output"}, "connections": {"Z": [5]}}
    cells = {"first": carries[0], "second": carries[1], "other": other}
    path = tmp_path / "top.json"
    design = {"modules": {"top": {"ports": {"carry": {"direction": "input", "bits": [2]}}, "cells": cells}}}
    path.write_text(json.dumps(design))
    end_carries(path)
    cells["second"]["connections"]["COUT"] = ["x"]
    assert json.loads(path.read_text()) == design
