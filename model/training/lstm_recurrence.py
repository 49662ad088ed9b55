"""The recurrence of an LSTM as one node of autograd with a hand-written backward pass, for speed."""

import torch

from chessrnn.model.cells import LSTM_GATES
from chessrnn.model.config import Config
from chessrnn.model.training.products import CHUNK, from_lanes, to_lanes
from chessrnn.model.training.quantizers import lookup_tensor, slope_tensor

_G = LSTM_GATES.index("G")


class _FloatStep:
    """Arithmetic of one float step: true σ and tanh, nothing rounded.

    Gates are (lanes, B, 4, blocks), states (lanes, B, blocks).  With a limit the cell state saturates at it, as the
    integers do at the ends of their format.
    """

    def __init__(self, dtype: torch.dtype, limit: float | None, steps: int):
        self.gate_dtype = self.cell_dtype = dtype
        self.limit, self._passes = limit, [None] * steps

    def gates(self, t: int, total, out) -> None:
        torch.sigmoid(total, out=out)
        torch.tanh(total[:, :, _G], out=out[:, :, _G])

    def cell(self, t: int, i, f, g, c, out, tanh_out) -> None:
        torch.addcmul(i * g, f, c, out=out)
        if self.limit is not None:
            self._passes[t] = out.abs() < self.limit
            out.clamp_(-self.limit, self.limit)
        torch.tanh(out, out=tanh_out)

    def hidden(self, o, tanh_c, out) -> None:
        torch.mul(o, tanh_c, out=out)

    def gate_slopes(self, t: int, gates):
        slope = torch.addcmul(gates, gates, gates, value=-1)
        g = gates[:, :, _G]
        slope[:, :, _G] = 1 - g * g
        return slope

    def tanh_slope(self, t: int, tanh_c):
        return 1 - tanh_c * tanh_c

    def cell_pass(self, t: int):
        return self._passes[t]


class _QuantizedStep:
    """Arithmetic of one integer step, equal to ``chessrnn.model.reference.layer`` at 0 LSB.

    Forward values come from the integer tables.  Backward slopes are those of the true functions at the same codes, and
    0 at the extreme codes, where a value has saturated.  Both are looked up at indices that the forward pass keeps.
    """

    def __init__(self, config: Config, steps: int, shape: tuple[int, int, int], dtype: torch.dtype):
        self.points = points = config.quantization
        lanes, batch, blocks = shape
        # The type of the gates must hold o·tanh(c) plus one half exactly; f·c + i·g has more bits.
        self.gate_dtype = torch.float32 if 2 * points.gate.width <= 25 else torch.float64
        exact = 2 * points.gate.width <= 25 and points.gate.width + points.cell.width <= 24
        self.cell_dtype = torch.float32 if exact else torch.float64
        sigmoid, tanh = config.gate_table(LSTM_GATES.index("O")), config.gate_table(_G)
        self._table = torch.cat([lookup_tensor(sigmoid), lookup_tensor(tanh)]).to(self.gate_dtype)
        self._slopes = torch.cat([slope_tensor(sigmoid), slope_tensor(tanh)]).float()
        self._cell_table = lookup_tensor(config.cell_table).to(self.gate_dtype)
        self._cell_slopes = slope_tensor(config.cell_table).float()
        self._cell_passes = torch.ones(len(self._cell_table))
        self._cell_passes[[0, -1]] = 0
        # Added to a code, these offsets give the index into the joined tables of σ and tanh.
        self._offset = torch.full((len(LSTM_GATES), 1), float(-points.preact.min), dtype=dtype)
        self._offset[_G] += 1 << points.preact.width
        self._half = torch.tensor(0.5, dtype=self.cell_dtype)
        self._gate_half = torch.tensor(0.5, dtype=self.gate_dtype)
        self._gate_index = torch.empty(steps, lanes, batch, len(LSTM_GATES), blocks, dtype=torch.int32)
        self._cell_index = torch.empty(steps, lanes, batch, blocks, dtype=torch.int32)

    def gates(self, t: int, total, out) -> None:
        fmt = self.points.preact
        codes = total.mul_(2.0**fmt.fraction_bits).add_(0.5).floor_().clamp_(fmt.min, fmt.max)
        index = self._gate_index[t]
        index.copy_(codes.add_(self._offset))
        torch.index_select(self._table, 0, index.view(-1), out=out.view(-1))

    def cell(self, t: int, i, f, g, c, out, tanh_out) -> None:
        fmt, kind = self.points.cell, self.cell_dtype
        scale = 2.0**fmt.fraction_bits
        codes = torch.addcmul(self._half, f.to(kind), c, value=scale).addcmul_(i.to(kind), g.to(kind), value=scale)
        codes.floor_().clamp_(fmt.min, fmt.max)
        torch.mul(codes, fmt.lsb, out=out)
        index = self._cell_index[t]
        index.copy_(codes.sub_(fmt.min))
        torch.index_select(self._cell_table, 0, index.view(-1), out=tanh_out.view(-1))

    def hidden(self, o, tanh_c, out) -> None:
        fmt = self.points.h
        codes = torch.addcmul(self._gate_half, o, tanh_c, value=2.0**fmt.fraction_bits)
        out.copy_(codes.floor_().clamp_(fmt.min, fmt.max).mul_(fmt.lsb))

    def gate_slopes(self, t: int, gates):
        return self._slopes.index_select(0, self._gate_index[t].view(-1)).view(gates.shape)

    def tanh_slope(self, t: int, tanh_c):
        return self._cell_slopes.index_select(0, self._cell_index[t].view(-1)).view(tanh_c.shape)

    def cell_pass(self, t: int):
        index = self._cell_index[t]
        return self._cell_passes.index_select(0, index.view(-1)).view(index.shape)


class LstmRecurrence(torch.autograd.Function):
    """Recurrence of h and c over all steps, with hand-written back-propagation through time.

    It is one node of autograd instead of dozens per step, whose overhead in Python would exceed the arithmetic.
    """

    @staticmethod
    def forward(ctx, from_x, defining, h, c, config, limit, algorithm, grad_algorithm):
        (steps, batch, _), size, dtype, lanes = from_x.shape, h.shape[1], from_x.dtype, algorithm.lanes
        shape = lanes, batch, size // lanes
        step = _FloatStep(dtype, limit, steps) if config is None else _QuantizedStep(config, steps, shape, dtype)
        hiddens = torch.empty(steps + 1, *shape, dtype=dtype)
        cells = torch.empty(steps + 1, *shape, dtype=step.cell_dtype)
        gates = torch.empty(steps, lanes, batch, len(LSTM_GATES), shape[2], dtype=step.gate_dtype)
        tanh_c = torch.empty(steps, *shape, dtype=step.gate_dtype)
        hiddens[0], cells[0] = to_lanes(h, lanes), to_lanes(c, lanes)
        weight = algorithm.prepare(defining.to(dtype)).contiguous()
        # (T, B, lanes·4·blocks) → (T, lanes, B, 4, blocks)
        from_x = from_x.view(steps, batch, lanes, len(LSTM_GATES), shape[2]).transpose(1, 2)
        for t in range(steps):
            total = algorithm.lower(torch.bmm(algorithm.lift(hiddens[t]), weight)).view(gates.shape[1:])
            step.gates(t, total.add_(from_x[t]), gates[t])
            i, f, g, o = gates[t].unbind(2)
            step.cell(t, i, f, g, cells[t], cells[t + 1], tanh_c[t])
            step.hidden(o, tanh_c[t], hiddens[t + 1])
        ctx.step, ctx.algorithm = step, grad_algorithm
        ctx.save_for_backward(defining, gates, tanh_c, cells, hiddens)
        out = hiddens[1:].permute(0, 2, 3, 1).reshape(steps, batch, size)
        return out, from_lanes(cells[-1]).clone()

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx, grad_h, grad_c):
        defining, gates, tanh_c, cells, hiddens = ctx.saved_tensors
        steps, batch, size = grad_h.shape
        # Gradients need not be exact, so all of them are in the type of the weights.
        dtype, algorithm = defining.dtype, ctx.algorithm
        lanes, blocks = algorithm.lanes, size // algorithm.lanes
        weight = algorithm.prepare(defining)
        weight_t = weight.transpose(1, 2).contiguous()
        d_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        d_preact = torch.empty(steps, lanes, batch, len(LSTM_GATES), blocks, dtype=dtype)
        # The gradient of the weights is summed over a few steps at a time, whose lifted vectors are still in the cache.
        group = max(1, CHUNK // batch)
        lowered_all = torch.empty(weight.shape[0], group, batch * algorithm.copies, weight.shape[2], dtype=dtype)
        grad_h = grad_h.to(dtype).view(steps, batch, blocks, lanes).permute(0, 3, 1, 2).contiguous()
        dh = torch.zeros(lanes, batch, blocks, dtype=dtype)
        dc = to_lanes(grad_c.to(dtype), lanes)
        for t in range(steps - 1, -1, -1):
            gate, tanh_now, cell = (part[t].to(dtype) for part in (gates, tanh_c, cells))
            i, f, g, o = gate.unbind(2)
            d_now = d_preact[t]
            d_i, d_f, d_g, d_o = d_now.unbind(2)
            dh += grad_h[t]
            dc = torch.addcmul(dc, dh, o * ctx.step.tanh_slope(t, tanh_now))
            passes = ctx.step.cell_pass(t)
            if passes is not None:
                dc *= passes
            torch.mul(dc, g, out=d_i)
            torch.mul(dc, cell, out=d_f)
            torch.mul(dc, i, out=d_g)
            torch.mul(dh, tanh_now, out=d_o)
            d_now *= ctx.step.gate_slopes(t, gate)
            dc = dc * f
            lowered = algorithm.lower_t(d_now.view(lanes, batch, -1), lowered_all[:, t % group])
            dh = algorithm.lift_t(torch.bmm(lowered, weight_t))
            if t % group == 0:
                count = min(group, steps - t)
                before = hiddens[t : t + count].to(dtype).transpose(0, 1).reshape(lanes, count * batch, blocks)
                d_weight.baddbmm_(algorithm.lift(before).transpose(1, 2), lowered_all[:, :count].flatten(1, 2))
        d_defining = algorithm.prepare_t(d_weight, defining.shape)
        d_from_x = d_preact.transpose(1, 2).reshape(steps, batch, -1)
        return d_from_x, d_defining, from_lanes(dh), from_lanes(dc).to(grad_c.dtype), None, None, None, None
