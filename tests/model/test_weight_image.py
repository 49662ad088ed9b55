"""The weight image: round trips, and files that its loader rejects."""

import dataclasses
import json
import struct

import numpy as np
import pytest
from safetensors.numpy import load, save

from chessrnn.model import circulant
from chessrnn.model.errors import InvalidFileError, InvalidValueError
from chessrnn.model.input_fold import InputFold
from chessrnn.model.memory_image import memory_words
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.presets import preset
from chessrnn.model.weight_image import TextLayers, WeightImage, natural_type
from chessrnn.model.weights import random_weights
from chessrnn.scripts.weight_arguments import SHIPPED

SYMBOLS = "\nabc"


def make_image(config=None, with_text=True, embedding=True):
    config = config or preset("tiny")
    rng = np.random.default_rng(1)
    network = config.network
    text_layers = TextLayers(
        config,
        rng.integers(-128, 128, size=(len(SYMBOLS), network.units)),
        rng.integers(-(2**31), 2**31, size=len(SYMBOLS)),
        6,
        SYMBOLS,
        rng.integers(-128, 128, size=(len(SYMBOLS), network.input_size)) if embedding else None,
    )
    return WeightImage(
        random_weights(config, rng), text_layers if with_text else None, "ab" * 32, {"bits": 2.5}, "make it"
    )


def parts(path):
    """Read the tensors and the metadata of a file, so that a test can damage them."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return load(raw), json.loads(raw[8 : 8 + size])["__metadata__"]


@pytest.mark.parametrize(
    ("cell", "layers", "with_text", "embedding"),
    [("lstm", 1, False, False), ("gru", 2, True, False), ("rnn", 1, True, True), ("lstm_peephole", 3, True, True)],
)
def test_round_trip(tmp_path, cell, layers, with_text, embedding):
    config = preset("tiny").replace(
        {"network.cell": cell, "network.num_layers": layers, "quantization.weight_frac": 7, "architecture.tile_rows": 2}
    )
    image, path = make_image(config, with_text=with_text, embedding=embedding), tmp_path / "a" / "image.safetensors"
    image.save(path)
    found = WeightImage.load(path)
    assert found.config == image.config
    for got, expected in zip(found.weights.layers, image.weights.layers, strict=True):
        np.testing.assert_array_equal(got.defining, expected.defining)
        np.testing.assert_array_equal(got.bias, expected.bias)
        np.testing.assert_array_equal(got.peephole, expected.peephole)
        assert got.scale is None
    assert (found.text_sha256, found.metrics, found.command) == ("ab" * 32, {"bits": 2.5}, "make it")
    assert (found.text_layers is not None) == with_text
    if with_text:
        np.testing.assert_array_equal(found.text_layers.weight, image.text_layers.weight)
        np.testing.assert_array_equal(found.text_layers.bias, image.text_layers.bias)
        assert (found.text_layers.symbols, found.text_layers.weight_frac) == (SYMBOLS, 6)
        assert (found.text_layers.embedding is not None) == embedding
        if embedding:
            np.testing.assert_array_equal(found.text_layers.embedding, image.text_layers.embedding)


@pytest.mark.parametrize("scale_bits", [4, 8])
def test_row_scales_and_scales_of_layers(tmp_path, scale_bits):
    fields = {"network.num_layers": 2, "quantization.weight_frac": [[7], [6, 5, 6, 7]]}
    fields |= {"quantization.weight_scale": "row", "quantization.scale_bits": scale_bits}
    image, path = make_image(preset("tiny").replace(fields), with_text=False), tmp_path / "image.safetensors"
    image.save(path)
    assert {"lstm.scale", "lstm.1.scale"} <= load(path.read_bytes()).keys()
    found = WeightImage.load(path, image.config)
    assert found.config.quantization.weight_frac == ((7,) * 4, (6, 5, 6, 7))
    for got, expected in zip(found.weights.layers, image.weights.layers, strict=True):
        np.testing.assert_array_equal(got.scale, expected.scale)
    rule = "quantization.weight_scale must be 'gate' as configured, not 'row' as in "
    with pytest.raises(InvalidFileError, match=rule):
        WeightImage.load(path, image.config.replace({"quantization.weight_scale": "gate"}))
    other = 12 - scale_bits
    with pytest.raises(InvalidFileError, match=f"quantization.scale_bits must be {other} as configured, not"):
        WeightImage.load(path, image.config.replace({"quantization.scale_bits": other}))
    # A scale of 0 would silence a row.
    tensors, metadata = parts(path)
    tensors["lstm.scale"][0, 0] = 0
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(InvalidFileError, match=r"weights.scale must be from 1 to \d+, not 0"):
        WeightImage.load(path)


@pytest.mark.parametrize("bits", [2, 8])
def test_half_levels(tmp_path, bits):
    fields = {"quantization.weight_levels": "half", "quantization.weight_bits": bits, "architecture.tile_cols": 1}
    image, path = make_image(preset("tiny").replace(fields), with_text=False), tmp_path / "image.safetensors"
    image.save(path)
    found = WeightImage.load(path, image.config)
    np.testing.assert_array_equal(found.weights.defining, image.weights.defining)
    assert (found.weights.defining % 2 == 1).all()
    tensors, metadata = parts(path)
    tensors["lstm.defining"].flat[0] = 2
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(
        InvalidFileError, match="weights.defining must be odd where quantization.weight_levels is half, not 2"
    ):
        WeightImage.load(path)


def test_both_directions_of_every_layer(tmp_path):
    config = preset("tiny").replace({"network.bidirectional": True, "network.num_layers": 2, "network.hidden_size": 10})
    image, path = WeightImage(random_weights(config, np.random.default_rng(1))), tmp_path / "image.safetensors"
    image.save(path)
    assert sorted(parts(path)[0]) == sorted(
        f"lstm.{place}{kind}" for place in ("", "reverse.", "1.", "1.reverse.") for kind in ("defining", "bias")
    )
    for got, expected in zip(WeightImage.load(path).weights.layers, image.weights.layers, strict=True):
        np.testing.assert_array_equal(got.defining, expected.defining)
    with pytest.raises(InvalidFileError, match="network.bidirectional must be False as configured, not True"):
        WeightImage.load(path, config.replace({"network.bidirectional": False}))
    with pytest.raises(
        InvalidValueError, match="^network.bidirectional must be false for a network with an output layer, not True$"
    ):
        make_image(config)


def test_narrowest_types_and_no_leftovers(tmp_path):
    make_image().save(tmp_path / "image.safetensors")
    tensors, _ = parts(tmp_path / "image.safetensors")
    kinds = {name: str(values.dtype) for name, values in tensors.items()}
    assert kinds == {
        "lstm.defining": "int8",
        "lstm.bias": "int32",
        "head.weight": "int8",
        "head.bias": "int32",
        "head.embedding": "int8",
    }
    assert [natural_type(bits) for bits in (2, 8, 9, 16, 17)] == [np.int8, np.int8, np.int16, np.int16, np.int32]
    assert [file.name for file in tmp_path.iterdir()] == ["image.safetensors"]


def test_scales_of_seven_bits_take_a_byte(tmp_path):
    fields = {"quantization.weight_scale": "row", "quantization.scale_bits": 7}
    make_image(preset("tiny").replace(fields), with_text=False).save(tmp_path / "image.safetensors")
    assert parts(tmp_path / "image.safetensors")[0]["lstm.scale"].dtype == np.int8


def test_a_text_of_one_character(tmp_path):
    config, path = preset("tiny"), tmp_path / "image.safetensors"
    image = make_image(config)
    head = TextLayers(config, image.text_layers.weight[:1], image.text_layers.bias[:1], 6, "a")
    WeightImage(image.weights, head).save(path)
    assert WeightImage.load(path).text_layers.symbols == "a"


def test_an_output_layer_that_is_not_in_the_file(tmp_path):
    image, path = make_image(with_text=False), tmp_path / "image.safetensors"
    image.save(path)
    with pytest.raises(InvalidFileError, match="architecture.output_layer must be 0, the outputs in the file, not 7"):
        WeightImage.load(path, image.config.replace({"architecture.output_layer": 7}))


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "image.safetensors"
    make_image().save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chessrnn.model.files.os.fsync", full)
    with pytest.raises(InvalidFileError, match="must be writable: No space left on device$"):
        make_image(with_text=False).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["image.safetensors"]


def test_architecture_name_and_accumulator_do_not_count(tmp_path):
    make_image().save(tmp_path / "image.safetensors")
    wanted = preset("tiny").replace(
        {
            "architecture.tile_rows": 2,
            "name": "other",
            "quantization.accumulator_bits": 40,
            "quantization.peephole": "Q1.7",
            "quantization.scale_bits": 5,
            "architecture.engine": "fast",
        }
    )
    found = WeightImage.load(tmp_path / "image.safetensors", wanted)
    assert found.config is wanted
    assert found.weights.config is wanted


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"network.hidden_size": 16}, "network.hidden_size must be 16 as configured, not 12 as in "),
        ({"compression.block_size": 2}, "compression.block_size must be 2 as configured, not 4 as in "),
        (
            {"quantization.weight_frac": 6},
            "quantization.weight_frac must be [6, 6, 6, 6] as configured, not [7, 7, 7, 7]",
        ),
        ({"quantization.cell": "Q3.13"}, "quantization.cell must be 'Q3.13' as configured, not 'Q4.12' as in "),
        ({"activation.kind": "shift", "activation.segments": 5}, "activation.kind must be 'shift' as configured"),
    ],
)
def test_other_network_is_refused_by_field(tmp_path, setting, message):
    make_image().save(tmp_path / "image.safetensors")
    with pytest.raises(InvalidFileError) as caught:
        WeightImage.load(tmp_path / "image.safetensors", preset("tiny").replace(setting))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_peepholes_count_where_the_cell_has_them(tmp_path):
    config = preset("tiny").replace({"network.cell": "lstm_peephole"})
    make_image(config).save(tmp_path / "image.safetensors")
    with pytest.raises(InvalidFileError, match=r"^quantization.peephole must be 'Q1.7' as configured, not 'Q2.6'"):
        WeightImage.load(tmp_path / "image.safetensors", config.replace({"quantization.peephole": "Q1.7"}))


def test_output_layer_of_circulant_blocks(tmp_path):
    """The file holds the expanded matrix, which must consist of circulant blocks where the configuration says so."""
    config = preset("tiny").replace({"compression.output_block_size": 4})
    text_layers = make_image().text_layers
    assert len(text_layers.weight) == 4
    weight = circulant.expand(text_layers.weight[:1].reshape(1, 3, 4))
    changed, path = dataclasses.replace(text_layers, config=config, weight=weight), tmp_path / "image.safetensors"
    weights = random_weights(config, np.random.default_rng(1))
    WeightImage(weights, changed).save(path)
    on_chip = {"architecture.output_layer": 4}
    for wanted in (None, config, config.replace(on_chip), preset("tiny"), preset("tiny").replace(on_chip)):
        found = WeightImage.load(path, wanted)
        np.testing.assert_array_equal(found.text_layers.weight, weight)
        assert found.config.compression == (wanted or config).compression
        if found.config.architecture.output_layer:
            memory_words(found.weights)
    text = "must be of 4 x 4 circulant blocks, as trained by chessrnn train --set"
    with pytest.raises(InvalidValueError, match=f"^head.weight {text} compression.output_block_size=4, not 'a dense"):
        dataclasses.replace(text_layers, config=config)
    make_image().save(path)
    with pytest.raises(InvalidFileError, match=f"image.safetensors: head.weight {text}") as caught:
        WeightImage.load(path, config)
    assert "\n" not in str(caught.value)


def float_weights(tensors, metadata):
    tensors["lstm.defining"] = np.full(tensors["lstm.defining"].shape, np.nan, dtype=np.float32)


def unsigned_weights(tensors, metadata):
    tensors["lstm.defining"] = tensors["lstm.defining"].view(np.uint8)


def missing_bias(tensors, metadata):
    del tensors["lstm.bias"]


def missing_head_bias(tensors, metadata):
    del tensors["head.bias"]


def unknown_tensor(tensors, metadata):
    tensors["lstm.extra"] = np.zeros(1, dtype=np.int8)


def wrong_shape(tensors, metadata):
    tensors["lstm.bias"] = tensors["lstm.bias"][:, :-1].copy()


def wrong_embedding_shape(tensors, metadata):
    tensors["head.embedding"] = tensors["head.embedding"][:, :-1].copy()


def out_of_range(tensors, metadata):
    tensors["lstm.bias"] = tensors["lstm.bias"] + np.int32(1 << 30)


def other_format(tensors, metadata):
    metadata["format"] = "something else"


def old_format(tensors, metadata):
    metadata["format"] = "chessrnn weight image 1"


def one_weight_more(tensors, metadata):
    tensors["lstm.defining"][0, 0, 0, 0] ^= 1


def other_command(tensors, metadata):
    metadata["command"] += "!"


def no_digest(tensors, metadata):
    del metadata["sha256"]


def other_fingerprint(tensors, metadata):
    metadata["model_fingerprint"] = "0" * 16


def broken_config(tensors, metadata):
    metadata["config"] = metadata["config"][:-5]


def impossible_config(tensors, metadata):
    metadata["config"] = metadata["config"].replace('"block_size": 4', '"block_size": 3')


def repeated_symbols(tensors, metadata):
    metadata["symbols"] = json.dumps("aabc")


def no_symbols(tensors, metadata):
    del metadata["symbols"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (float_weights, "lstm.defining must be of type I8, I16, I32, not 'F32'"),
        (unsigned_weights, "lstm.defining must be of type I8, I16, I32, not 'U8'"),
        (missing_bias, "lstm.bias must be given, not left out"),
        (missing_head_bias, "head.bias must be given, not left out"),
        (unknown_tensor, "a tensor's name must be one of .*, not 'lstm.extra'"),
        (wrong_shape, r"weights.bias must be of shape \(4, 12\), not \(4, 11\)"),
        (wrong_embedding_shape, r"head.embedding must be of shape \(4, 10\), not \(4, 9\)"),
        (out_of_range, "weights.bias must be from -524288 to 524287, not "),
        (other_format, "must be of format 'chessrnn weight image 2', not 'something else'"),
        (old_format, "weight image 2', which has a digest: write it again with chessrnn train or chessrnn convert$"),
        (one_weight_more, "sha256 must begin with [0-9a-f]{12}, not '[0-9a-f]{12}': it was changed$"),
        (other_command, "sha256 must begin with [0-9a-f]{12}, not '[0-9a-f]{12}': it was changed$"),
        (no_digest, "sha256 must begin with [0-9a-f]{12}, not None: it was changed$"),
        (other_fingerprint, "model_fingerprint must be .*, not '0000000000000000'"),
        (broken_config, r"metadata config must be JSON \(dict\), not "),
        (impossible_config, "compression.block_size must be a power of two from 1 to 16, not 3"),
        (repeated_symbols, "head.symbols must be made of different characters, not 'aabc'"),
        (no_symbols, r"metadata symbols must be JSON \(str\), not None"),
    ],
)
def test_damaged_contents_are_refused(tmp_path, damage, message):
    path = tmp_path / "image.safetensors"
    make_image().save(path)
    tensors, metadata = parts(path)
    damage(tensors, metadata)
    path.write_bytes(save(tensors, metadata=metadata))
    with pytest.raises(InvalidFileError, match=message) as caught:
        WeightImage.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_truncated_file_is_refused(tmp_path, size):
    path = tmp_path / "image.safetensors"
    make_image().save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InvalidFileError, match="must be a whole safetensors file"):
        WeightImage.load(path)


def equal(one: WeightImage, other: WeightImage) -> bool:
    def arrays(image):
        text = image.text_layers
        layers = [value for layer in image.weights.layers for value in (layer.defining, layer.bias)]
        return [*layers, text.weight, text.bias, text.embedding]

    same = [(i.config, i.text_sha256, i.metrics, i.command, i.text_layers.symbols) for i in (one, other)]
    return same[0] == same[1] and all(map(np.array_equal, arrays(one), arrays(other)))


def test_no_flipped_bit_loads_as_something_else(tmp_path, rng):
    """Every region of the file: its header's length, the header, every tensor."""
    path = tmp_path / "image.safetensors"
    make_image().save(path)
    whole, image = path.read_bytes(), WeightImage.load(path)
    begin = 8 + struct.unpack("<Q", whole[:8])[0]
    places = [*range(64), *rng.integers(8 * 8, 8 * begin, 200), *rng.integers(8 * begin, 8 * len(whole), 200)]
    loaded, messages = 0, []
    for place in map(int, places):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            found = WeightImage.load(path)
        except InvalidFileError as error:
            messages.append(str(error))
            continue
        # Blanks around the header's JSON, and nothing else, may change without effect.
        assert equal(found, image)
        loaded += 1
        assert place < 8 * begin
    assert loaded < 20
    assert not any("\n" in message for message in messages)


def test_shipped_images_are_as_they_would_be_written(tmp_path):
    for path in sorted(SHIPPED.glob("*.safetensors")):
        WeightImage.load(path).save(tmp_path / path.name)
        (tensors, metadata), (again, metadata_again) = parts(path), parts(tmp_path / path.name)
        assert metadata == metadata_again
        assert tensors.keys() == again.keys()
        for name, values in tensors.items():
            np.testing.assert_array_equal(values, again[name])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("a long text that is no weight image at all\n" * 10)
    with pytest.raises(InvalidFileError, match="must be a whole safetensors file"):
        WeightImage.load(tmp_path / "text")
    long = tmp_path / ("a" * 300)
    for path, text in (
        (tmp_path / "missing", "not a missing file"),
        (tmp_path, "not a folder"),
        (long, "File name too long"),
    ):
        with pytest.raises(InvalidFileError, match=f"must be a weight image.*{text}$"):
            WeightImage.load(path)


def test_bad_text_layers_are_rejected():
    text_layers = make_image().text_layers
    with pytest.raises(InvalidValueError, match="head.weight must be an array of integers, not 'float64'"):
        dataclasses.replace(text_layers, weight=text_layers.weight * 1.0)
    with pytest.raises(InvalidValueError, match="head.weight must be from -128 to 127, not 128"):
        dataclasses.replace(text_layers, weight=np.where(text_layers.weight > 0, 128, text_layers.weight))
    with pytest.raises(InvalidValueError, match="head.weight_frac must be from -8 to 20, not 99"):
        dataclasses.replace(text_layers, weight_frac=99)


def test_the_scale_of_inputs_is_kept(rng, tmp_path):
    fold = InputFold((-7, *[0] * 9), (1002.5, *[0.0] * 9))
    weights = dataclasses.replace(random_weights(preset("tiny"), rng), input_fold=fold)
    WeightImage(weights).save(tmp_path / "a.safetensors")
    assert WeightImage.load(tmp_path / "a.safetensors").weights.input_fold == fold
    assert WeightImage.load(tmp_path / "a.safetensors", preset("tiny")).weights.input_fold == fold
    with pytest.raises(InvalidValueError, match="input_fold must be of 10 elements, as x, not 1"):
        dataclasses.replace(weights, input_fold=InputFold((1,), (0.0,)))
    with pytest.raises(InvalidValueError, match="exponents must be from -64 to 64, not 65"):
        InputFold((65,), (0.0,))
    with pytest.raises(InvalidValueError, match="offsets must be finite numbers, not inf"):
        InputFold((1,), (float("inf"),))


def test_an_output_layer_without_an_alphabet_is_kept(rng, tmp_path):
    config = preset("tiny")
    head = OutputLayer(rng.integers(-128, 128, (3, 12)), rng.integers(-9, 9, 3), 6)
    WeightImage(random_weights(config, rng), head=head).save(tmp_path / "a.safetensors")
    loaded = WeightImage.load(tmp_path / "a.safetensors")
    assert loaded.text_layers is None
    assert loaded.output_layer.weight_frac == 6
    np.testing.assert_array_equal(loaded.output_layer.weight, head.weight)
    np.testing.assert_array_equal(loaded.output_layer.bias, head.bias)
    on_chip = config.replace({"architecture.output_layer": 3})
    assert WeightImage.load(tmp_path / "a.safetensors", on_chip).weights.output is not None
    with pytest.raises(InvalidFileError, match="architecture.output_layer must be 3, the outputs in the file, not 4"):
        WeightImage.load(tmp_path / "a.safetensors", config.replace({"architecture.output_layer": 4}))
    with pytest.raises(InvalidValueError, match=r"head.weight must be of shape \(V, 12\), not \(3, 11\)"):
        WeightImage(random_weights(config, rng), head=OutputLayer(head.weight[:, :11], head.bias, 6))
