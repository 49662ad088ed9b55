"""Joint choice of all formats by the error of h that the integers make on calibration data.

Formats that are chosen one by one, each by its own values, ignore that the scales of x, W_x and W_h depend on each
other, and that an error weighs as much as the gates that it reaches.  Here whole configurations are compared: a
coordinate descent from a first choice, whose moves keep some of the scales and change the others together.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.progress import elapsed

# A move has to leave less than this share of the error.
GAIN = 0.998
# Greatest number of configurations that are tried, and of passes over all moves.
MAX_TRIALS, MAX_PASSES = 48, 4
# Steps times sequences, products of weights and these, steps and sequences that a configuration is tried on.
MAX_SAMPLES, MAX_PRODUCTS = 768, 1 << 29
MAX_STEPS, MAX_SEQUENCES = 48, 16
STEPS = (-1, 1)

Move = Callable[[dict], None]


def few_steps(x: np.ndarray, num_weights: int, batch: int = 0) -> np.ndarray:
    """Take the part of calibration data (T, B, X) that configurations are tried on: few sequences, as long as can be.

    Parameters
    ----------
    num_weights : int
        Weights of the network, which bound the number of steps.
    batch : int
        Number of sequences that have to be kept; 0 allows any.
    """
    samples = max(1, min(MAX_SAMPLES, MAX_PRODUCTS // num_weights))
    sequences = batch or min(x.shape[1], max(1, samples // min(len(x), MAX_STEPS)), MAX_SEQUENCES)
    # Sequences that are far apart are more different than those that follow each other.
    chosen = np.linspace(0, x.shape[1] - 1, sequences).round().astype(int)
    return x[: max(1, min(MAX_STEPS, samples // sequences)), chosen]


def _shift_format(values: dict, name: str, change: int) -> None:
    """Give a format of the same width more fraction bits."""
    integer, _, fraction = values[name][1:].partition(".")
    values[name] = f"Q{int(integer) - change}.{int(fraction) + change}"


def _shift_weights(values: dict, change: int, layer: int | None = None, gate: int | None = None) -> None:
    """Give weights more fraction bits: those of one layer or all, and of one gate or all."""
    values["weight_frac"] = [
        [frac + change * (layer in (None, number) and gate in (None, index)) for index, frac in enumerate(fracs)]
        for number, fracs in enumerate(values["weight_frac"])
    ]


def _shift_inputs(values: dict, change: int, layer: int) -> None:
    """Give W_x of a layer more fraction bits, and let W_h keep its own."""
    shifts = enumerate(values["input_shift"])
    values["input_shift"] = [shift + change * (layer == number) for number, shift in shifts]


def _moves(config: Config, settings: dict, shifts: bool) -> Iterator[Move]:
    """List the moves that change no format which the user set, with those of ``input_shift`` where asked."""
    free = {name for name in config.to_dict()["quantization"] if f"quantization.{name}" not in settings}
    layers = range(config.network.num_layers)
    if shifts and "input_shift" in free:
        for layer in layers:
            for change in STEPS:
                yield lambda values, change=change, layer=layer: _shift_inputs(values, change, layer)
    # W_x has the fraction bits of W_h and of h less those of x, and those of input_shift.
    ties = [
        ("weight_frac",), ("h", "weight_frac"), ("x", "weight_frac"), ("x", "h"), ("h",), ("x",), ("cell",),
        ("preact",), ("gate",), ("peephole",),
    ]  # fmt: skip
    for names in ties:
        if free.issuperset(names) and (names != ("peephole",) or config.cell.peepholes):
            for change in STEPS:
                yield lambda values, names=names, change=change: _shift(values, names, change)
    if "weight_frac" in free:
        groups = [(layer, None) for layer in layers if len(layers) > 1]
        groups += [(layer, gate) for layer in layers for gate in range(config.num_gates) if config.num_gates > 1]
        for layer, gate in groups:
            for change in STEPS:
                yield lambda values, change=change, layer=layer, gate=gate: _shift_weights(values, change, layer, gate)
    if "projection_frac" in free and config.network.projection_size:
        for layer in [None, *(layers if len(layers) > 1 else [])]:
            for change in STEPS:
                yield lambda values, change=change, layer=layer: _shift_projection(values, change, layer)


def _shift(values: dict, names: tuple[str, ...], change: int) -> None:
    """Give points more fraction bits; with h the weights get fewer, so that W_x keeps its own."""
    for name in names:
        if name == "weight_frac":
            _shift_weights(values, -change if "h" in names else change)
        else:
            _shift_format(values, name, change)


def _shift_projection(values: dict, change: int, layer: int | None) -> None:
    """Give the projection of a layer, or of all, more fraction bits."""
    fracs = enumerate(values["projection_frac"])
    values["projection_frac"] = [frac + change * (layer in (None, number)) for number, frac in fracs]


def _changed(config: Config, move: Move) -> Config | None:
    """Apply a move; ``None`` where the result is no possible design."""
    values = config.to_dict()
    points = values["quantization"]
    points["weight_frac"] = [list(fracs) for fracs in config.layer_weight_fracs]
    points["projection_frac"] = list(config.layer_projection_fracs)
    points["input_shift"] = list(config.layer_input_shifts)
    move(points)
    try:
        return Config.from_dict(values)
    except InvalidValueError:
        return None


def search_formats(
    config: Config,
    settings: dict,
    score: Callable[[Config], float],
    firsts: Sequence[Config] = (),
    max_trials: int = MAX_TRIALS,
    shifts: bool = False,
) -> Config:
    """Find the formats with the least error, near a first choice.

    Parameters
    ----------
    config : Config
        First choice.
    settings : dict
        Fields that the user set; they are kept.
    score : callable
        Error of h in a configuration.
    firsts : sequence of Config
        Other first choices; the best one is taken.
    max_trials : int
        Number of configurations that are tried.
    shifts : bool
        Whether ``input_shift`` is changed as well.

    Returns
    -------
    Config
        Configuration with the same widths.  It depends on the arguments alone, not on the time that it takes.
    """
    with elapsed("choosing formats"):
        best, error = min(((one, score(one)) for one in (config, *firsts)), key=lambda item: item[1])
        trials, seen = 1 + len(firsts), {config.model_fingerprint, *(one.model_fingerprint for one in firsts)}
        for _ in range(MAX_PASSES):
            before = error
            for move in _moves(config, settings, shifts):
                # A move that helps is repeated.
                while error > 0 and trials < max_trials:
                    tried = _changed(best, move)
                    if tried is None or tried.model_fingerprint in seen:
                        break
                    seen.add(tried.model_fingerprint)
                    trials += 1
                    found = score(tried)
                    if found >= GAIN * error:
                        break
                    best, error = tried, found
            if error >= GAIN * before:
                break
    return best
