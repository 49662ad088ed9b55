"""From a training loop in PyTorch to Verilog: the lines with "chessrnn" are all that a training script needs.

Run it with ``.venv/bin/python examples/train_to_verilog.py``; it needs torch (``make train`` installs it), takes about
fifteen seconds, and writes ``build/tones/``.
"""

import torch

import chessrnn
import chessrnn.torch

torch.manual_seed(0)


class Tones(torch.nn.Module):
    """Tells tones of four frequencies apart."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 32, batch_first=True)
        self.output = torch.nn.Linear(32, 4)

    def forward(self, x):
        return self.output(self.lstm(x)[0][:, -1])


def batch(size=32, steps=8):
    """Noisy tones with four samples per step, and their frequencies by number."""
    label, time = torch.randint(4, (size,)), torch.arange(4.0 * steps)
    wave = torch.sin((0.2 + 0.2 * label[:, None]) * time + 6.3 * torch.rand(size, 1))
    return (wave + torch.randn(wave.shape)).reshape(size, steps, 4), label


def train(updates, rate):
    """Train the model for some updates, and return its accuracy on new tones in percent."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(updates):
        x, label = batch()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), label).backward()
        optimizer.step()
    with torch.no_grad():
        x, label = batch(2000)
        return 100 * (model(x).argmax(1) == label).float().mean().item()


# 1. The network as it was: float and dense.
model = Tones()
print(f"dense float         {train(100, 2e-2):.1f} %")

# 2. Every recurrent layer is swapped for a block-circulant one: k = 4 and 4 bits remove 96.9 % of its weight memory.
chessrnn.torch.compress(model, k=4, weight_bits=4, calibration=batch())
print(f"circulant float     {train(100, 2e-2):.1f} %")

# 3. The forward pass becomes the accelerator's integers, and the weights adapt to them.
chessrnn.torch.stage(model, "quantized")
print(f"circulant integers  {train(60, 5e-3):.1f} %")

# 4. The files of the design, build/tones/lstm.json and lstm.safetensors, and its Verilog in build/tones/lstm/.
files = chessrnn.torch.export(model, "build/tones", {"architecture.tile_rows": 1, "architecture.tile_cols": 2})
weights = chessrnn.load_weights(files["lstm"].weights)
report = chessrnn.emit(weights, "build/tones/lstm", "examples/train_to_verilog.py")
print(f"weights             {report['compression']['removed_percent']:.1f} % of the memory removed")

# 5. What the accelerator computes is what the model was trained with, bit by bit.
x, _ = batch(8)
h = chessrnn.predict(weights, x.numpy(), batch_first=True)
assert (h == model.lstm(x)[0].detach().numpy()).all()
print("reference           equals the model in every bit")
