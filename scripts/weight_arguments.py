"""Which weights a command uses: a file's, the shipped ones, or random ones."""

import argparse
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.weight_image import WeightImage
from chessrnn.model.weights import NetworkWeights, random_weights
from chessrnn.scripts.cli import seed

SHIPPED = Path(str(files("chessrnn.model.pretrained")))
DEFAULT_SEED = 0


class Chosen(NamedTuple):
    """Weights for a configuration.

    Attributes
    ----------
    weights : NetworkWeights
    image : WeightImage or None
        The file that they come from.
    source : str
        Where they come from, for people.
    random : bool
        Made up: nothing was trained.
    """

    weights: NetworkWeights
    image: WeightImage | None
    source: str
    random: bool


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """``--weights`` and ``--random-weights``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="weight image (.safetensors); default the shipped one, if it fits"
    )
    group.add_argument("--random-weights", type=seed, metavar="SEED", help="weights drawn at random")


def weights_from(args: argparse.Namespace, config: Config) -> Chosen:
    """The weights that the arguments name.

    Raises
    ------
    InvalidFileError
        The named file is missing, damaged or of another network.
    """
    if args.weights is not None:
        image = WeightImage.load(args.weights, config)
        return Chosen(image.weights, image, str(args.weights), False)
    shipped = SHIPPED / f"{config.name}.safetensors"
    if args.random_weights is None and shipped.exists():
        image = WeightImage.load(shipped)
        if image.config.model_fingerprint == config.model_fingerprint:
            # Loaded again with the architecture that is wanted.
            image = WeightImage.load(shipped, config)
            return Chosen(image.weights, image, f"pretrained/{shipped.name}", False)
        why = f"pretrained/{shipped.name} holds another network"
    else:
        why = "asked for" if args.random_weights is not None else f"no weights of {config.name} are shipped"
    number = DEFAULT_SEED if args.random_weights is None else args.random_weights
    return Chosen(random_weights(config, np.random.default_rng(number)), None, f"random, seed {number} ({why})", True)
