"""Modules in place of torch.nn: the float ones are equal to it, the integers to the reference at 0 LSB."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pack_padded_sequence

import chessrnn.torch
from chessrnn.model.errors import UserError
from chessrnn.model.fixed_point import quantize
from chessrnn.model.reference.network import NetworkReference

CELLS = {
    "lstm": ("LSTM", {}),
    "projection": ("LSTM", {"proj_size": 5}),
    "gru": ("GRU", {}),
    "rnn": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu"}),
}
STACKS = [(layers, both) for layers in (1, 2) for both in (False, True)]
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.fixture
def seeded(rng):
    torch.manual_seed(int(rng.integers(1 << 31)))


def pair(name, k=4, weight_bits=4, **options):
    """A dense module of torch.nn and the compressed one with its projected weights."""
    kind, own = CELLS[name]
    dense = getattr(torch.nn, kind)(6, 10, **own, **options)
    return dense, getattr(chessrnn.torch, kind).from_dense(dense, k=k, weight_bits=weight_bits)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def assert_states_close(found, expected):
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert_close(one, other)


def first_state(dense):
    width = getattr(dense, "proj_size", 0) or dense.hidden_size
    count = dense.num_layers * (2 if dense.bidirectional else 1)
    h = torch.rand(count, 4, width) - 0.5
    return (h, torch.rand(count, 4, dense.hidden_size)) if isinstance(dense, torch.nn.LSTM) else h


# -- float -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "both"), STACKS)
@pytest.mark.parametrize("name", CELLS)
def test_dense_float_equals_torch_nn(name, layers, both, seeded):
    dense, module = pair(name, k=1, num_layers=layers, bidirectional=both)
    x, hx = torch.randn(7, 4, 6), first_state(dense)
    for arguments in ((x,), (x, hx)):
        (expected, state), (found, own_state) = dense(*arguments), module(*arguments)
        assert_close(found, expected)
        assert_states_close(own_state, state)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("is_sorted", [False, True])
def test_packed_sequences(name, is_sorted, seeded):
    dense, module = pair(name, k=1, num_layers=2, bidirectional=True, batch_first=True)
    lengths = torch.tensor([7, 7, 3, 1] if is_sorted else [3, 7, 1, 7])
    packed = pack_padded_sequence(torch.randn(4, 7, 6), lengths, batch_first=True, enforce_sorted=is_sorted)
    hx = first_state(dense)
    (expected, state), (found, own_state) = dense(packed, hx), module(packed, hx)
    assert_close(found.data, expected.data)
    assert_states_close(own_state, state)
    assert all(torch.equal(one, other) for one, other in zip(found[1:], expected[1:], strict=True) if one is not None)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_layouts(name, seeded):
    dense, module = pair(name, k=1, batch_first=True)
    x = torch.randn(4, 7, 6)
    assert_close(module(x)[0], dense(x)[0])
    assert_close(module(x[0])[0], dense(x[0])[0])
    assert_states_close(module(x[0])[1], dense(x[0])[1])


def test_options_of_torch_nn(seeded):
    module = chessrnn.torch.LSTM(6, 10, 2, bias=False, dropout=0.5, k=2)
    x = torch.randn(7, 4, 6)
    assert not torch.equal(module(x)[0], module(x)[0])
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])
    module(x)[0].sum().backward()
    assert all(not layer.bias.requires_grad and not layer.bias.any() for layer in module.layers)
    assert module.double()(x.double())[0].dtype == torch.float64
    module.flatten_parameters()
    assert repr(module) == "LSTM(6, 10, num_layers=2, bias=False, dropout=0.5, k=2, weight_bits=4, stage=float)"


# -- integers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "both"), STACKS)
@pytest.mark.parametrize("name", CELLS)
def test_integers_equal_the_reference(name, layers, both, seeded):
    _, module = pair(name, num_layers=layers, bidirectional=both)
    x = torch.randn(7, 4, 6)
    codes = module.integers(x)
    assert module.current_stage == "float"
    points = module.config.quantization
    expected, _ = NetworkReference(module.weights()).run(quantize(x.numpy(), points.x))
    np.testing.assert_array_equal(codes.numpy(), expected)
    assert np.abs(expected).max() > 0
    output, _ = module.stage("quantized")(x)
    assert torch.equal(output, codes * points.h.lsb)
    assert torch.equal(module.integers(x), codes)


@pytest.mark.parametrize("shift", [-3, [1, -2]])
def test_integers_where_products_of_x_have_a_scale_of_their_own(shift, seeded):
    module = chessrnn.torch.LSTM(6, 10, num_layers=2, k=2, settings={"quantization.input_shift": shift})
    x = torch.randn(7, 4, 6)
    codes = module.integers(x)
    shifts = shift if isinstance(shift, list) else [shift, shift]
    assert list(module.config.layer_input_shifts) == shifts
    expected, _ = NetworkReference(module.weights()).run(quantize(x.numpy(), module.config.quantization.x))
    np.testing.assert_array_equal(codes.numpy(), expected)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_integers_of_every_packed_sequence(name, seeded):
    _, module = pair(name, num_layers=2, bidirectional=True)
    x, lengths = torch.randn(7, 4, 6), [3, 7, 1, 7]
    packed = module.integers(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))
    found, _ = torch.nn.utils.rnn.pad_packed_sequence(packed)
    for number, length in enumerate(lengths):
        alone = module.integers(x[:length, number : number + 1])
        assert torch.equal(found[:length, number : number + 1], alone)


@pytest.mark.parametrize("name", CELLS)
def test_first_state_in_integers(name, seeded):
    _, module = pair(name, num_layers=2)
    x = torch.randn(8, 4, 6)
    codes = module.calibrate(x).integers(x)
    _, state = module.eval().stage("quantized")(x[:5])
    if name == "gru":
        # What is passed on is h, with fewer fraction bits than the state between steps.
        points = module.config.quantization
        h = [quantize(part.detach().numpy(), points.cell) for part in state]
        start = [(quantize(part.detach().numpy(), points.h), c) for part, c in zip(state, h, strict=True)]
        expected, _ = NetworkReference(module.weights()).run(quantize(x[5:].numpy(), points.x), start)
        np.testing.assert_array_equal(module.integers(x[5:], state).numpy(), expected)
    else:
        assert torch.equal(module.integers(x[5:], state), codes[5:])


@pytest.mark.parametrize("name", ["projection", "gru", "rnn"])
def test_every_stage_trains(name, seeded):
    _, module = pair(name, num_layers=2)
    x, target = torch.randn(12, 8, 6), torch.rand(12, 8, 5 if name == "projection" else 10)
    for stage in ("float", "approximate", "quantized"):
        module.stage(stage)
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(module(x)[0], target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert min(losses[1:]) < losses[0]
    codes = module.integers(x).numpy()
    expected, _ = NetworkReference(module.weights()).run(quantize(x.numpy(), module.config.quantization.x))
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("name", "scale"), [("lstm", "gate"), ("gru", "gate"), ("lstm", "row")])
def test_learned_scales_move_and_are_stored(name, scale, both, seeded, tmp_path):
    """An optimizer that was made in stage float moves the exponents; integers stay those of the reference."""
    kind, own = CELLS[name]
    dense = getattr(torch.nn, kind)(6, 10, 2, bidirectional=both)
    options = {"settings": {"quantization.weight_scale": scale}, "learned_scales": True}
    module = chessrnn.torch.compress(dense, weight_bits=4, **options)
    rates = {name: 0.4 if "log2_scale" in name else 1e-3 for name, _ in module.named_parameters()}
    groups = [{"params": [value], "lr": rates[name]} for name, value in module.named_parameters()]
    optimizer = torch.optim.Adam(groups)
    x = torch.randn(12, 8, 6)
    module(x)[0].sum().backward()
    assert all((layer.log2_scale.grad == 0).all() for layer in module.layers)
    codes = module.calibrate(x).integers(x)
    expected, _ = NetworkReference(module.weights()).run(quantize(x.numpy(), module.config.quantization.x))
    np.testing.assert_array_equal(codes, expected)
    before = module.stage("quantized").config.layer_weight_fracs
    for _ in range(4):
        optimizer.zero_grad()
        module(x)[0].square().mean().backward()
        for layer in module.layers:
            assert float(layer.log2_scale.grad.abs().max()) > 0
        optimizer.step()
    output = module(x)[0]
    assert module.config.layer_weight_fracs != before
    expected, _ = NetworkReference(module.weights()).run(quantize(x.numpy(), module.config.quantization.x))
    np.testing.assert_array_equal((output * 2.0**module.config.quantization.h.fraction_bits).detach().numpy(), expected)
    save_file(module.state_dict(), tmp_path / "module.safetensors")
    fresh = getattr(chessrnn.torch, kind)(6, 10, 2, bidirectional=both, **options)
    fresh.load_state_dict(load_file(tmp_path / "module.safetensors"))
    assert fresh.config == module.config
    assert torch.equal(fresh(x)[0], output)
    if scale == "row":
        # In float the weights have the length that their scales gave them, so the way back is nearly the same.
        floating = module.stage("float")(x)[0]
        torch.testing.assert_close(floating, output, atol=0.1, rtol=0)
        torch.testing.assert_close(module.stage("quantized")(x)[0], output, atol=0.05, rtol=0)


@pytest.mark.parametrize("scale", ["gate", "row"])
def test_scales_of_the_last_update_count_at_once(scale, seeded):
    """After the last step of an optimizer every way to the integers gives the same ones."""
    options = {"settings": {"quantization.weight_scale": scale}, "learned_scales": True}
    module = chessrnn.torch.LSTM(6, 10, **options)
    x = torch.randn(9, 4, 6)
    optimizer = torch.optim.Adam(module.calibrate(x).stage("quantized").parameters(), lr=0.1)
    for _ in range(12):
        optimizer.zero_grad()
        module(x)[0].square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for layer in module.layers:
                # Far enough for another exponent.
                layer.log2_scale -= 0.3
        codes = module.eval().integers(x).numpy()
        weights = module.weights()
        expected, _ = NetworkReference(weights).run(quantize(x.numpy(), module.config.quantization.x))
        np.testing.assert_array_equal(codes, expected)
        lsb = module.config.quantization.h.lsb
        np.testing.assert_array_equal(module(x)[0].detach().double().numpy() / lsb, expected)
        assert module.config == weights.config
        module.train()


def test_input_that_is_not_finite_is_refused_in_integers(seeded):
    module = chessrnn.torch.LSTM(6, 10)
    x = torch.randn(5, 2, 6)
    assert module(x * torch.nan)[0].isnan().all()
    module.calibrate(x).stage("quantized")
    with pytest.raises(UserError, match=r"^input must be made of finite numbers, not 'one that is not'$"):
        module(x * torch.nan)


def test_sizes_are_bounded_before_anything_is_allocated():
    with pytest.raises(UserError, match=r"^hidden_size must be at most 65536, not 1000000000000$"):
        chessrnn.torch.LSTM(8, 10**12)


@pytest.mark.parametrize(("settings", "message"), [([1], "a mapping of fields"), ({1: 1}, "the names of fields")])
def test_settings_are_fields_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        chessrnn.torch.LSTM(8, 8, settings=settings)


def test_weights_get_narrow_step_by_step(seeded):
    _, module = pair("lstm", weight_bits=8)
    x = torch.randn(7, 4, 6)
    module.calibrate(x)
    for bits in (8, 4, 2):
        module.stage("quantized", weight_bits=bits)
        assert module.config.quantization.weight_bits == bits
        codes = module.weights().defining
        assert 1 << (bits - 2) <= abs(codes).max() <= 1 << (bits - 1)
        expected, _ = NetworkReference(module.weights()).run(quantize(x.numpy(), module.config.quantization.x))
        np.testing.assert_array_equal(module.integers(x).numpy(), expected)
    with pytest.raises(UserError, match=r"^quantization.weight_bits must be from 2 to 8, not 9$"):
        module.stage("quantized", 9)


def test_distillation_counts_only_the_masked_steps():
    logits, teacher = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    mask = torch.tensor([True, True, False, False, False])[:, None].expand(5, 2)
    found = chessrnn.torch.distillation_loss(logits, teacher, mask)
    assert_close(found, chessrnn.torch.distillation_loss(logits[:2], teacher[:2]))
    p, q = teacher.softmax(dim=-1), logits.softmax(dim=-1)
    assert_close(chessrnn.torch.distillation_loss(logits, teacher), (p * (p / q).log()).sum(dim=-1).mean())


def test_a_large_input_gets_a_format_that_holds_it(seeded):
    _, module = pair("lstm")
    x = 9 * torch.randn(7, 4, 6)
    module.calibrate(x)
    assert module.config.quantization.x.integer_bits > 3
    kept = chessrnn.torch.LSTM(6, 10, settings={"quantization.x": "Q2.6"}).calibrate(x)
    assert str(kept.config.quantization.x) == "Q2.6"


# -- in a user's program ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_state_dict_restores_the_integers(name, seeded, tmp_path):
    dense, module = pair(name, num_layers=2)
    x = 3 * torch.randn(7, 4, 6)
    output, _ = module.stage("quantized")(x)
    torch.save(module.state_dict(), tmp_path / "module.pt")
    save_file(module.state_dict(), tmp_path / "module.safetensors")
    kind, own = CELLS[name]
    fresh = getattr(chessrnn.torch, kind)(6, 10, 2, **own)
    for state in (torch.load(tmp_path / "module.pt", weights_only=True), load_file(tmp_path / "module.safetensors")):
        fresh.stage("float").load_state_dict(state)
        assert fresh.current_stage == "quantized" and fresh.config == module.config
        assert torch.equal(fresh(x)[0], output)
    assert torch.equal(copy.deepcopy(module)(x)[0], output)


def test_state_dict_of_another_module_is_refused(seeded):
    state = chessrnn.torch.LSTM(6, 10).state_dict()
    with pytest.raises(UserError, match=r"^compression.block_size must be 8 here, not 4$"):
        chessrnn.torch.LSTM(6, 10, k=8).load_state_dict(state)
    with pytest.raises(UserError, match=r"^quantization.weight_bits must be 8 here, not 4$"):
        chessrnn.torch.LSTM(6, 10, weight_bits=8).load_state_dict(state)
    state["_extra_state"] = torch.zeros(3)
    with pytest.raises(UserError, match=r"^_extra_state must be a tensor that get_extra_state made"):
        chessrnn.torch.LSTM(6, 10).load_state_dict(state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chessrnn.torch.LSTM(6, 10, k=3), "compression.block_size must be a power of two from 1 to 16, not 3"),
        (lambda: chessrnn.torch.LSTM(6, 10, weight_bits=9), "quantization.weight_bits must be from 2 to 8, not 9"),
        (lambda: chessrnn.torch.LSTM(6, 0), "hidden_size must be at least 1, not 0"),
        (lambda: chessrnn.torch.LSTM(6.0, 10), "input_size must be an integer, not 6.0"),
        (lambda: chessrnn.torch.LSTM(6, 10, dropout=1), "dropout must be from 0 to below 1, not 1"),
        (lambda: chessrnn.torch.LSTM(6, 10, proj_size=11), "proj_size must be from 0 (none) to 10, the hidden size"),
        (lambda: chessrnn.torch.GRU(6, 10, proj_size=5), "proj_size must be 0, as only an LSTM has a projection"),
        (lambda: chessrnn.torch.RNN(6, 10, nonlinearity="sin"), "nonlinearity must be one of tanh, relu, not 'sin'"),
        (lambda: chessrnn.torch.LSTM(6, 10, device="cuda"), "device must be cpu, where the integers are computed"),
        (lambda: chessrnn.torch.LSTM(6, 10, dtype=torch.float16), "dtype must be one of torch.float32, torch.float64"),
        (lambda: chessrnn.torch.LSTM(6, 10).stage("integer"), "stage must be one of float, approximate, quantized"),
        (lambda: chessrnn.torch.LSTM(6, 10)([1.0]), "input must be a tensor or a PackedSequence, not [1.0]"),
        (lambda: chessrnn.torch.LSTM(6, 10)(torch.zeros(2, 3, 5)), "input must be of 6 elements per step, not (2, 3"),
        (lambda: chessrnn.torch.LSTM(6, 10)(torch.zeros(0, 3, 6)), "input must be of at least one step"),
        (
            lambda: chessrnn.torch.LSTM(6, 10)(torch.zeros(1, 1, 6, device="meta")),
            "input must be on the device cpu, not 'meta'",
        ),
        (lambda: chessrnn.torch.LSTM(6, 10)(torch.zeros(6)), "input must be of 2 or 3 axes, not (6,)"),
        (lambda: chessrnn.torch.LSTM(6, 10)(torch.zeros(1, 1, 6).long()), "input must be of a floating-point type"),
        (lambda: chessrnn.torch.LSTM(6, 10)(torch.zeros(1, 1, 6), 3), "hx must be a pair (h, c) of tensors, not 'int'"),
        (
            lambda: chessrnn.torch.GRU(6, 10)(torch.zeros(1, 2, 6), torch.zeros(1, 3, 10)),
            "hx: h must be of shape (1, 2, 10), not (1, 3, 10)",
        ),
        (
            lambda: chessrnn.torch.LSTM(6, 10).calibrate(torch.full((1, 1, 6), torch.inf)),
            "calibration data must be made of finite numbers",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(UserError) as raised:
        call()
    assert str(raised.value).startswith(message)
    assert len(str(raised.value)) < 200


class Tagger(torch.nn.Module):
    """A user's model around a recurrent layer."""

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent, self.output = recurrent, torch.nn.Linear(recurrent.hidden_size, 3)

    def forward(self, x):
        return self.output(self.recurrent(x)[0])


def gradients(model, output):
    model.zero_grad()
    output.float().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("stage", ["float", "quantized"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_autocast_leaves_the_integers_alone(name, stage, seeded):
    _, module = pair(name)
    x = torch.randn(7, 4, 6)
    module.calibrate(x).stage(stage)
    output, _ = module(x)
    expected = gradients(module, output)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = module(x)
        module(x.bfloat16())
        if name == "lstm":  # the other cells' gradients are autograd's own, which autocast rounds inside
            assert all(map(torch.equal, gradients(module, inside), expected))
            inside, _ = module(x)
    assert inside.dtype == torch.float32 and torch.equal(inside, output)
    assert all(map(torch.equal, gradients(module, inside), expected))


# PyTorch's tracer looks at the gradients of its own inputs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor")
def test_a_compiled_model_calls_the_module_as_it_is(seeded):
    model = Tagger(pair("lstm")[1])
    x = torch.randn(7, 4, 6)
    model.recurrent.calibrate(x).stage("quantized")
    compiled = torch.compile(model, backend="eager")
    output = compiled(x)
    assert torch.equal(output, model(x))
    expected = gradients(model, model(x))
    assert all(map(torch.equal, gradients(model, output), expected))
