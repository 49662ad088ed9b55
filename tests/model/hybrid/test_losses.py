"""Measures of what an application loses, on outputs whose figures are known."""

import numpy as np
import pytest

from chessrnn.model.errors import UserError
from chessrnn.model.hybrid.losses import decisions, loss, si_sdr


def test_decisions():
    np.testing.assert_array_equal(decisions(np.array([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1]]), 0.5), [1, 0])
    np.testing.assert_array_equal(decisions(np.array([[0.4], [0.5]]), 0.5), [0, 1])
    np.testing.assert_array_equal(decisions(np.array([[[-1.0], [2.0]]]), 0.0), [[0, 1]])
    assert decisions(np.array(0.7), 0.5) == 1


def test_agreement_of_yes_and_no():
    floats = np.array([[0.9], [0.8], [0.1], [0.2], [0.3]])
    integers = np.array([[0.9], [0.2], [0.6], [0.2], [0.3]])
    found = loss("agreement", floats, integers)
    assert found == {"agreement": 60.0, "float_yes": 40.0, "false_yes": pytest.approx(100 / 3), "missed_yes": 50.0}
    assert loss("agreement", floats, floats) == {
        "agreement": 100.0, "float_yes": 40.0, "false_yes": 0.0, "missed_yes": 0.0,
    }  # fmt: skip


def test_accuracy_and_agreement_of_classes():
    floats, integers = np.eye(4)[[0, 1, 2, 3]], np.eye(4)[[0, 1, 2, 2]]
    assert loss("agreement", floats, integers) == {"agreement": 75.0}
    found = loss("accuracy", floats, integers, np.array([0, 1, 0, 3]))
    assert found == {"float": 75.0, "integers": 50.0, "loss": 25.0}


def test_mean_squared_error():
    floats, integers = np.array([3.0, 4.0]), np.array([3.0, 5.0])
    assert loss("mse", floats, integers) == {"mse": 0.5, "relative": 0.04}
    assert loss("mse", floats, integers, np.array([3.0, 6.0])) == {"float": 2.0, "integers": 0.5, "loss": -1.5}


def test_si_sdr_ignores_the_scale(rng):
    wanted = rng.normal(size=1000)
    noise = rng.normal(size=1000)
    noise -= wanted * (noise @ wanted) / (wanted @ wanted)
    noise *= np.sqrt((wanted @ wanted) / (noise @ noise)) / 10  # 20 dB below
    assert si_sdr(wanted + noise, wanted) == pytest.approx(20)
    assert si_sdr(3 * (wanted + noise), wanted) == pytest.approx(20)
    assert si_sdr(np.zeros(1000), wanted) == -np.inf
    assert si_sdr(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == np.inf
    found = loss("si-sdr", wanted + noise, wanted + 2 * noise, wanted)
    assert found["loss"] == pytest.approx(20 * np.log10(2))
    assert loss("si-sdr", wanted, wanted + noise) == {"si_sdr_db": pytest.approx(20)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss("wer", np.ones(2), np.ones(2)), "metric must be one of agreement, accuracy, mse, si-sdr, not"),
        (lambda: loss("mse", np.ones(2), np.ones(3)), r"the integer output must be of shape \(2,\), not \(3,\)"),
        (lambda: loss("accuracy", np.ones(2), np.ones(2)), "--target must be given for accuracy, not None"),
        (lambda: loss("accuracy", np.eye(2), np.eye(2), np.ones(3)), r"the target must be of shape \(2,\), a label"),
        (lambda: loss("mse", np.ones(2), np.ones(2), np.ones(3)), r"the target must be of shape \(2,\), not \(3,\)"),
        (lambda: loss("mse", np.ones(0), np.ones(0)), "the output must be of at least one value"),
    ],
)
def test_wrong_arrays(call, message):
    with pytest.raises(UserError, match=message):
        call()
