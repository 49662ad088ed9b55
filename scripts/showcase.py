"""Compress the recurrent layers of a public model, train them through its frozen layers, and measure what is lost.

--task speech: the LSTM of Silero VAD (128 inputs, 128 units, 31.25 steps a second), by its decisions.
--task noise: the two GRU layers of NSNet2 (400 inputs, 400 units, 100 steps a second), by the sound that comes out.

No labels are needed: the float model teaches.  The figures are those of the package's own ONNX file, with the
accelerator's integers in place of its recurrent layers, on speakers and noises that training did not hear."""

import argparse
import contextlib
from importlib import import_module
from pathlib import Path

from chessrnn.model.errors import require
from chessrnn.model.files import require_folder
from chessrnn.scripts.cli import command_parser, count, seed, whole
from chessrnn.scripts.showcases.designs import design
from chessrnn.scripts.showcases.task import Request, Task

EXAMPLES = """examples:
  chessrnn showcase
  chessrnn showcase --quick
  chessrnn showcase --task noise
  chessrnn showcase --task noise --untrained
  chessrnn showcase --audio recordings/ --speaker '_([a-z]+)_'
  chessrnn showcase --designs 8:8 8:4
  chessrnn showcase --seeds 3
  chessrnn showcase --longer 3 --designs 4:4
  chessrnn showcase --liberty nangate45_typ.lib.gz

Without --audio, eSpeak NG speaks, or formants where it is not installed.  Every stage leaves a checkpoint in the folder
of the output: after Ctrl-C the same command continues."""
# Task → its module and class, and the folder of its output.
TASKS = {
    "speech": ("speech_task", "SpeechActivity", "runs/showcase"),
    "noise": ("noise_task", "NoiseSuppression", "runs/noise-suppression"),
}
MAX_SEEDS = 100
MAX_LONGER = 100


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("showcase", __doc__, EXAMPLES)
    parser.add_argument("--task", choices=TASKS, default="speech", help="what the network is used for; default speech")
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="WAV files of speech, a folder for each speaker")
    parser.add_argument("--speaker", metavar="REGEX", help="group of the files' paths that names the speaker")
    parser.add_argument("--designs", nargs="+", type=design, metavar="K:BITS", help="block sizes and widths of weights")
    parser.add_argument(
        "--quick", action="store_true", help="two minutes to see that it works; the figures mean little"
    )
    parser.add_argument("--untrained", action="store_true", help="compress and measure, without training")
    parser.add_argument(
        "--longer",
        type=whole,
        default=1,
        metavar="N",
        help="train N times as long, with N times the sounds, for those who can wait; default 1",
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
        help="standard-cell library: synthesize the smallest design, and measure its energy on the sounds",
    )
    parser.add_argument(
        "--workers",
        type=count,
        default=2,
        metavar="N",
        help="block sizes trained at a time, each in a process of this machine; default 2",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default runs/ and a name for the task")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the task that the user chose."""
    args = parse(argv)
    require(args.speaker is None or args.audio is not None, "--speaker", "left out without --audio", args.speaker)
    require(1 <= args.seeds <= MAX_SEEDS, "--seeds", f"from 1 to {MAX_SEEDS}", args.seeds)
    require(1 <= args.longer <= MAX_LONGER, "--longer", f"from 1 to {MAX_LONGER}", args.longer)
    require(args.longer == 1 or not args.untrained, "--longer", "left out with --untrained", args.longer)
    module, name, usual = TASKS[args.task]
    output = args.output or Path(usual)
    require_folder(output)
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    task: Task = getattr(import_module(f"chessrnn.scripts.showcases.{module}"), name)()
    designs = args.designs or [design(text) for text in task.designs]
    seeds = [args.seed + number for number in range(args.seeds)]
    how = args.quick, args.untrained, args.json
    task.run(Request(args.audio, args.liberty, args.speaker, designs, *how, args.longer, seeds, args.workers, output))
    return 0
