"""Functions of the public interface, each a few calls into the packages below."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.convert import Conversion, convert
from chessrnn.model.conversion.hardware_rows import one_direction
from chessrnn.model.conversion.quantization_trace import QuantizationTrace, trace_network
from chessrnn.model.errors import require, require_type
from chessrnn.model.fixed_point import dequantize, quantize
from chessrnn.model.imported.load import load_network as load_network_file
from chessrnn.model.imported.recurrent_network import RecurrentNetwork
from chessrnn.model.imported.state_dict import network_from_arrays
from chessrnn.model.input_fold import folded
from chessrnn.model.prediction import checked_reals, output_values, predict_codes, state_codes, state_values
from chessrnn.model.presets import PRESETS
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import NetworkWeights

if TYPE_CHECKING:
    from chessrnn.sim.runner import RunResult

# A simulator takes milliseconds for a step of a small design: enough steps to believe, few enough to wait for.
SIMULATED_STEPS = 64


def load_network(source: Any, prefix: str | None = None, activation: str | None = None) -> RecurrentNetwork:
    """Read a float recurrent network.

    Parameters
    ----------
    source : path, torch.nn.Module, or mapping of str to array
        A model file (``.onnx``, ``.keras``, ``.safetensors``, or what ``torch.save`` wrote), a module, or a
        ``state_dict``.  Nothing in a file is executed.
    prefix : str, optional
        Which network of several: the module's name in a ``state_dict``, the beginning of the nodes' names in ONNX, or
        the name of a layer in Keras.
    activation : str, optional
        ``"relu"`` or ``"tanh"`` of a ``torch.nn.RNN`` that is given by its ``state_dict``, which does not hold it.

    Returns
    -------
    RecurrentNetwork
        ``layers`` with float64 arrays, gates in PyTorch's order.

    Raises
    ------
    UserError
        A damaged file, or a network that cannot be read, named.

    Examples
    --------
    >>> network = load_network("model.pt")  # doctest: +SKIP
    >>> [layer.hidden_size for layer in network.layers]  # doctest: +SKIP
    [256, 256]
    """
    if isinstance(source, str | Path):
        return load_network_file(source, prefix, activation)
    if hasattr(source, "state_dict"):
        activation = activation or getattr(source, "nonlinearity", None)
        name, source = type(source).__name__, source.state_dict()
    else:
        name = "state_dict"
        require(
            isinstance(source, Mapping), "source", "a path, a torch.nn.Module or a state_dict", type(source).__name__
        )
    arrays = {key: _array(value) for key, value in source.items()}
    return network_from_arrays(arrays, name, activation, prefix)


def _array(value) -> np.ndarray:
    """A tensor of any kind as a NumPy array."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def compress(
    network: RecurrentNetwork,
    block_size: int = 8,
    weight_bits: int | Sequence[int] = 8,
    calibration: np.ndarray | None = None,
    settings: dict[str, Any] | None = None,
    name: str = "imported",
    fold: str = "auto",
    element_bits: int = 8,
    effort: str = "full",
) -> Conversion:
    """Turn a float network into the accelerator's integers, without retraining.

    The weights are projected onto block-circulant matrices by least squares (``block_size`` 1 leaves them dense),
    number formats are chosen by the error of h on the calibration data, and everything is rounded once.

    Parameters
    ----------
    network : RecurrentNetwork
        From :func:`load_network`; its layers are all forward, or all bidirectional.
    block_size : int
        k: 1, 2, 4, 8 or 16.  Weight memory falls by a factor of 32·k / ``weight_bits`` against float32.
    weight_bits : int or sequence of int
        2 to 8, in all layers or in each, such as ``[8, 4]``.
    calibration : float array (steps, batch, X), optional
        Real inputs; formats are chosen from them and errors are measured on them.
    settings : dict, optional
        Fields of the configuration by dotted name, e.g. ``{"architecture.tile_rows": 4}``.
    name : str
        Name of the configuration.
    fold : str
        Whether every element of x gets a power of two and an offset, folded into the weights: ``"on"``, ``"off"``, or
        ``"auto"``, where that halves the error of h.  :func:`predict` and :func:`simulate` apply them to x.
    element_bits : int
        Bits of x and h, from 8 to 16; more of them make every other point but the weights finer, too.
    effort : str
        ``"full"``, or ``"quick"`` for formats that are chosen and weights that are rounded each by itself.

    Returns
    -------
    Conversion
        ``weights`` (integers), ``config``, and ``report``: the error of h after every step of the compression, per
        layer and in all, as shares of the root mean square of h, and ``warnings``.

    Raises
    ------
    UserError
        A layer that the accelerator does not run, or settings that contradict each other.
    """
    both = all(layer.direction == "bidirectional" for layer in network.layers)
    layers = list(network.layers) if both else [one_direction(layer, 0) for layer in network.layers]
    found = {layer.direction for layer in network.layers}
    require(
        both or found == {"forward"}, "network", "of layers that are all forward or all bidirectional", sorted(found)
    )
    if calibration is not None:
        calibration = checked_reals(calibration, "calibration")
    options = {"fold": fold, "linear": network.linear, "element_bits": element_bits, "effort": effort}
    return convert(layers, block_size, weight_bits, name, settings, calibration, **options)


def load_weights(source: str | Path, config: Config | None = None) -> NetworkWeights:
    """Read the integers of a compressed network.

    Parameters
    ----------
    source : str or path
        A weight image (``.safetensors``), or the name of a preset whose trained weights are shipped (``char128``,
        ``char64``).
    config : Config, optional
        A design point of the same network with another architecture; left out, it is the one in the file.

    Returns
    -------
    NetworkWeights
        With ``config`` and ``layers``.
    """
    require_type(source, (str, Path), "source", "a path or the name of a preset")
    path = Path(source)
    if str(source) in PRESETS:
        path = Path(str(files("chessrnn.model.pretrained") / f"{source}.safetensors"))
        shipped = sorted(found.stem for found in path.parent.glob("*.safetensors"))
        require(path.exists(), "source", f"a file, or one of {', '.join(shipped)}", str(source))
    return WeightImage.load(path, config).weights


def predict(
    weights: NetworkWeights | Conversion | WeightImage | str | Path,
    x: np.ndarray,
    batch_first: bool = False,
    state: Mapping[str, np.ndarray] | None = None,
    return_state: bool = False,
    hidden: bool = False,
):
    """Run real inputs through the bit-accurate reference.

    Parameters
    ----------
    weights : NetworkWeights, Conversion, WeightImage or path
        The integers; or what :func:`compress` returned or a weight image (``.safetensors``), which may have an output
        layer.
    x : float array (steps, batch, X)
        Scaled where the weights have an ``input_fold``, then quantized to the format of x, HALF_UP and saturating.
    batch_first : bool
        ``x`` and the result are (batch, steps, …) instead.
    state : mapping of str to float array, optional
        First state: ``h`` (layers, batch, H) and, for an LSTM, ``c``; zero where left out.
    return_state : bool
        Whether to return the final state as well, for ``state`` of the next call.
    hidden : bool
        Whether to return h even where the weight image has an output layer.

    Returns
    -------
    float array (steps, batch, H)
        h of the last layer, exactly the accelerator's values; (steps, batch, 2·H) of both directions.  With the output
        layer of a weight image: its exact values (steps, batch, V).
    dict of str to float array
        With ``return_state``: the final state.
    """
    source = WeightImage.load(weights) if isinstance(weights, str | Path) else weights
    layer = None
    if isinstance(source, WeightImage | Conversion):
        layer, network = None if hidden else source.output_layer, source.weights
    else:
        network = source
    config = network.config
    x = _steps_first(config, x, batch_first)
    start = None if state is None else state_codes(config, state["h"], state.get("c"), x.shape[1])
    found = predict_codes(network, x, start)
    values = dequantize(found.codes, config.quantization.h)
    if layer is not None:
        values = output_values(config, layer, found.codes)
    values = values.swapaxes(0, 1) if batch_first else values
    return (values, state_values(config, found.state)) if return_state else values


def _steps_first(config: Config, x: np.ndarray, batch_first: bool) -> np.ndarray:
    """Check the number of axes, and bring x into the order (steps, batch, X)."""
    x = checked_reals(x, "x")
    require(x.ndim == 3, "x", f"of shape (steps, batch, {config.network.input_size})", x.shape)
    return x.swapaxes(0, 1) if batch_first else x


def trace(
    weights: NetworkWeights,
    x: np.ndarray,
    steps: tuple[int, int] | None = None,
    network: RecurrentNetwork | None = None,
    batch_first: bool = False,
) -> QuantizationTrace:
    """Keep every named quantization point of some steps, with its float counterpart.

    Parameters
    ----------
    weights : NetworkWeights
    x : float array (steps, batch, X)
    steps : (int, int), optional
        First step to keep, and the one after the last; left out, all.
    network : RecurrentNetwork, optional
        The float network to compare with, from :func:`load_network`; left out, the one that has exactly the values of
        the integer weights, so that only the arithmetic differs.
    batch_first : bool
        ``x`` is (batch, steps, X) instead.

    Returns
    -------
    QuantizationTrace
        ``layers``, each with ``integers``, ``floats`` and ``local`` (``preact``, ``gate``, ``cell`` and ``h``, steps
        first) and ``errors()``; ``arrays()`` has all of them by name.
    """
    return trace_network(weights, _steps_first(weights.config, x, batch_first), steps, network)


def simulate(
    weights: NetworkWeights,
    x: np.ndarray,
    folder: str | Path,
    simulator: str = "icarus",
    steps: int = SIMULATED_STEPS,
) -> "list[RunResult]":
    """Emit the accelerator, feed real inputs through its Verilog and compare every h with the reference.

    Parameters
    ----------
    weights : NetworkWeights
    x : float array (steps, batch, X)
        Each element of the batch is a sequence; they are streamed one after the other.
    folder : path
        Build folder; an earlier build there is replaced.
    simulator : str
        ``"icarus"`` (starts at once) or ``"verilator"`` (compiles for a while, then is fast).
    steps : int
        At most so many steps are simulated, twice: with an undisturbed stream, and with random stalls.

    Returns
    -------
    list of RunResult
        ``h`` (integers), ``mismatches`` (steps, 0 expected), ``interval`` (cycles per step) and ``problems`` (empty
        when all is equal, the cycles to the prediction as well).
    """
    from chessrnn.sim.build import emit
    from chessrnn.sim.folder_lock import locked_folder
    from chessrnn.sim.runner import Run
    from chessrnn.sim.runner import simulate as run_simulator
    from chessrnn.sim.scenarios import Scenario
    from chessrnn.sim.stalls import StallPattern

    config = weights.config
    require(steps > 0, "steps", "at least 1", steps)
    rule = f"of shape (steps, batch, {config.network.input_size})"
    require(np.ndim(x) == 3 and np.size(x) > 0 and np.shape(x)[2] == config.network.input_size, "x", rule, np.shape(x))
    sequences: list[np.ndarray] = []
    left = steps
    for sequence in quantize(folded(weights.input_fold, x), config.quantization.x).swapaxes(0, 1):
        if left > 0:
            sequences.append(sequence[:left])
            left -= len(sequences[-1])
    scenario = Scenario(weights, tuple(sequences))
    stalls = [StallPattern("random", 0.3, seed=number) for number in range(2)]
    runs = [Run(scenario, name="no stalls"), Run(scenario, *stalls, name="random stalls")]
    with locked_folder(folder):
        emit(weights, folder, "chessrnn.simulate")
        return run_simulator(folder, runs, simulator)


def synthesize(
    config: Config,
    liberty: Sequence[str | Path] = (),
    folder: str | Path | None = None,
    target_fo4: float = 40.0,
) -> dict:
    """Synthesize a design point and report its area and, with a cell library, its timing.

    Parameters
    ----------
    config : Config
    liberty : sequence of paths
        A standard-cell library (``.lib`` or ``.lib.gz``) and any SRAM macros; without one, NAND2 equivalents of a
        generic library are counted.
    folder : path, optional
        Where reports and the netlist go; left out, below ``build/synthesis``.
    target_fo4 : float
        Longest path that the mapping aims at, in fan-out-of-four delays of the library.

    Returns
    -------
    dict
        The content of ``report.json``: ``logic`` (gates, flip-flops, area), ``timing``, ``memories`` and more.
    """
    from chessrnn.hdl.verilog import TOP_MODULE, generate
    from chessrnn.sim.synthesis.job import folder_of, run
    from chessrnn.sim.synthesis.library import load_libraries

    libraries = load_libraries([Path(path) for path in liberty]) if liberty else [None]
    require(len(libraries) == 1, "liberty", "one standard-cell library", [str(path) for path in liberty])
    place = Path(folder) if folder is not None else folder_of(Path("build"), config, libraries[0])
    values, _ = run(config, generate(config), TOP_MODULE, libraries[0], target_fo4, place, True, lambda text: None)
    return values
