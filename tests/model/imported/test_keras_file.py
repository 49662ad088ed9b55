"""Keras models: float-equal to Keras, and every option that cannot be read is named."""

import json
import os
import re
import zipfile

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import h5py
import keras
from keras import layers

from chessrnn.model.errors import UserError
from chessrnn.model.imported.float_evaluation import run
from chessrnn.model.imported.load import load_network, network_names
from chessrnn.scripts import convert

# Keras calls functions of its packages that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=[".keras", ".h5"])
def saved(request, tmp_path, rng):
    """Save a model of Keras with random weights; its path."""

    def save(model):
        model.set_weights([rng.normal(size=value.shape) * 0.4 for value in model.get_weights()])
        model.save(tmp_path / f"a{request.param}")
        return tmp_path / f"a{request.param}"

    return save


def sequential(*parts):
    return keras.Sequential([layers.Input((None, 3)), *parts])


def same(model, path, rng, flip=False, last=False, **arguments):
    """Compare the network of a file with the whole model, whose last layer is the last recurrent one."""
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    wanted = model.predict(x, verbose=0)
    network = load_network(path, **arguments)
    found = run(network, x.swapaxes(0, 1))[0].swapaxes(0, 1)
    found = found[:, ::-1] if flip else found
    np.testing.assert_allclose(found[:, -1] if last else found, wanted, rtol=0, atol=1e-6)
    return network


CHAINS = [
    lambda: (layers.LSTM(4, return_sequences=True), layers.Dropout(0.3), layers.LSTM(5, return_sequences=True)),
    lambda: (layers.GRU(4, return_sequences=True), layers.GRU(4, return_sequences=True, use_bias=False)),
    lambda: (layers.GRU(4, return_sequences=True, reset_after=False),),
    lambda: (layers.SimpleRNN(4, return_sequences=True, activation="relu"),),
    lambda: (layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.LSTM(3, return_sequences=True)),
    lambda: (layers.Bidirectional(layers.GRU(4, return_sequences=True, use_bias=False)),),
]


@pytest.mark.parametrize("make", CHAINS, ids=range(len(CHAINS)))
def test_networks_compute_what_keras_computes(make, saved, rng):
    model = sequential(*make())
    network = same(model, saved(model), rng)
    assert "arrays of Keras are (batch, steps, elements): --batch-first" in network.notes
    assert network.ignored == ()


def test_a_conversion_asks_once_for_batch_first(tmp_path, rng, capsys):
    model = sequential(layers.LSTM(4, return_sequences=True))
    model.save(tmp_path / "a.keras")
    np.save(tmp_path / "x.npy", rng.normal(size=(2, 9, 3)))
    arguments = [tmp_path / "a.keras", "--k", 1, "--output", tmp_path / "out", "--calibrate", tmp_path / "x.npy"]
    arguments = [str(part) for part in arguments]
    assert convert.main(arguments) == 0
    assert "note: arrays of Keras are (batch, steps, elements): --batch-first\n" in capsys.readouterr().err
    assert convert.main([*arguments, "--batch-first"]) == 0
    assert "note: arrays of Keras" not in capsys.readouterr().err


def test_the_last_step_alone(saved, rng):
    model = sequential(layers.LSTM(4))
    network = same(model, saved(model), rng, last=True)
    assert any("passes on the h of its last step alone" in note for note in network.notes)


def test_backwards(saved, rng):
    model = sequential(layers.LSTM(4, return_sequences=True, go_backwards=True))
    network = same(model, saved(model), rng, flip=True)
    assert network.layers[0].direction == "reverse"
    assert any("reads the sequence from its end" in note for note in network.notes)


def test_several_networks_and_a_dense_layer(saved, rng):
    model = sequential(
        layers.LSTM(4, return_sequences=True, name="below"),
        layers.Dense(5, activation="relu", name="between"),
        layers.GRU(4, return_sequences=True, name="above"),
        layers.Dense(2, name="head"),
    )
    path = saved(model)
    with pytest.raises(UserError, match="--prefix must be given, one of 'below', 'above'"):
        load_network(path)
    with pytest.raises(UserError, match="--prefix must be one of 'below', 'above' as in .*, not 'head'"):
        load_network(path, "head")
    assert network_names(path) == ["below", "above"]
    below, above = load_network(path, "below"), load_network(path, "above")
    assert below.ignored == ("GRU above", "Dense head")
    assert any("the activation relu of between is the host's" in note for note in below.notes)
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    between = np.maximum(below.linear.apply(run(below, x.swapaxes(0, 1))[0]), 0)
    found = above.linear.apply(run(above, between)[0]).swapaxes(0, 1)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=0, atol=1e-6)
    assert load_network(path, "above", output_layer="none").linear is None
    with pytest.raises(UserError, match="--output-layer must be none or one of 'head', not 'between'"):
        load_network(path, "above", output_layer="between")


def test_functional_models(saved, rng):
    inputs = layers.Input((None, 3))
    first = layers.LSTM(4, return_sequences=True, name="one")(inputs)
    second = layers.LSTM(4, return_sequences=True, name="two")(layers.Dropout(0.1)(first))
    model = keras.Model(inputs, second)
    network = same(model, saved(model), rng)
    assert [layer.name for layer in network.layers] == ["one", "two"]
    # A layer that two read ends its network.
    both = layers.Add()([second, layers.GRU(4, return_sequences=True, name="three")(first)])
    with pytest.raises(UserError, match="--prefix must be given, one of 'one', 'two', 'three'"):
        load_network(saved(keras.Model(inputs, both)))


REFUSED = [
    (
        lambda: layers.LSTM(4, recurrent_activation="hard_sigmoid"),
        "recurrent_activation of 'lstm.*' must be sigmoid, not",
    ),
    (lambda: layers.LSTM(4, activation="relu"), "activation of 'lstm.*' must be tanh, not 'relu'"),
    (
        lambda: layers.SimpleRNN(4, activation="linear"),
        "activation of 'simple_rnn.*' must be tanh or relu, not 'linear'",
    ),
    (lambda: layers.Bidirectional(layers.GRU(4), merge_mode="sum"), "merge_mode of 'bidi.*' must be concat, not 'sum'"),
    (
        lambda: layers.RNN(layers.LSTMCell(4)),
        "must hold a layer LSTM, GRU or SimpleRNN, not only 'InputLayer', 'RNN'|'RNN'",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=range(len(REFUSED)))
def test_options_are_named(make, message, saved):
    refused(saved(sequential(make())), message)


def refused(path, message):
    with pytest.raises(UserError) as error:
        load_network(path)
    text = str(error.value)
    assert re.search(message, text), text
    assert "\n" not in text
    assert len(text.replace(str(path), "a.keras")) < 200


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Files of a small LSTM, by their ending."""
    folder = tmp_path_factory.mktemp("keras")
    model = sequential(layers.LSTM(4, name="lstm"))
    for ending in (".keras", ".h5", ".weights.h5"):
        (model.save_weights if "weights" in ending else model.save)(folder / f"a{ending}")
    return folder


def kernel_of(file):
    return next(f"model_weights/lstm/{name}" for name in file["model_weights/lstm"].attrs["weight_names"]
                if name.rpartition("/")[2] == "kernel")  # fmt: skip


def replaced_kernel(file, make):
    name = kernel_of(file)
    del file[name]
    make(file, name)


def with_text(file, change):
    text = file.attrs["model_config"]
    file.attrs["model_config"] = change(text)


DAMAGES = [
    (lambda f: replaced_kernel(f, lambda f, n: None), "must be given, not left out in"),
    (
        lambda f: replaced_kernel(f, lambda f, n: f.__setitem__(n, h5py.ExternalLink("b.h5", "x"))),
        "not a link elsewhere",
    ),
    (lambda f: replaced_kernel(f, lambda f, n: f.__setitem__(n, h5py.SoftLink("/x"))), "not a link elsewhere"),
    (
        lambda f: replaced_kernel(f, lambda f, n: f.create_dataset(n, (1 << 40, 16), "f4", chunks=(1, 16))),
        "elements, not",
    ),
    (lambda f: replaced_kernel(f, lambda f, n: f.create_dataset(n, (3, 16), "i4")), "made of floating-point numbers"),
    (lambda f: replaced_kernel(f, lambda f, n: f.create_dataset(n, data=np.full((3, 16), np.nan))), "finite numbers"),
    (lambda f: replaced_kernel(f, lambda f, n: f.create_dataset(n, (3, 15), "f4")), "must fit 4 units of LSTM, not"),
    (
        lambda f: replaced_kernel(f, lambda f, n: f.create_dataset(n, (3, 16), "f4", external=[("x", 0, 192)])),
        "stored in the file itself",
    ),
    (
        lambda f: replaced_kernel(f, lambda f, n: f.create_virtual_dataset(n, h5py.VirtualLayout((3, 16), "f4"))),
        "stored in the file itself",
    ),
    # A few bytes that would fill the memory: nothing is stored, or zeros that compress to nothing.
    (
        lambda f: replaced_kernel(f, lambda f, n: f.create_dataset(n, (1 << 24, 16), "f4", chunks=(1024, 16))),
        "stored in more than 0 bytes for 1073741824 bytes of numbers",
    ),
    (
        lambda f: replaced_kernel(
            f, lambda f, n: f.create_dataset(n, data=np.zeros((1 << 16, 16), "f4"), compression="gzip")
        ),
        r"stored in more than \d+ bytes for 4194304 bytes of numbers",
    ),
    (lambda f: f["model_weights/lstm"].attrs.__delitem__("weight_names"), "must hold 3 arrays"),
    (lambda f: f.attrs.__delitem__("model_config"), "with its configuration, not weights alone: save the whole"),
    (lambda f: with_text(f, lambda text: text[:-5]), "model_config must be valid JSON"),
    (lambda f: with_text(f, lambda text: "[" * 90000), "model_config must not be nested so deeply"),
    (lambda f: with_text(f, lambda text: "{}"), "must be a Keras model .* with layers, not 'something else'"),
    (lambda f: with_text(f, lambda text: text.replace('"units": 4', '"units": "x"')), "must fit 'x' units of LSTM"),
    (lambda f: with_text(f, lambda text: text.replace('"class_name": "LSTM"', '"class_name": 3')), "with a class and"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGES, ids=range(len(DAMAGES)))
def test_damaged_files(change, message, small, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes((small / "a.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    refused(path, message)


def test_truncated_files(small, tmp_path, rng):
    for name in ("a.keras", "a.h5"):
        content = (small / name).read_bytes()
        for length in [0, 9, *rng.integers(10, len(content) - 1, 20).tolist()]:
            (tmp_path / name).write_bytes(content[:length])
            refused(tmp_path / name, "must (be a whole|have from|be a Keras|be a state_dict|hold)")
    refused(small / "a.weights.h5", "must be a Keras model .* with its configuration, not weights alone")


def test_archives_are_bounded(small, tmp_path):
    with zipfile.ZipFile(small / "a.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def archived(compression=zipfile.ZIP_STORED, **changes):
        with zipfile.ZipFile(tmp_path / "a.keras", "w", compression) as archive:
            for name, content in (members | changes).items():
                if content is not None:
                    archive.writestr(name, content)
        return tmp_path / "a.keras"

    refused(archived(**{"config.json": b" " * (1 << 25)}), "config.json must have at most 16777216 bytes, not more")
    assert load_network(archived(zipfile.ZIP_DEFLATED)).layers
    bomb = archived(zipfile.ZIP_DEFLATED, **{"config.json": b" " * (4 << 20)})
    refused(bomb, "config.json must have at most 1048576 bytes, not more")
    refused(archived(**{"config.json": None}), "must hold config.json, not only")
    refused(archived(**{"config.json": b"\xff"}), "must be a whole archive of Keras: ")
    refused(archived(**{"model.weights.h5": b"no"}), "must be a whole HDF5 file: ")
    text = json.loads(members["config.json"])
    text["config"]["layers"] = [{"class_name": "A", "config": {"name": str(number)}} for number in range(2001)]
    refused(archived(**{"config.json": json.dumps(text).encode()}), "must hold at most 2000 layers, not more")
