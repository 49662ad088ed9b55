"""Arguments of commands that read a float network from a model file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from chessrnn.model.config_sections import BLOCK_SIZES, require_weight_bits
from chessrnn.model.errors import require
from chessrnn.model.imported.load import load_network
from chessrnn.model.imported.recurrent_network import ACTIVATIONS, RecurrentLayer, RecurrentNetwork
from chessrnn.model.imported.summary import paying_block_size
from chessrnn.scripts.cli import whole


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a network in a model file and the size of its compressed weights."""
    kinds = "state_dict (.pt, .pth, .bin, .ckpt, .safetensors, .npz), TorchScript, .pt2, .onnx, .keras, .h5 or .tflite"
    parser.add_argument("model", type=Path, metavar="MODEL", help=kinds)
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        help="which network to use if the file holds several: a module name, an ONNX node name or its start, "
        "a Keras layer name, or the name of the output of a TFLite layer",
    )
    parser.add_argument(
        "--output-layer",
        metavar="NAME",
        help="linear layer behind the last recurrent one, or none; default the only one that fits",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="NPZ",
        help="values of inputs of an ONNX model, such as weights that the file does not contain",
    )
    parser.add_argument("--activation", choices=ACTIVATIONS, help="activation of a torch.nn.RNN; default tanh")
    parser.add_argument(
        "--k", type=whole, help="block size, a power of two from 1 to 16; default the one to 8 with the fewest bytes"
    )
    parser.add_argument(
        "--weight-bits",
        type=widths,
        default=8,
        metavar="B",
        help="bits of a weight, 2 to 8; default 8; or one number for each layer, e.g. 8,4",
    )


def widths(text: str) -> int | list[int]:
    """Read one number, or one for each layer with commas between them; for argparse."""
    return whole(text) if "," not in text else [whole(part) for part in text.split(",")]


def network_from(args: argparse.Namespace, prefix: str | None) -> RecurrentNetwork:
    """Read the network that the prefix chooses of the file that the arguments name.

    Raises
    ------
    InvalidValueError
        An option has a wrong value.
    InvalidFileError
        The file is missing or damaged, or its network cannot be read.
    MissingToolError
        The package that reads files of this kind is not installed.
    """
    require(args.k is None or args.k in BLOCK_SIZES, "--k", f"one of {', '.join(map(str, BLOCK_SIZES))}", args.k)
    given = args.weight_bits
    for bits in given if isinstance(given, list) else [given]:
        require_weight_bits(bits, "--weight-bits")
    return load_network(args.model, prefix, args.activation, args.inputs, args.output_layer)


def block_size_from(args: argparse.Namespace, layers: Sequence[RecurrentLayer]) -> int:
    """Block size that ``--k`` gives, or the one that pays for the sizes of the layers."""
    return paying_block_size(layers) if args.k is None else args.k
