"""The character model on the reference, its baselines, and the text."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from chessrnn.model.errors import InvalidFileError, InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.model.text.char_model import CharModel, contiguous_streams, decode, encode, ngram_bits_per_character
from chessrnn.model.text.corpus import (
    SYMBOLS,
    Corpus,
    clean,
    file_corpus,
    load_corpus,
    stdlib_corpus,
    without_excerpts,
)
from chessrnn.model.weight_image import TextLayers, WeightImage
from chessrnn.model.weights import random_weights

SHIPPED = Path(__file__).resolve().parents[3] / "model" / "pretrained" / "char128.safetensors"


@pytest.fixture(scope="module")
def shipped():
    return CharModel(WeightImage.load(SHIPPED, preset("char128")))


@pytest.fixture(scope="module")
def corpus():
    return stdlib_corpus()


def random_model(symbols="\nabcdef"):
    config = preset("tiny")
    rng = np.random.default_rng(5)
    network = config.network
    text_layers = TextLayers(
        config,
        rng.integers(-128, 128, size=(len(symbols), network.units)),
        rng.integers(-1000, 1000, size=len(symbols)),
        6,
        symbols,
        rng.integers(-128, 128, size=(len(symbols), network.input_size)),
    )
    return CharModel(WeightImage(random_weights(config, rng), text_layers))


# -- text ------------------------------------------------------------------------------------------------------


def test_codes_round_trip():
    text = "a\nb ~"
    assert decode(encode(text, SYMBOLS), SYMBOLS) == text
    assert encode("\n !", SYMBOLS).tolist() == [0, 1, 2]
    with pytest.raises(InvalidValueError, match="text must be made of the model's symbols only, not 'é'"):
        encode("é", SYMBOLS)


def test_clean_maps_everything_to_symbols():
    assert (
        clean("a\u2019s \u201cx\u201d\u2014caf\u00e9 \ufb01\u4e00\t|  \r\n\n\n\nb\x00")
        == 'a\'s "x"-cafe fi    |\n\nb\n'
    )


def test_split_is_complete():
    corpus = Corpus("x", "".join(SYMBOLS[i % 96] for i in range(2001)))
    assert corpus.development + corpus.test == corpus.text
    # One excerpt, in the middle.
    assert corpus.development == corpus.train[:900] + corpus.validation + corpus.train[900:]
    assert [len(part) for part in (corpus.train, corpus.validation, corpus.test)] == [1800, 100, 101]


@pytest.mark.parametrize(("size", "count"), [(1000, 1), (40_000, 10), (400_003, 64)])
def test_validation_is_made_of_excerpts_at_equal_distances(size, count):
    numbers = [str(number) for number in range(size)]
    train, validation = without_excerpts(numbers, 0.05)
    assert sorted(map(int, train + validation)) == list(range(size))
    assert train == sorted(train, key=int)
    assert len(validation) == round(size * 0.05)
    begins = [int(n) for n, before in zip(validation, ["-2", *validation], strict=False) if int(n) != int(before) + 1]
    assert len(begins) == count
    assert all(abs(later - before - size / count) <= 2 for before, later in zip(begins, begins[1:], strict=False))
    # Training reads what stands before the first excerpt and what stands after the last one.
    assert (train[0], train[-1]) == ("0", str(size - 1))


@pytest.mark.slow
def test_stdlib_text_is_deterministic_english(corpus):
    assert corpus == stdlib_corpus()
    assert set(corpus.text) <= set(SYMBOLS)
    assert len(corpus.text) > 500_000
    assert corpus.text.count(" the ") > len(corpus.text) / 500
    assert corpus.sha256 == hashlib.sha256(corpus.text.encode()).hexdigest()


@pytest.mark.slow
def test_no_paragraph_of_the_test_split_was_trained_on(corpus):
    normal = [{" ".join(p.split()) for p in part.split("\n\n")} for part in (corpus.train, corpus.test)]
    # The split may cut one paragraph in two.
    assert len({p for p in normal[0] & normal[1] if len(p) > 20}) == 0


def test_text_files(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\u201cquoted\u201d " * 200, encoding="utf-8")
    assert file_corpus(path).text.startswith('"quoted" "quoted"')
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidFileError, match="must be a readable UTF-8 text file"):
        load_corpus(path)
    path.write_text("short")
    with pytest.raises(
        InvalidValueError, match="--text must be of at least 1000 characters of 'a.txt' after cleaning, not 5"
    ):
        load_corpus(path)
    with pytest.raises(InvalidFileError, match="must be a readable UTF-8 text file"):
        load_corpus(tmp_path / "missing")


# -- baselines -------------------------------------------------------------------------------------------------


def test_order_0_is_the_entropy_of_the_smoothed_counts():
    train, text = "aaab" * 4, "abab"
    # Of 16 characters 12 are a and 4 are b, which are 2 kinds; the uniform distribution has 4 symbols.
    a, b = (12 + 2 / 4) / 18, (4 + 2 / 4) / 18
    wanted = -np.log2([b, a, b]).mean()
    assert ngram_bits_per_character(train, text, 0, "abcd") == pytest.approx(wanted, rel=1e-12)


def test_order_1_by_hand():
    train, text = "aaab" * 4, "aab"
    # a is followed by a 8 times and by b 4 times; the last character has no successor.
    lower = {"a": (12 + 2 / 4) / 18, "b": (4 + 2 / 4) / 18}
    p_a, p_b = ((count + 2 * lower[c]) / 14 for c, count in (("a", 8), ("b", 4)))
    assert ngram_bits_per_character(train, text, 1, "abcd") == pytest.approx(-np.log2([p_a, p_b]).mean(), rel=1e-12)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_baseline_is_a_distribution(order):
    rng = np.random.default_rng(1)
    symbols = "abcde"
    train = "".join(rng.choice(list("abc"), size=200))
    for context in ("abc", "dea", "eee"):
        scores = []
        for symbol in symbols:
            text = context + symbol
            bits = [ngram_bits_per_character(train, text[:n], order, symbols) * (n - 1) for n in (3, 4)]
            scores.append(2.0 ** (bits[0] - bits[1]))
        assert sum(scores) == pytest.approx(1.0, rel=1e-9)


# -- model -----------------------------------------------------------------------------------------------------


def test_streams_hold_every_character_once():
    for length, streams in ((10, 3), (7, 7), (100, 16)):
        inputs, valid = contiguous_streams(np.arange(length), streams)
        assert inputs.T[valid.T].tolist() == list(range(length))


def test_logits_are_exact_integers():
    model = random_model()
    rng = np.random.default_rng(2)
    h = rng.integers(-128, 128, size=(3, 2, 12))
    wanted = h @ model.text_layers.weight.T + model.text_layers.bias
    np.testing.assert_array_equal(model.logits(h), wanted)
    np.testing.assert_array_equal(model.predict(h), wanted.argmax(axis=-1))


def test_bits_per_character_is_the_mean_over_a_text():
    model = random_model()
    text = "abcdef\nfed" * 7
    codes = model.encode(text)
    h, _ = model.reference.run(model.embed(codes[:-1])[:, None])
    logits = model.logits(h[:, 0]) * 2.0**-model.text_layers.logit_frac
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = -np.log2(p[np.arange(len(p)), codes[1:]]).mean()
    assert model.bits_per_character(text, streams=1) == pytest.approx(wanted, rel=1e-12)
    # Pieces that start from zero state cost some bits, but every character is scored.
    h = np.concatenate(
        [model.reference.run(model.embed(part)[:, None])[0][:, 0] for part in (codes[:35], codes[35:69])]
    )
    logits = model.logits(h) * 2.0**-model.text_layers.logit_frac
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = -(log_p[np.arange(69), codes[1:]].mean() / np.log(2))
    assert model.bits_per_character(text, streams=2) == pytest.approx(wanted, rel=1e-12)


def test_generation_is_the_recurrence_and_repeats():
    model = random_model()
    greedy = model.generate("abc", 20)
    h, _ = model.reference.run(model.embed(model.encode("abc" + greedy))[:, None])
    assert greedy == model.decode(model.predict(h[2:-1, 0]))
    drawn = [model.generate("abc", 30, 2.0, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(InvalidValueError, match="prompt must be at least one character, not ''"):
        model.generate("", 3)
    with pytest.raises(InvalidValueError, match="temperature must be 0 or more, not -1"):
        model.generate("a", 3, -1)


def test_model_needs_a_head():
    image = dataclasses.replace(random_model().image, text_layers=None)
    with pytest.raises(InvalidValueError, match="weight image must be of a character model"):
        CharModel(image)


# -- shipped model ---------------------------------------------------------------------------------------------


def test_shipped_image_is_small_and_complete(shipped):
    assert SHIPPED.stat().st_size < 100_000
    assert shipped.symbols == SYMBOLS
    assert len(shipped.image.text_sha256) == 64
    assert "python -m scripts." in shipped.image.command


def test_shipped_model_has_learnt_something(shipped, corpus):
    """The shipped model beats an order-2 model clearly on the text of any Python (here a tenth of the test split)."""
    text = corpus.test[: len(corpus.test) // 10]
    measured = shipped.bits_per_character(text)
    order_2 = ngram_bits_per_character(corpus.train, text, 2, SYMBOLS)
    assert measured < order_2 - 0.2
    assert order_2 < ngram_bits_per_character(corpus.train, text, 0, SYMBOLS)


def test_shipped_model_writes_words(shipped, corpus):
    words = shipped.generate("The function ", 600, temperature=0.5, seed=1).split()
    known = set(corpus.train.split())
    assert sum(word in known for word in words) > 0.7 * len(words)
