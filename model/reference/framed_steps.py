"""The rule by which beats of x are cut into steps and sequences, whatever their number is."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class FramedStep(NamedTuple):
    """One step as the accelerator works on it.

    Attributes
    ----------
    words : tuple of int
        Data of its beats; zeros for those that ``last`` cut off.
    last : bool
        A sequence ends with it.
    """

    words: tuple[int, ...]
    last: bool


def framed(
    beats: Iterable[Sequence[int]], beats_per_step: int, longest: int | None = None
) -> tuple[list[FramedStep], list[int]]:
    """Cut beats of x into steps: ``last`` ends the step and the sequence on any beat, and zeros complete the step.

    Parameters
    ----------
    beats : iterable of (int, int)
        Data and ``last`` of each beat.
    beats_per_step : int
    longest : int, optional
        Steps after which a sequence of a bidirectional network is cut.

    Returns
    -------
    steps : list of FramedStep
        Complete steps; beats of a last step that is not complete are dropped.
    errors : list of int
        Value of ``x_error`` for each error: 1 is an early ``last``, 2 a sequence that was cut.
    """
    steps, errors, words, length = [], [], [], 0
    for word, last in beats:
        words.append(word)
        if last and len(words) < beats_per_step:
            errors.append(1)
            words += [0] * (beats_per_step - len(words))
        if len(words) == beats_per_step:
            length += 1
            is_cut = length == longest and not last
            if is_cut:
                errors.append(2)
            steps.append(FramedStep(tuple(words), bool(last or is_cut)))
            words = []
            length = 0 if steps[-1].last else length
    return steps, errors
