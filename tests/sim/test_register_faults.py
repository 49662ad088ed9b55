"""Flipped bits in counters of beats and steps: what they do to the beats of h is reported by the monitor."""

import re
import subprocess

import pytest

from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import VERILOG_FILE, emit, load_build

SMALL = {
    "network.input_size": 9, "network.hidden_size": 9, "architecture.engine": "direct", "architecture.monitor": True,
    "architecture.arithmetic": "multiplier", "architecture.tile_rows": 4, "architecture.tile_cols": 2,
}  # fmt: skip
# Counters of beats below the top module, and their bits: of x, of h, and of the check itself.
REGISTERS = {
    "core.vectors.x_writer.count": 2, "core.filling": 1, "core.\\output .sent": 2, "core.\\output .send_step": 1,
    "core.\\output .write_step": 1, "beat_check.beat": 2, "beat_check.place": 2,
}  # fmt: skip
# Cycles of the flips: at rest, in the first step, and while h leaves.
CYCLES = (1, 8, 45, 61)
END = 700

BENCH = """
`timescale 1ns / 1ps
module bench;
  reg clk = 0, rst = 1;
  integer cycle = 0, fault = -1, when = 0, x_count = 0, h_count = 0, wrong = 0;
  reg [{x_bits}:0] x_words[0:{x_last}];
  reg [{h_bits}:0] h_words[0:{h_last}];
  wire x_ready, h_valid, h_last, beat_error;
  wire [{h_top}:0] h_data;
  wire [{x_bits}:0] x_word = x_words[x_count];
  {top} dut (
    .clk(clk), .rst(rst), .x_valid(!rst && x_count <= {x_last}), .x_ready(x_ready), .x_data(x_word[{x_top}:0]),
    .x_last(x_word[{x_bits}]), .h_valid(h_valid), .h_ready(1'b1), .h_data(h_data), .h_last(h_last),
    .beat_error(beat_error)
  );
  always #5 clk = !clk;
  always @(posedge clk) if (!rst) begin
    cycle = cycle + 1;
    if (x_ready && x_count <= {x_last}) x_count <= x_count + 1;
    if (h_valid) begin
      // A beat too many, or a last in the wrong place.
      if (h_count > {h_last}) wrong <= wrong + 1;
      else if (h_words[h_count][{h_bits}] !== h_last) wrong <= wrong + 1;
      h_count <= h_count + 1;
    end
  end
  task simulate;
    begin
      rst = 1;
      repeat (2) @(negedge clk);
      cycle = 0;
      x_count = 0;
      h_count = 0;
      wrong = 0;
      rst = 0;
      repeat (when) @(negedge clk);
      case (fault)
{flips}
        default: ;
      endcase
      repeat ({end}) @(negedge clk);
      $display("%0d %0d %0d %0d %b", fault, when, wrong, h_count, beat_error);
    end
  endtask
  initial begin
    $readmemh("{prefix}_vectors_x.mem", x_words);
    $readmemh("{prefix}_vectors_h.mem", h_words);
    simulate;
    for (fault = 0; fault < {faults}; fault = fault + 1) begin
{runs}
    end
    $finish;
  end
endmodule
"""


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_faults_that_misplace_beats_are_reported(tmp_path, rng):
    config = preset("tiny").replace(SMALL)
    emit(random_weights(config, rng), tmp_path / "build", "a test")
    build, k, q = load_build(tmp_path / "build"), config.block_size, config.quantization
    flips = [f"dut.{name}" for name, bits in REGISTERS.items() for _ in range(bits)]
    masks = [1 << bit for bits in REGISTERS.values() for bit in range(bits)]
    cases = [f"      {n}: {name} = {name} ^ {mask};" for n, (name, mask) in enumerate(zip(flips, masks, strict=True))]
    steps, x_bits, h_bits = 8, k * q.x.width, k * q.h.width
    bench = BENCH.format(
        x_bits=x_bits, h_bits=h_bits, x_top=x_bits - 1, h_top=h_bits - 1, x_last=steps * config.num_input_blocks - 1,
        h_last=steps * config.num_stream_blocks - 1, top=build.top, prefix=build.prefix, end=END,
        flips="\n".join(cases), faults=len(cases), runs="\n".join(f"      when = {n}; simulate;" for n in CYCLES),
    )  # fmt: skip
    (tmp_path / "bench.v").write_text(bench)
    sources = [tmp_path / "bench.v", tmp_path / "build" / VERILOG_FILE]
    subprocess.run(["iverilog", "-g2005", "-s", "bench", "-o", tmp_path / "bench.vvp", *sources], check=True)

    command = ["vvp", "-n", tmp_path / "bench.vvp"]
    printed = subprocess.run(command, cwd=build.path, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^(-?\d+) (\d+) (\d+) (\d+) ([01])$", printed, re.MULTILINE)
    intact, *faulty = [tuple(map(int, row)) for row in rows]
    beats = steps * config.num_stream_blocks
    assert intact == (-1, 0, 0, beats, 0)
    assert len(faulty) == len(flips) * len(CYCLES)
    outcomes = {(flips[n], masks[n], when): (wrong, count, reported) for n, when, wrong, count, reported in faulty}
    assert [fault for fault, (wrong, _, reported) in outcomes.items() if wrong and not reported] == []
    misplaced, reported = (sum(bool(outcome[place]) for outcome in outcomes.values()) for place in (0, 2))
    print(f"{len(outcomes)} flips: {misplaced} misplace beats of h, {reported} are reported")
    assert misplaced > len(outcomes) // 2
