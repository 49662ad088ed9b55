"""Signature of the streams that carry blocks of x and of h."""

from amaranth.lib import data, stream

from chessrnn.model.config import Config
from chessrnn.model.qformat import QFormat


def block_stream(config: Config, fmt: QFormat, *flags: str) -> stream.Signature:
    """A stream of blocks: ``data`` holds k codes of ``fmt``, the first lowest; ``last`` and each flag are one bit."""
    fields = {"data": config.block_size * fmt.width, **dict.fromkeys(("last", *flags), 1)}
    return stream.Signature(data.StructLayout(fields))
