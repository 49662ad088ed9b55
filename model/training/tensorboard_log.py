"""TensorBoard logs of training: a thread that copies the points of curves as they arrive."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from chessrnn.model.curves import curves_below
from chessrnn.model.errors import MissingToolError

INTERVAL = 5.0


@contextlib.contextmanager
def tensorboard_log(runs: Path, folder: Path | None) -> Iterator[None]:
    """Write the curves below ``runs`` to TensorBoard logs in a folder during the block; ``None`` writes nothing.

    Raises
    ------
    MissingToolError
        TensorBoard is not installed.
    """
    if folder is None:
        yield
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingToolError("tensorboard must be installed for --tensorboard: pip install tensorboard") from None
    writers: dict[str, SummaryWriter] = {}
    written: dict[str, int] = {}
    stop = threading.Event()

    def copy() -> None:
        for curve in curves_below(runs):
            writer = writers.get(curve.name) or SummaryWriter(str(folder / curve.name))
            writers[curve.name] = writer
            for step, loss, value in curve.points:
                if step > written.get(curve.name, -1):
                    writer.add_scalar("loss", loss, step)
                    writer.add_scalar(curve.metric, value, step)
                    written[curve.name] = step
            writer.flush()

    def follow() -> None:
        while not stop.wait(INTERVAL):
            copy()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        copy()
        for writer in writers.values():
            writer.close()
