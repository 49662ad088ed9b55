"""Run your own inputs through the bit-accurate reference, or the emitted Verilog, and write what comes out."""

import argparse
import sys
from pathlib import Path

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, InvalidValueError, require
from chessrnn.model.files import require_regular_file, write_atomic
from chessrnn.model.fixed_point import dequantize
from chessrnn.model.imported.input_arrays import load_arrays
from chessrnn.model.imported.load import load_network
from chessrnn.model.imported.recurrent_network import RecurrentNetwork
from chessrnn.model.output_layer import OutputLayer
from chessrnn.model.prediction import (
    Codes,
    Prediction,
    input_codes,
    output_values,
    predict_codes,
    state_codes,
    state_values,
)
from chessrnn.model.presets import PRESETS
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_settings,
    command_parser,
    config_from,
    note,
    print_table,
    printable,
    report_problems,
)
from chessrnn.scripts.input_file import LAYOUTS, add_batch_first, array_bytes, load_sequences, reading, table_text
from chessrnn.scripts.weight_arguments import Chosen, add_weight_arguments, note_random, weights_from

EXAMPLES = """examples:
  chessrnn predict runs/lstm/lstm.json --weights runs/lstm/lstm.safetensors --inputs x.npy --output y.npy
  chessrnn predict build/lstm --weights runs/lstm/lstm.safetensors --inputs x.csv --output y.csv --rtl icarus
  chessrnn predict runs/lstm/lstm.json --weights runs/lstm/lstm.safetensors --inputs x.npy --output y.npy \\
      --trace points.npz --steps 0:20 --plot errors.png

Arrays are (steps, batch, elements) or (steps, elements); a table has a step per row.  The output is h of the last layer
as real numbers, or what the output layer makes of it where the weights have one; --h gives h all the same."""
SIMULATORS = ("icarus", "verilator")
# Options that name files to read.
READ = ("inputs", "weights", "state_in", "model")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("predict", __doc__, EXAMPLES)
    parser.add_argument(
        "config", metavar="CONFIG", help=f"preset ({', '.join(PRESETS)}), a .json/.toml file, or a build folder"
    )
    add_weight_arguments(parser)
    parser.add_argument("--inputs", type=Path, required=True, metavar="FILE", help="inputs, .npy or .csv")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write, .npy or .csv")
    add_batch_first(parser)
    parser.add_argument("--h", action="store_true", help="write h, not what the output layer makes of it")
    parser.add_argument("--state-in", type=Path, metavar="NPZ", help="first state: h and c, (layers, batch, units)")
    parser.add_argument("--state-out", type=Path, metavar="NPZ", help="write the final state, for --state-in")
    parser.add_argument("--rtl", choices=SIMULATORS, help="simulate the emitted Verilog; it must equal the reference")
    parser.add_argument("--trace", type=Path, metavar="NPZ", help="write every quantization point of --steps")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw where the error arises, .png or .svg")
    parser.add_argument("--steps", metavar="A:B", help="steps of --trace and --plot, A to before B; default all")
    parser.add_argument(
        "--model", type=Path, metavar="FILE",
        help="model file to compare with; default the float network with the values of the integer weights",
    )  # fmt: skip
    parser.add_argument("--prefix", metavar="NAME", help="network of --model, as for chessrnn convert")
    add_settings(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Read inputs, run them, and write outputs, state, trace and picture."""
    args = parse(argv)
    check_options(args)
    config = config_from(args)
    chosen = weights_from(args, config)
    x = load_sequences(args.inputs, config.network.input_size, args.batch_first)
    is_single = _is_single(args.inputs)
    for option, path in (("--state-in", args.state_in), ("--state-out", args.state_out)):
        rule = "left out for a network whose layers have different sizes"
        require(path is None or isinstance(config.network.hidden_size, int), option, rule, str(path))
    state = load_state(args.state_in, config, x.shape[1])
    network = None if args.model is None else load_network(args.model, args.prefix)
    note_random(chosen)
    print(f"inputs: {reading(x, args.batch_first)}", file=sys.stderr)
    note_saturation(chosen, x)
    result = predict_codes(chosen.weights, x, state)
    problems = [] if args.rtl is None else simulated(args, chosen, x, state, result)
    layer = None if args.h else output_layer(chosen)
    values = dequantize(result.codes, config.quantization.h)
    if layer is not None:
        values = output_values(config, layer, result.codes)
    rows = [
        ("network", f"{config.network.cell}, {config.network.input_size} x {config.network.size_text}, "
                    f"layers {config.network.num_layers}, {config.name} {config.fingerprint}"),
        ("weights", printable(chosen.source)),
        ("output", what(config, layer)),
    ]  # fmt: skip
    # Everything is computed before anything is written.
    files: dict[Path, bytes | str] = {}
    rows += write_output(args, values, is_single, files)
    if args.state_out is not None:
        arrays = state_values(config, result.state)
        files[args.state_out] = array_bytes(arrays)
        shapes = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
        rows.append(("final state", f"{args.state_out}: {shapes} as (layers, batch, units)"))
    if args.rtl is not None:
        verdict = "equals" if not problems else "DIFFERS FROM"
        rows.append(("verilog", f"simulated by {args.rtl}, {len(x) * x.shape[1]} steps: {verdict} the reference"))
    if args.trace is not None or args.plot is not None:
        rows += traced(args, chosen, x, state, network, files)
    for path, content in files.items():
        write_atomic(path, content)
    print_table(rows)
    report_problems("predict", problems)
    return EXIT_MISMATCH if problems else 0


def check_options(args: argparse.Namespace) -> None:
    """Reject options that have no effect, and names of files of other kinds.

    Raises
    ------
    InvalidValueError
        An option is given without the one that it belongs to, a file has another ending, or one would be overwritten.
    """
    wanted = {"output": (".npy", ".csv"), "state_out": (".npz",), "trace": (".npz",), "plot": (".png", ".svg")}
    for name, endings in wanted.items():
        path = getattr(args, name)
        rule = f"a file {' or '.join(endings)}"
        option = f"--{name.replace('_', '-')}"
        require(path is None or path.suffix in endings, option, rule, str(path))
        # A state may be replaced by the one that follows it.
        allowed = {"state_in"} if name == "state_out" else set()
        others = [getattr(args, other) for other in {*wanted, *READ} - {name} - allowed]
        taken = path is not None and path.resolve() in [Path(other).resolve() for other in others if other is not None]
        require(not taken, option, "a file that no other option names", str(path))
        if path is not None:
            require_writable(path)
    for name in ("steps", "model"):
        given, is_used = getattr(args, name), args.trace is not None or args.plot is not None
        given = None if given is None else str(given)
        require(given is None or is_used, f"--{name}", "left out without --trace or --plot", given)
    require(args.prefix is None or args.model is not None, "--prefix", "left out without --model", args.prefix)


def require_writable(path: Path) -> None:
    """Reject, before anything is computed, a path that no file can be written to.

    Raises
    ------
    InvalidFileError
        It is a folder, a device or a link, or its name is too long.
    """
    try:
        require_regular_file(path)
    except OSError as error:
        raise InvalidFileError(f"{path} must be a file that can be written: {error.strerror}") from None


def _is_single(path: Path) -> bool:
    """Whether a file holds a single sequence, without an axis for the batch."""
    return path.suffix.lower() == ".csv" or np.load(path, mmap_mode="r").ndim == 2


def steps_from(text: str | None, count: int) -> tuple[int, int]:
    """Read ``A:B``, both of which may be left out."""
    if text is None:
        return 0, count
    first, separator, last = text.partition(":")
    try:
        return int(first or 0), int(last or count) if separator else int(first) + 1
    except ValueError:
        raise InvalidValueError(f"--steps must be of the form A:B, not {text!r}") from None


def note_saturation(chosen: Chosen, x: np.ndarray) -> None:
    """Say how many inputs are at the ends of the format of x."""
    fmt = chosen.weights.config.quantization.x
    codes = input_codes(chosen.weights, x)
    count = int(((codes == fmt.min) | (codes == fmt.max)).sum())
    if count:
        ends = f"{fmt.min * fmt.lsb:g} to {fmt.max * fmt.lsb:g}"
        note(f"{count} of {codes.size} inputs are at the ends of x, {fmt}, {ends}")


def load_state(path: Path | None, config: Config, batch: int) -> Codes | None:
    """Read a first state: h and c of every layer."""
    if path is None:
        return None
    arrays = load_arrays(path)
    for name in arrays:
        require(name in ("h", "c"), f"{path}: name", "h or c", name)
    if "h" not in arrays:
        raise InvalidFileError(f"{path}: h must be given, not left out")
    return state_codes(config, arrays["h"], arrays.get("c"), batch)


def output_layer(chosen: Chosen) -> OutputLayer | None:
    """Return the output layer of a weight image, on chip or on the host."""
    return None if chosen.image is None else chosen.image.output_layer


def what(config: Config, layer: OutputLayer | None) -> str:
    """Describe what is written."""
    if layer is not None:
        place = "on chip" if config.architecture.output_layer else "on the host"
        return f"{len(layer.weight)} values of the output layer ({place}), exact"
    both = " of both directions" if config.network.bidirectional else ""
    return f"h of the last layer{both} in {config.quantization.h}"


def write_output(
    args: argparse.Namespace, values: np.ndarray, is_single: bool, files: dict[Path, bytes | str]
) -> list[tuple[str, str]]:
    """Add the file of (T, B, N) in the layout of the inputs, and return the row that says so."""
    layout = LAYOUTS[args.batch_first]
    if is_single:
        values, layout = values[:, 0], "(steps, elements)"
    elif args.batch_first:
        values = values.swapaxes(0, 1)
    if args.output.suffix == ".npy":
        files[args.output] = array_bytes(values)
    else:
        require(is_single, "--output", "a file .npy for several sequences", str(args.output))
        files[args.output] = table_text(values)
    shown = f"{values.shape} as {layout}, from {values.min():.4g} to {values.max():.4g}"
    return [("written to", f"{args.output}: {shown}")]


def simulated(
    args: argparse.Namespace, chosen: Chosen, x: np.ndarray, state: Codes | None, expected: Prediction
) -> list[str]:
    """Simulate the emitted Verilog on the inputs, and return every difference from the reference."""
    from chessrnn.scripts.verilog import build_folder, make_current
    from chessrnn.sim.folder_lock import locked_folder
    from chessrnn.sim.runner import Run
    from chessrnn.sim.runner import simulate as run_simulator
    from chessrnn.sim.scenarios import Scenario

    config = chosen.weights.config
    rule = "true to begin with --state-in"
    require(state is None or config.architecture.state_ports, "architecture.state_ports", rule, False)
    codes = input_codes(chosen.weights, x)
    longest = config.sequence_steps if config.network.bidirectional else len(x)
    require(len(x) <= longest, "architecture.sequence_steps", f"at least {len(x)}, the steps of the inputs", longest)
    initial = ()
    if state is not None:
        initial = tuple([(h[number], c[number]) for h, c in state] for number in range(x.shape[1]))
    scenario = Scenario(chosen.weights, tuple(codes.swapaxes(0, 1)), initial)
    directory = build_folder(args, chosen)
    print(f"simulating {scenario.num_steps} steps of {directory}/ with {args.rtl}", file=sys.stderr)
    with locked_folder(directory):
        make_current(directory, chosen)
        (result,) = run_simulator(directory, [Run(scenario, name="inputs")], args.rtl)
    problems = list(result.problems)
    if not problems:
        found = np.stack([result.h[scenario.steps_of(number)] for number in range(x.shape[1])], axis=1)
        if not np.array_equal(found, expected.codes):
            problems.append("h of the Verilog must equal the reference, not differ")
    return problems


def traced(
    args: argparse.Namespace,
    chosen: Chosen,
    x: np.ndarray,
    state: Codes | None,
    network: RecurrentNetwork | None,
    files: dict[Path, bytes | str],
) -> list[tuple[str, str]]:
    """Add the files of the trace and of its picture, and return the rows that say where the error arises."""
    from chessrnn.model.conversion.quantization_trace import trace_network

    trace = trace_network(chosen.weights, x, steps_from(args.steps, len(x)), network, state)
    rows = []
    for layer in trace.layers:
        errors = layer.errors()
        inside = ", ".join(
            f"{name} {100 * one['all']:.2f} %" + (f" ({100 * one['arising']:.2f} % here)" if "arising" in one else "")
            for name, one in errors.items()
        )
        rows.append((f"error in {layer.name}", inside))
    if args.trace is not None:
        arrays = trace.arrays()
        files[args.trace] = array_bytes(arrays)
        rows.append(("trace", f"{args.trace}: {len(arrays)} arrays, steps {trace.steps[0]} to {trace.steps[1] - 1}"))
    if args.plot is not None:
        from chessrnn.scripts.trace_plot import draw

        files[args.plot] = draw(trace, args.plot.suffix[1:])
        rows.append(("picture", f"{args.plot}"))
    return rows
