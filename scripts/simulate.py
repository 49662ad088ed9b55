"""Feed text through the emitted Verilog and compare every h, and every predicted character, with the reference."""

import argparse
import json
import sys
from itertools import zip_longest
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidValueError
from chessrnn.model.schedule import Schedule
from chessrnn.model.text.char_model import CharModel
from chessrnn.model.text.corpus import load_corpus
from chessrnn.model.weights import random_inputs
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_config_arguments,
    command_parser,
    config_from,
    count,
    print_table,
    seed,
)
from chessrnn.scripts.verilog import BUILD
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.build import emit, why_not_current
from chessrnn.sim.runner import SIMULATORS, Run, RunResult, simulate
from chessrnn.sim.scenarios import Scenario, continued
from chessrnn.sim.stalls import NONE, StallPattern

EXAMPLES = """examples:
  chessrnn sim
  chessrnn sim --sim icarus --config tiny --set network.cell=gru
  chessrnn sim --config runs/gru/gru.json --weights runs/gru/gru.safetensors"""
DEFAULT_STEPS = 2100
PROMPT_CHARACTERS = 40
# Icarus follows every transition of a compressor tree: some 4 steps per second of the preset tiny.
SLOW_IN_ICARUS = (
    "note: Icarus simulates carry-save arithmetic slowly, a few steps per second; for the same integers and cycles use "
    "--set architecture.arithmetic=multiplier, or --sim verilator"
)
# Sequences of one run: long, a single step, and the rest, so that the state returns to zero twice.
SHORT_SEQUENCE = 1
MIDDLE_SEQUENCE = 17


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    parser = command_parser("sim", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    parser.add_argument("--sim", choices=SIMULATORS, default=SIMULATORS[0], help=f"default {SIMULATORS[0]}")
    parser.add_argument("--steps", type=count, default=DEFAULT_STEPS, help=f"of all runs; default {DEFAULT_STEPS}")
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text; default Python's own documentation")
    parser.add_argument("--length", type=count, default=160, help="characters of the generated sentence; default 160")
    parser.add_argument("--temperature", type=float, default=0.4, help="of the generated sentence; 0 is the likeliest")
    parser.add_argument("--seed", type=seed, default=1, help="of stalls, sampling and random inputs; default 1")
    parser.add_argument("--json", action="store_true", help="results as JSON on stdout")
    return parser.parse_args(argv)


def split(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Steps → sequences of different lengths, one of a single step."""
    cuts = [cut for cut in (SHORT_SEQUENCE, SHORT_SEQUENCE + MIDDLE_SEQUENCE) if cut < len(x)]
    return tuple(np.split(x, cuts))


def split_for(x: np.ndarray, contexts: int) -> tuple[np.ndarray, ...]:
    """Steps → a share for each context, as sequences of different lengths that are dealt to the contexts in turn."""
    shares = [split(share) for share in np.array_split(x, min(contexts, len(x)))]
    # Earlier shares are the longer ones: only the last contexts can lack a last sequence.
    return tuple(part for parts in zip_longest(*shares) for part in parts if part is not None)


def patterns(number: int) -> list[tuple[str, StallPattern, StallPattern]]:
    """Stalls of source and sink under which the text runs."""
    return [
        ("no stalls", NONE, NONE),
        ("random", StallPattern("random", 0.3, seed=number), StallPattern("random", 0.3, seed=number + 1)),
        ("bursty", StallPattern("bursty", 0.5, 60, seed=number + 2), StallPattern("bursty", 0.5, 60, seed=number + 3)),
    ]


def main(argv: list[str] | None = None) -> int:
    """Parse, emit where needed, simulate, compare, print."""
    args = parse(argv)
    if not 0 <= args.temperature < float("inf"):
        raise InvalidValueError(f"--temperature must be 0 or more, not {args.temperature}")
    config = config_from(args)
    chosen = weights_from(args, config)
    model = CharModel(chosen.image) if chosen.image is not None and chosen.image.text_layers is not None else None
    if model is None and args.text is not None:
        raise InvalidValueError(f"--text must be given with the weights of a character model, not {chosen.source}")
    rng = np.random.default_rng(args.seed)

    shares = patterns(args.seed)
    lengths = [len(part) for part in np.array_split(np.arange(args.steps), len(shares))]
    if min(lengths) < 1:
        raise InvalidValueError(f"--steps must be at least {len(shares)}, one for each stall pattern, not {args.steps}")
    if model is not None:
        text = load_corpus(args.text).test
        if len(text) < args.steps:
            raise InvalidValueError(f"--steps must be at most {len(text)}, the characters of the test text")
        x = model.embed(model.encode(text[: args.steps]))
    else:
        x = random_inputs(config, rng, args.steps)
    pieces = np.split(x, np.cumsum(lengths)[:-1])
    # With ports for it the state goes out of every sequence and into its context's next: its share of the text goes on.
    with_ports, contexts = config.architecture.state_ports, config.architecture.contexts
    scenario = continued if with_ports else Scenario
    runs = [
        Run(scenario(chosen.weights, split_for(piece, contexts if with_ports else 1)), source, sink, name)
        for piece, (name, source, sink) in zip(pieces, shares, strict=True)
    ]
    if model is not None:
        prompt = text[:PROMPT_CHARACTERS]
        sentence = model.generate(prompt, args.length, args.temperature, args.seed)
        written = model.encode(prompt + sentence)
        runs.append(Run(Scenario(chosen.weights, (model.embed(written[:-1]),)), name="generated"))

    directory = BUILD / config.name
    if (reason := why_not_current(directory, chosen.weights)) is not None:
        print(f"emitting {directory}/: {reason}", file=sys.stderr)
        emit(chosen.weights, directory, chosen.source)
    if chosen.random:
        print(f"note: the weights are {chosen.source}", file=sys.stderr)
    print(f"simulating {sum(run.scenario.num_steps for run in runs)} steps with {args.sim}", file=sys.stderr)
    if args.sim == "icarus" and config.architecture.arithmetic == "carry_save":
        print(SLOW_IN_ICARUS, file=sys.stderr)
    results = simulate(directory, runs, args.sim)

    wrong_characters = None
    reproduced = None
    if model is not None:
        wrong_characters = sum(_wrong_predictions(model, result) for result in results)
        h = results[-1].h[results[-1].run.scenario.steps_of(0)] if not results[-1].problems else None
        reproduced = h is not None and _rewrite(model, h[-args.length :], args.temperature, args.seed) == sentence
    failed = any(result.problems for result in results) or bool(wrong_characters) or reproduced is False
    if args.json:
        summary = {
            "configuration": config.fingerprint,
            "simulator": args.sim,
            "runs": [result.to_dict() for result in results],
            "wrong_characters": wrong_characters,
            "generated": {"prompt": prompt, "text": sentence, "reproduced": reproduced} if model is not None else None,
        }
        print(json.dumps(summary, indent=2))
    else:
        _print(results, Schedule(config), wrong_characters)
        if model is not None:
            print(f"\ngenerated by the reference after {prompt!r}:\n  {sentence!r}")
            verb = "choose" if reproduced else "DO NOT choose"
            print(f"the h of the RTL {verb} the same {args.length} characters, one after the other")
    for result in results:
        for problem in result.problems:
            print(f"simulate: {result.run.name}: {problem}", file=sys.stderr)
    return EXIT_MISMATCH if failed else 0


def _wrong_predictions(model: CharModel, result: RunResult) -> int:
    expected = model.predict(result.run.scenario.expected_steps)
    got = model.predict(result.h)[: len(expected)]
    return int((got != expected[: len(got)]).sum()) + len(expected) - len(got)


def _rewrite(model: CharModel, h: np.ndarray, temperature: float, number: int) -> str:
    """The characters that a walk over h chooses: what ``CharModel.generate`` does with its own h."""
    rng = np.random.default_rng(number)
    return model.decode(np.array([model.choose(step, temperature, rng) for step in h]))


def _print(results: list[RunResult], schedule: Schedule, wrong_characters: int | None) -> None:
    print(
        f"{'stalls':<12}{'steps':>7}{'mismatches':>12}{'cycles/step':>13}{'predicted':>11}{'utilisation':>13}{'steps/s':>9}"
    )
    for result in results:
        run = result.run
        interval = "-" if result.interval is None else f"{result.interval:.2f}"
        # A sequence's first step does not wait for h: the mean over all steps can be below the sustained interval.
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
    # Every problem with them is among those that are printed.
    results_checked = sum(len(result.run.scenario.y_beats) for result in results if not result.problems)
    rows = [
        ("steps checked", steps),
        ("mismatches", sum(result.mismatches for result in results)),
        ("wrong next characters", "no character model" if wrong_characters is None else wrong_characters),
        ("first-step latency", f"{results[0].first_step_latency} cycles, predicted {schedule.first_step_latency}"),
        *([("results of the output layer", results_checked)] if results_checked else []),
        ("weight words read", f"{words:g} per bank and step, stored {schedule.ideal_interval}"),
        ("simulation", f"{seconds:.1f} s, {steps / seconds:.0f} steps/s"),
    ]
    print()
    print_table(rows)
