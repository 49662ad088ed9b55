"""Compression of the recurrent layers of any PyTorch model in place: swap, calibration, stages, files of designs."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from chessrnn.model.config_sections import BLOCK_SIZES, require_weight_bits
from chessrnn.model.errors import InvalidTypeError, InvalidValueError, UserError, require, require_type
from chessrnn.model.files import require_folder, write_atomic
from chessrnn.model.training.layers import STAGES
from chessrnn.model.training.recurrent_modules import BLOCK_SIZE, GRU, LSTM, RNN, WEIGHT_BITS, Recurrent
from chessrnn.model.unique_names import unique_name
from chessrnn.model.weight_image import WeightImage

# Modules that are swapped, and those that run sequences or steps without being one of them.
SWAPPED: dict[type[nn.Module], type[Recurrent]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
# Batches that are taken from a loader.
CALIBRATION_BATCHES = 8
Forward = Callable[[nn.Module, Any], object]


class DesignFiles(NamedTuple):
    """Files that :func:`export` wrote for one recurrent layer."""

    config: Path
    weights: Path


def compress(
    model: nn.Module,
    k: int = BLOCK_SIZE,
    weight_bits: int = WEIGHT_BITS,
    calibration: Any = None,
    settings: Mapping[str, Any] | None = None,
    forward: Forward | None = None,
    learned_scales: bool = False,
) -> nn.Module:
    """Swap every LSTM, GRU and RNN of a model for a compressed one, in place, and return the model.

    The weights are projected to circulant blocks by least squares, which costs accuracy until they are trained on.  The
    modules are in stage ``"float"``; ``model`` then trains as before.

    Parameters
    ----------
    model : torch.nn.Module
        The model, or a single recurrent layer, which cannot be swapped in place: use what is returned.
    k : int
        Block size: 1, 2, 4, 8 or 16.
    weight_bits : int
        Width of a weight, from 2 to 8.
    calibration : batch or loader, optional
        Real inputs, from which every layer gets its number formats: a tensor, a mapping of keyword arguments, a pair
        such as (inputs, targets), whose first element is taken, or an iterable of those (a ``DataLoader``), of which
        the first 8 are taken.
        Left out, formats come from the first batch of a stage that needs them.
    settings : dict, optional
        Fields of every configuration by dotted name: ``{"architecture.tile_rows": 4}``.
    forward : callable, optional
        Function of the model and a batch of the calibration that runs the model; left out, the model is called.
    learned_scales : bool
        Whether the scales of the weights are trained as well: see :class:`LSTM`.

    Warns
    -----
    UserWarning
        A recurrent layer stays as it is, with its name and the reason: :func:`uncompressed` lists these layers.

    Raises
    ------
    UserError
        An argument is wrong, or no layer of the model can be compressed.
    """
    require_type(model, nn.Module, "model", "a torch.nn.Module")
    require(k in BLOCK_SIZES, "k", f"one of {', '.join(map(str, BLOCK_SIZES))}", k)
    require_type(weight_bits, int, "weight_bits", "an integer")
    require_weight_bits(weight_bits, "weight_bits")
    found, left = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, RECURRENT):
            try:
                found[module] = _swapped(module, k, weight_bits, settings, learned_scales)
            except UserError as error:
                left[name] = str(error)
    if not found:
        name, reason = next(iter(left.items()), ("", "it has none"))
        rule = "model must have an LSTM, GRU or RNN that can be compressed"
        raise InvalidValueError(f"{rule}: {name or type(model).__name__}: {reason}" if left else f"{rule}: {reason}")
    for name, reason in left.items():
        warnings.warn(f"{name} stays as it is: {reason}", stacklevel=2)
    if calibration is not None:
        _calibrate(model, found, calibration, forward)
    if model in found:
        return found[model]
    # A layer may be reached by several names.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in found:
            model.set_submodule(name, found[module])
    return model


def _swapped(
    module: nn.Module, k: int, weight_bits: int, settings: Mapping[str, Any] | None, learned_scales: bool
) -> Recurrent:
    """Create the compressed module of a recurrent one.

    Raises
    ------
    UserError
        The module cannot be compressed.
    """
    kind = SWAPPED.get(type(module))
    if kind is None:
        names = ", ".join(one.__name__ for one in SWAPPED)
        raise InvalidTypeError(f"a layer must be one of torch.nn's {names}, not {type(module).__name__}")
    return kind.from_dense(module, k, weight_bits, settings, learned_scales)


def _batches(calibration: Any) -> Iterable[Any]:
    """List the batches of calibration data."""
    if isinstance(calibration, torch.Tensor | Mapping | tuple | list):
        return [calibration]
    require_type(calibration, Iterable, "calibration", "a batch or an iterable of batches")
    return islice(calibration, CALIBRATION_BATCHES)


def _call(model: nn.Module, batch: Any) -> None:
    """Call a model with a batch."""
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple | list) and not isinstance(batch, PackedSequence):
        model(batch[0])
    else:
        model(batch)


@torch.no_grad()
def _calibrate(model: nn.Module, found: dict[nn.Module, Recurrent], calibration: Any, forward: Forward | None) -> None:
    """Run the model as it is, and calibrate the new modules on the inputs of the old ones."""
    inputs: dict[nn.Module, list] = {module: [] for module in found}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, kwargs: inputs[module].append(args[0] if args else kwargs["input"]), with_kwargs=True
        )
        for module in found
    ]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        for batch in _batches(calibration):
            (forward or _call)(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    require(any(inputs.values()), "calibration", "data that reach a recurrent layer", "none of them")
    for module, values in inputs.items():
        if values:
            found[module].calibrate(*values)


def compressed(model: nn.Module) -> dict[str, Recurrent]:
    """List the compressed layers of a model by their names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Recurrent)}


def uncompressed(model: nn.Module) -> dict[str, nn.Module]:
    """List the recurrent layers of a model that are not compressed, by their names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, RECURRENT)}


def stage(model: nn.Module, name: str, weight_bits: int | None = None) -> nn.Module:
    """Set the stage of every compressed layer of a model, ``"float"``, ``"approximate"`` or ``"quantized"``.

    With ``weight_bits`` the weights have another width from now on.
    """
    found = compressed(model)
    require(bool(found), "model", "one with compressed layers", type(model).__name__)
    for module in found.values():
        module.stage(name, weight_bits)
    return model


class StageSchedule:
    """Schedule that moves the compressed layers of a model from stage to stage as training goes on.

    Parameters
    ----------
    model : torch.nn.Module
    weight_bits : dict, optional
        Width of the weights by the number of updates after which it begins: ``{1200: 8, 1500: 4, 1800: 2}``.
    **begin : int
        Number of updates after which each stage begins: ``approximate=1000, quantized=1200``.

    Raises
    ------
    UserError
        The model has no compressed layers, a stage is unknown, or a number is negative.

    Examples
    --------
    >>> model = LSTM(8, 16)
    >>> schedule = StageSchedule(model, quantized=2)
    >>> [schedule.step() for update in range(3)]
    ['float', 'quantized', 'quantized']
    """

    def __init__(self, model: nn.Module, weight_bits: Mapping[int, int] | None = None, **begin: int):
        require(bool(compressed(model)), "model", "one with compressed layers", type(model).__name__)
        require_type(weight_bits or {}, Mapping, "weight_bits", "widths by numbers of updates")
        for updates, bits in (weight_bits or {}).items():
            for value in (updates, bits):
                require_type(value, int, "weight_bits", "widths by numbers of updates")
            require(updates >= 0, "weight_bits", "widths by numbers of updates from 0", updates)
            require_weight_bits(bits, "weight_bits")
        self.weight_bits = dict(sorted((weight_bits or {}).items()))
        for name, updates in begin.items():
            require(name in STAGES, "stage", f"one of {', '.join(STAGES)}", name)
            require_type(updates, int, name, "a number of updates")
            require(updates >= 0, name, "at least 0", updates)
        self.model, self.begin, self.updates = model, dict(sorted(begin.items(), key=lambda item: item[1])), 0
        self._enter()

    def step(self) -> str:
        """Count an update, change the stage if one begins, and return the present one.

        Call it after the optimizer's step; with Lightning, in ``on_train_batch_end``.
        """
        self.updates += 1
        if self.updates in self.begin.values() or self.updates in self.weight_bits:
            self._enter()
        return next(iter(compressed(self.model).values())).current_stage

    def _enter(self) -> None:
        """Set the stage and the width that the number of updates asks for, unless they are set already."""
        modules = compressed(self.model).values()
        names = [name for name, updates in self.begin.items() if updates <= self.updates]
        widths = [bits for updates, bits in self.weight_bits.items() if updates <= self.updates]
        for module in modules:
            name = names[-1] if names else module.current_stage
            bits = widths[-1] if widths else module.config.weight_bits
            if (module.current_stage, module.config.weight_bits) != (name, bits):
                module.stage(name, bits)

    def state_dict(self) -> dict[str, int]:
        """Return the number of updates; stage and formats are in the model's ``state_dict``."""
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore the number of updates; load the model's ``state_dict`` before."""
        self.updates = state["updates"]
        self._enter()


def export(model: nn.Module, folder: str | Path, settings: Mapping[str, Any] | None = None) -> dict[str, DesignFiles]:
    """Write the configuration and the weight image of every compressed layer, ready for ``chessrnn verilog``.

    Parameters
    ----------
    model : torch.nn.Module
        Model with compressed layers, or such a layer.  In stage ``"quantized"`` the integers are those of its forward
        pass; in another, formats are chosen for the present weights.
    folder : path
        Folder of the files ``NAME.json`` and ``NAME.safetensors``, where NAME is the layer's name in the model.
    settings : dict, optional
        Fields of the architecture by dotted name, for every layer: ``{"architecture.tile_rows": 4}``.

    Returns
    -------
    dict of str to DesignFiles
        Paths of both files for each layer.

    Raises
    ------
    UserError
        The model has no compressed layer, one has no formats for its inputs yet, a setting is wrong, or a file cannot
        be written.
    """
    require_type(model, nn.Module, "model", "a torch.nn.Module")
    require_type(folder, (str, Path), "folder", "a path")
    found = compressed(model)
    require(bool(found), "model", "one with compressed layers", type(model).__name__)
    for path in settings or {}:
        require(path.startswith("architecture."), "settings", "of fields of the architecture", path)
    for name, module in found.items():
        if not module.is_calibrated:
            what = name or type(module).__name__
            raise InvalidValueError(
                f"{what} must have formats for its inputs: call calibrate, or run a batch quantized"
            )
    folder = Path(folder)
    require_folder(folder)
    # Everything is rounded before anything is written.
    images = {}
    for name, module in found.items():
        weights = module.weights()
        file_name = unique_name(name or type(module).__name__.lower(), {image.config.name for image in images.values()})
        config = weights.config.replace({"name": file_name, **(settings or {})})
        weights = replace(weights, config=config)
        metrics = {
            "module": name,
            "weight_bytes": config.weight_bytes,
            "dense_float32_bytes": config.dense_float_bytes,
            "removed_percent": round(100 * (1 - config.weight_bytes / config.dense_float_bytes), 2),
        }
        images[name] = WeightImage(weights, metrics=metrics, command="chessrnn.torch.export")
    written = {}
    for name, image in images.items():
        stem = folder / image.config.name
        written[name] = DesignFiles(stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.safetensors"))
        image.save(written[name].weights)
        write_atomic(written[name].config, image.config.to_json())
    return written
