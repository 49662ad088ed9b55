"""Trainable block-circulant LSTM whose forward pass is, on demand, the accelerator's integer arithmetic.

Integers are carried in floating point as real multiples of an LSB.  That is exact while every sum fits the
mantissa (2^24 LSBs in float32, 2^53 in float64); the layer derives the type from the configuration.
"""

import torch
from torch import nn

from model import circulant
from model.config import GATES, Config
from model.reference.matvec import FLOAT32_EXACT
from model.training.quantizers import fake_quantize, fake_quantize_to, lookup_tensor, slope_tensor

_G = GATES.index("G")


class BlockCirculant(nn.Module):
    """A matrix of k × k circulant blocks, stored as defining vectors.

    Parameters
    ----------
    rows, cols : int
        Size of the matrix; padded with zeros to multiples of k inside.
    block_size : int
        k; 1 is a dense matrix.

    Members
    -------
    defining : (⌈rows/k⌉, ⌈cols/k⌉, k)
        First columns of the blocks.
    """

    def __init__(self, rows: int, cols: int, block_size: int):
        super().__init__()
        self.rows, self.cols, self.block_size = rows, cols, block_size
        blocks = circulant.num_blocks(rows, block_size), circulant.num_blocks(cols, block_size)
        self.defining = nn.Parameter(torch.empty(*blocks, block_size).uniform_(-1, 1) * cols**-0.5)
        indices = torch.from_numpy(circulant.circulant_indices(block_size)).reshape(-1)
        # Expansion as a product with a 0/1 matrix: exact, and much faster than indexing, above all backward.
        self.register_buffer("_spread", nn.functional.one_hot(indices, block_size).T.float(), persistent=False)

    @torch.no_grad()
    def set_dense(self, matrix: torch.Tensor) -> None:
        """Take the least-squares projection of a dense (rows, cols) matrix."""
        k, (p, q) = self.block_size, self.defining.shape[:2]
        padded = torch.zeros(p * k, q * k, dtype=torch.float64)
        padded[: self.rows, : self.cols] = matrix
        self.defining.copy_(torch.from_numpy(circulant.project(padded.numpy(), k)))

    def dense(self, defining: torch.Tensor | None = None) -> torch.Tensor:
        """Expanded (rows, cols) matrix of ``defining`` (the parameter, when left out)."""
        defining = self.defining if defining is None else defining
        (p, q), k = defining.shape[:2], self.block_size
        blocks = (defining.reshape(p * q, k) @ self._spread.to(defining.dtype)).reshape(p, q, k, k)
        return blocks.transpose(1, 2).reshape(p * k, q * k)[: self.rows, : self.cols]


def carrier_dtype(config: Config) -> torch.dtype:
    """Narrowest type that carries every sum of the accumulator exactly, as real multiples of its LSB."""
    # Half an LSB of preact is added before the rounding.
    bound = config.product_sum_bound + (1 << (config.quantization.bias_bits - 1)) + (1 << max(config.preact_shifts))
    return torch.float32 if bound <= FLOAT32_EXACT else torch.float64


class _FloatStep:
    """One step with true σ and tanh, nothing rounded."""

    def __init__(self, steps: int, batch: int, size: int, dtype: torch.dtype):
        self.size = size
        self.cell_dtype = dtype
        self._g = slice(_G * size, (_G + 1) * size)

    def gates(self, t: int, from_x, h, w_t, out) -> None:
        torch.addmm(from_x, h, w_t, out=out)
        g = torch.tanh(out[:, self._g])
        out.sigmoid_()[:, self._g] = g

    def cell(self, t: int, i, f, g, c, out, tanh_out) -> None:
        torch.addcmul(i * g, f, c, out=out)
        torch.tanh(out, out=tanh_out)

    def hidden(self, o, tanh_c, out) -> None:
        torch.mul(o, tanh_c, out=out)

    def gate_slopes(self, t: int, gates):
        slope = torch.addcmul(gates, gates, gates, value=-1)
        slope[:, self._g] = 1 - gates[:, self._g] ** 2
        return slope

    def tanh_slope(self, t: int, tanh_c):
        return 1 - tanh_c * tanh_c

    def cell_pass(self, t: int):
        return None


class _QuantizedStep:
    """One step in integers, equal to ``model.reference.layer`` at 0 LSB.

    Forward values come from the integer tables; backward slopes are the true functions' at the same codes, and 0 at
    the extreme codes, which are those of a saturated value.  Both are looked up at indices that the forward pass
    keeps.
    """

    # f·c + i·g has more bits than the accumulator.
    cell_dtype = torch.float64

    def __init__(self, config: Config, steps: int, batch: int, size: int, dtype: torch.dtype):
        self.points = points = config.quantization
        sigmoid, tanh = config.gate_table(GATES.index("O")), config.gate_table(_G)
        self._table = torch.cat([lookup_tensor(sigmoid), lookup_tensor(tanh)])
        self._slopes = torch.cat([slope_tensor(sigmoid), slope_tensor(tanh)]).to(dtype)
        self._cell_table = lookup_tensor(config.cell_table)
        self._cell_slopes = slope_tensor(config.cell_table).to(dtype)
        self._cell_passes = torch.ones(len(self._cell_table), dtype=dtype)
        self._cell_passes[[0, -1]] = 0
        # The code and this sum to the index into the joint tables of σ and tanh.
        offset = torch.full((len(GATES), size), float(-points.preact.min), dtype=dtype)
        offset[_G] += 1 << points.preact.width
        self._offset = offset.reshape(-1)
        self._half = torch.tensor(0.5, dtype=torch.float64)
        self._gate_index = torch.empty(steps, batch * len(GATES) * size, dtype=torch.int32)
        self._cell_index = torch.empty(steps, batch * size, dtype=torch.int32)

    def gates(self, t: int, from_x, h, w_t, out) -> None:
        fmt = self.points.preact
        scale = 2.0**fmt.fraction_bits
        codes = torch.addmm(from_x, h, w_t, beta=scale, alpha=scale)
        codes.add_(0.5).floor_().clamp_(fmt.min, fmt.max).add_(self._offset)
        self._gate_index[t] = codes.view(-1)
        torch.index_select(self._table, 0, self._gate_index[t], out=out.view(-1))

    def cell(self, t: int, i, f, g, c, out, tanh_out) -> None:
        fmt = self.points.cell
        scale = 2.0**fmt.fraction_bits
        codes = torch.addcmul(self._half, f, c, value=scale).addcmul_(i, g, value=scale)
        codes.floor_().clamp_(fmt.min, fmt.max)
        torch.mul(codes, fmt.lsb, out=out)
        self._cell_index[t] = codes.sub_(fmt.min).view(-1)
        torch.index_select(self._cell_table, 0, self._cell_index[t], out=tanh_out.view(-1))

    def hidden(self, o, tanh_c, out) -> None:
        fmt = self.points.h
        codes = torch.addcmul(self._half, o, tanh_c, value=2.0**fmt.fraction_bits)
        out.copy_(codes.floor_().clamp_(fmt.min, fmt.max).mul_(fmt.lsb))

    def gate_slopes(self, t: int, gates):
        return self._slopes.index_select(0, self._gate_index[t]).view(gates.shape)

    def tanh_slope(self, t: int, tanh_c):
        return self._cell_slopes.index_select(0, self._cell_index[t]).view(tanh_c.shape)

    def cell_pass(self, t: int):
        return self._cell_passes.index_select(0, self._cell_index[t])


class _Recurrence(torch.autograd.Function):
    """h and c over all steps, with hand-written back-propagation through time.

    One node instead of dozens per step: Python's overhead per step would otherwise exceed the arithmetic.
    """

    @staticmethod
    def forward(ctx, from_x, w_h, h, c, config):
        (steps, batch, _), size, dtype = from_x.shape, h.shape[1], from_x.dtype
        kind = (steps, batch, size, dtype)
        step = _FloatStep(*kind) if config is None else _QuantizedStep(config, *kind)
        hiddens = torch.empty(steps + 1, batch, size, dtype=dtype)
        cells = torch.empty(steps + 1, batch, size, dtype=step.cell_dtype)
        gates = torch.empty(steps, batch, len(GATES) * size, dtype=step.cell_dtype)
        tanh_c = torch.empty(steps, batch, size, dtype=step.cell_dtype)
        hiddens[0], cells[0] = h, c
        w_t = w_h.T
        for t in range(steps):
            step.gates(t, from_x[t], hiddens[t], w_t, gates[t])
            i, f, g, o = gates[t].chunk(len(GATES), dim=1)
            step.cell(t, i, f, g, cells[t], cells[t + 1], tanh_c[t])
            step.hidden(o, tanh_c[t], hiddens[t + 1])
        ctx.step = step
        ctx.save_for_backward(w_h, gates, tanh_c, cells, hiddens)
        return hiddens[1:], cells[-1].clone()

    @staticmethod
    def backward(ctx, grad_h, grad_c):
        w_h, gates, tanh_c, cells, hiddens = ctx.saved_tensors
        steps, batch, size = grad_h.shape
        dtype = grad_h.dtype
        d_preact = torch.empty(steps, batch, len(GATES) * size, dtype=dtype)
        dh = torch.zeros(batch, size, dtype=dtype)
        # Gradients need no exactness: all in the type of the weights' gradient.
        dc = grad_c.to(dtype)
        for t in range(steps - 1, -1, -1):
            gate_slopes = ctx.step.gate_slopes(t, gates[t])
            gate, tanh_now = gates[t].to(dtype), tanh_c[t].to(dtype)
            i, f, g, o = gate.chunk(len(GATES), dim=1)
            d_i, d_f, d_g, d_o = d_preact[t].chunk(len(GATES), dim=1)
            dh = dh + grad_h[t]
            dc = torch.addcmul(dc, dh, o * ctx.step.tanh_slope(t, tanh_now))
            passes = ctx.step.cell_pass(t)
            if passes is not None:
                dc = dc * passes.view(dc.shape)
            torch.mul(dc, g, out=d_i)
            torch.mul(dc, cells[t].to(dtype), out=d_f)
            torch.mul(dc, i, out=d_g)
            torch.mul(dh, tanh_now, out=d_o)
            d_preact[t].mul_(gate_slopes)
            dc = dc * f
            dh = d_preact[t] @ w_h
        d_w_h = d_preact.view(steps * batch, -1).T @ hiddens[:-1].reshape(steps * batch, size)
        return d_preact, d_w_h, dh, dc.to(grad_c.dtype), None


class QuantLstm(nn.Module):
    """Block-circulant LSTM layer, float or quantized.

    ``quantized = False``: the float network with true σ and tanh; with k = 1 it equals ``torch.nn.LSTM``.
    ``quantized = True``: the forward pass equals ``LstmReference`` at 0 LSB at every named quantization point;
    the backward pass is straight-through, with the derivatives of the true σ and tanh.

    Parameters
    ----------
    config : Config
        Sizes, block size and formats.  May be replaced (its sizes unchanged) before quantization is switched on.

    Members
    -------
    weight_x, weight_h : list of 4 BlockCirculant
        W_x (H, X) and W_h (H, H) of gates I, F, G, O.
    bias : (4, H)
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.quantized = False
        size_x, size_h, k = config.network.input_size, config.network.hidden_size, config.block_size
        self.weight_x = nn.ModuleList(BlockCirculant(size_h, size_x, k) for _ in GATES)
        self.weight_h = nn.ModuleList(BlockCirculant(size_h, size_h, k) for _ in GATES)
        self.bias = nn.Parameter(torch.zeros(len(GATES), size_h))
        # An open forget gate at the start lets gradients reach back (Jozefowicz et al. 2015).
        self.bias.data[GATES.index("F")] = 1.0

    @torch.no_grad()
    def set_dense(self, weight_ih: torch.Tensor, weight_hh: torch.Tensor, bias: torch.Tensor) -> None:
        """Project dense weights in the layout of ``torch.nn.LSTM``: (4H, X), (4H, H), (4H,)."""
        for part, matrix in ((self.weight_x, weight_ih), (self.weight_h, weight_hh)):
            for block_circulant, gate in zip(part, matrix.chunk(len(GATES)), strict=True):
                block_circulant.set_dense(gate)
        self.bias.copy_(bias.reshape(self.bias.shape))

    def _matrix(self, part: nn.ModuleList, fracs: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """(4H, cols) expanded matrix, fake-quantized when the layer is."""
        rows = []
        for block_circulant, frac in zip(part, fracs, strict=True):
            defining = block_circulant.defining
            if self.quantized:
                defining = fake_quantize(defining, frac, self.config.weight_min, self.config.weight_max)
            rows.append(block_circulant.dense(defining))
        return torch.cat(rows).to(dtype)

    def _dtype(self) -> torch.dtype:
        return carrier_dtype(self.config) if self.quantized else self.bias.dtype

    def project_input(self, x: torch.Tensor) -> torch.Tensor:
        """(..., X) → (..., 4H): W_x·x + bias, which no step has to wait for."""
        dtype = self._dtype()
        bias = self.bias
        if self.quantized:
            x = fake_quantize_to(x, self.config.quantization.x)
            fracs = torch.tensor(self.config.accumulator_fracs)[:, None]
            bias = fake_quantize(bias, fracs, *self.config.bias_format_min_max)
        matrix = self._matrix(self.weight_x, self.config.input_weight_fracs, dtype)
        return x.to(dtype) @ matrix.T + bias.reshape(-1).to(dtype)

    def recur(self, from_x: torch.Tensor, state=None) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """The steps, on what :meth:`project_input` returned.

        Parameters
        ----------
        from_x : (T, B, 4H)
        state : (h, c), each (B, H); zero when left out

        Returns
        -------
        h : (T, B, H), and the final (h, c)
        """
        dtype = self._dtype()
        shape = (from_x.shape[1], self.config.network.hidden_size)
        cell_dtype = _QuantizedStep.cell_dtype if self.quantized else dtype
        h, c = (torch.zeros(shape), torch.zeros(shape)) if state is None else state
        if self.quantized:
            h = fake_quantize_to(h, self.config.quantization.h)
            c = fake_quantize_to(c, self.config.quantization.cell)
        matrix = self._matrix(self.weight_h, self.config.quantization.weight_frac, dtype)
        config = self.config if self.quantized else None
        out, c = _Recurrence.apply(from_x, matrix, h.to(dtype), c.to(cell_dtype), config)
        return out, (out[-1], c)

    def forward(self, x: torch.Tensor, state=None) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Whole sequences (T, B, X) → h (T, B, H), and the final (h, c)."""
        return self.recur(self.project_input(x), state)
