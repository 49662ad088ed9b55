"""From a PyTorch LSTM to a simulated accelerator, step by step.

Run it with ``.venv/bin/python examples/lstm_to_verilog.py``; it needs torch (``make train`` installs it) and Icarus
Verilog, takes a few seconds, and writes ``build/example/``.
"""

import numpy as np
import torch

import chessrnn

# 1. A network.  Any torch.nn.LSTM, GRU or RNN will do; yours comes from chessrnn.load_network("model.pt").
torch.manual_seed(0)
lstm = torch.nn.LSTM(input_size=12, hidden_size=16)
network = chessrnn.load_network(lstm)

# 2. Inputs like those that it will meet: (steps, batch, elements).  Number formats are chosen from them.
inputs = torch.randn(40, 4, 12) * 0.5

# 3. Compression.  An untrained network is not circulant, so it stays dense here (block_size=1) and only its numbers
#    become integers of 8 bits.  With block_size=4 or 8 it must be retrained: see the tutorial on memory and accuracy.
#    The tile of 8 x 4 blocks sets the parallelism; plain multipliers simulate faster than carry-save trees.
architecture = {
    "architecture.tile_rows": 8,
    "architecture.tile_cols": 4,
    "architecture.arithmetic": "multiplier",
}
result = chessrnn.compress(
    network, block_size=1, weight_bits=8, calibration=inputs.numpy(), settings=architecture, name="example"
)
print(f"error of h: {100 * result.report['output']['integers']:.2f} % of its root mean square")

# 4. The bit-accurate reference, beside PyTorch.
h = chessrnn.predict(result.weights, inputs.numpy())
with torch.no_grad():
    expected, _ = lstm(inputs)
print(f"largest difference from PyTorch: {np.abs(h - expected.numpy()).max():.4f} (h is a number from -1 to 1)")

# 5. What the hardware costs, before any tool runs.
figures = chessrnn.report(result.config)
print(
    f"{figures['cycles']['initiation_interval']} cycles per step, {figures['parallelism']['multipliers']} multipliers"
)

# 6. Verilog, and a simulation of it that compares every h.
for run in chessrnn.simulate(result.weights, inputs.numpy(), "build/example", simulator="icarus", steps=24):
    print(f"{run.run.name}: {run.run.scenario.num_steps} steps, {run.mismatches} mismatches, "
          f"{run.interval:.1f} cycles per step")  # fmt: skip
    assert not run.problems, run.problems
