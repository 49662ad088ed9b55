"""Retraining without labels: every layer of an imported network learns to do what its float original does.

The layers are trained one after the other, each on what those before it make once they are compressed, so that it also
mends what they lost.  Twice over: as float circulant blocks, then, when the formats are chosen, in integers.
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
from chessrnn.model.errors import InvalidFileError
from chessrnn.model.files import write_atomic
from chessrnn.model.imported.float_evaluation import run_layer
from chessrnn.model.imported.recurrent_network import RecurrentLayer
from chessrnn.model.imported.summary import input_sizes
from chessrnn.model.text_file import read_json
from chessrnn.model.training.layers import QuantLayer
from chessrnn.model.training.pipeline import Stage, StageSettings, run_stage
from chessrnn.model.training.tasks.imitation import Flow, ImitationTask, first_state, outputs

Layers = Sequence[RecurrentLayer]
# Of the updates, where there is a circulant stage.
CIRCULANT_SHARE = 0.6


@dataclass(frozen=True)
class Imitation:
    """Retraining of the layers of a network; ``retraining`` of :func:`chessrnn.model.conversion.convert.convert`.

    Parameters
    ----------
    inputs : array (T, B, X)
        That are learnt from.
    held_out : array (T, B, X)
        That decide which parameters are the best.
    updates : int
        Of every layer and direction.
    folder : Path
        Of the checkpoints.
    batch, segment : int
        Sequences of an update, and steps of truncated back-propagation.
    learning_rate, quantized_rate : float
        Peaks of the two stages.
    seed : int
    arguments : dict
        The user's, by name: the checkpoints belong to them.

    Raises
    ------
    InvalidFileError
        A folder with checkpoints of other arguments, or of other data.
    Interrupted
        Ctrl-C, after a checkpoint was written.
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

    def circulant(self, layers: Layers, projected: Layers, config: Config) -> list[RecurrentLayer]:
        """Float layers with circulant matrices that do what ``layers`` do, from the projected ones."""
        if config.block_size == 1:
            return list(projected)
        updates = max(1, round(self.updates * CIRCULANT_SHARE))
        return self._trained("float", layers, projected, config, updates, self.learning_rate)

    def for_integers(self, layers: Layers, circulant: Layers, config: Config) -> list[RecurrentLayer]:
        """The same once their integers, with the formats of ``config``, were trained: still to be rounded to them."""
        used = 0 if config.block_size == 1 else max(1, round(self.updates * CIRCULANT_SHARE))
        updates = max(1, self.updates - used)
        return self._trained("quantized", layers, circulant, config, updates, self.quantized_rate)

    def _trained(
        self, kind: str, layers: Layers, start: Layers, config: Config, updates: int, rate: float
    ) -> list[RecurrentLayer]:
        self._claim_folder()
        settings = StageSettings(
            updates, self.batch, rate, warmup=min(50, -(-updates // 10)), seed=self.seed,
            evaluate_every=max(1, min(100, updates // 10)),
        )  # fmt: skip
        flows, trained = [Flow(values, values) for values in (self.inputs, self.held_out)], []
        for number, (layer, sizes) in enumerate(zip(layers, input_sizes(layers), strict=True)):
            ways, outputs_of_ways = [], []
            pairs = zip(directions(layer), directions(start[number]), strict=True)
            for index, (way, start_of_way) in enumerate(pairs):
                stage = Stage(
                    f"{number}{'-reverse' if index else ''}-{kind}", kind, config.layer(number), settings,
                    initial=parameters_of(blocks_of_layer(start_of_way, config.block_size, sizes)),
                    has_formats=kind == "quantized",
                )  # fmt: skip
                # The reverse direction reads its sequences from their ends.
                order = slice(None, None, -1 if index else 1)
                turned = [
                    Flow(flow.original[order], padded(flow.compressed[order], sizes, stage.config)) for flow in flows
                ]
                network = run_stage(stage, ImitationTask(way, *turned, self.batch, self.segment), self.folder)
                ways.append(layer_of_blocks(way, blocks_of(network.layer), sizes).weights[0])
                outputs_of_ways.append(
                    [outputs(network, flow.compressed, first_state(way, flow.batch))[order] for flow in turned]
                )
            trained.append(replace(layer, weights=tuple(ways)))
            flows = [
                Flow(run_layer(layer, flow.original, flow.lengths)[0], np.concatenate(parts, axis=2))
                for flow, parts in zip(flows, zip(*outputs_of_ways, strict=True), strict=True)
            ]
        return trained

    def _claim_folder(self) -> None:
        """Write down whose checkpoints these are; refuse those of other arguments by the first that differs."""
        path = self.folder / "arguments.json"
        if not path.is_file():
            write_atomic(path, json.dumps(self.arguments, indent=2) + "\n")
            return
        try:
            before = read_json(path)
            differing = [name for name in self.arguments if before[name] != self.arguments[name]]
        except (InvalidFileError, KeyError, TypeError):
            raise InvalidFileError(f"{path} must be what an earlier run wrote: use another folder") from None
        for name in differing:
            value = self.arguments[name]
            raise InvalidFileError(
                f"{name} must be {before[name]} as in {path}, not {value}: use that, or another folder"
            )


def padded(values: np.ndarray, sizes: tuple[int, ...], config: Config) -> np.ndarray:
    """Input (T, B, …) of a layer with zeros behind each of the pieces that are padded to blocks by themselves."""
    if len(sizes) == 1:
        return values
    k, pieces = config.block_size, np.split(values, np.cumsum(sizes)[:-1], axis=2)
    return np.concatenate(
        [np.pad(piece, ((0, 0), (0, 0), (0, num_blocks(size, k) * k - size)))
         for piece, size in zip(pieces, sizes, strict=True)], axis=2,
    )  # fmt: skip


def parameters_of(blocks: Blocks) -> tuple[tuple[str, torch.Tensor], ...]:
    """Initial parameters of a stage."""
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
    """The parameters of a trained layer, unrounded."""

    def reals(values: torch.Tensor) -> np.ndarray:
        return values.detach().double().numpy()

    w_x, w_h = (np.stack([reals(matrix.defining) for matrix in part]) for part in (layer.weight_x, layer.weight_h))
    peephole = None if layer.peephole is None else reals(layer.peephole)
    behind = None if layer.projection is None else reals(layer.projection.defining)
    return Blocks(w_x, w_h, reals(layer.bias), peephole, behind)
