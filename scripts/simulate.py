"""Feed text through the emitted Verilog and compare every h, and every predicted character, with the reference."""

import argparse
import json
import sys
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.schedule import Schedule
from chessrnn.model.text.char_model import CharModel
from chessrnn.model.text.corpus import load_corpus
from chessrnn.model.weights import NetworkWeights, random_inputs
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_config_arguments,
    command_parser,
    config_from,
    count,
    not_negative,
    note,
    print_table,
    report_problems,
    seed,
)
from chessrnn.scripts.design_page import write_design_page
from chessrnn.scripts.verilog import BUILD, build_folder, make_current
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.runner import SIMULATORS, Run, RunResult, simulate
from chessrnn.sim.scenarios import Scenario, continued
from chessrnn.sim.stalls import NONE, StallPattern

EXAMPLES = """examples:
  chessrnn sim
  chessrnn sim --sim icarus --config tiny --set network.cell=gru
  chessrnn sim --config runs/gru/gru.json --weights runs/gru/gru.safetensors"""
DEFAULT_STEPS = 2100
# Icarus simulates every transition of a compressor tree, so that the preset tiny reaches some 4 steps per second.
DEFAULT_SLOW_STEPS = 210
SLOW_IN_ICARUS = (
    "Icarus simulates carry-save arithmetic slowly, a few steps per second; for the same integers and cycles use "
    "--set architecture.arithmetic=multiplier, or --sim verilator"
)
# Steps that Icarus simulates first, to estimate how long the others take.
MEASURED_STEPS = 4
PROMPT_CHARACTERS = 40
# Lengths of the first two sequences of a run; with the rest as the third, the state returns to zero twice.
SHORT_SEQUENCE = 1
MIDDLE_SEQUENCE = 17


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("sim", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    parser.add_argument(
        "--sim", choices=SIMULATORS, default=SIMULATORS[0], help=f"the simulator; default {SIMULATORS[0]}"
    )
    parser.add_argument(
        "--steps", type=count,
        help=f"steps of all runs; default {DEFAULT_STEPS}, or {DEFAULT_SLOW_STEPS} of carry-save arithmetic in Icarus",
    )  # fmt: skip
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="UTF-8 text to feed; default Python's own documentation"
    )
    parser.add_argument("--length", type=count, default=160, help="characters of the generated sentence; default 160")
    parser.add_argument(
        "--temperature", type=not_negative, default=0.4,
        help="randomness of the generated sentence, 0 for the most likely characters; default 0.4",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=1, help="seed of stalls, sampling and random inputs; default 1")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def split(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cut steps into sequences of different lengths, one of them a single step."""
    cuts = [cut for cut in (SHORT_SEQUENCE, SHORT_SEQUENCE + MIDDLE_SEQUENCE) if cut < len(x)]
    return tuple(np.split(x, cuts))


def split_for(x: np.ndarray, contexts: int) -> tuple[np.ndarray, ...]:
    """Cut steps into one part per context, and each part into sequences, in the order that deals them to contexts."""
    shares = [split(share) for share in np.array_split(x, min(contexts, len(x)))]
    # Earlier shares are the longer ones, so that only the last contexts can lack a last sequence.
    return tuple(part for parts in zip_longest(*shares) for part in parts if part is not None)


def patterns(number: int) -> list[tuple[str, StallPattern, StallPattern]]:
    """Stall patterns of source and sink under which the text is simulated."""
    return [
        ("no stalls", NONE, NONE),
        ("random", StallPattern("random", 0.3, seed=number), StallPattern("random", 0.3, seed=number + 1)),
        ("bursty", StallPattern("bursty", 0.5, 60, seed=number + 2), StallPattern("bursty", 0.5, 60, seed=number + 3)),
    ]


class Sentence(NamedTuple):
    """Text that the reference generated, which the Verilog must generate as well."""

    prompt: str
    text: str
    run: Run


class Verdict(NamedTuple):
    """Comparison of the Verilog with a character model; ``None`` where there is none.

    Attributes
    ----------
    wrong_characters : int or None
        Number of steps after which h predicts another character than the reference.
    reproduced : bool or None
        Whether the Verilog's h choose the characters of the generated sentence.
    """

    wrong_characters: int | None = None
    reproduced: bool | None = None

    @property
    def failed(self) -> bool:
        return bool(self.wrong_characters) or self.reproduced is False


def main(argv: list[str] | None = None) -> int:
    """Emit the design where needed, simulate it, compare it with the reference, and print the result."""
    args = parse(argv)
    config = config_from(args)
    chosen = weights_from(args, config)
    if args.steps is None:
        args.steps = DEFAULT_SLOW_STEPS if is_slow(args, config) else DEFAULT_STEPS
    model = CharModel(chosen.image) if chosen.image is not None and chosen.image.text_layers is not None else None
    if model is None and args.text is not None:
        raise InvalidValueError(f"--text must be given with the weights of a character model, not {chosen.source}")
    x, text = inputs_for(args, config, model)
    runs = make_runs(args, chosen.weights, x)
    sentence = None
    if model is not None:
        sentence = generate(args, chosen.weights, model, text[:PROMPT_CHARACTERS])
        runs.append(sentence.run)
    directory = build_folder(args, chosen)
    with locked_folder(directory):
        make_current(directory, chosen)
        note_simulation(args, config, runs)
        if args.sim == "icarus":
            print_estimate(directory, chosen.weights, runs)
        results = simulate(directory, runs, args.sim)
        write_design_page(directory, BUILD)
    verdict = Verdict()
    if model is not None and sentence is not None:
        verdict = judge_characters(args, model, sentence, results)
    if args.json:
        print(json.dumps(summary(args, directory, config, results, sentence, verdict), indent=2))
    else:
        _print(directory, results, Schedule(config), verdict.wrong_characters)
        if sentence is not None:
            print(f"\ngenerated by the reference after {sentence.prompt!r}:\n  {sentence.text!r}")
            verb = "choose" if verdict.reproduced else "DO NOT choose"
            print(f"the h of the Verilog {verb} the same {args.length} characters, one after the other")
    report_problems("sim", (f"{result.run.name}: {problem}" for result in results for problem in result.problems))
    return EXIT_MISMATCH if verdict.failed or any(result.problems for result in results) else 0


def inputs_for(args: argparse.Namespace, config: Config, model: CharModel | None) -> tuple[np.ndarray, str]:
    """Inputs x (steps, X), and the text that they are of; random inputs without a character model."""
    least = len(patterns(args.seed))
    if args.steps < least:
        raise InvalidValueError(f"--steps must be at least {least}, one for each stall pattern, not {args.steps}")
    if model is None:
        return random_inputs(config, np.random.default_rng(args.seed), args.steps), ""
    text = load_corpus(args.text).test
    if len(text) < args.steps:
        raise InvalidValueError(f"--steps must be at most {len(text)}, the characters of the test text")
    return model.embed(model.encode(text[: args.steps])), text


def make_runs(args: argparse.Namespace, weights: NetworkWeights, x: np.ndarray) -> list[Run]:
    """Runs that feed the inputs, an equal part of them under each stall pattern."""
    architecture = weights.config.architecture
    runs = []
    stalls = patterns(args.seed)
    for part, (name, source, sink) in zip(np.array_split(x, len(stalls)), stalls, strict=True):
        if architecture.state_ports:
            # The final state of a sequence is loaded into the next one of its context, which continues the text.
            scenario = continued(weights, split_for(part, architecture.contexts))
        else:
            scenario = Scenario(weights, split_for(part, 1))
        runs.append(Run(scenario, source, sink, name))
    return runs


def generate(args: argparse.Namespace, weights: NetworkWeights, model: CharModel, prompt: str) -> Sentence:
    """Let the reference continue a prompt, and make the run that feeds the Verilog the same characters."""
    text = model.generate(prompt, args.length, args.temperature, args.seed)
    codes = model.encode(prompt + text)
    return Sentence(prompt, text, Run(Scenario(weights, (model.embed(codes[:-1]),)), name="generated"))


def note_simulation(args: argparse.Namespace, config: Config, runs: list[Run]) -> None:
    """Say on stderr what is simulated, and where that is slow."""
    print(f"simulating {sum(run.scenario.num_steps for run in runs)} steps with {args.sim}", file=sys.stderr)
    if is_slow(args, config):
        note(SLOW_IN_ICARUS)


def is_slow(args: argparse.Namespace, config: Config) -> bool:
    """Whether the simulator needs a large part of a second for a step."""
    return args.sim == "icarus" and config.architecture.arithmetic == "carry_save"


def print_estimate(directory: Path, weights: NetworkWeights, runs: list[Run]) -> None:
    """Say on stderr how long a simulation with Icarus will take, from the time of its first steps."""
    steps = sum(run.scenario.num_steps for run in runs)
    if steps <= 5 * MEASURED_STEPS:  # measuring would take a large part of that time
        return
    x = np.concatenate(runs[0].scenario.sequences)[:MEASURED_STEPS]
    (first,) = simulate(directory, [Run(Scenario(weights, (x,)), name="estimate")], "icarus")
    rate = first.run.scenario.num_steps / max(first.seconds, 1e-3)
    print(f"that takes about {duration(steps / rate)}, at {rate:.3g} steps/s", file=sys.stderr)


def duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, or hours."""
    for size, name in ((1, "s"), (60, "min"), (3600, "h")):
        if seconds < 120 * size or name == "h":
            break
    return f"{max(1, round(seconds / size))} {name}"


def judge_characters(
    args: argparse.Namespace, model: CharModel, sentence: Sentence, results: list[RunResult]
) -> Verdict:
    """Compare the characters that the Verilog's h predict and choose with those of the reference."""
    wrong = sum(_wrong_predictions(model, result) for result in results)
    last = results[-1]
    if last.problems:
        return Verdict(wrong, False)
    h = last.h[last.run.scenario.steps_of(0)][-args.length :]
    return Verdict(wrong, _chosen_characters(model, h, args.temperature, args.seed) == sentence.text)


def summary(
    args: argparse.Namespace,
    directory: Path,
    config: Config,
    results: list[RunResult],
    sentence: Sentence | None,
    verdict: Verdict,
) -> dict:
    """Plain JSON values of the result."""
    generated = None
    if sentence is not None:
        generated = {"prompt": sentence.prompt, "text": sentence.text, "reproduced": verdict.reproduced}
    return {
        "configuration": config.fingerprint,
        "folder": str(directory),
        "simulator": args.sim,
        "runs": [result.to_dict() for result in results],
        "wrong_characters": verdict.wrong_characters,
        "generated": generated,
    }


def _wrong_predictions(model: CharModel, result: RunResult) -> int:
    """Number of steps whose h predicts another character than the reference's, or never arrived."""
    expected = model.predict(result.run.scenario.expected_steps)
    got = model.predict(result.h)[: len(expected)]
    return int((got != expected[: len(got)]).sum()) + len(expected) - len(got)


def _chosen_characters(model: CharModel, h: np.ndarray, temperature: float, number: int) -> str:
    """Characters that ``CharModel.generate`` would choose from the given h (steps, H)."""
    rng = np.random.default_rng(number)
    return model.decode(np.array([model.choose(step, temperature, rng) for step in h]))


def _print(directory: Path, results: list[RunResult], schedule: Schedule, wrong_characters: int | None) -> None:
    """Print a table of all runs, and their totals."""
    print(
        f"{'stalls':<12}{'steps':>7}{'mismatches':>12}{'cycles/step':>13}{'predicted':>11}{'utilisation':>13}{'steps/s':>9}"
    )
    for result in results:
        run = result.run
        interval = "-" if result.interval is None else f"{result.interval:.2f}"
        # A sequence's first step does not wait for h, so the mean over all steps can be below the sustained interval.
        predicted = f"{run.scenario.timeline.interval:.2f}" if run.unstalled and result.interval is not None else "-"
        used = "-" if result.utilisation is None else f"{100 * result.utilisation:.1f} %"
        speed = run.scenario.num_steps / result.seconds
        print(
            f"{run.name:<12}{run.scenario.num_steps:>7}{result.mismatches:>12}{interval:>13}{predicted:>11}"
            f"{used:>13}{speed:>9.0f}"
        )
    steps = sum(result.run.scenario.num_steps for result in results)
    words = sum(result.issues for result in results) / steps
    seconds = sum(result.seconds for result in results)
    # The results of a run with problems are not counted, as its problems are printed.
    results_checked = sum(len(result.run.scenario.y_beats) for result in results if not result.problems)
    rows = [
        ("steps checked", steps),
        ("mismatches", sum(result.mismatches for result in results)),
        ("wrong next characters", "no character model" if wrong_characters is None else wrong_characters),
        ("first-step latency", f"{results[0].first_step_latency} cycles, predicted {schedule.first_step_latency}"),
        *([("results of the output layer", results_checked)] if results_checked else []),
        ("weight words read", f"{words:g} per bank and step, stored {schedule.config.bank_depth}"),
        ("simulation", f"{seconds:.1f} s, {steps / seconds:.0f} steps/s"),
        ("simulated", f"the Verilog in {directory}/"),
    ]
    print()
    print_table(rows)
