"""Training text as endless parallel streams of codes."""

import torch


class TextStreams:
    """Evenly spaced readers of one text, each of which starts again at the beginning when it reaches the end.

    A segment continues where the one before it ended, so a recurrent state can be carried from one to the next.

    Parameters
    ----------
    codes : int64 tensor (N,)
    batch, segment : int
        Number B of readers; number T of characters per segment.
    """

    def __init__(self, codes: torch.Tensor, batch: int, segment: int):
        self.codes = codes
        self.starts = torch.arange(batch) * (len(codes) // batch)
        self.segment = segment

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return segment ``index`` of every reader: inputs (T, B), and targets (T, B), one character later."""
        offsets = torch.arange(self.segment + 1)[:, None] + index * self.segment
        codes = self.codes[(self.starts + offsets) % len(self.codes)]
        return codes[:-1], codes[1:]
