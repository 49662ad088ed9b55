"""Compress a network in stages: dense float, circulant, approximated activations, few-bit integers."""

import argparse
import contextlib
import dataclasses
import json
import shlex
import sys
from pathlib import Path

from chessrnn.model.config_sections import BLOCK_SIZES
from chessrnn.model.errors import Interrupted, InvalidFileError, MissingToolError, require
from chessrnn.model.files import require_folder, require_regular_file, write_atomic
from chessrnn.model.text.char_model import ngram_bits_per_character
from chessrnn.model.text.corpus import load_corpus
from chessrnn.scripts.cli import (
    EXIT_INTERRUPTED,
    add_config_arguments,
    command_parser,
    config_from,
    count,
    given_name,
    note,
    positive,
    print_table,
    seed,
    share,
)
from chessrnn.scripts.training_watch import add_watch_arguments, watched
from chessrnn.sim.folder_lock import locked_folder

EXAMPLES = """examples:
  chessrnn train --export model/pretrained/char128.safetensors
  chessrnn train --text FILE --set quantization.weight_bits=4 --name four
  chessrnn train --task digits --fsdd recordings --set network.input_size=80
  chessrnn train --state-dict lstm.pt --dense 0 --text FILE
  chessrnn train --scratch --learned-scales --retraining-rate 0.05 --set quantization.weight_scale=row --text FILE
  torchrun --nproc-per-node 2 -m chessrnn train --text FILE

Every stage has a checkpoint in runs/<name>/, written at every validation and on Ctrl-C; the same command continues.
Public data: any UTF-8 text; https://github.com/Jakobovski/free-spoken-digit-dataset;
https://github.com/cmusphinx/cmudict."""
TASKS = ("characters", "words", "digits", "phones")
BASELINE_ORDERS = (0, 2)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("train", __doc__, EXAMPLES)
    add_config_arguments(parser)
    parser.add_argument("--task", choices=TASKS, default="characters", help="task to train for; default characters")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="UTF-8 text of a language task; default Python's own documentation"
    )
    parser.add_argument(
        "--test-percent", type=count, default=5, help="share of the text, at its end, for tests; default 5"
    )
    parser.add_argument("--fsdd", type=Path, metavar="DIR", help="folder of recordings {digit}_{speaker}_{take}.wav")
    parser.add_argument("--cmudict", type=Path, metavar="FILE", help="dictionary for the task phones, plain or .gz")
    parser.add_argument("--speaker", metavar="NAME", help="speaker held out for the test; default the official split")
    parser.add_argument(
        "--state-dict", type=Path, metavar="FILE", help="start from this float layer (.pt, .safetensors)"
    )
    parser.add_argument(
        "--lstm-only", action="store_true", help="read neither embedding nor output layer from the state_dict"
    )
    parser.add_argument(
        "--block-size-x", type=count, metavar="K", help="block size of W_x, if it differs from the rest"
    )
    parser.add_argument(
        "--block-size-h", type=count, metavar="K", help="block size of W_h, if it differs from the rest"
    )
    parser.add_argument(
        "--dense", type=seed, default=4000, metavar="N", help="updates of the dense stage; default 4000"
    )
    parser.add_argument(
        "--circulant", type=count, default=8000, metavar="N", help="updates of the circulant stage; default 8000"
    )
    parser.add_argument(
        "--scratch", action="store_true",
        help="start the circulant stage from random weights; the dense network then only teaches, or is left out with "
        "--dense 0",
    )  # fmt: skip
    parser.add_argument(
        "--approximate", type=count, default=500, metavar="N",
        help="updates of the stage with approximated activations; default 500",
    )  # fmt: skip
    parser.add_argument(
        "--quantized", type=count, default=7500, metavar="N", help="updates of the quantized stage; default 7500"
    )
    parser.add_argument("--batch", type=count, default=64, help="sequences of an update; default 64")
    parser.add_argument("--segment", type=count, default=64, help="steps of truncated back-propagation; default 64")
    parser.add_argument(
        "--cell-limit", type=positive, metavar="C", help="magnitude at which the cell state of a float LSTM saturates"
    )
    parser.add_argument("--reset-every", type=count, metavar="N", help="updates between zero states of a text's stream")
    parser.add_argument(
        "--dropout", type=share, default=0.0, metavar="P", help="dropout before the output layer; default 0"
    )
    parser.add_argument(
        "--learning-rate", type=positive, default=1e-2, help="peak rate of the float stages; default 0.01"
    )
    parser.add_argument(
        "--retraining-rate", type=positive, default=3e-3, help="peak rate of the other stages; default 0.003"
    )
    parser.add_argument(
        "--distillation", type=float, metavar="P",
        help="share of the dense network's predictions in the loss of all later stages; default 0.5, or 0 without a "
        "dense stage",
    )  # fmt: skip
    parser.add_argument(
        "--at-once", action="store_true", help="narrow the weights at once instead of from 8 over 4 to fewer bits"
    )
    parser.add_argument("--learned-scales", action="store_true", help="train the scales of the integer weights as well")
    parser.add_argument(
        "--evaluate-every", type=count, default=250, metavar="N", help="updates between validations; default 250"
    )
    parser.add_argument("--seed", type=seed, default=1, help="seed of weights and batches; default 1")
    parser.add_argument(
        "--threads", type=count, default=1, help="threads of torch; another number may round differently; default 1"
    )
    parser.add_argument(
        "--name", type=given_name, help="folder of the run below --runs; default the configuration's name"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="folder of runs; default runs"
    )
    add_watch_arguments(parser)
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weight image (.safetensors)")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def make_task(args: argparse.Namespace):
    """Create the task with its data."""
    from chessrnn.model.training.tasks import fsdd
    from chessrnn.model.training.tasks.digits import DigitTask
    from chessrnn.model.training.tasks.language import CharacterTask, WordTask
    from chessrnn.model.training.tasks.phones import PhoneTask, load_dictionary

    if args.task in ("characters", "words"):
        corpus = load_corpus(args.text, test_share=args.test_percent / 100)
        return (CharacterTask if args.task == "characters" else WordTask)(corpus, args.segment)
    for option in ("fsdd", "cmudict") if args.task == "phones" else ("fsdd",):
        if getattr(args, option) is None:
            raise InvalidFileError(f"--{option} must be given for the task {args.task}: see --help for public sources")
    recordings = fsdd.load(args.fsdd)
    if args.task == "digits":
        return DigitTask(recordings, args.speaker)
    return PhoneTask(recordings, load_dictionary(args.cmudict), args.speaker)


def make_stages(args: argparse.Namespace, config, task):
    """Create the chain of stages, and return the last one, which refers to the others."""
    from chessrnn.model.training.initial_weights import load_initial
    from chessrnn.model.training.pipeline import DISTILLATION, Stage, StageSettings
    from chessrnn.model.training.progressive import through_wider_weights

    starts_somewhere = args.dense > 0 or args.state_dict is not None or args.scratch
    require(starts_somewhere, "--dense", "at least 1 without --state-dict or --scratch", args.dense)
    require(
        not args.scratch or args.state_dict is None, "--scratch", "left out with --state-dict", str(args.state_dict)
    )
    require(args.dense > 0 or not args.distillation, "--dense", "at least 1 with --distillation", args.dense)
    distillation = args.distillation
    if distillation is None:
        distillation = DISTILLATION if args.dense else 0.0
    if task.num_features is not None:
        rule = f"{task.num_features}, as many as features of the task {args.task}"
        require(config.network.input_size == task.num_features, "network.input_size", rule, config.network.input_size)
    outputs, given = config.architecture.output_layer, task.num_outputs if args.task == "characters" else 0
    require(outputs in (0, given), "architecture.output_layer", f"0 or {given}" if given else "0", outputs)
    sizes = (args.block_size_x or config.block_size, args.block_size_h or config.block_size)
    for name, size in zip(("x", "h"), sizes, strict=True):
        rule = f"one of {', '.join(map(str, BLOCK_SIZES))}"
        require(size in BLOCK_SIZES, f"--block-size-{name}", rule, size)
    dense_config = config.replace({"compression.block_size": 1, "compression.output_block_size": 1,
                                   "architecture.engine": "direct", "architecture.output_lanes": None,
                                   "architecture.tile_rows": 1, "architecture.tile_cols": 1,
                                   "architecture.cell_lanes": None, "architecture.lookahead": None})  # fmt: skip
    block_sizes = None if sizes == (config.block_size,) * 2 else sizes
    if block_sizes is not None:
        scale, rule = config.quantization.weight_scale, "gate with block sizes of W_x and W_h apart"
        require(scale == "gate", "quantization.weight_scale", rule, scale)
        of_output = config.compression.output_block_size
        require(of_output == 1, "compression.output_block_size", "1 with block sizes of W_x and W_h apart", of_output)
        require(args.export is None, "--export", "left out with block sizes of W_x and W_h apart", str(args.export))
        config = dense_config

    def settings(updates: int, rate: float, distillation: float = distillation) -> StageSettings:
        return StageSettings(
            updates, args.batch, rate, warmup=min(200, -(-updates // 10)), distillation=distillation, seed=args.seed,
            evaluate_every=min(args.evaluate_every, updates), cell_limit=args.cell_limit, reset_every=args.reset_every,
            dropout=args.dropout,
        )  # fmt: skip

    initial = () if args.state_dict is None else load_initial(args.state_dict, config, task, args.lstm_only)
    stage = teacher = None
    if args.dense:
        stage = Stage("1-dense", "float", dense_config, settings(args.dense, args.learning_rate, 0.0), initial=initial)
        teacher, initial = stage if distillation else None, ()
    if args.scratch:
        require(sizes != (1, 1), "--scratch", "left out with a block size of 1", True)
        stage = None
    if sizes != (1, 1):
        settings_now = settings(args.circulant, args.learning_rate)
        stage = Stage("2-circulant", "float", config, settings_now, block_sizes, stage, initial, teacher)
        initial = ()
    for name, kind, updates in (
        ("3-approximate", "approximate", args.approximate),
        ("4-quantized", "quantized", args.quantized),
    ):
        settings_now = settings(updates, args.retraining_rate)
        if kind == "quantized":
            settings_now = dataclasses.replace(settings_now, learned_scales=args.learned_scales)
        stage = Stage(name, kind, config, settings_now, block_sizes, stage, initial, teacher)
        initial = ()
    assert stage is not None
    return stage if args.at_once else through_wider_weights(stage)


def stage_figures(last, task, folder: Path) -> list[dict]:
    """Figures on the test split after each stage of a finished chain, the first stage first."""
    from chessrnn.model.training.export import sequence_model
    from chessrnn.model.training.pipeline import run_stage

    figures, stage = [], last
    while stage is not None:
        network = run_stage(stage, task, folder)
        bits, size = stage.config.quantization.weight_bits, stage.config.block_size
        label = {
            "float": "dense float" if size == 1 and stage.block_sizes is None else "circulant float",
            "approximate": "with the hardware's activations",
            "quantized": f"integer reference, {bits}-bit weights",
        }[stage.kind]
        found = task.measure(sequence_model(network) if stage.kind == "quantized" else network, "test")
        figures.append({"stage": label, task.metric: round(found[task.metric], 4)})
        stage = stage.parent
    return figures[::-1]


def baselines(task) -> dict[str, float]:
    """Bits per character of Markov models, for comparison."""
    corpus = task.corpus
    return {
        f"order_{order}_bits_per_character": round(
            ngram_bits_per_character(corpus.train, corpus.test, order, task.symbols), 4
        )
        for order in BASELINE_ORDERS
    }


def main(argv: list[str] | None = None) -> int:
    """Train all stages, measure the last one, export it on request, and print the figures."""
    args = parse(argv)
    try:
        import torch
    except ImportError:
        raise MissingToolError("torch must be installed to train: pip install torch==2.13.0") from None
    from chessrnn.model.training.export import sequence_model, weight_image
    from chessrnn.model.training.pipeline import is_main_process, run_stage
    from chessrnn.model.training.processes import start_processes
    from chessrnn.model.training.study import removed_percent, weight_bytes
    from chessrnn.model.training.tasks.language import CharacterTask
    from chessrnn.model.training.trainable_cells import require_trainable

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    start_processes()
    config = config_from(args)
    require_trainable(config)
    limit, rule = args.cell_limit, "left out for cells other than lstm"
    require(limit is None or config.network.cell.startswith("lstm"), "--cell-limit", rule, limit)
    if args.export is not None:
        require(args.task == "characters", "--export", "left out but for the task characters", str(args.export))
        require_regular_file(args.export)
    require_folder(args.runs)
    task = make_task(args)
    stage = make_stages(args, config, task)
    folder = args.runs / (config.replace({"name": args.name}).name if args.name else config.name)
    try:
        lock = locked_folder(folder) if is_main_process() else contextlib.nullcontext()
        with lock, watched(args, folder, is_main_process()):
            network = run_stage(stage, task, folder)
    except Interrupted as interrupted:
        print(f"chessrnn train: {interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    if not is_main_process():
        return 0
    figures = {name: round(value, 4) for name, value in task.measure(sequence_model(network), "test").items()}
    arguments = sys.argv[1:] if argv is None else argv
    command = shlex.join(["chessrnn", "train", *(a for a in arguments if a != "--json")])
    fracs = list(network.config.quantization.weight_frac)
    results = {
        "task": task.name,
        **figures,
        **(baselines(task) if args.task == "characters" else {}),
        "weight_bytes": weight_bytes(stage),
        "removed_percent": round(removed_percent(stage, config.network.units), 2),
        "weight_frac": fracs,
        "updates": stage.total_updates,
        "checkpoints": str(folder),
        "config": str(folder / "config.json"),
    }
    write_atomic(folder / "config.json", network.config.to_json())
    if isinstance(task, CharacterTask):
        results["text"], results["text_sha256"] = task.corpus.name, task.corpus.sha256
        results["bits_per_character"] = figures["bits_per_symbol"]
    if args.export is not None:
        assert isinstance(task, CharacterTask)
        after = stage_figures(stage, task, folder)
        metrics = {**results, "stages": after, "settings": dataclasses.asdict(stage.settings)}
        # The network's configuration has the requested architecture, not the one of the dense stage.
        weight_image(network, task.symbols, text_sha256=task.corpus.sha256, metrics=metrics, command=command).save(
            args.export
        )
        results["export"] = str(args.export)
    if fracs != list(config.quantization.weight_frac):
        note(f"the weights fit --config {folder / 'config.json'}")
    write_atomic(folder / "report.json", json.dumps({"command": command, **results}, indent=2) + "\n")
    print(json.dumps(results, indent=2)) if args.json else print_table(list(results.items()))
    return 0
