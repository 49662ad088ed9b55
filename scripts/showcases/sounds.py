"""Sounds of a showcase: streams of speakers and noises to train with, and of others to measure with."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chessrnn.model.files import write_atomic
from chessrnn.model.progress import Progress
from chessrnn.model.showcase.audio_streams import Mixture, stream
from chessrnn.model.showcase.noises import HELD_OUT, TRAINING
from chessrnn.model.showcase.recordings import recorded_voices
from chessrnn.model.showcase.voices import Voice, espeak_voices, formant_voices
from chessrnn.scripts.cli import note
from chessrnn.scripts.input_file import array_bytes
from chessrnn.scripts.showcases.designs import Effort

SPEAKERS_TRAINED = 2 / 3
# Utterances of a speaker that are spoken once and used again.
UTTERANCES = 40


def voices_from(audio: Path | None, speaker: str | None, seed: int) -> tuple[list[Voice], str]:
    """List the speakers of a folder, of eSpeak NG, or made of formants; and say which of these."""
    rng = np.random.default_rng(seed)
    if audio is not None:
        voices = recorded_voices(audio, speaker)
        return voices, f"recordings of {audio.resolve().name}"
    try:
        return espeak_voices(rng), "eSpeak NG"
    except OSError as error:
        note(f"{error}: voices are made of formants, and the figures say less")
        return formant_voices(rng), "formants"


def speaker_of(voice: Voice) -> str:
    """Name the speaker of a voice: the same in every language."""
    return voice.name if voice.language in ("recorded", "none") else voice.name.partition("-")[0]


def sounds_from(
    folder: Path, voices: Sequence[Voice], effort: Effort, mixture: Mixture, seed: int, source: str, audio: Path | None
) -> dict[str, np.ndarray]:
    """Make the streams of both parts, or load those that an earlier run of the same arguments and files made.

    Returns
    -------
    dict of str to array
        Samples (B, N) ``trained`` and ``measured``; ``clean`` speech and speakers' ``names`` of the latter.
    """
    names = [voice.name for voice in voices]
    paths = [path for path in audio.rglob("*") if path.suffix.lower() == ".wav"] if audio else []
    files = sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    identity = json.dumps([source, names, effort.trained, effort.measured, effort.seconds, *mixture, seed, files])
    path = folder / f"sounds-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npz"
    if path.is_file():
        with contextlib.suppress(OSError, ValueError, KeyError):
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in ("trained", "measured", "clean", "names")}
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
        streams, alone = [], []
        for number in range(count):
            voice = own[number % len(own)]

            def speak(sentence: int, voice=voice) -> np.ndarray:
                key = voice.name, sentence % UTTERANCES
                if key not in kept:
                    kept[key] = voice.speak(key[1])
                return kept[key]

            mixed, speech = stream(speak, [kinds[number % len(kinds)]], effort.seconds, rng, mixture)
            streams.append(mixed.astype(np.float32))
            alone.append(speech.astype(np.float32))
            if part == "measured":
                heard.append(voice.name)
            done += 1
            progress.show(done, "")
        found[part] = np.stack(streams)
    found["clean"] = np.stack(alone)
    found["names"] = np.array(heard)
    write_atomic(path, array_bytes(found))
    return found
