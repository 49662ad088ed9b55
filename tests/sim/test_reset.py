"""Outputs of the emitted Verilog before the first clock edge, during reset and after it."""

import re
import subprocess

import pytest

from chessrnn.hdl.verilog import ports
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import VERILOG_FILE, emit, load_build

# What tells the outside of a transfer, an error or work; payloads without their valid mean nothing.
FLAG = re.compile(r".*_(ready|valid|error|active)$")
DESIGNS = {
    "states": {"architecture.state_ports": True, "architecture.contexts": 2},
    "output layer": {"architecture.output_layer": 5},
    "bidirectional": {"network.bidirectional": True, "architecture.sequence_steps": 4},
}
BENCH = """
`timescale 1ns / 1ps
module bench;
  reg clk = 0, rst = 1, stimulus = 1;
{wires}
  {top} dut (
    .clk(clk), .rst(rst),
{connections}
  );
  reg [31:0] noise = 1;
  wire [{high}:0] flags = {{{flags}}};
  integer cycle;
  initial begin
    #1 if (flags !== 0) $display("before the first edge %b", flags);
    for (cycle = 0; cycle < {cycles}; cycle = cycle + 1) begin
      #4 clk = 1;
      // Inputs, with a reset in the middle of the traffic, change after the edge.
      #1 rst = cycle < 3 || cycle == {cycles} / 2;
      noise = {{noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]}};
      stimulus = noise[0] | noise[3];
      #4 clk = 0;
      if (rst && flags !== 0) $display("in reset %b", flags);
      if (^flags === 1'bx) $display("unknown in cycle %0d: %b", cycle, flags);
      if (!rst && h_valid && ^h_data === 1'bx) $display("unknown h");
      #1;
    end
    $display("end");
    $finish;
  end
endmodule
"""


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("design", DESIGNS)
def test_flags_are_zero_in_reset_and_always_known(design, tmp_path, rng):
    small = {"network.hidden_size": 4, "architecture.arithmetic": "multiplier", "architecture.engine": "direct"}
    config = preset("tiny").replace({**small, **DESIGNS[design]})
    emit(random_weights(config, rng), tmp_path / "build", "a test")
    build, wires, connections, flags = load_build(tmp_path / "build"), [], [], []
    for port in ports(config)[2:]:
        name, is_output = port["name"], port["direction"] == "output"
        wires += [f"  wire [{port['width'] - 1}:0] {name};"] if is_output else []
        # Every other input follows the noise: valid and ready at random, data and last with them.
        driver = name if is_output else f"{{{port['width']}{{stimulus}}}}"
        connections.append(f"    .{name}({driver})")
        flags += [port] if is_output and FLAG.match(name) else []
    names = ", ".join(port["name"] for port in flags)
    bench = BENCH.format(
        wires="\n".join(wires), top=build.top, connections=",\n".join(connections), flags=names,
        high=sum(port["width"] for port in flags) - 1, cycles=500,
    )  # fmt: skip
    (tmp_path / "bench.v").write_text(bench)
    program = tmp_path / "bench.vvp"
    sources = [tmp_path / "bench.v", tmp_path / "build" / VERILOG_FILE]
    subprocess.run(["iverilog", "-g2005", "-s", "bench", "-o", program, *sources], check=True)
    done = subprocess.run(["vvp", "-n", program], cwd=tmp_path / "build", capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if "$finish called" not in line] == ["end"]
    assert {"x_ready", "h_valid", "x_error", "matvec_active"} <= {port["name"] for port in flags}
