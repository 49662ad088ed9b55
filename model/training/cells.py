"""Trainable layers of the other cells, out of autograd's own operations: plain and exact rather than fast."""

import torch
from torch import nn

from model import circulant
from model.cells import TRAINED_CELLS
from model.config import Config
from model.errors import require
from model.training.layers import Plan, QuantLayer, QuantLstm, exact_plan
from model.training.quantizers import activation, fake_quantize_to


def gru_step(config: Config | None, sums, state) -> tuple[torch.Tensor, torch.Tensor]:
    """h and the next state of a GRU; integers' arithmetic where there is a configuration.

    Twin: ``model.reference.cell_update.gru``.
    """
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


def rnn_step(config: Config | None, sums, state) -> tuple[torch.Tensor, torch.Tensor]:
    """h of an Elman RNN, twice.  Twin: ``model.reference.cell_update.rnn``."""
    if config is None:
        h = torch.tanh(sums[0])
        return h, h
    points = config.quantization
    gate = activation(fake_quantize_to(sums[0], points.preact), config.gate_table(0))
    h = fake_quantize_to(gate, points.h)
    return h, h


STEPS = {"gru": gru_step, "rnn": rnn_step}


def expanded(defining: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """Defining vectors (G, P, Q, k) → matrix (G·rows, cols)."""
    gates, p, q, k = defining.shape
    blocks = defining[..., torch.from_numpy(circulant.circulant_indices(k))]
    return blocks.transpose(2, 3).reshape(gates, p * k, q * k)[:, :rows, :cols].reshape(gates * rows, cols)


class QuantCell(QuantLayer):
    """A layer of one of :data:`STEPS`; otherwise as :class:`model.training.layers.QuantLstm`."""

    def plan(self) -> Plan:
        """Weights and type of a forward pass with the present weights."""
        defining = self.defining()
        dtype = exact_plan(self.config, defining)[1] if self.quantized else self.bias.dtype
        return Plan(defining, None, dtype)

    def project_input(self, x: torch.Tensor, plan: Plan) -> torch.Tensor:
        """(..., X) → (..., G·H): W_x·x + bias, which no step has to wait for."""
        network = self.config.network
        weight = expanded(plan.defining[0], network.hidden_size, network.input_size).to(plan.dtype)
        return nn.functional.linear(
            self.input_codes(x).to(plan.dtype), weight, self.bias_codes().reshape(-1).to(plan.dtype)
        )

    def recur(
        self, from_x: torch.Tensor, plan: Plan, state=None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """The steps, on what :meth:`project_input` returned: h (T, B, H), and the final (h, state)."""
        size, points = self.config.network.hidden_size, self.config.quantization
        config, kind = (None, plan.dtype) if self.stage == "float" else (self.config, torch.float64)
        h, c = (
            (torch.zeros(from_x.shape[1], size, dtype=kind),) * 2
            if state is None
            else (part.to(kind) for part in state)
        )
        if config is not None:
            h = fake_quantize_to(h, points.h)
            c = fake_quantize_to(c, points.cell) if config.cell.has_state else h
        step = STEPS[self.config.network.cell]
        weight, out = expanded(plan.defining[1], size, size).to(plan.dtype), []
        for now in from_x:
            total = now + nn.functional.linear(h.to(plan.dtype), weight)
            h, c = step(config, total.to(kind).unflatten(1, (self.config.num_gates, size)).unbind(1), c)
            out.append(h.to(plan.dtype))
        return torch.stack(out), (out[-1], c)


def require_trainable(config: Config) -> None:
    """Refuse what training does not know, by name."""
    network = config.network
    rule = f"one of {', '.join(TRAINED_CELLS)} to be trained"
    require(network.cell in TRAINED_CELLS, "network.cell", rule, network.cell)
    for name, known in (("num_layers", 1), ("bidirectional", False), ("projection_size", 0)):
        value = getattr(network, name)
        require(value == known, f"network.{name}", f"{str(known).lower()} to be trained", value)


def make_layer(config: Config, block_sizes: tuple[int, int] | None = None) -> QuantLayer:
    """The trainable layer of a configuration's cell."""
    require_trainable(config)
    return (QuantLstm if config.network.cell == "lstm" else QuantCell)(config, block_sizes)
