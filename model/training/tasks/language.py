"""Language models: the next character or the next word of any text."""

import hashlib
import re
from collections import Counter

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import require
from chessrnn.model.text.char_model import contiguous_streams, encode, log_softmax
from chessrnn.model.text.corpus import SYMBOLS, Corpus
from chessrnn.model.training.data import TextStreams
from chessrnn.model.training.tasks.base import Batch, Task

CHUNK_STEPS = 64
UNKNOWN = "<unk>"
END_OF_LINE = "<eol>"
TOKEN = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|[0-9]+|[^\sA-Za-z0-9]|\n")


class LanguageTask(Task):
    """Next symbol of a text in contiguous splits.

    Parameters
    ----------
    codes : dict
        int64 arrays of the splits train, validation, test.
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
        """``size`` streams of the training text, each going round for ever."""
        longest = len(self._train) // (self.segment + 1)
        require(size <= longest, "batch", f"at most {longest} for this text and segment", size)
        inputs, targets = TextStreams(self._train, size, self.segment)[update]
        return Batch(inputs[:, rank::world], targets[:, rank::world], True)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross entropy."""
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten())

    def nats(self, model, split: str) -> float:
        """Mean of -ln p(symbol | all before it in its stream) over every symbol of the split but the first."""
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
        """Perplexity per symbol."""
        nats = self.nats(model, split)
        return {"perplexity": float(np.exp(nats)), "bits_per_symbol": nats / float(np.log(2.0))}


class CharacterTask(LanguageTask):
    """Next character of a :class:`chessrnn.model.text.corpus.Corpus`."""

    name = "characters"

    def __init__(self, corpus: Corpus, segment: int = 64):
        self.corpus, self.symbols = corpus, SYMBOLS
        codes = {name: encode(getattr(corpus, name), SYMBOLS) for name in ("train", "validation", "test")}
        super().__init__(codes, len(SYMBOLS), segment)


class WordTask(LanguageTask):
    """Next word or punctuation mark.

    The vocabulary is that of the training split: its ``vocabulary`` most frequent tokens, the others are
    ``<unk>``.  A line's end inside of a paragraph is no token, as it is the printer's.
    """

    name = "words"

    def __init__(self, corpus: Corpus, segment: int = 35, vocabulary: int = 10000):
        self.corpus = corpus
        tokens = {name: self.tokens(getattr(corpus, name)) for name in ("train", "validation", "test")}
        for name, found in tokens.items():
            require(len(found) >= 2, "text", f"of at least two words in its {name} split", len(found))
        common = [token for token, _ in Counter(tokens["train"]).most_common(vocabulary - 1) if token != UNKNOWN]
        self.words = [UNKNOWN, *common]
        number = {word: code for code, word in enumerate(self.words)}
        codes = {name: np.array([number.get(t, 0) for t in found], dtype=np.int64) for name, found in tokens.items()}
        super().__init__(codes, len(self.words), segment, streams=32)

    @staticmethod
    def tokens(text: str) -> list[str]:
        """Words in lower case, numbers, punctuation; ``<eol>`` for the end of a paragraph."""
        paragraphs = [part for part in text.split("\n\n") if part.strip()]
        return [
            token
            for part in paragraphs
            for token in [*(t.lower() for t in TOKEN.findall(part) if t != "\n"), END_OF_LINE]
        ]
