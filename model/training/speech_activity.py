"""Silero VAD in torch, and the training of its LSTM through the frozen layers around it, without labels.

The network hears 512 samples at 16 kHz with the 64 before them: magnitudes of a short-time spectrum, four convolutions,
an LSTM of 128 units, and a convolution that gives the probability of speech.  Its weights are in the package
``silero-vad`` (MIT licence, https://github.com/snakers4/silero-vad), of which nothing is copied here.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.imported.onnx_file import constant, read_model
from chessrnn.model.showcase.speech_frames import CHUNK, CONTEXT

SIZE = 128
# Reflected samples at the end of a chunk; frequencies of the spectrum.
PADDING, BINS = 64, 129


class Detector(nn.Module):
    """The float network, or the same with another LSTM inside.

    Parameters
    ----------
    path : path
        The package's ONNX file, see :func:`chessrnn.model.showcase.speech_frames.detector_file`.

    Members
    -------
    lstm : torch.nn.LSTM or chessrnn.torch.LSTM
        Reads features (T, B, 128).
    """

    def __init__(self, path: Path):
        super().__init__()
        self.spectrum = nn.Conv1d(1, 2 * BINS, 256, stride=128, bias=False)
        self.encoder = nn.ModuleList(
            [
                nn.Conv1d(BINS, SIZE, 3, padding=1),
                nn.Conv1d(SIZE, 64, 3, stride=2, padding=1),
                nn.Conv1d(64, 64, 3, stride=2, padding=1),
                nn.Conv1d(64, SIZE, 3, padding=1),
            ]
        )
        self.lstm: nn.Module = nn.LSTM(SIZE, SIZE)
        self.output = nn.Conv1d(SIZE, 1, 1)
        tensors = {tensor.name: tensor for tensor in read_model(path).graph.initializer}
        state = {}
        for name, value in self.state_dict().items():
            source = _name_in_file(name)
            if source not in tensors or tuple(tensors[source].dims) != tuple(value.shape):
                raise InvalidFileError(f"{source} must be a tensor of shape {tuple(value.shape)} in {path}")
            state[name] = torch.from_numpy(constant(path, tensors[source], source).copy())
        self.load_state_dict(state)
        self.requires_grad_(False).eval()

    @property
    def recurrent(self) -> nn.Module:
        """The LSTM."""
        return self.lstm

    @torch.no_grad()
    def features(self, samples: np.ndarray) -> torch.Tensor:
        """Compute what the LSTM reads (T, B, 128) from samples (B, N) in ±1."""
        chunks = samples.shape[1] // CHUNK
        padded = np.pad(samples[:, : chunks * CHUNK], ((0, 0), (CONTEXT, 0))).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK, axis=1)[:, ::CHUNK]
        found = []
        for window in windows.swapaxes(0, 1):
            x = nn.functional.pad(torch.from_numpy(window.copy()), (0, PADDING), mode="reflect")[:, None]
            x = self.spectrum(x)
            x = (x[:, :BINS] ** 2 + x[:, BINS:] ** 2).sqrt()
            for layer in self.encoder:
                x = layer(x).relu()
            found.append(x[:, :, 0])
        return torch.stack(found)

    def logits(self, h: torch.Tensor) -> torch.Tensor:
        """Compute the logarithm of the odds of speech (T, B) from h (T, B, 128)."""
        return nn.functional.linear(h.relu(), self.output.weight[:, :, 0], self.output.bias)[..., 0]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the logarithm of the odds of speech (T, B)."""
        return self.logits(self.lstm(features)[0])


def _name_in_file(name: str) -> str:
    """Name of a parameter in the package's file."""
    module, _, rest = name.partition(".")
    if module == "spectrum":
        return "model.stft.forward_basis_buffer"
    if module == "encoder":
        number, _, kind = rest.partition(".")
        return f"model.encoder.{number}.reparam_conv.{kind}"
    return f"model.decoder.rnn.{rest.removesuffix('_l0')}" if module == "lstm" else f"model.decoder.decoder.2.{rest}"
