"""Data of several commands: a text, recordings with their dictionary, and a detector of speech."""

import wave

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

SIZE, BINS = 128, 129
WORDS = "the cat sat on the mat and the dog ran to the red house by the sea\n"
DICTIONARY = """ZERO 1 Z IH1 R OW0
ONE 1 W AH1 N
TWO 1 T UW1
THREE 1 TH R IY1
FOUR 1 F AO1 R
FIVE 1 F AY1 V
SIX 1 S IH1 K S
SEVEN 1 S EH1 V AH0 N
EIGHT 1 EY1 T
NINE 1 N AY1 N
"""


@pytest.fixture
def torch_settings():
    """The commands set torch's threads and denormals for the whole process: afterwards they are as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture
def text(tmp_path):
    """A file of one sentence, many times."""
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 150)
    return path


@pytest.fixture
def recordings(tmp_path):
    """A folder: a tone of its own for each digit, a little higher for each speaker; beside it the file cmudict."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    (tmp_path / "cmudict").write_text(DICTIONARY)
    rng = np.random.default_rng(1)
    for digit in range(10):
        for number, speaker in enumerate(("anna", "bert")):
            for take in range(0, 14, 2):
                length = int(rng.integers(1400, 2600))
                tone = np.sin(np.arange(length) * (0.15 + 0.2 * digit + 0.02 * number)) * 9000
                tone[: length // 2] = 0
                noise = rng.normal(size=length) * 200
                with wave.open(str(folder / f"{digit}_{speaker}_{take}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes((tone + noise).astype("<i2").tobytes())
    return folder


def write_detector(path, rng):
    """Write the file: input (B, 576), state (2, B, 128) and sr to output (B, 1) and stateN."""
    constants, nodes = [], []

    def constant(name, values, kind=np.float32):
        constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def draw(name, *shape):
        return constant(name, rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1))

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    x = node("Pad", ["input", constant("pads", [0, 0, 0, 64], np.int64)], "padded", mode="reflect")
    x = node("Unsqueeze", [x, constant("one", [1], np.int64)], "channel")
    x = node("Conv", [x, draw("model.stft.forward_basis_buffer", 2 * BINS, 1, 256)], "spectrum", strides=[128])
    halves = []
    for number, (first, last) in enumerate(((0, BINS), (BINS, 2 * BINS))):
        bounds = [constant(f"{name}{number}", [value], np.int64) for name, value in (("first", first), ("last", last))]
        half = node("Slice", [x, *bounds, "one"], f"half{number}")
        halves.append(node("Mul", [half, half], f"square{number}"))
    x = node("Sqrt", [node("Add", halves, "power")], "magnitude")
    shapes = ((SIZE, BINS, 1), (64, SIZE, 2), (64, 64, 2), (SIZE, 64, 1))
    for number, (outputs, inputs, stride) in enumerate(shapes):
        names = [draw(f"model.encoder.{number}.reparam_conv.weight", outputs, inputs, 3),
                 draw(f"model.encoder.{number}.reparam_conv.bias", outputs)]  # fmt: skip
        x = node("Conv", [x, *names], f"conv{number}", pads=[1, 1], strides=[stride])
        x = node("Relu", [x], f"relu{number}")
    x = node("Transpose", [x], "features", perm=[2, 0, 1])
    matrices = {name: rng.uniform(-0.2, 0.2, (4 * SIZE, SIZE)) for name in ("weight_ih", "weight_hh")}
    matrices |= {name: rng.uniform(-0.2, 0.2, 4 * SIZE) for name in ("bias_ih", "bias_hh")}
    ours = {}
    for name, values in matrices.items():
        constant(f"model.decoder.rnn.{name}", values)
        # torch has the gates I, F, G, O and ONNX I, O, F, C.
        i, f, g, o = np.split(values, 4)
        ours[name] = np.concatenate([i, o, f, g])
    constant("W", ours["weight_ih"][None])
    constant("R", ours["weight_hh"][None])
    constant("B", np.concatenate([ours["bias_ih"], ours["bias_hh"]])[None])
    axis = constant("zero", [0], np.int64)
    two = constant("two", [2], np.int64)
    states = [node("Slice", ["state", *part, axis], name)
              for name, part in (("h0", (axis, "one")), ("c0", ("one", two)))]  # fmt: skip
    nodes.append(helper.make_node("LSTM", [x, "W", "R", "B", "", *states], ["Y", "h1", "c1"], hidden_size=SIZE))
    node("Concat", ["h1", "c1"], "stateN", axis=0)
    x = node("Transpose", [node("Relu", ["h1"], "positive")], "last", perm=[1, 2, 0])
    draw("model.decoder.decoder.2.weight", 1, SIZE, 1)
    constant("model.decoder.decoder.2.bias", [0.1])
    x = node("Conv", [x, "model.decoder.decoder.2.weight", "model.decoder.decoder.2.bias"], "odds")
    node("Squeeze", [node("Sigmoid", [x], "probability"), two], "output")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
             for name, shape in (("input", ["B", 576]), ("state", [2, "B", SIZE]))]  # fmt: skip
    infos.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("output", "stateN")]
    graph = helper.make_graph(nodes, "detector", infos, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def detector_path(tmp_path, rng):
    """A detector of our own, with the shape of the public one and random numbers."""
    return write_detector(tmp_path / "detector.onnx", rng)
