"""Whole PyTorch models with the accelerator's integers inside: h equals the reference in every bit."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import chessrnn
from chessrnn.model.errors import UserError


class Model(nn.Module):
    """A factor, recurrent layers, and a matrix of whole numbers."""

    def __init__(self, rnn):
        super().__init__()
        width = (rnn.proj_size or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
        self.rnn, self.output = rnn, nn.Linear(width, 2, bias=False)
        with torch.no_grad():
            self.output.weight.copy_(torch.randint(-3, 4, self.output.weight.shape))

    def forward(self, x, hx=None):
        h, state = self.rnn(2 * x, hx)
        return self.output(h), h, state


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


@pytest.fixture
def x(rng):
    return torch.from_numpy(rng.integers(-60, 60, (3, 6, 4)) / 64).float()


def integers(model, x):
    calibration = 2 * x.numpy().swapaxes(0, 1)
    return chessrnn.compress(chessrnn.load_network(model.rnn), block_size=2, calibration=calibration).weights


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(4, 6, 2, batch_first=True),
        lambda: nn.LSTM(4, 6, bidirectional=True, batch_first=True),
        lambda: nn.LSTM(4, 6, proj_size=4, batch_first=True),
        lambda: nn.GRU(4, 6, batch_first=True),
        lambda: nn.RNN(4, 6, batch_first=True),
    ],
)
def test_equals_the_reference(make, x):
    model = Model(make())
    weights = integers(model, x)
    hybrid = chessrnn.hybrid(model, weights)
    y, found, final = hybrid(x)
    h, state = chessrnn.predict(weights, 2 * x.numpy(), batch_first=True, return_state=True)
    np.testing.assert_array_equal(found, h)
    np.testing.assert_array_equal(final[0] if isinstance(final, tuple) else final, state["h"])
    if isinstance(final, tuple):
        np.testing.assert_array_equal(final[1], state["c"])
    np.testing.assert_array_equal(y, h @ model.output.weight.detach().numpy().T)
    # The model itself is untouched.
    assert type(model.rnn) is type(make())
    with torch.no_grad():
        np.testing.assert_array_equal(hybrid.run_float(x)["1"], model.eval()(x)[1])


def test_layouts(x):
    model = nn.LSTM(4, 6)
    weights = chessrnn.compress(chessrnn.load_network(model), block_size=2, calibration=x.numpy()).weights
    hybrid = chessrnn.hybrid(model, weights)
    h, (final, _) = hybrid(x)
    np.testing.assert_array_equal(h, chessrnn.predict(weights, x.numpy()))
    single, (single_final, _) = hybrid(x[:, 0])
    np.testing.assert_array_equal(single, h[:, 0])
    np.testing.assert_array_equal(single_final, final[:, 0])


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_sequences(x, enforce_sorted):
    lengths = [6, 4, 1] if enforce_sorted else [2, 6, 4]
    model = nn.LSTM(4, 6, batch_first=True)
    weights = chessrnn.compress(chessrnn.load_network(model), block_size=2, calibration=x.numpy()).weights
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=enforce_sorted)
    found, (h, _) = chessrnn.hybrid(model, weights)(packed)
    unpacked, _ = pad_packed_sequence(found, batch_first=True)
    for number, length in enumerate(lengths):
        wanted = chessrnn.predict(weights, x[number : number + 1, :length].numpy(), batch_first=True)[0]
        np.testing.assert_array_equal(unpacked[number, :length], wanted)
        np.testing.assert_array_equal(h[0, number], wanted[-1])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_states_across_calls(x, kind):
    model = Model(getattr(nn, kind)(4, 6, batch_first=True))
    weights = integers(model, x)
    whole = chessrnn.predict(weights, 2 * x.numpy(), batch_first=True)
    hybrid, state, parts = chessrnn.hybrid(model, weights), None, []
    for part in x.split(2, dim=1):
        _, h, state = hybrid(part, state)
        parts.append(h)
    np.testing.assert_array_equal(torch.cat(parts, dim=1), whole)
    keeping = chessrnn.hybrid(model, weights, keep_state=True)
    np.testing.assert_array_equal(torch.cat([keeping(part)[1] for part in x.split(3, dim=1)], dim=1), whole)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_cells_of_single_steps(x, kind):
    layer = getattr(nn, kind)(4, 6)
    cell = getattr(nn, f"{kind}Cell")(4, 6)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    weights = chessrnn.compress(chessrnn.load_network(layer), block_size=2, calibration=x.numpy()).weights
    hybrid, state = chessrnn.hybrid(cell, weights), None
    for step, wanted in zip(x, chessrnn.predict(weights, x.numpy()), strict=True):
        state = hybrid(step, state)
        np.testing.assert_array_equal(state[0] if kind == "LSTM" else state, wanted)


def test_compressed_layers_of_a_training_loop(x):
    import chessrnn.torch

    model = Model(nn.LSTM(4, 6, batch_first=True))
    chessrnn.torch.compress(model, k=2, weight_bits=8, calibration=x)
    chessrnn.torch.stage(model, "quantized")
    found = chessrnn.hybrid(model, model.rnn.weights())(x)
    for one, other in zip(found[:2], model(x)[:2], strict=True):
        np.testing.assert_array_equal(one, other.detach())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(4, 6), r"prefix must be the name of one recurrent module \(none\), not None"),
        (lambda: nn.Sequential(nn.LSTM(4, 6), nn.LSTM(6, 6)), r"prefix must be the name of one .* \('0', '1'\), not"),
        (lambda: nn.GRU(4, 6), "the cell of the weights must be gru as in GRU, not 'lstm'"),
        (lambda: nn.LSTM(4, 5), "hidden_size of the weights must be 5 as in LSTM, not 6"),
        (lambda: 3, "model must be a torch.nn.Module or the path of an ONNX model, not 3"),
    ],
)
def test_refusals(make, message, x):
    weights = integers(Model(nn.LSTM(4, 6, batch_first=True)), x)
    with pytest.raises(UserError, match=message):
        chessrnn.hybrid(make(), weights)
