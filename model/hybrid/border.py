"""Border between a float model and the accelerator's integers: real numbers in, real numbers out, states in between."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from chessrnn.model.errors import require
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.prediction import input_codes
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.weights import NetworkWeights

# h and c (B, H or P) and (B, H) of one layer in one direction: codes, or real numbers.
Pair = tuple[np.ndarray, np.ndarray]


class Outputs(NamedTuple):
    """Real numbers that the recurrent layers give back to the model.

    Attributes
    ----------
    h : list of float array (T, B, H)
        h of every layer; (T, B, 2·H) of both directions, forward first.
    state : list of (h, c)
        Final state of every layer and direction, (B, H or P) and (B, H).
    """

    h: list[np.ndarray]
    state: list[Pair]


@dataclass
class Sequences:
    """Sequences that went through the border one after the other, as codes.

    Attributes
    ----------
    start : list of (h, c) or None
        State of every layer before the first step, (B, H or P) and (B, H); ``None`` for zero.
    x, h : lists of int array (T, B, X) and (T, B, H)
        Inputs, and outputs of the last layer, of every call that continued the one before.
    """

    start: list[Pair] | None
    x: list[np.ndarray] = field(default_factory=list)
    h: list[np.ndarray] = field(default_factory=list)


class Border:
    """Recurrent layers of a model in the accelerator's integers, with the conversion of numbers on both sides.

    Parameters
    ----------
    weights : NetworkWeights
        Integers of the layers.
    keep_state : bool
        Whether every call begins with the state that the one before left, as an accelerator does that is not reset.
        Otherwise it begins with the state that the model hands over, or with zero.
    record : bool
        Whether to keep the codes of all calls in ``recorded``, to replay them in a simulation.

    Attributes
    ----------
    saturated, converted : int
        How many inputs were at the ends of the format of x, and how many there were.
    steps : int
        Number of steps of the last call.
    recorded : list of Sequences

    Notes
    -----
    x is scaled where the weights have an ``input_fold``, and rounded to the format of x, HALF_UP and saturating; a
    first state in the same way to the formats of h and of the cell.  h and the final state are exact.  A state that
    equals the one that the last call handed out is continued with all the bits that the accelerator keeps of it, which
    are more than those of h in a GRU.
    """

    def __init__(self, weights: NetworkWeights, keep_state: bool = False, record: bool = False):
        self.weights, self.config, self.keep_state, self.record = weights, weights.config, keep_state, record
        both = self.config.network.bidirectional
        require(not (keep_state and both), "keep_state", "false for a bidirectional network", keep_state)
        self.reference = NetworkReference(weights)
        self.saturated = self.converted = self.steps = 0
        self.recorded: list[Sequences] = []
        self._codes: list[Pair] | None = None
        self._values: list[Pair] | None = None

    def reset(self) -> None:
        """Forget the state of the last call: the next one begins anew."""
        self._codes = self._values = None

    def run(
        self, x: np.ndarray, state: list[tuple[np.ndarray | None, np.ndarray | None]] | None = None,
        lengths: np.ndarray | None = None,
    ) -> Outputs:  # fmt: skip
        """Run sequences through all layers.

        Parameters
        ----------
        x : float array (T, B, X)
        state : list of (h, c), optional
            First state of every layer and direction, each ``None`` for zero.
        lengths : integer array (B,), optional
            Number of steps of every sequence: h is zero beyond, and the final state is that of its last step.

        Raises
        ------
        InvalidValueError
            A shape does not fit, or a number is not finite.
        """
        codes = input_codes(self.weights, x)
        steps, batch, _ = codes.shape
        require(steps > 0 and batch > 0, "x", "of at least one step and one sequence", codes.shape)
        fmt, self.steps = self.config.quantization.x, steps
        self.saturated += int(((codes == fmt.min) | (codes == fmt.max)).sum())
        self.converted += codes.size
        start, continues = self._first(state, batch)
        if lengths is None or bool(np.all(lengths == steps)):
            outputs, final = self._run(codes, start, continues)
        else:
            outputs, final = self._run_lengths(codes, start, np.asarray(lengths))
        self._codes, self._values = final, self._state_values(final)
        h = [dequantize(part, self.config.quantization.h) for part in outputs]
        return Outputs(h, self._values)

    def _run(self, codes: np.ndarray, start: list[Pair] | None, continues: bool) -> tuple[list[np.ndarray], list[Pair]]:
        outputs, final = self.reference.run_layers(codes, start)
        if self.record:
            if not continues or not self.recorded:
                self.recorded.append(Sequences(start))
            self.recorded[-1].x.append(codes)
            self.recorded[-1].h.append(outputs[-1])
        return outputs, final

    def _run_lengths(
        self, codes: np.ndarray, start: list[Pair] | None, lengths: np.ndarray
    ) -> tuple[list[np.ndarray], list[Pair]]:
        """Run every sequence up to its own length."""
        steps, batch, _ = codes.shape
        good = lengths.shape == (batch,) and bool(np.all((lengths >= 1) & (lengths <= steps)))
        require(good, "sequence lengths", f"{batch} numbers from 1 to {steps}", lengths.tolist())
        outputs: list[np.ndarray] = []
        finals: list[list[Pair]] = []
        for number, length in enumerate(lengths):
            own = slice(number, number + 1)
            first = None if start is None else [(h[own], c[own]) for h, c in start]
            parts, final = self._run(codes[:length, own], first, False)
            if not outputs:
                outputs = [np.zeros((steps, batch, part.shape[2]), dtype=np.int64) for part in parts]
            for whole, part in zip(outputs, parts, strict=True):
                whole[:length, own] = part
            finals.append(final)
        joined = [
            tuple(np.concatenate(parts) for parts in zip(*(final[place] for final in finals), strict=True))
            for place in range(len(finals[0]))
        ]
        return outputs, [(h, c) for h, c in joined]

    # -- states ----------------------------------------------------------------------------------------------------

    def _first(self, state, batch: int) -> tuple[list[Pair] | None, bool]:
        """Return the codes of the first state, ``None`` for zero, and whether it continues the last call."""
        if self.keep_state and self._codes is not None:
            width = len(self._codes[0][0])
            require(width == batch, "x", f"of {width} sequences as before, or a reset before it", batch)
            return self._codes, True
        if state is None or all(part is None or not np.any(part) for pair in state for part in pair):
            return None, False
        rule = "zero for a bidirectional network, whose reverse direction begins at the end"
        require(not self.config.network.bidirectional, "the first state", rule, "another state")
        if self._values is not None and self._codes is not None and _equal(state, self._values):
            return self._codes, True
        points, layers = self.config.quantization, self.config.network.hidden_sizes
        kept = points.cell if self.config.cell.has_state else points.h
        codes = []
        for (h, c), own, hidden in zip(state, self.config.layer_output_sizes, layers, strict=True):
            # The state of a GRU is its h with more fraction bits, from which h is rounded.
            parts = [h, h if c is None and not self.config.network.cell.startswith("lstm") else c]
            pair = []
            for name, part, size, fmt in zip("hc", parts, (own, hidden), (points.h, kept), strict=True):
                values = np.zeros((batch, size)) if part is None else np.asarray(part, dtype=np.float64)
                require(values.shape == (batch, size), f"the first state {name}", f"of shape {(batch, size)}",
                        values.shape)  # fmt: skip
                require(bool(np.isfinite(values).all()), f"the first state {name}", "of finite numbers", "others")
                pair.append(quantize(values, fmt))
            codes.append((pair[0], pair[1]))
        return codes, False

    def _state_values(self, state: list[Pair]) -> list[Pair]:
        points = self.config.quantization
        kept = points.cell if self.config.cell.has_state else points.h
        return [(dequantize(h, points.h), dequantize(c, kept)) for h, c in state]


def _equal(given, known: list[Pair]) -> bool:
    """Whether every part of a state that is given equals the one that was handed out."""
    return all(
        part is None or np.array_equal(part, other)
        for pair, others in zip(given, known, strict=True)
        for part, other in zip(pair, others, strict=True)
    )
