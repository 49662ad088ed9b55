"""The linear layer behind the last recurrent one: found by its shape, rounded, applied."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

import chessrnn
from chessrnn.model.errors import UserError
from chessrnn.model.imported.load import load_network
from chessrnn.model.imported.state_dict import network_from_arrays, network_from_tensors
from chessrnn.model.imported.tensor_file import TensorFile


def arrays(rng, **others) -> dict[str, np.ndarray]:
    """A GRU of 5 x 6 called rnn, and other tensors of the given shapes."""
    shapes = {
        "rnn.weight_ih_l0": (18, 5),
        "rnn.weight_hh_l0": (18, 6),
        "rnn.bias_ih_l0": (18,),
        "rnn.bias_hh_l0": (18,),
    }
    shapes |= {name.replace("__", "."): shape for name, shape in others.items()}
    return {name: rng.normal(size=shape) * 0.4 for name, shape in shapes.items()}


def network(tensors, output_layer=None):
    shapes, kinds = ({name: getattr(value, what) for name, value in tensors.items()} for what in ("shape", "dtype"))
    file = TensorFile(Path("a"), shapes, {name: str(kind) for name, kind in kinds.items()}, tensors.__getitem__)
    return network_from_tensors(file, None, None, output_layer)


def test_the_only_one_that_fits_is_taken(rng):
    tensors = arrays(rng, fc__weight=(3, 6), fc__bias=(3,), embedding__weight=(9, 6), other__weight=(4, 7))
    found = network(tensors)
    assert found.linear.name == "fc"
    np.testing.assert_array_equal(found.linear.weight, tensors["fc.weight"])
    np.testing.assert_array_equal(found.linear.bias, tensors["fc.bias"])
    assert found.ignored == ("embedding.weight [9, 6]", "other.weight [4, 7]")
    without = network(tensors, "none")
    assert without.linear is None
    assert "fc.weight [3, 6]" in without.ignored
    # Without a bias, and as a module of its own.
    assert network(arrays(rng, weight=(2, 6))).linear.bias.tolist() == [0, 0]


def test_several_are_named(rng):
    tensors = arrays(rng, a__weight=(3, 6), a__bias=(3,), b__weight=(2, 6), b__bias=(2,))
    found = network(tensors)
    assert found.linear is None
    assert any("--output-layer takes one of 'a', 'b'" in note for note in found.notes)
    assert network(tensors, "b").linear.name == "b"
    with pytest.raises(UserError, match="--output-layer must be none or one that reads 6 elements: 'a', 'b', not 'c'"):
        network(tensors, "c")
    with pytest.raises(UserError, match=r"'a.bias' must be of shape \(3,\), not \(4,\) as in a"):
        network(tensors | {"a.bias": np.zeros(4)}, "a")


@pytest.mark.parametrize("outputs", [1, 4])
def test_integers_of_an_output_layer(outputs, rng):
    tensors = arrays(rng, fc__weight=(outputs, 6), fc__bias=(outputs,))
    found = network_from_arrays(tensors, "a")
    x = rng.normal(size=(20, 3, 5))
    result = chessrnn.compress(found, block_size=1, calibration=x)
    report = result.report["output_layer"]
    assert (report["name"], report["outputs"], report["on_chip"]) == ("fc", outputs, False)
    assert 0 < report["error"] < 0.05
    assert result.weights.output is None
    # What predict says is what these weights say of the float layer's values, but for that error.
    h = chessrnn.predict(result, x, hidden=True)
    wanted = found.linear.apply(h)
    assert np.abs(chessrnn.predict(result, x) - wanted).max() < 0.02
    settings = {"architecture.output_layer": outputs}
    on_chip = chessrnn.compress(found, block_size=1, calibration=x, settings=settings)
    assert on_chip.weights.output is not None
    np.testing.assert_array_equal(on_chip.weights.output.weight, result.output_layer.weight)
    rule = f"architecture.output_layer must be 0 or {outputs}, the outputs of fc, not 9"
    with pytest.raises(UserError, match=rule):
        chessrnn.compress(found, block_size=1, settings={"architecture.output_layer": 9})


def test_large_biases_limit_the_scale(rng):
    tensors = arrays(rng, fc__weight=(2, 6), fc__bias=(2,)) | {"fc.bias": np.array([3e4, -1.0])}
    layer = chessrnn.compress(network_from_arrays(tensors, "a"), block_size=1).output_layer
    assert layer.bias[0] * 2.0 ** -(layer.weight_frac + 7) == 3e4


@pytest.mark.needs("icarus")
@pytest.mark.parametrize("outputs", [1, 3])
def test_an_imported_output_layer_on_chip(outputs, rng, tmp_path):
    tensors = arrays(rng, fc__weight=(outputs, 6), fc__bias=(outputs,))
    settings = {"architecture.output_layer": outputs, "architecture.arithmetic": "multiplier"}
    result = chessrnn.compress(network_from_arrays(tensors, "a"), block_size=1, settings=settings)
    for run in chessrnn.simulate(result.weights, rng.uniform(-1, 1, (3, 2, 5)), tmp_path / "build", steps=6):
        assert run.problems == []
        assert len(run.run.scenario.y_beats) == 6


def onnx_file(path, rng, nodes, **arrays):
    """An LSTM node /LSTM of 3 x 4 with output y (steps, 1, batch, 4) and final h, and the nodes behind it."""
    arrays |= {"w": rng.normal(size=(1, 16, 3)), "r": rng.normal(size=(1, 16, 4)) * 0.4}
    first = helper.make_node("LSTM", ["x", "w", "r"], ["y", "last"], name="/LSTM", hidden_size=4)
    tensors = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in arrays.items()
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "b", 3])]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph([first, *nodes], "g", inputs, outputs, tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


SQUEEZE = helper.make_node("Squeeze", ["y", "axis"], ["h"])
AXIS = {"axis": np.array([1])}


def test_matmul_and_add_behind_an_onnx_node(tmp_path, rng):
    nodes = [
        SQUEEZE,
        helper.make_node("MatMul", ["h", "fc"], ["m"], name="/fc/MatMul"),
        helper.make_node("Add", ["b", "m"], ["a"], name="/fc/Add"),
        helper.make_node("Sigmoid", ["a"], ["p"]),
    ]
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 2), (2,)))
    path = onnx_file(tmp_path / "a.onnx", rng, nodes, fc=weight, b=bias, **AXIS)
    found = chessrnn.load_network(path)
    assert (found.linear.name, found.ignored) == ("/fc/MatMul", ("operator Sigmoid",))
    np.testing.assert_array_equal(found.linear.weight, weight.T)
    np.testing.assert_array_equal(found.linear.bias, bias)
    assert load_network(path, output_layer="none").linear is None
    with pytest.raises(UserError, match="--output-layer must be none or one that reads 4 elements: '/fc/MatMul', not"):
        load_network(path, output_layer="fc")


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_of_the_last_step(trans, tmp_path, rng):
    nodes = [
        helper.make_node("Squeeze", ["last", "zero"], ["h"]),
        helper.make_node("Gemm", ["h", "fc", "b"], ["a"], name="head", transB=trans),
    ]
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 5), (5,)))
    arrays = {"fc": weight.T if trans else weight, "b": bias, "zero": np.array([0])}
    found = load_network(onnx_file(tmp_path / "a.onnx", rng, nodes, **arrays)).linear
    np.testing.assert_array_equal(found.weight, weight.T)
    np.testing.assert_array_equal(found.bias, bias)


def test_what_is_no_linear_layer_of_h_stays_with_the_host(tmp_path, rng):
    relu = helper.make_node("Relu", ["h"], ["v"])
    for name, nodes in (
        ("relu", [SQUEEZE, relu, helper.make_node("MatMul", ["v", "fc"], ["a"])]),
        ("x", [helper.make_node("MatMul", ["x", "fx"], ["a"])]),
        ("scaled", [SQUEEZE, helper.make_node("Gemm", ["h", "fc"], ["a"], alpha=2.0)]),
    ):
        arrays = {"fc": rng.normal(size=(4, 2)), "fx": rng.normal(size=(3, 2)), **AXIS}
        assert load_network(onnx_file(tmp_path / f"{name}.onnx", rng, nodes, **arrays)).linear is None
    two = [helper.make_node("MatMul", ["h", "fc"], [name], name=name) for name in ("one", "two")]
    path = onnx_file(tmp_path / "two.onnx", rng, [SQUEEZE, *two], fc=rng.normal(size=(4, 2)), **AXIS)
    found = load_network(path)
    assert found.linear is None
    assert "several linear layers read 4 elements; --output-layer takes one of 'one', 'two'" in found.notes
    assert load_network(path, output_layer="two").linear.name == "two"
