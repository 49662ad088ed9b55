"""Choice of formats by the error that they are expected to cause in the sums, with x and h of the float network.

The error of h says which of two good configurations is better, but far from good formats it is flat: h is then wrong
altogether.  The error of the sums is not.  Rounding and saturation of x, h and every weight add to it separately, each
in proportion to what it is multiplied by, so that it is known for all formats at once from a few tables.  An error
counts as much as it moves h of the same step: little in a gate that is saturated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.float_points import FloatCell
from chessrnn.model.conversion.formats import CANDIDATES, ELEMENT_CANDIDATES, with_fraction_bits
from chessrnn.model.conversion.hardware_rows import directions
from chessrnn.model.conversion.row_scales import nearest_weights
from chessrnn.model.fixed_point import quantize
from chessrnn.model.imported.float_evaluation import initial_state, run_layers
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.qformat import QFormat

Layers = Sequence[RecurrentLayer]
# Change of a sum from which its influence on h is taken.
CHANGE = 2.0**-6
# Fraction bits that the tables hold, and powers of two that are tried for an element of x.
FRACS, EXPONENTS = range(-12, 25), range(-16, 17)
# Steps times sequences that are looked at, and these times the rows of a layer.
MAX_SAMPLES, MAX_SUMS = 1024, 1 << 24
# Times that powers of two and fraction bits are chosen in turn.
MAX_TURNS = 8


class _GivenSums(FloatCell):
    """A cell whose sums are given instead of computed."""

    given: np.ndarray

    def _sums(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        return self.given.copy()


@dataclass(frozen=True)
class Reading:
    """What one direction of a layer reads in N steps, and how much its sums count.

    Attributes
    ----------
    number : int
        Number of the layer.
    w_x, w_h : float arrays (G, H, X) and (G, H, P)
    x, h : float arrays (N, X) and (N, P)
        h is that of the step before.
    influence : float array (G, N, H)
        Square of the change of h per change of a sum, summed over h and relative to the mean square of h.
    """

    number: int
    w_x: np.ndarray
    w_h: np.ndarray
    x: np.ndarray
    h: np.ndarray
    influence: np.ndarray


def _influence(cell: _GivenSums, sums: np.ndarray, x: np.ndarray, h: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Compute how much h moves with the sums (G, N, H) of every gate: (G, N, H)."""
    cell.given = sums
    scale = float((cell.step(x, h, state).h ** 2).sum(axis=1).mean())
    # A sum moves one output of the cell, which a projection spreads over all h.
    projection, cell.projection = cell.projection, None
    spread = 1.0 if projection is None else (projection**2).sum(axis=0)
    plain, found = cell.step(x, h, state).h, []
    for gate in range(len(sums)):
        cell.given = sums.copy()
        cell.given[gate] += CHANGE
        found.append(((cell.step(x, h, state).h - plain) / CHANGE) ** 2 * spread)
    cell.projection = projection
    return np.array(found) / (scale or 1.0)


def whole_sequences(x: np.ndarray, layers: Layers, batch: int = 0) -> np.ndarray:
    """Take few sequences of inputs (T, B, X), as long as they are.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        Layers, whose sizes bound the number of steps.
    batch : int
        Number of sequences that have to be kept; 0 allows any.
    """
    rows = max(len(weights.w_x) for layer in layers for weights in layer.weights)
    samples = max(1, min(MAX_SAMPLES, MAX_SUMS // rows))
    sequences = batch or min(x.shape[1], max(1, samples // len(x)))
    chosen = np.linspace(0, x.shape[1] - 1, sequences).round().astype(int)
    return x[: max(1, samples // sequences), chosen]


def readings(layers: Layers, x: np.ndarray) -> Iterator[Reading]:
    """Run the float network on x (T, B, X), and yield what every direction of every layer reads."""
    values = run_layers(layers, x)
    for number, layer in enumerate(layers):
        for direction, one in enumerate(directions(layer)):
            turn = slice(None, None, -1 if direction else 1)
            columns = slice(direction * layer.state_size, (direction + 1) * layer.state_size)
            inputs, h = values[number][turn], values[number + 1][turn][..., columns]
            start = initial_state(one, x.shape[1])
            before = np.concatenate([start.h, h[:-1]])
            cell = _GivenSums(one)
            w_x, w_h, bias = cell.rows.w_x, cell.rows.w_h, cell.rows.bias
            sums = inputs @ w_x.transpose(0, 2, 1)[:, None] + before @ w_h.transpose(0, 2, 1)[:, None]
            sums += bias[:, None, None]
            states = [cell.initial_state(x.shape[1])[1] if start.c is None else start.c[0]]
            for step in range(len(x)):
                cell.given = sums[:, step]
                states.append(cell.step(inputs[step], before[step], states[-1]).cell)

            def flat(array: np.ndarray) -> np.ndarray:
                return array.reshape(-1, array.shape[-1])

            flat_sums = sums.reshape(len(sums), -1, sums.shape[-1])
            influence = _influence(cell, flat_sums, flat(inputs), flat(before), flat(np.array(states[:-1])))
            yield Reading(number, w_x, w_h, flat(inputs), flat(before), influence)


def _weighed(reading: Reading, values: np.ndarray) -> np.ndarray:
    """Average squares of values (N, n) over the steps, by how much they count for every sum: (G, H, n)."""
    return reading.influence.transpose(0, 2, 1) @ values**2 / len(values)


def _weight_errors(weights: np.ndarray, energy: np.ndarray, config: Config) -> np.ndarray:
    """Compute the squared error of the sums by rounding every column to each of :data:`FRACS`: (F, G, n)."""
    found = []
    for frac in FRACS:
        codes = nearest_weights(weights * 2.0**frac, config.weight_min, config.weight_max, config.has_half_levels)
        found.append(((codes * 2.0**-frac - weights) ** 2 * energy).sum(axis=1))
    return np.array(found)


def _element_errors(reading: Reading, of_h: bool, fmt: QFormat) -> np.ndarray:
    """Compute the squared error of the sums by rounding every element of x or h to each of :data:`FRACS`: (F, n)."""
    weights, values = (reading.w_h, reading.h) if of_h else (reading.w_x, reading.x)
    counts = (reading.influence @ weights**2).sum(axis=0) / len(values)
    return np.array([(_rounding(values, fmt, frac) ** 2 * counts).sum(axis=0) for frac in FRACS])


def _rounding(values: np.ndarray, fmt: QFormat, frac: int) -> np.ndarray:
    """Return the error of values in a format of the same width with other fraction bits."""
    tried = with_fraction_bits(fmt, frac)
    return quantize(values, tried) * tried.lsb - values


def _at(table: np.ndarray, fracs: np.ndarray | int) -> np.ndarray:
    """Look up fraction bits in a table over :data:`FRACS`; beyond its ends the last ones count."""
    return table[np.clip(np.asarray(fracs) - FRACS.start, 0, len(FRACS) - 1)]


class Choice(NamedTuple):
    """Formats and their expected error.

    Attributes
    ----------
    error : float
        Square root of the expected squared errors of h in all layers, each relative to its mean square.
    fields : dict
        Fields of the configuration.
    exponents : tuple of int
        Powers of two of the elements of x, all 0 where they are not free.
    """

    error: float
    fields: dict
    exponents: tuple[int, ...]


class SumErrors:
    """Tables of the errors that each format causes in the sums of a network.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        Layers before rounding.
    x : array (T, B, X)
        Inputs of the first layer.
    config : Config
        Configuration, of which all but the positions of the points of x, h and the weights counts.
    """

    def __init__(self, layers: Layers, x: np.ndarray, config: Config):
        self.config, points = config, config.quantization
        self._known: dict[tuple, tuple[float, list[int]]] = {}
        # Errors by W_x (F, G, X) and W_h (F, G) for every direction of every layer, and by x and h for all together.
        self.numbers: list[int] = []
        self.of_w_x: list[np.ndarray] = []
        self.of_w_h: list[np.ndarray] = []
        self.of_x, self.of_h = np.zeros((len(FRACS), layers[0].input_size)), np.zeros(len(FRACS))
        last = np.zeros((1, 1))
        for reading in readings(layers, x):
            own, last = config.layer(reading.number), reading.h
            self.numbers.append(reading.number)
            self.of_w_x.append(_weight_errors(reading.w_x, _weighed(reading, reading.x), own))
            self.of_w_h.append(_weight_errors(reading.w_h, _weighed(reading, reading.h), own).sum(axis=2))
            self.of_h += _element_errors(reading, True, points.h).sum(axis=1)
            if reading.number:
                self.of_h += _element_errors(reading, False, points.h).sum(axis=1)
            else:
                self.of_x += _element_errors(reading, False, points.x)
        # What rounding the outputs themselves loses.
        total = float((last**2).sum()) or 1.0
        self.of_h += [float((_rounding(last, points.h, frac) ** 2).sum()) / total for frac in FRACS]

    def best(self, settings: dict, is_folded: bool = False, shifts: Sequence[int] | None = None) -> Choice:
        """Choose the formats with the least error, except those that the user set.

        Parameters
        ----------
        is_folded : bool
            Whether every element of x gets a power of two of its own, with which the columns of W_x go down.
        shifts : sequence of int, optional
            Values of ``input_shift`` that every layer may have; left out, that of the configuration.
        """
        points = self.config.quantization
        candidates = {
            name: [getattr(points, name).fraction_bits]
            # With powers of two of its own, every element fills any format.
            if f"quantization.{name}" in settings or (name == "x" and is_folded)
            else [getattr(points, name).width + more for more in ELEMENT_CANDIDATES]
            for name in ("x", "h")
        }
        is_given = "quantization.weight_frac" in settings
        target = getattr(points, self.config.cell.sum_format).fraction_bits
        best = Choice(np.inf, {}, ())
        for frac_h in candidates["h"]:
            least = 0 if self.config.cell.sum_format == "h" else target - frac_h
            upper, error_h = self._weights(least, 0, is_given, shifts, is_first=False)
            for frac_x in candidates["x"]:
                exponents, before = np.zeros(len(self.of_x[0]), dtype=int), np.inf
                # Weights for the powers of two, and powers of two for the weights, in turn.
                for _ in range(MAX_TURNS if is_folded else 1):
                    shift = frac_h - frac_x - (exponents if is_folded else 0)
                    lower, error = self._weights(least, shift, is_given, shifts, is_first=True)
                    error += float(np.diagonal(_at(self.of_x, frac_x + exponents)).sum())
                    total = error + error_h + float(_at(self.of_h, frac_h))
                    if total < best.error:
                        found = {**upper, **lower}
                        numbers = sorted(found)
                        fields = {
                            "quantization.x": str(with_fraction_bits(points.x, frac_x)),
                            "quantization.h": str(with_fraction_bits(points.h, frac_h)),
                            "quantization.weight_frac": [found[number][0] for number in numbers],
                        }
                        if shifts is not None:
                            fields["quantization.input_shift"] = [found[number][1] for number in numbers]
                        kept = {name: value for name, value in fields.items() if name not in settings}
                        best = Choice(total, kept, tuple(exponents.tolist()))
                    if total >= before:
                        break
                    before, (fracs, more) = total, lower[0]
                    exponents = self._exponents(fracs, frac_h - frac_x + more, frac_x)
        return best._replace(error=float(np.sqrt(best.error)))

    def _weights(
        self, least: int, shift: np.ndarray | int, is_given: bool, shifts: Sequence[int] | None, is_first: bool
    ) -> tuple[dict[int, tuple[list[int], int]], float]:
        """Choose the fraction bits of the weights of the first layer, or of all others, and sum their errors.

        Parameters
        ----------
        least : int
            Least fraction bits of W_h without an ``input_shift``.
        shift : int array (X,) or int
            Fraction bits that every column of W_x has more, without ``input_shift``.
        shifts : sequence of int, optional
            Values of ``input_shift`` to choose from; left out, that of the configuration.

        Returns
        -------
        dict of int to (list of int, int)
            Fraction bits of W_h for every gate, and the ``input_shift``, by layer.
        float
            Sum of the errors.
        """
        found, total = {}, 0.0
        for number in sorted(set(self.numbers)):
            if (number == 0) != is_first:
                continue
            tried = []
            for more in (self.config.layer_input_shifts[number],) if shifts is None else shifts:
                # The sums are as fine as the finer products.
                tried.append((*self._of_layer(number, least - max(0, more), shift + more, is_given), more))
            error, fracs, more = min(tried, key=lambda one: one[0])
            found[number], total = (fracs, more), total + error
        return found, total

    def _of_layer(self, number: int, least: int, shift: np.ndarray | int, is_given: bool) -> tuple[float, list[int]]:
        """Choose the fraction bits of the weights of one layer: the error, and those of W_h for every gate."""
        # Most combinations come again and again.
        key = (number, least, shift, is_given) if isinstance(shift, int) else None
        if key in self._known:
            return self._known[key]
        given = np.array(self.config.layer_weight_fracs[number])
        allowed = np.array([frac for frac in CANDIDATES if frac >= least] or [least])
        tried = given[None] if is_given else np.repeat(allowed[:, None], len(given), axis=1)
        errors = np.zeros(tried.shape)
        for at, of_w_x, of_w_h in zip(self.numbers, self.of_w_x, self.of_w_h, strict=True):
            if at == number:
                gate, column = np.arange(tried.shape[1]), np.arange(of_w_x.shape[2])
                own = np.clip(tried - FRACS.start, 0, len(FRACS) - 1)
                errors += of_w_h[own, gate]
                moved = np.clip(tried[..., None] + shift - FRACS.start, 0, len(FRACS) - 1)
                errors += of_w_x[moved, gate[:, None], column].sum(axis=2)
        chosen = errors.argmin(axis=0)
        fracs = [int(tried[index, gate]) for gate, index in enumerate(chosen)]
        found = float(errors.min(axis=0).sum()), fracs
        if key is not None:
            self._known[key] = found
        return found

    def _exponents(self, fracs: list[int], shift: int, frac_x: int) -> np.ndarray:
        """Choose the power of two of every element of x for given fraction bits of W_h: (X,).

        ``shift`` is the number of fraction bits that W_x has more, with ``input_shift`` and without the powers of two.
        """
        errors = []
        for exponent in EXPONENTS:
            moved = np.clip(np.array(fracs) + shift - exponent - FRACS.start, 0, len(FRACS) - 1)
            tables = [table for at, table in zip(self.numbers, self.of_w_x, strict=True) if at == 0]
            of_weights = np.sum([table[moved, np.arange(len(fracs))] for table in tables], axis=(0, 1))
            errors.append(of_weights + _at(self.of_x, frac_x + exponent))
        return np.array(EXPONENTS)[np.argmin(errors, axis=0)]
