"""The command weights: the file that is loaded at run time, and every wrong file in one line, exit 2."""

import json
import re
import zlib

import pytest

from chessrnn.model.load_layout import HEADER, load_layout, weight_chunks
from chessrnn.model.memory_image import initialised_memories, memory_words
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.scripts import weight_file
from chessrnn.scripts.cli import run_command

RAM = ["--config", "tiny", "--set", "architecture.weight_memory=ram"]


def run(arguments, capsys):
    """Exit status, stdout, stderr of the command."""
    status = run_command(lambda: weight_file.main([str(word) for word in arguments]), "chessrnn weights")
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def written(tmp_path, capsys):
    """A weight file of the preset tiny with random weights."""
    path = tmp_path / "a.bin"
    status, out, _ = run([*RAM, "--random-weights", 1, "--output", path, "--json"], capsys)
    assert status == 0
    content, figures = path.read_bytes(), json.loads(out)
    assert figures["bytes"] == len(content)
    assert figures["crc32"] == f"{zlib.crc32(content[HEADER.size :]):08x}"
    return path


def test_a_written_file_is_accepted(written, capsys):
    status, out, err = run([*RAM, "--check", written], capsys)
    assert (status, err) == (0, "")
    assert "checked" in out and preset("tiny").replace({"architecture.weight_memory": "ram"}).fingerprint in out


@pytest.mark.parametrize("parity", ["none", "word"])
def test_chunks_are_the_words_of_the_memories(parity, rng):
    config = preset("tiny").replace({"architecture.weight_memory": "ram", "architecture.parity": parity})
    weights = random_weights(config, rng)
    chunks, layout, words = iter(weight_chunks(weights)), load_layout(config), memory_words(weights)
    for spec, stored in zip(layout.memories, initialised_memories(config), strict=True):
        assert stored.width - spec.width == (parity == "word")
        for word in words[spec.name]:
            joined = sum(next(chunks) << 32 * number for number in range(layout.chunks(spec)))
            assert joined == word & ((1 << spec.width) - 1)
            assert parity == "none" or word.bit_count() % 2 == 0
    assert next(chunks, None) is None
    assert len(set(layout.addresses())) == layout.total_chunks


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


WRONG = {
    "empty": (lambda content: b"", "must have a header of 28 bytes, not 0 bytes"),
    "truncated": (lambda content: content[:-3], r"must have \d+ bytes, not \d+"),
    "longer": (lambda content: content + b"\0\0\0", r"must have \d+ bytes, not \d+"),
    "another kind": (lambda content: b"PK" + content[2:], "must begin with 'CRNW', not b'PKNW'"),
    "header": (lambda content: flipped(content, 17), "must have an undamaged header: its CRC-32 differs"),
    "weights": (lambda content: flipped(content, 99), "must have undamaged weights: their CRC-32 differs"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_damaged_file_is_refused(kind, written, capsys):
    change, message = WRONG[kind]
    written.write_bytes(change(written.read_bytes()))
    status, out, err = run([*RAM, "--check", written], capsys)
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"chessrnn weights: error: \S+ {message}\n", err), err


def test_a_file_of_another_design_is_refused(written, capsys):
    status, out, err = run([*RAM, "--set", "network.hidden_size=9", "--check", written], capsys)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"chessrnn weights: error: \S+ must be of configuration [0-9a-f]{16}, not [0-9a-f]{16}\n", err)


def test_fixed_weights_have_no_file(tmp_path, capsys):
    status, out, err = run(["--config", "tiny", "--output", tmp_path / "a.bin"], capsys)
    assert (status, out) == (2, "")
    assert "architecture.weight_memory must be ram, as only then weights are loaded at run time, not 'rom'" in err
    assert not list(tmp_path.iterdir())
