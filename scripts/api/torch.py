"""Compressed recurrent layers as modules of PyTorch, for training loops of your own.

==================  =====================================================================================
`LSTM`              in place of ``torch.nn.LSTM``: block-circulant weights, float or in integers
`GRU`               in place of ``torch.nn.GRU``
`RNN`               in place of ``torch.nn.RNN``
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

from chessrnn.model.training.recurrent_modules import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN"]
