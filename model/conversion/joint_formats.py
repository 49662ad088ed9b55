"""Choice of all formats of a network together, by the error of the last layer's h on calibration data."""

import contextlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.adapted_network import adapted_network
from chessrnn.model.conversion.base_config import with_divided_columns
from chessrnn.model.conversion.first_state import first_states, num_first_states
from chessrnn.model.conversion.format_search import MAX_TRIALS, few_steps, search_formats
from chessrnn.model.conversion.formats import CANDIDATES, choose_config, closest_format
from chessrnn.model.conversion.sum_errors import Choice, SumErrors, whole_sequences
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.imported.float_evaluation import run_layers
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.imported.summary import input_sizes

Layers = Sequence[RecurrentLayer]
# Networks of so many weights are rounded by their sums in every configuration that is tried, larger ones in few.
SMALL_WEIGHTS, FEW_TRIALS = 20_000, 16
# Error of h beyond which it is no guide to better formats, and the configurations that are tried then.
FAR, FAR_TRIALS = 0.2, 96
# Steps up to which both ways of rounding are tried in every configuration.
FEW_STEPS = 8
# Values of ``input_shift`` that are tried, from the one that costs no gates.
INPUT_SHIFTS = sorted(range(-8, 9), key=abs)
# Error of h beyond which they are tried, the share of it that they must leave at most to be worth their gates, and the
# configurations that are tried.
SHIFT_FROM, SHIFT_GAIN, SHIFT_TRIALS = 0.01, 0.9, 32


class JointFormats:
    """Choice of the formats of layers that are already projected.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
    x : float array (T, B, X)
        Calibration data.
    settings : dict
        Fields that the user set; they are kept.
    is_adaptive : bool
        Whether the weights will be rounded by the error of their sums.
    """

    def __init__(self, layers: Layers, x: np.ndarray, settings: dict, is_adaptive: bool):
        self.layers, self.x, self.settings, self.is_adaptive = layers, x, settings, is_adaptive
        num_weights = sum(layer.num_weights for layer in layers)
        self._excerpt = few_steps(x, num_weights, num_first_states(layers))
        self._floats, self._sizes = run_layers(layers, self._excerpt), input_sizes(layers)
        self._is_small = num_weights <= SMALL_WEIGHTS
        self._known: dict[tuple[str, int], float] = {}

    def _error(self, config: Config, rounds: int = 0) -> float:
        """Compute the error of h, after as many rounds of rounding the weights by the error of their sums."""
        key = config.model_fingerprint, rounds
        if key not in self._known:
            start = first_states(config, self.layers, self._excerpt.shape[1])
            # Of longer sequences every run counts, and there weights rounded by their sums are the better ones.
            compared = len(self._excerpt) <= FEW_STEPS
            found = adapted_network(self.layers, config, self._sizes, self._floats, start, rounds, compared)
            self._known[key] = found[2]
        return self._known[key]

    def _adapted_error(self, config: Config) -> float:
        """Compute the error of h after one round of rounding the weights by the error of their sums."""
        return self._error(config, 1)

    def _final_error(self, config: Config) -> float:
        """Compute the error of h with the better one of the ways in which the weights will be rounded."""
        return min(self._error(config), self._adapted_error(config)) if self.is_adaptive else self._error(config)

    def choose(self, config: Config) -> Config:
        """Choose all formats, beginning with those of a configuration that suit their own values."""
        found = self._with_shifts_as_they_are(config)
        if "quantization.input_shift" in self.settings or self._final_error(found) <= SHIFT_FROM:
            return found
        return self._with_input_shifts(found)

    def _with_shifts_as_they_are(self, config: Config) -> Config:
        """Choose all formats but ``input_shift``, which is 0 unless the user set it."""
        firsts, settings = [], self.settings
        if "quantization.h" not in settings:
            # The format that suits the values of h, and weights that suit this format.
            fmt = closest_format(config.quantization.h, np.concatenate([h.ravel() for h in self._floats[1:]]))
            fields, others = {"quantization.h": str(fmt)}, {"quantization.weight_frac": CANDIDATES[-1]}
            start = fields | {name: value for name, value in others.items() if name not in settings}
            with contextlib.suppress(InvalidValueError):
                firsts.append(choose_config(config.replace(start), self.layers, self.x, settings | fields, True))
        is_far = min(self._error(one) for one in (config, *firsts)) > FAR
        if is_far:
            # So far off, the error of h does not say which way is better.
            errors = SumErrors(self.layers, self._whole_sequences, config)
            firsts += self._of_choice(config, errors.best(settings))
        found = config
        if not self._is_small or not self.is_adaptive or is_far:
            found = search_formats(config, settings, self._error, firsts, FAR_TRIALS if is_far else MAX_TRIALS)
        if not self.is_adaptive:
            return found
        if is_far and not self._is_small and self._error(found) <= self._adapted_error(found):
            return found
        if self._is_small:
            adapted = search_formats(config, settings, self._adapted_error, [*firsts, *([found] if is_far else [])])
        else:
            adapted = search_formats(found, settings, self._adapted_error, max_trials=FEW_TRIALS)
        return found if is_far and self._error(found) < self._adapted_error(adapted) else adapted

    def _with_input_shifts(self, config: Config) -> Config:
        """Give W_x fraction bits apart from those of W_h, where the error of h becomes so much less."""
        free, score = with_divided_columns(config, self.settings), self._final_error
        if free is None:
            return config
        errors = SumErrors(self.layers, self._whole_sequences, free)
        choice = errors.best(self.settings, shifts=INPUT_SHIFTS)
        firsts = []
        if choice.error < SHIFT_GAIN * errors.best(self.settings).error:
            firsts = self._of_choice(free, choice)
        if config.has_row_scales and score(config) > FAR:
            firsts += self._shifted(free)
        if not firsts:
            return config
        found = search_formats(free, self.settings, score, firsts, len(firsts) + SHIFT_TRIALS, shifts=True)
        is_better = any(found.layer_input_shifts) and score(found) < SHIFT_GAIN * score(config)
        # On whole sequences as well, which are too long for the search.
        if not is_better or self._whole_error(found) >= SHIFT_GAIN * self._whole_error(config):
            return config
        with contextlib.suppress(InvalidValueError):
            # Only layers that are shifted in the end restrict the tile.
            tile = "architecture.tile_cols", "architecture.lookahead"
            before = config.to_dict()["architecture"]
            found = found.replace({name: before[name.rpartition(".")[2]] for name in tile})
        return found

    def _whole_error(self, config: Config) -> float:
        """Compute the error of h on whole sequences, with weights that are rounded in the better one of both ways."""
        x = self._whole_sequences
        floats, start = run_layers(self.layers, x), first_states(config, self.layers, x.shape[1])
        return adapted_network(self.layers, config, self._sizes, floats, start, int(self.is_adaptive))[2]

    def _shifted(self, config: Config) -> list[Config]:
        """Choose formats for every ``input_shift`` of the first layer, for block rows that have scales.

        What the weights of such rows lose by a shift is not known from the sums.
        """
        found, others = [], [0] * (config.network.num_layers - 1)
        for shift in INPUT_SHIFTS[1:]:
            fields = {"quantization.input_shift": [shift, *others]}
            with contextlib.suppress(InvalidValueError):
                chosen = config.replace(fields)
                found.append(choose_config(chosen, self.layers, self.x, self.settings | fields, True))
        return found

    @cached_property
    def _whole_sequences(self) -> np.ndarray:
        return whole_sequences(self.x, self.layers, num_first_states(self.layers))

    def _of_choice(self, config: Config, choice: Choice) -> list[Config]:
        """Complete the formats that were chosen by the errors expected in the sums: see :mod:`.sum_errors`."""
        fracs, found = choice.fields.get("quantization.weight_frac"), []
        # A scale per block row makes most weights larger, so that finer fraction bits suit them.
        for finer in (0, 1, 2) if fracs and config.has_row_scales else (0,):
            fields = dict(choice.fields)
            if fracs:
                fields["quantization.weight_frac"] = [[frac + finer for frac in row] for row in fracs]
            with contextlib.suppress(InvalidValueError):
                chosen = config.replace(fields)
                found.append(choose_config(chosen, self.layers, self.x, self.settings | fields, True))
        return found
