"""Choice of the weights that a command uses: those of a file, the shipped ones, or random ones."""

import argparse
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.presets import PRESETS
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import NetworkWeights, random_weights
from chessrnn.scripts.cli import note, seed

SHIPPED = Path(str(files("chessrnn.model.pretrained")))
DEFAULT_SEED = 0


class Chosen(NamedTuple):
    """Weights for a configuration.

    Attributes
    ----------
    weights : NetworkWeights
        Weights with their configuration.
    image : WeightImage or None
        Weight image that they were read from; ``None`` for random ones.
    source : str
        Readable description of their origin.
    random : bool
        Whether they were drawn at random.
    """

    weights: NetworkWeights
    image: WeightImage | None
    source: str
    random: bool


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights`` and ``--random-weights``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="weight image (.safetensors); default the shipped one, if it fits"
    )
    group.add_argument("--random-weights", type=seed, metavar="SEED", help="draw random weights with this seed")


def note_random(chosen: Chosen) -> None:
    """Say on stderr that weights are random, so that nobody takes them for trained ones."""
    if chosen.random:
        note(f"the weights are {chosen.source}")


def weights_from(args: argparse.Namespace, config: Config) -> Chosen:
    """Weights that the arguments choose, or the shipped ones of the same network, whatever its name.

    Presets without shipped weights (benchmarks such as ``lm512``) use random ones; a trained preset whose numerics were
    changed, or a user's own configuration, uses them only on request.

    Raises
    ------
    InvalidFileError
        The file is missing, damaged or belongs to another network.
    InvalidValueError
        No weights are given, none of this network are shipped, and random ones are not requested.
    """
    if args.weights is not None:
        image = WeightImage.load(args.weights, config)
        return Chosen(image.weights, image, str(args.weights), False)
    if args.random_weights is None:
        for shipped in sorted(SHIPPED.glob("*.safetensors")):
            if WeightImage.load(shipped).config.model_fingerprint == config.model_fingerprint:
                # It is loaded again with the architecture of the configuration.
                image = WeightImage.load(shipped, config)
                return Chosen(image.weights, image, f"pretrained/{shipped.name}", False)
        is_benchmark = args.config in PRESETS and not (SHIPPED / f"{args.config}.safetensors").exists()
        if not is_benchmark:
            why = "no trained weights of this network are shipped"
            raise InvalidValueError(f"--weights or --random-weights must be given for {config.name}: {why}")
        number, why = DEFAULT_SEED, f"no weights of {args.config} are shipped"
    else:
        number, why = args.random_weights, "requested"
    return Chosen(random_weights(config, np.random.default_rng(number)), None, f"random, seed {number} ({why})", True)
