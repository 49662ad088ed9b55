"""Phone recognition of the spoken digits with connectionist temporal classification (Graves et al. 2006).

The phones of a word come from the CMU pronouncing dictionary, without stress marks: 19 of them make the ten digits.
The phone error rate is not comparable with one on TIMIT, which has free text and hand-made alignments.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.text_file import read_bytes
from chessrnn.model.training.tasks import fsdd
from chessrnn.model.training.tasks.base import Batch, Task

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SOURCE = "https://github.com/cmusphinx/cmudict"
BLANK = 0
EVALUATION_BATCH = 100
# Today's cmudict has 4 MB.
MAX_DICTIONARY_BYTES = 1 << 26


def load_dictionary(path: Path) -> dict[str, tuple[str, ...]]:
    """Load the first pronunciation of every word of a cmudict file, plain or gzip.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, or a digit is not in it.
    """
    if not path.is_file():
        raise InvalidFileError(f"--cmudict must be the dictionary of {SOURCE}, not the missing file {str(path)!r}")
    lines = read_bytes(path, MAX_DICTIONARY_BYTES, "a readable dictionary").decode("latin-1").splitlines()
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if line.strip() and not line.startswith(";;;"):
            word, *phones = line.partition(" #")[0].split()
            # Some editions number the pronunciations in a column of their own.
            phones = phones[1:] if phones and phones[0].isdigit() else phones
            found.setdefault(word.lower(), tuple(phone.rstrip("012") for phone in phones))
    for word in WORDS:
        if not found.get(word):
            raise InvalidFileError(f"{path} must be a pronouncing dictionary with the word {word!r}")
    return found


def edit_distance(a: list[int], b: list[int]) -> int:
    """Count the fewest substitutions, insertions and deletions that turn a into b."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(diagonal + (left != right), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def best_path(codes: np.ndarray) -> list[int]:
    """Turn the likeliest symbol of every step into phones: repetitions are merged and blanks dropped."""
    kept = codes[np.concatenate([[True], codes[1:] != codes[:-1]])] if len(codes) else codes
    return [int(code) for code in kept if code != BLANK]


class PhoneTask(Task):
    """Task of recognizing the phone sequence of a recording.

    Parameters
    ----------
    recordings : list of Recording
    dictionary : dict
        Pronunciations: word → phones.
    held_out : str or None
        Speaker whose recordings are the test set; ``None`` is the official split.
    augmentation : str
        Augmentation of the training data, one of ``fsdd.AUGMENTATIONS``.
    """

    metric = "phone_error_percent"
    num_features = fsdd.NUM_FEATURES

    def __init__(
        self,
        recordings: list[fsdd.Recording],
        dictionary: dict[str, tuple[str, ...]],
        held_out: str | None = None,
        augmentation: str = "noise",
    ):
        self.name, self.augmentation = fsdd.task_name("phones", held_out, augmentation), augmentation
        self.phones = sorted({phone for word in WORDS for phone in dictionary[word]})
        self.labels = [[1 + self.phones.index(phone) for phone in dictionary[word]] for word in WORDS]
        self.num_outputs = 1 + len(self.phones)
        self.parts = fsdd.split(recordings, held_out)
        self.fingerprint = fsdd.fingerprint(self.parts, str(self.labels))
        # A recording must have as many steps as phones, and one more between equal ones.
        self._batches = fsdd.Batches([r for r in self.parts["train"] if len(r.features) >= len(self.labels[r.digit])])

    def batch(self, update: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """Load padded recordings with the targets (phones, number of phones per recording, lengths)."""
        part = self._batches(update, size, rank, world)
        inputs, lengths = fsdd.augmented(*fsdd.pad(part), self.augmentation, update, rank)
        labels = [self.labels[recording.digit] for recording in part]
        flat = torch.tensor([code for label in labels for code in label])
        targets = flat, torch.tensor([len(label) for label in labels]), lengths
        return Batch(inputs, targets, False)

    def distillation_mask(self, batch: Batch) -> torch.Tensor:
        """Mark the steps before the padding."""
        return torch.arange(len(batch.inputs))[:, None] < batch.targets[2]

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Compute the CTC loss per phone."""
        flat, counts, lengths = batch.targets
        log_p = nn.functional.log_softmax(logits.float(), dim=-1)
        return nn.functional.ctc_loss(log_p, flat, lengths, counts, blank=BLANK, zero_infinity=True)

    def measure(self, model, split: str) -> dict[str, float]:
        """Measure the phone error rate of the best path in percent, and the mean loss."""
        part = sorted(self.parts[split], key=lambda recording: len(recording.features))
        edits = phones = 0
        loss = 0.0
        for start in range(0, len(part), EVALUATION_BATCH):
            some = part[start : start + EVALUATION_BATCH]
            inputs, lengths = fsdd.pad(some)
            logits, _ = model.logits(inputs.numpy())
            best = logits.argmax(axis=-1)
            labels = [self.labels[recording.digit] for recording in some]
            for column, (label, length) in enumerate(zip(labels, lengths.tolist(), strict=True)):
                edits += edit_distance(best_path(best[:length, column]), label)
                phones += len(label)
            flat, counts = torch.tensor(sum(labels, [])), torch.tensor([len(label) for label in labels])
            log_p = torch.log_softmax(torch.from_numpy(logits), dim=-1)
            losses = nn.functional.ctc_loss(
                log_p, flat, lengths, counts, blank=BLANK, reduction="none", zero_infinity=True
            )
            loss += float(losses.sum())
        return {"phone_error_percent": 100 * edits / phones, "loss": loss / phones, "phones": phones}
