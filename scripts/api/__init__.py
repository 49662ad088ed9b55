"""From a recurrent network to a compressed, bit-exact, synthesizable accelerator.

The names below are the public interface; everything else in the package may change between versions.

==================  =====================================================================================
`load_network`      a float network from a model file, a ``state_dict`` or a ``torch.nn`` module
`compress`          its layers as few-bit integers, with what every step of the compression costs
`load_weights`      integers from a weight image (``.safetensors``) or a preset's shipped one
`Config`            a design point: network, compression, number formats, architecture
`preset`            a named `Config`
`Reference`         the bit-accurate NumPy model
`predict`           real numbers in, real numbers out, through the reference
`trace`             every named quantization point of some steps, with its float counterpart
`Schedule`          the predicted cycles of a design point
`report`            cycles, memories and compression of a design point
`emit`              Verilog, weight files, expected vectors, ports and report in a folder
`simulate`          the emitted Verilog in a simulator, compared with the reference
`synthesize`        area and timing by Yosys and OpenSTA
`hybrid`            a whole model with the accelerator's integers in place of its recurrent layers
`evaluate_model`    what its application loses: decisions, accuracy, error or SI-SDR of its output
`replay`            the emitted Verilog on everything that such a model sent through it
`UserError`         base class of the errors that a caller can cause
==================  =====================================================================================

:mod:`chessrnn.torch` has the compressed layers as modules of PyTorch, for training loops of your own.

Importing the package is cheap: each name loads what it needs when it is first used, and only that must be installed.

Examples
--------
>>> import chessrnn
>>> config = chessrnn.preset("char128")
>>> chessrnn.Schedule(config).initiation_interval
96
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chessrnn.interface import compress, load_network, load_weights, predict, simulate, synthesize, trace
    from chessrnn.model.config import Config
    from chessrnn.model.cost.design_report import design_report as report
    from chessrnn.model.errors import UserError
    from chessrnn.model.presets import preset
    from chessrnn.model.reference.network import NetworkReference as Reference
    from chessrnn.model.schedule import Schedule
    from chessrnn.sim.build import emit
    from chessrnn.whole_model import evaluate_model, hybrid, replay

__all__ = [
    "Config", "Reference", "Schedule", "UserError", "compress", "emit", "evaluate_model", "hybrid", "load_network",
    "load_weights", "predict", "preset", "replay", "report", "simulate", "synthesize", "trace",
]  # fmt: skip

# Public name → (module, name there).
_PLACES = {
    "Config": ("chessrnn.model.config", "Config"),
    "Reference": ("chessrnn.model.reference.network", "NetworkReference"),
    "Schedule": ("chessrnn.model.schedule", "Schedule"),
    "UserError": ("chessrnn.model.errors", "UserError"),
    "compress": ("chessrnn.interface", "compress"),
    "emit": ("chessrnn.sim.build", "emit"),
    "evaluate_model": ("chessrnn.whole_model", "evaluate_model"),
    "hybrid": ("chessrnn.whole_model", "hybrid"),
    "load_network": ("chessrnn.interface", "load_network"),
    "load_weights": ("chessrnn.interface", "load_weights"),
    "predict": ("chessrnn.interface", "predict"),
    "preset": ("chessrnn.model.presets", "preset"),
    "replay": ("chessrnn.whole_model", "replay"),
    "report": ("chessrnn.model.cost.design_report", "design_report"),
    "simulate": ("chessrnn.interface", "simulate"),
    "synthesize": ("chessrnn.interface", "synthesize"),
    "trace": ("chessrnn.interface", "trace"),
}


def __getattr__(name: str):
    if name == "torch":  # not in __all__: a star import must not hide PyTorch
        return import_module("chessrnn.torch")
    if name not in _PLACES:
        raise AttributeError(f"module 'chessrnn' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
