"""The accelerator in Amaranth's simulator after training: trainer, reference and hardware agree on every h."""

import numpy as np
import pytest
import torch

import chessrnn.torch
from chessrnn.model.fixed_point import quantize
from chessrnn.model.reference.network import NetworkReference
from chessrnn.sim.pysim import beats_of, run_accelerator


@pytest.mark.parametrize(
    ("kind", "bits", "scale"),
    [
        ("RNN", 2, "gate"),
        ("RNN", 3, "row"),
        pytest.param("LSTM", 2, "row", marks=pytest.mark.slow),
        pytest.param("LSTM", 3, "gate", marks=pytest.mark.slow),
    ],
)
def test_half_levels(kind, bits, scale, rng):
    """Weights and scales are trained on odd integers; sizes leave the last blocks of x and h partly empty."""
    torch.manual_seed(int(rng.integers(1 << 31)))
    fields = {"quantization.weight_levels": "half", "quantization.weight_scale": scale}
    fields |= {"architecture.engine": "direct", "architecture.tile_rows": 1, "architecture.arithmetic": "multiplier"}
    module = getattr(chessrnn.torch, kind)(5, 6, k=4, weight_bits=bits, settings=fields, learned_scales=True)
    x = torch.from_numpy(rng.normal(size=(6, 3, 5))).float()
    module.calibrate(x).stage("quantized")
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    before = [layer.log2_scale.detach().clone() for layer in module.layers]
    for _ in range(4):
        optimizer.zero_grad()
        (module(x)[0] - 0.5).square().mean().backward()
        optimizer.step()
    trained = module(x)[0].detach().numpy()
    assert all((layer.log2_scale != old).any() for layer, old in zip(module.layers, before, strict=True))
    weights, q = module.weights(), module.config.quantization
    assert (weights.defining % 2 == 1).all() and abs(weights.defining).max() == (1 << bits) - 1
    codes = quantize(x.numpy(), q.x)
    h, _ = NetworkReference(weights).run(codes)
    np.testing.assert_array_equal(trained * 2.0**q.h.fraction_bits, h)
    expected = beats_of([h[:, 0]], 4, q.h.width)
    assert run_accelerator(weights, beats_of([codes[:, 0]], 4, q.x.width), len(expected)).beats == expected
