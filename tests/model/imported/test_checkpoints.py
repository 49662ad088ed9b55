"""State_dicts wherever a file has them: nested checkpoints, TorchScript archives; and formats that are named."""

import gzip
import io
import pickle
import re
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from chessrnn.model.errors import UserError
from chessrnn.model.imported.float_evaluation import run
from chessrnn.model.imported.load import load_network

TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


def rejected(path, message, **arguments):
    with pytest.raises(UserError) as error:
        load_network(path, **arguments)
    text = str(error.value)
    assert re.fullmatch(message, text.replace(str(path), "FILE")), text
    assert "\n" not in text
    assert len(text) - len(str(path)) < 190


def assert_equal(network, module):
    x = torch.randn(5, 2, module.input_size, dtype=torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(run(network, x.numpy())[0], module.double()(x)[0].numpy(), **TOLERANCE)


# -- nested checkpoints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: {"step": 3, "model_state": state, "optimizer_state": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        lambda state: {"checkpoint": {"weights": {"speaker": state}}, "mean": torch.zeros(3)},
        lambda state: {"state_dict": {f"model.lstm.{name}": value for name, value in state.items()}},
    ],
    ids=["model_state", "deeper", "lightning"],
)
def test_the_only_state_dict_of_a_checkpoint(nest, tmp_path):
    torch.manual_seed(1)
    module = torch.nn.LSTM(4, 5, 2)
    torch.save(nest(dict(module.state_dict())), tmp_path / "a.pt")
    network = load_network(tmp_path / "a.pt")
    assert_equal(network, module)
    assert all("exp_avg" not in name for name in network.ignored)
    assert network.layers[0].name in ("l0", "model.lstm.l0")


def test_several_state_dicts_are_listed(tmp_path):
    torch.manual_seed(2)
    one, two = torch.nn.GRU(4, 5), torch.nn.GRU(4, 5)
    states = [{f"rnn.{name}": value for name, value in module.state_dict().items()} for module in (one, two)]
    content = {"model": states[0], "ema": {"module": states[1]}, "again": states[0]}
    torch.save(content, tmp_path / "a.pt")
    found = "'ema.module.rnn', 'model.rnn'"
    rejected(tmp_path / "a.pt", f"--prefix must be given, one of {found}: FILE holds several networks")
    rejected(tmp_path / "a.pt", f"--prefix must be one of {found} as in FILE, not 'rnn'", prefix="rnn")
    assert_equal(load_network(tmp_path / "a.pt", "model.rnn"), one)
    # The end of a name is enough where only one has it.
    assert_equal(load_network(tmp_path / "a.pt", "module.rnn"), two)


def test_modules_in_dictionaries_of_their_own(tmp_path):
    torch.manual_seed(3)
    encoder, head = torch.nn.LSTM(4, 5), torch.nn.Linear(5, 2)
    torch.save({"encoder": encoder.state_dict(), "head": head.state_dict(), "config": {"width": 5}}, tmp_path / "a.pt")
    network = load_network(tmp_path / "a.pt")
    assert_equal(network, encoder)
    assert (network.linear.name, network.ignored) == ("head", ())
    assert load_network(tmp_path / "a.pt", output_layer="none").ignored == ("head.weight [2, 5]", "head.bias [2]")


def test_dictionaries_that_contain_themselves(tmp_path):
    content = dict(torch.nn.RNN(2, 3).state_dict())
    content["self"] = content
    torch.save(content, tmp_path / "a.pt")
    assert load_network(tmp_path / "a.pt").layers[0].hidden_size == 3


# -- TorchScript -----------------------------------------------------------------------------------------------


class Model(torch.nn.Module):
    def __init__(self, kind=torch.float32):
        super().__init__()
        self.rnn = torch.nn.LSTM(4, 5, bidirectional=True).to(kind)
        self.fc = torch.nn.Linear(10, 2).to(kind)

    def forward(self, x):
        return self.fc(self.rnn(x)[0])


def scripted(path, kind=torch.float32, trace=False):
    torch.manual_seed(4)
    model = Model(kind).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(model, torch.zeros(3, 2, 4, dtype=kind)) if trace else torch.jit.script(model)
        torch.jit.save(script, path)
    return model


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["a.pt", "a.jit", "a.ts"])
def test_torchscript_archives(kind, name, tmp_path):
    model = scripted(tmp_path / name, kind)
    network = load_network(tmp_path / name)
    weights = network.layers[0].weights
    for index, suffix in enumerate(("", "_reverse")):
        for field, tensor in (("w_x", "weight_ih"), ("w_h", "weight_hh"), ("bias_x", "bias_ih"), ("bias_h", "bias_hh")):
            wanted = getattr(model.rnn, f"{tensor}_l0{suffix}").detach().double().numpy()
            np.testing.assert_array_equal(getattr(weights[index], field), wanted)
    assert (network.linear.name, network.ignored) == ("fc", ())
    np.testing.assert_array_equal(network.linear.weight, model.fc.weight.detach().double().numpy())


def test_traced_archives_and_a_prefix(tmp_path):
    model = scripted(tmp_path / "a.pt", trace=True)
    assert_equal(load_network(tmp_path / "a.pt", "rnn"), model.rnn)


def test_frozen_archives_are_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.freeze(torch.jit.script(Model().eval())), tmp_path / "a.pt")
    way = r"save state_dict\(\) of the module before torch\.jit\.freeze"
    rejected(tmp_path / "a.pt", f"FILE must be a TorchScript archive with parameters, not a frozen one: {way}")


class Harmful:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return exec, (f"open({str(self.target)!r}, 'w')",)


def archive(path, **entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"constants_pkl": b"\x80\x02).", **entries}.items():
            file.writestr(f"a/{name.replace('_pkl', '.pkl')}", content)
    return path


def test_nothing_of_an_archive_runs(tmp_path):
    for protocol in range(6):
        path = archive(tmp_path / "a.pt", data_pkl=pickle.dumps(Harmful(tmp_path / "harmed"), protocol=protocol))
        rejected(
            path, r"FILE must be a readable TorchScript archive: it needs the code of (__)?builtin.*\.exec; save .*"
        )
        assert not (tmp_path / "harmed").exists()
    # Functions of torch that could write or load files are as unknown as any other.
    for name in ("torch.jit load", "torch.serialization save", "torch.hub load", "numpy.testing build_err_msg"):
        content = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n(X\x01\x00\x00\x00atR."
        path = archive(tmp_path / "a.pt", data_pkl=content)
        rejected(path, f"FILE must be .*: it needs the code of {re.escape(name.replace(' ', '.'))}; save .*")


def test_damaged_archives_end_in_one_line(tmp_path, rng):
    model = scripted(tmp_path / "good.pt")
    whole = (tmp_path / "good.pt").read_bytes()
    path = tmp_path / "a.pt"
    for cut in rng.integers(1, len(whole), size=10):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError):
            load_network(path)
    with zipfile.ZipFile(tmp_path / "good.pt") as source:
        entries = {name: source.read(name) for name in source.namelist()}
    for _ in range(40):
        damaged = dict(entries)
        content = bytearray(entries["good/data.pkl"])
        content[rng.integers(len(content))] = rng.integers(256)
        damaged["good/data.pkl"] = bytes(content)
        with zipfile.ZipFile(path, "w") as target:
            for name, content in damaged.items():
                target.writestr(name, content)
        try:
            network = load_network(path)
        except UserError:
            continue
        assert network.layers[0].hidden_size == model.rnn.hidden_size


def test_tensors_outside_of_their_data(tmp_path):
    scripted(tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as source:
        entries = {name: source.read(name) for name in source.namelist()}
    data = max((name for name in entries if name.startswith("good/data/")), key=lambda name: len(entries[name]))

    def rewritten(method=zipfile.ZIP_STORED):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as target:
            for name, content in entries.items():
                target.writestr(name, content, method if name == data else zipfile.ZIP_STORED)
        return tmp_path / "a.pt"

    rejected(rewritten(zipfile.ZIP_DEFLATED), "FILE must hold stored entries of a sensible size, not 'good/data/.*'")
    entries[data] = entries[data][:-4]
    rejected(rewritten(), r"rnn\.weight_.* must hold the data of its shape \[20, .\] in FILE")
    del entries[data]
    rejected(rewritten(), r"rnn\.weight_.* must hold its data in FILE: .*")


# -- torch.export and .npz -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An archive of torch.export, and its module."""
    torch.manual_seed(6)
    model = Model().eval()
    path = tmp_path_factory.mktemp("exported") / "a.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (torch.zeros(3, 2, 4),)), path)
    return path, model


def rewritten(source, target, change):
    """Copy an archive; ``change`` gets the name and the content of every entry, and returns the content or None."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            content = change(name, archive.read(name))
            if content is not None:
                copy.writestr(name, content)
    return target


def encrypted(path):
    """Mark every entry of an archive as encrypted, which its readers refuse before they look at the data."""
    with zipfile.ZipFile(path) as archive:
        places = [entry.header_offset + 6 for entry in archive.infolist()]
        first = archive.start_dir
    content = bytearray(path.read_bytes())
    places += [first + 8 + match.start() for match in re.finditer(rb"PK\x01\x02", content[first:])]
    for place in places:
        content[place] |= 1
    path.write_bytes(content)
    return path


def test_archives_of_torch_export(exported, tmp_path):
    path, model = exported
    network = load_network(path)
    assert_equal(network, model.rnn)
    assert (network.linear.name, network.ignored) == ("fc", ())
    # Nothing else of the archive is needed: neither the graph nor pickled inputs are looked at.
    weights = rewritten(path, tmp_path / "a.pt2", lambda name, content: content if "weight" in name else b"no")
    assert load_network(weights).layers[0].hidden_size == 5


def test_damaged_archives_of_torch_export(exported, tmp_path, rng):
    path, damaged = exported[0], tmp_path / "a.pt2"
    config = "_weights_config.json"

    def changed(edit):
        return rewritten(path, damaged, lambda name, content: edit(content) if name.endswith(config) else content)

    too_large = "FILE must have at most 16777216 bytes of weights_config.json in all"
    rejected(changed(lambda _: None), "FILE must hold weights, as an archive of torch.export.save does: save model.*")
    rejected(changed(lambda _: b"{}"), "FILE must be a readable archive of torch.export: .*config.*")
    rejected(changed(lambda text: text[:-9]), "FILE must hold valid JSON: .*")
    rejected(changed(lambda _: b"[" * 90_000), "FILE must hold valid JSON: .*must not be nested so deeply")
    rejected(changed(lambda _: b" " * (1 << 24) + b"{}"), too_large)
    rejected(changed(lambda text: text.replace(b'"as_int": 20', b'"as_int": 1048576')), ".* must .*1048576.*")
    rejected(changed(lambda text: text.replace(b'"as_int": 20', b'"as_int": -1')), "FILE must be a readable .*")
    rejected(changed(lambda text: text.replace(b'"dtype": 7', b'"dtype": 1')), ".* must be of type .*")
    gone = rewritten(path, damaged, lambda name, content: None if re.search(r"weight_\d+$", name) else content)
    rejected(gone, ".* must hold its data in FILE: .*")
    # Every description is small enough, all of them together are not.
    many = rewritten(path, damaged, lambda name, content: content)
    with zipfile.ZipFile(many, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"a/data/weights/{number}{config}", b'{"config": {}}' + b" " * (1 << 23))
    rejected(many, too_large)
    # The description cannot be encrypted: a weight is, which is read later.
    hidden = rewritten(path, damaged, lambda name, content: content)
    with zipfile.ZipFile(hidden) as archive:
        weight = next(entry for entry in archive.infolist() if re.search(r"weight_\d+$", entry.filename))
    content = bytearray(hidden.read_bytes())
    content[weight.header_offset + 6] |= 1
    content[content.rindex(weight.filename.encode()) - 46 + 8] |= 1
    hidden.write_bytes(content)
    rejected(hidden, ".* must hold its data in FILE: File '.*' is encrypted, .*")
    short = rewritten(path, damaged, lambda name, content: content[:-4] if re.search(r"weight_\d+$", name) else content)
    rejected(short, ".* must hold .*data.* in FILE.*")
    whole = path.read_bytes()
    for cut in rng.integers(1, len(whole), size=10):
        damaged.write_bytes(whole[:cut])
        with pytest.raises(UserError):
            load_network(damaged)


def test_arrays_by_their_pytorch_names(tmp_path, rng):
    torch.manual_seed(7)
    module, head = torch.nn.LSTM(4, 5, 2), torch.nn.Linear(5, 2)
    arrays = {f"rnn.{name}": value.numpy() for name, value in module.state_dict().items()}
    arrays |= {f"fc.{name}": value.numpy() for name, value in head.state_dict().items()}
    np.savez(tmp_path / "a.npz", **arrays, steps=np.array(3))
    network = load_network(tmp_path / "a.npz")
    assert_equal(network, module)
    assert (network.linear.name, network.ignored) == ("fc", ("steps []",))
    np.savez(tmp_path / "b.npz", kernel=np.zeros((4, 5)))
    rejected(tmp_path / "b.npz", "FILE must hold tensors called weight_ih_l0, weight_hh_l0, not none of them")
    np.savez(tmp_path / "c.npz", weight_ih_l0=np.array([None]))
    rejected(tmp_path / "c.npz", "FILE must be an .npz file of arrays: .*")
    for shape, message in (
        ((1 << 50,), "hold arrays that fit into memory"),
        ((1 << 62, 4), "be an .npz file of arrays"),
    ):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(tmp_path / "e.npz", "w") as file:
            file.writestr("weight_ih_l0.npy", header.getvalue() + bytes(64))
        rejected(tmp_path / "e.npz", f"FILE must {message}: .*")
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:500])
    rejected(tmp_path / "d.npz", "FILE must be an .npz file of arrays: .*")
    rejected(encrypted(tmp_path / "a.npz"), "FILE must be an .npz file of arrays: File '.*' is encrypted, .*")
    with zipfile.ZipFile(tmp_path / "f.npz", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("weight_ih_l0.npy", rng.bytes(999))
    content = bytearray((tmp_path / "f.npz").read_bytes())
    # Behind the header, the name, and the properties of LZMA.
    begin = 30 + len("weight_ih_l0.npy") + 9
    content[begin : begin + 20] = b"\xff" * 20
    (tmp_path / "f.npz").write_bytes(content)
    rejected(tmp_path / "f.npz", "FILE must be an .npz file of arrays: .*")


# -- quantized and other formats -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantization_is_named(tmp_path):
    module = torch.nn.Sequential(torch.nn.LSTM(6, 8))
    quantized = torch.ao.quantization.quantize_dynamic(module, {torch.nn.LSTM})
    way = r"save state_dict\(\) of the float model before quantize_dynamic"
    torch.save(quantized.state_dict(), tmp_path / "a.pt")
    message = f"FILE must be a readable state_dict: its weights are quantized dynamically; {way}"
    rejected(tmp_path / "a.pt", message)


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"{}")
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


KINDS = [
    (b"\x89HDF\r\n\x1a\n" + bytes(90), "a Keras or HDF5 file: call it .h5"),
    (zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras model: call it .keras"),
    (b"GGUF" + bytes(90), "a GGUF file: use the PyTorch model that it was made from"),
    (b"lmgg" + bytes(90), "a GGML file: use the PyTorch model that it was made from"),
    (b"\x1c\0\0\0TFL3" + bytes(90), "a TensorFlow Lite model: call it .tflite"),
    (pickle.dumps({"lstm": [1.0] * 9}, protocol=4), "a pickle of Python objects: save its weights by their PyTorch.*"),
    (b"\x80\x02cmadmom.ml.nn\nNeuralNetwork\n" + bytes(90), "a pickled network of madmom: save its weights by .*"),
    (npz(), "an .npz file of arrays: call it .npz, with arrays by their PyTorch names"),
    (gzip.compress(b"x" * 99), "a gzip archive: unpack it first"),
    (b"<?xml version='1.0'?><net/>", "an XML file, such as a model of OpenVINO: use the ONNX model .*"),
    (zipped("a/archive_format", "a/models/model.json"), r"an archive of torch\.export: call it .pt2"),
    (zipped("serialized_exported_program.json", "version"), r"an old archive of torch\.export: save .*"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), KINDS, ids=range(len(KINDS)))
def test_other_formats_are_recognised_by_their_content(content, message, tmp_path):
    # A file .h5 may be one of HDF5.
    other = "a.keras" if content.startswith(b"\x89HDF") else "a.h5"
    for name in ("a.bin", "a.pt", "a.onnx", other, "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        readable = r"a state_dict \(\.pt or \.safetensors\), an ONNX, Keras or TFLite model"
        rejected(tmp_path / name, f"FILE must be {readable}, not {message}")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(protocol, tmp_path):
    content = pickle.dumps({"lstm": [1.0] * 9}, protocol=protocol)
    (tmp_path / "a.pkl").write_bytes(content)
    rejected(tmp_path / "a.pkl", "FILE must be .*, not a pickle of Python objects: save its weights by .*")
    (tmp_path / "a.pkl").write_bytes(b"(dp0\nVmadmom\np1\n")
    rejected(tmp_path / "a.pkl", "FILE must be .*, not a pickled network of madmom: save its weights by .*")


@pytest.mark.parametrize("name", ["a.pkl", "a.pth.tar", "a.ckpt"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_state_dicts_of_other_names(name, is_zip, tmp_path):
    torch.manual_seed(8)
    module = torch.nn.GRU(4, 5)
    torch.save({"epoch": 3, "net": module.state_dict()}, tmp_path / name, _use_new_zipfile_serialization=is_zip)
    assert_equal(load_network(tmp_path / name), module)


def test_no_header_of_safetensors_is_taken_for_another_format(tmp_path):
    """Its first bytes are a length, which may be anything."""
    module = torch.nn.RNN(2, 3)
    for padding in range(300):
        tensors = {f"{'x' * padding}.{name}": value for name, value in module.state_dict().items()}
        save_file(tensors, tmp_path / "a.safetensors")
        if (tmp_path / "a.safetensors").read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            break
    else:
        pytest.fail("no length looks like a pickle")
    assert load_network(tmp_path / "a.safetensors").layers[0].hidden_size == 3
