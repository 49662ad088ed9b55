"""What compression costs: dense float against circulant few-bit networks, measured on the integer reference."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from model.accuracy_report import loss_text, markdown, mean_rows
from model.corpus import load_corpus
from model.errors import InvalidFileError, MissingToolError, require
from model.files import write_atomic
from scripts.cli import EXIT_INTERRUPTED, count, positive, run_command, seed

EXAMPLES = """examples:
  python -m scripts.accuracy --text tinyshakespeare.txt --test-percent 10
  python -m scripts.accuracy --fsdd recordings --cmudict cmudict.gz --speakers george,theo
  python -m scripts.accuracy --text FILE --fsdd DIR --cmudict FILE --quick
  python -m scripts.accuracy --text FILE --tasks characters --ablations

Every network is a checkpoint below --runs; what is there is not trained again, and Ctrl-C loses nothing.
Public data: any UTF-8 text (tinyshakespeare, War and Peace from gutenberg.org); the Free Spoken Digit Dataset
(https://github.com/Jakobovski/free-spoken-digit-dataset); the CMU pronouncing dictionary
(https://github.com/cmusphinx/cmudict)."""
TASKS = ("characters", "words", "digits", "phones")
EVERY_SPEAKER = "all"
SPLITS = ("both", "official", "speakers")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.accuracy",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text of the language tasks")
    parser.add_argument("--test-percent", type=count, default=5, help="end of the text that is tested; default 5")
    parser.add_argument("--fsdd", type=Path, metavar="DIR", help="recordings {digit}_{speaker}_{take}.wav")
    parser.add_argument("--cmudict", type=Path, metavar="FILE", help="dictionary for the task phones, plain or .gz")
    parser.add_argument("--tasks", metavar="LIST", help=f"of {','.join(TASKS)}; default all whose data is given")
    parser.add_argument("--splits", choices=SPLITS, default="both", help="of the recordings; default both")
    parser.add_argument("--speakers", default=EVERY_SPEAKER, metavar="LIST", help="held out; default all of them")
    parser.add_argument("--hidden-language", type=count, default=256, help="H of the language tasks; default 256")
    parser.add_argument("--hidden-speech", type=count, default=128, help="H of the speech tasks; default 128")
    parser.add_argument("--scale", type=positive, default=1.0, help="factor of every number of updates; default 1")
    parser.add_argument("--quick", action="store_true", help="a smoke test of minutes: a tenth of the updates")
    parser.add_argument("--ablations", action="store_true", help="also block sizes apart, activations, scratch, tries")
    parser.add_argument("--finished", action="store_true", help="report on what is finished, train nothing")
    parser.add_argument("--seed", type=seed, default=1, help="default 1")
    parser.add_argument("--threads", type=count, default=1, help="of torch; another number may round differently")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), metavar="FOLDER", help="checkpoints")
    parser.add_argument("--out", type=Path, default=Path("build/accuracy"), metavar="FOLDER", help="report")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    return parser.parse_args(argv)


def chosen_tasks(args: argparse.Namespace) -> list[str]:
    """Names of the tasks to run, with their data checked to be given."""
    if args.tasks is not None:
        names = args.tasks.split(",")
        for name in names:
            require(name in TASKS, "--tasks", f"made of {', '.join(TASKS)}", name)
    else:
        names = (["characters"] if args.text else []) + (["digits"] if args.fsdd else [])
        names += ["phones"] if args.fsdd and args.cmudict else []
        require(bool(names), "--text or --fsdd", "given, as there is nothing to measure on", None)
    for name in names:
        for needed, option in (("characters words", "text"), ("digits phones", "fsdd"), ("phones", "cmudict")):
            if name in needed.split() and getattr(args, option) is None:
                raise InvalidFileError(f"--{option} must be given for the task {name}: see --help for public sources")
    return names


def draw(report: dict, folder: Path) -> list[str]:
    """Loss against compression, one line for each study; names of the files."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print("accuracy: matplotlib is not installed: no figure", file=sys.stderr)
        return []
    plt.rcParams["svg.hashsalt"] = "chessrnn"
    units = sorted({row["loss_unit"] for study in report["studies"] for row in study["rows"]})
    figure, axes = plt.subplots(1, len(units), figsize=(6 * len(units), 4.6), squeeze=False)
    for axis, unit in zip(axes[0], units, strict=True):
        for study in report["studies"]:
            rows = [row for row in study["rows"][1:] if row["loss_unit"] == unit and row["weight_bits"] < 32]
            if not rows:
                continue
            dense = study["rows"][0]["weight_bytes"]
            rows = sorted(rows, key=lambda row: -row["weight_bytes"])
            ratios = [dense / row["weight_bytes"] for row in rows]
            (line,) = axis.plot(ratios, [row["loss"] for row in rows], "o", markersize=4, label=study["title"])
            for row, ratio in zip(rows, ratios, strict=True):
                k = "/".join(str(size) for size in dict.fromkeys(row["block_sizes"]))
                axis.annotate(f"k{k} b{row['weight_bits']}", (ratio, row["loss"]), fontsize=6, color=line.get_color(),
                              xytext=(3, 3), textcoords="offset points")  # fmt: skip
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.margins(0.15)
        name = "relative increase of perplexity, %" if unit != "points" else "increase of the error rate, points"
        axis.set(xlabel="dense float32 bytes / compressed bytes", ylabel=name)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend(fontsize=7)
    figure.suptitle("Loss against compression, integer reference, whole test sets")
    figure.tight_layout()
    for suffix in ("svg", "png"):
        figure.savefig(folder / f"accuracy.{suffix}", dpi=120, metadata={"Date": None} if suffix == "svg" else None)
    plt.close(figure)
    return ["accuracy.svg", "accuracy.png"]


def language_rows(rows, ablations: bool):
    """Rows of a language task, what is asked for most first."""
    k4, k8, k16 = (rows.circulant(k) for k in (4, 8, 16))
    table = [
        rows.baseline(), k8, rows.quantized(k8, 8), k4, rows.quantized(k4, 4), rows.quantized(k8, 4),
        rows.quantized(k4, 2), k16, rows.quantized(k16, 8), rows.quantized(k8, 6), rows.quantized(k8, 3),
        rows.quantized(k4, 8), rows.quantized(k4, 3), rows.quantized(k16, 4),
    ]  # fmt: skip
    return table + (ablation_rows(rows) if ablations else [])


def ablation_rows(rows):
    """What a user asks, and what the literature does where a row misses."""
    k8 = rows.circulant(8)
    scratch, distilled, longer = rows.circulant(8, scratch=True), rows.circulant(8, distillation=0.5), None
    longer = rows.circulant(8, factor=2)
    wider = rows.circulant(8, hidden=round(rows.hidden_size * 1.5) // 16 * 16)
    apart = [rows.circulant(0, sizes=sizes) for sizes in ((4, 8), (8, 4), (1, 8), (8, 16))]

    def noted(row, note):
        return type(row)(row.label, row.stage, note)

    return [
        noted(scratch, "from scratch"),
        noted(rows.quantized(scratch, 8), "from scratch"),
        noted(rows.quantized(k8, 8, activation="shift"), "multiplier-free activations"),
        *(noted(rows.quantized(row, 8), "block sizes apart") for row in apart),
        noted(rows.quantized(distilled, 8, distillation=0.5), "distilled"),
        noted(rows.quantized(distilled, 4, distillation=0.5), "distilled"),
        noted(rows.quantized(longer, 8), "retrained twice as long"),
        noted(rows.quantized(wider, 8), "H 1.5 times as large"),
        noted(rows.quantized(wider, 4), "H 1.5 times as large"),
    ]


def speech_rows(rows, ablations: bool):
    """Rows of a speech task."""
    k8, k16 = rows.circulant(8), rows.circulant(16)
    table = [rows.baseline(), k8, rows.quantized(k8, 8), rows.quantized(k8, 4), rows.quantized(k16, 8)]
    return table + ([rows.quantized(k8, 6), rows.quantized(k8, 3), rows.quantized(k16, 4)] if ablations else [])


def scaled(args: argparse.Namespace, **updates: int) -> dict[str, int]:
    """Updates of the stages, as ``--scale`` and ``--quick`` want them."""
    factor = args.scale * (0.1 if args.quick else 1.0)
    return {name: max(1, round(value * factor)) for name, value in updates.items()}


def studies(args: argparse.Namespace):
    """(title, description, [(task, rows)], H) for every task; several tasks of one entry are averaged."""
    from model.training.study import Budget, Rows
    from model.training.tasks import fsdd
    from model.training.tasks.digits import DigitTask
    from model.training.tasks.language import CharacterTask, WordTask
    from model.training.tasks.phones import PhoneTask, load_dictionary

    names = chosen_tasks(args)
    if {"characters", "words"} & set(names):
        corpus = load_corpus(args.text, test_share=args.test_percent / 100)
    for name in ("characters", "words"):
        if name not in names:
            continue
        if name == "characters":
            task, size = CharacterTask(corpus), 64
            budget = Budget(**scaled(args, dense=1500, circulant=1500, approximate=200, quantized=600), seed=args.seed)
        else:
            task, size = WordTask(corpus), 128
            budget = Budget(**scaled(args, dense=1500, circulant=1500, approximate=200, quantized=600), seed=args.seed)
        rows = language_rows(Rows(size, args.hidden_language, budget), args.ablations)
        yield (
            f"{name}, {corpus.name}",
            f"X = {size}, H = {args.hidden_language}, {task.num_symbols} symbols; the last {args.test_percent} % of "
            f"the text ({len(task.codes['test']):,} symbols) are the test set.",
            [(task, rows)],
            args.hidden_language,
        )
    if not {"digits", "phones"} & set(names):
        return
    recordings = fsdd.load(args.fsdd)
    dictionary = load_dictionary(args.cmudict) if "phones" in names else None
    everyone = fsdd.speakers(recordings)
    held = everyone if args.speakers == EVERY_SPEAKER else args.speakers.split(",")
    for name in ("digits", "phones"):
        if name not in names:
            continue
        # Updates of the four stages.  Alignments take longer to find than digits; every held-out speaker has networks
        # of its own.
        budgets = {
            "official": (600, 600, 100, 300) if name == "digits" else (600, 1200, 50, 250),
            "speakers": (300, 300, 50, 150) if name == "digits" else (600, 1200, 50, 250),
        }
        rows = {}
        for split, updates in budgets.items():
            named = dict(zip(("dense", "circulant", "approximate", "quantized"), updates, strict=True))
            budget = Budget(**scaled(args, **named), batch=64, evaluate_every=100, learning_rate=4e-3, seed=args.seed)
            rows[split] = Rows(fsdd.NUM_FEATURES, args.hidden_speech, budget)
        size = f"X = {fsdd.NUM_FEATURES} (log-mel), H = {args.hidden_speech}"

        def make(speaker, name=name):
            if name == "digits":
                return DigitTask(recordings, speaker)
            return PhoneTask(recordings, dictionary, speaker)

        if args.splits != "speakers":
            yield (
                f"{name}, official split",
                f"{size}; takes 0 to 4 of every speaker are the test set.",
                [(make(None), speech_rows(rows["official"], args.ablations))],
                args.hidden_speech,
            )
        if args.splits != "official":
            yield (
                f"{name}, leave one speaker out",
                f"{size}; mean over the held-out speakers {', '.join(held)}, each with networks of its own.",
                [(make(speaker), speech_rows(rows["speakers"], False)) for speaker in held],
                args.hidden_speech,
            )


def main(argv: list[str] | None = None) -> int:
    """Parse, train and measure, write the report."""
    args = parse(argv)
    chosen_tasks(args)
    try:
        import torch
    except ImportError:
        raise MissingToolError("torch must be installed to train: pip install torch==2.13.0") from None
    from model.training.pipeline import Interrupted, is_main_process
    from model.training.processes import start_processes
    from model.training.study import run_rows

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    start_processes()
    arguments = sys.argv[1:] if argv is None else argv
    report = {"command": shlex.join(["python", "-m", "scripts.accuracy", *arguments]), "studies": []}

    def show(row: dict) -> None:
        if not args.json and is_main_process():
            text = (
                f"{row['task']:<16} {row['label']:<28} {row['weight_bytes']:>9,} bytes {row['removed_percent']:6.1f} %"
            )
            print(f"{text}  {row['metric']} {row['value']:.3f} ({loss_text(row)})  {row['note']}", flush=True)

    try:
        for title, description, parts, hidden in studies(args):
            tables = [
                run_rows(rows, task, args.runs / task.name, hidden, show, not args.finished) for task, rows in parts
            ]
            tables = [table for table in tables if table]
            if not tables:
                continue
            rows = mean_rows(tables)
            study = {"title": title, "description": description, "rows": rows}
            if len(tables) > 1:
                study["parts"] = tables
            report["studies"].append(study)
            if is_main_process():
                write_report(report, args.out)
    except Interrupted as interrupted:
        print(f"accuracy: {interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    if is_main_process():
        files = ["accuracy.json", "accuracy.md", *draw(report, args.out)]
        print(json.dumps(report, indent=2)) if args.json else print(f"written: {args.out}/{', '.join(files)}")
    return 0


def write_report(report: dict, folder: Path) -> None:
    """JSON and Markdown."""
    write_atomic(folder / "accuracy.json", json.dumps(report, indent=2) + "\n")
    write_atomic(folder / "accuracy.md", markdown(report))


if __name__ == "__main__":
    sys.exit(run_command(main, "accuracy"))
