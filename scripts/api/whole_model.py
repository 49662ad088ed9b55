"""Functions for a whole model whose recurrent layers compute the accelerator's integers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.convert import Conversion
from chessrnn.model.errors import InvalidFileError, require
from chessrnn.model.hybrid.evaluation import Comparison, compare
from chessrnn.model.hybrid.losses import loss
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import NetworkWeights

if TYPE_CHECKING:
    from chessrnn.model.hybrid.onnx_hybrid import OnnxHybrid
    from chessrnn.model.training.hybrid_module import TorchHybrid

ENDINGS = (".onnx",)


def image_file(path: str | Path) -> Path:
    """Find the weight image that a path names: the file itself, or the only one in a folder."""
    path = Path(path)
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        raise InvalidFileError(f"{path}/ must hold one weight image (.safetensors), not {len(found)}")
    return found[0]


def weights_of(source: NetworkWeights | Conversion | WeightImage | str | Path, config: Config | None) -> NetworkWeights:
    """Integers of a weight image or its file, of what ``compress`` returned, or as they are."""
    if isinstance(source, str | Path):
        source = WeightImage.load(image_file(source), config)
    return source.weights if isinstance(source, WeightImage | Conversion) else source


def hybrid(
    model: Any,
    weights: NetworkWeights | Conversion | WeightImage | str | Path,
    config: Config | None = None,
    prefix: str | None = None,
    keep_state: bool = False,
    record: bool = False,
) -> "OnnxHybrid | TorchHybrid":
    """Put the accelerator's integers in the place of a model's recurrent layers.

    Everything else runs as before, in onnxruntime or torch.  x is rounded to the accelerator's format where it enters
    the recurrent layers, and h comes back as real numbers, exactly the accelerator's.

    Parameters
    ----------
    model : path or torch.nn.Module
        An ONNX file, also with the recurrent nodes in a branch of ``If``; or a module, which is copied.
    weights : NetworkWeights, Conversion, WeightImage or path
        The integers: a weight image (``.safetensors``), the folder of one, or what :func:`compress` returned.
    config : Config, optional
        Design point of the same network with another architecture.
    prefix : str, optional
        Which recurrent layers of several: beginning of the nodes' names in ONNX, name of the module in PyTorch.
    keep_state : bool
        Whether a call begins with the state that the one before left, until ``reset()``.  Otherwise it begins with the
        state that the model hands over, or with zero.
    record : bool
        Whether to keep what goes through the accelerator, for :func:`replay`.

    Returns
    -------
    OnnxHybrid or TorchHybrid
        ``run(inputs)`` and ``run_float(inputs)`` return all outputs by name; ``border`` counts saturated inputs.

    Raises
    ------
    UserError
        The model has no such layers, or others than those of the weights.
    """
    integers = weights_of(weights, config)
    if isinstance(model, str | Path):
        rule = f"a file {' or '.join(ENDINGS)} (torch.onnx.export makes one), or a torch.nn.Module in Python"
        require(Path(model).suffix.lower() in ENDINGS, "model", rule, str(model))
        from chessrnn.model.hybrid.onnx_hybrid import OnnxHybrid

        return OnnxHybrid(model, integers, prefix, keep_state, record)
    from chessrnn.model.training.hybrid_module import TorchHybrid

    return TorchHybrid(model, integers, prefix, keep_state, record)


def evaluate_model(
    hybrid: "OnnxHybrid | TorchHybrid",
    calls: Iterable[Any],
    metric: str = "agreement",
    target: np.ndarray | None = None,
    feedback: Mapping[str, str] | None = None,
    output: str | None = None,
    threshold: float = 0.5,
) -> tuple[dict[str, float], Comparison]:
    """Measure what an application loses by the accelerator's integers.

    Parameters
    ----------
    hybrid : OnnxHybrid or TorchHybrid
        From :func:`hybrid`.
    calls : iterable
        Inputs of every call, as ``run`` takes them.
    metric : str
        ``"agreement"`` of decisions, ``"accuracy"``, ``"mse"`` or ``"si-sdr"``; see
        :func:`chessrnn.model.hybrid.losses.loss`.
    target : array, optional
        Labels or wanted values; needed for ``"accuracy"``.
    feedback : mapping of str to str, optional
        Outputs that become inputs of the next call.
    output : str, optional
        Output that is compared; the first when left out.
    threshold : float
        What a single value must reach for a yes.

    Returns
    -------
    dict of str to float
        The figures of the metric.
    Comparison
        ``floats`` and ``integers``, the output of both runs.
    """
    comparison = compare(hybrid, calls, feedback, output)
    return loss(metric, comparison.floats, comparison.integers, target, threshold), comparison


def replay(
    hybrid: "OnnxHybrid | TorchHybrid", folder: str | Path, simulator: str = "icarus", steps: int | None = None
) -> list[str]:
    """Simulate the emitted Verilog on everything that a model sent through its recurrent layers.

    Where the simulation gives the h that the model received, the model computes the same with the hardware.

    Parameters
    ----------
    hybrid : OnnxHybrid or TorchHybrid
        Made with ``record=True``, and run.
    folder : path
        Build folder; an earlier build there is replaced.
    simulator : str
        ``"icarus"`` or ``"verilator"``.
    steps : int, optional
        Greatest number of steps; left out, all.

    Returns
    -------
    list of str
        What differs; empty when all is equal.
    """
    from chessrnn.sim.build import emit
    from chessrnn.sim.folder_lock import locked_folder
    from chessrnn.sim.replay import replay as run

    with locked_folder(folder):
        emit(hybrid.border.weights, folder, "chessrnn.replay")
        return run(hybrid.border, folder, simulator, steps)[1]
