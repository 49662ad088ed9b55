"""The report of a conversion: the error that each step causes, as plain JSON values."""

from collections.abc import Mapping, Sequence

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.imported.float_evaluation import relative_error, run_layers
from chessrnn.model.imported.recurrent_network import RecurrentLayer

# Matrices of a layer by their names in the report; torch.nn.LSTM calls the projection weight_hr.
MATRICES = {"w_x": "w_x", "w_h": "w_h", "w_hr": "projection"}
Layers = Sequence[RecurrentLayer]


def _matrix_errors(found: Layers, expected: Layers) -> dict[str, float]:
    """Compute the relative error of the matrices of all these layers together, by name."""

    def entries(layers: Layers, field: str) -> np.ndarray:
        return np.concatenate([getattr(part, field).ravel() for layer in layers for part in layer.weights])

    return {
        name: relative_error(entries(found, field), entries(expected, field))
        for name, field in MATRICES.items()
        if getattr(found[0].weights[0], field) is not None
    }


def error_report(
    layers: Layers,
    floats: Mapping[str, Layers],
    final: Layers,
    restored: Layers,
    integers: list[np.ndarray],
    saturated: list[int],
    x: np.ndarray,
) -> dict:
    """Measure errors relative to the root mean square of the expected values, for all layers together and for each.

    Parameters
    ----------
    layers : sequence of RecurrentLayer
        The float network.
    floats : dict
        Circulant float layers by the step that made them, ``projected`` first.
    final, restored : sequence of RecurrentLayer
        Layers before rounding, and float layers with the rounded values.
    integers : list of array (T, B, …)
        h of every layer from the integer reference, as real numbers.
    saturated : list of int
        Number of weights and biases of every layer that saturated.
    x : array (T, B, X)
        Inputs that errors are measured on.

    Returns
    -------
    dict
        ``projection`` and ``rounding`` are errors of W_x, W_h and W_hr against the float network and against the layers
        before rounding.  ``output`` holds the errors of the last layer's h against the float network: after each step
        in float, with ``rounded_weights`` and in ``integers``.  ``layers`` has the same for every layer; the error of
        its h includes those of the layers before it.
    """
    wanted = run_layers(layers, x)[1:]
    outputs = {name: run_layers(some, x)[1:] for name, some in {**floats, "rounded_weights": restored}.items()}
    outputs["integers"] = integers

    def errors(some: slice) -> dict:
        return {
            "projection": _matrix_errors(floats["projected"][some], layers[some]),
            "rounding": _matrix_errors(restored[some], final[some]),
            "output": {name: relative_error(found[some][-1], wanted[some][-1]) for name, found in outputs.items()},
            "saturated_weights": sum(saturated[some]),
        }

    each = [{"layer": layer.name, **errors(slice(number, number + 1))} for number, layer in enumerate(layers)]
    return {"steps": x.shape[0] * x.shape[1], **errors(slice(None)), "layers": each}


def format_report(config: Config, x: np.ndarray) -> dict:
    """List formats, the number of inputs that saturate in them, and bytes."""
    fmt = config.quantization.x
    outside = (x < fmt.min * fmt.lsb - fmt.lsb / 2) | (x > fmt.max * fmt.lsb + fmt.lsb / 2)
    return {
        "saturated_inputs": int(outside.sum()),
        "formats": config.formats,
        "weight_frac": config.to_dict()["quantization"]["weight_frac"],
        "input_shift": config.to_dict()["quantization"]["input_shift"],
        "bias_bits": config.quantization.bias_bits,
        "weight_bytes": config.weight_bytes,
        "dense_float32_bytes": config.dense_float_bytes,
        "removed_percent": round(100 * (1 - config.weight_bytes / config.dense_float_bytes), 2),
    }
