"""Measure the loss of accuracy by compression: dense float networks beside circulant few-bit ones in integers."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from chessrnn.model.cells import CELLS
from chessrnn.model.errors import Interrupted, InvalidFileError, MissingToolError, require
from chessrnn.model.files import require_folder, write_atomic
from chessrnn.model.jobs import run_jobs
from chessrnn.model.text.corpus import load_corpus
from chessrnn.model.training.study_report import loss_text, markdown, mean_rows, rows_so_far
from chessrnn.scripts.cli import EXIT_INTERRUPTED, command_parser, count, not_negative, note, positive, seed, share
from chessrnn.scripts.training_watch import add_watch_arguments, watched
from chessrnn.scripts.worker_arguments import add_worker_arguments, workers_from
from chessrnn.sim.report_page.study_page import STUDY_PAGE, write_study_page

EXAMPLES = """examples:
  chessrnn accuracy --text tinyshakespeare.txt --test-percent 10
  chessrnn accuracy --text FILE --tasks characters --rows k8-b4,k8-scratch-b4 --seeds 1,2
  chessrnn accuracy --fsdd recordings --cmudict cmudict.gz --speakers george,theo
  chessrnn accuracy --text FILE --fsdd DIR --cmudict FILE --quick
  chessrnn accuracy --text FILE --tasks characters --ablations
  chessrnn accuracy --fsdd DIR --tasks digits --splits official --cell gru

Every network has a checkpoint below --runs.  Finished ones are not trained again, and the same command continues after
Ctrl-C.
Public data: any UTF-8 text (tinyshakespeare, War and Peace from gutenberg.org); the Free Spoken Digit Dataset
(https://github.com/Jakobovski/free-spoken-digit-dataset); the CMU pronouncing dictionary
(https://github.com/cmusphinx/cmudict)."""
TASKS = ("characters", "words", "digits", "phones")
EVERY_SPEAKER = "all"
SPLITS = ("both", "official", "speakers")
AUGMENTATIONS = ("noise", "warp")
# Factor of the numbers of updates in a smoke test.
QUICK = 0.1
# Options that the study of every task decides where they are left out.
SCALES = ("learned_scales", "row_scales")


def names(text: str) -> list[str]:
    """``argparse`` type of names that are separated by commas."""
    return text.split(",")


def seeds(text: str) -> list[int]:
    """``argparse`` type of seeds that are separated by commas."""
    return list(dict.fromkeys(seed(part) for part in text.split(",")))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("accuracy", __doc__, EXAMPLES)
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text of the language tasks")
    parser.add_argument(
        "--test-percent", type=count, default=5, help="share of the text, at its end, for tests; default 5"
    )
    parser.add_argument("--fsdd", type=Path, metavar="DIR", help="folder of recordings {digit}_{speaker}_{take}.wav")
    parser.add_argument("--cmudict", type=Path, metavar="FILE", help="dictionary for the task phones, plain or .gz")
    parser.add_argument("--tasks", metavar="LIST", help=f"some of {','.join(TASKS)}; default all whose data is given")
    parser.add_argument("--splits", choices=SPLITS, default="both", help="splits of the recordings; default both")
    parser.add_argument(
        "--speakers", default=EVERY_SPEAKER, metavar="LIST", help="speakers held out in turn; default all of them"
    )
    parser.add_argument("--hidden-language", type=count, default=256, help="H of the language tasks; default 256")
    parser.add_argument("--hidden-speech", type=count, default=128, help="H of the speech tasks; default 128")
    parser.add_argument("--cell", choices=tuple(CELLS), default="lstm", help="recurrent cell; default lstm")
    parser.add_argument(
        "--stages", type=stages, metavar="D,C,A,Q",
        help="updates of the dense, circulant, approximate and quantized stage; default those of the study",
    )  # fmt: skip
    parser.add_argument("--scale", type=positive, default=1.0, help="factor of all numbers of updates; default 1")
    parser.add_argument(
        "--retraining-rate", type=positive, metavar="RATE",
        help="peak rate of the stages after the float ones; default that of the study",
    )  # fmt: skip
    parser.add_argument(
        "--learning-rate", type=positive, help="peak rate of the float stages; default that of the study"
    )
    parser.add_argument(
        "--cell-limit", type=not_negative, metavar="C",
        help="magnitude at which float cell states saturate, 0 for none; default 8 for texts, otherwise 0",
    )  # fmt: skip
    parser.add_argument(
        "--reset-every", type=seed, metavar="N",
        help="updates between zero states of a stream of text, 0 for never; default 16",
    )  # fmt: skip
    parser.add_argument(
        "--dropout", type=share, default=0.0, metavar="P", help="dropout before the output layer; default 0"
    )
    parser.add_argument(
        "--distillation", type=share, metavar="P",
        help="share of the dense baseline's predictions in the loss of the integer stages, 0 for none; default 0.5",
    )  # fmt: skip
    parser.add_argument(
        "--at-once", action="store_true", help="narrow the weights at once instead of from 8 over 4 to fewer bits"
    )
    parser.add_argument(
        "--learned-scales", action=argparse.BooleanOptionalAction,
        help="train the scales of the integer weights as well (default)",
    )  # fmt: skip
    parser.add_argument(
        "--row-scales", action=argparse.BooleanOptionalAction,
        help="give every block row of the integer weights a scale of its own (default)",
    )  # fmt: skip
    parser.add_argument(
        "--half-levels", action="store_true",
        help="make the integer weights odd (±1, ±3 for 2 bits), so that no code is lost",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smoke test of some minutes with a tenth of the updates")
    parser.add_argument(
        "--ablations", action="store_true",
        help="add rows of projected networks, other block sizes of W_x and W_h, other activations and other recipes",
    )  # fmt: skip
    parser.add_argument(
        "--rows",
        type=names,
        metavar="LIST",
        help="only these rows and the baseline, by names such as k4-scratch-b4 (k = 4, from random weights, 4 bits), "
        "k8-b8 (projected) or k4-b2-undistilled-at-once-fixed; plain is the row of the PyTorch script",
    )
    parser.add_argument(
        "--augmentation", choices=AUGMENTATIONS, default="noise", help="augmentation of recordings; default noise"
    )
    parser.add_argument("--finished", action="store_true", help="report finished networks, and train none")
    parser.add_argument(
        "--seeds", type=seeds, default=[1], metavar="LIST", help="seeds whose results are averaged; default 1"
    )
    parser.add_argument(
        "--threads", type=count, default=1, help="threads of torch; another number may round differently; default 1"
    )
    add_worker_arguments(parser, "rows of any seed and held-out speaker")
    add_watch_arguments(parser)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/accuracy"), metavar="FOLDER",
        help="folder of checkpoints; default runs/accuracy",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("build/accuracy"), metavar="FOLDER",
        help="folder of the report; default build/accuracy",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(argv)


def chosen_tasks(args: argparse.Namespace) -> list[str]:
    """Names of the tasks to run, after a check that their data is given."""
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


def stages(text: str) -> dict[str, int]:
    """``argparse`` type of the numbers of updates of the four stages, as fields of a budget."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    names = ("dense", "circulant", "approximate", "quantized")
    if len(values) != len(names) or min(values) < 1:
        raise argparse.ArgumentTypeError(f"must be four whole numbers from 1, not {text!r}")
    return dict(zip(names, values, strict=True))


def draw(report: dict, folder: Path) -> list[str]:
    """Draw loss against compression, one line for each study, and return the names of the files."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        note("matplotlib is not installed, so no figure is drawn")
        return []
    plt.rcParams["svg.hashsalt"] = "chessrnn"
    units = sorted({row["loss_unit"] for study in report["studies"] for row in study["rows"]})
    figure, axes = plt.subplots(1, len(units), figsize=(7.5 * len(units), 5.2), squeeze=False)
    for axis, unit in zip(axes[0], units, strict=True):
        for study in report["studies"]:
            rows = [row for row in study["rows"][1:] if row["loss_unit"] == unit and row["weight_bits"] < 32]
            if not rows:
                continue
            dense = study["rows"][0]["weight_bytes"]
            rows = sorted(rows, key=lambda row: -row["weight_bytes"])
            ratios = [dense / row["weight_bytes"] for row in rows]
            (line,) = axis.plot(ratios, [row["loss"] for row in rows], "o", markersize=4, label=study["title"])
            # The names of points of similar height alternate between the left and the right.
            by_loss = sorted(zip(ratios, rows, strict=True), key=lambda pair: (pair[0], pair[1]["loss"]))
            for number, (ratio, row) in enumerate(by_loss):
                sizes = list(dict.fromkeys(row["block_sizes"]))
                name = f"k{'/'.join(map(str, sizes))} b{row['weight_bits']}"
                if row["note"] and len(sizes) == 1:
                    name += f", {row['note']}"
                axis.annotate(name, (ratio, row["loss"]), fontsize=6, color=line.get_color(), va="center",
                              xytext=(-5 if number % 2 else 5, 0), textcoords="offset points",
                              ha="right" if number % 2 else "left")  # fmt: skip
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.margins(0.3, 0.15)
        name = "relative increase of perplexity, %" if unit != "points" else "increase of the error rate, points"
        axis.set(xlabel="dense float32 bytes / compressed bytes", ylabel=name)
        axis.grid(True, which="both", alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    figure.suptitle("Loss against compression, integer reference, whole test sets")
    figure.tight_layout()
    for suffix in ("svg", "png"):
        figure.savefig(folder / f"accuracy.{suffix}", dpi=120, metadata={"Date": None} if suffix == "svg" else None)
    plt.close(figure)
    return ["accuracy.svg", "accuracy.png"]


def studies(args: argparse.Namespace) -> Iterator[tuple[dict, list]]:
    """Yield the title and description of each table, and its parts (task, rows, folder of checkpoints) to average."""
    from chessrnn.model.training.study import STUDIES

    names = chosen_tasks(args)
    make, speakers = task_makers(args, names)
    for study in STUDIES:
        if study.task not in names or (study.split in SPLITS and args.splits not in ("both", study.split)):
            continue
        spoken = study.split != "text"
        hidden = args.hidden_speech if spoken else args.hidden_language
        tasks = [make[study.task](speaker) for speaker in (speakers if study.split == "speakers" else [None])]
        factor = args.scale * (QUICK if args.quick else 1.0)
        if args.stages is not None:
            study = replace(study, budget=replace(study.budget, **args.stages))
        if args.retraining_rate is not None:
            study = replace(study, budget=replace(study.budget, retraining_rate=args.retraining_rate))
        if args.learning_rate is not None:
            study = replace(study, budget=replace(study.budget, learning_rate=args.learning_rate))
        if args.distillation is not None:
            study = replace(study, budget=replace(study.budget, distillation=args.distillation))
        recipe = {"half_levels": args.half_levels}
        recipe |= {name: getattr(args, name) for name in SCALES if getattr(args, name) is not None}
        study = replace(study, budget=replace(study.budget, progressive=not args.at_once, **recipe))
        limit = study.budget.cell_limit if args.cell_limit is None else args.cell_limit
        every = study.budget.reset_every if args.reset_every is None else args.reset_every
        study = replace(
            study,
            budget=replace(
                study.budget,
                cell_limit=(limit or None) if args.cell.startswith("lstm") else None,
                reset_every=(every or None) if study.split == "text" else None,
            ),
        )
        study = replace(study, cell=args.cell, budget=replace(study.budget, dropout=args.dropout))
        # Networks of other cells are stored separately.
        suffix = "" if args.cell == "lstm" else f"-{args.cell}"
        tables = [(n, study.table(hidden, factor, n, args.ablations, args.rows)) for n in args.seeds]
        parts = [(task, rows, args.runs / f"{task.name}-{n}{suffix}") for task in tasks for n, rows in tables]
        if spoken:
            title = f"{study.task}, " + ("official split" if study.split == "official" else "leave one speaker out")
            tested = "takes 0 to 4 of every speaker are the test set"
            if study.split == "speakers":
                tested = f"mean over the held-out speakers {', '.join(speakers)}, each with networks of its own"
            text = f"X = {study.input_size} (log-mel), H = {hidden}; training data with {args.augmentation}; {tested}"
        else:
            task = tasks[0]
            title = f"{study.task}, {task.corpus.name}"
            text = (
                f"X = {study.input_size}, H = {hidden}, {task.num_symbols} symbols; the last {args.test_percent} % of "
                f"the text ({len(task.codes['test']):,} symbols) are the test set"
            )
        if args.cell != "lstm":
            title, text = f"{title}, {args.cell}", f"Cell {args.cell}; {text}"
        if len(args.seeds) > 1:
            text += f"; mean of the seeds {', '.join(map(str, args.seeds))}"
        yield {"title": title, "description": f"{text}.", "hidden_size": hidden}, parts


def task_makers(args: argparse.Namespace, names: list[str]) -> tuple[dict[str, Callable], list[str]]:
    """Functions that make the task of a speaker, by name, on data that is loaded once; and the speakers to hold out."""
    from chessrnn.model.training.tasks import fsdd
    from chessrnn.model.training.tasks.digits import DigitTask
    from chessrnn.model.training.tasks.language import CharacterTask, WordTask
    from chessrnn.model.training.tasks.phones import PhoneTask, load_dictionary

    make, speakers = {}, []
    if {"characters", "words"} & set(names):
        corpus = load_corpus(args.text, test_share=args.test_percent / 100)
        make |= {"characters": lambda _: CharacterTask(corpus), "words": lambda _: WordTask(corpus)}
    if {"digits", "phones"} & set(names):
        recordings = fsdd.load(args.fsdd)
        everyone = fsdd.speakers(recordings)
        speakers = everyone if args.speakers == EVERY_SPEAKER else args.speakers.split(",")
        make["digits"] = lambda speaker: DigitTask(recordings, speaker, args.augmentation)
    if "phones" in names:
        dictionary = load_dictionary(args.cmudict)
        make["phones"] = lambda speaker: PhoneTask(recordings, dictionary, speaker, args.augmentation)
    return make, speakers


def main(argv: list[str] | None = None) -> int:
    """Train and measure all networks, and write the report."""
    args = parse(argv)
    require_folder(args.runs)
    require_folder(args.out)
    names = set(chosen_tasks(args))
    limit, rule = args.cell_limit, "left out for cells other than lstm"
    require(limit is None or args.cell.startswith("lstm"), "--cell-limit", rule, limit)
    every, rule = args.reset_every, "left out without a task on text"
    require(every is None or bool(names & {"characters", "words"}), "--reset-every", rule, every)
    try:
        import torch
    except ImportError:
        raise MissingToolError("torch must be installed to train: pip install torch==2.13.0") from None
    from chessrnn.model.training.pipeline import is_main_process
    from chessrnn.model.training.processes import start_processes

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    start_processes()
    arguments = sys.argv[1:] if argv is None else argv
    command = shlex.join(["chessrnn", "accuracy", *arguments])
    report: dict = {"command": command, "studies": []}
    show = None if args.json or not is_main_process() else show_row
    page = Page(args.out / STUDY_PAGE, command) if is_main_process() else None
    try:
        with watched(args, args.runs, is_main_process(), args.out / STUDY_PAGE):
            for study, parts in studies(args):
                hidden = study.pop("hidden_size")
                tables = run_study(study, parts, hidden, args, show, page)
                if not all(tables):
                    continue
                study["rows"] = mean_rows(tables)
                if len(tables) > 1:
                    study["parts"] = tables
                report["studies"].append(study)
                if is_main_process():
                    write_report(report, args.out)
    except Interrupted as interrupted:
        print(f"chessrnn accuracy: {interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        if page is not None:
            page.close()
    if not report["studies"]:
        raise InvalidFileError(f"--runs must hold a finished dense baseline, not none in {args.runs}")
    if is_main_process():
        files = ["accuracy.json", "accuracy.md", *draw(report, args.out)]
        print(json.dumps(report, indent=2)) if args.json else print(f"written: {args.out}/{', '.join(files)}")
    return 0


class Page:
    """The page of the study, written again whenever a row is finished.

    Parameters
    ----------
    path : Path
    command : str
        The command that measures.
    """

    def __init__(self, path: Path, command: str):
        self.path, self.command = path, command
        self.studies: list[dict] = []
        self._is_shown = self._is_missing = False

    def show(self, study: dict, rows: list, tables: list[list[dict]]) -> None:
        """Show what is finished of a study, beside the studies before it."""
        names = [(row.stage.name, row.label) for row in rows]
        values = {name: study[name] for name in ("title", "description")}
        values |= {"parts": len(tables), "rows": rows_so_far(names, tables)}
        self.studies = [one for one in self.studies if one["title"] != study["title"]] + [values]
        self._write(is_running=True)

    def close(self) -> None:
        """Write the page for the last time, without the line that loads it again."""
        if self.studies:
            self._write(is_running=False)

    def _write(self, is_running: bool) -> None:
        if self._is_missing:
            return
        try:
            write_study_page(self.path, self.studies, self.command, is_running)
        except MissingToolError as error:
            note(f"no page is written: {error}")
            self._is_missing = True
            return
        if not self._is_shown:
            print(f"page: {self.path}", file=sys.stderr, flush=True)
        self._is_shown = True


def run_study(
    study: dict,
    parts: list[tuple[Any, list, Path]],
    hidden_size: int,
    args: argparse.Namespace,
    show: Callable[[dict], None] | None,
    page: Page | None,
) -> list[list[dict]]:
    """Measure the rows of a study, and return the finished ones of each part, compared with its dense baseline.

    Parameters
    ----------
    study : dict
        Its title and description.
    parts : list of (Task, list of Row, Path)
        Task, rows and folder of the checkpoints of each test set and seed.
    hidden_size : int
        H of the dense baseline.
    args : Namespace
    show : callable or None
        Called with every row in the order of the report, as soon as it and those before it are finished.
    page : Page or None
    """
    from chessrnn.model.training.study import known_row, with_losses
    from chessrnn.model.training.study_jobs import run_study_job, table_jobs

    found = [[known_row(row, task, folder) for row in rows] for task, rows, folder in parts]
    shown = 0

    def tables(is_complete: bool) -> list[list[dict]]:
        """The finished rows; those in front of the first unfinished one unless ``is_complete``."""
        whole = []
        for results, (task, _, _) in zip(found, parts, strict=True):
            end = len(results) if is_complete or None not in results else results.index(None)
            whole.append(with_losses(results[:end], task))
            if end < len(results):
                break
        return whole

    def update(is_complete: bool = False) -> None:
        nonlocal shown
        rows = [row for table in tables(is_complete) for row in table]
        if show is not None:
            for row in rows[shown:]:
                show(row)
        shown = len(rows)
        if page is not None and (any(tables(True)) or not args.finished):
            page.show(study, parts[0][1], tables(True))

    jobs, after, places = [], [], []
    for part, (task, rows, folder) in enumerate(parts if not args.finished else ()):
        first = len(jobs)
        for job in table_jobs(rows, [result is not None for result in found[part]]):
            jobs.append((job.work, task, folder, hidden_size, args.threads))
            after.append([first + other for other in job.after])
            places.append((part, job.row))

    def finished(index: int, result: dict | None) -> None:
        part, row = places[index]
        if row is not None:
            found[part][row] = result
            update()

    update(is_complete=args.finished)
    run_jobs(run_study_job, jobs, workers_from(args), finished, after)
    return tables(True)


def show_row(row: dict) -> None:
    """Print a row as soon as it is measured."""
    text = f"{row['task']:<16} {row['label']:<28} {row['weight_bytes']:>9,} bytes {row['removed_percent']:6.1f} %"
    print(f"{text}  {row['metric']} {row['value']:.3f} ({loss_text(row)})  {row['note']}", flush=True)


def write_report(report: dict, folder: Path) -> None:
    """Write the report as JSON and as Markdown."""
    write_atomic(folder / "accuracy.json", json.dumps(report, indent=2) + "\n")
    write_atomic(folder / "accuracy.md", markdown(report))
