"""Retraining without labels: every layer of an imported network learns to reproduce its float original.

The layers are trained one after the other.  Each reads the outputs of the compressed layers before it, so that it also
corrects their errors.  This happens twice: first with float circulant blocks, then, once the formats are chosen, in
integers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from chessrnn.model.circulant import num_blocks
from chessrnn.model.config import Config
from chessrnn.model.conversion.hardware_rows import Blocks, blocks_of_layer, directions, layer_of_blocks
from chessrnn.model.conversion.row_scales import Scales
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import write_atomic
from chessrnn.model.imported.float_evaluation import run_layer
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.imported.summary import input_sizes
from chessrnn.model.input_fold import InputFold
from chessrnn.model.text_file import read_json
from chessrnn.model.training.layers import QuantLayer
from chessrnn.model.training.pipeline import Stage, StageSettings, run_stage
from chessrnn.model.training.tasks.imitation import ImitationTask, LayerInputs, first_state, outputs

Layers = Sequence[RecurrentLayer]
# Share of the updates that the circulant stage gets, where there is one.
CIRCULANT_SHARE = 0.6


@dataclass(frozen=True)
class LayerwiseRetraining:
    """Layer-by-layer retraining of a network, the ``retraining`` of :func:`chessrnn.model.conversion.convert.convert`.

    Parameters
    ----------
    inputs : array (T, B, X)
        Training inputs.
    held_out : array (T, B, X)
        Validation inputs, which decide which parameters are the best.
    updates : int
        Updates of every layer and direction, over both stages.
    folder : Path
        Folder of the checkpoints.
    batch, segment : int
        Sequences per update, and steps of truncated back-propagation.
    learning_rate, quantized_rate : float
        Peak learning rates of the float and the integer stage.
    seed : int
    arguments : dict
        The user's arguments by name; the checkpoints are valid for these alone.

    Raises
    ------
    InvalidFileError
        The folder holds checkpoints of other arguments, or of other data.
    Interrupted
        The user pressed Ctrl-C; a checkpoint was written before.
    """

    inputs: np.ndarray
    held_out: np.ndarray
    updates: int
    folder: Path
    batch: int = 32
    segment: int = 32
    learning_rate: float = 5e-3
    quantized_rate: float = 1.5e-3
    seed: int = 1
    arguments: dict = field(default_factory=dict)

    def folded(self, fold: InputFold) -> "LayerwiseRetraining":
        """Return the retraining on inputs that the fold scales."""
        return replace(self, inputs=fold.apply(self.inputs), held_out=fold.apply(self.held_out))

    def circulant(self, layers: Layers, projected: Layers, config: Config) -> list[RecurrentLayer]:
        """Train the projected layers, circulant and in float, to reproduce ``layers``."""
        if config.block_size == 1:
            return list(projected)
        updates = max(1, round(self.updates * CIRCULANT_SHARE))
        return self._trained("float", layers, projected, config, updates, self.learning_rate)[0]

    def for_integers(self, layers: Layers, circulant: Layers, config: Config) -> tuple[list[RecurrentLayer], Scales]:
        """Train the circulant layers in integers of ``config``'s formats.

        Returns
        -------
        list of RecurrentLayer
            Float layers, still to be rounded.
        Scales
            Scales of the block rows that they were trained for.
        """
        used = 0 if config.block_size == 1 else max(1, round(self.updates * CIRCULANT_SHARE))
        updates = max(1, self.updates - used)
        return self._trained("quantized", layers, circulant, config, updates, self.quantized_rate)

    def _trained(
        self, kind: str, layers: Layers, start: Layers, config: Config, updates: int, rate: float
    ) -> tuple[list[RecurrentLayer], Scales]:
        self._claim_folder()
        settings = StageSettings(
            updates, self.batch, rate, warmup=min(50, -(-updates // 10)), seed=self.seed,
            evaluate_every=max(1, min(100, updates // 10)),
        )  # fmt: skip
        flows = [LayerInputs(values, values) for values in (self.inputs, self.held_out)]
        trained: list[RecurrentLayer] = []
        scales: list[list[np.ndarray | None]] = []
        for number, (layer, sizes) in enumerate(zip(layers, input_sizes(layers), strict=True)):
            trained_weights, direction_outputs = [], []
            scales.append([])
            pairs = zip(directions(layer), directions(start[number]), strict=True)
            for index, (original, initial) in enumerate(pairs):
                stage = Stage(
                    f"{number}{'-reverse' if index else ''}-{kind}", kind, config.layer(number), settings,
                    initial=parameters_of(blocks_of_layer(initial, config.block_size, sizes)),
                    has_formats=kind == "quantized",
                )  # fmt: skip
                # The reverse direction reads its sequences from their ends.
                order = slice(None, None, -1 if index else 1)
                learnt, held_out = (
                    LayerInputs(flow.original[order], padded(flow.compressed[order], sizes, stage.config))
                    for flow in flows
                )
                task = ImitationTask(original, learnt, held_out, self.batch, self.segment)
                network = run_stage(stage, task, self.folder)
                (layer_of_direction,) = network.layer.layers
                scale = layer_of_direction.row_scales()
                scales[-1].append(None if scale is None else scale.long().numpy())
                trained_weights.append(layer_of_blocks(original, blocks_of(layer_of_direction), sizes).weights[0])
                direction_outputs.append(
                    [
                        outputs(network, flow.compressed, first_state(original, flow.batch))[order]
                        for flow in (learnt, held_out)
                    ]
                )
            trained.append(replace(layer, weights=tuple(trained_weights)))
            flows = [
                LayerInputs(run_layer(layer, flow.original, flow.lengths)[0], np.concatenate(parts, axis=2))
                for flow, parts in zip(flows, zip(*direction_outputs, strict=True), strict=True)
            ]
        return trained, scales

    def _claim_folder(self) -> None:
        """Record the arguments that the checkpoints belong to; reject a folder of others by the first that differs."""
        path = self.folder / "arguments.json"
        if not path.is_file():
            write_atomic(path, json.dumps(self.arguments, indent=2) + "\n")
            return
        try:
            before = read_json(path)
            differing = [name for name in self.arguments if before[name] != self.arguments[name]]
        except (InvalidFileError, KeyError, TypeError):
            raise InvalidFileError(f"{path} must be a file that an earlier run wrote: use another folder") from None
        for name in differing:
            value = self.arguments[name]
            raise InvalidFileError(
                f"{name} must be {before[name]} as in {path}, not {value}: use that, or another folder"
            )


def padded(values: np.ndarray, sizes: tuple[int, ...], config: Config) -> np.ndarray:
    """Pad each part of a layer's input (T, B, …), one part per direction of the layer below, to whole blocks."""
    if len(sizes) == 1:
        return values
    k, parts = config.block_size, np.split(values, np.cumsum(sizes)[:-1], axis=2)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, 0), (0, num_blocks(size, k) * k - size)))
         for part, size in zip(parts, sizes, strict=True)], axis=2,
    )  # fmt: skip


def parameters_of(blocks: Blocks) -> tuple[tuple[str, torch.Tensor], ...]:
    """Name the values of a layer as the parameters that a stage starts from."""
    named = {"layer.bias": blocks.bias}
    for name, part in (("weight_x", blocks.w_x), ("weight_h", blocks.w_h)):
        named |= {f"layer.{name}.{gate}.defining": values for gate, values in enumerate(part)}
    if blocks.peephole is not None:
        named["layer.peephole"] = blocks.peephole
    if blocks.projection is not None:
        named["layer.projection.defining"] = blocks.projection
    return tuple((name, torch.tensor(values, dtype=torch.float32)) for name, values in named.items())


@torch.no_grad()
def blocks_of(layer: QuantLayer) -> Blocks:
    """Read the unrounded parameters of a trained layer."""

    def reals(values: torch.Tensor) -> np.ndarray:
        return values.detach().double().numpy()

    w_x, w_h = (np.stack([reals(matrix.defining) for matrix in part]) for part in (layer.weight_x, layer.weight_h))
    peephole = None if layer.peephole is None else reals(layer.peephole)
    projection = None if layer.projection is None else reals(layer.projection.defining)
    return Blocks(w_x, w_h, reals(layer.bias), peephole, projection)
