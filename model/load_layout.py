"""The weight file that is loaded at run time, and the addresses of its words (``architecture.weight_memory = ram``).

The file is the content of the initialised memories, memory by memory in the order of
``chessrnn.model.memory_image.data_memories``, packed as in the ``.mem`` files.  Each word is cut into chunks of 32
bits, the lowest first; unused bits of its last chunk are zero.  Parity bits are left out: the loader computes them.  A
chunk has an address of three fields: number of the memory, word, and chunk.  Each field has the same width in every
memory, so an address is decoded without an adder.
"""

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, require
from chessrnn.model.memory_image import MemorySpec, data_memories, data_words
from chessrnn.model.text_file import read_bytes
from chessrnn.model.weights import NetworkWeights

CHUNK_BITS = 32
CHUNK_BYTES = CHUNK_BITS // 8
# Header: magic, version, fingerprint (two words), number of chunks, CRC-32 of the chunks, CRC-32 of these six words.
MAGIC = int.from_bytes(b"CRNW", "little")
FORMAT_VERSION = 1
HEADER = struct.Struct("<7I")
HEADER_WORDS = HEADER.size // CHUNK_BYTES


@dataclass(frozen=True)
class LoadLayout:
    """The chunks of the memories of a design.

    Attributes
    ----------
    memories : tuple of MemorySpec
        The memories, in the order of their numbers.
    """

    memories: tuple[MemorySpec, ...]

    @staticmethod
    def chunks(spec: MemorySpec) -> int:
        """Number of chunks of a word."""
        return -(-spec.width // CHUNK_BITS)

    @cached_property
    def chunk_bits(self) -> int:
        """Number of address bits that select a chunk, at least one."""
        return max(1, (max(map(self.chunks, self.memories)) - 1).bit_length())

    @cached_property
    def word_bits(self) -> int:
        """Number of address bits that select a word, at least one."""
        return max(1, (max(spec.depth for spec in self.memories) - 1).bit_length())

    @cached_property
    def memory_bits(self) -> int:
        """Number of address bits that select a memory, at least one."""
        return max(1, (len(self.memories) - 1).bit_length())

    @property
    def address_bits(self) -> int:
        """Number of bits of an address."""
        return self.chunk_bits + self.word_bits + self.memory_bits

    @property
    def total_chunks(self) -> int:
        """Number of chunks of all memories."""
        return sum(spec.depth * self.chunks(spec) for spec in self.memories)

    def address(self, memory: int, word: int, chunk: int) -> int:
        """Address of a chunk."""
        return ((memory << self.word_bits | word) << self.chunk_bits) | chunk

    def addresses(self) -> list[int]:
        """Addresses of all chunks, in the order of the file."""
        return [
            self.address(number, word, chunk)
            for number, spec in enumerate(self.memories)
            for word in range(spec.depth)
            for chunk in range(self.chunks(spec))
        ]


def load_layout(config: Config) -> LoadLayout:
    """The chunks of a design whose weights are loaded at run time.

    Raises
    ------
    InvalidValueError
        An address would not fit a register.
    """
    layout = LoadLayout(tuple(data_memories(config)))
    rule = f"rom for a design whose addresses of weights exceed {CHUNK_BITS} bits"
    require(layout.address_bits <= CHUNK_BITS, "architecture.weight_memory", rule, config.architecture.weight_memory)
    return layout


def weight_chunks(weights: NetworkWeights) -> list[int]:
    """Chunks of all memories with the words of a network, in the order of the file."""
    words, layout = data_words(weights), load_layout(weights.config)
    return [
        word >> (CHUNK_BITS * chunk) & ((1 << CHUNK_BITS) - 1)
        for spec in layout.memories
        for word in words[spec.name]
        for chunk in range(layout.chunks(spec))
    ]


def weight_file(weights: NetworkWeights) -> bytes:
    """Content of the weight file of a network."""
    require_ram(weights.config)
    chunks = weight_chunks(weights)
    data, fingerprint = struct.pack(f"<{len(chunks)}I", *chunks), int(weights.config.fingerprint, 16)
    fields = [MAGIC, FORMAT_VERSION, fingerprint & 0xFFFF_FFFF, fingerprint >> 32, len(chunks), zlib.crc32(data)]
    return HEADER.pack(*fields, zlib.crc32(struct.pack("<6I", *fields))) + data


def require_ram(config: Config) -> None:
    """Reject a design whose weights cannot be loaded."""
    kind = config.architecture.weight_memory
    require(kind == "ram", "architecture.weight_memory", "ram, as only then weights are loaded at run time", kind)


def read_weight_file(path: str | Path, config: Config) -> list[int]:
    """Read a weight file, and check that it is whole and belongs to a configuration; returns its chunks.

    Raises
    ------
    InvalidFileError
        The file is missing, truncated, damaged, of another version or of another configuration.
    """
    expected = load_layout(config).total_chunks
    content = read_bytes(path, HEADER.size + CHUNK_BYTES * expected + CHUNK_BYTES, "a weight file")
    if len(content) < HEADER.size:
        raise InvalidFileError(f"{path} must have a header of {HEADER.size} bytes, not {len(content)} bytes")
    magic, version, low, high, count, crc, header_crc = HEADER.unpack_from(content)
    if magic != MAGIC:
        raise InvalidFileError(f"{path} must begin with 'CRNW', not {content[:4]!r}")
    if zlib.crc32(content[: HEADER.size - CHUNK_BYTES]) != header_crc:
        raise InvalidFileError(f"{path} must have an undamaged header: its CRC-32 differs")
    if version != FORMAT_VERSION:
        raise InvalidFileError(f"{path} must be of version {FORMAT_VERSION}, not {version}")
    found = f"{high << 32 | low:016x}"
    if found != config.fingerprint:
        raise InvalidFileError(f"{path} must be of configuration {config.fingerprint}, not {found}")
    size = HEADER.size + CHUNK_BYTES * expected
    if count != expected or len(content) != size:
        raise InvalidFileError(f"{path} must have {size} bytes, not {len(content)}")
    if zlib.crc32(content[HEADER.size :]) != crc:
        raise InvalidFileError(f"{path} must have undamaged weights: their CRC-32 differs")
    return list(struct.unpack_from(f"<{expected}I", content, HEADER.size))
