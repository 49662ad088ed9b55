"""Draw where somebody speaks: Silero VAD, whose LSTM is computed by the integer reference, a board or a simulator.

The other layers of its ONNX file run in onnxruntime on this computer.  A frame of 32 ms counts as speech where the
probability reaches the threshold; nothing is smoothed.  Ctrl-C ends, with the summary of what was heard."""

import argparse
import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, require
from chessrnn.model.hybrid.onnx_hybrid import OnnxHybrid
from chessrnn.model.link.client import DeviceClient
from chessrnn.model.showcase.speech_frames import CHUNK, RATE, detector_file, frames_of, raw_chunks, wav_chunks
from chessrnn.scripts.cli import (
    EXIT_MISMATCH,
    add_settings,
    command_parser,
    count,
    print_table,
    share,
)
from chessrnn.scripts.evaluate_model import load_image
from chessrnn.scripts.host import DEFAULT_BAUD, Checker, line_of
from chessrnn.sim.build import weights_digest
from chessrnn.whole_model import hybrid

SIMULATORS = ("icarus", "verilator")
EXAMPLES = """examples:
  chessrnn listen sound.wav --weights runs/showcase/k8w4.safetensors --compare
  chessrnn listen sound.wav --weights runs/showcase/k8w4.safetensors --simulate --check
  chessrnn listen sound.wav --weights runs/showcase/k8w4.safetensors --json > frames.jsonl
  arecord -r 16000 -f S16_LE -c 1 -t raw | chessrnn listen - --weights runs/showcase/k8w4.safetensors
  arecord -r 16000 -f S16_LE -c 1 -t raw | chessrnn listen - --weights runs/showcase/k8w4.safetensors \\
      --port /dev/ttyUSB0

make showcase makes the weights, and chessrnn fpga --board BOARD the bitstream of a board that carries them."""
STDIN = "-"
SECONDS = CHUNK / RATE
# Frames in a row of the picture: nearly two seconds, in less than 80 columns.
ROW = 60
BAR = 20
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
INPUTS, OUTPUTS = {"input", "state", "sr"}, {"output", "stateN"}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("listen", __doc__, EXAMPLES)
    parser.add_argument(
        "sound", type=Path, metavar="SOUND",
        help="WAV file, 16 bit at 16 kHz, channels are averaged; or - for raw samples of the same from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help="weight image (.safetensors), or the folder of one"
    )
    parser.add_argument("--config", metavar="NAME|FILE", help="architecture of the device; default that of the weights")
    add_settings(parser)
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="ONNX file of the detector; default that of the package silero-vad"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", metavar="PORT", help="serial port of the board, or socket://host:port")
    where.add_argument("--simulate", action="store_true", help="simulate the emitted Verilog behind a serial line")
    parser.add_argument("--simulator", choices=SIMULATORS, default="verilator", help="of --simulate; default verilator")
    parser.add_argument("--baud", type=count, default=DEFAULT_BAUD, help=f"bits per second; default {DEFAULT_BAUD}")
    parser.add_argument("--check", action="store_true", help="compare every h of the device with the reference")
    parser.add_argument("--compare", action="store_true", help="compare the decisions with those of the float model")
    parser.add_argument("--threshold", type=share, default=0.5, help="least probability of speech; default 0.5")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each frame, then the summary")
    parser.set_defaults(netlist=None)
    return parser.parse_args(argv)


class DeviceLayers:
    """The LSTM in a device, in the place of the integer reference: the device keeps its state from step to step."""

    def __init__(self, client: DeviceClient, config: Config, checker: Checker | None):
        self._client, self._checker = client, checker
        self._hidden_size = config.network.units

    def run_layers(self, codes: np.ndarray, state: Any) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
        """Compute h (T, 1, H) of the next steps from x (T, 1, X); the state is not read, and c not known: zeros."""
        found = []
        for x in codes[:, 0]:
            found.append(self._client.step(x))
            if self._checker is not None:
                self._checker.step(x, found[-1])
        h = np.stack(found)[:, None]
        return [h], [(h[-1], np.zeros((1, self._hidden_size), dtype=np.int64))]


class Detector:
    """The detector of speech, which keeps its state from frame to frame, and the float model beside it on request."""

    def __init__(self, model: Any, compare: bool):
        self._model, self._compare = model, compare
        self._start = self._float_state = np.zeros(model.input_shape("state"), dtype=np.float32)

    def probabilities(self, frame: np.ndarray) -> tuple[float, float | None]:
        """Compute the probability of speech in a frame (1, 576), and that of the float model where it is compared."""
        feeds = {"input": frame, "sr": RATE}
        # After the first frame the recurrent layers continue with their own state.
        found = self._model.run(feeds | {"state": self._start})["output"]
        if not self._compare:
            return float(found.reshape(-1)[0]), None
        floats = self._model.run_float(feeds | {"state": self._float_state})
        self._float_state = floats["stateN"]
        return float(found.reshape(-1)[0]), float(floats["output"].reshape(-1)[0])


class Picture:
    """What is printed for each frame: a row of levels on a terminal, a line elsewhere, or a JSON object."""

    def __init__(self, threshold: float, as_json: bool):
        self._threshold, self._json = threshold, as_json
        self._is_terminal = sys.stdout.isatty() and not as_json
        is_wide = (sys.stdout.encoding or "").lower().startswith("utf")
        self._levels = LEVELS if is_wide else ASCII_LEVELS
        self._width = max(1, min(ROW, shutil.get_terminal_size().columns - len("12345.678 s    speech")))
        self._row, self._begin = "", 0.0

    def show(self, number: int, probability: float, floats: float | None) -> None:
        """Print frame ``number``."""
        begin, is_speech = number * SECONDS, probability >= self._threshold
        if self._json:
            own = {"time": begin, "probability": probability, "speech": is_speech}
            print(json.dumps(own if floats is None else own | {"float": floats}), flush=True)
        elif self._is_terminal:
            if not self._row:
                self._begin = begin
            self._row += self._levels[min(int(probability * len(self._levels)), len(self._levels) - 1)]
            state = "speech" if is_speech else "      "
            print(f"\r{self._begin:9.3f} s  {self._row:<{self._width}}  {state}", end="", flush=True)
            if len(self._row) == self._width:
                self.end()
        else:
            beside = "" if floats is None else f"  float {floats:.3f}"
            bar = "#" * round(BAR * probability)
            line = f"{begin:9.3f} s  {probability:.3f}  {bar:<{BAR}}{beside}{'  speech' if is_speech else ''}"
            print(line.rstrip(), flush=True)

    def end(self) -> None:
        """End the row that is being drawn."""
        if self._row:
            print()
        self._row = ""


def sound_of(path: Path) -> Iterator[np.ndarray]:
    """Frames of a file or of standard input; a file is checked at once, standard input as it is read."""
    if str(path) != STDIN:
        return frames_of(wav_chunks(path))
    require(not sys.stdin.isatty(), "standard input", "raw samples of a program such as arecord", "a terminal")
    return frames_of(raw_chunks(sys.stdin.buffer, "standard input"))


def detector_model(args: argparse.Namespace, image: Any) -> Any:
    """Put the integers into the detector's ONNX file, and check that it is called as Silero VAD is."""
    path = args.model or detector_file()
    model = hybrid(path, image, keep_state=True)
    assert isinstance(model, OnnxHybrid), "a path is that of an ONNX file"
    if not (INPUTS == set(model.inputs) and set(model.outputs) >= OUTPUTS):
        rule = f"a detector with inputs {', '.join(sorted(INPUTS))} and outputs {', '.join(sorted(OUTPUTS))}"
        raise InvalidFileError(f"{path} must be {rule}, not {', '.join([*model.inputs, *model.outputs])}")
    return model


@contextlib.contextmanager
def client_of(args: argparse.Namespace, weights: Any) -> Iterator[DeviceClient | None]:
    """Connect to the board or to the simulated device, and set its state to zero; nothing for the reference."""
    if args.port is None and not args.simulate:
        yield None
        return
    with line_of(args, weights, args.simulator) as (line, timeouts):
        client = DeviceClient(line, weights.config, timeouts)
        client.expect(weights_digest(weights))
        client.reset()
        yield client


def segments_of(speech: list[bool]) -> list[list[float]]:
    """Join neighbouring frames of speech: the first second and the last of each run of them."""
    edges = np.flatnonzero(np.diff([False, *speech, False]))
    return [[float(first) * SECONDS, float(last) * SECONDS] for first, last in edges.reshape(-1, 2)]


def main(argv: list[str] | None = None) -> int:
    """Listen frame by frame, draw, and print the summary."""
    args = parse(argv)
    has_device = args.port is not None or args.simulate
    require(has_device or not args.check, "--check", "given with --port or --simulate", "without")
    image = load_image(args)
    frames = sound_of(args.sound)
    model = detector_model(args, image)
    weights, checker = image.weights, Checker(image.weights) if args.check else None
    detector, picture = Detector(model, args.compare), Picture(args.threshold, args.json)
    own: list[float] = []
    floats: list[float] = []
    interrupted, counters, clock_khz = False, None, 0
    with client_of(args, weights) as client:
        if client is not None:
            model.border.reference = DeviceLayers(client, weights.config, checker)
        try:
            for frame in frames:
                probability, beside = detector.probabilities(frame)
                own.append(probability)
                floats += [] if beside is None else [beside]
                picture.show(len(own) - 1, probability, beside)
        except KeyboardInterrupt:
            interrupted = True
        picture.end()
        # After Ctrl-C an answer may be under way, and a simulator has got the same signal.
        if client is not None and not interrupted:
            counters, clock_khz = client.counters(), client.identify().clock_khz
    speech = [value >= args.threshold for value in own]
    results: dict[str, Any] = {
        "sound": str(args.sound),
        "lstm": args.port or ("simulated device" if args.simulate else "integer reference"),
        "frames": len(own),
        "seconds": len(own) * SECONDS,
        "speech_percent": 100 * sum(speech) / max(1, len(speech)),
        "segments": segments_of(speech),
        "interrupted": interrupted,
    }
    if args.compare:
        equal = [one == (other >= args.threshold) for one, other in zip(speech, floats, strict=False)]
        results["equal_percent"] = 100 * sum(equal) / max(1, len(equal))
    if checker is not None:
        results |= {"checked": checker.steps, "mismatches": checker.wrong, "worst_lsb": checker.worst}
    if counters is not None:
        cycles = counters.step_cycles / max(1, counters.steps)
        results |= {"cycles_per_step": cycles, "real_time_factor": clock_khz * 1000 * SECONDS / max(1.0, cycles)}
    if args.json:
        print(json.dumps({"summary": results}))
    else:
        print_summary(results, clock_khz)
    return EXIT_MISMATCH if checker is not None and checker.wrong else 0


def print_summary(results: dict[str, Any], clock_khz: int) -> None:
    """Print the summary as a table."""
    rows: list[tuple[str, str]] = [
        ("speech", f"{first:.3f} s to {last:.3f} s") for first, last in results["segments"]
    ] or [("speech", "none")]
    heard = f"{results['frames']} of {1000 * SECONDS:g} ms, {results['speech_percent']:.1f} % of them speech"
    rows += [("frames", heard + (", interrupted" if results["interrupted"] else "")), ("LSTM", results["lstm"])]
    if "equal_percent" in results:
        rows.append(("equal decisions", f"{results['equal_percent']:.2f} % of the float model's"))
    if "checked" in results:
        wrong = f"{results['mismatches']} wrong, worst {results['worst_lsb']} LSB"
        rows.append(("compared with the reference", f"{results['checked']} steps, {wrong}"))
    if "cycles_per_step" in results:
        factor = f"{results['real_time_factor']:.0f} times faster than sound at {clock_khz / 1000:g} MHz"
        rows.append(("in the device", f"{results['cycles_per_step']:.1f} cycles/step, {factor}"))
    print()
    print_table(rows)
