"""A stack of different hidden sizes: an accelerator for each layer, joined by their streams alone."""

import re
import subprocess

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from chessrnn.model.prediction import input_codes
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts.main import main
from chessrnn.sim.build import VERILOG_FILE, load_build
from chessrnn.sim.scenarios import Scenario

SIZES = (6, 8, 4)
CYCLES = 20_000
MODEL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[T, B, 6] x) => (float[T, 1, B, 4] y) {
  [one] a = LSTM <hidden_size = 8> (x, W0, R0)
  axis = Constant <value = int64[1] {1}> ()
  b = Squeeze(a, axis)
  [two] y = LSTM <hidden_size = 4> (b, W1, R1)
}
"""


@pytest.fixture
def stack(tmp_path, monkeypatch, rng):
    """Run in a folder with the model of two layers and its inputs."""
    monkeypatch.chdir(tmp_path)
    model = parser.parse_model(MODEL)
    for number, (inputs, hidden) in enumerate(zip(SIZES, SIZES[1:], strict=False)):
        for name, width in (("W", inputs), ("R", hidden)):
            values = rng.normal(size=(1, 4 * hidden, width)).astype("f4") / 2
            model.graph.initializer.append(numpy_helper.from_array(values, f"{name}{number}"))
    onnx.save(model, "model.onnx")
    np.save("inputs.npy", rng.normal(size=(12, 3, SIZES[0])) / 2)


def bench(first: Scenario, last: Scenario) -> str:
    """A module with both designs, the h of the one being the x of the other, and stalls at both ends."""
    (x_bits, h_bits) = (
        one.config.block_size * width + 1
        for one, width in ((first, first.config.quantization.x.width), (last, last.config.quantization.h.width))
    )
    between = first.config.block_size * first.config.quantization.h.width
    x, h = first.x_beats, last.h_beats
    tops = [load_build(f"build/{name}").top for name in ("first", "second")]
    fill = "".join(f"    x[{n}] = {x_bits}'h{word:x};\n" for n, word in enumerate(x))
    fill += "".join(f"    h[{n}] = {h_bits}'h{word:x};\n" for n, word in enumerate(h))
    return f"""
module bench;
  reg clk = 0, rst = 1;
  reg [3:0] stall = 1;
  reg [{x_bits - 1}:0] x[0:{len(x) - 1}];
  reg [{h_bits - 1}:0] h[0:{len(h) - 1}];
  integer i = 0, o = 0;
  wire x_ready, valid, ready, last, h_valid, h_last;
  wire [{between - 1}:0] data;
  wire [{h_bits - 2}:0] h_data;
  wire h_ready = stall[1];
  always #5 clk = !clk;
  initial begin
{fill}    repeat (3) @(posedge clk); #1 rst = 0; repeat ({CYCLES}) @(posedge clk); $finish;
  end
  {tops[0]} #(.MEM_DIR("build/first")) one (
    .clk(clk), .rst(rst), .x_valid(!rst && i < {len(x)}), .x_ready(x_ready),
    .x_data(x[i][{x_bits - 2}:0]), .x_last(x[i][{x_bits - 1}]),
    .h_valid(valid), .h_ready(ready), .h_data(data), .h_last(last)
  );
  {tops[1]} #(.MEM_DIR("build/second")) two (
    .clk(clk), .rst(rst), .x_valid(valid), .x_ready(ready), .x_data(data), .x_last(last),
    .h_valid(h_valid), .h_ready(h_ready), .h_data(h_data), .h_last(h_last)
  );
  always @(posedge clk) if (!rst) begin
    stall <= {{stall[2:0], stall[3] ^ stall[2]}};
    if (i < {len(x)} && x_ready) i <= i + 1;
    if (h_valid && h_ready) begin
      if (o >= {len(h)} || {{h_last, h_data}} !== h[o]) $display("mismatch %0d", o);
      o <= o + 1;
      if (o == {len(h) - 1}) $display("done");
    end
  end
endmodule
"""


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_h_of_one_accelerator_is_x_of_the_next(stack, capsys):
    images = []
    for number, name in enumerate(("first", "second")):
        given = ["--set", f"quantization.x={images[0].config.quantization.h}"] if images else []
        arguments = [
            "--k",
            "2",
            "--effort",
            "quick",
            "--calibrate",
            "inputs.npy",
            "--layer",
            str(number),
            "--name",
            name,
        ]
        assert main(["convert", "model.onnx", *arguments, *given]) == 0
        image = f"runs/{name}/{name}.safetensors"
        images.append(WeightImage.load(image))
        assert main(["verilog", "--config", f"runs/{name}/{name}.json", "--weights", image, "--prefix", name]) == 0
    one, two = (image.weights for image in images)
    x = input_codes(one, np.load("inputs.npy"))
    first = Scenario(one, tuple(x.swapaxes(0, 1)))
    last = Scenario(two, first.expected)
    with open("bench.v", "w") as file:
        file.write(bench(first, last))
    sources = ["bench.v", *(f"build/{name}/{VERILOG_FILE}" for name in ("first", "second"))]
    subprocess.run(["iverilog", "-g2005", "-s", "bench", "-o", "bench.vvp", *sources], check=True)
    printed = subprocess.run(["vvp", "-n", "bench.vvp"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(?:done|mismatch).*", printed, re.MULTILINE) == ["done"]
