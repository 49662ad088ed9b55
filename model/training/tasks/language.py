"""Language modelling: the task is to predict the next character or the next word of a text."""

import hashlib
import re
from collections import Counter

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import require
from chessrnn.model.text.char_model import contiguous_streams, encode, log_softmax
from chessrnn.model.text.corpus import SYMBOLS, Corpus, without_excerpts
from chessrnn.model.training.data import TextStreams
from chessrnn.model.training.tasks.base import Batch, Task

CHUNK_STEPS = 64
UNKNOWN = "<unk>"
END_OF_LINE = "<eol>"
TOKEN = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|[0-9]+|[^\sA-Za-z0-9]|\n")


class LanguageTask(Task):
    """Task of predicting the next symbol of a text.

    Parameters
    ----------
    codes : dict
        Symbol codes of the splits train, validation and test, int64 arrays.
    num_symbols : int
    segment : int
        Steps of truncated back-propagation.
    """

    metric = "perplexity"

    def __init__(self, codes: dict[str, np.ndarray], num_symbols: int, segment: int, streams: int = 64):
        self.codes, self.segment, self.streams = codes, segment, streams
        self.num_symbols = self.num_outputs = num_symbols
        self._train = torch.from_numpy(codes["train"])
        content = b"".join(codes[name].tobytes() for name in ("train", "validation", "test"))
        self.fingerprint = hashlib.sha256(content).hexdigest()

    def batch(self, update: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """Return a segment of ``size`` streams of the training text, which start again at its end."""
        longest = len(self._train) // (self.segment + 1)
        require(size <= longest, "batch", f"at most {longest} for this text and segment", size)
        inputs, targets = TextStreams(self._train, size, self.segment)[update]
        return Batch(inputs[:, rank::world], targets[:, rank::world], True)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Compute the cross entropy."""
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten())

    def nats(self, model, split: str) -> float:
        """Compute the mean of -ln p(symbol | all before it in its stream) over the split, except its first symbol."""
        codes = self.codes[split]
        streams = max(1, min(self.streams, len(codes) // 8))
        inputs, valid = contiguous_streams(codes[:-1], streams)
        targets, _ = contiguous_streams(codes[1:], streams)
        state, total = None, 0.0
        for start in range(0, len(inputs), CHUNK_STEPS):
            part = slice(start, start + CHUNK_STEPS)
            logits, state = model.logits(inputs[part], state)
            log_p = np.take_along_axis(log_softmax(logits), targets[part][..., None], axis=-1)[..., 0]
            total -= float(log_p[valid[part]].sum())
        return total / (len(codes) - 1)

    def measure(self, model, split: str) -> dict[str, float]:
        """Measure the perplexity per symbol."""
        nats = self.nats(model, split)
        return {"perplexity": float(np.exp(nats)), "bits_per_symbol": nats / float(np.log(2.0))}


class CharacterTask(LanguageTask):
    """Task of predicting the next character of a :class:`chessrnn.model.text.corpus.Corpus`."""

    name = "characters"

    def __init__(self, corpus: Corpus, segment: int = 100):
        self.corpus, self.symbols = corpus, SYMBOLS
        codes = {name: encode(getattr(corpus, name), SYMBOLS) for name in ("train", "validation", "test")}
        super().__init__(codes, len(SYMBOLS), segment)


class WordTask(LanguageTask):
    """Task of predicting the next word or punctuation mark.

    The vocabulary is the ``vocabulary`` most frequent tokens of the training split, all others are ``<unk>``.  A line
    break inside a paragraph is not a token, because it depends on how the text was printed.
    """

    name = "words"

    def __init__(self, corpus: Corpus, segment: int = 35, vocabulary: int = 10000):
        self.corpus = corpus
        # The test text may begin inside of a word, whose other part is none.
        development = corpus.development.rpartition(" ")[0] or corpus.development
        train, validation = without_excerpts(self.tokens(development), corpus.validation_share)
        tokens = {"train": train, "validation": validation, "test": self.tokens(corpus.test)}
        for name, found in tokens.items():
            require(len(found) >= 2, "text", f"of at least two words in its {name} split", len(found))
        common = [token for token, _ in Counter(tokens["train"]).most_common(vocabulary - 1) if token != UNKNOWN]
        self.words = [UNKNOWN, *common]
        number = {word: code for code, word in enumerate(self.words)}
        codes = {name: np.array([number.get(t, 0) for t in found], dtype=np.int64) for name, found in tokens.items()}
        super().__init__(codes, len(self.words), segment, streams=32)

    @staticmethod
    def tokens(text: str) -> list[str]:
        """Split a text into words in lower case, numbers, punctuation marks, and ``<eol>`` at a paragraph's end."""
        paragraphs = [part for part in text.split("\n\n") if part.strip()]
        return [
            token
            for part in paragraphs
            for token in [*(t.lower() for t in TOKEN.findall(part) if t != "\n"), END_OF_LINE]
        ]
