"""A testbench in plain Verilog-2005 that is emitted beside each design: a start for the user's own.

It streams the expected vectors through the accelerator with pseudo-random stalls on both sides, compares every beat of
h, and ends with one line, ``PASS`` or ``FAIL``.  It knows nothing but the ports and the two vector files, so that it
runs in any simulator: ``iverilog -g2005 -o tb accelerator.v testbench.v && vvp tb``.
"""

from chessrnn.hdl.verilog import ports
from chessrnn.model.config import Config

# Inputs that the vectors do not exercise, tied to the value that leaves the stream of x and h undisturbed.
TIED = {"x_load": "1'b0", "state_in_valid": "1'b0", "state_in_data": "0", "state_out_ready": "1'b1", "y_ready": "1'b1"}
# Inputs of the loader, all of them 0.
LOADER = ("load_hold", "load_en", "load_address", "load_data")
# Cycles without a beat of h after which the run is given up; no step of a design takes longer.
PATIENCE = 1_000_000

TEMPLATE = """\
// Self-checking testbench of {top}, {label}.
// iverilog -g2005 -o tb accelerator.v testbench.v && vvp tb
// Without stalls: iverilog -g2005 -P{module}.STALLS=0 ...
`timescale 1ns / 1ps
module {module};
  parameter STALLS = 1;  // 1: source and sink pause at random

  reg clk = 0;
  reg rst = 1;
  always #5 clk = !clk;

  // One word per beat: {{last, data}}.  The first element of a block is in the lowest bits.
  reg [{x_bits}:0] x_words[0:{x_last}];
  reg [{h_bits}:0] h_words[0:{h_last}];
  initial begin
    $readmemh("{prefix}vectors_x.mem", x_words);
    $readmemh("{prefix}vectors_h.mem", h_words);
  end

  integer x_count = 0, h_count = 0, mismatches = 0, cycles = 0, idle = 0;
  reg [15:0] noise = 16'hace1;
  reg x_pause = 0, h_pause = 0;
  wire x_valid = !rst && x_count <= {x_last} && !x_pause;
  wire h_ready = !h_pause;
  wire x_ready, h_valid, h_last;
  wire [{h_top}:0] h_data;
  wire [{x_bits}:0] x_word = x_words[x_count];

  {top} dut (
{connections}
  );

  initial begin
    repeat (4) @(posedge clk);
    #1 rst = 0;
  end

  always @(posedge clk) begin
    noise <= {{noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10]}};
    h_pause <= STALLS != 0 && noise[1:0] == 2'b01;
    // A beat that was offered must stay until it is taken.
    if (!x_valid || x_ready) x_pause <= STALLS != 0 && noise[4:3] == 2'b10;
    if (!rst) begin
      cycles <= cycles + 1;
      idle <= idle + 1;
      if (x_valid && x_ready) x_count <= x_count + 1;
      if (h_valid && h_ready) begin
        idle <= 0;
        if ({{h_last, h_data}} !== h_words[h_count]) begin
          mismatches <= mismatches + 1;
          $display("beat %0d: {{last, h}} = %h, not %h", h_count, {{h_last, h_data}}, h_words[h_count]);
        end
        h_count <= h_count + 1;
      end
      if (h_count == {h_last} + 1) begin
        if (mismatches == 0) $display("PASS: %0d beats of h in %0d cycles", h_count, cycles);
        else $display("FAIL: %0d of %0d beats of h differ", mismatches, h_count);
        $finish;
      end
      if (idle > {patience}) begin
        $display("FAIL: no beat of h after beat %0d", h_count);
        $finish;
      end
    end
  end
endmodule
"""


def testbench(config: Config, prefix: str, top: str, x_beats: int, h_beats: int) -> str:
    """Verilog of the testbench.

    Parameters
    ----------
    config : Config
    prefix : str
        Begins the names of modules and memory files.
    top : str
        Name of the accelerator's module.
    x_beats, h_beats : int
        Words of the two vector files.
    """
    k, q = config.block_size, config.quantization
    own = {"x_data": f"x_word[{k * q.x.width - 1}:0]", "x_last": f"x_word[{k * q.x.width}]"}
    rows = []
    for port in ports(config):
        name = port["name"]
        value = f"{port['width']}'d0" if name in LOADER else own.get(name) or TIED.get(name, name)
        unused = port["direction"] == "output" and name not in ("x_ready", "h_valid", "h_data", "h_last")
        rows.append(f"    .{name}({'' if unused else value})")
    return TEMPLATE.format(
        top=top,
        module=f"{prefix}_testbench" if prefix else "testbench",
        label=f"configuration {config.fingerprint}",
        prefix=f"{prefix}_" if prefix else "",
        x_bits=k * q.x.width,
        h_bits=k * q.h.width,
        h_top=k * q.h.width - 1,
        x_last=x_beats - 1,
        h_last=h_beats - 1,
        connections=",\n".join(rows),
        patience=PATIENCE,
    )
