"""The trainer: float equals torch's own LSTM, integers equal the reference at 0 LSB, gradients are the true ones."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from chessrnn.model import circulant, fixed_point
from chessrnn.model.activation_tables import activation_table
from chessrnn.model.config import Config
from chessrnn.model.conversion.formats import best_fraction_bits, weight_candidates
from chessrnn.model.conversion.row_scales import nearest_weights
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.activation import activate
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.text.char_model import CharModel
from chessrnn.model.text.corpus import SYMBOLS
from chessrnn.model.training.data import TextStreams
from chessrnn.model.training.export import (
    choose_formats,
    layer_weights,
    refine_formats,
    sequence_model,
    weight_image,
)
from chessrnn.model.training.layers import BlockCirculant, QuantLstm, exact_arithmetic
from chessrnn.model.training.products import ALGORITHMS, Expanded, from_lanes, product, to_lanes
from chessrnn.model.training.quantizers import (
    activation,
    fake_quantize,
    fake_quantize_to,
    normalized_quantize,
    quantize,
    scaled_quantize,
    true_derivative,
)
from chessrnn.model.training.sequence_network import SequenceNetwork
from chessrnn.model.training.trainable_cells import make_layer

ROOT = Path(__file__).resolve().parents[3]


HALF = {"quantization__weight_levels": "half"}
ROWS = {"quantization__weight_scale": "row", "quantization__weight_frac": 5}


def make_config(size_x, size_h, block_size, **settings):
    values = {"network": {"input_size": size_x, "hidden_size": size_h}, "compression": {"block_size": block_size}}
    values["architecture"] = {"tile_rows": 1, "tile_cols": 1}
    return Config.from_dict(values).replace({key.replace("__", "."): value for key, value in settings.items()})


def random_layer(config, seed, spread=1.0):
    torch.manual_seed(seed)
    layer = make_layer(config)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * spread)
    return layer


def codes_of(reals, fmt):
    codes = reals.detach().double().numpy() * 2.0**fmt.fraction_bits
    np.testing.assert_array_equal(codes, np.rint(codes))
    return codes.astype(np.int64)


# -- quantizers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["Q1.7", "Q4.8", "Q2.0", "Q6.-2", "Q0.8"])
def test_quantize_equals_fixed_point(fmt):
    fmt = QFormat.parse(fmt)
    halves = (np.arange(fmt.min - 3, fmt.max + 4) + 0.5) * fmt.lsb
    values = np.concatenate([halves, np.nextafter(halves, -9e9), np.random.default_rng(1).normal(size=999) * 3])
    for kind in (np.float32, np.float64):
        wanted = fixed_point.quantize(values.astype(kind), fmt)
        found = quantize(torch.from_numpy(values.astype(kind)), fmt.fraction_bits, fmt.min, fmt.max)
        np.testing.assert_array_equal(found.numpy(), wanted)
        np.testing.assert_array_equal(
            fake_quantize_to(torch.from_numpy(values.astype(kind)), fmt).numpy(), fixed_point.dequantize(wanted, fmt)
        )


def test_fake_quantize_passes_the_gradient_inside_of_the_range():
    values = torch.tensor([-1.6, -1.4, 0.3, 0.74, 0.76, 5.0], requires_grad=True)
    fake_quantize(values, 1, -3, 1).sum().backward()
    assert values.grad.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_scale_gets_the_gradient_of_the_rounded_values():
    """Against the rounded value as a function of its scale, with the codes held: the step-size gradient."""
    torch.manual_seed(4)
    reals = (torch.randn(2, 3, 4) * 3).requires_grad_()
    log2_scale = torch.tensor([-1.0, 0.0])[:, None, None].requires_grad_()
    fracs, mix = torch.tensor([1, 0])[:, None, None], torch.randn(2, 3, 4)
    found = scaled_quantize(reals, torch.exp2(-fracs.double()), -2, 1, log2_scale)
    assert torch.equal(found, fake_quantize(reals, fracs, -2, 1))
    (found * mix).sum().backward()
    scale = torch.exp2(log2_scale)
    ratio = reals.detach() / scale
    inside = (ratio.detach() >= -2.5) & (ratio.detach() < 1.5)
    codes = torch.floor(ratio.detach() + 0.5).clamp(-2, 1)
    # Inside, value = scale·(ratio + rounding error), of which only the error does not follow the ratio.
    wanted = torch.where(inside, scale * (ratio + (codes - ratio).detach()), scale * codes)
    (of_scale,) = torch.autograd.grad((wanted * mix).sum(), log2_scale)
    torch.testing.assert_close(log2_scale.grad, of_scale / (3 * 4) ** 0.5)
    # Outside, a weight only moves back: one above the range with a positive gradient, one below with a negative.
    moves = inside | ((ratio.detach() < -2.5) & (mix < 0)) | ((ratio.detach() >= 1.5) & (mix > 0))
    assert torch.equal(reals.grad, mix * moves)
    assert inside.any() and not inside.all() and (moves & ~inside).any() and not moves.all()


def test_normalised_weights_move_across_their_direction_and_scales_along_it():
    torch.manual_seed(6)
    reals, mix = (torch.randn(2, 3, 4)).requires_grad_(), torch.randn(2, 3, 4)
    log2_scale = torch.tensor([-1.3, 0.4])[:, None, None].requires_grad_()
    scale = torch.exp2(log2_scale.detach().double())

    def step_of(weights):
        return 0.4 * weights.double().square().mean(dim=(1, 2), keepdim=True).sqrt()

    found = normalized_quantize(reals, step_of(reals), scale, -8, 7, log2_scale)
    codes = torch.floor(reals.detach().double() / step_of(reals.detach()) + 0.5)
    assert codes.min() > -8 and codes.max() < 7
    torch.testing.assert_close(found.double(), codes * scale, rtol=1e-6, atol=0)
    (found * mix).sum().backward()
    # The length of the weights has no influence, so that the gradient has no part along them.
    along = (
        (reals.grad * reals.detach()).sum(dim=(1, 2)) / reals.grad.norm(dim=(1, 2)) / reals.detach().norm(dim=(1, 2))
    )
    assert along.abs().max() < 1e-6
    wanted = (mix * codes * scale * np.log(2)).sum(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(log2_scale.grad, wanted.float())


def test_half_levels_are_odd_and_pass_the_gradient_to_half_a_step_beyond_the_last():
    values = torch.tensor([-2.1, -1.9, -0.9, -0.01, 0.0, 0.99, 1.0, 1.9, 2.0], requires_grad=True)
    scale, log2_scale = torch.tensor(0.5, dtype=torch.float64), torch.tensor([-1.0], requires_grad=True)
    found = scaled_quantize(values, scale, -3, 3, log2_scale, is_odd=True)
    assert found.tolist() == [-1.5, -1.5, -0.5, -0.5, 0.5, 0.5, 1.5, 1.5, 1.5]
    found.sum().backward()
    # A weight above the range moves back, one below would move away.
    assert values.grad.tolist() == [0.0, *[1.0] * 8]
    # The rounding error inside, the limit outside; the greatest level is one and a half steps from zero.
    wanted = (found - values)[1:-1].sum().item()
    assert log2_scale.grad.item() == pytest.approx(np.log(2) * wanted / (1.5 * 9) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_nearest_half_levels_in_numpy_and_torch(bits, rng):
    scaled, greatest = np.concatenate([np.arange(-300, 300) / 4, rng.normal(size=500) * 9]), (1 << bits) - 1
    found = scaled_quantize(
        torch.from_numpy(scaled), torch.ones(1, dtype=torch.float64), -greatest, greatest, None, True
    )
    np.testing.assert_array_equal(found.numpy(), nearest_weights(scaled, -greatest, greatest, True))
    levels = np.arange(-greatest, greatest + 1, 2)
    assert np.abs(found.numpy() - scaled).tolist() == np.abs(levels[:, None] - scaled).min(axis=0).tolist()


def test_fraction_bits_broadcast_per_row():
    values = torch.full((2, 3), 0.3)
    found = fake_quantize(values, torch.tensor([1, 3])[:, None], -8, 7)
    assert found.tolist() == [[0.5] * 3, [0.25] * 3]


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
@pytest.mark.parametrize(("kind", "segments"), [("pwl", 16), ("shift", 5)])
def test_activation_is_the_integer_table_with_the_true_derivative(function, kind, segments):
    table = activation_table(function, kind, segments, QFormat.parse("Q4.8"), QFormat.parse("Q2.10"))
    codes = np.arange(-2048, 2048)
    x = torch.from_numpy(codes * 2.0**-8).requires_grad_()
    y = activation(x, table)
    np.testing.assert_array_equal(codes_of(y, table.out_format), activate(codes, table))
    y.sum().backward()
    exact = x.detach().clone().requires_grad_()
    (torch.sigmoid if function == "sigmoid" else torch.tanh)(exact).sum().backward()
    torch.testing.assert_close(x.grad, exact.grad)


# -- layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [1, 2, 4, 8, 16])
def test_block_circulant_expands_and_projects_as_the_specification(block_size):
    torch.manual_seed(block_size)
    matrix = BlockCirculant(13, 10, block_size)
    wanted = circulant.expand(matrix.defining.detach().double().numpy())[:13, :10]
    np.testing.assert_array_equal(matrix.dense().detach().numpy(), wanted.astype(np.float32))
    before = matrix.defining.detach().clone()
    full = BlockCirculant(32, 16, block_size)
    dense = full.dense().detach().clone()
    defining = full.defining.detach().clone()
    with torch.no_grad():
        full.defining.zero_()
    full.set_dense(dense)
    torch.testing.assert_close(full.defining.detach(), defining)
    torch.testing.assert_close(matrix.defining.detach(), before)


def test_a_float_cell_state_saturates_at_its_limit():
    """Against the same equations in autograd: values, and gradients that stop where the state is held."""
    torch.manual_seed(5)
    layer = QuantLstm(make_config(4, 6, 2)).double()
    layer.cell_limit = 0.3
    x = torch.randn(7, 3, 4, dtype=torch.float64, requires_grad=True)
    h, (_, c) = layer(x)
    twin, w_x, w_h, bias = x.detach().clone().requires_grad_(), *layer.dense()
    state_h = state_c = torch.zeros(3, 6, dtype=torch.float64)
    expected = []
    for step in twin:
        i, f, g, o = (step @ w_x.T + state_h @ w_h.T + bias).chunk(4, dim=1)
        state_c = (f.sigmoid() * state_c + i.sigmoid() * g.tanh()).clamp(-0.3, 0.3)
        state_h = o.sigmoid() * state_c.tanh()
        expected.append(state_h)
    expected = torch.stack(expected)
    assert (state_c.abs() == 0.3).any()
    torch.testing.assert_close(h, expected)
    torch.testing.assert_close(c, state_c)
    h.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)


def test_float_layer_equals_torch_lstm():
    torch.manual_seed(3)
    config = make_config(10, 13, 1)
    theirs, ours = torch.nn.LSTM(10, 13), QuantLstm(config)
    ours.set_dense(theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0 + theirs.bias_hh_l0)
    x, h, c = torch.randn(9, 4, 10), torch.randn(4, 13), torch.randn(4, 13)
    inputs = [[part.clone().requires_grad_() for part in (x, h, c)] for _ in range(2)]
    wanted, (h_wanted, c_wanted) = theirs(inputs[0][0], (inputs[0][1][None], inputs[0][2][None]))
    found, (h_found, c_found) = ours(inputs[1][0], (inputs[1][1], inputs[1][2]))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(h_found, h_wanted[0])
    torch.testing.assert_close(c_found, c_wanted[0])
    # The hand-written backward pass against autograd's, through h of every step and through the last c.
    mix = torch.randn_like(wanted)
    ((wanted * mix).sum() + (c_wanted**2).sum()).backward()
    ((found * mix).sum() + (c_found**2).sum()).backward()
    for theirs_part, ours_part in zip(*inputs, strict=True):
        torch.testing.assert_close(ours_part.grad, theirs_part.grad)
    for part, weight in ((ours.weight_x, theirs.weight_ih_l0), (ours.weight_h, theirs.weight_hh_l0)):
        found_grad = torch.cat([matrix.defining.grad[..., 0] for matrix in part])
        torch.testing.assert_close(found_grad, weight.grad)
    torch.testing.assert_close(ours.bias.grad.reshape(-1), theirs.bias_ih_l0.grad)


def test_float_gru_equals_torch():
    torch.manual_seed(4)
    theirs, ours = torch.nn.GRU(10, 13), make_layer(make_config(10, 13, 1, network__cell="gru"))
    w_x, w_h = theirs.weight_ih_l0, theirs.weight_hh_l0
    (b_xr, b_xz, b_xn), (b_hr, b_hz, b_hn) = theirs.bias_ih_l0.chunk(3), theirs.bias_hh_l0.chunk(3)
    ours.set_dense(
        torch.cat([w_x, torch.zeros(13, 10)]),
        torch.cat([w_h[:26], torch.zeros(13, 13), w_h[26:]]),
        torch.cat([b_xr + b_hr, b_xz + b_hz, b_xn, b_hn]),
    )
    x, h = torch.randn(9, 4, 10), torch.randn(4, 13)
    wanted, _ = theirs(x, h[None])
    found, _ = ours(x, (h, h))
    torch.testing.assert_close(found, wanted)
    mix = torch.randn_like(wanted)
    (wanted * mix).sum().backward()
    (found * mix).sum().backward()
    found_grad = torch.cat([ours.weight_h[gate].defining.grad[..., 0] for gate in (0, 1, 3)])
    torch.testing.assert_close(found_grad, w_h.grad)
    assert ours.weight_h[2].defining.grad is None


CASES = [
    make_config(10, 13, 1),
    make_config(9, 14, 2, activation__kind="shift", activation__segments=5),
    make_config(10, 13, 4, quantization__weight_bits=2, quantization__weight_frac=[1, 2, 1, 3]),
    make_config(17, 20, 8, quantization__weight_frac=[5, 6, 7, 4]),
    make_config(5, 7, 8, quantization__weight_bits=4, quantization__weight_frac=3),
    make_config(20, 33, 16, quantization__weight_bits=3, activation__segments=4, quantization__weight_frac=2),
    make_config(10, 13, 4, quantization__x="Q3.9", quantization__h="Q1.7", quantization__weight_frac=5),
    make_config(10, 13, 4, quantization__x="Q1.15", quantization__h="Q1.15", quantization__bias_bits=32),
    make_config(10, 13, 4, quantization__cell="Q4.20", quantization__gate="Q2.14"),
    make_config(10, 13, 2, quantization__cell="Q2.4", quantization__preact="Q3.4", quantization__gate="Q2.3",
                activation__kind="shift", activation__segments=3),
    make_config(12, 16, 4, quantization__weight_bits=5, quantization__weight_frac=[4, 3, 4, 5], quantization__h="Q1.5"),
    make_config(12, 16, 8, quantization__weight_bits=6, quantization__bias_bits=8, quantization__weight_frac=1),
    make_config(12, 16, 16, quantization__weight_bits=7, activation__segments=64),
    preset("char128"),
    make_config(10, 13, 1, network__cell="gru"),
    make_config(12, 16, 4, network__cell="gru", quantization__weight_bits=4, quantization__weight_frac=[2, 3, 2, 1]),
    make_config(17, 20, 8, network__cell="gru", activation__kind="shift", activation__segments=5),
    make_config(10, 13, 4, network__cell="rnn", quantization__h="Q1.5", quantization__weight_frac=6),
    make_config(10, 13, 4, network__cell="rnn_relu", quantization__h="Q3.5", quantization__weight_frac=6),
    make_config(10, 13, 4, network__cell="lstm_peephole"),
    make_config(12, 16, 1, network__cell="lstm_peephole", quantization__peephole="Q1.5", quantization__cell="Q4.20",
                quantization__weight_frac=[4, 3, 4, 5]),
    make_config(10, 13, 4, network__projection_size=6),
    make_config(9, 17, 8, network__cell="lstm_peephole", network__projection_size=11, quantization__h="Q3.5",
                quantization__projection_frac=4, quantization__weight_bits=5, quantization__weight_frac=3),
    make_config(10, 13, 4, network__cell="gru_reset_first", quantization__weight_frac=[5, 6, 4]),
    make_config(17, 20, 8, network__cell="gru_reset_first", quantization__x="Q1.15", quantization__h="Q1.15",
                quantization__bias_bits=32, quantization__weight_frac=6),
    make_config(16, 32, 8, quantization__weight_bits=2, **HALF),
    make_config(10, 13, 1, quantization__weight_bits=8, **HALF),
    make_config(10, 13, 4, network__cell="gru_reset_first", quantization__weight_bits=3,
                quantization__weight_frac=[5, 6, 4], **HALF),
    make_config(9, 17, 8, network__cell="lstm_peephole", network__projection_size=11, quantization__h="Q3.5",
                quantization__projection_frac=4, quantization__weight_bits=3, quantization__weight_frac=3, **HALF),
    make_config(10, 13, 4, quantization__input_shift=-5),
    make_config(16, 32, 8, quantization__input_shift=6, quantization__weight_frac=2),
    make_config(12, 16, 4, network__cell="gru", quantization__weight_frac=[4, 3, 4, 2], quantization__input_shift=3),
    make_config(17, 20, 8, network__cell="gru_reset_first", quantization__x="Q1.15", quantization__h="Q1.15",
                quantization__bias_bits=32, quantization__weight_frac=5, quantization__input_shift=-12),
]  # fmt: skip


@pytest.mark.parametrize("spread", [0.3, 3.0])
@pytest.mark.parametrize("config", CASES, ids=range(len(CASES)))
def test_integers_equal_the_reference(config, spread):
    """0 LSB at every step, from a state that is not zero, also where everything saturates."""
    layer = random_layer(config, 7, spread)
    layer.quantized = True
    points = config.quantization
    torch.manual_seed(1)
    x = torch.randn(40, 3, config.network.input_size) * 0.7
    h, c = torch.randn(3, config.output_size) * 0.6, torch.randn(3, config.network.units) * 4.0
    out, (h_last, c_last) = layer(x, (h, c))
    reference = LayerReference(layer_weights(layer))
    start = fixed_point.quantize(h.numpy(), points.h), fixed_point.quantize(c.numpy(), points.cell)
    wanted, (h_wanted, c_wanted) = reference.run(fixed_point.quantize(x.numpy(), points.x), start)
    np.testing.assert_array_equal(codes_of(out, points.h), wanted)
    np.testing.assert_array_equal(codes_of(h_last, points.h), h_wanted)
    if config.cell.has_state:
        np.testing.assert_array_equal(codes_of(c_last, points.cell), c_wanted)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_integers_with_learned_scales_equal_the_reference(cell):
    """0 LSB after scales have moved, in every layer by another exponent, and in ranges that the format allows."""
    sizes = make_config(10, 13, 4, network__cell=cell, quantization__weight_bits=4, quantization__weight_frac=5)
    config = sizes.replace({"network.num_layers": 2})
    torch.manual_seed(6)
    network = SequenceNetwork(config, 7)
    network.start_quantization(*choose_formats(network))
    network.layer.learn_scales()
    before = network.config.layer_weight_fracs
    x = torch.randn(20, 3, 10) * 0.7
    network(x)[0].square().mean().backward()
    scales = [layer.log2_scale for layer in network.layer.layers]
    assert all(float(scale.grad.abs().min()) > 0 for scale in scales)
    with torch.no_grad():
        scales[0] -= 0.4
        scales[1] -= 1.3
        scales[1][0] += 99
    network.clamp_parameters()
    first, second = network.config.layer_weight_fracs
    assert first == before[0]
    assert second[1:] == tuple(frac + 1 for frac in before[1][1:])
    assert second[0] == min(weight_candidates(network.config))
    with torch.no_grad():
        logits, _ = network(x)
    found, _ = sequence_model(network).logits(x.numpy())
    np.testing.assert_array_equal(logits.double().numpy(), found)


@pytest.mark.parametrize(
    "config",
    [
        make_config(10, 13, 4, quantization__weight_bits=2, **ROWS),
        make_config(10, 13, 1, quantization__weight_bits=4, quantization__scale_bits=4, **ROWS),
        make_config(16, 32, 8, network__num_layers=2, **ROWS),
        make_config(10, 13, 4, network__cell="gru", quantization__weight_bits=3, quantization__x="Q3.5", **ROWS),
        make_config(10, 13, 4, network__cell="lstm_peephole", network__projection_size=6, **ROWS),
        make_config(10, 13, 4, network__cell="gru_reset_first", **ROWS),
        make_config(10, 13, 4, network__cell="rnn_relu", quantization__h="Q3.5", **ROWS),
        make_config(16, 32, 8, quantization__weight_bits=2, network__num_layers=2, **ROWS, **HALF),
        make_config(10, 13, 4, network__projection_size=6, quantization__weight_bits=3, **ROWS, **HALF),
        make_config(10, 13, 4, network__num_layers=2, quantization__input_shift=[-3, 2], **ROWS),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("trains", [True, False], ids=["trained", "fitted"])
def test_integers_with_scales_of_rows_equal_the_reference(config, trains):
    """0 LSB with fitted and trained scales, and after they moved apart, beyond the range of the multipliers too."""
    torch.manual_seed(8)
    network = SequenceNetwork(config, 7)
    with torch.no_grad():
        for parameter in network.layer.parameters():
            if parameter.requires_grad:
                # Every block row has a range of its own.
                wide = parameter.ndim == 3
                spread = torch.exp2(torch.rand(len(parameter), 1, 1) * 3 - 2) if wide else 0.4
                parameter.copy_(torch.randn_like(parameter) * spread)
    network.start_quantization(*choose_formats(network), trains_scales=trains)
    size_x = config.network.input_size
    x = torch.randn(12, 3, size_x) * 0.7
    network(x)[0].square().mean().backward()
    layers = network.layer.layers
    assert all(layer.is_normalized == trains for layer in layers)
    assert all(
        (float(layer.log2_scale.grad.abs().max()) > 0) if trains else layer.log2_scale.grad is None for layer in layers
    )
    for moved in (0.0, 0.3, 4.0):
        with torch.no_grad():
            for layer in layers:
                layer.log2_scale += moved * torch.randn_like(layer.log2_scale)
                # The length of normalised weights does not count.
                for matrix in layer.weight_h if trains else ():
                    matrix.defining *= 1 + moved
        network.clamp_parameters()
        weights = [layer_weights(layer) for layer in layers]
        for part in weights:
            assert len(np.unique(part.scale)) > 1 or moved == 0.0
            assert part.scale.max() > part.config.scale_min_max[1] // 4 or moved == 4.0
        with torch.no_grad():
            logits, _ = network(x)
        found, _ = sequence_model(network).logits(x.numpy())
        np.testing.assert_array_equal(logits.double().numpy(), found)
        for layer, part in zip(layers, weights, strict=True):
            layer.settle()
            changed = layer_weights(layer).defining != part.defining
            # Settled weights round to the same integers, but for those between two of them.
            assert changed.mean() < 1e-3
            assert trains or not changed.any()


def test_scales_of_rows_follow_their_weights():
    """The scale of a row of exact multiples is found, and one of gates cannot hold all rows."""
    config = make_config(8, 16, 4, quantization__weight_bits=2, **ROWS)
    network = SequenceNetwork(config, 3)
    steps = torch.tensor([0.5, 0.375, 0.25, 0.125])
    with torch.no_grad():
        for matrix in (*network.layer.weight_x, *network.layer.weight_h):
            codes = torch.randint(-1, 2, matrix.defining.shape, generator=torch.Generator().manual_seed(1))
            codes[:, 0] = torch.tensor([1, -1, 0, 1])
            matrix.defining.copy_(codes * steps[:, None, None])
        before = network.layer.dense()
    network.start_quantization(*choose_formats(network), trains_scales=False)
    for found, wanted in zip(network.layer.defining(), before[:2], strict=True):
        dense = torch.cat([Expanded(16, found.shape[2] * 4, 4).prepare(part[None])[0].T for part in found])
        torch.testing.assert_close(dense, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    "config",
    [
        make_config(10, 13, 4, network__num_layers=3),
        make_config(9, 14, 2, network__num_layers=2, network__cell="gru", quantization__x="Q3.9"),
        make_config(10, 13, 4, network__num_layers=2, network__cell="lstm_peephole", network__projection_size=6),
        make_config(10, 13, 4, network__num_layers=2, network__cell="gru_reset_first", quantization__weight_frac=6),
        make_config(10, 13, 4, network__num_layers=3, quantization__input_shift=[4, 0, -4]),
    ],
    ids=range(5),
)
def test_integers_of_a_stack_equal_the_reference(config):
    """Logits at 0 LSB, from states that are not zero and after a choice of formats."""
    torch.manual_seed(5)
    network = SequenceNetwork(config, 7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.7)
    network.start_quantization(*choose_formats(network))
    points = network.config.quantization
    x, count = torch.randn(20, 3, config.network.input_size) * 0.7, config.network.num_layers
    state = torch.randn(count, 3, config.output_size) * 0.6, torch.randn(count, 3, config.network.units) * 4.0
    with torch.no_grad():
        logits, (h, c) = network(x, state)
    codes = (fixed_point.quantize(part.numpy(), fmt) for part, fmt in zip(state, (points.h, points.cell), strict=True))
    start = list(zip(*codes, strict=True))
    found, final = sequence_model(network).logits(x.numpy(), start)
    np.testing.assert_array_equal(logits.double().numpy(), found)
    np.testing.assert_array_equal(codes_of(h, points.h), np.stack([part[0] for part in final]))
    np.testing.assert_array_equal(codes_of(c, points.cell), np.stack([part[1] for part in final]))


def composed(layer, x, h, c):
    """The quantized layer out of autograd's pieces: what the fused recurrence must differentiate like."""
    config = layer.config
    points = config.quantization
    layer.algorithm = "expanded"
    plan = layer.plan()
    from_x = layer.project_input(x, plan)
    layer.algorithm = None
    w_h = Expanded(8, 8, config.block_size).prepare(plan.defining[1].to(from_x.dtype))[0].T
    out = []
    for t in range(len(x)):
        total = (from_x[t] + h.to(from_x.dtype) @ w_h.T).double()
        preact = fake_quantize_to(total, points.preact).chunk(4, dim=1)
        i, f, g, o = (activation(part, config.gate_table(gate)) for gate, part in enumerate(preact))
        c = fake_quantize_to(f * c + i * g, points.cell)
        h = _StraightThrough.apply(o * activation(c, config.cell_table), points.h)
        out.append(h)
    return torch.stack(out), c


class _StraightThrough(torch.autograd.Function):
    """|o·tanh(c)| <= 1 can exceed the format of h by one LSB only: the gradient always passes."""

    @staticmethod
    def forward(ctx, reals, fmt):
        return fake_quantize_to(reals, fmt)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


@pytest.mark.parametrize("settings", [{}, {"quantization__cell": "Q2.10"}, {"quantization__preact": "Q2.8"}])
def test_quantized_gradient_is_the_true_derivatives(settings):
    """Against the same network put together from single fake quantizations, saturation included."""
    config = make_config(
        6, 8, 4, quantization__x="Q1.15", quantization__h="Q1.15", quantization__gate="Q2.14", **settings
    )
    layer = random_layer(config, 11, 0.6)
    layer.quantized = True
    x = (torch.randn(7, 3, 6, dtype=torch.float64) * 0.3).requires_grad_()
    zeros = torch.zeros(3, 8, dtype=torch.float64)
    mix = torch.randn(7, 3, 8, dtype=torch.float64)
    gradients = []
    for fused in (True, False):
        layer.zero_grad()
        x.grad = None
        out, c = layer(x)[0::1] if fused else composed(layer, x, zeros, zeros)
        c = c[1] if fused else c
        ((out * mix).sum() + c.sum()).backward()
        gradients.append([out.detach(), x.grad.clone(), *(p.grad.clone() for p in layer.parameters())])
    assert torch.equal(gradients[0][0], gradients[1][0])
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert float(wanted.abs().max()) > 0


def test_true_derivative():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert torch.allclose(true_derivative("tanh", x), 1 / torch.cosh(x) ** 2)
    assert torch.allclose(true_derivative("sigmoid", x), 1 / (2 + torch.exp(x) + torch.exp(-x)))


# -- export ----------------------------------------------------------------------------------------------------


def test_fraction_bits_have_the_least_squared_error():
    # Among exact ones the coarsest, which leaves room for retraining.
    assert best_fraction_bits([(np.array([0.25, -0.75]), 0)], 8) == 2
    assert best_fraction_bits([(np.array([0.3, -0.7]), 0)], 8) == 6
    assert best_fraction_bits([(np.array([3.0, -4.0]), 0)], 3) == 0
    # One huge weight among many small ones is saturated rather than coarsening all.
    values = torch.cat([torch.randn(10000, generator=torch.Generator().manual_seed(1)) * 0.1, torch.tensor([1.1])])
    assert best_fraction_bits([(values.double().numpy(), 0)], 4) == 5
    # Odd integers fit what lies halfway between others.
    assert best_fraction_bits([(np.array([0.5, -1.5, -0.5, 1.5]), 0)], 2, is_odd=True) == 1
    # W_x of coarser x has more fraction bits than W_h.
    assert best_fraction_bits([(np.array([0.3, -0.7]), 2)], 8) == 4


def test_chosen_formats_keep_the_accumulator_finer_than_preact():
    network = SequenceNetwork(preset("tiny").replace({"quantization.weight_bits": 2}), 3, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(100)
    config, output_frac = choose_formats(network)
    assert config.quantization.weight_frac == (1, 1, 1, 1)
    assert output_frac <= 5


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(2)
    network = SequenceNetwork(preset("tiny").replace({"quantization.weight_bits": 6}), len(SYMBOLS), len(SYMBOLS))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.6)
    network.start_quantization(*choose_formats(network))
    return network


def test_character_network_equals_the_reference(network):
    """Logits at 0 LSB, so bits per character to rounding of float32's softmax."""
    model = CharModel(weight_image(network, SYMBOLS))
    codes = torch.randint(0, len(SYMBOLS), (30, 2), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, _ = network(codes)
    h, _ = model.reference.run(model.embed(codes.numpy()))
    np.testing.assert_array_equal(logits.double().numpy() * 2.0**model.text_layers.logit_frac, model.logits(h))
    found, _ = sequence_model(network).logits(codes.numpy())
    np.testing.assert_array_equal(found, logits.double().numpy())


def test_projecting_the_embedding_first_changes_no_integer(network):
    codes = torch.randint(0, len(SYMBOLS), (20, 2), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits, (h, _) = network(codes)
        _, (wanted, _) = network.layer(network.embedding[codes])
    assert torch.equal(h, wanted)


def test_real_vectors_equal_the_reference():
    """Without an embedding: logits at 0 LSB."""
    torch.manual_seed(5)
    network = SequenceNetwork(preset("tiny").replace({"quantization.weight_bits": 5}), 7)
    network.start_quantization(*choose_formats(network))
    inputs = np.random.default_rng(5).normal(size=(20, 3, 10)).astype(np.float32) * 0.5
    found, _ = sequence_model(network).logits(inputs)
    wanted, _ = network.logits(inputs)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("hidden", "outputs", "block_size"), [(12, 8, 4), (12, 7, 4), (10, 7, 2), (10, 5, 4)])
def test_circulant_output_layer_equals_the_reference(hidden, outputs, block_size):
    """Logits at 0 LSB, of sizes that blocks divide or not; the weights are circulant and so are those of the image."""
    torch.manual_seed(7)
    settings = {"network.hidden_size": hidden, "compression.output_block_size": block_size}
    network = SequenceNetwork(preset("tiny").replace(settings), outputs, outputs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.6)
    assert network.output_weight.shape == (-(-outputs // block_size), -(-hidden // block_size), block_size)
    network.start_quantization(*choose_formats(network))
    image = weight_image(network, SYMBOLS[:outputs])
    found = circulant.exact_defining(image.text_layers.weight, block_size)
    assert found is not None
    assert found.shape == network.output_weight.shape
    codes = np.random.default_rng(7).integers(0, outputs, (20, 3))
    logits, _ = network.logits(codes)
    model = CharModel(image)
    h, _ = model.reference.run(model.embed(codes))
    np.testing.assert_array_equal(model.logits(h) * 2.0**-model.text_layers.logit_frac, logits)
    np.testing.assert_array_equal(sequence_model(network).logits(codes)[0], logits)


def test_circulant_output_layer_is_a_shared_dense_one():
    """The gradient of a defining entry is the sum of those of the weights that it stands for."""
    torch.manual_seed(8)
    network = SequenceNetwork(preset("tiny").replace({"compression.output_block_size": 4}), 7, 7)
    codes = torch.randint(0, 7, (6, 2))
    network.start_quantization(*choose_formats(network))
    network(codes)[0].square().sum().backward()
    dense = SequenceNetwork(network.config.replace({"compression.output_block_size": 1}), 7, 7)
    dense.layer.load_state_dict(network.layer.state_dict())
    dense.start_quantization(network.config, network.output_frac)
    with torch.no_grad():
        dense.embedding.copy_(network.embedding)
        dense.set_output_weight(network.dense_output_weight())
    dense(codes)[0].square().sum().backward()
    padded = torch.zeros(8, 12, dtype=torch.float64)
    padded[:7] = dense.output_weight.grad
    summed = circulant.project(padded.numpy(), 4) * 4
    np.testing.assert_allclose(network.output_weight.grad.numpy(), summed, rtol=1e-4, atol=1e-6)


def test_checkpoints_name_the_output_layer_head():
    """Checkpoints of earlier versions stay readable, copies of a network and several processes included."""
    network = SequenceNetwork(preset("tiny"), 7)
    for module, prefix in (
        (network, ""),
        (copy.deepcopy(network), ""),
        (torch.nn.ModuleDict({"module": network}), "module."),
    ):
        state = module.state_dict()
        assert {name for name in state if "layer." not in name} == {f"{prefix}head_weight", f"{prefix}head_bias"}
        wanted = {name: value + 1 for name, value in state.items()}
        module.load_state_dict(wanted)
        assert all(torch.equal(value, wanted[name]) for name, value in module.state_dict().items())


def test_a_dense_output_layer_is_projected():
    """The nearest circulant one: rows and columns that only pad do not count."""
    network = SequenceNetwork(preset("tiny").replace({"compression.output_block_size": 4}), 7)
    wanted = network.dense_output_weight().detach().clone()
    with torch.no_grad():
        network.output_weight.zero_()
    network.set_output_weight(wanted)
    torch.testing.assert_close(network.dense_output_weight().detach(), wanted)


@pytest.mark.parametrize("sizes", [(1, 8), (8, 4), (4, 8), (16, 2)])
def test_block_sizes_apart_equal_the_reference(sizes):
    torch.manual_seed(6)
    network = SequenceNetwork(make_config(16, 32, 1), 5, None, sizes)
    network.start_quantization(*choose_formats(network))
    inputs = np.random.default_rng(6).normal(size=(20, 3, 16)).astype(np.float32) * 0.5
    found, _ = sequence_model(network).logits(inputs)
    wanted, _ = network.logits(inputs)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(InvalidValueError, match="block sizes of W_x and W_h must be equal in a weight image"):
        weight_image(network, "abcde")


def test_refined_formats_never_raise_the_loss(network):
    other = copy.deepcopy(network)
    inputs = torch.randint(0, len(SYMBOLS), (20, 2), generator=torch.Generator().manual_seed(4))

    def loss():
        with torch.no_grad():
            logits, _ = other(inputs)
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), inputs.flatten()))

    before = loss()
    refine_formats(other, loss)
    assert loss() <= before


# -- products --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [2, 4, 8, 16])
def test_every_way_is_the_same_product_with_the_same_gradients(block_size):
    generator = torch.Generator().manual_seed(block_size)
    rows, cols, k = 2 * block_size, 3 * block_size, block_size
    vectors = torch.randn(5, cols, generator=generator, dtype=torch.float64)
    defining = torch.randn(4, 2, 3, k, generator=generator, dtype=torch.float64)
    wanted = None
    for name, kind in ALGORITHMS.items():
        algorithm = kind(rows, cols, k)
        inputs = vectors.clone().requires_grad_(), defining.clone().requires_grad_()
        lanes = product(to_lanes(inputs[0], algorithm.lanes), inputs[1], algorithm)
        # (lanes, N, 4·blocks) → (N, 4, rows) in the order of the matrix.
        found = lanes.unflatten(2, (4, -1)).permute(1, 2, 3, 0).reshape(5, 4, rows)
        (found**2).sum().backward()
        results = [found.detach(), *(part.grad for part in inputs)]
        if wanted is None:
            wanted = results
            expanded = circulant.expand(defining[1].numpy())
            np.testing.assert_allclose(found[:, 1].detach().numpy(), vectors.numpy() @ expanded.T)
        for one, other in zip(results, wanted, strict=True):
            torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")


def test_lanes_and_back():
    vectors = torch.randn(5, 24)
    assert torch.equal(from_lanes(to_lanes(vectors, 8)), vectors)
    matrix = BlockCirculant(16, 24, 8)
    for algorithm in (None, "expanded", "gather", "fast"):
        torch.testing.assert_close(matrix(vectors, algorithm), vectors @ matrix.dense().T)
    with pytest.raises(
        InvalidValueError, match="algorithm must be expanded for a 10 x 24 matrix of block size 8, not 'fast'"
    ):
        BlockCirculant(10, 24, 8)(vectors, "fast")


def test_the_plan_is_exact_for_the_weights():
    """Small weights fit float32 in every algorithm, larger ones only in direct sums, huge sums only in float64."""
    wanted = {1: ("fast", torch.float32), 60: ("fast64", torch.float32), 128: ("fast", torch.float64)}
    for size, plan in wanted.items():
        config = make_config(512, 512, 8, quantization__weight_frac=7)
        parts = torch.full((4, 64, 64, 8), -size * 2.0**-7), torch.full((4, 64, 64, 8), -size * 2.0**-7)
        assert exact_arithmetic(config, parts) == plan


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("block_size", [8, 16])
def test_large_integers_equal_the_reference_whatever_the_plan(block_size, bits):
    config = make_config(
        64, 256, block_size, quantization__weight_bits=bits, quantization__weight_frac=max(1, bits - 2)
    )
    layer = random_layer(config, bits, 0.8)
    layer.quantized = True
    x = torch.randn(6, 2, 64)
    out, _ = layer(x)
    reference = LayerReference(layer_weights(layer))
    wanted, _ = reference.run(fixed_point.quantize(x.numpy(), config.quantization.x))
    np.testing.assert_array_equal(codes_of(out, config.quantization.h), wanted)


def test_text_streams_go_round():
    streams = TextStreams(torch.arange(10), batch=2, segment=3)
    inputs, targets = streams[0]
    assert inputs.T.tolist() == [[0, 1, 2], [5, 6, 7]]
    assert targets.T.tolist() == [[1, 2, 3], [6, 7, 8]]
    assert streams[1][0].T.tolist() == [[3, 4, 5], [8, 9, 0]]
    assert streams[3][1].T.tolist() == [[0, 1, 2], [5, 6, 7]]


def test_networks_that_are_not_trained_are_refused():
    config = preset("tiny").replace({"network.bidirectional": True})
    with pytest.raises(InvalidValueError, match=r"^network\.bidirectional must be false to be trained, not True$"):
        make_layer(config)
