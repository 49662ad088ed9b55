"""Trainable block-circulant layers; once quantized, their forward pass computes the accelerator's integers.

Integers are carried in floating point as real multiples of an LSB.  That is exact as long as every sum fits into the
mantissa (2^24 LSBs in float32, 2^53 in float64); the layer derives the type from its weights and formats.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar, cast

import torch
from torch import nn

from chessrnn.model import bilinear, circulant
from chessrnn.model.cells import LSTM_GATES
from chessrnn.model.config import Config
from chessrnn.model.conversion.formats import weight_candidates
from chessrnn.model.conversion.row_scales import choose_scales
from chessrnn.model.errors import require
from chessrnn.model.reference.matvec import FLOAT32_EXACT
from chessrnn.model.training.lstm_recurrence import LstmRecurrence
from chessrnn.model.training.products import ALGORITHMS, Expanded, from_lanes, product, to_lanes
from chessrnn.model.training.quantizers import fake_quantize_to, level_distance, normalized_quantize, scaled_quantize

# Candidates for the scale of a block row, from the greatest weight downwards.
SCALE_CANDIDATES, SCALES_PER_OCTAVE = 24, 6
# Bits of a weight → step of the uniform quantizer that rounds a normal distribution of deviation 1 with the least
# squared error (Max 1960, "Quantizing for minimum distortion").
NORMAL_STEPS = {2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}
STAGES = ("float", "approximate", "quantized")
SomeModule = TypeVar("SomeModule", bound=nn.Module)


def module_list(modules: Iterable[SomeModule]) -> Sequence[SomeModule]:
    """Create a ``ModuleList``, typed as what it holds; PyTorch declares it as a list of any modules."""
    return cast(Sequence[SomeModule], nn.ModuleList(modules))


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

    @torch.no_grad()
    def set_dense(self, matrix: torch.Tensor) -> None:
        """Set the blocks to the least-squares projection of a dense (rows, cols) matrix."""
        k, (p, q) = self.block_size, self.defining.shape[:2]
        padded = torch.zeros(p * k, q * k, dtype=torch.float64)
        padded[: self.rows, : self.cols] = matrix
        self.defining.copy_(torch.from_numpy(circulant.project(padded.numpy(), k)))

    @torch.no_grad()
    def pull_to_circulant(self, block_size: int, share: float) -> None:
        """Move a dense matrix by ``share`` of its distance towards its projection to blocks of another size."""
        projected = BlockCirculant(self.rows, self.cols, block_size)
        projected.set_dense(self.defining[..., 0])
        self.defining.lerp_(projected.dense()[..., None], share)

    def dense(self) -> torch.Tensor:
        """Expand the blocks to the dense (rows, cols) matrix."""
        return Expanded(self.rows, self.cols, self.block_size).prepare(self.defining[None])[0].T.contiguous()

    def forward(self, vectors: torch.Tensor, algorithm: str | None = None) -> torch.Tensor:
        """Multiply vectors (N, cols) → (N, rows).

        Parameters
        ----------
        vectors : tensor (N, cols)
        algorithm : str, optional
            One of ``products.ALGORITHMS``; :func:`choose_algorithms` decides when it is left out.
        """
        if algorithm is None:
            chosen, for_gradients = choose_algorithms(self.rows, self.cols, self.block_size)
        else:
            chosen = for_gradients = make_algorithm(algorithm, self.rows, self.cols, self.block_size)
        return from_lanes(product(to_lanes(vectors, chosen.lanes), self.defining[None], chosen, for_gradients))


def make_algorithm(name: str, rows: int, cols: int, block_size: int):
    """Create the product algorithm called ``name`` for matrices of one size."""
    if name != "expanded":
        whole = rows % block_size == 0 and cols % block_size == 0 and block_size > 1
        require(whole, "algorithm", f"expanded for a {rows} x {cols} matrix of block size {block_size}", name)
    return ALGORITHMS[name](rows, cols, block_size)


def choose_algorithms(rows: int, cols: int, block_size: int, forward: str = "fast"):
    """Choose the product algorithms for the result (``forward``, where the sizes allow it) and for the gradients.

    ``chessrnn train-speed`` measured ``fast`` to be the quickest in every case.
    """
    if block_size == 1 or rows % block_size or cols % block_size:
        return (make_algorithm("expanded", rows, cols, block_size),) * 2
    return make_algorithm(forward, rows, cols, block_size), make_algorithm("fast", rows, cols, block_size)


@torch.no_grad()
def exact_arithmetic(
    config: Config, parts: tuple[torch.Tensor, torch.Tensor], largest_bias: float | None = None
) -> tuple[str, torch.dtype]:
    """Find the cheapest product algorithm and type that carry the integer sums of these weights exactly.

    The direct algorithms form the same sums as the accumulator.  The linear forms of ``fast`` and their combination, in
    units of 1/k, become larger; their own coefficients bound them, separately for W_x and W_h.

    Parameters
    ----------
    parts : (4, P, Q, k) each
        Fake-quantized defining vectors of W_x and W_h.
    largest_bias : float, optional
        Magnitude of the largest bias in LSBs of the sums; its format bounds it where this is left out.
    """
    points, scale_frac = config.quantization, config.scale_frac
    bias = config.scale_min_max[1] << (points.bias_bits - 1) if largest_bias is None else largest_bias
    direct, fast = float(bias + (1 << (max(config.preact_shifts) + scale_frac))), 0.0
    fracs = config.input_weight_fracs, config.weight_fracs
    for part, frac, fmt, shift in zip(parts, fracs, (points.x, points.h), config.sum_shifts, strict=True):
        k = part.shape[3]
        codes = part * torch.exp2(torch.tensor(frac, dtype=part.dtype) + scale_frac)[:, None, None, None]
        direct += float(codes.abs().sum(dim=(2, 3)).max()) * (-fmt.min << shift)
        if k > 1:
            forms = torch.tensor(bilinear.forward_matrix(k), dtype=part.dtype)
            inverse = torch.tensor(bilinear.inverse_matrix(k), dtype=part.dtype).abs()
            products = (codes.flatten(0, 2) @ forms.T).abs_().view(-1, part.shape[2], len(forms)).sum(dim=1)
            products *= forms.abs().sum(dim=1) * -fmt.min
            fast = max(fast, float((products @ inverse.T).max()))
    # The bounds themselves are sums in floating point, so a little room is left for their rounding.
    limit = 0.999 * FLOAT32_EXACT
    if max(direct, fast) <= limit:
        return "fast", torch.float32
    if direct <= limit:
        return "fast64", torch.float32
    return "fast", torch.float64


class ForwardPlan(NamedTuple):
    """Everything that one forward pass needs to know about the weights and the arithmetic.

    Attributes
    ----------
    defining : (4, P, Q, k) each
        Defining vectors of W_x and of W_h, fake-quantized when the layer is.
    algorithms : (forward, backward) each, or None
        Product algorithms of W_x and of W_h; ``None`` for a layer that expands its matrices.
    dtype : torch.dtype
        Type in which the sums are exact.
    """

    defining: tuple[torch.Tensor, torch.Tensor]
    algorithms: tuple[tuple, tuple] | None
    dtype: torch.dtype


def quantized_weights(
    config: Config, reals: torch.Tensor, scale: torch.Tensor, log2_scale: torch.Tensor | None = None
) -> torch.Tensor:
    """Round weights to the levels that the configuration has: see :func:`.quantizers.scaled_quantize`."""
    return scaled_quantize(reals, scale, config.weight_min, config.weight_max, log2_scale, config.has_half_levels)


class QuantLayer(nn.Module):
    """Block-circulant recurrent layer, float or quantized, with the parameters of any cell.

    Stage ``"float"`` is the float network with true σ and tanh; with k = 1 it equals that of ``torch.nn``.
    Stage ``"approximate"`` quantizes at every quantization point except the weights and the biases.
    Stage ``"quantized"`` equals ``LayerReference`` at 0 LSB at every named quantization point of the forward pass.
    The backward pass of the last two is straight-through, with the derivatives of the true σ and tanh.

    Parameters
    ----------
    config : Config
        Sizes, block size and formats.  It may be replaced by one of the same sizes before quantization is switched on.
    block_sizes : (int, int), optional
        k of W_x and of W_h where they differ from the configuration's.

    Members
    -------
    weight_x, weight_h : list of G BlockCirculant
        W_x (H, X) and W_h (H, H) of the cell's gates; a matrix that its gate does not read is zero and not trained.
    bias : (G, H)
    peephole : (3, H) or None
        Weights from the cell state to the gates that read it.
    projection : BlockCirculant or None
        W_hr (P, H), which follows the cell.
    cell_limit : float or None
        Magnitude at which the cell state of a float LSTM saturates; ``None`` sets no limit.
    log2_scale : (G,), (G, P) with scales of block rows, or None
        Logarithms of the scales of W_h, once :meth:`learn_scales` was called.  Rounded, they are the negative of the
        configuration's ``weight_frac``; scales of block rows become the nearest ones that the accelerator has.
    keeps_exponents : bool
        Whether learned scales of block rows leave the configuration's ``weight_frac`` as it is.

    Notes
    -----
    While scales of block rows are trained, the weights of a block row are normalised: they are rounded relative to
    their own root mean square, and the scale alone gives the row its length (Hou et al. 2019).  :meth:`settle` brings
    the weights back to that length.
    """

    def __init__(self, config: Config, block_sizes: tuple[int, int] | None = None):
        super().__init__()
        self.config = config
        self.log2_scale: nn.Parameter | None = None
        self.keeps_exponents = False
        self.stage = "float"
        self.cell_limit: float | None = None
        self.block_sizes = block_sizes or (config.block_size, config.block_size)
        size_x, size_h = config.network.input_size, config.network.units
        self.weight_x = module_list(BlockCirculant(size_h, size_x, self.block_sizes[0]) for _ in config.gates)
        size_out = config.output_size
        self.weight_h = module_list(BlockCirculant(size_h, size_out, self.block_sizes[1]) for _ in config.gates)
        for gate, w_x, w_h in zip(config.cell.gates, self.weight_x, self.weight_h, strict=True):
            for matrix, is_read in ((w_x, gate.reads_x), (w_h, gate.reads_h)):
                if not is_read:
                    nn.init.zeros_(matrix.defining).requires_grad_(False)
        self.bias = nn.Parameter(torch.empty(config.num_gates, size_h))
        self.peephole: nn.Parameter | None = None
        self.projection: BlockCirculant | None = None
        if config.cell.peepholes:
            self.peephole = nn.Parameter(torch.zeros(len(config.cell.peepholes), size_h))
        if config.network.projection_size:
            self.projection = BlockCirculant(size_out, size_h, self.block_sizes[1])
        self._draw_parameters()

    @torch.no_grad()
    def _draw_parameters(self) -> None:
        """Draw weights and biases as ``torch.nn`` does: uniform within ±1/√H, the bias as the sum of its two."""
        bound = self.config.network.units**-0.5
        for matrix in (*self.weight_x, *self.weight_h):
            if matrix.defining.requires_grad:
                matrix.defining.uniform_(-bound, bound)
        self.bias.uniform_(-bound, bound).add_(torch.empty_like(self.bias).uniform_(-bound, bound))

    @property
    def layers(self) -> Sequence["QuantLayer"]:
        """This layer as the only layer of a network, like :attr:`.trainable_cells.QuantStack.layers`."""
        return [self]

    @property
    def quantized(self) -> bool:
        """Whether the forward pass computes integers."""
        return self.stage == "quantized"

    @quantized.setter
    def quantized(self, value: bool) -> None:
        self.stage = "quantized" if value else "float"

    @torch.no_grad()
    def set_dense(self, weight_ih: torch.Tensor, weight_hh: torch.Tensor, bias: torch.Tensor) -> None:
        """Project dense weights, stacked gate by gate as in ``torch.nn.LSTM``: (G·H, X), (G·H, P or H), (G·H,)."""
        for part, matrix in ((self.weight_x, weight_ih), (self.weight_h, weight_hh)):
            for block_circulant, gate in zip(part, matrix.chunk(self.config.num_gates), strict=True):
                block_circulant.set_dense(gate)
        self.bias.copy_(bias.reshape(self.bias.shape))

    @torch.no_grad()
    def dense(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the expanded weights in the layout of :meth:`set_dense`."""
        return (
            torch.cat([matrix.dense() for matrix in self.weight_x]),
            torch.cat([matrix.dense() for matrix in self.weight_h]),
            self.bias.reshape(-1).clone(),
        )

    @torch.no_grad()
    def project(self, other: "QuantLayer") -> None:
        """Copy the parameters of a layer with other block sizes, projected to the blocks of this one."""
        other.settle()
        self.set_dense(*other.dense())
        if self.peephole is not None:
            assert other.peephole is not None
            self.peephole.copy_(other.peephole)
        if self.projection is not None:
            assert other.projection is not None
            self.projection.set_dense(other.projection.dense())

    def pull_to_circulant(self, block_sizes: tuple[int, int], share: float) -> None:
        """Move dense W_x and W_h towards blocks of these sizes: see :meth:`BlockCirculant.pull_to_circulant`."""
        require(self.block_sizes == (1, 1), "block sizes", "(1, 1) for weights that are pulled", self.block_sizes)
        for part, block_size in zip((self.weight_x, self.weight_h), block_sizes, strict=True):
            for matrix in part:
                matrix.pull_to_circulant(block_size, share)

    @torch.no_grad()
    def learn_scales(self, keeps_exponents: bool = False, trains: bool = True) -> None:
        """Make the scales of the weights a parameter, which begins with those that fit the present weights.

        Every forward pass rounds them to scales of the accelerator: see :meth:`adopt_scales`.

        Parameters
        ----------
        keeps_exponents : bool
            Whether scales of block rows fit the exponents of the configuration, which then stay as they are.
        trains : bool
            Whether a new parameter requires a gradient; one that exists stays as it is in this respect.
        """
        self.keeps_exponents = keeps_exponents
        if self.log2_scale is None:
            shape = (self.config.num_gates, self.config.num_hidden_blocks)[: 1 + self.config.has_row_scales]
            self.log2_scale = nn.Parameter(torch.zeros(shape, dtype=self.bias.dtype), requires_grad=trains)
        if self.config.has_row_scales:
            sizes = self.block_sizes
            rule = "gate with block sizes of W_x and W_h apart"
            require(sizes[0] == sizes[1], "quantization.weight_scale", rule, self.config.quantization.weight_scale)
            if keeps_exponents:
                first = self._log2_scales_of_exponents()
            elif self._normalizes:
                first = self._normal_steps(self.config.weight_fracs).log2()
            else:
                first = self._fitted_log2_scales()
        else:
            first = -torch.tensor(self.config.weight_fracs, dtype=self.bias.dtype)
        self.log2_scale.copy_(first)

    def _log2_scales_of_exponents(self) -> torch.Tensor:
        """Choose the scales of block rows (G, P) as conversion does, for the exponents of the configuration."""
        config = self.config
        stacks = [torch.stack([matrix.defining for matrix in part]).double() for part in (self.weight_x, self.weight_h)]
        w_x, w_h = (stacked.numpy() for stacked in stacks)
        scales = torch.from_numpy(choose_scales(w_x, w_h, config, config.weight_fracs)[0]).double()
        exponents = torch.tensor(config.weight_fracs)[:, None] + config.scale_frac
        return (scales.log2() - exponents).to(self.bias.dtype)

    def _fitted_log2_scales(self) -> torch.Tensor:
        """Choose for every block row of W_x and W_h (G, P) the scale with the least squared error of the weights."""
        config = self.config
        stacks = [torch.stack([matrix.defining for matrix in part]).double() for part in (self.weight_x, self.weight_h)]
        # How much finer the scale of W_x is than that of W_h.
        finer = [2.0 ** (x - h) for x, h in zip(config.input_weight_fracs, config.weight_fracs, strict=True)]
        ratio = torch.tensor(finer, dtype=torch.float64)[:, None, None, None]
        largest = torch.maximum((stacks[0] * ratio).abs().amax(dim=(2, 3)), stacks[1].abs().amax(dim=(2, 3)))
        largest = largest.clamp_min(2.0**-20) / config.weight_max
        best, least = largest, torch.full_like(largest, torch.inf)
        for number in range(SCALE_CANDIDATES):
            scale = largest * 2.0 ** (-number / SCALES_PER_OCTAVE)
            error = torch.zeros_like(scale)
            for values, finer_scale in zip(
                stacks, (scale[:, :, None, None] / ratio, scale[:, :, None, None]), strict=True
            ):
                rounded = quantized_weights(config, values, finer_scale)
                error += (rounded - values).square().sum(dim=(2, 3))
            best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
        return best.log2().to(self.bias.dtype)

    @property
    def _normalizes(self) -> bool:
        """Whether the weights of the quantized stage are normalised."""
        learns = self.log2_scale is not None and self.log2_scale.requires_grad
        return learns and self.config.has_row_scales and not self.keeps_exponents

    @property
    def is_normalized(self) -> bool:
        """Whether the weights are normalised now: see the notes of the class."""
        return self.quantized and self._normalizes

    def steps(self, fracs: Sequence[int]) -> torch.Tensor:
        """Compute the distances (G, 1) or (G, P) of weights that are rounded to integers with these fraction bits.

        They are the scales of these integers, but for normalised weights, where they follow the weights.
        """
        return self._normal_steps(fracs) if self.is_normalized else self.scales(fracs)

    def _normal_steps(self, fracs: Sequence[int]) -> torch.Tensor:
        """Compute the steps (G, P) that round weights of a normal distribution best, by the size of each block row."""
        config = self.config
        squares, count = torch.zeros((), dtype=torch.float64), 0
        for part, of_part in ((self.weight_x, config.input_weight_fracs), (self.weight_h, config.weight_fracs)):
            # In units of the scale of these fraction bits, like those of the other part.
            exponents = [own - frac for frac, own in zip(fracs, of_part, strict=True)]
            ratio = torch.exp2(torch.tensor(exponents, dtype=torch.float64))[:, None]
            stacked = torch.stack([matrix.defining for matrix in part])
            squares = squares + stacked.double().square().sum(dim=(2, 3)) * ratio.square()
            is_read = torch.tensor([matrix.defining.requires_grad for matrix in part])[:, None]
            count = count + is_read * stacked[0, 0].numel()
        # Half levels are two apart.
        step = NORMAL_STEPS[config.weight_bits] / level_distance(config.has_half_levels)
        return step * (squares / count).clamp_min(2.0**-60).sqrt()

    @torch.no_grad()
    def settle(self) -> None:
        """Bring normalised weights to the length that their scales give them; what they are rounded to stays."""
        if not self.is_normalized:
            return
        # All before the first changes: the steps follow both matrices.
        factors = self.scales(self.config.weight_fracs) / self.steps(self.config.weight_fracs)
        for part in (self.weight_x, self.weight_h):
            for matrix, factor in zip(part, factors, strict=True):
                matrix.defining.mul_(factor.to(matrix.defining.dtype)[:, None, None])

    @torch.no_grad()
    def adopt_scales(self) -> None:
        """Round the scales to those that the accelerator has, and store their exponents in the configuration."""
        if self.log2_scale is None or not self.quantized:
            return
        config, allowed = self.config, weight_candidates(self.config)
        if config.has_row_scales and self.keeps_exponents:
            return
        if config.has_row_scales:
            # The greatest multiplier of a gate is as large as it may be.
            room = math.log2(config.scale_min_max[1]) - config.scale_frac
            exact = room - self.log2_scale.amax(dim=1).double()
            fracs = torch.floor(exact + 1e-9).clamp(min(allowed), max(allowed)).int().tolist()
        else:
            self.log2_scale.clamp_(-max(allowed), -min(allowed))
            fracs = (-torch.floor(self.log2_scale + 0.5)).int().tolist()
        if fracs != list(config.weight_fracs):
            self.config = config.replace({"quantization.weight_frac": fracs})

    @torch.no_grad()
    def row_scales(self) -> torch.Tensor | None:
        """Compute the multipliers of the block rows (G, P), integers in float64; ``None`` for a layer without them."""
        config = self.config
        if not config.has_row_scales:
            return None
        if self.log2_scale is None:
            shape = config.num_gates, config.num_hidden_blocks
            return torch.full(shape, float(1 << config.scale_frac), dtype=torch.float64)
        fracs = torch.tensor(config.weight_fracs)[:, None]
        exact = torch.exp2(self.log2_scale.double() + fracs + config.scale_frac)
        return torch.floor(exact + 0.5).clamp_(*config.scale_min_max)

    def scales(self, fracs: Sequence[int]) -> torch.Tensor:
        """Compute the real scales (G, 1), or (G, P) with scales of block rows, of integers with these fraction bits."""
        exponents = torch.exp2(-torch.tensor(fracs, dtype=torch.float64))[:, None]
        multipliers = self.row_scales()
        return exponents if multipliers is None else exponents * multipliers * 2.0**-self.config.scale_frac

    def bias_scales(self) -> torch.Tensor:
        """Compute the real scales (G, 1), or (G, H) with scales of block rows, of the integers of the biases."""
        scales = self.scales(self.config.accumulator_fracs)
        if scales.shape[1] == 1:
            return scales
        return scales.repeat_interleave(self.config.block_size, dim=1)[:, : self.config.network.units]

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """Bring the weights back into the range of their formats: beyond it they would receive no gradient."""
        config, points = self.config, self.config.quantization
        # Weights just beyond the range tell a scale that is trained to grow; within it none would.
        learns = self.log2_scale is not None and self.log2_scale.requires_grad
        beyond = level_distance(config.has_half_levels) if learns else 0
        parts = (self.weight_x, config.input_weight_fracs), (self.weight_h, config.weight_fracs)
        for matrices, fracs in () if self.is_normalized else parts:
            for matrix, scale in zip(matrices, self.scales(fracs), strict=True):
                scale = scale.to(matrix.defining.dtype)[:, None, None]
                matrix.defining.clamp_((config.weight_min - beyond) * scale, (config.weight_max + beyond) * scale)
        if self.projection is not None:
            lsb = 2.0**-config.projection_frac
            self.projection.defining.clamp_(config.weight_min * lsb, config.weight_max * lsb)
        if self.peephole is not None:
            self.peephole.clamp_(points.peephole.min * points.peephole.lsb, points.peephole.max * points.peephole.lsb)

    def defining(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Stack the defining vectors (G, P, Q, k) of W_x and of W_h, fake-quantized when the layer is."""
        config, parts = self.config, []
        for part, fracs in (
            (self.weight_x, config.input_weight_fracs),
            (self.weight_h, config.weight_fracs),
        ):
            stacked = torch.stack([matrix.defining for matrix in part])
            if self.quantized:
                log2_scale = self.log2_scale
                if log2_scale is not None:
                    log2_scale = log2_scale.view(len(stacked), -1, 1, 1)
                scales = self.scales(fracs)[:, :, None, None]
                if self.is_normalized:
                    assert log2_scale is not None
                    steps = self.steps(fracs)[:, :, None, None]
                    limits = config.weight_min, config.weight_max
                    stacked = normalized_quantize(stacked, steps, scales, *limits, log2_scale, config.has_half_levels)
                else:
                    stacked = quantized_weights(config, stacked, scales, log2_scale)
            elif self.log2_scale is not None and self.log2_scale.requires_grad:
                # Several processes wait for the gradient of every parameter, even where it is zero.
                stacked = stacked + 0 * self.log2_scale.view(len(stacked), -1, 1, 1)
            parts.append(stacked)
        return parts[0], parts[1]

    def input_codes(self, x: torch.Tensor) -> torch.Tensor:
        """Quantize x as the layer multiplies it; a float layer leaves it as it is."""
        return x if self.stage == "float" else fake_quantize_to(x, self.config.quantization.x)

    def bias_codes(self) -> torch.Tensor:
        """Quantize the biases (G, H) as the layer adds them; a layer that is not quantized leaves them as they are."""
        if not self.quantized:
            return self.bias
        # The product of a bias and the scale of its block row may be wider than the mantissa of float32.
        bias = self.bias.double() if self.config.has_row_scales else self.bias
        return scaled_quantize(bias, self.bias_scales(), *self.config.bias_format_min_max)

    def largest_bias(self) -> float | None:
        """Find the magnitude of the largest bias in LSBs of the sums; ``None`` where its format alone bounds it."""
        if not self.config.has_row_scales:
            return None
        lsbs = torch.exp2(torch.tensor(self.config.sum_fracs, dtype=torch.float64))[:, None]
        return float((self.bias_codes().detach().abs() * lsbs).max())

    def plan(self) -> ForwardPlan:
        """Decide how a forward pass with the present weights is computed; every subclass has its own way."""
        raise NotImplementedError

    def project_input(self, x: torch.Tensor, plan: ForwardPlan) -> torch.Tensor:
        """Compute W_x·x + bias for all steps, in the order that :meth:`recur` of the same class takes."""
        raise NotImplementedError

    def recur(
        self, from_x: torch.Tensor, plan: ForwardPlan, state=None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Run the steps on the result of :meth:`project_input`: h of every step, and the final (h, c)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, state=None) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Run whole sequences (T, B, X) → h (T, B, H), and the final (h, c)."""
        plan = self.plan()
        return self.recur(self.project_input(x, plan), plan, state)


class QuantLstm(QuantLayer):
    """LSTM with a hand-written backward pass.

    Members
    -------
    algorithm : str or None
        One of ``products.ALGORITHMS`` for every product; it must be exact for the weights.  ``None``: fastest.
    """

    def __init__(self, config: Config, block_sizes: tuple[int, int] | None = None):
        super().__init__(config, block_sizes)
        self.algorithm: str | None = None

    def plan(self) -> ForwardPlan:
        """Decide weights, algorithms and type of a forward pass with the present weights."""
        defining = self.defining()
        name, dtype = (
            exact_arithmetic(self.config, defining, self.largest_bias())
            if self.quantized
            else ("fast", self.bias.dtype)
        )
        rows = self.config.network.units
        sizes = zip((self.config.network.input_size, rows), self.block_sizes, strict=True)
        if self.algorithm is None:
            of_x, of_h = (choose_algorithms(rows, size, k, name) for size, k in sizes)
        else:
            of_x, of_h = ((make_algorithm(self.algorithm, rows, size, k),) * 2 for size, k in sizes)
        return ForwardPlan(defining, (of_x, of_h), dtype)

    def project_input(self, x: torch.Tensor, plan: ForwardPlan) -> torch.Tensor:
        """Compute W_x·x + bias, (..., X) → (..., 4H), in the lane order of :meth:`recur`; no step waits for it."""
        assert plan.algorithms is not None
        dtype, lanes = plan.dtype, plan.algorithms[1][0].lanes
        algorithm, grad_algorithm = plan.algorithms[0]
        bias, x = self.bias_codes(), self.input_codes(x)
        flat = x.to(dtype).reshape(-1, x.shape[-1])
        result = product(to_lanes(flat, algorithm.lanes), plan.defining[0], algorithm, grad_algorithm)
        result = result.unflatten(2, (len(LSTM_GATES), -1)).permute(1, 0, 2, 3)  # (N, lanes, 4, blocks)
        if algorithm.lanes != lanes:
            result = result.permute(0, 2, 3, 1).reshape(len(flat), len(LSTM_GATES), -1, lanes).permute(0, 3, 1, 2)
        bias = bias.to(dtype).view(len(LSTM_GATES), -1, lanes).permute(2, 0, 1)
        return (result + bias).reshape(*x.shape[:-1], -1)

    def recur(
        self, from_x: torch.Tensor, plan: ForwardPlan, state=None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Run the steps on the result of :meth:`project_input`.

        Parameters
        ----------
        from_x : (T, B, 4H)
        plan : ForwardPlan
        state : (h, c), each (B, H); zero when left out

        Returns
        -------
        h : (T, B, H), and the final (h, c)
        """
        assert plan.algorithms is not None
        dtype, points = plan.dtype, self.config.quantization
        shape = (from_x.shape[1], self.config.network.units)
        h, c = (torch.zeros(shape), torch.zeros(shape)) if state is None else state
        if self.stage != "float":
            h, c = fake_quantize_to(h, points.h), fake_quantize_to(c.double(), points.cell)
        config = None if self.stage == "float" else self.config
        c = c if config else c.to(dtype)
        out, c = LstmRecurrence.apply(
            from_x, plan.defining[1], h.to(dtype), c, config, self.cell_limit, *plan.algorithms[1]
        )
        return out, (out[-1], c)
