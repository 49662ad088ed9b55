"""Modules in place of ``torch.nn.LSTM``, ``GRU`` and ``RNN`` that train block-circulant weights and compute integers.

A module holds one :class:`.layers.QuantLayer` for every layer and direction, so that its arithmetic is that of the
trainer, and only adds what ``torch.nn`` has around it: layouts, packed sequences, directions, dropout between layers.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from chessrnn.model.config import Config
from chessrnn.model.config_sections import MAX_SIZE
from chessrnn.model.conversion.base_config import base_config
from chessrnn.model.conversion.formats import choose_config
from chessrnn.model.conversion.hardware_rows import blocks_of_layer, directions, layer_of_blocks
from chessrnn.model.errors import InvalidTypeError, require, require_type
from chessrnn.model.imported.recurrent_network import ACTIVATIONS, CELL_GATES, DirectionWeights, RecurrentLayer
from chessrnn.model.imported.state_dict import network_from_arrays
from chessrnn.model.imported.summary import input_sizes
from chessrnn.model.text_file import parse_json
from chessrnn.model.training.export import layer_weights
from chessrnn.model.training.layer_group import LayerGroup
from chessrnn.model.training.layers import STAGES, module_list
from chessrnn.model.training.module_sequences import first_states, flat_steps, run_direction
from chessrnn.model.training.quantizers import fake_quantize_to
from chessrnn.model.training.retraining import blocks_of, parameters_of
from chessrnn.model.training.trainable_cells import one_layer
from chessrnn.model.weights import NetworkWeights, join_layers, layer_configs

# Block size and width of a weight where the caller gives none.
BLOCK_SIZE = 4
WEIGHT_BITS = 4
# Steps of all sequences together that formats are chosen from.
CALIBRATION_STEPS = 1 << 16
TYPES = (torch.float32, torch.float64)


class Recurrent(nn.Module):
    """Common part of :class:`LSTM`, :class:`GRU` and :class:`RNN`.

    Members
    -------
    layers : list of QuantLayer
        Trainable layers; with two directions, forward then reverse for every layer.
    config : Config
        Design point: sizes, block size and number formats.  The formats are those of the integers once they are chosen:
        from :meth:`calibrate`, and those of the weights anew whenever the stage becomes ``"quantized"``.
    is_calibrated : bool
        Whether the formats of the input and of the states were chosen from data.

    Notes
    -----
    The stages of :meth:`stage` are ``"float"`` (circulant weights, float arithmetic), ``"approximate"`` (integers
    everywhere but in weights and biases) and ``"quantized"`` (the accelerator's integers).  Output and state are real
    numbers in every stage.

    ``state_dict`` holds formats and stage as well, in ``_extra_state``: loading it restores the same integers.
    """

    cell = ""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        k: int = BLOCK_SIZE,
        weight_bits: int = WEIGHT_BITS,
        settings: Mapping[str, Any] | None = None,
        learned_scales: bool = False,
    ):
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers, "k": k}
        for name, value in (sizes | {"weight_bits": weight_bits, "proj_size": proj_size}).items():
            require_type(value, int, name, "an integer")
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
        for name, value in (flags | {"learned_scales": learned_scales}).items():
            require_type(value, bool, name, "true or false")
        for name, value in sizes.items():
            require(value >= 1, name, "at least 1", value)
            require(value <= MAX_SIZE, name, f"at most {MAX_SIZE}", value)
        require_type(settings or {}, Mapping, "settings", "a mapping of fields to values")
        for name in settings or {}:
            require_type(name, str, "settings", "a mapping with the names of fields")
        require_type(dropout, (int, float), "dropout", "a number")
        require(0 <= dropout < 1, "dropout", "from 0 to below 1", dropout)
        good = self.cell == "lstm" or proj_size == 0
        require(good, "proj_size", "0, as only an LSTM has a projection", proj_size)
        rule = f"from 0 (none) to {hidden_size}, the hidden size"
        require(0 <= proj_size <= hidden_size, "proj_size", rule, proj_size)
        require(dtype in (None, *TYPES), "dtype", f"one of {', '.join(map(str, TYPES))}", dtype)
        kind = torch.device("cpu" if device is None else device).type
        require(kind == "cpu", "device", "cpu, where the integers are computed", kind)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self.settings = dict(settings or {})
        self.is_calibrated = False
        config = base_config(self._empty_layers(), k, weight_bits, self.cell, self.settings)
        self.layers = module_list(one_layer(own) for own in layer_configs(config))
        self._group = LayerGroup(config, self.layers)
        self._learns = learned_scales
        if learned_scales or config.has_row_scales:
            self._group.learn_scales(trains=learned_scales)
        if not bias:
            for layer in self.layers:
                nn.init.zeros_(layer.bias).requires_grad_(False)
        if dtype is not None:
            self.to(dtype)

    @property
    def config(self) -> Config:
        """Design point: sizes, block size and number formats."""
        return self._group.config

    # -- sizes and names -------------------------------------------------------------------------------------------

    @property
    def num_directions(self) -> int:
        """Number of directions: 2 for a bidirectional module, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def learned_scales(self) -> bool:
        """Whether the scales of the weights are trained as well."""
        return self._learns

    @property
    def nonlinearity(self) -> str:
        """Function of an RNN; ``"tanh"`` for the other cells."""
        return "tanh"

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters and of the results."""
        return self.layers[0].bias.dtype

    def extra_repr(self) -> str:
        """Describe the module as ``torch.nn`` does, with its compression."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False,
                    "proj_size": 0, "nonlinearity": "tanh"}  # fmt: skip
        parts += [f"{name}={getattr(self, name)}" for name, usual in defaults.items() if getattr(self, name) != usual]
        quantization = self.config.quantization
        return ", ".join(
            [
                *parts,
                f"k={self.config.block_size}",
                f"weight_bits={quantization.weight_bits}",
                f"stage={self.current_stage}",
            ]
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def flatten_parameters(self) -> None:
        """Do nothing: scripts that were written for ``torch.nn`` call this for its CUDA kernels."""

    # -- weights ---------------------------------------------------------------------------------------------------

    def _empty_layers(self) -> list[RecurrentLayer]:
        """Create float layers of the module's sizes with zero weights."""
        count, size_p = len(CELL_GATES[self.cell]), self.proj_size
        rows, state = count * self.hidden_size, size_p or self.hidden_size
        found, size = [], self.input_size
        for number in range(self.num_layers):
            weights = DirectionWeights(
                np.zeros((rows, size)), np.zeros((rows, state)), np.zeros(rows), np.zeros(rows),
                projection=np.zeros((size_p, self.hidden_size)) if size_p else None,
            )  # fmt: skip
            direction = "bidirectional" if self.bidirectional else "forward"
            name, both = f"l{number}", (weights,) * self.num_directions
            found.append(RecurrentLayer(name, self.cell, both, direction, activation=self.nonlinearity))
            size = self.num_directions * state
        return found

    def _float_layers(self) -> list[RecurrentLayer]:
        """Read the circulant weights as float layers."""
        self._group.settle()
        layers, own = [], iter(self.layers)
        empty = self._empty_layers()
        for layer, sizes in zip(empty, input_sizes(empty), strict=True):
            parts = [layer_of_blocks(one, blocks_of(next(own)), sizes).weights[0] for one in directions(layer)]
            layers.append(replace(layer, weights=tuple(parts)))
        return layers

    @torch.no_grad()
    def project(self, dense: nn.Module) -> Self:
        """Set the weights to the least-squares projection of a ``torch.nn`` module of the same sizes."""
        network = network_from_arrays(_arrays(dense), type(dense).__name__, getattr(dense, "nonlinearity", None))
        own = iter(self.layers)
        for layer, sizes in zip(network.layers, input_sizes(network.layers), strict=True):
            for one in directions(layer):
                target = next(own)
                parameters = dict(target.named_parameters())
                for name, value in parameters_of(blocks_of_layer(one, self.config.block_size, sizes)):
                    parameters[name.removeprefix("layer.")].copy_(value)
        return self

    @classmethod
    def from_dense(
        cls,
        dense: nn.Module,
        k: int = BLOCK_SIZE,
        weight_bits: int = WEIGHT_BITS,
        settings: Mapping[str, Any] | None = None,
        learned_scales: bool = False,
    ) -> Self:
        """Create the module with the sizes, options and projected weights of one of ``torch.nn``.

        Raises
        ------
        UserError
            The accelerator does not run such a layer, or a weight is not finite.
        """
        options = {
            name: getattr(dense, name)
            for name in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        }
        options |= cls._own_options(dense)
        weight = next(dense.parameters())
        module = cls(
            **options, device=weight.device, dtype=weight.dtype, k=k, weight_bits=weight_bits, settings=settings,
            learned_scales=learned_scales,
        )  # fmt: skip
        return module.project(dense).train(dense.training)

    @staticmethod
    def _own_options(dense: nn.Module) -> dict[str, Any]:
        """Read the options that not every cell has."""
        return {}

    def weights(self) -> NetworkWeights:
        """Round the weights to the integers that the accelerator holds.

        In stage ``"quantized"`` they are those of the forward pass; in another, formats are chosen for the present
        weights first, and the module stays as it is.
        """
        if self.current_stage != "quantized":
            return copy.deepcopy(self).stage("quantized").weights()
        self._group.adopt_scales()
        return join_layers(self.config, [layer_weights(layer) for layer in self.layers])

    # -- formats and stages ----------------------------------------------------------------------------------------

    def _chosen_config(self, x: np.ndarray | None) -> Config:
        """Choose formats for the present weights, and with inputs (T, B, X) those of the data too."""
        return choose_config(self.config, self._float_layers(), x, self.settings)

    def _set_config(self, config: Config) -> None:
        """Take other formats, and the scales of weights that fit them."""
        self._group.config = config
        for layer in self.layers:
            if layer.log2_scale is not None:
                layer.learn_scales()
        if self.current_stage == "quantized":
            self._group.clamp_parameters()

    @torch.no_grad()
    def calibrate(self, *batches: torch.Tensor | PackedSequence) -> Self:
        """Choose the number formats of input, states and weights from batches of real inputs, laid out as in a call.

        Without a call, the first batch that reaches a stage other than ``"float"`` is taken.
        """
        require(len(batches) > 0, "batches", "at least one", len(batches))
        arrays = []
        for batch in batches:
            data, batch_sizes, _, _ = flat_steps(batch, self.batch_first, self.input_size)
            values = torch.zeros(len(batch_sizes), int(batch_sizes[0]), self.input_size, dtype=torch.float64)
            values[torch.arange(values.shape[1]) < batch_sizes[:, None]] = data.detach().double()
            arrays.append(values.numpy())
        # Shorter sequences are padded with zeros, which every format holds.
        steps = max(len(values) for values in arrays)
        arrays = [np.pad(values, ((0, steps - len(values)), (0, 0), (0, 0))) for values in arrays]
        x = np.concatenate(arrays, axis=1)[:, : max(1, CALIBRATION_STEPS // steps)]
        require(bool(np.isfinite(x).all()), "calibration data", "made of finite numbers", "one that is not")
        self._set_config(self._chosen_config(x))
        self.is_calibrated = True
        return self

    @property
    def current_stage(self) -> str:
        """Stage of the forward pass, as :meth:`stage` set it."""
        return self._group.stage

    def stage(self, name: str, weight_bits: int | None = None) -> Self:
        """Set the stage of the forward pass: ``"float"``, ``"approximate"`` or ``"quantized"``; return the module.

        On entering ``"quantized"`` the formats of the weights are chosen anew, since they have moved meanwhile, and so
        they are when the width changes.

        Parameters
        ----------
        name : str
        weight_bits : int, optional
            Another width of the weights from now on: training that goes from 8 over 4 to 2 bits loses less.
        """
        require(name in STAGES, "stage", f"one of {', '.join(STAGES)}", name)
        before = self.config.quantization.weight_bits
        if name != "quantized":
            self._group.settle()
        if weight_bits is not None:
            require_type(weight_bits, int, "weight_bits", "an integer")
            self._group.config = self.config.replace({"quantization.weight_bits": weight_bits})
        is_new = self.current_stage != "quantized" or self.config.quantization.weight_bits != before
        if name == "quantized" and is_new:
            self._set_config(self._chosen_config(None))
        self._group.stage = name
        if name == "quantized":
            self._group.clamp_parameters()
        return self

    def get_extra_state(self) -> torch.Tensor:
        """Return formats and stage as JSON in a tensor of bytes, which every format of checkpoints can hold."""
        state = {"config": self.config.to_dict(), "stage": self.current_stage, "is_calibrated": self.is_calibrated}
        return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore formats and stage."""
        try:
            values = parse_json(bytes(state.tolist()).decode(), "_extra_state")
            config, stage, is_calibrated = Config.from_dict(values["config"]), values["stage"], values["is_calibrated"]
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
            raise InvalidTypeError("_extra_state must be a tensor that get_extra_state made, not another one") from None
        for name in ("network", "compression"):
            own, found = getattr(self.config, name), getattr(config, name)
            for field, value in vars(own).items():
                require(getattr(found, field) == value, f"{name}.{field}", f"{value!r} here", getattr(found, field))
        bits, found_bits = self.config.quantization.weight_bits, config.quantization.weight_bits
        require(found_bits == bits, "quantization.weight_bits", f"{bits} here", found_bits)
        require(stage in STAGES, "stage", f"one of {', '.join(STAGES)}", stage)
        # The parameters are loaded later: nothing may be chosen from them here, nor clamped.
        self._group.config, self._group.stage, self.is_calibrated = config, stage, bool(is_calibrated)

    # -- forward pass ----------------------------------------------------------------------------------------------

    def forward(self, input: torch.Tensor | PackedSequence, hx=None):
        """Run whole sequences, like the module of ``torch.nn``.

        Parameters
        ----------
        input : tensor (T, B, X), with ``batch_first`` (B, T, X), unbatched (T, X), or PackedSequence
        hx : tensor or (tensor, tensor), optional
            First state, ``h`` (layers · directions, B, P or H), of an LSTM ``(h, c)``; zero when left out.

        Returns
        -------
        output : like the input, with the h of every direction of the last layer
        final state : like hx

        Raises
        ------
        UserError
            A shape or type does not fit.
        """
        # Tables and exact sums cannot be traced: a compiled model calls this module as it is.
        run: Any = torch.compiler.disable(self._run) if torch.compiler.is_compiling() else self._run
        return run(input, hx)

    # Integers need the mantissa of float32 or more: a narrower type of autocast would round them.
    @torch.autocast("cpu", enabled=False)
    def _run(self, x, hx):
        if self.current_stage != "float" and not self.is_calibrated:
            self.calibrate(x)
        if self.current_stage == "quantized" and self.training:
            # A weight beyond the range of its format would receive no gradient.
            self._group.clamp_parameters()
        elif self.current_stage == "quantized":
            # The last update may have moved the scales.
            self._group.adopt_scales()
        data, batch_sizes, sorted_indices, unsorted_indices = flat_steps(x, self.batch_first, self.input_size)
        if self.current_stage != "float":
            # Integers have no way to carry what is not a number, as floats do.
            require(bool(data.detach().isfinite().all()), "input", "made of finite numbers", "one that is not")
        batch, is_batched = int(batch_sizes[0]), isinstance(x, PackedSequence) or x.dim() == 3
        states = first_states(hx, self._state_widths(), len(self.layers), batch, sorted_indices, is_batched, self.dtype)
        if self.config.cell.has_state and len(states[0]) == 1 and self.current_stage != "float":
            # The state of a GRU is its h with more fraction bits, from which h is rounded.
            states = [(fake_quantize_to(h, self.config.quantization.cell),) for (h,) in states]
        states = [(parts[0], parts[-1]) for parts in states]
        finals = []
        padding = (-(self.proj_size or self.hidden_size)) % self.config.block_size if self.bidirectional else 0
        for number in range(self.num_layers):
            outputs = []
            for index in range(self.num_directions):
                place = number * self.num_directions + index
                out, final = run_direction(self.layers[place], data, batch_sizes, states[place], index == 1)
                outputs.append(out)
                finals.append(final)
            is_last = number == self.num_layers - 1
            if padding and not is_last:
                # The layer above reads whole blocks of each direction.
                outputs = [nn.functional.pad(out, (0, padding)) for out in outputs]
            data = outputs[0] if len(outputs) == 1 else torch.cat([out.to(self.dtype) for out in outputs], dim=-1)
            if self.dropout and not is_last:
                data = nn.functional.dropout(data, self.dropout, self.training)
        data = data.to(self.dtype)
        final = [torch.stack(part) for part in zip(*finals, strict=True)]
        if unsorted_indices is not None:
            final = [part.index_select(1, unsorted_indices) for part in final]
        if isinstance(x, PackedSequence):
            return PackedSequence(data, x.batch_sizes, x.sorted_indices, x.unsorted_indices), self._state_of(final)
        data = data.reshape(-1, batch, data.shape[-1])
        if not is_batched:
            return data.squeeze(1), self._state_of([part.squeeze(1) for part in final])
        return data.transpose(0, 1) if self.batch_first else data, self._state_of(final)

    def _state_widths(self) -> tuple[int, ...]:
        """Widths of the parts of the state that callers see."""
        return (self.hidden_size,)

    def _state_of(self, final: list[torch.Tensor]):
        """Return the final state as the module of ``torch.nn`` does."""
        return final[0].to(self.dtype)

    @torch.no_grad()
    def integers(self, x: torch.Tensor | PackedSequence, hx=None):
        """Run sequences in the accelerator's integers, whatever the stage, and return h as codes of its format.

        Returns
        -------
        output : int64, like that of :meth:`forward`
            The integers of the bit-accurate reference and of the emitted design: h is the code times
            ``config.quantization.h.lsb``.
        """
        if not self.is_calibrated:
            self.calibrate(x)
        out, _ = copy.deepcopy(self).eval().stage("quantized")(x, hx)
        scale = 2.0**self.config.quantization.h.fraction_bits
        if isinstance(out, PackedSequence):
            return PackedSequence((out.data * scale).long(), *out[1:])
        return (out * scale).long()


class LSTM(Recurrent):
    """LSTM with block-circulant weights, in place of ``torch.nn.LSTM``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        The arguments of ``torch.nn.LSTM``; the device is the CPU.
    k : int
        Block size: 1, 2, 4, 8 or 16.  1 is a dense network.
    weight_bits : int
        Width of a weight, from 2 to 8.
    settings : dict, optional
        Fields of the configuration by dotted name, which are kept: ``{"architecture.tile_rows": 4}``.
    learned_scales : bool
        Whether the scales of the weights are trained as well, in stage ``"quantized"``.  Every forward pass rounds them
        to powers of two or, with ``{"quantization.weight_scale": "row"}``, to a multiplier for every block row.

    Raises
    ------
    UserError
        An argument has a wrong type or value, which is named.

    Examples
    --------
    >>> lstm = LSTM(8, 16, batch_first=True, k=4, weight_bits=4)
    >>> output, (h, c) = lstm(torch.zeros(2, 5, 8))
    >>> output.shape
    torch.Size([2, 5, 16])
    """

    cell = "lstm"

    @staticmethod
    def _own_options(dense: nn.Module) -> dict[str, Any]:
        return {"proj_size": dense.proj_size}

    def _state_widths(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size

    def _state_of(self, final: list[torch.Tensor]):
        return tuple(part.to(self.dtype) for part in final)


class GRU(Recurrent):
    """GRU with block-circulant weights, in place of ``torch.nn.GRU``; for parameters see :class:`LSTM`.

    Between two calls the state is h, whose integers have fewer fraction bits than the accelerator keeps between steps.
    """

    cell = "gru"


class RNN(Recurrent):
    """Elman RNN with block-circulant weights, in place of ``torch.nn.RNN``; for other parameters see :class:`LSTM`.

    Parameters
    ----------
    nonlinearity : str
        ``"tanh"`` or ``"relu"``.
    """

    cell = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **options: Any,
    ):
        require(nonlinearity in ACTIVATIONS, "nonlinearity", f"one of {', '.join(ACTIVATIONS)}", nonlinearity)
        self._nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, *args, **options)

    @property
    def nonlinearity(self) -> str:
        """Function of the cell, ``"tanh"`` or ``"relu"``."""
        return self._nonlinearity

    @staticmethod
    def _own_options(dense: nn.Module) -> dict[str, Any]:
        return {"nonlinearity": dense.nonlinearity}


def _arrays(dense: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in dense.state_dict().items()}
