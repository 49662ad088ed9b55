"""Convert the trained float layers of a model file to a weight image, with or without retraining."""

import argparse
import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.conversion.convert import EFFORTS, Conversion, convert
from chessrnn.model.conversion.first_state import begins_elsewhere
from chessrnn.model.conversion.fold_decision import FOLDS
from chessrnn.model.conversion.hardware_rows import one_direction
from chessrnn.model.errors import Interrupted, InvalidFileError, InvalidValueError, MissingToolError, require
from chessrnn.model.files import require_folder, write_atomic
from chessrnn.model.fixed_point import quantize
from chessrnn.model.imported.float_evaluation import run_layer
from chessrnn.model.imported.recurrent_network import RecurrentNetwork
from chessrnn.model.state_beats import state_text
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts.cli import (
    EXIT_INTERRUPTED,
    EXIT_MISMATCH,
    add_settings,
    command_parser,
    count,
    given_name,
    note,
    positive,
    printable,
    report_problems,
    seed,
    settings_from,
    warning,
    whole,
)
from chessrnn.scripts.conversion_table import print_conversion
from chessrnn.scripts.convert_all import Outcome, Target, base_name, convert_all, folder_of, refusing
from chessrnn.scripts.design_page import write_design_page
from chessrnn.scripts.earlier_conversion import COMMAND, REPORT_FILE, require_own
from chessrnn.scripts.input_file import add_batch_first, load_sequences, reading
from chessrnn.scripts.model_arguments import add_model_arguments, block_size_from, network_from
from chessrnn.sim.folder_lock import locked_folder

EXAMPLES = """examples:
  chessrnn convert lstm.pt --calibrate inputs.npy
  chessrnn convert bilstm.pt --calibrate inputs.npy --sim verilator --set architecture.sequence_steps=100
  chessrnn convert gru.pt --calibrate inputs.npy --sim verilator
  chessrnn convert gru.pt --calibrate inputs.npy --weight-bits 4 --retrain 2000
  chessrnn convert model.onnx --k 16 --weight-bits 4 --set architecture.tile_rows=8
  chessrnn convert stack.safetensors --layer 1 --name second
  chessrnn convert model.keras --all --calibrate inputs/

Then:
  chessrnn verilog --config runs/lstm/lstm.json --weights runs/lstm/lstm.safetensors
  chessrnn sim --config runs/lstm/lstm.json --weights runs/lstm/lstm.safetensors

The conversion without --retrain is quick and loses accuracy, which --retrain wins back: every layer is trained to
compute what its float original computes on the inputs of --calibrate, a tenth of which is held out for measurement.
Checkpoints are in the folder of the output; after Ctrl-C the same command continues.  Where text or labels are
available, chessrnn train --state-dict lstm.pt trains for the task itself."""
HELD_OUT_SHARE = 0.1
LEARNING_RATE = 5e-3
SIMULATED_STEPS = 200
# Learning rate of quantized layers as a fraction of that of float layers.
RETRAINING_RATE = 0.3


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("convert", __doc__, EXAMPLES)
    add_model_arguments(parser)
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help=".npy file with inputs (steps, batch, X) or (steps, X) of the network, or .csv with a step per row",
    )
    add_batch_first(parser)
    parser.add_argument(
        "--fold",
        choices=FOLDS,
        default="auto",
        help="give every input element a power of two and an offset, folded into W_x; default auto, where it helps",
    )
    parser.add_argument(
        "--effort",
        choices=EFFORTS,
        default="full",
        help="with --calibrate: full (default) chooses all formats and rounds the weights by the error of h, "
        "quick each by itself",
    )
    parser.add_argument(
        "--element-bits",
        type=count,
        default=8,
        metavar="N",
        help="bits of x and h, 8 (default) to 16; more give all other formats but the weights' more fraction bits",
    )
    parser.add_argument(
        "--retrain", type=count, metavar="N", help="retrain every layer for N updates; needs torch and --calibrate"
    )
    parser.add_argument("--learning-rate", type=positive, help=f"peak rate of --retrain; default {LEARNING_RATE}")
    parser.add_argument(
        "--layer",
        type=whole,
        metavar="N",
        help="convert only layer N, from 0; layers before it run in float; default all",
    )
    parser.add_argument(
        "--direction",
        choices=("forward", "reverse"),
        help="convert one direction of a bidirectional layer; default both",
    )
    add_settings(parser, "set a field of the configuration that is chosen otherwise, e.g. quantization.x=Q2.6")
    parser.add_argument(
        "--all",
        action="store_true",
        help="convert every recurrent network of the file, each to a folder; "
        "--calibrate is then a folder with a file for each, named as its folder",
    )
    parser.add_argument(
        "--name", type=given_name, help="name of the configuration and the files; default that of the model file"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder to write; default runs/<name>")
    parser.add_argument(
        "--sim",
        choices=("verilator", "icarus"),
        help="simulate the emitted Verilog on the same inputs, and compare every h",
    )
    parser.add_argument("--steps", type=count, help=f"steps of each run of --sim; default {SIMULATED_STEPS}")
    parser.add_argument(
        "--seed", type=seed, default=1, help="seed of retraining, of noise in place of inputs, and of stalls; default 1"
    )
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def choose_layers(args: argparse.Namespace, network: RecurrentNetwork) -> tuple[int, int, int | None]:
    """Index of the first chosen layer, the number of chosen layers, and their direction, ``None`` for both.

    Raises
    ------
    InvalidValueError
        The layers have different directions, or one direction of several layers is asked for.
    """
    count, found = len(network.layers), {layer.direction for layer in network.layers}
    if args.layer is None and count > 1:
        rule = f"given, from 0 to {count - 1}"
        require(args.direction is None, "--layer", f"{rule}: --direction is of one layer", None)
        rule += ": the accelerator runs layers that are all forward, or all bidirectional"
        require(found in ({"forward"}, {"bidirectional"}), "--layer", rule, None)
        return 0, count, None if found == {"bidirectional"} else 0
    number = args.layer or 0
    rule = f"from 0 to {count - 1}" if count > 1 else "0, the only layer of the file"
    require(0 <= number < count, "--layer", rule, number)
    direction = network.layers[number].direction
    if direction == "bidirectional":
        return number, 1, None if args.direction is None else int(args.direction == "reverse")
    require(args.direction in (None, direction), "--direction", f"{direction} as in the model", args.direction)
    return number, 1, 0


def layer_inputs(network: RecurrentNetwork, number: int, reverse: bool, x: np.ndarray) -> np.ndarray:
    """Inputs of the chosen layer when the network reads x."""
    lengths = np.full(x.shape[1], len(x))
    for layer in network.layers[:number]:
        x, _ = run_layer(layer, x, lengths)
    return x[::-1] if reverse else x


def hold_out(values: np.ndarray, by_steps: bool) -> tuple[np.ndarray, np.ndarray]:
    """Divide (T, B, X) into data for learning and for measurement: the last sequences, or the last steps of all.

    Parameters
    ----------
    by_steps : bool
        Whether all sequences must be kept, because the file has first states for them.

    Raises
    ------
    InvalidFileError
        There is too little data.
    """
    (steps, batch), least = values.shape[:2], round(1 / HELD_OUT_SHARE)
    if batch >= least and not by_steps:
        kept = batch - round(batch * HELD_OUT_SHARE)
        return values[:, :kept], values[:, kept:]
    if steps < least:
        what = "steps, as the file has first states," if by_steps else "steps or sequences"
        raise InvalidFileError(f"--calibrate must have at least {least} {what} to retrain, not {steps} steps")
    kept = steps - round(steps * HELD_OUT_SHARE)
    return values[:kept], values[kept:]


def make_retraining(args: argparse.Namespace, layers, block_size: int, calibration: np.ndarray | None, folder: Path):
    """Inputs for learning, and the retraining that uses them.

    Raises
    ------
    InvalidFileError
        There is too little data.
    """
    require(calibration is not None, "--calibrate", "given with --retrain", None)
    assert calibration is not None
    try:
        import torch
    except ImportError:
        raise MissingToolError("torch must be installed to retrain: pip install torch==2.13.0") from None
    from chessrnn.model.training.retraining import LayerwiseRetraining

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    learnt, held_out = hold_out(calibration, by_steps=begins_elsewhere(layers))
    rate = args.learning_rate or LEARNING_RATE
    used = {"--retrain": args.retrain, "--learning-rate": rate, "--seed": args.seed, "--k": block_size,
            "--weight-bits": args.weight_bits}  # fmt: skip
    return learnt, LayerwiseRetraining(
        learnt, held_out, args.retrain, folder / "retraining", learning_rate=rate,
        quantized_rate=RETRAINING_RATE * rate, seed=args.seed, arguments=used,
    )  # fmt: skip


def simulated(result: Conversion, folder: Path, args: argparse.Namespace, source: str) -> tuple[dict, list[str]]:
    """Simulate the emitted Verilog on the inputs, with and without stalls; its figures, and every problem found."""
    from chessrnn.scripts.verilog import BUILD
    from chessrnn.sim.build import emit
    from chessrnn.sim.runner import Run, simulate
    from chessrnn.sim.scenarios import Scenario
    from chessrnn.sim.stalls import StallPattern

    codes, sequences, left = quantize(result.inputs, result.config.quantization.x), [], args.steps or SIMULATED_STEPS
    for sequence in codes.swapaxes(0, 1):
        if left > 0:
            sequences.append(sequence[:left])
            left -= len(sequences[-1])
    initial = ()
    if result.state is not None:
        initial = tuple([(h[number], c[number]) for h, c in result.state] for number in range(len(sequences)))
    scenario = Scenario(result.weights, tuple(sequences), initial)
    stalls = (StallPattern("random", 0.3, seed=args.seed + n) for n in range(2))
    runs = [Run(scenario, name="no stalls"), Run(scenario, *stalls, name="random stalls")]
    print(f"simulating {len(runs)} x {scenario.num_steps} steps with {args.sim}", file=sys.stderr)
    with locked_folder(folder):
        emit(result.weights, folder, source)
        results = simulate(folder, runs, args.sim)
        write_design_page(folder, BUILD)
    figures = {"simulator": args.sim, "verilog": str(folder), "runs": [one.to_dict() for one in results]}
    return figures, [f"{one.run.name}: {problem}" for one in results for problem in one.problems]


class Converted(NamedTuple):
    """Result of a conversion, and the files that it is written to."""

    result: Conversion
    command: str
    folder: Path
    name: str

    @property
    def image(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    @property
    def config(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def first_state(self) -> Path:
        return self.folder / f"{self.name}.state.hex"


def main(argv: list[str] | None = None) -> int:
    """Convert the layers of a model file, write the result, simulate it on request, and print the report."""
    args = parse(argv)
    check_options(args)
    settings = settings_from(args)
    if args.all:
        return convert_all(args, settings, lambda target: convert_one(args, target, settings, argv))
    target = Target(args.prefix, base_name(args), folder_of(args), args.calibrate)
    outcome = convert_one(args, target, settings, argv)
    if outcome is None:
        return EXIT_INTERRUPTED
    if args.json:
        print(json.dumps(outcome.report, indent=2))
    else:
        print_conversion(outcome.report, outcome.config)
    return EXIT_MISMATCH if outcome.problems else 0


def convert_one(
    args: argparse.Namespace, target: Target, settings: dict[str, object], argv: list[str] | None
) -> Outcome | None:
    """Convert one network, and write and simulate the result; ``None`` where the user interrupted.

    Raises
    ------
    NetworkRefusal
        The network cannot be read, or the accelerator does not run it.
    UserError
        An option, an input file or an installed program is wrong, whatever the network.
    """
    with refusing(InvalidFileError, InvalidValueError):
        network = network_from(args, target.prefix)
    with refusing(InvalidValueError, options=("--layer",)):
        number, count, index = choose_layers(args, network)
    layers = network.layers[number : number + count]
    chosen = list(layers) if index is None else [one_direction(layer, index) for layer in layers]
    calibration = calibration_for(args, target, network, number, index == 1 or layers[0].direction == "reverse")
    block_size = block_size_from(args, chosen)
    rng = np.random.default_rng(args.seed)
    # A part of the network does not end with h of the last layer.
    is_whole = number + count == len(network.layers) and args.direction is None
    linear = network.linear if is_whole else None
    name, folder, retraining = target.name, target.folder, None
    require_folder(folder)
    require_own(folder, name)
    learnt = calibration
    if args.retrain is not None:
        learnt, retraining = make_retraining(args, chosen, block_size, calibration, folder)
    try:
        # Retraining keeps its checkpoints in the folder; without it nothing is written yet.
        lock = contextlib.nullcontext() if retraining is None else locked_folder(folder)
        with lock, refusing(InvalidValueError):
            result = convert(
                chosen, block_size, args.weight_bits, name, settings, learnt, rng, retraining, args.fold, linear,
                args.element_bits, args.effort,
            )  # fmt: skip
    except Interrupted as interrupted:
        print(f"chessrnn convert: {interrupted}", file=sys.stderr)
        return None
    print_notes(network, result.config, learnt, args.batch_first)
    print_warnings(result.report)
    converted = Converted(result, command_line(argv), folder, name)
    with locked_folder(folder):
        report, problems = write(converted), []
        if args.sim is not None:
            report["simulation"], problems = simulated(result, folder / "verilog", args, str(converted.image))
        write_atomic(folder / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    report_problems("convert", problems)
    return Outcome(report, result.config, problems, network.ignored)


def check_options(args: argparse.Namespace) -> None:
    """Reject options that have no effect without another one.

    Raises
    ------
    InvalidValueError
        ``--learning-rate`` is given without ``--retrain``, ``--steps`` without ``--sim``, or a choice of a network with
        ``--all``.
    """
    for name in ("prefix", "layer", "direction", "output_layer"):
        given = getattr(args, name)
        require(given is None or not args.all, f"--{name.replace('_', '-')}", "left out with --all", given)
    for name, needed in (("learning_rate", "retrain"), ("steps", "sim")):
        given = getattr(args, name)
        rule = f"left out without --{needed}"
        require(given is None or getattr(args, needed) is not None, f"--{name.replace('_', '-')}", rule, given)


def calibration_for(
    args: argparse.Namespace, target: Target, network: RecurrentNetwork, number: int, reverse: bool
) -> np.ndarray | None:
    """Inputs (T, B, X) of the first converted layer for those of the network, or ``None`` without them."""
    if target.calibration is None:
        return None
    inputs = load_sequences(target.calibration, network.input_size, args.batch_first)
    print(f"calibrating on {reading(inputs, args.batch_first)}", file=sys.stderr)
    return layer_inputs(network, number, reverse, inputs)


def print_notes(network: RecurrentNetwork, config: Config, calibration: np.ndarray | None, batch_first: bool) -> None:
    """Print remarks about the model file, and about sequences that the accelerator divides."""
    if config.network.bidirectional and calibration is not None and len(calibration) > config.sequence_steps:
        cut = f"sequences of {len(calibration)} steps are cut after {config.sequence_steps}"
        note(f"{cut}: --set architecture.sequence_steps={len(calibration)}")
    for text in network.notes:
        # With the option the layout is as the user says.
        if not (batch_first and ("batch_first" in text or text.endswith(": --batch-first"))):
            note(printable(text))


def print_warnings(report: dict) -> None:
    """Print the warnings of a conversion on stderr."""
    for text in report["warnings"]:
        warning(printable(text))


def command_line(argv: list[str] | None) -> str:
    """The command as it can be repeated in a shell."""
    arguments = sys.argv[1:] if argv is None else argv
    return shlex.join([*COMMAND.split(), *(argument for argument in arguments if argument != "--json")])


def write(converted: Converted) -> dict:
    """Write weight image, configuration and first state, and return the report."""
    result, command = converted.result, converted.command
    WeightImage(result.weights, metrics=result.report, command=command, head=result.output_layer).save(converted.image)
    write_atomic(converted.config, result.config.to_json())
    report = {
        "command": command,
        **result.report,
        "weights": str(converted.image),
        "config": str(converted.config),
    }
    if result.state is not None:
        report["first_state"] = str(converted.first_state)
        write_atomic(converted.first_state, state_text(result.config, result.state))
    return report
