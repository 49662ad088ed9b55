"""Compress a public detector of speech, train it through its frozen layers, and measure what its decisions lose.

The network is the LSTM of Silero VAD (128 inputs, 128 units, 31.25 steps a second).  No labels are needed: the float
model teaches.  The figures are those of the package's own ONNX file, with the accelerator's integers in place of its
LSTM, on speakers and noises that training did not hear."""

import argparse
import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chessrnn.model.config import BLOCK_SIZES, WEIGHT_BITS
from chessrnn.model.errors import MissingToolError, require
from chessrnn.model.files import make_folder, require_folder, write_atomic
from chessrnn.model.progress import Progress, elapsed
from chessrnn.model.showcase.audio_streams import stream
from chessrnn.model.showcase.hardware_figures import SMALLEST, hardware_figures
from chessrnn.model.showcase.noises import HELD_OUT, TRAINING
from chessrnn.model.showcase.recordings import recorded_voices
from chessrnn.model.showcase.voices import Voice, espeak_voices, formant_voices
from chessrnn.scripts.cli import command_parser, note, print_table, seed, whole

EXAMPLES = """examples:
  chessrnn showcase
  chessrnn showcase --quick
  chessrnn showcase --audio recordings/ --speaker '_([a-z]+)_'
  chessrnn showcase --designs 8:8 8:4
  chessrnn showcase --seeds 3
  chessrnn showcase --liberty nangate45_typ.lib.gz

Without --audio, eSpeak NG speaks, or formants where it is not installed.  Every stage leaves a checkpoint in the folder
of the output: after Ctrl-C the same command continues."""
DEFAULT_DESIGNS = ("1:8", "2:8", "4:8", "8:8", "4:4", "8:4")
STEPS_PER_SECOND = 16000 / 512
SPEAKERS_TRAINED = 2 / 3
MAX_STREAM_SECONDS = 8.0
# Utterances of a speaker that are spoken once and used again.
UTTERANCES = 40


class Effort(NamedTuple):
    """How much is done.

    Attributes
    ----------
    trained, measured : int
        Numbers of streams to train with and to measure with.
    seconds : float
        Length of a stream.
    updates : dict of int to int
        Updates of the float stage by block size.
    integer_updates : dict of int to int
        Updates of the integer stage by width of the weights.
    """

    trained: int
    measured: int
    seconds: float
    updates: dict[int, int]
    integer_updates: dict[int, int]


MAX_SEEDS = 100
# Figures that differ between seeds.
MEANS = ("agreement", "false_speech", "missed_speech", "speech_share", "agreement_untrained")
FULL = Effort(144, 48, MAX_STREAM_SECONDS, {1: 0, 2: 500, 4: 1000, 8: 2000}, {8: 300, 4: 700})
QUICK = Effort(24, 12, 4.0, {1: 0, 2: 20, 4: 40, 8: 60}, {8: 10, 4: 20})
# First learning rates: of the float stage, of the integers behind it, and of integers that have lost little.
FLOAT_RATE, INTEGER_RATE, DENSE_RATE = 1e-2, 2e-3, 2e-4


class Design(NamedTuple):
    """Block size and width of the weights."""

    block_size: int
    weight_bits: int

    @property
    def name(self) -> str:
        """Name of the design and of its files."""
        return f"k{self.block_size}w{self.weight_bits}"


def design(text: str) -> Design:
    """``argparse`` type of a design, K:BITS."""
    try:
        k, bits = map(int, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be of the form K:BITS, not {text!r}") from None
    if k not in BLOCK_SIZES or bits not in WEIGHT_BITS:
        sizes, widths = ", ".join(map(str, BLOCK_SIZES)), f"{WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]}"
        raise argparse.ArgumentTypeError(f"must have K of {sizes} and {widths} BITS, not {text}")
    return Design(k, bits)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("showcase", __doc__, EXAMPLES)
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="WAV files of speech, a folder for each speaker")
    parser.add_argument("--speaker", metavar="REGEX", help="group of the files' paths that names the speaker")
    parser.add_argument(
        "--designs", nargs="+", type=design, metavar="K:BITS", default=[design(text) for text in DEFAULT_DESIGNS],
        help=f"block sizes and widths of weights; default {' '.join(DEFAULT_DESIGNS)}",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="two minutes to see that it works; the figures mean little"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of speakers, sounds and training; default 0")
    parser.add_argument(
        "--seeds",
        type=whole,
        default=1,
        metavar="N",
        help="number of runs, each with its own seed counted from --seed, whose mean and spread are shown; default 1",
    )
    parser.add_argument(
        "--liberty",
        type=Path,
        metavar="FILE",
        help="standard-cell library: synthesize the smallest design, and measure its energy on speech",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/showcase"), metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Make sounds, train every design, measure, and write the page."""
    args = parse(argv)
    require(args.speaker is None or args.audio is not None, "--speaker", "left out without --audio", args.speaker)
    require(1 <= args.seeds <= MAX_SEEDS, "--seeds", f"from 1 to {MAX_SEEDS}", args.seeds)
    require_folder(args.output)
    library = library_from(args.liberty)
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    try:
        from chessrnn.model.training.speech_activity import Detector, detector_file
    except ImportError:
        raise MissingToolError("torch and onnx must be installed: make showcase") from None
    path = detector_file()
    effort = QUICK if args.quick else FULL
    folder, detector = args.output, Detector(path)
    seeds = [args.seed + number for number in range(args.seeds)]
    # Files of the first seed are those of the folder; the others have folders of their own below it.
    first = one_seed(args, seeds[0], folder, detector, path, effort)
    others = (one_seed(args, value, folder / f"seed{value}", detector, path, effort) for value in seeds[1:])
    rounds = [first, *(one.figures_only() for one in others)]
    rows = [joined([one.rows[place] for one in rounds]) for place in range(len(first.rows))]
    if library is not None:
        smallest = min(rows, key=lambda row: row["weight_bytes"])
        smallest["energy"] = energy_of(first.weights[smallest["name"]], first.features, library, folder)
    report = {
        "speech": first.source,
        "voices_measured": sorted({name for one in rounds for name in one.voices}),
        "noises_measured": list(HELD_OUT),
        "frames_measured": sum(one.frames for one in rounds),
        "seconds_trained": effort.trained * effort.seconds,
        "quick": args.quick,
        "seed": args.seed,
        "seeds": seeds,
        "designs": rows,
    }
    write_atomic(folder / "results.json", json.dumps(report, indent=2) + "\n")
    from chessrnn.scripts.showcase_page import write_page

    page = write_page(folder, report, first.measured, first.outputs)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print_rows(report)
        print_table([("page", str(page)), ("designs", f"{folder}/NAME.json and .safetensors, for chessrnn verilog")])
    return 0


class Round(NamedTuple):
    """Everything that was made and measured with one seed.

    Attributes
    ----------
    source : str
        Origin of the speech, for the report.
    voices : list of str
        Names of the speakers that were measured with.
    frames : int
        Number of decisions that were compared.
    rows : list of dict
        Figures of every design.
    measured : array
        Samples of the streams that were measured with.
    features : tensor (T, B, 128)
        Inputs of the LSTM for the streams that are trained with.
    outputs, weights : dict
        Outputs and integers of every design by its name.
    """

    source: str
    voices: list[str]
    frames: int
    rows: list[dict[str, Any]]
    measured: np.ndarray
    features: Any
    outputs: dict[str, Any]
    weights: dict[str, Any]

    def figures_only(self) -> "Round":
        """Return the round without sounds and weights, which would fill the memory for many seeds."""
        return self._replace(measured=np.zeros(0), features=None, outputs={}, weights={})


def one_seed(args: argparse.Namespace, value: int, folder: Path, detector, path: Path, effort: Effort) -> Round:
    """Make the sounds of a seed, and train and measure every design with them."""
    voices, source = voices_from(args, value)
    print(f"seed {value}, speech: {source}, {len({voice.name for voice in voices})} voices", file=sys.stderr)
    sounds = sounds_from(make_folder(folder), voices, effort, value, source, args.audio)
    with elapsed("features"):
        features = detector.features(sounds["trained"])
    calls = calls_of(sounds["measured"])
    digest = hashlib.sha256(sounds["trained"].tobytes()).hexdigest()
    rows, outputs, weights = [], {}, {}
    for one in sorted(args.designs):
        before, after = trained(one, detector, features, folder, effort, digest, value)
        row, outputs[one.name] = measured(one, path, before, after, calls, folder)
        rows.append(row)
        weights[one.name] = after
        print(f"{one.name}: {row['agreement']:.2f} % equal decisions", file=sys.stderr)
    frames, names = int(calls.shape[0] * calls.shape[1]), sounds["names"].tolist()
    return Round(source, names, frames, rows, sounds["measured"], features, outputs, weights)


def joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the rows of a design of all seeds: means, and the values of each where there are several."""
    row = dict(rows[0])
    for key in MEANS:
        values = [one[key] for one in rows]
        row[key] = sum(values) / len(values)
        if len(rows) > 1:
            row[f"{key}_by_seed"] = values
    return row


# -- sounds ------------------------------------------------------------------------------------------------------------


def voices_from(args: argparse.Namespace, value: int) -> tuple[list[Voice], str]:
    """Speakers of a folder, of eSpeak NG, or made of formants; and what they are."""
    rng = np.random.default_rng(value)
    if args.audio is not None:
        voices = recorded_voices(args.audio, args.speaker)
        return voices, f"recordings of {args.audio.resolve().name}"
    try:
        return espeak_voices(rng), "eSpeak NG"
    except OSError as error:
        note(f"{error}: voices are made of formants, and the figures say less")
        return formant_voices(rng), "formants"


def speaker_of(voice: Voice) -> str:
    """Name the speaker of a voice: the same in every language."""
    return voice.name if voice.language in ("recorded", "none") else voice.name.partition("-")[0]


def sounds_from(
    folder: Path, voices: Sequence[Voice], effort: Effort, seed: int, source: str, audio: Path | None
) -> dict[str, np.ndarray]:
    """Make the streams of both parts, or load those that an earlier run of the same arguments and files made."""
    names = [voice.name for voice in voices]
    paths = [path for path in audio.rglob("*") if path.suffix.lower() == ".wav"] if audio else []
    files = sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    identity = json.dumps([source, names, effort.trained, effort.measured, effort.seconds, seed, files])
    path = folder / f"sounds-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npz"
    if path.is_file():
        with contextlib.suppress(OSError, ValueError, KeyError):
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in ("trained", "measured", "names")}
    speakers = sorted({speaker_of(voice) for voice in voices})
    np.random.default_rng([seed, 1]).shuffle(speakers)
    learnt = set(speakers[: round(SPEAKERS_TRAINED * len(speakers))])
    kept: dict[tuple[str, int], np.ndarray] = {}
    progress, done = Progress(effort.trained + effort.measured, label="sounds", unit="stream"), 0
    found: dict[str, np.ndarray] = {}
    heard: list[str] = []
    for part, count, kinds in (("trained", effort.trained, TRAINING), ("measured", effort.measured, HELD_OUT)):
        own = [voice for voice in voices if (speaker_of(voice) in learnt) == (part == "trained")]
        rng = np.random.default_rng([seed, 2 + (part == "measured")])
        streams = []
        for number in range(count):
            voice = own[number % len(own)]

            def speak(sentence: int, voice=voice) -> np.ndarray:
                key = voice.name, sentence % UTTERANCES
                if key not in kept:
                    kept[key] = voice.speak(key[1])
                return kept[key]

            streams.append(stream(speak, [kinds[number % len(kinds)]], effort.seconds, rng).astype(np.float32))
            if part == "measured":
                heard.append(voice.name)
            done += 1
            progress.show(done, "")
        found[part] = np.stack(streams)
    found["names"] = np.array(heard)
    from chessrnn.scripts.input_file import array_bytes

    write_atomic(path, array_bytes(found))
    return found


def calls_of(samples: np.ndarray) -> np.ndarray:
    """Cut streams (B, N) into the calls of the detector (T, B, 576): 512 samples with the 64 before them."""
    from chessrnn.model.training.speech_activity import CHUNK, CONTEXT

    chunks = samples.shape[1] // CHUNK
    padded = np.pad(samples[:, : chunks * CHUNK], ((0, 0), (CONTEXT, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK, axis=1)[:, ::CHUNK]
    return np.ascontiguousarray(windows.swapaxes(0, 1))


# -- designs -----------------------------------------------------------------------------------------------------------


def trained(one: Design, detector, features, folder: Path, effort: Effort, digest: str, seed: int):
    """Compress and train the LSTM; return the integers before and after."""
    from chessrnn.model.training.detector_training import Lesson, copied_weights, train
    from chessrnn.model.training.recurrent_modules import LSTM

    k, bits = one
    calibration = features[:, ::4]

    def compressed(width: int) -> Any:
        return LSTM.from_dense(detector.lstm, k=k, weight_bits=width, settings=SMALLEST).calibrate(calibration)

    identity = {"sounds": digest, "k": k}
    lstm = compressed(bits)
    before = lstm.stage("float").weights()
    updates = effort.updates.get(k, effort.updates[max(effort.updates)])
    if updates:
        # The float stage does not depend on the width of the weights, and is shared.
        shared, progress = compressed(8), Progress(updates, label=f"k = {k}, float", unit="update")
        lesson = Lesson("float", updates, FLOAT_RATE, seed=seed)
        train(shared, detector, features, lesson, folder / f"k{k}-float.pt", identity,
              lambda done, loss: progress.show(done, f"loss {loss:.3f}"))  # fmt: skip
        lstm = copied_weights(shared.stage("float"), lstm)
    updates = effort.integer_updates.get(bits, max(effort.integer_updates.values()))
    progress = Progress(updates, label=f"k = {k}, {bits} bit", unit="update")
    lesson = Lesson("quantized", updates, INTEGER_RATE if k > 1 else DENSE_RATE, seed=seed)
    train(lstm, detector, features, lesson, folder / f"{one.name}-integers.pt", identity,
          lambda done, loss: progress.show(done, f"loss {loss:.3f}"))  # fmt: skip
    return before, lstm.weights()


def measured(one: Design, path: Path, before, after, calls: np.ndarray, folder: Path):
    """Measure a design with the package's own file, write its files, and return its row and its outputs."""
    from dataclasses import replace

    from chessrnn.model.weight_image import WeightImage
    from chessrnn.whole_model import evaluate_model, hybrid

    figures = {}
    comparison = None
    batch = calls.shape[1]
    state = np.zeros((2, batch, 128), dtype=np.float32)
    inputs = [{"input": call, "sr": 16000, "state": state} for call in calls]
    for name, weights in (("untrained", before), ("trained", after)):
        model = hybrid(path, weights)
        with elapsed(f"{one.name}, {name}, in onnxruntime"):
            figures[name], comparison = evaluate_model(model, inputs, feedback={"stateN": "state"}, output="output")
    assert comparison is not None
    config = after.config.replace({"name": one.name})
    result = figures["trained"]
    row = {
        "name": one.name,
        "k": one.block_size,
        "weight_bits": one.weight_bits,
        "agreement": result["agreement"],
        "false_speech": result["false_yes"],
        "missed_speech": result["missed_yes"],
        "speech_share": result["float_yes"],
        "agreement_untrained": figures["untrained"]["agreement"],
        **hardware_figures(config, STEPS_PER_SECOND),
    }
    image = WeightImage(replace(after, config=config), metrics=row, command="chessrnn showcase")
    image.save(folder / f"{one.name}.safetensors")
    write_atomic(folder / f"{one.name}.json", config.to_json())
    return row, comparison


# -- energy ------------------------------------------------------------------------------------------------------------


def library_from(path: Path | None):
    """Load the standard-cell library before anything is trained, so that a wrong file is named at once."""
    if path is None:
        return None
    from chessrnn.sim.synthesis.job import tools
    from chessrnn.sim.synthesis.library import load_libraries

    tools()  # a missing one is named before training
    return load_libraries([path])[0]


def energy_of(weights, features, library, folder: Path) -> dict[str, Any]:
    """Synthesize a design, and measure its energy on speech at the clock that just keeps up with it.

    At that clock every second of audio takes a second, so that the energy contains the leakage of the whole time.
    """
    from chessrnn.hdl.verilog import TOP_MODULE, generate
    from chessrnn.model.prediction import input_codes
    from chessrnn.model.schedule import Schedule
    from chessrnn.sim.synthesis.flow import TARGET_FO4
    from chessrnn.sim.synthesis.job import run
    from chessrnn.sim.synthesis.power import STEPS, measure

    config, loudest = weights.config, int(features.abs().sum(dim=2).mean(dim=0).argmax())
    middle = len(features) // 2
    x = input_codes(weights, features[middle : middle + STEPS, loudest : loudest + 1].double().numpy())[:, 0]
    clock_mhz = Schedule(config).initiation_interval * STEPS_PER_SECOND / 1e6

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    place = folder / "synthesis"
    _, result = run(config, generate(config), TOP_MODULE, library, TARGET_FO4, place, True, progress)
    found = measure(result, weights, x, "features of speech", clock_mhz)
    return {
        "library": library.name,
        "voltage": found["voltage"],
        "clock_mhz": clock_mhz,
        "nj_per_step": found["nj_per_step"],
        "uj_per_second": found["nj_per_step"] * STEPS_PER_SECOND / 1e3,
        "leakage_uj_per_second": found["leakage_mw"] * 1e3,
        "how": found["activity"],
    }


# -- results -----------------------------------------------------------------------------------------------------------


def print_rows(report: dict[str, Any]) -> None:
    """Print the table of all designs."""
    count, speech = report["frames_measured"], report["speech"]
    print(f"{count} frames of voices and noises that training did not hear; speech: {speech}")
    heads = ("k", "bits", "removed %", "equal %", "false %", "missed %", "untrained %", "bytes", "mm2 90nm", "cycles")
    print("  ".join(heads), " smallest board, smallest FPGA")
    for row in report["designs"]:
        values = (
            str(row["k"]), str(row["weight_bits"]), f"{row['removed_percent']:.1f}", f"{row['agreement']:.2f}",
            f"{row['false_speech']:.2f}", f"{row['missed_speech']:.2f}", f"{row['agreement_untrained']:.2f}",
            str(row["weight_bytes"]), f"{row['area_mm2_90nm']:.3f}", str(row["cycles"]),
        )  # fmt: skip
        shown = "  ".join(f"{value:>{len(head)}}" for head, value in zip(heads, values, strict=True))
        fpga = f"{row['fpga']['part']} ({row['fpga']['engine']} engine)" if row["fpga"] else "none"
        print(f"{shown}  {row['board'] or 'none'}, {fpga}")
    for row in report["designs"]:
        values = row.get("agreement_by_seed", [])
        if values:
            print(f"{row['name']}: {min(values):.2f} to {max(values):.2f} % equal decisions, {len(values)} seeds")
        if "energy" in row:
            energy = row["energy"]
            leakage = f"{energy['leakage_uj_per_second']:.2f} of them leakage"
            print(
                f"{row['name']}: {energy['uj_per_second']:.2f} uJ per second of audio in {energy['library']}, {leakage}"
            )
    if report["quick"]:
        note("--quick trains for seconds: the figures say that everything runs, no more")
