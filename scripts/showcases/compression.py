"""Compression and training of a public model's recurrent layers, the same for every task of the showcase."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chessrnn.model.jobs import Workers, run_jobs
from chessrnn.model.progress import Progress
from chessrnn.scripts.showcases.designs import Design, Effort

# First learning rates of integers behind a float stage, and of integers that have lost little.
INTEGER_RATE, DENSE_RATE = 2e-3, 2e-4


def all_trained(designs: Sequence[Design], workers: int, *others: Any) -> dict[Design, Any]:
    """Train all designs, those of different block sizes at the same time; see :func:`trained` for the other arguments.

    Returns
    -------
    dict of Design to (NetworkWeights, NetworkWeights)
        The integers before and after training.
    """
    # Designs of a block size share a stage.  The largest trains longest, and begins.
    groups = [
        sorted({one for one in designs if one.block_size == k}) for k in sorted({k for k, _ in designs}, reverse=True)
    ]
    found = run_jobs(_group_trained, [(group, *others) for group in groups], Workers(workers))
    return {one: pair for pairs in found for one, pair in pairs.items()}


def _group_trained(designs: Sequence[Design], *others: Any) -> dict[Design, Any]:
    """Train designs one after the other; this may run in a process of its own."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    return {one: trained(one, *others) for one in designs}


def trained(
    one: Design, model, features, folder: Path, effort: Effort, digest: str, seed: int, settings: Mapping[str, Any]
):
    """Compress and train the recurrent layers of a model; return the integers before and after.

    Parameters
    ----------
    model : FrozenModel
    features : float tensor (T, B, X)
        What the recurrent layers read from the sounds to train with.
    digest : str
        Which sounds these are: a checkpoint of others is not continued.
    settings : mapping
        Fields of the configuration by dotted name.
    """
    from torch import nn

    from chessrnn.model.training.fitted_layers import fitted_layers
    from chessrnn.model.training.frozen_training import Lesson, copied_weights, train
    from chessrnn.model.training.recurrent_modules import GRU, LSTM

    k, bits = one
    calibration = features[:, ::4]
    kind = GRU if isinstance(model.recurrent, nn.GRU) else LSTM
    # Untrained, blocks of 4 that are fitted to sounds decide 88.6 % of the frames like the float model, and those of
    # the nearest weights 54.8 % (8 bit, Silero VAD).
    dense = fitted_layers(model.recurrent, calibration, k) if k > 1 else model.recurrent

    def compressed(width: int) -> Any:
        return kind.from_dense(dense, k=k, weight_bits=width, settings=settings).calibrate(calibration)

    def teach(layers: Any, lesson: Lesson, label: str, path: Path) -> None:
        progress = Progress(lesson.updates, label=label, unit="update")
        train(layers, model, features, lesson, path, {"sounds": digest, "k": k},
              lambda done, loss: progress.show(done, f"loss {loss:.3f}"))  # fmt: skip

    layers = compressed(bits)
    before = layers.stage("float").weights()
    float_updates, integer_updates = effort.updates_of(one)
    if not float_updates and not integer_updates:
        return before, before
    if float_updates:
        # The float stage does not depend on the width of the weights, and is shared.
        shared = compressed(8)
        lesson = Lesson("float", float_updates, effort.float_rate, effort.batch, seed=seed)
        teach(shared, lesson, f"k = {k}, float", folder / f"k{k}-float.pt")
        layers = copied_weights(shared.stage("float"), layers)
    lesson = Lesson("quantized", integer_updates, INTEGER_RATE if k > 1 else DENSE_RATE, effort.batch, seed=seed)
    teach(layers, lesson, f"k = {k}, {bits} bit", folder / f"{one.name}-integers.pt")
    return before, layers.weights()
