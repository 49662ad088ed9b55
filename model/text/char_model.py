"""The character model: an integer embedding and output layer around the reference, and an n-gram baseline."""

import numpy as np

from chessrnn.model.errors import InvalidValueError, require, shown
from chessrnn.model.reference.matvec import ExactMatrix
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weight_image import WeightImage

CHUNK_STEPS = 256


def encode(text: str, symbols: str) -> np.ndarray:
    """Convert characters to their codes, an int64 array (len(text),).

    Raises
    ------
    InvalidValueError
        A character is not in ``symbols``.
    """
    codes = {symbol: code for code, symbol in enumerate(symbols)}
    try:
        return np.array([codes[character] for character in text], dtype=np.int64)
    except KeyError as error:
        raise InvalidValueError(f"text must be made of the model's symbols only, not {shown(error.args[0])}") from None


def decode(codes: np.ndarray, symbols: str) -> str:
    """Convert codes to characters."""
    return "".join(symbols[code] for code in np.asarray(codes).tolist())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural logarithm of the softmax over the last axis, as float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def contiguous_streams(codes: np.ndarray, streams: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a text into ``streams`` contiguous pieces of equal length that do not overlap, side by side.

    Parameters
    ----------
    codes : integer array (N,)
        Codes of the characters of the text.
    streams : int
        Number of pieces.

    Returns
    -------
    inputs : int64 array (T, streams)
        The codes, one piece per column, with T = ⌈N / streams⌉.
    valid : bool array (T, streams)
        Whether an entry of ``inputs`` is text, not padding at the end of the last pieces.
    """
    steps = -(-len(codes) // streams)
    padded = np.zeros(steps * streams, dtype=np.int64)
    padded[: len(codes)] = codes
    valid = np.arange(steps * streams) < len(codes)
    return padded.reshape(streams, steps).T, valid.reshape(streams, steps).T


class CharModel:
    """Model of the next character on the bit-accurate reference.

    Parameters
    ----------
    image : WeightImage
        Weights whose ``text_layers`` have an embedding.

    Raises
    ------
    InvalidValueError
        The image holds no character model.
    """

    def __init__(self, image: WeightImage):
        text_layers = image.text_layers
        embedding = None if text_layers is None else text_layers.embedding
        rule = "of a character model, with an embedding and an output layer"
        require(embedding is not None, "weight image", rule, "one without them")
        assert text_layers is not None and embedding is not None
        self.image, self.text_layers, self.embedding = image, text_layers, embedding
        self.symbols = text_layers.symbols
        self.reference = NetworkReference(image.weights)
        self._matrix = ExactMatrix(self.text_layers.weight, -image.config.quantization.h.min)

    def encode(self, text: str) -> np.ndarray:
        """Convert characters to their codes."""
        return encode(text, self.symbols)

    def decode(self, codes: np.ndarray) -> str:
        """Convert codes to characters."""
        return decode(codes, self.symbols)

    def embed(self, codes: np.ndarray) -> np.ndarray:
        """Convert symbol codes (...) to the input of the accelerator: integers (..., X) in the format of x."""
        return self.embedding[codes]

    def logits(self, h: np.ndarray) -> np.ndarray:
        """Compute int64 logits (..., V) with ``text_layers.logit_frac`` fraction bits from codes of h (..., H)."""
        return self._matrix(h).astype(np.int64) + self.text_layers.bias

    def predict(self, h: np.ndarray) -> np.ndarray:
        """Code of the most likely next symbol (...); the lowest of several equally likely ones."""
        return self.logits(h).argmax(axis=-1)

    def log_probabilities(self, h: np.ndarray) -> np.ndarray:
        """Natural logarithms (..., V) of the softmax of the dequantized logits, float64."""
        return log_softmax(self.logits(h) * 2.0**-self.text_layers.logit_frac)

    def bits_per_character(self, text: str, streams: int = 16) -> float:
        """Mean of -log2 p(character | all characters before it) over every character of ``text`` but the first.

        Parameters
        ----------
        text : str
            Text of at least two characters.
        streams : int
            Number of contiguous pieces that run side by side.  A piece starts with zero state and so predicts its first
            few characters badly: more pieces are faster and slightly pessimistic.
        """
        codes = self.encode(text)
        require(len(codes) >= 2, "text", "at least two characters", text)
        streams = min(streams, len(codes) - 1)
        inputs, valid = contiguous_streams(codes[:-1], streams)
        targets, _ = contiguous_streams(codes[1:], streams)
        state, total = None, 0.0
        for start in range(0, len(inputs), CHUNK_STEPS):
            part = slice(start, start + CHUNK_STEPS)
            h, state = self.reference.run(self.embed(inputs[part]), state)
            log_p = np.take_along_axis(self.log_probabilities(h), targets[part][..., None], axis=-1)[..., 0]
            total -= float(log_p[valid[part]].sum())
        return float(total / np.log(2.0) / (len(codes) - 1))

    def choose(self, h: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
        """Choose the code of one next symbol after h (H,): the most likely at temperature 0, else a drawn one."""
        if temperature == 0:
            return int(self.predict(h))
        p = np.exp(log_softmax(self.log_probabilities(h) / temperature))
        return int(rng.choice(len(p), p=p / p.sum()))

    def generate(self, prompt: str, length: int, temperature: float = 0.0, seed: int = 0) -> str:
        """Continue ``prompt`` by ``length`` characters.

        Parameters
        ----------
        prompt : str
            Text of at least one character.
        length : int
            Number of characters to generate.
        temperature : float
            0 takes the most likely character; otherwise characters are drawn from softmax(logits / temperature).
        seed : int
            Seed of the draws.
        """
        require(len(prompt) >= 1, "prompt", "at least one character", prompt)
        require(temperature >= 0, "temperature", "0 or more", temperature)
        rng = np.random.default_rng(seed)
        h, state = self.reference.run(self.embed(self.encode(prompt))[:, None])
        codes = []
        for _ in range(length):
            code = self.choose(h[-1, 0], temperature, rng)
            codes.append(code)
            h, state = self.reference.run(self.embed(np.array([[code]])), state)
        return self.decode(np.array(codes, dtype=np.int64))


def ngram_bits_per_character(train: str, text: str, order: int, symbols: str) -> float:
    """Bits per character of a Markov model of order ``order``, the baseline of a character model.

    The counts of ``train`` are interpolated down to the uniform distribution with the weights of Witten and Bell:
    p_n(c | context) = (count(context c) + kinds(context) · p_{n-1}(c)) / (count(context) + kinds(context)), where
    kinds(context) is the number of different characters seen after the context.

    Every character of ``text`` but the first is scored, like for the network; those with fewer than ``order``
    characters before them are scored by the lower orders.
    """
    size = len(symbols)
    require(0 <= order <= 3, "order", "from 0 to 3", order)
    train_codes, codes = encode(train, symbols), encode(text, symbols)
    require(len(codes) >= 2, "text", "at least two characters", text)
    p = np.full(len(codes), 1.0 / size)
    for n in range(order + 1):
        counts = np.bincount(_windows(train_codes, n, size), minlength=size ** (n + 1)).reshape(-1, size)
        total, kinds = counts.sum(axis=1), (counts > 0).sum(axis=1)
        window = _windows(codes, n, size)
        context = window // size
        seen = total[context] > 0
        finer = (counts.reshape(-1)[window] + kinds[context] * p[n:]) / np.maximum(total[context] + kinds[context], 1)
        p[n:] = np.where(seen, finer, p[n:])
    return float(-np.log2(p[1:]).mean())


def _windows(codes: np.ndarray, order: int, size: int) -> np.ndarray:
    """Number the windows of ``order`` + 1 characters (N - order,), the last character in the lowest digit."""
    windows = np.zeros(max(len(codes) - order, 0), dtype=np.int64)
    for offset in range(order + 1):
        windows = windows * size + codes[offset : offset + len(windows)]
    return windows
