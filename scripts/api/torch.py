"""Compressed recurrent layers as modules of PyTorch, for training loops of your own.

==================  =====================================================================================
`LSTM`              in place of ``torch.nn.LSTM``: block-circulant weights, float or in integers
`GRU`               in place of ``torch.nn.GRU``
`RNN`               in place of ``torch.nn.RNN``
`compress`          swaps every recurrent layer of a model for a compressed one, in place
`compressed`        the compressed layers of a model, by name
`uncompressed`      its other recurrent layers
`stage`             moves all compressed layers to a stage: ``float``, ``approximate`` or ``quantized``
`StageSchedule`     does so after given numbers of updates
`distillation_loss` divergence from the predictions of a teacher, such as the model before it was compressed
`export`            weight image and configuration of every layer, for ``chessrnn verilog``
==================  =====================================================================================

The modules compute on the CPU.

Examples
--------
>>> import torch
>>> import chessrnn.torch
>>> lstm = chessrnn.torch.LSTM(8, 16, batch_first=True, k=4, weight_bits=4)
>>> x = torch.rand(2, 5, 8)
>>> output, (h, c) = lstm.calibrate(x).stage("quantized")(x)
>>> bool((output == lstm.integers(x) * lstm.config.quantization.h.lsb).all())
True
"""

from importlib.util import find_spec

from chessrnn.model.errors import MissingToolError

if find_spec("torch") is None:
    raise MissingToolError("torch must be installed for chessrnn.torch: pip install torch==2.13.0")

from chessrnn.model.training.distillation import distillation_loss
from chessrnn.model.training.recurrent_modules import GRU, LSTM, RNN
from chessrnn.model.training.whole_models import StageSchedule, compress, compressed, export, stage, uncompressed

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "StageSchedule",
    "compress",
    "compressed",
    "distillation_loss",
    "export",
    "stage",
    "uncompressed",
]
