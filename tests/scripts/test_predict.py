"""The command predict, as its users run it."""

import numpy as np
import pytest

import chessrnn
from chessrnn.model.config import Config
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.input_fold import InputFold
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import random_weights
from chessrnn.scripts import predict
from chessrnn.scripts.cli import run_command


def command(arguments, capsys):
    status = run_command(lambda: predict.main([str(part) for part in arguments]), "chessrnn predict")
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def design(**network) -> Config:
    values = {
        "name": "small",
        "network": {"input_size": 3, "hidden_size": 4, "cell": "gru"} | network,
        "compression": {"block_size": 1},
        "architecture": {"tile_rows": 4, "tile_cols": 2, "arithmetic": "multiplier"},
    }
    return Config.from_dict(values)


@pytest.fixture
def files(rng, tmp_path, monkeypatch):
    """A configuration, its weight image with an output layer of two values, and inputs (9, 2, 3)."""
    monkeypatch.chdir(tmp_path)
    config, x = design(), rng.uniform(-0.9, 0.9, size=(9, 2, 3))
    head = OutputLayer(rng.integers(-128, 128, size=(2, 4)), rng.integers(-9, 9, size=2), 6)
    image = WeightImage(random_weights(config, rng), head=head)
    image.save("a.safetensors")
    (tmp_path / "a.json").write_text(config.to_json())
    np.save("x.npy", x)
    return image, x


COMMON = ["a.json", "--weights", "a.safetensors", "--inputs"]


def expected_h(image, x):
    points = image.config.quantization
    return dequantize(NetworkReference(image.weights).run(quantize(x, points.x))[0], points.h)


def test_arrays_and_tables(files, capsys):
    image, x = files
    status, out, err = command([*COMMON, "x.npy", "--output", "y.npy", "--h"], capsys)
    assert status == 0
    assert "inputs: 9 steps of 2 sequences, 3 elements each, read as (steps, batch, elements); values from -0." in err
    assert "y.npy: (9, 2, 4) as (steps, batch, elements), from" in out
    h = expected_h(image, x)
    np.testing.assert_array_equal(np.load("y.npy"), h)
    np.testing.assert_array_equal(chessrnn.predict("a.safetensors", x, hidden=True), h)
    # The output layer, exactly.
    status, out, _ = command([*COMMON, "x.npy", "--output", "y.npy"], capsys)
    assert "2 values of the output layer (on the host), exact" in out
    values = h @ (image.head.weight * 2.0**-6).T + image.head.bias * 2.0 ** -(6 + 7)
    np.testing.assert_array_equal(np.load("y.npy"), values)
    np.testing.assert_array_equal(chessrnn.predict(image, x), values)
    # The other order of axes, in and out.
    np.save("z.npy", x.swapaxes(0, 1))
    status, out, _ = command([*COMMON, "z.npy", "--output", "w.npy", "--batch-first"], capsys)
    assert "w.npy: (2, 9, 2) as (batch, steps, elements), from" in out
    np.testing.assert_array_equal(np.load("w.npy"), values.swapaxes(0, 1))
    # One sequence, as a table with a heading.
    np.savetxt("x.csv", x[:, 1], delimiter=",", header="a,b,c", comments="", fmt="%.17g")
    status, out, _ = command([*COMMON, "x.csv", "--output", "y.csv"], capsys)
    assert "y.csv: (9, 2) as (steps, elements), from" in out
    np.testing.assert_array_equal(np.loadtxt("y.csv", delimiter=","), values[:, 1])


def test_states_continue_a_sequence(files, capsys):
    image, x = files
    np.save("first.npy", x[:4])
    np.save("rest.npy", x[4:])
    assert command([*COMMON, "first.npy", "--output", "a.npy", "--h", "--state-out", "s.npz"], capsys)[0] == 0
    status, out, _ = command(
        [*COMMON, "rest.npy", "--output", "b.npy", "--h", "--state-in", "s.npz", "--state-out", "s.npz"], capsys
    )
    assert status == 0
    assert "s.npz: h (1, 2, 4), c (1, 2, 4) as (layers, batch, units)" in out
    np.testing.assert_array_equal(np.concatenate([np.load("a.npy"), np.load("b.npy")]), expected_h(image, x))
    first, state = chessrnn.predict(image.weights, x[:4], return_state=True)
    np.testing.assert_array_equal(
        np.concatenate([first, chessrnn.predict(image.weights, x[4:], state=state)]), expected_h(image, x)
    )


def test_inputs_are_scaled_as_the_weights_ask(files, rng, capsys):
    image, x = files
    fold = InputFold((2, -3, 0), (0.0, 0.0, 1000.0))
    weights = chessrnn.load_weights("a.safetensors")
    WeightImage(type(weights)(weights.config, weights.defining, weights.bias, input_fold=fold)).save("b.safetensors")
    np.save("raw.npy", x * 2.0 ** -np.array([2, -3, 0]) + np.array([0, 0, 1000]))
    arguments = ["a.json", "--weights", "b.safetensors", "--inputs", "raw.npy", "--output", "y.npy"]
    assert command(arguments, capsys)[0] == 0
    np.testing.assert_array_equal(np.load("y.npy"), expected_h(image, (x + 1000) - 1000))


def test_trace_and_picture(files, capsys):
    pytest.importorskip("matplotlib")
    arguments = [*COMMON, "x.npy", "--output", "y.npy", "--trace", "t.npz", "--plot", "t.png", "--steps", "2:6"]
    status, out, _ = command(arguments, capsys)
    assert status == 0
    assert "t.npz: 15 arrays, steps 2 to 5" in out
    assert "error in l0  x " in out
    with np.load("t.npz") as archive:
        arrays = dict(archive)
    assert arrays["l0.preact"].shape == arrays["l0.preact.float"].shape == (4, 4, 2, 4)
    np.testing.assert_array_equal(arrays["l0.h"], expected_h(*files)[2:6])
    with open("t.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"


@pytest.mark.needs("icarus")
def test_the_verilog_computes_the_same(files, capsys):
    status, out, _ = command([*COMMON, "x.npy", "--output", "y.npy", "--rtl", "icarus"], capsys)
    assert status == 0
    assert "simulated by icarus, 18 steps: equals the reference" in out
    # The build folder that it wrote names the same design.
    status, out, _ = command(["build/small", *COMMON[1:], "x.npy", "--output", "z.npy"], capsys)
    assert status == 0
    np.testing.assert_array_equal(np.load("z.npy"), np.load("y.npy"))


REFUSED = [
    (["--output", "y.txt"], "--output must be a file .npy or .csv, not 'y.txt'"),
    (["--output", "y.csv"], "--output must be a file .npy for several sequences, not 'y.csv'"),
    (["--output", "y.npy", "--steps", "0:2"], "--steps must be left out without --trace or --plot, not '0:2'"),
    (["--output", "y.npy", "--trace", "t.npz", "--steps", "a"], "--steps must be of the form A:B, not 'a'"),
    (["--output", "y.npy", "--trace", "t.npz", "--steps", "4:99"], "--steps must be within 0:9, not '4:99'"),
    (["--output", "y.npy", "--plot", "t.pdf"], "--plot must be a file .png or .svg, not 't.pdf'"),
    (["--output", "y.npy", "--prefix", "a"], "--prefix must be left out without --model, not 'a'"),
    (["--output", "y.npy", "--state-in", "none.npz"], "none.npz must be an .npz file of arrays"),
    (["--output", "y.npy", "--state-in", "other.npz"], "other.npz: h must be given, not left out"),
    (["--output", "y.npy", "--state-in", "few.npz"], "state h must be of shape (1, 2, 4), not (1, 1, 4)"),
    (["--output", "y.npy", "--state-in", "nan.npz"], "state h must be made of finite numbers"),
    (["--output", "y.npy", "--rtl", "icarus", "--state-in", "good.npz"], "architecture.state_ports must be true"),
    (
        ["--output", "y.npy", "--batch-first", "--inputs", "wide.npy"],
        "must be of shape (batch, steps, 3) or (steps, 3)",
    ),
    (["--output", "x.npy"], "--output must be a file that no other option names, not 'x.npy'"),
    (
        ["--output", "y.npy", "--trace", "s.npz", "--state-out", "./s.npz"],
        "--state-out must be a file that no other option names, not 's.npz'",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_wrong_input_is_one_line_and_nothing_is_written(arguments, message, files, tmp_path, capsys):
    np.savez("other.npz", c=np.zeros(3))
    np.savez("few.npz", h=np.zeros((1, 1, 4)))
    np.savez("nan.npz", h=np.full((1, 2, 4), np.nan))
    np.savez("good.npz", h=np.zeros((1, 2, 4)))
    np.save("wide.npy", np.zeros((2, 3, 4)))
    before = sorted(tmp_path.iterdir())
    status, out, err = command([*COMMON, "x.npy", *arguments], capsys)
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("chessrnn predict: error: ")
    assert message in last
    assert len(last) < 200
    assert sorted(tmp_path.iterdir()) == before
