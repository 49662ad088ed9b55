"""Recurrences of one cell that an exporter wrote as Loop or Scan: equal to onnxruntime, or named."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from chessrnn.model.errors import UserError
from chessrnn.model.imported.float_evaluation import run
from chessrnn.model.imported.load import load_network, network_names
from chessrnn.scripts.main import main

HEADER = '<ir_version: 9, opset_import: ["" : 17]>\n'
# As tf2onnx writes SimpleRNN of Keras: time and h are states, x is gathered by the time, every h is stacked.
LOOP = """{header}g (float[B, T, 4] a) => (float[T, B, 3] y, float[B, 2] z) {{
  [before] x = Transpose <perm = [1, 0, 2]> (a)
  shape = Shape(x)
  first = Constant <value = int64[1] {{0}}> ()
  second = Constant <value = int64[1] {{1}}> ()
  steps = Slice(shape, first, second)
  size = Constant <value = int64[1] {{3}}> ()
  two = Constant <value = int64[1] {{2}}> ()
  rows = Slice(shape, second, two)
  both = Concat <axis = 0> (rows, size)
  h0 = ConstantOfShape(both)
  start = Constant <value = int64[1] {{0}}> ()
  true = Constant <value = bool {{1}}> ()
  [while] time, h, y = Loop(, true, start, h0) <
    body = b (int64 i, bool c, int64[1] t, float[B, 3] old) => (bool d, int64[1] u, float[B, 3] new, float[B, 3] out) {{
      row = Gather <axis = 0> (x, t)
      axis = Constant <value = int64[1] {{0}}> ()
      flat = Squeeze(row, axis)
      {cell}
      one = Constant <value = int64[1] {{1}}> ()
      u = Add(t, one)
      d = Less(u, steps)
    }}>
  [head] z = Gemm <transB = 1> (h, V, v)
}}
"""
CELL = """p = MatMul(flat, W)
      q = Add(p, bias)
      r = MatMul(old, R)
      s = Add(q, r)
      new = {activation}(s)
      out = Identity(new)"""
# x and h side by side, as PyTorch users write a cell.
SCAN = """{header}g (float[T, B, 4] x, float[B, 3] h0) => (float[B, 3] h, float[T, B, 3] y) {{
  [scan] h, y = Scan <num_scan_inputs = 1,
    body = b (float[B, 3] old, float[B, 4] now) => (float[B, 3] new, float[B, 3] out) {{
      [join] p = Concat <axis = 1> (now, old)
      s = Gemm(p, WR, bias)
      new = Tanh(s)
      out = Identity(new)
  }}> (h0, x)
}}
"""


def saved(text, path, rng, **shapes):
    model = parser.parse_model(text)
    for name, shape in (
        {"W": (4, 3), "R": (3, 3), "bias": (3,), "V": (2, 3), "v": (2,), "WR": (7, 3)} | shapes
    ).items():
        if re.search(rf"\b{name}\b", text):
            model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype("f4") / 2, name))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def loop(cell=CELL, activation="Tanh"):
    return LOOP.format(header=HEADER, cell=cell.format(activation=activation))


def run_by_onnxruntime(path, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("activation", ["Tanh", "Relu"])
def test_a_loop_with_a_counter(activation, tmp_path, rng):
    path = saved(loop(activation=activation), tmp_path / "a.onnx", rng)
    network = load_network(path)
    (layer,) = network.layers
    assert (layer.name, layer.cell, layer.activation, layer.direction) == (
        "while",
        "rnn",
        activation.lower(),
        "forward",
    )
    assert network.notes == ("x is the input 'a' (batch, steps, 4)",)
    a = rng.normal(size=(2, 7, 4)).astype("f4")
    y, z = run_by_onnxruntime(path, {"a": a})
    found = run(network, a.swapaxes(0, 1))[0]
    np.testing.assert_allclose(found, y, rtol=0, atol=2e-6)
    np.testing.assert_allclose(network.linear.apply(found[-1]), z, rtol=0, atol=2e-6)
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(layer.weights[0].w_x.astype("f4"), constants["W"].T)
    np.testing.assert_array_equal(layer.weights[0].w_h.astype("f4"), constants["R"].T)
    assert network_names(path) == [""]


def test_a_scan_with_a_first_state(tmp_path, rng):
    path = saved(SCAN.format(header=HEADER), tmp_path / "a.onnx", rng)
    network = load_network(path)
    assert network.layers[0].state_inputs == ("h0[0:1]",)
    x, h0 = rng.normal(size=(7, 2, 4)).astype("f4"), np.zeros((2, 3), "f4")
    last, y = run_by_onnxruntime(path, {"x": x, "h0": h0})
    found, (state,) = run(network, x)
    np.testing.assert_allclose(found, y, rtol=0, atol=2e-6)
    np.testing.assert_allclose(state.h[0], last, rtol=0, atol=2e-6)


def test_a_chain_of_two(tmp_path, rng):
    inner = SCAN.format(header=HEADER).partition("[scan]")[2].rpartition("}")[0]
    second = inner
    for old, new in (("h, y =", "h2, y2 ="), ("now", "now2"), ("(h0, x)", "(h0, y)"), ("WR", "WR2"), ("bias", "bias2"),
                     ("[join]", "[join2]"), ("float[B, 4] now2", "float[B, 3] now2")):  # fmt: skip
        second = second.replace(old, new)
    text = f"{HEADER}g (float[T, B, 4] x, float[B, 3] h0) => (float[T, B, 3] y2) {{ [one] {inner} [two] {second} }}"
    path = saved(text, tmp_path / "a.onnx", rng, WR2=(6, 3), bias2=(3,))
    network = load_network(path)
    x = rng.normal(size=(7, 2, 4)).astype("f4")
    (y,) = run_by_onnxruntime(path, {"x": x, "h0": np.zeros((2, 3), "f4")})
    np.testing.assert_allclose(run(network, x)[0], y, rtol=0, atol=2e-6)
    assert [layer.name for layer in network.layers] == ["one", "two"]
    assert load_network(path, "one").layers[0].input_size == 4


# Gates in an order of their own, and joined in one product.
LSTM = """{header}g (float[T, B, 4] x, float[B, 3] h0, float[B, 3] c0)
    => (float[B, 3] h, float[B, 3] c, float[T, B, 3] y) {{
  [scan] h, c, y = Scan <num_scan_inputs = 1,
    body = b (float[B, 3] old, float[B, 3] cell, float[B, 4] now)
        => (float[B, 3] new, float[B, 3] kept, float[B, 3] out) {{
      p = MatMul(now, W4)
      r = MatMul(old, R4)
      s = Add(p, r)
      a = Add(s, b4)
      ao, ai, ag, af = Split <axis = 1> (a)
      o = Sigmoid(ao)
      i = Sigmoid(ai)
      g = Tanh(ag)
      f = Sigmoid(af)
      left = Mul(f, cell)
      added = Mul(g, i)
      kept = Add(added, left)
      t = Tanh(kept)
      new = Mul(t, o)
      out = Identity(new)
  }}> (h0, c0, x)
}}
"""
# As Keras computes a GRU with reset_after=False: z keeps the old h.
GRU = """{header}g (float[T, B, 4] x, float[B, 3] h0) => (float[B, 3] h, float[T, B, 3] y) {{
  one = Constant <value = float {{1.0}}> ()
  [scan] h, y = Scan <num_scan_inputs = 1,
    body = b (float[B, 3] old, float[B, 4] now) => (float[B, 3] new, float[B, 3] out) {{
      both = Concat <axis = 1> (now, old)
      a = Gemm(both, W2, b2)
      gates = Sigmoid(a)
      z, r = Split <axis = 1> (gates)
      part = Mul(r, old)
      next = Concat <axis = 1> (now, part)
      n = Gemm(next, WR, bias)
      candidate = Tanh(n)
      rest = Sub(one, z)
      first = Mul({keeps}, old)
      second = Mul({takes}, candidate)
      new = Add(first, second)
      out = Identity(new)
  }}> (h0, x)
}}
"""


@pytest.mark.parametrize("text", [LSTM, GRU.replace("{keeps}", "z").replace("{takes}", "rest"),
                                  GRU.replace("{keeps}", "rest").replace("{takes}", "z")],
                         ids=["lstm", "gru", "gru_other_way"])  # fmt: skip
def test_gates_of_a_scan(text, tmp_path, rng):
    shapes = {"W4": (4, 12), "R4": (3, 12), "b4": (12,), "W2": (7, 6), "b2": (6,)}
    path = saved(text.format(header=HEADER), tmp_path / "a.onnx", rng, **shapes)
    network = load_network(path)
    x = rng.normal(size=(7, 2, 4)).astype("f4")
    feeds = {"x": x, **{name: np.zeros((2, 3), "f4") for name in ("h0", "c0") if name in text}}
    results = run_by_onnxruntime(path, feeds)
    found, (state,) = run(network, x)
    np.testing.assert_allclose(found, results[-1], rtol=0, atol=2e-6)
    np.testing.assert_allclose(state.h[0], results[0], rtol=0, atol=2e-6)
    (layer,) = network.layers
    assert layer.cell == ("lstm" if text is LSTM else "gru")
    assert layer.state_inputs == (("h0[0:1]", "c0[0:1]") if text is LSTM else ("h0[0:1]",))
    assert layer.cell == "lstm" or not layer.linear_before_reset


RULE = r"must be one cell of RNN, LSTM or GRU over all steps of x, or an operator of these names, in FILE: "
OTHER = "its states are not those of a cell rnn that reads x in order"
REFUSED = [
    # x from its end.
    (loop().replace("Gather <axis = 0> (x, t)", "Gather <axis = 0> (x, back)")
     .replace("row =", "far = Sub(steps, t)\n      minus = Constant <value = int64[1] {-1}> ()\n"
              "      back = Add(far, minus)\n      row ="), r"\(node 'while'\) RULEOTHER"),
    # A step less than x has.
    (loop().replace("Less(u, steps)", "Less(v1, steps)").replace("      d =", "      v1 = Add(u, one)\n      d ="),
     r"\(node 'while'\) RULEit ends after another number of steps than x has"),
    # The square of h.
    (loop(CELL.replace("MatMul(old, R)", "MatMul(old2, R)").replace("p =", "old2 = Mul(old, old)\n      p =", 1)),
     r"\(node 'while'\) RULEOTHER"),
    # A state that is half the new h.
    (loop(CELL.replace("new = {activation}(s)", "act = {activation}(s)\n      new = Add(act, act)")),
     r"\(node 'while'\) RULEOTHER"),
    (SCAN.format(header=HEADER).replace("num_scan_inputs = 1", "num_scan_inputs = 1, scan_input_directions = [1]"),
     r"\(node 'scan'\) RULEscan_input_directions of Scan \(node 'scan'\) is not 0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_other_recurrences_are_named(text, message, tmp_path, rng):
    path = saved(text, tmp_path / "a.onnx", rng)
    with pytest.raises(UserError) as error:
        load_network(path)
    found = str(error.value)
    assert re.fullmatch(
        f"(Loop|Scan) {message}".replace("RULE", RULE).replace("OTHER", OTHER), found.replace(str(path), "FILE")
    ), found
    assert "\n" not in found and len(found) - len(str(path)) < 195


def test_gates_in_a_loop_are_named_with_one_way_on(tmp_path, rng):
    path = saved(loop(CELL.replace("{activation}(s)", "Sigmoid(s)")), tmp_path / "a.onnx", rng)
    with pytest.raises(
        UserError, match="not the recurrence in Loop 'while': export nn.LSTM or nn.GRU, or Keras layers"
    ):
        load_network(path)


def test_results_are_bounded(tmp_path, rng, monkeypatch):
    """A constant of a few kilobytes could become gigabytes in a product, or hours of multiplications."""
    cell = "w1 = Transpose(huge)\n      w2 = MatMul({product})\n      " + CELL
    for product, shape in (("w1, huge", (1, 20_000)), ("huge, w1", (1_100, 1_000))):
        path = saved(loop(cell.replace("{product}", product)), tmp_path / "a.onnx", rng, huge=shape)
        with pytest.raises(UserError, match="the result of MatMul .* is too large"):
            load_network(path)
    monkeypatch.setattr("chessrnn.model.imported.onnx_loop.MAX_STEP_ELEMENTS", 40)
    path = saved(loop(), tmp_path / "a.onnx", rng)
    with pytest.raises(UserError, match="the results of its operators are too large together"):
        load_network(path)
    monkeypatch.undo()
    monkeypatch.setattr("chessrnn.model.imported.onnx_loop.MAX_WORK", 10_000)
    with pytest.raises(UserError, match="to find its matrices takes more than 1e\\+04 multiplications"):
        load_network(path)


def test_convert(tmp_path, rng, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved(loop(), tmp_path / "a.onnx", rng)
    assert main(["convert", str(path), "--k", "1", "--output", "a.safetensors"]) == 0
    assert "while" in capsys.readouterr().out
    # The runtime cannot be cut at a Loop.
    np.savez("a.npz", a=np.zeros((1, 2, 7, 4), "f4"))
    assert main(["evaluate-model", str(path), "--weights", "a.safetensors", "--inputs", "a.npz"]) == 2
    assert "the recurrence in Loop 'while'" in capsys.readouterr().err


def test_damaged_bytes_are_refused_or_read(tmp_path, rng):
    path = saved(LSTM.format(header=HEADER), tmp_path / "a.onnx", rng, W4=(4, 12), R4=(3, 12), b4=(12,))
    content = path.read_bytes()
    # A name that is not UTF-8 is none that a message could not show.
    path.write_bytes(content.replace(b"\x1a\x04scan", b"\x1a\x04sc\xffn"))
    assert load_network(path).layers[0].name == "sc\ufffdn"
    for _ in range(100):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=1 + rng.integers(3)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_network(path)
        except UserError:
            pass
