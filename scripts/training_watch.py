"""Ways to watch a training that runs: a page in the browser, and TensorBoard logs."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from chessrnn.model.files import require_folder
from chessrnn.scripts.cli import port
from chessrnn.sim.report_page.live_page import LOCAL, live_page

DEFAULT_PORT = 8000


def add_watch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--live``, ``--live-address`` and ``--tensorboard``."""
    parser.add_argument(
        "--live", nargs="?", type=port, const=DEFAULT_PORT, metavar="PORT",
        help=f"serve a page with the curves and finished rows at http://{LOCAL}:PORT/ meanwhile; PORT without a value "
        f"is {DEFAULT_PORT}",
    )  # fmt: skip
    parser.add_argument(
        "--live-address", default=LOCAL, metavar="ADDRESS",
        help=f"serve that page to other machines as well, at this address of this one; default only {LOCAL}",
    )  # fmt: skip
    parser.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write TensorBoard logs to this folder")


@contextlib.contextmanager
def watched(args: argparse.Namespace, runs: Path, main_process: bool, study: Path | None = None) -> Iterator[None]:
    """Serve the page and write the logs that the arguments ask for during the block, from one process only.

    Parameters
    ----------
    args : Namespace
    runs : Path
        Folder of the checkpoints, with their curves.
    main_process : bool
        Whether this process is the one that writes files and messages.
    study : Path, optional
        Page of the study, which is served as well.
    """
    # Imported here, as --help needs no torch.
    from chessrnn.model.training.tensorboard_log import tensorboard_log

    if not main_process:
        yield
        return
    if args.tensorboard is not None:
        require_folder(args.tensorboard)
    with live_page(runs, args.live, args.live_address, study) as address, tensorboard_log(runs, args.tensorboard):
        if address is not None:
            print(f"live page: {address}", file=sys.stderr, flush=True)
        yield
