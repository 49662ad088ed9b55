"""The streams of x and of h."""

from amaranth.lib import data, stream

from chessrnn.model.config import Config
from chessrnn.model.qformat import QFormat


def block_stream(config: Config, fmt: QFormat, *flags: str) -> stream.Signature:
    """Beats of a block of k elements of a format, first lowest: ``data``, ``last``, and ``flags`` of a bit each."""
    fields = {"data": config.block_size * fmt.width, **dict.fromkeys(("last", *flags), 1)}
    return stream.Signature(data.StructLayout(fields))
