"""Functions of the public interface on small networks."""

import numpy as np
import pytest

import chessrnn


def state_dict(rng, input_size=5, hidden_size=4, gates=4) -> dict[str, np.ndarray]:
    """Arrays under the names of ``torch.nn.LSTM``."""
    shapes = {"weight_ih_l0": (gates * hidden_size, input_size), "weight_hh_l0": (gates * hidden_size, hidden_size)}
    shapes |= {"bias_ih_l0": (gates * hidden_size,), "bias_hh_l0": (gates * hidden_size,)}
    return {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def test_from_arrays_to_integers(rng):
    network = chessrnn.load_network(state_dict(rng))
    x = rng.uniform(-1, 1, (6, 3, 5))
    result = chessrnn.compress(network, block_size=1, calibration=x, name="small")
    assert result.report["output"]["integers"] < 0.1
    h = chessrnn.predict(result.weights, x)
    assert h.shape == (6, 3, 4)
    np.testing.assert_array_equal(
        chessrnn.predict(result.weights, x.swapaxes(0, 1), batch_first=True), h.swapaxes(0, 1)
    )
    scale = 2.0**result.config.quantization.h.fraction_bits
    np.testing.assert_array_equal(h * scale, np.round(h * scale))


def test_weight_image_goes_through_a_file(rng, tmp_path):
    from chessrnn.model.weight_image import WeightImage

    result = chessrnn.compress(chessrnn.load_network(state_dict(rng)), block_size=2, name="small")
    WeightImage(result.weights).save(tmp_path / "small.safetensors")
    loaded = chessrnn.load_weights(tmp_path / "small.safetensors")
    np.testing.assert_array_equal(loaded.layers[0].defining, result.weights.layers[0].defining)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w, n: chessrnn.load_network(3), "source must be a path, a torch.nn.Module or a state_dict, not 'int'"),
        (lambda w, n: chessrnn.load_weights("lm512"), "source must be a file, or one of char128, char64, not 'lm512'"),
        (lambda w, n: chessrnn.predict(w, np.zeros((2, 5))), r"x must be of shape (steps, batch, 5), not (2, 5)"),
        (lambda w, n: chessrnn.predict(w, np.full((1, 1, 5), np.nan)), "x must be made of finite numbers"),
        (lambda w, n: chessrnn.load_weights(None), "source must be a path or the name of a preset, not None"),
        (lambda w, n: chessrnn.predict(w, "abc"), "x must be an array of real numbers, not 'str'"),
        (lambda w, n: chessrnn.predict(w, np.full((1, 1, 5), 1j)), "x must be an array of real numbers, not 'ndarray'"),
        (lambda w, n: chessrnn.predict(w, np.full((1, 1, 5), 1e308)), "x must be made of numbers of at most 1e+06"),
        (lambda w, n: chessrnn.predict(w, np.zeros((0, 1, 5))), "x must be of at least one number, not (0, 1, 5)"),
        (
            lambda w, n: chessrnn.compress(n, block_size=1, calibration=np.full((4, 1, 5), np.nan)),
            "calibration must be made of finite numbers",
        ),
        (
            lambda w, n: chessrnn.compress(n, calibration="abc"),
            "calibration must be an array of real numbers, not 'str'",
        ),
        (lambda w, n: chessrnn.simulate(w, np.zeros((1, 1, 4)), "x"), "x must be of shape (steps, batch, 5)"),
        (lambda w, n: chessrnn.simulate(w, np.zeros((1, 1, 5)), "x", steps=0), "steps must be at least 1, not 0"),
        (
            lambda w, n: chessrnn.compress(n, block_size=3),
            "compression.block_size must be a power of two from 1 to 16, not 3",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message, rng):
    network = chessrnn.load_network(state_dict(rng))
    weights = chessrnn.compress(network, block_size=1).weights
    with pytest.raises(chessrnn.UserError) as raised:
        call(weights, network)
    assert str(raised.value).startswith(message)


@pytest.mark.needs("icarus")
def test_simulation_equals_the_reference(rng, tmp_path):
    weights = chessrnn.compress(
        chessrnn.load_network(state_dict(rng)), block_size=1, settings={"architecture.arithmetic": "multiplier"}
    ).weights
    x = rng.uniform(-1, 1, (4, 2, 5))
    for result in chessrnn.simulate(weights, x, tmp_path / "build", steps=8):
        assert result.problems == []
        np.testing.assert_array_equal(
            result.h.reshape(2, 4, 4).swapaxes(0, 1) * result.run.scenario.config.quantization.h.lsb,
            chessrnn.predict(weights, x),
        )
