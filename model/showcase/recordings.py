"""Speech from a folder of WAV files, as speakers that are never divided between training and measurement."""

import re
import wave
from pathlib import Path

import numpy as np

from chessrnn.model.errors import InvalidFileError, InvalidValueError, require
from chessrnn.model.showcase.voices import MAX_SECONDS, Voice, resampled, trimmed

MAX_FILES = 20_000
MIN_SPEAKERS = 4
WIDTHS = (1, 2, 3, 4)


def read_wav(path: Path) -> np.ndarray:
    """Read the first channel of a PCM file: samples (N,) at 16 kHz in ±1, at most 20 seconds of them.

    Raises
    ------
    InvalidFileError
        The file is missing, damaged or not PCM of 8 to 32 bits.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(min(file.getnframes(), MAX_SECONDS * max(rate, 1)))
    except (wave.Error, EOFError, OSError) as error:
        raise InvalidFileError(f"{path} must be a WAV file of PCM samples: {error}") from None
    if width not in WIDTHS or channels < 1 or not 4000 <= rate <= 384_000:
        rule = "of 8 to 32 bits at 4 to 384 kHz"
        raise InvalidFileError(f"{path} must be a WAV file {rule}, not {8 * width} bits at {rate} Hz")
    whole = len(data) // (width * channels) * width * channels
    octets = np.frombuffer(data[:whole], dtype=np.uint8).reshape(-1, channels, width)[:, 0]
    if width == 1:
        values = octets[:, 0].astype(np.float64) - 128
    else:
        # Little-endian two's complement: the last octet has the sign.
        values = octets[:, -1].astype(np.int8).astype(np.float64)
        for place in reversed(range(width - 1)):
            values = values * 256 + octets[:, place]
    return trimmed(resampled(values / 2.0 ** (8 * width - 1), rate))


def recorded_voices(folder: Path, pattern: str | None = None) -> list[Voice]:
    """List the speakers of a folder.

    Parameters
    ----------
    folder : Path
        Folder with WAV files, at any depth.
    pattern : str, optional
        Regular expression whose first group is the speaker in a file's path below the folder, such as ``_([a-z]+)_``;
        left out, the folder that a file lies in.

    Raises
    ------
    UserError
        There are fewer than 4 speakers, or the pattern is wrong.
    """
    require(folder.is_dir(), "--audio", "a folder of WAV files", str(folder))
    try:
        expression = None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InvalidValueError(f"--speaker must be a regular expression, not {pattern!r}: {error}") from None
    if expression is not None:
        require(expression.groups >= 1, "--speaker", "a regular expression with a group, the speaker", pattern)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
    require(0 < len(paths) <= MAX_FILES, "--audio", f"a folder with 1 to {MAX_FILES} WAV files", len(paths))
    speakers: dict[str, list[Path]] = {}
    for path in paths:
        name = str(path.parent.relative_to(folder))
        if expression is not None:
            found = expression.search(str(path.relative_to(folder)))
            require(found is not None and bool(found.group(1)), "--speaker", f"found in {path.name}", pattern)
            name = found.group(1) if found is not None else ""
        speakers.setdefault(name, []).append(path)
    rule = f"at least {MIN_SPEAKERS}, one folder each, or named by --speaker REGEX"
    require(len(speakers) >= MIN_SPEAKERS, "the number of speakers", rule, len(speakers))

    def speaks(own: list[Path]):
        return lambda sentence: read_wav(own[sentence % len(own)])

    return [Voice(name, "recorded", speaks(own)) for name, own in sorted(speakers.items())]
