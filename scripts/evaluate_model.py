"""Measure what an application loses when the recurrent layers of its ONNX model compute the accelerator's integers.

Everything else runs in onnxruntime.  The model runs twice on the same inputs, as it is and with the integers."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from chessrnn.model.errors import InvalidFileError, InvalidValueError, require
from chessrnn.model.files import require_file, require_regular_file, write_atomic
from chessrnn.model.hybrid.losses import METRICS, WITH_TARGET
from chessrnn.model.imported.input_arrays import load_arrays
from chessrnn.model.presets import PRESETS, resolve
from chessrnn.model.progress import Progress
from chessrnn.model.weight_image import WeightImage
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_settings,
    command_parser,
    count,
    note,
    print_table,
    printable,
    report_problems,
    settings_from,
)
from chessrnn.scripts.input_file import read_npy
from chessrnn.scripts.weight_arguments import Chosen
from chessrnn.whole_model import evaluate_model, hybrid, image_file

EXAMPLES = """examples:
  chessrnn evaluate-model keyword.onnx --weights runs/keyword --inputs features.npy --metric agreement
  chessrnn evaluate-model keyword.onnx --weights runs/keyword --inputs features.npy --metric accuracy --target y.npy
  chessrnn evaluate-model denoise.onnx --weights runs/denoise --inputs frames.npz --metric si-sdr --plot loss.png
  chessrnn evaluate-model vad.onnx --weights runs/vad --inputs frames.npy --feedback stateN=state --input sr=16000

FILE of --inputs is a .npy file for a model with one input, or an .npz file with an array for each, under its name.
With --feedback every array has one more axis in front, the calls; an input that is fed back begins with zeros."""
SIMULATORS = ("icarus", "verilator")
TITLES = {
    "agreement": ("equal decisions", "%"), "float_yes": ("yes, by the float model", "%"),
    "false_yes": ("yes in place of no", "% of the no"), "missed_yes": ("no in place of yes", "% of the yes"),
    "mse": ("mean squared error", ""), "relative": ("relative to the mean square", ""), "si_sdr_db": ("SI-SDR", "dB"),
    "float": ("float model", ""), "integers": ("with the integers", ""), "loss": ("loss", ""),
}  # fmt: skip
UNITS = {"accuracy": "%", "si-sdr": "dB", "mse": ""}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("evaluate-model", __doc__, EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the whole model, .onnx")
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help="weight image (.safetensors), or the folder of one"
    )
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help=f"preset ({', '.join(PRESETS)}), a .json/.toml file or a build folder; default that of the weights",
    )
    add_settings(parser)
    parser.add_argument("--inputs", type=Path, required=True, metavar="FILE", help="inputs of the model, .npy or .npz")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=NUMBER", help="an input that is one number; repeatable"
    )
    parser.add_argument("--metric", choices=METRICS, default="agreement", help="default agreement")
    parser.add_argument("--target", type=Path, metavar="FILE", help="labels or wanted output, .npy")
    parser.add_argument("--threshold", type=float, default=0.5, help="what a single value must reach for a yes; 0.5")
    parser.add_argument("--output", metavar="NAME", help="output of the model to compare; default its first")
    parser.add_argument(
        "--feedback", action="append", default=[], metavar="OUTPUT=INPUT",
        help="hand an output to an input of the next call; may be repeated",
    )  # fmt: skip
    parser.add_argument("--prefix", metavar="NAME", help="beginning of the recurrent nodes' names; default all")
    parser.add_argument(
        "--keep-state", action="store_true", help="begin every call with the accelerator's state of the one before"
    )
    parser.add_argument("--rtl", choices=SIMULATORS, help="simulate the emitted Verilog on all that went through it")
    parser.add_argument("--rtl-steps", type=count, metavar="N", help="simulate at most N steps; default all")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw both outputs over time, .png or .svg")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the model in both ways, and print what differs."""
    args = parse(argv)
    check_options(args)
    image = load_image(args)
    target = None if args.target is None else read_array(args.target)
    model = hybrid(args.model, image, prefix=args.prefix, keep_state=args.keep_state, record=args.rtl is not None)
    feedback = dict(pair(text, "--feedback", "OUTPUT=INPUT") for text in args.feedback)
    numbers = {name: number(text) for name, text in (pair(one, "--input", "NAME=NUMBER") for one in args.input)}
    calls = calls_from(args.inputs, model, numbers, feedback)
    figures, found = evaluate_model(
        model, shown_calls(calls), args.metric, target, feedback, args.output, args.threshold
    )
    border = model.border
    rtl: dict[str, Any] = {}
    problems: list[str] = []
    if args.rtl is not None:
        steps, problems = simulated(args, model.border, image)
        rtl = {"rtl": {"simulator": args.rtl, "steps": steps, "problems": problems}}
    if args.plot is not None:
        from chessrnn.scripts.outputs_plot import draw

        write_atomic(args.plot, draw(found, border.steps, args.plot.suffix[1:], args.metric, args.threshold))
    saturated = 100 * border.saturated / border.converted
    if args.json:
        values = {"metric": args.metric, "output": found.name, "calls": found.calls, "shape": list(found.floats.shape)}
        saturation = {"saturated_percent": saturated, "numbers": border.converted}
        finite = {name: value if np.isfinite(value) else None for name, value in figures.items()}
        print(json.dumps(values | finite | saturation | rtl, indent=2))
    else:
        print_table(rows_of(args, image, found, figures, saturated, rtl))
    report_problems("evaluate-model", problems)
    return EXIT_MISMATCH if problems else 0


def check_options(args: argparse.Namespace) -> None:
    """Reject options that contradict each other before anything is computed."""
    require_file(args.model, "an ONNX model")
    require_file(args.inputs, "a NumPy file")
    plot = args.plot
    require(plot is None or plot.suffix in (".png", ".svg"), "--plot", "a file .png or .svg", str(plot))
    if plot is not None:
        require_regular_file(plot)
    require(args.rtl is not None or args.rtl_steps is None, "--rtl-steps", "left out without --rtl", args.rtl_steps)
    needs = args.metric == "accuracy"
    require(args.target is not None or not needs, "--target", "given for --metric accuracy", None)
    good = args.target is None or args.metric in WITH_TARGET
    require(good, "--target", f"left out for --metric {args.metric}", str(args.target))
    require(np.isfinite(args.threshold), "--threshold", "a finite number", args.threshold)


def load_image(args: argparse.Namespace) -> WeightImage:
    """Load the weight image with the architecture that the options choose."""
    path, settings = image_file(args.weights), settings_from(args)
    config = None if args.config is None else resolve(args.config)
    if settings:
        config = (WeightImage.load(path).config if config is None else config).replace(settings)
    return WeightImage.load(path, config)


def pair(text: str, option: str, form: str) -> tuple[str, str]:
    """Divide NAME=VALUE."""
    name, separator, value = text.partition("=")
    require(bool(separator and name and value), option, f"of the form {form}", text)
    return name, value


def number(text: str) -> float:
    """Read the value of an input that is one number."""
    try:
        return float(text)
    except ValueError:
        raise InvalidValueError(f"--input must be of the form NAME=NUMBER, not with {text!r}") from None


def read_array(path: Path) -> np.ndarray:
    """Read the array of a .npy file of numbers."""
    values = read_npy(path, "fiub")
    if not values.size or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        raise InvalidFileError(f"{path} must be made of finite numbers, and of at least one")
    return values


def calls_from(path: Path, model, numbers: dict[str, float], feedback: dict[str, str]) -> list[dict[str, np.ndarray]]:
    """Make the inputs of every call from a file, single numbers, and zeros for what is fed back."""
    fed = set(feedback.values())
    for name in feedback:
        require(name in model.outputs, "--feedback", f"of an output ({', '.join(model.outputs)})", name)
    for option, names in (("--feedback", fed), ("--input", set(numbers))):
        for name in sorted(names):
            require(name in model.inputs, option, f"of an input ({', '.join(model.inputs)})", name)
    if path.suffix.lower() == ".npz":
        arrays = load_arrays(path)
    else:
        left = [name for name in model.inputs if name not in numbers and name not in fed]
        rule = "an .npz file for a model with several inputs" if left else "left out, as no input is left"
        require(len(left) == 1, "--inputs", f"{rule} ({', '.join(model.inputs)})", str(path))
        arrays = {left[0]: read_array(path)}
    fixed = {name: np.asarray(value) for name, value in numbers.items()}
    if not feedback:
        return [fixed | arrays]
    moving = {name: values for name, values in arrays.items() if name not in fed and values.ndim}
    fixed |= {name: values for name, values in arrays.items() if name not in moving}
    lengths = {name: len(values) for name, values in moving.items()}
    rule = "arrays with one length of their first axis, the calls"
    require(len(set(lengths.values())) == 1, f"{path}", rule, lengths)
    fixed |= {name: np.zeros(model.input_shape(name)) for name in sorted(fed - arrays.keys())}
    length = next(iter(lengths.values()))
    return [fixed | {name: values[place] for name, values in moving.items()} for place in range(length)]


def shown_calls(calls: list[dict[str, np.ndarray]]):
    """Iterate over the calls, and show on stderr how many are done."""
    progress = Progress(len(calls), label="evaluate-model", unit="call") if len(calls) > 1 else None
    for place, inputs in enumerate(calls):
        yield inputs
        if progress is not None:
            progress.show(place + 1, "")


def simulated(args: argparse.Namespace, border, image: WeightImage) -> tuple[int, list[str]]:
    """Simulate the emitted Verilog on everything that went through the recurrent layers."""
    from chessrnn.scripts.verilog import BUILD, make_current
    from chessrnn.sim.folder_lock import locked_folder
    from chessrnn.sim.replay import replay, scenario_of

    scenario, _ = scenario_of(border, args.rtl_steps)
    directory = BUILD / image.config.name
    print(f"simulating {scenario.num_steps} steps of {directory}/ with {args.rtl}", file=sys.stderr)
    with locked_folder(directory):
        make_current(directory, Chosen(image.weights, image, str(args.weights), False))
        return replay(border, directory, args.rtl, args.rtl_steps)


def rows_of(args, image: WeightImage, found, figures: dict[str, float], saturated: float, rtl) -> list[tuple[str, str]]:
    """Rows of the printed table."""
    config = image.config
    removed = 100 * (1 - config.weight_bytes / config.dense_float_bytes)
    rows = [
        ("model", printable(str(args.model))),
        ("integers", f"{config.network.cell}, {config.network.input_size} x {config.network.size_text}, "
                     f"k = {config.block_size}, {config.weight_bits_text} bit, {removed:.1f} % removed"),
        ("output", f"{printable(found.name)} {found.floats.shape}, {found.calls} call{'s' * (found.calls != 1)}"),
    ]  # fmt: skip
    for name, value in figures.items():
        title, unit = TITLES[name]
        unit = unit or UNITS.get(args.metric, "")
        shown = f"{value:.2f}" if unit else f"{value:.4g}"
        rows.append((title, f"{shown} {unit}".strip()))
    rows.append(("saturated x", f"{saturated:.2f} % of the numbers"))
    if rtl:
        verdict = "DIFFERS FROM" if rtl["rtl"]["problems"] else "equals"
        rows.append(("verilog", f"simulated by {args.rtl}, {rtl['rtl']['steps']} steps: {verdict} what the model got"))
    if args.plot is not None:
        rows.append(("picture", str(args.plot)))
    if saturated > 1:
        note(f"{saturated:.1f} % of the numbers that enter are at the ends of x, {config.quantization.x}")
    return rows
