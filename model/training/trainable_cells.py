"""Trainable layers of every cell, built from autograd's own operations: plain and exact rather than fast."""

import torch
from torch import nn

from chessrnn.model import circulant
from chessrnn.model.config import Config
from chessrnn.model.errors import require
from chessrnn.model.training.layer_group import LayerGroup
from chessrnn.model.training.layers import (
    ForwardPlan,
    QuantLayer,
    QuantLstm,
    exact_arithmetic,
    module_list,
    quantized_weights,
)
from chessrnn.model.training.quantizers import activation, fake_quantize_to

# The step functions below compute in float where ``config`` is None.  Otherwise they compute the accelerator's
# integers, and their twins are the functions of the same names in ``chessrnn.model.reference.cell_update``.


def lstm_step(config: Config | None, sums, c, peephole, limit: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute o·tanh(c') and c' of an LSTM.

    Parameters
    ----------
    peephole : (3, H) or None
        Peephole weights of the gates I, F and O.
    limit : float or None
        Magnitude at which the cell state of the float network saturates.
    """
    p_i, p_f, p_o = (0.0, 0.0, 0.0) if peephole is None else peephole
    if config is None:
        i, f, g = torch.sigmoid(sums[0] + p_i * c), torch.sigmoid(sums[1] + p_f * c), torch.tanh(sums[2])
        c = f * c + i * g
        c = c if limit is None else c.clamp(-limit, limit)
        return torch.sigmoid(sums[3] + p_o * c) * torch.tanh(c), c
    points = config.quantization

    def gate(number: int, total) -> torch.Tensor:
        return activation(fake_quantize_to(total, points.preact), config.gate_table(number))

    i, f, g = gate(0, sums[0] + p_i * c), gate(1, sums[1] + p_f * c), gate(2, sums[2])
    c = fake_quantize_to(f * c + i * g, points.cell)
    o = gate(3, sums[3] + p_o * c)
    return fake_quantize_to(o * activation(c, config.cell_table), config.cell_output), c


def gru_step(config: Config | None, sums, state, *_) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute h and the next state of a GRU."""
    if config is None:
        r, z = torch.sigmoid(sums[0]), torch.sigmoid(sums[1])
        n = torch.tanh(sums[2] + r * sums[3])
        state = (1 - z) * n + z * state
        return state, state
    points = config.quantization
    preacts = [fake_quantize_to(total, points.preact) for total in sums]
    r, z = (activation(preacts[gate], config.gate_table(gate)) for gate in range(2))
    n = activation(fake_quantize_to(preacts[2] + r * preacts[3], points.preact), config.candidate_table)
    state = fake_quantize_to((1 - z) * n + z * state, points.cell)
    return fake_quantize_to(state, points.h), state


def gru_reset_first_step(config: Config | None, sums, state, candidate) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute h and the next state of a GRU whose reset gate scales h.

    Parameters
    ----------
    sums : list of (B, H)
        Sums of the gates R and Z.
    candidate : callable
        Function from r·s to the sum of N.
    """
    if config is None:
        r, z = torch.sigmoid(sums[0]), torch.sigmoid(sums[1])
        n = torch.tanh(candidate(r * state))
        state = (1 - z) * n + z * state
        return state, state
    points = config.quantization

    def gate(number: int, total) -> torch.Tensor:
        return activation(fake_quantize_to(total, points.preact), config.gate_table(number))

    r, z = gate(0, sums[0]), gate(1, sums[1])
    n = gate(2, candidate(fake_quantize_to(r * state, points.h)))
    state = fake_quantize_to((1 - z) * n + z * state, points.cell)
    return fake_quantize_to(state, points.h), state


def rnn_step(config: Config | None, sums, *_) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute h of an Elman RNN, returned twice because it is also the state."""
    if config is None:
        h = torch.tanh(sums[0])
        return h, h
    points = config.quantization
    gate = activation(fake_quantize_to(sums[0], points.preact), config.gate_table(0))
    h = fake_quantize_to(gate, points.h)
    return h, h


def rnn_relu_step(config: Config | None, sums, *_) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute h of an Elman RNN with relu, returned twice because it is also the state."""
    total = sums[0] if config is None else fake_quantize_to(sums[0], config.quantization.h)
    h = torch.relu(total)
    return h, h


STEPS = {"lstm": lstm_step, "lstm_peephole": lstm_step, "gru": gru_step, "rnn": rnn_step, "rnn_relu": rnn_relu_step}
# Cells with a product that depends on a gate of the same step.
STAGED_STEPS = {"gru_reset_first": gru_reset_first_step}


def expanded(defining: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """Expand defining vectors (G, P, Q, k) to a matrix (G·rows, cols)."""
    gates, p, q, k = defining.shape
    blocks = defining[..., torch.from_numpy(circulant.circulant_indices(k))]
    return blocks.transpose(2, 3).reshape(gates, p * k, q * k)[:, :rows, :cols].reshape(gates * rows, cols)


class QuantCell(QuantLayer):
    """Layer of any cell, with or without a projection; same interface as :class:`.layers.QuantLstm`."""

    def plan(self) -> ForwardPlan:
        """Decide weights and type of a forward pass with the present weights."""
        defining = self.defining()
        dtype = exact_arithmetic(self.config, defining, self.largest_bias())[1] if self.quantized else self.bias.dtype
        return ForwardPlan(defining, None, dtype)

    def project_input(self, x: torch.Tensor, plan: ForwardPlan) -> torch.Tensor:
        """Compute W_x·x + bias, (..., X) → (..., G·H); no step has to wait for it."""
        network = self.config.network
        weight = expanded(plan.defining[0], network.units, network.input_size).to(plan.dtype)
        return nn.functional.linear(
            self.input_codes(x).to(plan.dtype), weight, self.bias_codes().reshape(-1).to(plan.dtype)
        )

    def recur(
        self, from_x: torch.Tensor, plan: ForwardPlan, state=None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Run the steps on the result of :meth:`project_input`: h (T, B, P or H), and the final (h, state)."""
        size, width, points = self.config.network.units, self.config.output_size, self.config.quantization
        config, kind = (None, plan.dtype) if self.stage == "float" else (self.config, torch.float64)
        batch, cell = from_x.shape[1], self.config.cell
        h, c = (torch.zeros(batch, width), torch.zeros(batch, size)) if state is None else state
        h, c = h.to(kind), c.to(kind)
        if config is not None:
            h = fake_quantize_to(h, points.h)
            c = fake_quantize_to(c, points.cell) if cell.has_state else h
        step = self._staged_step if cell.stages > 1 else self._step
        weight = expanded(plan.defining[1], size, width).to(plan.dtype)
        peephole, projection = self._peephole_and_projection(kind)
        out = []
        for now in from_x:
            h, c = step(config, now, h, c, weight, peephole)
            if projection is not None:
                h = nn.functional.linear(h, projection)
                h = h if config is None else fake_quantize_to(h, points.h)
            out.append(h.to(plan.dtype))
        return torch.stack(out), (out[-1], c)

    def _step(self, config, now, h, c, weight, peephole):
        total = (now + nn.functional.linear(h.to(weight.dtype), weight)).to(h.dtype)
        sums = total.unflatten(1, (self.config.num_gates, -1)).unbind(1)
        return STEPS[self.config.network.cell](config, sums, c, peephole, self.cell_limit)

    def _staged_step(self, config, now, h, c, weight, peephole):
        """Run one step of a cell whose last gate multiplies a result of another gate."""
        size = self.config.network.units
        first = now[:, :-size] + nn.functional.linear(h.to(weight.dtype), weight[:-size])

        def candidate(scaled: torch.Tensor) -> torch.Tensor:
            return (now[:, -size:] + nn.functional.linear(scaled.to(weight.dtype), weight[-size:])).to(h.dtype)

        sums = first.to(h.dtype).unflatten(1, (-1, size)).unbind(1)
        return STAGED_STEPS[self.config.network.cell](config, sums, c, candidate)

    def _peephole_and_projection(self, kind: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Quantize peephole weights (3, H) and projection (P, H) as the layer multiplies them, or return ``None``."""
        config, points = self.config, self.config.quantization
        peephole, projection = self.peephole, None if self.projection is None else self.projection.defining
        if peephole is not None:
            peephole = (fake_quantize_to(peephole, points.peephole) if self.quantized else peephole).to(kind)
        if projection is not None:
            if self.quantized:
                lsb = torch.tensor(2.0**-config.projection_frac, dtype=torch.float64)
                projection = quantized_weights(config, projection, lsb)
            projection = expanded(projection[None], config.output_size, config.network.units).to(kind)
        return peephole, projection


class QuantStack(nn.Module):
    """Several layers, each reading the h of the one below; same interface as :class:`.layers.QuantLayer`.

    Parameters
    ----------
    config : Config
        Configuration of all layers.
    block_sizes : (int, int), optional
        k of W_x and of W_h where they differ from the configuration's.

    Members
    -------
    layers : list of QuantLayer
        Layers, each with a configuration of its own.
    """

    def __init__(self, config: Config, block_sizes: tuple[int, int] | None = None):
        super().__init__()
        count = config.network.num_layers
        self.layers = module_list(one_layer(config.layer(number), block_sizes) for number in range(count))
        self.group = LayerGroup(config, self.layers)

    @property
    def config(self) -> Config:
        """Configuration of all layers."""
        return self.group.config

    @config.setter
    def config(self, config: Config) -> None:
        self.group.config = config

    @property
    def block_sizes(self) -> tuple[int, int]:
        """k of W_x and of W_h."""
        return self.layers[0].block_sizes

    @property
    def stage(self) -> str:
        """Stage of every layer."""
        return self.group.stage

    @stage.setter
    def stage(self, value: str) -> None:
        self.group.stage = value

    @property
    def quantized(self) -> bool:
        """Whether the forward pass computes integers."""
        return self.layers[0].quantized

    @quantized.setter
    def quantized(self, value: bool) -> None:
        for layer in self.layers:
            layer.quantized = value

    @property
    def cell_limit(self) -> float | None:
        """Magnitude at which the cell states of float LSTMs saturate."""
        return self.layers[0].cell_limit

    @cell_limit.setter
    def cell_limit(self, value: float | None) -> None:
        for layer in self.layers:
            layer.cell_limit = value

    def learn_scales(self, keeps_exponents: bool = False, trains: bool = True) -> None:
        """Make the scales of every layer a parameter: see :meth:`.layers.QuantLayer.learn_scales`."""
        self.group.learn_scales(keeps_exponents, trains)

    def adopt_scales(self) -> None:
        """Round the learned scales of every layer to the exponents of the configuration."""
        self.group.adopt_scales()

    def pull_to_circulant(self, block_sizes: tuple[int, int], share: float) -> None:
        """Move the dense matrices of every layer towards blocks of these sizes."""
        for layer in self.layers:
            layer.pull_to_circulant(block_sizes, share)

    def plan(self) -> list[ForwardPlan]:
        """Decide the forward pass of every layer."""
        return [layer.plan() for layer in self.layers]

    def project_input(self, x: torch.Tensor, plan: list[ForwardPlan]) -> torch.Tensor:
        """Compute W_x·x + bias of the first layer."""
        return self.layers[0].project_input(x, plan[0])

    def recur(
        self, from_x: torch.Tensor, plan: list[ForwardPlan], state=None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Run the steps of all layers: h of the last one (T, B, P or H), and the final h and c of all, (L, B, …)."""
        h, final = from_x, []
        for number, (layer, of_layer) in enumerate(zip(self.layers, plan, strict=True)):
            given = layer.project_input(h, of_layer) if number else from_x
            start = None if state is None else tuple(part[number] for part in state)
            h, end = layer.recur(given, of_layer, start)
            final.append(end)
        # The layers may carry their sums in different types.
        all_h, all_c = (torch.stack([part.double() for part in parts]) for parts in zip(*final, strict=True))
        return h, (all_h, all_c)


def require_trainable(config: Config) -> None:
    """Raise ``InvalidValueError`` that names the option of a configuration which cannot be trained."""
    both = config.network.bidirectional
    require(not both, "network.bidirectional", "false to be trained", both)
    sizes = config.network.hidden_sizes
    require(len(set(sizes)) == 1, "network.hidden_size", "one integer to be trained", list(sizes))
    widths = config.layer_weight_bits
    require(len(set(widths)) == 1, "quantization.weight_bits", "one integer to be trained", list(widths))


def one_layer(config: Config, block_sizes: tuple[int, int] | None = None) -> QuantLayer:
    """Create the trainable layer of a configuration's cell."""
    plain = config.network.cell == "lstm" and not config.network.projection_size
    return (QuantLstm if plain else QuantCell)(config, block_sizes)


def make_layer(config: Config, block_sizes: tuple[int, int] | None = None) -> "QuantLayer | QuantStack":
    """Create the trainable layer of a configuration, or the stack of its layers."""
    require_trainable(config)
    return (QuantStack if config.network.num_layers > 1 else one_layer)(config, block_sizes)
