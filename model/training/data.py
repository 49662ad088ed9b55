"""Text as endless parallel streams of codes."""

import torch


class TextStreams:
    """``batch`` readers of one text, evenly spaced, each going round it for ever.

    A segment continues where the one before it ended, so a recurrent state can be carried from one to the next.

    Parameters
    ----------
    codes : int64 tensor (N,)
    batch, segment : int
        B readers; T characters of a segment.
    """

    def __init__(self, codes: torch.Tensor, batch: int, segment: int):
        self.codes = codes
        self.starts = torch.arange(batch) * (len(codes) // batch)
        self.segment = segment

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (T, B) and targets (T, B), one character later, of segment ``index`` of every reader."""
        offsets = torch.arange(self.segment + 1)[:, None] + index * self.segment
        codes = self.codes[(self.starts + offsets) % len(self.codes)]
        return codes[:-1], codes[1:]
