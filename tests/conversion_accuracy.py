"""Measure the error of h that conversion without retraining causes, on networks that anyone can make again.

    python tests/conversion_accuracy.py [onnx] [raw] [stack] [MODEL.pt INPUTS.npy] [BITS]

``onnx`` are the node tests of the package onnx, ``raw`` an LSTM whose inputs are in raw units, and ``stack`` three
layers of 256 units with outliers, like a speaker encoder.  Every network is converted dense (k = 1) with weights of 8
bits; BITS are those of x and h, 8 when left out.
"""

import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from chessrnn.model.conversion.convert import convert
from chessrnn.model.conversion.hardware_rows import one_direction
from chessrnn.model.imported.load import load_network
from chessrnn.model.imported.recurrent_network import DirectionWeights, RecurrentLayer

OPERATORS = ("lstm", "gru", "simple_rnn", "rnn")


def onnx_node_tests() -> dict[str, tuple[list[RecurrentLayer], np.ndarray]]:
    """Read the node tests of ONNX, with inputs (T, B, X); those with sequence lengths count as if they had none."""
    import onnx
    from onnx.backend.test.case import node

    # Every module adds its cases to this list when it is imported; others are slow.
    for operator in OPERATORS:
        import_module(f"onnx.backend.test.case.node.{operator.removeprefix('simple_')}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in node._NodeTestCases:
            if any(case.name.startswith(f"test_{name}_") for name in OPERATORS):
                path, arrays = Path(folder) / f"{case.name}.onnx", Path(folder) / f"{case.name}.npz"
                onnx.save(case.model, path)
                names = [info.name for info in case.model.graph.input]
                given = dict(zip(names, case.data_sets[0][0], strict=True))
                x = given.pop(names[0])
                np.savez(arrays, **given)
                network = load_network(path, inputs=arrays)
                layout = {one.name: one.i for one in case.model.graph.node[0].attribute}.get("layout", 0)
                x = x.swapaxes(0, 1) if layout else x
                layers = list(network.layers)
                if layers[0].direction == "reverse":
                    layers, x = [one_direction(one, 0) for one in layers], x[::-1]
                found[case.name.removeprefix("test_")] = layers, x.astype(np.float64)
    return found


def raw_units() -> dict[str, tuple[list[RecurrentLayer], np.ndarray]]:
    """An LSTM on standardised inputs, and the same function on raw units, as W_x and the bias standardise."""
    rng = np.random.default_rng(1)
    parts = 1000 + 20 * rng.normal(size=(60, 20)), rng.uniform(size=(60, 20)), rng.uniform(size=(60, 20))
    x = np.stack(parts, -1)
    mean, spread = np.array([1000.0, 0.5, 0.5]), np.array([20.0, 0.29, 0.29])
    w_x, w_h, bias_x, bias_h = (rng.uniform(-0.25, 0.25, size=shape) for shape in ((64, 3), (64, 16), 64, 64))
    standard = RecurrentLayer("l0", "lstm", (DirectionWeights(w_x, w_h, bias_x, bias_h),))
    raw = DirectionWeights(w_x / spread, w_h, bias_x - w_x @ (mean / spread), bias_h)
    return {
        "standardised": ([standard], (x - mean) / spread),
        "raw units": ([RecurrentLayer("l0", "lstm", (raw,))], x),
    }


def stack_with_outliers() -> dict[str, tuple[list[RecurrentLayer], np.ndarray]]:
    """Three layers of 256 units on 40 inputs, with weights of a heavy-tailed distribution and features of 0 to 5."""
    rng = np.random.default_rng(2)
    layers, size = [], 40
    for number in range(3):
        scale = (0.15, 0.08, 0.05)[number]
        w_x, w_h = (rng.standard_t(2.5, size=(1024, width)) * scale / 2 for width in (size, 256))
        bias = rng.normal(size=1024) * 0.3
        layers.append(RecurrentLayer(f"l{number}", "lstm", (DirectionWeights(w_x, w_h, bias, np.zeros(1024)),)))
        size = 256
    x = np.abs(rng.standard_t(3, size=(80, 4, 40))).clip(0, 5) * rng.uniform(0.01, 1, size=40)
    return {"stack of 3 x 256": (layers, x)}


GROUPS = {"onnx": onnx_node_tests, "raw": raw_units, "stack": stack_with_outliers}


def from_files(model: str, inputs: str) -> dict[str, tuple[list[RecurrentLayer], np.ndarray]]:
    """Read a model file and inputs (T, B, X)."""
    return {Path(model).name: (list(load_network(model).layers), np.load(inputs).astype(np.float64))}


def main(argv: list[str]) -> int:
    """Print one line per network."""
    bits = next((int(one) for one in argv if one.isdigit()), 8)
    argv = [one for one in argv if not one.isdigit()]
    cases = {}
    for name in [one for one in argv if one in GROUPS] or ([] if argv else list(GROUPS)):
        cases |= GROUPS[name]()
    files = [one for one in argv if one not in GROUPS]
    if files:
        cases |= from_files(*files)
    for name, (layers, x) in cases.items():
        start = time.process_time()
        report = convert(layers, 1, 8, calibration=x, element_bits=bits).report
        errors = ", ".join(f"{100 * one['output']['integers']:.2f}" for one in report["layers"])
        print(
            f"{name:40} error of h {errors} %   {time.process_time() - start:.1f} s   {report['formats']}", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
