"""Fake quantization and approximated activations: integer arithmetic forward, straight-through gradients backward.

Every function takes and returns *real* values that are whole multiples of an LSB, so that a network can mix
quantized and unquantized points.  Rounding is HALF_UP with saturation, as in ``chessrnn.model.fixed_point``.
"""

import math
from functools import lru_cache

import torch

from chessrnn.model.activation_tables import ActivationTable
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.activation import lookup


def quantize(reals: torch.Tensor, fraction_bits: int | torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Quantize real numbers to integer codes in float64: HALF_UP, saturating at ``low`` and ``high``.

    Its NumPy twin is ``chessrnn.model.fixed_point.quantize``.  The two agree because both work in float64: in float32
    adding one half can itself round.

    Parameters
    ----------
    reals : tensor, any shape
    fraction_bits : int, or integer tensor that broadcasts
    low, high : int
        Least and greatest code.
    """
    scale = 2.0**fraction_bits if isinstance(fraction_bits, int) else torch.exp2(fraction_bits.double())
    return torch.floor(reals.double() * scale + 0.5).clamp_(low, high)


def codes_of(reals: torch.Tensor, scale: torch.Tensor, low: int, high: int, is_odd: bool = False) -> torch.Tensor:
    """Quantize real numbers to integers of a scale that may be no power of two: see :func:`quantize`.

    With ``is_odd`` they are the nearest odd integers, between limits that are odd; the twin of both roundings in NumPy
    is ``chessrnn.model.conversion.row_scales.nearest_weights``.
    """
    exact = reals.double() / scale
    rounded = 2 * torch.floor(exact / 2) + 1 if is_odd else torch.floor(exact + 0.5)
    return rounded.clamp_(low, high)


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, reals, fraction_bits, low, high):
        scale = 2.0**fraction_bits if isinstance(fraction_bits, int) else torch.exp2(fraction_bits.double())
        ctx.save_for_backward((reals * scale >= low - 0.5) & (reals * scale < high + 0.5))
        return (quantize(reals, fraction_bits, low, high) / scale).to(reals.dtype)

    @staticmethod
    def backward(ctx, grad):
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None, None


def fake_quantize(reals: torch.Tensor, fraction_bits: int | torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Round to representable numbers (HALF_UP, saturating); the gradient is 1 inside the range, 0 where saturated."""
    return _FakeQuantize.apply(reals, fraction_bits, low, high)


def level_distance(is_odd: bool) -> int:
    """Return the distance of two levels of a weight: odd integers are two apart, others one."""
    return 2 if is_odd else 1


def _moves(grad: torch.Tensor, below: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
    """Tell which weights a gradient moves: outside the range only back towards it, as nothing else would change."""
    return ~(below | above) | (below & (grad < 0)) | (above & (grad > 0))


class _ScaledQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, reals, scale, low, high, log2_scale, is_odd):
        exact, codes = reals.double() / scale, codes_of(reals, scale, low, high, is_odd)
        step = level_distance(is_odd)
        below, above = exact < low - step / 2, exact >= high + step / 2
        ctx.has_scale = log2_scale is not None
        if ctx.has_scale:
            # How the rounded value follows its scale: by the rounding error inside the range, by the limit outside.
            slope = torch.where(below | above, codes, codes - exact) * scale
            ctx.shape, ctx.kind = log2_scale.shape, log2_scale.dtype
            # Without this factor the gradient would grow with the number of weights, and fill the norm of all of them.
            ctx.factor = math.log(2) / math.sqrt(max(1, high / step) * reals.numel() / log2_scale.numel())
            ctx.save_for_backward(below, above, slope.to(reals.dtype))
        else:
            ctx.save_for_backward(below, above)
        return (codes * scale).to(reals.dtype)

    @staticmethod
    def backward(ctx, grad):
        below, above, *slope = ctx.saved_tensors
        of_scale = (grad * slope[0]).sum_to_size(ctx.shape).to(ctx.kind) * ctx.factor if slope else None
        return grad * _moves(grad, below, above), None, None, None, of_scale, None


def scaled_quantize(
    reals: torch.Tensor,
    scale: torch.Tensor,
    low: int,
    high: int,
    log2_scale: torch.Tensor | None = None,
    is_odd: bool = False,
) -> torch.Tensor:
    """Round to whole multiples of a scale, like :func:`fake_quantize`, whose scales are powers of two.

    The gradient is 1 inside the range.  Outside it is 1 where it leads back into the range, and 0 otherwise.

    Parameters
    ----------
    reals : tensor, any shape
    scale : float64 tensor that broadcasts to ``reals``
    low, high : int
        Least and greatest code.
    log2_scale : tensor of the shape of ``scale``, optional
        Logarithm of the scale before it was rounded to one that the accelerator has.  It receives the gradient of a
        learned step size (Esser et al. 2020) or, for powers of two, of a learned threshold (Jain et al. 2020).
    is_odd : bool
        Whether the codes are odd, as weights with half levels are; ``low`` and ``high`` are odd then.
    """
    return _ScaledQuantize.apply(reals, scale, low, high, log2_scale, is_odd)


class _OddOrWhole(torch.autograd.Function):
    @staticmethod
    def forward(ctx, exact, low, high, is_odd):
        step = level_distance(is_odd)
        ctx.save_for_backward(exact < low - step / 2, exact >= high + step / 2)
        return codes_of(exact, torch.ones((), dtype=torch.float64), low, high, is_odd)

    @staticmethod
    def backward(ctx, grad):
        return grad * _moves(grad, *ctx.saved_tensors), None, None, None


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log2_scale, scale):
        ctx.save_for_backward(scale)
        ctx.kind = log2_scale.dtype
        return scale

    @staticmethod
    def backward(ctx, grad):
        (scale,) = ctx.saved_tensors
        return (grad * scale * math.log(2)).to(ctx.kind), None


def normalized_quantize(
    reals: torch.Tensor,
    step: torch.Tensor,
    scale: torch.Tensor,
    low: int,
    high: int,
    log2_scale: torch.Tensor,
    is_odd: bool = False,
) -> torch.Tensor:
    """Round to whole multiples of a step, and return the same multiples of a scale.

    A step that follows the size of the weights, with a scale of its own, is weight normalisation: the weights decide
    the direction of a block row alone, the scale its length.

    Parameters
    ----------
    reals : tensor, any shape
    step : float64 tensor that broadcasts to ``reals``
        It may depend on them; the gradient follows it.
    scale : float64 tensor of the shape of ``step``
        The accelerator's.
    low, high : int
        Least and greatest code.
    log2_scale : tensor of the shape of ``scale``
        Logarithm of the scale before it was rounded, which receives its gradient.
    is_odd : bool
        See :func:`scaled_quantize`.
    """
    codes = _OddOrWhole.apply(reals.double() / step, low, high, is_odd)
    return (codes * _Scale.apply(log2_scale, scale)).to(reals.dtype)


def fake_quantize_to(reals: torch.Tensor, fmt: QFormat) -> torch.Tensor:
    """Round to the real numbers that a format represents: see :func:`fake_quantize`."""
    return fake_quantize(reals, fmt.fraction_bits, fmt.min, fmt.max)


@lru_cache(maxsize=32)
def lookup_tensor(table: ActivationTable) -> torch.Tensor:
    """Tabulate the real results (float64) for every code of ``table.in_format``, at index ``code - in_format.min``."""
    return torch.from_numpy(lookup(table) * table.out_format.lsb)


TRUE_FUNCTIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}


def true_derivative(function: str, x: torch.Tensor) -> torch.Tensor:
    """Compute σ'(x) or tanh'(x), the derivative of the function that is not approximated."""
    y = TRUE_FUNCTIONS[function](x)
    return y * (1 - y) if function == "sigmoid" else 1 - y * y


@lru_cache(maxsize=32)
def slope_tensor(table: ActivationTable) -> torch.Tensor:
    """Tabulate the true derivative (float64) at every code, like :func:`lookup_tensor`.

    It is 0 at the extreme codes, which saturate.
    """
    fmt = table.in_format
    slopes = true_derivative(table.function, torch.arange(fmt.min, fmt.max + 1, dtype=torch.float64) * fmt.lsb)
    slopes[[0, -1]] = 0
    return slopes


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, table):
        ctx.function = table.function
        ctx.save_for_backward(x)
        fmt = table.in_format
        codes = quantize(x, fmt.fraction_bits, fmt.min, fmt.max)
        values = lookup_tensor(table).index_select(0, (codes - fmt.min).to(torch.int32).reshape(-1))
        return values.reshape(x.shape).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * true_derivative(ctx.function, x), None


def activation(x: torch.Tensor, table: ActivationTable) -> torch.Tensor:
    """Apply the hardware's approximated σ or tanh forward, and the derivative of the true function backward."""
    return _Activation.apply(x, table)
