"""Networks of torch.nn through their state_dict: the float64 evaluation is PyTorch's own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.float_evaluation import State, run
from chessrnn.model.imported.load import load_network

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


@st.composite
def options(draw):
    """Constructor arguments of torch.nn.LSTM, GRU or RNN, and how it is run."""
    cell = draw(st.sampled_from(sorted(MODULES)))
    chosen = {
        "input_size": draw(st.integers(1, 6)),
        "hidden_size": draw(st.integers(2, 6)),
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if cell == "lstm":
        chosen["proj_size"] = draw(st.integers(0, chosen["hidden_size"] - 1))
    if cell == "rnn":
        chosen["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    return cell, chosen, draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 2**31))


def torch_result(module, x, lengths, state):
    """PyTorch's output (T, B, D·P) and final states, whatever its batch_first."""
    first = module.batch_first
    batch = x.transpose(0, 1) if first else x
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            batch, torch.from_numpy(lengths), batch_first=first, enforce_sorted=False
        )
        y, final = module(packed, state)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=first, total_length=len(x))
    else:
        y, final = module(batch, state)
    return y.transpose(0, 1) if first else y, final if isinstance(final, tuple) else (final,)


@given(options())
def test_every_option_of_torch(tmp_path_factory, chosen):
    cell, arguments, with_lengths, with_state, seed = chosen
    torch.manual_seed(seed)
    module = MODULES[cell](**arguments).double()
    folder = tmp_path_factory.mktemp("options")
    torch.save({"epoch": 3, "state_dict": {f"rnn.{k}": v for k, v in module.state_dict().items()}}, folder / "a.pt")
    save_file(module.state_dict(), folder / "a.safetensors")
    steps, batch, directions = 5, 3, 1 + arguments["bidirectional"]
    x = torch.randn(steps, batch, arguments["input_size"], dtype=torch.float64)
    lengths = np.random.default_rng(seed).integers(1, steps + 1, size=batch) if with_lengths else None
    state = states = None
    if with_state:
        rows = arguments["num_layers"] * directions
        sizes = [arguments.get("proj_size", 0) or arguments["hidden_size"]]
        sizes += [arguments["hidden_size"]] if cell == "lstm" else []
        parts = [torch.randn(rows, batch, size, dtype=torch.float64) for size in sizes]
        state = tuple(parts) if cell == "lstm" else parts[0]
        split = [part.numpy().reshape(-1, directions, *part.shape[1:]) for part in parts]
        states = [State(h, split[1][n] if cell == "lstm" else None) for n, h in enumerate(split[0])]
    with torch.no_grad():
        wanted, wanted_final = torch_result(module, x, lengths, state)
    for name in ("a.pt", "a.safetensors"):
        network = load_network(folder / name, activation=arguments.get("nonlinearity"))
        assert {layer.cell for layer in network.layers} == {cell}
        assert not network.ignored
        y, final = run(network, x.numpy(), lengths, states)
        np.testing.assert_allclose(y, wanted.numpy(), **TOLERANCE)
        np.testing.assert_allclose(np.concatenate([s.h for s in final]), wanted_final[0].numpy(), **TOLERANCE)
        if cell == "lstm":
            np.testing.assert_allclose(np.concatenate([s.c for s in final]), wanted_final[1].numpy(), **TOLERANCE)


class TwoNetworks(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(9, 4)
        self.encoder = torch.nn.GRU(4, 5, bidirectional=True)
        self.decoder = torch.nn.LSTMCell(10, 6)
        self.fc = torch.nn.Linear(6, 9)


def test_what_else_the_file_holds_is_named_and_a_prefix_chooses(tmp_path):
    torch.save(TwoNetworks().state_dict(), tmp_path / "two.pt")
    with pytest.raises(InvalidFileError, match=r"--prefix must be given, one of 'decoder', 'encoder'"):
        load_network(tmp_path / "two.pt")
    with pytest.raises(InvalidFileError, match=r"--prefix must be one of .* not 'x'"):
        load_network(tmp_path / "two.pt", "x")
    network = load_network(tmp_path / "two.pt", "encoder")
    (layer,) = network.layers
    assert (layer.cell, layer.direction, layer.input_size, layer.output_size) == ("gru", "bidirectional", 4, 10)
    assert "embedding.weight [9, 4]" in network.ignored
    assert "decoder.weight_hh [24, 6]" in network.ignored
    assert load_network(tmp_path / "two.pt", "decoder.").layers[0].cell == "lstm"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_every_floating_type(kind, tmp_path):
    torch.manual_seed(1)
    module = torch.nn.LSTM(3, 4).to(kind)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        weights = load_network(tmp_path / name).layers[0].weights[0]
        assert (weights.w_h == module.weight_hh_l0.detach().double().numpy()).all()
        assert (weights.bias_x == module.bias_ih_l0.detach().double().numpy()).all()


def test_files_of_old_torch(tmp_path):
    module = torch.nn.RNN(3, 4)
    torch.save(module.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network = load_network(tmp_path / "old.pth")
    assert any("nonlinearity" in note for note in network.notes)
    assert (network.layers[0].weights[0].w_x == module.weight_ih_l0.detach().numpy()).all()
