"""Where the words of layers with narrower weights than others are stored: computed by hand, and from the weights."""

import numpy as np
import pytest

from chessrnn.model.config import Config
from chessrnn.model.memory_image import initialised_memories, memory_words
from chessrnn.model.shared_words import Slot, packable_widths, share_words, word_slots
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import LayerWeights, StackWeights, layer_configs, random_weights


def test_widths_that_save_memory():
    widths = {8: [8, 4, 2], 7: [7, 3, 2], 6: [6, 3, 2], 5: [5, 2], 4: [4, 2], 3: [3], 2: [2]}
    assert {widest: packable_widths(widest) for widest in widths} == widths


def test_slots_of_all_widths():
    assert word_slots([8, 8]) == [Slot(8, 0)]
    assert word_slots([4, 8, 4]) == [Slot(8, 0), Slot(4, 0), Slot(4, 1)]
    assert word_slots([2, 7]) == [Slot(7, 0), Slot(2, 0), Slot(2, 1), Slot(2, 2)]


def test_the_last_stored_word_may_hold_fewer():
    assert share_words([0x1, 0x2, 0x3, 0x4, 0x5], 2, 4) == [0x21, 0x43, 0x5]
    assert share_words([0b01, 0b10, 0b11, 0b01], 3, 2) == [0b111001, 0b01]
    assert share_words([7, 8, 9], 1, 4) == [7, 8, 9]


def small(bits: list[int], **settings) -> Config:
    """Two layers of an Elman RNN with dense matrices of 1 × 2 weights, two words of the single bank each."""
    network = {"input_size": 1, "hidden_size": 1, "num_layers": 2, "cell": "rnn"}
    architecture = {"tile_rows": 1, "tile_cols": 1}
    quantization = {"weight_bits": bits, "weight_frac": 7}
    values = {"network": network, "compression": {"block_size": 1}, "architecture": architecture}
    return Config.from_dict(values | {"quantization": quantization}).replace(settings)


def stack(config: Config, *rows: list[int]) -> StackWeights:
    """A network with these weights, in the order of the block columns: those of x first."""
    bias = np.zeros((1, 1), dtype=np.int64)
    layers = [
        LayerWeights(layer, np.array(row).reshape(1, 1, 2, 1), bias)
        for layer, row in zip(layer_configs(config), rows, strict=True)
    ]
    return StackWeights(config, tuple(layers))


def test_words_computed_by_hand():
    # Layer 0 reads x, then its h; layer 1 its own h first, so the second weight is stored in the lower slot.
    weights = stack(small([8, 4]), [-128, 127], [-8, 7])
    assert memory_words(weights)["weights_r0_c0"] == [0x80, 0x7F, 0x87]
    # The narrow layer comes first: its two words share the word at address 0.
    weights = stack(small([4, 8]), [-8, 7], [-128, 127])
    assert memory_words(weights)["weights_r0_c0"] == [0x78, 0x7F, 0x80]
    # Three slots of two bits in seven, of which two are used; the bits above are zero.
    weights = stack(small([7, 2]), [-64, 63], [-2, 1])
    assert memory_words(weights)["weights_r0_c0"] == [0b1000000, 0b0111111, 0b1001]
    # A parity bit above each stored word, and codes q of the odd weights 2·q + 1.
    weights = stack(
        small([4, 2], **{"quantization.weight_levels": "half", "architecture.parity": "word"}), [-15, 15], [-3, 1]
    )
    # Codes 8 = 1000, 7 = 0111; layer 1: 0 = 00 below -2 = 10, so 1000.
    assert memory_words(weights)["weights_r0_c0"] == [0b1_1000, 0b1_0111, 0b1_1000]


LSTM: dict = {"network": {"input_size": 6, "hidden_size": 10, "num_layers": 2}, "compression": {"block_size": 4},
              "architecture": {"tile_rows": 2, "tile_cols": 2}}  # fmt: skip


def test_narrow_layers_take_less_memory():
    """A tile of 2 × 2 makes six row and three column groups of 12 block rows and 5 or 6 block columns: 18 words."""
    wide = Config.from_dict(LSTM)
    assert (wide.bank_words, wide.bank_depth, wide.weight_bytes) == (36, 36, (12 * 5 + 12 * 6) * 4)
    for bits, depths, blocks in [
        ([8, 4], (18, 9), 60 + 36),
        ([4, 8], (9, 18), 30 + 72),
        ([8, 2], (18, 5), 60 + 18),
        ([2, 8], (5, 18), 15 + 72),
    ]:
        config = wide.replace({"quantization.weight_bits": bits})
        assert (config.layer_bank_depths, config.bank_words) == (depths, 36)
        assert config.weight_bytes == 4 * blocks
        banks = initialised_memories(config)[: config.num_banks]
        assert {(spec.depth, spec.width) for spec in banks} == {(sum(depths), 32)}
    # 20 stored words of three slots and the widest layer's 72, of 4 · 7 bits.
    assert wide.replace({"quantization.weight_bits": [2, 7]}).weight_bytes == -(-(20 + 72) * 28 // 8)


def test_layers_have_formats_of_their_own(rng):
    config = Config.from_dict(LSTM).replace({"quantization.weight_bits": [8, 4]})
    assert (config.weight_bits, config.layer_weight_bits, config.weight_bits_text) == (8, (8, 4), "8-4")
    layers = [config.layer(number) for number in range(2)]
    assert [(layer.weight_min, layer.weight_max) for layer in layers] == [(-128, 127), (-8, 7)]
    weights = random_weights(config, rng)
    assert weights.layers[0].defining.min() < -8 <= weights.layers[1].defining.min()
    # The bound of a sum is that of the layer with the greatest: here the wide one, 6 inputs and 10 of h.
    assert config.product_sum_interval.high == 16 * 128 * 128
    narrow = config.replace({"quantization.weight_bits": [2, 8]})
    assert narrow.product_sum_interval.high == 20 * 128 * 128
    assert config.to_dict()["quantization"]["weight_bits"] == [8, 4]
    assert config.replace({"quantization.weight_bits": [4, 4]}) == config.replace({"quantization.weight_bits": 4})
    assert Config.from_dict(config.to_dict()) == config


def test_an_image_keeps_the_width_of_each_layer(rng, tmp_path):
    config = Config.from_dict(LSTM).replace({"quantization.weight_bits": [8, 4]})
    weights = random_weights(config, rng)
    WeightImage(weights).save(tmp_path / "w.safetensors")
    image = WeightImage.load(tmp_path / "w.safetensors")
    assert image.config == config
    assert all(
        np.array_equal(a.defining, b.defining) for a, b in zip(image.weights.layers, weights.layers, strict=True)
    )
    wide = weights.layers[0]
    with pytest.raises(ValueError, match=r"^weights\.defining must be from -8 to 7, not "):
        LayerWeights(config.layer(1), np.full_like(weights.layers[1].defining, wide.defining.max()), wide.bias)
