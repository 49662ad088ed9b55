"""TensorFlow Lite models, which the tests write themselves: float-equal to PyTorch, other operators named."""

import re

import flatbuffers
import numpy as np
import pytest
import tflite
import torch

from chessrnn.model.errors import UserError
from chessrnn.model.imported.float_evaluation import run
from chessrnn.model.imported.load import load_network, network_names
from chessrnn.scripts.main import main

TYPES = {np.dtype("f4"): 0, np.dtype("f2"): 1, np.dtype("i4"): 2, np.dtype("u1"): 3, np.dtype("i1"): 9}
OPTIONS = tflite.BuiltinOptions
LEFT_OUT = -1


class Writer:
    """Writes a model with one graph."""

    def __init__(self):
        self.tensors, self.operators, self.buffers = [], [], [np.zeros(0, np.uint8)]

    def tensor(self, name, shape=(), data=None, scales=(), zeros=(), axis=0, variable=False, kind=None):
        """Add a tensor; its number."""
        buffer = 0
        if data is not None:
            buffer, shape, kind = len(self.buffers), data.shape, TYPES[data.dtype]
            self.buffers.append(np.frombuffer(data.tobytes(), np.uint8))
        self.tensors.append((name, shape, kind or 0, buffer, scales, zeros, axis, variable))
        return len(self.tensors) - 1

    def operator(self, kind, inputs, output, options=(), custom=None):
        """Add an operator with one output; the output's number."""
        self.operators.append((kind, inputs, [output], options, custom))
        return output

    def content(self, inputs, offset=0):
        b = flatbuffers.Builder(0)
        buffers = []
        for data in self.buffers:
            vector = b.CreateNumpyVector(data)
            tflite.BufferStart(b)
            if offset and len(data):
                tflite.BufferAddOffset(b, offset)
            tflite.BufferAddData(b, vector)
            buffers.append(tflite.BufferEnd(b))
        tensors = [self._tensor(b, *one) for one in self.tensors]
        codes, operators = [], []
        for number, (kind, *_, custom) in enumerate(self.operators):
            name = None if custom is None else b.CreateString(custom)
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddBuiltinCode(b, getattr(tflite.BuiltinOperator, kind))
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(getattr(tflite.BuiltinOperator, kind), 127))
            if name is not None:
                tflite.OperatorCodeAddCustomCode(b, name)
            codes.append(tflite.OperatorCodeEnd(b))
            operators.append(self._operator(b, number, *self.operators[number][1:4]))
        graph_parts = [
            b.CreateNumpyVector(np.array(inputs, "i4")),
            self._vector(b, tensors),
            self._vector(b, operators),
        ]
        tflite.SubGraphStart(b)
        for add, part in zip((tflite.SubGraphAddInputs, tflite.SubGraphAddTensors, tflite.SubGraphAddOperators),
                             graph_parts, strict=True):  # fmt: skip
            add(b, part)
        graph = tflite.SubGraphEnd(b)
        parts = [self._vector(b, part) for part in (codes, [graph], buffers)]
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        for add, part in zip((tflite.ModelAddOperatorCodes, tflite.ModelAddSubgraphs, tflite.ModelAddBuffers), parts,
                             strict=True):  # fmt: skip
            add(b, part)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    @staticmethod
    def _vector(b, offsets):
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return b.EndVector()

    @staticmethod
    def _tensor(b, name, shape, kind, buffer, scales, zeros, axis, variable):
        text, sizes = b.CreateString(name), b.CreateNumpyVector(np.array(shape, "i4"))
        vectors = [b.CreateNumpyVector(np.array(part, code)) for part, code in ((scales, "f4"), (zeros, "i8"))]
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, vectors[0])
        tflite.QuantizationParametersAddZeroPoint(b, vectors[1])
        tflite.QuantizationParametersAddQuantizedDimension(b, axis)
        quantization = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddName(b, text)
        tflite.TensorAddShape(b, sizes)
        tflite.TensorAddType(b, kind)
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddIsVariable(b, variable)
        if len(scales):
            tflite.TensorAddQuantization(b, quantization)
        return tflite.TensorEnd(b)

    @staticmethod
    def _operator(b, number, inputs, outputs, options):
        vectors = [b.CreateNumpyVector(np.array(part, "i4")) for part in (inputs, outputs)]
        table = None
        if options:
            name, values = options[0], options[1:]
            getattr(tflite, f"{name}Start")(b)
            for field, value in values:
                getattr(tflite, f"{name}Add{field}")(b, value)
            table = getattr(tflite, f"{name}End")(b)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, number)
        tflite.OperatorAddInputs(b, vectors[0])
        tflite.OperatorAddOutputs(b, vectors[1])
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(OPTIONS, options[0]))
            tflite.OperatorAddBuiltinOptions(b, table)
        return tflite.OperatorEnd(b)

    # -- operators -----------------------------------------------------------------------------------------------------

    def weights(self, name, values, form="float"):
        """Add a constant in one of the forms that converters write; the tensor that an operator reads."""
        if form == "half":
            source = self.tensor(f"{name}/half", data=values.astype("f2"))
            result = self.tensor(name, values.shape)
            return self.operator("DEQUANTIZE", [source], result)
        if form != "float" and values.ndim == 2:
            per_row = form == "rows"
            scales = np.abs(values).max(axis=1 if per_row else None, keepdims=True).astype("f4") / 127
            codes = np.round(values / scales).astype("i1")
            return self.tensor(name, data=codes, scales=scales.ravel(), zeros=[0] * scales.size)
        return self.tensor(name, data=values.astype("f4"))

    def lstm(self, x, module, name, layer=0, form="float", time_major=False, change=None, options=(), width=None):
        """Add a layer of torch.nn.LSTM; its output."""
        state = {key: value.detach().numpy() for key, value in module.state_dict().items()}
        parts = {key: np.split(state[f"{key}_l{layer}"], 4) for key in ("weight_ih", "weight_hh")}
        biases = np.split(state[f"bias_ih_l{layer}"] + state[f"bias_hh_l{layer}"], 4)
        hidden = len(biases[0])
        places = [x]
        for key in ("weight_ih", "weight_hh"):
            places += [self.weights(f"{name}/{key}{gate}", part, form) for gate, part in enumerate(parts[key])]
        places += [LEFT_OUT] * 3
        places += [self.weights(f"{name}/bias{gate}", part) for gate, part in enumerate(biases)]
        projected = state.get(f"weight_hr_l{layer}")
        places += [LEFT_OUT if projected is None else self.weights(f"{name}/weight_hr", projected, form), LEFT_OUT]
        size = hidden if projected is None else len(projected)
        places += [
            self.tensor(f"{name}/{part}", (2, width), variable=True) for part, width in (("h", size), ("c", hidden))
        ]
        places += [LEFT_OUT] * 4
        for place, value in (change or {}).items():
            places[place] = value(self, hidden) if callable(value) else value
        fields = {"FusedActivationFunction": 4, "TimeMajor": time_major, **dict(options)}
        output = self.tensor(name, (6, 2, size) if time_major else (2, 6, size))
        return self.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", places, output,
                             ("UnidirectionalSequenceLSTMOptions", *fields.items()))  # fmt: skip

    def swapped(self, x, perm=(1, 0, 2)):
        name, shape = self.tensors[x][:2]
        order = self.tensor(f"{name}/perm", data=np.array(perm, "i4"))
        return self.operator("TRANSPOSE", [x, order], self.tensor(f"{name}/swapped", [shape[axis] for axis in perm]))


def module_of(*arguments, **options):
    torch.manual_seed(5)
    return torch.nn.LSTM(*arguments, **options)


def saved(path, writer, inputs=(0,), **options):
    path.write_bytes(writer.content(inputs, **options))
    return path


def assert_equal(network, module, tolerance=1e-6):
    x = torch.randn(6, 2, module.input_size, dtype=torch.float64)
    with torch.no_grad():
        wanted = module.double()(x)[0].numpy()
    np.testing.assert_allclose(run(network, x.numpy())[0], wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("proj_size", [0, 3])
def test_a_chain_with_a_linear_layer(time_major, proj_size, tmp_path):
    module, head = module_of(4, 5, 2, proj_size=proj_size), torch.nn.Linear(proj_size or 5, 2)
    writer = Writer()
    x = writer.tensor("x", (2, 6, 4))
    y = writer.lstm(writer.swapped(x) if time_major else x, module, "one", 0, time_major=time_major)
    y = writer.lstm(y, module, "two", 1, time_major=time_major)
    size = proj_size or 5
    if time_major:
        y = writer.swapped(y)
    y = writer.operator("RESHAPE", [y], writer.tensor("rows", (12, size)))
    constants = [writer.weights(name, getattr(head, name).detach().numpy()) for name in ("weight", "bias")]
    y = writer.operator("FULLY_CONNECTED", [y, *constants], writer.tensor("head", (12, 2)),
                        ("FullyConnectedOptions", ("FusedActivationFunction", 1)))  # fmt: skip
    writer.operator("SOFTMAX", [y], writer.tensor("probabilities", (12, 2)))
    path = saved(tmp_path / "a.tflite", writer)
    network = load_network(path)
    assert_equal(network, module)
    assert [layer.name for layer in network.layers] == ["one", "two"]
    assert network.notes == (
        "x is the input 'x' (batch, steps, elements): --batch-first", "the activation of head is the host's",
    )  # fmt: skip
    assert network.ignored == ("operator SOFTMAX",)
    np.testing.assert_array_equal(network.linear.weight, head.weight.detach().double().numpy())
    np.testing.assert_array_equal(network.linear.bias, head.bias.detach().double().numpy())
    assert load_network(path, output_layer="none").linear is None
    assert network_names(path) == ["one"]


@pytest.mark.parametrize("form", ["tensor", "rows", "half"])
def test_quantized_weights_are_exact(form, tmp_path):
    module, writer = module_of(4, 5), Writer()
    writer.lstm(writer.tensor("x", (2, 6, 4)), module, "lstm", form=form)
    network = load_network(saved(tmp_path / "a.tflite", writer))
    (weights,) = network.layers[0].weights
    for key, found in (("weight_ih", weights.w_x), ("weight_hh", weights.w_h)):
        wanted = []
        for part in np.split(getattr(module, f"{key}_l0").detach().numpy(), 4):
            if form == "half":
                wanted.append(part.astype("f2").astype("f8"))
                continue
            scales = np.abs(part).max(axis=1 if form == "rows" else None, keepdims=True).astype("f4") / 127
            wanted.append(np.round(part / scales) * scales.astype("f8"))
        np.testing.assert_array_equal(found, np.concatenate(wanted))
    assert_equal(network, module, 0.02)
    quantized = "lstm is read with dequantized weights, and activations that are not quantized"
    assert (quantized in network.notes) == (form != "half")


def test_integer_biases_and_zero_points(tmp_path):
    module, writer = module_of(4, 5), Writer()
    codes = np.array([7, -3, 0, 100, -100], dtype="i4")
    change = {
        12: lambda writer, _: writer.tensor("bias", data=codes, scales=[0.25], zeros=[0]),
        1: lambda writer, _: writer.tensor("w", data=np.full((5, 4), 200, "u1"), scales=[0.5], zeros=[128]),
    }
    writer.lstm(writer.tensor("x", (2, 6, 4)), module, "lstm", change=change)
    (weights,) = load_network(saved(tmp_path / "a.tflite", writer)).layers[0].weights
    np.testing.assert_array_equal(weights.bias_x[:5], codes * 0.25)
    np.testing.assert_array_equal(weights.w_x[:5], np.full((5, 4), 36.0))


def test_peepholes_and_first_states(tmp_path):
    module, writer = module_of(4, 5), Writer()
    values = np.arange(15, dtype="f4").reshape(3, 5) / 8
    change = {
        9 + gate: (lambda writer, _, gate=gate: writer.tensor(f"p{gate}", data=values[gate])) for gate in range(3)
    }
    change[18] = lambda writer, _: writer.tensor("h0", data=np.full((1, 5), 0.5, "f4"))
    x, c = writer.tensor("x", (2, 6, 4)), writer.tensor("c0", (2, 5))
    change[19] = c
    writer.lstm(x, module, "lstm", change=change)
    (layer,) = load_network(saved(tmp_path / "a.tflite", writer, (x, c))).layers
    np.testing.assert_array_equal(layer.weights[0].peepholes, values)
    np.testing.assert_array_equal(layer.weights[0].initial_h, np.full((1, 5), 0.5))
    assert layer.state_inputs == ("c0",)


def test_several_networks(tmp_path):
    module, writer = module_of(4, 4, 2), Writer()
    x = writer.tensor("x", (2, 6, 4))
    y = writer.lstm(x, module, "one", 0)
    # Behind an operator that computes, another network begins.
    y = writer.operator("TANH", [y], writer.tensor("squashed", (2, 6, 4)))
    writer.lstm(y, module, "two", 1)
    path = saved(tmp_path / "a.tflite", writer)
    assert network_names(path) == ["one", "two"]
    refused(path, "--prefix must be given, one of 'one', 'two': FILE holds several networks")
    refused(path, "--prefix must be one of 'one', 'two' as in FILE, not 'three'", prefix="three")
    assert load_network(path, "two").notes == ("x is the output of TANH squashed",)


def test_steps_that_are_exchanged_with_sequences_are_no_chain(tmp_path):
    module, writer = module_of(4, 4, 2), Writer()
    y = writer.lstm(writer.tensor("x", (2, 6, 4)), module, "one", 0)
    writer.lstm(writer.swapped(y), module, "two", 1)
    assert network_names(saved(tmp_path / "a.tflite", writer)) == ["one", "two"]


# -- refused -----------------------------------------------------------------------------------------------------------


def refused(path, message, **arguments):
    with pytest.raises(UserError) as error:
        load_network(path, **arguments)
    text = str(error.value)
    assert re.fullmatch(message, text.replace(str(path), "FILE")), text
    assert "\n" not in text
    assert len(text) - len(str(path)) < 195


def one_layer(**arguments):
    writer = Writer()
    writer.lstm(writer.tensor("x", (2, 6, 4)), module_of(4, 5), "lstm", **arguments)
    return writer


def constant(values, **quantization):
    return lambda writer, _: writer.tensor("wrong", data=np.asarray(values), **quantization)


def one_operator(kind, custom=None):
    writer = Writer()
    writer.operator(kind, [writer.tensor("x", (2, 6, 4))], writer.tensor("y", (2, 6, 4)), custom=custom)
    return writer


REFUSED = [
    (lambda: one_layer(options={"FusedActivationFunction": 1}), "activation of 'lstm' must be tanh, not 1 in FILE"),
    (lambda: one_layer(options={"CellClip": 10.0}), r"cell_clip of 'lstm' must be 0\.0, not 10\.0 in FILE"),
    (lambda: one_layer(options={"ProjClip": 1.0}), r"proj_clip of 'lstm' must be 0\.0, not 1\.0 in FILE"),
    (lambda: one_layer(options={"DiagonalRecurrentTensors": True}), "diagonal_recurrent_tensors of .* False, not .*"),
    (lambda: one_layer(change={1: -1}), "'lstm' must have an input gate of its own, not 1 - forget gate, in FILE"),
    (lambda: one_layer(change={20: 0}), "'lstm' must be without layer normalization in FILE"),
    (lambda: one_layer(change={13: -1}), "'lstm' must have weights and biases of four gates in FILE"),
    (lambda: one_layer(change={9: 0}), "'lstm' must have peepholes of three gates or none in FILE"),
    (lambda: one_layer(change={3: constant(np.zeros((5, 3), "f4"))}),
     r"W_x of the cell gate of 'lstm' must be of shape \[5, 4\] and at most \d+ elements, not \[5, 3\] in FILE"),
    (lambda: one_layer(change={3: constant(np.full((5, 4), np.nan, "f4"))}),
     "W_x of the cell gate of 'lstm' must be made of finite numbers in FILE"),
    (lambda: one_layer(change={3: constant(np.zeros((5, 4), "i1"), scales=[1, 2], zeros=[0, 0])}),
     "W_x of the cell gate of 'lstm' must be quantized with one scale, or one for each of its rows, not 2 in FILE"),
    (lambda: one_layer(change={3: constant(np.zeros((5, 4), "i1"), scales=[1], zeros=[0, 0])}),
     "W_x of the cell gate of 'lstm' must have as many zero points as scales in FILE"),
    (lambda: one_layer(change={3: lambda writer, _: writer.tensor("w", (5, 4), kind=17)}),
     "W_x of the cell gate of 'lstm' must be a constant, not the input 'w' in FILE"),
    (lambda: one_layer(change={2: lambda writer, _: writer.tensor("w", (1 << 30, 1 << 30))}),
     r"'lstm' must have at most \d+ weights in FILE"),
    (lambda: one_layer(change={2: lambda writer, _: writer.tensor("w", (-5, 4))}), r".* must .*-5.*"),
    (lambda: one_layer(change={3: lambda writer, _: writer.operator("DEQUANTIZE", [-1], writer.tensor("w", (5, 4)))}),
     "W_x of the cell gate of 'lstm' must be a constant, not DEQUANTIZE without an input in FILE"),
    (lambda: one_layer(change={3: 99}), "FILE must have operators on its tensors, not on number 99"),
    (lambda: one_operator("WHILE"), "FILE must hold .*LSTM, not WHILE 'y': use the Keras model that it was made from"),
    (lambda: one_operator("BIDIRECTIONAL_SEQUENCE_LSTM"), "FILE must hold .*, not BIDIRECTIONAL_SEQUENCE_LSTM 'y': .*"),
    (lambda: one_operator("CUSTOM", "FlexTensorListReserve"), "FILE must hold .*, not only 'FlexTensorListReserve'"),
    (lambda: one_operator("GELU"), "FILE must hold .*, not only 'GELU'"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=range(len(REFUSED)))
def test_options_are_named(make, message, tmp_path):
    refused(saved(tmp_path / "a.tflite", make()), message)


def test_data_behind_the_flatbuffer_is_named(tmp_path):
    path = saved(tmp_path / "a.tflite", one_layer(), offset=4096)
    refused(path, "FILE must hold the data of its tensors in its flatbuffer, not behind it")


def test_damaged_files_end_in_one_line(tmp_path, rng):
    content, path = one_layer().content((0,)), tmp_path / "a.tflite"
    refused(tmp_path / "none.tflite", "FILE must be .*, not a missing file")
    path.write_bytes(b"\x08\0\0\0TFL4" + content[8:])
    refused(path, "FILE must be a TensorFlow Lite model, which has TFL3 after its first four bytes")
    for length in [0, 8, 40, *rng.integers(9, len(content) - 1, 60).tolist()]:
        path.write_bytes(content[:length])
        refused(path, "[^\n]*(FILE|must)[^\n]*")
    read = 0
    for _ in range(400):
        damaged = bytearray(content)
        for place in rng.integers(8, len(content), 1 + rng.integers(4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_network(path)
            read += 1
        except UserError:
            pass
    # Most bytes are those of weights.
    assert read


def test_lists_that_a_small_file_states_many_times_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("chessrnn.model.imported.tflite_model.MAX_UNPACKED", 99)
    rule = "FILE must have names, shapes and inputs of at most 99 in all"
    refused(saved(tmp_path / "a.tflite", one_layer()), rule)


def test_inspect_and_convert(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.tflite", one_layer())
    assert main(["inspect", "a.tflite"]) == 0
    assert "lstm" in capsys.readouterr().out
    assert main(["convert", "a.tflite", "--k", "1", "--output", "a.safetensors"]) == 0
    assert (tmp_path / "a.safetensors").exists()
