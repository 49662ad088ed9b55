"""Measure the bits per character of a weight image on the integer reference, and of Markov models for comparison."""

import argparse
import json
from pathlib import Path

from chessrnn.model.text.char_model import CharModel, ngram_bits_per_character
from chessrnn.model.text.corpus import Corpus, load_corpus
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts.cli import (
    add_config_arguments,
    command_parser,
    config_from,
    count,
    not_negative,
    note,
    print_table,
    seed,
    settings_from,
)
from chessrnn.scripts.weight_arguments import SHIPPED

EXAMPLES = """examples:
  chessrnn evaluate
  chessrnn evaluate --weights model/pretrained/char128.safetensors --sample "The function " --temperature 0.7"""
BASELINE_ORDERS = (0, 2)
DEFAULT = "char128"
STREAMS = 16


def measure(model: CharModel, corpus: Corpus, streams: int = STREAMS) -> dict[str, object]:
    """Measure a model and the Markov models on the whole test split."""
    results: dict[str, object] = {
        "text": corpus.name,
        "text_sha256": corpus.sha256,
        "test_characters": len(corpus.test),
        "bits_per_character": round(model.bits_per_character(corpus.test, streams), 4),
    }
    for order in BASELINE_ORDERS:
        value = ngram_bits_per_character(corpus.train, corpus.test, order, model.symbols)
        results[f"order_{order}_bits_per_character"] = round(value, 4)
    return results


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("evaluate", __doc__, EXAMPLES)
    add_config_arguments(parser, DEFAULT, from_weights=True)
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="weight image; default the shipped one of the preset"
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help="UTF-8 text whose last 5 %% are the test; default Python's own documentation",
    )  # fmt: skip
    parser.add_argument(
        "--streams",
        type=count,
        default=STREAMS,
        help=f"parts that the text is scored in side by side; default {STREAMS}",
    )
    parser.add_argument("--sample", metavar="PROMPT", help="generate a sample that continues this text")
    parser.add_argument("--length", type=count, default=300, help="characters of the sample; default 300")
    parser.add_argument(
        "--temperature", type=not_negative, default=0.0,
        help="randomness of the sample, 0 for the most likely characters; default 0",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, help="seed of the sample; default 0")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def image_from(args: argparse.Namespace) -> tuple[WeightImage, Path]:
    """Weight image to measure, checked against the configuration if one is given, and its path."""
    if args.config is None and args.weights is not None:
        image, settings = WeightImage.load(args.weights), settings_from(args)
        return (WeightImage.load(args.weights, image.config.replace(settings)) if settings else image), args.weights
    args.config = args.config or DEFAULT
    config = config_from(args)
    path = args.weights or SHIPPED / f"{config.name}.safetensors"
    return WeightImage.load(path, config), path


def main(argv: list[str] | None = None) -> int:
    """Measure a weight image, and print the figures."""
    args = parse(argv)
    image, path = image_from(args)
    model, corpus = CharModel(image), load_corpus(args.text)
    results = {"weights": str(args.weights or f"{SHIPPED.name}/{path.name}"), **measure(model, corpus, args.streams)}
    if args.text is None and image.text_sha256 != corpus.sha256:
        note("the image was trained on the text of another Python version")
    if args.sample is not None:
        results["sample"] = model.generate(args.sample, args.length, args.temperature, args.seed)
    print(json.dumps(results, indent=2)) if args.json else print_table(list(results.items()))
    return 0
