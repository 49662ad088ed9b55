"""Sound as Silero VAD hears it: the package's file, and the frames of 512 samples that it is called with."""

import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from chessrnn.model.errors import InvalidFileError, InvalidValueError, reason
from chessrnn.model.files import require_file
from chessrnn.model.showcase.package_files import package_file

PACKAGE, MODEL, REQUIREMENT = "silero_vad", "silero_vad_16k_op15.onnx", "silero-vad==6.2.1"
# Samples a second, new samples of a frame, and samples of the frame before that each frame begins with.
RATE, CHUNK, CONTEXT = 16000, 512, 64
SAMPLE_BYTES = 2
FULL_SCALE = 2.0**15


def detector_file() -> Path:
    """Find the package's ONNX file.

    Raises
    ------
    MissingToolError
        The package is not installed, or has other files.
    """
    return package_file(PACKAGE, f"data/{MODEL}", REQUIREMENT)


def wav_chunks(path: Path) -> Iterator[np.ndarray]:
    """Read a WAV file of 16-bit samples at 16 kHz, whose channels are averaged, as chunks of 512 samples in ±1.

    The last chunk is filled up with silence.

    Raises
    ------
    InvalidFileError
        The file is missing, empty, damaged or cut off, or has samples of another width or rate.
    """
    require_file(path, "a WAV file")
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            data = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise InvalidFileError(f"{path} must be a WAV file of PCM samples: {reason(error)}") from None
    if (width, rate) != (SAMPLE_BYTES, RATE) or channels < 1:
        what = f"{8 * width} bits at {rate} Hz (sox IN.wav -r {RATE} -b 16 OUT.wav)"
        raise InvalidFileError(f"{path} must be a WAV file of 16 bits at {RATE} Hz, not {what}")
    if count < 1:
        raise InvalidFileError(f"{path} must be a WAV file of at least one sample, not 0")
    found = len(data) // (SAMPLE_BYTES * channels)
    if found != count:
        raise InvalidFileError(f"{path} must be a whole WAV file of {count} samples, not one that ends after {found}")
    samples = np.frombuffer(data, dtype="<i2").reshape(-1, channels).mean(axis=1) / FULL_SCALE
    return (_filled(samples[place : place + CHUNK]) for place in range(0, count, CHUNK))


def raw_chunks(stream: BinaryIO, name: str) -> Iterator[np.ndarray]:
    """Read raw 16-bit samples at 16 kHz, one channel, as chunks of 512 samples in ±1, each as soon as it is there.

    Raises
    ------
    InvalidValueError
        The stream is empty or begins like a WAV file.
    """
    rule = f"raw 16-bit samples at {RATE} Hz, one channel (arecord -t raw)"
    is_first = True
    while data := stream.read(SAMPLE_BYTES * CHUNK):
        if is_first and data.startswith((b"RIFF", b"RF64")):
            raise InvalidValueError(f"{name} must be {rule}, not a WAV file")
        samples = np.frombuffer(data[: len(data) // SAMPLE_BYTES * SAMPLE_BYTES], dtype="<i2")
        if len(samples):
            is_first = False
            yield _filled(samples / FULL_SCALE)
    if is_first:
        raise InvalidValueError(f"{name} must be {rule}, not empty")


def frames_of(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Put the last 64 samples of the chunk before in front of each chunk: float32 (1, 576), zeros before the first."""
    before = np.zeros(CONTEXT)
    for chunk in chunks:
        yield np.concatenate([before, chunk])[None].astype(np.float32)
        before = chunk[-CONTEXT:]


def _filled(samples: np.ndarray) -> np.ndarray:
    """Append silence to a chunk that is too short."""
    return np.pad(samples, (0, CHUNK - len(samples)))
