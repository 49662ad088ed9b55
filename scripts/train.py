"""Train a compressed character model, float first and then with the accelerator's integers, and export it."""

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path

from model.char_model import CharModel
from model.corpus import SYMBOLS, load_corpus
from model.errors import MissingToolError, require
from scripts.cli import EXIT_INTERRUPTED, add_config_arguments, config_from, count, print_table, run_command, seed
from scripts.evaluate import measure

EXAMPLES = """examples:
  python -m scripts.train --export weights/char128.safetensors
  python -m scripts.train --name quick --steps 600 --export /tmp/quick.safetensors
  python -m scripts.train --name quick --resume

Ctrl-C leaves runs/<name>/checkpoint.pt, from which --resume continues to the same result and --export-only makes
a weight image at once."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--name", help="folder of the run below --runs; the configuration's name when left out")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="default runs")
    parser.add_argument("--text", type=Path, metavar="FILE", help="train on this UTF-8 text, not on Python's own")
    parser.add_argument("--steps", type=count, help="updates; default 20000, some 25 minutes on one core")
    parser.add_argument("--quantized-share", type=float, help="share of the steps with integers forward; default 0.4")
    parser.add_argument("--batch", type=count, help="parallel streams of text; default 64")
    parser.add_argument("--segment", type=count, help="characters of truncated back-propagation; default 64")
    parser.add_argument("--learning-rate", type=float, help="peak of the cosine; default 0.01")
    parser.add_argument("--evaluate-every", type=count, metavar="STEPS", help="between checkpoints; default 250")
    parser.add_argument("--seed", type=seed, help="default 1")
    parser.add_argument("--threads", type=count, default=1, help="of torch; another number may round differently")
    parser.add_argument("--resume", action="store_true", help="continue the run, with its own settings")
    parser.add_argument("--export-only", action="store_true", help="no training: export the run as it is")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weight image (.safetensors)")
    parser.add_argument("--json", action="store_true", help="results as JSON on stdout")
    return parser.parse_args(argv)


def _reproducing_command(argv: list[str] | None) -> str:
    arguments = sys.argv[1:] if argv is None else argv
    kept = [argument for argument in arguments if argument not in ("--resume", "--export-only", "--json")]
    return shlex.join(["python", "-m", "scripts.train", *kept])


def main(argv: list[str] | None = None) -> int:
    """Parse, train, export, print."""
    args = parse(argv)
    require(not (args.export_only and args.export is None), "--export", "given with --export-only", args.export)
    try:
        import torch
    except ImportError:
        raise MissingToolError("torch must be installed to train: pip install torch==2.13.0") from None
    from model.training.export import weight_image
    from model.training.loop import Trainer, TrainSettings

    torch.set_num_threads(args.threads)
    config = config_from(args)
    corpus = load_corpus(args.text)
    folder = args.runs / (args.name or config.name)
    checkpoint = folder / "checkpoint.pt"
    fields = {field.name for field in dataclasses.fields(TrainSettings)}
    given = {name: value for name, value in vars(args).items() if name in fields and value is not None}
    if args.resume or args.export_only:
        trainer = Trainer.resume(checkpoint, corpus, config)
    else:
        trainer = Trainer(config, corpus, SYMBOLS, TrainSettings(**given))
    if not args.export_only and not trainer.run(checkpoint):
        print(f"interrupted at step {trainer.step}: {checkpoint} is complete, --resume continues", file=sys.stderr)
        return EXIT_INTERRUPTED

    network = trainer.best_network()
    settings = dataclasses.asdict(trainer.settings)
    image = weight_image(network, trainer.symbols, text_sha256=corpus.sha256)
    results = measure(CharModel(image), corpus)
    image = dataclasses.replace(
        image, metrics={**results, "steps": trainer.step, "settings": settings}, command=_reproducing_command(argv)
    )
    if args.export is not None:
        image.save(args.export)
    fracs = list(image.config.quantization.weight_frac)
    if fracs != list(config.quantization.weight_frac):
        print(f"note: the weights fit --set quantization.weight_frac={json.dumps(fracs)}", file=sys.stderr)
    results = {**results, "weight_frac": fracs, "checkpoint": str(checkpoint), "export": str(args.export or "")}
    print(json.dumps(results, indent=2)) if args.json else print_table(list(results.items()))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, "train"))
