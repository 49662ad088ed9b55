"""Write text with a device, which computes the recurrent steps, and the host the output layer."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidValueError, MissingToolError, shown
from chessrnn.model.link.client import DeviceClient, Timeouts, damaged
from chessrnn.model.link.frames import BITS_PER_BYTE, Frame, FrameError, Kind, LinkLayout
from chessrnn.model.progress import Progress
from chessrnn.model.reference.network import NetworkReference
from chessrnn.model.text.char_model import CharModel
from chessrnn.model.text_file import read_text
from chessrnn.model.weights import random_inputs
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_config_arguments,
    command_parser,
    config_from,
    count,
    not_negative,
    print_table,
    report_problems,
    seed,
)
from chessrnn.scripts.verilog import BUILD
from chessrnn.scripts.weight_arguments import add_weight_arguments, weights_from
from chessrnn.sim.build import weights_digest
from chessrnn.sim.folder_lock import locked_folder

DEFAULT_BAUD = 1_000_000
DEFAULT_PROMPT = "The "
READ_SECONDS = 0.02
TIMEOUTS = Timeouts()

EXAMPLES = """examples:
  chessrnn host --port /dev/ttyUSB0 --length 500 --check
  chessrnn host --simulate --check
  chessrnn host --simulate --prompt "def main" --temperature 0.5
  chessrnn host --simulate --config tiny --fuzz 1000"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("host", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", metavar="PORT", help="serial port of the board, or socket://host:port")
    where.add_argument(
        "--simulate",
        action="store_true",
        help="simulate the emitted Verilog, with a pseudo-terminal as its serial line",
    )
    where.add_argument(
        "--netlist",
        type=Path,
        metavar="FOLDER",
        help="simulate the netlist that chessrnn fpga --netlist wrote into this folder",
    )
    parser.add_argument("--baud", type=count, default=DEFAULT_BAUD, help=f"bits per second; default {DEFAULT_BAUD}")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--prompt", help=f"text that the device continues; default {DEFAULT_PROMPT!r}")
    text.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text that the device continues")
    parser.add_argument("--length", type=count, default=200, help="characters to write; default 200")
    parser.add_argument(
        "--temperature", type=not_negative, default=0.5,
        help="randomness of the text, 0 for the most likely characters; default 0.5",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=1, help="seed of sampling, random inputs and noise; default 1")
    parser.add_argument("--check", action="store_true", help="compare every h with the reference")
    parser.add_argument(
        "--fuzz", type=count, metavar="N", help="send N damaged frames, and check a step after each, in place of text"
    )
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


class SerialLine:
    """The client's serial line through a port of pyserial."""

    def __init__(self, port):
        self._port = port

    def write(self, data: bytes) -> None:
        """Send all of ``data``; a device that reads nothing makes the port's buffer full, and is given up."""
        import serial

        try:
            self._port.write(data)
        except serial.SerialTimeoutException:
            raise FrameError(
                f"the device must read a request within {self._port.write_timeout:.3g} s, not leave it in the line"
            ) from None
        except OSError as error:
            raise FrameError(f"the port must stay open, not fail with {error}") from None

    def read(self) -> bytes:
        """Return the bytes that have arrived, after a short wait if there are none."""
        try:
            return self._port.read(max(1, self._port.in_waiting))
        except OSError as error:
            raise FrameError(f"the port must stay open, not fail with {error}") from None


@contextlib.contextmanager
def open_line(url: str, baud: int, write_seconds: float | None = None) -> Iterator[SerialLine]:
    """Open a serial port, or anything else for which pyserial has a URL.

    Parameters
    ----------
    url : str
    baud : int
        Bits per second.
    write_seconds : float, optional
        Time after which a request that the device does not read is given up; a simulated device reads in the end.
    """
    try:
        import serial
    except ImportError:
        raise MissingToolError("package pyserial must be installed (make host does)") from None
    try:
        port = serial.serial_for_url(url, baudrate=baud, timeout=READ_SECONDS, write_timeout=write_seconds)
    except (serial.SerialException, ValueError, TypeError, OSError) as error:
        # pyserial states some wrong URLs by the error of the Python call that failed.
        if isinstance(error.__context__, (TypeError, LookupError)):
            raise InvalidValueError(f"--port must be a serial port that can be opened, not {shown(url)}") from None
        raise InvalidValueError(
            f"--port must be a serial port that can be opened, not {shown(url)} ({error})"
        ) from None
    with port:
        port.reset_input_buffer()
        yield SerialLine(port)


@contextlib.contextmanager
def line_of(args: argparse.Namespace, weights, simulator: str = "verilator") -> Iterator[tuple[SerialLine, Timeouts]]:
    """Open the line that the arguments choose, with its timeouts, and start a simulator where one is requested."""
    if args.port is not None:
        layout = LinkLayout(weights.config)
        frames = 2 * (layout.max_request_bytes + layout.max_answer_bytes)  # every byte escaped
        whole = TIMEOUTS.whole + frames * BITS_PER_BYTE / args.baud
        with open_line(args.port, args.baud, whole) as line:
            yield line, replace(TIMEOUTS, whole=whole)
        return
    # Imported here, as a user with a board needs no simulator.
    from chessrnn.sim.device_simulation import DEVICE_FILE, emit_device, read_device, simulated_device
    from chessrnn.sim.fpga_build import NETLIST_FILE

    folder, source = args.netlist, NETLIST_FILE
    if args.netlist is not None:
        read_device(args.netlist)
    else:
        folder, source = BUILD / f"{weights.config.name}-device", DEVICE_FILE
    with locked_folder(folder):
        print(f"compiling {folder}/{source}", file=sys.stderr)
        if args.netlist is None:
            emit_device(weights, folder)
        with simulated_device(folder, simulator, source) as terminal:
            print(f"the simulated device listens at {terminal.path}", file=sys.stderr)
            with open_line(terminal.path, 115200) as line:
                yield line, terminal.timeouts


class Checker:
    """Comparison of every step of the device with the reference."""

    def __init__(self, weights):
        self._reference, self._state = NetworkReference(weights), None
        self.steps, self.wrong, self.worst = 0, 0, 0

    def step(self, x: np.ndarray, h: np.ndarray) -> None:
        """Compare the h of one step."""
        expected, self._state = self._reference.run(x[None, None], self._state)
        difference = int(np.abs(expected[0, 0] - h).max())
        self.steps += 1
        self.wrong += difference != 0
        self.worst = max(self.worst, difference)


def prompt_of(args: argparse.Namespace) -> str:
    """Text that the device reads first."""
    if args.text is None:
        return DEFAULT_PROMPT if args.prompt is None else args.prompt
    return read_text(args.text)


def write(client: DeviceClient, model: CharModel, prompt: str, args: argparse.Namespace, checker) -> str:
    """Feed the prompt to the device, and then each character that its outputs choose; the characters written."""
    rng = np.random.default_rng(args.seed)
    show = print if not args.json else (lambda *values, **options: None)
    codes = model.encode(prompt).tolist()
    show(prompt, end="", flush=True)
    written = []
    position = 0
    while True:
        x = model.embed(np.array(codes[position]))
        h = client.step(x)
        if checker is not None:
            checker.step(x, h)
        position += 1
        if position < len(codes):
            continue
        if len(written) == args.length:
            break
        codes.append(model.choose(h, args.temperature, rng))
        written.append(codes[-1])
        show(model.symbols[codes[-1]], end="", flush=True)
    show()
    return model.decode(np.array(written))


def stream_random(client: DeviceClient, config, args: argparse.Namespace, checker) -> None:
    """Feed random inputs, for a network that is not a character model."""
    for x in random_inputs(config, np.random.default_rng(args.seed), args.length):
        h = client.step(x)
        if checker is not None:
            checker.step(x, h)


def fuzz(client: DeviceClient, config, args: argparse.Namespace, checker: Checker) -> None:
    """Send damaged frames, each followed by a step that must be correct; no acknowledged step may be lost."""
    rng = np.random.default_rng(args.seed)
    progress = Progress(args.fuzz, unit="frame")
    for number in range(args.fuzz):
        x = random_inputs(config, rng, 1)[0]
        # A step that the damage leaves intact is computed, and its repetition is then answered without a second one.
        frames = (client.step_frame(x), Frame(Kind.COUNTERS, 1), Frame(Kind.IDENTIFY, 2))
        client.line.write(damaged(frames[int(rng.integers(len(frames)))].encode(), rng))
        checker.step(x, client.step(x))
        progress.show(number + 1, f"{checker.wrong} wrong")


def main(argv: list[str] | None = None) -> int:
    """Connect to the device, feed it, compare its outputs, and print the result."""
    args = parse(argv)
    config = config_from(args)
    chosen = weights_from(args, config)
    model = CharModel(chosen.image) if chosen.image is not None and chosen.image.text_layers is not None else None
    if model is None and (args.prompt is not None or args.text is not None):
        raise InvalidValueError(f"--prompt must be given with the weights of a character model, not {chosen.source}")
    prompt = prompt_of(args) if model is not None else ""
    if model is not None and not args.fuzz:
        model.encode(prompt)  # an unknown character is rejected before anything is compiled
        if not prompt:
            raise InvalidValueError("--prompt must be at least one character, not ''")
    checker = Checker(chosen.weights) if args.check or args.fuzz else None

    with line_of(args, chosen.weights) as (line, timeouts):
        client = DeviceClient(line, config, timeouts)
        identity = client.expect(weights_digest(chosen.weights))
        client.reset()
        started = time.monotonic()
        text = None
        if args.fuzz and checker is not None:
            fuzz(client, config, args, checker)
        elif model is None:
            stream_random(client, config, args, checker)
        else:
            text = write(client, model, prompt, args, checker)
        seconds = time.monotonic() - started
        counters = client.counters()

    results = {
        "device": identity.configuration,
        "simulated": args.port is None,
        "steps": counters.steps,
        "steps_per_second": counters.steps / seconds,
        "cycles_per_step": counters.step_cycles / max(1, counters.steps),
        "device_steps_per_second": identity.clock_khz * 1000 * counters.steps / max(1, counters.step_cycles),
        "frames_accepted": counters.accepted,
        "frames_refused": counters.refused,
        "requests_repeated": client.repeats,
        "checked": checker.steps if checker else 0,
        "mismatches": checker.wrong if checker else None,
        "worst_lsb": checker.worst if checker else None,
        "prompt": prompt if text is not None else None,
        "text": text,
    }
    lost = checker is not None and checker.steps != counters.steps
    if args.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        _print(results, identity.clock_khz)
    if checker is not None and lost:
        report_problems("host", [f"{checker.steps} steps were acknowledged, but the device counted {counters.steps}"])
    sys.stdout.flush()
    return EXIT_MISMATCH if lost or (checker is not None and checker.wrong) else 0


def _print(results: dict, clock_khz: int) -> None:
    checked = "not requested (--check)"
    if results["checked"]:
        checked = f"{results['checked']} steps, {results['mismatches']} wrong, worst {results['worst_lsb']} LSB"
    rows = [
        ("device", results["device"] + (" (simulated)" if results["simulated"] else "")),
        ("steps", results["steps"]),
        ("through the line", f"{results['steps_per_second']:.1f} steps/s"),
        (
            "in the device",
            f"{results['cycles_per_step']:.1f} cycles/step = {results['device_steps_per_second']:.0f} steps/s at "
            f"{clock_khz / 1000:g} MHz",
        ),
        (
            "frames",
            f"{results['frames_accepted']} accepted, {results['frames_refused']} rejected, "
            f"{results['requests_repeated']} requests repeated",
        ),
        ("compared with the reference", checked),
    ]
    print()
    print_table(rows)
