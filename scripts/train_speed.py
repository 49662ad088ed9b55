"""Time a training pass, forward and backward, beside torch.nn.LSTM of the same size in the same run."""

import argparse
import json
import time
from collections.abc import Callable

from chessrnn.model.config import Config
from chessrnn.model.errors import MissingToolError, require
from chessrnn.scripts.cli import command_parser, count

EXAMPLES = """examples:
  chessrnn train-speed
  chessrnn train-speed --hidden 256 --block-sizes 4,8 --ways

Times are processor seconds of one thread, the least of --repeats rounds.  All networks take turns in a round, so that
the load of other programs affects all of them in the same way."""
STAGES = ("float", "approximate", "quantized")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("train-speed", __doc__, EXAMPLES)
    parser.add_argument("--input", type=count, default=512, metavar="X", help="input size; default 512")
    parser.add_argument("--hidden", type=count, default=512, metavar="H", help="hidden size; default 512")
    parser.add_argument("--batch", type=count, default=32, help="sequences of a pass; default 32")
    parser.add_argument("--steps", type=count, default=35, help="steps of a sequence; default 35")
    parser.add_argument("--block-sizes", default="8,16", metavar="LIST", help="block sizes; default 8,16")
    parser.add_argument(
        "--bits", default="8,4", metavar="LIST", help="weight widths of quantized networks; default 8,4"
    )
    parser.add_argument("--ways", action="store_true", help="time every algorithm of the products as well, in float")
    parser.add_argument("--repeats", type=count, default=7, help="rounds of the measurement; default 7")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers of an option such as ``8,16``."""
    parts = text.split(",")
    require(all(part.isdigit() for part in parts), option, "whole numbers with commas between", text)
    return [int(part) for part in parts]


def candidates(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Functions that do one training pass of each network, by name, with the dense torch.nn.LSTM first."""
    import torch

    from chessrnn.model.training.export import choose_formats
    from chessrnn.model.training.layers import QuantLstm
    from chessrnn.model.training.sequence_network import SequenceNetwork

    torch.manual_seed(1)
    x = torch.randn(args.steps, args.batch, args.input) * 0.5

    def passes(module) -> Callable[[], None]:
        def once() -> None:
            module.zero_grad(set_to_none=True)
            module(x)[0].sum().backward()

        return once

    def layer(k: int, stage: str, bits: int = 8, algorithm: str | None = None) -> QuantLstm:
        config = Config.from_dict(
            {
                "network": {"input_size": args.input, "hidden_size": args.hidden},
                "compression": {"block_size": k},
                "quantization": {"weight_bits": bits},
                "architecture": {"tile_rows": 1, "tile_cols": 1},
            }
        )
        network = SequenceNetwork(config, 1)
        if stage == "quantized":
            network.start_quantization(*choose_formats(network))
        trained = network.layer
        assert isinstance(trained, QuantLstm)
        trained.stage, trained.algorithm = stage, algorithm
        return trained

    found = {"torch.nn.LSTM": passes(torch.nn.LSTM(args.input, args.hidden))}
    found["k = 1, float"] = passes(layer(1, "float"))
    for k in numbers(args.block_sizes, "--block-sizes"):
        for stage in STAGES[:2]:
            found[f"k = {k}, {stage}"] = passes(layer(k, stage))
        for bits in numbers(args.bits, "--bits"):
            network = layer(k, "quantized", bits)
            algorithms = network.plan().algorithms
            assert algorithms is not None
            algorithm = type(algorithms[1][0]).__name__
            found[f"k = {k}, quantized, {bits} bit ({algorithm})"] = passes(network)
        for algorithm in ("expanded", "gather", "fast") if args.ways else ():
            found[f"k = {k}, float, {algorithm}"] = passes(layer(k, "float", algorithm=algorithm))
    return found


def measure(passes: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Least processor seconds of each pass, measured in rounds after one that warms up."""
    best = dict.fromkeys(passes, float("inf"))
    for round_ in range(repeats + 1):
        for name, once in passes.items():
            began = time.process_time()
            once()
            if round_:
                best[name] = min(best[name], time.process_time() - began)
    return best


def main(argv: list[str] | None = None) -> int:
    """Time all networks, and print the results."""
    args = parse(argv)
    try:
        import torch
    except ImportError:
        raise MissingToolError("torch must be installed to train: pip install torch==2.13.0") from None
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    seconds = measure(candidates(args), args.repeats)
    dense = seconds["torch.nn.LSTM"]
    results = {name: {"seconds": round(value, 5), "ratio": round(value / dense, 3)} for name, value in seconds.items()}
    if args.json:
        print(json.dumps(results, indent=2))
        return 0
    print(f"{args.input} x {args.hidden}, batch {args.batch}, {args.steps} steps, forward and backward")
    for name, value in results.items():
        print(f"{name:<40} {1000 * value['seconds']:9.1f} ms   {value['ratio']:6.2f} of torch.nn.LSTM")
    return 0
