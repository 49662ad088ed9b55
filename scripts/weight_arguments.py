"""Which weights a command uses: a file's, the shipped ones, or random ones."""

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
    """The weights that the arguments name, or the shipped ones of the same network, whatever its name.

    Presets that no weights are shipped for (benchmarks such as ``lm512``) take random ones; a trained preset whose
    numerics were changed, or a user's own configuration, does so only when asked.

    Raises
    ------
    InvalidFileError
        The named file is missing, damaged or of another network.
    InvalidValueError
        No weights are named, none of this network are shipped, and random ones are not asked for.
    """
    if args.weights is not None:
        image = WeightImage.load(args.weights, config)
        return Chosen(image.weights, image, str(args.weights), False)
    if args.random_weights is None:
        for shipped in sorted(SHIPPED.glob("*.safetensors")):
            if WeightImage.load(shipped).config.model_fingerprint == config.model_fingerprint:
                # Loaded again with the architecture that is wanted.
                image = WeightImage.load(shipped, config)
                return Chosen(image.weights, image, f"pretrained/{shipped.name}", False)
        is_benchmark = args.config in PRESETS and not (SHIPPED / f"{args.config}.safetensors").exists()
        if not is_benchmark:
            why = "no trained weights of this network are shipped"
            raise InvalidValueError(f"--weights or --random-weights must be given for {config.name}: {why}")
        number, why = DEFAULT_SEED, f"no weights of {args.config} are shipped"
    else:
        number, why = args.random_weights, "asked for"
    return Chosen(random_weights(config, np.random.default_rng(number)), None, f"random, seed {number} ({why})", True)
