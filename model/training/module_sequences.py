"""Sequences as the modules of ``torch.nn`` take them: layouts, packed sequences, first states, both directions.

All steps of all sequences are laid out one after the other, as in a PackedSequence: those of time 0, then those of
time 1, and so on; sequences are ordered by falling length.
"""

from typing import NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from chessrnn.model.errors import InvalidTypeError, require, require_type, shown
from chessrnn.model.training.layers import QuantLayer


class FlatSteps(NamedTuple):
    """Steps of all sequences, one after the other.

    Attributes
    ----------
    data : (N, X)
    batch_sizes : int64 (T,)
        Number of sequences that have a step at each time.
    sorted_indices, unsorted_indices : int64 (B,) or None
        Order of the sequences by falling length, and back, where they came in another order.
    """

    data: torch.Tensor
    batch_sizes: torch.Tensor
    sorted_indices: torch.Tensor | None = None
    unsorted_indices: torch.Tensor | None = None


def flat_steps(x: torch.Tensor | PackedSequence, batch_first: bool, size: int) -> FlatSteps:
    """Lay the steps of a call's input out one after the other.

    Parameters
    ----------
    x : tensor (T, B, X), with ``batch_first`` (B, T, X), unbatched (T, X), or PackedSequence
    batch_first : bool
    size : int
        X, which the input must have.

    Raises
    ------
    UserError
        The shape, type or device does not fit.
    """
    if isinstance(x, PackedSequence):
        _check_input(x.data, size)
        return FlatSteps(*x)
    require_type(x, torch.Tensor, "input", "a tensor or a PackedSequence")
    _check_input(x, size)
    require(x.dim() in (2, 3), "input", "of 2 or 3 axes", tuple(x.shape))
    if x.dim() == 2:
        x = x.unsqueeze(1)
    elif batch_first:
        x = x.transpose(0, 1)
    steps, batch, _ = x.shape
    require(steps > 0 and batch > 0, "input", "of at least one step and one sequence", (steps, batch))
    return FlatSteps(x.reshape(steps * batch, -1), torch.full((steps,), batch))


def _check_input(values: torch.Tensor, size: int) -> None:
    if not values.is_floating_point():
        raise InvalidTypeError(f"input must be of a floating-point type, not {values.dtype}")
    require(values.device.type == "cpu", "input", "on the device cpu", str(values.device))
    shape = tuple(values.shape)
    require(len(shape) > 0 and shape[-1] == size, "input", f"of {size} elements per step", shape)


def first_states(
    hx,
    widths: tuple[int, ...],
    count: int,
    batch: int,
    sorted_indices: torch.Tensor | None,
    is_batched: bool,
    dtype: torch.dtype,
) -> list[tuple[torch.Tensor, ...]]:
    """Check the first state of a call, and divide it into the parts of every layer and direction.

    Parameters
    ----------
    hx : tensor, (tensor, tensor) or None
        State as the caller gives it; ``None`` is zero.
    widths : tuple of int
        Width of every part of the state: of h, and of c where callers see it.
    count : int
        Number of layers times directions.
    batch : int
        Number of sequences.
    sorted_indices, is_batched, dtype
        Order of the sequences, whether the call has an axis for them, and the type of the result.
    """
    if hx is None:
        parts = [torch.zeros(count, batch, width, dtype=dtype) for width in widths]
        return list(zip(*parts, strict=True))
    given = hx if len(widths) == 2 else (hx,)
    rule = "a pair (h, c) of tensors" if len(widths) == 2 else "a tensor"
    good = isinstance(given, tuple | list) and len(given) == len(widths)
    if not good or not all(isinstance(part, torch.Tensor) for part in given):
        raise InvalidTypeError(f"hx must be {rule}, not {shown(type(hx).__name__)}")
    parts = []
    for name, part, width in zip("hc", given, widths, strict=False):
        shape = (count, batch, width) if is_batched else (count, width)
        require(tuple(part.shape) == shape, f"hx: {name}", f"of shape {shape}", tuple(part.shape))
        part = part if is_batched else part.unsqueeze(1)
        part = part if sorted_indices is None else part.index_select(1, sorted_indices)
        parts.append(part.to(dtype))
    return list(zip(*parts, strict=True))


def run_direction(
    layer: QuantLayer, data: torch.Tensor, batch_sizes: torch.Tensor, first: tuple, is_reverse: bool
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Run one layer in one direction over sequences of falling lengths.

    Parameters
    ----------
    layer : QuantLayer
    data : (N, X)
        Steps of all sequences, as in a PackedSequence: those of time 0, then those of time 1, ...
    batch_sizes : int64 (T,)
        Number of sequences that have a step at each time.
    first : (h, c)
        First state of every sequence; the reverse direction takes it at the end of the sequence.
    is_reverse : bool

    Returns
    -------
    h : (N, P or H), and the state (h, c) after the last step of every sequence
    """
    plan = layer.plan()
    from_x = layer.project_input(data, plan)
    sizes, counts = torch.unique_consecutive(batch_sizes, return_counts=True)
    starts = torch.cumsum(sizes * counts, 0) - sizes * counts
    parts = list(zip(sizes.tolist(), counts.tolist(), starts.tolist(), strict=True))
    outputs, finished = [], []
    h, c = (part[:0] if is_reverse else part for part in first)
    # Between two times at which sequences end or, in reverse, begin, all of them run together.
    for size, count, start in reversed(parts) if is_reverse else parts:
        rows = from_x[start : start + size * count].unflatten(0, (count, size))
        if is_reverse:
            begin_h, begin_c = (part[len(h) : size] for part in first)
            h, c = torch.cat([h, begin_h.to(h.dtype)]), torch.cat([c, begin_c.to(c.dtype)])
            rows = rows.flip(0)
        else:
            finished.append((h[size:], c[size:]))
            h, c = h[:size], c[:size]
        out, (h, c) = layer.recur(rows, plan, (h, c))
        outputs.append((out.flip(0) if is_reverse else out).flatten(0, 1))
    outputs = outputs[::-1] if is_reverse else outputs
    all_h, all_c = (torch.cat(part) for part in zip((h, c), *finished[::-1], strict=True))
    return torch.cat(outputs), (all_h, all_c)
