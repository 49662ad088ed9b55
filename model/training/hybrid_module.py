"""PyTorch model whose recurrent layers compute the accelerator's integers, while torch runs everything else."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from chessrnn.model.errors import InvalidTypeError, require, require_type, shown
from chessrnn.model.hybrid.border import Border
from chessrnn.model.training.recurrent_modules import Recurrent
from chessrnn.model.weights import NetworkWeights

LAYERS = (nn.RNNBase, Recurrent)
RECURRENT = (*LAYERS, nn.RNNCellBase)
# Beginning of the name of our cells by the class of torch.nn; subclasses are replaced as well.
CELLS = {
    nn.LSTM: "lstm", nn.LSTMCell: "lstm", nn.GRU: "gru", nn.GRUCell: "gru", nn.RNN: "rnn", nn.RNNCell: "rnn",
}  # fmt: skip


class IntegerLayers(nn.Module):
    """Recurrent layers in the accelerator's integers, called as the module of ``torch.nn`` that they replace.

    Parameters
    ----------
    module : torch.nn.Module
        LSTM, GRU, RNN, or their cells for single steps; its sizes must be those of the weights.
    border : Border
        Conversion of numbers, and the integers.

    Notes
    -----
    No gradient passes.
    """

    def __init__(self, module: nn.Module, border: Border):
        super().__init__()
        cell = next((cell for kind, cell in CELLS.items() if isinstance(module, kind)), getattr(module, "cell", ""))
        self.border, self.is_cell = border, isinstance(module, nn.RNNCellBase)
        own, is_lstm = border.config.network, cell == "lstm"
        self.batch_first, self.is_lstm = bool(getattr(module, "batch_first", False)), is_lstm
        self.directions = border.config.directions
        module_name = type(module).__name__
        sizes = {"input_size": module.input_size, "hidden_size": module.hidden_size,
                 "num_layers": getattr(module, "num_layers", 1),
                 "bidirectional": getattr(module, "bidirectional", False),
                 "projection_size": getattr(module, "proj_size", 0)}  # fmt: skip
        for name, found in sizes.items():
            require(getattr(own, name) == found, f"{name} of the weights", f"{found} as in {module_name}",
                    getattr(own, name))  # fmt: skip
        require(bool(cell) and own.cell.startswith(cell), "the cell of the weights", f"{cell} as in {module_name}",
                own.cell)  # fmt: skip

    def forward(self, input: torch.Tensor | PackedSequence, hx=None):
        """Run whole sequences or, in place of a cell, one step of every sequence."""
        if self.is_cell:
            return self._step(input, hx)
        is_packed = isinstance(input, PackedSequence)
        x, lengths = pad_packed_sequence(input) if is_packed else (input, None)
        is_batched = x.dim() == 3
        if not is_batched:
            x = x.unsqueeze(1)
        elif self.batch_first and not is_packed:
            x = x.transpose(0, 1)
        h, final = self._run(x, hx, is_batched, None if lengths is None else lengths.numpy())
        if is_packed:
            # The order of the data is that of the input, whose indices remain valid.
            order = input.sorted_indices
            rows = h if order is None else h.index_select(1, order)
            data = torch.cat([rows[step, :count] for step, count in enumerate(input.batch_sizes.tolist())])
            return PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices), final
        if not is_batched:
            return h.squeeze(1), final
        return (h.transpose(0, 1) if self.batch_first else h), final

    def _step(self, x: Any, hx: Any):
        """Run one step, as a cell does."""
        is_batched = x.dim() == 2
        x = x[None] if is_batched else x[None, None]
        if hx is not None:
            hx = tuple(part[None] for part in hx) if self.is_lstm else hx[None]
        _, final = self._run(x, hx, is_batched, None)
        return tuple(part[0] for part in final) if self.is_lstm else final[0]

    @torch.no_grad()
    def _run(self, x: torch.Tensor, hx: Any, is_batched: bool, lengths: np.ndarray | None):
        """Run (T, B, X) in integers; return h (T, B, D·H) and the final state in the form of hx."""
        parts = [] if hx is None else list(hx) if self.is_lstm else [hx]
        parts = [part if is_batched else part.unsqueeze(1) for part in parts]
        arrays = [part.detach().cpu().double().numpy() for part in parts]
        state = None
        if arrays:
            state = [(h, arrays[1][place] if self.is_lstm else None) for place, h in enumerate(arrays[0])]
        found = self.border.run(x.detach().cpu().double().numpy(), state, lengths)

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(x)

        finals = [tensor(np.stack(each)) for each in zip(*found.state, strict=True)]
        finals = [each if is_batched else each.squeeze(1) for each in finals]
        return tensor(found.h[-1]), (tuple(finals) if self.is_lstm else finals[0])


class TorchHybrid:
    """A whole PyTorch model whose recurrent layers compute the integers of the accelerator.

    Parameters
    ----------
    model : torch.nn.Module
        The model, which is not changed.
    weights : NetworkWeights
        Integers of its recurrent layers.
    prefix : str, optional
        Name of the recurrent module to replace; needed where the model has several.
    keep_state, record : bool
        Options of :class:`.border.Border`.

    Attributes
    ----------
    module : torch.nn.Module
        Copy of the model with the integers inside, in evaluation mode.
    original : torch.nn.Module
        The model as it is.
    border : Border

    Raises
    ------
    UserError
        The model has no such recurrent module, or one of other sizes than the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: NetworkWeights,
        prefix: str | None = None,
        keep_state: bool = False,
        record: bool = False,
    ):
        require_type(model, nn.Module, "model", "a torch.nn.Module or the path of an ONNX model")
        if isinstance(model, torch.jit.ScriptModule):
            rule = "a torch.nn.Module or an ONNX file (torch.onnx.export makes one)"
            raise InvalidTypeError(f"model must be {rule}, not TorchScript")
        found = [name for name, module in model.named_modules() if isinstance(module, RECURRENT)]
        chosen = [name for name in found if prefix is None or name == prefix]
        names = ", ".join(map(shown, found[:4])) or "none"
        require(len(chosen) == 1, "prefix", f"the name of one recurrent module ({names})", prefix)
        self.original, self.border = model, Border(weights, keep_state, record)
        self.module = copy.deepcopy(model).eval()
        layers = IntegerLayers(self.module.get_submodule(chosen[0]), self.border)
        if chosen[0]:
            self.module.set_submodule(chosen[0], layers)
        else:
            self.module = layers

    def reset(self) -> None:
        """Forget the state that ``keep_state`` keeps."""
        self.border.reset()

    @torch.no_grad()
    def __call__(self, *args, **kwargs):
        """Call the model with the accelerator's integers."""
        return self.module(*args, **kwargs)

    def run(self, inputs: Any) -> dict[str, np.ndarray]:
        """Call the model with named inputs, or with one array; return its outputs by their places, as arrays."""
        return self._outputs(self.module, inputs)

    def run_float(self, inputs: Any) -> dict[str, np.ndarray]:
        """Call the model as it is, like :meth:`run`."""
        training = self.original.training
        try:
            return self._outputs(self.original.eval(), inputs)
        finally:
            self.original.train(training)

    @torch.no_grad()
    def _outputs(self, module: nn.Module, inputs: Any) -> dict[str, np.ndarray]:
        if isinstance(inputs, dict):
            result = module(**{name: torch.as_tensor(value) for name, value in inputs.items()})
        else:
            result = module(torch.as_tensor(inputs))
        return {str(place): value.numpy() for place, value in enumerate(_tensors(result))}


def _tensors(value: Any) -> list[torch.Tensor]:
    """List the tensors of nested tuples, lists and mappings in their order."""
    if isinstance(value, torch.Tensor):
        return [value.detach().cpu()]
    if isinstance(value, PackedSequence):
        return [value.data.detach().cpu()]
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple | list) else []
    return [tensor for part in inner for tensor in _tensors(part)]
